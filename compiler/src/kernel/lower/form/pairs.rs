//! Pairs of tokens: scores, decay masks, and the triangular tiles made of them. Only the lower triangle is ever written
//! or read.

use chunkwise_dsl::typed::Function;
use petgraph::{Direction, graph::NodeIndex};

use crate::{
    ir::Term,
    kernel::{Access, Int, ReduceOp, Scan, ScanFrom, Stmt, Triangle, Value},
};

use super::{
    super::{Result, Tile, TileDim, emit::call},
    Emission, Square, at, with_rank,
};

impl Emission<'_, '_> {
    /// Whether the diagonal is zero.
    pub(super) fn is_strict(&self, index: NodeIndex) -> bool {
        match self.term(index) {
            Some(Term::StrictlyLower(_) | Term::TriProductsBefore(_)) => true,
            Some(Term::Rows(_)) => self.is_strict(self.operand(index, 1)),
            Some(Term::Hadamard(_)) => self.is_strict(self.operand(index, 0)),
            _ => false,
        }
    }

    /// The tile of pairs between one row and one column of the stacks.
    pub(super) fn pairs(&mut self, index: NodeIndex, row: usize, column: usize) -> Result<Square> {
        if let Some(square) = self.squares.get(&(index, row, column)) {
            return Ok(square.clone());
        }
        let square = match self.term(index).cloned() {
            Some(Term::Lower(_) | Term::StrictlyLower(_)) => self.pairs(self.operand(index, 0), row, column)?,
            Some(Term::Pairs(_)) => self.scores(index, row, column)?,
            Some(Term::Hadamard(_)) if self.is_mask(self.operand(index, 1)) => self.masked(index, row, column)?,
            Some(Term::Hadamard(_)) => self.met(index, (row, column), Function::Mul)?,
            Some(Term::Add(_)) => self.met(index, (row, column), Function::Add)?,
            Some(Term::Rows(_)) => self.scaled_rows(index, row, column)?,
            Some(Term::TriProducts(_) | Term::TriProductsBefore(_)) => self.decayed_scores(index, row, column)?,
            _ => return Err(self.no_statement(index)),
        };
        self.squares.insert((index, row, column), square.clone());
        Ok(square)
    }

    /// q k' for all pairs in the lower triangle.
    fn scores(&mut self, index: NodeIndex, row: usize, column: usize) -> Result<Square> {
        let (q, k) = (self.operand(index, 0), self.operand(index, 1));
        let width = self.width(q).or(self.width(k)).unwrap_or(Int::from(1i64));
        let left = with_rank(self.stream(q, row)?, 1);
        let right = self.turned(k, column)?;
        let square = self.square("scores");
        let own = self.own.clone();
        let dst = square.access(square.stride.clone() * own.clone(), [square.stride.clone(), Int::from(1i64)]);
        let a = at(&Tile { offset: left.offset.clone() + left.row.clone() * own.clone(), ..left });
        let b = Access::new(right.buffer, right.offset.clone(), super::strides(&right));
        let sizes = (self.count() - own, self.count(), width);
        // Rows that begin later than columns are no triangle.
        let shape = if self.window.is_some() { Triangle::Full } else { Triangle::LowerOut };
        self.shaped_product(sizes, (dst, a, b), false, shape);
        Ok(square)
    }

    /// A stream as [element, token].
    fn turned(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        if let Some(tile) = self.turned.get(&(index, place)) {
            return Ok(tile.clone());
        }
        let tile = with_rank(self.stream(index, place)?, 1);
        let side = self.rows.capacity.clone();
        let width = tile.dims[0].extent.clone();
        let buffer = self.lowering.scratch("turned", width.clone() * side.clone());
        let dims = vec![
            TileDim { extent: width.clone(), stride: side },
            TileDim { extent: self.count(), stride: Int::from(1i64) },
        ];
        let turned = Tile { buffer, offset: Int::from(0i64), row: Int::from(0i64), dims };
        let from = Access::new(tile.buffer, tile.offset.clone(), [tile.dims[0].stride.clone(), tile.row.clone()]);
        let dst = Access::new(buffer, 0i64, super::strides(&turned));
        self.map(vec![width, self.count()], dst, Value::Load(from));
        self.turned.insert((index, place), turned.clone());
        Ok(turned)
    }

    /// Whether a tile of pairs has one reader, which may overwrite it.
    fn is_exclusive(&self, index: NodeIndex) -> bool {
        if self.plan.graph.edges_directed(index, Direction::Outgoing).count() != 1 {
            return false;
        }
        match self.term(index) {
            Some(Term::Lower(_) | Term::StrictlyLower(_)) => self.is_exclusive(self.operand(index, 0)),
            _ => true,
        }
    }

    fn target(&mut self, index: NodeIndex, base: &Square) -> Square {
        if self.is_exclusive(index) { base.clone() } else { self.square("pairs") }
    }

    fn is_mask(&self, index: NodeIndex) -> bool {
        matches!(self.term(index), Some(Term::DecayMask(_) | Term::DecayMaskBefore(_)))
    }

    /// The product or the sum of two tiles of scores, pair by pair.
    fn met(&mut self, index: NodeIndex, (row, column): (usize, usize), function: Function) -> Result<Square> {
        let (a, b) = (self.operand(index, 0), self.operand(index, 1));
        let (left, right) = (self.pairs(a, row, column)?, self.pairs(b, row, column)?);
        let square = self.target(a, &left);
        let own = self.own.clone();
        let value = call(function, [Value::Load(left.rows(own.clone())), Value::Load(right.rows(own.clone()))]);
        self.lower_map([self.count() - own.clone(), self.count()], own.clone(), square.rows(own), value);
        Ok(square)
    }

    /// Scores times the decay mask.
    fn masked(&mut self, index: NodeIndex, row: usize, column: usize) -> Result<Square> {
        let (scores, mask) = (self.operand(index, 0), self.operand(index, 1));
        let before = matches!(self.term(mask), Some(Term::DecayMaskBefore(_)));
        let base = self.pairs(scores, row, column)?;
        let mask = self.mask(self.operand(mask, 0))?;
        let square = self.target(scores, &base);
        let own = self.own.clone();
        // The mask of the token before has one entry less.
        let first = if before { own.clone() - 1i64 } else { own.clone() };
        let value = call(Function::Mul, [Value::Load(base.rows(own.clone())), Value::Load(mask.rows(first.clone()))]);
        self.lower_map([self.count() - own.clone(), self.count()], first, square.rows(own), value);
        Ok(square)
    }

    /// G[t,s] of a scalar decay: down each column the running product of d from the diagonal on.
    fn mask(&mut self, decay: NodeIndex) -> Result<Square> {
        if let Some(mask) = self.masks.get(&decay) {
            return Ok(mask.clone());
        }
        let (op, value) = self.joined(decay, &|d| {
            let d = with_rank(d.clone(), 0);
            Access::new(d.buffer, d.offset, [Int::from(0i64), d.row])
        })?;
        let mask = self.square("mask");
        let zero = Int::from(0i64);
        let dst = mask.access(zero.clone(), [Int::from(1i64), mask.stride.clone()]);
        let (axes, inner) = (vec![self.count()], self.count());
        self.push(Stmt::Scan(Scan { axes, inner, op, from: ScanFrom::Diagonal, dst, value }));
        if op == ReduceOp::Sum {
            let all = mask.rows(zero.clone());
            self.lower_map([self.count(), self.count()], zero, all.clone(), call(Function::Exp, [Value::Load(all)]));
        }
        self.masks.insert(decay, mask.clone());
        Ok(mask)
    }

    /// diag(c) M
    fn scaled_rows(&mut self, index: NodeIndex, row: usize, column: usize) -> Result<Square> {
        let (scale, pairs) = (self.operand(index, 0), self.operand(index, 1));
        let base = self.pairs(pairs, row, column)?;
        let place = if self.stack(scale) == 1 { 0 } else { row };
        let c = with_rank(self.stream(scale, place)?, 0);
        let square = self.target(pairs, &base);
        let strict = self.is_strict(pairs);
        let own = self.own.clone();
        let c = Access::new(c.buffer, c.offset + c.row.clone() * own.clone(), [c.row, Int::from(0i64)]);
        let value = call(Function::Mul, [Value::Load(c), Value::Load(base.rows(own.clone()))]);
        let diagonal = if strict { own.clone() - 1i64 } else { own.clone() };
        self.lower_map([self.count() - own.clone(), self.count()], diagonal, square.rows(own), value);
        Ok(square)
    }
}

//! Streams: a scalar or a vector for every token of the block.
//!
//! Element-wise operators are fused into the statement that stores their result; the products of a sum are accumulated
//! onto it.

use chunkwise_dsl::typed::{Function, StateId};
use petgraph::graph::NodeIndex;

use crate::{
    ir::{Feat, Leaf, Term, facts::Definition},
    kernel::{Access, Int, Reduce, ReduceOp, Stmt, Triangle, Value},
    plan::Op,
};

use super::{
    super::{Result, Tile, TileDim, emit::call},
    Emission, Square, at, extent, row_of, with_rank,
};

impl Emission<'_, '_> {
    /// How many vectors a token the stream has.
    pub(super) fn stack(&self, index: NodeIndex) -> usize {
        let of = |place: usize| self.stack(self.operand(index, place));
        match self.term(index) {
            Some(Term::Stack(_)) => of(0) + of(1),
            Some(Term::Add(_) | Term::Mul(_)) => of(0).max(of(1)),
            Some(Term::MatMul(_) | Term::ReadStart(_) | Term::Rows(_)) => of(0),
            Some(Term::Pairs(_)) => of(0),
            Some(Term::Tri(_) | Term::TriProducts(_) | Term::TriProductsBefore(_)) => of(1),
            Some(Term::TriRightProducts(_) | Term::TriRightProductsBefore(_)) => of(1),
            Some(Term::ReadStartRight(_) | Term::ReadStartRightBefore(_)) => of(1),
            Some(Term::Solve(_) | Term::DecayToEnd(_) | Term::DecayFromStart(_) | Term::DecayFromStartBefore(_)) => {
                of(1)
            }
            Some(Term::SolveColumns(_)) => of(2),
            Some(Term::SolveDecayed(_)) => of(3),
            Some(Term::Hadamard(_) | Term::Lower(_) | Term::StrictlyLower(_)) => of(0),
            _ => 1,
        }
    }

    /// Which of the state's sides the stream lies along.
    pub(super) fn feat(&self, index: NodeIndex) -> Feat {
        let of = |place: usize| self.feat(self.operand(index, place));
        match &self.node(index).op {
            Op::Leaf(leaf, _) => leaf.feat,
            Op::Term(Term::Add(_) | Term::Mul(_) | Term::Stack(_)) => of(0).join(of(1)).unwrap_or(Feat::V),
            Op::Term(Term::MatMul(_) | Term::Solve(_)) => of(1),
            Op::Term(Term::SolveColumns(_) | Term::TriRightProducts(_) | Term::TriRightProductsBefore(_)) => of(2),
            Op::Term(Term::SolveDecayed(_)) => of(3),
            Op::Term(Term::DecayToEnd(_) | Term::DecayFromStart(_) | Term::DecayFromStartBefore(_)) => of(1),
            Op::Term(Term::ReadRight(_) | Term::ReadStartRight(_) | Term::ReadStartRightBefore(_)) => Feat::K,
            _ => Feat::V,
        }
    }

    /// The extent of a vector of the stream; `None` for scalars.
    pub(super) fn width(&mut self, index: NodeIndex) -> Option<Int> {
        let state = self.node(index).state;
        let memory = &self.memory[&state];
        match self.feat(index) {
            Feat::S => None,
            Feat::K => Some(memory.dims[0].extent.clone()),
            Feat::V => Some(memory.dims[1].extent.clone()),
            Feat::F => Some(self.length(index)),
        }
    }

    /// How long a part of features is; a scalar is one of length 1.
    fn length(&mut self, index: NodeIndex) -> Int {
        let Op::Leaf(leaf, definitions) = self.node(index).op.clone() else { return Int::from(1i64) };
        let vector = leaf.factors.iter().zip(&definitions).find(|((atom, _), _)| atom.feat == Feat::F);
        let Some((_, Definition::Expr(expr))) = vector else { return Int::from(1i64) };
        let size = self.lowering.variant().expr(*expr).ty.dims().first().cloned();
        size.map_or(Int::from(1i64), |size| self.lowering.size(&size))
    }

    /// The stream's tile for one of its stack.
    pub(super) fn stream(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        if let Some(tile) = self.streams.get(&(index, place)) {
            return Ok(tile.clone());
        }
        let tile = match self.node(index).op.clone() {
            Op::Term(Term::Stack(_)) => {
                let left = self.stack(self.operand(index, 0));
                if place < left {
                    self.stream(self.operand(index, 0), place)?
                } else {
                    self.stream(self.operand(index, 1), place - left)?
                }
            }
            Op::Leaf(leaf, definitions) => self.leaf(index, &leaf, &definitions)?,
            Op::Term(Term::Solve(_)) => return self.solve(index, place),
            Op::Term(Term::SolveColumns(_)) => return self.solve_columns(index, place),
            Op::Term(Term::SolveDecayed(_)) => return self.solve_decayed(index, place),
            _ => self.fresh(index, place)?,
        };
        self.streams.insert((index, place), tile.clone());
        Ok(tile)
    }

    fn fresh(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        let width = self.width(index);
        let tile = self.rows_of("stream", width, 0);
        self.fill_stream(&tile, index, place)?;
        Ok(tile)
    }

    /// A tile whose last dim is dense, as an operand of a product.
    pub(super) fn dense(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        let tile = self.stream(index, place)?;
        if tile.last_is_dense() {
            return Ok(tile);
        }
        let copy = self.rows_of("dense", extent(&tile), 0);
        let axes = self.axes(&tile);
        self.map(axes, at(&copy), Value::Load(at(&tile)));
        self.streams.insert((index, place), copy.clone());
        Ok(copy)
    }

    pub(super) fn axes(&self, tile: &Tile) -> Vec<Int> {
        [self.count()].into_iter().chain(extent(tile)).collect()
    }

    /// A stream's elements at [row, i] as a fused value of the statement.
    pub(super) fn fused(&mut self, index: NodeIndex, place: usize, wide: Wide) -> Result<Value> {
        let single = |of: &Self, operand: NodeIndex| if of.stack(operand) == 1 { 0 } else { place };
        match self.node(index).op.clone() {
            Op::Term(Term::Mul(_)) => {
                let (a, b) = (self.operand(index, 0), self.operand(index, 1));
                let (i, j) = (single(self, a), single(self, b));
                let (a, b) = (self.fused(a, i, wide)?, self.fused(b, j, wide)?);
                Ok(call(Function::Mul, [a, b]))
            }
            Op::Leaf(leaf, definitions) if leaf.factors.is_empty() && definitions.is_empty() => {
                Ok(Value::Const(leaf.number))
            }
            _ => {
                let tile = self.stream(index, place)?;
                Ok(load(&tile, wide))
            }
        }
    }

    /// Writes a stream into a tile: element-wise summands first, then every product accumulated.
    pub(super) fn fill_stream(&mut self, dst: &Tile, index: NodeIndex, place: usize) -> Result<()> {
        let mut summands = Vec::new();
        self.summands(index, &mut summands);
        if self.window.is_some() {
            // A window carries no state: what is read of the start is 0.
            summands.retain(|&node| !self.reads_start(node));
            if summands.is_empty() {
                let axes = self.axes(dst);
                self.map(axes, at(dst), Value::Const(0.0));
                return Ok(());
            }
        }
        let (products, values): (Vec<_>, Vec<_>) = summands.into_iter().partition(|&node| self.is_product(node));
        let wide = if dst.dims.is_empty() { Wide::No } else { Wide::Yes };
        let mut started = false;
        let mut sum: Option<Value> = None;
        for node in values {
            let at = if self.stack(node) == 1 { 0 } else { place };
            let value = match self.term(node) {
                Some(Term::Mul(_)) => self.fused(node, at, wide)?,
                Some(Term::DecayFromStart(_) | Term::DecayFromStartBefore(_) | Term::DecayToEnd(_)) => {
                    self.decayed(node, at)?
                }
                _ if node == index && !self.is_kept(node) => return self.unfused(dst, index, place),
                _ => self.fused(node, at, wide)?,
            };
            sum = Some(match sum {
                Some(sum) => call(Function::Add, [sum, value]),
                None => value,
            });
        }
        if let Some(value) = sum {
            let axes = self.axes(dst);
            self.map(axes, at(dst), value);
            started = true;
        }
        for node in products {
            self.accumulate(dst, node, place, started)?;
            started = true;
        }
        Ok(())
    }

    fn summands(&self, index: NodeIndex, found: &mut Vec<NodeIndex>) {
        match self.term(index) {
            Some(Term::Add(_)) => {
                self.summands(self.operand(index, 0), found);
                self.summands(self.operand(index, 1), found);
            }
            _ => found.push(index),
        }
    }

    fn reads_start(&self, index: NodeIndex) -> bool {
        match self.term(index) {
            Some(Term::ReadStart(_) | Term::ReadStartRight(_) | Term::ReadStartRightBefore(_)) => true,
            Some(Term::Mul(_)) => self.reads_start(self.operand(index, 0)) || self.reads_start(self.operand(index, 1)),
            Some(Term::DecayFromStart(_) | Term::DecayFromStartBefore(_)) => self.reads_start(self.operand(index, 1)),
            _ => false,
        }
    }

    /// Whether `stream` makes the node's tile without filling another one.
    fn is_kept(&self, index: NodeIndex) -> bool {
        let term = self.term(index);
        matches!(self.node(index).op, Op::Leaf(..))
            || matches!(term, Some(Term::Stack(_) | Term::Solve(_) | Term::SolveColumns(_)))
    }

    fn is_product(&self, index: NodeIndex) -> bool {
        matches!(self.term(index), Some(Term::MatMul(_) | Term::ReadStart(_)))
    }

    /// Adds a product to a tile, or starts it with one.
    fn accumulate(&mut self, dst: &Tile, index: NodeIndex, place: usize, onto: bool) -> Result<()> {
        let n = extent(dst).unwrap_or(Int::from(1i64));
        let dst = at(&with_rank(dst.clone(), 1));
        match self.term(index).cloned() {
            Some(Term::ReadStart(_)) => {
                let q = self.operand(index, 0);
                let q = self.stream(q, place)?;
                let state = self.memory_of(self.operand(index, 1));
                let k = state.dims[0].extent.clone();
                if n == Int::from(1i64) {
                    self.column_read(&with_rank(q, 1), &state, &dst, onto);
                    return Ok(());
                }
                let b = Access::new(state.buffer, state.offset.clone(), super::strides(&state));
                self.product((self.count(), n, k), (dst, at(&q), b), onto);
            }
            Some(Term::MatMul(_)) => {
                let (pairs, x) = (self.operand(index, 0), self.operand(index, 1));
                let strict = self.is_strict(pairs);
                let mut onto = onto;
                for column in 0..self.stack(x) {
                    let square = self.pairs(pairs, place, column)?;
                    let x = self.dense(x, column)?;
                    if self.window.is_some() {
                        self.banded(&dst, &square, &with_rank(x, 1), (n.clone(), strict, onto))?;
                        onto = true;
                        continue;
                    }
                    let a = square.access(Int::from(0i64), [square.stride.clone(), Int::from(1i64)]);
                    let b = at(&with_rank(x, 1));
                    let shape = Triangle::LowerLeft { strict };
                    let sizes = (self.count(), n.clone(), self.count());
                    self.shaped_product(sizes, (dst.clone(), a, b), onto, shape);
                    onto = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// s' q of a state of one column: a sum along each query.
    fn column_read(&mut self, q: &Tile, state: &Tile, dst: &Access, onto: bool) {
        let column = Access::new(state.buffer, state.offset.clone(), [Int::from(0i64), state.dims[0].stride.clone()]);
        let value = call(Function::Mul, [Value::Load(at(q)), Value::Load(column)]);
        let (axes, inner) = (vec![self.count()], state.dims[0].extent.clone());
        let rows = Access::new(dst.buffer, dst.offset.clone(), [dst.strides[0].clone()]);
        if !onto {
            self.push(Stmt::Reduce(Reduce { axes, inner, op: ReduceOp::Sum, dst: rows, value }));
            return;
        }
        let sums = self.rows_of("sums", None, 0);
        self.push(Stmt::Reduce(Reduce { axes: axes.clone(), inner, op: ReduceOp::Sum, dst: at(&sums), value }));
        let total = call(Function::Add, [Value::Load(rows.clone()), Value::Load(at(&sums))]);
        self.map(axes, rows, total);
    }

    /// The product of a band of pairs: row t uses the last tokens of its window only.
    fn banded(&mut self, dst: &Access, square: &Square, x: &Tile, (n, strict, onto): (Int, bool, bool)) -> Result<()> {
        self.each(self.own.clone(), self.count(), |this, t| {
            let (low, length) = this.band(t.clone(), strict);
            let a = square.stride.clone() * t.clone() + low.clone();
            let a = square.access(a, [Int::from(0i64), Int::from(1i64)]);
            let row = dst.offset.clone() + dst.strides[0].clone() * t;
            let row = Access::new(dst.buffer, row, dst.strides.iter().cloned());
            let b = row_of(x, low);
            let b = Access::new(b.buffer, b.offset, [x.row.clone()].into_iter().chain(b.strides));
            this.product((Int::from(1i64), n.clone(), length), (row, a, b), onto);
            Ok(())
        })
    }

    /// The first token that row t sees and how many it sees (`strict`: the state before the token).
    pub(super) fn band(&self, t: Int, strict: bool) -> (Int, Int) {
        let last = if strict { t.clone() } else { t + 1i64 };
        let low = match &self.window {
            Some(window) => (last.clone() - window.clone()).max(0i64),
            None => Int::from(0i64),
        };
        (low.clone(), last - low)
    }

    pub(super) fn memory_of(&self, start: NodeIndex) -> Tile {
        self.memory[&self.node(start).state].clone()
    }

    /// Operators with statements of their own.
    fn unfused(&mut self, dst: &Tile, index: NodeIndex, place: usize) -> Result<()> {
        match self.term(index).cloned() {
            Some(Term::ReadStartRight(_)) => self.right_read(dst, index, place, 1),
            Some(Term::ReadStartRightBefore(_)) => self.right_read(dst, index, place, 0),
            Some(Term::TriRightProducts(_)) => self.right_products(dst, index, place),
            Some(Term::TriRightProductsBefore(_)) => self.right_products_before(dst, index, place),
            _ => Err(self.no_statement(index)),
        }
    }

    /// A canonical product: the program's own tile where it is just that.
    fn leaf(&mut self, index: NodeIndex, leaf: &Leaf, definitions: &[Definition]) -> Result<Tile> {
        if let ([(_, 1)], [Definition::Expr(expr)]) = (leaf.factors.as_slice(), definitions) {
            let scalar = self.lowering.variant().expr(*expr).ty.is_scalar();
            if leaf.number == 1.0 && scalar == (leaf.feat == Feat::S) {
                return self.lowering.value(*expr);
            }
        }
        let width = self.width(index);
        let tile = self.rows_of("leaf", width, 0);
        let wide = if tile.dims.is_empty() { Wide::No } else { Wide::Yes };
        let value = self.leaf_value(leaf, definitions, (self.node(index).state, wide))?;
        let axes = self.axes(&tile);
        self.map(axes, at(&tile), value);
        Ok(tile)
    }

    fn leaf_value(&mut self, leaf: &Leaf, definitions: &[Definition], of: (StateId, Wide)) -> Result<Value> {
        let mut value = (leaf.number != 1.0 || leaf.factors.is_empty()).then_some(Value::Const(leaf.number));
        for ((_, power), definition) in leaf.factors.iter().zip(definitions) {
            let factor = self.defined(definition, of)?;
            for _ in 0..*power {
                value = Some(match value {
                    Some(value) => call(Function::Mul, [value, factor.clone()]),
                    None => factor.clone(),
                });
            }
        }
        Ok(value.unwrap_or(Value::Const(leaf.number)))
    }

    fn defined(&mut self, definition: &Definition, of: (StateId, Wide)) -> Result<Value> {
        match definition {
            Definition::Expr(expr) => Ok(load(&self.lowering.value(*expr)?, of.1)),
            Definition::Reciprocal(expr) => {
                let value = load(&self.lowering.value(*expr)?, of.1);
                Ok(call(Function::Div, [Value::Const(1.0), value]))
            }
            Definition::Dot(w, k) => self.dot(w, k, of),
            Definition::Guarded(guards, value) => {
                let mut guarded = match value {
                    Some(value) => self.defined(value, of)?,
                    None => Value::Const(1.0),
                };
                for (cond, taken) in guards {
                    let cond = Box::new(load(&self.lowering.value(*cond)?, of.1));
                    let (value, zero) = (Box::new(guarded), Box::new(Value::Const(0.0)));
                    guarded = if *taken { Value::Select(cond, value, zero) } else { Value::Select(cond, zero, value) };
                }
                Ok(guarded)
            }
            Definition::Sum(terms) => {
                let mut sum: Option<Value> = None;
                for term in terms {
                    let definitions = self.definitions(term, of.0);
                    let value = self.leaf_value(term, &definitions, of)?;
                    sum = Some(match sum {
                        Some(sum) => call(Function::Add, [sum, value]),
                        None => value,
                    });
                }
                Ok(sum.unwrap_or(Value::Const(0.0)))
            }
        }
    }

    pub(super) fn definitions(&self, leaf: &Leaf, state: StateId) -> Vec<Definition> {
        let known = self.plan.states.iter().find(|plan| plan.state == state).map(|plan| &plan.known.definitions);
        leaf.factors.iter().filter_map(|(atom, _)| known?.get(atom).cloned()).collect()
    }

    /// w' k of two canonical vectors.
    fn dot(&mut self, w: &Leaf, k: &Leaf, (state, wide): (StateId, Wide)) -> Result<Value> {
        let side = w.feat.join(k.feat).unwrap_or(Feat::K);
        let (ws, ks) = (self.definitions(w, state), self.definitions(k, state));
        let inside = (state, Wide::Yes);
        let value = call(Function::Mul, [self.leaf_value(w, &ws, inside)?, self.leaf_value(k, &ks, inside)?]);
        let inner = self.memory[&state].dims[usize::from(side == Feat::V)].extent.clone();
        let tile = self.rows_of("dot", None, 0);
        let (axes, dst) = (vec![self.count()], at(&tile));
        self.push(Stmt::Reduce(Reduce { axes, inner, op: ReduceOp::Sum, dst, value }));
        Ok(load(&tile, wide))
    }
}

/// Whether a statement has an element axis beside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wide {
    No,
    Yes,
}

/// Element [row, i] of a vector; element [row] of a scalar, for every i of a wide statement.
pub(super) fn load(tile: &Tile, wide: Wide) -> Value {
    Value::Load(match wide {
        Wide::Yes => at(&with_broadcast(tile)),
        Wide::No => at(&with_rank(tile.clone(), 0)),
    })
}

/// A tile with an element dim: a scalar's has stride 0.
pub(super) fn with_broadcast(tile: &Tile) -> Tile {
    let mut tile = tile.clone();
    if tile.dims.is_empty() {
        tile.dims.push(TileDim { extent: Int::from(1i64), stride: Int::from(0i64) });
    }
    tile
}

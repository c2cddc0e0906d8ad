//! Products of decays: prefixes, suffixes, and what uses them. No logarithm, no quotient, no exponent: a decay of 0 is
//! exact and every factor lies in [-1, 1] (DERIVATION 4.2, R-prod).

use chunkwise_dsl::typed::Function;
use petgraph::{algo::has_path_connecting, graph::NodeIndex};

use crate::{
    ir::Term,
    kernel::{Access, Int, Reduce, ReduceOp, Stmt, Value},
    plan::Op,
};

use super::{
    super::{Result, Tile, emit::call},
    Emission, Square, at, extent, row_of,
    stream::{Wide, load},
    with_rank,
};

/// Rows of a sub-block: inside one, keys decay by running products; between them by one product each.
pub(super) const SUB_BLOCK: i64 = 16;

impl Emission<'_, '_> {
    /// Whether a decay is the constant 1.
    pub(super) fn is_one(&self, decay: NodeIndex) -> bool {
        matches!(&self.node(decay).op, Op::Leaf(leaf, _) if leaf.is_one())
    }

    /// Row t is the product of d over tau < t: one row more than the block has.
    pub(super) fn prefix(&mut self, decay: NodeIndex) -> Result<Tile> {
        if let Some(tile) = self.prefixes.get(&decay) {
            return Ok(tile.clone());
        }
        let d = self.stream(decay, 0)?;
        let width = extent(&d);
        let tile = self.rows_of("prefix", width.clone(), 1);
        self.map(width.clone().into_iter().collect(), row_of(&tile, Int::from(0i64)), Value::Const(1.0));
        self.running_decay(decay, (width, self.count()), down(&shifted(&tile, 1)), &down)?;
        self.prefixes.insert(decay, tile.clone());
        Ok(tile)
    }

    /// Row t is the product of d over tau > t.
    fn suffix(&mut self, decay: NodeIndex) -> Result<Tile> {
        if let Some(tile) = self.suffixes.get(&decay) {
            return Ok(tile.clone());
        }
        let d = self.stream(decay, 0)?;
        let width = extent(&d);
        let tile = self.rows_of("suffix", width.clone(), 0);
        let last = self.count() - 1i64;
        self.map(width.clone().into_iter().collect(), row_of(&tile, last.clone()), Value::Const(1.0));
        let dst = up(&tile, last.clone() - 1i64);
        self.running_decay(decay, (width, last.clone()), dst, &|d| up(d, last.clone()))?;
        self.suffixes.insert(decay, tile.clone());
        Ok(tile)
    }

    /// A query decayed from the block's start or a key decayed to its end, as a fused value.
    pub(super) fn decayed(&mut self, index: NodeIndex, place: usize) -> Result<Value> {
        let (decay, x) = (self.operand(index, 0), self.operand(index, 1));
        let factor = match self.term(index) {
            Some(Term::DecayToEnd(_)) => self.suffix(decay)?,
            Some(Term::DecayFromStartBefore(_)) => self.prefix(decay)?,
            _ => shifted(&self.prefix(decay)?, 1),
        };
        let x = self.fused(x, place, Wide::Yes)?;
        Ok(call(Function::Mul, [x, load(&factor, Wide::Yes)]))
    }

    /// G[t,start] .* (S y), with d[t] counted or (`shift` 0) without.
    pub(super) fn right_read(&mut self, dst: &Tile, index: NodeIndex, place: usize, shift: i64) -> Result<()> {
        let (decay, y, start) = (self.operand(index, 0), self.operand(index, 1), self.operand(index, 2));
        let y = with_rank(self.stream(y, place)?, 1);
        let state = self.memory_of(start);
        let (k, v) = (state.dims[0].extent.clone(), state.dims[1].extent.clone());
        let turned = self.lowering.scratch("turned", v.clone() * k.clone());
        let turned = Access::new(turned, 0i64, [k.clone(), Int::from(1i64)]);
        let strides = [state.dims[1].stride.clone(), state.dims[0].stride.clone()];
        let from = Access::new(state.buffer, state.offset.clone(), strides);
        self.map(vec![v.clone(), k.clone()], turned.clone(), Value::Load(from));
        self.product((self.count(), k.clone(), v), (at(dst), at(&y), turned), false);
        if !self.is_one(decay) {
            let factor = shifted(&self.prefix(decay)?, shift);
            let value = call(Function::Mul, [Value::Load(at(dst)), load(&factor, Wide::Yes)]);
            self.map(vec![self.count(), k], at(dst), value);
        }
        Ok(())
    }

    /// Scores under a decay by channel. For every sub-block of rows: queries times prefix products against all keys
    /// before it, each decayed to the sub-block's start (one product); inside it, running products. The keys decay once
    /// for all queries that meet them.
    pub(super) fn decayed_scores(&mut self, index: NodeIndex, row: usize, column: usize) -> Result<Square> {
        let (decay, k) = (self.operand(index, 0), self.operand(index, 2));
        let d = with_rank(self.stream(decay, 0)?, 1);
        let k = with_rank(self.stream(k, column)?, 1);
        let width = d.dims[0].extent.clone();
        let mut asked = Vec::new();
        for node in self.alike(index, row, column) {
            let q = with_rank(self.stream(self.operand(node, 1), row)?, 1);
            let before = matches!(self.term(node), Some(Term::TriProductsBefore(_)));
            asked.push(Asked { node, square: self.square("scores"), q, before });
        }
        let small = |this: &mut Self, name: &str, rows: i64| {
            let buffer = this.lowering.scratch(name, width.clone() * rows);
            Tile::dense(buffer, 0i64, std::slice::from_ref(&width))
        };
        let tiles = Scores {
            decay,
            asked,
            prefix: small(self, "prefix", SUB_BLOCK + 1),
            queries: small(self, "queries", SUB_BLOCK),
            running: small(self, "running", SUB_BLOCK),
            side: self.rows.capacity.clone(),
            past: self.lowering.scratch("past", width.clone() * self.rows.capacity.clone()),
            width,
            d,
            k,
        };
        let var = self.lowering.var();
        let before = self.lowering.exchange(Vec::new());
        let built = self.sub_block(&tiles, Int::Var(var));
        let body = self.lowering.exchange(before);
        built?;
        let step = Int::from(SUB_BLOCK);
        self.push(Stmt::For { var, from: Int::from(0i64), to: self.count(), step, body });
        for Asked { node, square, .. } in &tiles.asked {
            self.squares.insert((*node, row, column), square.clone());
        }
        Ok(tiles.asked[0].square.clone())
    }

    /// A node of decayed scores, and all others of the same keys and decay whose queries do not wait for it.
    fn alike(&self, index: NodeIndex, row: usize, column: usize) -> Vec<NodeIndex> {
        let same = |place| move |this: &Self, node| this.operand(node, place) == this.operand(index, place);
        let scores = |node: &NodeIndex| {
            matches!(self.term(*node), Some(Term::TriProducts(_) | Term::TriProductsBefore(_)))
                && *node != index
                && same(0)(self, *node)
                && same(2)(self, *node)
        };
        let free = |node: &NodeIndex| {
            let q = self.operand(*node, 1);
            row < self.stack(q)
                && !self.squares.contains_key(&(*node, row, column))
                && !has_path_connecting(&self.plan.graph, index, q, None)
        };
        let others = self.plan.graph.node_indices().filter(|node| scores(node) && free(node));
        std::iter::once(index).chain(others).collect()
    }

    fn sub_block(&mut self, tiles: &Scores, first: Int) -> Result<()> {
        let rows = (self.count() - first.clone()).min(SUB_BLOCK);
        self.sub_block_prefix(tiles.decay, &tiles.prefix, &first, &rows)?;
        let past = self.collected(|this| {
            this.if_own(first.clone() + rows.clone(), |this| this.past_scores(tiles, &first, &rows));
        });
        self.push(Stmt::If { left: Int::from(0i64), right: first.clone(), then: past, otherwise: Vec::new() });
        self.each(0i64, rows.clone(), |this, r| {
            let (early, late): (Vec<&Asked>, Vec<&Asked>) = tiles.asked.iter().partition(|asked| asked.before);
            for asked in early {
                this.if_own(first.clone() + r.clone() + 1i64, |this| {
                    this.running_scores(tiles, asked, (first.clone(), r.clone()), r.clone());
                });
            }
            this.decay_running(tiles, first.clone(), r.clone());
            for asked in late {
                this.if_own(first.clone() + r.clone() + 1i64, |this| {
                    this.running_scores(tiles, asked, (first.clone(), r.clone()), r.clone() + 1i64);
                });
            }
            Ok(())
        })?;
        // The last sub-block's keys meet no later query.
        let next = first.clone() + rows.clone();
        let kept = self.collected(|this| this.keep_past(tiles, first, rows));
        self.push(Stmt::If { left: next, right: self.count(), then: kept, otherwise: Vec::new() });
        Ok(())
    }

    /// What `body` pushes.
    fn collected(&mut self, body: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        let before = self.lowering.exchange(Vec::new());
        body(self);
        self.lowering.exchange(before)
    }

    /// Queries decayed from the sub-block's start against all keys before it.
    fn past_scores(&mut self, tiles: &Scores, first: &Int, rows: &Int) {
        let width = tiles.width.clone();
        for Asked { square, q, before, .. } in &tiles.asked {
            let query = row_block(q, first.clone());
            let factor = shifted(&tiles.prefix, i64::from(!before));
            let value = call(Function::Mul, [Value::Load(query), Value::Load(at(&factor))]);
            self.map(vec![rows.clone(), width.clone()], at(&tiles.queries), value);
            let dst = square.access(square.stride.clone() * first.clone(), [square.stride.clone(), Int::from(1i64)]);
            let past = Access::new(tiles.past, 0i64, [tiles.side.clone(), Int::from(1i64)]);
            self.product((rows.clone(), first.clone(), width.clone()), (dst, at(&tiles.queries), past), false);
        }
    }

    /// What `body` pushes, where a row before `end` is wanted.
    fn if_own(&mut self, end: Int, body: impl FnOnce(&mut Self)) {
        if self.window.is_none() {
            return body(self);
        }
        let then = self.collected(body);
        self.push(Stmt::If { left: self.own.clone(), right: end, then, otherwise: Vec::new() });
    }

    /// M[first + r, first + s] = sum over channels of q[first + r] Y[s].
    fn running_scores(&mut self, tiles: &Scores, asked: &Asked, (first, r): (Int, Int), length: Int) {
        let q = row_of(&asked.q, first.clone() + r.clone());
        let q = Access::new(q.buffer, q.offset, [Int::from(0i64)].into_iter().chain(q.strides));
        let value = call(Function::Mul, [Value::Load(q), Value::Load(at(&tiles.running))]);
        let square = &asked.square;
        let dst = square.access(square.stride.clone() * (first.clone() + r) + first, [Int::from(1i64)]);
        let inner = tiles.width.clone();
        self.push(Stmt::Reduce(Reduce { axes: vec![length], inner, op: ReduceOp::Sum, dst, value }));
    }

    /// Y[s] = d[first + r] .* Y[s] for s < r; Y[r] = k[first + r].
    fn decay_running(&mut self, tiles: &Scores, first: Int, r: Int) {
        let d = row_of(&tiles.d, first.clone() + r.clone());
        let d = Access::new(d.buffer, d.offset, [Int::from(0i64)].into_iter().chain(d.strides));
        let y = at(&tiles.running);
        let value = call(Function::Mul, [Value::Load(y.clone()), Value::Load(d)]);
        self.map(vec![r.clone(), tiles.width.clone()], y, value);
        let key = Value::Load(row_of(&tiles.k, first + r.clone()));
        self.map(vec![tiles.width.clone()], row_of(&tiles.running, r), key);
    }

    /// Past keys decay by the whole sub-block, whose own keys join them, decayed to its end.
    fn keep_past(&mut self, tiles: &Scores, first: Int, rows: Int) {
        let past = Access::new(tiles.past, 0i64, [tiles.side.clone(), Int::from(1i64)]);
        let total = row_of(&tiles.prefix, rows.clone());
        let total = Access::new(total.buffer, total.offset, total.strides.into_iter().chain([Int::from(0i64)]));
        let value = call(Function::Mul, [Value::Load(past.clone()), Value::Load(total)]);
        self.map(vec![tiles.width.clone(), first.clone()], past, value);
        let joined = Access::new(tiles.past, first, [tiles.side.clone(), Int::from(1i64)]);
        let running = &tiles.running;
        let keys =
            Access::new(running.buffer, running.offset.clone(), [running.dims[0].stride.clone(), running.row.clone()]);
        self.map(vec![tiles.width.clone(), rows], joined, Value::Load(keys));
    }
}

/// What scores under a decay by channel work on.
struct Scores {
    decay: NodeIndex,
    /// At least one.
    asked: Vec<Asked>,
    /// [r, c]: products of the sub-block's decays before row r.
    prefix: Tile,
    queries: Tile,
    running: Tile,
    /// [c, s]: keys before the sub-block, decayed to its start.
    past: crate::kernel::BufferId,
    side: Int,
    width: Int,
    d: Tile,
    k: Tile,
}

/// The queries that meet the keys.
struct Asked {
    node: NodeIndex,
    square: Square,
    q: Tile,
    /// Without the decay of the query's own token.
    before: bool,
}

/// The tile from a later row on.
pub(super) fn shifted(tile: &Tile, rows: i64) -> Tile {
    Tile { offset: tile.offset.clone() + tile.row.clone() * rows, ..tile.clone() }
}

/// The tile from a later row on.
pub(super) fn from_row(tile: &Tile, row: &Int) -> Tile {
    Tile { offset: tile.offset.clone() + tile.row.clone() * row.clone(), ..tile.clone() }
}

/// Element [i.., r] of a tile, row by row.
pub(super) fn down(tile: &Tile) -> Access {
    Access::new(tile.buffer, tile.offset.clone(), super::strides(tile).into_iter().chain([tile.row.clone()]))
}

/// The same from row `last` backwards.
fn up(tile: &Tile, last: Int) -> Access {
    let back = Int::from(0i64) - tile.row.clone();
    let offset = tile.offset.clone() + tile.row.clone() * last;
    Access::new(tile.buffer, offset, super::strides(tile).into_iter().chain([back]))
}

/// Element [r, i] of the rows from `first` on.
pub(super) fn row_block(tile: &Tile, first: Int) -> Access {
    at(&Tile { offset: tile.offset.clone() + tile.row.clone() * first, ..tile.clone() })
}

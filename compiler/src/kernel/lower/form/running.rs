//! Sums over pairs of tokens where every element of a vector decays by its own factor: between sub-blocks of rows one
//! product with vectors that are already decayed to the sub-block's start, inside one vectors that decay in place, token by
//! token.
//!
//! ```text
//! out[t] = sum over s <= t of M[t,s] Y[s],   Y[s] = d[t] .* Y[s] for s < t,   Y[t] = x[t]
//! ```

use chunkwise_dsl::typed::Function;
use petgraph::graph::NodeIndex;

use crate::kernel::{Access, Int, Stmt, Value};

use super::{
    super::{Result, Tile, emit::call},
    Emission, Square, at, extent,
    products::{SUB_BLOCK, from_row, row_block, shifted},
    row_of,
    solve::Feedback,
    stream::with_broadcast,
    with_rank,
};

/// Vectors that decay in place, a tile for each of their stack.
struct Running {
    decay: NodeIndex,
    d: Tile,
    /// The vectors as they are given.
    given: Vec<Tile>,
    /// Those of the sub-block, decayed to the token at hand.
    own: Vec<Tile>,
    /// Those before the sub-block, decayed to its start.
    past: Vec<Tile>,
    /// [r, i]: products of the sub-block's decays before row r.
    prefix: Tile,
    width: Int,
}

/// A sub-block of rows.
#[derive(Clone)]
struct Block {
    first: Int,
    rows: Int,
}

/// Which tokens a row sums over, and up to where they are decayed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// s <= t, d[t] counted.
    Inclusive,
    /// s < t, without d[t].
    Before,
}

impl Emission<'_, '_> {
    /// out[t] = sum over s <= t of M[t,s] G[t,s] .* x[s]
    pub(super) fn right_products(&mut self, dst: &Tile, index: NodeIndex, place: usize) -> Result<()> {
        self.gather(dst, (index, place), Reach::Inclusive)
    }

    /// The same over s < t, without d[t].
    pub(super) fn right_products_before(&mut self, dst: &Tile, index: NodeIndex, place: usize) -> Result<()> {
        self.gather(dst, (index, place), Reach::Before)
    }

    fn gather(&mut self, dst: &Tile, (index, place): (NodeIndex, usize), reach: Reach) -> Result<()> {
        let [decay, pairs, x] = [0, 1, 2].map(|place| self.operand(index, place));
        let stack = self.stack(x);
        let squares = (0..stack).map(|column| self.pairs(pairs, place, column)).collect::<Result<Vec<Square>>>()?;
        let given =
            (0..stack).map(|column| Ok(with_rank(self.stream(x, column)?, 1))).collect::<Result<Vec<Tile>>>()?;
        let running = self.running(decay, given)?;
        let dst = with_rank(dst.clone(), 1);
        self.sub_blocks(|this, block| {
            this.begin(&running, &block)?;
            let rows = from_row(&dst, &block.first);
            this.past_sums(&rows, (&running, &squares), &block, reach);
            this.each(0i64, block.rows.clone(), |this, r| {
                if reach == Reach::Inclusive {
                    this.decay_own(&running, &block, &r);
                }
                this.own_sums(row_of(&rows, r.clone()), (&running, &squares), (&block, &r), reach);
                if reach == Reach::Before {
                    this.decay_own(&running, &block, &r);
                }
                Ok(())
            })?;
            this.keep_own(&running, &block);
            Ok(())
        })
    }

    /// The y with y[t] = c[t] .* (sum over s < t of P[t,s] G[t-1,s] .* y[s]) + x[t]: row by row.
    pub(super) fn solve_decayed(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        let [gate, decay, pairs, y] = [0, 1, 2, 3].map(|place| self.operand(index, place));
        let Feedback { solved, gates, squares, width } = self.feedback([gate, pairs, y])?;
        let running = self.running(decay, solved.clone())?;
        let sums: Vec<Tile> = solved.iter().map(|_| self.rows_of("feedback", Some(width.clone()), 0)).collect();
        self.sub_blocks(|this, block| {
            this.begin(&running, &block)?;
            for (sum, squares) in sums.iter().zip(&squares) {
                this.past_sums(sum, (&running, squares), &block, Reach::Before);
            }
            this.each(0i64, block.rows.clone(), |this, r| {
                for (sum, squares) in sums.iter().zip(&squares) {
                    this.own_sums(row_of(sum, r.clone()), (&running, squares), (&block, &r), Reach::Before);
                }
                let t = block.first.clone() + r.clone();
                for ((x, gate), sum) in solved.iter().zip(&gates).zip(&sums) {
                    let (x, gate) = (row_of(x, t.clone()), Value::Load(row_of(gate, t.clone())));
                    let fed = call(Function::Mul, [gate, Value::Load(row_of(sum, r.clone()))]);
                    this.map(vec![width.clone()], x.clone(), call(Function::Add, [Value::Load(x), fed]));
                }
                this.decay_own(&running, &block, &r);
                Ok(())
            })?;
            this.keep_own(&running, &block);
            Ok(())
        })?;
        Ok(self.stacked(index, place, &solved))
    }

    /// `for` every sub-block; under a window, whose rows see bands of tokens, all rows are one.
    fn sub_blocks(&mut self, body: impl FnOnce(&mut Self, Block) -> Result<()>) -> Result<()> {
        if self.window.is_some() {
            return body(self, Block { first: Int::from(0i64), rows: self.count() });
        }
        let var = self.lowering.var();
        let first = Int::Var(var);
        let rows = (self.count() - first.clone()).min(SUB_BLOCK);
        let before = self.lowering.exchange(Vec::new());
        let built = body(self, Block { first, rows });
        let body = self.lowering.exchange(before);
        built?;
        self.push(Stmt::For { var, from: Int::from(0i64), to: self.count(), step: Int::from(SUB_BLOCK), body });
        Ok(())
    }

    fn running(&mut self, decay: NodeIndex, given: Vec<Tile>) -> Result<Running> {
        let d = with_broadcast(&self.stream(decay, 0)?);
        let width = given.first().and_then(extent).unwrap_or(Int::from(1i64));
        let mut rows = |name: &str| given.iter().map(|_| self.rows_of(name, Some(width.clone()), 0)).collect();
        let (own, past) = (rows("decayed"), rows("past"));
        let prefix = self.rows_of("prefix", Some(width.clone()), 1);
        Ok(Running { decay, d, given, own, past, prefix, width })
    }

    /// The prefix products of a sub-block.
    fn begin(&mut self, running: &Running, block: &Block) -> Result<()> {
        self.sub_block_prefix(running.decay, &running.prefix, &block.first, &block.rows)
    }

    /// `out`, a row for each of the sub-block's: the pairs with the tokens before it times their vectors.
    fn past_sums(&mut self, out: &Tile, (of, pairs): (&Running, &[Square]), block: &Block, reach: Reach) {
        for (place, (square, past)) in pairs.iter().zip(&of.past).enumerate() {
            let sizes = (block.rows.clone(), of.width.clone(), block.first.clone());
            self.product(sizes, (at(out), square.rows(block.first.clone()), at(past)), place > 0);
        }
        let factor = shifted(&of.prefix, i64::from(reach == Reach::Inclusive));
        let value = call(Function::Mul, [Value::Load(at(out)), Value::Load(at(&factor))]);
        self.map(vec![block.rows.clone(), of.width.clone()], at(out), value);
    }

    /// Adds a row of pairs with the sub-block's own tokens times their vectors.
    fn own_sums(&mut self, out: Access, (of, pairs): (&Running, &[Square]), (block, r): (&Block, &Int), reach: Reach) {
        let out = Access::new(out.buffer, out.offset, [Int::from(0i64)].into_iter().chain(out.strides));
        let strict = reach == Reach::Before;
        let (low, length) = match &self.window {
            Some(_) => self.band(r.clone(), strict),
            None => (Int::from(0i64), r.clone() + i64::from(!strict)),
        };
        for (square, own) in pairs.iter().zip(&of.own) {
            let row = square.stride.clone() * (block.first.clone() + r.clone()) + block.first.clone() + low.clone();
            let a = square.access(row, [Int::from(0i64), Int::from(1i64)]);
            let sizes = (Int::from(1i64), of.width.clone(), length.clone());
            self.product(sizes, (out.clone(), a, row_block(own, low.clone())), true);
        }
    }

    /// Y[s] = d[t] .* Y[s] for the sub-block's s < t; Y[t] = x[t].
    fn decay_own(&mut self, running: &Running, block: &Block, r: &Int) {
        let t = block.first.clone() + r.clone();
        let d = row_of(&running.d, t.clone());
        let d = Access::new(d.buffer, d.offset, [Int::from(0i64)].into_iter().chain(d.strides));
        for (own, given) in running.own.iter().zip(&running.given) {
            let value = call(Function::Mul, [Value::Load(at(own)), Value::Load(d.clone())]);
            self.map(vec![r.clone(), running.width.clone()], at(own), value);
            let x = Value::Load(row_of(given, t.clone()));
            self.map(vec![running.width.clone()], row_of(own, r.clone()), x);
        }
    }

    /// Past vectors decay by the whole sub-block, whose own join them.
    fn keep_own(&mut self, running: &Running, block: &Block) {
        if self.window.is_some() {
            return;
        }
        let width = running.width.clone();
        let total = row_of(&running.prefix, block.rows.clone());
        let total = Access::new(total.buffer, total.offset, [Int::from(0i64)].into_iter().chain(total.strides));
        for (own, past) in running.own.iter().zip(&running.past) {
            let value = call(Function::Mul, [Value::Load(at(past)), Value::Load(total.clone())]);
            self.map(vec![block.first.clone(), width.clone()], at(past), value);
            let joined = at(&from_row(past, &block.first));
            self.map(vec![block.rows.clone(), width.clone()], joined, Value::Load(at(own)));
        }
    }
}

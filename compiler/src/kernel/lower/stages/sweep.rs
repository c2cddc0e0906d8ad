//! Sweeps over blocks of columns: values of pairs a block at a time, and what folds them.
//!
//! ```text
//! m = LEAST, l = 0, o = 0
//! for the blocks of columns before the band is whole, within it, and after:
//!   s = k q'                                                    pairs
//!   t = max over columns of s;  a = exp(m - max(m, t));  m = max(m, t)
//!   w = exp(s - m)                                              pairs that are relative to a maximum
//!   l = a l + sum of w;  o = a o + v' w
//! ```
//!
//! Conditions that are bands bound the loops: blocks in which they hold throughout are computed without them.

use chunkwise_dsl::typed::Function;

use crate::kernel::{Int, ReduceOp, Stmt, Value};
use crate::plan::place::sweep::pair_places;
use crate::plan::place::{Bounded, Placed, Sweep, Swept, Unit, is_plain, kept_below};
use crate::program::{Band, Factored, Index, LEAST, Node, NodeId, Op, Operand, conjuncts, slope};

use super::super::emit::call;
use super::super::tile::At;
use super::fold::combining;
use super::memory::{Blocked, Memory};
use super::nest::{Attempt, Nest};
use super::{ROWS, Result, Rows, Stages};

/// Columns of a block.
pub(super) const COLUMNS: i64 = 64;

impl Stages<'_> {
    /// The statements of a sweep.
    pub(super) fn sweep(&mut self, unit: &Unit, sweep: &Sweep) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        for Swept { placed, .. } in &sweep.folds {
            let memory = self.memory_of(placed, &unit.space);
            if sweep.is_led_by(placed.node) {
                let extents = self.extents(self.graph.node(placed.node), Blocked::of(placed));
                let least = |_: &mut Self, _: &Nest| Ok(Value::Const(LEAST));
                body.extend(self.fill_with(placed, (&extents, &memory), least)?);
                self.running.insert(placed.node);
            } else {
                body.extend(self.start_sum(placed, &memory)?);
            }
        }
        let length = self.lowering.size(&sweep.columns.size);
        let conditions = |bands: &[Bounded]| bands.iter().map(|bounded| bounded.condition.clone()).collect::<Vec<_>>();
        let (always, at_times): (Vec<Bounded>, Vec<Bounded>) =
            sweep.bands.iter().cloned().partition(|bounded| is_of_whole_blocks(&bounded.band));
        let (holding, always_holding) = (conditions(&sweep.bands), conditions(&always));
        for (from, to, whole) in self.stretches((&always, &at_times), &length) {
            let first = self.lowering.var();
            let count = (length.clone() - Int::Var(first)).min(COLUMNS);
            let capacity = Int::from(COLUMNS).min(length.clone());
            self.columns = Some(Rows { first: Int::Var(first), count, capacity });
            self.known = if whole { holding.clone() } else { always_holding.clone() };
            let block = self.block(unit, sweep)?;
            body.push(Stmt::For { var: first, from, to, step: COLUMNS.into(), body: block });
        }
        self.known.clear();
        self.columns = None;
        for Swept { placed, is_read, .. } in sweep.folds.iter().filter(|fold| sweep.is_led_by(fold.placed.node)) {
            self.running.remove(&placed.node);
            if !is_read {
                continue;
            }
            let memory = self.memory_of(placed, &unit.space);
            let extents = self.extents(self.graph.node(placed.node), Blocked::of(placed));
            body.extend(self.fill_with(placed, (&extents, &memory), |this, nest| {
                let most = this.load(&memory, nest)?;
                let nothing = call(Function::Le, [most.clone(), Value::Const(LEAST)]);
                Ok(Value::Select(Box::new(nothing), Box::new(Value::Const(f64::NEG_INFINITY)), Box::new(most)))
            })?);
        }
        Ok(body)
    }

    /// Loops over blocks of columns: from, to, and whether all bands hold for every pair in them.
    fn stretches(&mut self, (always, at_times): (&[Bounded], &[Bounded]), length: &Int) -> Vec<(Int, Int, bool)> {
        let none = Int::from(0i64);
        if always.is_empty() && at_times.is_empty() {
            return vec![(none, length.clone(), true)];
        }
        let Some(rows) = self.rows.clone() else { return Vec::new() };
        let ends = [rows.first.clone(), rows.first + rows.count - 1i64];
        // The least and the most of a bound: it rises from the first row to the last, or falls.
        let mut at_ends = |index: &Index| {
            let [a, b] = ends.clone().map(|row| self.bound(index, &row));
            if slope(index) == Some(-1) { [b, a] } else { [a, b] }
        };
        let (mut first, mut all_from) = (none.clone(), none.clone());
        let (mut last, mut all_to) = (length.clone(), length.clone());
        let mut seen: Vec<&Band> = Vec::new();
        let bands = always.iter().map(|bounded| (&bounded.band, true));
        for (band, always) in bands.chain(at_times.iter().map(|bounded| (&bounded.band, false))) {
            if seen.contains(&band) {
                continue;
            }
            seen.push(band);
            if let Some([least, most]) = band.first.as_ref().map(&mut at_ends) {
                first = first.max(least);
                all_from = if always { all_from } else { all_from.max(most) };
            }
            if let Some([least, most]) = band.last.as_ref().map(&mut at_ends) {
                last = last.min(most + 1i64);
                all_to = if always { all_to } else { all_to.min(least + 1i64) };
            }
        }
        // No less than nothing, so that the trips of every loop are bounded.
        let last = last.max(0i64);
        let down = |at: Int| at.floor_div(COLUMNS) * COLUMNS;
        let first = down(first);
        let end = |at: Int| at.min(last.clone());
        let from =
            if all_from == none { first.clone() } else { end(down(all_from + (COLUMNS - 1)).max(first.clone())) };
        // Up to the end of all columns the last block is whole, too.
        let beyond = (all_to.clone() - length.clone() + 1i64).max(0i64);
        let to =
            if all_to == *length { last.clone() } else { end((down(all_to) + beyond * COLUMNS).max(from.clone())) };
        let all = [(first, from.clone(), false), (from, to.clone(), true), (to, last, false)];
        all.into_iter().filter(|(from, to, _)| from != to).collect()
    }

    /// A bound of the columns at a row; it has no other axis.
    fn bound(&mut self, index: &Index, row: &Int) -> Int {
        let nest = Nest { places: vec![At::constant(row.clone())], ..Nest::new(Blocked::default(), 0) };
        self.at(index, &nest).ok().and_then(|at| at.as_int()).unwrap_or(Int::from(0i64))
    }

    /// What a block of columns gives.
    fn block(&mut self, unit: &Unit, sweep: &Sweep) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        for placed in &sweep.pairs {
            self.node(placed, unit, &mut body)?;
        }
        let mut shrink = Vec::new();
        for fold in sweep.folds.iter().filter(|fold| sweep.is_led_by(fold.placed.node)) {
            let (factor, statements) = self.lead(fold)?;
            shrink.push((fold.placed.node, factor));
            body.extend(statements);
        }
        for placed in &sweep.weights {
            self.take_place(placed, sweep);
            self.node(placed, unit, &mut body)?;
        }
        for fold in sweep.folds.iter().filter(|fold| !sweep.is_led_by(fold.placed.node)) {
            let factor = shrink.iter().find(|(of, _)| Some(*of) == fold.relative_to);
            body.extend(self.take_in(&fold.placed, factor)?);
        }
        Ok(body)
    }

    /// Weights take the memory of the pairs that they alone are still to be made of, element by element.
    fn take_place(&mut self, placed: &Placed, sweep: &Sweep) {
        let node = self.graph.node(placed.node);
        if self.tiles.contains_key(&placed.node) || !node.is_fusable() {
            return;
        }
        let reads = kept_below(self.graph, &self.placement.stored, node);
        let is_alone = |id: NodeId| {
            let others = sweep.weights.iter().map(|placed| placed.node).filter(|other| *other != placed.node);
            let led = |fold: &&Swept| !sweep.is_led_by(fold.placed.node);
            let folds = sweep.folds.iter().filter(led).map(|fold| fold.placed.node);
            let reads = |user: NodeId| kept_below(self.graph, &self.placement.stored, self.graph.node(user));
            !others.chain(folds).flat_map(reads).any(|read| read.node == id)
        };
        let pair = sweep.pairs.iter().find(|pair| {
            let of = self.graph.node(pair.node);
            let mut here = reads.iter().filter(|read| read.node == pair.node).peekable();
            here.peek().is_some() && here.all(is_plain) && of.axes == node.axes && is_alone(pair.node)
        });
        if let Some(memory) = pair.and_then(|pair| self.tiles.get(&pair.node)).cloned() {
            self.tiles.insert(placed.node, memory);
        }
    }

    /// Takes a block into a maximum that others are relative to; gives what those shrink by.
    fn lead(&mut self, Swept { placed, is_read, .. }: &Swept) -> Result<(Memory, Vec<Stmt>)> {
        let node = self.graph.node(placed.node).clone();
        let Some(memory) = self.tiles.get(&placed.node).cloned() else {
            return Err(self.refused(placed.node, "a maximum that is not kept"));
        };
        let (partial, mut body) = self.partial(placed, &node)?;
        if !is_read {
            // What is relative to it carries a NaN on.
            body.iter_mut().for_each(most);
        }
        let rows = Blocked::rows(placed.row);
        let factor = self.scratch("shrink", &node.axes, rows);
        let extents = self.extents(&node, rows);
        let both = |this: &mut Self, nest: &Nest| -> Attempt<[Value; 2]> {
            let so_far = this.load(&memory, nest)?;
            Ok([so_far.clone(), call(Function::Max, [so_far, this.load(&partial, nest)?])])
        };
        body.extend(self.fill_with(placed, (&extents, &factor), |this, nest| {
            Ok(call(Function::Exp, [call(Function::Sub, both(this, nest)?)]))
        })?);
        body.extend(self.fill_with(placed, (&extents, &memory), |this, nest| Ok(both(this, nest)?[1].clone()))?);
        Ok((factor, body))
    }

    /// A fold of the block alone.
    pub(super) fn partial(&mut self, placed: &Placed, node: &Node) -> Result<(Memory, Vec<Stmt>)> {
        let Some(columns) = self.columns.clone() else {
            return Err(self.refused(placed.node, "a fold outside of a sweep"));
        };
        let partial = self.scratch("partial", &node.axes, Blocked::rows(placed.row));
        let extents = self.extents(node, Blocked::rows(placed.row));
        let statements = self.reduction(placed, (node, &extents), &columns.count, &partial)?;
        Ok((partial, statements))
    }

    /// Takes a block into a fold, which first shrinks by a factor.
    fn take_in(&mut self, placed: &Placed, shrink: Option<&(NodeId, Memory)>) -> Result<Vec<Stmt>> {
        let node = self.graph.node(placed.node).clone();
        let Some(memory) = self.tiles.get(&placed.node).cloned() else {
            return Err(self.refused(placed.node, "a fold outside of a sweep"));
        };
        let extents = self.extents(&node, Blocked::rows(placed.row));
        let factor = shrink.map(|(of, factor)| (self.read_of(&node, *of), factor.clone()));
        let shrunk = |this: &mut Self, nest: &Nest| -> Attempt<Value> {
            let so_far = this.load(&memory, nest)?;
            match &factor {
                Some((Some(at), factor)) => {
                    let by = Value::Load(this.access(factor, at, nest)?);
                    Ok(call(Function::Mul, [so_far, by]))
                }
                _ => Ok(so_far),
            }
        };
        if let Some(product) = self.block_product(placed, &node, (&extents, &memory))? {
            let mut body = Vec::new();
            if factor.is_some() {
                body.extend(self.fill_with(placed, (&extents, &memory), shrunk)?);
            }
            body.extend(product);
            return Ok(body);
        }
        let (partial, mut body) = self.partial(placed, &node)?;
        let function = combining(&node);
        body.extend(self.fill_with(placed, (&extents, &memory), |this, nest| {
            Ok(call(function, [shrunk(this, nest)?, this.load(&partial, nest)?]))
        })?);
        Ok(body)
    }

    /// A block's product of matrices. Where pairs of it may be hidden, the left factor is 0 there: that does if the right
    /// one is finite throughout, and else the finite part of it does, with what the rest gives where it is seen.
    fn block_product(
        &mut self,
        placed: &Placed,
        node: &Node,
        (extents, memory): (&[Int], &Memory),
    ) -> Result<Option<Vec<Stmt>>> {
        let Some(Factored { factors: [a, b], condition }) = node.product(self.graph) else { return Ok(None) };
        let Some(count) = self.columns.as_ref().map(|columns| columns.count.clone()) else { return Ok(None) };
        let axes = node.axes.len() + 1;
        let hides = condition.is_some_and(|condition| !self.holds(&condition, Blocked::of(placed), axes));
        let whole = self.lane_product(placed, (node, extents), (&count, true), ([(&a, None), (&b, None)], memory))?;
        if !hides {
            return Ok(whole);
        }
        let Some(whole) = whole else { return Ok(None) };
        let Some((finite, infinite, mut otherwise)) = self.finite_part(placed, &b)? else { return Ok(None) };
        let factors = [(&a, None), (&b, Some(finite))];
        let product = self.lane_product(placed, (node, extents), (&count, true), (factors, memory))?;
        otherwise.extend(product.into_iter().flatten());
        let (partial, rest) = self.infinite_part(placed, node, &b)?;
        otherwise.extend(rest);
        otherwise.extend(self.fill_with(placed, (extents, memory), |this, nest| {
            let (so_far, more) = (this.load(memory, nest)?, this.load(&partial, nest)?);
            let nothing = call(Function::Eq, [more.clone(), Value::Const(0.0)]);
            let sum = call(Function::Add, [so_far.clone(), more]);
            Ok(Value::Select(Box::new(nothing), Box::new(so_far), Box::new(sum)))
        })?);
        Ok(Some(vec![Stmt::If { left: infinite, right: 1i64.into(), then: whole, otherwise }]))
    }

    /// Where a fold's body reads a node.
    fn read_of(&self, node: &Node, of: NodeId) -> Option<Operand> {
        let mut reads = Vec::new();
        let mut waiting: Vec<Operand> = node.operands.clone();
        while let Some(x) = waiting.pop() {
            if x.node == of {
                reads.push(x);
            } else if x.node.index() > of.index() {
                waiting.extend(self.graph.node(x.node).operands.iter().map(|below| below.through(&x.at)));
            }
        }
        reads.pop()
    }

    /// Whether a condition over so many axes holds for every pair of the block at hand.
    pub(super) fn holds(&self, condition: &Operand, blocked: Blocked, axes: usize) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let mut all = Vec::new();
        conjuncts(self.graph, &condition.through(&pair_places(axes, blocked.row, blocked.column)), &mut all);
        all.iter().all(|x| self.known.contains(x))
    }

    /// A condition without what holds anyway.
    pub(super) fn condition(&mut self, condition: &Operand, nest: &Nest) -> Attempt<Value> {
        let node = self.graph.node(condition.node);
        if let (Op::Map(Function::And), [a, b], true) = (&node.op, node.operands.as_slice(), !self.known.is_empty()) {
            let [a, b] = [a, b].map(|x| x.through(&condition.at));
            let holds = |x: &Operand| self.holds(x, nest.blocked, nest.places.len());
            match (holds(&a), holds(&b)) {
                (true, _) => return self.condition(&b, nest),
                (_, true) => return self.condition(&a, nest),
                _ => return Ok(call(Function::And, [self.condition(&a, nest)?, self.condition(&b, nest)?])),
            }
        }
        self.value(condition, nest)
    }
}

/// Whether a band is one of blocks that blocks of rows and of columns make up: it holds for all pairs within its bounds.
fn is_of_whole_blocks(band: &Band) -> bool {
    band.block.is_some_and(|wide| wide % COLUMNS == 0 && wide % ROWS == 0)
}

/// Maxima of a statement as those of numbers.
fn most(stmt: &mut Stmt) {
    match stmt {
        Stmt::For { body, .. } => body.iter_mut().for_each(most),
        Stmt::Reduce(reduce) if reduce.op == ReduceOp::Max => reduce.op = ReduceOp::Most,
        _ => {}
    }
}

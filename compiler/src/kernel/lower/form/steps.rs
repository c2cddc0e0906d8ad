//! The recurrent form of an affine state, from its normal form: the values of a block of tokens first, then the state
//! token by token, in place, in as few passes over it as it has reads.
//!
//! ```text
//! S = diag(d) S diag(b) + sum u (c z)' + sum k v',  z = S' w
//!   ->   product z[v] = sum over k of w[t,k] * S[k,v]
//!        map     S[k,v] = d[t,k] * S[k,v] * b[t,v] + u[t,k] * x[v],  x = c z + v where u and k are one key
//!        product r[t,v] = sum over k of q[t,k] * S[k,v]
//! ```
//! A decay is a factor, of which the last token of a block gives back what it and those before it lost (`decay`).

use chunkwise_dsl::typed::Function;
use petgraph::graph::NodeIndex;

use crate::{
    ir::{Leaf, Term, normal::Normal},
    kernel::{Access, Int, Reduce, ReduceOp, Stmt, Value},
    plan::StatePlan,
};

use super::{
    super::{Result, Tile, emit::call},
    Emission,
    decay::{Scales, Spans},
    row_of,
    stream::with_broadcast,
    strides, with_rank,
};

/// A read made at every token.
struct Wanted {
    node: NodeIndex,
    /// q of `S' q`, or y of `S y`.
    vector: Tile,
    /// From the right: `S y`.
    right: bool,
    /// Of the state before the token.
    before: bool,
    rows: Tile,
}

/// What is written along one key: scaled feedback and values.
struct Written {
    key: Tile,
    /// c, w and where c z goes.
    feedback: Vec<(Tile, Tile)>,
    values: Vec<Tile>,
    sum: Access,
}

/// Tokens of the block whose decays are given in one way.
struct Span {
    from: Int,
    to: Int,
    scales: Scales<Tile>,
}

impl Emission<'_, '_> {
    /// Steps one state through the block and fills the rows of its reads.
    pub(super) fn steps(&mut self, state: &StatePlan) -> Result<()> {
        let memory = self.memory[&state.state].clone();
        let wanted = self.wanted(state)?;
        let spans = self.spans(state)?;
        let written = self.written(state, &state.normal)?;
        for Span { from, to, scales } in spans {
            self.each(from, to, |this, t| {
                for read in wanted.iter().filter(|read| read.before) {
                    this.read_row(&memory, read, &t);
                }
                for one in &written {
                    this.collect_row(&memory, one, &t);
                }
                this.update(&memory, &scales, &written, &t);
                for read in wanted.iter().filter(|read| !read.before) {
                    this.read_row(&memory, read, &t);
                }
                Ok(())
            })?;
        }
        for read in wanted {
            self.streams.insert((read.node, 0), read.rows);
        }
        Ok(())
    }

    /// Whether a read is the state itself at every token.
    pub(super) fn is_whole(&self, read: NodeIndex) -> bool {
        matches!(self.term(self.operand(read, 0)), Some(Term::All(_) | Term::AllBefore(_)))
    }

    /// Where a state is read as a whole: the block's states, one by one, from the state before it.
    pub(super) fn whole_reads(&mut self, state: &StatePlan) -> Result<()> {
        let reads: Vec<_> = state.reads.iter().copied().filter(|(_, node)| self.is_whole(*node)).collect();
        if reads.is_empty() {
            return Ok(());
        }
        let start = self.memory[&state.state].clone();
        let extents: Vec<Int> = start.dims.iter().map(|dim| dim.extent.clone()).collect();
        let size = extents[0].clone() * extents[1].clone();
        let buffer = self.lowering.scratch("states", (self.rows.capacity.clone() + 1i64) * size);
        let before = Tile::dense(buffer, 0i64, &extents);
        let after = Tile { offset: before.row.clone(), ..before.clone() };
        let one = |tile: &Tile, t: Int| {
            let offset = tile.offset.clone() + tile.row.clone() * t;
            Tile { offset, row: Int::from(0i64), ..tile.clone() }
        };
        let whole = |tile: &Tile| Access::new(tile.buffer, tile.offset.clone(), strides(tile));
        self.map(extents.clone(), whole(&before), Value::Load(whole(&start)));
        let spans = self.spans(state)?;
        let written = self.written(state, &state.normal)?;
        for span in spans {
            self.each(span.from, span.to, |this, t| {
                let (from, to) = (one(&before, t.clone()), one(&after, t.clone()));
                for key in &written {
                    this.collect_row(&from, key, &t);
                }
                this.map(extents.clone(), whole(&to), Value::Load(whole(&from)));
                this.update(&to, &span.scales, &written, &t);
                Ok(())
            })?;
        }
        for (expr, node) in reads {
            let held = match self.term(self.operand(node, 0)) {
                Some(Term::AllBefore(_)) => &before,
                _ => &after,
            };
            let tile = if state.transposed { held.clone().transposed() } else { held.clone() };
            let rank = self.lowering.variant().expr(expr).ty.dims().len();
            self.lowering.bind(expr, with_rank(tile, rank))?;
        }
        Ok(())
    }

    /// Every read below the state's roots, with a row for each token.
    fn wanted(&mut self, state: &StatePlan) -> Result<Vec<Wanted>> {
        let mut nodes = Vec::new();
        for (_, root) in &state.reads {
            self.find_reads(*root, &mut nodes);
        }
        let memory = self.memory[&state.state].clone();
        nodes
            .into_iter()
            .map(|node| {
                let right = matches!(self.term(node), Some(Term::ReadRight(_)));
                let before = matches!(self.term(self.operand(node, 1)), Some(Term::Prev(_)));
                let vector = with_rank(self.stream(self.operand(node, 0), 0)?, 1);
                let width = memory.dims[usize::from(!right)].extent.clone();
                let rows = self.rows_of("read", Some(width), 0);
                Ok(Wanted { node, vector, right, before, rows })
            })
            .collect()
    }

    fn find_reads(&self, index: NodeIndex, found: &mut Vec<NodeIndex>) {
        if matches!(self.term(index), Some(Term::Read(_) | Term::ReadRight(_))) {
            if !found.contains(&index) {
                found.push(index);
            }
            return;
        }
        for operand in &self.node(index).operands {
            self.find_reads(*operand, found);
        }
    }

    fn normal_leaf(&mut self, state: &StatePlan, leaf: &Leaf) -> Result<Tile> {
        self.stream(normal_node(state, leaf), 0)
    }

    /// The writes, those along one key together.
    fn written(&mut self, state: &StatePlan, normal: &Normal) -> Result<Vec<Written>> {
        let mut keys: Vec<&Leaf> = normal.ranks.iter().map(|rank| &rank.u).collect();
        keys.extend(normal.writes.iter().map(|write| &write.k));
        let mut distinct: Vec<&Leaf> = Vec::new();
        for key in keys {
            if !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        let width = self.memory[&state.state].dims[1].extent.clone();
        let mut written = Vec::new();
        for key in distinct {
            let mut feedback = Vec::new();
            for rank in normal.ranks.iter().filter(|rank| rank.u == *key) {
                let c = self.normal_leaf(state, &rank.c)?;
                feedback.push((c, with_rank(self.normal_leaf(state, &rank.w)?, 1)));
            }
            let mut values = Vec::new();
            for write in normal.writes.iter().filter(|write| write.k == *key && write.v.number != 0.0) {
                values.push(with_rank(self.normal_leaf(state, &write.v)?, 1));
            }
            if feedback.is_empty() && values.is_empty() {
                continue;
            }
            let sum = self.lowering.scratch("write", width.clone());
            let key = with_rank(self.normal_leaf(state, key)?, 1);
            let sum = Access::new(sum, 0i64, [Int::from(1i64)]);
            written.push(Written { key, feedback, values, sum });
        }
        Ok(written)
    }

    /// x = sum of c z + sum of v for one key, z = S' w of the state before the token.
    fn collect_row(&mut self, memory: &Tile, written: &Written, t: &Int) {
        let width = memory.dims[1].extent.clone();
        if written.feedback.is_empty() && written.values.len() == 1 {
            return;
        }
        let mut sum: Option<Value> = None;
        let mut plus = |value: Value| {
            sum = Some(match sum.take() {
                Some(sum) => call(Function::Add, [sum, value]),
                None => value,
            });
        };
        for (c, w) in &written.feedback {
            let z = self.lowering.scratch("feedback", width.clone());
            self.vector_product(memory, row_of(w, t.clone()), Access::new(z, 0i64, [Int::from(1i64)]));
            let z = Value::Load(Access::new(z, 0i64, [Int::from(1i64)]));
            plus(call(Function::Mul, [Value::Load(row_of(&with_broadcast(c), t.clone())), z]));
        }
        for value in &written.values {
            plus(Value::Load(row_of(value, t.clone())));
        }
        if let Some(value) = sum {
            self.map(vec![width], written.sum.clone(), value);
        }
    }

    /// What scales the state's rows and its columns, token by token.
    fn spans(&mut self, state: &StatePlan) -> Result<Vec<Span>> {
        let normal = &state.normal;
        let (from, end) = (Int::from(0i64), self.count());
        let [rows, columns] =
            [&normal.decay, &normal.columns].map(|leaf| (!leaf.is_one()).then(|| normal_node(state, leaf)));
        let (decay, of): (_, fn(_) -> _) = match (rows, columns) {
            (None, None) => return Ok(vec![Span { from, to: end, scales: Scales::Nothing }]),
            (Some(rows), None) => (rows, Scales::Rows),
            (None, Some(columns)) => (columns, Scales::Columns),
            (Some(rows), Some(columns)) => {
                let scales = Scales::Both([self.apart(rows)?, self.apart(columns)?]);
                return Ok(vec![Span { from, to: end, scales }]);
            }
        };
        let Spans { each, last } = self.stepped(decay)?;
        let Some(last) = last else { return Ok(vec![Span { from, to: end, scales: of(each) }]) };
        let before = end.clone() - 1i64;
        let most = Span { from, to: before.clone(), scales: of(each) };
        Ok(vec![most, Span { from: before, to: end, scales: of(last) }])
    }

    /// One pass: S = d S b + sum of key x'.
    fn update(&mut self, memory: &Tile, scales: &Scales<Tile>, written: &[Written], t: &Int) {
        let (zero, one) = (Int::from(0i64), Int::from(1i64));
        let whole = Access::new(memory.buffer, memory.offset.clone(), strides(memory));
        let before = Value::Load(whole.clone());
        let factor = |part: &Tile, side: usize| {
            let d = row_of(&with_broadcast(part), t.clone());
            let mut strides = [zero.clone(), zero.clone()];
            strides[side] = d.strides[0].clone();
            Value::Load(Access::new(d.buffer, d.offset, strides))
        };
        let mut summands = scales.kept(&before, &factor);
        let mut added = None;
        for one_key in written {
            let key = row_of(&one_key.key, t.clone());
            let key = Access::new(key.buffer, key.offset, [key.strides[0].clone(), zero.clone()]);
            let x = match (one_key.feedback.as_slice(), one_key.values.as_slice()) {
                ([], [single]) => row_of(single, t.clone()),
                _ => one_key.sum.clone(),
            };
            let x = Access::new(x.buffer, x.offset, [zero.clone(), x.strides.first().cloned().unwrap_or(one.clone())]);
            let product = call(Function::Mul, [Value::Load(key), Value::Load(x)]);
            added = Some(match added {
                Some(sum) => call(Function::Add, [sum, product]),
                None => product,
            });
        }
        if matches!(scales, Scales::Nothing) && added.is_none() {
            return;
        }
        // From the right: what the factors lost of the state is summed with what is written first.
        summands.extend(added);
        let value = summands.into_iter().rev().reduce(|sum, x| call(Function::Add, [x, sum]));
        let axes = memory.dims.iter().map(|dim| dim.extent.clone()).collect();
        self.map(axes, whole, value.unwrap_or(before));
    }

    fn read_row(&mut self, memory: &Tile, read: &Wanted, t: &Int) {
        let (vector, dst) = (row_of(&read.vector, t.clone()), row_of(&read.rows, t.clone()));
        if !read.right {
            self.vector_product(memory, vector, dst);
            return;
        }
        let y = Access::new(vector.buffer, vector.offset, [Int::from(0i64), vector.strides[0].clone()]);
        let whole = Access::new(memory.buffer, memory.offset.clone(), strides(memory));
        let value = call(Function::Mul, [Value::Load(whole), Value::Load(y)]);
        let (axes, inner) = (vec![memory.dims[0].extent.clone()], memory.dims[1].extent.clone());
        self.push(Stmt::Reduce(Reduce { axes, inner, op: ReduceOp::Sum, dst, value }));
    }

    /// dst = S' w for one vector.
    fn vector_product(&mut self, memory: &Tile, w: Access, dst: Access) {
        let zero = Int::from(0i64);
        let (k, v) = (memory.dims[0].extent.clone(), memory.dims[1].extent.clone());
        let whole = Access::new(memory.buffer, memory.offset.clone(), strides(memory));
        if v == Int::from(1i64) {
            let w = Access::new(w.buffer, w.offset, w.strides);
            let column = Access::new(memory.buffer, memory.offset.clone(), [memory.dims[0].stride.clone()]);
            let value = call(Function::Mul, [Value::Load(w), Value::Load(column)]);
            let dst = Access::new(dst.buffer, dst.offset, []);
            self.push(Stmt::Reduce(Reduce { axes: Vec::new(), inner: k, op: ReduceOp::Sum, dst, value }));
            return;
        }
        let a = Access::new(w.buffer, w.offset, [zero.clone(), w.strides[0].clone()]);
        let dst = Access::new(dst.buffer, dst.offset, [zero, Int::from(1i64)]);
        self.product((Int::from(1i64), v, k), (dst, a, whole), false);
    }
}

fn normal_node(state: &StatePlan, leaf: &Leaf) -> NodeIndex {
    let node = state.leaves.iter().find(|(known, _)| known == leaf).map(|(_, node)| *node);
    node.expect("the plan has a node for every leaf of a normal form")
}

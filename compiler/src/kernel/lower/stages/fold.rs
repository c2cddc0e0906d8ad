//! Folds: products of matrices where a sum's body is one, reductions elsewhere; sums over all rows, block by block.

use chunkwise_dsl::typed::Function;

use crate::kernel::{Int, Map, Product, Reduce, ReduceOp, Stmt, Triangle, Value};
use crate::plan::place::Placed;
use crate::program::{Fold, Node, Op, Operand};

use super::super::emit::call;
use super::super::tile::At;
use super::memory::{Blocked, Memory};
use super::nest::{AXES, Attempt, Nest};
use super::{Result, Stages};

impl Stages<'_> {
    /// A fold over an axis that is whole where it is computed.
    pub(super) fn fold(&mut self, placed: &Placed, node: &Node, memory: &Memory) -> Result<Vec<Stmt>> {
        let Some(over) = &node.reduced else { return Ok(Vec::new()) };
        let inner = self.lowering.size(&over.size);
        let extents = self.extents(node, Blocked::of(placed));
        if let Some(statements) = self.product(placed, (node, &extents), (&inner, false), memory)? {
            return Ok(statements);
        }
        self.reduction(placed, (node, &extents), &inner, memory)
    }

    /// The sum of what all heads keep.
    pub(super) fn over_heads(&mut self, placed: &Placed, node: &Node, memory: &Memory) -> Result<Vec<Stmt>> {
        let (head, found) = (self.lowering.variant().head, self.found(&node.operands[0]));
        let (Some(head), Some(from)) = (head, found) else {
            return Err(self.refused(placed.node, "a sum over heads of what is not kept"));
        };
        let Int::Param(place) = self.lowering.place_on(head) else { return Ok(Vec::new()) };
        let first = |leaf: &Int| (*leaf == Int::Param(place)).then(|| Int::from(0i64));
        let from = Memory { offset: from.offset.replaced(&first), ..from };
        let inner = self.lowering.size_of(head);
        let extents = self.extents(node, Blocked::of(placed));
        let operand = node.operands[0].clone();
        let (nest, (dst, mut access)) = self.attempt(placed, (&extents, AXES), None, |this, nest| {
            Ok((this.target(memory, nest), this.access(&from, &operand, nest)?))
        })?;
        access.strides.push(from.head.unwrap_or(Int::from(0i64)));
        let reduce = Reduce { axes: nest.axes.clone(), inner, op: ReduceOp::Sum, dst, value: Value::Load(access) };
        Ok(nest.around(vec![Stmt::Reduce(reduce)]))
    }

    /// What a sum over all rows starts from.
    pub(super) fn start_sum(&mut self, placed: &Placed, memory: &Memory) -> Result<Vec<Stmt>> {
        let node = self.meaning(placed.node).clone();
        let extents = self.extents(&node, Blocked::of(placed));
        let none = Value::Const(identity(&node));
        self.fill_with(placed, (&extents, memory), |_, _| Ok(none.clone()))
    }

    /// What a block of rows adds to a sum over all of them.
    pub(super) fn add_block(&mut self, placed: &Placed) -> Result<Vec<Stmt>> {
        let node = self.meaning(placed.node).clone();
        let known = self.shared.get(&placed.node).or_else(|| self.tiles.get(&placed.node));
        let (Some(memory), Some(rows)) = (known.cloned(), self.rows.clone()) else { return Ok(Vec::new()) };
        let extents = self.extents(&node, Blocked::default());
        if let Some(statements) = self.product(placed, (&node, &extents), (&rows.count, true), &memory)? {
            return Ok(statements);
        }
        let partial = self.scratch("partial", &node.axes, Blocked::default());
        let mut statements = self.reduction(placed, (&node, &extents), &rows.count, &partial)?;
        let function = combining(&node);
        statements.extend(self.fill_with(placed, (&extents, &memory), |this, nest| {
            Ok(call(function, [this.load(&memory, nest)?, this.load(&partial, nest)?]))
        })?);
        Ok(statements)
    }

    pub(super) fn reduction(
        &mut self,
        placed: &Placed,
        (node, extents): (&Node, &[Int]),
        inner: &Int,
        memory: &Memory,
    ) -> Result<Vec<Stmt>> {
        let Op::Fold(op) = node.op else { return Ok(Vec::new()) };
        let operand = node.operands[0].clone();
        let (nest, (dst, value)) = self.attempt(placed, (extents, AXES), Some(inner), |this, nest| {
            Ok((this.target(memory, nest), this.value(&operand, nest)?))
        })?;
        if nest.rank > nest.axes.len() {
            let axes = nest.axes.clone();
            let reduce = Reduce { axes, inner: inner.clone(), op: reduction_of(op), dst, value };
            return Ok(nest.around(vec![Stmt::Reduce(reduce)]));
        }
        // The reduced axis is a loop: it takes in one position at a time.
        let mut statements = self.fill_with(placed, (extents, memory), |_, _| Ok(Value::Const(identity(node))))?;
        let taken = call(combining(node), [Value::Load(dst.clone()), value]);
        statements.extend(nest.around(vec![Stmt::Map(Map::new(nest.axes.clone(), dst, taken))]));
        Ok(statements)
    }

    /// A sum as products of matrices, if it is one: `add` to what is there.
    pub(super) fn product(
        &mut self,
        placed: &Placed,
        (node, extents): (&Node, &[Int]),
        (inner, add): (&Int, bool),
        memory: &Memory,
    ) -> Result<Option<Vec<Stmt>>> {
        if self.placement.stored[node.operands[0].node.index()] {
            return Ok(None);
        }
        let Some([a, b]) = node.factors(self.graph) else { return Ok(None) };
        if self.lanes {
            return self.lane_product(placed, (node, extents), (inner, add), ([(&a, None), (&b, None)], memory));
        }
        let Some(column) = node.axes.len().checked_sub(1) else { return Ok(None) };
        let lone = |axis: &usize| a.mentions(*axis) && !b.mentions(*axis);
        let row = placed.row.filter(lone).or_else(|| (0..column).rev().find(lone));
        let (Some(row), true) = (row, b.mentions(column) && !a.mentions(column)) else { return Ok(None) };
        let (Some(from), Some(by)) = (self.found(&a), self.found(&b)) else { return Ok(None) };
        let nest = self.product_nest(extents, placed, (row, column));
        let Ok([left, right]) = self.tiles_of([(&from, &a), (&by, &b)], &nest) else { return Ok(None) };
        let dst = self.target(memory, &nest);
        let one = Int::from(1i64);
        if dst.strides.last() != Some(&one) || right.strides.last() != Some(&one) {
            return Ok(None);
        }
        let product = Product {
            m: extents[row].clone(),
            n: extents[column].clone(),
            k: inner.clone(),
            dst,
            a: left,
            b: right,
            accumulate: add,
            shape: Triangle::Full,
        };
        Ok(Some(nest.around(vec![Stmt::Product(product)])))
    }

    /// Axes 0 and 1 are a product's rows and columns, 2 what is summed over; all others are loops.
    pub(super) fn product_nest(&mut self, extents: &[Int], placed: &Placed, (row, column): (usize, usize)) -> Nest {
        let mut nest =
            Nest { axes: vec![extents[row].clone(), extents[column].clone()], ..Nest::new(Blocked::of(placed), 3) };
        for axis in 0..=extents.len() {
            let at = if axis == row {
                At::axis(0)
            } else if axis == column {
                At::axis(1)
            } else if axis == extents.len() {
                At::axis(2)
            } else {
                let var = self.lowering.var();
                nest.loops.push((var, extents[axis].clone()));
                At::constant(var)
            };
            self.stand(&mut nest, at, axis);
        }
        nest
    }

    /// The factors as tiles of two axes: rows by what is summed over, and that by columns.
    pub(super) fn tiles_of(
        &mut self,
        [a, b]: [(&Memory, &Operand); 2],
        nest: &Nest,
    ) -> Attempt<[crate::kernel::Access; 2]> {
        let tile = |place: At, buffer, [x, y]: [usize; 2]| {
            let strides = vec![place.stride(x), place.stride(y)];
            crate::kernel::Access { buffer, offset: place.base(), strides }
        };
        let (left, right) = (self.place(a.0, a.1, nest)?, self.place(b.0, b.1, nest)?);
        Ok([tile(left, a.0.buffer, [0, 2]), tile(right, b.0.buffer, [2, 1])])
    }
}

/// What a fold over nothing gives.
fn identity(node: &Node) -> f64 {
    match node.op {
        Op::Fold(Fold::Max) => f64::NEG_INFINITY,
        Op::Fold(Fold::Min) => f64::INFINITY,
        Op::Fold(Fold::Product) => 1.0,
        _ => 0.0,
    }
}

/// The function that puts two folds together.
pub(super) fn combining(node: &Node) -> Function {
    match node.op {
        Op::Fold(Fold::Max) => Function::Max,
        Op::Fold(Fold::Min) => Function::Min,
        Op::Fold(Fold::Product) => Function::Mul,
        _ => Function::Add,
    }
}

fn reduction_of(op: Fold) -> ReduceOp {
    match op {
        Fold::Sum => ReduceOp::Sum,
        Fold::Max => ReduceOp::Max,
        Fold::Min => ReduceOp::Min,
        Fold::Product => ReduceOp::Product,
    }
}

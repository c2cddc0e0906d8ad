//! Products under a mask: the weights of what is hidden are 0, which does wherever all else is finite.
//!
//! ```text
//! kernel before: for every block of columns j    flag[block] = max over j, c of (if |v[j, c]| is finite then 0 else 1)
//! in a sweep:    if flag[block] < 1 { o' += v' w' } else { o' += (finite part of v)' w', and the rest where it is seen }
//! ```
//!
//! What does not see a number that is not finite comes out the same to the bit on either way.

use chunkwise_dsl::typed::Function;

use crate::kernel::{Access, Element, GridAxis, Int, ParamRole, Reduce, ReduceOp, Stmt, Value};
use crate::plan::place::Placed;
use crate::program::{Index, Node, Operand};

use super::super::emit::call;
use super::memory::{Blocked, Memory};
use super::sweep::COLUMNS;
use super::{Result, Stages};

impl Stages<'_> {
    /// The finite part of what a product reads of the block at hand, 0 elsewhere, and an integer that is 0 if that is all
    /// of it. None of what is no matrix of columns.
    pub(super) fn finite_part(&mut self, placed: &Placed, x: &Operand) -> Result<Option<(Memory, Int, Vec<Stmt>)>> {
        let is_column = |index: &Index| placed.column.is_some_and(|column| *index == Index::Axis(column));
        let Some(column) = x.at.iter().position(is_column) else { return Ok(None) };
        let Some(infinite) = self.is_infinite(x, column) else { return Ok(None) };
        let node = self.graph.node(x.node).clone();
        let whole = Operand::whole(x.node, node.axes.len());
        let blocked = Blocked { row: None, column: Some(column) };
        let own = Placed { node: x.node, row: None, column: Some(column), shared: false, ..placed.clone() };
        let memory = match self.finite_tiles.get(&x.node) {
            Some(memory) => memory.clone(),
            None => self.scratch("finite", &node.axes, blocked),
        };
        let extents = self.extents(&node, blocked);
        let statements = self.fill_with(&own, (&extents, &memory), |this, nest| {
            let number = this.value(&whole, nest)?;
            Ok(Value::Select(Box::new(is_finite(number.clone())), Box::new(number), Box::new(Value::Const(0.0))))
        })?;
        self.finite_tiles.insert(x.node, memory.clone());
        Ok(Some((memory, infinite, statements)))
    }

    /// A fold of the block over what is seen and not finite.
    pub(super) fn infinite_part(&mut self, placed: &Placed, node: &Node, x: &Operand) -> Result<(Memory, Vec<Stmt>)> {
        let (partial, mut statements) = self.partial(placed, node)?;
        let memory = self.found(x);
        statements.iter_mut().for_each(|stmt| but_finite(stmt, memory.as_ref()));
        Ok((partial, statements))
    }

    /// An integer that is 0 if all numbers of an operand at the columns of the block at hand are finite.
    fn is_infinite(&mut self, x: &Operand, column: usize) -> Option<Int> {
        let first = self.columns.as_ref()?.first.clone();
        let flags = match self.finite.get(&x.node) {
            Some(flags) => flags.clone(),
            None => self.flags(x, column)?,
        };
        let at = flags.offset + first.floor_div(COLUMNS);
        Some(Int::Load(std::sync::Arc::new(Element { buffer: flags.buffer, at })))
    }

    /// A kernel that makes the flags of a node's blocks.
    fn flags(&mut self, x: &Operand, column: usize) -> Option<Memory> {
        let memory = self.found(x).filter(|memory| memory.blocked == Blocked::default())?;
        let axes = self.graph.node(x.node).axes.clone();
        let others: Vec<usize> = (0..axes.len()).filter(|axis| *axis != column).collect();
        let [across] = others.as_slice() else { return None };
        let (length, wide) = (self.lowering.size(&axes[column].size), self.lowering.size(&axes[*across].size));
        let blocks = (length.clone() + (COLUMNS - 1)).floor_div(COLUMNS);
        let block = self.lowering.param("block", ParamRole::Grid);
        let first = Int::Param(block) * COLUMNS;
        let count = (length - first.clone()).min(COLUMNS);

        let of_columns = self.lowering.scratch("finite", wide.clone());
        let offset = memory.offset.clone() + first * memory.strides[column].clone();
        let strides = [memory.strides[*across].clone(), memory.strides[column].clone()];
        let number = Value::Load(Access::new(memory.buffer, offset, strides));
        let flag = Value::Select(Box::new(is_finite(number)), Box::new(Value::Const(0.0)), Box::new(Value::Const(1.0)));
        let one = Int::from(1i64);
        let dst = Access::new(of_columns, 0i64, [one.clone()]);
        let down = Reduce { axes: vec![wide.clone()], inner: count, op: ReduceOp::Max, dst, value: flag };

        let all = crate::bind::batch_axes(self.lowering.variant());
        let strides = vec![Int::from(1i64)];
        let flags = self.shared_memory("finite", (strides, blocks.clone()), &all);
        let dst = Access::new(flags.buffer, flags.offset.clone() + Int::Param(block), []);
        let value = Value::Load(Access::new(of_columns, 0i64, [one]));
        let across = Reduce { axes: Vec::new(), inner: wide, op: ReduceOp::Max, dst, value };

        let mut grid = self.grid(&all);
        grid.push(GridAxis { param: block, extent: blocks });
        self.ahead.push((grid, vec![Stmt::Reduce(down), Stmt::Reduce(across)]));
        self.finite.insert(x.node, flags.clone());
        Some(flags)
    }
}

fn is_finite(number: Value) -> Value {
    call(Function::Le, [call(Function::Abs, [number]), Value::Const(f64::from(f32::MAX))])
}

/// The products of a fold's values with a finite element of a memory as 0.
fn but_finite(stmt: &mut Stmt, memory: Option<&Memory>) {
    match stmt {
        Stmt::For { body, .. } => body.iter_mut().for_each(|stmt| but_finite(stmt, memory)),
        Stmt::Reduce(reduce) => without_finite(&mut reduce.value, memory),
        Stmt::Map(map) => without_finite(&mut map.value, memory),
        _ => {}
    }
}

fn without_finite(value: &mut Value, memory: Option<&Memory>) {
    match value {
        Value::Call(Function::Mul, args) => {
            let factor =
                args.iter().find(|x| matches!(x, Value::Load(at) if memory.is_some_and(|of| of.buffer == at.buffer)));
            if let Some(number) = factor.cloned() {
                let product = std::mem::replace(value, Value::Const(0.0));
                *value = Value::Select(Box::new(is_finite(number)), Box::new(Value::Const(0.0)), Box::new(product));
            }
        }
        Value::Call(_, args) => args.iter_mut().for_each(|x| without_finite(x, memory)),
        Value::Select(_, then, otherwise) => {
            [then, otherwise].into_iter().for_each(|x| without_finite(x, memory));
        }
        _ => {}
    }
}

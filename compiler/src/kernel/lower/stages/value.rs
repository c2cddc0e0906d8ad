//! Values fused into the statement that uses them: loads of memory, functions, positions as numbers.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::Function;

use crate::kernel::{Access, Int, Value};
use crate::program::{Index, Node, Op, Operand};

use super::super::emit::call;
use super::super::tile::At;
use super::Stages;
use super::memory::Memory;
use super::nest::{Attempt, Crooked, Nest};

impl Stages<'_> {
    /// An operand in terms of the nest's node.
    pub(super) fn value(&mut self, operand: &Operand, nest: &Nest) -> Attempt<Value> {
        if let Some(memory) = self.found(operand) {
            return self.read(&memory, operand, nest);
        }
        let node = self.graph.node(operand.node);
        let below = Node { operands: node.operands.iter().map(|x| x.through(&operand.at)).collect(), ..node.clone() };
        match &below.op {
            Op::Position(index) => {
                let place = |axis: usize| operand.at[axis].clone();
                self.number(&index.replaced(&place), nest)
            }
            _ => self.computed(&below, nest),
        }
    }

    /// What a node computes of its operands, which are in terms of the nest.
    pub(super) fn computed(&mut self, node: &Node, nest: &Nest) -> Attempt<Value> {
        if let (Op::Select, [condition, then, otherwise]) = (&node.op, node.operands.as_slice()) {
            if self.holds(condition, nest.blocked, nest.places.len()) {
                return self.value(then, nest);
            }
            let condition = self.condition(condition, nest)?;
            let (then, otherwise) = (self.value(then, nest)?, self.value(otherwise, nest)?);
            return Ok(Value::Select(Box::new(condition), Box::new(then), Box::new(otherwise)));
        }
        // A maximum so far is no less than the least.
        if let (Op::Map(Function::Max), [most, _]) = (&node.op, node.operands.as_slice())
            && self.running.contains(&most.node)
        {
            return self.value(most, nest);
        }
        let operands = node.operands.iter().map(|x| self.value(x, nest)).collect::<Attempt<Vec<_>>>()?;
        Ok(match &node.op {
            Op::Number(bits) => Value::Const(f64::from_bits(*bits)),
            Op::Size(size) => Value::Int(self.lowering.size(size)),
            Op::Position(index) => self.number(index, nest)?,
            Op::Head => {
                let head = self.lowering.variant().head;
                Value::Int(head.map_or(Int::from(0i64), |axis| self.lowering.place_on(axis)))
            }
            Op::Map(function) => Value::Call(*function, operands),
            _ => operands.into_iter().next().unwrap_or(Value::Const(0.0)),
        })
    }

    /// A position as a number.
    fn number(&mut self, index: &Index, nest: &Nest) -> Attempt<Value> {
        match index {
            Index::Div(a, b) => Ok(call(Function::FloorDiv, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Mod(a, b) => Ok(call(Function::Mod, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Add(a, b) => Ok(call(Function::Add, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Sub(a, b) => Ok(call(Function::Sub, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Mul(a, b) => Ok(call(Function::Mul, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Min(a, b) => Ok(call(Function::Min, [self.number(a, nest)?, self.number(b, nest)?])),
            Index::Max(a, b) => Ok(call(Function::Max, [self.number(a, nest)?, self.number(b, nest)?])),
            leaf => Ok(self.at(leaf, nest)?.number()),
        }
    }

    /// The element of memory that is at the nest's own axes, to be written.
    pub(super) fn target(&mut self, memory: &Memory, nest: &Nest) -> Access {
        let mut place = At::constant(memory.offset.clone());
        for (axis, stride) in memory.strides.iter().enumerate() {
            let at = if memory.blocked.has(axis) { nest.local(axis) } else { nest.places[axis].clone() };
            place = place.plus(&at.times(stride));
        }
        let rank = nest.axes.len();
        let place = place.position(rank);
        Access { buffer: memory.buffer, offset: place.base, strides: place.strides }
    }

    /// Memory at the nest's own axes, read.
    pub(super) fn load(&mut self, memory: &Memory, nest: &Nest) -> Attempt<Value> {
        Ok(Value::Load(self.target(memory, nest)))
    }

    fn read(&mut self, memory: &Memory, operand: &Operand, nest: &Nest) -> Attempt<Value> {
        if operand.within.is_empty() {
            return self.access(memory, operand, nest).map(Value::Load);
        }
        // Positions that do not depend on the axes are clamped: what is read stays inside whatever a condition says.
        let mut inside = operand.clone();
        for (index, size) in &operand.within {
            if self.at(index, nest)?.as_int().is_some() {
                let clamped = index.clamped(size);
                inside.at.iter_mut().for_each(|at| *at = at.with(index, &clamped));
            }
        }
        let access = self.access(memory, &inside, nest)?;
        // One condition is the bounded load's own; what others say, which must not depend on the axes, makes its length 0.
        let mut holds = Int::from(1i64);
        let mut bounded: Option<(At, Int)> = None;
        for (index, size) in &operand.within {
            let (at, length) = (self.at(index, nest)?, self.lowering.size(size));
            match (at.as_int(), &bounded) {
                (_, None) => bounded = Some((at, length)),
                (Some(at), Some(_)) => {
                    let above = (at.clone() + 1i64).max(0i64).min(1i64);
                    let below = (length - at).max(0i64).min(1i64);
                    holds = holds * above * below;
                }
                (None, Some(_)) => {
                    let axes = (0..nest.places.len()).filter(|axis| index.mentions(*axis)).collect();
                    return Err(Crooked(axes));
                }
            }
        }
        let (at, length) = bounded.unwrap_or((At::constant(0i64), Int::from(1i64)));
        Ok(Value::Bounded { access, position: at.position(nest.rank), length: length * holds })
    }

    pub(super) fn access(&mut self, memory: &Memory, operand: &Operand, nest: &Nest) -> Attempt<Access> {
        let place = self.place(memory, operand, nest)?.position(nest.rank);
        Ok(Access { buffer: memory.buffer, offset: place.base, strides: place.strides })
    }

    /// Where an operand lies in its memory.
    pub(super) fn place(&mut self, memory: &Memory, operand: &Operand, nest: &Nest) -> Attempt<At> {
        let mut place = At::constant(memory.offset.clone());
        let mut axis = 0;
        while axis < operand.at.len() {
            let stride = memory.strides[axis].clone();
            if let Some(whole) = self.joined(memory, operand, axis) {
                place = place.plus(&self.at(&whole.0, nest)?.times(&whole.1));
                axis += whole.2;
                continue;
            }
            let index = &operand.at[axis];
            let at = match index {
                Index::Axis(read) if memory.counts_as(axis, *read, nest.blocked) => nest.local(*read),
                _ => self.at(index, nest)?,
            };
            place = place.plus(&at.times(&stride));
            axis += 1;
        }
        Ok(place)
    }

    /// Neighbouring axes at `e div n` and `e mod n`, dense to each other: e, its stride, and how many axes they are.
    fn joined(&mut self, memory: &Memory, operand: &Operand, axis: usize) -> Option<(Index, Int, usize)> {
        let (whole, length) = Index::split_in_two(&operand.at[axis], operand.at.get(axis + 1)?)?;
        let length = match length {
            Index::Number(n) => Int::from(*n),
            Index::Size(size) => self.lowering.size(size),
            _ => return None,
        };
        let size: &Size = &self.graph.node(operand.node).axes[axis + 1].size;
        let extent = self.lowering.size(size);
        let inner = memory.strides[axis + 1].clone();
        let dense = memory.strides[axis] == inner.clone() * length.clone()
            || memory.strides[axis] == length.clone() * inner.clone();
        (dense && extent == length && !memory.blocked.has(axis) && !memory.blocked.has(axis + 1))
            .then(|| (whole.clone(), inner, 2))
    }
}

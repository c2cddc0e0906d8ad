//! Reductions and softmax over axes beside the tokens, and look-ups by subscripts that the data give.

use chunkwise_dsl::typed::{Domain, ExprId, Function, IndexId, ReduceOp as Over};

use crate::kernel::{Int, ReduceOp, Value};

use super::arena::refusal;
use super::emit::{AXES, call};
use super::tile::{At, Tile};
use super::{Lowering, Result};

impl Lowering<'_> {
    pub(super) fn fill_reduce(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (op, index, domain, body): (Over, IndexId, Domain, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let dims = self.extents(id);
        let inner = self.index_size(index);
        let nest = self.nest(id, indices, &dims, AXES);
        let (mut frame, last) = nest.inner();
        frame.env.insert(index, last.clone());
        let value = self.operand(body, &nest.dims, &frame, false)?;
        let holds = domain.filter.map(|filter| self.operand(filter, &[], &frame, false)).transpose()?;
        let (reduce, none) = reduction(op);
        let masked = |value: Value, none: f64| match &holds {
            Some(holds) => Value::Select(Box::new(holds.clone()), Box::new(value), Box::new(Value::Const(none))),
            None => value,
        };
        match op {
            Over::Argmax => {
                let best = self.room(id, "best", indices);
                self.emit_reduce(
                    &nest,
                    &best,
                    (ReduceOp::Max, inner.clone()),
                    masked(value.clone(), f64::NEG_INFINITY),
                );
                let is_best = call(Function::Eq, [value, Value::Load(frame.access(&best, &nest.places()))]);
                let place =
                    Value::Select(Box::new(is_best), Box::new(last.number()), Box::new(Value::Const(f64::INFINITY)));
                let first = self.room(id, "first", indices);
                self.emit_reduce(&nest, &first, (ReduceOp::Min, inner.clone()), masked(place, f64::INFINITY));
                let found = Value::Load(nest.frame.access(&first, &nest.places()));
                let any = call(Function::Lt, [found.clone(), Value::Int(inner)]);
                let value = Value::Select(Box::new(any), Box::new(found), Box::new(Value::Const(0.0)));
                self.emit_map(&nest, dst, value);
            }
            Over::Mean => {
                let sum = self.room(id, "sum", indices);
                self.emit_reduce(&nest, &sum, (ReduceOp::Sum, inner.clone()), masked(value, 0.0));
                let count = match &holds {
                    Some(_) => {
                        let count = self.room(id, "count", indices);
                        self.emit_reduce(&nest, &count, (ReduceOp::Sum, inner), masked(Value::Const(1.0), 0.0));
                        Value::Load(nest.frame.access(&count, &nest.places()))
                    }
                    None => Value::Int(inner),
                };
                let sum = Value::Load(nest.frame.access(&sum, &nest.places()));
                let count = call(Function::Max, [count, Value::Const(1.0)]);
                self.emit_map(&nest, dst, call(Function::Div, [sum, count]));
            }
            _ => self.emit_reduce(&nest, dst, (reduce, inner), masked(value, none)),
        }
        Ok(())
    }

    /// Softmax over an axis beside the tokens: exp(x - max) over the sum of such.
    pub(super) fn fill_softmax(
        &mut self,
        dst: &Tile,
        id: ExprId,
        parts: SoftmaxParts,
        indices: &[IndexId],
    ) -> Result<()> {
        let outer: Vec<IndexId> = indices.iter().copied().filter(|&i| i != parts.index).collect();
        let extents: Vec<Int> = outer.iter().map(|&index| self.index_size(index)).collect();
        let inner = self.index_size(parts.bound);
        let maximum = self.room_of("maximum", &extents);
        let total = self.room_of("total", &extents);
        let nest = self.nest(id, &outer, &[], AXES);
        let (mut frame, last) = nest.inner();
        frame.env.insert(parts.bound, last);
        let over = self.operand(parts.over, &[], &frame, true)?;
        let holds = parts.domain.filter.map(|filter| self.operand(filter, &[], &frame, true)).transpose()?;
        let masked = |value: Value, none: f64| match &holds {
            Some(holds) => Value::Select(Box::new(holds.clone()), Box::new(value), Box::new(Value::Const(none))),
            None => value,
        };
        self.emit_reduce(&nest, &maximum, (ReduceOp::Max, inner.clone()), masked(over.clone(), f64::NEG_INFINITY));
        let most = finite(Value::Load(frame.access(&maximum, &nest.places())));
        let weight = call(Function::Exp, [call(Function::Sub, [over, most])]);
        self.emit_reduce(&nest, &total, (ReduceOp::Sum, inner), masked(weight, 0.0));

        let nest = self.nest(id, indices, &[], AXES);
        let places: Vec<At> = outer.iter().filter_map(|index| nest.frame.env.get(index).cloned()).collect();
        let load = |tile: &Tile| Value::Load(nest.frame.access(tile, &places));
        let (most, sum) = (finite(load(&maximum)), at_least_one(load(&total)));
        let at = self.operand(parts.at, &[], &nest.frame, false)?;
        let weight = call(Function::Exp, [call(Function::Sub, [at, most])]);
        let mut value = call(Function::Div, [weight, sum]);
        if let Some(filter) = parts.domain.filter {
            // The filter is written in the bound copy; at the weight itself that copy stands where the index does.
            let mut frame = nest.frame.clone();
            if let Some(at) = frame.env.get(&parts.index).cloned() {
                frame.env.insert(parts.bound, at);
            }
            let holds = self.operand(filter, &[], &frame, false)?;
            value = Value::Select(Box::new(holds), Box::new(value), Box::new(Value::Const(0.0)));
        }
        self.emit_map(&nest, dst, value);
        Ok(())
    }

    /// A subscript that the data give: the sum over the axis of the entry where the position is the subscript.
    pub(super) fn fill_gather(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (base, subscripts): (ExprId, Vec<ExprId>),
        indices: &[IndexId],
    ) -> Result<()> {
        let span = self.arena.expr(id).span;
        let given: Vec<usize> = (0..subscripts.len()).filter(|&n| !self.positional(&subscripts[n..=n])).collect();
        let &[place] = given.as_slice() else {
            return Err(refusal("several subscripts that depend on data", "one at a time is looked up", span));
        };
        let dims = self.extents(id);
        let inner = self.extents(base).get(place).cloned().unwrap_or(Int::from(1i64));
        let nest = self.nest(id, indices, &dims, AXES);
        let (frame, last) = nest.inner();
        let subscript = self.operand(subscripts[place], &[], &frame, true)?;
        let tile = self.tile(base)?;
        if !self.arena.free_own(base).is_empty() {
            return Err(refusal("this subscript", "its base depends on an index variable", span));
        }
        let mut places = Vec::new();
        for (n, &x) in subscripts.iter().enumerate() {
            if n == place {
                places.push(super::fused::Place { at: last.clone(), within: None });
            } else {
                let one = self.places(base, &subscripts, &frame).map(|all| all[n].clone());
                let at = self.position(x, &frame).ok_or_else(|| super::fused::crooked(span))?;
                places.push(one.unwrap_or(super::fused::Place { at, within: None }));
            }
        }
        places.extend(nest.dims.iter().map(|at| super::fused::Place { at: at.clone(), within: None }));
        let entry = self.load_within(&tile, &places, &frame).ok_or_else(|| super::fused::crooked(span))?;
        let found = call(Function::Eq, [subscript, last.number()]);
        let value = Value::Select(Box::new(found), Box::new(entry), Box::new(Value::Const(0.0)));
        self.emit_reduce(&nest, dst, (ReduceOp::Sum, inner), value);
        Ok(())
    }
}

/// The largest logit, or the lowest number where all are -inf: then every weight is exp(-inf) = 0 and not NaN.
pub(super) fn finite(most: Value) -> Value {
    call(Function::Max, [most, Value::Const(f64::from(f32::MIN))])
}

/// A softmax's normaliser, to which the largest logit adds 1; where there is none, the weights of 0 stay 0.
pub(super) fn at_least_one(total: Value) -> Value {
    call(Function::Max, [total, Value::Const(1.0)])
}

/// The pieces of `softmax[j](e)`.
pub(super) struct SoftmaxParts {
    pub index: IndexId,
    pub bound: IndexId,
    pub domain: Domain,
    pub over: ExprId,
    pub at: ExprId,
}

/// The kernel's reduction, and its value over nothing.
pub(super) fn reduction(op: Over) -> (ReduceOp, f64) {
    match op {
        Over::Sum | Over::Mean | Over::Count => (ReduceOp::Sum, 0.0),
        Over::Max | Over::Argmax => (ReduceOp::Max, f64::NEG_INFINITY),
        Over::Min => (ReduceOp::Min, f64::INFINITY),
        Over::Prod => (ReduceOp::Product, 1.0),
    }
}

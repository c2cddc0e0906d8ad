//! One expression into one tile: the statements, and the loops around them where a statement's axes do not suffice.

use chunkwise_dsl::typed::{ExprId, ExprKind, FoldOp, Function, IndexId, Norm, NormKind};

use crate::kernel::visit::accesses;
use crate::kernel::{Int, Map, Reduce, ReduceOp, Stmt, Value, VarId};

use super::arena::refusal;
use super::reduce::{SoftmaxParts, at_least_one, finite};
use super::tile::{At, Frame, Tile};
use super::{Lowering, Part, Result};

/// Axes that one statement may have.
pub(super) const AXES: usize = 3;

/// A statistic's term, of the element and of what other statistics of the same row are.
type OfElement<'v> = dyn Fn(Value, &dyn Fn(&Tile) -> Value) -> Value + 'v;

/// The axes of a statement and the loops around it.
pub(super) struct Nest {
    pub loops: Vec<(VarId, Int)>,
    pub axes: Vec<Int>,
    pub frame: Frame,
    /// Where the destination's dims stand: the index variables', then the element's.
    pub indices: Vec<At>,
    pub dims: Vec<At>,
}

impl Nest {
    pub fn places(&self) -> Vec<At> {
        self.indices.iter().chain(&self.dims).cloned().collect()
    }

    /// The same axes with one more behind them, for the inner index of a reduction.
    pub fn inner(&self) -> (Frame, At) {
        (Frame { rank: self.frame.rank + 1, ..self.frame.clone() }, At::axis(self.frame.rank))
    }
}

pub(super) fn call(function: Function, args: impl IntoIterator<Item = Value>) -> Value {
    Value::Call(function, args.into_iter().collect())
}

impl Lowering<'_> {
    /// Axes for the rows in force, `indices` and `dims`, of which a reduction leaves fewer to the statement.
    pub(super) fn nest(&mut self, id: ExprId, indices: &[IndexId], dims: &[Int], most: usize) -> Nest {
        let rows = self.row_axis();
        let mut extents: Vec<Int> = rows.iter().cloned().collect();
        extents.extend(indices.iter().map(|&index| self.index_size(index)));
        let outer = extents.len();
        extents.extend(dims.iter().cloned());
        let mut looped = extents.len().saturating_sub(most);
        if self.is_crooked(id) {
            looped = looped.max(outer);
        }
        let mut loops = Vec::new();
        let mut places = Vec::new();
        for extent in &extents[..looped] {
            let var = self.var();
            loops.push((var, extent.clone()));
            places.push(At::constant(var));
        }
        places.extend((0..extents.len() - looped).map(At::axis));
        let row = if rows.is_some() { places.remove(0) } else { self.single_row() };
        let elements = places.split_off(indices.len());
        let env = indices.iter().copied().zip(places.iter().cloned()).collect();
        let axes = extents[looped..].to_vec();
        Nest { loops, frame: Frame { rank: axes.len(), row, env }, axes, indices: places, dims: elements }
    }

    pub(super) fn emit(&mut self, nest: &Nest, stmt: Stmt) {
        let wrapped = nest.loops.iter().rev().fold(stmt, |inner, (var, extent)| Stmt::For {
            var: *var,
            from: Int::from(0i64),
            to: extent.clone(),
            step: Int::from(1i64),
            body: vec![inner],
        });
        self.push(wrapped);
    }

    pub(super) fn emit_map(&mut self, nest: &Nest, dst: &Tile, value: Value) {
        let dst = nest.frame.access(dst, &nest.places());
        self.emit(nest, Stmt::Map(Map::new(nest.axes.clone(), dst, value)));
    }

    pub(super) fn emit_reduce(&mut self, nest: &Nest, dst: &Tile, (op, inner): (ReduceOp, Int), value: Value) {
        let dst = nest.frame.access(dst, &nest.places());
        self.emit(nest, Stmt::Reduce(Reduce { axes: nest.axes.clone(), inner, op, dst, value }));
    }

    /// Whether some subscript within divides, so that rows must be looped over for it to be an integer.
    fn is_crooked(&self, id: ExprId) -> bool {
        let divides = |x: ExprId| {
            let mut open = vec![x];
            while let Some(x) = open.pop() {
                match &self.arena.expr(x).kind {
                    ExprKind::Coord { .. } => return true,
                    ExprKind::Map {
                        function: Function::Mod | Function::FloorDiv | Function::Min | Function::Max,
                        ..
                    } => return true,
                    _ => open.extend(self.arena.children(x)),
                }
            }
            false
        };
        let mut open = vec![id];
        let mut seen = std::collections::HashSet::new();
        while let Some(x) = open.pop() {
            if !seen.insert(x) {
                continue;
            }
            if let ExprKind::Subscript { at, .. } = &self.arena.expr(x).kind
                && self.positional(at)
                && at.iter().any(|&x| divides(x))
            {
                return true;
            }
            open.extend(self.arena.children(x));
        }
        false
    }

    /// Writes a node's values into a tile whose dims are `indices`, then the node's.
    pub(super) fn fill(&mut self, dst: &Tile, id: ExprId, indices: &[IndexId]) -> Result<()> {
        let expr = self.arena.expr(id).clone();
        if self.find(id, Part::Value).is_some() {
            return self.fill_fused(dst, id, indices);
        }
        match expr.kind {
            ExprKind::Product(a, b) if !self.is_fused_product(id) => self.fill_product(dst, id, (a, b), indices),
            ExprKind::Stack(parts) => self.fill_stack(dst, &parts, indices),
            ExprKind::Flatten(arg) => self.fill_flat(dst, arg, indices),
            ExprKind::Fold { op, arg } => self.fill_fold(dst, id, (op, arg), indices),
            ExprKind::SoftmaxAxis(arg) => self.fill_softmax_axis(dst, id, arg, indices),
            ExprKind::Normalise { norm, arg } => self.fill_normalise(dst, id, (norm, arg), indices),
            ExprKind::Rope { arg, at, base } => self.fill_rope(dst, id, [arg, at, base], indices),
            ExprKind::Conv1d { arg, weights } if !self.has_few_taps(weights) => {
                self.fill_conv(dst, id, (arg, weights), indices)
            }
            ExprKind::Reduce { op, index, domain, body } if self.arena.is_token(index) => {
                self.fill_over_tokens(dst, id, (op, domain, body), indices)
            }
            ExprKind::Reduce { op, index, domain, body } => {
                self.fill_reduce(dst, id, (op, index, domain, body), indices)
            }
            ExprKind::Softmax { index, bound, domain, over, at } => {
                self.fill_softmax(dst, id, SoftmaxParts { index, bound, domain, over, at }, indices)
            }
            ExprKind::Subscript { base, at } if !self.positional(&at) => self.fill_gather(dst, id, (base, at), indices),
            ExprKind::Dwconv { .. } => Err(refusal("`dwconv`", "kernels for it are not derived", expr.span)),
            ExprKind::Rope2d { .. } => Err(refusal("`rope2d`", "kernels for it are not derived", expr.span)),
            ExprKind::TopkMask { .. } => Err(refusal("`topk_mask`", "kernels for it are not derived", expr.span)),
            ExprKind::SolveCg { .. } => Err(refusal("`solve_cg`", "kernels for it are not derived", expr.span)),
            ExprKind::Solve { .. } => Err(refusal("`solve`", "kernels for it are not derived", expr.span)),
            ExprKind::IterateOld(_) => Err(refusal("an iterated let", "kernels for it are not derived", expr.span)),
            _ => self.fill_fused(dst, id, indices),
        }
    }

    fn fill_fused(&mut self, dst: &Tile, id: ExprId, indices: &[IndexId]) -> Result<()> {
        let dims = self.extents(id);
        let nest = self.nest(id, indices, &dims, AXES);
        let value = match self.find(id, Part::Value).cloned() {
            Some(tile) => self.load(&tile, id, &nest.dims, &nest.frame)?,
            None => self.scalar(id, &nest.dims, &nest.frame)?,
        };
        self.emit_map(&nest, dst, value);
        Ok(())
    }

    /// Like a fill of one row, but only where the value reads the destination at no element but the one it writes.
    pub(super) fn fill_in_place(&mut self, dst: &Tile, id: ExprId) -> Result<bool> {
        let own = matches!(
            self.arena.expr(id).kind,
            ExprKind::Map { .. } | ExprKind::If { .. } | ExprKind::StateOld(_) | ExprKind::Product(..)
        );
        if !own || (matches!(self.arena.expr(id).kind, ExprKind::Product(..)) && !self.is_fused_product(id)) {
            return Ok(false);
        }
        let dims = self.extents(id);
        let nest = self.nest(id, &[], &dims, AXES);
        let value = self.scalar(id, &nest.dims, &nest.frame)?;
        let target = nest.frame.access(dst, &nest.places());
        let mut safe = true;
        accesses(&value, &mut |access| safe &= access.buffer != target.buffer || *access == target);
        if safe {
            self.emit_map(&nest, dst, value);
        }
        Ok(safe)
    }

    fn fill_stack(&mut self, dst: &Tile, parts: &[ExprId], indices: &[IndexId]) -> Result<()> {
        let mut from = Int::from(0i64);
        for &part in parts {
            let extent = self.extents(part).last().cloned().unwrap_or(Int::from(1i64));
            let mut place = dst.clone();
            if let Some(last) = place.dims.last_mut() {
                place.offset = place.offset + from.clone() * last.stride.clone();
                last.extent = extent.clone();
            }
            self.fill(&place, part, indices)?;
            from = from + extent;
        }
        Ok(())
    }

    fn fill_flat(&mut self, dst: &Tile, arg: ExprId, indices: &[IndexId]) -> Result<()> {
        let extents = self.extents(arg);
        let mut place = dst.clone();
        let Some(last) = place.dims.pop() else { return self.fill(dst, arg, indices) };
        let dense = Tile::dense(dst.buffer, 0i64, &extents);
        place.dims.extend(dense.dims.into_iter().map(|mut dim| {
            dim.stride = dim.stride * last.stride.clone();
            dim
        }));
        self.fill(&place, arg, indices)
    }

    fn fill_fold(&mut self, dst: &Tile, id: ExprId, (op, arg): (FoldOp, ExprId), indices: &[IndexId]) -> Result<()> {
        let mut dims = self.extents(arg);
        let inner = dims.pop().unwrap_or(Int::from(1i64));
        let nest = self.nest(id, indices, &dims, AXES);
        let (frame, last) = nest.inner();
        let at: Vec<At> = nest.dims.iter().cloned().chain([last]).collect();
        let twice = op == FoldOp::Norm2;
        let value = self.operand(arg, &at, &frame, twice)?;
        let mean = Value::Int(inner.clone());
        let (reduce, value) = match op {
            FoldOp::Sum | FoldOp::Mean => (ReduceOp::Sum, value),
            FoldOp::Max => (ReduceOp::Max, value),
            FoldOp::Min => (ReduceOp::Min, value),
            FoldOp::Norm2 => (ReduceOp::Sum, call(Function::Mul, [value.clone(), value])),
        };
        let finish: Option<Box<dyn FnOnce(Value) -> Value>> = match op {
            FoldOp::Mean => Some(Box::new(move |x| call(Function::Div, [x, mean]))),
            FoldOp::Norm2 => Some(Box::new(|x| call(Function::Sqrt, [x]))),
            _ => None,
        };
        let Some(finish) = finish else {
            self.emit_reduce(&nest, dst, (reduce, inner), value);
            return Ok(());
        };
        let sum = self.room(id, "fold", indices);
        self.emit_reduce(&nest, &sum, (reduce, inner), value);
        let loaded = Value::Load(nest.frame.access(&sum, &nest.places()));
        self.emit_map(&nest, dst, finish(loaded));
        Ok(())
    }

    /// Row statistics over the last axis of a node: `op` over `value(x)`, as a tile of the leading dims.
    fn along_last(
        &mut self,
        (id, x): (ExprId, &Tile),
        op: ReduceOp,
        indices: &[IndexId],
        value: &OfElement,
    ) -> Result<Tile> {
        let mut dims = self.extents(id);
        let inner = dims.pop().unwrap_or(Int::from(1i64));
        let mut extents: Vec<Int> = indices.iter().map(|&index| self.index_size(index)).collect();
        extents.extend(dims.iter().cloned());
        let dst = self.room_of("statistic", &extents);
        let nest = self.nest(id, indices, &dims, AXES);
        let (frame, last) = nest.inner();
        let outer = nest.places();
        let element: Vec<At> = outer.iter().cloned().chain([last]).collect();
        let loaded = Value::Load(frame.access(x, &element));
        let value = value(loaded, &|tile| Value::Load(frame.access(tile, &outer)));
        self.emit_reduce(&nest, &dst, (op, inner), value);
        Ok(dst)
    }

    /// The argument of a row-wise operation, with the indices in force as its first dims.
    fn argument(&mut self, arg: ExprId, indices: &[IndexId]) -> Result<Tile> {
        if self.arena.free_own(arg) == indices {
            if let Some(tile) = self.view(arg)? {
                return Ok(tile);
            }
            if self.home(arg) != self.level() || self.arena.uses(arg) > 1 {
                return self.tile(arg);
            }
        }
        let tile = self.room(arg, "argument", indices);
        self.fill(&tile, arg, indices)?;
        Ok(tile)
    }

    fn fill_softmax_axis(&mut self, dst: &Tile, id: ExprId, arg: ExprId, indices: &[IndexId]) -> Result<()> {
        let x = self.argument(arg, indices)?;
        let maximum = self.along_last((id, &x), ReduceOp::Max, indices, &|x, _| x)?;
        let weights = self.room(id, "softmax", indices);
        let dims = self.extents(id);
        let nest = self.nest(id, indices, &dims, AXES);
        let places = nest.places();
        let outer = &places[..places.len() - 1];
        let load = |tile: &Tile, at: &[At]| Value::Load(nest.frame.access(tile, at));
        let shifted = call(Function::Sub, [load(&x, &places), finite(load(&maximum, outer))]);
        self.emit_map(&nest, &weights, call(Function::Exp, [shifted]));
        let total = self.along_last((id, &weights), ReduceOp::Sum, indices, &|x, _| x)?;
        let value = call(Function::Div, [load(&weights, &places), at_least_one(load(&total, outer))]);
        self.emit_map(&nest, dst, value);
        Ok(())
    }

    fn fill_normalise(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (norm, arg): (Norm, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let x = self.argument(arg, indices)?;
        let dims = self.extents(id);
        let n = Value::Int(dims.last().cloned().unwrap_or(Int::from(1i64)));
        let mean = match norm.kind {
            NormKind::Layer => Some(self.along_last((id, &x), ReduceOp::Sum, indices, &|x, _| x)?),
            _ => None,
        };
        let centred = |x: Value, at: &dyn Fn(&Tile) -> Value| match &mean {
            Some(sum) => call(Function::Sub, [x, call(Function::Div, [at(sum), n.clone()])]),
            None => x,
        };
        let squares = self.along_last((id, &x), ReduceOp::Sum, indices, &|x, at| {
            let x = centred(x, at);
            call(Function::Mul, [x.clone(), x])
        })?;
        let scale = self.norm_scale(id, norm, &squares, indices)?;
        let nest = self.nest(id, indices, &dims, AXES);
        let places = nest.places();
        let outer = &places[..places.len() - 1];
        let at = |tile: &Tile| Value::Load(nest.frame.access(tile, outer));
        let value = centred(Value::Load(nest.frame.access(&x, &places)), &at);
        self.emit_map(&nest, dst, call(Function::Div, [value, at(&scale)]));
        Ok(())
    }

    /// What a norm divides by, from the sum of squares.
    fn norm_scale(&mut self, id: ExprId, norm: Norm, squares: &Tile, indices: &[IndexId]) -> Result<Tile> {
        let mut dims = self.extents(id);
        let n = Value::Int(dims.pop().unwrap_or(Int::from(1i64)));
        let nest = self.nest(id, indices, &dims, AXES);
        let sum = Value::Load(nest.frame.access(squares, &nest.places()));
        let eps = Value::Const(norm.eps);
        let mean = || call(Function::Div, [sum.clone(), n.clone()]);
        let scale = match norm.kind {
            NormKind::Rms | NormKind::Layer => call(Function::Sqrt, [call(Function::Add, [mean(), eps])]),
            NormKind::Srms => call(Function::Max, [call(Function::Sqrt, [mean()]), eps]),
            NormKind::L2 => call(Function::Sqrt, [call(Function::Add, [sum.clone(), eps])]),
        };
        // A buffer of its own: the sum may be wanted by nobody else, but a map in place would tie two statements.
        self.emit_map(&nest, squares, scale);
        Ok(squares.clone())
    }
}

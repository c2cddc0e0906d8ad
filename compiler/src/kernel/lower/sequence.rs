//! What reaches beyond one token: a let's whole sequence, reductions over all tokens, convolutions; and `rope`, which needs
//! the position.

use std::f64::consts::TAU;

use chunkwise_dsl::typed::{Domain, ExprId, ExprKind, Function, IndexId, LetId, ReduceOp as Over};

use crate::kernel::{Int, Map, Reduce, ReduceOp, Stmt, Value};

use super::arena::refusal;
use super::emit::call;
use super::fused::{Place, crooked};
use super::reduce::reduction;
use super::tile::{At, Frame, Tile};
use super::{Lowering, Part, Result, Rows};

/// Rows of a pass over all tokens.
const BLOCK: i64 = 64;
/// Taps up to which a convolution is one fused sum.
const TAPS: i64 = 8;

impl Lowering<'_> {
    /// A pass over all tokens, in blocks, in the outermost scope.
    fn over_tokens(&mut self, body: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.at_level(0, |outer| {
            let first = outer.var();
            let tokens = outer.tokens();
            let count = (tokens.clone() - Int::Var(first)).min(BLOCK);
            outer.open(Rows { first: Int::Var(first), count, capacity: Int::from(BLOCK) });
            let done = body(outer);
            let statements = outer.close();
            let step = Int::from(BLOCK);
            outer.push(Stmt::For { var: first, from: Int::from(0i64), to: tokens, step, body: statements });
            done
        })
    }

    /// All entries of a let with indices: their axes, then the value's.
    pub(super) fn whole_let(&mut self, of: LetId) -> Result<Tile> {
        let binding = self.variant.lets[of.index()].clone();
        let value = self.arena.let_value(of)?;
        if self.arena.is_scan(value) {
            let what = format!("`{}` at another token", binding.name);
            return Err(refusal(&what, "it belongs to the scan, which knows it at its own token only", binding.span));
        }
        let mut dims: Vec<_> = binding.indices.iter().map(|i| self.variant.indices[i.index()].size.clone()).collect();
        dims.extend(binding.ty.dims());
        let ty = chunkwise_dsl::typed::Ty::Array(dims.clone());
        let id = self.arena.intern(ExprKind::Let(of), ty, binding.span);
        if let Some(tile) = self.find(id, Part::Value) {
            return Ok(tile.clone());
        }
        let extents: Vec<Int> = dims.iter().map(|size| self.size(size)).collect();
        let tile = self.at_level(0, |outer| outer.room_of(&binding.name, &extents));
        let own: Vec<IndexId> = binding.indices.iter().copied().filter(|&i| !self.arena.is_token(i)).collect();
        match binding.indices.iter().position(|&i| self.arena.is_token(i)) {
            Some(place) => self.over_tokens(|pass| {
                let mut dst = tile.clone();
                let dim = dst.dims.remove(place);
                let first = pass.rows().map_or(Int::from(0i64), |rows| rows.first.clone());
                dst.offset = dst.offset + first * dim.stride.clone();
                dst.row = dim.stride;
                pass.fill(&dst, value, &own)
            })?,
            None => self.at_level(0, |outer| outer.fill(&tile, value, &own))?,
        }
        self.at_level(0, |outer| outer.remember(id, Part::Value, &tile));
        Ok(tile)
    }

    /// A reduction over all tokens of what depends on one.
    pub(super) fn fill_over_tokens(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (op, domain, body): (Over, Domain, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let span = self.arena.expr(id).span;
        if op == Over::Argmax || self.arena.is_scan(body) || self.level() != 0 {
            return Err(refusal("this reduction over tokens", "it is no plain pass over the sequence", span));
        }
        let (reduce, none) = reduction(op);
        let dims = self.extents(id);
        let total = self.room(id, "total", indices);
        let nest = self.nest(id, indices, &dims, 3);
        let target = nest.frame.access(&total, &nest.places());
        self.emit(&nest, Stmt::Map(Map::new(nest.axes.clone(), target, Value::Const(none))));
        let counted = op == Over::Mean && domain.filter.is_some();
        let count = self.room_of("count", &[]);
        if counted {
            let dst = crate::kernel::Access::new(count.buffer, 0i64, []);
            self.push(Stmt::Map(Map::new(Vec::new(), dst, Value::Const(0.0))));
        }
        self.over_tokens(|pass| {
            pass.add_tokens((body, domain.filter), (reduce, none), &total, indices)?;
            if counted { pass.add_tokens((None::<ExprId>, domain.filter), (reduce, none), &count, &[]) } else { Ok(()) }
        })?;
        let nest = self.nest(id, indices, &dims, 3);
        let mut value = Value::Load(nest.frame.access(&total, &nest.places()));
        if op == Over::Mean {
            let tokens = self.tokens();
            let number = if counted { Value::Load(nest.frame.access(&count, &[])) } else { Value::Int(tokens) };
            value = call(Function::Div, [value, call(Function::Max, [number, Value::Const(1.0)])]);
        }
        let target = nest.frame.access(dst, &nest.places());
        self.emit(&nest, Stmt::Map(Map::new(nest.axes.clone(), target, value)));
        Ok(())
    }

    /// total = op(total, op over the block's rows of body), a body of none being 1.
    fn add_tokens(
        &mut self,
        (body, filter): (impl Into<Option<ExprId>>, Option<ExprId>),
        (op, none): (ReduceOp, f64),
        total: &Tile,
        indices: &[IndexId],
    ) -> Result<()> {
        let body = body.into();
        let dims = body.map_or(Vec::new(), |body| self.extents(body));
        let mut extents: Vec<Int> = indices.iter().map(|&index| self.index_size(index)).collect();
        extents.extend(dims.iter().cloned());
        let partial = self.at_level(0, |outer| outer.room_of("partial", &extents));
        let mut frame = Frame { rank: extents.len() + 1, row: At::axis(extents.len()), env: Default::default() };
        let places: Vec<At> = (0..extents.len()).map(At::axis).collect();
        frame.env.extend(indices.iter().copied().zip(places.iter().cloned()));
        let value = match body {
            Some(body) => self.operand(body, &places[indices.len()..], &frame, false)?,
            None => Value::Const(1.0),
        };
        let value = match filter {
            Some(filter) => {
                let holds = self.operand(filter, &[], &frame, true)?;
                Value::Select(Box::new(holds), Box::new(value), Box::new(Value::Const(none)))
            }
            None => value,
        };
        let plain = Frame { rank: extents.len(), row: At::constant(0i64), env: Default::default() };
        let inner = self.rows().map_or(Int::from(1i64), |rows| rows.count.clone());
        let dst = plain.access(&partial, &places);
        self.push(Stmt::Reduce(Reduce { axes: extents.clone(), inner, op, dst: dst.clone(), value }));
        let target = plain.access(total, &places);
        let function = match op {
            ReduceOp::Sum => Function::Add,
            ReduceOp::Max | ReduceOp::Most => Function::Max,
            ReduceOp::Min => Function::Min,
            ReduceOp::Product => Function::Mul,
        };
        let value = call(function, [Value::Load(target.clone()), Value::Load(dst)]);
        self.push(Stmt::Map(Map::new(extents, target, value)));
        Ok(())
    }

    /// Whether a convolution with these weights is one fused sum.
    pub(super) fn has_few_taps(&mut self, weights: ExprId) -> bool {
        matches!(self.extents(weights).last(), Some(Int::Const(n)) if *n <= TAPS)
    }

    /// y[t] = sum over n of w[.., n] * x[t - N + 1 + n]; nothing before token 0 is read.
    pub(super) fn convolved(&mut self, arg: ExprId, weights: ExprId, at: &[At], frame: &Frame) -> Result<Value> {
        let Some(Int::Const(taps)) = self.extents(weights).last().cloned() else {
            return Err(crooked(self.arena.expr(weights).span));
        };
        let mut sum = None;
        for n in 0..taps {
            let term = self.tap((arg, weights), At::constant(n), at, frame)?;
            sum = Some(match sum {
                Some(left) => call(Function::Add, [left, term]),
                None => term,
            });
        }
        Ok(sum.unwrap_or(Value::Const(0.0)))
    }

    fn tap(&mut self, (arg, weights): (ExprId, ExprId), n: At, at: &[At], frame: &Frame) -> Result<Value> {
        let span = self.arena.expr(arg).span;
        let taps = self.extents(weights).last().cloned().unwrap_or(Int::from(1i64));
        let length = self.extents(arg).first().cloned().unwrap_or(Int::from(0i64));
        let Some((token, rest)) = at.split_first() else { return Err(crooked(span)) };
        let from = token.plus(&n).minus(&At::constant(taps - 1i64));
        let mut places = vec![Place { at: from, within: Some(length) }];
        places.extend(rest.iter().map(|at| Place { at: at.clone(), within: None }));
        let tile = self.tile(arg)?;
        let x = self.load_within(&tile, &places, frame).ok_or_else(|| crooked(span))?;
        let mut weight_at = rest.to_vec();
        let rank = self.arena.dims(weights).len();
        weight_at.truncate(rank.saturating_sub(1));
        weight_at.push(n);
        let w = self.operand(weights, &weight_at, frame, true)?;
        Ok(call(Function::Mul, [w, x]))
    }

    /// The convolution of a whole sequence, as a reduction over its taps.
    pub(super) fn fill_conv(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (arg, weights): (ExprId, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let dims = self.extents(id);
        let inner = self.extents(weights).last().cloned().unwrap_or(Int::from(1i64));
        let nest = self.nest(id, indices, &dims, 3);
        let (frame, last) = nest.inner();
        let value = self.tap((arg, weights), last, &nest.dims, &frame)?;
        self.emit_reduce(&nest, dst, (ReduceOp::Sum, inner), value);
        Ok(())
    }

    /// The pairs of a vector turned by `at * base^(-2n/K)`.
    pub(super) fn fill_rope(
        &mut self,
        dst: &Tile,
        id: ExprId,
        [arg, at, base]: [ExprId; 3],
        indices: &[IndexId],
    ) -> Result<()> {
        let mut dims = self.extents(id);
        let span = self.arena.expr(id).span;
        let Some(length) = dims.pop() else { return Err(crooked(span)) };
        dims.push(length.clone().floor_div(2i64));
        let turns = self.turns(id, base, &length)?;
        let nest = self.nest(id, indices, &dims, 3);
        let pair = nest.dims.last().cloned().unwrap_or_default();
        let lines = self.arena.dims(at).len();
        let at = self.operand(at, &nest.dims[..lines.min(nest.dims.len())], &nest.frame, true)?;
        let angle = self.angle(at, base, (&turns, &pair), &length, &nest.frame)?;
        for odd in 0..2i64 {
            let element = |odd: i64| {
                let mut places = nest.dims.clone();
                if let Some(last) = places.last_mut() {
                    *last = pair.times(&Int::from(2i64)).plus(&At::constant(odd));
                }
                places
            };
            let same = self.operand(arg, &element(odd), &nest.frame, true)?;
            let other = self.operand(arg, &element(1 - odd), &nest.frame, true)?;
            let (cos, sin) = (call(Function::Cos, [angle.clone()]), call(Function::Sin, [angle.clone()]));
            let function = if odd == 0 { Function::Sub } else { Function::Add };
            let value = call(function, [call(Function::Mul, [same, cos]), call(Function::Mul, [other, sin])]);
            let places: Vec<At> = nest.indices.iter().cloned().chain(element(odd)).collect();
            let target = nest.frame.access(dst, &places);
            self.emit(&nest, Stmt::Map(Map::new(nest.axes.clone(), target, value)));
        }
        if matches!(length, Int::Const(n) if n % 2 == 1) {
            self.fill_last(dst, id, arg, indices)?;
        }
        Ok(())
    }

    /// The last element as it is: an odd one has no partner.
    fn fill_last(&mut self, dst: &Tile, id: ExprId, arg: ExprId, indices: &[IndexId]) -> Result<()> {
        let mut dims = self.extents(id);
        let last = dims.pop().map_or(At::default(), |length| At::constant(length - 1i64));
        let nest = self.nest(id, indices, &dims, 3);
        let at: Vec<At> = nest.dims.iter().cloned().chain([last.clone()]).collect();
        let value = self.operand(arg, &at, &nest.frame, true)?;
        let places: Vec<At> = nest.places().into_iter().chain([last]).collect();
        let target = nest.frame.access(dst, &places);
        self.emit(&nest, Stmt::Map(Map::new(nest.axes.clone(), target, value)));
        Ok(())
    }

    /// Turns per position of every pair, split so that the first part times a position below 4096 is exact: an f32 angle
    /// of many turns would lose the digits that the sine needs. None where the base is no constant.
    fn turns(&mut self, id: ExprId, base: ExprId, length: &Int) -> Result<Option<(Tile, Tile)>> {
        let ExprKind::Number(base) = self.arena.expr(base).kind else { return Ok(None) };
        let Int::Const(length) = *length else { return Ok(None) };
        let key = |part| (id, part);
        if let (Some(high), Some(low)) = (self.find(key(Part::Turns).0, Part::Turns), self.find(id, Part::TurnsRest)) {
            return Ok(Some((high.clone(), low.clone())));
        }
        Ok(self.at_level(0, |outer| {
            let extents = [Int::from(length / 2)];
            let (high, low) = (outer.room_of("turns", &extents), outer.room_of("rest", &extents));
            for n in 0..length / 2 {
                let turn = base.powf(-2.0 * n as f64 / length as f64) / TAU;
                let kept = head(turn);
                for (tile, value) in [(&high, kept), (&low, turn - kept)] {
                    let dst = crate::kernel::Access::new(tile.buffer, n, []);
                    outer.push(Stmt::Map(Map::new(Vec::new(), dst, Value::Const(value))));
                }
            }
            outer.remember(id, Part::Turns, &high);
            outer.remember(id, Part::TurnsRest, &low);
            Some((high, low))
        }))
    }

    fn angle(
        &mut self,
        at: Value,
        base: ExprId,
        (turns, pair): (&Option<(Tile, Tile)>, &At),
        length: &Int,
        frame: &Frame,
    ) -> Result<Value> {
        if let Some((high, low)) = turns {
            let load = |tile: &Tile| Value::Load(frame.access(tile, std::slice::from_ref(pair)));
            let whole = call(Function::Mul, [at.clone(), load(high)]);
            let part = call(Function::Mod, [whole, Value::Const(1.0)]);
            let turn = call(Function::Add, [part, call(Function::Mul, [at, load(low)])]);
            return Ok(call(Function::Mul, [turn, Value::Const(TAU)]));
        }
        let base = self.operand(base, &[], frame, true)?;
        let exponent = call(Function::Div, [pair.times(&Int::from(-2i64)).number(), Value::Int(length.clone())]);
        Ok(call(Function::Mul, [at, call(Function::Pow, [base, exponent])]))
    }
}

/// The number's first 12 bits.
pub(super) fn head(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & !((1u64 << 41) - 1))
}

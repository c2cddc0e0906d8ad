//! Subscripts: positions that are sums, quotients and the like of indices make a view, what the data give is looked up.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, IndexId, LetValue};

use super::build::{Builder, Result, refusal};
use super::index::Index;
use super::view::{Label, View, position, union};
use super::{Fold, Op};

impl Builder<'_> {
    pub(super) fn subscript(&mut self, base: ExprId, at: &[ExprId]) -> Result<View> {
        if let ExprKind::Let(of) = self.variant.expr(base).kind
            && let LetValue::Iterate { to, .. } = self.variant.lets[of.index()].value
            && !matches!(at.first().map(|at| &self.variant.expr(*at).kind), Some(ExprKind::Number(n)) if *n == to as f64)
        {
            let span = self.variant.expr(base).span;
            return Err(refusal("an entry of an iterated let before its last", "only the last one is kept", span));
        }
        let view = self.view(base)?;
        let mut free = view.free.clone();
        let given = |at: &&ExprId| !self.is_positional(**at);
        let computed: Vec<ExprId> = at.iter().filter(given).copied().collect();
        at.iter().filter(|at| !given(at)).for_each(|at| self.free_in(*at, &mut free));
        let free = union([free.as_slice()]);
        let mut rest = view.dims[at.len().min(view.dims.len())..].to_vec();
        let whole = rest.len();
        let mut places = Vec::new();
        let mut within = Vec::new();
        for (at, size) in at.iter().zip(&view.dims) {
            if computed.contains(at) {
                places.push(Index::Axis(free.len() + rest.len()));
                rest.push(size.clone());
                continue;
            }
            let place = self.index(*at, &free)?;
            let inside = self.is_inside(&place, size, &free);
            let kept = matches!(self.variant.expr(base).kind, ExprKind::Let(of)
                if matches!(self.variant.lets[of.index()].value, LetValue::Iterate { .. }));
            if !inside && !kept {
                within.push((place.clone(), size.clone()));
            }
            places.push(place);
        }
        let count = free.len();
        let mut result = view.over(free.clone(), rest, &|label| match label {
            Label::Free(index) => position(&free, index),
            Label::Dim(dim) => match places.get(dim) {
                Some(place) => place.clone(),
                None => Index::Axis(count + dim - places.len()),
            },
        });
        result.read.within.extend(within);
        let span = self.variant.expr(base).span;
        let last = |n: usize| Label::Dim(whole + n);
        let mut entries = computed.into_iter().enumerate().rev();
        entries.try_fold(result, |result, (n, at)| self.looked_up(&result, at, (last(n), span)))
    }

    /// The entry of the last dim at a position that the data give, 0 outside: the sum of all, each 0 where it is not at it.
    fn looked_up(&mut self, all: &View, at: ExprId, (last, span): (Label, Span)) -> Result<View> {
        let Label::Dim(dim) = last else { return Ok(all.clone()) };
        let at = self.view(at)?;
        let at = self.map(Function::Floor, &[at], span);
        let places = self.along(&all.dims[dim], span).reshaped(all.dims.clone(), &|_| Index::Axis(dim));
        let here = self.map(Function::Eq, &[at, places], span);
        let none = self.number(0.0);
        let entry = self.combine(Op::Select, &[here, all.clone(), none], span);
        Ok(self.fold(Fold::Sum, &entry, last, span))
    }

    /// Whether a subscript is a sum, a quotient and the like of indices and sizes.
    fn is_positional(&self, id: ExprId) -> bool {
        use Function::{Add, FloorDiv, Max, Min, Mod, Mul, Neg, Sub};
        match &self.variant.expr(id).kind {
            ExprKind::Index(_) | ExprKind::Coord { .. } | ExprKind::Size(_) => true,
            ExprKind::Number(n) => n.fract() == 0.0 && n.abs() < 1e15,
            ExprKind::Map { function: Neg | Add | Sub | Mul | FloorDiv | Mod | Min | Max, args } => {
                args.iter().all(|arg| self.is_positional(*arg))
            }
            _ => false,
        }
    }

    /// Whether a position surely lies within `0..size`: an index of that axis, or counted from its end.
    fn is_inside(&self, place: &Index, size: &Size, free: &[IndexId]) -> bool {
        let whole = |index: &Index| {
            matches!(index, Index::Axis(axis) if self.axis(&self.index_size(free[*axis])) == self.axis(size)
            || self.index_size(free[*axis]) == *size)
        };
        match place {
            Index::Axis(_) => whole(place),
            Index::Number(n) => size.as_constant().is_some_and(|size| (0..size).contains(n)),
            Index::Sub(last, at) => {
                **last == Index::size(&size.sub(&Size::constant(1))) && self.is_inside(at, size, free)
            }
            _ => false,
        }
    }

    /// The index variables that a position depends on.
    fn free_in(&self, id: ExprId, free: &mut Vec<IndexId>) {
        match &self.variant.expr(id).kind {
            ExprKind::Index(index) | ExprKind::Coord { index, .. } if !self.steps.contains_key(index) => {
                free.push(*index);
            }
            kind => kind.children().into_iter().for_each(|child| self.free_in(child, free)),
        }
    }

    /// A scalar expression as a position.
    fn index(&self, id: ExprId, free: &[IndexId]) -> Result<Index> {
        let expr = self.variant.expr(id);
        let gathers =
            || refusal("a subscript that is computed", "positions are sums and quotients of indices", expr.span);
        Ok(match &expr.kind {
            ExprKind::Index(index) => match self.steps.get(index) {
                Some(of) => Index::Step(*of),
                None => position(free, *index),
            },
            ExprKind::Coord { index, axis } => self.coordinate(*axis, position(free, *index), expr.span)?,
            ExprKind::Number(n) if n.fract() == 0.0 && n.abs() < 1e15 => Index::Number(*n as i64),
            ExprKind::Size(size) => Index::size(size),
            ExprKind::Map { function, args } => {
                let args = args.iter().map(|arg| self.index(*arg, free)).collect::<Result<Vec<_>>>()?;
                match (function, args.as_slice()) {
                    (Function::Neg, [a]) => Index::Number(0).minus(a.clone()),
                    (Function::Add, [a, b]) => a.clone().plus(b.clone()),
                    (Function::Sub, [a, b]) => a.clone().minus(b.clone()),
                    (Function::Mul, [a, b]) => a.clone().times(b.clone()),
                    (Function::FloorDiv, [a, b]) => a.clone().quotient(b.clone()),
                    (Function::Mod, [a, b]) => a.clone().remainder(b.clone()),
                    (Function::Min, [a, b]) => Index::Min(Box::new(a.clone()), Box::new(b.clone())),
                    (Function::Max, [a, b]) => Index::Max(Box::new(a.clone()), Box::new(b.clone())),
                    _ => return Err(gathers()),
                }
            }
            _ => return Err(gathers()),
        })
    }
}

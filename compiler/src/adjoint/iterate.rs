//! Iterated lets: their steps backwards, what they were at every step kept.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, LetId, LetKind, LetValue};

use super::{Adjoint, Result};

impl Adjoint<'_> {
    /// `V[s] = f(V[s-1])` for s in from..to: with W[r] the cotangent of V[to-r], W[r] = (what reads V[to-r]) + f' at
    /// s = to-r+1 of W[r-1].
    pub(super) fn iterate(
        &mut self,
        (id, direct): (LetId, LetId),
        (from, to): (i64, i64),
        (init, step): (ExprId, ExprId),
    ) -> Result<()> {
        let named = self.build.variant.lets[id.index()].clone();
        let s = named.indices[0];
        let (steps, span) = (to - from + 1, named.span);
        self.build.span = span;
        if !self.build.free(step).iter().all(|index| *index == s) || !self.build.free(init).is_empty() {
            return Err(self.refused("the gradient of this iteration", "it depends on an index beside its own"));
        }
        // Its cotangent is known of by place, and at every step by what it is there.
        let r = self.build.fresh(&Size::constant(steps + 1), "r");
        let last = self.build.number(to as f64);
        let all = self.build.whole(direct);
        let first = self.build.at(all, vec![last]);
        let ty = named.ty.clone();
        let value = LetValue::Iterate { from: 1, to: steps, init: first, step: first };
        let back =
            self.build.bind_value(&format!("d_{}_back", named.name), vec![r], ty.clone(), (LetKind::Let, false, value));

        // One step, of a cotangent that stands for any.
        let (at_s, one) = (self.build.index(s), self.build.number(1.0));
        let earlier = self.build.map(Function::Sub, &[at_s, one]);
        let whole = self.build.whole(id);
        let before = self.build.at(whole, vec![earlier]);
        let old = self.build.variant.exprs.iter().position(|expr| expr.kind == ExprKind::IterateOld(id));
        let Some(old) = old.map(|at| ExprId(at as u32)) else {
            return Err(self.refused("the gradient of this iteration", "its step does not use the one before"));
        };
        let back_old = self.build.expr(ExprKind::IterateOld(back), ty);
        let bound = self.whole_bounds(&[s]);
        let shares = self.shares.clone();
        self.iterated = Some(Vec::new());
        self.reverse(vec![(step, bound.clone(), back_old)])?;
        let found = self.iterated.take().unwrap_or_default();
        self.shares = shares;
        let mut through = self.build.number(0.0);
        for share in found {
            through = self.build.add(through, share);
        }
        let mut known = HashMap::from([(old, before)]);
        let through = self.build.replaced(through, &mut known);
        let (at_r, limit) = (self.build.index(r), self.build.number(to as f64 + 1.0));
        let undone = self.build.map(Function::Sub, &[limit, at_r]);
        let Some(through) = self.build.exchanged(through, &[(s, undone)].into_iter().collect()) else {
            return Err(self.refused("the gradient of this iteration", "its index stands in the place of a variable"));
        };
        let place = self.build.map(Function::Sub, &[last, at_r]);
        let read = self.build.at(all, vec![place]);
        let step_back = self.build.add(read, through);
        let value = LetValue::Iterate { from: 1, to: steps, init: first, step: step_back };
        self.build.variant.lets[back.index()].value = value;

        // What the steps hand on, with the cotangents known, and the first entry.
        let mut known = HashMap::from([(old, before)]);
        let step = self.build.replaced(step, &mut known);
        let cotangents = self.build.whole(back);
        let after = self.build.map(Function::Sub, &[last, at_s]);
        let at_step = self.build.at(cotangents, vec![after]);
        self.active.clear();
        let kept = self.constant.replace(id);
        let (low, high) = (self.build.number(from as f64), self.build.number(to as f64));
        let above = self.build.map(Function::Ge, &[at_s, low]);
        let below = self.build.map(Function::Le, &[at_s, high]);
        let within = self.build.map(Function::And, &[above, below]);
        let mut bound = bound;
        bound[0].domain.filter = Some(within);
        let done = self.reverse(vec![(step, bound, at_step)]);
        self.constant = kept;
        self.active.clear();
        done?;
        let end = self.build.number(steps as f64);
        let of_init = self.build.at(cotangents, vec![end]);
        self.reverse(vec![(init, Vec::new(), of_init)])
    }
}

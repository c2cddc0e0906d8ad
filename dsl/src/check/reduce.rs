//! Reductions over an index, and the softmax weight: what is bound, and over which tokens it ranges.

use std::collections::HashSet;

use crate::ast::{Expr as Ast, Ident, ReductionIndex};
use crate::shape::Size;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{Domain, ExprId, ExprKind, Function, IndexId, ReduceOp, Ty};

use super::scope::Scope;
use super::{Checked, Checker};

pub(super) const OPS: &[(&str, ReduceOp)] = &[
    ("sum", ReduceOp::Sum),
    ("mean", ReduceOp::Mean),
    ("max", ReduceOp::Max),
    ("min", ReduceOp::Min),
    ("prod", ReduceOp::Prod),
    ("argmax", ReduceOp::Argmax),
    ("count", ReduceOp::Count),
];

/// A bound index and whether it sees only what is visible from the left's token.
struct Bound {
    index: IndexId,
    visible_from: Option<IndexId>,
}

impl<'a> Checker<'a> {
    pub(super) fn reduction(
        &mut self,
        op: &Ident,
        indices: &'a [ReductionIndex],
        cond: Option<&'a Ast>,
        body: &'a Ast,
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        if op.name == "softmax" {
            return self.softmax_weight(indices, cond, body, span, scope);
        }
        let Some(op) = OPS.iter().find(|(name, _)| *name == op.name).map(|(_, op)| *op) else {
            let known = OPS.iter().map(|(name, _)| *name).chain(["softmax"]);
            let help = match nearest(&op.name, known) {
                Some(near) => format!("did you mean `{near}[...]`?"),
                None => "the reductions are sum, mean, max, min, prod, argmax, count and softmax".to_string(),
            };
            return self.fail("unknown-function", format!("no reduction `{}`", op.name), op.span, "not known", &help);
        };
        if op == ReduceOp::Argmax && indices.len() > 1 {
            let message = "argmax is over one index".to_string();
            return self.fail("wrong-arity", message, indices[1].name.span, "one too many", "");
        }
        let depth = scope.indices.len();
        let bound = self.bind_all(indices, cond, body, scope);
        let parts = bound.and_then(|bound| {
            let filter = cond.map(|cond| self.filter(cond, scope));
            let body_id = self.expr(body, scope);
            let filter = match filter {
                Some(filter) => Some(filter?),
                None => None,
            };
            Some((bound, filter, body_id?))
        });
        scope.indices.truncate(depth);
        let (bound, filter, body_id) = parts?;
        self.reduce(op, &bound, filter, body_id, body.span, span)
    }

    /// Brings the reduction's indices into force.
    fn bind_all(
        &mut self,
        indices: &'a [ReductionIndex],
        cond: Option<&'a Ast>,
        body: &'a Ast,
        scope: &mut Scope<'a>,
    ) -> Checked<Vec<Bound>> {
        let within: Vec<&'a Ast> = std::iter::once(body).chain(cond).collect();
        let mut bound = Vec::new();
        for index in indices {
            let name = &index.name;
            let size = self.index_size(name, index.axis.as_ref(), &within, scope)?;
            self.no_batch_axis(&size, index)?;
            let visible = cond.is_none() && self.is_token_size(&size);
            let viewer = if visible { self.viewer(&name.name, scope) } else { None };
            let id = self.bind_index(&name.name, size, scope);
            bound.push(Bound { index: id, visible_from: viewer });
            scope.indices.push((name.name.clone(), id));
        }
        Some(bound)
    }

    /// Equations are for one batch element, so that there is nothing to reduce over.
    fn no_batch_axis(&mut self, size: &Size, index: &ReductionIndex) -> Checked<()> {
        let Some(axis) = self.batch_axis(size) else { return Some(()) };
        let span = index.axis.as_ref().map_or(index.name.span, |named| index.name.span.to(named.span));
        let message = format!("`{axis}` is a batch axis, and is never reduced over");
        let help = "equations are for one batch element and one head: to reduce over heads, declare them as an ordinary axis under another name, `axes A; input q : [B,T,A,K];`";
        self.fail("batch-axis-reduced", message, span, "ranges over a batch axis", help)
    }

    fn filter(&mut self, cond: &'a Ast, scope: &mut Scope<'a>) -> Checked {
        let id = self.expr(cond, scope)?;
        self.condition(id, cond.span)
    }

    fn reduce(
        &mut self,
        op: ReduceOp,
        bound: &[Bound],
        filter: Option<ExprId>,
        body: ExprId,
        body_span: Span,
        span: Span,
    ) -> Checked {
        if op == ReduceOp::Prod && self.ty(body).dims().len() > 1 {
            let ty = self.ty(body);
            let found = self.type_text(&ty);
            let message = format!("`prod` is of numbers, not of {found}");
            let help = "a product of matrices is an iteration: `let P[s] = A[s-1] * P[s-1] for s in 1..n from eye(K);`";
            return self.fail("prod-of-matrices", message, body_span, &format!("{found} here"), help);
        }
        let body = if op == ReduceOp::Count { self.condition(body, body_span)? } else { self.numeric(body) };
        if op == ReduceOp::Argmax && !self.ty(body).is_scalar() {
            let ty = self.ty(body);
            let found = self.type_text(&ty);
            let message = format!("argmax compares scalars, not {found}");
            return self.fail("not-a-scalar", message, body_span, &format!("{found} here"), "");
        }
        if op == ReduceOp::Mean && bound.len() > 1 {
            return self.mean_of_many(bound, filter, body, span);
        }
        // Several indices nest: the innermost carries the condition, which may mention all of them.
        let mut value = body;
        let mut inner_op = op;
        for (place, one) in bound.iter().enumerate().rev() {
            let filter = filter.filter(|_| place + 1 == bound.len());
            let ty = if inner_op == ReduceOp::Count { Ty::scalar() } else { self.ty(value) };
            let ty = if inner_op == ReduceOp::Argmax { Ty::scalar() } else { ty };
            let domain = Domain { visible_from: one.visible_from, filter };
            value = self.node(ExprKind::Reduce { op: inner_op, index: one.index, domain, body: value }, ty, span);
            if op == ReduceOp::Count {
                inner_op = ReduceOp::Sum;
            }
        }
        Some(value)
    }

    /// The mean over several indices is the sum over the count, not a mean of means: a condition may differ between them.
    fn mean_of_many(&mut self, bound: &[Bound], filter: Option<ExprId>, body: ExprId, span: Span) -> Checked {
        let sum = self.reduce(ReduceOp::Sum, bound, filter, body, span, span)?;
        let everyone = self.node(ExprKind::Bool(true), Ty::Bool, span);
        let count = self.reduce(ReduceOp::Count, bound, filter, everyone, span, span)?;
        let one = self.number_node(1.0, span);
        let count = self.map(Function::Max, &[count, one], span)?;
        self.map(Function::Div, &[sum, count], span)
    }

    /// `softmax[j](e)`: the weight at j, an index in force, normalised over a copy of it.
    fn softmax_weight(
        &mut self,
        indices: &'a [ReductionIndex],
        cond: Option<&'a Ast>,
        body: &'a Ast,
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        let [ReductionIndex { name, axis }] = indices else {
            let message = "softmax is over one index".to_string();
            return self.fail("wrong-arity", message, span, "several here", "write `softmax[j](...)`");
        };
        let Some(index) = scope.index(&name.name) else {
            let message = format!("`softmax[{0}]` is the weight at {0}, and no {0} is bound here", name.name);
            let help = format!(
                "put it on the left (`p[i,{0}] = softmax[{0}](...)`) or around it (`sum[{0}](...)`)",
                name.name
            );
            return self.fail("index-not-bound", message, name.span, "not bound", &help);
        };
        if let Some(axis) = axis {
            self.index_size(name, Some(axis), &[], scope)?;
        }
        let at = self.expr(body, scope);
        let filter = cond.map(|cond| self.filter(cond, scope));
        let at = at?;
        let at = self.numeric(at);
        let filter = match filter {
            Some(filter) => Some(filter?),
            None => None,
        };
        if !self.ty(at).is_scalar() {
            let ty = self.ty(at);
            let found = self.type_text(&ty);
            let help = "a softmax over a vector's own entries is `softmax(x)`";
            let message = format!("softmax[{}] weighs by a scalar, not {found}", name.name);
            return self.fail("not-a-scalar", message, body.span, &format!("{found} here"), help);
        }
        let size = self.variant.indices[index.index()].size.clone();
        let visible_from =
            if cond.is_none() && self.is_token_size(&size) { self.viewer(&name.name, scope) } else { None };
        let bound = self.softmax_copy(index, at);
        let over = self.renamed(at, index, bound);
        let filter = filter.map(|filter| self.renamed(filter, index, bound));
        let domain = Domain { visible_from, filter };
        Some(self.node(ExprKind::Softmax { index, bound, domain, over, at }, Ty::scalar(), span))
    }

    /// The bound copy of a softmax's index: always the same one, so that equal softmaxes are one node, unless a softmax
    /// inside has taken it.
    fn softmax_copy(&mut self, index: IndexId, body: ExprId) -> IndexId {
        let copies = self.copies.get(&index).cloned().unwrap_or_default();
        if let Some(free) = copies.into_iter().find(|copy| !self.binds(body, *copy)) {
            return free;
        }
        let known = self.variant.indices[index.index()].clone();
        let copy = self.fresh_index(&known.name, known.size);
        self.copies.entry(index).or_default().push(copy);
        copy
    }

    fn binds(&self, root: ExprId, index: IndexId) -> bool {
        let (mut open, mut seen) = (vec![root], HashSet::new());
        while let Some(id) = open.pop() {
            let kind = &self.arena.get(id).kind;
            if matches!(kind, ExprKind::Softmax { bound, .. } if *bound == index) {
                return true;
            }
            if seen.insert(id) {
                open.extend(kind.children());
            }
        }
        false
    }

    /// The left's token from which a reduction over an index looks: the first of another name, so that in an equation
    /// for x[i] or x[i,j] a sum over j looks from i.
    fn viewer(&self, index: &str, scope: &Scope<'a>) -> Option<IndexId> {
        let mut left = scope.indices[..scope.left].iter().filter(|(name, _)| name != index).map(|(_, id)| *id);
        left.find(|id| self.variant.indices[id.index()].token)
    }

    /// The expression with one index in place of another.
    fn renamed(&mut self, id: ExprId, from: IndexId, to: IndexId) -> ExprId {
        self.arena.rewrite(id, &|kind| match kind {
            ExprKind::Index(index) if *index == from => Some(ExprKind::Index(to)),
            ExprKind::Coord { index, axis } if *index == from => Some(ExprKind::Coord { index: to, axis: *axis }),
            ExprKind::Rope2d { arg, index } if *index == from => Some(ExprKind::Rope2d { arg: *arg, index: to }),
            ExprKind::Softmax { index, bound, domain, over, at } if *index == from => {
                Some(ExprKind::Softmax { index: to, bound: *bound, domain: domain.clone(), over: *over, at: *at })
            }
            ExprKind::Reduce { op, index, domain, body } if domain.visible_from == Some(from) => {
                let domain = Domain { visible_from: Some(to), filter: domain.filter };
                Some(ExprKind::Reduce { op: *op, index: *index, domain, body: *body })
            }
            _ => None,
        })
    }
}

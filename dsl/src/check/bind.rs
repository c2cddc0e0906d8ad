//! Lets: equations per token, per pair or for the whole sequence, feature maps, and iterations.

use std::collections::HashMap;

use crate::ast::{self, ExprKind as Ast, Ident, Iterate, Lhs};
use crate::shape::Size;
use crate::source::Span;
use crate::typed::{ExprId, ExprKind, Function, IndexId, Let, LetId, LetKind, LetValue, Norm, NormKind, Stmt, Ty};

use super::scope::{Argument, Binding, Callee, Scope};
use super::{Checked, Checker};

impl<'a> Checker<'a> {
    pub(super) fn let_statement(&mut self, lhs: &'a Lhs, value: &'a ast::Expr) {
        let done = match self.called(value) {
            Some(call) => self.one_result(lhs, call, value.span),
            None => self.define(lhs, value, LetKind::Let).map(drop),
        };
        if done.is_none() {
            self.poison(&lhs.name);
        }
    }

    /// `name[indices] = value` as a let that what follows sees.
    pub(super) fn define(&mut self, lhs: &'a Lhs, value: &'a ast::Expr, kind: LetKind) -> Checked<LetId> {
        let mut scope = self.left_scope(&lhs.subscripts, Some(value))?;
        let id = self.expr(value, &mut scope)?;
        let id = self.numeric(id);
        let indices: Vec<IndexId> = scope.indices.iter().map(|(_, id)| *id).collect();
        let found = self.new_let(&lhs.name, kind, indices, id, scope.token)?;
        self.shadow(&lhs.name, Binding::Let(found))?;
        Some(found)
    }

    /// Adds a let and its statement. `token` is the equation's token.
    pub(super) fn new_let(
        &mut self,
        name: &Ident,
        kind: LetKind,
        indices: Vec<IndexId>,
        value: ExprId,
        token: Option<IndexId>,
    ) -> Checked<LetId> {
        let depends = self.arena.depends(value);
        if depends.scan {
            self.inside_scan(name, value)?;
            if indices.first().copied() != token {
                let message = format!("`{}` mentions a state, so it belongs to the scan", name.name);
                let help = "its first index is the token's: `let x[t] = ...;`";
                return self.fail("scan-let-subscript", message, name.span, "not written per token", help);
            }
        }
        let ty = self.ty(value);
        let id = self.push_let(Let {
            name: name.name.clone(),
            span: name.span,
            kind,
            indices,
            ty,
            scan: depends.scan,
            value: LetValue::Expr(value),
        });
        self.variant.body.push(if kind == LetKind::Read { Stmt::Read(id) } else { Stmt::Let(id) });
        Some(id)
    }

    pub(super) fn push_let(&mut self, value: Let) -> LetId {
        let id = LetId(u32::try_from(self.variant.lets.len()).expect("a file has fewer than 2^32 lets"));
        self.variant.lets.push(value);
        id
    }

    /// What is computed in the scan cannot use the read-out: orders merge it after the scan.
    pub(super) fn inside_scan(&mut self, name: &Ident, value: ExprId) -> Checked<()> {
        if !self.arena.depends(value).read {
            return Some(());
        }
        let message = format!("`{}` belongs to the scan, and the read-out exists only after it", name.name);
        let help = "use the states themselves, or write it after the scan without them";
        self.fail("read-in-scan", message, self.span(value), "uses what `read` gives", help)
    }

    pub(super) fn iterate(&mut self, lhs: &'a Lhs, value: &'a ast::Expr, iterate: &'a Iterate) {
        if self.define_iteration(lhs, value, iterate).is_none() {
            self.poison(&lhs.name);
        }
    }

    fn define_iteration(&mut self, lhs: &'a Lhs, value: &'a ast::Expr, iterate: &'a Iterate) -> Checked<()> {
        let s = &iterate.index;
        let per_token = lhs.subscripts.len() > 1;
        if per_token {
            let message = "an iteration per token is not supported yet".to_string();
            let help = "write its steps out as lets: `let P1[t] = ...; let P2[t] = ... P1[t] ...;`";
            return self.fail("unsupported", message, lhs.span, "iterated at each token", help);
        }
        let on_left = matches!(lhs.subscripts.as_slice(), [one] if matches!(&one.kind, Ast::Name(n) if *n == s.name));
        if !on_left {
            let message = format!("an iteration over `{}` has it as its only subscript", s.name);
            let help =
                format!("write `let {0}[{1}] = ... {0}[{1}-1] ... for {1} in 1..n from start;`", lhs.name.name, s.name);
            return self.fail("left-subscript", message, lhs.span, "other subscripts here", &help);
        }
        let Some(start) = &iterate.from else {
            let help = "say the entry before the first: `for s in 1..n from V0`";
            let message = "an iteration needs a start".to_string();
            return self.fail("iteration-start", message, s.span, "no `from` here", help);
        };
        let Ast::Range { from, to } = &iterate.range.kind else {
            let message = "an iteration runs over a range".to_string();
            return self.fail("misplaced", message, iterate.range.span, "no range", "write `1..n`");
        };
        let plain = Scope::default();
        let (from_n, to_n) = (self.whole(from, &plain), self.whole(to, &plain));
        let init = self.expr(start, &mut Scope::default());
        let (from_n, to_n, init) = (from_n?, to_n?, init?);
        if from_n < 1 || to_n < from_n - 1 {
            let message = format!("a range from {from_n} to {to_n} is none");
            let help = "it starts at 1 or above, so that an entry is before the first";
            return self.fail("not-a-size", message, iterate.range.span, "this range", help);
        }
        let init = self.numeric(init);
        let index = self.fresh_index(&s.name, Size::constant(to_n + 1));
        let ty = self.ty(init);
        let placeholder = LetValue::Iterate { from: from_n, to: to_n, init, step: init };
        let id = self.push_let(Let {
            name: lhs.name.name.clone(),
            span: lhs.name.span,
            kind: LetKind::Let,
            indices: vec![index],
            ty: ty.clone(),
            scan: false,
            value: placeholder,
        });
        let mut scope = Scope {
            indices: vec![(s.name.clone(), index)],
            left: 1,
            iterated: Some((lhs.name.name.clone(), id, index)),
            ..Scope::default()
        };
        let step = self.expr(value, &mut scope)?;
        let step = self.numeric(step);
        let found = self.ty(step);
        if !self.same_type(&found, &ty) {
            let (found, wanted) = (self.type_text(&found), self.type_text(&ty));
            let message = format!("an iteration keeps its shape: this is {found}, the start {wanted}");
            return self.fail("shape-mismatch", message, value.span, &format!("{found} here"), "");
        }
        self.variant.lets[id.index()].value = LetValue::Iterate { from: from_n, to: to_n, init, step };
        self.variant.body.push(Stmt::Let(id));
        self.shadow(&lhs.name, Binding::Let(id))
    }

    pub(super) fn feature(
        &mut self,
        name: &'a Ident,
        params: &'a [Ident],
        body: Option<&'a ast::Expr>,
        on: &'a [Ident],
    ) {
        let callee = body.map(|body| Callee { params, body });
        if let Some(callee) = callee {
            self.functions.insert(name.name.clone(), callee);
            self.expansions.forget();
            if params.len() != 1 && !on.is_empty() {
                let message = format!("a feature map takes one argument, not {}", params.len());
                self.fail::<()>(
                    "wrong-arity",
                    message,
                    name.span,
                    "defined here",
                    "write `feature phi(x) = ... on q, k;`",
                );
                on.iter().for_each(|target| self.poison(target));
                return;
            }
        } else if !self.is_function(&name.name) {
            self.unknown_call(name, &Scope::default());
            on.iter().for_each(|target| self.poison(target));
            return;
        }
        for target in on {
            if self.map_feature(name, target).is_none() {
                self.poison(target);
            }
        }
    }

    /// The target's values mapped one by one, under the target's name.
    fn map_feature(&mut self, name: &'a Ident, target: &'a Ident) -> Checked<()> {
        let (value, mut scope) = self.each_value(target)?;
        let mapped = self.apply(name, value, &mut scope)?;
        let mapped = self.numeric(mapped);
        let indices = scope.indices.iter().map(|(_, id)| *id).collect();
        let id = self.new_let(target, LetKind::Feature, indices, mapped, scope.token)?;
        self.shadow(target, Binding::Let(id))
    }

    /// One value of a tensor or let, per token (or per entry of its first axis), in the scope of an equation for it.
    fn each_value(&mut self, target: &Ident) -> Checked<(ExprId, Scope<'a>)> {
        let scope = Scope::default();
        let (kind, dims) = match self.names.get(&target.name).map(|named| named.binding) {
            Some(Binding::Tensor(id)) => (ExprKind::Tensor(id), self.tensor_shape(id)),
            Some(Binding::Let(id)) => {
                // One that the scan computes cannot be mapped whole, but can at each token.
                (ExprKind::Let(id), self.let_dims(id))
            }
            Some(Binding::Poison) => return None,
            Some(_) => {
                let message = format!("a feature map is on inputs, params and lets, and `{}` is none", target.name);
                return self.fail("feature-target", message, target.span, "named here", "");
            }
            None => return self.undeclared(&target.name, target.span, &scope),
        };
        let per_entry = dims.first().is_some_and(|first| self.is_token_size(first)) || dims.len() >= 2;
        let array = self.node(kind, Ty::Array(dims.clone()), target.span);
        if !per_entry {
            return Some((array, scope));
        }
        let (index, scope) = if self.is_token_size(&dims[0]) {
            self.token_scope().expect("a size equals the token axis's, so there is one")
        } else {
            let name = dims[0].as_axis().map_or("n".to_string(), |axis| self.variant.axis_name(axis).to_lowercase());
            let index = self.bind_index(&name, dims[0].clone(), &scope);
            (index, Scope { indices: vec![(name, index)], left: 1, ..Scope::default() })
        };
        let at = self.node(ExprKind::Index(index), Ty::scalar(), target.span);
        let ty = Ty::Array(dims[1..].to_vec());
        let value = self.node(ExprKind::Subscript { base: array, at: vec![at] }, ty, target.span);
        Some((value, scope))
    }

    /// A function of one argument, by name, of a checked value.
    fn apply(&mut self, name: &'a Ident, value: ExprId, scope: &mut Scope<'a>) -> Checked {
        let span = name.span;
        if let Some(callee) = self.callee(&name.name) {
            let [param] = callee.params else {
                return self.one_argument(name, span);
            };
            let frame = HashMap::from([(param.name.clone(), Argument::Value(Some(value)))]);
            return self.expand_body(callee, name, frame, scope);
        }
        if let Some(function) = Function::by_name(&name.name).filter(|f| f.arity() == 1) {
            return self.map(function, &[value], span);
        }
        let ty = self.ty(value);
        let norm = match name.name.as_str() {
            "l2norm" => Some(Norm { kind: NormKind::L2, eps: 1e-6 }),
            "rms" => Some(Norm { kind: NormKind::Rms, eps: 1e-5 }),
            "layer_norm" => Some(Norm { kind: NormKind::Layer, eps: 1e-5 }),
            _ => None,
        };
        let vector = !ty.is_scalar();
        match norm {
            Some(norm) if vector => Some(self.node(ExprKind::Normalise { norm, arg: value }, ty, span)),
            None if vector && name.name == "softmax" => Some(self.node(ExprKind::SoftmaxAxis(value), ty, span)),
            Some(_) => {
                let message = format!("`{}` is of a vector, and this is a scalar", name.name);
                self.fail("shape-mismatch", message, span, "mapped over scalars", "")
            }
            None => self.one_argument(name, span),
        }
    }

    fn one_argument<T>(&mut self, name: &Ident, span: Span) -> Checked<T> {
        let message = format!("`{}` is no function of one value", name.name);
        let help = "write the map out: `feature phi(x) = ... on q;`";
        self.fail("wrong-arity", message, span, "used as a feature map", help)
    }
}

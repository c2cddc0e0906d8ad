//! Calls: functions of scalars, and functions of vectors and matrices. Those of the file are expanded in `expand`.

use crate::advice;
use crate::ast::{self, Arg, Ident};
use crate::function::{ROWS, Spelling};
use crate::shape::Size;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{ExprId, ExprKind, FoldOp, Function, Norm, NormKind, Ty};

use super::scope::{Callee, Scope};
use super::{Checked, Checker};

/// Functions that are no rows of `function.rs`.
pub(super) const VECTOR: &[&str] = &[
    "sum",
    "mean",
    "max",
    "min",
    "norm2",
    "softmax",
    "l2norm",
    "rms",
    "layer_norm",
    "stack",
    "flatten",
    "diag",
    "eye",
    "cols",
    "conv1d",
    "dwconv",
    "rope",
    "rope2d",
    "topk_mask",
    "solve_cg",
    "solve",
];

fn fold(name: &str) -> Option<FoldOp> {
    match name {
        "sum" => Some(FoldOp::Sum),
        "mean" => Some(FoldOp::Mean),
        "max" => Some(FoldOp::Max),
        "min" => Some(FoldOp::Min),
        "norm2" => Some(FoldOp::Norm2),
        _ => None,
    }
}

impl<'a> Checker<'a> {
    /// A function that the variant or the file defines.
    pub(super) fn callee(&self, name: &str) -> Option<Callee<'a>> {
        self.functions.get(name).or_else(|| self.around.functions.get(name)).copied()
    }

    pub(super) fn is_function(&self, name: &str) -> bool {
        self.callee(name).is_some() || Function::by_name(name).is_some() || VECTOR.contains(&name)
    }

    pub(super) fn call(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        if let Some(callee) = self.callee(&name.name) {
            return self.expand_call(name, callee, args, (span, scope));
        }
        let named = name.name.as_str();
        let folds = fold(named).is_some() && (args.len() == 1 || Function::by_name(named).is_none());
        if folds {
            return self.fold_call(name, args, span, scope);
        }
        if let Some(function) = Function::by_name(named) {
            let params: &[&str] = match function {
                Function::Clamp => &["x", "lo", "hi"],
                _ if function.arity() == 2 => &["a", "b"],
                _ => &["x"],
            };
            let found = self.arguments(name, args, params, params.len())?;
            let ids: Vec<Checked> = found.into_iter().flatten().map(|arg| self.expr(arg, scope)).collect();
            let ids: Option<Vec<ExprId>> = ids.into_iter().collect();
            return self.map(function, &ids?, span);
        }
        if VECTOR.contains(&named) {
            return self.vector_call(name, args, span, scope);
        }
        self.unknown_call(name, scope)
    }

    pub(super) fn unknown_call(&mut self, name: &Ident, scope: &Scope<'a>) -> Checked {
        if self.is_unsaid(&name.name) {
            return None;
        }
        if self.around.variants.contains_key(name.name.as_str()) {
            let message = format!("`{}` is a variant, and a call of one stands alone in a `let`", name.name);
            let help = format!("write `let o = {}(q = ..., ...);`, and use `o` here", name.name);
            return self.fail("misplaced", message, name.span, "called within an expression", &help);
        }
        if self.meaning(&name.name, scope).is_some() {
            let message = format!("`{}` is no function", name.name);
            let help = format!("subscripts stand in brackets: `{}[...]`", name.name);
            return self.fail("unknown-function", message, name.span, "called here", &help);
        }
        if let Some(row) = advice::function(&name.name) {
            let message = format!("no function `{}`", name.name);
            return self.fail("unknown-function", message, name.span, "not known", &row.help());
        }
        let near = self.near_function(&name.name).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("define it above: `fn {}(x) = ...;`", name.name));
        self.fail("unknown-function", format!("no function `{}`", name.name), name.span, "not known", &help)
    }

    fn near_function(&mut self, name: &str) -> Option<String> {
        self.afford(self.functions.len() + self.around.functions.len())?;
        let own = self.functions.keys().map(String::as_str).chain(self.around.functions.keys().copied());
        let own = own.chain(self.around.variants.keys().copied());
        let rows = ROWS.iter().filter(|row| row.spelling == Spelling::Call).map(|row| row.name);
        let mut known: Vec<&str> = own.chain(rows).chain(VECTOR.iter().copied()).collect();
        known.sort_unstable();
        nearest(name, known).map(str::to_string)
    }

    /// The expressions given for `params`, by place or by name; the first `required` must be there.
    pub(super) fn arguments(
        &mut self,
        name: &Ident,
        args: &'a [Arg],
        params: &[&str],
        required: usize,
    ) -> Checked<Vec<Option<&'a ast::Expr>>> {
        let mut found: Vec<Option<&'a ast::Expr>> = vec![None; params.len()];
        let mut next = 0;
        for arg in args {
            let place = match &arg.name {
                None => {
                    next += 1;
                    next - 1
                }
                Some(given) => match params.iter().position(|param| *param == given.name) {
                    Some(place) => place,
                    None => return self.unknown_argument(name, given, params),
                },
            };
            if place >= params.len() || found[place].is_some() {
                return self.wrong_arity(name, args.len(), params, required);
            }
            found[place] = Some(&arg.value);
        }
        if found[..required].iter().any(Option::is_none) {
            return self.wrong_arity(name, args.len(), params, required);
        }
        Some(found)
    }

    fn unknown_argument<T>(&mut self, name: &Ident, given: &Ident, params: &[&str]) -> Checked<T> {
        let help = match (advice::argument(&given.name), nearest(&given.name, params.iter().copied())) {
            (Some(help), _) => help.to_string(),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("it takes {}", params.join(", ")),
        };
        let message = format!("`{}` has no argument `{}`", name.name, given.name);
        self.fail("unknown-argument", message, given.span, "not known", &help)
    }

    fn wrong_arity<T>(&mut self, name: &Ident, given: usize, params: &[&str], required: usize) -> Checked<T> {
        let wanted = match params.len() {
            n if n == required => format!("{n}"),
            n => format!("{required} to {n}"),
        };
        let message = format!("`{}` takes {wanted} argument(s), not {given}", name.name);
        let mut list: Vec<String> = params[..required].iter().map(|param| (*param).to_string()).collect();
        list.extend(params[required..].iter().map(|param| format!("{param} = ...")));
        let help = format!("write `{}({})`", name.name, list.join(", "));
        self.fail("wrong-arity", message, name.span, "called here", &help)
    }

    fn fold_call(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x"], 1)?;
        let arg = self.array(name, found[0]?, scope)?;
        let op = fold(&name.name).expect("the caller looked");
        let ty = match self.ty(arg) {
            Ty::Array(dims) => Ty::Array(dims[..dims.len() - 1].to_vec()),
            Ty::Row(_) | Ty::Bool => Ty::scalar(),
        };
        Some(self.node(ExprKind::Fold { op, arg }, ty, span))
    }

    /// An argument with at least one axis.
    pub(super) fn array(&mut self, name: &Ident, arg: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked {
        let id = self.expr(arg, scope)?;
        let id = self.numeric(id);
        if self.ty(id).is_scalar() {
            let message = format!("`{}` is of a vector, and this is a scalar", name.name);
            return self.fail("shape-mismatch", message, arg.span, "a scalar here", "");
        }
        Some(id)
    }

    fn vector_call(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        match name.name.as_str() {
            "softmax" => {
                let found = self.arguments(name, args, &["x"], 1)?;
                let arg = self.array(name, found[0]?, scope)?;
                let ty = self.ty(arg);
                Some(self.node(ExprKind::SoftmaxAxis(arg), ty, span))
            }
            "l2norm" => self.normalise(name, args, NormKind::L2, 1e-6, span, scope),
            "rms" => self.normalise(name, args, NormKind::Rms, 1e-5, span, scope),
            "layer_norm" => self.normalise(name, args, NormKind::Layer, 1e-5, span, scope),
            "stack" => self.stack(name, args, span, scope),
            "flatten" => self.flatten(name, args, span, scope),
            "diag" => self.diagonal(name, args, span, scope),
            "eye" => {
                let found = self.arguments(name, args, &["n"], 1)?;
                let n = self.size(found[0]?, scope)?;
                let ty = Ty::Array(vec![n.clone(), n.clone()]);
                Some(self.node(ExprKind::Eye(n), ty, span))
            }
            "cols" => self.columns(name, args, span, scope),
            _ => self.sequence_call(name, args, span, scope),
        }
    }

    fn normalise(
        &mut self,
        name: &'a Ident,
        args: &'a [Arg],
        kind: NormKind,
        eps: f64,
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        let found = self.arguments(name, args, &["x", "eps"], 1)?;
        let arg = self.array(name, found[0]?, scope);
        let eps = match found[1] {
            Some(eps) => self.number(eps, scope)?,
            None => eps,
        };
        let arg = arg?;
        let ty = self.ty(arg);
        Some(self.node(ExprKind::Normalise { norm: Norm { kind, eps }, arg }, ty, span))
    }

    /// Concatenates on the last axis; the axes before it are equal. A scalar counts as a vector of one.
    fn stack(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        if args.is_empty() {
            return self.wrong_arity(name, 0, &["a", "b"], 2);
        }
        let ids: Vec<Checked> = args.iter().map(|arg| self.stacked(&arg.value, scope)).collect();
        let ids: Option<Vec<ExprId>> = ids.into_iter().collect();
        let ids = ids?;
        let first = self.ty(ids[0]);
        let dims = first.dims();
        let (leading, mut total) = (dims[..dims.len() - 1].to_vec(), Size::constant(0));
        for id in &ids {
            let ty = self.ty(*id);
            let own = ty.dims();
            let fits = matches!(ty, Ty::Row(_)) == matches!(first, Ty::Row(_))
                && own.len() == dims.len()
                && self.same_dims(&own[..own.len() - 1], &leading);
            if !fits {
                return self.unequal("stack", ids[0], *id, span);
            }
            total = total.add(&own[own.len() - 1]);
        }
        let ty = match first {
            Ty::Row(_) => Ty::Row(total),
            _ => Ty::Array(leading.into_iter().chain([total]).collect()),
        };
        Some(self.node(ExprKind::Stack(ids), ty, span))
    }

    fn stacked(&mut self, arg: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked {
        let id = self.expr(arg, scope)?;
        let id = self.numeric(id);
        if !self.ty(id).is_scalar() {
            return Some(id);
        }
        Some(self.node(ExprKind::Flatten(id), Ty::Array(vec![Size::constant(1)]), arg.span))
    }

    fn flatten(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x"], 1)?;
        let arg = self.array(name, found[0]?, scope)?;
        let size = self.ty(arg).dims().iter().fold(Size::constant(1), |product, dim| product.mul(dim));
        Some(self.node(ExprKind::Flatten(arg), Ty::Array(vec![size]), span))
    }

    fn diagonal(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x"], 1)?;
        let arg = self.array(name, found[0]?, scope)?;
        let ty = self.ty(arg);
        let dims = ty.dims();
        let [n] = dims.as_slice() else {
            let found = self.type_text(&ty);
            let message = format!("`diag` makes a matrix of a vector, not of {found}");
            return self.fail("shape-mismatch", message, span, &format!("{found} here"), "");
        };
        Some(self.node(ExprKind::Diag(arg), Ty::Array(vec![n.clone(), n.clone()]), span))
    }

    fn columns(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "from", "to"], 3)?;
        let arg = self.array(name, found[0]?, scope);
        let (from, to) = (self.size(found[1]?, scope), self.size(found[2]?, scope));
        let (arg, from, to) = (arg?, from?, to?);
        let width = to.sub(&from);
        if width.as_constant().is_some_and(|n| n < 0) {
            let message = format!("columns from {} to {}: none", self.size_text(&from), self.size_text(&to));
            return self.fail("not-a-size", message, span, "`to` is below `from`", "");
        }
        let ty = match self.ty(arg) {
            Ty::Row(_) => Ty::Row(width),
            other => {
                let dims = other.dims();
                Ty::Array(dims[..dims.len() - 1].iter().cloned().chain([width]).collect())
            }
        };
        Some(self.node(ExprKind::Cols { arg, from, to }, ty, span))
    }
}

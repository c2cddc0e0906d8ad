//! Calls: functions of the file expanded in place, functions of scalars, and functions of vectors and matrices.

use std::collections::{HashMap, HashSet};

use crate::ast::{self, Arg, ExprKind as Ast, Ident};
use crate::diagnostic::Diagnostic;
use crate::function::ROWS;
use crate::shape::Size;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{ExprId, ExprKind, FoldOp, Function, Norm, NormKind, Ty};

use super::index::children;
use super::scope::{Argument, Callee, Scope};
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
    pub(super) fn is_function(&self, name: &str) -> bool {
        self.functions.contains_key(name) || Function::by_name(name).is_some() || VECTOR.contains(&name)
    }

    pub(super) fn call(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        if let Some(callee) = self.functions.get(&name.name).copied() {
            return self.expand_call(name, callee, args, scope);
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
        if self.unsaid.contains(&name.name) {
            return None;
        }
        let is_variant = self
            .file
            .items
            .iter()
            .any(|item| matches!(item, ast::Item::Variant(variant) if variant.name.name == name.name));
        if is_variant {
            let message = format!("`{}` is a variant, and a variant calling another is not supported", name.name);
            let help = "compose variants with `stack`, or write its equations here";
            return self.fail("unsupported", message, name.span, "called here", help);
        }
        if self.meaning(&name.name, scope).is_some() {
            let message = format!("`{}` is no function", name.name);
            let help = format!("subscripts stand in brackets: `{}[...]`", name.name);
            return self.fail("unknown-function", message, name.span, "called here", &help);
        }
        let own = self.functions.keys().map(String::as_str);
        let rows = ROWS.iter().filter(|row| row.call).map(|row| row.name);
        let mut known: Vec<&str> = own.chain(rows).chain(VECTOR.iter().copied()).collect();
        known.sort_unstable();
        let near = nearest(&name.name, known).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("define it above: `fn {}(x) = ...;`", name.name));
        self.fail("unknown-function", format!("no function `{}`", name.name), name.span, "not known", &help)
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
        let help = match nearest(&given.name, params.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it takes {}", params.join(", ")),
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

    fn expand_call(&mut self, name: &'a Ident, callee: Callee<'a>, args: &'a [Arg], scope: &mut Scope<'a>) -> Checked {
        if scope.calls.contains(&name.name) {
            // Reported where the functions are defined.
            return None;
        }
        let params: Vec<&str> = callee.params.iter().map(|param| param.name.as_str()).collect();
        let found = self.arguments(name, args, &params, params.len())?;
        let binds = bound_names(callee.body);
        let mut frame = HashMap::new();
        for (param, arg) in params.iter().zip(found) {
            let arg = arg.expect("every parameter is required");
            let argument = if self.is_open(arg, &binds, scope) {
                Argument::Open(arg)
            } else {
                Argument::Value(self.expr(arg, scope))
            };
            frame.insert((*param).to_string(), argument);
        }
        self.expand_body(callee, name, frame, scope)
    }

    /// The body with its parameters bound.
    pub(super) fn expand_body(
        &mut self,
        callee: Callee<'a>,
        name: &Ident,
        frame: HashMap<String, Argument<'a>>,
        scope: &mut Scope<'a>,
    ) -> Checked {
        scope.frames.push(frame);
        scope.calls.push(name.name.clone());
        let value = self.expr(callee.body, scope);
        scope.calls.pop();
        scope.frames.pop();
        value
    }

    /// Whether an argument mentions an index that only the function's body binds.
    fn is_open(&self, arg: &'a ast::Expr, binds: &HashSet<&str>, scope: &Scope<'a>) -> bool {
        let open = matches!(&arg.kind, Ast::Name(name)
            if binds.contains(name.as_str()) && self.meaning(name, scope).is_none());
        open || children(arg).into_iter().any(|child| self.is_open(child, binds, scope))
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

/// Index names that reductions in an expression bind or that a softmax in it asks for.
fn bound_names(expr: &ast::Expr) -> HashSet<&str> {
    let mut names = HashSet::new();
    if let Ast::Reduction { indices, .. } = &expr.kind {
        names.extend(indices.iter().map(|index| index.name.name.as_str()));
    }
    for child in children(expr) {
        names.extend(bound_names(child));
    }
    names
}

/// Functions of the file that call themselves, directly or through others.
pub(super) fn recursive(functions: &[&ast::Function]) -> Vec<Diagnostic> {
    let calls = |name: &str| -> Vec<String> {
        let bodies = functions.iter().filter(|f| f.name.name == name);
        bodies.flat_map(|f| called_names(&f.body)).collect()
    };
    let mut found = Vec::new();
    for f in functions {
        let (mut seen, mut open) = (HashSet::new(), called_names(&f.body));
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                open.extend(calls(&name));
            }
        }
        if seen.contains(&f.name.name) {
            let help = "functions are expanded in place: iterate with `let V[s] = f(V[s-1]) for s in 1..n from V0;`";
            let error = Diagnostic::new("recursion", format!("the function `{}` calls itself", f.name.name));
            found.push(error.label(f.name.span, "leads back to itself").help(help));
        }
    }
    found
}

fn called_names(expr: &ast::Expr) -> Vec<String> {
    let mut names: Vec<String> = children(expr).into_iter().flat_map(called_names).collect();
    if let Ast::Call { name, .. } = &expr.kind {
        names.push(name.name.clone());
    }
    names
}

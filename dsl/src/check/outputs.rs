//! Reads, norms and outputs, and the order of an output's axes.

use crate::ast::{self, Arg, Ident, Lhs, Named};
use crate::diagnostic::Diagnostic;
use crate::shape::{AxisId, Size};
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{
    AxisKind, BatchDim, ExprId, ExprKind, IndexId, Let, LetKind, LetValue, Norm, NormKind, Output, OutputDim, Stmt,
    TensorRole, Ty,
};

use super::scope::{Binding, Scope};
use super::{Checked, Checker};

/// The norms of a read, with the eps of each where none is given.
pub(super) const NORMS: &[(&str, NormKind, f64)] =
    &[("rms", NormKind::Rms, 1e-5), ("srms", NormKind::Srms, 1e-8), ("layer", NormKind::Layer, 1e-5)];

impl<'a> Checker<'a> {
    pub(super) fn read_statement(&mut self, lhs: &'a Lhs, value: &'a ast::Expr) {
        if let Some(first) = self.read_span {
            let error = Diagnostic::new("several-reads", "a variant has at most one `read`")
                .label(lhs.span, "the second")
                .label(first, "the first")
                .help("write the others as lets or outputs");
            self.report(error);
            return;
        }
        self.read_span = Some(lhs.span);
        match self.define(lhs, value, LetKind::Read) {
            Some(id) if self.variant.lets[id.index()].indices.is_empty() => {
                let message = "a read is per token".to_string();
                let help = format!("write `read {}[t] = ...;`", lhs.name.name);
                self.fail::<()>("left-subscript", message, lhs.span, "no subscript here", &help);
            }
            Some(id) => self.read = Some(id),
            None => self.poison(&lhs.name),
        }
    }

    pub(super) fn norm(&mut self, norm: &'a Named, over: &'a [Ident]) {
        let Some(of) = self.read else {
            // A wrong `read` is reported there.
            if self.read_span.is_none() {
                let help =
                    "put `read o[t] = ...;` above it; a value elsewhere is normalised by `rms(x)` or `layer_norm(x)`";
                let message = "`norm` normalises the read-out, and there is no `read` above".to_string();
                self.fail::<()>("norm-without-read", message, norm.span, "nothing to normalise", help);
            }
            return;
        };
        let Some(parsed) = self.norm_kind(norm) else { return };
        let read = self.variant.lets[of.index()].clone();
        let Some(heads) = self.norm_axes(&read.ty, over, norm.span) else { return };
        let value = LetValue::Norm { of, norm: parsed, heads };
        let id = self.push_let(Let { span: norm.span, kind: LetKind::Norm, value, ..read.clone() });
        self.variant.body.push(Stmt::Let(id));
        self.read = Some(id);
        let name = Ident { name: read.name, span: read.span };
        self.shadow(&name, Binding::Let(id));
    }

    fn norm_kind(&mut self, norm: &'a Named) -> Checked<Norm> {
        let name = &norm.name;
        let Some((_, kind, eps)) = NORMS.iter().find(|(known, ..)| *known == name.name) else {
            let help = match nearest(&name.name, NORMS.iter().map(|(known, ..)| *known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "the norms are rms, srms and layer".to_string(),
            };
            return self.fail("unknown-norm", format!("no norm `{}`", name.name), name.span, "not known", &help);
        };
        let found = self.arguments(name, &norm.args, &["eps"], 0)?;
        let eps = match found[0] {
            Some(given) => self.number(given, &Scope::default())?,
            None => *eps,
        };
        Some(Norm { kind: *kind, eps })
    }

    /// Whether heads are spanned. The other axis named must be the read-out's last.
    fn norm_axes(&mut self, ty: &Ty, over: &'a [Ident], span: Span) -> Checked<bool> {
        let last = ty.dims().last().cloned();
        let (mut heads, mut own) = (false, over.is_empty());
        for name in over {
            let Some(Binding::Axis(axis)) = self.names.get(&name.name).map(|named| named.binding) else {
                return self.undeclared(&name.name, name.span, &Scope::default());
            };
            let size = self.axis_size(axis);
            if Some(axis) == self.variant.head {
                heads = true;
            } else if last.as_ref().is_some_and(|last| self.same_size(last, &size)) && !own {
                own = true;
            } else {
                let shape = self.type_text(ty);
                let message = format!("`{}` is not the read-out's last axis: it is {shape} per token", name.name);
                let help = "a norm is over the last axis, or over `H` and the last axis";
                return self.fail("norm-axis", message, name.span, "not this axis", help);
            }
        }
        if own != last.is_some() && !(heads && last.is_none()) {
            let shape = self.type_text(ty);
            let message = format!("a norm is over the read-out's last axis, and it is {shape} per token");
            return self.fail("norm-axis", message, span, "not over it", "name the last axis after `over`");
        }
        Some(heads)
    }

    pub(super) fn output(&mut self, lhs: &'a Lhs, value: Option<&'a ast::Expr>, span: Span) {
        let name = &lhs.name;
        let state = self.variant.states.iter().find(|state| state.name == name.name).map(|state| state.span);
        if let Some(first) = self.outputs.get(&name.name).copied().or(state) {
            let message = match state {
                Some(_) => format!("`{}` is a state, whose final value is given out under its name", name.name),
                None => format!("two outputs are called `{}`", name.name),
            };
            let error = Diagnostic::new("duplicate-name", message)
                .label(name.span, "given out here")
                .label(first, "the first")
                .help("choose another name");
            self.report(error);
            return;
        }
        self.outputs.insert(name.name.clone(), name.span);
        if self.check_output(lhs, value, span).is_none() && value.is_some() && !self.names.contains_key(&name.name) {
            self.poison(name);
        }
    }

    fn check_output(&mut self, lhs: &'a Lhs, value: Option<&'a ast::Expr>, span: Span) -> Checked<()> {
        let (mut scope, value_span) = match value {
            Some(value) => (self.left_scope(&lhs.subscripts, Some(value))?, value.span),
            None => (self.known_scope(lhs)?, lhs.span),
        };
        let id = match value {
            Some(value) => self.expr(value, &mut scope)?,
            None => self.given_out(lhs, &scope)?,
        };
        let mut id = self.numeric(id);
        if let Ty::Row(_) = self.ty(id) {
            id = self.transpose(id, value_span)?;
        }
        let depends = self.arena.depends(id);
        if depends.scan && self.has_read {
            let message = format!("the output `{}` mentions a state beside the `read`", lhs.name.name);
            let help = "where there is a `read`, only it reads states: move this part there";
            return self.fail("state-outside-read", message, value_span, "mentions a state", help);
        }
        let indices: Vec<IndexId> = scope.indices.iter().map(|(_, id)| *id).collect();
        if depends.scan && indices.first().copied() != scope.token {
            let message = format!("the output `{}` mentions a state, so it is per token", lhs.name.name);
            let help = format!("write `output {}[t] = ...;`", lhs.name.name);
            return self.fail("state-subscript", message, lhs.span, "no token index first", &help);
        }
        let ty = self.ty(id);
        let dims = self.output_dims(&indices, &ty);
        let output = Output {
            name: lhs.name.name.clone(),
            span,
            indices: indices.clone(),
            ty,
            value: id,
            scan: depends.scan,
            dims,
        };
        self.variant.body.push(Stmt::Output(output));
        if value.is_some() && !depends.scan && self.mentioned_later(&lhs.name.name) {
            // A result that what follows uses is a value like a let's.
            let found = self.new_let(&lhs.name, LetKind::Let, indices, id, scope.token)?;
            self.shadow(&lhs.name, Binding::Let(found))?;
        }
        Some(())
    }

    fn mentioned_later(&self, name: &str) -> bool {
        !self.names.contains_key(name) && self.ahead.mentions(name, self.number)
    }

    /// The scope of `output o[t];`, its indices' axes those of what is given out.
    fn known_scope(&mut self, lhs: &'a Lhs) -> Checked<Scope<'a>> {
        let dims = match self.names.get(&lhs.name.name).map(|named| named.binding) {
            Some(Binding::Let(id)) => self.let_dims(id),
            Some(Binding::Tensor(id)) => self.tensor_shape(id),
            Some(Binding::Poison) => return None,
            Some(_) => {
                let message = format!("`{}` is neither a read nor a let", lhs.name.name);
                let help = "say what is given out: `output o[t] = ...;`";
                return self.fail("nothing-to-give-out", message, lhs.span, "named here", help);
            }
            None => return self.undeclared(&lhs.name.name, lhs.name.span, &Scope::default()),
        };
        if lhs.subscripts.len() > dims.len() {
            let shape = self.dims_text(&dims);
            let message = format!("{} subscripts, but `{}` is {shape}", lhs.subscripts.len(), lhs.name.name);
            return self.fail("subscript-count", message, lhs.span, "too many", "");
        }
        let mut scope = Scope::default();
        for (subscript, dim) in lhs.subscripts.iter().zip(dims) {
            let ast::ExprKind::Name(name) = &subscript.kind else {
                let message = "a subscript on the left is an index variable".to_string();
                return self.fail(
                    "left-subscript",
                    message,
                    subscript.span,
                    "no index variable",
                    "write `output o[t];`",
                );
            };
            let id = self.bind_index(name, dim.clone(), &scope);
            self.check_direct(id, &dim, subscript.span)?;
            if scope.token.is_none() && self.variant.indices[id.index()].token {
                scope.token = Some(id);
            }
            scope.indices.push((name.clone(), id));
        }
        scope.left = scope.indices.len();
        Some(scope)
    }

    /// The value of `output o[t];`.
    fn given_out(&mut self, lhs: &'a Lhs, scope: &Scope<'a>) -> Checked {
        let at: Vec<ExprId> = scope
            .indices
            .iter()
            .zip(&lhs.subscripts)
            .map(|((_, index), subscript)| self.node(ExprKind::Index(*index), Ty::scalar(), subscript.span))
            .collect();
        let (kind, dims, ty) = match self.names.get(&lhs.name.name).map(|named| named.binding) {
            Some(Binding::Let(id)) if at.is_empty() => return self.whole_let(id, lhs.span),
            Some(Binding::Let(id)) => {
                let found = &self.variant.lets[id.index()];
                let whole = found.indices.len() == at.len();
                let ty = found.ty.clone();
                (ExprKind::Let(id), self.let_dims(id), Some(ty).filter(|_| whole))
            }
            Some(Binding::Tensor(id)) => (ExprKind::Tensor(id), self.tensor_shape(id), None),
            _ => return None,
        };
        let ty = ty.unwrap_or_else(|| Ty::Array(dims[at.len()..].to_vec()));
        let base = self.node(kind, Ty::Array(dims), lhs.name.span);
        if at.is_empty() {
            return Some(base);
        }
        Some(self.node(ExprKind::Subscript { base, at }, ty, lhs.span))
    }

    /// All batch axes and the output's leading axes in the order of the first input that has them all, else batch axes
    /// first as `axes` lists them.
    pub(super) fn output_dims(&self, indices: &[IndexId], ty: &Ty) -> Vec<OutputDim> {
        let mut own: Vec<Size> = indices.iter().map(|id| self.variant.indices[id.index()].size.clone()).collect();
        if own.is_empty() {
            own.extend(ty.dims().into_iter().take(1));
        }
        let axes = self.variant.axes.iter().enumerate();
        let batch: Vec<AxisId> = axes
            .filter(|(_, axis)| axis.kind == AxisKind::Batch)
            .map(|(place, _)| AxisId(u32::try_from(place).expect("a file has fewer than 2^32 axes")))
            .collect();
        let inputs = self.variant.tensors.iter().filter(|tensor| tensor.role == TensorRole::Input);
        for input in inputs {
            let mut order = Vec::new();
            let mut left: Vec<usize> = (0..own.len()).collect();
            for dim in &input.dims {
                match &dim.batch {
                    Some(BatchDim::Index(axis)) => order.push(OutputDim::Batch(*axis)),
                    Some(BatchDim::Group { .. }) => {}
                    None => {
                        let size = dim.size.as_axis().map_or(dim.size.clone(), |id| self.axis_size(id));
                        if let Some(place) = left.iter().position(|place| self.same_size(&own[*place], &size)) {
                            order.push(OutputDim::Own(left.remove(place)));
                        }
                    }
                }
            }
            if left.is_empty() && batch.iter().all(|axis| order.contains(&OutputDim::Batch(*axis))) {
                return order;
            }
        }
        batch.into_iter().map(OutputDim::Batch).chain((0..own.len()).map(OutputDim::Own)).collect()
    }

    /// The values of a list of named arguments.
    pub(super) fn named_arguments(&mut self, args: &'a [Arg], example: &str) -> Vec<(&'a Ident, &'a ast::Expr)> {
        let mut found = Vec::new();
        for arg in args {
            match &arg.name {
                Some(name) => found.push((name, &arg.value)),
                None => {
                    let message = "a name is wanted here".to_string();
                    let help = format!("write `{example}`");
                    self.fail::<()>("unknown-check", message, arg.value.span, "no name", &help);
                }
            }
        }
        found
    }
}

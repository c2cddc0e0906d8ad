//! Expressions: names, subscripts, coordinates and conditions. Operators, calls and reductions have rooms of their own.

use crate::ast::{self, ExprKind as Ast};
use crate::diagnostic::Diagnostic;
use crate::shape::Size;
use crate::source::Span;
use crate::typed::{ExprId, ExprKind, Function, GridAxis, IndexId, LetId, LetKind, LetValue, StateId, TensorId, Ty};

use super::arena::Depends;
use super::scope::{Binding, Meaning, Scope};
use super::{Checked, Checker};

/// Functions nest thousands deep, so that the stack grows with them: what must be left of it, and by how much it grows.
const STACK_LEFT: usize = 128 << 10;
const STACK_MORE: usize = 2 << 20;

impl<'a> Checker<'a> {
    pub(super) fn ty(&self, id: ExprId) -> Ty {
        self.arena.get(id).ty.clone()
    }

    /// Where an expression was last written: equal ones are one node, and an error is about the one just read.
    pub(super) fn span(&self, id: ExprId) -> Span {
        self.written.get(&id).copied().unwrap_or(self.arena.get(id).span)
    }

    pub(super) fn node(&mut self, kind: ExprKind, ty: Ty, span: Span) -> ExprId {
        let own = match &kind {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => Depends { scan: true, read: false },
            ExprKind::Let(id) => self.let_depends(*id),
            _ => Depends::default(),
        };
        self.arena.push(kind, ty, span, own)
    }

    pub(super) fn number_node(&mut self, value: f64, span: Span) -> ExprId {
        self.node(ExprKind::Number(value), Ty::scalar(), span)
    }

    fn let_depends(&self, id: LetId) -> Depends {
        let found = &self.variant.lets[id.index()];
        if matches!(found.kind, LetKind::Read | LetKind::Norm) {
            return Depends { scan: false, read: true };
        }
        let value = match found.value {
            LetValue::Expr(value) => self.arena.depends(value),
            LetValue::Iterate { init, step, .. } => self.arena.depends(init).or(self.arena.depends(step)),
            LetValue::Norm { .. } => Depends { scan: false, read: true },
        };
        Depends { scan: found.scan, read: value.read }
    }

    /// The own dims of a tensor, derived axes as what they equal.
    pub(super) fn tensor_shape(&self, id: TensorId) -> Vec<Size> {
        let dims = self.variant.tensors[id.index()].own_dims();
        dims.iter().map(|dim| dim.as_axis().map_or(dim.clone(), |axis| self.axis_size(axis))).collect()
    }

    /// All dims of a let: its indices' axes, then its value's.
    pub(super) fn let_dims(&self, id: LetId) -> Vec<Size> {
        let found = &self.variant.lets[id.index()];
        let indices = found.indices.iter().map(|index| self.variant.indices[index.index()].size.clone());
        indices.chain(found.ty.dims()).collect()
    }

    pub(super) fn expr(&mut self, expr: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked {
        if !scope.calls.is_empty() {
            self.expansion_step(expr.span)?;
        }
        let id = stacker::maybe_grow(STACK_LEFT, STACK_MORE, || self.expression(expr, scope))?;
        self.written.insert(id, expr.span);
        Some(id)
    }

    fn expression(&mut self, expr: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked {
        let span = expr.span;
        match &expr.kind {
            Ast::Number(value) => Some(self.number_node(*value, span)),
            Ast::Name(name) => self.name(name, span, scope),
            Ast::Subscript { base, at } => self.subscript(base, at, span, scope),
            Ast::Field { base, field } => self.coordinate(base, field, span, scope),
            Ast::Transpose(inner) => {
                let inner = self.expr(inner, scope)?;
                self.transpose(inner, span)
            }
            Ast::Neg(inner) => {
                let inner = self.expr(inner, scope)?;
                self.map(Function::Neg, &[inner], span)
            }
            Ast::Not(inner) => {
                let inner = self.expr(inner, scope)?;
                let inner = self.condition(inner, span)?;
                Some(self.node(ExprKind::Map { function: Function::Not, args: vec![inner] }, Ty::Bool, span))
            }
            Ast::Binary { op, left, right } => {
                let (a, b) = (self.expr(left, scope), self.expr(right, scope));
                self.binary(*op, a?, b?, span)
            }
            Ast::Compare { first, rest } => self.compare(first, rest, span, scope),
            Ast::If { cond, then, otherwise } => {
                let cond_id = self.expr(cond, scope);
                let (a, b) = (self.expr(then, scope), self.expr(otherwise, scope));
                let cond_id = self.condition(cond_id?, cond.span)?;
                self.choose(cond_id, a?, b?, span)
            }
            Ast::Call { name, args } => self.call(name, args, span, scope),
            Ast::Reduction { op, indices, cond, body } => {
                self.reduction(op, indices, cond.as_deref(), body, span, scope)
            }
            Ast::Range { .. } => {
                let help = "a range stands only in `for s in 1..n`";
                self.fail("misplaced", "a range is no value".to_string(), span, "used as a value here", help)
            }
            Ast::Tuple(_) => {
                let help = "a tuple stands only in `check grid((7,7))`";
                self.fail("misplaced", "a tuple is no value".to_string(), span, "used as a value here", help)
            }
        }
    }

    fn name(&mut self, name: &str, span: Span, scope: &mut Scope<'a>) -> Checked {
        match self.meaning(name, scope) {
            Some(Meaning::Argument(argument)) => self.argument(argument, scope),
            Some(Meaning::Index(index)) => Some(self.node(ExprKind::Index(index), Ty::scalar(), span)),
            Some(Meaning::Head) => Some(self.node(ExprKind::Head, Ty::scalar(), span)),
            Some(Meaning::Number(value)) => Some(self.number_node(value, span)),
            Some(Meaning::Truth(value)) => Some(self.node(ExprKind::Bool(value), Ty::Bool, span)),
            Some(Meaning::Bound(binding)) => self.bound(name, binding, span),
            None => self.undeclared(name, span, scope),
        }
    }

    fn bound(&mut self, name: &str, binding: Binding, span: Span) -> Checked {
        match binding {
            Binding::Poison => None,
            Binding::Arg(value) => Some(self.number_node(value, span)),
            Binding::Axis(axis) => {
                let size = self.axis_size(axis);
                Some(self.node(ExprKind::Size(size), Ty::scalar(), span))
            }
            Binding::Tensor(id) => {
                let ty = Ty::Array(self.tensor_shape(id));
                Some(self.node(ExprKind::Tensor(id), ty, span))
            }
            Binding::State(_) => {
                let help = format!("write `{name}[t]` after its update, or `{name}[t-1]` for the one before");
                let message = format!("the state `{name}` is read at a token");
                self.fail("state-subscript", message, span, "no token is said here", &help)
            }
            Binding::Let(id) => self.whole_let(id, span),
        }
    }

    /// A let without its subscripts: the whole array; of an iteration, the last entry.
    pub(super) fn whole_let(&mut self, id: LetId, span: Span) -> Checked {
        let found = &self.variant.lets[id.index()];
        let name = found.name.clone();
        if self.let_depends_on_scan(id) {
            let message = format!("`{name}` belongs to the scan, and is read only at the current token");
            return self.fail("scan-let-subscript", message, span, "the whole array", &format!("write `{name}[t]`"));
        }
        let (indexed, ty) = (!found.indices.is_empty(), found.ty.clone());
        let last = match found.value {
            LetValue::Iterate { to, .. } => Some(to),
            _ => None,
        };
        let whole = if indexed { Ty::Array(self.let_dims(id)) } else { ty.clone() };
        let array = self.node(ExprKind::Let(id), whole, span);
        let Some(last) = last else { return Some(array) };
        // Exact: iteration counts are small.
        let at = self.number_node(last as f64, span);
        Some(self.node(ExprKind::Subscript { base: array, at: vec![at] }, ty, span))
    }

    fn subscript(&mut self, base: &'a ast::Expr, at: &'a [ast::Expr], span: Span, scope: &mut Scope<'a>) -> Checked {
        if let Ast::Name(name) = &base.kind {
            if let Some((iterated, id, index)) = scope.iterated.clone()
                && iterated == *name
            {
                return self.iterate_old(name, id, index, at, span, scope);
            }
            match self.meaning(name, scope) {
                Some(Meaning::Bound(Binding::State(id))) => return self.state_at(name, id, at, span, scope),
                Some(Meaning::Bound(Binding::Let(id))) => return self.let_at(id, at, base.span, span, scope),
                _ => {}
            }
        }
        let array = self.expr(base, scope);
        let at_ids = self.subscripts(at, scope);
        self.take(array?, at, &at_ids?, span, scope)
    }

    /// The subscripts of an array, each a scalar.
    fn subscripts(&mut self, at: &'a [ast::Expr], scope: &mut Scope<'a>) -> Checked<Vec<ExprId>> {
        let ids: Vec<Checked> = at.iter().map(|subscript| self.scalar(subscript, "a subscript", scope)).collect();
        ids.into_iter().collect()
    }

    /// A scalar number; `what` says where it stands.
    pub(super) fn scalar(&mut self, expr: &'a ast::Expr, what: &str, scope: &mut Scope<'a>) -> Checked {
        let id = self.expr(expr, scope)?;
        let id = self.numeric(id);
        let ty = self.ty(id);
        if ty.is_scalar() {
            return Some(id);
        }
        let found = self.type_text(&ty);
        self.fail("not-a-scalar", format!("{what} is a scalar, not {found}"), expr.span, &format!("{found} here"), "")
    }

    /// Subscripts the leading axes of an array.
    fn take(&mut self, array: ExprId, at: &'a [ast::Expr], ids: &[ExprId], span: Span, scope: &Scope<'a>) -> Checked {
        let dims = self.ty(array).dims();
        if ids.len() > dims.len() {
            return self.too_many_subscripts(array, at, span, scope);
        }
        for ((subscript, id), dim) in at.iter().zip(ids).zip(&dims) {
            if let ExprKind::Index(index) = self.arena.get(*id).kind {
                self.check_direct(index, dim, subscript.span)?;
            }
        }
        let ty = match self.arena.get(array).kind {
            ExprKind::Let(id) if self.variant.lets[id.index()].indices.len() == ids.len() => {
                self.variant.lets[id.index()].ty.clone()
            }
            _ => Ty::Array(dims[ids.len()..].to_vec()),
        };
        Some(self.node(ExprKind::Subscript { base: array, at: ids.to_vec() }, ty, span))
    }

    fn too_many_subscripts(&mut self, array: ExprId, at: &'a [ast::Expr], span: Span, scope: &Scope<'a>) -> Checked {
        let ty = self.ty(array);
        let shape = self.type_text(&ty);
        if let ExprKind::Tensor(id) = self.arena.get(array).kind {
            let tensor = &self.variant.tensors[id.index()];
            let (name, declared) = (tensor.name.clone(), tensor.span);
            let batch: Vec<_> = tensor.dims.iter().filter(|d| d.batch.is_some()).map(|d| d.size.clone()).collect();
            let names: Vec<String> = batch.iter().map(|size| self.size_text(size)).collect();
            let by_batch = at.iter().find(|subscript| match &subscript.kind {
                Ast::Name(index) => scope.index(index).is_none() && names.iter().any(|n| n.to_lowercase() == *index),
                _ => false,
            });
            if let Some(subscript) = by_batch {
                let error = Diagnostic::new("batch-axis-subscripted", format!("`{name}` is {shape} for each head"))
                    .label(subscript.span, "a batch axis is never subscripted")
                    .label(declared, "declared here")
                    .help("equations are for one batch element and one head: leave this subscript out");
                self.report(error);
                return None;
            }
        }
        let message = format!("{} subscripts, but this is {shape}", at.len());
        let help = match self.iterated_name(array) {
            Some(name) => format!("after its iteration `{name}` is its last value: leave the subscript out"),
            None => "a subscript takes the leading remaining axis, batch axes apart".to_string(),
        };
        let help = help.as_str();
        self.fail("subscript-count", message, span, &format!("{shape} has fewer axes"), help)
    }

    /// The name of the iterated let whose last value an expression is.
    fn iterated_name(&self, value: ExprId) -> Option<String> {
        let ExprKind::Subscript { base, .. } = &self.arena.get(value).kind else { return None };
        let ExprKind::Let(id) = self.arena.get(*base).kind else { return None };
        let found = &self.variant.lets[id.index()];
        matches!(found.value, LetValue::Iterate { .. }).then(|| found.name.clone())
    }

    fn let_at(&mut self, id: LetId, at: &'a [ast::Expr], base: Span, span: Span, scope: &mut Scope<'a>) -> Checked {
        let ids = self.subscripts(at, scope)?;
        if matches!(self.variant.lets[id.index()].value, LetValue::Iterate { .. }) {
            let last = self.whole_let(id, base)?;
            return self.take(last, at, &ids, span, scope);
        }
        if self.let_depends_on_scan(id) && !self.at_token(&ids, scope) {
            let name = self.variant.lets[id.index()].name.clone();
            let message = format!("`{name}` belongs to the scan, and is read only at the current token");
            let help = format!("write `{name}[t]`, t the token on the left; what was before is kept by a state");
            return self.fail("scan-let-subscript", message, at[0].span, "another place", &help);
        }
        let whole = Ty::Array(self.let_dims(id));
        let array = self.node(ExprKind::Let(id), whole, base);
        self.take(array, at, &ids, span, scope)
    }

    fn at_token(&self, ids: &[ExprId], scope: &Scope<'a>) -> bool {
        let first = ids.first().map(|id| &self.arena.get(*id).kind);
        scope.token.is_some_and(|token| first == Some(&ExprKind::Index(token)))
    }

    fn state_at(&mut self, name: &str, id: StateId, at: &'a [ast::Expr], span: Span, scope: &mut Scope<'a>) -> Checked {
        let ids = self.subscripts(at, scope)?;
        // Without tokens the state is reported where it is declared.
        self.variant.token?;
        let ty = Ty::Array(self.variant.states[id.index()].dims.clone());
        let state = if self.at_token(&ids, scope) {
            self.state_after(name, id, span)?;
            self.node(ExprKind::StateNew(id), ty, span)
        } else if self.before_token(&ids, scope) {
            self.node(ExprKind::StateOld(id), ty, span)
        } else {
            let message = format!("the state `{name}` is read at the current token or just before it");
            let help = match scope.token {
                Some(token) => {
                    let t = &self.variant.indices[token.index()].name;
                    format!("write `{name}[{t}]` or `{name}[{t}-1]`")
                }
                None => format!("put a token index on the left: `x[t] = ... {name}[t] ...`"),
            };
            return self.fail("state-subscript", message, at[0].span, "another place", &help);
        };
        if at.len() == 1 {
            return Some(state);
        }
        self.take(state, &at[1..], &ids[1..], span, scope)
    }

    /// Whether the first subscript is `t - 1`, t the token on the left.
    fn before_token(&self, ids: &[ExprId], scope: &Scope<'a>) -> bool {
        let Some(first) = ids.first() else { return false };
        match &self.arena.get(*first).kind {
            ExprKind::Map { function: Function::Sub, args } => {
                self.at_token(args, scope) && self.arena.get(args[1]).kind == ExprKind::Number(1.0)
            }
            _ => false,
        }
    }

    fn iterate_old(
        &mut self,
        name: &str,
        id: LetId,
        index: IndexId,
        at: &'a [ast::Expr],
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        let ids = self.subscripts(at, scope)?;
        let stepping = Scope { token: Some(index), ..Scope::default() };
        if !self.before_token(&ids, &stepping) {
            let s = self.variant.indices[index.index()].name.clone();
            let message = format!("an iteration reads only the entry before: `{name}[{s}-1]`");
            return self.fail("iteration-subscript", message, at[0].span, "another entry", "");
        }
        let ty = self.variant.lets[id.index()].ty.clone();
        let old = self.node(ExprKind::IterateOld(id), ty, span);
        if at.len() == 1 {
            return Some(old);
        }
        self.take(old, &at[1..], &ids[1..], span, scope)
    }

    fn coordinate(&mut self, base: &'a ast::Expr, field: &ast::Ident, span: Span, scope: &mut Scope<'a>) -> Checked {
        let axis = match field.name.as_str() {
            "y" => GridAxis::Y,
            "x" => GridAxis::X,
            other => {
                let message = format!("`.{other}` is no coordinate");
                let help = match other {
                    "T" | "mT" | "t" | "H" | "transpose" => "the transpose is `'`: `x'`",
                    "shape" | "size" | "ndim" => "the name of an axis is its size: `sqrt(K)`",
                    _ => "write `.y` or `.x`",
                };
                return self.fail("unknown-coordinate", message, field.span, "not known", help);
            }
        };
        let id = self.expr(base, scope)?;
        let index = self.grid_index(id, base.span)?;
        Some(self.node(ExprKind::Coord { index, axis }, Ty::scalar(), span))
    }

    /// The token index that an expression is, where tokens lie on a grid.
    pub(super) fn grid_index(&mut self, id: ExprId, span: Span) -> Checked<IndexId> {
        let index = match self.arena.get(id).kind {
            ExprKind::Index(index) if self.variant.indices[index.index()].token => index,
            _ => {
                let message = "only a token's index has coordinates".to_string();
                return self.fail("unknown-coordinate", message, span, "no token index", "");
            }
        };
        self.need_grid(span)?;
        Some(index)
    }

    pub(super) fn need_grid(&mut self, span: Span) -> Checked<()> {
        if self.variant.grid.is_some() {
            return Some(());
        }
        let message = "the tokens of this variant lie on no grid".to_string();
        self.fail("no-grid", message, span, "wants a grid", "say how they lie: `axes B, H, T = Y*X, ...;`")
    }

    /// A condition as a truth value: a number holds where it is not 0.
    pub(super) fn condition(&mut self, id: ExprId, span: Span) -> Checked {
        let ty = self.ty(id);
        if ty == Ty::Bool {
            return Some(id);
        }
        if !ty.is_scalar() {
            let found = self.type_text(&ty);
            let help = "compare single numbers, or reduce first: `max(x) > 0`";
            let message = format!("a condition is a scalar, not {found}");
            return self.fail("condition-not-scalar", message, span, &format!("{found} here"), help);
        }
        let zero = self.number_node(0.0, span);
        Some(self.node(ExprKind::Map { function: Function::Ne, args: vec![id, zero] }, Ty::Bool, span))
    }

    /// A truth value as a number, 1 or 0; a number as it is.
    pub(super) fn numeric(&mut self, id: ExprId) -> ExprId {
        if self.ty(id) != Ty::Bool {
            return id;
        }
        let span = self.span(id);
        let (then, otherwise) = (self.number_node(1.0, span), self.number_node(0.0, span));
        self.node(ExprKind::If { cond: id, then, otherwise }, Ty::scalar(), span)
    }
}

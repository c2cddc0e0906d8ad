//! Index variables: which axis each ranges over, and their copies where one name is bound twice.

use crate::ast::{self, ExprKind, Ident};
use crate::diagnostic::Diagnostic;
use crate::shape::Size;
use crate::source::Span;
use crate::typed::{AxisKind, Index, IndexId};

use super::scope::{Argument, Binding, Meaning, Scope};
use super::{Checked, Checker};

impl<'a> Checker<'a> {
    /// The size that an index ranges over: what `in` says, what it is known to be, what direct subscripts in `within`
    /// say, what those of tensors further down say, else by its name.
    pub(super) fn index_size(
        &mut self,
        name: &Ident,
        axis: Option<&Ident>,
        within: &[&'a ast::Expr],
        scope: &Scope<'a>,
    ) -> Checked<Size> {
        let known = self.indices.get(&name.name).map(|id| self.variant.indices[id.index()].size.clone());
        if let Some(axis) = axis {
            let size = self.named_axis(axis, scope)?;
            return match known {
                Some(known) if !self.same_size(&known, &size) && scope.frames.is_empty() => {
                    self.index_conflict(&name.name, axis.span, &known, &size)
                }
                _ => Some(size),
            };
        }
        let mut found = Vec::new();
        for expr in within {
            self.direct_subscripts(expr, &name.name, scope, &mut found);
        }
        let said = self.preferred(&found);
        match (known, said) {
            // In a function the same letter may run over another axis than in the variant.
            (Some(known), Some(said)) if !scope.frames.is_empty() && self.conflicting(&known, &said) => Some(said),
            (Some(known), _) => Some(known),
            (None, Some(said)) => Some(said),
            (None, None) => self.size_by_name(name, scope),
        }
    }

    fn named_axis(&mut self, axis: &Ident, scope: &Scope<'a>) -> Checked<Size> {
        match self.meaning(&axis.name, scope) {
            Some(Meaning::Bound(Binding::Axis(id))) => Some(self.axis_size(id)),
            Some(Meaning::Bound(Binding::Arg(value))) if value.fract() == 0.0 => Some(Size::constant(value as i64)),
            Some(Meaning::Bound(Binding::Poison)) => None,
            Some(_) => {
                let message = format!("`{}` is no axis", axis.name);
                self.fail("not-a-size", message, axis.span, "an axis is wanted after `in`", "")
            }
            None => self.undeclared(&axis.name, axis.span, scope),
        }
    }

    fn size_by_name(&mut self, name: &Ident, scope: &Scope<'a>) -> Checked<Size> {
        if self.lost_indices.contains(&name.name) {
            return None;
        }
        let mut found = Vec::new();
        for number in self.ahead.subscripting(&name.name, self.number) {
            for expr in expressions(&self.body[*number]) {
                self.direct_subscripts(expr, &name.name, scope, &mut found);
            }
        }
        if let Some(size) = self.preferred(&found) {
            return Some(size);
        }
        if matches!(name.name.as_str(), "t" | "i" | "j" | "s")
            && let Some(token) = self.token_size()
        {
            return Some(token);
        }
        let upper = name.name.to_uppercase();
        if upper != name.name
            && let Some(Binding::Axis(id)) = self.names.get(&upper).map(|named| named.binding)
        {
            return Some(self.axis_size(id));
        }
        let example = self.variant.axes.last().map_or("N".to_string(), |axis| axis.name.clone());
        let tokens = matches!(name.name.as_str(), "t" | "i" | "j" | "s").then(|| self.token_mend()).flatten();
        let help = tokens
            .unwrap_or_else(|| format!("say it where it is reduced over: `sum[{} in {example}](...)`", name.name));
        self.lost_indices.insert(name.name.clone());
        let message = format!("what the index `{}` ranges over is not known", name.name);
        self.fail("unknown-index", message, name.span, "no subscript and no axis of this letter says it", &help)
    }

    /// A lone axis before a composed size: in `x[i] + row[i]` with `row : [T+1]`, i ranges over T.
    fn preferred(&self, found: &[Size]) -> Option<Size> {
        found.iter().find(|size| is_plain(size)).or(found.first()).cloned()
    }

    /// Two sizes that one index cannot both have: both are a lone axis or a number.
    fn conflicting(&self, a: &Size, b: &Size) -> bool {
        is_plain(a) && is_plain(b) && !self.same_size(a, b)
    }

    /// Sizes that direct subscripts give an index: `x[.., name, ..]` for a tensor, let or state.
    fn direct_subscripts(&self, expr: &'a ast::Expr, name: &str, scope: &Scope<'a>, found: &mut Vec<Size>) {
        if let ExprKind::Subscript { base, at } = &expr.kind
            && let ExprKind::Name(array) = &base.kind
        {
            for (place, subscript) in at.iter().enumerate() {
                if matches!(&subscript.kind, ExprKind::Name(index) if index == name) {
                    found.extend(self.dim_of(array, place, scope));
                }
            }
        }
        for child in children(expr) {
            self.direct_subscripts(child, name, scope, found);
        }
    }

    fn dim_of(&self, array: &str, place: usize, scope: &Scope<'a>) -> Option<Size> {
        let dims = match self.meaning(array, scope)? {
            Meaning::Argument(Argument::Value(Some(id))) => self.ty(id).dims(),
            Meaning::Bound(Binding::Tensor(id)) => self.tensor_shape(id),
            Meaning::Bound(Binding::Let(id)) => self.let_dims(id),
            Meaning::Bound(Binding::State(_)) => vec![self.token_size()?],
            _ => return None,
        };
        dims.get(place).cloned()
    }

    /// The variant's index of this name, made if new; a fresh one where that is in force already or of another size.
    pub(super) fn bind_index(&mut self, name: &str, size: Size, scope: &Scope<'a>) -> IndexId {
        if let Some(id) = self.indices.get(name).copied() {
            let free = scope.indices.iter().all(|(_, used)| *used != id);
            if free && self.same_size(&self.variant.indices[id.index()].size, &size) {
                return id;
            }
            return self.fresh_index(name, size);
        }
        let id = self.fresh_index(name, size);
        self.indices.insert(name.to_string(), id);
        id
    }

    pub(super) fn fresh_index(&mut self, name: &str, size: Size) -> IndexId {
        let id = IndexId(u32::try_from(self.variant.indices.len()).expect("a file has fewer than 2^32 indices"));
        let token = self.is_token_size(&size);
        self.variant.indices.push(Index { name: name.to_string(), size, token });
        id
    }

    /// A scope with the index variables of a left side. `value` helps to find their axes.
    pub(super) fn left_scope(
        &mut self,
        subscripts: &'a [ast::Expr],
        value: Option<&'a ast::Expr>,
    ) -> Checked<Scope<'a>> {
        let mut scope = Scope::default();
        let within: Vec<&'a ast::Expr> = value.into_iter().collect();
        for subscript in subscripts {
            let ExprKind::Name(name) = &subscript.kind else {
                let help = "write `x[t] = ...`; the right side may look at other places";
                let message = "a subscript on the left is an index variable".to_string();
                return self.fail("left-subscript", message, subscript.span, "no index variable", help);
            };
            let name = Ident { name: name.clone(), span: subscript.span };
            if scope.index(&name.name).is_some() {
                let message = format!("the index `{}` stands twice on the left", name.name);
                return self.fail("left-subscript", message, name.span, "the second time", "use two letters");
            }
            let size = self.index_size(&name, None, &within, &Scope::default())?;
            if let Some(axis) = self.batch_axis(&size) {
                let message = format!("`{axis}` is a batch axis, and `{}` would range over it", name.name);
                let help = "equations are for one batch element and one head: leave this subscript out";
                return self.fail("batch-axis-subscripted", message, name.span, "a batch axis", help);
            }
            let id = self.bind_index(&name.name, size, &scope);
            if scope.token.is_none() && self.variant.indices[id.index()].token {
                scope.token = Some(id);
            }
            scope.indices.push((name.name, id));
        }
        scope.left = scope.indices.len();
        Some(scope)
    }

    /// A scope with one token index on the left, for what is written without one.
    pub(super) fn token_scope(&mut self) -> Option<(IndexId, Scope<'a>)> {
        let size = self.token_size()?;
        let known = self.indices.get("t").copied();
        let index = match known {
            Some(id) if self.variant.indices[id.index()].token => id,
            Some(_) => self.fresh_index("t", size),
            None => self.bind_index("t", size, &Scope::default()),
        };
        let indices = vec![("t".to_string(), index)];
        Some((index, Scope { indices, left: 1, token: Some(index), ..Scope::default() }))
    }

    /// An index used directly as a subscript must range over that axis.
    pub(super) fn check_direct(&mut self, index: IndexId, dim: &Size, span: Span) -> Checked<()> {
        let known = self.variant.indices[index.index()].clone();
        if self.conflicting(&known.size, dim) {
            return self.index_conflict(&known.name, span, &known.size, dim);
        }
        Some(())
    }

    /// The name of the batch or group axis that a size is.
    pub(super) fn batch_axis(&self, size: &Size) -> Option<String> {
        let axis = &self.variant.axes[size.as_axis()?.0 as usize];
        (axis.kind != AxisKind::Own).then(|| axis.name.clone())
    }

    fn index_conflict<T>(&mut self, name: &str, span: Span, known: &Size, here: &Size) -> Checked<T> {
        let (known, here) = (self.size_text(known), self.size_text(here));
        let message = format!("the index `{name}` ranges over {known}, and here over {here}");
        let error = Diagnostic::new("index-conflict", message).label(span, format!("an axis of size {here}")).help(
            self.batch_mend()
                .unwrap_or_else(|| "one index is one axis in a variant: use another letter here".to_string()),
        );
        self.report(error);
        None
    }
}

/// A lone axis or a number.
fn is_plain(size: &Size) -> bool {
    size.as_axis().is_some() || size.as_constant().is_some()
}

/// The expressions directly below one.
pub(super) fn children(expr: &ast::Expr) -> Vec<&ast::Expr> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Name(_) => Vec::new(),
        ExprKind::Subscript { base, at } => std::iter::once(&**base).chain(at).collect(),
        ExprKind::Field { base, .. } => vec![base],
        ExprKind::Transpose(x) | ExprKind::Neg(x) | ExprKind::Not(x) => vec![x],
        ExprKind::Binary { left, right, .. } => vec![left, right],
        ExprKind::Compare { first, rest } => std::iter::once(&**first).chain(rest.iter().map(|(_, e)| e)).collect(),
        ExprKind::If { cond, then, otherwise } => vec![cond, then, otherwise],
        ExprKind::Call { args, .. } => args.iter().map(|arg| &arg.value).collect(),
        ExprKind::Reduction { cond, body, .. } => cond.iter().map(|c| &**c).chain([&**body]).collect(),
        ExprKind::Range { from, to } => vec![from, to],
        ExprKind::Tuple(items) => items.iter().collect(),
    }
}

/// The right sides of a statement.
pub(super) fn expressions(stmt: &ast::Stmt) -> Vec<&ast::Expr> {
    use ast::StmtKind::*;
    match &stmt.kind {
        Let { value, .. } | LetSeveral { value, .. } | Recurrence { value, .. } | Read { value, .. } => vec![value],
        Decay { lhs, value, .. } | Output { lhs, value } => value.iter().chain(&lhs.subscripts).collect(),
        Local(ast::Local::Where(cond)) => vec![cond],
        _ => Vec::new(),
    }
}

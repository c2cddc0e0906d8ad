//! Axes and sizes: `axes`, `batch`, parameters of the variant, sizes as expressions, and what equals what.

use crate::ast::{self, BinaryOp, ExprKind, Ident};
use crate::diagnostic::Diagnostic;
use crate::shape::{AxisId, Size};
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{self, Axis, AxisKind, Function, Grid, Ty};

use super::scope::{Argument, Binding, Meaning, Scope};
use super::{Checked, Checker};

impl<'a> Checker<'a> {
    /// Binds the variant's parameters to what is given for them, else to their defaults.
    pub(super) fn parameters(&mut self, variant: &'a ast::Variant, args: &[(String, f64)]) {
        for param in &variant.params {
            let given = args.iter().rev().find(|(name, _)| *name == param.name.name).map(|(_, value)| *value);
            let value = match (given, &param.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => self.number(default, &Scope::default()),
                (None, None) => self.fail(
                    "missing-arg",
                    format!("the parameter `{}` has no value", param.name.name),
                    param.name.span,
                    "no default here",
                    &format!("give it one, `{0} = 64`, or pass `--arg {0}=64`", param.name.name),
                ),
            };
            let binding = value.map_or(Binding::Poison, Binding::Arg);
            if self.declare(&param.name, binding).is_some() {
                self.variant.args.extend(value.map(|value| (param.name.name.clone(), value)));
            }
        }
    }

    /// A compile-time number, or the error that it is none.
    pub(super) fn number(&mut self, expr: &'a ast::Expr, scope: &Scope<'a>) -> Checked<f64> {
        match self.constant(expr, scope) {
            Some(value) => Some(value),
            None => self.fail(
                "not-a-constant",
                "this must be a number known at compile time".to_string(),
                expr.span,
                "depends on something else",
                "use numbers and the variant's parameters",
            ),
        }
    }

    /// The value of an expression of numbers and the variant's parameters, if it is one. Reports nothing.
    pub(super) fn constant(&self, expr: &'a ast::Expr, scope: &Scope<'a>) -> Option<f64> {
        match &expr.kind {
            ExprKind::Number(value) => Some(*value),
            ExprKind::Name(name) => match self.meaning(name, scope)? {
                Meaning::Number(value) | Meaning::Bound(Binding::Arg(value)) => Some(value),
                Meaning::Argument(Argument::Value(Some(id))) => match self.arena.get(id).kind {
                    typed::ExprKind::Number(value) => Some(value),
                    _ => None,
                },
                _ => None,
            },
            ExprKind::Neg(inner) => Some(-self.constant(inner, scope)?),
            ExprKind::Binary { op, left, right } => {
                let function = super::operator::arithmetic(*op)?;
                Some(function.eval(&[self.constant(left, scope)?, self.constant(right, scope)?]))
            }
            ExprKind::Call { name, args } => {
                let function = Function::by_name(&name.name)?;
                let values: Option<Vec<f64>> = args.iter().map(|arg| self.constant(&arg.value, scope)).collect();
                let values = values.filter(|values| values.len() == function.arity())?;
                Some(function.eval(&values))
            }
            _ => None,
        }
    }

    /// A whole number known at compile time.
    pub(super) fn whole(&mut self, expr: &'a ast::Expr, scope: &Scope<'a>) -> Checked<i64> {
        let value = self.number(expr, scope)?;
        self.as_whole(value, expr.span)
    }

    fn as_whole(&mut self, value: f64, span: Span) -> Checked<i64> {
        if value.fract() == 0.0 && value.abs() < 9e15 {
            // Exact: checked just above.
            return Some(value as i64);
        }
        self.fail("not-a-size", format!("{value} is no whole number"), span, "a whole number is wanted here", "")
    }

    pub(super) fn collect_batch(&mut self, body: &[ast::Stmt]) {
        for stmt in body {
            if let ast::StmtKind::Batch(names) = &stmt.kind {
                self.batch_names.extend(names.iter().map(|name| name.name.clone()));
            }
        }
    }

    pub(super) fn axes(&mut self, axes: &'a [ast::Axis]) {
        for axis in axes {
            self.declare_axis(&axis.name, axis.value.is_some());
        }
        for axis in axes {
            if let Some(value) = &axis.value {
                self.derive_axis(&axis.name, value);
            }
        }
    }

    pub(super) fn batch(&mut self, names: &'a [Ident]) {
        for name in names {
            if name.name == "T" {
                let help = "the token axis is what equations are written over: leave it out";
                self.fail::<()>("token-as-batch", "`T` cannot be a batch axis".into(), name.span, "listed here", help);
            } else if !matches!(self.names.get(&name.name).map(|n| n.binding), Some(Binding::Axis(_))) {
                self.declare_axis(name, false);
            }
        }
    }

    fn declare_axis(&mut self, name: &Ident, derived: bool) {
        let known = match self.names.get(&name.name).map(|named| named.binding) {
            Some(Binding::Axis(id)) => Some(id),
            _ => None,
        };
        // `axes T, T = Y*X`, and an axis so far named only in another's definition: the same axis, said more fully.
        let listed = self.implicit.remove(&name.name);
        if let Some(id) = known
            && (listed || (derived && self.variant.axes[id.0 as usize].value.is_none()))
        {
            return;
        }
        if self.reject_constant_name(name).is_some() {
            let id = self.new_axis(name);
            if self.declare(name, Binding::Axis(id)).is_none() {
                self.variant.axes.pop();
                return;
            }
            match name.name.as_str() {
                "T" => self.variant.token = Some(id),
                "H" => self.variant.head = Some(id),
                _ => {}
            }
        }
    }

    fn reject_constant_name(&mut self, name: &Ident) -> Checked<()> {
        if matches!(name.name.as_str(), "pi" | "inf" | "true" | "false") {
            let message = format!("`{}` is a constant of the language", name.name);
            return self.fail(
                "duplicate-name",
                message,
                name.span,
                "given a second meaning here",
                "choose another name",
            );
        }
        Some(())
    }

    fn new_axis(&mut self, name: &Ident) -> AxisId {
        let id = AxisId(u32::try_from(self.variant.axes.len()).expect("a file has fewer than 2^32 axes"));
        let kind = if self.batch_names.contains(&name.name) { AxisKind::Batch } else { AxisKind::Own };
        self.variant.axes.push(Axis { name: name.name.clone(), span: name.span, kind, value: None });
        id
    }

    fn derive_axis(&mut self, name: &Ident, value: &'a ast::Expr) {
        let Some(Binding::Axis(id)) = self.names.get(&name.name).map(|named| named.binding) else { return };
        self.imply_axes(value);
        let Some(size) = self.size(value, &Scope::default()) else { return };
        if self.expand(&size).axes().contains(&id) {
            let message = format!("the axis `{}` is defined by itself", name.name);
            self.fail::<()>("axis-cycle", message, value.span, "leads back to it", "");
            return;
        }
        self.variant.axes[id.0 as usize].value = Some(size);
        if Some(id) == self.variant.token {
            self.variant.grid = self.grid_of(value);
        }
        if Some(id) == self.variant.head {
            self.mark_group(value);
        }
    }

    /// Names in an axis's definition that nothing declares are axes too: `T = Y*X`.
    fn imply_axes(&mut self, value: &'a ast::Expr) {
        match &value.kind {
            ExprKind::Name(name) if !self.names.contains_key(name) && !matches!(name.as_str(), "pi" | "inf") => {
                let name = Ident { name: name.clone(), span: value.span };
                self.declare_axis(&name, false);
                self.implicit.insert(name.name);
            }
            ExprKind::Neg(inner) => self.imply_axes(inner),
            ExprKind::Binary { left, right, .. } => {
                self.imply_axes(left);
                self.imply_axes(right);
            }
            _ => {}
        }
    }

    /// `Y*X` or `L + Y*X` as a grid. In a longer sum the first product is, and what follows are tokens after it.
    fn grid_of(&mut self, value: &'a ast::Expr) -> Option<Grid> {
        let scope = Scope::default();
        match &value.kind {
            ExprKind::Binary { op: BinaryOp::Mul, left, right } => {
                let (rows, cols) = (self.size(left, &scope)?, self.size(right, &scope)?);
                Some(Grid { offset: Size::constant(0), rows, cols })
            }
            ExprKind::Binary { op: BinaryOp::Add, left, right } => {
                // A multiple, `2*L + Y*X`, is no grid.
                let whole = |grid: &Grid| grid.rows.as_constant().is_some() == grid.cols.as_constant().is_some();
                if let Some(grid) = self.grid_of(left).filter(whole) {
                    return Some(grid);
                }
                let grid = self.grid_of(right)?;
                let offset = self.size(left, &scope)?.add(&grid.offset);
                Some(Grid { offset, ..grid })
            }
            _ => None,
        }
    }

    /// In `H = G*R`, the axis G is read at `h div R`; in `H = 2*G` too, the other factor being the ratio.
    fn mark_group(&mut self, value: &'a ast::Expr) {
        if let ExprKind::Binary { op: BinaryOp::Mul, left, right } = &value.kind {
            let scope = Scope::default();
            let factors = [left, right].map(|factor| self.size(factor, &scope).and_then(|size| size.as_axis()));
            if let Some(axis) = factors.into_iter().flatten().next() {
                self.variant.axes[axis.0 as usize].kind = AxisKind::Group;
            }
        }
    }

    /// The size that an expression of axes, parameters and whole numbers says.
    pub(super) fn size(&mut self, expr: &'a ast::Expr, scope: &Scope<'a>) -> Checked<Size> {
        if let Some(value) = self.constant(expr, scope) {
            return self.as_whole(value, expr.span).map(Size::constant);
        }
        match &expr.kind {
            ExprKind::Name(name) => self.named_size(name, expr.span, scope),
            ExprKind::Neg(inner) => Some(self.size(inner, scope)?.neg()),
            ExprKind::Binary { op, left, right } => {
                let (a, b) = (self.size(left, scope), self.size(right, scope));
                let (a, b) = (a?, b?);
                let size = match op {
                    BinaryOp::Add => Some(a.add(&b)),
                    BinaryOp::Sub => Some(a.sub(&b)),
                    BinaryOp::Mul | BinaryOp::ElementMul => Some(a.mul(&b)),
                    BinaryOp::FloorDiv | BinaryOp::Div => a.floor_div(&b),
                    BinaryOp::Mod => a.modulo(&b),
                    BinaryOp::Pow => b
                        .as_constant()
                        .filter(|n| (0..=8).contains(n))
                        .map(|n| (0..n).fold(Size::constant(1), |product, _| product.mul(&a))),
                    _ => None,
                };
                size.or_else(|| self.no_size(expr.span))
            }
            _ => self.no_size(expr.span),
        }
    }

    fn named_size(&mut self, name: &str, span: Span, scope: &Scope<'a>) -> Checked<Size> {
        match self.meaning(name, scope) {
            Some(Meaning::Bound(Binding::Axis(id))) => Some(self.axis_size(id)),
            Some(Meaning::Bound(Binding::Poison) | Meaning::Argument(Argument::Value(None))) => None,
            Some(Meaning::Argument(Argument::Value(Some(id)))) => {
                let size = self.size_of_expr(id);
                size.or_else(|| self.no_size(span))
            }
            Some(_) => self.no_size(span),
            None if self.is_unsaid(name) => None,
            None => {
                let error = Diagnostic::new("undeclared-name", format!("`{name}` is no axis declared above"))
                    .label(span, "not known here");
                let error = match self.near_axis(name) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error.help(format!("list it: `axes {name};`")),
                };
                self.report(error);
                None
            }
        }
    }

    pub(super) fn near_axis(&mut self, name: &str) -> Option<String> {
        self.afford(self.variant.axes.len())?;
        nearest(name, self.variant.axes.iter().map(|axis| axis.name.as_str())).map(str::to_string)
    }

    fn no_size<T>(&mut self, span: Span) -> Checked<T> {
        let help = "a size is made of axes, parameters of the variant and whole numbers";
        self.fail("not-a-size", "this is no size".to_string(), span, "used as a size here", help)
    }

    /// A checked expression as a size: a function's argument used as one.
    fn size_of_expr(&self, id: super::ExprId) -> Option<Size> {
        match &self.arena.get(id).kind {
            typed::ExprKind::Number(value) if value.fract() == 0.0 => Some(Size::constant(*value as i64)),
            typed::ExprKind::Size(size) => Some(size.clone()),
            typed::ExprKind::Map { function, args } => {
                let sizes: Option<Vec<Size>> = args.iter().map(|arg| self.size_of_expr(*arg)).collect();
                match (function, sizes?.as_slice()) {
                    (Function::Add, [a, b]) => Some(a.add(b)),
                    (Function::Sub, [a, b]) => Some(a.sub(b)),
                    (Function::Mul, [a, b]) => Some(a.mul(b)),
                    (Function::FloorDiv | Function::Div, [a, b]) => a.floor_div(b),
                    (Function::Mod, [a, b]) => a.modulo(b),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// An axis as a size in types: a derived one is what it equals, so that `F = 2*K` and `2*K` are one size. The
    /// token axis and batch axes keep their names.
    pub(super) fn axis_size(&self, id: AxisId) -> Size {
        let axis = &self.variant.axes[id.0 as usize];
        match &axis.value {
            Some(value) if axis.kind == AxisKind::Own && Some(id) != self.variant.token => value.clone(),
            _ => Size::axis(id),
        }
    }

    /// The size with every derived axis replaced by what it equals.
    pub(super) fn expand(&self, size: &Size) -> Size {
        let mut expanded = size.clone();
        // Definitions refer to one another without cycles, so as many rounds as axes replace all.
        for _ in 0..self.variant.axes.len() {
            let next = expanded.substitute(&|axis| self.variant.axes[axis.0 as usize].value.clone());
            if next == expanded {
                break;
            }
            expanded = next;
        }
        expanded
    }

    pub(super) fn same_size(&self, a: &Size, b: &Size) -> bool {
        a == b || self.expand(a) == self.expand(b)
    }

    pub(super) fn same_dims(&self, a: &[Size], b: &[Size]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same_size(a, b))
    }

    pub(super) fn same_type(&self, a: &Ty, b: &Ty) -> bool {
        match (a, b) {
            (Ty::Bool, Ty::Bool) => true,
            (Ty::Array(a), Ty::Array(b)) => self.same_dims(a, b),
            (Ty::Row(a), Ty::Row(b)) => self.same_size(a, b),
            _ => false,
        }
    }

    pub(super) fn token_size(&self) -> Option<Size> {
        self.variant.token.map(Size::axis)
    }

    pub(super) fn is_token_size(&self, size: &Size) -> bool {
        self.token_size().is_some_and(|token| self.same_size(&token, size))
    }

    pub(super) fn size_text(&self, size: &Size) -> String {
        size.print(&|axis| self.variant.axis_name(axis))
    }

    /// A type in the user's words: `a scalar`, `[K,V]`, `a row [V]'`.
    pub(super) fn type_text(&self, ty: &Ty) -> String {
        match ty {
            Ty::Bool => "a condition".to_string(),
            Ty::Array(dims) if dims.is_empty() => "a scalar".to_string(),
            Ty::Array(dims) => self.dims_text(dims),
            Ty::Row(n) => format!("the row [{}]'", self.size_text(n)),
        }
    }

    pub(super) fn dims_text(&self, dims: &[Size]) -> String {
        let dims: Vec<String> = dims.iter().map(|dim| self.size_text(dim)).collect();
        format!("[{}]", dims.join(","))
    }
}

//! Operators: element-wise functions with their broadcasting, the matrix product by shapes, comparisons and choice.

use crate::ast::{self, BinaryOp, CompareOp};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::typed::{ExprId, ExprKind, Function, Ty};

use super::scope::Scope;
use super::{Checked, Checker};

/// The function of scalars that an arithmetic operator applies to numbers.
pub(super) fn arithmetic(op: BinaryOp) -> Option<Function> {
    match op {
        BinaryOp::Add => Some(Function::Add),
        BinaryOp::Sub => Some(Function::Sub),
        BinaryOp::Mul | BinaryOp::ElementMul => Some(Function::Mul),
        BinaryOp::Div | BinaryOp::ElementDiv => Some(Function::Div),
        BinaryOp::Pow => Some(Function::Pow),
        BinaryOp::Mod => Some(Function::Mod),
        BinaryOp::FloorDiv => Some(Function::FloorDiv),
        BinaryOp::And | BinaryOp::Or => None,
    }
}

fn comparison(op: CompareOp) -> Function {
    match op {
        CompareOp::Lt => Function::Lt,
        CompareOp::Le => Function::Le,
        CompareOp::Gt => Function::Gt,
        CompareOp::Ge => Function::Ge,
        CompareOp::Eq => Function::Eq,
        CompareOp::Ne => Function::Ne,
    }
}

impl<'a> Checker<'a> {
    pub(super) fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId, span: Span) -> Checked {
        match op {
            BinaryOp::And | BinaryOp::Or => {
                let (left, right) = (self.span(a), self.span(b));
                let (a, b) = (self.condition(a, left), self.condition(b, right));
                let function = if op == BinaryOp::And { Function::And } else { Function::Or };
                Some(self.truth(function, a?, b?, span))
            }
            BinaryOp::Mul => self.product(a, b, span),
            BinaryOp::Div => {
                let b = self.numeric(b);
                let ty = self.ty(b);
                if !ty.is_scalar() {
                    let found = self.type_text(&ty);
                    let message = format!("`/` divides by a scalar, not by {found}");
                    let label = format!("{found} here");
                    let place = self.span(b);
                    return self.fail(
                        "division-by-array",
                        message,
                        place,
                        &label,
                        "write `./` to divide element by element",
                    );
                }
                self.map(Function::Div, &[a, b], span)
            }
            _ => {
                let function = arithmetic(op).expect("`and` and `or` are handled above");
                self.map(function, &[a, b], span)
            }
        }
    }

    fn truth(&mut self, function: Function, a: ExprId, b: ExprId, span: Span) -> ExprId {
        self.node(ExprKind::Map { function, args: vec![a, b] }, Ty::Bool, span)
    }

    /// A function of scalars element by element: scalars broadcast, else shapes are equal.
    pub(super) fn map(&mut self, function: Function, args: &[ExprId], span: Span) -> Checked {
        let args: Vec<ExprId> = args.iter().map(|arg| self.numeric(*arg)).collect();
        let mut shape: Option<ExprId> = None;
        for arg in &args {
            if self.ty(*arg).is_scalar() {
                continue;
            }
            match shape {
                None => shape = Some(*arg),
                Some(first) if !self.same_type(&self.ty(first), &self.ty(*arg)) => {
                    return self.unequal(function.name(), first, *arg, span);
                }
                Some(_) => {}
            }
        }
        let ty = shape.map_or(Ty::scalar(), |first| self.ty(first));
        Some(self.node(ExprKind::Map { function, args }, ty, span))
    }

    /// Two shapes that an element-wise function cannot take together.
    pub(super) fn unequal<T>(&mut self, function: &str, a: ExprId, b: ExprId, span: Span) -> Checked<T> {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let (fa, fb) = (self.type_text(&ta), self.type_text(&tb));
        let mut error = Diagnostic::new("shape-mismatch", format!("`{function}` of {fa} and {fb}"))
            .label(span, "the shapes must be equal, or one a scalar")
            .label(self.span(a), format!("this is {fa}"))
            .label(self.span(b), format!("this is {fb}"));
        let row_against_column = matches!((&ta, &tb), (Ty::Row(_), Ty::Array(_)) | (Ty::Array(_), Ty::Row(_)))
            && self.same_dims(&ta.dims(), &tb.dims());
        if row_against_column {
            error = error.help("one is a row, the other a column: transpose one with `'`");
        } else if let Some(help) = self.group_mend(&[a, b]).or_else(|| self.broadcast_mend(function, (a, b))) {
            error = error.help(help);
        }
        self.report(error);
        None
    }

    /// `a * b` by shapes.
    pub(super) fn product(&mut self, a: ExprId, b: ExprId, span: Span) -> Checked {
        let (a, b) = (self.numeric(a), self.numeric(b));
        let (ta, tb) = (self.ty(a), self.ty(b));
        if ta.is_scalar() || tb.is_scalar() {
            return self.map(Function::Mul, &[a, b], span);
        }
        let (inner, ty) = match (&ta, &tb) {
            (Ty::Array(x), Ty::Array(y)) => match (x.as_slice(), y.as_slice()) {
                ([_], [_]) => return self.vector_times_vector(a, b, span),
                ([n, k], [l]) => ((k.clone(), l.clone()), Ty::Array(vec![n.clone()])),
                ([n, k], [l, m]) => ((k.clone(), l.clone()), Ty::Array(vec![n.clone(), m.clone()])),
                _ => return self.no_product(a, b, span),
            },
            (Ty::Row(k), Ty::Array(y)) => match y.as_slice() {
                [l] => ((k.clone(), l.clone()), Ty::scalar()),
                [l, m] => ((k.clone(), l.clone()), Ty::Row(m.clone())),
                _ => return self.no_product(a, b, span),
            },
            (Ty::Array(x), Ty::Row(m)) => match x.as_slice() {
                [n] => {
                    let ty = Ty::Array(vec![n.clone(), m.clone()]);
                    return Some(self.node(ExprKind::Product(a, b), ty, span));
                }
                _ => return self.no_product(a, b, span),
            },
            _ => return self.no_product(a, b, span),
        };
        if !self.same_size(&inner.0, &inner.1) {
            return self.no_product(a, b, span);
        }
        Some(self.node(ExprKind::Product(a, b), ty, span))
    }

    fn vector_times_vector(&mut self, a: ExprId, b: ExprId, span: Span) -> Checked {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let (fa, fb) = (self.type_text(&ta), self.type_text(&tb));
        let error = Diagnostic::new("vector-times-vector", format!("`*` of two vectors, {fa} and {fb}"))
            .label(span, "neither a matrix product nor a scaling")
            .help(self.group_mend(&[a, b]).unwrap_or_else(|| self.vectors_mend(a, b)));
        self.report(error);
        None
    }

    fn no_product(&mut self, a: ExprId, b: ExprId, span: Span) -> Checked {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let (fa, fb) = (self.type_text(&ta), self.type_text(&tb));
        let mut error = Diagnostic::new("shape-mismatch", format!("`*` of {fa} and {fb}"))
            .label(span, "the inner sizes must be equal")
            .label(self.span(a), format!("this is {fa}"))
            .label(self.span(b), format!("this is {fb}"));
        if let Some(help) = self.group_mend(&[a, b]).or_else(|| self.product_mend(a, b)) {
            error = error.help(help);
        }
        self.report(error);
        None
    }

    pub(super) fn transpose(&mut self, id: ExprId, span: Span) -> Checked {
        let id = self.numeric(id);
        if let ExprKind::Transpose(inner) = self.arena.get(id).kind {
            return Some(inner);
        }
        let ty = match self.ty(id) {
            Ty::Row(n) => Ty::Array(vec![n]),
            Ty::Array(dims) => match dims.as_slice() {
                [] => return Some(id),
                [n] => Ty::Row(n.clone()),
                [n, m] => Ty::Array(vec![m.clone(), n.clone()]),
                _ => {
                    let found = self.dims_text(&dims);
                    let message = format!("`'` transposes a vector or a matrix, not {found}");
                    return self.fail("shape-mismatch", message, span, &format!("{found} here"), "");
                }
            },
            Ty::Bool => Ty::scalar(),
        };
        Some(self.node(ExprKind::Transpose(id), ty, span))
    }

    /// `a < b <= c`: both comparisons hold.
    pub(super) fn compare(
        &mut self,
        first: &'a ast::Expr,
        rest: &'a [(CompareOp, ast::Expr)],
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        let mut left = self.compared(first, scope);
        let mut all: Checked = None;
        let mut failed = left.is_none();
        for (op, operand) in rest {
            let right = self.compared(operand, scope);
            if let (Some(a), Some(b)) = (left, right) {
                let holds = self.truth(comparison(*op), a, b, span);
                all = Some(all.map_or(holds, |before| self.truth(Function::And, before, holds, span)));
            }
            failed |= right.is_none();
            left = right;
        }
        all.filter(|_| !failed)
    }

    fn compared(&mut self, operand: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked {
        let id = self.expr(operand, scope)?;
        let id = self.numeric(id);
        let ty = self.ty(id);
        if ty.is_scalar() {
            return Some(id);
        }
        let found = self.type_text(&ty);
        let help = "compare single numbers, or reduce first: `max(x) > 0`";
        let message = format!("a comparison is of scalars, not of {found}");
        self.fail("condition-not-scalar", message, operand.span, &format!("{found} here"), help)
    }

    /// `if cond then a else b`: one shape, which a scalar fills.
    pub(super) fn choose(&mut self, cond: ExprId, a: ExprId, b: ExprId, span: Span) -> Checked {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let kind = |then, otherwise| ExprKind::If { cond, then, otherwise };
        if ta == Ty::Bool && tb == Ty::Bool {
            return Some(self.node(kind(a, b), Ty::Bool, span));
        }
        let (a, b) = (self.numeric(a), self.numeric(b));
        let (ta, tb) = (self.ty(a), self.ty(b));
        let ty = if ta.is_scalar() || self.same_type(&ta, &tb) {
            if ta.is_scalar() { tb } else { ta }
        } else if tb.is_scalar() {
            ta
        } else {
            return self.unequal("if", a, b, span);
        };
        Some(self.node(kind(a, b), ty, span))
    }
}

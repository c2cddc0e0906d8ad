//! Products arranged so that no dense matrix is built from a low-rank one: scalars outside, factors applied one by one.
//!
//! ```text
//! (eye(K) - b * k * k') * S   ->   S - b * (k * (k' * S))
//! (A * B) * x                 ->   A * (B * x)
//! ```

use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, Ty};

use super::arena::Arena;

impl Arena<'_> {
    fn map(&mut self, function: Function, args: Vec<ExprId>, ty: Ty, span: Span) -> ExprId {
        self.intern(ExprKind::Map { function, args }, ty, span)
    }

    /// Whether this is a column times a row.
    pub fn is_outer(&self, id: ExprId) -> bool {
        match self.expr(id).kind {
            ExprKind::Product(_, b) => self.dims(id).len() == 2 && matches!(self.expr(b).ty, Ty::Row(_)),
            _ => false,
        }
    }

    /// Whether a product with this matrix is cheaper than one with its entries.
    fn is_structured(&self, id: ExprId) -> bool {
        if !self.is_matrix(id) {
            return false;
        }
        match &self.expr(id).kind {
            ExprKind::Eye(_) | ExprKind::Diag(_) => true,
            ExprKind::Product(..) => self.is_outer(id),
            ExprKind::Map { function: Function::Add | Function::Sub, args } => {
                args.iter().all(|&x| self.is_matrix(x)) && args.iter().any(|&x| self.is_structured(x))
            }
            ExprKind::Map { function: Function::Mul | Function::Div | Function::Neg, .. } => {
                self.scaling(id).is_some_and(|(_, _, matrix)| self.is_structured(matrix))
            }
            _ => false,
        }
    }

    /// A matrix times or over a scalar, or negated: the function, the scalar and the matrix.
    fn scaling(&self, id: ExprId) -> Option<(Function, Option<ExprId>, ExprId)> {
        let ExprKind::Map { function, args } = &self.expr(id).kind else { return None };
        let scalar = |x: ExprId| self.dims(x).is_empty();
        match (function, args.as_slice()) {
            (Function::Neg, [x]) => Some((Function::Neg, None, *x)),
            (Function::Mul, [s, x]) if scalar(*s) && !scalar(*x) => Some((Function::Mul, Some(*s), *x)),
            (Function::Mul | Function::Div, [x, s]) if scalar(*s) && !scalar(*x) => Some((*function, Some(*s), *x)),
            _ => None,
        }
    }

    fn scaled(&mut self, scaling: (Function, Option<ExprId>), x: ExprId, ty: Ty, span: Span) -> ExprId {
        let args = match scaling {
            (Function::Div, Some(s)) => vec![x, s],
            (_, Some(s)) => vec![s, x],
            (_, None) => vec![x],
        };
        self.map(scaling.0, args, ty, span)
    }

    /// The product, with scalars outside and low-rank factors applied one by one.
    pub fn product(&mut self, a: ExprId, b: ExprId, ty: Ty, span: Span) -> ExprId {
        if ty.dims().len() == 2 && matches!(self.expr(b).ty, Ty::Row(_)) {
            return self.intern(ExprKind::Product(a, b), ty, span);
        }
        let left = self.is_matrix(a).then(|| self.left(a, b, &ty, span)).flatten();
        let made = left.or_else(|| self.is_matrix(b).then(|| self.right(a, b, &ty, span)).flatten());
        made.unwrap_or_else(|| self.intern(ExprKind::Product(a, b), ty, span))
    }

    fn left(&mut self, a: ExprId, b: ExprId, ty: &Ty, span: Span) -> Option<ExprId> {
        if let Some((function, scalar, matrix)) = self.scaling(a) {
            let inner = self.product(matrix, b, ty.clone(), span);
            return Some(self.scaled((function, scalar), inner, ty.clone(), span));
        }
        match self.expr(a).kind.clone() {
            ExprKind::Eye(_) => Some(b),
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } if self.is_structured(a) => {
                let args = args.into_iter().map(|x| self.product(x, b, ty.clone(), span)).collect();
                Some(self.map(function, args, ty.clone(), span))
            }
            ExprKind::Product(u, row) if self.is_outer(a) => match self.dims(b).as_slice() {
                [_] => {
                    let dot = self.product(row, b, Ty::scalar(), span);
                    Some(self.map(Function::Mul, vec![u, dot], ty.clone(), span))
                }
                [_, n] => {
                    let row = self.product(row, b, Ty::Row(n.clone()), span);
                    Some(self.intern(ExprKind::Product(u, row), ty.clone(), span))
                }
                _ => None,
            },
            ExprKind::Product(x, y) if self.dims(b).len() == 1 => {
                let inner = Ty::Array(self.dims(y).first().cloned().into_iter().collect());
                let inner = self.product(y, b, inner, span);
                Some(self.product(x, inner, ty.clone(), span))
            }
            _ => None,
        }
    }

    fn right(&mut self, a: ExprId, b: ExprId, ty: &Ty, span: Span) -> Option<ExprId> {
        if let Some((function, scalar, matrix)) = self.scaling(b) {
            let inner = self.product(a, matrix, ty.clone(), span);
            return Some(self.scaled((function, scalar), inner, ty.clone(), span));
        }
        match self.expr(b).kind.clone() {
            ExprKind::Eye(_) => Some(a),
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } if self.is_structured(b) => {
                let args = args.into_iter().map(|x| self.product(a, x, ty.clone(), span)).collect();
                Some(self.map(function, args, ty.clone(), span))
            }
            ExprKind::Product(u, row) if self.is_outer(b) => match self.dims(a).as_slice() {
                [_] => {
                    let dot = self.product(a, u, Ty::scalar(), span);
                    Some(self.map(Function::Mul, vec![dot, row], ty.clone(), span))
                }
                [m, _] => {
                    let column = self.product(a, u, Ty::Array(vec![m.clone()]), span);
                    Some(self.intern(ExprKind::Product(column, row), ty.clone(), span))
                }
                _ => None,
            },
            ExprKind::Product(x, y) if self.dims(a).len() == 1 => {
                let inner = self.dims(x).last().cloned().map(Ty::Row)?;
                let inner = self.product(a, x, inner, span);
                Some(self.product(inner, y, ty.clone(), span))
            }
            _ => None,
        }
    }
}

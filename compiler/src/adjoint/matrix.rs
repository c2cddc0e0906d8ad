//! Matrices in normal order: a product with a sum, a diagonal or an outer product becomes products with what they are made
//! of. So cotangents of states are never matrices of their own: they leave as reads through vectors or as pairings of two
//! states.

use chunkwise_dsl::typed::{ExprId, ExprKind, FoldOp, Function, Ty};

use super::build::Builder;

impl Builder {
    /// `diag(d) * X`
    pub fn scale_rows(&mut self, d: ExprId, x: ExprId) -> ExprId {
        if self.rank(d) == 0 || self.is_zero(x) {
            return self.mul(d, x);
        }
        if self.is_ones(d) {
            return x;
        }
        if let Some((u, v)) = self.as_outer(x) {
            let u = self.mul(d, u);
            return self.outer(u, v);
        }
        let n = self.dims(d)[0].clone();
        let diagonal = self.expr(ExprKind::Diag(d), Ty::Array(vec![n.clone(), n]));
        let ty = Ty::Array(self.dims(x));
        self.expr(ExprKind::Product(diagonal, x), ty)
    }

    /// `X * diag(d)`
    pub fn scale_columns(&mut self, x: ExprId, d: ExprId) -> ExprId {
        if self.rank(d) == 0 || self.is_zero(x) {
            return self.mul(d, x);
        }
        if self.is_ones(d) {
            return x;
        }
        if let Some((u, v)) = self.as_outer(x) {
            let v = self.mul(d, v);
            return self.outer(u, v);
        }
        let n = self.dims(d)[0].clone();
        let diagonal = self.expr(ExprKind::Diag(d), Ty::Array(vec![n.clone(), n]));
        let ty = Ty::Array(self.dims(x));
        self.expr(ExprKind::Product(x, diagonal), ty)
    }

    pub fn transpose(&mut self, x: ExprId) -> ExprId {
        if self.is_zero(x) {
            return x;
        }
        match self.kind(x).clone() {
            ExprKind::Transpose(inner) => return inner,
            ExprKind::Eye(_) | ExprKind::Diag(_) => return x,
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } if self.both_full(&args) => {
                let (a, b) = (self.transpose(args[0]), self.transpose(args[1]));
                return self.map_typed(function, vec![a, b]);
            }
            ExprKind::Product(a, b) if self.rank(a) == 2 && self.rank(b) == 2 => {
                let (a, b) = (self.transpose(a), self.transpose(b));
                return self.product(b, a);
            }
            _ => {}
        }
        if let Some((u, v)) = self.as_outer(x) {
            return self.outer(v, u);
        }
        let ty = match self.variant.expr(x).ty.clone() {
            Ty::Array(dims) if dims.len() == 1 => Ty::Row(dims[0].clone()),
            Ty::Array(dims) => Ty::Array(dims.into_iter().rev().collect()),
            Ty::Row(n) => Ty::Array(vec![n]),
            Ty::Bool => Ty::Bool,
        };
        self.expr(ExprKind::Transpose(x), ty)
    }

    /// Of what is added, each has the shape of the sum: nothing fills.
    fn both_full(&self, args: &[ExprId]) -> bool {
        args.iter().all(|arg| self.variant.expr(*arg).ty == self.variant.expr(args[0]).ty && self.rank(*arg) == 2)
    }

    fn map_typed(&mut self, function: Function, args: Vec<ExprId>) -> ExprId {
        let ty = self.variant.expr(args[0]).ty.clone();
        self.expr(ExprKind::Map { function, args }, ty)
    }

    /// `X * y`, `X * Y`: matrix by vector or matrix.
    pub fn product(&mut self, x: ExprId, y: ExprId) -> ExprId {
        if self.is_zero(x) || self.is_zero(y) {
            return self.zero_of();
        }
        match self.kind(x).clone() {
            ExprKind::Eye(_) => return y,
            ExprKind::Diag(d) if self.rank(y) == 1 => return self.mul(d, y),
            ExprKind::Diag(d) => return self.scale_rows(d, y),
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } if self.both_full(&args) => {
                let (a, b) = (self.product(args[0], y), self.product(args[1], y));
                return if function == Function::Add { self.add(a, b) } else { self.sub(a, b) };
            }
            ExprKind::Map { function: Function::Mul, args } if self.rank(args[0]) == 0 => {
                let inner = self.product(args[1], y);
                return self.mul(args[0], inner);
            }
            ExprKind::Map { function: Function::Mul, args } if self.rank(args[1]) == 0 => {
                let inner = self.product(args[0], y);
                return self.mul(args[1], inner);
            }
            ExprKind::Map { function: Function::Neg, args } => {
                let inner = self.product(args[0], y);
                return self.neg(inner);
            }
            ExprKind::Product(a, b) if self.rank(a) == 2 && self.rank(b) == 2 => {
                let inner = self.product(b, y);
                return self.product(a, inner);
            }
            _ => {}
        }
        if let Some((u, v)) = self.as_outer(x) {
            if self.rank(y) == 1 {
                let scale = self.dot(v, y);
                return self.mul(scale, u);
            }
            let turned = self.transpose(y);
            let v = self.product(turned, v);
            return self.outer(u, v);
        }
        if let Some((u, v)) = self.as_outer(y) {
            let u = self.product(x, u);
            return self.outer(u, v);
        }
        if let ExprKind::Diag(d) = *self.kind(y) {
            return self.scale_columns(x, d);
        }
        if matches!(self.kind(y), ExprKind::Eye(_)) {
            return x;
        }
        let dims = self.dims(x)[..1].iter().cloned().chain(self.dims(y).into_iter().skip(1)).collect();
        self.expr(ExprKind::Product(x, y), Ty::Array(dims))
    }

    /// `X' * y`
    pub fn product_turned(&mut self, x: ExprId, y: ExprId) -> ExprId {
        let turned = self.transpose(x);
        self.product(turned, y)
    }

    /// The sum over columns of `A .* B`.
    pub fn row_pair(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if self.is_zero(a) || self.is_zero(b) {
            return self.zero_of();
        }
        for (x, y) in [(a, b), (b, a)] {
            if let Some((u, v)) = self.as_outer(x) {
                let inner = self.product(y, v);
                return self.mul(u, inner);
            }
            match self.kind(x).clone() {
                ExprKind::Map { function: function @ (Function::Add | Function::Sub), args }
                    if self.both_full(&args) =>
                {
                    let (a, b) = (self.row_pair(args[0], y), self.row_pair(args[1], y));
                    return if function == Function::Add { self.add(a, b) } else { self.sub(a, b) };
                }
                ExprKind::Map { function: Function::Mul, args } if self.rank(args[0]) == 0 => {
                    let inner = self.row_pair(args[1], y);
                    return self.mul(args[0], inner);
                }
                ExprKind::Map { function: Function::Neg, args } => {
                    let inner = self.row_pair(args[0], y);
                    return self.neg(inner);
                }
                ExprKind::Product(d, inner) => {
                    if let ExprKind::Diag(d) = *self.kind(d) {
                        let inner = self.row_pair(inner, y);
                        return self.mul(d, inner);
                    }
                }
                _ => {}
            }
        }
        let both = self.map(Function::Mul, &[a, b]);
        self.fold(FoldOp::Sum, both)
    }

    /// The sum over rows of `A .* B`.
    pub fn column_pair(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let (a, b) = (self.transpose(a), self.transpose(b));
        self.row_pair(a, b)
    }

    /// The sum of all entries of `A .* B`; arrays of one shape, or scalars that fill.
    pub fn pair(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (self.rank(a), self.rank(b)) {
            (0, 0) => self.mul(a, b),
            (1, _) | (_, 1) => self.dot(a, b),
            (2, 2) => {
                let rows = self.row_pair(a, b);
                // What is a vector times a vector sums as their dot product.
                match self.kind(rows).clone() {
                    ExprKind::Map { function: Function::Mul, args }
                        if self.rank(args[0]) == 1 && self.rank(args[1]) == 1 =>
                    {
                        self.dot(args[0], args[1])
                    }
                    _ => self.total(rows),
                }
            }
            _ => {
                let both = self.mul(a, b);
                self.total(both)
            }
        }
    }
}

//! What is added to the state: outer products, and the matrices free of the state that are sums of them.

use super::*;

impl Lowering<'_> {
    /// `u * r'`, one of them possibly a read of the state.
    pub(super) fn outer(&mut self, expr: ExprId, u: ExprId, r: ExprId, turned: bool) -> Lowered<Id> {
        let (key, value) = if turned { (r, u) } else { (u, r) };
        match (self.depends(key), self.depends(value)) {
            (true, true) => self.blocked(Class::NonAffine, expr, "the product of two reads of the state"),
            (true, false) => {
                self.blocked(Class::TwoSided, expr, "matrices act on the state from the left and from the right")
            }
            (false, _) => {
                let key = self.leaf(key, Feat::K);
                let key = self.leaf_term(key);
                let (value, feat) = self.vector_along(value, Feat::V)?;
                if feat != Feat::V {
                    return self.blocked(
                        Class::TwoSided,
                        expr,
                        "matrices act on the state from the left and from the right",
                    );
                }
                Ok(self.add(Term::Outer([key, value])))
            }
        }
    }

    /// A state-free matrix added to the state: a sum of outer products.
    pub(super) fn free_matrix(&mut self, expr: ExprId, turned: bool) -> Lowered<Id> {
        let expr = resolve(self.variant, expr);
        if self.rank < 2 {
            let leaf = if self.rank == 1 && !self.ty(expr).is_scalar() {
                self.leaf(expr, Feat::K)
            } else {
                let scalar = self.leaf(expr, Feat::S);
                scalar.times(&Leaf::ones(Feat::K)).expect("a scalar times a vector of ones")
            };
            let (key, one) = (self.leaf_term(leaf), self.leaf_term(Leaf::ones(Feat::V)));
            return Ok(self.add(Term::Outer([key, one])));
        }
        match self.kind(expr).clone() {
            ExprKind::Product(a, b) if matches!(self.ty(b), Type::Row(_)) && self.ty(a).dims().len() == 1 => {
                self.outer(expr, a, b, turned)
            }
            ExprKind::Number(0.0) => Ok(self.add(Term::ZeroMat)),
            ExprKind::Number(x) => Ok(self.filled(x)),
            ExprKind::Transpose(inner) => self.free_matrix(inner, !turned),
            ExprKind::If { cond, then, otherwise } => {
                self.either(cond, |this, taken| this.free_matrix(if taken { then } else { otherwise }, turned))
            }
            ExprKind::Map { function: function @ (Function::Add | Function::Sub | Function::Neg), args } => {
                self.matrix_map(expr, function, &args, turned)
            }
            ExprKind::Map { function: Function::Div, args } if self.ty(args[1]).is_scalar() => {
                let factor = self.reciprocal(args[1]);
                let x = self.free_matrix(args[0], turned)?;
                Ok(self.scaled(factor, x))
            }
            ExprKind::Map { function: Function::Mul, args } if args.iter().any(|&a| self.ty(a).is_scalar()) => {
                let (factor, x) = if self.ty(args[0]).is_scalar() { (args[0], args[1]) } else { (args[1], args[0]) };
                let factor = self.leaf(factor, Feat::S);
                let x = self.free_matrix(x, turned)?;
                Ok(self.scaled(factor, x))
            }
            ExprKind::Map { function: Function::Mul, args } if self.is_outer(args[0]) => {
                let x = self.free_matrix(args[1], turned)?;
                Ok(self.scaled_by_outer(args[0], x, turned))
            }
            ExprKind::Product(a, b) => self.free_product(expr, (a, b), turned),
            _ => self.blocked(Class::Dense, expr, "what is written is no sum of outer products"),
        }
    }

    /// diag(d) * (k * v') and the like: an operator on a write, or a diagonal on its columns.
    fn free_product(&mut self, expr: ExprId, (a, b): (ExprId, ExprId), turned: bool) -> Lowered<Id> {
        // The matrix on the rows' side and the one on the columns' side.
        let (rows, columns) = if turned { (b, a) } else { (a, b) };
        if self.is_diagonal(columns) && !self.is_diagonal(rows) {
            let diagonal = self.columns(columns)?;
            let x = self.free_matrix(rows, turned)?;
            return Ok(self.columns_scaled(diagonal, x));
        }
        if self.ty(rows).dims().len() != 2 {
            return self.blocked(Class::Dense, expr, "what is written is no sum of outer products");
        }
        let operator = self.operator(rows, turned)?;
        let x = self.free_matrix(columns, turned)?;
        Ok(self.add(Term::Apply([operator, x])))
    }
}

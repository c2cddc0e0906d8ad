//! What scales the columns of the held state: diagonals on its right side, and element-wise outer products, which scale
//! both sides.

use super::*;

impl Lowering<'_> {
    /// Whether a state-free matrix is written as a diagonal: an identity, `diag(b)`, and sums and products of them.
    pub(super) fn is_diagonal(&self, expr: ExprId) -> bool {
        let expr = resolve(self.variant, expr);
        if self.ty(expr).is_scalar() {
            return true;
        }
        match self.kind(expr) {
            ExprKind::Eye(_) | ExprKind::Diag(_) => true,
            ExprKind::Transpose(inner) => self.ty(*inner).dims().len() == 2 && self.is_diagonal(*inner),
            ExprKind::Product(a, b) => [a, b].iter().all(|&&x| self.ty(x).dims().len() == 2 && self.is_diagonal(x)),
            ExprKind::Map { function: Function::Add | Function::Sub, args } => {
                args.iter().all(|&x| self.ty(x).dims().len() == 2 && self.is_diagonal(x))
            }
            ExprKind::Map { function: Function::Neg | Function::Mul, args } => {
                args.iter().all(|&x| self.is_diagonal(x))
            }
            ExprKind::Map { function: Function::Div, args } => {
                self.ty(args[1]).is_scalar() && self.is_diagonal(args[0])
            }
            ExprKind::If { then, otherwise, .. } => self.is_diagonal(*then) && self.is_diagonal(*otherwise),
            _ => false,
        }
    }

    /// The entries of a diagonal on the right, as a stream along the columns (or a scalar, of a multiple of the
    /// identity).
    pub(super) fn columns(&mut self, expr: ExprId) -> Lowered<Id> {
        self.entries(expr, Feat::V)
    }

    /// A read that a diagonal multiplies.
    pub(super) fn scaled_read(&mut self, expr: ExprId, read: ExprId, by: ExprId) -> Lowered<(Id, Feat)> {
        if !self.is_diagonal(by) {
            return self.blocked(Class::WholeRead, expr, "the state is read through a matrix, not through a vector");
        }
        let (x, feat) = self.vector(read)?;
        let by = self.entries(by, feat)?;
        Ok((self.add(Term::Mul([by, x])), feat))
    }

    /// The entries of a diagonal along one side.
    fn entries(&mut self, expr: ExprId, side: Feat) -> Lowered<Id> {
        let expr = resolve(self.variant, expr);
        if !self.is_diagonal(expr) {
            let reason = "matrices act on the state from the left and from the right, and neither is a diagonal";
            return self.blocked(Class::TwoSided, expr, reason);
        }
        match self.kind(expr).clone() {
            _ if self.ty(expr).is_scalar() => {
                let scalar = self.leaf(expr, Feat::S);
                Ok(self.leaf_term(scalar))
            }
            ExprKind::Diag(d) => {
                let d = self.leaf(d, side);
                Ok(self.leaf_term(d))
            }
            ExprKind::Transpose(inner) => self.entries(inner, side),
            ExprKind::Map { function: Function::Add, args } => {
                let (a, b) = (self.entries(args[0], side)?, self.entries(args[1], side)?);
                Ok(self.add(Term::Add([a, b])))
            }
            ExprKind::Map { function: Function::Sub, args } => {
                let (a, b) = (self.entries(args[0], side)?, self.entries(args[1], side)?);
                let b = self.scaled(Leaf::number(-1.0), b);
                Ok(self.add(Term::Add([a, b])))
            }
            ExprKind::Map { function: Function::Neg, args } => {
                let x = self.entries(args[0], side)?;
                Ok(self.scaled(Leaf::number(-1.0), x))
            }
            ExprKind::Map { function: Function::Div, args } => {
                let factor = self.reciprocal(args[1]);
                let x = self.entries(args[0], side)?;
                Ok(self.scaled(factor, x))
            }
            ExprKind::Product(a, b) => self.both_entries(a, b, side),
            ExprKind::Map { function: Function::Mul, args } => self.both_entries(args[0], args[1], side),
            ExprKind::If { cond, then, otherwise } => {
                self.either(cond, |this, taken| this.entries(if taken { then } else { otherwise }, side))
            }
            _ => Ok(self.leaf_term(Leaf::number(1.0))),
        }
    }

    fn both_entries(&mut self, a: ExprId, b: ExprId, side: Feat) -> Lowered<Id> {
        let (a, b) = (self.entries(a, side)?, self.entries(b, side)?);
        Ok(self.add(Term::Mul([a, b])))
    }

    /// `x diag(b)`; a scalar `b` scales the whole.
    pub(super) fn columns_scaled(&mut self, b: Id, x: Id) -> Id {
        let ty = self.along_columns(b);
        self.add(if ty { Term::ScaleColumns([b, x]) } else { Term::Mul([b, x]) })
    }

    fn along_columns(&self, id: Id) -> bool {
        match &self.term[id] {
            Term::Leaf(leaf) => leaf.feat == Feat::V,
            term => egg::Language::children(term).iter().any(|&child| self.along_columns(child)),
        }
    }

    /// Whether a state-free matrix is written as an outer product: `u * w'`, multiples and element-wise products of such.
    pub(super) fn is_outer(&self, expr: ExprId) -> bool {
        let expr = resolve(self.variant, expr);
        match self.kind(expr) {
            ExprKind::Product(u, w) => self.ty(*u).dims().len() == 1 && matches!(self.ty(*w), Type::Row(_)),
            ExprKind::Map { function: Function::Mul | Function::Neg, args } => {
                args.iter().all(|&x| self.ty(x).is_scalar() || self.is_outer(x))
            }
            ExprKind::Map { function: Function::Div, args } => self.ty(args[1]).is_scalar() && self.is_outer(args[0]),
            _ => false,
        }
    }

    /// `free .* x` of an outer product `u * w'`: u scales the rows of x and w its columns.
    pub(super) fn scaled_by_outer(&mut self, free: ExprId, x: Id, turned: bool) -> Id {
        let free = resolve(self.variant, free);
        match self.kind(free).clone() {
            _ if self.ty(free).is_scalar() => {
                let factor = self.leaf(free, Feat::S);
                self.scaled(factor, x)
            }
            ExprKind::Product(u, w) => {
                let (rows, columns) = if turned { (w, u) } else { (u, w) };
                let (rows, columns) = (self.leaf(rows, Feat::K), self.leaf(columns, Feat::V));
                let columns = self.leaf_term(columns);
                let x = self.add(Term::ScaleColumns([columns, x]));
                self.scaled(rows, x)
            }
            ExprKind::Map { function: Function::Neg, args } => {
                let x = self.scaled(Leaf::number(-1.0), x);
                self.scaled_by_outer(args[0], x, turned)
            }
            ExprKind::Map { function: Function::Div, args } => {
                let factor = self.reciprocal(args[1]);
                let x = self.scaled(factor, x);
                self.scaled_by_outer(args[0], x, turned)
            }
            kind => kind.children().into_iter().fold(x, |x, factor| self.scaled_by_outer(factor, x, turned)),
        }
    }
}

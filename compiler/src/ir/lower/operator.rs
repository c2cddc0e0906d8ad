//! The operators of a system: what multiplies the state from one side. The matrices that are added to it are in `lower`.

use super::*;

impl Lowering<'_> {
    /// A state-free matrix that multiplies the state, as an operator (transposed if `flip`).
    pub(super) fn operator(&mut self, expr: ExprId, flip: bool) -> Lowered<Id> {
        let expr = resolve(self.variant, expr);
        match self.kind(expr).clone() {
            ExprKind::Eye(_) => Ok(self.add(Term::Identity)),
            ExprKind::Diag(d) => {
                let d = self.leaf(d, Feat::K);
                let d = self.leaf_term(d);
                Ok(self.add(Term::Diagonal([d])))
            }
            ExprKind::Transpose(inner) if self.ty(inner).dims().len() == 2 => self.operator(inner, !flip),
            ExprKind::Product(u, w) if self.ty(u).dims().len() == 1 && matches!(self.ty(w), Type::Row(_)) => {
                let (u, w) = if flip { (w, u) } else { (u, w) };
                let (u, w) = (self.leaf(u, Feat::K), self.leaf(w, Feat::K));
                let (one, u, w) = (self.leaf_term(Leaf::number(1.0)), self.leaf_term(u), self.leaf_term(w));
                Ok(self.add(Term::RankOne([one, u, w])))
            }
            ExprKind::Product(a, b) if self.ty(a).dims().len() == 2 && self.ty(b).dims().len() == 2 => {
                let (a, b) = if flip { (b, a) } else { (a, b) };
                let (a, b) = (self.operator(a, flip)?, self.operator(b, flip)?);
                Ok(self.add(Term::Compose([a, b])))
            }
            ExprKind::Map { function: Function::Add, args } => {
                let (a, b) = (self.operator(args[0], flip)?, self.operator(args[1], flip)?);
                Ok(self.add(Term::OpAdd([a, b])))
            }
            ExprKind::Map { function: Function::Sub, args } => {
                let (a, b) = (self.operator(args[0], flip)?, self.operator(args[1], flip)?);
                let b = self.scaled_operator(Leaf::number(-1.0), b);
                Ok(self.add(Term::OpAdd([a, b])))
            }
            ExprKind::Map { function: Function::Neg, args } => {
                let x = self.operator(args[0], flip)?;
                Ok(self.scaled_operator(Leaf::number(-1.0), x))
            }
            ExprKind::Map { function: Function::Mul, args } if args.iter().any(|&a| self.ty(a).is_scalar()) => {
                let (factor, x) = if self.ty(args[0]).is_scalar() { (args[0], args[1]) } else { (args[1], args[0]) };
                let factor = self.leaf(factor, Feat::S);
                let x = self.operator(x, flip)?;
                Ok(self.scaled_operator(factor, x))
            }
            ExprKind::Map { function: Function::Div, args } if self.ty(args[1]).is_scalar() => {
                let factor = self.reciprocal(args[1]);
                let x = self.operator(args[0], flip)?;
                Ok(self.scaled_operator(factor, x))
            }
            _ => self.blocked(
                Class::Dense,
                expr,
                "the state is multiplied by a dense matrix, not by an identity, a diagonal or a low rank",
            ),
        }
    }

    pub(super) fn scaled_operator(&mut self, factor: Leaf, operator: Id) -> Id {
        let factor = self.leaf_term(factor);
        let diagonal = self.add(Term::Diagonal([factor]));
        self.add(Term::Compose([diagonal, operator]))
    }
}

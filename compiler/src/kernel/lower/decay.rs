//! Decays that a program gives as exponentials, by their exponents; and what is made of them: `whole(x)` 1 near 0 and else 0,
//! `factor(x)` rounded, `lost(x)` by rounding (`form::decay` says why).
//!
//! ```text
//! exp(x)                      has the exponent x
//! exp(x) * exp(y)             x + y
//! exp(x) ^ n                  n * x
//! if c then 0 else exp(x)     if c then -1e4 else x
//!
//! exp(x) * S[t-1] + W         ->   factor(x) * S[t-1] + (lost(x) * S[t-1] + W)      an update
//! 1 - exp(x)                  ->   (1 - whole(x)) - exp_rest(x)
//! factor(x) = exp_of_rest(exp_rest(x)),   lost(x) = rest_lost(exp_rest(x))
//! ```

use chunkwise_dsl::typed::{Expr, ExprId, ExprKind, Function, Ty, Update};

use super::arena::Arena;
use super::tile::Tile;
use super::{Lowering, Result};

/// An exponent whose power is 0 in f32, as are those of its sums with others.
pub(super) const FORGOTTEN: f64 = -1e4;

impl Lowering<'_> {
    /// The exponent of an expression of the variant, if it is an exponential.
    pub fn exponent(&mut self, id: ExprId) -> Result<Option<Tile>> {
        let id = self.arena.convert(id)?;
        self.arena.exponent(id).map(|x| self.seen(x)).transpose()
    }
}

impl Arena<'_> {
    /// The x of which a node is the exponential.
    pub fn exponent(&mut self, id: ExprId) -> Option<ExprId> {
        let expr = self.expr(id).clone();
        match expr.kind {
            ExprKind::Map { function: Function::Exp, args } => Some(args[0]),
            ExprKind::Map { function: Function::Mul, args } => {
                let args = args.into_iter().map(|x| self.exponent(x)).collect::<Option<Vec<_>>>()?;
                Some(self.intern(ExprKind::Map { function: Function::Add, args }, expr.ty, expr.span))
            }
            ExprKind::Map { function: Function::Pow, args } => {
                let args = vec![self.exponent(args[0])?, args[1]];
                Some(self.intern(ExprKind::Map { function: Function::Mul, args }, expr.ty, expr.span))
            }
            ExprKind::If { cond, then, otherwise } => {
                let (then, otherwise) = (self.branch(then)?, self.branch(otherwise)?);
                Some(self.intern(ExprKind::If { cond, then, otherwise }, expr.ty, expr.span))
            }
            _ => None,
        }
    }

    /// The exponent of a branch, which may be a number.
    fn branch(&mut self, id: ExprId) -> Option<ExprId> {
        let expr = self.expr(id).clone();
        match expr.kind {
            ExprKind::Number(x) if x >= 0.0 => {
                let kind = ExprKind::Number(x.ln().max(FORGOTTEN));
                Some(self.intern(kind, expr.ty, expr.span))
            }
            _ => self.exponent(id),
        }
    }

    /// What a state becomes.
    pub fn update(&mut self, update: &Update) -> Result<ExprId> {
        let id = self.convert(update.value)?;
        let mut summands = Vec::new();
        self.summands(id, &mut summands);
        let mut split = None;
        for place in 0..summands.len() {
            if let Some(parts) = self.decayed(summands[place]) {
                summands.remove(place);
                split = Some(parts);
                break;
            }
        }
        let Some([kept, lost]) = split else { return Ok(id) };
        let Expr { ty, span, .. } = self.expr(id).clone();
        let mut sum = |a, b| self.intern(ExprKind::Map { function: Function::Add, args: vec![a, b] }, ty.clone(), span);
        let added = summands.into_iter().reduce(&mut sum);
        let lost = added.map_or(lost, |added| sum(lost, added));
        Ok(sum(kept, lost))
    }

    fn summands(&self, id: ExprId, found: &mut Vec<ExprId>) {
        let expr = self.expr(id);
        match &expr.kind {
            ExprKind::Map { function: Function::Add, args } if args.iter().all(|&x| self.expr(x).ty == expr.ty) => {
                args.iter().for_each(|&x| self.summands(x, found));
            }
            _ => found.push(id),
        }
    }

    /// An exponential times a state before its token, in two summands.
    fn decayed(&mut self, id: ExprId) -> Option<[ExprId; 2]> {
        let Expr { kind, ty, span } = self.expr(id).clone();
        let is_old = |this: &Self, x: ExprId| matches!(this.expr(x).kind, ExprKind::StateOld(_));
        match kind {
            ExprKind::Map { function: Function::Mul, args } => {
                let (a, state) = if is_old(self, args[1]) { (args[0], args[1]) } else { (args[1], args[0]) };
                let parts = if is_old(self, state) { self.factor(a)? } else { return None };
                let times = |part| ExprKind::Map { function: Function::Mul, args: vec![part, state] };
                Some(parts.map(|part| self.intern(times(part), ty.clone(), span)))
            }
            ExprKind::Product(diagonal, state) if is_old(self, state) => {
                let Expr { kind: ExprKind::Diag(d), ty: square, .. } = self.expr(diagonal).clone() else { return None };
                Some(self.factor(d)?.map(|part| {
                    let diagonal = self.intern(ExprKind::Diag(part), square.clone(), span);
                    self.intern(ExprKind::Product(diagonal, state), ty.clone(), span)
                }))
            }
            _ => None,
        }
    }

    /// An exponential rounded, and what it lost.
    fn factor(&mut self, id: ExprId) -> Option<[ExprId; 2]> {
        let [_, rest] = self.parts(id)?;
        let Expr { ty, span, .. } = self.expr(id).clone();
        let of_rest = |function| ExprKind::Map { function, args: vec![rest] };
        Some([Function::ExpOfRest, Function::RestLost].map(|function| self.intern(of_rest(function), ty.clone(), span)))
    }

    /// The whole and the rest of an exponential.
    fn parts(&mut self, id: ExprId) -> Option<[ExprId; 2]> {
        let x = self.exponent(id)?;
        let Expr { ty, span, .. } = self.expr(id).clone();
        let mut map = |function, args: Vec<ExprId>| self.intern(ExprKind::Map { function, args }, ty.clone(), span);
        let rest = map(Function::ExpRest, vec![x]);
        let zero = self.intern(ExprKind::Number(0.0), Ty::scalar(), span);
        let lt = ExprKind::Map { function: Function::Lt, args: vec![rest, zero] };
        Some([self.intern(lt, ty, span), rest])
    }

    /// 1 less an exponential, which would lose the digits of a small exponent.
    pub fn less_than_one(&mut self, function: Function, args: &[ExprId]) -> Option<ExprId> {
        let (Function::Sub, [one, a]) = (function, args) else { return None };
        if self.expr(*one).kind != ExprKind::Number(1.0) {
            return None;
        }
        let [whole, rest] = self.parts(*a)?;
        let Expr { ty, span, .. } = self.expr(*a).clone();
        let mut less =
            |a, b| self.intern(ExprKind::Map { function: Function::Sub, args: vec![a, b] }, ty.clone(), span);
        let apart = less(*one, whole);
        Some(less(apart, rest))
    }
}

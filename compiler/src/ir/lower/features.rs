//! What vectors of features are made of: `flatten` of outer products, and stacks in which there are some. Dot products of
//! such features are made of those of their parts (`rules::feature`).

use chunkwise_dsl::shape::Size;

use super::*;
use crate::ir::{
    Atom,
    facts::{Feature, Part},
};

impl Lowering<'_> {
    /// Notes what the features at `expr` are made of. All features along one side are divided alike, or the later ones are
    /// taken as they come.
    pub(super) fn divide_features(&mut self, atom: Atom, expr: ExprId) {
        let Some(feature) = self.feature(expr) else { return };
        let known = &self.known;
        let alike = |(of, other): (&Atom, &Feature)| {
            of.feat != atom.feat || atom.feat == Feat::F || known.divided_alike(other, &feature)
        };
        if known.features.iter().all(alike) {
            self.known.features.insert(atom, feature);
        }
    }

    fn feature(&mut self, expr: ExprId) -> Option<Feature> {
        match self.kind(expr).clone() {
            ExprKind::Flatten(matrix) => {
                let (scalar, u, w) = self.outer_factors(matrix)?;
                let (mut a, b) = (self.part(u), self.part(w));
                a.leaf = scalar.times(&a.leaf)?;
                Some(Feature::Outer([a, b]))
            }
            ExprKind::Stack(parts) if parts.len() > 1 => {
                let parts: Vec<Part> = parts.into_iter().map(|part| self.part(part)).collect();
                let divided = parts.iter().any(|part| self.known.feature_of(&part.leaf).is_some());
                divided.then_some(Feature::Stack(parts))
            }
            _ => None,
        }
    }

    fn part(&mut self, expr: ExprId) -> Part {
        let length = self.ty(expr).dims().first().cloned().unwrap_or(Size::constant(1));
        Part { leaf: self.leaf(expr, Feat::F), length }
    }

    /// A matrix as `scalar * u * w'`.
    fn outer_factors(&mut self, matrix: ExprId) -> Option<(Leaf, ExprId, ExprId)> {
        let matrix = resolve(self.variant, matrix);
        let scaled = |this: &mut Self, x: ExprId, scalar: Leaf| {
            let (inner, u, w) = this.outer_factors(x)?;
            Some((inner.times(&scalar)?, u, w))
        };
        match self.kind(matrix).clone() {
            ExprKind::Product(u, w) if self.ty(u).dims().len() == 1 && matches!(self.ty(w), Type::Row(_)) => {
                Some((Leaf::number(1.0), u, self.untransposed(w)))
            }
            ExprKind::Map { function: Function::Neg, args } => scaled(self, args[0], Leaf::number(-1.0)),
            ExprKind::Map { function: Function::Div, args } if self.ty(args[1]).is_scalar() => {
                let by = self.reciprocal(args[1]);
                scaled(self, args[0], by)
            }
            ExprKind::Map { function: Function::Mul, args } => {
                let (scalar, x) = if self.ty(args[0]).is_scalar() { (args[0], args[1]) } else { (args[1], args[0]) };
                if !self.ty(scalar).is_scalar() {
                    return None;
                }
                let scalar = self.leaf(scalar, Feat::S);
                scaled(self, x, scalar)
            }
            _ => None,
        }
    }
}

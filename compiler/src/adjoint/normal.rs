//! Rules for what works along the last axis: norms, and sums and scalings by line.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, FoldOp, Function, Norm, NormKind};

use super::Adjoint;

impl Adjoint<'_> {
    /// The cotangent of what a norm is of: r (g - y (y'g) / n), with y = r x.
    pub(super) fn normalised(&mut self, norm: Norm, (x, y): (ExprId, ExprId), g: ExprId) -> ExprId {
        let Some(width) = self.build.dims(x).last().cloned() else { return self.build.number(0.0) };
        let g = if self.build.rank(g) == 0 { self.build.full(g, &self.build.dims(x)) } else { g };
        let count = self.build.size(&width);
        let shifted = match norm.kind {
            NormKind::Layer => {
                let mean = self.build.fold(FoldOp::Mean, x);
                let mean = self.lines(mean, &width);
                self.build.sub(x, mean)
            }
            _ => x,
        };
        let squares = self.line_dots(shifted, shifted);
        let squares = if norm.kind == NormKind::L2 { squares } else { self.build.div(squares, count) };
        let eps = self.build.number(norm.eps);
        let scale = match norm.kind {
            NormKind::Srms => {
                let root = self.build.map(Function::Sqrt, &[squares]);
                let root = self.build.map(Function::Max, &[root, eps]);
                let one = self.build.number(1.0);
                self.build.div(one, root)
            }
            _ => {
                let sum = self.build.add(squares, eps);
                self.build.map(Function::Rsqrt, &[sum])
            }
        };
        let mut along = self.line_dots(y, g);
        if norm.kind != NormKind::L2 {
            along = self.build.div(along, count);
        }
        if norm.kind == NormKind::Srms {
            // Below eps the divisor does not move.
            let root = self.build.map(Function::Sqrt, &[squares]);
            let above = self.build.map(Function::Sub, &[root, eps]);
            let sign = self.build.map(Function::Sign, &[above]);
            let zero = self.build.number(0.0);
            let moves = self.build.map(Function::Max, &[sign, zero]);
            along = self.build.mul(along, moves);
        }
        let along = self.by_line(along, y);
        let mut rest = self.build.sub(g, along);
        if norm.kind == NormKind::Layer {
            let mean = self.build.fold(FoldOp::Mean, g);
            let mean = self.lines(mean, &width);
            rest = self.build.sub(rest, mean);
        }
        self.by_line(scale, rest)
    }

    /// A number a line, for every entry of the line.
    pub(super) fn lines(&mut self, x: ExprId, width: &Size) -> ExprId {
        if self.build.rank(x) == 0 || self.build.is_zero(x) {
            return x;
        }
        let ones = self.build.ones(width);
        self.build.outer(x, ones)
    }

    /// Lines scaled by a number each.
    pub(super) fn by_line(&mut self, scale: ExprId, x: ExprId) -> ExprId {
        if self.build.rank(scale) == 0 { self.build.mul(scale, x) } else { self.build.scale_rows(scale, x) }
    }

    /// The dot product of every line of one with that of the other.
    pub(super) fn line_dots(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if self.build.rank(a).max(self.build.rank(b)) < 2 { self.build.dot(a, b) } else { self.build.row_pair(a, b) }
    }
}

//! Functions of a vector, along the last dim: sums, softmax, norms, `topk_mask`; `stack` and `diag`.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{FoldOp, Function, Norm, NormKind};

use super::build::Builder;
use super::index::Index;
use super::view::{Label, View, union};
use super::{Fold, Node, Op, Part};

impl Builder<'_> {
    pub(super) fn fold_last(&mut self, op: FoldOp, x: &View, span: Span) -> View {
        let last = Label::Dim(x.dims.len().saturating_sub(1));
        match op {
            FoldOp::Sum => self.sum(x, last, span),
            FoldOp::Mean => self.mean_last(x, span),
            FoldOp::Max => self.fold(Fold::Max, x, last, span),
            FoldOp::Min => self.fold(Fold::Min, x, last, span),
            FoldOp::Norm2 => {
                let squares = self.squares_last(x, span);
                self.map(Function::Sqrt, &[squares], span)
            }
        }
    }

    fn last_length(&mut self, x: &View, span: Span) -> View {
        let size = x.dims.last().cloned().unwrap_or(Size::constant(1));
        self.scalar(Op::Size(size), span)
    }

    fn mean_last(&mut self, x: &View, span: Span) -> View {
        let sum = self.fold_last(FoldOp::Sum, x, span);
        let (length, one) = (self.last_length(x, span), self.number(1.0));
        let length = self.map(Function::Max, &[length, one], span);
        self.map(Function::Div, &[sum, length], span)
    }

    fn squares_last(&mut self, x: &View, span: Span) -> View {
        let squares = self.map(Function::Mul, &[x.clone(), x.clone()], span);
        self.fold(Fold::Sum, &squares, Label::Dim(x.dims.len().saturating_sub(1)), span)
    }

    pub(super) fn softmax_last(&mut self, x: &View, span: Span) -> View {
        self.weights(x.clone(), &None, Label::Dim(x.dims.len().saturating_sub(1)), span)
    }

    /// A norm along the last dim, as the language page gives it.
    pub(super) fn normalise(&mut self, norm: Norm, x: &View, span: Span) -> View {
        let length = self.last_length(x, span);
        self.normalised(norm, x, (length, false), span)
    }

    /// The same over the last dim of all heads together.
    pub(super) fn normalise_heads(&mut self, norm: Norm, x: &View, span: Span) -> View {
        let length = self.last_length(x, span);
        let heads = self.variant.head.map_or(Size::constant(1), Size::axis);
        let heads = self.scalar(Op::Size(heads), span);
        let length = self.map(Function::Mul, &[length, heads], span);
        self.normalised(norm, x, (length, true), span)
    }

    fn normalised(&mut self, norm: Norm, x: &View, (length, heads): (View, bool), span: Span) -> View {
        let last = Label::Dim(x.dims.len().saturating_sub(1));
        let (eps, one) = (self.number(norm.eps), self.number(1.0));
        let length = self.map(Function::Max, &[length, one], span);
        let total = |this: &mut Self, x: &View| {
            let sum = this.fold(Fold::Sum, x, last, span);
            if heads { this.combine(Op::OverHeads, &[sum], span) } else { sum }
        };
        let centred = match norm.kind {
            NormKind::Layer => {
                let sum = total(self, x);
                let mean = self.map(Function::Div, &[sum, length.clone()], span);
                let mean = self.beside(mean, x, last);
                self.map(Function::Sub, &[x.clone(), mean], span)
            }
            _ => x.clone(),
        };
        let squares = self.map(Function::Mul, &[centred.clone(), centred.clone()], span);
        let squares = total(self, &squares);
        let measure = match norm.kind {
            NormKind::L2 => squares,
            _ => self.map(Function::Div, &[squares, length], span),
        };
        let divisor = match norm.kind {
            NormKind::Srms => {
                let root = self.map(Function::Sqrt, &[measure], span);
                self.map(Function::Max, &[root, eps], span)
            }
            _ => {
                let shifted = self.map(Function::Add, &[measure, eps], span);
                self.map(Function::Sqrt, &[shifted], span)
            }
        };
        let divisor = self.beside(divisor, x, last);
        self.map(Function::Div, &[centred, divisor], span)
    }

    /// 1 where fewer than `count` elements are larger; of equals the first are.
    pub(super) fn topk_mask(&mut self, x: &View, count: &View, span: Span) -> View {
        let last = x.dims.len().saturating_sub(1);
        let mut dims = x.dims.clone();
        let length = dims.last().cloned().unwrap_or(Size::constant(1));
        dims.push(length.clone());
        let here = x.reshaped(dims.clone(), &Index::Axis);
        let other = x.reshaped(dims.clone(), &|dim| Index::Axis(if dim == last { last + 1 } else { dim }));
        let at = self.along(&length, span);
        let position = |dim: usize| at.reshaped(dims.clone(), &|_| Index::Axis(dim));
        let larger = self.map(Function::Gt, &[other.clone(), here.clone()], span);
        let equal = self.map(Function::Eq, &[other, here], span);
        let before = self.map(Function::Lt, &[position(last + 1), position(last)], span);
        let first = self.map(Function::And, &[equal, before], span);
        let ahead = self.map(Function::Or, &[larger, first], span);
        let ahead = self.fold(Fold::Sum, &ahead, Label::Dim(last + 1), span);
        self.map(Function::Lt, &[ahead, count.clone()], span)
    }

    /// Positions along a dim.
    pub(super) fn along(&mut self, size: &Size, span: Span) -> View {
        let axes = vec![self.axis(size)];
        let node = self.graph.intern(Node::leaf(Op::Position(Index::Axis(0)), axes), span);
        View::of(node, Vec::new(), vec![size.clone()])
    }

    /// Vectors one after another.
    pub(super) fn stack(&mut self, parts: &[View], span: Span) -> View {
        let mut first = Size::constant(0);
        let mut places = Vec::new();
        for part in parts {
            let length = part.dims.last().cloned().unwrap_or(Size::constant(1));
            places.push(Part { first: first.clone(), step: 1, length: length.clone() });
            first = first.add(&length);
        }
        self.join(parts, places, first, span)
    }

    /// Views written along the last dim, each at its places.
    pub(super) fn join(&mut self, parts: &[View], places: Vec<Part>, length: Size, span: Span) -> View {
        let free = union(parts.iter().map(|view| view.free.as_slice()));
        let mut dims = parts.iter().map(|view| &view.dims).max_by_key(|dims| dims.len()).cloned().unwrap_or_default();
        let operands = parts.iter().map(|view| view.at(&super::build::places(&free))).collect();
        if let Some(last) = dims.last_mut() {
            *last = length;
        }
        let axes = self.axes_of(&free, &dims);
        View::of(self.node(Op::Join(places), operands, axes, span), free, dims)
    }

    /// A vector as a diagonal matrix.
    pub(super) fn diagonal(&mut self, x: &View, span: Span) -> View {
        let size = x.dims.first().cloned().unwrap_or(Size::constant(1));
        let dims = vec![size.clone(), size.clone()];
        let at = self.along(&size, span);
        let [row, column] = [0, 1].map(|dim| at.reshaped(dims.clone(), &|_| Index::Axis(dim)));
        let equal = self.map(Function::Eq, &[row, column], span);
        let (entry, zero) = (x.reshaped(dims, &|_| Index::Axis(0)), self.number(0.0));
        self.combine(Op::Select, &[equal, entry, zero], span)
    }
}

//! What reads other tokens by position: convolutions; and `rope`, which turns by it.

use std::f64::consts::TAU;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, GridAxis, IndexId};

use super::build::{Builder, Result, columns, refusal};
use super::index::Index;
use super::view::{Label, View, union};
use super::{Dwconv, Node, Op, Part};

impl Builder<'_> {
    /// y[t] = sum over n of w[.., n] x[t - N + 1 + n]; nothing before token 0 is read.
    pub(super) fn conv1d(&mut self, x: &View, w: &View, span: Span) -> View {
        let taps = w.dims.last().cloned().unwrap_or(Size::constant(1));
        let length = x.dims.first().cloned().unwrap_or(Size::constant(1));
        let inner = x.dims.len();
        let dims: Vec<Size> = x.dims.iter().cloned().chain([taps.clone()]).collect();
        let ahead = Index::size(&taps.sub(&Size::constant(1)));
        let token = |count: usize| Index::Axis(count).plus(Index::Axis(count + inner)).minus(ahead.clone());
        let mut read = x.reshaped(dims.clone(), &|dim| if dim == 0 { token(0) } else { Index::Axis(dim) });
        read.read.within.push((token(x.free.len()), length));
        let own = w.dims.len() - 1;
        let weight = w.reshaped(dims, &|dim| Index::Axis(if dim == own { inner } else { inner - own + dim }));
        let body = self.map(Function::Mul, &[weight, read], span);
        self.sum(&body, Label::Dim(inner), span)
    }

    /// A depth-wise convolution on the grid of tokens.
    pub(super) fn dwconv(
        &mut self,
        (x, w): (&View, &View),
        stride: i64,
        (dims, span): (&[Size], Span),
    ) -> Result<View> {
        let Some(grid) = self.variant.grid.clone().filter(|grid| grid.offset.as_constant() == Some(0)) else {
            return Err(refusal("`dwconv` off a plain grid", "tokens before the grid have no neighbours", span));
        };
        let free = union([x.free.as_slice(), w.free.as_slice()]);
        let (count, channels) = (free.len(), x.dims.len() - 1);
        let inner = count + dims.len();
        let taps = [w.dims[w.dims.len() - 2].clone(), w.dims[w.dims.len() - 1].clone()];
        let own = w.dims.len() - 2;
        let x = self.in_memory(x, span);
        let image = x.at(&|label| match label {
            Label::Free(index) => super::view::position(&free, index),
            Label::Dim(0) => Index::Axis(inner),
            Label::Dim(dim) => Index::Axis(count + dim),
        });
        // Taps first, so that a row of channels has its weights in a row.
        let turned: Vec<Size> = taps.iter().chain(&w.dims[..own]).cloned().collect();
        let w = w.reshaped(turned, &|dim| Index::Axis(if dim >= own { dim - own } else { dim + 2 }));
        let w = self.copied(&w, span);
        let weights = w.at(&|label| match label {
            Label::Free(index) => super::view::position(&free, index),
            Label::Dim(dim @ 0..2) => Index::Axis(inner + 1 + dim),
            Label::Dim(dim) => Index::Axis(count + 1 + channels - own + dim - 2),
        });
        let op = Op::Dwconv(Dwconv { stride, grid: [grid.rows, grid.cols], taps });
        let axes = self.axes_of(&free, dims);
        let reduced = x.dims.first().map(|size| self.axis(size));
        let node = Node { op, operands: vec![image, weights], axes, reduced };
        Ok(View::of(self.graph.intern(node, span), free, dims.to_vec()))
    }

    /// The view as one of memory that lies as the view counts.
    fn in_memory(&mut self, x: &View, span: Span) -> View {
        let node = self.graph.node(x.read.node);
        let plain = x.read.at.iter().enumerate().all(|(place, index)| *index == Index::Axis(place));
        let fit = match node.op {
            Op::Tensor(id) => !self.is_integer(id),
            _ => !node.is_fusable(),
        };
        if plain && fit && x.read.within.is_empty() { x.clone() } else { self.copied(x, span) }
    }

    fn copied(&mut self, x: &View, span: Span) -> View {
        let axes = self.axes_of(&x.free, &x.dims);
        View::of(self.node(Op::Copy, vec![x.read.clone()], axes, span), x.free.clone(), x.dims.clone())
    }

    /// The pairs of the last dim turned by `at * base^(-2n/K)`.
    pub(super) fn rope(&mut self, x: &View, at: &View, base: ExprId, span: Span) -> Result<View> {
        let ExprKind::Number(base) = self.variant.expr(base).kind else {
            return Err(refusal("`rope` of a base that is no number", "its turns are constants", span));
        };
        Ok(self.turned(x, at, base, span))
    }

    fn turned(&mut self, x: &View, at: &View, base: f64, span: Span) -> View {
        let last = x.dims.len() - 1;
        let length = x.dims[last].clone();
        let half = halved(&length);
        let mut dims = x.dims.clone();
        dims[last] = half.clone();
        let angle = self.angle(at, (base, &length), &dims, span);
        let [cos, sin] = [Function::Cos, Function::Sin].map(|of| self.map(of, std::slice::from_ref(&angle), span));
        let element = |odd: i64| {
            x.reshaped(dims.clone(), &|dim| {
                let at = Index::Axis(dim);
                if dim == last { at.times(Index::Number(2)).plus(Index::Number(odd)) } else { at }
            })
        };
        let mut parts = Vec::new();
        for (function, odd) in [(Function::Sub, 0), (Function::Add, 1)] {
            let same = self.map(Function::Mul, &[element(odd), cos.clone()], span);
            let other = self.map(Function::Mul, &[element(1 - odd), sin.clone()], span);
            parts.push(self.map(function, &[same, other], span));
        }
        let mut places = vec![
            Part { first: Size::constant(0), step: 2, length: half.clone() },
            Part { first: Size::constant(1), step: 2, length: half.clone() },
        ];
        let paired = half.mul(&Size::constant(2));
        if paired != length {
            // An odd element has no partner.
            parts.push(columns(x, &paired, &length));
            places.push(Part { length: length.sub(&paired), first: paired, step: 1 });
        }
        self.join(&parts, places, length, span)
    }

    /// The angle of every pair, over `dims`.
    fn angle(&mut self, at: &View, (base, length): (f64, &Size), dims: &[Size], span: Span) -> View {
        let last = dims.len() - 1;
        let half = dims[last].clone();
        let axes = vec![self.axis(&half)];
        let lines = at.dims.len();
        let at = at.reshaped(dims.to_vec(), &|dim| Index::Axis(dim + last - lines));
        let [high, low] = [false, true].map(|rest| {
            let op = Op::Turns { base: base.to_bits(), length: length.clone(), rest };
            let node = self.graph.intern(Node::leaf(op, axes.clone()), span);
            View::of(node, Vec::new(), vec![half.clone()]).reshaped(dims.to_vec(), &|_| Index::Axis(last))
        });
        let (one, tau) = (self.number(1.0), self.number(TAU));
        let whole = self.map(Function::Mul, &[at.clone(), high], span);
        let part = self.map(Function::Mod, &[whole, one], span);
        let rest = self.map(Function::Mul, &[at, low], span);
        let turn = self.map(Function::Add, &[part, rest], span);
        self.map(Function::Mul, &[turn, tau], span)
    }

    /// The first half of the last dim turned by the row, the second by the column.
    pub(super) fn rope2d(&mut self, x: &View, index: IndexId, span: Span) -> Result<View> {
        let length = x.dims.last().cloned().unwrap_or(Size::constant(1));
        let half = halved(&length);
        let axes = vec![self.axis(&self.index_size(index))];
        let mut parts = Vec::new();
        for (axis, from, to) in [(GridAxis::Y, Size::constant(0), half.clone()), (GridAxis::X, half, length.clone())] {
            let at = self.coordinate(axis, Index::Axis(0), span)?;
            let at =
                View::of(self.graph.intern(Node::leaf(Op::Position(at), axes.clone()), span), vec![index], Vec::new());
            let part = columns(x, &from, &to);
            parts.push(self.turned(&part, &at, 10000.0, span));
        }
        Ok(self.stack(&parts, span))
    }
}

fn halved(length: &Size) -> Size {
    length.floor_div(&Size::constant(2)).unwrap_or_default()
}

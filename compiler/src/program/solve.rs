//! Small systems of equations as iterations: elimination for `solve`, conjugate gradients for `solve_cg`.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{Function, LetId};

use super::build::{Builder, columns, places};
use super::index::Index;
use super::view::{Label, View, union};
use super::{Fold, Node, Op};

/// Squares below which conjugate gradients have arrived.
const ARRIVED: f64 = 1e-30;

impl Builder<'_> {
    /// `init`, then for s in from..=to what `step` makes of the entry before; both over the same free variables and dims.
    fn iterated(
        &mut self,
        init: &View,
        (from, to): (i64, Size),
        also: &[&View],
        span: Span,
        step: impl FnOnce(&mut Self, &View, LetId) -> View,
    ) -> View {
        let of = self.next_iteration();
        let free = union([init].into_iter().chain(also.iter().copied()).map(|view| view.free.as_slice()));
        let dims = init.dims.clone();
        let axes = self.axes_of(&free, &dims);
        let old = View::of(self.graph.intern(Node::leaf(Op::Old(of), axes.clone()), span), free.clone(), dims.clone());
        let next = step(self, &old, of);
        let operands = [init, &next].map(|view| view.at(&places(&free))).into();
        View::of(self.node(Op::Iterate { of, from, to }, operands, axes, span), free, dims)
    }

    /// A x = b by elimination without exchanges, as a positive definite A allows: step k takes row k, over its pivot, from
    /// all other rows of (A | b). What is left right of the identity is x.
    pub(super) fn solve(&mut self, a: &View, b: &View, span: Span) -> View {
        let n = a.dims[0].clone();
        let vector = b.dims.len() == 1;
        let wide = if vector { vec![b.dims[0].clone(), Size::constant(1)] } else { b.dims.clone() };
        let b = if vector { b.reshaped(wide.clone(), &|_| Index::Axis(0)) } else { b.clone() };
        let both = self.stack(&[a.clone(), b], span);
        let (dims, last) = (both.dims.clone(), n.sub(&Size::constant(1)));
        let solved = self.iterated(&both, (0, last), &[], span, |this, old, of| {
            let step = |dim: usize| move |label: usize| if label == dim { Index::Step(of) } else { Index::Axis(label) };
            let pivot_row = old.reshaped(dims.clone(), &step(0));
            let pivot = old.reshaped(Vec::new(), &|_| Index::Step(of));
            let row = this.map(Function::Div, &[pivot_row, pivot], span);
            let factor = old.reshaped(dims.clone(), &step(1));
            let taken = this.map(Function::Mul, &[factor, row.clone()], span);
            let rest = this.map(Function::Sub, &[old.clone(), taken], span);
            let (at, here) = (this.along(&dims[0], span), this.scalar(Op::Position(Index::Step(of)), span));
            let at = at.reshaped(dims.clone(), &|_| Index::Axis(0));
            let own = this.map(Function::Eq, &[at, here], span);
            this.combine(Op::Select, &[own, row, rest], span)
        });
        let x = columns(&solved, &n, &dims[1]);
        if vector { x.reshaped(vec![n], &|dim| if dim == 0 { Index::Axis(0) } else { Index::Number(0) }) } else { x }
    }

    /// Steps of conjugate gradients from 0 on (x | r | p), which stand still once r'r or p'Ap has arrived.
    pub(super) fn solve_cg(&mut self, a: &View, b: &View, steps: i64, span: Span) -> View {
        let n = b.dims[0].clone();
        let zero = self.number(0.0);
        let start = self.map(Function::Mul, &[b.clone(), zero], span);
        let start = self.stack(&[start, b.clone(), b.clone()], span);
        let part = |whole: &View, place: i64| {
            columns(whole, &n.mul(&Size::constant(place)), &n.mul(&Size::constant(place + 1)))
        };
        let last = Size::constant(steps - 1);
        let found = self.iterated(&start, (0, last), &[a], span, |this, old, _| {
            let [x, r, p] = [0, 1, 2].map(|place| part(old, place));
            let image = {
                let dims = a.dims.clone();
                let p = p.reshaped(dims, &|_| Index::Axis(1));
                let terms = this.map(Function::Mul, &[a.clone(), p], span);
                this.fold(Fold::Sum, &terms, Label::Dim(1), span)
            };
            let square = this.dot(&r, &r, span);
            let curvature = this.dot(&p, &image, span);
            let least = this.number(ARRIVED);
            let moving = [&square, &curvature].map(|x| this.map(Function::Gt, &[x.clone(), least.clone()], span));
            let moving = this.map(Function::And, &moving, span);
            let length = this.map(Function::Div, &[square.clone(), curvature], span);
            let along = |this: &mut Self, x: &View, function, length: &View, by: &View| {
                let step = this.map(Function::Mul, &[length.clone(), by.clone()], span);
                this.map(function, &[x.clone(), step], span)
            };
            let next_x = along(this, &x, Function::Add, &length, &p);
            let next_r = along(this, &r, Function::Sub, &length, &image);
            let next_square = this.dot(&next_r, &next_r, span);
            let ratio = this.map(Function::Div, &[next_square, square], span);
            let next_p = along(this, &next_r, Function::Add, &ratio, &p);
            let next = [(next_x, x), (next_r, r), (next_p, p)]
                .map(|(next, old)| this.combine(Op::Select, &[moving.clone(), next, old], span));
            this.stack(&next, span)
        });
        part(&found, 0)
    }

    fn dot(&mut self, a: &View, b: &View, span: Span) -> View {
        let terms = self.map(Function::Mul, &[a.clone(), b.clone()], span);
        self.fold(Fold::Sum, &terms, Label::Dim(0), span)
    }
}

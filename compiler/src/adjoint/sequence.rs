//! Rules for what moves entries about: stacks, columns, shapes, convolutions, rotations.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{Domain, ExprId, ExprKind, Function, GridAxis, IndexId, LetKind, Ty};

use super::{Adjoint, Result};

const EVERYWHERE: Domain = Domain { visible_from: None, filter: None };

impl Adjoint<'_> {
    /// Each part's own stretch of a stack.
    pub(super) fn unstacked(&mut self, args: &[ExprId], g: ExprId) -> Vec<(ExprId, ExprId)> {
        let mut from = Size::constant(0);
        let mut pairs = Vec::new();
        for &arg in args {
            let mut dims = self.build.dims(arg);
            let width = dims.last().cloned().unwrap_or(Size::constant(1));
            let to = from.add(&width);
            let part = if let Some(last) = dims.last_mut() {
                *last = width;
                self.build.expr(ExprKind::Cols { arg: g, from, to: to.clone() }, Ty::Array(dims))
            } else {
                let at = self.build.size(&from);
                self.build.at(g, vec![at])
            };
            pairs.push((arg, part));
            from = to;
        }
        pairs
    }

    /// What entries computed one by one make, in a value without states.
    fn entries(
        &mut self,
        sizes: &[Size],
        value: &mut dyn FnMut(&mut Self, &[IndexId]) -> Result<ExprId>,
    ) -> Result<ExprId> {
        let own: Vec<IndexId> = sizes.iter().map(|size| self.build.fresh(size, "e")).collect();
        let value = value(self, &own)?;
        if self.mentions_state(value) {
            return Err(self.refused("the gradient of a value of the scan that is taken apart", "it has no rule"));
        }
        let around: Vec<IndexId> = self.build.free(value).into_iter().filter(|index| !own.contains(index)).collect();
        let indices = around.iter().chain(&own).copied().collect();
        let part = self.build.bind("part", (LetKind::Let, indices), value, false);
        let whole = self.build.whole(part);
        let at = around.iter().map(|index| self.build.index(*index)).collect();
        Ok(self.build.at(whole, at))
    }

    /// Zeros around columns `from` to `to`: what is out of range reads 0.
    pub(super) fn padded(&mut self, arg: ExprId, (from, _): (&Size, &Size), g: ExprId) -> Result<ExprId> {
        let sizes = self.build.dims(arg);
        self.entries(&sizes, &mut |this, own| {
            let mut at: Vec<ExprId> = own.iter().map(|index| this.build.index(*index)).collect();
            if let Some(last) = at.last_mut() {
                let from = this.build.size(from);
                *last = this.build.map(Function::Sub, &[*last, from]);
            }
            Ok(this.build.at(g, at))
        })
    }

    /// A vector in the shape of what was flattened to it.
    pub(super) fn reshaped(&mut self, arg: ExprId, g: ExprId) -> Result<ExprId> {
        let sizes = self.build.dims(arg);
        if sizes.is_empty() {
            let first = self.build.number(0.0);
            return Ok(self.build.at(g, vec![first]));
        }
        self.entries(&sizes, &mut |this, own| {
            let mut place = this.build.index(own[0]);
            for (index, size) in own.iter().zip(&sizes).skip(1) {
                let (size, at) = (this.build.size(size), this.build.index(*index));
                place = this.build.map(Function::Mul, &[place, size]);
                place = this.build.map(Function::Add, &[place, at]);
            }
            Ok(this.build.at(g, vec![place]))
        })
    }

    /// A whole array with a name, for its entries to be read.
    fn array(&mut self, id: ExprId) -> ExprId {
        if matches!(self.build.kind(id), ExprKind::Let(_) | ExprKind::Tensor(_)) || !self.build.free(id).is_empty() {
            return id;
        }
        let named = self.build.bind("whole", (LetKind::Let, Vec::new()), id, false);
        self.build.whole(named)
    }

    /// x[t] + sum over n of w[:,n] .* g[t+N-1-n];  w[:,n] + sum over t of g[t] .* x[t-N+1+n].
    pub(super) fn convolved(&mut self, (x, w): (ExprId, ExprId), g: ExprId) -> Result<Vec<(ExprId, ExprId)>> {
        let (x_dims, w_dims) = (self.build.dims(x), self.build.dims(w));
        let (Some(tokens), Some(taps)) = (x_dims.first().cloned(), w_dims.last().cloned()) else {
            return Ok(Vec::new());
        };
        if x_dims.len() > 2 || w_dims.len() > 2 {
            return Err(self.refused("the gradient of this convolution", "of channels in several axes it has no rule"));
        }
        let (g, read) = (self.array(g), self.array(x));
        let shared = w_dims.len() == 1;
        let mut pairs = Vec::new();
        if self.is_active(x) {
            let share = self.entries(std::slice::from_ref(&tokens), &mut |this, own| {
                let n = this.build.fresh(&taps, "n");
                let at = this.shifted(own[0], (n, &taps), Function::Add);
                let (tap, there) = (this.tap(w, n, shared), this.build.at(g, vec![at]));
                let term = this.build.mul(tap, there);
                Ok(this.sum((n, EVERYWHERE), term))
            })?;
            pairs.push((x, share));
        }
        if self.is_active(w) {
            let share = self.entries(std::slice::from_ref(&taps), &mut |this, own| {
                let t = this.build.fresh(&tokens, "t");
                let here = this.build.index(t);
                let at = this.shifted(t, (own[0], &taps), Function::Sub);
                let (here, there) = (this.build.at(g, vec![here]), this.build.at(read, vec![at]));
                let term = if shared { this.build.pair(here, there) } else { this.build.mul(here, there) };
                Ok(this.sum((t, EVERYWHERE), term))
            })?;
            pairs.push((w, if shared { share } else { self.build.transpose(share) }));
        }
        Ok(pairs)
    }

    /// `t + (N - 1 - n)`, or less.
    fn shifted(&mut self, t: IndexId, (n, taps): (IndexId, &Size), function: Function) -> ExprId {
        let (t, n) = (self.build.index(t), self.build.index(n));
        let last = self.build.size(&taps.sub(&Size::constant(1)));
        let by = self.build.map(Function::Sub, &[last, n]);
        self.build.map(function, &[t, by])
    }

    fn tap(&mut self, w: ExprId, n: IndexId, shared: bool) -> ExprId {
        let at = self.build.index(n);
        let lines = if shared { w } else { self.build.transpose(w) };
        self.build.at(lines, vec![at])
    }

    /// The convolution of the cotangent with its taps turned round; its products with what the taps met.
    pub(super) fn convolved_on_grid(
        &mut self,
        (x, w): (ExprId, ExprId),
        stride: i64,
        g: ExprId,
    ) -> Result<Vec<(ExprId, ExprId)>> {
        let (x_dims, w_dims) = (self.build.dims(x), self.build.dims(w));
        let [channels @ .., ky, kx] = w_dims.as_slice() else { return Ok(Vec::new()) };
        let grid = self.primal.grid.clone().filter(|grid| grid.offset.as_constant() == Some(0));
        let Some(grid) = grid.filter(|_| channels.len() < 2 && x_dims.len() == 2) else {
            return Err(self.refused("the gradient of this convolution on a grid", "tokens stand before the grid"));
        };
        let step = Size::constant(stride.max(1));
        let kept = grid.cols.add(&step).sub(&Size::constant(1)).floor_div(&step).unwrap_or(grid.cols.clone());
        let (g, read) = (self.array(g), self.array(x));
        let mut pairs = Vec::new();
        if self.is_active(x) {
            let odd = |size: &Size| size.as_constant().is_some_and(|n| n % 2 == 1);
            let share = if stride == 1 && odd(ky) && odd(kx) {
                let turned = self.turned_taps(w, &w_dims)?;
                let ty = Ty::Array(x_dims.clone());
                self.build.expr(ExprKind::Dwconv { arg: g, weights: turned, stride }, ty)
            } else {
                self.spread((w, &w_dims), (g, &x_dims), (&grid.rows, &grid.cols), (&step, &kept))?
            };
            pairs.push((x, share));
        }
        if self.is_active(w) {
            let places = self.build.dims(g)[0].clone();
            let shared = channels.is_empty();
            let share = self.entries(&w_dims, &mut |this, own| {
                let t = this.build.fresh(&places, "t");
                let here = this.build.index(t);
                let (row, column) = (this.divided(here, &kept), this.rest(here, &kept));
                let [a, b] = [own[own.len() - 2], own[own.len() - 1]].map(|index| this.build.index(index));
                let y = this.moved((row, &step), (a, ky));
                let x_at = this.moved((column, &step), (b, kx));
                let inside = this.inside((y, &grid.rows), (x_at, &grid.cols));
                let place = this.flat((y, x_at), &grid.cols);
                let mut at = [vec![here], vec![place]];
                if !shared {
                    let channel = this.build.index(own[0]);
                    at.iter_mut().for_each(|at| at.push(channel));
                }
                let [here, there] = at;
                let (here, there) = (this.build.at(g, here), this.build.at(read, there));
                let term = this.build.pair(here, there);
                Ok(this.sum((t, Domain { visible_from: None, filter: Some(inside) }), term))
            })?;
            pairs.push((w, share));
        }
        Ok(pairs)
    }

    fn turned_taps(&mut self, w: ExprId, dims: &[Size]) -> Result<ExprId> {
        let w = self.array(w);
        self.entries(dims, &mut |this, own| {
            let mut at = Vec::new();
            for (n, index) in own.iter().enumerate() {
                let place = this.build.index(*index);
                at.push(if n + 2 < dims.len() {
                    place
                } else {
                    let last = this.build.size(&dims[n].sub(&Size::constant(1)));
                    this.build.map(Function::Sub, &[last, place])
                });
            }
            Ok(this.build.at(w, at))
        })
    }

    /// Every entry from the outputs whose taps met it.
    fn spread(
        &mut self,
        (w, w_dims): (ExprId, &[Size]),
        (g, x_dims): (ExprId, &[Size]),
        (rows, columns): (&Size, &Size),
        (step, kept): (&Size, &Size),
    ) -> Result<ExprId> {
        let (w, shared) = (self.array(w), w_dims.len() == 2);
        let [ky, kx] = [w_dims[w_dims.len() - 2].clone(), w_dims[w_dims.len() - 1].clone()];
        self.entries(x_dims, &mut |this, own| {
            let (token, channel) = (this.build.index(own[0]), this.build.index(own[1]));
            let (a, b) = (this.build.fresh(&ky, "a"), this.build.fresh(&kx, "b"));
            let (row, column) = (this.divided(token, columns), this.rest(token, columns));
            let (at_a, at_b) = (this.build.index(a), this.build.index(b));
            let back = |this: &mut Self, at: ExprId, tap: ExprId, size: &Size| {
                let half = this.half(size);
                let less = this.build.map(Function::Sub, &[at, tap]);
                this.build.map(Function::Add, &[less, half])
            };
            let (y, x) = (back(this, row, at_a, &ky), back(this, column, at_b, &kx));
            let mut inside = this.inside((y, rows), (x, columns));
            let zero = this.build.number(0.0);
            for at in [y, x] {
                let rest = this.rest(at, step);
                let whole = this.build.map(Function::Eq, &[rest, zero]);
                inside = this.build.map(Function::And, &[inside, whole]);
            }
            let (y, x) = (this.divided(y, step), this.divided(x, step));
            let place = this.flat((y, x), kept);
            let there = this.build.at(g, vec![place, channel]);
            let tap = if shared { vec![at_a, at_b] } else { vec![channel, at_a, at_b] };
            let tap = this.build.at(w, tap);
            let term = this.build.mul(tap, there);
            let line = this.sum((b, Domain { visible_from: None, filter: Some(inside) }), term);
            Ok(this.sum((a, EVERYWHERE), line))
        })
    }

    fn divided(&mut self, at: ExprId, by: &Size) -> ExprId {
        if by.as_constant() == Some(1) {
            return at;
        }
        let by = self.build.size(by);
        self.build.map(Function::FloorDiv, &[at, by])
    }

    fn rest(&mut self, at: ExprId, by: &Size) -> ExprId {
        let by = self.build.size(by);
        self.build.map(Function::Mod, &[at, by])
    }

    fn half(&mut self, size: &Size) -> ExprId {
        let half = size.floor_div(&Size::constant(2)).unwrap_or(Size::constant(0));
        self.build.size(&half)
    }

    /// `at * step + tap - size div 2`
    fn moved(&mut self, (at, step): (ExprId, &Size), (tap, size): (ExprId, &Size)) -> ExprId {
        let (half, step) = (self.half(size), self.build.size(step));
        let first = self.build.map(Function::Mul, &[at, step]);
        let first = self.build.map(Function::Add, &[first, tap]);
        self.build.map(Function::Sub, &[first, half])
    }

    fn flat(&mut self, (y, x): (ExprId, ExprId), columns: &Size) -> ExprId {
        let columns = self.build.size(columns);
        let first = self.build.map(Function::Mul, &[y, columns]);
        self.build.map(Function::Add, &[first, x])
    }

    fn inside(&mut self, (y, rows): (ExprId, &Size), (x, columns): (ExprId, &Size)) -> ExprId {
        let zero = self.build.number(0.0);
        let mut all = self.build.map(Function::Ge, &[y, zero]);
        let from = self.build.map(Function::Ge, &[x, zero]);
        all = self.build.map(Function::And, &[all, from]);
        for (at, size) in [(y, rows), (x, columns)] {
            let size = self.build.size(size);
            let below = self.build.map(Function::Lt, &[at, size]);
            all = self.build.map(Function::And, &[all, below]);
        }
        all
    }

    /// A rotation on the grid by the negative angles: each half is a rotation on a line.
    pub(super) fn turned_back(&mut self, arg: ExprId, index: IndexId, g: ExprId) -> Result<ExprId> {
        let dims = self.build.dims(arg);
        let [width] = dims.as_slice() else {
            return Err(self.refused("the gradient of `rope2d` of several lines", "it has no rule"));
        };
        let half = width.floor_div(&Size::constant(2)).unwrap_or(width.clone());
        let token = self.build.index(index);
        let mut halves = Vec::new();
        for (axis, from, to) in
            [(GridAxis::Y, Size::constant(0), half.clone()), (GridAxis::X, half.clone(), width.clone())]
        {
            let ty = Ty::Array(vec![to.sub(&from)]);
            let part = self.build.expr(ExprKind::Cols { arg: g, from, to }, ty.clone());
            let at = self.coordinate(token, axis)?;
            let at = self.build.neg(at);
            let base = self.build.number(10000.0);
            halves.push(self.build.expr(ExprKind::Rope { arg: part, at, base }, ty));
        }
        Ok(self.build.expr(ExprKind::Stack(halves), Ty::Array(dims)))
    }
}

//! Reductions and softmax over index variables, and the algebra of sums: what does not depend on the summed position goes
//! before the sum, and what does is two factors wherever they make a product of matrices.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{Domain, ExprId, Function, IndexId, ReduceOp as Over};

use super::build::{Builder, Result, places};
use super::index::Index;
use super::view::{Label, View, position, union};
use super::{Axis, Fold, Node, NodeId, Op, Operand};

/// Below every logit that is a number.
pub const LEAST: f64 = -3.0e38;

impl Builder<'_> {
    pub(super) fn reduce(
        &mut self,
        (op, index): (Over, IndexId),
        domain: &Domain,
        body: ExprId,
        span: Span,
    ) -> Result<View> {
        let body = self.view(body)?;
        let cond = self.domain(domain, index, span)?;
        let over = Label::Free(index);
        let size = self.index_size(index);
        let body = if body.is_free_in(index) { body } else { self.spread(&body, index) };
        Ok(match op {
            Over::Sum => {
                let body = self.where_else(&cond, body, 0.0, span);
                self.sum(&body, over, span)
            }
            Over::Mean => {
                let all = self.where_else(&cond, body, 0.0, span);
                let sum = self.sum(&all, over, span);
                let count = self.count(&cond, index, span);
                let one = self.number(1.0);
                let count = self.map(Function::Max, &[count, one], span);
                self.map(Function::Div, &[sum, count], span)
            }
            Over::Count => {
                let one = self.number(1.0);
                let mut body = self.where_else(&Some(body), one, 0.0, span);
                body = self.where_else(&cond, body, 0.0, span);
                self.sum(&body, over, span)
            }
            Over::Max | Over::Min | Over::Prod => {
                let (op, none) = match op {
                    Over::Max => (Fold::Max, f64::NEG_INFINITY),
                    Over::Min => (Fold::Min, f64::INFINITY),
                    _ => (Fold::Product, 1.0),
                };
                let body = self.where_else(&cond, body, none, span);
                self.fold(op, &body, over, span)
            }
            Over::Argmax => {
                let body = self.where_else(&cond, body, f64::NEG_INFINITY, span);
                let most = self.fold(Fold::Max, &body, over, span);
                let is = self.map(Function::Eq, &[body, most], span);
                let is = match cond {
                    Some(cond) => self.map(Function::And, &[is, cond], span),
                    None => is,
                };
                let at = self.position_of(index, span);
                let at = self.where_else(&Some(is), at, f64::INFINITY, span);
                let first = self.fold(Fold::Min, &at, over, span);
                let (size, zero) = (self.scalar(Op::Size(size), span), self.number(0.0));
                let found = self.map(Function::Lt, &[first.clone(), size], span);
                self.combine(Op::Select, &[found, first, zero], span)
            }
        })
    }

    /// How many positions are counted.
    fn count(&mut self, cond: &Option<View>, index: IndexId, span: Span) -> View {
        match cond {
            None => {
                let size = self.index_size(index);
                self.scalar(Op::Size(size), span)
            }
            Some(_) => {
                let one = self.number(1.0);
                let ones = self.where_else(cond, one, 0.0, span);
                let ones = if ones.is_free_in(index) { ones } else { self.spread(&ones, index) };
                self.sum(&ones, Label::Free(index), span)
            }
        }
    }

    /// The weights at `index`: exp(x - max) over their sum, 0 where nothing can be seen.
    pub(super) fn softmax(
        &mut self,
        (index, bound): (IndexId, IndexId),
        domain: &Domain,
        over: ExprId,
        span: Span,
    ) -> Result<View> {
        let cond = self.domain(domain, bound, span)?;
        let over = self.view(over)?;
        let over = if over.is_free_in(bound) { over } else { self.spread(&over, bound) };
        let weights = self.weights(over, &cond, Label::Free(bound), span);
        Ok(weights.renamed(bound, index))
    }

    /// Weights over a label of `x`, hidden where `cond` does not hold.
    pub(super) fn weights(&mut self, x: View, cond: &Option<View>, over: Label, span: Span) -> View {
        let seen = self.where_else(cond, x.clone(), f64::NEG_INFINITY, span);
        let most = self.fold(Fold::Max, &seen, over, span);
        let least = self.number(LEAST);
        let most = self.map(Function::Max, &[most, least], span);
        let most = self.beside(most, &x, over);
        let shifted = self.map(Function::Sub, &[x.clone(), most], span);
        let weight = self.map(Function::Exp, &[shifted], span);
        let weight = self.where_else(cond, weight, 0.0, span);
        let sum = self.fold(Fold::Sum, &weight, over, span);
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let empty = self.map(Function::Eq, &[sum.clone(), zero], span);
        let sum = self.combine(Op::Select, &[empty, one, sum], span);
        let sum = self.beside(sum, &x, over);
        self.map(Function::Div, &[weight, sum], span)
    }

    /// What a fold over a label of `x` gives, at every element of `x`.
    pub(super) fn beside(&self, folded: View, x: &View, over: Label) -> View {
        match over {
            Label::Free(_) => folded,
            Label::Dim(last) => {
                folded.reshaped(x.dims.clone(), &|dim| Index::Axis(if dim < last { dim } else { dim + 1 }))
            }
        }
    }

    /// `x` where the condition holds, else `none`.
    fn where_else(&mut self, cond: &Option<View>, x: View, none: f64, span: Span) -> View {
        match cond {
            Some(cond) => {
                let none = self.number(none);
                self.combine(Op::Select, &[cond.clone(), x, none], span)
            }
            None => x,
        }
    }

    /// A value that is the same at all positions of an index.
    fn spread(&self, view: &View, index: IndexId) -> View {
        let free = union([view.free.as_slice(), &[index]]);
        let places = places(&free);
        view.over(free.clone(), view.dims.clone(), &places)
    }

    pub(super) fn position_of(&mut self, index: IndexId, span: Span) -> View {
        let axes = vec![self.axis(&self.index_size(index))];
        View::of(self.graph.intern(Node::leaf(Op::Position(Index::Axis(0)), axes), span), vec![index], Vec::new())
    }

    /// The condition under which a position counts; None where all do.
    fn domain(&mut self, domain: &Domain, bound: IndexId, span: Span) -> Result<Option<View>> {
        let filter = domain.filter.map(|filter| self.view(filter)).transpose()?;
        let visible = match domain.visible_from {
            Some(from) => self.visible(from, bound, span)?,
            None => None,
        };
        Ok(match (filter, visible) {
            (Some(a), Some(b)) => Some(self.map(Function::And, &[b, a], span)),
            (a, b) => a.or(b),
        })
    }

    /// A fold over a free variable or a dim.
    pub(super) fn fold(&mut self, op: Fold, body: &View, over: Label, span: Span) -> View {
        let (free, dims, reduced) = self.rest(body, over);
        let operand = body.at(&around(&free, dims.len(), over));
        let axes = self.axes_of(&free, &dims);
        let node = Node { op: Op::Fold(op), operands: vec![operand], axes, reduced: Some(reduced) };
        View::of(self.graph.intern(node, span), free, dims)
    }

    fn rest(&self, body: &View, over: Label) -> (Vec<IndexId>, Vec<Size>, Axis) {
        let mut free = body.free.clone();
        let mut dims = body.dims.clone();
        let size = match over {
            Label::Free(index) => {
                free.retain(|other| *other != index);
                self.index_size(index)
            }
            Label::Dim(dim) => dims.remove(dim),
        };
        (free, dims, Axis { index: matches!(over, Label::Free(_)), ..self.axis(&size) })
    }

    /// A sum: factors that do not depend on the position are taken out of it, the others are put together as two.
    pub(super) fn sum(&mut self, body: &View, over: Label, span: Span) -> View {
        let (free, dims, reduced) = self.rest(body, over);
        let inner = free.len() + dims.len();
        let operand = body.at(&around(&free, dims.len(), over));
        let mut factors = Factors::default();
        self.factors(operand, (inner, None), &mut factors);
        let axes = self.axes_of(&free, &dims);
        let (times, divide) = (std::mem::take(&mut factors.times), std::mem::take(&mut factors.over));
        let read = self.summed(factors, &Along { axes, free: free.len(), reduced, span });
        let sum = View { free: free.clone(), dims: dims.clone(), read };
        let outside = |read| View { free: free.clone(), dims: dims.clone(), read };
        let sum = times.into_iter().fold(sum, |sum, by| self.map(Function::Mul, &[sum, outside(by)], span));
        divide.into_iter().fold(sum, |sum, by| self.map(Function::Div, &[sum, outside(by)], span))
    }

    /// The sum of a product of these factors, over those of the axes that they depend on.
    fn summed(&mut self, factors: Factors, over: &Along) -> Operand {
        let Factors { mut dependent, mut conditions, .. } = factors;
        if dependent.is_empty() && conditions.is_empty() {
            let node = self.node(Op::Size(over.reduced.size.clone()), Vec::new(), Vec::new(), over.span);
            return Operand::whole(node, 0);
        }
        if dependent.is_empty() {
            dependent.push(self.constant(1.0));
        }
        let depends = |axis: &usize| dependent.iter().chain(&conditions).any(|x| x.mentions(*axis) || within(x, *axis));
        let used: Vec<usize> = (0..over.axes.len()).filter(depends).collect();
        let all: Vec<Axis> = over.axes.iter().chain([&over.reduced]).cloned().collect();
        let with_reduced: Vec<usize> = used.iter().copied().chain([over.axes.len()]).collect();
        let axes = narrowed(&mut dependent, &all, &with_reduced);
        narrowed(&mut conditions, &all, &with_reduced);
        let own = axes[..used.len()].to_vec();
        let free = used.iter().filter(|axis| **axis < over.free).count();
        let body = self.two(dependent, conditions, &Along { axes, free, ..over.clone() });
        let node =
            Node { op: Op::Fold(Fold::Sum), operands: vec![body], axes: own, reduced: Some(over.reduced.clone()) };
        let at = used.into_iter().map(Index::Axis).collect();
        Operand { node: self.graph.intern(node, over.span), at, within: Vec::new() }
    }

    /// Takes a body apart into factors; `under` is the condition that this part of it stands under. Under a condition a factor
    /// stays where it is, so that nothing which is not seen counts, but numbers and denominators that are harmless.
    fn factors(&self, operand: Operand, (inner, under): (usize, Option<&Operand>), found: &mut Factors) {
        let node = self.graph.node(operand.node);
        let depends = |x: &Operand| x.mentions(inner) || within(x, inner);
        let hidden = !found.conditions.is_empty();
        if operand.within.is_empty() {
            match (&node.op, node.operands.as_slice()) {
                (Op::Map(Function::Mul), [a, b]) => {
                    let (a, b) = (a.through(&operand.at), b.through(&operand.at));
                    self.factors(a, (inner, under), found);
                    return self.factors(b, (inner, under), found);
                }
                (Op::Map(Function::Div), [a, b]) => {
                    let b = b.through(&operand.at);
                    if !depends(&b) && (!hidden || self.is_harmless(&b, (inner, under))) {
                        found.over.push(b);
                        return self.factors(a.through(&operand.at), (inner, under), found);
                    }
                }
                (Op::Select, [condition, x, none])
                    if none.within.is_empty() && self.graph.node(none.node).op == Op::Number(0) && found.is_empty() =>
                {
                    let condition = condition.through(&operand.at);
                    found.conditions.push(condition.clone());
                    return self.factors(x.through(&operand.at), (inner, Some(&condition)), found);
                }
                _ => {}
            }
        }
        let stays = depends(&operand) || (hidden && !matches!(node.op, Op::Number(_) | Op::Size(_)));
        if stays { found.dependent.push(operand) } else { found.times.push(operand) }
    }

    /// Whether a sum may be divided by it instead of what is summed: a number or a size, a root of one, or a sum with 1 in
    /// place of nothing. Under a condition the latter is summed under the same one: else it may be NaN where the sum is of
    /// nothing, and 0.
    fn is_harmless(&self, x: &Operand, (inner, under): (usize, Option<&Operand>)) -> bool {
        let node = self.graph.node(x.node);
        match (&node.op, node.operands.as_slice()) {
            (Op::Number(_) | Op::Size(_), _) => true,
            (Op::Map(Function::Sqrt), [of]) => self.is_harmless(&of.through(&x.at), (inner, under)),
            (Op::Select, [empty, one, sum]) => {
                let is = |x: &Operand, op: Op| self.graph.node(x.node).op == op;
                let empty = self.graph.node(empty.node);
                let against_zero = empty.operands.last().is_some_and(|x| is(x, Op::Number(0)));
                let guards = is(one, Op::Number(1f64.to_bits())) && empty.op == Op::Map(Function::Eq) && against_zero;
                let same = |condition| self.is_summed_under(&sum.through(&x.at), (inner, condition));
                guards && under.is_none_or(same)
            }
            _ => false,
        }
    }

    /// Whether it is a sum of what counts under the condition, at all positions `inner`.
    fn is_summed_under(&self, sum: &Operand, (inner, condition): (usize, &Operand)) -> bool {
        let node = self.graph.node(sum.node);
        let ([body], Op::Fold(Fold::Sum)) = (node.operands.as_slice(), &node.op) else { return false };
        let places: Vec<Index> = sum.at.iter().cloned().chain([Index::Axis(inner)]).collect();
        let body = body.through(&places);
        let select = self.graph.node(body.node);
        select.op == Op::Select && select.operands[0].through(&body.at) == *condition
    }

    /// Factors over axes, the last of which is summed over, as one operand: where they make a product of matrices, as
    /// the product of a left one and of a right one whose rows lie densely along the last axis of the result. Of pairs of
    /// tokens both stay as they lie. Where conditions do not hold the left one is 0, and the product too.
    fn two(&mut self, factors: Vec<Operand>, conditions: Vec<Operand>, over: &Along) -> Operand {
        let axes = &over.axes;
        let inner = axes.len() - 1;
        let last = inner.checked_sub(1);
        let (mut right, mut left): (Vec<Operand>, Vec<Operand>) =
            factors.into_iter().partition(|x| last.is_some_and(|last| x.mentions(last)));
        let own = |all: &[Operand], axis: usize| all.iter().any(|x| x.mentions(axis));
        let seen = |axis: usize| own(&conditions, axis);
        let lone = |axis: &usize| (own(&left, *axis) || seen(*axis)) && !own(&right, *axis);
        let row = (0..inner).rev().filter(|axis| Some(*axis) != last).find(lone);
        let rows = (0..inner).any(|axis| own(&left, axis) && !own(&right, axis))
            || (!conditions.is_empty() && row.is_some() && !last.is_some_and(seen));
        if !rows || right.is_empty() {
            left.append(&mut right);
            let all = self.gathered(left, over, None);
            return self.seen(all, conditions, over);
        }
        // A factor of the position alone goes where something is computed anyway.
        let (alone, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|x| !(0..inner).any(|axis| x.mentions(axis)));
        left = rest;
        let fused = |all: &[Operand]| all.len() > 1 || !self.is_tensor(&all[0]);
        if conditions.is_empty() && fused(&right) && !fused(&left) {
            right.extend(alone)
        } else {
            left.extend(alone)
        }
        let of_pairs = over.free == inner && row.is_some_and(|row| axes[row].token);
        let a = if left.is_empty() { self.constant(1.0) } else { self.gathered(left, over, None) };
        let a = self.seen(a, conditions.clone(), over);
        let a = if self.is_fit(&a, None) { a } else { self.gathered(vec![a], over, Some(Op::Copy)) };
        let b = self.gathered(right, over, None);
        let b = if of_pairs || self.is_fit(&b, last) { b } else { self.gathered(vec![b], over, Some(Op::Copy)) };
        let product = self.gathered(vec![a, b], over, Some(Op::Map(Function::Mul)));
        self.seen(product, conditions, over)
    }

    /// A product of pairs (row, column) times a number that is the same everywhere: that of the scaled row.
    pub(super) fn scaled(&mut self, x: &View, by: &Operand, span: Span) -> Option<View> {
        let node = self.graph.node(x.read.node).clone();
        let [a, b] = node.factors(&self.graph)?;
        let reduced = node.reduced.clone()?;
        let axes: Vec<Axis> = node.axes.iter().chain([&reduced]).cloned().collect();
        let inner = node.axes.len();
        let is_row = |axis: &usize| node.axes[*axis].token && a.mentions(*axis) && !b.mentions(*axis);
        let of_pairs = x.dims.is_empty() && x.free.len() == inner && (0..inner).any(|axis| is_row(&axis));
        if !of_pairs {
            return None;
        }
        let along = Along { axes, free: inner, reduced: reduced.clone(), span };
        let a = self.gathered(vec![a, by.clone()], &along, None);
        let body = self.gathered(vec![a, b], &along, Some(Op::Map(Function::Mul)));
        let product = Node { op: node.op, operands: vec![body], axes: node.axes, reduced: Some(reduced) };
        let read = Operand { node: self.graph.intern(product, span), ..x.read.clone() };
        Some(View { read, ..x.clone() })
    }

    fn constant(&mut self, x: f64) -> Operand {
        self.number(x).read
    }

    /// Whether an operand is 0 already where the only condition does not hold.
    fn is_seen(&self, x: &Operand, conditions: &[Operand]) -> bool {
        let node = self.graph.node(x.node);
        match (&node.op, node.operands.as_slice(), conditions) {
            (Op::Select, [condition, _, none], [only]) => {
                self.graph.node(none.node).op == Op::Number(0) && condition.through(&x.at) == *only
            }
            _ => false,
        }
    }

    /// An operand where all of the conditions hold, else 0.
    fn seen(&mut self, x: Operand, conditions: Vec<Operand>, over: &Along) -> Operand {
        if conditions.is_empty() || self.is_seen(&x, &conditions) {
            return x;
        }
        let mut all = [conditions, vec![x]].concat();
        let used: Vec<usize> =
            (0..over.axes.len()).filter(|axis| all.iter().any(|x| x.mentions(*axis) || within(x, *axis))).collect();
        let own = narrowed(&mut all, &over.axes, &used);
        let x = all.pop();
        let both = |this: &mut Self, a, b| {
            let node = this.node(Op::Map(Function::And), vec![a, b], own.clone(), over.span);
            Operand::whole(node, own.len())
        };
        let condition = all.into_iter().reduce(|a, b| both(self, a, b));
        let zero = self.constant(0.0);
        let operands = condition.into_iter().chain(x).chain([zero]).collect();
        let node = self.node(Op::Select, operands, own, over.span);
        Operand { node, at: used.into_iter().map(Index::Axis).collect(), within: Vec::new() }
    }

    fn is_tensor(&self, x: &Operand) -> bool {
        matches!(self.graph.node(x.node).op, Op::Tensor(_))
    }

    /// Whether a factor is fit for a product as it lies: in memory as f32, and dense along an axis where that is asked.
    fn is_fit(&self, x: &Operand, dense: Option<usize>) -> bool {
        let node = self.graph.node(x.node);
        let float = !matches!(node.op, Op::Tensor(id) if self.is_integer(id));
        let along = dense.is_none_or(|axis| x.at.last() == Some(&Index::Axis(axis)));
        float && x.within.is_empty() && along
    }

    /// The product of operands as one over the axes that they mention, in order, those of the columns last; with an
    /// operation, as a node of it.
    fn gathered(&mut self, mut factors: Vec<Operand>, over: &Along, op: Option<Op>) -> Operand {
        if op.is_none()
            && let [only] = factors.as_slice()
        {
            return only.clone();
        }
        let (axes, span) = (&over.axes, over.span);
        let inner = axes.len() - 1;
        let whole = matches!(op, Some(Op::Map(_)));
        let mut used: Vec<usize> = (0..axes.len())
            .filter(|axis| whole || factors.iter().any(|x| x.mentions(*axis) || within(x, *axis)))
            .collect();
        if !whole
            && let [.., column, last] = used.as_mut_slice()
            && *last == inner
            && *column + 1 == inner
        {
            std::mem::swap(column, last);
        }
        let own = narrowed(&mut factors, axes, &used);
        let op = op.unwrap_or(Op::Map(Function::Mul));
        if op == Op::Copy {
            let node = self.node(Op::Copy, factors, own, span);
            return Operand { node, at: used.iter().map(|axis| Index::Axis(*axis)).collect(), within: Vec::new() };
        }
        let mut factors = factors.into_iter();
        let Some(mut product) = factors.next() else {
            return Operand::whole(NodeId(0), 0);
        };
        for factor in factors {
            let node = self.node(op.clone(), vec![product, factor], own.clone(), span);
            product = Operand::whole(node, own.len());
        }
        product.through(&used.iter().map(|axis| Index::Axis(*axis)).collect::<Vec<_>>())
    }
}

/// Turns operands over axes into ones over some of them, and gives those; they depend on no others.
fn narrowed(operands: &mut [Operand], axes: &[Axis], used: &[usize]) -> Vec<Axis> {
    let place = |axis: usize| used.iter().position(|other| *other == axis).map_or(Index::Number(0), Index::Axis);
    let places: Vec<Index> = (0..axes.len()).map(place).collect();
    operands.iter_mut().for_each(|x| *x = x.through(&places));
    used.iter().map(|axis| axes[*axis].clone()).collect()
}

fn within(x: &Operand, axis: usize) -> bool {
    x.within.iter().any(|(index, _)| index.mentions(axis))
}

/// What a sum runs over.
#[derive(Clone)]
struct Along {
    /// Those of the result; of the body the summed one after them.
    axes: Vec<Axis>,
    /// How many of them are index variables; they come first.
    free: usize,
    reduced: Axis,
    span: Span,
}

/// What a sum's body is a product of.
#[derive(Default)]
struct Factors {
    dependent: Vec<Operand>,
    /// Where one of them does not hold the body is 0, whatever the factors are.
    conditions: Vec<Operand>,
    /// Of the others, what multiplies the sum and what divides it.
    times: Vec<Operand>,
    over: Vec<Operand>,
}

impl Factors {
    fn is_empty(&self) -> bool {
        self.dependent.is_empty() && self.times.is_empty() && self.over.is_empty()
    }
}

/// Where the labels of a body stand beside the one that is folded, which comes after all others.
fn around(free: &[IndexId], dims: usize, over: Label) -> impl Fn(Label) -> Index {
    let inner = free.len() + dims;
    move |label| match (label, over) {
        _ if label == over => Index::Axis(inner),
        (Label::Free(index), _) => position(free, index),
        (Label::Dim(dim), Label::Dim(folded)) if dim > folded => Index::Axis(free.len() + dim - 1),
        (Label::Dim(dim), _) => Index::Axis(free.len() + dim),
    }
}

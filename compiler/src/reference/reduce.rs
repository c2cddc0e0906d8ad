//! Reductions: over an index variable and what is visible, and over the last axis of a value.

use std::rc::Rc;

use chunkwise_dsl::typed::{Domain, ExprId, FoldOp, Function, IndexId, Norm, NormKind, ReduceOp};

use super::eval::Evaluator;
use super::number::Number;
use super::value::{Dims, Value};

impl<N: Number> Evaluator<'_, N> {
    /// Runs `visit` for every position of the domain in turn, with the index set to it.
    fn each(&mut self, index: IndexId, domain: &Domain, visit: &mut dyn FnMut(&mut Self, usize)) {
        let saved = self.env[index.index()];
        let row = domain.visible_from.map(|from| self.visible(self.env[from.index()]));
        let size = self.world.sizes.extent(&self.world.variant.indices[index.index()].size);
        let count = row.as_ref().map_or(size, |row| row.len());
        for n in 0..count {
            let at = row.as_ref().map_or(n, |row| row[n] as usize);
            self.set(index, at);
            if domain.filter.is_none_or(|filter| self.scalar(filter).value() != 0.0) {
                visit(self, at);
            }
        }
        self.env[index.index()] = saved;
    }

    pub(super) fn reduce(&mut self, op: ReduceOp, index: IndexId, domain: &Domain, body: ExprId) -> Value<N> {
        let dims = self.world.facts.exprs[body.index()].dims;
        if dims.len() == 0 {
            let mut total = Accumulator::new(op);
            self.each(index, domain, &mut |this, at| total.take(op, this.scalar(body), at));
            return Value::Scalar(total.result(op));
        }
        if op == ReduceOp::Sum {
            let mut totals = vec![N::from(0.0); dims.size()];
            self.each(index, domain, &mut |this, _| {
                let value = this.eval(body);
                totals.iter_mut().zip(value.data()).for_each(|(total, x)| *total += *x);
            });
            return Value::new(totals, dims);
        }
        let mut totals = vec![Accumulator::new(op); dims.size()];
        self.each(index, domain, &mut |this, at| {
            let value = this.eval(body);
            totals.iter_mut().zip(value.data()).for_each(|(total, x)| total.take(op, *x, at));
        });
        Value::new(totals.into_iter().map(|total| total.result(op)).collect(), dims)
    }

    /// The weight at `index`: all weights that share a normaliser are computed together and kept.
    pub(super) fn softmax(
        &mut self,
        id: ExprId,
        index: IndexId,
        (bound, over): (IndexId, ExprId),
        domain: &Domain,
    ) -> Value<N> {
        let at = self.env[index.index()];
        let needs = self.world.facts.exprs[id.index()].normaliser.as_ref();
        let key = needs.and_then(|needs| self.key(needs));
        let kept = match (&self.weights[id.index()], key) {
            (Some((kept, weights)), Some(key)) if *kept == key => Some(Rc::clone(weights)),
            _ => None,
        };
        let weights = kept.unwrap_or_else(|| {
            let weights = Rc::new(self.weights_of(bound, over, domain));
            self.weights[id.index()] = key.map(|key| (key, Rc::clone(&weights)));
            weights
        });
        Value::Scalar(usize::try_from(at).ok().and_then(|at| weights.get(at)).copied().unwrap_or(N::from(0.0)))
    }

    fn weights_of(&mut self, bound: IndexId, over: ExprId, domain: &Domain) -> Vec<N> {
        let size = self.world.sizes.extent(&self.world.variant.indices[bound.index()].size);
        let mut scores: Vec<(usize, N)> = Vec::new();
        self.each(bound, domain, &mut |this, at| scores.push((at, this.scalar(over))));
        let mut line: Vec<N> = scores.iter().map(|(_, x)| *x).collect();
        softmax_line(&mut line);
        let mut weights = vec![N::from(0.0); size];
        scores.iter().zip(line).for_each(|((at, _), weight)| weights[*at] = weight);
        weights
    }
}

/// One reduction under way.
#[derive(Debug, Clone, Copy)]
struct Accumulator<N> {
    value: N,
    count: usize,
    at: usize,
}

impl<N: Number> Accumulator<N> {
    fn new(op: ReduceOp) -> Self {
        let value = match op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Count => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max | ReduceOp::Argmax => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        };
        Self { value: N::from(value), count: 0, at: 0 }
    }

    fn take(&mut self, op: ReduceOp, x: N, at: usize) {
        match op {
            ReduceOp::Sum | ReduceOp::Mean => self.value += x,
            ReduceOp::Prod => self.value *= x,
            ReduceOp::Count => self.value += N::from(f64::from(u8::from(x.value() != 0.0))),
            ReduceOp::Max => self.value = N::binary(Function::Max, self.value, x),
            ReduceOp::Min => self.value = N::binary(Function::Min, self.value, x),
            ReduceOp::Argmax if self.count == 0 || x.value() > self.value.value() => {
                self.value = x;
                self.at = at;
            }
            ReduceOp::Argmax => {}
        }
        self.count += 1;
    }

    fn result(self, op: ReduceOp) -> N {
        match op {
            ReduceOp::Mean if self.count == 0 => N::from(0.0),
            ReduceOp::Mean => self.value / N::from(self.count as f64),
            ReduceOp::Argmax => N::from(self.at as f64),
            _ => self.value,
        }
    }
}

/// The lines along the last axis; a scalar is one line of one.
fn lines<N: Number>(value: &Value<N>) -> std::slice::Chunks<'_, N> {
    value.data().chunks(value.dims().last().max(1))
}

/// A reduction of the last axis.
pub(super) fn fold<N: Number>(op: FoldOp, value: &Value<N>, dims: Dims) -> Value<N> {
    if value.data().is_empty() {
        return Value::full(fold_line(op, &[]), dims);
    }
    Value::new(lines(value).map(|line| fold_line(op, line)).collect(), dims)
}

fn fold_line<N: Number>(op: FoldOp, line: &[N]) -> N {
    match op {
        FoldOp::Sum => line.iter().copied().sum(),
        FoldOp::Mean if line.is_empty() => N::from(0.0),
        FoldOp::Mean => mean(line),
        FoldOp::Max => line.iter().fold(N::from(f64::NEG_INFINITY), |most, x| N::binary(Function::Max, most, *x)),
        FoldOp::Min => line.iter().fold(N::from(f64::INFINITY), |least, x| N::binary(Function::Min, least, *x)),
        FoldOp::Norm2 => N::unary(Function::Sqrt, line.iter().map(|x| *x * *x).sum()),
    }
}

fn mean<N: Number>(line: &[N]) -> N {
    line.iter().copied().sum::<N>() / N::from(line.len() as f64)
}

pub(super) fn softmax_axis<N: Number>(value: &Value<N>) -> Value<N> {
    let mut data = value.data().to_vec();
    data.chunks_mut(value.dims().last().max(1)).for_each(softmax_line);
    Value::new(data, value.dims())
}

/// Logits to weights, in place. Where all are -inf nothing is visible, and the weights are 0.
fn softmax_line<N: Number>(line: &mut [N]) {
    let most = fold_line(FoldOp::Max, line);
    if most.value() == f64::NEG_INFINITY {
        line.fill(N::from(0.0));
        return;
    }
    line.iter_mut().for_each(|x| *x = N::unary(Function::Exp, *x - most));
    let total: N = line.iter().copied().sum();
    line.iter_mut().for_each(|x| *x /= total);
}

pub(super) fn normalise_axis<N: Number>(norm: Norm, value: &Value<N>) -> Value<N> {
    let mut data = value.data().to_vec();
    data.chunks_mut(value.dims().last().max(1)).for_each(|line| normalise(norm, line));
    Value::new(data, value.dims())
}

/// Normalises one line in place.
pub(super) fn normalise<N: Number>(norm: Norm, line: &mut [N]) {
    let count = N::from(line.len() as f64);
    let squares: N = line.iter().map(|x| *x * *x).sum();
    let mean_square = squares / count;
    let (zero, eps) = (N::from(0.0), N::from(norm.eps));
    let root = |x: N| N::unary(Function::Sqrt, x);
    let (shift, divisor) = match norm.kind {
        NormKind::Rms => (zero, root(mean_square + eps)),
        NormKind::Srms => (zero, N::binary(Function::Max, root(mean_square), eps)),
        NormKind::L2 => (zero, root(squares + eps)),
        NormKind::Layer => {
            let shift = mean(line);
            let variance = line.iter().map(|x| (*x - shift) * (*x - shift)).sum::<N>() / count;
            (shift, root(variance + eps))
        }
    };
    line.iter_mut().for_each(|x| *x = (*x - shift) / divisor);
}

/// 1 at the `count` largest of each line; of equals the first are larger.
pub(super) fn topk_mask<N: Number>(value: &Value<N>, count: f64) -> Value<N> {
    let mut data = Vec::with_capacity(value.data().len());
    for line in lines(value) {
        for (at, x) in line.iter().enumerate() {
            let ahead = line
                .iter()
                .enumerate()
                .filter(|(other, y)| y.value() > x.value() || (y.value() == x.value() && *other < at))
                .count();
            data.push(N::from(if (ahead as f64) < count { 1.0 } else { 0.0 }));
        }
    }
    Value::new(data, value.dims())
}

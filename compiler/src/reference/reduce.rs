//! Reductions: over an index variable and what is visible, and over the last axis of a value.

use std::rc::Rc;

use chunkwise_dsl::typed::{Domain, ExprId, FoldOp, IndexId, Norm, NormKind, ReduceOp};

use super::eval::Evaluator;
use super::scalar::{larger, smaller};
use super::value::{Dims, Value};

impl Evaluator<'_> {
    /// Runs `visit` for every position of the domain in turn, with the index set to it.
    fn each(&mut self, index: IndexId, domain: &Domain, visit: &mut dyn FnMut(&mut Self, usize)) {
        let saved = self.env[index.index()];
        let row = domain.visible_from.map(|from| self.visible(self.env[from.index()]));
        let size = self.world.sizes.extent(&self.world.variant.indices[index.index()].size);
        let count = row.as_ref().map_or(size, |row| row.len());
        for n in 0..count {
            let at = row.as_ref().map_or(n, |row| row[n] as usize);
            self.set(index, at);
            if domain.filter.is_none_or(|filter| self.scalar(filter) != 0.0) {
                visit(self, at);
            }
        }
        self.env[index.index()] = saved;
    }

    pub(super) fn reduce(&mut self, op: ReduceOp, index: IndexId, domain: &Domain, body: ExprId) -> Value {
        let dims = self.world.facts.exprs[body.index()].dims;
        if dims.len() == 0 {
            let mut total = Accumulator::new(op);
            self.each(index, domain, &mut |this, at| total.take(op, this.scalar(body), at));
            return Value::Scalar(total.result(op));
        }
        if op == ReduceOp::Sum {
            let mut totals = vec![0.0; dims.size()];
            self.each(index, domain, &mut |this, _| {
                let value = this.eval(body);
                totals.iter_mut().zip(value.data()).for_each(|(total, x)| *total += x);
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
    ) -> Value {
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
        Value::Scalar(usize::try_from(at).ok().and_then(|at| weights.get(at)).copied().unwrap_or(0.0))
    }

    fn weights_of(&mut self, bound: IndexId, over: ExprId, domain: &Domain) -> Vec<f64> {
        let size = self.world.sizes.extent(&self.world.variant.indices[bound.index()].size);
        let mut scores: Vec<(usize, f64)> = Vec::new();
        self.each(bound, domain, &mut |this, at| scores.push((at, this.scalar(over))));
        let mut line: Vec<f64> = scores.iter().map(|(_, x)| *x).collect();
        softmax_line(&mut line);
        let mut weights = vec![0.0; size];
        scores.iter().zip(line).for_each(|((at, _), weight)| weights[*at] = weight);
        weights
    }
}

/// One reduction under way.
#[derive(Debug, Clone, Copy)]
struct Accumulator {
    value: f64,
    count: usize,
    at: usize,
}

impl Accumulator {
    fn new(op: ReduceOp) -> Self {
        let value = match op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Count => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max | ReduceOp::Argmax => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        };
        Self { value, count: 0, at: 0 }
    }

    fn take(&mut self, op: ReduceOp, x: f64, at: usize) {
        match op {
            ReduceOp::Sum | ReduceOp::Mean => self.value += x,
            ReduceOp::Prod => self.value *= x,
            ReduceOp::Count => self.value += f64::from(u8::from(x != 0.0)),
            ReduceOp::Max => self.value = larger(self.value, x),
            ReduceOp::Min => self.value = smaller(self.value, x),
            ReduceOp::Argmax if self.count == 0 || x > self.value => {
                self.value = x;
                self.at = at;
            }
            ReduceOp::Argmax => {}
        }
        self.count += 1;
    }

    fn result(self, op: ReduceOp) -> f64 {
        match op {
            ReduceOp::Mean if self.count == 0 => 0.0,
            ReduceOp::Mean => self.value / self.count as f64,
            ReduceOp::Argmax => self.at as f64,
            _ => self.value,
        }
    }
}

/// The lines along the last axis; a scalar is one line of one.
fn lines(value: &Value) -> std::slice::Chunks<'_, f64> {
    value.data().chunks(value.dims().last().max(1))
}

/// A reduction of the last axis.
pub(super) fn fold(op: FoldOp, value: &Value, dims: Dims) -> Value {
    if value.data().is_empty() {
        return Value::full(fold_line(op, &[]), dims);
    }
    Value::new(lines(value).map(|line| fold_line(op, line)).collect(), dims)
}

fn fold_line(op: FoldOp, line: &[f64]) -> f64 {
    match op {
        FoldOp::Sum => line.iter().sum(),
        FoldOp::Mean if line.is_empty() => 0.0,
        FoldOp::Mean => mean(line),
        FoldOp::Max => line.iter().fold(f64::NEG_INFINITY, |most, x| larger(most, *x)),
        FoldOp::Min => line.iter().fold(f64::INFINITY, |least, x| smaller(least, *x)),
        FoldOp::Norm2 => line.iter().map(|x| x * x).sum::<f64>().sqrt(),
    }
}

fn mean(line: &[f64]) -> f64 {
    line.iter().sum::<f64>() / line.len() as f64
}

pub(super) fn softmax_axis(value: &Value) -> Value {
    let mut data = value.data().to_vec();
    data.chunks_mut(value.dims().last().max(1)).for_each(softmax_line);
    Value::new(data, value.dims())
}

/// Logits to weights, in place. Where all are -inf nothing is visible, and the weights are 0.
fn softmax_line(line: &mut [f64]) {
    let most = fold_line(FoldOp::Max, line);
    if most == f64::NEG_INFINITY {
        line.fill(0.0);
        return;
    }
    line.iter_mut().for_each(|x| *x = (*x - most).exp());
    let total: f64 = line.iter().sum();
    line.iter_mut().for_each(|x| *x /= total);
}

pub(super) fn normalise_axis(norm: Norm, value: &Value) -> Value {
    let mut data = value.data().to_vec();
    data.chunks_mut(value.dims().last().max(1)).for_each(|line| normalise(norm, line));
    Value::new(data, value.dims())
}

/// Normalises one line in place.
pub(super) fn normalise(norm: Norm, line: &mut [f64]) {
    let squares: f64 = line.iter().map(|x| x * x).sum();
    let mean_square = squares / line.len() as f64;
    let (shift, divisor) = match norm.kind {
        NormKind::Rms => (0.0, (mean_square + norm.eps).sqrt()),
        NormKind::Srms => (0.0, larger(mean_square.sqrt(), norm.eps)),
        NormKind::L2 => (0.0, (squares + norm.eps).sqrt()),
        NormKind::Layer => {
            let shift = mean(line);
            let variance = line.iter().map(|x| (x - shift) * (x - shift)).sum::<f64>() / line.len() as f64;
            (shift, (variance + norm.eps).sqrt())
        }
    };
    line.iter_mut().for_each(|x| *x = (*x - shift) / divisor);
}

/// 1 at the `count` largest of each line; of equals the first are larger.
pub(super) fn topk_mask(value: &Value, count: f64) -> Value {
    let mut data = Vec::with_capacity(value.data().len());
    for line in lines(value) {
        for (at, x) in line.iter().enumerate() {
            let ahead = line.iter().enumerate().filter(|(other, y)| *y > x || (*y == x && *other < at)).count();
            data.push(if (ahead as f64) < count { 1.0 } else { 0.0 });
        }
    }
    Value::new(data, value.dims())
}

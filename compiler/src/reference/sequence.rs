//! Functions over the sequence and the grid: convolutions and rotations by position.

use chunkwise_dsl::typed::Function;

use super::number::Number;
use super::value::{Dims, Value};

/// y[t] = sum over n of w[:,n] .* x[t-N+1+n]. `x` : [T, ...], `w` : [..., N]; a `w` of [N] serves all channels alike.
pub(super) fn conv1d<N: Number>(x: &Value<N>, w: &Value<N>) -> Value<N> {
    let (tokens, width) = (x.dims().get_or(0, 1), x.dims().rest().size());
    let taps = w.dims().last();
    let shared = w.data().len() == taps;
    let (xs, ws) = (x.data(), w.data());
    let mut data = vec![N::from(0.0); xs.len()];
    for t in 0..tokens {
        for n in (taps.saturating_sub(t + 1))..taps {
            let from = t + 1 + n - taps;
            for channel in 0..width {
                let weight = ws[if shared { n } else { channel * taps + n }];
                data[t * width + channel] += weight * xs[from * width + channel];
            }
        }
    }
    Value::new(data, x.dims())
}

/// A grid: the tokens before it, its rows and columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct GridSize {
    pub(super) offset: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The sum of w[:,a,b] .* x at (r + a - ky div 2, c + b - kx div 2), zero outside, at rows and columns 0, stride, ...
/// `x` : [tokens, ...]; `w` : [..., ky, kx], or [ky, kx] for all channels alike. Tokens off the grid give 0.
pub(super) fn dwconv<N: Number>(x: &Value<N>, w: &Value<N>, grid: GridSize, stride: i64, dims: Dims) -> Value<N> {
    let stride = usize::try_from(stride).unwrap_or(1).max(1);
    let width = x.dims().rest().size();
    let wanted = w.dims();
    if wanted.len() < 2 || width == 0 {
        return Value::full(N::from(0.0), dims);
    }
    let (ky, kx) = (wanted.get(wanted.len() - 2), wanted.last());
    let shared = wanted.len() == 2;
    // Of all tokens, those before the grid stay in place; of the grid's alone, there are none.
    let before = x.dims().get(0).saturating_sub(grid.rows * grid.columns).min(grid.offset);
    let offset = if stride == 1 { before } else { 0 };
    let (xs, ws) = (x.data(), w.data());
    let mut data = vec![N::from(0.0); dims.size()];
    let kept = |n: usize| n.div_ceil(stride);
    for (row, column) in (0..kept(grid.rows)).flat_map(|r| (0..kept(grid.columns)).map(move |c| (r, c))) {
        let to = (offset + row * kept(grid.columns) + column) * width;
        let Some(out) = data.get_mut(to..to + width) else { break };
        for (a, b) in (0..ky).flat_map(|a| (0..kx).map(move |b| (a, b))) {
            let y = (row * stride + a).checked_sub(ky / 2).filter(|y| *y < grid.rows);
            let x = (column * stride + b).checked_sub(kx / 2).filter(|x| *x < grid.columns);
            let (Some(y), Some(x)) = (y, x) else { continue };
            let from = (before + y * grid.columns + x) * width;
            let Some(input) = xs.get(from..from + width) else { continue };
            for (channel, (out, x)) in out.iter_mut().zip(input).enumerate() {
                let first = if shared { 0 } else { channel * ky * kx };
                *out += ws[first + a * kx + b] * *x;
            }
        }
    }
    Value::new(data, dims)
}

/// Turns the pairs (x[2n], x[2n+1]) of the last axis, of length K, by at * base^(-2n/K). `at` is a scalar, or one number
/// a line.
pub(super) fn rope<N: Number>(x: &Value<N>, at: &Value<N>, base: N) -> Value<N> {
    let mut data = x.data().to_vec();
    let places = at.data();
    for (line, values) in data.chunks_mut(x.dims().last().max(1)).enumerate() {
        turn(values, places[if places.len() == 1 { 0 } else { line }], base);
    }
    Value::new(data, x.dims())
}

/// The first half by the row, the second by the column, each over its own length.
pub(super) fn rope2d<N: Number>(x: &Value<N>, at: [i64; 2]) -> Value<N> {
    let mut data = x.data().to_vec();
    for line in data.chunks_mut(x.dims().last().max(1)) {
        let (rows, columns) = line.split_at_mut(line.len() / 2);
        turn(rows, N::from(at[0] as f64), N::from(10000.0));
        turn(columns, N::from(at[1] as f64), N::from(10000.0));
    }
    Value::new(data, x.dims())
}

fn turn<N: Number>(values: &mut [N], at: N, base: N) {
    let length = values.len() as f64;
    for (n, pair) in values.chunks_exact_mut(2).enumerate() {
        let angle = at * N::binary(Function::Pow, base, N::from(-2.0 * n as f64 / length));
        let (sin, cos) = (N::unary(Function::Sin, angle), N::unary(Function::Cos, angle));
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}

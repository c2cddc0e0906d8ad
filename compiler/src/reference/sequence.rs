//! Functions over the sequence and the grid: convolutions and rotations by position.

use super::value::{Dims, Value};

/// y[t] = sum over n of w[:,n] .* x[t-N+1+n]. `x` : [T, ...], `w` : [..., N]; a `w` of [N] serves all channels alike.
pub(super) fn conv1d(x: &Value, w: &Value) -> Value {
    let (tokens, width) = (x.dims().get_or(0, 1), x.dims().rest().size());
    let taps = w.dims().last();
    let shared = w.data().len() == taps;
    let (xs, ws) = (x.data(), w.data());
    let mut data = vec![0.0; xs.len()];
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
pub(super) fn dwconv(x: &Value, w: &Value, grid: GridSize, stride: i64, dims: Dims) -> Value {
    let stride = usize::try_from(stride).unwrap_or(1).max(1);
    let width = x.dims().rest().size();
    let wanted = w.dims();
    if wanted.len() < 2 || width == 0 {
        return Value::full(0.0, dims);
    }
    let (ky, kx) = (wanted.get(wanted.len() - 2), wanted.last());
    let shared = wanted.len() == 2;
    // Of all tokens, those before the grid stay in place; of the grid's alone, there are none.
    let before = x.dims().get(0).saturating_sub(grid.rows * grid.columns).min(grid.offset);
    let offset = if stride == 1 { before } else { 0 };
    let (xs, ws) = (x.data(), w.data());
    let mut data = vec![0.0; dims.size()];
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
                *out += ws[first + a * kx + b] * x;
            }
        }
    }
    Value::new(data, dims)
}

/// Turns the pairs (x[2n], x[2n+1]) of the last axis, of length K, by at * base^(-2n/K). `at` is a scalar, or one number
/// a line.
pub(super) fn rope(x: &Value, at: &Value, base: f64) -> Value {
    let mut data = x.data().to_vec();
    let places = at.data();
    for (line, values) in data.chunks_mut(x.dims().last().max(1)).enumerate() {
        turn(values, places[if places.len() == 1 { 0 } else { line }], base);
    }
    Value::new(data, x.dims())
}

/// The first half by the row, the second by the column, each over its own length.
pub(super) fn rope2d(x: &Value, at: [i64; 2]) -> Value {
    let mut data = x.data().to_vec();
    for line in data.chunks_mut(x.dims().last().max(1)) {
        let (rows, columns) = line.split_at_mut(line.len() / 2);
        turn(rows, at[0] as f64, 10000.0);
        turn(columns, at[1] as f64, 10000.0);
    }
    Value::new(data, x.dims())
}

fn turn(values: &mut [f64], at: f64, base: f64) {
    let length = values.len() as f64;
    for (n, pair) in values.chunks_exact_mut(2).enumerate() {
        let (sin, cos) = (at * base.powf(-2.0 * n as f64 / length)).sin_cos();
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}

//! Linear algebra and shapes: element-wise pairs, products, diagonals, stacks, solvers.

use chunkwise_dsl::typed::Function;

use super::number::Number;
use super::value::{Dims, Value, View};

/// An element-wise function of two values; a scalar fills.
pub(super) fn zip<N: Number>(function: Function, a: &Value<N>, b: &Value<N>) -> Value<N> {
    let (a, b) = match (a, b) {
        (Value::Scalar(a), Value::Scalar(b)) => return Value::Scalar(N::binary(function, *a, *b)),
        (Value::Scalar(a), Value::Array(b)) => {
            let data = b.data().iter().map(|b| N::binary(function, *a, *b)).collect();
            return Value::new(data, b.dims);
        }
        (Value::Array(a), Value::Scalar(b)) => {
            let data = a.data().iter().map(|a| N::binary(function, *a, *b)).collect();
            return Value::new(data, a.dims);
        }
        (Value::Array(a), Value::Array(b)) => (a, b),
    };
    let pairs = a.data().iter().copied().zip(b.data().iter().copied());
    let data = match function {
        Function::Add => pairs.map(|(a, b)| a + b).collect(),
        Function::Sub => pairs.map(|(a, b)| a - b).collect(),
        Function::Mul => pairs.map(|(a, b)| a * b).collect(),
        _ => pairs.map(|(a, b)| N::binary(function, a, b)).collect(),
    };
    Value::new(data, a.dims)
}

/// The left factor of a product as a matrix of `rows` by `inner`, with its strides.
pub(super) struct Factor<N> {
    value: Value<N>,
    rows: usize,
    inner: usize,
    row_stride: usize,
    inner_stride: usize,
}

impl<N: Number> Factor<N> {
    /// A matrix as it stands; a vector is a row, or a column before a row.
    pub(super) fn left(value: Value<N>, before_row: bool) -> Factor<N> {
        let dims = value.dims();
        let inner = if before_row { 1 } else { dims.last() };
        let rows = if before_row { dims.size() } else { dims.init().size() };
        Factor { value, rows, inner, row_stride: inner, inner_stride: 1 }
    }

    pub(super) fn transposed(matrix: Value<N>) -> Factor<N> {
        let dims = matrix.dims();
        let (inner, rows) = if dims.len() == 2 { (dims.get(0), dims.get(1)) } else { (dims.size(), 1) };
        Factor { value: matrix, rows, inner, row_stride: 1, inner_stride: rows }
    }
}

/// The matrix product: the last axis of the left factor with the first of the right.
pub(super) fn product<N: Number>(left: &Factor<N>, right: &Value<N>, dims: Dims) -> Value<N> {
    if dims.len() == 0 {
        return Value::Scalar(dot(left.value.data(), right.data()));
    }
    let columns = right.data().len().checked_div(left.inner).unwrap_or(0);
    let (a, b) = (left.value.data(), right.data());
    let mut out = vec![N::from(0.0); dims.size()];
    if columns == 1 {
        for (row, slot) in out.iter_mut().enumerate() {
            let first = row * left.row_stride;
            *slot = b.iter().enumerate().map(|(n, b)| a[first + n * left.inner_stride] * *b).sum();
        }
    } else if columns > 1 {
        for (row, out) in out.chunks_exact_mut(columns).take(left.rows).enumerate() {
            for (n, b) in b.chunks_exact(columns).enumerate() {
                let a = a[row * left.row_stride + n * left.inner_stride];
                out.iter_mut().zip(b).for_each(|(out, b)| *out += a * *b);
            }
        }
    }
    Value::new(out, dims)
}

/// diag(scale) * matrix.
pub(super) fn scale_rows<N: Number>(scale: &Value<N>, matrix: &Value<N>) -> Value<N> {
    let dims = matrix.dims();
    let columns = dims.rest().size().max(1);
    let rows = matrix.data().chunks(columns).zip(scale.data());
    Value::new(rows.flat_map(|(row, by)| row.iter().map(move |x| *by * *x)).collect(), dims)
}

/// matrix * diag(scale).
pub(super) fn scale_columns<N: Number>(matrix: &Value<N>, scale: &Value<N>) -> Value<N> {
    let by = scale.data();
    let rows = matrix.data().chunks(by.len().max(1));
    Value::new(rows.flat_map(|row| row.iter().zip(by).map(|(x, by)| *x * *by)).collect(), matrix.dims())
}

/// A vector stays as it is: its type says that it is a row, or a column again.
pub(super) fn transpose<N: Number>(value: Value<N>, dims: Dims) -> Value<N> {
    match &value {
        Value::Array(view) if view.dims.len() == 2 => Value::new(swapped(view), dims),
        _ => value,
    }
}

fn swapped<N: Number>(view: &View<N>) -> Vec<N> {
    let (rows, columns) = (view.dims.get(0), view.dims.get(1));
    let data = view.data();
    (0..columns).flat_map(|column| (0..rows).map(move |row| data[row * columns + column])).collect()
}

pub(super) fn diagonal<N: Number>(values: &Value<N>, dims: Dims) -> Value<N> {
    let n = values.data().len();
    let mut data = vec![N::from(0.0); dims.size()];
    for (at, x) in values.data().iter().enumerate() {
        data[at * n + at] = *x;
    }
    Value::new(data, dims)
}

/// Concatenation along the last axis.
pub(super) fn stack<N: Number>(parts: &[Value<N>], dims: Dims) -> Value<N> {
    let lines = dims.init().size();
    let mut data = Vec::with_capacity(dims.size());
    for line in 0..lines {
        for part in parts {
            let width = part.data().len() / lines.max(1);
            data.extend_from_slice(&part.data()[line * width..(line + 1) * width]);
        }
    }
    Value::new(data, dims)
}

/// Columns of the last axis from `from`, as many as `dims` has; those out of range are 0.
pub(super) fn columns<N: Number>(value: &Value<N>, from: usize, dims: Dims) -> Value<N> {
    let mut data = Vec::with_capacity(dims.size());
    for line in value.data().chunks(value.dims().last().max(1)) {
        data.extend((from..from + dims.last()).map(|at| line.get(at).copied().unwrap_or(N::from(0.0))));
    }
    Value::new(data, dims)
}

fn dot<N: Number>(a: &[N], b: &[N]) -> N {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// Conjugate gradients from 0: `iters` steps, fewer where r'r or p'Ap is 1e-30 or less.
pub(super) fn solve_cg<N: Number>(matrix: &Value<N>, vector: &Value<N>, iters: i64) -> Value<N> {
    let (a, b) = (matrix.data(), vector.data());
    let n = b.len();
    let mut x = vec![N::from(0.0); n];
    let mut residual = b.to_vec();
    let mut direction = b.to_vec();
    let mut square = dot(&residual, &residual);
    for _ in 0..iters {
        if square.value() <= 1e-30 {
            break;
        }
        let image: Vec<N> = a.chunks_exact(n).map(|row| dot(row, &direction)).collect();
        let curvature = dot(&direction, &image);
        if curvature.value() <= 1e-30 {
            break;
        }
        let length = square / curvature;
        for at in 0..n {
            x[at] += length * direction[at];
            residual[at] -= length * image[at];
        }
        let next = dot(&residual, &residual);
        let ratio = next / square;
        direction.iter_mut().zip(&residual).for_each(|(p, r)| *p = *r + ratio * *p);
        square = next;
    }
    Value::new(x, vector.dims())
}

/// Solves A x = b for a symmetric positive definite A through its Cholesky factor; each column of a matrix b by itself.
pub(super) fn solve<N: Number>(matrix: &Value<N>, right: &Value<N>) -> Value<N> {
    let n = right.dims().get_or(0, 1);
    let columns = right.data().len().checked_div(n).unwrap_or(0);
    let lower = cholesky(matrix.data(), n);
    let mut x = right.data().to_vec();
    for column in 0..columns {
        for row in 0..n {
            let known: N = (0..row).map(|k| lower[row * n + k] * x[k * columns + column]).sum();
            x[row * columns + column] = (x[row * columns + column] - known) / lower[row * n + row];
        }
        for row in (0..n).rev() {
            let known: N = (row + 1..n).map(|k| lower[k * n + row] * x[k * columns + column]).sum();
            x[row * columns + column] = (x[row * columns + column] - known) / lower[row * n + row];
        }
    }
    Value::new(x, right.dims())
}

fn cholesky<N: Number>(a: &[N], n: usize) -> Vec<N> {
    let mut lower = vec![N::from(0.0); n * n];
    for row in 0..n {
        for column in 0..=row {
            let known: N = (0..column).map(|k| lower[row * n + k] * lower[column * n + k]).sum();
            let rest = a[row * n + column] - known;
            lower[row * n + column] =
                if row == column { N::unary(Function::Sqrt, rest) } else { rest / lower[column * n + column] };
        }
    }
    lower
}

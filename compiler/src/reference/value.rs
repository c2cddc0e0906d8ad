//! Values: scalars, and arrays that share their data with what they are a part of. Rows and columns look alike here; the
//! types tell them apart.

use std::rc::Rc;

use super::number::Number;

/// A whole tensor in memory order, the first axis slowest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array<N = f64> {
    pub shape: Vec<usize>,
    pub data: Vec<N>,
}

impl<N: From<f64> + Clone> Array<N> {
    pub fn zeros(shape: Vec<usize>) -> Self {
        let size = shape.iter().product();
        Self { shape, data: vec![N::from(0.0); size] }
    }
}

/// The axes a value may have; the language's programs stay well below.
pub(super) const MOST_DIMS: usize = 8;

/// A shape of at most `MOST_DIMS` axes, small enough to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dims {
    count: u32,
    of: [u32; MOST_DIMS],
}

impl Dims {
    /// Axes beyond `MOST_DIMS` and sizes beyond u32 are refused before anything is evaluated.
    pub(super) fn new(dims: &[usize]) -> Self {
        let mut of = [0; MOST_DIMS];
        for (slot, n) in of.iter_mut().zip(dims) {
            *slot = *n as u32;
        }
        Self { count: dims.len().min(MOST_DIMS) as u32, of }
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn get(&self, at: usize) -> usize {
        self.of[at] as usize
    }

    /// The size of an axis, or another where there is none.
    pub(super) fn get_or(&self, at: usize, otherwise: usize) -> usize {
        if at < self.len() { self.get(at) } else { otherwise }
    }

    pub(super) fn last(&self) -> usize {
        if self.count == 0 { 1 } else { self.get(self.len() - 1) }
    }

    pub(super) fn size(&self) -> usize {
        self.of[..self.len()].iter().map(|n| *n as usize).product()
    }

    /// Without the leading axis.
    pub(super) fn rest(&self) -> Dims {
        let mut of = [0; MOST_DIMS];
        of[..MOST_DIMS - 1].copy_from_slice(&self.of[1..]);
        Dims { count: self.count.saturating_sub(1), of }
    }

    pub(super) fn to_vec(self) -> Vec<usize> {
        self.of[..self.len()].iter().map(|n| *n as usize).collect()
    }

    /// Without the last axis.
    pub(super) fn init(mut self) -> Dims {
        self.count = self.count.saturating_sub(1);
        self
    }
}

/// What an expression comes to. An array always has at least one axis.
#[derive(Debug, Clone)]
pub(super) enum Value<N> {
    Scalar(N),
    Array(View<N>),
}

#[derive(Debug, Clone)]
pub(super) struct View<N> {
    data: Rc<Vec<N>>,
    start: usize,
    pub(super) dims: Dims,
}

impl<N: Number> View<N> {
    pub(super) fn data(&self) -> &[N] {
        &self.data[self.start..self.start + self.dims.size()]
    }

    /// The part at one place of the leading axis, in range.
    pub(super) fn part(&self, at: usize) -> Value<N> {
        let dims = self.dims.rest();
        let start = self.start + at * dims.size();
        if dims.len() == 0 {
            Value::Scalar(self.data[start])
        } else {
            Value::Array(View { data: Rc::clone(&self.data), start, dims })
        }
    }
}

impl<N: Number> Value<N> {
    pub(super) fn new(data: Vec<N>, dims: Dims) -> Self {
        if dims.len() == 0 {
            Value::Scalar(data.first().copied().unwrap_or(N::from(0.0)))
        } else {
            Value::Array(View { data: Rc::new(data), start: 0, dims })
        }
    }

    pub(super) fn full(n: N, dims: Dims) -> Self {
        if dims.len() == 0 { Value::Scalar(n) } else { Value::new(vec![n; dims.size()], dims) }
    }

    pub(super) fn dims(&self) -> Dims {
        match self {
            Value::Scalar(_) => Dims::new(&[]),
            Value::Array(view) => view.dims,
        }
    }

    pub(super) fn data(&self) -> &[N] {
        match self {
            Value::Scalar(x) => std::slice::from_ref(x),
            Value::Array(view) => view.data(),
        }
    }

    /// The number of a scalar; the first of an array, which the checker keeps away.
    pub(super) fn scalar(&self) -> N {
        match self {
            Value::Scalar(x) => *x,
            Value::Array(view) => view.data().first().copied().unwrap_or(N::from(0.0)),
        }
    }

    /// A scalar fills the shape; an array stays.
    pub(super) fn filling(self, dims: Dims) -> Self {
        match self {
            Value::Scalar(x) if dims.len() > 0 => Value::full(x, dims),
            other => other,
        }
    }

    /// The part at the leading subscripts; zeros where one is out of range.
    pub(super) fn at(&self, places: &[i64]) -> Self {
        let mut value = self.clone();
        for (done, place) in places.iter().enumerate() {
            let Value::Array(view) = &value else { return value };
            match usize::try_from(*place) {
                Ok(at) if at < view.dims.get(0) => value = view.part(at),
                _ => {
                    let rest = (done..places.len()).fold(view.dims, |dims, _| dims.rest());
                    return Value::full(N::from(0.0), rest);
                }
            }
        }
        value
    }
}

/// A subscript as a place: rounded down; what is no number is out of range.
pub(super) fn place(x: f64) -> i64 {
    if x.is_finite() { x.floor() as i64 } else { -1 }
}

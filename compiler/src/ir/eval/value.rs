//! The values of terms: dense arrays over all times, with the frame that says what time is.

use super::{Dims, Evaluated, ill_typed};
use crate::ir::{Feat, Frame};

impl Feat {
    pub(crate) fn size(self, dims: Dims) -> usize {
        match self {
            Feat::S => 1,
            Feat::K => dims.rows,
            Feat::V => dims.columns,
            // Parts of features say themselves how long they are.
            Feat::F => 1,
        }
    }
}

/// What a term evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Ten(Ten),
    /// A stream of K x V matrices; in frame `Any` one matrix.
    Mat(Mat),
    Op(Op),
    Tri(Tri),
    /// The values of the roots, in order.
    Roots(Vec<Value>),
}

/// `[time][stack][feat]`; one time in frame `Any`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ten {
    pub frame: Frame,
    pub feat: Feat,
    pub stack: usize,
    pub width: usize,
    pub data: Vec<f64>,
}

/// `[time][row][column]`
#[derive(Debug, Clone, PartialEq)]
pub struct Mat {
    pub frame: Frame,
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f64>,
}

/// `[time][column][row][row]`: the matrix that acts on each column of the state, as a V-vector may scale columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    pub frame: Frame,
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f64>,
}

/// `[time * rows][time * columns]`: pairs of times of unlike segments are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Tri {
    pub frame: Frame,
    pub rows: usize,
    pub columns: usize,
    pub times: usize,
    pub data: Vec<f64>,
}

/// The frame of an operation on two streams.
pub fn join(a: Frame, b: Frame) -> Evaluated<Frame> {
    match (a, b) {
        (Frame::Any, x) | (x, Frame::Any) => Ok(x),
        (x, y) if x == y => Ok(x),
        _ => ill_typed(format!("frames {a:?} and {b:?} do not meet")),
    }
}

fn place(frame: Frame, t: usize) -> usize {
    if frame == Frame::Any { 0 } else { t }
}

impl Ten {
    pub fn zeros(dims: Dims, frame: Frame, feat: Feat, stack: usize) -> Self {
        let width = feat.size(dims);
        Self { frame, feat, stack, width, data: vec![0.0; dims.times(frame) * stack * width] }
    }

    /// Zeros of so many entries a vector.
    pub fn of_width(dims: Dims, frame: Frame, feat: Feat, width: usize) -> Self {
        Self { frame, feat, stack: 1, width, data: vec![0.0; dims.times(frame) * width] }
    }

    /// One number at every token, or in every frame.
    pub fn constant(dims: Dims, number: f64, feat: Feat, stream: bool) -> Self {
        let frame = if stream { Frame::Tokens } else { Frame::Any };
        let mut constant = Self::zeros(dims, frame, feat, 1);
        constant.data.fill(number);
        constant
    }

    /// Entry `i` at time `t`; a scalar and a stack of one fill.
    pub fn at(&self, t: usize, r: usize, i: usize) -> f64 {
        let r = if self.stack == 1 { 0 } else { r };
        let i = if self.feat == Feat::S { 0 } else { i };
        self.data[(place(self.frame, t) * self.stack + r) * self.width + i]
    }

    pub fn at_mut(&mut self, t: usize, r: usize, i: usize) -> &mut f64 {
        &mut self.data[(t * self.stack + r) * self.width + i]
    }

    pub fn along(&self, feat: Feat) -> Evaluated<&Self> {
        if self.feat == feat { Ok(self) } else { ill_typed(format!("a vector along {:?}, not {feat:?}", self.feat)) }
    }

    /// A decay: a scalar or a K-vector.
    pub fn decay(&self) -> Evaluated<&Self> {
        self.decay_along(Feat::K)
    }

    /// What decays vectors of one side: a scalar or a vector along it.
    pub fn decay_along(&self, side: Feat) -> Evaluated<&Self> {
        let fits = self.feat == Feat::S || self.feat == side;
        if fits && self.stack == 1 { Ok(self) } else { ill_typed("no decay") }
    }

    /// Not a stream of scalars.
    pub fn vectors(&self) -> Evaluated<&Self> {
        if self.feat == Feat::S { ill_typed("scalars where vectors belong") } else { Ok(self) }
    }
}

impl Mat {
    pub fn zeros(dims: Dims, frame: Frame) -> Self {
        let (rows, columns) = (dims.rows, dims.columns);
        Self { frame, rows, columns, data: vec![0.0; dims.times(frame) * rows * columns] }
    }

    pub fn at(&self, t: usize, k: usize, v: usize) -> f64 {
        self.data[(place(self.frame, t) * self.rows + k) * self.columns + v]
    }

    pub fn at_mut(&mut self, t: usize, k: usize, v: usize) -> &mut f64 {
        &mut self.data[(t * self.rows + k) * self.columns + v]
    }
}

impl Op {
    pub fn zeros(dims: Dims, frame: Frame) -> Self {
        let (rows, columns) = (dims.rows, dims.columns);
        Self { frame, rows, columns, data: vec![0.0; dims.times(frame) * columns * rows * rows] }
    }

    pub fn at(&self, t: usize, v: usize, i: usize, j: usize) -> f64 {
        self.data[((place(self.frame, t) * self.columns + v) * self.rows + i) * self.rows + j]
    }

    pub fn at_mut(&mut self, t: usize, v: usize, i: usize, j: usize) -> &mut f64 {
        &mut self.data[((t * self.columns + v) * self.rows + i) * self.rows + j]
    }

    /// Whether it does the same to every column.
    pub fn is_uniform(&self) -> bool {
        let square = self.rows * self.rows;
        self.data.chunks(square * self.columns).all(|time| time.chunks(square).all(|column| *column == time[..square]))
    }
}

impl Tri {
    pub fn zeros(dims: Dims, frame: Frame, rows: usize, columns: usize) -> Self {
        let times = dims.times(frame);
        Self { frame, rows, columns, times, data: vec![0.0; times * rows * times * columns] }
    }

    fn place(&self, (t, i): (usize, usize), (s, j): (usize, usize)) -> usize {
        (t * self.rows + i) * self.times * self.columns + s * self.columns + j
    }

    /// Row `i` of time `t`, column `j` of time `s`.
    pub fn at(&self, row: (usize, usize), column: (usize, usize)) -> f64 {
        self.data[self.place(row, column)]
    }

    pub fn at_mut(&mut self, row: (usize, usize), column: (usize, usize)) -> &mut f64 {
        let place = self.place(row, column);
        &mut self.data[place]
    }
}

impl Value {
    pub fn ten(&self) -> Evaluated<&Ten> {
        match self {
            Value::Ten(ten) => Ok(ten),
            other => ill_typed(format!("{} where vectors belong", other.kind())),
        }
    }

    pub fn mat(&self) -> Evaluated<Mat> {
        match self {
            Value::Mat(mat) => Ok(mat.clone()),
            other => ill_typed(format!("{} where matrices belong", other.kind())),
        }
    }

    pub fn op(&self, _dims: Dims) -> Evaluated<Op> {
        match self {
            Value::Op(op) => Ok(op.clone()),
            other => ill_typed(format!("{} where operators belong", other.kind())),
        }
    }

    pub fn tri(&self) -> Evaluated<&Tri> {
        match self {
            Value::Tri(tri) => Ok(tri),
            other => ill_typed(format!("{} where pairs of times belong", other.kind())),
        }
    }

    pub fn roots(&self) -> Vec<Value> {
        match self {
            Value::Roots(all) => all.clone(),
            one => vec![one.clone()],
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Value::Ten(_) => "vectors",
            Value::Mat(_) => "matrices",
            Value::Op(_) => "operators",
            Value::Tri(_) => "pairs of times",
            Value::Roots(_) => "roots",
        }
    }

    fn frame_mut(&mut self) -> Option<&mut Frame> {
        match self {
            Value::Ten(x) => Some(&mut x.frame),
            Value::Mat(x) => Some(&mut x.frame),
            Value::Op(x) => Some(&mut x.frame),
            Value::Tri(_) | Value::Roots(_) => None,
        }
    }

    /// The same numbers in another frame of as many times; constants stay what they are.
    pub fn relabelled(&self, from: Frame, to: Frame) -> Evaluated<Value> {
        let mut value = self.clone();
        match value.frame_mut() {
            Some(Frame::Any) => {}
            Some(frame) if *frame == from => *frame = to,
            _ => return ill_typed(format!("a stream of frame {from:?} belongs here")),
        }
        Ok(value)
    }

    /// max |x - reference| / max |reference| over all entries; a constant fills. `None` where shapes differ.
    pub fn deviation(&self, reference: &Value) -> Option<f64> {
        let (mut worst, mut largest): (f64, f64) = (0.0, 0.0);
        let mut see = |x: f64, y: f64| {
            // NaN must not pass as a small difference.
            let off = (x - y).abs();
            worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
            largest = largest.max(y.abs());
        };
        match (self, reference) {
            (Value::Roots(a), Value::Roots(b)) if a.len() == b.len() => {
                return a.iter().zip(b).try_fold(0.0, |most: f64, (x, y)| Some(most.max(x.deviation(y)?)));
            }
            (Value::Ten(a), Value::Ten(b)) => {
                join(a.frame, b.frame).ok()?;
                a.feat.join(b.feat)?;
                let times = |x: &Ten| x.data.len() / (x.stack * x.width);
                for t in 0..times(a).max(times(b)) {
                    for r in 0..a.stack.max(b.stack) {
                        (0..a.width.max(b.width)).for_each(|i| see(a.at(t, r, i), b.at(t, r, i)));
                    }
                }
            }
            (Value::Mat(a), Value::Mat(b)) => {
                join(a.frame, b.frame).ok()?;
                fill(&a.data, &b.data, &mut see);
            }
            (Value::Op(a), Value::Op(b)) => {
                join(a.frame, b.frame).ok()?;
                fill(&a.data, &b.data, &mut see);
            }
            (Value::Tri(a), Value::Tri(b)) if a.frame == b.frame && (a.rows, a.columns) == (b.rows, b.columns) => {
                fill(&a.data, &b.data, &mut see);
            }
            _ => return None,
        }
        Some(if worst == 0.0 { 0.0 } else { worst / largest.max(1e-12) })
    }
}

/// Entries of two streams side by side, one of them possibly of a single time.
fn fill(a: &[f64], b: &[f64], see: &mut impl FnMut(f64, f64)) {
    (0..a.len().max(b.len())).for_each(|place| see(a[place % a.len()], b[place % b.len()]));
}

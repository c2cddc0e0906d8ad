//! Operators on streams of vectors and matrices, on transitions, and the walks along time.

use super::{
    Dims, Evaluated, ill_typed,
    value::{Mat, Op, Ten, Tri, Value, join},
};
use crate::ir::{Feat, Frame};

fn fit(a: usize, b: usize) -> Evaluated<usize> {
    if a == b || a == 1 { Ok(b) } else { ill_typed(format!("stacks of {a} and {b}")) }
}

pub(super) fn add(dims: Dims, a: &Value, b: &Value) -> Evaluated<Value> {
    match (a, b) {
        (Value::Ten(a), Value::Ten(b)) => {
            let zero = |x: &Ten| x.data.iter().all(|&x| x == 0.0);
            let feat = a.feat.join(b.feat).filter(|_| a.stack == b.stack || zero(a) || zero(b));
            let Some(feat) = feat else { return ill_typed("a sum of unlike vectors") };
            let mut sum = Ten::zeros(dims, join(a.frame, b.frame)?, feat, a.stack.max(b.stack));
            each(&mut sum, |t, r, i| a.at(t, r, i) + b.at(t, r, i));
            Ok(Value::Ten(sum))
        }
        (Value::Tri(a), Value::Tri(b)) if a.data.len() == b.data.len() => {
            let mut sum = Tri { frame: join(a.frame, b.frame)?, ..a.clone() };
            sum.data.iter_mut().zip(&b.data).for_each(|(x, y)| *x += y);
            Ok(Value::Tri(sum))
        }
        (Value::Mat(a), Value::Mat(b)) => {
            let mut sum = Mat::zeros(dims, join(a.frame, b.frame)?);
            entries(&mut sum, |t, k, v| a.at(t, k, v) + b.at(t, k, v));
            Ok(Value::Mat(sum))
        }
        // What `A' w` is where A tells columns apart: one w a column.
        (Value::Ten(w), Value::Mat(x)) | (Value::Mat(x), Value::Ten(w)) => {
            let w = w.along(Feat::K)?;
            let mut sum = Mat::zeros(dims, join(w.frame, x.frame)?);
            entries(&mut sum, |t, k, v| w.at(t, 0, k) + x.at(t, k, v));
            Ok(Value::Mat(sum))
        }
        _ => ill_typed("a sum of unlike values"),
    }
}

pub(super) fn multiply(dims: Dims, c: &Ten, x: &Value) -> Evaluated<Value> {
    match x {
        Value::Ten(x) => {
            let Some(feat) = c.feat.join(x.feat) else { return ill_typed("a row vector times a column vector") };
            let mut product = Ten::zeros(dims, join(c.frame, x.frame)?, feat, fit(c.stack, x.stack)?);
            each(&mut product, |t, r, i| c.at(t, r, i) * x.at(t, r, i));
            Ok(Value::Ten(product))
        }
        Value::Mat(x) => {
            let c = c.decay()?;
            let mut product = Mat::zeros(dims, join(c.frame, x.frame)?);
            entries(&mut product, |t, k, v| c.at(t, 0, k) * x.at(t, k, v));
            Ok(Value::Mat(product))
        }
        _ => ill_typed("a product of unlike values"),
    }
}

/// `M diag(b)`
pub(super) fn scale_columns(dims: Dims, b: &Ten, m: &Mat) -> Evaluated<Mat> {
    let b = b.decay_along(Feat::V)?;
    let mut scaled = Mat::zeros(dims, join(b.frame, m.frame)?);
    entries(&mut scaled, |t, k, v| m.at(t, k, v) * b.at(t, 0, v));
    Ok(scaled)
}

fn each(to: &mut Ten, of: impl Fn(usize, usize, usize) -> f64) {
    let (stack, width) = (to.stack, to.width);
    for (place, x) in to.data.iter_mut().enumerate() {
        *x = of(place / (stack * width), place / width % stack, place % width);
    }
}

fn entries(to: &mut Mat, of: impl Fn(usize, usize, usize) -> f64) {
    let (rows, columns) = (to.rows, to.columns);
    for (place, x) in to.data.iter_mut().enumerate() {
        *x = of(place / (rows * columns), place / columns % rows, place % columns);
    }
}

pub(super) fn dot(dims: Dims, w: &Ten, k: &Ten) -> Evaluated<Ten> {
    if w.feat != k.feat || w.stack != 1 || k.stack != 1 {
        return ill_typed("a dot of unlike vectors");
    }
    let mut dots = Ten::zeros(dims, join(w.frame, k.frame)?, Feat::S, 1);
    each(&mut dots, |t, _, _| (0..w.width).map(|i| w.at(t, 0, i) * k.at(t, 0, i)).sum());
    Ok(dots)
}

pub(super) fn stack(dims: Dims, x: &Ten, y: &Ten) -> Evaluated<Ten> {
    let Some(feat) = x.feat.join(y.feat) else { return ill_typed("a stack of unlike vectors") };
    let mut both = Ten::zeros(dims, join(x.frame, y.frame)?, feat, x.stack + y.stack);
    each(&mut both, |t, r, i| if r < x.stack { x.at(t, r, i) } else { y.at(t, r - x.stack, i) });
    Ok(both)
}

pub(super) fn outer(dims: Dims, k: &Ten, v: &Ten) -> Evaluated<Mat> {
    let (k, v) = (k.along(Feat::K)?, v.along(Feat::V)?);
    if k.stack != v.stack {
        return ill_typed(format!("{} keys and {} values a token", k.stack, v.stack));
    }
    let mut written = Mat::zeros(dims, join(k.frame, v.frame)?);
    entries(&mut written, |t, i, j| (0..k.stack).map(|r| k.at(t, r, i) * v.at(t, r, j)).sum());
    Ok(written)
}

pub(super) fn read(dims: Dims, w: &Ten, m: &Mat) -> Evaluated<Ten> {
    let w = w.along(Feat::K)?;
    let mut read = Ten::zeros(dims, join(w.frame, m.frame)?, Feat::V, w.stack);
    each(&mut read, |t, r, v| (0..m.rows).map(|k| m.at(t, k, v) * w.at(t, r, k)).sum());
    Ok(read)
}

pub(super) fn read_right(dims: Dims, y: &Ten, m: &Mat) -> Evaluated<Ten> {
    let y = y.along(Feat::V)?;
    let mut read = Ten::zeros(dims, join(y.frame, m.frame)?, Feat::K, y.stack);
    each(&mut read, |t, r, k| (0..m.columns).map(|v| m.at(t, k, v) * y.at(t, r, v)).sum());
    Ok(read)
}

/// `X' w`, where `w` may differ from column to column.
pub(super) fn read_columns(dims: Dims, w: &Value, x: &Mat) -> Evaluated<Ten> {
    let Value::Mat(w) = w else { return read(dims, w.ten()?, x) };
    let mut out = Ten::zeros(dims, join(w.frame, x.frame)?, Feat::V, 1);
    each(&mut out, |t, _, v| (0..x.rows).map(|k| x.at(t, k, v) * w.at(t, k, v)).sum());
    Ok(out)
}

pub(super) fn identity(dims: Dims) -> Op {
    let mut identity = Op::zeros(dims, Frame::Any);
    (0..dims.columns).for_each(|v| (0..dims.rows).for_each(|i| *identity.at_mut(0, v, i, i) = 1.0));
    identity
}

pub(super) fn diagonal(dims: Dims, d: &Ten) -> Evaluated<Op> {
    let d = d.decay()?;
    let mut made = Op::zeros(dims, d.frame);
    for t in 0..dims.times(d.frame) {
        (0..dims.columns).for_each(|v| (0..dims.rows).for_each(|i| *made.at_mut(t, v, i, i) = d.at(t, 0, i)));
    }
    Ok(made)
}

/// X -> diag(d) X diag(b)
pub(super) fn diagonal_both(dims: Dims, d: &Ten, b: &Ten) -> Evaluated<Op> {
    let (d, b) = (d.decay()?, b.decay_along(Feat::V)?);
    let entry = |t, v, i, j| if i == j { d.at(t, 0, i) * b.at(t, 0, v) } else { 0.0 };
    Ok(operators(dims, join(d.frame, b.frame)?, entry))
}

fn operators(dims: Dims, frame: Frame, of: impl Fn(usize, usize, usize, usize) -> f64) -> Op {
    let mut made = Op::zeros(dims, frame);
    for t in 0..dims.times(frame) {
        for v in 0..dims.columns {
            for i in 0..dims.rows {
                (0..dims.rows).for_each(|j| *made.at_mut(t, v, i, j) = of(t, v, i, j));
            }
        }
    }
    made
}

pub(super) fn rank_one(dims: Dims, c: &Ten, u: &Ten, w: &Value) -> Evaluated<Op> {
    let u = u.along(Feat::K)?;
    if c.feat == Feat::K {
        return ill_typed("a rank-one term scaled along the rows");
    }
    if let Value::Mat(w) = w {
        let frame = join(join(c.frame, u.frame)?, w.frame)?;
        return Ok(operators(dims, frame, |t, v, i, j| c.at(t, 0, v) * u.at(t, 0, i) * w.at(t, j, v)));
    }
    let w = w.ten()?.along(Feat::K)?;
    if u.stack != w.stack || c.stack != u.stack {
        return ill_typed("rank-one terms of unlike stacks");
    }
    let frame = join(join(c.frame, u.frame)?, w.frame)?;
    Ok(operators(dims, frame, |t, v, i, j| (0..u.stack).map(|r| c.at(t, r, v) * u.at(t, r, i) * w.at(t, r, j)).sum()))
}

pub(super) fn op_add(dims: Dims, a: &Op, b: &Op) -> Evaluated<Op> {
    Ok(operators(dims, join(a.frame, b.frame)?, |t, v, i, j| a.at(t, v, i, j) + b.at(t, v, i, j)))
}

pub(super) fn compose(dims: Dims, a: &Op, b: &Op) -> Evaluated<Op> {
    let product = |t, v, i, j| (0..dims.rows).map(|l| a.at(t, v, i, l) * b.at(t, v, l, j)).sum();
    Ok(operators(dims, join(a.frame, b.frame)?, product))
}

pub(super) fn apply(dims: Dims, a: &Op, m: &Mat) -> Evaluated<Mat> {
    let mut moved = Mat::zeros(dims, join(a.frame, m.frame)?);
    entries(&mut moved, |t, k, v| (0..dims.rows).map(|l| a.at(t, v, k, l) * m.at(t, l, v)).sum());
    Ok(moved)
}

/// `A' w`; where A differs from column to column so does the result, which is then a matrix of one w a column.
pub(super) fn apply_transposed(dims: Dims, a: &Op, w: &Value) -> Evaluated<Value> {
    if let (true, Value::Ten(w)) = (a.is_uniform(), w) {
        let w = w.along(Feat::K)?;
        let mut moved = Ten::zeros(dims, join(a.frame, w.frame)?, Feat::K, w.stack);
        each(&mut moved, |t, r, k| (0..dims.rows).map(|l| a.at(t, 0, l, k) * w.at(t, r, l)).sum());
        return Ok(Value::Ten(moved));
    }
    let columns = match w {
        Value::Mat(w) => w.clone(),
        w => {
            let w = w.ten()?.along(Feat::K)?;
            let mut columns = Mat::zeros(dims, w.frame);
            entries(&mut columns, |t, k, _| w.at(t, 0, k));
            columns
        }
    };
    let mut moved = Mat::zeros(dims, join(a.frame, columns.frame)?);
    entries(&mut moved, |t, k, v| (0..dims.rows).map(|l| a.at(t, v, l, k) * columns.at(t, l, v)).sum());
    Ok(Value::Mat(moved))
}

/// The initial state of segment `n`.
pub(super) fn starts(start: &Mat, frame: Frame) -> Evaluated<()> {
    match (start.frame, frame) {
        (Frame::Any, _) | (Frame::Chunks, Frame::Chunk) => Ok(()),
        _ => ill_typed(format!("states of frame {:?} cannot start frame {frame:?}", start.frame)),
    }
}

pub(super) fn prev(dims: Dims, start: &Mat, m: &Mat) -> Evaluated<Mat> {
    if m.frame == Frame::Any {
        return ill_typed("a constant has no time before it");
    }
    starts(start, m.frame)?;
    let mut before = Mat::zeros(dims, m.frame);
    for (n, segment) in dims.segments(m.frame).into_iter().enumerate() {
        for t in segment.clone() {
            for k in 0..dims.rows {
                for v in 0..dims.columns {
                    let first = t == segment.start;
                    *before.at_mut(t, k, v) = if first { start.at(n, k, v) } else { m.at(t - 1, k, v) };
                }
            }
        }
    }
    Ok(before)
}

pub(super) fn scan(dims: Dims, a: &Op, b: &Mat, start: &Mat) -> Evaluated<Mat> {
    // A scan of constants runs over the time that its start is of.
    let frame = match (join(a.frame, b.frame)?, start.frame) {
        (Frame::Any, Frame::Chunks) => Frame::Chunk,
        (Frame::Any, _) => Frame::Tokens,
        (frame, _) => frame,
    };
    starts(start, frame)?;
    let mut states = Mat::zeros(dims, frame);
    for (n, segment) in dims.segments(frame).into_iter().enumerate() {
        for t in segment.clone() {
            for k in 0..dims.rows {
                for v in 0..dims.columns {
                    let before = |l| if t == segment.start { start.at(n, l, v) } else { states.at(t - 1, l, v) };
                    let moved: f64 = (0..dims.rows).map(|l| a.at(t, v, k, l) * before(l)).sum();
                    *states.at_mut(t, k, v) = moved + b.at(t, k, v);
                }
            }
        }
    }
    Ok(states)
}

fn picked(dims: Dims, m: &Mat, frame: Frame, times: &[usize]) -> Mat {
    let mut picked = Mat::zeros(dims, frame);
    entries(&mut picked, |n, k, v| m.at(times[n], k, v));
    picked
}

/// The last of all states, over tokens or over chunks.
pub(super) fn last_of_all(dims: Dims, m: &Mat) -> Evaluated<Mat> {
    match m.frame {
        Frame::Any | Frame::Chunk => ill_typed("only a stream over all tokens or chunks has a final state"),
        frame => Ok(picked(dims, m, Frame::Any, &[dims.times(frame) - 1])),
    }
}

/// The state at every chunk's end.
pub(super) fn last_of_chunks(dims: Dims, m: &Mat) -> Evaluated<Mat> {
    if m.frame != Frame::Chunk {
        return ill_typed("only tokens of chunks have chunk ends");
    }
    let ends: Vec<usize> = dims.segments(Frame::Chunk).into_iter().map(|segment| segment.end - 1).collect();
    Ok(picked(dims, m, Frame::Chunks, &ends))
}

/// The state before every chunk.
pub(super) fn boundary(dims: Dims, start: &Mat, state: &Mat) -> Evaluated<Mat> {
    if start.frame != Frame::Any {
        return ill_typed("the loop over chunks starts from one state");
    }
    let before = prev(dims, start, state)?;
    let starts: Vec<usize> = dims.segments(Frame::Chunk).into_iter().map(|segment| segment.start).collect();
    Ok(picked(dims, &before, Frame::Chunks, &starts))
}

//! Operators on pairs of times of one segment: decays between them, triangles, systems, reads of a segment's start.

use super::{
    Dims, Evaluated, ill_typed,
    stream::starts,
    value::{Mat, Ten, Tri, Value, join},
};
use crate::ir::{Feat, Frame, Term};

pub(super) fn node(dims: Dims, term: &Term, c: &[&Value]) -> Evaluated<Value> {
    let ten = |place: usize| c[place].ten();
    match term {
        Term::Tri(_) | Term::TriProducts(_) => scores(dims, Reach::Inclusive, ten(0)?, ten(1)?, ten(2)?),
        Term::TriStrict(_) => scores(dims, Reach::Strict, ten(0)?, ten(1)?, ten(2)?),
        Term::TriBefore(_) | Term::TriProductsBefore(_) => scores(dims, Reach::Before, ten(0)?, ten(1)?, ten(2)?),
        Term::TriRight(_) | Term::TriRightProducts(_) => {
            right_read(dims, Reach::Inclusive, ten(0)?, c[1].tri()?, ten(2)?)
        }
        Term::TriRightBefore(_) | Term::TriRightProductsBefore(_) => {
            right_read(dims, Reach::Before, ten(0)?, c[1].tri()?, ten(2)?)
        }
        Term::Rows(_) => rows(dims, ten(0)?, c[1].tri()?),
        Term::MatMul(_) => product(dims, c[0].tri()?, ten(1)?).map(Value::Ten),
        Term::Solve(_) => solve(dims, None, None, c[0].tri()?, ten(1)?),
        Term::SolveColumns(_) => solve(dims, Some(ten(0)?), None, c[1].tri()?, ten(2)?),
        Term::SolveDecayed(_) => solve(dims, Some(ten(0)?), Some(ten(1)?), c[2].tri()?, ten(3)?),
        Term::DecayFromStart(_) => from_start(dims, Reach::Inclusive, ten(0)?, ten(1)?).map(Value::Ten),
        Term::DecayFromStartBefore(_) => from_start(dims, Reach::Before, ten(0)?, ten(1)?).map(Value::Ten),
        Term::DecayToEnd(_) => to_end(dims, ten(0)?, ten(1)?),
        Term::ReadStart(_) => read_start(dims, ten(0)?, &c[1].mat()?),
        Term::ReadStartRight(_) => read_start_right(dims, Reach::Inclusive, ten(0)?, ten(1)?, &c[2].mat()?),
        Term::ReadStartRightBefore(_) => read_start_right(dims, Reach::Before, ten(0)?, ten(1)?, &c[2].mat()?),
        Term::Gather(_) => gather(dims, ten(0)?, ten(1)?, Frame::Any).map(Value::Mat),
        Term::Step(_) => step(dims, (ten(0)?, None), ten(1)?, ten(2)?, &c[3].mat()?),
        Term::StepBoth(_) => step(dims, (ten(0)?, Some(ten(1)?)), ten(2)?, ten(3)?, &c[4].mat()?),
        Term::Pairs(_) => all_pairs(dims, ten(0)?, ten(1)?),
        Term::DecayMask(_) => mask(dims, Reach::Inclusive, ten(0)?),
        Term::DecayMaskBefore(_) => mask(dims, Reach::Before, ten(0)?),
        Term::Hadamard(_) => hadamard(dims, c[0].tri()?, c[1].tri()?),
        Term::Lower(_) => Ok(lower(dims, c[0].tri()?, Reach::Inclusive)),
        Term::StrictlyLower(_) => Ok(lower(dims, c[0].tri()?, Reach::Strict)),
        other => ill_typed(format!("`{other}` has no meaning here")),
    }
}

/// Which earlier times count, and up to where a decay is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// s <= t, G[t,s]
    Inclusive,
    /// s < t, G[t,s]
    Strict,
    /// s < t, G[t-1,s]
    Before,
}

impl Reach {
    fn covers(self, t: usize, s: usize) -> bool {
        if self == Reach::Inclusive { s <= t } else { s < t }
    }

    /// The product of channel `i` of a decay over s < tau <= t.
    fn decay(self, d: &Ten, t: usize, s: usize, i: usize) -> f64 {
        let end = if self == Reach::Before { t } else { t + 1 };
        (s + 1..end).map(|tau| d.at(tau, 0, i)).product()
    }
}

fn timed(frame: Frame) -> Evaluated<Frame> {
    if frame == Frame::Any { ill_typed("pairs of a constant have no time") } else { Ok(frame) }
}

/// Every pair (t, s) of one segment.
fn for_pairs(dims: Dims, frame: Frame, mut visit: impl FnMut(usize, usize)) {
    for segment in dims.segments(frame) {
        for t in segment.clone() {
            segment.clone().for_each(|s| visit(t, s));
        }
    }
}

fn scores(dims: Dims, reach: Reach, d: &Ten, q: &Ten, k: &Ten) -> Evaluated<Value> {
    let (d, q, k) = (d.decay_along(k.feat)?, q.along(k.feat)?, k.vectors()?);
    let frame = timed(join(join(q.frame, k.frame)?, d.frame)?)?;
    let mut made = Tri::zeros(dims, frame, q.stack, k.stack);
    for_pairs(dims, frame, |t, s| {
        if reach.covers(t, s) {
            let decay: Vec<f64> = (0..k.width).map(|c| reach.decay(d, t, s, c)).collect();
            for i in 0..q.stack {
                for j in 0..k.stack {
                    let score = (0..k.width).map(|c| q.at(t, i, c) * decay[c] * k.at(s, j, c)).sum();
                    *made.at_mut((t, i), (s, j)) = score;
                }
            }
        }
    });
    Ok(Value::Tri(made))
}

fn right_read(dims: Dims, reach: Reach, d: &Ten, m: &Tri, k: &Ten) -> Evaluated<Value> {
    let (d, k) = (d.decay_along(k.feat)?, k.vectors()?);
    if m.columns != k.stack {
        return ill_typed("pairs and keys of unlike stacks");
    }
    let frame = join(join(m.frame, k.frame)?, d.frame)?;
    let mut out = Ten::zeros(dims, frame, k.feat, m.rows);
    for_pairs(dims, frame, |t, s| {
        if reach.covers(t, s) {
            for c in 0..k.width {
                let decay = reach.decay(d, t, s, c);
                for i in 0..m.rows {
                    for j in 0..m.columns {
                        *out.at_mut(t, i, c) += m.at((t, i), (s, j)) * decay * k.at(s, j, c);
                    }
                }
            }
        }
    });
    Ok(Value::Ten(out))
}

fn rows(dims: Dims, c: &Ten, m: &Tri) -> Evaluated<Value> {
    let c = c.along(Feat::S)?;
    if c.stack != 1 && c.stack != m.rows {
        return ill_typed("rows and factors of unlike stacks");
    }
    let frame = join(c.frame, m.frame)?;
    let mut made = m.clone();
    for_pairs(dims, frame, |t, s| {
        for i in 0..m.rows {
            (0..m.columns).for_each(|j| *made.at_mut((t, i), (s, j)) *= c.at(t, i, 0));
        }
    });
    Ok(Value::Tri(made))
}

fn product(dims: Dims, m: &Tri, x: &Ten) -> Evaluated<Ten> {
    if m.columns != x.stack {
        return ill_typed("pairs and vectors of unlike stacks");
    }
    let frame = join(m.frame, x.frame)?;
    let mut out = Ten::zeros(dims, frame, x.feat, m.rows);
    for_pairs(dims, frame, |t, s| {
        for i in 0..m.rows {
            for j in 0..m.columns {
                let weight = m.at((t, i), (s, j));
                (0..x.width).for_each(|v| *out.at_mut(t, i, v) += weight * x.at(s, j, v));
            }
        }
    });
    Ok(out)
}

/// y = c .* (P y) + x by forward substitution, P strictly lower; with `b`, y decays by it from each time to the next.
fn solve(dims: Dims, c: Option<&Ten>, b: Option<&Ten>, p: &Tri, x: &Ten) -> Evaluated<Value> {
    let frame = join(p.frame, x.frame)?;
    let mut strict = true;
    for_pairs(dims, frame, |t, s| {
        let zero = (0..p.rows).all(|i| (0..p.columns).all(|j| p.at((t, i), (s, j)) == 0.0));
        strict &= s < t || zero;
    });
    if !strict || p.rows != p.columns || p.rows != x.stack {
        return ill_typed("only a strictly lower, square system is solved");
    }
    b.map(|b| b.decay_along(x.feat)).transpose()?;
    if c.is_some_and(|c| (c.feat != Feat::V && c.feat != Feat::S) || (c.stack != 1 && c.stack != x.stack)) {
        return ill_typed("columns are scaled by a vector along them");
    }
    let mut y = Ten::zeros(dims, frame, x.feat, x.stack);
    for segment in dims.segments(frame) {
        for t in segment.clone() {
            for i in 0..p.rows {
                for v in 0..x.width {
                    let mut sum = 0.0;
                    for s in segment.start..t {
                        let decay = b.map_or(1.0, |b| Reach::Before.decay(b, t, s, v));
                        sum += (0..p.columns).map(|j| p.at((t, i), (s, j)) * decay * y.at(s, j, v)).sum::<f64>();
                    }
                    *y.at_mut(t, i, v) = c.map_or(1.0, |c| c.at(t, i, v)) * sum + x.at(t, i, v);
                }
            }
        }
    }
    Ok(Value::Ten(y))
}

/// The place of a time's segment, and its first and last times.
fn segment_of(dims: Dims, frame: Frame, t: usize) -> (usize, usize, usize) {
    let length = if frame == Frame::Chunk { dims.chunk } else { dims.tokens };
    let n = t / length;
    (n, n * length, ((n + 1) * length).min(dims.times(frame)) - 1)
}

fn from_start(dims: Dims, reach: Reach, d: &Ten, q: &Ten) -> Evaluated<Ten> {
    let (d, q) = (d.decay_along(q.feat)?, q.vectors()?);
    let frame = timed(join(d.frame, q.frame)?)?;
    let mut out = Ten::zeros(dims, frame, q.feat, q.stack);
    for t in 0..dims.times(frame) {
        let start = segment_of(dims, frame, t).1;
        for c in 0..q.width {
            let end = if reach == Reach::Before { t } else { t + 1 };
            let decay: f64 = (start..end).map(|tau| d.at(tau, 0, c)).product();
            (0..q.stack).for_each(|r| *out.at_mut(t, r, c) = decay * q.at(t, r, c));
        }
    }
    Ok(out)
}

fn to_end(dims: Dims, d: &Ten, k: &Ten) -> Evaluated<Value> {
    let (d, k) = (d.decay_along(k.feat)?, k.vectors()?);
    let frame = timed(join(d.frame, k.frame)?)?;
    let mut out = Ten::zeros(dims, frame, k.feat, k.stack);
    for s in 0..dims.times(frame) {
        let end = segment_of(dims, frame, s).2;
        for c in 0..k.width {
            let decay = Reach::Inclusive.decay(d, end, s, c);
            (0..k.stack).for_each(|r| *out.at_mut(s, r, c) = decay * k.at(s, r, c));
        }
    }
    Ok(Value::Ten(out))
}

/// One value a segment: chunks of tokens make a stream over chunks, all tokens one value.
fn summary(frame: Frame) -> Frame {
    if frame == Frame::Chunk { Frame::Chunks } else { Frame::Any }
}

/// The decay of whole segments of a frame.
fn total(dims: Dims, d: &Ten, frame: Frame) -> Evaluated<Ten> {
    let mut out = Ten::zeros(dims, summary(timed(frame)?), d.feat, 1);
    for (n, segment) in dims.segments(frame).into_iter().enumerate() {
        for c in 0..d.width {
            *out.at_mut(n, 0, c) = segment.clone().map(|t| d.at(t, 0, c)).product();
        }
    }
    Ok(out)
}

fn read_start(dims: Dims, q: &Ten, s: &Mat) -> Evaluated<Value> {
    let q = q.along(Feat::K)?;
    let frame = timed(q.frame)?;
    starts(s, frame)?;
    let mut out = Ten::zeros(dims, frame, Feat::V, q.stack);
    for t in 0..dims.times(frame) {
        let n = segment_of(dims, frame, t).0;
        for r in 0..q.stack {
            for v in 0..dims.columns {
                *out.at_mut(t, r, v) = (0..dims.rows).map(|k| s.at(n, k, v) * q.at(t, r, k)).sum();
            }
        }
    }
    Ok(Value::Ten(out))
}

fn read_start_right(dims: Dims, reach: Reach, d: &Ten, y: &Ten, s: &Mat) -> Evaluated<Value> {
    let y = y.along(Feat::V)?;
    let frame = timed(join(d.frame, y.frame)?)?;
    starts(s, frame)?;
    let mut out = Ten::zeros(dims, frame, Feat::K, y.stack);
    for t in 0..dims.times(frame) {
        let n = segment_of(dims, frame, t).0;
        for r in 0..y.stack {
            for k in 0..dims.rows {
                *out.at_mut(t, r, k) = (0..dims.columns).map(|v| s.at(n, k, v) * y.at(t, r, v)).sum();
            }
        }
    }
    from_start(dims, reach, d, &out).map(Value::Ten)
}

fn gather(dims: Dims, k: &Ten, x: &Ten, hint: Frame) -> Evaluated<Mat> {
    let (k, x) = (k.along(Feat::K)?, x.along(Feat::V)?);
    if k.stack != x.stack {
        return ill_typed("keys and values of unlike stacks");
    }
    let frame = timed(join(join(k.frame, x.frame)?, hint)?)?;
    let mut out = Mat::zeros(dims, summary(frame));
    for (n, segment) in dims.segments(frame).into_iter().enumerate() {
        for t in segment {
            for r in 0..k.stack {
                for i in 0..dims.rows {
                    (0..dims.columns).for_each(|j| *out.at_mut(n, i, j) += k.at(t, r, i) * x.at(t, r, j));
                }
            }
        }
    }
    Ok(out)
}

/// The state after one segment; its columns decay by `b` where there is one.
fn step(dims: Dims, (d, b): (&Ten, Option<&Ten>), k: &Ten, v: &Ten, s: &Mat) -> Evaluated<Value> {
    let frame = join(join(d.frame, k.frame)?, v.frame)?;
    starts(s, frame)?;
    let mut kept = super::stream::multiply(dims, &total(dims, d, frame)?, &Value::Mat(s.clone()))?;
    if let Some(b) = b {
        kept = Value::Mat(super::stream::scale_columns(dims, &total(dims, b, frame)?, &kept.mat()?)?);
    }
    super::stream::add(dims, &kept, &Value::Mat(gather(dims, k, v, frame)?))
}

fn all_pairs(dims: Dims, q: &Ten, k: &Ten) -> Evaluated<Value> {
    if q.feat != k.feat || q.width != k.width || q.feat == Feat::S {
        return ill_typed("pairs of unlike vectors");
    }
    let frame = timed(join(q.frame, k.frame)?)?;
    let mut made = Tri::zeros(dims, frame, q.stack, k.stack);
    for_pairs(dims, frame, |t, s| {
        for i in 0..q.stack {
            for j in 0..k.stack {
                *made.at_mut((t, i), (s, j)) = (0..q.width).map(|c| q.at(t, i, c) * k.at(s, j, c)).sum();
            }
        }
    });
    Ok(Value::Tri(made))
}

fn mask(dims: Dims, reach: Reach, d: &Ten) -> Evaluated<Value> {
    let d = d.decay()?.along(Feat::S)?;
    // Products of a constant depend on t - s alone, so those over all tokens serve every frame.
    let over = if d.frame == Frame::Any { Frame::Tokens } else { d.frame };
    let mut made = Tri { frame: d.frame, ..Tri::zeros(dims, over, 1, 1) };
    for_pairs(dims, over, |t, s| {
        if reach.covers(t, s) {
            *made.at_mut((t, 0), (s, 0)) = reach.decay(d, t, s, 0);
        }
    });
    Ok(Value::Tri(made))
}

/// The element-wise product; a mask of one entry a pair fills.
fn hadamard(dims: Dims, a: &Tri, b: &Tri) -> Evaluated<Value> {
    let frame = join(a.frame, b.frame)?;
    let fills = (b.rows, b.columns) == (1, 1);
    if !fills && (a.rows, a.columns) != (b.rows, b.columns) {
        return ill_typed("pairs of unlike stacks");
    }
    let mut made = a.clone();
    for_pairs(dims, frame, |t, s| {
        for i in 0..a.rows {
            for j in 0..a.columns {
                let (bi, bj) = if fills { (0, 0) } else { (i, j) };
                *made.at_mut((t, i), (s, j)) *= b.at((t, bi), (s, bj));
            }
        }
    });
    Ok(Value::Tri(made))
}

fn lower(dims: Dims, m: &Tri, reach: Reach) -> Value {
    let mut made = m.clone();
    for_pairs(dims, m.frame, |t, s| {
        if !reach.covers(t, s) {
            for i in 0..m.rows {
                (0..m.columns).for_each(|j| *made.at_mut((t, i), (s, j)) = 0.0);
            }
        }
    });
    Value::Tri(made)
}

//! Reductions: vectors along the reduced axis and one horizontal step at the end, or, where memory lies that way,
//! vectors along the last axis of the result.

use crate::kernel::visit::accesses;
use crate::kernel::{Access, Int, Reduce, ReduceOp};

use super::kernel::Emitter;
use super::text::{constant, float};
use super::value::Point;

/// Rows that are summed at a time.
const FOUR: u32 = 4;

impl Emitter<'_> {
    pub(super) fn reduce(&mut self, reduce: &Reduce) {
        let inner = reduce.axes.len();
        let last = reduce.axes.iter().rposition(|n| *n != Int::Const(1));
        let along = |d: usize| {
            let mut score = 0;
            accesses(&reduce.value, &mut |access| score += fitness(access, d));
            score
        };
        match last {
            Some(d) if along(d) + fitness(&reduce.dst, d) > along(inner) => self.reduce_across(reduce, d),
            _ => self.reduce_along(reduce),
        }
    }

    /// Lanes along axis `lane` of the result.
    fn reduce_across(&mut self, reduce: &Reduce, lane: usize) {
        let (index, loops) = self.open_axes(&reduce.axes, Some(lane));
        let (extent, inner) = (self.extent(&reduce.axes[lane]), self.extent(&reduce.inner));
        self.lanes(&extent, &mut |this, at, mask| {
            let mut index = index.clone();
            index[lane] = at;
            // Four partial results at a time: a step need not wait for the one before.
            let first = (this.t.floats(), constant(reduce.op.empty()));
            let step = |this: &mut Self, at: String, so_far: &str| {
                let index = index.iter().cloned().chain([at]).collect();
                let x = this.value(&reduce.value, &Point { index, lane: Some(lane), mask: mask.clone() });
                this.join(reduce.op, so_far, &x)
            };
            let last = this.t.sub(&inner, &(FOUR - 1).to_string());
            let fours = this.t.open("0", &last, FOUR, &vec![first.clone(); FOUR as usize]);
            let mut next = Vec::new();
            for (r, so_far) in (0..FOUR).zip(fours.carried.clone()) {
                let at = this.t.add(&fours.index, &r.to_string());
                next.push(step(this, at, &so_far));
            }
            this.t.close(&fours, &next);
            let [a, b, c, d] = [0, 1, 2, 3].map(|r| fours.carried[r].clone());
            let (ab, cd) = (this.join(reduce.op, &a, &b), this.join(reduce.op, &c, &d));
            let sum = this.join(reduce.op, &ab, &cd);
            let rest = this.t.open(&fours.index, &inner, 1, &[(first.0, sum)]);
            let sum = step(this, rest.index.clone(), &rest.carried[0]);
            this.t.close(&rest, &[sum]);
            let point = Point { index: index.clone(), lane: Some(lane), mask: mask.clone() };
            this.store(&reduce.dst, &point, &rest.carried[0]);
        });
        self.close_axes(&loops);
    }

    /// Lanes along the reduced axis.
    fn reduce_along(&mut self, reduce: &Reduce) {
        let inner = self.extent(&reduce.inner);
        if let ([rows], ReduceOp::Sum) = (&reduce.axes[..], reduce.op)
            && self.whole(&inner) == inner
            && self.t.lanes >= FOUR
        {
            return self.sums(reduce, rows, &inner);
        }
        let (index, loops) = self.open_axes(&reduce.axes, None);
        self.reduce_row(reduce, &index, &inner);
        self.close_axes(&loops);
    }

    /// Sums of rows of whole vectors, four rows at a time: what all rows read is read once, and the horizontal steps
    /// are shared.
    fn sums(&mut self, reduce: &Reduce, rows: &Int, inner: &str) {
        let rows = self.extent(rows);
        let last = self.t.sub(&rows, &(FOUR - 1).to_string());
        let fours = self.t.open("0", &last, FOUR, &[]);
        let index: Vec<String> = (0..FOUR).map(|r| self.t.add(&fours.index, &r.to_string())).collect();
        let zero = (self.t.floats(), constant(0.0));
        let opened = self.t.open("0", inner, self.t.lanes, &vec![zero; FOUR as usize]);
        let mut next = Vec::new();
        for (row, sum) in index.iter().zip(&opened.carried) {
            let point = Point { index: vec![row.clone(), opened.index.clone()], lane: Some(1), mask: None };
            let x = self.value(&reduce.value, &point);
            next.push(self.join(ReduceOp::Sum, sum, &x));
        }
        self.t.close(&opened, &next);
        let [a, b, c, d] = [0, 1, 2, 3].map(|r| opened.carried[r].clone());
        let totals = self.horizontal_sums([&a, &b, &c, &d]);
        for (r, row) in index.into_iter().enumerate() {
            let x = self.t.set(format_args!("extractelement <{FOUR} x float> {totals}, i32 {r}"));
            self.one(|this| {
                let x = this.t.splat("float", &x);
                this.store(&reduce.dst, &Point { index: vec![row], lane: None, mask: None }, &x);
            });
        }
        self.t.close(&fours, &[]);
        let rest = self.t.open(&fours.index, &rows, 1, &[]);
        self.reduce_row(reduce, std::slice::from_ref(&rest.index), inner);
        self.t.close(&rest, &[]);
    }

    /// The sums of the lanes of four vectors, as one vector of four.
    fn horizontal_sums(&mut self, [a, b, c, d]: [&str; 4]) -> String {
        let pair = |this: &mut Self, x: &str, y: &str, take: &dyn Fn(u32, u32) -> u32| {
            let (floats, n) = (this.t.floats(), this.t.lanes);
            let half = |this: &mut Self, second: u32| {
                let lanes: Vec<String> = (0..n).map(|i| format!("i32 {}", take(i, second))).collect();
                this.t.set(format_args!("shufflevector {floats} {x}, {floats} {y}, <{n} x i32> <{}>", lanes.join(", ")))
            };
            let (first, second) = (half(this, 0), half(this, 1));
            this.t.exact("fadd", &first, &second)
        };
        let n = self.t.lanes;
        // Lanes x y x y .., each the sum of two neighbours; then of four: a b c d a b c d ..
        let ones = |i: u32, second: u32| (i / 2 * 2 + second) + i % 2 * n;
        let twos = |i: u32, second: u32| (i / 4 * 4 + i % 2 + 2 * second) + i / 2 % 2 * n;
        let (ab, cd) = (pair(self, a, b, &ones), pair(self, c, d, &ones));
        let mut sums = pair(self, &ab, &cd, &twos);
        let mut width = n;
        while width > FOUR {
            let half = width / 2;
            let part = |this: &mut Self, from: u32| {
                let lanes: Vec<String> = (from..from + half).map(|i| format!("i32 {i}")).collect();
                let lanes = lanes.join(", ");
                this.t.set(format_args!(
                    "shufflevector <{width} x float> {sums}, <{width} x float> poison, <{half} x i32> <{lanes}>"
                ))
            };
            let (low, high) = (part(self, 0), part(self, half));
            sums = self.t.set(format_args!("fadd <{half} x float> {low}, {high}"));
            width = half;
        }
        sums
    }

    fn reduce_row(&mut self, reduce: &Reduce, index: &[String], inner: &str) {
        let inner = inner.to_owned();
        let lane = Some(index.len());
        let point = |at: &str, mask| {
            let index = index.iter().cloned().chain([at.to_owned()]).collect();
            Point { index, lane, mask }
        };
        let whole = self.whole(&inner);
        let (floats, empty) = (self.t.floats(), constant(reduce.op.empty()));
        let opened = self.t.open("0", &whole, self.t.lanes, &[(floats.clone(), empty.clone())]);
        let x = self.value(&reduce.value, &point(&opened.index, None));
        let sum = self.join(reduce.op, &opened.carried[0], &x);
        self.t.close(&opened, &[sum]);
        let mut sum = opened.carried[0].clone();
        if self.target.masks() && whole != inner {
            let [tail, join] = ["tail", "join"].map(|stem| self.t.label(stem));
            let (before, more) = (self.t.here(), self.t.less(&whole, &inner));
            self.t.branch(&more, &tail, &join);
            self.t.block(&tail);
            let mask = self.below(&whole, &inner);
            let x = self.value(&reduce.value, &point(&whole, Some(mask.clone())));
            let x = self.t.select(&mask, &x, &empty);
            let with_tail = self.join(reduce.op, &sum, &x);
            let after = self.t.here();
            self.t.jump(&join);
            self.t.block(&join);
            sum = self.t.set(format_args!("phi {floats} [ {sum}, %{before} ], [ {with_tail}, %{after} ]"));
        }
        let mut result = self.horizontal(reduce.op, &sum);
        if !self.target.masks() && whole != inner {
            result = self.one(|this| {
                let (floats, first) = (this.t.floats(), this.t.splat("float", &result));
                let opened = this.t.open(&whole, &inner, 1, &[(floats.clone(), first)]);
                let x = this.value(&reduce.value, &point(&opened.index, None));
                let sum = this.join(reduce.op, &opened.carried[0], &x);
                this.t.close(&opened, &[sum]);
                this.t.set(format_args!("extractelement {floats} {}, i32 0", opened.carried[0]))
            });
        }
        self.one(|this| {
            let x = this.t.splat("float", &result);
            this.store(&reduce.dst, &Point { index: index.to_vec(), lane: None, mask: None }, &x);
        });
    }

    fn join(&mut self, op: ReduceOp, a: &str, b: &str) -> String {
        match op {
            ReduceOp::Sum => self.t.float("fadd", a, b),
            ReduceOp::Product => self.t.float("fmul", a, b),
            ReduceOp::Max => self.t.intrinsic("maximum", &[a, b]),
            ReduceOp::Most => {
                let above = self.t.compare("ogt", b, a);
                self.t.select(&above, b, a)
            }
            ReduceOp::Min => self.t.intrinsic("minimum", &[a, b]),
        }
    }

    /// All lanes joined: a float.
    fn horizontal(&mut self, op: ReduceOp, x: &str) -> String {
        let (floats, n) = (self.t.floats(), self.t.lanes);
        let (name, start) = match op {
            ReduceOp::Sum => ("fadd", 0.0),
            ReduceOp::Product => ("fmul", 1.0),
            ReduceOp::Max | ReduceOp::Most => return self.extreme("fmax", x),
            ReduceOp::Min => return self.extreme("fmin", x),
        };
        self.t.set(format_args!(
            "call reassoc float @llvm.vector.reduce.{name}.v{n}f32(float {}, {floats} {x})",
            float(start)
        ))
    }

    /// The largest or smallest lane, NaN if any lane is: one test for all lanes is cheaper than one in every step.
    fn extreme(&mut self, name: &str, x: &str) -> String {
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.t.lanes);
        let bad = self.t.compare("uno", x, &constant(0.0));
        let any = self.t.set(format_args!("call i1 @llvm.vector.reduce.or.v{n}i1({bools} {bad})"));
        let extreme = self.t.set(format_args!("call nnan float @llvm.vector.reduce.{name}.v{n}f32({floats} {x})"));
        self.t.set(format_args!("select i1 {any}, float {}, float {extreme}", float(f64::NAN)))
    }
}

/// How well an access suits lanes along axis `d`.
fn fitness(access: &Access, d: usize) -> i64 {
    match access.strides.get(d) {
        None | Some(Int::Const(0)) => 0,
        Some(Int::Const(1)) => 1,
        Some(_) => -2,
    }
}

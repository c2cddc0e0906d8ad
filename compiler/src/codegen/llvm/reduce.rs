//! Reductions: vectors along the reduced axis and one horizontal step at the end, or, where memory lies that way,
//! vectors along the last axis of the result.

use crate::kernel::{Access, Int, Reduce, ReduceOp, Value};

use super::kernel::Emitter;
use super::text::{constant, float};
use super::value::Point;

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
            let first = (this.t.floats(), constant(reduce.op.empty()));
            let opened = this.t.open("0", &inner, 1, &[first]);
            index.push(opened.index.clone());
            let mut point = Point { index, lane: Some(lane), mask };
            let x = this.value(&reduce.value, &point);
            let sum = this.join(reduce.op, &opened.carried[0], &x);
            this.t.close(&opened, &[sum]);
            point.index.pop();
            this.store(&reduce.dst, &point, &opened.carried[0]);
        });
        self.close_axes(&loops);
    }

    /// Lanes along the reduced axis.
    fn reduce_along(&mut self, reduce: &Reduce) {
        let (index, loops) = self.open_axes(&reduce.axes, None);
        let (inner, lane) = (self.extent(&reduce.inner), Some(index.len()));
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
            this.store(&reduce.dst, &Point { index: index.clone(), lane: None, mask: None }, &x);
        });
        self.close_axes(&loops);
    }

    fn join(&mut self, op: ReduceOp, a: &str, b: &str) -> String {
        match op {
            ReduceOp::Sum => self.t.float("fadd", a, b),
            ReduceOp::Product => self.t.float("fmul", a, b),
            ReduceOp::Max => self.t.intrinsic("maximum", &[a, b]),
            ReduceOp::Min => self.t.intrinsic("minimum", &[a, b]),
        }
    }

    /// All lanes joined: a float.
    fn horizontal(&mut self, op: ReduceOp, x: &str) -> String {
        let (floats, n) = (self.t.floats(), self.t.lanes);
        let (name, start) = match op {
            ReduceOp::Sum => ("fadd", 0.0),
            ReduceOp::Product => ("fmul", 1.0),
            ReduceOp::Max => return self.extreme("fmax", x),
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

fn accesses(value: &Value, visit: &mut dyn FnMut(&Access)) {
    match value {
        Value::Load(access) | Value::Bounded { access, .. } => visit(access),
        Value::Const(_) | Value::Int(_) | Value::Axis(_) => {}
        Value::Call(_, args) => args.iter().for_each(|x| accesses(x, visit)),
        Value::Select(cond, then, otherwise) => {
            [cond, then, otherwise].into_iter().for_each(|x| accesses(x, visit));
        }
    }
}

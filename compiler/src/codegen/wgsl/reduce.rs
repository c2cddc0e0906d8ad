//! Reductions: one invocation an output, or several where outputs are few, their partial results through workgroup memory.

use crate::kernel::range::Ranges;
use crate::kernel::{Int, Reduce, ReduceOp};

use super::dialect::number;
use super::math::Routine;
use super::shader::Emitter;

/// How many invocations share an output: a power of two.
pub(super) fn slices(ranges: &Ranges, reduce: &Reduce, invocations: u32) -> u64 {
    let inner = ranges.most(&reduce.inner).unwrap_or(i64::MAX);
    let Some(outputs) = ranges.volume(&reduce.axes).filter(|&n| n > 0) else { return 1 };
    let mut slices = 1;
    while outputs as u64 * slices * 2 <= u64::from(invocations) && slices as i64 * 8 <= inner {
        slices *= 2;
    }
    slices
}

/// The result over nothing, finite.
pub(super) fn empty(op: ReduceOp) -> String {
    number(op.empty())
}

impl Emitter<'_> {
    /// Two results joined; NaN if either is.
    pub(super) fn join(&mut self, op: ReduceOp, a: &str, b: &str) -> String {
        match op {
            ReduceOp::Sum => format!("{a} + {b}"),
            ReduceOp::Product => format!("{a} * {b}"),
            ReduceOp::Max | ReduceOp::Most => {
                self.needs.insert(Routine::Max);
                format!("f_max({a}, {b})")
            }
            ReduceOp::Min => {
                self.needs.insert(Routine::Min);
                format!("f_min({a}, {b})")
            }
        }
    }

    pub(super) fn reduce(&mut self, reduce: &Reduce) {
        let slices = slices(self.ranges, reduce, self.invocations);
        let elements = self.elements(&reduce.axes);
        let inner = self.extent(&reduce.inner);
        self.prepare(&reduce.value);
        let dst = self.spot(&reduce.dst);
        let mut touches = self.reads(&reduce.value, None);
        let written = self.touch(&reduce.dst, true, Some(&reduce.axes));
        if slices == 1 {
            touches.push(written);
            self.before(&touches);
            return self.each(&elements, 1, |this, number| {
                this.element(&elements, number, |this, index| {
                    let sum = this.along(reduce, index, ("0", 1), &inner);
                    this.store(&dst, index, &sum);
                });
            });
        }
        touches.push(self.shared(true));
        self.before(&touches);
        self.each(&elements, slices, |this, number| {
            let slice = this.t.set("i", format_args!("i32({number} % {slices}u)"));
            let element = format!("({number} / {slices}u)");
            this.element(&elements, &element, |this, index| {
                let sum = this.along(reduce, index, (&slice, slices), &inner);
                this.t.line(format_args!("w[{number}] = {sum};"));
            });
        });
        self.before(&[self.shared(false), written]);
        self.each(&elements, 1, |this, number| {
            this.element(&elements, number, |this, index| {
                let sum = this.gather(reduce.op, &format!("{number} * {slices}u"), "1u", slices);
                this.store(&dst, index, &sum);
            });
        });
    }

    /// The result over r from a first one on, by steps.
    fn along(&mut self, reduce: &Reduce, index: &[String], (first, step): (&str, u64), inner: &str) -> String {
        let (sum, r) = (self.t.fresh("s"), self.t.fresh("r"));
        let mut whole = index.to_vec();
        whole.push(r.clone());
        self.t.line(format_args!("var {sum} = {};", empty(reduce.op)));
        let known = self.lets.len();
        self.open_loop(format_args!("for (var {r} = {first}; {r} < {inner}; {r} += {step})"));
        let x = self.value(&reduce.value, &whole);
        let joined = self.join(reduce.op, &sum, &x);
        self.t.line(format_args!("{sum} = {joined};"));
        let most = self.most_of(&reduce.inner);
        self.close_loop(super::map::shared_out(most, step as u32));
        self.lets.truncate(known);
        sum
    }

    /// Partial results in workgroup memory, joined: `count` of them from `first` on, `stride` apart.
    pub(super) fn gather(&mut self, op: ReduceOp, first: &str, stride: &str, count: u64) -> String {
        let (sum, g) = (self.t.fresh("s"), self.t.fresh("r"));
        self.t.line(format_args!("var {sum} = {};", empty(op)));
        self.open_loop(format_args!("for (var {g} = 0u; {g} < {count}u; {g}++)"));
        let joined = self.join(op, &sum, &format!("w[{first} + {g} * {stride}]"));
        self.t.line(format_args!("{sum} = {joined};"));
        self.close_loop(Int::Const(count as i64));
        sum
    }
}

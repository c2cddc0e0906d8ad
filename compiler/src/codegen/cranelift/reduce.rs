//! Reductions: along their rows, four partial results at a time; or, where memory lies that way, row upon row of results.

use cranelift_codegen::ir::types::F32X4;
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::visit::accesses;
use crate::kernel::{Access, Int, Reduce, ReduceOp, Value as Tree};

use super::integer::Extent;
use super::kernel::Emitter;
use super::map::unroll;
use super::place::{At, Row, is_dense};
use super::value::{Node, fits_lanes, steps};

impl Emitter<'_> {
    pub(super) fn reduce(&mut self, reduce: &Reduce) {
        self.hoist(&reduce.value);
        self.reach(&reduce.dst);
        let inner = reduce.axes.len();
        let last = reduce.axes.iter().rposition(|n| *n != Int::Const(1));
        let along = |d: usize| {
            let (dense, strided) = steps(&reduce.value, d);
            dense as i64 - 2 * strided as i64
        };
        let across = last.filter(|d| {
            is_dense(&reduce.dst, *d) && along(*d) + 1 > along(inner) && !reads(&reduce.value, &reduce.dst)
        });
        let apart = !reads(&reduce.value, &reduce.dst);
        match across {
            Some(lane) if self.reduce_across(reduce, lane) => {}
            Some(lane) => self.across(reduce, lane),
            None if apart && self.reduce_along(reduce) => {}
            None => self.along(reduce),
        }
    }

    /// For every r, a row of values joins a row of results.
    fn across(&mut self, reduce: &Reduce, lane: usize) {
        let (extent, inner) = (self.extent(&reduce.axes[lane]), self.extent(&reduce.inner));
        let wide = fits_lanes(&reduce.value, lane) && extent.known.is_none_or(|n| n >= 4);
        self.rows(&reduce.axes, &[lane], &mut |this, index| {
            this.some(extent, &[], |this| {
                this.strips(&reduce.value, (lane, extent), &[], |this, lane, _| {
                    let to = this.place(&reduce.dst, &Row { index, lane: Some(lane) });
                    let empty = Tree::Const(reduce.op.empty());
                    let empty = this.node(&empty, &Row { index, lane: Some(lane) });
                    this.sweep(lane.len, wide, |this, at| {
                        let x = this.eval(&empty, at);
                        this.store(&to, at, x);
                    });
                    let (zero, one) = (this.constant(0), this.constant(1));
                    this.count((zero, inner.value, one), &[], |this, r, _| {
                        let index: Vec<Option<Value>> = index.iter().copied().chain([Some(r)]).collect();
                        let node = this.node(&reduce.value, &Row { index: &index, lane: Some(lane) });
                        this.sweep(lane.len, wide, |this, at| {
                            let (so_far, x) = (this.load(&to, at), this.eval(&node, at));
                            let x = this.join(reduce.op, so_far, x);
                            this.store(&to, at, x);
                        });
                        Vec::new()
                    });
                    Vec::new()
                })
            });
        });
    }

    fn along(&mut self, reduce: &Reduce) {
        let (inner, axis) = (self.extent(&reduce.inner), reduce.axes.len());
        let (dense, strided) = steps(&reduce.value, axis);
        let wide = fits_lanes(&reduce.value, axis) && (dense > 0 || strided == 0) && inner.known.is_none_or(|n| n >= 4);
        self.rows(&reduce.axes, &[], &mut |this, index| {
            let to = this.place(&reduce.dst, &Row { index, lane: None });
            let empty = this.b.ins().f32const(reduce.op.empty() as f32);
            let index: Vec<Option<Value>> = index.iter().copied().chain([None]).collect();
            let result = this.some(inner, &[empty], |this| {
                this.strips(&reduce.value, (axis, inner), &[empty], |this, lane, carried| {
                    let node = this.node(&reduce.value, &Row { index: &index, lane: Some(lane) });
                    vec![this.join_row(reduce.op, (&node, lane.len, wide), carried[0])]
                })
            });
            this.store(&to, At::ONE, result[0]);
        });
    }

    /// A row joined to what came before it.
    fn join_row(&mut self, op: ReduceOp, (node, len, wide): (&Node, Extent, bool), before: Value) -> Value {
        let mut result = before;
        let mut from = self.constant(0);
        if wide {
            let (vectors, unroll) = (self.vectors(len), unroll(len, 4));
            let empty = self.b.ins().f32const(op.empty() as f32);
            let empty = self.b.ins().splat(F32X4, empty);
            let step = self.constant(16 * unroll);
            let partial = vec![empty; unroll as usize];
            let parts = self.count_known(len, (from, vectors, step), &partial, |this, bytes, parts| {
                let mut next = Vec::new();
                for (i, part) in (0..).zip(parts) {
                    let x = this.eval(node, At { bytes: Some(bytes), more: 16 * i, lanes: 4 });
                    next.push(this.join(op, *part, x));
                }
                next
            });
            let four = parts[1..].iter().fold(parts[0], |sum, part| self.join(op, sum, *part));
            for lane in 0..4u8 {
                let x = self.b.ins().extractlane(four, lane);
                result = self.join(op, result, x);
            }
            if len.is_whole() {
                return result;
            }
            from = vectors;
        }
        let (end, step) = (self.b.ins().ishl_imm_u(len.value, 2), self.constant(4));
        let ended = self.count((from, end, step), &[result], |this, bytes, carried| {
            let x = this.eval(node, At { bytes: Some(bytes), more: 0, lanes: 1 });
            vec![this.join(op, carried[0], x)]
        });
        ended[0]
    }

    fn join(&mut self, op: ReduceOp, a: Value, b: Value) -> Value {
        match op {
            ReduceOp::Sum => self.b.ins().fadd(a, b),
            ReduceOp::Product => self.b.ins().fmul(a, b),
            ReduceOp::Max | ReduceOp::Most => self.b.ins().fmax(a, b),
            ReduceOp::Min => self.b.ins().fmin(a, b),
        }
    }
}

/// Whether a value reads the buffer of an access.
fn reads(value: &Tree, written: &Access) -> bool {
    let mut found = false;
    accesses(value, &mut |access| found |= access.buffer == written.buffer);
    found
}

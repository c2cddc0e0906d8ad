//! Maps: loops over all axes but one, rows along that one.

use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::{Int, Map, frame};

use super::integer::Extent;
use super::kernel::Emitter;
use super::place::{At, Row, is_dense};
use super::value::{fits_lanes, steps};

impl Emitter<'_> {
    pub(super) fn map(&mut self, map: &Map) {
        self.hoist(&map.value);
        self.reach(&map.dst);
        if let Some(frame) = frame::map_frame(self.module, map) {
            return self.map_tiles(map, frame);
        }
        // The last axis that is more than one element long; a diagonal bounds the last one of all.
        let lane = match &map.below {
            Some(_) => Some(map.axes.len() - 1),
            None => map.axes.iter().rposition(|n| *n != Int::Const(1)),
        };
        let Some(lane) = lane else {
            let row = Row { index: &vec![None; map.axes.len()], lane: None };
            let x = self.single(&map.value, &row);
            let to = self.place(&map.dst, &row);
            return self.store(&to, At::ONE, x);
        };
        let extent = self.extent(&map.axes[lane]);
        let (dense, strided) = steps(&map.value, lane);
        let wide = is_dense(&map.dst, lane)
            && fits_lanes(&map.value, lane)
            && (dense > 0 || strided == 0 || map.axes.len() > 1)
            && extent.known.is_none_or(|n| n >= 4);
        let diagonal = map.below.as_ref().map(|d| self.int(&(d.clone() + 1i64)));
        self.rows(&map.axes, &[lane], &mut |this, index| {
            let extent = diagonal.map_or(extent, |d| this.below(extent, d, index[lane - 1]));
            this.some(extent, &[], |this| {
                this.strips(&map.value, (lane, extent), &[], |this, lane, _| {
                    let row = Row { index, lane: Some(lane) };
                    let node = this.node(&map.value, &row);
                    let to = this.place(&map.dst, &row);
                    this.sweep(lane.len, wide, |this, at| {
                        let x = this.eval(&node, at);
                        this.store(&to, at, x);
                    });
                    Vec::new()
                })
            });
        });
    }

    /// The part of a row below a diagonal.
    fn below(&mut self, extent: Extent, diagonal: Value, row: Option<Value>) -> Extent {
        let end = row.map_or(diagonal, |row| self.b.ins().iadd(row, diagonal));
        Extent { value: self.b.ins().smin(extent.value, end), known: None }
    }

    /// Writes `body(index)` over every axis but those of `skipped`, whose index is none.
    pub(super) fn rows(&mut self, axes: &[Int], skipped: &[usize], body: &mut dyn FnMut(&mut Self, &[Option<Value>])) {
        let ends: Vec<Option<Value>> = axes
            .iter()
            .enumerate()
            .map(|(d, axis)| (!skipped.contains(&d) && *axis != Int::Const(1)).then(|| self.extent(axis).value))
            .collect();
        self.over(&ends, Vec::new(), body);
    }

    fn over(
        &mut self,
        ends: &[Option<Value>],
        mut index: Vec<Option<Value>>,
        body: &mut dyn FnMut(&mut Self, &[Option<Value>]),
    ) {
        match ends.get(index.len()) {
            None => body(self, &index),
            Some(None) => {
                index.push(None);
                self.over(ends, index, body);
            }
            Some(Some(end)) => {
                let (zero, one) = (self.constant(0), self.constant(1));
                self.count((zero, *end, one), &[], |this, at, _| {
                    index.push(Some(at));
                    this.over(ends, index, body);
                    Vec::new()
                });
            }
        }
    }

    /// What `body` gives where an axis is not empty, else `empty`.
    pub(super) fn some(
        &mut self,
        extent: Extent,
        empty: &[Value],
        body: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        match extent.known {
            Some(0) => empty.to_vec(),
            Some(_) => body(self),
            None => self.when_positive(extent.value, empty, body),
        }
    }

    /// Writes `body` over a row that is not empty: four elements at a time if `wide`, then one.
    pub(super) fn sweep(&mut self, len: Extent, wide: bool, mut body: impl FnMut(&mut Self, At)) {
        let mut from = self.constant(0);
        if wide {
            let vectors = self.vectors(len);
            let unroll = unroll(len, 2);
            let step = self.constant(16 * unroll);
            self.count_known(len, (from, vectors, step), &[], |this, bytes, _| {
                for i in 0..unroll as i32 {
                    body(this, At { bytes: Some(bytes), more: 16 * i, lanes: 4 });
                }
                Vec::new()
            });
            if len.is_whole() {
                return;
            }
            from = vectors;
        }
        let (end, step) = (self.b.ins().ishl_imm_u(len.value, 2), self.constant(4));
        let single = |this: &mut Self, bytes, _: &[Value]| {
            body(this, At { bytes: Some(bytes), more: 0, lanes: 1 });
            Vec::new()
        };
        if wide && len.known.is_none() {
            self.count((from, end, step), &[], single);
        } else {
            self.count_some((from, end, step), &[], single);
        }
    }

    /// The bytes of a row that whole vectors cover.
    pub(super) fn vectors(&mut self, len: Extent) -> Value {
        match len.known {
            Some(n) => self.constant(n / 4 * 16),
            None => {
                let whole = self.b.ins().band_imm_s(len.value, -4);
                self.b.ins().ishl_imm_u(whole, 2)
            }
        }
    }

    /// A loop over the whole vectors of a row, tested first unless there is one for certain.
    pub(super) fn count_known(
        &mut self,
        len: Extent,
        range: (Value, Value, Value),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if len.known.is_some_and(|n| n >= 4) {
            self.count_some(range, carried, body)
        } else {
            self.count(range, carried, body)
        }
    }
}

/// How many vectors to take at a time: at most `most`, and such that none are left over.
pub(super) fn unroll(len: Extent, most: i64) -> i64 {
    let fits = |n: i64| len.known.is_some_and(|len| len >= 4 && len / 4 % n == 0);
    [4, 2].into_iter().find(|n| *n <= most && fits(*n)).unwrap_or(1)
}

//! Maps: scalar loops over all axes but one, vectors along that one, a tail under a mask or lane by lane.

use crate::kernel::{Access, Elem, Int, Map};

use super::kernel::Emitter;
use super::text::Loop;
use super::transpose;
use super::value::Point;

impl Emitter<'_> {
    pub(super) fn map(&mut self, map: &Map) {
        let floats = |access: &&Access| self.module.buffers[access.buffer.index()].elem == Elem::F32;
        if let Some(from) = transpose::source(map, self.target).filter(floats) {
            return self.transpose(map, from);
        }
        // The last axis that is more than one element long; a diagonal bounds the last one of all.
        let lane = match &map.below {
            Some(_) => Some(map.axes.len() - 1),
            None => map.axes.iter().rposition(|n| *n != Int::Const(1)),
        };
        let Some(lane) = lane else {
            let index = vec!["0".to_owned(); map.axes.len()];
            return self.one(|this| {
                let point = Point { index, lane: None, mask: None };
                let x = this.value(&map.value, &point);
                this.store(&map.dst, &point, &x);
            });
        };
        let Some(past) = self.streamed(map, lane) else { return self.points(map, lane) };
        let [streamed, cached, join] = ["streamed", "cached", "join"].map(|stem| self.t.label(stem));
        self.t.branch(&past, &streamed, &cached);
        for (label, streams) in [(streamed, true), (cached, false)] {
            self.t.block(&label);
            self.streaming = streams;
            self.points(map, lane);
            self.t.jump(&join);
        }
        self.t.block(&join);
        self.fenced = true;
    }

    /// Every element of a map, vectors along `lane`.
    fn points(&mut self, map: &Map, lane: usize) {
        let (index, loops) = self.open_axes(&map.axes, Some(lane));
        let mut extent = self.extent(&map.axes[lane]);
        if let Some(diagonal) = &map.below {
            let diagonal = self.int(&(diagonal.clone() + 1i64));
            let end = self.t.add(&index[lane - 1], &diagonal);
            let end = self.t.larger(&end, "0");
            extent = self.t.smaller(&extent, &end);
        }
        self.lanes(&extent, &mut |this, at, mask| {
            let mut index = index.clone();
            index[lane] = at;
            let point = Point { index, lane: Some(lane), mask };
            let x = this.value(&map.value, &point);
            this.store(&map.dst, &point, &x);
        });
        self.close_axes(&loops);
    }

    /// Opens a loop over every axis but `lane`, whose index is left empty.
    pub(super) fn open_axes(&mut self, axes: &[Int], lane: Option<usize>) -> (Vec<String>, Vec<Loop>) {
        let (mut index, mut loops) = (Vec::new(), Vec::new());
        for (d, axis) in axes.iter().enumerate() {
            if lane == Some(d) {
                index.push(String::new());
            } else if *axis == Int::Const(1) {
                index.push("0".to_owned());
            } else {
                let to = self.extent(axis);
                let opened = self.t.open("0", &to, 1, &[]);
                index.push(opened.index.clone());
                loops.push(opened);
            }
        }
        (index, loops)
    }

    pub(super) fn close_axes(&mut self, loops: &[Loop]) {
        for opened in loops.iter().rev() {
            self.t.close(opened, &[]);
        }
    }

    /// Writes `body` with one lane.
    pub(super) fn one<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        let lanes = std::mem::replace(&mut self.t.lanes, 1);
        let result = body(self);
        self.t.lanes = lanes;
        result
    }

    /// The part of an extent that whole vectors cover.
    pub(super) fn whole(&mut self, extent: &str) -> String {
        let width = i64::from(self.t.lanes);
        match extent.parse::<i64>() {
            Ok(n) => (n / width * width).to_string(),
            Err(_) => self.t.set(format_args!("and i64 {extent}, {}", -width)),
        }
    }

    /// The lanes of a vector at `from` that lie below `to`.
    pub(super) fn below(&mut self, from: &str, to: &str) -> String {
        let left = self.t.sub(to, from);
        let left = self.t.smaller(&left, &self.target.width.to_string());
        let left = self.t.set(format_args!("trunc i64 {left} to i32"));
        let left = self.t.splat("i32", &left);
        let (ints, iota) = (self.t.vector("i32"), self.t.iota("i32"));
        self.t.set(format_args!("icmp slt {ints} {iota}, {left}"))
    }

    /// Writes `body(first position, mask)` over 0..extent: whole vectors, then the tail.
    pub(super) fn lanes(&mut self, extent: &str, body: &mut dyn FnMut(&mut Self, String, Option<String>)) {
        let whole = self.whole(extent);
        if whole != "0" {
            let opened = self.t.open("0", &whole, self.t.lanes, &[]);
            body(self, opened.index.clone(), None);
            self.t.close(&opened, &[]);
        }
        if whole == extent {
            return;
        }
        if self.target.masks() {
            let [tail, join] = ["tail", "join"].map(|stem| self.t.label(stem));
            let more = self.t.less(&whole, extent);
            self.t.branch(&more, &tail, &join);
            self.t.block(&tail);
            let mask = self.below(&whole, extent);
            body(self, whole, Some(mask));
            self.t.jump(&join);
            self.t.block(&join);
        } else {
            let opened = self.t.open(&whole, extent, 1, &[]);
            self.one(|this| body(this, opened.index.clone(), None));
            self.t.close(&opened, &[]);
        }
    }
}

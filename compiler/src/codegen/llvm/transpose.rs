//! Transposing maps: blocks of as many rows as a vector has lanes, turned in registers. A gather a vector would cost a
//! load a lane.
//!
//! ```text
//! transpose(c, ldc, a, lda, m, n)   c[i,j] = a[j,i] of m x n elements of c, block by block, edges under masks
//! ```
//! A block of W rows is turned by log2 W rounds: row r and row r + W/2 are interleaved into rows 2r and 2r + 1.

use crate::kernel::{Access, Int, Map, Value};

use super::kernel::Emitter;
use super::text::Text;
use super::{Routine, Target};

/// The source of a map that only turns a tile: its rows are the map's columns.
pub(super) fn source<'m>(map: &'m Map, target: &Target) -> Option<&'m Access> {
    let (Value::Load(from), [_, _], None) = (&map.value, &map.axes[..], &map.below) else { return None };
    let one = Int::Const(1);
    let turns = map.dst.strides[1] == one && from.strides[0] == one && from.strides[1] != one;
    (turns && target.masks()).then_some(from)
}

impl Emitter<'_> {
    /// Writes the call for such a map. The source is of f32.
    pub(super) fn transpose(&mut self, map: &Map, from: &Access) {
        let [m, n] = [0, 1].map(|d| self.extent(&map.axes[d]));
        let [c, a] = [&map.dst, from].map(|access| {
            let offset = self.int(&access.offset);
            self.t.element(&format!("%b{}", access.buffer.0), &offset)
        });
        let [ldc, lda] = [&map.dst.strides[0], &from.strides[1]].map(|stride| self.int(stride));
        self.t.run(format_args!("call void @transpose(ptr {c}, i64 {ldc}, ptr {a}, i64 {lda}, i64 {m}, i64 {n})"));
        self.t.needs.insert(Routine::Transpose);
    }
}

/// The routine as an internal function.
pub(super) fn define(target: &Target) -> (String, Text) {
    let mut t = Text::new(target.width);
    let width = i64::from(target.width);
    let across = t.open("0", "%m", width, &[]);
    let down = t.open("0", "%n", width, &[]);
    let [rows, columns] = [("%n", &down), ("%m", &across)].map(|(end, opened)| t.sub(end, &opened.index));
    let block = load(&mut t, [&down.index, &across.index], [&rows, &columns]);
    let block = turned(&mut t, block);
    store(&mut t, &block, [&across.index, &down.index], [&columns, &rows]);
    t.close(&down, &[]);
    t.close(&across, &[]);
    t.run("ret void");
    let head = "define internal void @transpose(ptr %c, i64 %ldc, ptr %a, i64 %lda, i64 %m, i64 %n) noinline #0";
    (head.to_owned(), t)
}

/// The lanes below `columns`, in rows below `rows`: none in the others.
fn masks(t: &mut Text, [rows, columns]: [&str; 2]) -> Vec<String> {
    let (lanes, bools) = (t.lanes, t.vector("i1"));
    let left = t.smaller(columns, &lanes.to_string());
    let left = t.set(format_args!("trunc i64 {left} to i32"));
    let left = t.splat("i32", &left);
    let (ints, iota) = (t.vector("i32"), t.iota("i32"));
    let mask = t.set(format_args!("icmp slt {ints} {iota}, {left}"));
    let row = |r: u32| {
        let there = t.less(&r.to_string(), rows);
        t.set(format_args!("select i1 {there}, {bools} {mask}, {bools} zeroinitializer"))
    };
    (0..lanes).map(row).collect()
}

fn load(t: &mut Text, [row, column]: [&str; 2], left: [&str; 2]) -> Vec<String> {
    let masks = masks(t, left);
    let (floats, bools, n) = (t.floats(), t.vector("i1"), t.lanes);
    let mut rows = Vec::new();
    for (r, mask) in masks.iter().enumerate() {
        let row = t.add(row, &r.to_string());
        let down = t.mul(&row, "%lda");
        let at = t.add(&down, column);
        let at = t.element("%a", &at);
        rows.push(t.set(format_args!(
            "call {floats} @llvm.masked.load.v{n}f32.p0(ptr align 4 {at}, {bools} {mask}, {floats} zeroinitializer)"
        )));
    }
    rows
}

fn store(t: &mut Text, block: &[String], [row, column]: [&str; 2], left: [&str; 2]) {
    let masks = masks(t, left);
    let (floats, bools, n) = (t.floats(), t.vector("i1"), t.lanes);
    for (r, (x, mask)) in block.iter().zip(&masks).enumerate() {
        let row = t.add(row, &r.to_string());
        let down = t.mul(&row, "%ldc");
        let at = t.add(&down, column);
        let at = t.element("%c", &at);
        t.run(format_args!("call void @llvm.masked.store.v{n}f32.p0({floats} {x}, ptr align 4 {at}, {bools} {mask})"));
    }
}

/// The rows of a square block as its columns.
fn turned(t: &mut Text, mut block: Vec<String>) -> Vec<String> {
    let half = block.len() / 2;
    for _ in 0..block.len().ilog2() {
        block = (0..half).flat_map(|r| interleaved(t, [&block[r], &block[r + half]])).collect();
    }
    block
}

/// The lower lanes of two vectors in turn, and the upper ones.
fn interleaved(t: &mut Text, [x, y]: [&str; 2]) -> [String; 2] {
    let (floats, n) = (t.floats(), t.lanes);
    [0, n / 2].map(|from| {
        let lanes: Vec<String> = (from..from + n / 2).map(|i| format!("i32 {i}, i32 {}", i + n)).collect();
        t.set(format_args!("shufflevector {floats} {x}, {floats} {y}, <{n} x i32> <{}>", lanes.join(", ")))
    })
}

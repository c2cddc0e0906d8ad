//! The register tile of a product: rows x vectors of sums.
//!
//! ```text
//! for every run of k    for k: one row of b, one scalar of a for every row, fused multiply-adds
//!                       c = sums, c + sums, or factor c + (lost c + sums)
//! ```
//! A triangular tile ends with the rows of its diagonal block, written out: row r takes k0 .. k0 + r only, so nothing
//! above the diagonal is read. A substitution does the same with its own sums in place of b.

use super::Routine;
use super::product::{Kind, PARAMS, Tile};
use super::text::{Text, constant};

/// Terms that are summed on their own before they join the total: long sums lose less to rounding.
const RUN: i64 = 64;

/// A tile as an internal function: `%m` rows and `%n` columns are left here, `%k` rows of b count. Between runs the
/// totals lie in c, so that the sums have the registers to themselves.
pub(super) fn define(kind: Kind, tile: Tile) -> (String, Text) {
    let mut writer = Writer { t: Text::new(tile.lanes), tile, mask: None, r: Vec::new(), a: Vec::new(), c: Vec::new() };
    writer.rows(kind);
    // Of nothing there is a sum too.
    let end = writer.t.larger("%k", "1");
    let runs = writer.t.open("0", &end, RUN, &[]);
    let to = writer.t.add(&runs.index, &RUN.to_string());
    let to = writer.t.smaller(&to, "%k");
    let mut sums = writer.sums(&runs.index, &to);
    let later = writer.t.less("0", &runs.index);
    let plain = writer.t.set("icmp eq ptr %lost, @one");
    let plain = writer.t.set(format_args!("or i1 {later}, {plain}"));
    sums = writer.given(&plain, sums, |writer, sums| writer.added(sums));
    let scaled = writer.t.set("icmp ne ptr %lost, null");
    let scaled = writer.t.set(format_args!("select i1 {plain}, i1 false, i1 {scaled}"));
    sums = writer.given(&scaled, sums, |writer, sums| writer.joined(sums));
    if !matches!(kind, Kind::Full | Kind::LowerOut) {
        let more = writer.t.less(&to, "%k");
        let last = writer.t.set(format_args!("xor i1 {more}, true"));
        sums = writer.given(&last, sums, |writer, sums| writer.diagonal(kind, sums));
    }
    writer.end(&sums);
    writer.t.close(&runs, &[]);
    writer.t.run("ret void");
    (format!("define internal void @{}({PARAMS}) noinline #0", Routine::Tile(kind, tile).name()), writer.t)
}

struct Writer {
    t: Text,
    tile: Tile,
    mask: Option<String>,
    /// The tile's rows, counted from its first.
    r: Vec<String>,
    /// Pointers to the tile's rows of a and c.
    a: Vec<String>,
    c: Vec<String>,
}

impl Writer {
    fn rows(&mut self, kind: Kind) {
        let t = &mut self.t;
        if self.tile.masked {
            let left = t.smaller("%n", &self.tile.lanes.to_string());
            let left = t.set(format_args!("trunc i64 {left} to i32"));
            let left = t.splat("i32", &left);
            let (ints, iota) = (t.vector("i32"), t.iota("i32"));
            self.mask = Some(t.set(format_args!("icmp slt {ints} {iota}, {left}")));
        }
        let last = if kind == Kind::Full && self.tile.rows > 1 { t.sub("%m", "1") } else { String::new() };
        for r in 0..self.tile.rows {
            let mut row = r.to_string();
            if r > 0 && kind == Kind::Full {
                row = t.smaller(&row, &last);
            }
            let (down, right) = (t.mul(&row, "%am"), t.mul(&row, "%ldc"));
            self.a.push(t.element("%a", &down));
            self.c.push(t.element("%c", &right));
            self.r.push(row);
        }
    }

    /// The sums over rows from .. to of b.
    fn sums(&mut self, from: &str, to: &str) -> Vec<String> {
        let zero = (self.t.floats(), constant(0.0));
        let zeros = vec![zero; (self.tile.rows * self.tile.vectors) as usize];
        let around = self.t.open(from, to, 1, &zeros);
        let across = self.t.mul(&around.index, "%ak");
        let row = self.row_of_b(&around.index);
        let mut sums = around.carried.clone();
        for r in 0..self.tile.rows as usize {
            self.step(&mut sums, r, &across, &row);
        }
        self.t.close(&around, &sums);
        around.carried
    }

    /// What `change` makes of the sums where the condition holds; else the sums.
    fn given(
        &mut self,
        condition: &str,
        sums: Vec<String>,
        change: impl FnOnce(&mut Self, &mut [String]),
    ) -> Vec<String> {
        let [yes, join] = ["given", "join"].map(|stem| self.t.label(stem));
        let before = self.t.here();
        self.t.branch(condition, &yes, &join);
        self.t.block(&yes);
        let mut changed = sums.clone();
        change(self, &mut changed);
        let after = self.t.here();
        self.t.jump(&join);
        self.t.block(&join);
        let floats = self.t.floats();
        let phi = |(x, y)| self.t.set(format_args!("phi {floats} [ {x}, %{before} ], [ {y}, %{after} ]"));
        sums.iter().zip(&changed).map(phi).collect()
    }

    /// sums += c, which takes no turn of a multiplier.
    fn added(&mut self, sums: &mut [String]) {
        for (place, sum) in sums.iter_mut().enumerate() {
            let (r, v) = (place / self.tile.vectors as usize, place as u32 % self.tile.vectors);
            let c = self.c[r].clone();
            let total = self.vector(&c, v);
            *sum = self.t.float("fadd", sum, &total);
        }
    }

    /// sums = factor c + (lost c + sums)
    fn joined(&mut self, sums: &mut [String]) {
        for r in 0..self.tile.rows as usize {
            let (c, row) = (self.c[r].clone(), self.r[r].clone());
            let down = self.t.mul(&row, "%sm");
            let [lost, factor] = ["%lost", "%factor"].map(|base| {
                let at = self.t.element(base, &down);
                let factor = self.t.set(format_args!("load float, ptr {at}, align 4"));
                self.t.splat("float", &factor)
            });
            for v in 0..self.tile.vectors {
                let total = self.vector(&c, v);
                let sum = &mut sums[r * self.tile.vectors as usize + v as usize];
                let added = self.t.fma(&lost, &total, sum);
                *sum = self.t.fma(&factor, &total, &added);
            }
        }
    }

    /// Vector `v` of a row at `from`.
    fn vector(&mut self, from: &str, v: u32) -> String {
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.tile.lanes);
        let at = self.t.element(from, &(v * n).to_string());
        match &self.mask {
            None => self.t.set(format_args!("load {floats}, ptr {at}, align 4")),
            Some(mask) => self.t.set(format_args!(
                "call {floats} @llvm.masked.load.v{n}f32.p0(ptr align 4 {at}, {bools} {mask}, {floats} zeroinitializer)"
            )),
        }
    }

    fn row_of_b(&mut self, k: &str) -> Vec<String> {
        let down = self.t.mul(k, "%ldb");
        let from = self.t.element("%b", &down);
        (0..self.tile.vectors).map(|v| self.vector(&from, v)).collect()
    }

    /// Row r of the accumulators += a[r, at `across`] * row.
    fn step(&mut self, sums: &mut [String], r: usize, across: &str, row: &[String]) {
        let at = self.t.element(&self.a[r], across);
        let x = self.t.set(format_args!("load float, ptr {at}, align 4"));
        let x = self.t.splat("float", &x);
        for (v, b) in row.iter().enumerate() {
            let sum = &mut sums[r * row.len() + v];
            *sum = self.t.fma(&x, b, sum);
        }
    }

    /// The block on the diagonal: rows `%k` on of b, or of the accumulators themselves.
    fn diagonal(&mut self, kind: Kind, sums: &mut [String]) {
        let (rows, vectors) = (self.tile.rows as usize, self.tile.vectors as usize);
        if matches!(kind, Kind::Full | Kind::LowerOut) {
            return;
        }
        for s in 0..rows {
            let first = if kind == Kind::Lower { s } else { s + 1 };
            if first == rows {
                break;
            }
            let k = self.t.add("%k", &s.to_string());
            let across = self.t.mul(&k, "%ak");
            let row = match kind {
                Kind::Solve => sums[s * vectors..(s + 1) * vectors].to_vec(),
                _ => self.row_of_b(&k),
            };
            for r in first..rows {
                self.step(sums, r, &across, &row);
            }
        }
    }

    fn end(&mut self, sums: &[String]) {
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.tile.lanes);
        for r in 0..self.tile.rows as usize {
            for v in 0..self.tile.vectors as usize {
                let at = self.t.element(&self.c[r], &(v * n as usize).to_string());
                let x = &sums[r * self.tile.vectors as usize + v];
                match &self.mask {
                    None => self.t.run(format_args!("store {floats} {x}, ptr {at}, align 4")),
                    Some(mask) => self.t.run(format_args!(
                        "call void @llvm.masked.store.v{n}f32.p0({floats} {x}, ptr align 4 {at}, {bools} {mask})"
                    )),
                }
            }
        }
    }
}

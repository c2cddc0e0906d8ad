//! Products and forward substitutions: register tiles over panels of columns.
//!
//! ```text
//! driver   for every panel of columns (widest first), for every block of rows: a tile
//! tile     rows x vectors of accumulators; for k: one row of b, one scalar of a for every row, fused multiply-adds
//! ```
//! A triangular tile ends with the rows of its diagonal block, written out: row r takes k0 .. k0 + r only, so nothing
//! above the diagonal is read. A substitution does the same with its own accumulators in place of b.
//!
//! Rows that do not fill a tile: a full product takes a smaller tile whose missing rows repeat the last one (the same
//! numbers are written twice); a triangular one goes row by row.

use crate::kernel::{Access, Product, Solve, Triangle};

use super::kernel::Emitter;
use super::text::{Text, constant};
use super::{Routine, Target};

/// What a driver or a tile computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Full,
    Lower,
    StrictlyLower,
    LowerOut,
    Solve,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Lower => "lower",
            Kind::StrictlyLower => "strict",
            Kind::LowerOut => "out",
            Kind::Solve => "solve",
        }
    }
}

/// The shape of a register tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tile {
    rows: u32,
    vectors: u32,
    lanes: u32,
    /// The only vector may stand over the right edge.
    masked: bool,
}

impl Tile {
    pub(super) fn name(self) -> String {
        format!("{}x{}x{}{}", self.rows, self.vectors, self.lanes, if self.masked { ".masked" } else { "" })
    }

    fn columns(self) -> i64 {
        i64::from(self.vectors * self.lanes)
    }

    fn with_rows(self, rows: u32) -> Tile {
        Tile { rows, ..self }
    }

    /// The tiles for rows that do not fill this one, smallest first: each takes as many rows as it has, or a row less.
    fn smaller(self) -> impl Iterator<Item = Tile> {
        [1, 2, 4].into_iter().filter(move |rows| *rows < self.rows).map(move |rows| self.with_rows(rows))
    }
}

/// Panels of a target, widest first; the last one takes every column that is left. Accumulators, a row of b and a
/// scalar of a fit the vector registers: 32 with AVX-512 and NEON, else 16.
fn panels(target: &Target) -> Vec<Tile> {
    let tile = |rows, vectors, lanes, masked| Tile { rows, vectors, lanes, masked };
    match target.width {
        16 => vec![tile(6, 4, 16, false), tile(8, 2, 16, false), tile(8, 1, 16, true)],
        8 => vec![tile(6, 2, 8, false), tile(8, 1, 8, true)],
        w => vec![tile(4, 2, w, false), tile(6, 1, w, false), tile(4, 1, 1, false)],
    }
}

const PARAMS: &str =
    "ptr %c, i64 %ldc, ptr %a, i64 %am, i64 %ak, ptr %b, i64 %ldb, i64 %m, i64 %n, i64 %k, ptr %scale, i64 %sm";

/// The call of a driver or a tile, its sizes last: rows (all, or of this tile), columns, k.
struct Call<'c> {
    c: &'c str,
    ldc: &'c str,
    a: &'c str,
    am: &'c str,
    ak: &'c str,
    b: &'c str,
    ldb: &'c str,
    size: [&'c str; 3],
    /// What each row of c is multiplied by before the product is added, and its stride; a null pointer overwrites c.
    scale: [&'c str; 2],
}

impl Call<'_> {
    fn write(&self, t: &mut Text, routine: Routine) {
        let Call { c, ldc, a, am, ak, b, ldb, size: [m, n, k], scale: [scale, sm] } = self;
        t.run(format_args!(
            "call void @{}(ptr {c}, i64 {ldc}, ptr {a}, i64 {am}, i64 {ak}, ptr {b}, i64 {ldb}, i64 {m}, i64 {n}, i64 {k}, ptr {scale}, i64 {sm})",
            routine.name()
        ));
        t.needs.insert(routine);
    }
}

/// A matrix operand: its first element and its two strides.
struct Matrix {
    at: String,
    strides: [String; 2],
}

fn matrix(emitter: &mut Emitter<'_>, access: &Access) -> Matrix {
    let offset = emitter.int(&access.offset);
    let at = emitter.t.element(&format!("%b{}", access.buffer.0), &offset);
    let strides = [0, 1].map(|d| emitter.int(&access.strides[d]));
    Matrix { at, strides }
}

/// Adds to what stands in c.
const ADD: [&str; 2] = ["@one", "0"];
const OVERWRITE: [&str; 2] = ["null", "0"];

/// A product; with a factor, what it adds to is multiplied by it, row by row.
pub(super) fn product(emitter: &mut Emitter<'_>, product: &Product, factor: Option<&Access>) {
    let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| emitter.extent(x));
    let [c, a, b] = [&product.dst, &product.a, &product.b].map(|x| matrix(emitter, x));
    let kind = match product.shape {
        Triangle::Full => Kind::Full,
        Triangle::LowerLeft { strict: false } => Kind::Lower,
        Triangle::LowerLeft { strict: true } => Kind::StrictlyLower,
        Triangle::LowerOut => Kind::LowerOut,
    };
    let factor = factor.map(|factor| {
        let (offset, stride) = (emitter.int(&factor.offset), emitter.int(&factor.strides[0]));
        [emitter.t.element(&format!("%b{}", factor.buffer.0), &offset), stride]
    });
    let scale = match &factor {
        Some([scale, stride]) => [scale.as_str(), stride.as_str()],
        None => {
            if product.accumulate {
                ADD
            } else {
                OVERWRITE
            }
        }
    };
    call(&c, &a, &b, [&m, &n, &k], scale).write(&mut emitter.t, Routine::Driver(kind));
}

fn call<'c>(c: &'c Matrix, a: &'c Matrix, b: &'c Matrix, size: [&'c str; 3], scale: [&'c str; 2]) -> Call<'c> {
    let [am, ak] = &a.strides;
    Call { c: &c.at, ldc: &c.strides[0], a: &a.at, am, ak, b: &b.at, ldb: &b.strides[0], size, scale }
}

/// Rows that a substitution of several systems treats at once.
const BLOCK: i64 = 8;

pub(super) fn solve(emitter: &mut Emitter<'_>, solve: &Solve) {
    let [n, columns] = [&solve.n, &solve.columns].map(|x| emitter.extent(x));
    let x: Vec<Matrix> = solve.x.iter().map(|x| matrix(emitter, x)).collect();
    let p: Vec<Matrix> = solve.p.iter().map(|x| matrix(emitter, x)).collect();
    if let ([x], [p]) = (&x[..], &p[..]) {
        return call(x, p, x, [&n, &columns, "0"], ADD).write(&mut emitter.t, Routine::Driver(Kind::Solve));
    }
    let t = &mut emitter.t;
    let blocks = t.open("0", &n, BLOCK, &[]);
    let left = t.sub(&n, &blocks.index);
    let rows = t.smaller(&left, &BLOCK.to_string());
    // What the rows above the block give, all at once; then the block itself, row by row.
    systems(t, &x, &p, &columns, &Rows { first: &blocks.index, rows: &rows, from: "0", k: &blocks.index });
    let inner = t.open("0", &rows, 1, &[]);
    let row = t.add(&blocks.index, &inner.index);
    systems(t, &x, &p, &columns, &Rows { first: &row, rows: "1", from: &blocks.index, k: &inner.index });
    t.close(&inner, &[]);
    t.close(&blocks, &[]);
}

/// Rows of x to add to, and the rows that are added.
struct Rows<'r> {
    first: &'r str,
    rows: &'r str,
    from: &'r str,
    k: &'r str,
}

fn systems(t: &mut Text, x: &[Matrix], p: &[Matrix], columns: &str, at: &Rows<'_>) {
    for (i, c) in x.iter().enumerate() {
        for (j, b) in x.iter().enumerate() {
            let a = &p[i * x.len() + j];
            let shifted = |t: &mut Text, matrix: &Matrix, row: &str, column: &str| {
                let (down, right) = (t.mul(row, &matrix.strides[0]), t.mul(column, &matrix.strides[1]));
                let offset = t.add(&down, &right);
                Matrix { at: t.element(&matrix.at, &offset), strides: matrix.strides.clone() }
            };
            let c = shifted(t, c, at.first, "0");
            let a = shifted(t, a, at.first, at.from);
            let b = shifted(t, b, at.from, "0");
            call(&c, &a, &b, [at.rows, columns, at.k], ADD).write(t, Routine::Driver(Kind::Full));
        }
    }
}

/// Where a tile of a driver stands.
struct Spot<'s> {
    kind: Kind,
    tile: Tile,
    /// Its first row and first column.
    row: &'s str,
    column: &'s str,
}

impl Spot<'_> {
    /// A tile over `rows` rows and the first `k` of b.
    fn call(&self, t: &mut Text, kind: Kind, tile: Tile, row: &str, size: [&str; 2]) {
        let down = t.mul(row, "%ldc");
        let at = t.add(&down, self.column);
        let c = t.element("%c", &at);
        let down = t.mul(row, "%am");
        let a = t.element("%a", &down);
        let b = t.element("%b", self.column);
        let columns = t.sub("%n", self.column);
        let down = t.mul(row, "%sm");
        let scale = t.element("%scale", &down);
        Call {
            c: &c,
            ldc: "%ldc",
            a: &a,
            am: "%am",
            ak: "%ak",
            b: &b,
            ldb: "%ldb",
            size: [size[0], &columns, size[1]],
            scale: [&scale, "%sm"],
        }
        .write(t, Routine::Tile(kind, tile));
    }

    /// Rows from here on that are one tile: the smallest that holds what is left.
    fn full(&self, t: &mut Text) {
        let rows = t.sub("%m", self.row);
        let join = t.label("join");
        for tile in self.tile.smaller() {
            let [few, more] = ["few", "more"].map(|stem| t.label(stem));
            let enough = t.less(&rows, &(tile.rows + 1).to_string());
            t.branch(&enough, &few, &more);
            t.block(&few);
            self.call(t, Kind::Full, tile, self.row, [&rows, "%k"]);
            t.jump(&join);
            t.block(&more);
        }
        self.call(t, Kind::Full, self.tile, self.row, [&rows, "%k"]);
        t.jump(&join);
        t.block(&join);
    }

    /// A block on the diagonal: a whole tile, or what is left row by row. Below the last column of `a`, a full tile.
    fn triangular(&self, t: &mut Text) {
        let rows = self.tile.rows.to_string();
        let end = t.add(self.row, &rows);
        let limit = if self.kind == Kind::Solve { "%m".to_owned() } else { t.smaller("%m", "%k") };
        let [whole, ragged, join] = ["whole", "ragged", "join"].map(|stem| t.label(stem));
        if self.kind != Kind::Solve {
            let [below, near] = ["below", "near"].map(|stem| t.label(stem));
            let dense = t.less("%k", self.row);
            t.branch(&dense, &below, &near);
            t.block(&below);
            self.full(t);
            t.jump(&join);
            t.block(&near);
        }
        let over = t.less(&limit, &end);
        t.branch(&over, &ragged, &whole);
        t.block(&whole);
        self.call(t, self.kind, self.tile, self.row, [&rows, self.row]);
        t.jump(&join);
        t.block(&ragged);
        let to = t.smaller("%m", &end);
        let single = self.four(t, &limit);
        let each = t.open(&single, &to, 1, &[]);
        let mut k = if self.kind == Kind::Lower { t.add(&each.index, "1") } else { each.index.clone() };
        if self.kind != Kind::Solve {
            k = t.smaller(&k, "%k");
        }
        self.call(t, Kind::Full, self.tile.with_rows(1), &each.index, ["1", &k]);
        t.close(&each, &[]);
        t.jump(&join);
        t.block(&join);
    }
}

impl Spot<'_> {
    /// Of rows that do not fill a tile on the diagonal the first four at once, where there are as many; gives the row
    /// after those that are done.
    fn four(&self, t: &mut Text, limit: &str) -> String {
        let after = t.add(self.row, "4");
        let [tile, join] = ["four", "join"].map(|stem| t.label(stem));
        let before = t.here();
        let few = t.less(limit, &after);
        t.branch(&few, &join, &tile);
        t.block(&tile);
        self.call(t, self.kind, self.tile.with_rows(4), self.row, ["4", self.row]);
        t.jump(&join);
        t.block(&join);
        t.set(format_args!("phi i64 [ {}, %{before} ], [ {after}, %{tile} ]", self.row))
    }
}

/// A whole product as an internal function.
pub(super) fn driver(kind: Kind, target: &Target) -> (String, Text) {
    let mut t = Text::new(target.width);
    let mut column = "0".to_owned();
    let mut panels = panels(target);
    if kind == Kind::LowerOut {
        // Narrow panels follow the diagonal more closely.
        panels.retain(|tile| tile.vectors <= 2);
    }
    for tile in panels {
        let end = if tile.masked { "%n".to_owned() } else { t.sub("%n", &(tile.columns() - 1).to_string()) };
        // The loop's index goes on where the panel before stopped.
        let panel = t.open(&column, &end, tile.columns(), &[]);
        let first = match kind {
            // Blocks wholly above the diagonal are not needed.
            Kind::LowerOut => {
                let block = t.set(format_args!("sdiv i64 {}, {}", panel.index, tile.rows));
                t.mul(&block, &tile.rows.to_string())
            }
            _ => "0".to_owned(),
        };
        let rows = t.open(&first, "%m", tile.rows, &[]);
        let spot = Spot { kind, tile, row: &rows.index, column: &panel.index };
        match kind {
            Kind::Full | Kind::LowerOut => spot.full(&mut t),
            Kind::Lower | Kind::StrictlyLower | Kind::Solve => spot.triangular(&mut t),
        }
        t.close(&rows, &[]);
        t.close(&panel, &[]);
        column = panel.index;
    }
    t.run("ret void");
    (format!("define internal void @{}({PARAMS}) noinline #0", Routine::Driver(kind).name()), t)
}

/// Terms that are summed on their own before they join the total: long sums lose less to rounding.
const RUN: i64 = 64;

/// A tile as an internal function: `%m` rows and `%n` columns are left here, `%k` rows of b count. Between runs the
/// totals lie in c, so that the sums have the registers to themselves.
pub(super) fn tile(kind: Kind, tile: Tile) -> (String, Text) {
    let mut writer = Writer { t: Text::new(tile.lanes), tile, mask: None, r: Vec::new(), a: Vec::new(), c: Vec::new() };
    writer.rows(kind);
    // Of nothing there is a sum too.
    let end = writer.t.larger("%k", "1");
    let runs = writer.t.open("0", &end, RUN, &[]);
    let to = writer.t.add(&runs.index, &RUN.to_string());
    let to = writer.t.smaller(&to, "%k");
    let mut sums = writer.sums(&runs.index, &to);
    let later = writer.t.less("0", &runs.index);
    let adds = writer.t.set("icmp ne ptr %scale, null");
    let join = writer.t.set(format_args!("or i1 {later}, {adds}"));
    let scale = writer.t.set(format_args!("select i1 {later}, ptr @one, ptr %scale"));
    let stride = writer.t.set(format_args!("select i1 {later}, i64 0, i64 %sm"));
    sums = writer.given(&join, sums, |writer, sums| writer.joined(sums, &scale, &stride));
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

    /// sums += scale c
    fn joined(&mut self, sums: &mut [String], scale: &str, stride: &str) {
        for r in 0..self.tile.rows as usize {
            let (c, row) = (self.c[r].clone(), self.r[r].clone());
            let down = self.t.mul(&row, stride);
            let at = self.t.element(scale, &down);
            let factor = self.t.set(format_args!("load float, ptr {at}, align 4"));
            let factor = self.t.splat("float", &factor);
            for v in 0..self.tile.vectors {
                let total = self.vector(&c, v);
                let sum = &mut sums[r * self.tile.vectors as usize + v as usize];
                *sum = self.t.fma(&factor, &total, sum);
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

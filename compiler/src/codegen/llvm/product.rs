//! Products and forward substitutions: register tiles over panels of columns.
//!
//! ```text
//! driver   for every panel of columns (widest first), for every block of rows: a tile (`tile`)
//! ```
//! Rows that do not fill a tile: a full product takes a smaller tile whose missing rows repeat the last one (the same
//! numbers are written twice); a triangular one goes row by row.

use crate::kernel::{Access, Product, Solve, Triangle};

use super::kernel::Emitter;
use super::text::Text;
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
    pub(super) rows: u32,
    pub(super) vectors: u32,
    pub(super) lanes: u32,
    /// The only vector may stand over the right edge.
    pub(super) masked: bool,
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

/// What a driver and a tile take.
pub(super) const PARAMS: &str = "ptr %c, i64 %ldc, ptr %a, i64 %am, i64 %ak, ptr %b, i64 %ldb, i64 %m, i64 %n, i64 %k, ptr %lost, i64 %sm, ptr %factor";

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
    /// What each row of c is multiplied by before the product is added: what the factors lost, their stride, the factors.
    scale: [&'c str; 3],
}

impl Call<'_> {
    fn write(&self, t: &mut Text, routine: Routine) {
        let Call { c, ldc, a, am, ak, b, ldb, size: [m, n, k], scale: [lost, sm, factor] } = self;
        t.run(format_args!(
            "call void @{}(ptr {c}, i64 {ldc}, ptr {a}, i64 {am}, i64 {ak}, ptr {b}, i64 {ldb}, i64 {m}, i64 {n}, i64 {k}, ptr {lost}, i64 {sm}, ptr {factor})",
            routine.name()
        ));
        t.needs.insert(routine);
    }
}

/// A matrix operand: its first element and its two strides.
pub(super) struct Matrix {
    pub(super) at: String,
    pub(super) strides: [String; 2],
}

pub(super) fn matrix(emitter: &mut Emitter<'_>, access: &Access) -> Matrix {
    let offset = emitter.int(&access.offset);
    let at = emitter.t.element(&format!("%b{}", access.buffer.0), &offset);
    let strides = [0, 1].map(|d| emitter.int(&access.strides[d]));
    Matrix { at, strides }
}

/// Adds to what stands in c.
const ADD: [&str; 3] = ["@one", "0", "null"];
const OVERWRITE: [&str; 3] = ["null", "0", "null"];

/// A product; with factors, what it adds to is multiplied by their sum, row by row.
pub(super) fn product(emitter: &mut Emitter<'_>, product: &Product, factors: Option<&[Access; 2]>) {
    let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| emitter.extent(x));
    let [c, a, b] = [&product.dst, &product.a, &product.b].map(|x| matrix(emitter, x));
    let kind = match product.shape {
        Triangle::Full => Kind::Full,
        Triangle::LowerLeft { strict: false } => Kind::Lower,
        Triangle::LowerLeft { strict: true } => Kind::StrictlyLower,
        Triangle::LowerOut => Kind::LowerOut,
    };
    let factors = factors.map(|[factor, lost]| {
        let mut first = |factor: &Access| {
            let offset = emitter.int(&factor.offset);
            emitter.t.element(&format!("%b{}", factor.buffer.0), &offset)
        };
        [first(lost), first(factor), emitter.int(&lost.strides[0])]
    });
    let scale = match &factors {
        Some([lost, factor, stride]) => [lost.as_str(), stride.as_str(), factor.as_str()],
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

fn call<'c>(c: &'c Matrix, a: &'c Matrix, b: &'c Matrix, size: [&'c str; 3], scale: [&'c str; 3]) -> Call<'c> {
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
        let [lost, factor] = ["%lost", "%factor"].map(|base| t.element(base, &down));
        Call {
            c: &c,
            ldc: "%ldc",
            a: &a,
            am: "%am",
            ak: "%ak",
            b: &b,
            ldb: "%ldb",
            size: [size[0], &columns, size[1]],
            scale: [&lost, "%sm", &factor],
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

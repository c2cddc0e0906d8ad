//! Products of rows with rows: every element is a dot product, and both operands lie as they are read.
//!
//! ```text
//! product.dots   for every block of rows, for every block of columns that is needed: a tile
//! tile.dots      for k by vectors: a vector of every row and every column, fused multiply-adds of all pairs;
//!                the sums of lanes of all pairs at once, one vector of results
//! ```
//! Rows and columns over the edge repeat the last one.

use crate::kernel::{Int, Product, Triangle};

use super::kernel::Emitter;
use super::product::matrix;
use super::text::{Text, constant};
use super::{Routine, Target};

const PARAMS: &str = "ptr %c, i64 %ldc, ptr %a, i64 %am, ptr %b, i64 %bn, i64 %m, i64 %n, i64 %k";

/// Whether both operands of a product run along k.
pub(super) fn along(product: &Product) -> bool {
    product.b.strides[1] != Int::Const(1)
}

/// Rows and columns of a tile: as many pairs as a vector has lanes.
fn block(target: &Target) -> [u32; 2] {
    match target.width {
        16 => [4, 4],
        8 => [2, 4],
        _ => [2, 2],
    }
}

pub(super) fn product(emitter: &mut Emitter<'_>, product: &Product) {
    let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| emitter.extent(x));
    let [c, a, b] = [&product.dst, &product.a, &product.b].map(|x| matrix(emitter, x));
    let (ldc, am, bn) = (&c.strides[0], &a.strides[0], &b.strides[1]);
    let lower = product.shape == Triangle::LowerOut;
    let routine = Routine::Dots { lower };
    let (t, name) = (&mut emitter.t, routine.name());
    t.run(format_args!(
        "call void @{name}(ptr {}, i64 {ldc}, ptr {}, i64 {am}, ptr {}, i64 {bn}, i64 {m}, i64 {n}, i64 {k})",
        c.at, a.at, b.at
    ));
    t.needs.insert(routine);
}

/// A whole product as an internal function.
pub(super) fn driver(lower: bool, target: &Target) -> (String, Text) {
    let [height, width] = block(target).map(i64::from);
    let mut t = Text::new(target.width);
    let rows = t.open("0", "%m", height, &[]);
    let end = match lower {
        true => {
            let below = t.add(&rows.index, &height.to_string());
            t.smaller("%n", &below)
        }
        false => "%n".to_owned(),
    };
    let columns = t.open("0", &end, width, &[]);
    let down = t.mul(&rows.index, "%ldc");
    let at = t.add(&down, &columns.index);
    let c = t.element("%c", &at);
    let down = t.mul(&rows.index, "%am");
    let a = t.element("%a", &down);
    let down = t.mul(&columns.index, "%bn");
    let b = t.element("%b", &down);
    let [m, n] = [("%m", &rows), ("%n", &columns)].map(|(end, opened)| t.sub(end, &opened.index));
    let name = Routine::DotTile.name();
    t.run(format_args!(
        "call void @{name}(ptr {c}, i64 %ldc, ptr {a}, i64 %am, ptr {b}, i64 %bn, i64 {m}, i64 {n}, i64 %k)"
    ));
    t.needs.insert(Routine::DotTile);
    t.close(&columns, &[]);
    t.close(&rows, &[]);
    t.run("ret void");
    (format!("define internal void @{}({PARAMS}) noinline #0", Routine::Dots { lower }.name()), t)
}

/// A tile as an internal function: `%m` rows and `%n` columns are left here.
pub(super) fn tile(target: &Target) -> (String, Text) {
    let [height, width] = block(target);
    let mut t = Text::new(target.width);
    let a = starts(&mut t, ["%a", "%am", "%m"], height);
    let b = starts(&mut t, ["%b", "%bn", "%n"], width);
    let whole = t.set(format_args!("and i64 %k, {}", -i64::from(target.width)));
    let zeros = vec![(t.floats(), constant(0.0)); (height * width) as usize];
    let around = t.open("0", &whole, target.width, &zeros);
    let sums = step(&mut t, (&a, &b), &around.carried, &|t, row| {
        let (at, floats) = (t.element(row, &around.index), t.floats());
        t.set(format_args!("load {floats}, ptr {at}, align 4"))
    });
    t.close(&around, &sums);
    let [tail, join] = ["tail", "join"].map(|stem| t.label(stem));
    let (before, more) = (t.here(), t.less(&whole, "%k"));
    t.branch(&more, &tail, &join);
    t.block(&tail);
    let left = t.sub("%k", &whole);
    let mask = first_lanes(&mut t, &left);
    let last = step(&mut t, (&a, &b), &around.carried, &|t, row| {
        let at = t.element(row, &whole);
        let (floats, bools, n) = (t.floats(), t.vector("i1"), t.lanes);
        t.set(format_args!(
            "call {floats} @llvm.masked.load.v{n}f32.p0(ptr align 4 {at}, {bools} {mask}, {floats} zeroinitializer)"
        ))
    });
    let after = t.here();
    t.jump(&join);
    t.block(&join);
    let floats = t.floats();
    let either = |(x, y)| t.set(format_args!("phi {floats} [ {x}, %{before} ], [ {y}, %{after} ]"));
    let sums = around.carried.iter().zip(&last).map(either).collect();
    let results = summed(&mut t, sums);
    store(&mut t, &results, [height, width]);
    t.run("ret void");
    (format!("define internal void @{}({PARAMS}) noinline #0", Routine::DotTile.name()), t)
}

/// Where so many rows start; those that are not there are the last one.
fn starts(t: &mut Text, [base, stride, left]: [&str; 3], count: u32) -> Vec<String> {
    let last = t.sub(left, "1");
    let start = |row: u32| {
        let row = if row == 0 { "0".to_owned() } else { t.smaller(&row.to_string(), &last) };
        let down = t.mul(&row, stride);
        t.element(base, &down)
    };
    (0..count).map(start).collect()
}

/// The sums of all pairs with one more vector of each row.
fn step(
    t: &mut Text,
    (a, b): (&[String], &[String]),
    sums: &[String],
    load: &dyn Fn(&mut Text, &str) -> String,
) -> Vec<String> {
    let b: Vec<String> = b.iter().map(|row| load(t, row)).collect();
    let mut next = Vec::with_capacity(sums.len());
    for row in a {
        let x = load(t, row);
        for y in &b {
            next.push(t.fma(&x, y, &sums[next.len()]));
        }
    }
    next
}

/// The lanes below `left`.
fn first_lanes(t: &mut Text, left: &str) -> String {
    let left = t.set(format_args!("trunc i64 {left} to i32"));
    let left = t.splat("i32", &left);
    let (ints, iota) = (t.vector("i32"), t.iota("i32"));
    t.set(format_args!("icmp slt {ints} {iota}, {left}"))
}

/// As many vectors as one has lanes: lane i of the result is the sum of all lanes of vector i. First within quarters of
/// 128 bits, where shuffles are cheap: quarter by quarter, the partial sums of four vectors. Then quarters join.
fn summed(t: &mut Text, all: Vec<String>) -> String {
    let mut sums: Vec<String> = Vec::new();
    for four in all.chunks(QUARTER as usize) {
        let [low, high] = [0, 2].map(|first| added(t, [&four[first], &four[first + 1]], in_turn));
        sums.push(added(t, [&low, &high], in_pairs));
    }
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|two| added(t, [&two[0], &two[1]], by_quarters)).collect();
    }
    sums.remove(0)
}

/// Of every quarter of x and y: x0 y0 x1 y1, and x2 y2 x3 y3.
fn in_turn(n: u32, [i, second]: [u32; 2]) -> u32 {
    let (quarter, lane) = (i / QUARTER * QUARTER, i % QUARTER);
    quarter + 2 * second + lane / 2 + lane % 2 * n
}

/// Of every quarter of x and y: x0 x1 y0 y1, and x2 x3 y2 y3.
fn in_pairs(n: u32, [i, second]: [u32; 2]) -> u32 {
    let (quarter, lane) = (i / QUARTER * QUARTER, i % QUARTER);
    quarter + 2 * second + lane % 2 + lane / 2 * n
}

/// The even quarters of x and of y, and the odd ones.
fn by_quarters(n: u32, [i, second]: [u32; 2]) -> u32 {
    let (quarter, lane, each) = (i / QUARTER, i % QUARTER, n / QUARTER / 2);
    (2 * (quarter % each) + second) * QUARTER + lane + quarter / each * n
}

/// Lanes of 128 bits.
const QUARTER: u32 = 4;

/// The sum of two choices of the lanes of x and y: `lane(n, [i, choice])` is what lane i of a choice is, of 0..n in x and
/// n..2n in y.
fn added(t: &mut Text, [x, y]: [&str; 2], lane: impl Fn(u32, [u32; 2]) -> u32) -> String {
    let (floats, n) = (t.floats(), t.lanes);
    let [first, second] = [0, 1].map(|choice| {
        let lanes: Vec<String> = (0..n).map(|i| format!("i32 {}", lane(n, [i, choice]))).collect();
        t.set(format_args!("shufflevector {floats} {x}, {floats} {y}, <{n} x i32> <{}>", lanes.join(", ")))
    });
    t.float("fadd", &first, &second)
}

/// Row by row, the columns that are there.
fn store(t: &mut Text, results: &str, [height, width]: [u32; 2]) {
    let (floats, n) = (t.floats(), t.lanes);
    let last = t.sub("%m", "1");
    t.lanes = width;
    let mask = {
        let left = t.smaller("%n", &width.to_string());
        first_lanes(t, &left)
    };
    let (part, bools) = (t.floats(), t.vector("i1"));
    for r in 0..height {
        let lanes: Vec<String> = (0..width).map(|c| format!("i32 {}", r * width + c)).collect();
        let x = t.set(format_args!(
            "shufflevector {floats} {results}, {floats} poison, <{width} x i32> <{}>",
            lanes.join(", ")
        ));
        // A row that repeats the last one holds the same numbers.
        let row = if r == 0 { "0".to_owned() } else { t.smaller(&r.to_string(), &last) };
        let down = t.mul(&row, "%ldc");
        let at = t.element("%c", &down);
        t.run(format_args!(
            "call void @llvm.masked.store.v{width}f32.p0({part} {x}, ptr align 4 {at}, {bools} {mask})"
        ));
    }
    t.lanes = n;
}

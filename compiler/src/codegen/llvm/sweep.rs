//! Sweeps: strips of columns, all rows of a strip one after another, what is read summed in registers.
//!
//! ```text
//! for every strip of columns (widest first)     u of its columns in registers
//!     for every run of rows                     sums of their own, so that long sums lose less to rounding
//!         for every group of rows: s = factor * from + (lost * from + w * u), stored; sums += x * s
//!     y = sums
//! ```
//! The rows of a group have sums of their own: one sum alone would wait for the multiply-add before it.

mod spec;

use crate::kernel::{Access, Sweep};

use super::kernel::Emitter;
use super::text::{Text, constant};
use super::{Routine, Target};

pub(super) use spec::Spec;
use spec::{Kept, Stride};

/// A strip: vectors of lanes beside each other, and rows that are treated together.
#[derive(Debug, Clone, Copy)]
struct Strip {
    vectors: usize,
    lanes: u32,
    group: i64,
    /// The only vector may stand over the right edge.
    masked: bool,
}

/// Strips of a target, widest first; the last one takes every column that is left.
fn strips(spec: Spec, target: &Target) -> Vec<Strip> {
    let (registers, last) = match target.width {
        16 => (32, Strip { vectors: 1, lanes: 16, group: 4, masked: true }),
        8 => (16, Strip { vectors: 1, lanes: 8, group: 2, masked: true }),
        _ => (16, Strip { vectors: 1, lanes: 1, group: 2, masked: false }),
    };
    let strip = |vectors, group| Strip { vectors, lanes: target.width, group, masked: false };
    // The elements at hand, a factor and the product on the way take registers beside the sums and the rows added.
    let fits = |strip: &Strip| {
        let held = strip.vectors * (strip.group as usize * spec.reads().count() + spec.ranks().count());
        held + strip.vectors + 4 <= registers
    };
    let mut all: Vec<Strip> =
        [strip(4, 2), strip(4, 1), strip(2, 4), strip(2, 2), strip(1, 2)].into_iter().filter(fits).collect();
    all.dedup_by_key(|strip| strip.vectors);
    all.push(last);
    all
}

/// The argument names of a routine, in order.
fn arguments(spec: Spec) -> Vec<String> {
    let mut all: Vec<String> = ["ptr %s", "i64 %lds"].map(str::to_owned).to_vec();
    if spec.from().is_some() {
        all.extend(["ptr %f", "i64 %ldf"].map(str::to_owned));
    }
    if spec.keeps() != Kept::All {
        all.extend(["ptr %a", "i64 %as"].map(str::to_owned));
    }
    if spec.loses() {
        all.extend(["ptr %e", "i64 %es"].map(str::to_owned));
    }
    for r in 0..spec.ranks().count() {
        all.extend([format!("ptr %w{r}"), format!("i64 %ws{r}"), format!("ptr %u{r}")]);
    }
    for m in 0..spec.reads().count() {
        all.extend([format!("ptr %x{m}"), format!("i64 %xs{m}"), format!("ptr %y{m}")]);
    }
    all.extend(["i64 %rows", "i64 %columns"].map(str::to_owned));
    all
}

pub(super) fn sweep(emitter: &mut Emitter<'_>, sweep: &Sweep) {
    let spec = Spec::of(sweep);
    let mut values = Vec::new();
    let mut place = |access: &Access, strided: bool| {
        let offset = emitter.int(&access.offset);
        values.push(emitter.t.element(&format!("%b{}", access.buffer.0), &offset));
        if strided {
            let stride = emitter.int(&access.strides[0]);
            values.push(stride);
        }
    };
    place(&sweep.state, true);
    if let Some(update) = &sweep.update {
        if spec.from().is_some() {
            place(&update.from, true);
        }
        if let Some(keep) = &update.keep {
            keep.factors().for_each(|factor| place(factor, true));
        }
    }
    let ranks = sweep.update.iter().flat_map(|update| &update.ranks);
    for outer in ranks.chain(&sweep.reads) {
        place(&outer.row, true);
        place(&outer.column, false);
    }
    values.extend([&sweep.rows, &sweep.columns].map(|x| emitter.extent(x)));
    let arguments = arguments(spec);
    let typed = |(argument, value): (&String, &String)| {
        format!("{} {value}", if argument.starts_with("ptr") { "ptr" } else { "i64" })
    };
    let list: Vec<String> = arguments.iter().zip(&values).map(typed).collect();
    let routine = Routine::Sweep(spec);
    emitter.t.run(format_args!("call void @{}({})", routine.name(), list.join(", ")));
    emitter.t.needs.insert(routine);
}

/// A sweep as an internal function.
pub(super) fn define(spec: Spec, target: &Target) -> (String, Text) {
    let mut t = Text::new(target.width);
    let mut column = "0".to_owned();
    for strip in strips(spec, target) {
        let width = strip.vectors as i64 * i64::from(strip.lanes);
        let end = if strip.masked { "%columns".to_owned() } else { t.sub("%columns", &(width - 1).to_string()) };
        // The loop's index goes on where the strips before stopped.
        let strips = t.open(&column, &end, width, &[]);
        t.lanes = strip.lanes;
        Writer::new(&mut t, spec, strip, &strips.index).write();
        t.close(&strips, &[]);
        column = strips.index;
    }
    t.run("ret void");
    (format!("define internal void @{}({}) noinline #0", spec.name(), arguments(spec).join(", ")), t)
}

/// Terms of a sum of its own.
const RUN: i64 = 64;

/// What a row of the tile before is multiplied by.
#[derive(Debug, Clone, Default)]
struct Factors {
    factor: Option<String>,
    lost: Option<String>,
}

/// A strip being written.
struct Writer<'t> {
    t: &'t mut Text,
    spec: Spec,
    strip: Strip,
    mask: Option<String>,
    state: String,
    from: String,
    /// The factors of all rows.
    keep: Factors,
    /// A vector a rank and column.
    added: Vec<Vec<String>>,
    /// The first column.
    column: String,
}

impl<'t> Writer<'t> {
    fn new(t: &'t mut Text, spec: Spec, strip: Strip, column: &str) -> Self {
        let mask = strip.masked.then(|| {
            let left = t.sub("%columns", column);
            let left = t.smaller(&left, &strip.lanes.to_string());
            let left = t.set(format_args!("trunc i64 {left} to i32"));
            let left = t.splat("i32", &left);
            let (ints, iota) = (t.vector("i32"), t.iota("i32"));
            t.set(format_args!("icmp slt {ints} {iota}, {left}"))
        });
        let state = t.element("%s", column);
        let from = if spec.from().is_some() { t.element("%f", column) } else { state.clone() };
        let (added, column) = (Vec::new(), column.to_owned());
        let mut writer = Self { t, spec, strip, mask, state, from, keep: Factors::default(), added, column };
        if spec.keeps() == Kept::Scaled {
            writer.keep = writer.kept("0", Stride::Known(0));
        }
        for r in 0..spec.ranks().count() {
            let row = writer.t.element(&format!("%u{r}"), &writer.column);
            let row = (0..strip.vectors).map(|v| writer.load(&row, v)).collect();
            writer.added.push(row);
        }
        writer
    }

    fn write(mut self) {
        let (floats, group) = (self.t.floats(), self.strip.group);
        let sums = self.spec.reads().count() * self.strip.vectors;
        let zeros = |n: usize| vec![(floats.clone(), constant(0.0)); n];
        let runs = self.t.open("0", "%rows", RUN * group, &zeros(sums));
        let end = self.t.add(&runs.index, &(RUN * group).to_string());
        let end = self.t.smaller(&end, "%rows");
        let length = self.t.sub(&end, &runs.index);
        let whole = self.t.set(format_args!("and i64 {length}, {}", -group));
        let whole = self.t.add(&runs.index, &whole);
        let groups = self.t.open(&runs.index, &whole, group, &zeros(sums * group as usize));
        let mut carried = groups.carried.clone();
        for row in 0..group as usize {
            let at = self.t.add(&groups.index, &row.to_string());
            self.row(&at, &mut carried[row * sums..(row + 1) * sums]);
        }
        self.t.close(&groups, &carried);
        let first: Vec<(String, String)> = groups.carried[..sums].iter().map(|x| (floats.clone(), x.clone())).collect();
        let rest = self.t.open(&whole, &end, 1, &first);
        let mut carried = rest.carried.clone();
        self.row(&rest.index, &mut carried);
        self.t.close(&rest, &carried);
        let mut totals = runs.carried.clone();
        for (place, total) in totals.iter_mut().enumerate() {
            let mut sum = rest.carried[place].clone();
            for row in 1..group as usize {
                sum = self.t.exact("fadd", &sum, &groups.carried[row * sums + place]);
            }
            *total = self.t.exact("fadd", total, &sum);
        }
        self.t.close(&runs, &totals);
        for m in 0..self.spec.reads().count() {
            let to = self.t.element(&format!("%y{m}"), &self.column);
            for v in 0..self.strip.vectors {
                self.store(&to, v, &runs.carried[m * self.strip.vectors + v]);
            }
        }
    }

    /// One row: its new elements, and what they add to the sums.
    fn row(&mut self, at: &str, sums: &mut [String]) {
        let (spec, vectors) = (self.spec, self.strip.vectors);
        let own = self.t.mul(at, &spec.state.operand("%lds"));
        let to = self.t.element(&self.state, &own);
        let from = match spec.from() {
            None => to.clone(),
            Some(stride) => {
                let down = self.t.mul(at, &stride.operand("%ldf"));
                self.t.element(&self.from, &down)
            }
        };
        let mut x: Vec<String> = (0..vectors).map(|v| self.load(&from, v)).collect();
        if spec.update.is_some() {
            let keep = match spec.keeps() {
                Kept::All => Factors::default(),
                Kept::Scaled => self.keep.clone(),
                Kept::Rows(stride) => self.kept(at, stride),
            };
            let factors = spec.ranks().enumerate().map(|(r, stride)| self.factor(&format!("%w{r}"), at, stride));
            let factors: Vec<String> = factors.collect();
            for (v, x) in x.iter_mut().enumerate() {
                *x = self.element(x, &keep, &factors, v);
            }
            for (v, x) in x.iter().enumerate() {
                self.store(&to, v, x);
            }
        }
        for (m, stride) in spec.reads().enumerate() {
            let factor = self.factor(&format!("%x{m}"), at, stride);
            for (v, x) in x.iter().enumerate() {
                let sum = &mut sums[m * vectors + v];
                *sum = self.t.fma(&factor, x, sum);
            }
        }
    }

    /// factor * x + (lost * x + sum of factor * row). What does not wait for x comes first.
    fn element(&mut self, x: &str, keep: &Factors, factors: &[String], v: usize) -> String {
        let mut pairs = factors.iter().zip(&self.added).map(|(factor, row)| (factor.clone(), row[v].clone()));
        let Some(factor) = &keep.factor else {
            return pairs.fold(x.to_owned(), |sum, (factor, row)| self.t.fma(&factor, &row, &sum));
        };
        let Some((first, row)) = pairs.next() else { return self.t.float("fmul", factor, x) };
        let mut sum = self.t.float("fmul", &first, &row);
        for (factor, row) in pairs {
            sum = self.t.fma(&factor, &row, &sum);
        }
        if let Some(lost) = &keep.lost {
            sum = self.t.fma(lost, x, &sum);
        }
        self.t.fma(factor, x, &sum)
    }

    /// What is kept of a row.
    fn kept(&mut self, at: &str, stride: Stride) -> Factors {
        let factor = Some(self.factor("%a", at, stride));
        let lost = self.spec.loses().then(|| self.factor("%e", at, stride));
        Factors { factor, lost }
    }

    /// Element `at` of the factors at `base`, in all lanes.
    fn factor(&mut self, base: &str, at: &str, stride: Stride) -> String {
        let named = format!("%{}s{}", &base[1..2], &base[2..]);
        let at = self.t.mul(at, &stride.operand(&named));
        let from = self.t.element(base, &at);
        let x = self.t.set(format_args!("load float, ptr {from}, align 4"));
        self.t.splat("float", &x)
    }

    fn load(&mut self, from: &str, v: usize) -> String {
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.strip.lanes);
        let at = self.t.element(from, &(v * n as usize).to_string());
        match &self.mask {
            None => self.t.set(format_args!("load {floats}, ptr {at}, align 4")),
            Some(mask) => self.t.set(format_args!(
                "call {floats} @llvm.masked.load.v{n}f32.p0(ptr align 4 {at}, {bools} {mask}, {floats} zeroinitializer)"
            )),
        }
    }

    fn store(&mut self, to: &str, v: usize, x: &str) {
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.strip.lanes);
        let at = self.t.element(to, &(v * n as usize).to_string());
        match &self.mask {
            None => self.t.run(format_args!("store {floats} {x}, ptr {at}, align 4")),
            Some(mask) => self.t.run(format_args!(
                "call void @llvm.masked.store.v{n}f32.p0({floats} {x}, ptr align 4 {at}, {bools} {mask})"
            )),
        }
    }
}

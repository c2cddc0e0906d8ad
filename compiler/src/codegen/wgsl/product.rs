//! Products: a register tile an invocation, or, where outputs are few, several invocations an output.
//!
//! A tile is some rows one after another and some columns far apart: neighbouring invocations then read neighbouring
//! columns. Of a triangle only the last steps along k differ between the rows of a tile; there each row takes what is
//! its own by a select, so that what lies outside reaches nothing.

use std::collections::BTreeSet;

use crate::kernel::range::Ranges;
use crate::kernel::{self, BufferId, Int, Module, Product, ReduceOp, Triangle};

use super::Precision;
use super::cooperative;
use super::map::{Elements, shared_out};
use super::shader::Emitter;
use super::value::Spot;

/// Rows and columns of a register tile, the largest first.
const TILES: [(u64, u64); 7] = [(8, 4), (4, 4), (4, 2), (2, 4), (2, 2), (1, 2), (2, 1)];

/// How many invocations share an output: a power of two.
pub(super) fn slices(ranges: &Ranges, product: &Product, invocations: u32) -> u64 {
    let k = ranges.most(&product.k).unwrap_or(i64::MAX);
    let outputs = ranges.volume(&[product.m.clone(), product.n.clone()]).filter(|&n| n > 0);
    let Some(outputs) = outputs else { return 1 };
    let mut slices = 1;
    while outputs as u64 * slices * 2 <= u64::from(invocations) && slices as i64 * 8 <= k {
        slices *= 2;
    }
    slices
}

/// The largest tile that leaves every invocation one; bounds of the extents, where they are known.
fn tile(rows: Option<i64>, columns: Option<i64>, invocations: u32) -> (u64, u64) {
    let known = |most: Option<i64>| most.map_or(1 << 20, |n| n.max(1) as u64);
    let (rows, columns) = (known(rows), known(columns));
    let tiles = |(r, c): (u64, u64)| rows.div_ceil(r) * columns.div_ceil(c);
    let fits = |&(r, c): &(u64, u64)| r <= rows && c <= columns && tiles((r, c)) >= u64::from(invocations) * 3 / 4;
    TILES.into_iter().find(fits).unwrap_or((1, 1))
}

/// What a product rounds to f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounds {
    /// Both factors.
    Factors,
    Nothing,
}

/// What stays f32 where products round: what they write that is `kernel::exact`, and factors that are `kernel::held`.
#[derive(Debug, Default)]
pub(super) struct Kept {
    exact: BTreeSet<BufferId>,
    held: BTreeSet<BufferId>,
}

impl Kept {
    pub(super) fn of(module: &Module) -> Self {
        Self { exact: kernel::exact(module), held: kernel::held(module) }
    }

    /// Of one factor that is not rounded the other is not either: no hardware multiplies f32 by f16.
    pub(super) fn rounds(&self, product: &Product, precision: Precision) -> Rounds {
        let Product { dst, a, b, .. } = product;
        let kept = self.exact.contains(&dst.buffer) || [a, b].iter().any(|factor| self.held.contains(&factor.buffer));
        if precision == Precision::F16 && !kept { Rounds::Factors } else { Rounds::Nothing }
    }
}

/// Which steps along k a row takes, beside `from` and `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    All,
    /// Row i takes k < i + this.
    Below(i64),
}

/// A sum of products of the same extents: `dst[i, j] (+)= sum over pairs and k of a[i, k] * b[k, j]`.
pub(super) struct Sum<'s> {
    /// Rows, from and up to.
    pub(super) rows: (String, String),
    pub(super) columns: String,
    pub(super) inner: (String, String),
    pub(super) pairs: Vec<(&'s Spot, &'s Spot)>,
    pub(super) dst: &'s Spot,
    pub(super) accumulate: bool,
    pub(super) steps: Steps,
    /// Whether rows end at the diagonal.
    pub(super) lower: bool,
    /// Bounds of the number of rows and columns, where they are known.
    pub(super) most: (Option<i64>, Option<i64>),
    /// Bounds of rows, columns and steps in terms of params.
    pub(super) bounds: [Int; 3],
    /// Whether those bounds are always reached.
    pub(super) exact: (bool, bool),
}

impl Emitter<'_> {
    pub(super) fn product(&mut self, product: &Product) {
        let rounds = self.frame.kept.rounds(product, self.frame.options.precision);
        if let Some(plan) = cooperative::plan(product, self.ranges, (self.frame.options, rounds), self.invocations) {
            return self.cooperate(product, &plan);
        }
        let slices = slices(self.ranges, product, self.invocations);
        let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| self.extent(x));
        let dst = self.spot(&product.dst);
        let [a, b] = [&product.a, &product.b].map(|x| self.factor(x, rounds));
        let mut read = vec![self.touch(&product.a, false, None), self.touch(&product.b, false, None)];
        let mut written = vec![self.touch(&product.dst, true, None)];
        if product.accumulate {
            written.push(self.touch(&product.dst, false, None));
        }
        let steps = match product.shape {
            Triangle::LowerLeft { strict } => Steps::Below(i64::from(!strict)),
            Triangle::Full | Triangle::LowerOut => Steps::All,
        };
        if slices == 1 {
            read.extend(written);
            self.before(&read);
            let constant = |x: &Int| matches!(x, Int::Const(_));
            let bounds = [&product.m, &product.n, &product.k].map(|x| self.most_of(x));
            return self.tiles(&Sum {
                rows: ("0".to_owned(), m),
                columns: n,
                inner: ("0".to_owned(), k),
                pairs: vec![(&a, &b)],
                dst: &dst,
                accumulate: product.accumulate,
                steps,
                lower: product.shape == Triangle::LowerOut,
                most: (self.ranges.most(&product.m), self.ranges.most(&product.n)),
                bounds,
                exact: (constant(&product.m), constant(&product.n)),
            });
        }
        let elements = self.elements(&[product.m.clone(), product.n.clone()]);
        let count = elements.most.unwrap_or(1);
        read.push(self.shared(true));
        self.before(&read);
        let inner = self.most_of(&product.k);
        self.partial_sums(&elements, (slices, count), steps, (&a, &b, (&k, inner)));
        written.push(self.shared(false));
        self.before(&written);
        self.each(&elements, 1, |this, number| {
            this.element(&elements, number, |this, index| {
                let sum = this.gather(ReduceOp::Sum, number, &format!("{count}u"), slices);
                let x = if product.accumulate { format!("{} + {sum}", dst.load(index)) } else { sum };
                this.store(&dst, index, &x);
            });
        });
    }

    /// Each invocation sums every `slices`-th product of an output into its place in workgroup memory.
    fn partial_sums(
        &mut self,
        elements: &Elements,
        (slices, count): (u64, u64),
        steps: Steps,
        (a, b, (k, inner)): (&Spot, &Spot, (&str, Int)),
    ) {
        let numbered = elements.counted(count);
        self.each(&numbered, slices, |this, number| {
            let slice = this.t.set("i", format_args!("i32({number} / {count}u)"));
            this.element(&numbered, &format!("({number} % {count}u)"), |this, index| {
                let (i, j) = (&index[0], &index[1]);
                let (sum, r) = (this.t.fresh("s"), this.t.fresh("r"));
                this.t.line(format_args!("var {sum} = 0.0f;"));
                let to = match steps {
                    Steps::All => k.to_owned(),
                    Steps::Below(more) => format!("min({k}, {i} + {more})"),
                };
                let to = this.t.set("n", to);
                this.open_loop(format_args!("for (var {r} = {slice}; {r} < {to}; {r} += {slices})"));
                let (x, y) = (a.load(&[i.clone(), r.clone()]), b.load(&[r.clone(), j.clone()]));
                this.t.line(format_args!("{sum} = fma({x}, {y}, {sum});"));
                this.close_loop(shared_out(inner, slices as u32));
                this.t.line(format_args!("w[{number}] = {sum};"));
            });
        });
    }

    /// A register tile an invocation at a time.
    pub(super) fn tiles(&mut self, sum: &Sum<'_>) {
        let (r, c) = tile(sum.most.0, sum.most.1, self.invocations);
        let across = match sum.most.1 {
            Some(most) => (most as u64).div_ceil(c).max(1).to_string(),
            None => {
                let n = format!("({} + {}) / {c}", sum.columns, c - 1);
                self.t.set("n", format_args!("max({n}, 1)"))
            }
        };
        let (from, to) = (&sum.rows.0, &sum.rows.1);
        let (total, most) = match (sum.most.0, sum.most.1, across.parse::<u64>()) {
            (Some(rows), Some(_), Ok(across)) => {
                let count = (rows.max(0) as u64).div_ceil(r) * across;
                (format!("{count}u"), Some(count))
            }
            _ => (format!("u32(({to} - {from} + {}) / {r} * {across})", r - 1), None),
        };
        let [down, wide] = [(&sum.bounds[0], r), (&sum.bounds[1], c)].map(|(n, by)| shared_out(n.clone(), by as u32));
        let count = most.map_or(down * wide, |most| Int::Const(most as i64));
        let elements = Elements::new(total, most, count);
        self.each(&elements, 1, |this, number| {
            let wide = if across.parse::<u64>().is_ok() { format!("{across}u") } else { format!("u32({across})") };
            let i = this.t.set("i", format_args!("{from} + i32({number} / {wide}) * {r}"));
            let j = this.t.set("i", format_args!("i32({number} % {wide})"));
            let rows =
                if sum.exact.0 && sum.most.0.is_some_and(|n| (n as u64).is_multiple_of(r)) { None } else { Some(to) };
            let whole = sum.exact.1 && sum.most.1.is_some_and(|n| (n as u64).is_multiple_of(c));
            let columns = if whole { None } else { Some(&sum.columns) };
            let mut conditions: Vec<String> = rows.iter().map(|to| format!("{i} < {to}")).collect();
            conditions.extend(columns.iter().map(|to| format!("{j} < {to}")));
            if sum.lower {
                conditions.push(format!("{j} < {i} + {r}"));
            }
            this.guarded(&conditions, |this| {
                let rows = Line::rows(&i, r, rows.map(|x| x.as_str()));
                let columns = Line::columns(&j, c, &across, columns.map(|x| x.as_str()));
                this.one(sum, &rows, &columns);
            });
        });
    }

    /// One tile: its sums, then its elements of `dst`.
    fn one(&mut self, sum: &Sum<'_>, rows: &Line, columns: &Line) {
        let sums: Vec<Vec<String>> =
            rows.index.iter().map(|_| columns.index.iter().map(|_| self.t.fresh("s")).collect()).collect();
        for name in sums.iter().flatten() {
            self.t.line(format_args!("var {name} = 0.0f;"));
        }
        let i = rows.name(self);
        let j = columns.name(self);
        for (a, b) in &sum.pairs {
            let a: Vec<Spot> = i.iter().map(|i| self.at(a, 0, i)).collect();
            let b: Vec<Spot> = j.iter().map(|j| self.at(b, 1, j)).collect();
            let (first, last) = (&sum.inner.0, &sum.inner.1);
            let inner = &sum.bounds[2];
            match sum.steps {
                Steps::All => self.steps((first, last, inner), (&a, &b), &sums, None),
                Steps::Below(more) => {
                    let ends: Vec<String> = rows.index.iter().map(|i| format!("{i} + {more}")).collect();
                    let common = self.t.set("n", format_args!("min({last}, {})", ends[0]));
                    self.steps((first, &common, inner), (&a, &b), &sums, None);
                    if let [_, .., end] = &ends[..] {
                        let most = self.t.set("n", format_args!("min({last}, {end})"));
                        let rest = Int::from(ends.len() - 1);
                        self.steps((&common, &most, &rest), (&a, &b), &sums, Some(&ends));
                    }
                }
            }
        }
        for (r, i) in rows.index.iter().enumerate() {
            for (c, j) in columns.index.iter().enumerate() {
                let inside = [rows.inside(r), columns.inside(c)].into_iter().flatten().collect::<Vec<_>>();
                self.guarded(&inside, |this| {
                    let index = [format!("({i})"), format!("({j})")];
                    let x = &sums[r][c];
                    let x = if sum.accumulate { format!("{} + {x}", sum.dst.load(&index)) } else { x.clone() };
                    this.store(sum.dst, &index, &x);
                });
            }
        }
    }

    /// Steps along k, at most so many; with `ends`, a row takes those below its own only.
    fn steps(
        &mut self,
        (from, to, most): (&str, &str, &Int),
        (a, b): (&[Spot], &[Spot]),
        sums: &[Vec<String>],
        ends: Option<&[String]>,
    ) {
        let k = self.t.fresh("k");
        self.open_loop(format_args!("for (var {k} = {from}; {k} < {to}; {k}++)"));
        let here = [k.clone()];
        let x: Vec<String> = a.iter().map(|a| self.t.set("x", a.load(&here))).collect();
        let y: Vec<String> = b.iter().map(|b| self.t.set("x", b.load(&here))).collect();
        for (r, (x, row)) in x.iter().zip(sums).enumerate() {
            for (y, s) in y.iter().zip(row) {
                match ends {
                    None => self.t.line(format_args!("{s} = fma({x}, {y}, {s});")),
                    Some(ends) => {
                        self.t.line(format_args!("{s} = select({s}, fma({x}, {y}, {s}), {k} < {});", ends[r]))
                    }
                }
            }
        }
        self.close_loop(most.clone());
    }
}

/// The rows or the columns of a tile: their indices, and what all must be below if some may not be.
struct Line {
    index: Vec<String>,
    below: Option<String>,
}

impl Line {
    fn rows(first: &str, count: u64, below: Option<&str>) -> Self {
        let index = (0..count).map(|r| if r == 0 { first.to_owned() } else { format!("{first} + {r}") });
        Self { index: index.collect(), below: below.map(str::to_owned) }
    }

    fn columns(first: &str, count: u64, apart: &str, below: Option<&str>) -> Self {
        let constant = apart.parse::<u64>().ok();
        let at = |c: u64| match (c, constant) {
            (0, _) => first.to_owned(),
            (c, Some(apart)) => format!("{first} + {}", c * apart),
            (c, None) => format!("{first} + {c} * {apart}"),
        };
        Self { index: (0..count).map(at).collect(), below: below.map(str::to_owned) }
    }

    /// Indices that lie inside whatever the tile's place: those outside repeat the last.
    fn name(&self, e: &mut Emitter<'_>) -> Vec<String> {
        let inside = |(place, i): (usize, &String)| match &self.below {
            Some(below) if place > 0 => e.t.set("i", format_args!("min({i}, {below} - 1)")),
            _ if place > 0 => e.t.set("i", i),
            _ => i.clone(),
        };
        self.index.iter().enumerate().map(inside).collect()
    }

    /// The condition for the element at a place to be stored; the first always is.
    fn inside(&self, place: usize) -> Option<String> {
        let below = self.below.as_ref().filter(|_| place > 0)?;
        Some(format!("{} < {below}", self.index[place]))
    }
}

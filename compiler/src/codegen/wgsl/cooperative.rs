//! Products by cooperative matrices: the workgroup stages a block's rows of `a` and columns of `b` in workgroup memory,
//! its subgroups multiply them tile by tile, and the sums go back through workgroup memory into `dst`.
//!
//! ```text
//! panels   `h`, vectors of four factors: rows of `a`, then columns of `b`, each with what is outside as 0
//! sums     the start of `w`, f32, row after row
//! block    rows x columns of `dst` whose sums are staged at once; `steps` of k whose factors are
//! ```
//!
//! Fragments have no elements to mask, so rows of a triangle that must not meet what is above the diagonal, NaN maybe,
//! are not multiplied here (`Triangle::LowerLeft`). Only naga has the operations.

use crate::kernel::range::Ranges;
use crate::kernel::{Int, Kernel, Product, Stmt, Triangle};

use super::barrier::{Fence, Place, Touch};
use super::map::shared_out;
use super::math::Routine;
use super::product::{Kept, Rounds};
use super::shader::Emitter;
use super::value::Spot;
use super::{Cooperative, Dialect, Options, Precision};

/// Sides of a block at the most.
const WIDEST: u64 = 128;
/// Steps of k staged at once at the most.
const DEEPEST: u64 = 64;
/// Invocations of a subgroup, where work is shared out; what is written holds for any number.
const SUBGROUP: u64 = 32;
/// Workgroups narrower than this may be narrower than a subgroup.
const NARROWEST: u32 = 64;
/// The part of workgroup memory that products may take: scratch needs the rest.
const SHARE: u64 = 3;

/// Workgroup memory that a kernel's products take: the most of any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Staging {
    /// Elements of `w`, from its start.
    pub(super) sums: u64,
    /// Elements of `h`, vectors of four factors; 0 where nothing is multiplied here.
    pub(super) panels: u64,
}

impl Staging {
    fn with(self, other: Staging) -> Staging {
        Staging { sums: self.sums.max(other.sums), panels: self.panels.max(other.panels) }
    }

    /// Bytes of `h`.
    pub(super) fn panel_bytes(&self, options: &Options) -> u64 {
        self.panels * 4 * usable(options).map_or(0, factor_bytes)
    }

    /// The directive that products need.
    pub(super) fn directive(&self) -> &'static str {
        if self.panels > 0 { "enable wgpu_cooperative_matrix;\n" } else { "" }
    }

    /// The declarations that products need.
    pub(super) fn text(&self, options: &Options) -> String {
        let Some(used) = usable(options).filter(|_| self.panels > 0) else { return String::new() };
        let (s, factor) = (used.side, factor(used));
        format!(
            "alias Rows = coop_mat{s}x{s}<{factor}, A>;\nalias Columns = coop_mat{s}x{s}<{factor}, B>;\n\
             alias Sums = coop_mat{s}x{s}<f32, C>;\nvar<workgroup> h: array<vec4<{factor}>, {}>;\n",
            self.panels
        )
    }
}

/// The cooperative matrices to use, if any: factors are f16 only where that is the precision asked for.
fn usable(options: &Options) -> Option<Cooperative> {
    let native = options.dialect == Dialect::Naga && options.limits.subgroups;
    let exact = |found: &Cooperative| !found.f16 || options.precision == Precision::F16;
    options.limits.cooperative.filter(|found| native && exact(found))
}

fn factor(used: Cooperative) -> &'static str {
    if used.f16 { "f16" } else { "f32" }
}

fn factor_bytes(used: Cooperative) -> u64 {
    if used.f16 { 2 } else { 4 }
}

/// What products take.
fn staging(body: &[Stmt], ranges: &Ranges, (options, kept): (&Options, &Kept), invocations: u32) -> Staging {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { body, .. } => staging(body, ranges, (options, kept), invocations),
        Stmt::If { then, otherwise, .. } => [then, otherwise]
            .map(|body| staging(body, ranges, (options, kept), invocations))
            .into_iter()
            .fold(Staging::default(), Staging::with),
        Stmt::Product(x) => plan(x, ranges, (options, kept.rounds(x, options.precision)), invocations)
            .map_or(Staging::default(), |plan| plan.staging()),
        _ => Staging::default(),
    };
    body.iter().map(of).fold(Staging::default(), Staging::with)
}

/// What a kernel's products take.
pub(super) fn of_kernel(kernel: &Kernel, ranges: &Ranges, with: (&Options, &Kept), invocations: u32) -> Staging {
    staging(&kernel.body, ranges, with, invocations)
}

/// How a product is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    side: u64,
    f16: bool,
    /// Of a block, multiples of the side.
    rows: u64,
    columns: u64,
    /// Of k, a multiple of the side.
    steps: u64,
    /// Whether there is one block, and whether all of k is staged at once.
    one_row: bool,
    one_column: bool,
    one_step: bool,
    /// Tiles that a subgroup holds at once.
    held: (u64, u64),
}

/// The blocks that take the least time by a rough count of instructions; none where the product is too small or of
/// unknown size, nothing fits, or the factors are f16 and those of the product must not be.
pub(super) fn plan(
    product: &Product,
    ranges: &Ranges,
    (options, rounds): (&Options, Rounds),
    invocations: u32,
) -> Option<Plan> {
    let used = usable(options).filter(|used| !used.f16 || rounds == Rounds::Factors)?;
    if matches!(product.shape, Triangle::LowerLeft { .. }) || invocations < NARROWEST {
        return None;
    }
    let side = u64::from(used.side);
    let padded = |x| Some((ranges.most(x)? as u64).next_multiple_of(side));
    let [m, n, k] =
        [&product.m, &product.n, &product.k].map(|x| padded(x).filter(|_| ranges.most(x) >= Some(side as i64)));
    let (m, n, k) = (m?, n?, k?);
    let budget = u64::from(options.limits.workgroup_memory) / SHARE;
    let widths = |all: u64, most: u64| (1..=all.min(most) / side).map(move |tiles| tiles * side);
    let mut best: Option<(u64, Plan)> = None;
    for rows in widths(m, WIDEST) {
        for columns in widths(n, WIDEST) {
            for steps in widths(k, DEEPEST) {
                let (one_row, one_column, one_step) = (rows == m, columns == n, steps == k);
                let held = held(rows / side, columns / side, u64::from(invocations) / SUBGROUP);
                let plan = Plan { side, f16: used.f16, rows, columns, steps, one_row, one_column, one_step, held };
                let cost = plan.cost((m, n, k), u64::from(invocations));
                if plan.bytes() <= budget && best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, plan));
                }
            }
        }
    }
    best.map(|(_, plan)| plan)
}

/// The most tiles of a block that a subgroup may hold at once while every subgroup has some.
fn held(down: u64, across: u64, subgroups: u64) -> (u64, u64) {
    let fits = |&(r, c): &(u64, u64)| {
        down.is_multiple_of(r) && across.is_multiple_of(c) && down * across / (r * c) >= subgroups.max(1)
    };
    [(2, 2), (2, 1), (1, 2)].into_iter().find(fits).unwrap_or((1, 1))
}

impl Plan {
    fn staging(&self) -> Staging {
        Staging { sums: self.rows * self.apart(), panels: self.panel(self.rows) + self.panel(self.columns) }
    }

    fn bytes(&self) -> u64 {
        let staging = self.staging();
        staging.sums * 4 + staging.panels * if self.f16 { 8 } else { 16 }
    }

    /// From a row of sums to the next, in elements. Not a multiple of the banks.
    fn apart(&self) -> u64 {
        self.columns + 4
    }

    /// From a line of a panel to the next, in elements: lines start at multiples of 16 bytes.
    fn line(&self, length: u64) -> u64 {
        length + if self.f16 { 8 } else { 4 }
    }

    /// Vectors of a panel of so many rows or columns, whether its lines run along k or across it.
    fn panel(&self, width: u64) -> u64 {
        (width * self.line(self.steps)).max(self.steps * self.line(width)) / 4
    }

    /// About how many instructions an invocation has to do.
    fn cost(&self, (m, n, k): (u64, u64, u64), invocations: u64) -> u64 {
        let blocks = m.div_ceil(self.rows) * n.div_ceil(self.columns);
        let tiles = (self.rows / self.side) * (self.columns / self.side) / (self.held.0 * self.held.1);
        let turns = tiles.div_ceil((invocations / SUBGROUP).max(1));
        let (r, c) = self.held;
        let staged = (self.rows + self.columns) * self.steps / invocations * 6;
        let multiplied = turns * (self.steps / self.side) * (r * c * 4 + (r + c) * 6);
        let sums = if self.one_step { turns * r * c * 6 } else { turns * r * c * 12 };
        let left = self.rows * self.columns / invocations * 6;
        blocks * (k.div_ceil(self.steps) * (staged + multiplied + sums + 120) + left + 60)
    }
}

/// A panel being staged: the factors of a block's rows or columns.
struct Panel<'p> {
    spot: &'p Spot,
    /// Its first vector in `h`.
    at: u64,
    /// Its rows or columns, the first of them, and what they must be below.
    width: u64,
    first: &'p str,
    below: Option<&'p str>,
    /// Whether its lines run along k.
    along: bool,
    /// Which axis of the access is k's.
    inner: usize,
}

impl Emitter<'_> {
    /// The product of a plan.
    pub(super) fn cooperate(&mut self, product: &Product, plan: &Plan) {
        let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| self.extent(x));
        let [dst, a, b] = [&product.dst, &product.a, &product.b].map(|x| self.spot(x));
        let place = |place, written| Touch { place, written, own: None };
        let sums = Place::Workgroup(0, plan.staging().sums);
        let mut after = vec![place(sums, false), self.touch(&product.dst, true, None)];
        if product.accumulate {
            after.push(self.touch(&product.dst, false, None));
        }
        let mut all = vec![self.touch(&product.a, false, None), self.touch(&product.b, false, None)];
        all.extend([place(Place::Panels, true), place(sums, true)]);
        all.extend(after.clone());
        self.before(&all);
        let mut opened = Vec::new();
        let mut first = [String::from("0"), String::from("0")];
        let lines = [(plan.one_row, &m, (&product.m, plan.rows)), (plan.one_column, &n, (&product.n, plan.columns))];
        for (first, (one, most, (extent, step))) in first.iter_mut().zip(lines) {
            if !one {
                *first = self.t.fresh("r");
                self.open_loop(format_args!("for (var {first} = 0; {first} < {most}; {first} += {step})"));
                opened.push(shared_out(self.most_of(extent), step as u32));
            }
        }
        let steps = shared_out(self.most_of(&product.k).max(1i64), plan.steps as u32);
        self.block_sums(plan, (&a, &b), (&first, [&m, &n, &k], steps));
        if opened.is_empty() {
            // Straight on: what was pending in workgroup memory is settled.
            self.settled(Fence::Workgroup);
        }
        self.block_out(product, plan, &dst, (&first, [&m, &n]));
        if !opened.is_empty() {
            // The next block's sums start where these are still read.
            self.t.line("workgroupBarrier();");
        }
        for count in opened.into_iter().rev() {
            self.close_loop(count);
        }
        self.note(&after);
    }

    /// The sums of one block, in `w`; ends with a barrier.
    fn block_sums(
        &mut self,
        plan: &Plan,
        (a, b): (&Spot, &Spot),
        (first, [m, n, k], count): (&[String; 2], [&str; 3], Int),
    ) {
        let inner = if plan.one_step { "0".to_owned() } else { self.t.fresh("k") };
        if !plan.one_step {
            // naga refuses fragments under a condition on the step: sums start from zeros in memory.
            let (e, w, steps) = (self.t.fresh("e"), self.invocations, plan.steps);
            let sums = plan.staging().sums;
            self.open_loop(format_args!("for (var {e} = li; {e} < {sums}u; {e} += {w}u)"));
            self.t.line(format_args!("w[{e}] = 0.0f;"));
            self.close_loop(shared_out(Int::Const(sums as i64), w));
            // Once at least: a barrier must stand behind the zeros, and sums of nothing are 0.
            self.open_loop(format_args!("for (var {inner} = 0; {inner} < max({k}, 1); {inner} += {steps})"));
        }
        let whole = |extent: &str, step: u64| extent.parse::<u64>().is_ok_and(|n| n.is_multiple_of(step));
        let (along_a, along_b) = (!a.unit(0) || a.unit(1), b.unit(0) && !b.unit(1));
        let rows = Panel {
            spot: a,
            at: 0,
            width: plan.rows,
            first: &first[0],
            below: (!whole(m, plan.rows)).then_some(m),
            along: along_a,
            inner: 1,
        };
        let columns = Panel {
            spot: b,
            at: plan.panel(plan.rows),
            width: plan.columns,
            first: &first[1],
            below: (!whole(n, plan.columns)).then_some(n),
            along: along_b,
            inner: 0,
        };
        let k = (!whole(k, plan.steps)).then_some(k);
        for panel in [&rows, &columns] {
            self.stage(plan, panel, (&inner, k));
        }
        self.t.line("workgroupBarrier();");
        self.multiply(plan, (&rows, &columns));
        self.t.line("workgroupBarrier();");
        if !plan.one_step {
            self.close_loop(count);
        }
    }

    /// Writes a panel, 0 where it is outside of the factor.
    fn stage(&mut self, plan: &Plan, panel: &Panel<'_>, (inner, k): (&str, Option<&str>)) {
        let (length, lines) = if panel.along { (plan.steps, panel.width) } else { (panel.width, plan.steps) };
        let quads = length / 4;
        let e = self.t.fresh("e");
        let w = self.invocations;
        self.open_loop(format_args!("for (var {e} = li; {e} < {}u; {e} += {w}u)", quads * lines));
        let quad = self.t.set("i", format_args!("{e} % {quads}u"));
        let line = self.t.set("i", format_args!("{e} / {quads}u"));
        let mut parts = Vec::new();
        for place in 0..4 {
            let within = format!("i32({quad} * 4u + {place}u)");
            let (out, deep) = match panel.along {
                true => (format!("i32({line})"), within),
                false => (within, format!("i32({line})")),
            };
            let out = self.t.set("i", format_args!("{} + {out}", panel.first));
            let deep = self.t.set("i", format_args!("{inner} + {deep}"));
            let mut inside: Vec<String> = panel.below.iter().map(|m| format!("{out} < {m}")).collect();
            inside.extend(k.iter().map(|k| format!("{deep} < {k}")));
            let index = if panel.inner == 1 { [out, deep] } else { [deep, out] };
            let x = match inside.is_empty() {
                true => panel.spot.load(&index),
                false => {
                    let inside = self.t.set("in", inside.join(" && "));
                    panel.spot.load_if(&index, &inside)
                }
            };
            parts.push(match plan.f16 {
                true => {
                    self.needs.insert(Routine::Half);
                    format!("half({x})")
                }
                false => x,
            });
        }
        let (at, apart) = (panel.at, plan.line(length) / 4);
        let factor = if plan.f16 { "f16" } else { "f32" };
        let parts = parts.join(", ");
        self.t.line(format_args!("h[{at}u + {line} * {apart}u + {quad}] = vec4<{factor}>({parts});"));
        self.close_loop(shared_out(Int::Const((quads * lines) as i64), w));
    }

    /// The subgroups' share: tiles of the block, each through all steps that are staged.
    fn multiply(&mut self, plan: &Plan, (rows, columns): (&Panel<'_>, &Panel<'_>)) {
        let (side, (down, across)) = (plan.side, plan.held);
        let wide = plan.columns / side / across;
        let tiles = plan.rows / side / down * wide;
        let t = self.t.fresh("t");
        self.open_loop(format_args!("for (var {t} = subgroup; {t} < {tiles}u; {t} += subgroups)"));
        let i = self.t.set("i", format_args!("{t} / {wide}u * {}u", down * side));
        let j = self.t.set("i", format_args!("{t} % {wide}u * {}u", across * side));
        let apart = plan.apart();
        let held: Vec<(u64, u64)> = (0..down).flat_map(|r| (0..across).map(move |c| (r, c))).collect();
        let sums: Vec<String> = held.iter().map(|_| self.t.fresh("s")).collect();
        let place =
            |(r, c): (u64, u64)| format!("&w[({i} + {}u) * {apart}u + {j} + {}u], {apart}u", r * side, c * side);
        for (sum, &tile) in sums.iter().zip(&held) {
            match plan.one_step {
                true => self.t.line(format_args!("var {sum} = Sums();")),
                false => self.t.line(format_args!("var {sum} = coopLoadT<Sums>({});", place(tile))),
            }
        }
        for step in 0..plan.steps / side {
            let x: Vec<String> = (0..down).map(|r| self.fragment(plan, rows, (&i, r), step)).collect();
            let y: Vec<String> = (0..across).map(|c| self.fragment(plan, columns, (&j, c), step)).collect();
            for (sum, &(r, c)) in sums.iter().zip(&held) {
                let (x, y) = (&x[r as usize], &y[c as usize]);
                self.t.line(format_args!("{sum} = coopMultiplyAdd({x}, {y}, {sum});"));
            }
        }
        for (sum, &tile) in sums.iter().zip(&held) {
            self.t.line(format_args!("coopStoreT({sum}, {});", place(tile)));
        }
        // However few subgroups there are.
        self.close_loop(Int::Const(tiles as i64));
    }

    /// A tile of a panel at a step, loaded.
    fn fragment(&mut self, plan: &Plan, panel: &Panel<'_>, (first, tile): (&str, u64), step: u64) -> String {
        let (side, at) = (plan.side, panel.at);
        let apart = plan.line(if panel.along { plan.steps } else { panel.width }) / 4;
        let place = match panel.along {
            true => format!("{at}u + ({first} + {}u) * {apart}u + {}u", tile * side, step * side / 4),
            false => format!("{at}u + {}u + ({first} + {}u) / 4u", step * side * apart, tile * side),
        };
        let ty = if panel.inner == 1 { "Rows" } else { "Columns" };
        // Lines are rows of `a` or of `b` where they run along k in `a` and across it in `b`.
        let load = if panel.along == (panel.inner == 1) { "coopLoadT" } else { "coopLoad" };
        self.t.set("f", format_args!("{load}<{ty}>(&h[{place}], {apart}u)"))
    }

    /// The sums of a block into `dst`.
    fn block_out(&mut self, product: &Product, plan: &Plan, dst: &Spot, (first, [m, n]): (&[String; 2], [&str; 2])) {
        let (rows, columns, apart) = (plan.rows, plan.columns, plan.apart());
        let e = self.t.fresh("e");
        let w = self.invocations;
        self.open_loop(format_args!("for (var {e} = li; {e} < {}u; {e} += {w}u)", rows * columns));
        let i = self.t.set("i", format_args!("{} + i32({e} / {columns}u)", first[0]));
        let j = self.t.set("i", format_args!("{} + i32({e} % {columns}u)", first[1]));
        let outside = |extent: &str, step: u64| !extent.parse::<u64>().is_ok_and(|n| n.is_multiple_of(step));
        let mut inside = Vec::new();
        inside.extend(outside(m, rows).then(|| format!("{i} < {m}")));
        inside.extend(outside(n, columns).then(|| format!("{j} < {n}")));
        inside.extend((product.shape == Triangle::LowerOut).then(|| format!("{j} <= {i}")));
        self.guarded(&inside, |this| {
            let index = [i.clone(), j.clone()];
            let sum = format!("w[{e} / {columns}u * {apart}u + {e} % {columns}u]");
            let x = if product.accumulate { format!("{} + {sum}", dst.load(&index)) } else { sum };
            this.store(dst, &index, &x);
        });
        self.close_loop(shared_out(Int::Const((rows * columns) as i64), w));
    }
}

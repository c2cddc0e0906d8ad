//! What every kernel must satisfy before a back end sees it, and between any two passes, at each level. A checked module
//! makes no back end panic.
//!
//! Not here: whether an access stays inside its buffer, which depends on run-time sizes (`bounds` proves it of a launch).

use std::collections::BTreeSet;
use std::ops::Deref;

use super::frame::scan_frame;
use super::pass::{Construct, Level};
use super::visit::Effects;
use super::{
    Access, Buffer, BufferId, BufferRole, Elem, Element, Int, Kernel, Map, Module, ParamId, ParamRole, Position,
    Product, Reduce, Scan, ScanFrom, Solve, Stmt, Sweep, Triangle, Value, VarId,
};

/// A module that holds together, of what lowering makes and sweeps (`Level::CHECKED`): what emitters take. `check` alone makes one, and nothing
/// changes it.
///
/// That its accesses stay inside is proved where sizes are known (`kernel::within`); that its work items keep apart is
/// not: where they do not, what they write is anything, in buffers of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked(Module);

impl Deref for Checked {
    type Target = Module;

    fn deref(&self) -> &Module {
        &self.0
    }
}

/// Checks a module.
///
/// # Errors
/// Everything that is wrong, each with the kernel and statement it stands in.
pub fn check(module: Module) -> Result<Checked, Vec<String>> {
    let errors = errors(&module, Level::CHECKED);
    if errors.is_empty() { Ok(Checked(module)) } else { Err(errors) }
}

/// Statements and integers that stand one in another, at most: emitters go down into them.
const DEEPEST: usize = 128;

/// Everything that is wrong with a module at a level.
pub fn errors(module: &Module, level: Level) -> Vec<String> {
    let mut checker = Checker {
        module,
        level,
        grid: BTreeSet::new(),
        bound: Vec::new(),
        seen: BTreeSet::new(),
        written: BTreeSet::new(),
        place: String::new(),
        depth: 0,
        errors: Vec::new(),
    };
    checker.names();
    for buffer in &module.buffers {
        checker.place = format!("buffer `{}`", buffer.name);
        checker.size(&buffer.size);
    }
    for kernel in &module.kernels {
        checker.kernel(kernel);
    }
    checker.errors
}

struct Checker<'m> {
    module: &'m Module,
    level: Level,
    /// Grid params of the kernel at hand.
    grid: BTreeSet<ParamId>,
    /// Loop variables in scope.
    bound: Vec<VarId>,
    /// Loop variables of the module so far.
    seen: BTreeSet<VarId>,
    /// What the kernel at hand writes.
    written: BTreeSet<BufferId>,
    place: String,
    /// How many statements, values or integers stand around the one at hand.
    depth: usize,
    errors: Vec<String>,
}

impl Checker<'_> {
    fn error(&mut self, message: impl AsRef<str>) {
        self.errors.push(format!("{}: {}", self.place, message.as_ref()));
    }

    /// No two buffers that are written lie in one tensor.
    fn names(&mut self) {
        let mut seen = BTreeSet::new();
        for buffer in &self.module.buffers {
            let written = matches!(buffer.role, BufferRole::Output | BufferRole::StateOut);
            if written && !seen.insert((buffer.role == BufferRole::Output, buffer.name.as_str())) {
                self.errors.push(format!("buffer `{}`: two of this name and role are written", buffer.name));
            }
        }
    }

    /// Goes down one level, if there are not too many.
    fn within(&mut self, what: impl FnOnce(&mut Self)) {
        if self.depth >= DEEPEST {
            return self.error(format!("more than {DEEPEST} things one in another"));
        }
        self.depth += 1;
        what(self);
        self.depth -= 1;
    }

    fn kernel(&mut self, kernel: &Kernel) {
        self.place = format!("kernel `{}`", kernel.name);
        self.grid.clear();
        for axis in &kernel.grid {
            self.size(&axis.extent);
            match self.module.params.get(axis.param.index()) {
                Some(param) if param.role == ParamRole::Grid => {}
                Some(param) => self.error(format!("grid param `{}` is not of role Grid", param.name)),
                None => self.error(format!("no param {}", axis.param.0)),
            }
            if !self.grid.insert(axis.param) {
                self.error(format!("two grid axes set param {}", axis.param.0));
            }
        }
        self.written = kernel.body.iter().flat_map(|stmt| Effects::of(stmt).writes).collect();
        let place = self.place.clone();
        self.block(&kernel.body, &place);
    }

    fn block(&mut self, body: &[Stmt], path: &str) {
        for (i, stmt) in body.iter().enumerate() {
            self.place = format!("{path}, {i}");
            let here = self.place.clone();
            match stmt {
                Stmt::For { var, from, to, step, body } => {
                    self.ints([from, to]);
                    self.step(step);
                    if !self.seen.insert(*var) {
                        self.error(format!("loop variable {} is bound twice", var.0));
                    }
                    self.bound.push(*var);
                    self.within(|this| this.block(body, &here));
                    self.bound.pop();
                }
                Stmt::If { left, right, then, otherwise } => {
                    match left {
                        Int::Load(of) => self.loaded(of),
                        _ => self.int(left),
                    }
                    self.int(right);
                    self.within(|this| this.block(then, &format!("{here} then")));
                    self.within(|this| this.block(otherwise, &format!("{here} else")));
                }
                Stmt::Map(map) => self.map(map),
                Stmt::Reduce(reduce) => self.reduce(reduce),
                Stmt::Scan(scan) => self.scan(scan),
                Stmt::Product(product) => self.product(product),
                Stmt::Solve(solve) => self.solve(solve),
                Stmt::Sweep(sweep) => self.sweep(sweep),
            }
        }
    }

    /// Steps are positive: constants, and the sizes and chunk length, which are never less than 1 where a loop steps.
    fn step(&mut self, step: &Int) {
        self.int(step);
        if let Int::Const(n) = step
            && *n <= 0
        {
            self.error(format!("step {n} is not positive"));
        }
    }

    fn map(&mut self, map: &Map) {
        self.axes(&map.axes);
        if let Some(diagonal) = &map.below {
            self.int(diagonal);
            if map.axes.len() < 2 {
                self.error("a diagonal needs two axes");
            }
        }
        self.write(&map.dst, map.axes.len());
        self.value(&map.value, map.axes.len());
    }

    fn reduce(&mut self, reduce: &Reduce) {
        self.axes(&reduce.axes);
        self.int(&reduce.inner);
        self.write(&reduce.dst, reduce.axes.len());
        self.value(&reduce.value, reduce.axes.len() + 1);
    }

    fn scan(&mut self, scan: &Scan) {
        let before = self.errors.len();
        self.axes(&scan.axes);
        self.int(&scan.inner);
        self.write(&scan.dst, scan.axes.len() + 1);
        self.value(&scan.value, scan.axes.len() + 1);
        if scan.from == ScanFrom::Diagonal && scan.axes.len() != 1 {
            self.error(format!("a scan from the diagonal over {} axes, not 1", scan.axes.len()));
        }
        if self.errors.len() == before && !self.admits(scan) {
            self.error("a scan, where none is left");
        }
    }

    fn admits(&self, scan: &Scan) -> bool {
        let tiled = || self.level.has(Construct::TileScan) && scan_frame(self.module, scan).is_some();
        self.level.has(Construct::Scan) || tiled()
    }

    fn product(&mut self, product: &Product) {
        self.ints([&product.m, &product.n, &product.k]);
        self.write(&product.dst, 2);
        self.access(&product.a, 2);
        self.access(&product.b, 2);
        self.unit(&product.dst, "dst");
        if !(self.level.has(Construct::RowsByRows) && is_rows_by_rows(product)) {
            self.unit(&product.b, "b");
        }
        self.floats(&[&product.dst, &product.a, &product.b]);
    }

    fn solve(&mut self, solve: &Solve) {
        self.ints([&solve.n, &solve.columns]);
        if solve.x.is_empty() || solve.p.len() != solve.x.len() * solve.x.len() {
            self.error(format!("{} systems need a square of tiles, not {}", solve.x.len(), solve.p.len()));
        }
        for p in &solve.p {
            self.access(p, 2);
            self.floats(&[p]);
        }
        for x in &solve.x {
            self.write(x, 2);
            self.unit(x, "x");
            self.floats(&[x]);
        }
    }

    fn sweep(&mut self, sweep: &Sweep) {
        if !self.level.has(Construct::Sweep) {
            self.error("a sweep, where there is none");
        }
        self.ints([&sweep.rows, &sweep.columns]);
        self.access(&sweep.state, 2);
        self.unit(&sweep.state, "state");
        self.floats(&[&sweep.state]);
        if let Some(update) = &sweep.update {
            self.write(&sweep.state, 2);
            self.access(&update.from, 2);
            self.unit(&update.from, "from");
            self.floats(&[&update.from]);
            if let Some(keep) = &update.keep {
                for factor in keep.factors() {
                    self.access(factor, 1);
                    self.floats(&[factor]);
                }
                if keep.factors().any(|factor| factor.strides != keep.factor.strides) {
                    self.error("the two factors of a sweep have strides of their own");
                }
            }
            for rank in &update.ranks {
                self.access(&rank.column, 1);
                self.outer(rank);
            }
            if update.ranks.len() > Sweep::RANKS {
                self.error(format!("a sweep of {} ranks; at most {}", update.ranks.len(), Sweep::RANKS));
            }
        }
        if sweep.reads.is_empty() || sweep.update.as_ref().is_some_and(|update| update.ranks.is_empty()) {
            self.error("a sweep that reads nothing or adds nothing");
        }
        for read in &sweep.reads {
            self.write(&read.column, 1);
            self.outer(read);
        }
        if sweep.reads.len() > Sweep::READS {
            self.error(format!("a sweep of {} reads; at most {}", sweep.reads.len(), Sweep::READS));
        }
    }

    fn outer(&mut self, outer: &super::Outer) {
        self.access(&outer.row, 1);
        self.unit(&outer.column, "a row");
        self.floats(&[&outer.row, &outer.column]);
    }

    fn axes(&mut self, axes: &[Int]) {
        if axes.len() > 3 {
            self.error(format!("{} axes; at most 3", axes.len()));
        }
        self.ints(axes);
    }

    fn unit(&mut self, access: &Access, name: &str) {
        if access.strides.last() != Some(&Int::Const(1)) {
            self.error(format!("the last stride of {name} is not 1"));
        }
    }

    fn floats(&mut self, accesses: &[&Access]) {
        for access in accesses {
            if self.module.buffers.get(access.buffer.index()).is_some_and(|b| b.elem != super::Elem::F32) {
                self.error("a tile statement over a buffer that is not f32");
            }
        }
    }

    fn write(&mut self, access: &Access, axes: usize) {
        self.access(access, axes);
        let Some(buffer) = self.module.buffers.get(access.buffer.index()) else { return };
        if matches!(buffer.role, BufferRole::Input | BufferRole::StateIn) || buffer.elem != super::Elem::F32 {
            self.error(format!("writes `{}`, which is read-only or not f32", buffer.name));
        }
    }

    fn access(&mut self, access: &Access, axes: usize) {
        if access.buffer.index() >= self.module.buffers.len() {
            self.error(format!("no buffer {}", access.buffer.0));
        }
        if access.strides.len() != axes {
            self.error(format!("{} strides for {axes} axes", access.strides.len()));
        }
        self.int(&access.offset);
        self.ints(&access.strides);
    }

    fn value(&mut self, value: &Value, axes: usize) {
        match value {
            Value::Load(access) => self.access(access, axes),
            Value::Bounded { access, position: Position { base, strides }, length } => {
                self.access(access, axes);
                self.ints([base, length]);
                self.ints(strides);
                if strides.len() != axes {
                    self.error(format!("a position of {} strides for {axes} axes", strides.len()));
                }
            }
            Value::Const(_) => {}
            Value::Int(x) => self.int(x),
            Value::Axis(d) => {
                if *d >= axes {
                    self.error(format!("no axis {d} of {axes}"));
                }
            }
            Value::Call(function, args) => {
                if function.arity() != args.len() {
                    self.error(format!("`{}` takes {} values, not {}", function.name(), function.arity(), args.len()));
                }
                self.within(|this| args.iter().for_each(|x| this.value(x, axes)));
            }
            Value::Select(cond, then, otherwise) => {
                self.within(|this| [cond, then, otherwise].into_iter().for_each(|x| this.value(x, axes)));
            }
        }
    }

    /// What a branch loads nobody writes meanwhile.
    fn loaded(&mut self, of: &Element) {
        self.int(&of.at);
        match self.module.buffers.get(of.buffer.index()) {
            Some(Buffer { role: BufferRole::Shared, elem: Elem::F32, .. }) if !self.written.contains(&of.buffer) => {}
            _ => self.error("a branch loads what is no shared buffer, or what its kernel writes"),
        }
    }

    fn ints<'i>(&mut self, all: impl IntoIterator<Item = &'i Int>) {
        all.into_iter().for_each(|x| self.int(x));
    }

    /// An integer of sizes and the chunk only: no loop variable, no place on a grid.
    fn size(&mut self, x: &Int) {
        let (grid, bound) = (std::mem::take(&mut self.grid), std::mem::take(&mut self.bound));
        self.int(x);
        (self.grid, self.bound) = (grid, bound);
    }

    fn int(&mut self, x: &Int) {
        match x {
            Int::Const(_) => {}
            Int::Param(id) => match self.module.params.get(id.index()) {
                None => self.error(format!("no param {}", id.0)),
                Some(param) if param.role == ParamRole::Grid && !self.grid.contains(id) => {
                    self.error(format!("param `{}` is not on this kernel's grid", param.name));
                }
                Some(_) => {}
            },
            Int::Var(id) => {
                if !self.bound.contains(id) {
                    self.error(format!("loop variable {} is not in scope", id.0));
                }
            }
            Int::Load(_) => self.error("an integer is loaded beside the condition of a branch"),
            Int::Add(a, b) | Int::Sub(a, b) | Int::Mul(a, b) | Int::Div(a, b) | Int::Mod(a, b) => {
                self.within(|this| this.ints([&**a, &**b]))
            }
            Int::Min(a, b) | Int::Max(a, b) => self.within(|this| this.ints([&**a, &**b])),
        }
    }
}

/// Whether all of a row of a meets a row of b's columns.
fn is_rows_by_rows(product: &Product) -> bool {
    let one = Some(&Int::Const(1));
    let along = product.a.strides.last() == one && product.b.strides.first() == one;
    along && !product.accumulate && matches!(product.shape, Triangle::Full | Triangle::LowerOut)
}

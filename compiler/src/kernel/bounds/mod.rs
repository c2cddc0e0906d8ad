//! Whether every access of a module lies in its buffer, at the sizes of one launch.
//!
//! ```text
//! for v in 0..T step C { map [i < min(T - v, C), j < K] x[K v + K i + j] = .. }    x of T K elements
//!   K v + K i + j                 >= 0           v, i, j >= 0
//!   T K - 1 - (K v + K i + j)     >= 0           j <= K - 1;  i <= min(T - v, C) - 1, and T - v - 1 is enough
//! ```
//!
//! Sizes are numbers here, so that offsets are sums of loop variables and positions times constants (`linear`), and what is
//! to be shown of each is one inequality at either end (`prove`). All sizes at once would be products of unknowns: what a
//! launch is refused for then would be the prover's weakness more often than the kernel's fault. A proof takes some
//! microseconds an access, whatever the sizes are, and holds for every launch of the same.
//!
//! No integer that compiled code computes on the way is beyond what it computes in, so none wraps.

mod divide;
mod linear;
mod prove;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::interp::Fault;
use super::{
    Access, Buffer, BufferId, Checked, Int, Kernel, Map, Module, ParamId, Position, Product, Reduce, Scan, Solve, Stmt,
    Sweep, Value, VarId,
};
use divide::Division;
use linear::{Extreme, Linear, Symbol};
use prove::{Mark, Scope};

/// What a target computes integers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers {
    I32,
    I64,
}

impl Integers {
    /// So far from the ends that nothing which is added on the way steps over them.
    fn limit(self) -> i128 {
        match self {
            Integers::I32 => i32::MAX as i128 - (1 << 20),
            Integers::I64 => 1 << 60,
        }
    }
}

/// Proves that a launch of these params touches nothing beyond the buffers of a module that `check` found nothing wrong
/// with; params of a grid are ignored.
///
/// # Errors
/// The first access that is not proved to stay inside, or an integer that may be too large.
pub fn within(module: &Checked, params: &[i64], integers: Integers) -> Result<(), Fault> {
    prove(module, params, integers.limit())
}

/// The same of a module at any level.
fn prove(module: &Module, params: &[i64], limit: i128) -> Result<(), Fault> {
    let mut proof = Proof::new(module, params, limit);
    let sizes = module.buffers.iter().map(|buffer| proof.size(buffer)).collect::<Outcome<Vec<_>>>();
    proof.sizes =
        sizes.map_err(|message| Fault { kernel: module.name.clone(), statement: "sizes".to_owned(), message })?;
    for kernel in &module.kernels {
        let sizes = std::mem::take(&mut proof.sizes);
        proof = Proof { sizes, ..Proof::new(module, params, limit) };
        let mut proved = proof.kernel(kernel);
        if proved.is_err() {
            // What loops have to do with each other is plain where each round is a number.
            let sizes = std::mem::take(&mut proof.sizes);
            proof = Proof { sizes, rounds: Some(ROUNDS), ..Proof::new(module, params, limit) };
            proved = proof.kernel(kernel);
        }
        proved.map_err(|message| {
            let statement = proof.path.iter().map(usize::to_string).collect::<Vec<_>>().join(".");
            Fault { kernel: kernel.name.clone(), statement, message }
        })?;
    }
    Ok(())
}

struct Proof<'m> {
    module: &'m Module,
    params: &'m [i64],
    scope: Scope,
    grid: HashMap<ParamId, Linear>,
    vars: HashMap<VarId, Linear>,
    /// Elements of every buffer.
    sizes: Vec<i128>,
    /// Places in the lists of statements, outermost first.
    path: Vec<usize>,
    /// The most that an integer may be, and the least below 0.
    limit: i128,
    /// What divisions gave so far.
    divided: Vec<Division>,
    /// Rounds of loops that are still looked at one by one; none where loops are looked at as a whole.
    rounds: Option<u64>,
}

/// Rounds of loops that a launch is looked at for, where its loops are not proved as a whole: some tenths of a second.
const ROUNDS: u64 = 1 << 16;

type Outcome<T> = Result<T, String>;

impl<'m> Proof<'m> {
    fn new(module: &'m Module, params: &'m [i64], limit: i128) -> Self {
        let (scope, grid, vars, sizes, path, divided) = Default::default();
        Self { module, params, scope, grid, vars, sizes, path, limit, divided, rounds: None }
    }

    fn size(&mut self, buffer: &Buffer) -> Outcome<i128> {
        let size = self.linear(&buffer.size)?;
        size.known().ok_or_else(|| format!("the size of `{}` is no number", buffer.name))
    }

    fn kernel(&mut self, kernel: &Kernel) -> Outcome<()> {
        for axis in &kernel.grid {
            let extent = self.linear(&axis.extent)?;
            let Some(symbol) = self.scope.symbol(Linear::constant(0), extent.and(-1)) else { return Ok(()) };
            self.grid.insert(axis.param, Linear::symbol(symbol));
        }
        self.block(&kernel.body)
    }

    fn block(&mut self, body: &[Stmt]) -> Outcome<()> {
        for (place, stmt) in body.iter().enumerate() {
            self.path.push(place);
            let mark = self.scope.mark();
            self.stmt(stmt)?;
            self.leave(mark);
            self.path.pop();
        }
        Ok(())
    }

    fn leave(&mut self, mark: Mark) {
        self.scope.leave(mark);
        self.divided.retain(|known| self.scope.has(known.gave));
    }

    fn stmt(&mut self, stmt: &Stmt) -> Outcome<()> {
        match stmt {
            Stmt::For { var, from, to, step, body } => {
                let [from, to, step] = [self.linear(from)?, self.linear(to)?, self.linear(step)?];
                self.fit(sum(&to, &step, 1)?)?;
                let last = last(&from, &to, &step);
                self.scope.assume(sum(&last, &from, -1)?);
                if let (Some(rounds), Some(from), Some(to)) = (self.rounds, from.known(), to.known()) {
                    return self.each_round((*var, body), (from, to, step.known().unwrap_or(1)), rounds);
                }
                if let Some(symbol) = self.scope.symbol(from, last) {
                    self.vars.insert(*var, Linear::symbol(symbol));
                    self.block(body)?;
                }
                Ok(())
            }
            Stmt::If { left, right, then, otherwise } => self.branches([left, right], [then, otherwise]),
            Stmt::Map(map) => self.map(map),
            Stmt::Reduce(reduce) => self.reduce(reduce),
            Stmt::Scan(scan) => self.scan(scan),
            Stmt::Product(product) => self.product(product),
            Stmt::Solve(solve) => self.solve(solve),
            Stmt::Sweep(sweep) => self.sweep(sweep),
        }
    }

    /// A loop between two numbers round by round, where so many are left to be looked at.
    fn each_round(
        &mut self,
        (var, body): (VarId, &[Stmt]),
        (from, to, step): (i128, i128, i128),
        rounds: u64,
    ) -> Outcome<()> {
        let (mut at, mut left) = (from, rounds);
        while at < to {
            left = left.checked_sub(1).ok_or("more rounds of loops than are looked at one by one")?;
            self.rounds = Some(left);
            self.vars.insert(var, Linear::constant(at));
            let mark = self.scope.mark();
            self.block(body)?;
            self.leave(mark);
            left = self.rounds.unwrap_or(0);
            at += step.max(1);
        }
        Ok(())
    }

    fn branches(&mut self, [left, right]: [&Int; 2], [then, otherwise]: [&[Stmt]; 2]) -> Outcome<()> {
        if let Int::Load(of) = left {
            self.access(&Access::new(of.buffer, of.at.clone(), []), &[], "reads")?;
            return [then, otherwise].into_iter().try_for_each(|body| {
                let mark = self.scope.mark();
                self.block(body)?;
                self.leave(mark);
                Ok(())
            });
        }
        let [left, right] = [self.linear(left)?, self.linear(right)?];
        let more = sum(&right, &left, -1)?;
        let range = self.scope.range(&more);
        let mark = self.scope.mark();
        if range.1 > 0 {
            self.scope.assume(more.clone().and(-1));
            self.block(then)?;
            self.leave(mark);
        }
        if range.0 <= 0 {
            self.scope.assume(sum(&Linear::constant(0), &more, -1)?);
            self.block(otherwise)?;
        }
        Ok(())
    }

    fn map(&mut self, map: &Map) -> Outcome<()> {
        let Map { axes, below, dst, value } = map;
        let mut symbols = Vec::new();
        for (d, axis) in axes.iter().enumerate() {
            let mut last = some(self.linear(axis)?).and(-1);
            if let (Some(diagonal), Some(row)) = (below, symbols.last())
                && d + 1 == axes.len()
            {
                let diagonal = sum(&self.linear(diagonal)?, &Linear::symbol(*row), 1)?;
                last = Linear::choice(Extreme::Least, [last, diagonal]);
            }
            let Some(symbol) = self.positions(last) else { return Ok(()) };
            symbols.push(symbol);
        }
        self.access(dst, &symbols, "writes")?;
        self.value(value, &symbols)
    }

    fn reduce(&mut self, Reduce { axes, inner, dst, value, .. }: &Reduce) -> Outcome<()> {
        let Some(mut symbols) = self.axes(axes)? else { return Ok(()) };
        self.access(dst, &symbols, "writes")?;
        let Some(along) = self.axis(inner)? else { return Ok(()) };
        symbols.push(along);
        self.value(value, &symbols)
    }

    fn scan(&mut self, Scan { axes, inner, dst, value, .. }: &Scan) -> Outcome<()> {
        let Some(mut symbols) = self.axes(axes)? else { return Ok(()) };
        let Some(along) = self.axis(inner)? else { return Ok(()) };
        symbols.push(along);
        self.access(dst, &symbols, "writes")?;
        self.value(value, &symbols)
    }

    fn product(&mut self, Product { m, n, k, dst, a, b, .. }: &Product) -> Outcome<()> {
        let Some(row) = self.axis(m)? else { return Ok(()) };
        let Some(column) = self.axis(n)? else { return Ok(()) };
        self.access(dst, &[row, column], "writes")?;
        let Some(along) = self.axis(k)? else { return Ok(()) };
        self.access(a, &[row, along], "reads")?;
        self.access(b, &[along, column], "reads")
    }

    fn solve(&mut self, Solve { n, columns, p, x }: &Solve) -> Outcome<()> {
        let Some(row) = self.axis(n)? else { return Ok(()) };
        let Some(other) = self.axis(n)? else { return Ok(()) };
        p.iter().try_for_each(|p| self.access(p, &[row, other], "reads"))?;
        let Some(column) = self.axis(columns)? else { return Ok(()) };
        x.iter().try_for_each(|x| self.access(x, &[row, column], "writes"))
    }

    fn sweep(&mut self, sweep: &Sweep) -> Outcome<()> {
        let Some(column) = self.axis(&sweep.columns)? else { return Ok(()) };
        sweep.reads.iter().try_for_each(|read| self.access(&read.column, &[column], "writes"))?;
        let Some(row) = self.axis(&sweep.rows)? else { return Ok(()) };
        sweep.reads.iter().try_for_each(|read| self.access(&read.row, &[row], "reads"))?;
        self.access(&sweep.state, &[row, column], "touches")?;
        let Some(update) = &sweep.update else { return Ok(()) };
        self.access(&update.from, &[row, column], "reads")?;
        let factors = update.keep.iter().flat_map(super::Keep::factors);
        let rows = factors.chain(update.ranks.iter().map(|rank| &rank.row));
        rows.into_iter().try_for_each(|access| self.access(access, &[row], "reads"))?;
        update.ranks.iter().try_for_each(|rank| self.access(&rank.column, &[column], "reads"))
    }

    /// Positions along axes; none where there are none along one of them.
    fn axes(&mut self, extents: &[Int]) -> Outcome<Option<Vec<Symbol>>> {
        extents.iter().map(|extent| self.axis(extent)).collect()
    }

    fn axis(&mut self, extent: &Int) -> Outcome<Option<Symbol>> {
        let last = some(self.linear(extent)?).and(-1);
        Ok(self.positions(last))
    }

    /// Positions from 0 to a last one. Where a statement touches anything, there is a first.
    fn positions(&mut self, last: Linear) -> Option<Symbol> {
        self.scope.assume(last.clone());
        self.scope.symbol(Linear::constant(0), last)
    }

    fn value(&mut self, value: &Value, axes: &[Symbol]) -> Outcome<()> {
        match value {
            Value::Load(access) => self.access(access, axes, "reads"),
            Value::Bounded { access, position: Position { base, strides }, length } => {
                let position = self.along(base, strides, axes)?;
                let room = sum(&self.linear(length)?, &position, -1)?.and(-1);
                if [&position, &room].into_iter().any(|at| self.scope.range(at).1 < 0) {
                    // Outside whatever the axes are: nothing is read.
                    return Ok(());
                }
                let mark = self.scope.mark();
                self.scope.assume(position.clone());
                self.scope.assume(room);
                self.access(access, axes, "reads")?;
                self.leave(mark);
                Ok(())
            }
            Value::Int(x) => self.linear(x).map(|_| ()),
            Value::Const(_) | Value::Axis(_) => Ok(()),
            Value::Call(_, args) => args.iter().try_for_each(|x| self.value(x, axes)),
            Value::Select(cond, then, otherwise) => {
                [cond, then, otherwise].into_iter().try_for_each(|x| self.value(x, axes))
            }
        }
    }

    fn access(&mut self, access: &Access, axes: &[Symbol], verb: &str) -> Outcome<()> {
        let Access { buffer, offset, strides } = access;
        let place = self.along(offset, strides, axes)?;
        let size = self.sizes[buffer.index()];
        let room = sum(&Linear::constant(size - 1), &place, -1)?;
        let (before, beyond) = (self.scope.holds(&place), self.scope.holds(&room));
        if before && beyond {
            return Ok(());
        }
        Err(self.outside(*buffer, (&place, size), verb))
    }

    fn outside(&self, buffer: BufferId, (place, size): (&Linear, i128), verb: &str) -> String {
        let (lo, hi) = self.scope.range(place);
        let name = &self.module.buffers[buffer.index()].name;
        format!("{verb} elements {lo} to {hi} of `{name}`, which holds {size}, as far as can be told")
    }

    /// `base + sum of strides[d] * axes[d]`
    fn along(&mut self, base: &Int, strides: &[Int], axes: &[Symbol]) -> Outcome<Linear> {
        let mut place = self.linear(base)?;
        for (stride, axis) in strides.iter().zip(axes) {
            let stride = self.linear(stride)?;
            let moved = self.times(&Linear::symbol(*axis), &stride)?;
            place = self.fit(sum(&place, &moved, 1)?)?;
        }
        Ok(place)
    }

    /// An integer as a sum.
    fn linear(&mut self, x: &Int) -> Outcome<Linear> {
        let made = match x {
            Int::Const(n) => Linear::constant((*n).into()),
            Int::Param(id) => match self.grid.get(id) {
                Some(place) => place.clone(),
                None => Linear::constant(self.params.get(id.index()).copied().unwrap_or(0).into()),
            },
            Int::Var(id) => self.vars.get(id).ok_or("a loop variable out of its loop")?.clone(),
            Int::Load(_) => return Err("an integer that is loaded".to_owned()),
            Int::Add(a, b) => sum(&self.linear(a)?, &self.linear(b)?, 1)?,
            Int::Sub(a, b) => sum(&self.linear(a)?, &self.linear(b)?, -1)?,
            Int::Mul(a, b) => {
                let (a, b) = (self.linear(a)?, self.linear(b)?);
                self.times(&a, &b)?
            }
            Int::Div(a, b) => {
                let (a, b) = (self.linear(a)?, self.linear(b)?);
                self.quotient(&a, &b)
            }
            Int::Mod(a, b) => {
                let (a, b) = (self.linear(a)?, self.linear(b)?);
                self.remainder(&a, &b)
            }
            Int::Min(a, b) => Linear::choice(Extreme::Least, [self.linear(a)?, self.linear(b)?]),
            Int::Max(a, b) => Linear::choice(Extreme::Most, [self.linear(a)?, self.linear(b)?]),
        };
        let made = self.decided(made);
        self.fit(made)
    }

    /// A choice whose sides never cross is one of them.
    fn decided(&self, x: Linear) -> Linear {
        let [(choice, 1)] = &x.choices[..] else { return x };
        let [a, b] = [&choice.of[0], &choice.of[1]].map(|one| self.scope.range(one));
        let (first, second) = match choice.extreme {
            Extreme::Least => (a.1 <= b.0, b.1 <= a.0),
            Extreme::Most => (a.0 >= b.1, b.0 >= a.1),
        };
        match (x.constant == 0 && x.terms.is_empty(), first, second) {
            (true, true, _) => choice.of[0].clone(),
            (true, _, true) => choice.of[1].clone(),
            _ => x,
        }
    }

    fn times(&mut self, a: &Linear, b: &Linear) -> Outcome<Linear> {
        match (a.known(), b.known()) {
            (Some(n), _) => b.scaled(n).ok_or_else(too_large),
            (_, Some(n)) => a.scaled(n).ok_or_else(too_large),
            (None, None) => {
                let (a, b) = (self.scope.range(a), self.scope.range(b));
                Ok(self.between([a.0, a.1].map(|x| [b.0, b.1].map(|y| x.saturating_mul(y))).as_flattened()))
            }
        }
    }

    /// A whole number between the least and the most of these.
    fn between(&mut self, ends: &[i128]) -> Linear {
        let (lo, hi) = (ends.iter().min().copied().unwrap_or(0), ends.iter().max().copied().unwrap_or(0));
        if lo == hi {
            return Linear::constant(lo);
        }
        let symbol = self.scope.symbol(Linear::constant(lo), Linear::constant(hi));
        symbol.map_or(Linear::constant(lo), Linear::symbol)
    }

    /// The sum, if no value of it is too large.
    fn fit(&self, x: Linear) -> Outcome<Linear> {
        let (lo, hi) = self.scope.range(&x);
        if lo.abs().max(hi.abs()) <= self.limit { Ok(x) } else { Err(too_large()) }
    }
}

fn sum(a: &Linear, b: &Linear, times: i128) -> Outcome<Linear> {
    a.plus(b, times).ok_or_else(too_large)
}

/// An extent where it is not 0: of max(x, 0), x.
fn some(extent: Linear) -> Linear {
    let (0, [], [(choice, 1)]) = (extent.constant, &extent.terms[..], &extent.choices[..]) else { return extent };
    let none = |one: &Linear| one.known().is_some_and(|n| n <= 0);
    match &choice.of {
        [x, rest] if choice.extreme == Extreme::Most && none(rest) => x.clone(),
        [rest, x] if choice.extreme == Extreme::Most && none(rest) => x.clone(),
        _ => extent,
    }
}

fn too_large() -> String {
    "an integer may be larger than the target computes with".to_owned()
}

/// The last number that a loop takes, or one beyond it.
fn last(from: &Linear, to: &Linear, step: &Linear) -> Linear {
    let last = to.clone().and(-1);
    match (from.known(), last.known(), step.known()) {
        (Some(from), Some(last), Some(step)) if step > 1 && last >= from => {
            Linear::constant(from + (last - from) / step * step)
        }
        _ => last,
    }
}

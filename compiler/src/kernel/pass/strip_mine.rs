//! Loops whose statements go column by column, one strip of columns at a time.
//!
//! A buffer that such a loop writes must hold its columns apart: every access to it is dense along the column axis, and
//! all else in its address is a multiple of the number of columns. Then no strip sees what another one writes.

use std::collections::BTreeSet;

use crate::kernel::visit::{Effects, next_variable};
use crate::kernel::{
    Access, BufferId, Function, Int, Keep, Map, Module, Outer, Product, Rankwise, Stmt, Sweep, Triangle, Value, VarId,
};

/// Elements of a strip of the tile: 16 KiB, half of the smallest nearest cache.
const STRIP: i64 = 4096;
/// The columns of a strip, at least and at most.
const NARROW: i64 = 16;
const WIDE: i64 = 64;

/// The module with strips.
pub(super) fn mine(mut module: Module) -> Module {
    let mut next = next_variable(&module);
    for kernel in &mut module.kernels {
        kernel.body = block(std::mem::take(&mut kernel.body), &mut next);
    }
    module
}

fn block(body: Vec<Stmt>, next: &mut u32) -> Vec<Stmt> {
    body.into_iter().map(|stmt| of_stmt(stmt, next)).collect()
}

fn of_stmt(stmt: Stmt, next: &mut u32) -> Stmt {
    match stmt {
        Stmt::For { var, from, to, step, body } => match strips(&body) {
            Some(strips) => {
                let column = VarId(*next);
                *next += 1;
                let body = body.into_iter().map(|stmt| strips.stmt(stmt, column)).collect();
                let inner = Stmt::For { var, from, to, step, body };
                let (zero, step) = (Int::from(0i64), Int::from(strips.width));
                Stmt::For { var: column, from: zero, to: strips.columns, step, body: vec![inner] }
            }
            None => Stmt::For { var, from, to, step, body: block(body, next) },
        },
        Stmt::If { left, right, then, otherwise } => {
            let (then, otherwise) = (block(then, next), block(otherwise, next));
            Stmt::If { left, right, then, otherwise }
        }
        other => other,
    }
}

/// How a loop's body is cut.
struct Strips {
    columns: Int,
    width: i64,
}

/// The strips of a body of sweeps all of whose statements go column by column.
fn strips(body: &[Stmt]) -> Option<Strips> {
    let mut tiles: Vec<(&Int, BufferId)> = Vec::new();
    let mut columns = None;
    for stmt in body {
        if let Stmt::Sweep(sweep) = stmt {
            columns.get_or_insert(&sweep.columns);
            if !tiles.iter().any(|(_, buffer)| *buffer == sweep.state.buffer) {
                tiles.push((&sweep.rows, sweep.state.buffer));
            }
        }
    }
    let columns = columns?.clone();
    let rows = |rows: &Int| if let Int::Const(n) = rows { *n } else { 128 };
    let rows: i64 = tiles.iter().map(|(n, _)| rows(n)).sum();
    let width = (STRIP / rows.max(1)).clamp(NARROW, WIDE) / NARROW * NARROW;
    if matches!(columns, Int::Const(n) if n <= width) {
        return None;
    }
    let written = body.iter().flat_map(|stmt| Effects::of(stmt).writes).collect();
    let rule = Rule { columns: &columns, written };
    body.iter().all(|stmt| rule.holds(stmt)).then_some(Strips { columns, width })
}

/// What makes a statement go column by column.
struct Rule<'r> {
    columns: &'r Int,
    written: BTreeSet<BufferId>,
}

impl Rule<'_> {
    fn holds(&self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::Sweep(sweep) => self.sweep(sweep),
            Stmt::Map(map) => {
                let along = map.axes.last() == Some(self.columns) && map.below.is_none();
                along && self.column(&map.dst) && self.value(&map.value)
            }
            Stmt::Product(product) => {
                let plain = product.n == *self.columns && product.shape == Triangle::Full;
                plain && self.column(&product.dst) && self.column(&product.b) && self.given(&product.a)
            }
            Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).all(|stmt| self.holds(stmt)),
            Stmt::For { .. } | Stmt::Reduce(_) | Stmt::Scan(_) | Stmt::Solve(_) => false,
        }
    }

    fn sweep(&self, sweep: &Sweep) -> bool {
        let update = sweep.update.as_ref();
        let outers = || sweep.reads.iter().chain(update.into_iter().flat_map(|update| &update.ranks));
        let tiles = [&sweep.state].into_iter().chain(update.map(|update| &update.from));
        let factors = update.and_then(|update| update.keep.as_ref()).into_iter().flat_map(Keep::factors);
        sweep.columns == *self.columns
            && tiles.chain(outers().map(|outer| &outer.column)).all(|access| self.column(access))
            && outers().map(|outer| &outer.row).chain(factors).all(|x| self.given(x))
    }

    /// What the loop does not write.
    fn given(&self, access: &Access) -> bool {
        !self.written.contains(&access.buffer)
    }

    /// Columns apart, where the loop writes them.
    fn column(&self, access: &Access) -> bool {
        let [rows @ .., last] = &access.strides[..] else { return self.given(access) };
        let apart = || *last == Int::Const(1) && rows.iter().chain([&access.offset]).all(|x| multiple(x, self.columns));
        self.given(access) || apart()
    }

    fn value(&self, value: &Value) -> bool {
        match value {
            Value::Load(access) | Value::Bounded { access, .. } => self.column(access),
            Value::Const(_) | Value::Int(_) | Value::Axis(_) => true,
            Value::Call(_, args) => args.iter().all(|x| self.value(x)),
            Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().all(|x| self.value(x)),
        }
    }
}

/// Whether an integer is a multiple of another, whatever its variables stand for.
fn multiple(x: &Int, of: &Int) -> bool {
    if x == of {
        return true;
    }
    match x {
        Int::Const(0) => true,
        Int::Const(x) => matches!(of, Int::Const(n) if *n != 0 && x % n == 0),
        Int::Add(a, b) | Int::Sub(a, b) => multiple(a, of) && multiple(b, of),
        Int::Mul(a, b) => multiple(a, of) || multiple(b, of),
        _ => false,
    }
}

impl Strips {
    /// A statement of the strip at `column`.
    fn stmt(&self, stmt: Stmt, column: VarId) -> Stmt {
        let at = Int::Var(column);
        match stmt {
            Stmt::Sweep(Sweep { rows, state, update, reads, .. }) => Stmt::Sweep(Sweep {
                rows,
                columns: self.extent(&at),
                state: moved(&state, &at),
                update: update.map(|update| Rankwise {
                    from: moved(&update.from, &at),
                    keep: update.keep,
                    ranks: outers(update.ranks, &at),
                }),
                reads: outers(reads, &at),
            }),
            Stmt::Map(Map { mut axes, below, dst, value }) => {
                let last = axes.len().saturating_sub(1);
                if let Some(axis) = axes.last_mut() {
                    *axis = self.extent(&at);
                }
                Stmt::Map(Map { axes, below, dst: moved(&dst, &at), value: shifted(&value, last, &at) })
            }
            Stmt::Product(Product { m, k, dst, a, b, accumulate, shape, .. }) => {
                let (n, dst, b) = (self.extent(&at), moved(&dst, &at), moved(&b, &at));
                Stmt::Product(Product { m, n, k, dst, a, b, accumulate, shape })
            }
            Stmt::If { left, right, then, otherwise } => {
                let [then, otherwise] =
                    [then, otherwise].map(|body| body.into_iter().map(|stmt| self.stmt(stmt, column)).collect());
                Stmt::If { left, right, then, otherwise }
            }
            other => other,
        }
    }

    fn extent(&self, at: &Int) -> Int {
        match self.columns {
            Int::Const(n) if n % self.width == 0 => self.width.into(),
            _ => (self.columns.clone() - at.clone()).min(self.width),
        }
    }
}

fn outers(all: Vec<Outer>, at: &Int) -> Vec<Outer> {
    all.into_iter().map(|outer| Outer { row: outer.row, column: moved(&outer.column, at) }).collect()
}

/// The access from position `at` of its last axis on.
fn moved(access: &Access, at: &Int) -> Access {
    let last = access.strides.last().cloned().unwrap_or(Int::Const(0));
    Access { offset: access.offset.clone() + last * at.clone(), ..access.clone() }
}

/// The value from position `at` of axis `last` on.
fn shifted(value: &Value, last: usize, at: &Int) -> Value {
    let again = |x: &Value| shifted(x, last, at);
    match value {
        Value::Load(access) => Value::Load(moved(access, at)),
        Value::Bounded { access, position, length } => {
            let mut position = position.clone();
            if let Some(stride) = position.strides.last() {
                position.base = position.base + stride.clone() * at.clone();
            }
            Value::Bounded { access: moved(access, at), position, length: length.clone() }
        }
        Value::Axis(d) if *d == last => Value::Call(Function::Add, vec![value.clone(), Value::Int(at.clone())]),
        Value::Const(_) | Value::Int(_) | Value::Axis(_) => value.clone(),
        Value::Call(function, args) => Value::Call(*function, args.iter().map(again).collect()),
        Value::Select(cond, then, otherwise) => {
            let [cond, then, otherwise] = [cond, then, otherwise].map(|x| Box::new(again(x)));
            Value::Select(cond, then, otherwise)
        }
    }
}

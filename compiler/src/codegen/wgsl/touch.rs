//! What a statement reads and writes, as far as placing memory and putting up barriers is concerned.

use crate::kernel::visit::accesses;
use crate::kernel::{Access, Int, Stmt, Value, VarId};

/// An access of a statement.
pub(super) struct Use<'s> {
    pub(super) access: &'s Access,
    pub(super) written: bool,
}

/// Every access of a statement that holds no others, the reads first.
pub(super) fn uses(stmt: &Stmt) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    let read = |access| Use { access, written: false };
    let write = |access| Use { access, written: true };
    match stmt {
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Sweep(_) => {}
        Stmt::Map(x) => {
            accesses(&x.value, &mut |access| found.push(read(access)));
            found.push(write(&x.dst));
        }
        Stmt::Reduce(x) => {
            accesses(&x.value, &mut |access| found.push(read(access)));
            found.push(write(&x.dst));
        }
        Stmt::Scan(x) => {
            accesses(&x.value, &mut |access| found.push(read(access)));
            found.push(write(&x.dst));
        }
        Stmt::Product(x) => {
            found.extend([read(&x.a), read(&x.b)]);
            if x.accumulate {
                found.push(read(&x.dst));
            }
            found.push(write(&x.dst));
        }
        Stmt::Solve(x) => {
            found.extend(x.p.iter().chain(&x.x).map(read));
            found.extend(x.x.iter().map(write));
        }
    }
    found
}

/// Every integer of a statement that holds no others, those of accesses to `but` left out.
pub(super) fn ints<'s>(stmt: &'s Stmt, but: &dyn Fn(&Access) -> bool, visit: &mut dyn FnMut(&'s Int)) {
    match stmt {
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Sweep(_) => {}
        Stmt::Map(x) => {
            x.axes.iter().chain(&x.below).for_each(&mut *visit);
            value_ints(&x.value, but, visit);
        }
        Stmt::Reduce(x) => {
            x.axes.iter().chain([&x.inner]).for_each(&mut *visit);
            value_ints(&x.value, but, visit);
        }
        Stmt::Scan(x) => {
            x.axes.iter().chain([&x.inner]).for_each(&mut *visit);
            value_ints(&x.value, but, visit);
        }
        Stmt::Product(x) => [&x.m, &x.n, &x.k].into_iter().for_each(&mut *visit),
        Stmt::Solve(x) => [&x.n, &x.columns].into_iter().for_each(&mut *visit),
    }
    for Use { access, .. } in uses(stmt) {
        if !but(access) {
            std::iter::once(&access.offset).chain(&access.strides).for_each(&mut *visit);
        }
    }
}

/// Integers of a value that stand outside its accesses' places.
fn value_ints<'v>(value: &'v Value, but: &dyn Fn(&Access) -> bool, visit: &mut dyn FnMut(&'v Int)) {
    match value {
        Value::Int(x) => visit(x),
        Value::Bounded { access, position, length } => {
            if !but(access) {
                [&position.base, length].into_iter().chain(&position.strides).for_each(visit);
            }
        }
        Value::Load(_) | Value::Const(_) | Value::Axis(_) => {}
        Value::Call(_, args) => args.iter().for_each(|x| value_ints(x, but, visit)),
        Value::Select(cond, then, otherwise) => {
            [cond, then, otherwise].into_iter().for_each(|x| value_ints(x, but, visit));
        }
    }
}

/// Whether an integer depends on a variable other than through `length`, which may be anything in every round.
pub(super) fn varies(x: &Int, var: VarId, length: &Int) -> bool {
    if x == length {
        return false;
    }
    match x {
        Int::Const(_) | Int::Param(_) => false,
        Int::Load(_) => true,
        Int::Var(v) => *v == var,
        Int::Add(a, b) | Int::Sub(a, b) | Int::Mul(a, b) | Int::Div(a, b) | Int::Mod(a, b) => {
            varies(a, var, length) || varies(b, var, length)
        }
        Int::Min(a, b) | Int::Max(a, b) => varies(a, var, length) || varies(b, var, length),
    }
}

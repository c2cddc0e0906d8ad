//! Scans as loops, for targets on which one thread runs a work item.
//!
//! ```text
//! scan [i < n, r < m] dst[i, r] = running prod value(i, r)
//!   ->  map [i < n] dst[i, 0] = value(i, 0)
//!       for v in 1..m   map [i < n] dst[i, v] = dst[i, v - 1] * value(i, v)
//! ```

use crate::kernel::frame::scan_frame;
use crate::kernel::visit::next_variable;
use crate::kernel::{Access, Function, Int, Map, Module, Position, ReduceOp, Scan, ScanFrom, Stmt, Value, VarId};

/// The module without scans.
pub(super) fn all(module: Module) -> Module {
    lower(module, &|_, _| false)
}

/// The module without scans but those whose steps are rows of a tile.
pub(super) fn but_tiles(module: Module) -> Module {
    lower(module, &|module, scan| scan_frame(module, scan).is_some())
}

/// The scans that stay.
type Keep<'k> = &'k dyn Fn(&Module, &Scan) -> bool;

fn lower(mut module: Module, keep: Keep<'_>) -> Module {
    let mut next = next_variable(&module);
    for at in 0..module.kernels.len() {
        let body = std::mem::take(&mut module.kernels[at].body);
        module.kernels[at].body = block(body, &|scan| keep(&module, scan), &mut next);
    }
    module
}

fn block(body: Vec<Stmt>, keep: &dyn Fn(&Scan) -> bool, next: &mut u32) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(body.len());
    for stmt in body {
        match stmt {
            Stmt::Scan(scan) if !keep(&scan) => out.extend(steps(scan, next)),
            Stmt::For { var, from, to, step, body } => {
                out.push(Stmt::For { var, from, to, step, body: block(body, keep, next) });
            }
            Stmt::If { left, right, then, otherwise } => {
                let (then, otherwise) = (block(then, keep, next), block(otherwise, keep, next));
                out.push(Stmt::If { left, right, then, otherwise });
            }
            other => out.push(other),
        }
    }
    out
}

fn steps(scan: Scan, next: &mut u32) -> Vec<Stmt> {
    let var = VarId(*next);
    *next += 1;
    let Scan { axes, inner, op, from, dst, value } = scan;
    let at = |r: &Int| last_at(&dst, r);
    let last = axes.len();
    let alone = |r: &Int| value_at(&value, last, r);
    let joined = |r: &Int| Value::Call(op.function(), vec![alone(r), Value::Load(at(&(r.clone() - 1i64)))]);
    let (zero, one, v) = (Int::from(0i64), Int::from(1i64), Int::Var(var));
    match from {
        ScanFrom::First => {
            let first = Map::new(axes.clone(), at(&zero), alone(&zero));
            let step = Map::new(axes, at(&v), joined(&v));
            vec![
                Stmt::If { left: zero, right: inner.clone(), then: vec![Stmt::Map(first)], otherwise: Vec::new() },
                Stmt::For { var, from: one.clone(), to: inner, step: one, body: vec![Stmt::Map(step)] },
            ]
        }
        ScanFrom::Diagonal => {
            let columns = axes.into_iter().next().unwrap_or(one.clone());
            let step = Map::new(vec![v.clone().min(columns.clone())], at(&v), joined(&v));
            let diagonal = at(&v);
            let offset = diagonal.offset + diagonal.strides.first().cloned().unwrap_or(zero.clone()) * v.clone();
            let start = Map::new(Vec::new(), Access::new(dst.buffer, offset, []), Value::Const(op.empty()));
            let start = Stmt::If { left: v, right: columns, then: vec![Stmt::Map(start)], otherwise: Vec::new() };
            vec![Stmt::For { var, from: zero, to: inner, step: one, body: vec![Stmt::Map(step), start] }]
        }
    }
}

impl ReduceOp {
    /// The function that joins two of its terms.
    pub fn function(self) -> Function {
        match self {
            ReduceOp::Sum => Function::Add,
            ReduceOp::Max | ReduceOp::Most => Function::Max,
            ReduceOp::Min => Function::Min,
            ReduceOp::Product => Function::Mul,
        }
    }
}

/// The access with its last axis at `r`.
fn last_at(access: &Access, r: &Int) -> Access {
    let (offset, strides) = fixed(&access.offset, &access.strides, r);
    Access { buffer: access.buffer, offset, strides }
}

fn fixed(base: &Int, strides: &[Int], r: &Int) -> (Int, Vec<Int>) {
    match strides {
        [rest @ .., last] => (base.clone() + last.clone() * r.clone(), rest.to_vec()),
        [] => (base.clone(), Vec::new()),
    }
}

/// The value with axis `last`, the last one, at `r`.
fn value_at(value: &Value, last: usize, r: &Int) -> Value {
    let again = |x: &Value| value_at(x, last, r);
    match value {
        Value::Load(access) => Value::Load(last_at(access, r)),
        Value::Bounded { access, position, length } => {
            let (base, strides) = fixed(&position.base, &position.strides, r);
            let position = Position { base, strides };
            Value::Bounded { access: last_at(access, r), position, length: length.clone() }
        }
        Value::Axis(d) if *d == last => Value::Int(r.clone()),
        Value::Const(_) | Value::Int(_) | Value::Axis(_) => value.clone(),
        Value::Call(function, args) => Value::Call(*function, args.iter().map(again).collect()),
        Value::Select(cond, then, otherwise) => {
            let [cond, then, otherwise] = [cond, then, otherwise].map(|x| Box::new(again(x)));
            Value::Select(cond, then, otherwise)
        }
    }
}

//! Which statements are passes over a tile, and which of them are one pass.

use crate::kernel::visit::Effects;
use crate::kernel::{
    Access, Buffer, Elem, Function, Int, Keep, Map, Module, Outer, Product, Rankwise, Stmt, Sweep, Triangle, Value,
};

/// The module with sweeps where a tile is updated and then read.
pub(super) fn fuse(mut module: Module) -> Module {
    for kernel in &mut module.kernels {
        kernel.body = block(&module.buffers, std::mem::take(&mut kernel.body));
    }
    module
}

/// A statement on its way.
enum Part {
    Other(Stmt),
    /// A sweep, and the update that it was made of.
    Sweep(Box<Sweep>, Option<Map>),
}

/// Statements in order, with sweeps where a tile is updated and then read.
fn block(buffers: &[Buffer], body: Vec<Stmt>) -> Vec<Stmt> {
    let updated: Vec<Access> = body.iter().filter_map(|stmt| update(buffers, stmt)).map(|x| x.state).collect();
    let mut parts: Vec<Part> = Vec::new();
    for stmt in body {
        let part = match stmt {
            Stmt::For { var, from, to, step, body } => {
                Part::Other(Stmt::For { var, from, to, step, body: block(buffers, body) })
            }
            Stmt::If { left, right, then, otherwise } => {
                let [then, otherwise] = [then, otherwise].map(|body| block(buffers, body));
                Part::Other(Stmt::If { left, right, then, otherwise })
            }
            Stmt::Map(map) => match of_map(buffers, &map) {
                Some(sweep) => Part::Sweep(Box::new(sweep), Some(map)),
                None => Part::Other(Stmt::Map(map)),
            },
            Stmt::Product(product) if updated.contains(&product.b) => match of_product(buffers, &product) {
                Some(sweep) if joined(&mut parts, &sweep) => continue,
                Some(sweep) => Part::Sweep(Box::new(sweep), None),
                None => Part::Other(Stmt::Product(product)),
            },
            other => Part::Other(other),
        };
        parts.push(part);
    }
    parts.into_iter().map(whole).collect()
}

/// A sweep pays where it reads what it updates.
fn whole(part: Part) -> Stmt {
    match part {
        Part::Other(stmt) => stmt,
        Part::Sweep(sweep, Some(map)) if sweep.reads.is_empty() => Stmt::Map(map),
        Part::Sweep(sweep, _) => Stmt::Sweep(*sweep),
    }
}

/// Whether the reads were done with the last sweep of their tile.
fn joined(parts: &mut [Part], reads: &Sweep) -> bool {
    let same = |x: &Sweep| (&x.rows, &x.columns, &x.state) == (&reads.rows, &reads.columns, &reads.state);
    let Some(place) = parts.iter().rposition(|part| matches!(part, Part::Sweep(x, _) if same(x))) else { return false };
    let needed = Effects::of(&Stmt::Sweep(reads.clone()));
    let free = |stmt: &Stmt| {
        let between = Effects::of(stmt);
        between.writes.is_disjoint(&needed.reads)
            && between.writes.is_disjoint(&needed.writes)
            && between.reads.is_disjoint(&needed.writes)
    };
    let after = parts[place + 1..].iter().all(|part| match part {
        Part::Other(stmt) => free(stmt),
        Part::Sweep(sweep, _) => free(&Stmt::Sweep(Sweep::clone(sweep))),
    });
    let Part::Sweep(sweep, _) = &mut parts[place] else { return false };
    let own = Effects::of(&Stmt::Sweep(Sweep::clone(sweep)));
    let apart = own.touches().all(|buffer| !needed.writes.contains(&buffer))
        && sweep.reads.iter().all(|read| reads.reads.iter().all(|x| x.row.buffer != read.column.buffer));
    let fits = sweep.reads.len() + reads.reads.len() <= Sweep::READS;
    if after && apart && fits {
        sweep.reads.extend(reads.reads.iter().cloned());
    }
    after && apart && fits
}

fn update(buffers: &[Buffer], stmt: &Stmt) -> Option<Sweep> {
    match stmt {
        Stmt::Map(map) => of_map(buffers, map),
        _ => None,
    }
}

/// `s[i,j] = keep[i] * from[i,j] + sum of w[i] * u[j]` as a sweep without reads; what is kept may be a sum of two, of which
/// the second is what the first lost.
fn of_map(buffers: &[Buffer], map: &Map) -> Option<Sweep> {
    let ([rows, columns], None) = (&map.axes[..], &map.below) else { return None };
    if *columns == Int::Const(1) || !is_tile(&map.dst) {
        return None;
    }
    let mut terms = Vec::new();
    operands(&map.value, Function::Add, &mut terms);
    let mut before: Vec<(&Access, Option<Access>)> = Vec::new();
    let mut ranks = Vec::new();
    for term in terms {
        let mut factors = Vec::new();
        operands(term, Function::Mul, &mut factors);
        let factors: Vec<&Access> = factors.into_iter().map(|x| float(buffers, x)).collect::<Option<_>>()?;
        match &factors[..] {
            [a, b] if is_row(a) && is_column(b) => ranks.push(outer(a, b)),
            [a, b] if is_row(b) && is_column(a) => ranks.push(outer(b, a)),
            [from] if is_tile(from) => before.push((from, None)),
            [a, from] | [from, a] if is_row(a) && is_tile(from) => before.push((from, Some(first(a)))),
            _ => return None,
        }
    }
    let keep = |factor: &Access, lost| Some(Keep { factor: factor.clone(), lost });
    let (from, keep) = match &before[..] {
        [(from, None)] => (*from, None),
        [(from, Some(factor))] => (*from, keep(factor, None)),
        [(from, Some(factor)), (same, Some(lost))] if from == same && factor.strides == lost.strides => {
            (*from, keep(factor, Some(lost.clone())))
        }
        _ => return None,
    };
    let alone = |access: &Access| access.buffer != map.dst.buffer;
    let factors = ranks.iter().flat_map(|rank| [&rank.row, &rank.column]);
    let factors = factors.chain(keep.iter().flat_map(Keep::factors)).all(alone);
    let in_place = alone(from) || *from == map.dst;
    if ranks.is_empty() || ranks.len() > Sweep::RANKS || !factors || !in_place {
        return None;
    }
    let update = Some(Rankwise { from: from.clone(), keep, ranks });
    Some(Sweep { rows: rows.clone(), columns: columns.clone(), state: map.dst.clone(), update, reads: Vec::new() })
}

/// `y[j] = sum over i of x[i] * s[i,j]` as a sweep that only reads.
fn of_product(buffers: &[Buffer], product: &Product) -> Option<Sweep> {
    let Product { m, n, k, dst, a, b, accumulate, shape } = product;
    let apart = dst.buffer != a.buffer && dst.buffer != b.buffer;
    let plain = *m == Int::Const(1) && !accumulate && *shape == Triangle::Full && apart && is_tile(b);
    if !plain || [a, b].iter().any(|access| !is_float(buffers, access)) {
        return None;
    }
    let row = last(a);
    let column = last(dst);
    let reads = vec![Outer { row, column }];
    Some(Sweep { rows: k.clone(), columns: n.clone(), state: b.clone(), update: None, reads })
}

/// What a chain of one operator joins.
fn operands<'v>(value: &'v Value, joint: Function, found: &mut Vec<&'v Value>) {
    match value {
        Value::Call(function, args) if *function == joint => args.iter().for_each(|x| operands(x, joint, found)),
        other => found.push(other),
    }
}

fn float<'v>(buffers: &[Buffer], value: &'v Value) -> Option<&'v Access> {
    match value {
        Value::Load(access) if is_float(buffers, access) => Some(access),
        _ => None,
    }
}

fn is_float(buffers: &[Buffer], access: &Access) -> bool {
    buffers.get(access.buffer.index()).is_some_and(|buffer| buffer.elem == Elem::F32)
}

const ZERO: Int = Int::Const(0);
const ONE: Int = Int::Const(1);

/// The same for every j.
fn is_row(access: &Access) -> bool {
    matches!(&access.strides[..], [_, j] if *j == ZERO)
}

/// The same for every i, dense along j.
fn is_column(access: &Access) -> bool {
    matches!(&access.strides[..], [i, j] if *i == ZERO && *j == ONE)
}

/// Another element for every i and j, dense along j.
fn is_tile(access: &Access) -> bool {
    matches!(&access.strides[..], [i, j] if *i != ZERO && *j == ONE)
}

fn outer(row: &Access, column: &Access) -> Outer {
    Outer { row: first(row), column: last(column) }
}

/// An access along i alone.
fn first(access: &Access) -> Access {
    Access::new(access.buffer, access.offset.clone(), access.strides.first().cloned())
}

/// An access along j alone.
fn last(access: &Access) -> Access {
    Access::new(access.buffer, access.offset.clone(), access.strides.last().cloned())
}

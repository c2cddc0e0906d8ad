//! What a loop reads and writes in its next round, so that a processor may fetch it early. The rows of a chunk lie a whole
//! token apart, further than hardware looks ahead by itself.
//!
//! ```text
//! for v in 0..T step chunk                        for v in 0..T step chunk
//!   map [i < c, j < n] a[..] = q[v n + ..]   ->     map [i < c, j < n] a[..] = q[v n + ..]
//!                                                   fetch [i < c', j < n] q[(v + chunk) n + ..]
//! ```
//! A hint changes no result and may name what lies beyond a buffer: processors ignore such addresses. For targets on
//! which one thread runs a work item.

use super::{Access, Buffer, BufferRole, Int, Keep, Map, Module, Product, Reduce, Stmt, Sweep, Value, VarId};

/// Rounds ahead, of loops that take one token a round.
const ROUNDS: i64 = 8;

/// Rows of a tensor, for the round that comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ahead {
    /// The place in the loop's body of the statement after which to fetch.
    pub after: usize,
    pub rows: Int,
    /// Contiguous elements of a row.
    pub elements: Int,
    /// The first element, and the stride of the rows.
    pub access: Access,
    pub written: bool,
}

/// What to fetch in a round of `for var .. step step { body }`, each row once.
pub fn ahead(module: &Module, (var, step): (VarId, &Int), body: &[Stmt]) -> Vec<Ahead> {
    let distance = if *step == Int::Const(1) { Int::Const(ROUNDS) } else { step.clone() };
    let next = Int::Var(var) + distance;
    let mut found: Vec<Ahead> = Vec::new();
    for (after, stmt) in body.iter().enumerate() {
        for Rows { rows, elements, access, written } in touched(stmt) {
            let far = matches!(module.buffers.get(access.buffer.index()), Some(buffer) if outside(buffer));
            let offset = access.offset.with(var, &next);
            if !far || offset == access.offset {
                continue;
            }
            let rows = rows.with(var, &next);
            let access = Access { offset, ..access };
            match found.iter_mut().find(|ahead| ahead.access == access) {
                Some(ahead) => ahead.written |= written,
                None => found.push(Ahead { after, rows, elements, access, written }),
            }
        }
    }
    found
}

/// Whether a buffer is a whole tensor.
fn outside(buffer: &Buffer) -> bool {
    matches!(buffer.role, BufferRole::Input | BufferRole::Output)
}

/// Rows that a statement touches.
struct Rows {
    rows: Int,
    elements: Int,
    access: Access,
    written: bool,
}

fn touched(stmt: &Stmt) -> Vec<Rows> {
    let mut found = Vec::new();
    match stmt {
        Stmt::Map(Map { axes, dst, value, .. }) => {
            found.extend(rows(axes, dst, true));
            loads(value, &mut |access| found.extend(rows(axes, access, false)));
        }
        Stmt::Reduce(Reduce { axes, inner, value, .. }) => {
            let axes: Vec<Int> = axes.iter().chain([inner]).cloned().collect();
            loads(value, &mut |access| found.extend(rows(&axes, access, false)));
        }
        Stmt::Product(Product { m, n, k, dst, a, b, .. }) => {
            found.extend(rows(&[m.clone(), n.clone()], dst, true));
            found.extend(rows(&[m.clone(), k.clone()], a, false));
            found.extend(rows(&[k.clone(), n.clone()], b, false));
        }
        Stmt::Sweep(Sweep { rows: down, columns, update, reads, .. }) => {
            let update = update.as_ref();
            let along = |n: &Int, access: &Access, written| rows(std::slice::from_ref(n), access, written);
            let keep = update.and_then(|update| update.keep.as_ref());
            found.extend(keep.into_iter().flat_map(Keep::factors).filter_map(|factor| along(down, factor, false)));
            for rank in update.into_iter().flat_map(|update| &update.ranks) {
                found
                    .extend([along(down, &rank.row, false), along(columns, &rank.column, false)].into_iter().flatten());
            }
            for read in reads {
                found.extend([along(down, &read.row, false), along(columns, &read.column, true)].into_iter().flatten());
            }
        }
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Scan(_) | Stmt::Solve(_) => {}
    }
    found
}

/// An access of a statement over these axes as rows of contiguous elements, whichever axis runs along them.
fn rows(axes: &[Int], access: &Access, written: bool) -> Option<Rows> {
    let one = Int::Const(1);
    let (rows, elements, stride) = match (axes, &access.strides[..]) {
        ([n], [stride]) if *stride == one => (&one, n, &one),
        ([n], [stride]) => (n, &one, stride),
        ([m, n], [down, across]) if *across == one => (m, n, down),
        ([m, n], [down, across]) if *down == one => (n, m, across),
        ([m, _], [down, Int::Const(0)]) => (m, &one, down),
        _ => return None,
    };
    let access = Access::new(access.buffer, access.offset.clone(), [stride.clone()]);
    Some(Rows { rows: rows.clone(), elements: elements.clone(), access, written })
}

fn loads(value: &Value, visit: &mut dyn FnMut(&Access)) {
    match value {
        Value::Load(access) => visit(access),
        Value::Bounded { .. } | Value::Const(_) | Value::Int(_) | Value::Axis(_) => {}
        Value::Call(_, args) => args.iter().for_each(|x| loads(x, visit)),
        Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().for_each(|x| loads(x, visit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{BufferId, Elem, ParamId};

    fn module() -> Module {
        let buffer = |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: 4096i64.into() };
        Module {
            name: "m".into(),
            params: Vec::new(),
            buffers: vec![buffer("q", BufferRole::Input), buffer("a", BufferRole::Scratch)],
            kernels: Vec::new(),
        }
    }

    #[test]
    fn the_rows_of_the_next_chunk_are_fetched_once() {
        let (q, a, var) = (BufferId(0), BufferId(1), VarId(0));
        let chunk = Int::Param(ParamId(0));
        let place = || Access::new(q, Int::Var(var) * 64i64, [64i64.into(), 1i64.into()]);
        let left = (Int::from(100i64) - Int::Var(var)).min(chunk.clone());
        let map = |dst: Access| Stmt::Map(Map::new(vec![left.clone(), 8i64.into()], dst, Value::Load(place())));
        let to = || Access::new(a, 0i64, [8i64.into(), 1i64.into()]);
        let found = ahead(&module(), (var, &chunk), &[map(to()), map(to())]);
        let next = Int::Var(var) + chunk.clone();
        let expected = Ahead {
            after: 0,
            rows: (Int::from(100i64) - next.clone()).min(chunk.clone()),
            elements: 8i64.into(),
            access: Access::new(q, next * 64i64, [64i64.into()]),
            written: false,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn what_stays_in_place_is_not_fetched() {
        let (q, a) = (BufferId(0), BufferId(1));
        let value = Value::Load(Access::new(q, 0i64, [1i64.into()]));
        let map = Stmt::Map(Map::new(vec![8i64.into()], Access::new(a, 0i64, [1i64.into()]), value));
        assert_eq!(ahead(&module(), (VarId(0), &Int::Const(1)), &[map]), []);
    }
}

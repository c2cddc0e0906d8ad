//! A recurrence of one token: the tile is read where it was given and written where it is wanted, with no copy between.
//!
//! ```text
//! s = in; for t in 0..T { sweep s; .. }; out = s      ->      sweep out from in; ..      where T is 1
//! ```

use std::collections::HashMap;

use crate::kernel::visit::{Effects, Rebuild, next_variable};
use crate::kernel::{Access, BufferId, BufferRole, Int, Keep, Map, Module, ParamId, ParamRole, Stmt, Sweep, Value};

/// The module with a way of its own for one token, where that saves copies of a tile.
pub(super) fn specialise(mut module: Module) -> Module {
    let mut next = next_variable(&module);
    if let [kernel] = &module.kernels[..]
        && let Some(one) = one_token(&module, &kernel.body, &mut next)
    {
        let body = std::mem::take(&mut module.kernels[0].body);
        module.kernels[0].body = vec![one.otherwise(body)];
    }
    module
}

/// The kernel's statements where a size is 1.
struct One {
    size: ParamId,
    body: Vec<Stmt>,
}

impl One {
    /// These statements where the size is 1, the others for any other.
    fn otherwise(self, others: Vec<Stmt>) -> Stmt {
        let (size, two) = (Int::Param(self.size), Int::from(2i64));
        Stmt::If { left: size.clone().max(two.clone() - size), right: two, then: self.body, otherwise: others }
    }
}

/// The statements for one token, where that saves copies of a tile. The module has one kernel.
fn one_token(module: &Module, body: &[Stmt], next: &mut u32) -> Option<One> {
    let role = |id: &ParamId| module.params.get(id.index()).map(|param| &param.role);
    let (size, chunk) = body.iter().find_map(|stmt| match stmt {
        Stmt::For { from: Int::Const(0), to: Int::Param(to), step: Int::Param(step), .. }
            if matches!(role(to), Some(ParamRole::Size(_))) && role(step) == Some(&ParamRole::Chunk) =>
        {
            Some((*to, *step))
        }
        _ => None,
    })?;
    // A chunk holds one token at least, and one token is as many of them as there are.
    let params = HashMap::from([(size, Int::Const(1)), (chunk, Int::Const(1))]);
    let mut rebuild = Rebuild { vars: HashMap::new(), params, buffers: HashMap::new(), next };
    let mut flat = Vec::new();
    unroll(body, &mut rebuild, &mut flat);
    let mut saved = false;
    while let Some(tile) = (0..flat.len()).find_map(|place| Through::of(module, &flat, place)) {
        tile.forward(&mut flat);
        saved = true;
    }
    saved.then_some(One { size, body: flat })
}

/// Statements with the loops of one round or none resolved.
fn unroll(body: &[Stmt], rebuild: &mut Rebuild<'_>, out: &mut Vec<Stmt>) {
    for stmt in body {
        if let Stmt::For { var, from, to, body, .. } = stmt
            && let (Int::Const(from), Int::Const(to)) = (rebuild.int(from), rebuild.int(to))
            && to <= from + 1
        {
            if to > from {
                rebuild.vars.insert(*var, Int::Const(from));
                unroll(body, rebuild, out);
            }
            continue;
        }
        let stmt = rebuild.stmt(stmt);
        out.push(stmt);
    }
}

/// A tile that is copied in, updated once and copied out.
struct Through {
    /// Where these statements stand.
    copy_in: usize,
    update: usize,
    copy_out: usize,
    given: Access,
    wanted: Access,
    tile: Access,
}

impl Through {
    /// The tile that the statement at `copy_in` fills.
    fn of(module: &Module, body: &[Stmt], copy_in: usize) -> Option<Self> {
        let role = |buffer: BufferId| module.buffers.get(buffer.index()).map(|buffer| buffer.role);
        let (axes, tile, given) = copy(&body[copy_in])?;
        if role(tile.buffer) != Some(BufferRole::Scratch) || role(given.buffer) != Some(BufferRole::StateIn) {
            return None;
        }
        let touching = |buffer: BufferId| {
            let places =
                body.iter().enumerate().filter(move |(_, stmt)| Effects::of(stmt).touches().any(|x| x == buffer));
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let places = touching(tile.buffer);
        let [first, between @ .., copy_out] = &places[..] else { return None };
        let (last_axes, wanted, from) = copy(&body[*copy_out])?;
        let whole = *first == copy_in && last_axes == axes && from == tile && is_tile(given) && is_tile(wanted);
        let alone = touching(given.buffer).len() == 1 && touching(wanted.buffer).len() == 1;
        if !whole || !alone || role(wanted.buffer) != Some(BufferRole::StateOut) {
            return None;
        }
        let sweeps: Vec<&Sweep> =
            between.iter().map(|place| sweep_of(&body[*place], axes, tile)).collect::<Option<_>>()?;
        let mut updates = between.iter().zip(&sweeps).filter(|(_, sweep)| sweep.update.is_some());
        let (Some((update, sweep)), None) = (updates.next(), updates.next()) else { return None };
        let in_place = sweep.update.as_ref().is_some_and(|update| update.from == *tile);
        let [given, wanted, tile] = [given, wanted, tile].map(Access::clone);
        in_place.then_some(Through { copy_in, update: *update, copy_out: *copy_out, given, wanted, tile })
    }

    fn forward(self, body: &mut Vec<Stmt>) {
        for (place, stmt) in body.iter_mut().enumerate() {
            let Stmt::Sweep(sweep) = stmt else { continue };
            if sweep.state != self.tile {
                continue;
            }
            sweep.state = if place < self.update { &self.given } else { &self.wanted }.clone();
            if let Some(update) = &mut sweep.update {
                update.from = self.given.clone();
            }
        }
        body.remove(self.copy_out);
        body.remove(self.copy_in);
    }
}

/// A statement that copies a tile: its axes, where to, and where from.
fn copy(stmt: &Stmt) -> Option<(&[Int], &Access, &Access)> {
    match stmt {
        Stmt::Map(Map { axes, below: None, dst, value: Value::Load(from) }) if axes.len() == 2 => {
            Some((axes, dst, from))
        }
        _ => None,
    }
}

/// A sweep of the whole tile that touches it in no other way.
fn sweep_of<'s>(stmt: &'s Stmt, axes: &[Int], tile: &Access) -> Option<&'s Sweep> {
    let Stmt::Sweep(sweep) = stmt else { return None };
    let update = sweep.update.as_ref();
    let outers = sweep.reads.iter().chain(update.into_iter().flat_map(|update| &update.ranks));
    let keep = update.and_then(|update| update.keep.as_ref());
    let mut others = outers.flat_map(|x| [&x.row, &x.column]).chain(keep.into_iter().flat_map(Keep::factors));
    let whole = sweep.state == *tile && [&sweep.rows, &sweep.columns].into_iter().eq(axes);
    (whole && others.all(|access| access.buffer != tile.buffer)).then_some(sweep)
}

fn is_tile(access: &Access) -> bool {
    access.strides.last() == Some(&Int::Const(1))
}

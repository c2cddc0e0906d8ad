//! The recurrent form straight from the updates: the prologue a block of tokens at a time, the states token by token, the
//! epilogue a block at a time again. It asks nothing of the updates, so it serves every state.
//!
//! ```text
//! for c in 0..T step C {  prologue of the block
//!   for r in 0..min(C, T - c) {  updates; what is read of the states -> reads[r]  }
//!   o[c..] = epilogue of reads  }
//! ```

use std::collections::BTreeSet;

use chunkwise_dsl::typed::{ExprId, ExprKind, OrderKind, Output, StateId, Stmt as Source, Update, Variant};

use crate::bind::Sizes;
use crate::kernel::{Int, Kernel, Map, Module, Stmt, Value, VarId};
use crate::{Tiles, Unsupported};

use super::arena::REFERENCE;
use super::locality::Locality;
use super::tile::{At, Frame, Tile};
use super::{Lowering, Result, Rows};

/// A state's memory during the scan.
struct Memory {
    state: StateId,
    /// S[t-1], and S[t] where the update can write in place.
    old: Tile,
    /// S[t] until the token's end, where it cannot.
    new: Option<Tile>,
}

/// What is read of the states at every token, kept for the block.
struct Kept {
    id: ExprId,
    rows: Tile,
}

/// The recurrent form of any variant with states under one forward order.
pub fn raw(variant: &Variant, sizes: &Sizes, tiles: Tiles) -> Result<Module> {
    refuse_order(variant)?;
    let locality = Locality::of(variant)?;
    let mut lowering = Lowering::new(variant, sizes, tiles);
    let tokens = lowering.tokens();
    let chunk = lowering.chunk();
    let mut memory: Vec<Memory> = (0..variant.states.len()).map(|n| start(&mut lowering, StateId(n as u32))).collect();

    let step = lowering.var();
    let (rows, step_by) = match &locality {
        Locality::Window(size) => {
            let window = lowering.size(size);
            (window_of(&tokens, step, window), Int::from(1i64))
        }
        _ => {
            let count = (tokens.clone() - Int::Var(step)).min(chunk.clone());
            (Rows { first: Int::Var(step), count, capacity: chunk.clone() }, chunk)
        }
    };
    lowering.open(rows.clone());
    if matches!(locality, Locality::Window(_)) {
        refuse_early_reads(&mut lowering)?;
        begin(&mut lowering, &memory);
    }
    let outputs: Vec<&Output> = variant.outputs().collect();
    let (kept, late) = split(&mut lowering, &outputs)?;

    let row = lowering.var();
    lowering.open_token(Int::Var(row));
    if let Locality::Block(size) = &locality {
        let every = lowering.size(size);
        reset(&mut lowering, &memory, rows.first.clone() + Int::Var(row), every);
    }
    token(&mut lowering, &mut memory, &kept, &late)?;
    let body = lowering.close();
    let zero = Int::from(0i64);
    lowering.push(Stmt::For { var: row, from: zero.clone(), to: rows.count, step: Int::from(1i64), body });
    for kept in &kept {
        lowering.preset(kept.id, kept.rows.clone());
    }
    for output in &outputs {
        if lowering.is_per_token(output) && !late.iter().any(|o| std::ptr::eq(*o, *output)) {
            lowering.store_output(output)?;
        }
    }
    let body = lowering.close();
    lowering.push(Stmt::For { var: step, from: zero, to: tokens, step: step_by, body });
    for output in &outputs {
        if !lowering.is_per_token(output) {
            lowering.store_output(output)?;
        }
    }
    for memory in &memory {
        let out = lowering.state_out_tile(memory.state);
        lowering.push_once(memory.state, |lowering| copy(lowering, &memory.old, &out));
    }
    let grid = lowering.grid();
    let body = lowering.close();
    Ok(lowering.finish(vec![Kernel { name: "recurrent".to_string(), grid, body }]))
}

/// Refuses what one forward pass cannot do.
pub(super) fn refuse_order(variant: &Variant) -> Result<()> {
    let forward = match variant.orders.as_slice() {
        [] => true,
        [order] => matches!(order.kind, OrderKind::Causal | OrderKind::Raster) && order.by.is_none(),
        _ => false,
    };
    if !forward {
        let reason = "kernels step forward through the tokens once";
        return Err(Unsupported::new("this `order`", reason, REFERENCE).at(variant.span));
    }
    Ok(())
}

/// The window that ends at token T-1-step. Tokens run from the last to the first, so that what a window writes of the
/// tokens before its last is overwritten by their own.
fn window_of(tokens: &Int, step: VarId, window: Int) -> Rows {
    let last = tokens.clone() - 1i64 - Int::Var(step);
    let first = (last.clone() + 1i64 - window.clone()).max(0i64);
    Rows { count: last + 1i64 - first.clone(), first, capacity: window }
}

/// Under a window S[t-1] holds a token that S[t] does not, so one memory cannot serve reads of both.
fn refuse_early_reads(lowering: &mut Lowering) -> Result<()> {
    for output in lowering.variant.outputs() {
        let (id, _) = lowering.output_node(output)?;
        for state in 0..lowering.variant.states.len() {
            if reads_old(lowering, id, StateId(state as u32)) {
                let reason = "under `local window` it keeps S[t] only";
                return Err(Unsupported::new("a read of S[t-1]", reason, "use --form chunked").at(output.span));
            }
        }
    }
    Ok(())
}

/// The initial values into memory.
fn begin(lowering: &mut Lowering, memory: &[Memory]) {
    for memory in memory {
        let given = lowering.state_in_tile(memory.state);
        copy(lowering, &given, &memory.old);
    }
}

fn start(lowering: &mut Lowering, state: StateId) -> Memory {
    let extents = lowering.state_extents(state);
    let old = lowering.room_of("state", &extents);
    let given = lowering.state_in_tile(state);
    copy(lowering, &given, &old);
    Memory { state, old, new: None }
}

fn copy(lowering: &mut Lowering, from: &Tile, to: &Tile) {
    let axes: Vec<Int> = from.dims.iter().map(|dim| dim.extent.clone()).collect();
    let places: Vec<At> = (0..axes.len()).map(At::axis).collect();
    let frame = Frame { rank: axes.len(), row: At::constant(0i64), env: Default::default() };
    let value = Value::Load(frame.access(from, &places));
    let dst = frame.access(to, &places);
    lowering.push(Stmt::Map(Map::new(axes, dst, value)));
}

/// Back to the initial value at the first token of every block.
fn reset(lowering: &mut Lowering, memory: &[Memory], token: Int, every: Int) {
    let before = lowering.exchange(Vec::new());
    begin(lowering, memory);
    let then = lowering.exchange(before);
    let right = Int::from(1i64);
    lowering.push(Stmt::If { left: token.modulo(every), right, then, otherwise: Vec::new() });
}

/// What to keep of the states for the block, and the outputs that must be written at their token instead.
fn split<'o>(lowering: &mut Lowering, outputs: &[&'o Output]) -> Result<(Vec<Kept>, Vec<&'o Output>)> {
    let mut found = BTreeSet::new();
    let mut late = Vec::new();
    for output in outputs {
        let (id, indices) = lowering.output_node(output)?;
        if !lowering.arena.is_scan(id) {
            continue;
        }
        let mut reads = BTreeSet::new();
        if indices.is_empty() && frontier(lowering, id, &mut reads) {
            found.extend(reads);
        } else {
            late.push(*output);
        }
    }
    let kept = found.into_iter().map(|id| Kept { id, rows: lowering.room(id, "read", &[]) }).collect();
    Ok((kept, late))
}

/// The nodes at which an expression reads the states, small enough to keep for every token. False if one is a matrix.
fn frontier(lowering: &mut Lowering, id: ExprId, found: &mut BTreeSet<ExprId>) -> bool {
    if !lowering.arena.is_scan(id) || found.contains(&id) {
        return true;
    }
    let small = |lowering: &mut Lowering, id: ExprId| {
        lowering.arena.dims(id).len() <= 1 && lowering.arena.free_own(id).is_empty()
    };
    let direct =
        lowering.arena.children(id).into_iter().any(|child| lowering.arena.is_scan(child) && !small(lowering, child));
    let state = matches!(lowering.arena.expr(id).kind, ExprKind::StateOld(_) | ExprKind::StateNew(_));
    if direct || state {
        found.insert(id);
        return small(lowering, id);
    }
    lowering.arena.children(id).into_iter().all(|child| frontier(lowering, child, found))
}

/// One token: updates in file order, then what is read.
fn token(lowering: &mut Lowering, memory: &mut [Memory], kept: &[Kept], late: &[&Output]) -> Result<()> {
    for memory in memory.iter() {
        lowering.bind_old(memory.state, memory.old.clone());
    }
    let updates: Vec<&Update> = lowering
        .variant
        .body
        .iter()
        .filter_map(|stmt| match stmt {
            Source::Update(update) => Some(update),
            _ => None,
        })
        .collect();
    let mut readers: Vec<ExprId> = kept.iter().map(|kept| kept.id).collect();
    for output in late {
        readers.push(lowering.output_node(output)?.0);
    }
    for (place, update) in updates.iter().enumerate() {
        let mut later = readers.clone();
        for update in &updates[place + 1..] {
            later.push(lowering.arena.convert(update.value)?);
        }
        let wanted = later.into_iter().any(|id| reads_old(lowering, id, update.state));
        apply(lowering, &mut memory[update.state.index()], update, wanted)?;
    }
    for kept in kept {
        let mut row = kept.rows.clone();
        let current = lowering.single_row().base();
        row = row.at_row(current);
        lowering.fill(&row, kept.id, &[])?;
    }
    for output in late {
        if lowering.is_per_token(output) {
            lowering.store_output(output)?;
        }
    }
    for memory in memory.iter() {
        if let Some(new) = &memory.new {
            copy(lowering, new, &memory.old);
        }
    }
    Ok(())
}

/// S[t], in place of S[t-1] where nothing later wants that and the update goes element by element.
fn apply(lowering: &mut Lowering, memory: &mut Memory, update: &Update, wanted: bool) -> Result<()> {
    let id = lowering.arena.update(update)?;
    if !wanted && lowering.fill_in_place(&memory.old, id)? {
        lowering.bind_new(update.state, memory.old.clone());
        return Ok(());
    }
    let extents = lowering.state_extents(update.state);
    let new = lowering.at_level(0, |outer| outer.room_of("next", &extents));
    lowering.fill(&new, id, &[])?;
    lowering.bind_new(update.state, new.clone());
    memory.new = Some(new);
    Ok(())
}

fn reads_old(lowering: &Lowering, id: ExprId, state: StateId) -> bool {
    match lowering.arena.expr(id).kind {
        ExprKind::StateOld(of) => of == state,
        _ => lowering.arena.children(id).into_iter().any(|child| reads_old(lowering, child, state)),
    }
}

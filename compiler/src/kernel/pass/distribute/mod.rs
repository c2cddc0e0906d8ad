//! One kernel that steps through chunks -> three that do not wait for each other more than they must.
//!
//! ```text
//! pre; for v in 0..T step C { body }; post
//!   ->  kernel before   grid            what of pre grows with the tokens and chunks need
//!       kernel local    grid x chunks   what no chunk before has a part in
//!       kernel states   grid            pre; for every chunk { keep the carried values; what they need next }; post
//!       kernel outputs  grid x chunks   the rest, from the carried values kept
//! ```
//!
//! It knows buffers and their order, and nothing of what they hold: `stages` says which statement goes where. Buffers
//! that kernels hand on become `Shared`, one slot a grid point and chunk. Grid axes of tiles stay on the grid of the
//! states alone; the other kernels loop over tiles, inside what no tile has a part in.
//!
//! A buffer that the statements before the loop fill and those of the loop change is carried. Scratch that nothing fills
//! before the loop holds nothing at its start, so no chunk can need what the one before it left there.

mod before;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::kernel::visit::{Effects, Moved, Rebuild};
use crate::kernel::{
    Access, Buffer, BufferId, BufferRole, Elem, GridAxis, Int, Kernel, Map, Module, Param, ParamId, ParamRole,
};
use crate::kernel::{Stmt, Value, VarId};
use before::Before;
use stages::{Item, Stage, stages, tiled};

/// The kernels; one that would hold nothing is left out.
///
/// # Errors
/// Why the module cannot be taken apart.
pub fn split(module: &Module) -> Result<Module, &'static str> {
    let parts = Parts::of(module)?;
    let split = Split::of(module, &parts)?;
    Ok(split.module())
}

/// `pre; for var in 0..to step { body }; post` of one kernel.
struct Parts<'m> {
    kernel: &'m Kernel,
    pre: &'m [Stmt],
    var: VarId,
    to: &'m Int,
    step: &'m Int,
    body: &'m [Stmt],
    post: &'m [Stmt],
}

impl<'m> Parts<'m> {
    fn of(module: &'m Module) -> Result<Self, &'static str> {
        let [kernel] = module.kernels.as_slice() else { return Err("it is not one kernel") };
        let loops = |stmt: &Stmt| matches!(stmt, Stmt::For { step, .. } if is_chunk(module, step));
        let mut places = (0..kernel.body.len()).filter(|&place| loops(&kernel.body[place]));
        let (Some(place), None) = (places.next(), places.next()) else { return Err("it has not one loop over chunks") };
        match &kernel.body[place] {
            Stmt::For { var, from: Int::Const(0), to, step, body } => Ok(Self {
                kernel,
                pre: &kernel.body[..place],
                var: *var,
                to,
                step,
                body,
                post: &kernel.body[place + 1..],
            }),
            _ => Err("its loop over chunks does not begin at the first token"),
        }
    }
}

/// Whether a loop steps by the chunk length, or by a bound of it.
fn is_chunk(module: &Module, step: &Int) -> bool {
    match step {
        Int::Param(id) => module.params.get(id.index()).is_some_and(|param| param.role == ParamRole::Chunk),
        Int::Min(a, b) => is_chunk(module, a) || is_chunk(module, b),
        _ => false,
    }
}

/// What a shared buffer has slots of, beside one a grid point.
#[derive(Debug, Clone, Copy)]
struct Slots {
    of_chunk: bool,
    of_tile: bool,
}

/// The slots of what the states' kernel keeps for the outputs.
const KEPT: Slots = Slots { of_chunk: true, of_tile: true };

/// Where everything goes.
struct Split<'m> {
    module: &'m Module,
    parts: &'m Parts<'m>,
    /// The statements before the loop that a kernel repeats, each with whether it differs between tiles.
    pre: BTreeMap<Stage, Vec<(usize, bool)>>,
    /// The stage of every statement of the loop, and whether it differs between tiles.
    body: Vec<(Stage, bool)>,
    /// Buffers that several kernels touch.
    shared: BTreeMap<BufferId, Slots>,
    /// Carried buffers whose values at a chunk's start the outputs read.
    kept: Vec<BufferId>,
}

impl<'m> Split<'m> {
    fn of(module: &'m Module, parts: &'m Parts<'m>) -> Result<Self, &'static str> {
        let effects = |body: &[Stmt]| body.iter().map(Effects::of).collect::<Vec<_>>();
        let (pre, body, post) = (effects(parts.pre), effects(parts.body), effects(parts.post));
        let carried = carried(module, &pre, &body, &post)?;
        let items: Vec<Item> = body
            .into_iter()
            .map(|effects| Item { ordered: is_ordered(module, parts.var, &effects), effects })
            .collect();
        let stages = stages(&items, &carried);
        if stages.iter().all(|stage| *stage == Stage::States) {
            return Err("all of it waits for the chunk before");
        }
        let before = Before::of(module, (parts, &pre), (&items, &stages), &carried)?;
        // The kernel of the states is of one tile as a whole.
        let repeated = before.repeated.iter().filter(|(stage, _)| **stage != Stage::States);
        let all: Vec<(&Effects, Stage)> = repeated
            .flat_map(|(stage, places)| places.iter().map(|&place| (&before.effects[place], *stage)))
            .chain(items.iter().zip(&stages).map(|(item, stage)| (&item.effects, *stage)))
            .collect();
        let tiles = tile_params(module, parts.kernel);
        let (own, of_tiles) = match tiles.is_empty() {
            true => (vec![false; all.len()], BTreeSet::new()),
            false => tiled(&all, &|effects| tiles.iter().any(|param| effects.params.contains(param))),
        };
        let slots = |buffer: BufferId, of_chunk| (buffer, Slots { of_chunk, of_tile: of_tiles.contains(&buffer) });
        let handed = shared(module, &items, &stages, &carried).into_iter().map(|buffer| slots(buffer, true));
        let shared = handed.chain(before.handed.iter().map(|&buffer| slots(buffer, false))).collect();
        let mut own = own.into_iter();
        let mut with_own = |(stage, places): (Stage, Vec<usize>)| {
            let own = |place| (place, stage != Stage::States && own.next().unwrap_or(false));
            (stage, places.into_iter().map(own).collect())
        };
        let pre = before.repeated.into_iter().map(&mut with_own).collect();
        let kept = kept(&items, &stages, &carried);
        Ok(Self { module, parts, pre, body: stages.into_iter().zip(own).collect(), shared, kept })
    }

    fn module(&self) -> Module {
        let mut module = Module { kernels: Vec::new(), ..self.module.clone() };
        let name = "block".to_string();
        module.params.push(Param { name, role: ParamRole::Grid });
        let block = ParamId(module.params.len() as u32 - 1);
        for (buffer, slots) in &self.shared {
            let buffer = &mut module.buffers[buffer.index()];
            buffer.role = BufferRole::Shared;
            buffer.size = buffer.size.clone() * self.count(*slots);
        }
        let mut copies = HashMap::new();
        for buffer in &self.kept {
            let Buffer { name, size, .. } = &self.module.buffers[buffer.index()];
            let size = size.clone() * self.count(KEPT);
            copies.insert(*buffer, BufferId(module.buffers.len() as u32));
            module.buffers.push(Buffer {
                name: format!("{name}.start"),
                role: BufferRole::Shared,
                elem: Elem::F32,
                size,
            });
        }
        let mut next = 0;
        for stage in [Stage::Before, Stage::Local, Stage::States, Stage::Outputs] {
            let within = self.body.iter().any(|(at, _)| *at == stage);
            if within || stage == Stage::States || stage == Stage::Before && !self.pre[&stage].is_empty() {
                let kernel = match stage {
                    Stage::States => self.states(&copies, &mut next),
                    _ => self.apart(stage, block, &copies, &mut next),
                };
                module.kernels.push(kernel);
            }
        }
        module
    }

    /// `ceil(T / C)`
    fn chunks(&self) -> Int {
        let step = self.parts.step.clone();
        (self.parts.to.clone() + (step.clone() - 1i64)).floor_div(step)
    }

    /// Grid axes, those of tiles and the others.
    fn axes(&self, of_tiles: bool) -> Vec<GridAxis> {
        let tiles = tile_params(self.module, self.parts.kernel);
        let axes = self.parts.kernel.grid.iter();
        axes.filter(|axis| tiles.contains(&axis.param) == of_tiles).cloned().collect()
    }

    /// How many slots there are.
    fn count(&self, slots: Slots) -> Int {
        let tiles = if slots.of_tile { self.axes(true) } else { Vec::new() };
        let extents = self.axes(false).into_iter().chain(tiles).map(|axis| axis.extent);
        let chunks = if slots.of_chunk { self.chunks() } else { Int::from(1i64) };
        extents.fold(chunks, |product, extent| product * extent)
    }

    /// The slot of a work item's grid point, of the chunk at `chunk` and of its tile, where there is one of each.
    fn slot(&self, slots: Slots, chunk: &Int, tiles: &HashMap<ParamId, Int>) -> Int {
        let join = |slot: Option<Int>, place: Int, extent: Int| match slot {
            None => Some(place),
            Some(slot) => Some(slot * extent + place),
        };
        let mut slot = None;
        for axis in self.axes(false) {
            slot = join(slot, Int::Param(axis.param), axis.extent);
        }
        if slots.of_chunk {
            slot = join(slot, chunk.clone(), self.chunks());
        }
        for axis in self.axes(true).into_iter().filter(|_| slots.of_tile) {
            let place = tiles.get(&axis.param).cloned().unwrap_or(Int::Param(axis.param));
            slot = join(slot, place, axis.extent);
        }
        slot.unwrap_or(Int::from(0i64))
    }

    /// Where shared buffers lie in a kernel: outside the loop over chunks only those that are not of one.
    fn moved(&self, chunk: Option<&Int>, tiles: &HashMap<ParamId, Int>) -> HashMap<BufferId, Moved> {
        let place = |(&buffer, &slots): (&BufferId, &Slots)| {
            let size = self.module.buffers[buffer.index()].size.clone();
            let chunk = if slots.of_chunk { chunk?.clone() } else { Int::from(0i64) };
            Some((buffer, Moved { buffer, offset: self.slot(slots, &chunk, tiles) * size }))
        };
        self.shared.iter().filter_map(place).collect()
    }

    /// Where the carried values at a chunk's start lie for the outputs.
    fn start(
        &self,
        chunk: &Int,
        tiles: &HashMap<ParamId, Int>,
        copies: &HashMap<BufferId, BufferId>,
    ) -> HashMap<BufferId, Moved> {
        let place = |(from, to): (&BufferId, &BufferId)| {
            let size = self.module.buffers[from.index()].size.clone();
            (*from, Moved { buffer: *to, offset: self.slot(KEPT, chunk, tiles) * size })
        };
        copies.iter().map(place).collect()
    }

    /// The kernel that steps through the chunks.
    fn states(&self, copies: &HashMap<BufferId, BufferId>, next: &mut u32) -> Kernel {
        let mut rebuild = Rebuild { vars: HashMap::new(), params: HashMap::new(), buffers: HashMap::new(), next };
        let none = HashMap::new();
        rebuild.buffers = self.moved(None, &none);
        let mut kernel: Vec<Stmt> =
            self.pre[&Stage::States].iter().map(|(place, _)| rebuild.stmt(&self.parts.pre[*place])).collect();
        let var = rebuild.fresh();
        let chunk = Int::Var(var);
        rebuild.vars.insert(self.parts.var, chunk.clone() * self.parts.step.clone());
        rebuild.buffers = self.moved(Some(&chunk), &none);
        let mut body = Vec::new();
        for buffer in &self.kept {
            let size = self.module.buffers[buffer.index()].size.clone();
            let offset = self.slot(KEPT, &chunk, &none) * size.clone();
            let dst = Access::new(copies[buffer], offset, [Int::from(1i64)]);
            let value = Value::Load(Access::new(*buffer, 0i64, [Int::from(1i64)]));
            body.push(Stmt::Map(Map::new(vec![size], dst, value)));
        }
        for (stmt, (stage, _)) in self.parts.body.iter().zip(&self.body) {
            if *stage == Stage::States {
                body.push(rebuild.stmt(stmt));
            }
        }
        kernel.push(Stmt::For { var, from: Int::from(0i64), to: self.chunks(), step: Int::from(1i64), body });
        rebuild.buffers = self.moved(None, &none);
        kernel.extend(rebuild.block(self.parts.post));
        Kernel { name: Stage::States.name().to_string(), grid: self.parts.kernel.grid.clone(), body: kernel }
    }

    /// A kernel that does not step through chunks: every work item takes one, or has none to take.
    fn apart(&self, stage: Stage, block: ParamId, copies: &HashMap<BufferId, BufferId>, next: &mut u32) -> Kernel {
        let chunk = (stage != Stage::Before).then_some(Int::Param(block));
        let mut rebuild = Rebuild { vars: HashMap::new(), params: HashMap::new(), buffers: HashMap::new(), next };
        rebuild.vars.extend(chunk.iter().map(|chunk| (self.parts.var, chunk.clone() * self.parts.step.clone())));
        let places = |tiles: &HashMap<ParamId, Int>| {
            let mut places = self.moved(chunk.as_ref(), tiles);
            places.extend(chunk.iter().flat_map(|chunk| self.start(chunk, tiles, copies)));
            places
        };
        rebuild.buffers = places(&HashMap::new());
        let mut body: Vec<Stmt> = self.statements(stage, false).map(|stmt| rebuild.stmt(stmt)).collect();
        let tiles = self.axes(true);
        if self.statements(stage, true).next().is_some() {
            let vars: Vec<VarId> = tiles.iter().map(|_| rebuild.fresh()).collect();
            rebuild.params = tiles.iter().zip(&vars).map(|(axis, var)| (axis.param, Int::Var(*var))).collect();
            rebuild.buffers = places(&rebuild.params);
            let inner: Vec<Stmt> = self.statements(stage, true).map(|stmt| rebuild.stmt(stmt)).collect();
            body.extend(tiles.iter().zip(vars).rev().fold(inner, |body, (axis, var)| {
                let (from, step) = (Int::from(0i64), Int::from(1i64));
                vec![Stmt::For { var, from, to: axis.extent.clone(), step, body }]
            }));
        }
        let mut grid = self.axes(false);
        grid.extend(chunk.map(|_| GridAxis { param: block, extent: self.chunks() }));
        Kernel { name: stage.name().to_string(), grid, body }
    }

    /// The statements of a kernel that does not step through chunks, of tiles or of none.
    fn statements(&self, stage: Stage, of_tile: bool) -> impl Iterator<Item = &'m Stmt> + '_ {
        let pre = self.parts.pre;
        let before = self.pre[&stage].iter().filter(move |(_, own)| *own == of_tile).map(|(place, _)| &pre[*place]);
        let body = self.parts.body.iter().zip(&self.body);
        before.chain(body.filter(move |(_, (at, own))| *at == stage && *own == of_tile).map(|(stmt, _)| stmt))
    }
}

/// The buffers that chunks hand to the next ones.
fn carried(
    module: &Module,
    pre: &[Effects],
    body: &[Effects],
    post: &[Effects],
) -> Result<BTreeSet<BufferId>, &'static str> {
    let written = |all: &[Effects]| all.iter().flat_map(|effects| effects.writes.clone()).collect::<BTreeSet<_>>();
    let (before, within) = (written(pre), written(body));
    let carried: BTreeSet<BufferId> = before.intersection(&within).copied().collect();
    if carried.is_empty() {
        return Err("no chunk waits for the one before");
    }
    let role = |buffer: &BufferId| module.buffers[buffer.index()].role;
    if carried.iter().any(|buffer| role(buffer) != BufferRole::Scratch) {
        return Err("what chunks carry is not private to a work item");
    }
    let left =
        |buffer: &BufferId| role(buffer) == BufferRole::Scratch && within.contains(buffer) && !carried.contains(buffer);
    if post.iter().any(|effects| effects.reads.iter().any(left)) {
        return Err("what follows the loop needs more of its last chunk than the carried values");
    }
    Ok(carried)
}

/// Whether a statement's results depend on the order of the chunks by where they go.
fn is_ordered(module: &Module, var: VarId, effects: &Effects) -> bool {
    effects.writes.iter().any(|buffer| match module.buffers[buffer.index()].role {
        BufferRole::StateOut | BufferRole::Shared => true,
        BufferRole::Output => !effects.vars.contains(&var),
        BufferRole::Input | BufferRole::StateIn | BufferRole::Scratch => false,
    })
}

/// The scratch that statements of several kernels touch.
fn shared(module: &Module, items: &[Item], stages: &[Stage], carried: &BTreeSet<BufferId>) -> Vec<BufferId> {
    let mut seen: BTreeMap<BufferId, BTreeSet<Stage>> = BTreeMap::new();
    let mut written: BTreeSet<BufferId> = BTreeSet::new();
    for (item, stage) in items.iter().zip(stages) {
        for buffer in item.effects.touches() {
            seen.entry(buffer).or_default().insert(*stage);
        }
        written.extend(&item.effects.writes);
    }
    let scratch = |buffer: &BufferId| module.buffers[buffer.index()].role == BufferRole::Scratch;
    seen.into_iter()
        .filter(|(buffer, stages)| stages.len() > 1 && scratch(buffer) && written.contains(buffer))
        .map(|(buffer, _)| buffer)
        .filter(|buffer| !carried.contains(buffer))
        .collect()
}

fn kept(items: &[Item], stages: &[Stage], carried: &BTreeSet<BufferId>) -> Vec<BufferId> {
    let outputs = items.iter().zip(stages).filter(|(_, stage)| **stage == Stage::Outputs);
    let read: BTreeSet<BufferId> = outputs.flat_map(|(item, _)| item.effects.reads.clone()).collect();
    read.intersection(carried).copied().collect()
}

/// The grid params whose axes are of tiles.
fn tile_params(module: &Module, kernel: &Kernel) -> BTreeSet<ParamId> {
    let is_tile = |param: &ParamId| matches!(module.params[param.index()].role, ParamRole::Tile(_));
    let of_tiles = kernel.grid.iter().filter(|axis| mentions(&axis.extent).params.iter().any(is_tile));
    of_tiles.map(|axis| axis.param).collect()
}

/// What an integer is made of.
fn mentions(x: &Int) -> Effects {
    Effects::of(&Stmt::For { var: VarId(0), from: x.clone(), to: x.clone(), step: x.clone(), body: Vec::new() })
}

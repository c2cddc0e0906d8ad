//! Typed expressions -> statements over blocks of tokens. Values are fused into the statements that use them; what several
//! use, and what needs a statement of its own, gets a tile of scratch memory, once per scope.
//!
//! ```text
//! let a[t] = exp(g[t]);  o[t] = a[t] * q[t]     ->   map a[r] = exp(g[c + r]);  map o[c + r, k] = a[r] * q[c + r, k]
//! ```
//!
//! Scopes nest: once per work item, a block of tokens, one token of the block. A value is computed in the outermost scope
//! in which it is known. What states do over time is not here but in the forms; `recurrent` alone steps through tokens.

mod algebra;
mod arena;
mod decay;
mod emit;
pub mod form;
mod fused;
mod locality;
mod place;
mod product;
pub mod recurrent;
mod reduce;
mod sequence;
pub mod stages;
#[cfg(test)]
pub(crate) mod tests;
mod tile;

use std::collections::HashMap;

use chunkwise_dsl::shape::{AxisId, Factor, Size};
use chunkwise_dsl::typed::{AxisKind, ExprId, ExprKind, IndexId, LetId, Output, StateId, Stmt as Source, Ty, Variant};

use crate::bind::Sizes;
use crate::plan::tiles;
use crate::{Tiles, Unsupported};

use super::{Buffer, BufferId, BufferRole, Elem, Int, Kernel, Module, Param, ParamId, ParamRole, Stmt, VarId};
use arena::{Arena, refusal};
use tile::{At, Frame};
pub use tile::{Rows, Tile, TileDim};

type Result<T> = std::result::Result<T, Unsupported>;

/// Which value of an expression a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    /// Its own.
    Value,
    /// Its transpose, laid out densely.
    Transposed,
    /// What turns a `rope` per position, in whole turns and what is left.
    Turns,
    TurnsRest,
}

#[derive(Debug, Default)]
struct Scope {
    /// The tokens of a block scope.
    rows: Option<Rows>,
    /// The row within the block, in a token scope.
    row: Option<Int>,
    statements: Vec<Stmt>,
    tiles: HashMap<(ExprId, Part), Tile>,
    /// What was preset rather than computed here.
    bound: HashMap<ExprId, ()>,
}

/// An axis of which a work item takes the part from `place * length` on.
#[derive(Debug, Clone, Copy)]
struct TileAxis {
    axis: AxisId,
    length: ParamId,
    place: ParamId,
}

/// A dim of memory: the work item's part, the whole, and where the part begins.
struct Stretch {
    part: Int,
    whole: Int,
    first: Int,
}

/// A module under construction for one variant at given sizes.
pub struct Lowering<'a> {
    variant: &'a Variant,
    sizes: &'a Sizes,
    module: Module,
    variables: u32,
    scopes: Vec<Scope>,
    arena: Arena<'a>,
    /// Where the work item stands on each batch axis.
    grid: Vec<(AxisId, ParamId)>,
    /// The axis that work items take a tile of.
    tile: Option<TileAxis>,
    anchors: HashMap<ExprId, usize>,
    costs: HashMap<ExprId, usize>,
}

impl<'a> Lowering<'a> {
    /// A lowering in its outermost scope: once per work item.
    pub fn new(variant: &'a Variant, sizes: &'a Sizes, tiles: Tiles) -> Self {
        let module =
            Module { name: variant.name.clone(), params: Vec::new(), buffers: Vec::new(), kernels: Vec::new() };
        let mut lowering = Self {
            variant,
            sizes,
            module,
            variables: 0,
            scopes: vec![Scope::default()],
            arena: Arena::new(variant),
            grid: Vec::new(),
            tile: None,
            anchors: HashMap::new(),
            costs: HashMap::new(),
        };
        for (place, axis) in variant.axes.iter().enumerate() {
            if axis.kind == AxisKind::Batch {
                let param = lowering.param(&axis.name, ParamRole::Grid);
                lowering.grid.push((AxisId(place as u32), param));
            }
        }
        if let Some(axis) = tiles::axis(variant).filter(|_| tiles == Tiles::Split) {
            let name = variant.axis_name(axis);
            let length = lowering.param(&name, ParamRole::Tile(name.clone()));
            let place = lowering.param(&name, ParamRole::Grid);
            lowering.tile = Some(TileAxis { axis, length, place });
        }
        lowering.count_uses();
        lowering
    }

    /// Makes all nodes, so that what is shared is known before anything is fused. Refusals come when a value is asked for.
    fn count_uses(&mut self) {
        let mut roots = Vec::new();
        for stmt in &self.variant.body {
            roots.extend(match stmt {
                Source::Update(update) => self.arena.update(update).ok(),
                Source::Output(output) => self.output_node(output).ok().map(|(id, _)| id),
                Source::Read(of) => self.arena.let_value(*of).ok(),
                Source::Let(_) => None,
            });
        }
        self.arena.count_uses(&roots);
    }

    pub fn variant(&self) -> &'a Variant {
        self.variant
    }

    /// The params of one name and role are one param.
    pub fn param(&mut self, name: &str, role: ParamRole) -> ParamId {
        let found = self.module.params.iter().position(|p| p.name == name && p.role == role);
        let place = found.unwrap_or_else(|| {
            self.module.params.push(Param { name: name.to_string(), role });
            self.module.params.len() - 1
        });
        ParamId(place as u32)
    }

    /// Tokens in a chunk.
    pub fn chunk(&mut self) -> Int {
        Int::Param(self.param("chunk", ParamRole::Chunk))
    }

    /// The number of tokens; 1 for a variant without a token axis.
    pub fn tokens(&mut self) -> Int {
        match self.variant.token {
            Some(axis) => self.size_of(axis),
            None => Int::from(1i64),
        }
    }

    pub fn buffer(&mut self, name: &str, role: BufferRole, elem: Elem, size: Int) -> BufferId {
        let found = self.module.buffers.iter().position(|b| b.name == name && b.role == role);
        let place = match (found, role) {
            (Some(place), BufferRole::Input | BufferRole::Output | BufferRole::StateIn | BufferRole::StateOut) => place,
            _ => {
                self.module.buffers.push(Buffer { name: name.to_string(), role, elem, size });
                self.module.buffers.len() - 1
            }
        };
        BufferId(place as u32)
    }

    /// A new scratch buffer of so many elements, in terms of size and chunk params only.
    pub fn scratch(&mut self, name: &str, elements: impl Into<Int>) -> BufferId {
        let name = format!("{name}.{}", self.module.buffers.len());
        self.buffer(&name, BufferRole::Scratch, Elem::F32, elements.into())
    }

    /// Whether a buffer is private to a work item.
    pub fn is_scratch(&self, id: BufferId) -> bool {
        self.module.buffers[id.index()].role == BufferRole::Scratch
    }

    /// A new loop variable.
    pub fn var(&mut self) -> VarId {
        self.variables += 1;
        VarId(self.variables - 1)
    }

    /// Appends to the innermost scope.
    pub fn push(&mut self, stmt: Stmt) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.statements.push(stmt);
        }
    }

    /// Opens a block scope.
    pub fn open(&mut self, rows: Rows) {
        self.anchors.clear();
        self.scopes.push(Scope { rows: Some(rows), ..Scope::default() });
    }

    /// Opens the scope of the block's row `row`.
    pub fn open_token(&mut self, row: Int) {
        self.anchors.clear();
        self.scopes.push(Scope { row: Some(row), ..Scope::default() });
    }

    /// Closes the innermost scope and hands out its statements, to be put into a loop and pushed. The outermost scope
    /// stays open; its statements so far are handed out.
    pub fn close(&mut self) -> Vec<Stmt> {
        self.anchors.clear();
        if self.scopes.len() > 1 {
            self.scopes.pop().map(|scope| scope.statements).unwrap_or_default()
        } else {
            std::mem::take(&mut self.scopes[0].statements)
        }
    }

    /// Puts other statements into the innermost scope and hands out those pushed so far; its tiles stay known. What is
    /// pushed between `exchange(Vec::new())` and the exchange back is what a loop or a branch holds.
    pub fn exchange(&mut self, statements: Vec<Stmt>) -> Vec<Stmt> {
        self.scopes.last_mut().map(|scope| std::mem::replace(&mut scope.statements, statements)).unwrap_or_default()
    }

    /// The module, of these kernels.
    pub fn finish(mut self, kernels: Vec<Kernel>) -> Module {
        self.module.kernels = kernels;
        self.module
    }

    /// Presets the tile of an expression of the variant in the innermost scope. A tile without rows has `row` 0.
    pub fn bind(&mut self, id: ExprId, tile: Tile) -> Result<()> {
        let id = self.arena.convert(id)?;
        self.preset(id, tile);
        Ok(())
    }

    /// Presets `S[t-1]`, in the innermost scope.
    pub fn bind_old(&mut self, state: StateId, tile: Tile) {
        self.bind_state(state, ExprKind::StateOld(state), tile);
    }

    /// Presets `S[t]`, in the innermost scope.
    pub fn bind_new(&mut self, state: StateId, tile: Tile) {
        self.bind_state(state, ExprKind::StateNew(state), tile);
    }

    fn bind_state(&mut self, state: StateId, kind: ExprKind, tile: Tile) {
        let state = &self.variant.states[state.index()];
        let (ty, span) = (Ty::Array(state.dims.clone()), state.span);
        let id = self.arena.intern(kind, ty, span);
        self.preset(id, tile);
    }

    fn preset(&mut self, id: ExprId, tile: Tile) {
        self.anchors.clear();
        if let Some(scope) = self.scopes.last_mut() {
            scope.tiles.insert((id, Part::Value), tile);
            scope.bound.insert(id, ());
        }
    }

    /// Whether an expression of the variant depends on a state.
    pub fn is_scan(&mut self, id: ExprId) -> Result<bool> {
        let id = self.arena.convert(id)?;
        Ok(self.arena.is_scan(id))
    }

    /// The tile of an expression of the variant, for the rows in force: of the block, or in a token scope of the token.
    pub fn value(&mut self, id: ExprId) -> Result<Tile> {
        let id = self.arena.convert(id)?;
        self.seen(id)
    }

    /// The tile of a let at `[t]`, or of a let without indices.
    pub fn let_value(&mut self, of: LetId) -> Result<Tile> {
        let id = self.arena.let_value(of)?;
        self.seen(id)
    }

    /// Writes an expression of the variant into a tile.
    pub fn store(&mut self, dst: &Tile, id: ExprId) -> Result<()> {
        let id = self.arena.convert(id)?;
        self.fill(dst, id, &[])
    }

    /// Writes an output's value into its buffer, for the rows in force.
    pub fn store_output(&mut self, output: &Output) -> Result<()> {
        let (id, indices) = self.output_node(output)?;
        let dst = self.output_tile(output);
        self.fill(&dst, id, &indices)
    }

    /// A size in terms of the module's params.
    pub fn size(&mut self, size: &Size) -> Int {
        let mut sum = Int::from(0i64);
        for (factors, n) in size.terms() {
            let mut product = Int::from(n);
            for factor in factors {
                product = product
                    * match factor {
                        Factor::Axis(axis) => self.size_of(*axis),
                        Factor::FloorDiv(a, b) => {
                            let (a, b) = (self.size(a), self.size(b));
                            a.floor_div(b)
                        }
                        Factor::Mod(a, b) => {
                            let (a, b) = (self.size(a), self.size(b));
                            a.modulo(b)
                        }
                    };
            }
            sum = sum + product;
        }
        sum
    }

    /// The part of an axis that the work item takes.
    fn size_of(&mut self, axis: AxisId) -> Int {
        match self.tile {
            Some(tile) if tile.axis == axis => Int::Param(tile.length),
            _ => self.whole_of(axis),
        }
    }

    /// A dim of a tensor, an output or a state: its part, its whole, and where the part begins.
    fn stretch(&mut self, size: &Size) -> Stretch {
        let part = self.size(size);
        match self.tile {
            Some(tile) if size.as_axis() == Some(tile.axis) => {
                let whole = self.whole_of(tile.axis);
                Stretch { first: Int::Param(tile.place) * part.clone(), part, whole }
            }
            _ => Stretch { first: Int::from(0i64), whole: part.clone(), part },
        }
    }

    fn whole_of(&mut self, axis: AxisId) -> Int {
        let declared = &self.variant.axes[axis.0 as usize];
        if self.at_run_time(axis) {
            return Int::Param(self.param(&declared.name.clone(), ParamRole::Size(declared.name.clone())));
        }
        match declared.value.clone() {
            Some(value) if value.axes().iter().any(|&a| self.at_run_time(a)) => self.size(&value),
            _ => Int::from(self.sizes.get(axis).unwrap_or(0)),
        }
    }

    fn at_run_time(&self, axis: AxisId) -> bool {
        self.variant.token == Some(axis)
            || matches!(self.variant.axes[axis.0 as usize].kind, AxisKind::Batch | AxisKind::Group)
    }

    fn index_size(&mut self, index: IndexId) -> Int {
        let size = self.variant.indices[index.index()].size.clone();
        self.size(&size)
    }

    fn extents(&mut self, id: ExprId) -> Vec<Int> {
        self.arena.dims(id).iter().map(|size| self.size(size)).collect()
    }

    /// Runs `work` with a scope of that level as the innermost.
    fn at_level<R>(&mut self, level: usize, work: impl FnOnce(&mut Self) -> R) -> R {
        if level + 1 >= self.scopes.len() {
            return work(self);
        }
        let deeper = self.scopes.split_off(level + 1);
        self.anchors.clear();
        let result = work(self);
        self.anchors.clear();
        self.scopes.extend(deeper);
        result
    }

    fn level(&self) -> usize {
        self.scopes.len() - 1
    }

    /// The rows of the surrounding block.
    fn rows(&self) -> Option<&Rows> {
        self.scopes.iter().rev().find_map(|scope| scope.rows.as_ref())
    }

    /// The rows that a statement of the innermost scope runs over: none where there is one row or nothing but one.
    fn row_axis(&self) -> Option<Int> {
        let rows = self.scopes.last()?.rows.as_ref()?;
        (rows.count != Int::from(1i64)).then(|| rows.count.clone())
    }

    /// The row within the block where statements of the innermost scope have no row axis.
    fn single_row(&self) -> At {
        At::constant(self.scopes.last().and_then(|scope| scope.row.clone()).unwrap_or(Int::from(0i64)))
    }

    fn find(&self, id: ExprId, part: Part) -> Option<&Tile> {
        self.scopes.iter().rev().find_map(|scope| scope.tiles.get(&(id, part)))
    }

    fn remember(&mut self, id: ExprId, part: Part, tile: &Tile) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.tiles.insert((id, part), tile.clone());
        }
    }

    /// The innermost scope in which something that the expression depends on was preset.
    fn anchor(&mut self, id: ExprId) -> usize {
        if let Some(&known) = self.anchors.get(&id) {
            return known;
        }
        let bound = self.scopes.iter().rposition(|scope| scope.bound.contains_key(&id));
        let level = match bound {
            Some(level) => level,
            None => {
                let children = self.arena.children(id);
                children.into_iter().map(|child| self.anchor(child)).max().unwrap_or(0)
            }
        };
        self.anchors.insert(id, level);
        level
    }

    /// The scope that an expression's tile belongs to. Matrices of a token are not kept for a whole block when a token's
    /// scope is open.
    fn home(&mut self, id: ExprId) -> usize {
        let anchor = self.anchor(id);
        if !self.arena.has_token(id) || self.level() == 0 {
            return anchor.min(self.level());
        }
        let rank = self.arena.dims(id).len() + self.arena.free_own(id).len();
        let level = if rank >= 2 { self.level() } else { 1 };
        anchor.max(level).min(self.level())
    }

    /// The position of the frame's token.
    fn token_position(&self, frame: &Frame) -> Option<At> {
        Some(At::constant(self.rows()?.first.clone()).plus(&frame.row))
    }

    /// The tile, seen from the innermost scope: at the token in a token's scope.
    fn seen(&mut self, id: ExprId) -> Result<Tile> {
        let tile = self.tile(id)?;
        Ok(match self.scopes.last().and_then(|scope| scope.row.clone()) {
            Some(row) => tile.at_row(row),
            None => tile,
        })
    }

    /// The tile of a node: its free index variables beside the token, in order, then its own dims.
    fn tile(&mut self, id: ExprId) -> Result<Tile> {
        if let Some(tile) = self.view(id)? {
            return Ok(tile);
        }
        if matches!(self.arena.expr(id).kind, ExprKind::StateOld(_) | ExprKind::StateNew(_)) {
            let span = self.arena.expr(id).span;
            return Err(refusal("a state outside its scan", "its value is not known here", span));
        }
        let home = self.home(id);
        self.at_level(home, |inner| {
            let indices = inner.arena.free_own(id);
            let tile = inner.room(id, "tile", &indices);
            inner.fill(&tile, id, &indices)?;
            inner.remember(id, Part::Value, &tile);
            Ok(tile)
        })
    }

    /// Scratch memory for a node's values in the innermost scope: `indices`, then the node's dims.
    fn room(&mut self, id: ExprId, name: &str, indices: &[IndexId]) -> Tile {
        let mut extents: Vec<Int> = indices.iter().map(|&index| self.index_size(index)).collect();
        extents.extend(self.extents(id));
        self.room_of(name, &extents)
    }

    /// New scratch memory in the innermost scope: a dense tile of these extents, for every row of a block scope.
    pub fn room_of(&mut self, name: &str, extents: &[Int]) -> Tile {
        let elements = extents.iter().fold(Int::from(1i64), |product, n| product * n.clone());
        let rows = self.scopes.last().and_then(|scope| scope.rows.as_ref()).map(|rows| rows.capacity.clone());
        let size = rows.clone().unwrap_or(Int::from(1i64)) * elements;
        let buffer = self.scratch(name, size);
        let mut tile = Tile::dense(buffer, 0i64, extents);
        if rows.is_none() {
            tile.row = Int::from(0i64);
        }
        tile
    }
}

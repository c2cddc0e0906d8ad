//! A graph of values -> kernels: the units of its placement one after another, a kernel for every grid.
//!
//! ```text
//! unit once    values                                          grid: the batch axes they depend on
//! unit pass    for every block of rows { tiles; sums += .. }   grid: the batch axes
//! unit rows    tiles, sweeps and results of a block of rows    grid: the batch axes and blocks
//! unit image   one row of a convolution's result               grid: the batch axes and rows
//! ```
//!
//! Units with one grid that follow each other share a kernel: a work item finds what it wrote itself.

mod convolution;
mod finite;
mod fold;
mod lanes;
mod memory;
mod nest;
mod sweep;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{HashMap, HashSet};

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{LetId, Variant};

use crate::bind::Sizes;
use crate::kernel::{GridAxis, Int, Kernel, Map, Module, ParamRole, Stmt, VarId};
use crate::plan::place::{self, Placed, Placement, Space, Unit};
use crate::program::{Graph, Node, NodeId, Op, Operand};
use crate::{Tiles, Unsupported};

use super::{Lowering, Result};
use memory::{Blocked, Memory};

/// Rows of a block.
const ROWS: i64 = 64;

/// The kernels of a variant without states.
///
/// # Errors
/// What only the reference evaluates.
pub fn lower(variant: &Variant, sizes: &Sizes) -> Result<Module> {
    let graph = Graph::of(variant)?;
    let placement = place::place(variant, &graph);
    let mut stages = Stages {
        lowering: Lowering::new(variant, sizes, Tiles::Whole),
        graph: &graph,
        placement: &placement,
        shared: HashMap::new(),
        tiles: HashMap::new(),
        iterations: HashMap::new(),
        rows: None,
        columns: None,
        lanes: false,
        copies: HashMap::new(),
        known: Vec::new(),
        running: HashSet::new(),
        finite: HashMap::new(),
        finite_tiles: HashMap::new(),
        ahead: Vec::new(),
    };
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut alone = true;
    for unit in &placement.units {
        let (grid, body) = stages.unit(unit)?;
        for (grid, body) in stages.ahead.drain(..) {
            kernels.push(Kernel { name: format!("stage{}", kernels.len()), grid, body });
            alone = true;
        }
        // Blocks side by side may read what any of the others wrote before.
        let apart = std::mem::replace(&mut alone, !matches!(unit.space, Space::Once(_) | Space::Pass(_)));
        match kernels.last_mut() {
            Some(last) if last.grid == grid && !apart => last.body.extend(body),
            _ => kernels.push(Kernel { name: format!("stage{}", kernels.len()), grid, body }),
        }
    }
    Ok(stages.lowering.finish(kernels))
}

/// The rows of the block at hand.
#[derive(Debug, Clone)]
struct Rows {
    first: Int,
    count: Int,
    /// Rows that a tile holds.
    capacity: Int,
}

struct Stages<'a> {
    lowering: Lowering<'a>,
    graph: &'a Graph,
    placement: &'a Placement,
    /// What later units read.
    shared: HashMap<NodeId, Memory>,
    /// What is private to the unit at hand.
    tiles: HashMap<NodeId, Memory>,
    /// Of an iteration under way its entry so far and its step.
    iterations: HashMap<LetId, (Memory, VarId)>,
    rows: Option<Rows>,
    /// The block of columns of the sweep at hand.
    columns: Option<Rows>,
    /// Whether rows lie side by side in the tiles of the unit at hand: a vector's lanes are rows.
    lanes: bool,
    /// Tiles in lanes of what lies otherwise.
    copies: HashMap<NodeId, Memory>,
    /// Conditions on row (axis 0) and column (axis 1) that hold for the whole block at hand.
    known: Vec<Operand>,
    /// Maxima that are so far no less than `LEAST`.
    running: HashSet<NodeId>,
    /// Whether blocks of columns of a node hold finite numbers alone: 0, else 1.
    finite: HashMap<NodeId, Memory>,
    /// Tiles for the finite part of what products read of the block at hand.
    finite_tiles: HashMap<NodeId, Memory>,
    /// Kernels that go before the one of the unit at hand.
    ahead: Vec<(Vec<GridAxis>, Vec<Stmt>)>,
}

impl Stages<'_> {
    fn unit(&mut self, unit: &Unit) -> Result<(Vec<GridAxis>, Vec<Stmt>)> {
        self.tiles.clear();
        self.copies.clear();
        self.finite_tiles.clear();
        (self.rows, self.columns) = (None, None);
        self.lanes = self.is_in_lanes_of(unit);
        let variant = self.lowering.variant();
        let all = crate::bind::batch_axes(variant);
        Ok(match &unit.space {
            Space::Once(axes) => (self.grid(axes), self.values(unit)?),
            Space::Rows(size) | Space::OverHeads(size) => {
                let heads = matches!(unit.space, Space::Rows(_));
                let mut grid = if heads { self.grid(&all) } else { self.grid(&self.axes_but_heads()) };
                let length = self.lowering.size(size);
                let block = self.lowering.param("block", ParamRole::Grid);
                let extent = (length.clone() + (ROWS - 1)).floor_div(ROWS);
                grid.push(GridAxis { param: block, extent });
                let rows = rows_from(Int::Param(block) * ROWS, &length);
                let capacity = if self.lanes { ROWS.into() } else { rows.capacity };
                self.rows = Some(Rows { capacity, ..rows });
                (grid, self.values(unit)?)
            }
            Space::Pass(size) => (self.grid(&all), self.pass(unit, size)?),
            Space::Image { rows, stride } => {
                let mut grid = self.grid(&all);
                let param = self.lowering.param("row", ParamRole::Grid);
                let extent = (self.lowering.size(rows) + (*stride - 1)).floor_div(*stride);
                grid.push(GridAxis { param, extent });
                let mut body = Vec::new();
                for placed in &unit.nodes {
                    body.extend(self.image(placed, (Int::Param(param), &unit.space))?);
                }
                (grid, body)
            }
        })
    }

    fn refused(&self, id: NodeId, what: &str) -> Unsupported {
        let way_out = "run it with --backend reference";
        Unsupported::new(what, "no kernel is made for it", way_out).at(self.graph.span(id))
    }

    /// Grid axes for these batch axes.
    fn grid(&mut self, axes: &[AxisId]) -> Vec<GridAxis> {
        let all = self.lowering.grid.clone();
        let chosen = all.into_iter().filter(|(axis, _)| axes.contains(axis));
        chosen.map(|(axis, param)| GridAxis { param, extent: self.lowering.size_of(axis) }).collect()
    }

    fn values(&mut self, unit: &Unit) -> Result<Vec<Stmt>> {
        let mut body = self.copy_to_lanes(unit)?;
        for sweeps in 0..=unit.sweeps.len() {
            let between = unit.nodes.iter().filter(|placed| placed.inside.is_none() && placed.after == sweeps);
            for placed in between {
                self.node(placed, unit, &mut body)?;
            }
            if let Some(sweep) = unit.sweeps.get(sweeps) {
                body.extend(self.sweep(unit, sweep)?);
            }
        }
        if self.lanes {
            self.fill_lanes(&mut body);
        }
        Ok(body)
    }

    /// All blocks of rows: sums start from nothing and take in a block at a time.
    fn pass(&mut self, unit: &Unit, size: &Size) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        let length = self.lowering.size(size);
        let first = self.lowering.var();
        for placed in &unit.nodes {
            if !self.is_summed(placed) {
                continue;
            }
            let memory = self.memory_of(placed, &Space::Pass(size.clone()));
            body.extend(self.start_sum(placed, &memory)?);
        }
        self.rows = Some(rows_from(Int::Var(first), &length));
        let mut block = Vec::new();
        for placed in &unit.nodes {
            if self.is_summed(placed) {
                block.extend(self.add_block(placed)?);
            } else {
                self.node(placed, unit, &mut block)?;
            }
        }
        body.push(Stmt::For { var: first, from: 0i64.into(), to: length, step: ROWS.into(), body: block });
        Ok(body)
    }

    fn is_summed(&self, placed: &Placed) -> bool {
        placed.row == Some(self.meaning(placed.node).axes.len())
    }

    /// The node that a kept node's statements compute.
    fn meaning(&self, id: NodeId) -> &Node {
        self.graph.node(self.placement.written_by.get(&id).copied().unwrap_or(id))
    }

    /// One kept node into its memory.
    fn node(&mut self, placed: &Placed, unit: &Unit, body: &mut Vec<Stmt>) -> Result<()> {
        let memory = self.memory_of(placed, &unit.space);
        let node = self.meaning(placed.node).clone();
        match &node.op {
            Op::Fold(_) => body.extend(self.fold(placed, &node, &memory)?),
            Op::OverHeads => body.extend(self.over_heads(placed, &node, &memory)?),
            Op::Iterate { .. } => self.iterate((placed, unit), &node, &memory, body)?,
            Op::Turns { .. } => body.extend(self.turns(&node, &memory)),
            Op::Join(parts) => {
                for (operand, part) in node.operands.iter().zip(parts) {
                    let last = node.axes.len() - 1;
                    let extent = self.lowering.size(&part.length);
                    let first = self.lowering.size(&part.first);
                    let target = memory.part(last, first, part.step);
                    let mut extents = self.extents(&node, Blocked::of(placed));
                    extents[last] = extent;
                    body.extend(self.fill(placed, (&extents, &target), operand)?);
                }
            }
            Op::Output(_) | Op::Copy => {
                let extents = self.extents(&node, Blocked::of(placed));
                body.extend(self.fill(placed, (&extents, &memory), &node.operands[0])?);
            }
            _ => {
                let extents = self.extents(&node, Blocked::of(placed));
                body.extend(self.fill_with(placed, (&extents, &memory), |this, nest| this.computed(&node, nest))?);
            }
        }
        Ok(())
    }

    /// The first value, then every step from the one before.
    fn iterate(
        &mut self,
        (placed, unit): (&Placed, &Unit),
        node: &Node,
        memory: &Memory,
        body: &mut Vec<Stmt>,
    ) -> Result<()> {
        let Op::Iterate { of, from, ref to } = node.op else { return Ok(()) };
        let to = self.lowering.size(to) + 1i64;
        let extents = self.extents(node, Blocked::of(placed));
        body.extend(self.fill(placed, (&extents, memory), &node.operands[0])?);
        let step = self.lowering.var();
        self.iterations.insert(of, (memory.clone(), step));
        let mut statements = Vec::new();
        for inner in unit.nodes.iter().filter(|inner| inner.inside == Some(of)) {
            self.node(inner, unit, &mut statements)?;
        }
        let next = self.scratch("next", &node.axes, Blocked::of(placed));
        statements.extend(self.fill(placed, (&extents, &next), &node.operands[1])?);
        let copy = self.fill_with(placed, (&extents, memory), |this, nest| this.load(&next, nest))?;
        statements.extend(copy);
        self.iterations.remove(&of);
        body.push(Stmt::For { var: step, from: from.into(), to, step: 1i64.into(), body: statements });
        Ok(())
    }

    /// Constants of every pair: the head of its turns per position, exact in a product with a position, or what is left.
    fn turns(&mut self, node: &Node, memory: &Memory) -> Vec<Stmt> {
        let Op::Turns { base, length, rest } = &node.op else { return Vec::new() };
        let (base, length) = (f64::from_bits(*base), self.lowering.sizes.extent(length));
        let turns = (0..length / 2).map(|n| base.powf(-2.0 * n as f64 / length as f64) / std::f64::consts::TAU);
        let values = turns.map(|turn| {
            let head = super::sequence::head(turn);
            if *rest { turn - head } else { head }
        });
        let at = |n: usize| memory.offset.clone() + memory.strides[0].clone() * n;
        values
            .enumerate()
            .map(|(n, value)| {
                let dst = crate::kernel::Access::new(memory.buffer, at(n), []);
                Stmt::Map(Map::new(Vec::new(), dst, crate::kernel::Value::Const(value)))
            })
            .collect()
    }
}

fn rows_from(first: Int, length: &Int) -> Rows {
    let count = (length.clone() - first.clone()).min(ROWS);
    Rows { first, count, capacity: Int::from(ROWS).min(length.clone()) }
}

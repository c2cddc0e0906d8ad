//! Where kept nodes lie: tensors and outputs as declared, what units share for every batch element, tiles for a block.

use chunkwise_dsl::shape::AxisId;
use chunkwise_dsl::typed::{OutputDim, TensorId};

use crate::bind::output_dims;
use crate::kernel::{BufferId, BufferRole, Elem, Int};
use crate::plan::place::{Placed, Space};
use crate::program::{Axis, Node, Op, Operand};

use super::{Rows, Stages};

/// A node's elements: a stride for every axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memory {
    pub buffer: BufferId,
    pub offset: Int,
    pub strides: Vec<Int>,
    /// The axes that count from the first row, or column, of the block.
    pub blocked: Blocked,
    /// From one head to the next, where every head has elements of its own.
    pub head: Option<Int>,
}

/// Of a node the axes that blocks of rows and of columns divide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blocked {
    pub row: Option<usize>,
    pub column: Option<usize>,
}

impl Blocked {
    pub fn of(placed: &Placed) -> Self {
        Self { row: placed.row, column: placed.column }
    }

    pub fn rows(row: Option<usize>) -> Self {
        Self { row, column: None }
    }

    pub fn has(self, axis: usize) -> bool {
        self.row == Some(axis) || self.column == Some(axis)
    }
}

impl Memory {
    /// Whether its axis counts from the block that a nest's axis is within.
    pub fn counts_as(&self, axis: usize, read: usize, nest: Blocked) -> bool {
        (self.blocked.row == Some(axis) && nest.row == Some(read))
            || (self.blocked.column == Some(axis) && nest.column == Some(read))
    }

    /// The places `first + step * n` of an axis.
    pub fn part(&self, axis: usize, first: Int, step: i64) -> Memory {
        let mut part = self.clone();
        part.offset = part.offset + first * self.strides[axis].clone();
        part.strides[axis] = self.strides[axis].clone() * step;
        part
    }
}

impl Stages<'_> {
    /// How long a node's axes are, those of rows and columns as long as the block.
    pub(super) fn extents(&mut self, node: &Node, blocked: Blocked) -> Vec<Int> {
        let count = |rows: &Option<Rows>| rows.as_ref().map(|rows| rows.count.clone());
        let (rows, columns) = (count(&self.rows), count(&self.columns));
        let sizes = node.axes.iter().enumerate();
        sizes
            .map(|(place, axis)| match (&rows, &columns) {
                (Some(count), _) if blocked.row == Some(place) => count.clone(),
                (_, Some(count)) if blocked.column == Some(place) => count.clone(),
                _ => self.lowering.size(&axis.size).max_of_sizes(),
            })
            .collect()
    }

    /// The memory of a node that is computed now.
    pub(super) fn memory_of(&mut self, placed: &Placed, space: &Space) -> Memory {
        let id = placed.node;
        let known = if placed.shared { self.shared.get(&id) } else { self.tiles.get(&id) };
        if let Some(known) = known {
            return known.clone();
        }
        let node = self.graph.node(id).clone();
        let memory = match node.op {
            Op::Output(place) => self.output(place),
            _ if placed.shared => {
                let axes = match space {
                    Space::Once(axes) => axes.clone(),
                    Space::OverHeads(_) => self.axes_but_heads(),
                    _ => crate::bind::batch_axes(self.lowering.variant()),
                };
                let room = self.dense(&node.axes, Blocked::default());
                self.shared_memory(&format!("shared.{}", id.0), room, &axes)
            }
            _ => self.scratch("tile", &node.axes, Blocked::of(placed)),
        };
        if placed.shared || matches!(node.op, Op::Output(_)) {
            self.shared.insert(id, memory.clone());
        } else {
            self.tiles.insert(id, memory.clone());
        }
        memory
    }

    /// Memory of these strides and this size for every element of the batch axes, which later units read.
    pub(super) fn shared_memory(
        &mut self,
        name: &str,
        (strides, mut size): (Vec<Int>, Int),
        batch: &[AxisId],
    ) -> Memory {
        let mut offset = Int::from(0i64);
        let grid = self.lowering.grid.clone();
        let mut head = None;
        for (axis, param) in grid.into_iter().rev().filter(|(axis, _)| batch.contains(axis)) {
            if self.lowering.variant().head == Some(axis) {
                head = Some(size.clone());
            }
            offset = offset + Int::Param(param) * size.clone();
            size = size * self.lowering.size_of(axis);
        }
        let buffer = self.lowering.buffer(name, BufferRole::Shared, Elem::F32, size);
        Memory { buffer, offset, strides, blocked: Blocked::default(), head }
    }

    pub(super) fn axes_but_heads(&self) -> Vec<AxisId> {
        let variant = self.lowering.variant();
        crate::bind::batch_axes(variant).into_iter().filter(|axis| variant.head != Some(*axis)).collect()
    }

    /// A new tile of these axes, with room for the rows and columns of a block; the rows are its last axis in lanes.
    pub(super) fn scratch(&mut self, name: &str, axes: &[Axis], blocked: Blocked) -> Memory {
        let within = |axis: Option<usize>| axis.filter(|axis| *axis < axes.len());
        let blocked = Blocked { row: within(blocked.row), column: within(blocked.column) };
        let (strides, size) = self.dense(axes, blocked);
        let buffer = self.lowering.scratch(name, size);
        Memory { buffer, offset: Int::from(0i64), strides, blocked, head: None }
    }

    /// Strides of axes that lie densely, the last fastest, and how many elements they are. In lanes the rows are fastest.
    fn dense(&mut self, axes: &[Axis], blocked: Blocked) -> (Vec<Int>, Int) {
        let capacity = |rows: &Option<Rows>| rows.as_ref().map(|rows| rows.capacity.clone());
        let (rows, columns) = (capacity(&self.rows), capacity(&self.columns));
        let mut strides = vec![Int::from(1i64); axes.len()];
        let mut size = Int::from(1i64);
        let lanes = blocked.row.filter(|_| self.lanes);
        let others = (0..axes.len()).rev().filter(|place| Some(*place) != lanes);
        for place in lanes.into_iter().chain(others) {
            strides[place] = size.clone();
            let extent = match (&rows, &columns) {
                (Some(capacity), _) if blocked.row == Some(place) => capacity.clone(),
                (_, Some(capacity)) if blocked.column == Some(place) => capacity.clone(),
                _ => self.lowering.size(&axes[place].size).max_of_sizes(),
            };
            size = size * extent;
        }
        (strides, size)
    }

    /// The memory that an operand is read from; None where it is computed in place.
    pub(super) fn found(&mut self, operand: &Operand) -> Option<Memory> {
        let id = operand.node;
        match self.graph.node(id).op {
            Op::Tensor(tensor) => Some(self.tensor(tensor)),
            Op::Old(of) => self.iterations.get(&of).map(|(memory, _)| memory.clone()),
            _ if self.placement.stored[id.index()] => self.tiles.get(&id).or_else(|| self.shared.get(&id)).cloned(),
            _ => None,
        }
    }

    fn tensor(&mut self, id: TensorId) -> Memory {
        let tile = self.lowering.tensor_tile(id);
        let strides = tile.dims.into_iter().map(|dim| dim.stride).collect();
        Memory { buffer: tile.buffer, offset: tile.offset, strides, blocked: Blocked::default(), head: None }
    }

    fn output(&mut self, place: usize) -> Memory {
        let variant = self.lowering.variant();
        let Some(output) = variant.outputs().nth(place) else {
            return Memory {
                buffer: BufferId(0),
                offset: Int::from(0i64),
                strides: Vec::new(),
                blocked: Blocked::default(),
                head: None,
            };
        };
        let indices = output.indices.iter().map(|index| variant.indices[index.index()].size.clone());
        let own: Vec<_> = indices.chain(output.ty.dims()).collect();
        let (mut offset, mut stride) = (Int::from(0i64), Int::from(1i64));
        let mut strides = vec![Int::from(1i64); own.len()];
        for dim in output_dims(variant, output).iter().rev() {
            let extent = match dim {
                OutputDim::Batch(axis) => {
                    offset = offset + self.lowering.place_on(*axis) * stride.clone();
                    self.lowering.size_of(*axis)
                }
                OutputDim::Own(place) => {
                    strides[*place] = stride.clone();
                    self.lowering.size(&own[*place]).max_of_sizes()
                }
            };
            stride = stride * extent;
        }
        let buffer = self.lowering.buffer(&output.name, BufferRole::Output, Elem::F32, stride);
        Memory { buffer, offset, strides, blocked: Blocked::default(), head: None }
    }
}

/// Sizes as extents.
trait Extent {
    /// A size that can be negative (`[T-1]` without tokens) is then 0.
    fn max_of_sizes(self) -> Int;
}

impl Extent for Int {
    fn max_of_sizes(self) -> Int {
        match &self {
            Int::Const(_) | Int::Param(_) => self,
            _ => self.max(0i64),
        }
    }
}

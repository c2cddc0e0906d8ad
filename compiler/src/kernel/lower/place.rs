//! Where a module's tensors, outputs and states lie, for the work item's batch element.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{BatchDim, Dtype, ExprId, IndexId, Output, OutputDim, StateId, TensorId};

use crate::bind::output_dims;
use crate::kernel::{BufferId, BufferRole, Elem, GridAxis, Int, Stmt};

use super::arena::refusal;
use super::tile::{Tile, TileDim};
use super::{Lowering, Result, Stretch};

impl<'a> Lowering<'a> {
    /// A grid axis for every batch axis, in the order of `axes`.
    pub fn grid(&mut self) -> Vec<GridAxis> {
        let grid = self.grid.clone();
        let mut axes: Vec<GridAxis> =
            grid.into_iter().map(|(axis, param)| GridAxis { param, extent: self.size_of(axis) }).collect();
        if let Some(tile) = self.tile {
            let extent = self.whole_of(tile.axis).floor_div(tile.length);
            axes.push(GridAxis { param: tile.place, extent });
        }
        axes
    }

    /// Pushes what `write` pushes; by the first tile alone where tiles would all write the same.
    pub(super) fn push_once(&mut self, state: StateId, write: impl FnOnce(&mut Self)) {
        let Some(tile) = self.tile else { return write(self) };
        let along = self.variant.states[state.index()].dims.iter().any(|size| size.as_axis() == Some(tile.axis));
        if along {
            return write(self);
        }
        let before = self.exchange(Vec::new());
        write(self);
        let then = self.exchange(before);
        self.push(Stmt::If { left: Int::Param(tile.place), right: Int::from(1i64), then, otherwise: Vec::new() });
    }

    /// The work item's place on a batch axis.
    pub(super) fn place_on(&self, axis: chunkwise_dsl::shape::AxisId) -> Int {
        let found = self.grid.iter().find(|(a, _)| *a == axis);
        found.map_or(Int::from(0i64), |(_, param)| Int::Param(*param))
    }

    /// An input or a param without its batch axes: the tile of all its own dims, the same for all rows.
    pub fn tensor_tile(&mut self, id: TensorId) -> Tile {
        let tensor = self.variant.tensors[id.index()].clone();
        let mut stride = Int::from(1i64);
        let mut offset = Int::from(0i64);
        let mut dims = Vec::new();
        for dim in tensor.dims.iter().rev() {
            let Stretch { mut part, whole: mut extent, first } = self.stretch(&dim.size);
            if dim.size.terms().any(|(_, n)| n < 0) {
                // `[T-1]` without tokens is empty.
                extent = extent.max(0i64);
                part = extent.clone();
            }
            match &dim.batch {
                None => {
                    offset = offset + first * stride.clone();
                    dims.push(TileDim { extent: part, stride: stride.clone() });
                }
                Some(BatchDim::Index(axis)) => offset = offset + self.place_on(*axis) * stride.clone(),
                Some(BatchDim::Group { of, ratio }) => {
                    let ratio = self.size(ratio);
                    offset = offset + self.place_on(*of).floor_div(ratio) * stride.clone();
                }
            }
            stride = stride * extent;
        }
        dims.reverse();
        let elem = match tensor.dtype {
            Dtype::F32 => Elem::F32,
            Dtype::I32 => Elem::I32,
        };
        let buffer = self.buffer(&tensor.name, BufferRole::Input, elem, stride);
        Tile { buffer, offset, row: Int::from(0i64), dims }
    }

    /// The work item's part of a state's initial value.
    pub fn state_in_tile(&mut self, state: StateId) -> Tile {
        self.state_tile(state, BufferRole::StateIn)
    }

    /// The work item's part of a state's final value.
    pub fn state_out_tile(&mut self, state: StateId) -> Tile {
        self.state_tile(state, BufferRole::StateOut)
    }

    /// The state's own extents.
    pub fn state_extents(&mut self, state: StateId) -> Vec<Int> {
        let dims = self.variant.states[state.index()].dims.clone();
        dims.iter().map(|size| self.size(size)).collect()
    }

    fn state_tile(&mut self, state: StateId, role: BufferRole) -> Tile {
        let mut stride = Int::from(1i64);
        let mut offset = Int::from(0i64);
        let mut own = Vec::new();
        for size in self.variant.states[state.index()].dims.clone().iter().rev() {
            let Stretch { part, whole, first } = self.stretch(size);
            offset = offset + first * stride.clone();
            own.push(TileDim { extent: part, stride: stride.clone() });
            stride = stride * whole;
        }
        own.reverse();
        for (axis, param) in self.grid.clone().into_iter().rev() {
            offset = offset + Int::Param(param) * stride.clone();
            stride = stride * self.size_of(axis);
        }
        let name = self.variant.states[state.index()].name.clone();
        let buffer: BufferId = self.buffer(&name, role, Elem::F32, stride);
        Tile { buffer, offset, row: Int::from(0i64), dims: own }
    }

    /// The output's value as a node, at the token if it has one, and its subscripts beside the token.
    pub(super) fn output_node(&mut self, output: &Output) -> Result<(ExprId, Vec<IndexId>)> {
        let value = self.arena.convert(output.value)?;
        if !output.indices.is_empty() {
            let tokens = output.indices.iter().filter(|&&index| self.arena.is_token(index)).count();
            if tokens > 1 {
                let what = format!("the pairwise output `{}`", output.name);
                return Err(refusal(&what, "it has an entry for every pair of tokens", output.span));
            }
            let own = output.indices.iter().copied().filter(|&index| !self.arena.is_token(index)).collect();
            return Ok((value, own));
        }
        let dims = self.arena.dims(value);
        match self.token_axis_of(output, &dims).then(|| self.arena.token_index()).flatten() {
            Some(token) => {
                let ty = chunkwise_dsl::typed::Ty::Array(dims[1..].to_vec());
                Ok((self.arena.subscript(value, vec![token], ty, output.span), Vec::new()))
            }
            None => Ok((value, Vec::new())),
        }
    }

    /// The only output that is this expression of the variant at every token, where nothing else is made of it.
    pub fn output_of(&mut self, id: ExprId) -> Result<Option<&'a Output>> {
        let id = self.arena.convert(id)?;
        let mut found = None;
        for output in self.variant.outputs() {
            if self.is_per_token(output) && self.output_node(output)? == (id, Vec::new()) {
                if found.is_some() {
                    return Ok(None);
                }
                found = Some(output);
            }
        }
        Ok(found.filter(|_| self.arena.uses(id) == 0))
    }

    fn token_axis_of(&self, output: &Output, dims: &[Size]) -> bool {
        let token = self.variant.token.map(Size::axis);
        output.indices.is_empty() && token.is_some() && dims.first() == token.as_ref()
    }

    /// Whether the output has a value for every token.
    pub fn is_per_token(&mut self, output: &Output) -> bool {
        let dims = output.ty.dims();
        output.indices.iter().any(|&index| self.arena.is_token(index)) || self.token_axis_of(output, &dims)
    }

    /// The output's buffer for the rows in force: its subscripts beside the token, then its value's dims.
    pub fn output_tile(&mut self, output: &Output) -> Tile {
        let own: Vec<Size> = output
            .indices
            .iter()
            .map(|&index| self.variant.indices[index.index()].size.clone())
            .chain(output.ty.dims())
            .collect();
        let token = match output.indices.iter().position(|&index| self.arena.is_token(index)) {
            Some(place) => Some(place),
            None => self.token_axis_of(output, &own).then_some(0),
        };
        let order = output_dims(self.variant, output);
        let mut stride = Int::from(1i64);
        let mut offset = Int::from(0i64);
        let mut strides = vec![Int::from(0i64); own.len()];
        for dim in order.iter().rev() {
            let extent = match dim {
                OutputDim::Batch(axis) => {
                    offset = offset + self.place_on(*axis) * stride.clone();
                    self.size_of(*axis)
                }
                OutputDim::Own(place) => {
                    strides[*place] = stride.clone();
                    let Stretch { whole, first, .. } = self.stretch(&own[*place]);
                    offset = offset + first * stride.clone();
                    whole
                }
            };
            stride = stride * extent;
        }
        let buffer = self.buffer(&output.name, BufferRole::Output, Elem::F32, stride);
        let mut row = Int::from(0i64);
        if let (Some(place), Some(rows)) = (token, self.rows()) {
            offset = offset + rows.first.clone() * strides[place].clone();
            row = strides[place].clone();
        }
        let dims = (0..own.len())
            .filter(|place| Some(*place) != token)
            .map(|place| TileDim { extent: self.size(&own[place]), stride: strides[place].clone() })
            .collect();
        Tile { buffer, offset, row, dims }
    }
}

//! Where values lie: tiles of buffers, positions that are affine in a statement's axes, and the rows in force. Pure
//! arithmetic; nothing here knows an expression.

use std::collections::HashMap;

use chunkwise_dsl::typed::IndexId;

use crate::kernel::{Access, BufferId, Int, Position, Value};
use chunkwise_dsl::typed::Function;

/// The tokens that a block scope stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Token position of row 0.
    pub first: Int,
    /// Rows in force now.
    pub count: Int,
    /// Rows that a scratch buffer must hold: in terms of size and chunk params only.
    pub capacity: Int,
}

/// A value in memory, for every row of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    pub buffer: BufferId,
    pub offset: Int,
    /// Stride between rows; 0 if the value is the same for all.
    pub row: Int,
    /// The element dims: a column vector and a row alike have one.
    pub dims: Vec<TileDim>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TileDim {
    pub extent: Int,
    pub stride: Int,
}

impl Tile {
    /// A tile whose dims lie densely, the last fastest, and whose rows follow each other.
    pub fn dense(buffer: BufferId, offset: impl Into<Int>, extents: &[Int]) -> Self {
        let mut stride = Int::from(1i64);
        let mut dims: Vec<TileDim> = Vec::new();
        for extent in extents.iter().rev() {
            dims.push(TileDim { extent: extent.clone(), stride: stride.clone() });
            stride = stride * extent.clone();
        }
        dims.reverse();
        Self { buffer, offset: offset.into(), row: stride, dims }
    }

    /// The tile of one row, as a tile that is the same for all rows.
    pub fn at_row(&self, row: Int) -> Self {
        Self {
            buffer: self.buffer,
            offset: self.offset.clone() + self.row.clone() * row,
            row: Int::from(0i64),
            dims: self.dims.clone(),
        }
    }

    /// The same elements with the two last dims exchanged; a tile of fewer dims is its own transpose.
    pub fn transposed(mut self) -> Self {
        let rank = self.dims.len();
        if rank >= 2 {
            self.dims.swap(rank - 2, rank - 1);
        }
        self
    }

    /// Whether the last dim's elements are neighbours.
    pub fn last_is_dense(&self) -> bool {
        self.dims.last().is_none_or(|dim| dim.stride == Int::from(1i64))
    }
}

/// An integer that is affine in the axes of a statement; trailing zero strides may be left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct At {
    pub base: Option<Int>,
    pub strides: Vec<Int>,
}

impl At {
    pub fn constant(base: impl Into<Int>) -> Self {
        Self { base: Some(base.into()), strides: Vec::new() }
    }

    /// The position along the axis.
    pub fn axis(axis: usize) -> Self {
        let mut strides = vec![Int::from(0i64); axis];
        strides.push(Int::from(1i64));
        Self { base: None, strides }
    }

    pub fn base(&self) -> Int {
        self.base.clone().unwrap_or(Int::from(0i64))
    }

    pub fn stride(&self, axis: usize) -> Int {
        self.strides.get(axis).cloned().unwrap_or(Int::from(0i64))
    }

    pub fn plus(&self, other: &At) -> At {
        let rank = self.strides.len().max(other.strides.len());
        At {
            base: Some(self.base() + other.base()),
            strides: (0..rank).map(|axis| self.stride(axis) + other.stride(axis)).collect(),
        }
    }

    pub fn times(&self, by: &Int) -> At {
        At {
            base: Some(self.base() * by.clone()),
            strides: self.strides.iter().map(|stride| stride.clone() * by.clone()).collect(),
        }
    }

    pub fn minus(&self, other: &At) -> At {
        let rank = self.strides.len().max(other.strides.len());
        At {
            base: Some(self.base() - other.base()),
            strides: (0..rank).map(|axis| self.stride(axis) - other.stride(axis)).collect(),
        }
    }

    /// The integer, if it is the same everywhere in the statement.
    pub fn as_int(&self) -> Option<Int> {
        self.strides.iter().all(|stride| *stride == Int::from(0i64)).then(|| self.base())
    }

    pub fn position(&self, rank: usize) -> Position {
        Position { base: self.base(), strides: (0..rank).map(|axis| self.stride(axis)).collect() }
    }

    /// The integer as a number.
    pub fn number(&self) -> Value {
        let mut sum: Option<Value> = (self.base() != Int::from(0i64)).then(|| Value::Int(self.base()));
        for (axis, stride) in self.strides.iter().enumerate() {
            let term = match stride {
                Int::Const(0) => continue,
                Int::Const(1) => Value::Axis(axis),
                other => Value::Call(Function::Mul, vec![Value::Axis(axis), Value::Int(other.clone())]),
            };
            sum = Some(match sum {
                Some(left) => Value::Call(Function::Add, vec![left, term]),
                None => term,
            });
        }
        sum.unwrap_or(Value::Const(0.0))
    }
}

/// What a statement's axes mean to the expressions in it.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Strides that every access of the statement has.
    pub rank: usize,
    /// The row within the block.
    pub row: At,
    /// Where the index variables beside the token stand.
    pub env: HashMap<IndexId, At>,
}

impl Frame {
    /// The elements of a tile at these positions of its dims.
    pub fn access(&self, tile: &Tile, at: &[At]) -> Access {
        let mut place = At::constant(tile.offset.clone()).plus(&self.row.times(&tile.row));
        for (position, dim) in at.iter().zip(&tile.dims) {
            place = place.plus(&position.times(&dim.stride));
        }
        let place = place.position(self.rank);
        Access { buffer: tile.buffer, offset: place.base, strides: place.strides }
    }
}

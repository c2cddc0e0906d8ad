//! States: from the given value to scratch memory, from block to block, and out again.

use chunkwise_dsl::typed::{Function, StateId};
use petgraph::graph::NodeIndex;

use crate::{
    ir::Term,
    kernel::{Access, Int, Map, Stmt, Value},
};

use super::{
    super::{Lowering, Result, Tile, emit::call},
    Emission,
    decay::Scales,
    strides, with_rank,
};

/// X[k,v] in scratch memory, loaded with the initial value.
pub(super) fn start(lowering: &mut Lowering, state: StateId, transposed: bool) -> Tile {
    let given = placed(lowering.state_in_tile(state), transposed);
    let extents: Vec<Int> = given.dims.iter().map(|dim| dim.extent.clone()).collect();
    let buffer = lowering.scratch("state", extents[0].clone() * extents[1].clone());
    let memory = Tile { row: Int::from(0i64), ..Tile::dense(buffer, 0i64, &extents) };
    copy(lowering, &given, &memory);
    memory
}

/// The initial value into the memory.
pub(super) fn begin(lowering: &mut Lowering, state: StateId, transposed: bool, memory: &Tile) {
    let given = placed(lowering.state_in_tile(state), transposed);
    copy(lowering, &given, memory);
}

/// The memory as the final value.
pub(super) fn finish(lowering: &mut Lowering, state: StateId, transposed: bool, memory: &Tile) {
    let out = placed(lowering.state_out_tile(state), transposed);
    lowering.push_once(state, |lowering| copy(lowering, memory, &out));
}

/// A state of the program as the K x V matrix of its derivation.
fn placed(tile: Tile, transposed: bool) -> Tile {
    let matrix = with_rank(tile, 2);
    if transposed { matrix.transposed() } else { matrix }
}

fn copy(lowering: &mut Lowering, from: &Tile, to: &Tile) {
    let axes = from.dims.iter().map(|dim| dim.extent.clone()).collect();
    let whole = |tile: &Tile| Access::new(tile.buffer, tile.offset.clone(), strides(tile));
    lowering.push(Stmt::Map(Map::new(axes, whole(to), Value::Load(whole(from)))));
}

impl Emission<'_, '_> {
    /// S <- tot(d) S (its columns by tot(b)) + sum of K' V, in place, once everything that it is made of is known. The
    /// decays are factors and what they lost (`decay`), which a target adds to the products first (`kernel::scaled`).
    pub(super) fn next_state(&mut self, state: StateId, index: NodeIndex) -> Result<()> {
        let mut parts = Vec::new();
        self.writes(index, &mut parts);
        let memory = self.memory[&state].clone();
        let mut products = Vec::new();
        let mut scales = Scales::Nothing;
        for part in parts {
            let (keys, values) = match self.term(part) {
                Some(Term::Step(_)) => {
                    scales = self.scales([Some(self.operand(part, 0)), None])?;
                    (self.operand(part, 1), self.operand(part, 2))
                }
                Some(Term::StepBoth(_)) => {
                    scales = self.scales([0, 1].map(|side| Some(self.operand(part, side))))?;
                    (self.operand(part, 2), self.operand(part, 3))
                }
                _ => (self.operand(part, 0), self.operand(part, 1)),
            };
            for place in 0..self.stack(values) {
                let keys = with_rank(self.stream(keys, place)?, 1);
                let values = with_rank(self.dense(values, place)?, 1);
                products.push((keys, values));
            }
        }
        let whole = Access::new(memory.buffer, memory.offset.clone(), strides(&memory));
        let (k, v) = (memory.dims[0].extent.clone(), memory.dims[1].extent.clone());
        let zero = Int::from(0i64);
        let first = |factor: &Access| factor.strides.first().cloned().unwrap_or(Int::from(0i64));
        let load = |part: &Access, side: usize| {
            let mut strides = [zero.clone(), zero.clone()];
            strides[side] = first(part);
            Value::Load(Access::new(part.buffer, part.offset.clone(), strides))
        };
        let mut kept = scales.kept(&Value::Load(whole.clone()), &load);
        let scaled = !matches!(scales, Scales::Nothing);
        if scaled && v == Int::from(1i64) && !products.is_empty() {
            // No target adds what the decay lost to the products of a column, so they are summed beside it.
            let written = self.lowering.scratch("written", k.clone());
            let written = Access::new(written, 0i64, [Int::from(1i64), Int::from(1i64)]);
            for (n, (keys, values)) in products.drain(..).enumerate() {
                self.write(&written, [&k, &v], (&keys, &values), n > 0);
            }
            kept.push(Value::Load(written));
        }
        let sum = kept.into_iter().rev().reduce(|sum, x| call(Function::Add, [x, sum]));
        if let Some(sum) = sum.filter(|_| scaled) {
            self.map(vec![k.clone(), v.clone()], whole.clone(), sum);
        }
        for (keys, values) in products {
            self.write(&whole, [&k, &v], (&keys, &values), true);
        }
        Ok(())
    }

    /// The sum over the block of the outer products of keys and values.
    fn write(&mut self, dst: &Access, [k, v]: [&Int; 2], (keys, values): (&Tile, &Tile), accumulate: bool) {
        if *v == Int::from(1i64) && keys.last_is_dense() {
            // One column: the keys are the rows to sum, so that the long side is the one of the vectors.
            let a = Access::new(values.buffer, values.offset.clone(), [Int::from(0i64), values.row.clone()]);
            let row = Access::new(dst.buffer, dst.offset.clone(), [Int::from(0i64), Int::from(1i64)]);
            return self.product((v.clone(), k.clone(), self.count()), (row, a, super::at(keys)), accumulate);
        }
        let a = Access::new(keys.buffer, keys.offset.clone(), [keys.dims[0].stride.clone(), keys.row.clone()]);
        self.product((k.clone(), v.clone(), self.count()), (dst.clone(), a, super::at(values)), accumulate);
    }

    /// The decays of rows and columns over the block; none where they are the constant 1.
    fn scales(&mut self, sides: [Option<NodeIndex>; 2]) -> Result<Scales<Access>> {
        Ok(match sides.map(|side| side.filter(|decay| !self.is_one(*decay))) {
            [None, None] => Scales::Nothing,
            [Some(rows), None] => Scales::Rows(self.total(rows)?),
            [None, Some(columns)] => Scales::Columns(self.total(columns)?),
            [Some(rows), Some(columns)] => Scales::Both([self.total_apart(rows)?, self.total_apart(columns)?]),
        })
    }

    fn writes(&self, index: NodeIndex, found: &mut Vec<NodeIndex>) {
        match self.term(index) {
            Some(Term::Add(_)) => {
                self.writes(self.operand(index, 0), found);
                self.writes(self.operand(index, 1), found);
            }
            _ => found.push(index),
        }
    }
}

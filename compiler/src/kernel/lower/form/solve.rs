//! Triangular systems of a block: what feeds back from a token to those after it. Those whose rows decay while they are
//! solved are in `running`.

use chunkwise_dsl::typed::Function;
use petgraph::graph::NodeIndex;

use crate::kernel::{Access, Int, Solve, Stmt, Value};

use super::{
    super::{Result, Tile, emit::call},
    Emission, Square, at, row_of,
    stream::with_broadcast,
    with_rank,
};

/// A system with a gate: for each of its stack the tile to solve in place, and its gate; pairs by (row, column).
pub(super) struct Feedback {
    pub(super) solved: Vec<Tile>,
    pub(super) gates: Vec<Tile>,
    pub(super) squares: Vec<Vec<Square>>,
    /// Elements of a vector.
    pub(super) width: Int,
}

impl Emission<'_, '_> {
    /// (I - P)^-1 y: y is copied, then solved in place for the whole stack at once.
    pub(super) fn solve(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        let (pairs, y) = (self.operand(index, 0), self.operand(index, 1));
        let stack = self.stack(y);
        let width = self.width(y);
        let mut x = Vec::new();
        for row in 0..stack {
            let tile = self.rows_of("solved", width.clone(), 0);
            self.fill_stream(&tile, y, row)?;
            x.push(tile);
        }
        let mut p = Vec::new();
        for row in 0..stack {
            for column in 0..stack {
                let square = self.pairs(pairs, row, column)?;
                p.push(square.access(Int::from(0i64), [square.stride.clone(), Int::from(1i64)]));
            }
        }
        let columns = width.unwrap_or(Int::from(1i64));
        let tiles = x.iter().map(|tile| at(&with_rank(tile.clone(), 1))).collect();
        self.push(Stmt::Solve(Solve { n: self.count(), columns, p, x: tiles }));
        Ok(self.stacked(index, place, &x))
    }

    /// Keeps the tiles of a stream, one for each of its stack, and gives the one at `place`.
    pub(super) fn stacked(&mut self, index: NodeIndex, place: usize, tiles: &[Tile]) -> Tile {
        for (row, tile) in tiles.iter().enumerate() {
            self.streams.insert((index, row), tile.clone());
        }
        tiles[place].clone()
    }

    /// What a system y = gate .* (pairs y) + x is solved from: y holds x.
    pub(super) fn feedback(&mut self, [gate, pairs, y]: [NodeIndex; 3]) -> Result<Feedback> {
        let stack = self.stack(y);
        let width = self.width(y).unwrap_or(Int::from(1i64));
        let (mut solved, mut gates, mut squares) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..stack {
            let tile = self.rows_of("solved", Some(width.clone()), 0);
            self.fill_stream(&tile, y, row)?;
            solved.push(tile);
            let place = if self.stack(gate) == 1 { 0 } else { row };
            gates.push(with_broadcast(&self.stream(gate, place)?));
            squares.push((0..stack).map(|column| self.pairs(pairs, row, column)).collect::<Result<Vec<Square>>>()?);
        }
        Ok(Feedback { solved, gates, squares, width })
    }

    /// The y with y = c .* (P y) + x for a V-vector c: row by row.
    pub(super) fn solve_columns(&mut self, index: NodeIndex, place: usize) -> Result<Tile> {
        let Feedback { solved, gates, squares, width } =
            self.feedback([0, 1, 2].map(|place| self.operand(index, place)))?;
        let sum = self.lowering.scratch("feedback", width.clone());
        self.each(1i64, self.count(), |this, t| {
            for row in 0..solved.len() {
                for (column, square) in squares[row].iter().enumerate() {
                    let a = square.access(square.stride.clone() * t.clone(), [Int::from(0i64), Int::from(1i64)]);
                    let dst = Access::new(sum, 0i64, [Int::from(0i64), Int::from(1i64)]);
                    let b = at(&solved[column]);
                    this.product((Int::from(1i64), width.clone(), t.clone()), (dst, a, b), column > 0);
                }
                let x = row_of(&solved[row], t.clone());
                let fed = Value::Load(Access::new(sum, 0i64, [Int::from(1i64)]));
                let gated = call(Function::Mul, [Value::Load(row_of(&gates[row], t.clone())), fed]);
                this.map(vec![width.clone()], x.clone(), call(Function::Add, [Value::Load(x), gated]));
            }
            Ok(())
        })?;
        Ok(self.stacked(index, place, &solved))
    }
}

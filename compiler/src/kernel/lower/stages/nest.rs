//! The axes of a statement, the loops around it, and positions in terms of them. An axis on which an access does not
//! depend by a stride (`n div 3`) becomes a loop: attempts at a statement say which.

use std::collections::BTreeSet;

use crate::kernel::{Int, Map, Stmt, Value, VarId};
use crate::plan::place::Placed;
use crate::program::{Index, Op, Operand};

use super::super::fused::crooked;
use super::super::tile::At;
use super::memory::{Blocked, Memory};
use super::{Result, Stages};

/// Axes that one statement may have.
pub(super) const AXES: usize = 3;

/// Axes on which positions do not depend by a stride.
#[derive(Debug)]
pub(super) struct Crooked(pub BTreeSet<usize>);

pub(super) type Attempt<T> = std::result::Result<T, Crooked>;

/// What the axes of a node mean to a statement.
#[derive(Debug, Clone)]
pub(super) struct Nest {
    pub loops: Vec<(VarId, Int)>,
    /// Extents of the statement's own axes.
    pub axes: Vec<Int>,
    /// Where every axis of the node stands.
    pub places: Vec<At>,
    /// Which axes blocks divide, and where those stand within the block.
    pub blocked: Blocked,
    pub within: Vec<(usize, At)>,
    /// Strides that accesses have.
    pub rank: usize,
}

impl Nest {
    /// The places as they are written: within the block for tiles.
    pub fn local(&self, axis: usize) -> At {
        let within = self.within.iter().find(|(blocked, _)| *blocked == axis);
        within.map_or_else(|| self.places[axis].clone(), |(_, at)| at.clone())
    }

    /// A nest without axes yet, of accesses of so many strides.
    pub fn new(blocked: Blocked, rank: usize) -> Self {
        let (loops, axes, places, within) = Default::default();
        Self { loops, axes, places, blocked, within, rank }
    }

    /// Statements within the loops.
    pub fn around(&self, mut body: Vec<Stmt>) -> Vec<Stmt> {
        for (var, extent) in self.loops.iter().rev() {
            let (from, step) = (Int::from(0i64), Int::from(1i64));
            body = vec![Stmt::For { var: *var, from, to: extent.clone(), step, body }];
        }
        body
    }
}

impl Stages<'_> {
    /// A nest of axes with these extents, of which at most `most` are the statement's, the last ones that are not looped
    /// over; in lanes the rows come last. With `inner`, the axis after all others is the reduced one.
    pub(super) fn nest(
        &mut self,
        extents: &[Int],
        placed: &Placed,
        (looped, most): (&BTreeSet<usize>, usize),
        inner: Option<&Int>,
    ) -> Nest {
        let is_one = |axis: &usize| extents[*axis] == Int::from(1i64);
        let mut free: Vec<usize> = (0..extents.len()).filter(|axis| !looped.contains(axis) && !is_one(axis)).collect();
        if let Some(place) = free.iter().position(|axis| self.is_in_lanes(placed) && placed.row == Some(*axis)) {
            let row = free.remove(place);
            free.push(row);
        }
        let own = free[free.len().saturating_sub(most)..].to_vec();
        let mut nest = Nest {
            axes: own.iter().map(|axis| extents[*axis].clone()).collect(),
            ..Nest::new(Blocked::of(placed), own.len())
        };
        for (axis, extent) in extents.iter().enumerate() {
            let at = if let Some(place) = own.iter().position(|own| *own == axis) {
                At::axis(place)
            } else if is_one(&axis) {
                At::constant(0i64)
            } else {
                let var = self.lowering.var();
                nest.loops.push((var, extent.clone()));
                At::constant(var)
            };
            self.stand(&mut nest, at, axis);
        }
        if let Some(inner) = inner {
            let axis = extents.len();
            let at = if looped.contains(&axis) {
                let var = self.lowering.var();
                nest.loops.push((var, inner.clone()));
                At::constant(var)
            } else {
                nest.rank += 1;
                At::axis(own.len())
            };
            self.stand(&mut nest, at, axis);
        }
        nest
    }

    /// Whether a node is written with its rows side by side: the tiles of a unit in lanes.
    fn is_in_lanes(&self, placed: &Placed) -> bool {
        let is_output = matches!(self.graph.node(placed.node).op, Op::Output(_));
        self.lanes && !placed.shared && !is_output
    }

    /// The next axis of the node, so many rows or columns further on where blocks divide it.
    pub(super) fn stand(&mut self, nest: &mut Nest, at: At, axis: usize) {
        let block = match nest.blocked {
            Blocked { row: Some(row), .. } if row == axis => self.rows.as_ref(),
            Blocked { column: Some(column), .. } if column == axis => self.columns.as_ref(),
            _ => None,
        };
        let first = block.map(|block| block.first.clone());
        let whole = match &first {
            Some(first) => At::constant(first.clone()).plus(&at),
            None => at.clone(),
        };
        if nest.blocked.has(axis) {
            nest.within.push((axis, at));
        }
        nest.places.push(whole);
    }

    /// Statements that `make` gives of a nest, tried with more and more loops.
    pub(super) fn attempt<T>(
        &mut self,
        placed: &Placed,
        (extents, most): (&[Int], usize),
        inner: Option<&Int>,
        mut make: impl FnMut(&mut Self, &Nest) -> Attempt<T>,
    ) -> Result<(Nest, T)> {
        let mut looped = BTreeSet::new();
        loop {
            let nest = self.nest(extents, placed, (&looped, most), inner);
            match make(self, &nest) {
                Ok(made) => return Ok((nest, made)),
                Err(Crooked(axes)) if !axes.is_subset(&looped) => looped.extend(axes),
                Err(_) => return Err(crooked(self.graph.span(placed.node))),
            }
        }
    }

    /// A node's elements as the operand gives them.
    pub(super) fn fill(&mut self, placed: &Placed, to: (&[Int], &Memory), operand: &Operand) -> Result<Vec<Stmt>> {
        self.fill_with(placed, to, |this, nest| this.value(operand, nest))
    }

    pub(super) fn fill_with(
        &mut self,
        placed: &Placed,
        (extents, memory): (&[Int], &Memory),
        mut value: impl FnMut(&mut Self, &Nest) -> Attempt<Value>,
    ) -> Result<Vec<Stmt>> {
        if extents.contains(&Int::from(0i64)) {
            return Ok(Vec::new());
        }
        let (nest, (dst, value)) = self
            .attempt(placed, (extents, AXES), None, |this, nest| Ok((this.target(memory, nest), value(this, nest)?)))?;
        Ok(nest.around(vec![Stmt::Map(Map::new(nest.axes.clone(), dst, value))]))
    }

    /// A position in terms of the statement's axes.
    pub(super) fn at(&mut self, index: &Index, nest: &Nest) -> Attempt<At> {
        let bent = |index: &Index| {
            let axes = (0..nest.places.len()).filter(|axis| index.mentions(*axis)).collect();
            Crooked(axes)
        };
        Ok(match index {
            Index::Axis(axis) => nest.places[*axis].clone(),
            Index::Number(n) => At::constant(*n),
            Index::Size(size) => At::constant(self.lowering.size(size)),
            Index::Step(of) => {
                let step = self.iterations.get(of).map(|(_, step)| Int::Var(*step));
                At::constant(step.unwrap_or(Int::from(0i64)))
            }
            Index::Add(a, b) => self.at(a, nest)?.plus(&self.at(b, nest)?),
            Index::Sub(a, b) => self.at(a, nest)?.minus(&self.at(b, nest)?),
            Index::Mul(a, b) => {
                let (a, b) = (self.at(a, nest)?, self.at(b, nest)?);
                match (a.as_int(), b.as_int()) {
                    (_, Some(by)) => a.times(&by),
                    (Some(by), _) => b.times(&by),
                    _ => return Err(bent(index)),
                }
            }
            Index::Div(a, b) | Index::Mod(a, b) | Index::Min(a, b) | Index::Max(a, b) => {
                let both = (self.at(a, nest)?.as_int(), self.at(b, nest)?.as_int());
                let (Some(a), Some(b)) = both else { return Err(bent(index)) };
                At::constant(match index {
                    Index::Div(..) => a.floor_div(b),
                    Index::Mod(..) => a.modulo(b),
                    Index::Min(..) => a.min(b),
                    _ => a.max(b),
                })
            }
        })
    }
}

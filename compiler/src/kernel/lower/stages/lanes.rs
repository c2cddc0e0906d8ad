//! Units in lanes: tiles whose rows lie side by side, so that folds over columns, softmax and rescaling go down a vector's
//! lanes, and in products the tile of rows is what rows of the other factor are multiplied into.
//!
//! ```text
//! s[i,j] = sum[k] q[i,k] k[j,k]     product s'[j, i] = k[j, :] * q'[:, i]
//! o[i,c] = sum[j] w[i,j] v[j,c]     product o'[c, i] += v'[c, :] * w'[:, i]
//! ```

use crate::kernel::visit::accesses;
use crate::kernel::{Access, Int, Map, Product, Reduce, Stmt, Triangle};
use crate::plan::place::{Placed, Space, Unit};
use crate::program::{Index, Node, NodeId, Operand};

use super::memory::{Blocked, Memory};
use super::{Result, Stages};

impl Stages<'_> {
    /// Whether a unit has sweeps, or products whose right factor does not lie densely along the last axis.
    pub(super) fn is_in_lanes_of(&self, unit: &Unit) -> bool {
        let rows = matches!(unit.space, Space::Rows(_));
        rows && (!unit.sweeps.is_empty() || unit.nodes.iter().any(|placed| self.is_of_pairs(placed)))
    }

    fn is_of_pairs(&self, placed: &Placed) -> bool {
        let node = self.graph.node(placed.node);
        let Some([a, b]) = node.factors(self.graph) else { return false };
        let Some(last) = node.axes.len().checked_sub(1) else { return false };
        let rows = (0..last).any(|axis| a.mentions(axis) && !b.mentions(axis));
        rows && b.mentions(last) && b.at.last() != Some(&Index::Axis(last))
    }

    /// Tiles in lanes of what the unit's products read by rows and what lies otherwise.
    pub(super) fn copy_to_lanes(&mut self, unit: &Unit) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        if !self.lanes {
            return Ok(body);
        }
        let swept = unit.sweeps.iter().flat_map(|sweep| sweep.all());
        for placed in unit.nodes.iter().chain(swept) {
            let node = self.graph.node(placed.node);
            let Some(product) = node.product(self.graph) else { continue };
            let by_rows = product.factors.into_iter().find(|x| placed.row.is_some_and(|row| x.mentions(row)));
            let Some(operand) = by_rows.filter(|x| !self.copies.contains_key(&x.node)) else { continue };
            let row = operand.at.iter().position(|index| placed.row.is_some_and(|row| *index == Index::Axis(row)));
            let mut here = unit.nodes.iter().chain(unit.sweeps.iter().flat_map(|sweep| sweep.all()));
            let is_tile = here.any(|other| other.node == operand.node && !other.shared);
            if row.is_some() && !is_tile && self.found(&operand).is_some() {
                body.extend(self.copy_of(operand.node, (row, placed))?);
            }
        }
        Ok(body)
    }

    fn copy_of(&mut self, id: NodeId, (row, placed): (Option<usize>, &Placed)) -> Result<Vec<Stmt>> {
        let node: Node = self.graph.node(id).clone();
        let whole = Operand::whole(id, node.axes.len());
        let own = Placed { node: id, row, column: None, shared: false, ..placed.clone() };
        let memory = self.scratch("lanes", &node.axes, Blocked::rows(row));
        let extents = self.extents(&node, Blocked::rows(row));
        let statements = self.fill(&own, (&extents, &memory), &whole)?;
        self.copies.insert(id, memory);
        Ok(statements)
    }

    /// The memory of a factor with its rows side by side.
    fn in_lanes(&mut self, x: &Operand, row: usize) -> Option<Memory> {
        let axis = x.at.iter().position(|index| *index == Index::Axis(row))?;
        let memory = self.copies.get(&x.node).cloned().or_else(|| self.found(x))?;
        let side_by_side = memory.strides[axis] == Int::from(1i64) && memory.blocked.row == Some(axis);
        let alone = x.at.iter().filter(|index| index.mentions(row)).count() == 1;
        (side_by_side && alone).then_some(memory)
    }

    /// A sum as products of matrices into rows side by side, if it is one; factors are read where they lie, or from the
    /// memory beside them.
    pub(super) fn lane_product(
        &mut self,
        placed: &Placed,
        (node, extents): (&Node, &[Int]),
        (inner, add): (&Int, bool),
        ([a, b], memory): ([(&Operand, Option<Memory>); 2], &Memory),
    ) -> Result<Option<Vec<Stmt>>> {
        let Some(row) = placed.row.filter(|row| *row < node.axes.len()) else { return Ok(None) };
        let ((lane, _), (other, elsewhere)) = match (a.0.mentions(row), b.0.mentions(row)) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => return Ok(None),
        };
        let is_down = |axis: &usize| *axis != row && other.mentions(*axis) && !lane.mentions(*axis);
        let Some(down) = (0..node.axes.len()).rev().find(is_down) else { return Ok(None) };
        let from = elsewhere.or_else(|| self.found(other));
        let (Some(by), Some(from)) = (self.in_lanes(lane, row), from) else { return Ok(None) };
        let nest = self.product_nest(extents, placed, (down, row));
        let Ok([left, right]) = self.tiles_of([(&from, other), (&by, lane)], &nest) else { return Ok(None) };
        let one = Int::from(1i64);
        let dense = |memory: &Memory| memory.strides[row] == one;
        if right.strides.last() != Some(&one) || (add && !dense(memory)) {
            return Ok(None);
        }
        let into = if dense(memory) { memory.clone() } else { self.scratch("lanes", &node.axes, Blocked::of(placed)) };
        let dst = self.target(&into, &nest);
        let (m, n, k) = (extents[down].clone(), extents[row].clone(), inner.clone());
        let product = Product { m, n, k, dst, a: left, b: right, accumulate: add, shape: Triangle::Full };
        let mut statements = nest.around(vec![Stmt::Product(product)]);
        if into != *memory {
            statements.extend(self.fill_with(placed, (extents, memory), |this, nest| this.load(&into, nest))?);
        }
        Ok(Some(statements))
    }

    /// Statements over rows of tiles alone go over all rows that a tile holds: a fixed number of whole vectors. What they
    /// make of rows beyond the last one is read by nobody.
    pub(super) fn fill_lanes(&self, body: &mut [Stmt]) {
        let Some(rows) = &self.rows else { return };
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => self.fill_lanes(body),
                Stmt::If { then, otherwise, .. } => {
                    self.fill_lanes(then);
                    self.fill_lanes(otherwise);
                }
                Stmt::Map(Map { axes, below: None, dst, value }) | Stmt::Reduce(Reduce { axes, dst, value, .. }) => {
                    for (axis, extent) in axes.iter_mut().enumerate() {
                        let mut within = self.is_within_tile(dst, axis);
                        accesses(value, &mut |access| within &= self.is_within_tile(access, axis));
                        if *extent == rows.count && within {
                            *extent = rows.capacity.clone();
                        }
                    }
                }
                Stmt::Product(product) => {
                    let within = |access: &Access| self.is_within_tile(access, 1);
                    if product.n == rows.count && within(&product.dst) && within(&product.b) {
                        product.n = rows.capacity.clone();
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether an access stays within a tile however long the axis is.
    fn is_within_tile(&self, access: &Access, axis: usize) -> bool {
        access.strides[axis] == Int::from(0i64) || self.lowering.is_scratch(access.buffer)
    }
}

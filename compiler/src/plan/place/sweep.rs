//! Sweeps of a unit of rows: what folds over another long axis, its columns, takes in a block of them at a time, and no
//! value of a pair (row, column) is kept for longer than its block.
//!
//! ```text
//! s[i,j] = q[i]'k[j]                  pair    of a block of rows and a block of columns
//! m[i]   = max[j](s)                  taken in block by block
//! l[i]   = sum[j](exp(s - m))         online: in the same sweep, by the maximum so far; where that grows the sum shrinks
//! ```
//!
//! A fold that reads the result of another at its own row belongs to a later sweep, unless all that it reads of a maximum m
//! is a factor exp(x - m): the sum so far times exp(m before - m now) is then what it would be by the new maximum
//! (Milakov, Gimelshein 2018, arXiv:1805.02867).

use std::collections::{BTreeSet, HashMap, HashSet};

use chunkwise_dsl::typed::Function;

use super::{Placed, Placement, Space, Unit, kept_below};
use crate::program::{Axis, Band, Fold, Graph, Index, Node, NodeId, Op, Operand, band, conjuncts};

/// A loop over blocks of columns.
#[derive(Debug)]
pub struct Sweep {
    pub columns: Axis,
    /// Values of pairs, operands first.
    pub pairs: Vec<Placed>,
    /// Those that are relative to a maximum so far.
    pub weights: Vec<Placed>,
    /// What takes in every block, operands first.
    pub folds: Vec<Swept>,
    /// Where columns count for each of the folds: beyond these bounds they take in nothing.
    pub bands: Vec<Bounded>,
}

impl Sweep {
    /// Whether others of its folds are relative to this one.
    pub fn is_led_by(&self, of: NodeId) -> bool {
        self.folds.iter().any(|fold| fold.relative_to == Some(of))
    }

    /// All that it computes.
    pub fn all(&self) -> impl Iterator<Item = &Placed> {
        self.pairs.iter().chain(&self.weights).chain(self.folds.iter().map(|fold| &fold.placed))
    }
}

/// A fold in a sweep.
#[derive(Debug, Clone)]
pub struct Swept {
    pub placed: Placed,
    /// The maximum so far that its body is relative to.
    pub relative_to: Option<NodeId>,
    /// Whether something beside what is relative to it reads it.
    pub is_read: bool,
}

/// A condition on the row (axis 0) and the column (axis 1), and what it says.
#[derive(Debug, Clone)]
pub struct Bounded {
    pub condition: Operand,
    pub band: Band,
}

/// Moves what is swept from the nodes of every unit of rows into its sweeps.
pub fn find(graph: &Graph, placement: &mut Placement) {
    let mut uses: HashMap<NodeId, Vec<(NodeId, Operand)>> = HashMap::new();
    let meaning = |id: NodeId| graph.node(placement.written_by.get(&id).copied().unwrap_or(id));
    for unit in &placement.units {
        for placed in &unit.nodes {
            for read in kept_below(graph, &placement.stored, meaning(placed.node)) {
                uses.entry(read.node).or_default().push((placed.node, read));
            }
        }
    }
    for unit in &mut placement.units {
        let iterates = unit.nodes.iter().any(|placed| placed.inside.is_some());
        if matches!(unit.space, Space::Rows(_)) && !iterates {
            Sweeping { graph, stored: &placement.stored, uses: &uses, columns: HashMap::new() }.divide(unit);
        }
    }
}

/// Whether a fold over this axis goes block by block: the token axis, or another of an index variable whose length is
/// not fixed.
pub fn is_long(axis: &Axis) -> bool {
    axis.token || (axis.index && axis.size.as_constant().is_none())
}

struct Sweeping<'a> {
    graph: &'a Graph,
    stored: &'a [bool],
    /// The nodes of units that read a kept node, and where.
    uses: &'a HashMap<NodeId, Vec<(NodeId, Operand)>>,
    /// Of a value of pairs, and of a fold, the axis of the columns; a fold's is after its own axes.
    columns: HashMap<NodeId, usize>,
}

impl Sweeping<'_> {
    fn divide(&mut self, unit: &mut Unit) {
        self.find_columns(unit);
        if !unit.nodes.iter().any(|placed| self.is_swept(placed)) {
            return;
        }
        let mut levels: HashMap<NodeId, usize> = HashMap::new();
        let mut sweeps: Vec<(usize, BTreeSet<NodeId>, Sweep)> = Vec::new();
        let own: HashMap<NodeId, Placed> = unit.nodes.iter().map(|placed| (placed.node, placed.clone())).collect();
        for placed in unit.nodes.clone() {
            let below = self.below(placed.node, &own).rows;
            let level = |of: &NodeId| levels.get(of).copied().unwrap_or(0);
            if !self.is_swept(&placed) {
                let deepest = below.iter().map(level).max().unwrap_or(0);
                levels.insert(placed.node, deepest);
                continue;
            }
            let Some(columns) = self.graph.node(placed.node).reduced.clone() else { continue };
            let bands = self.bands(&placed);
            let known: BTreeSet<NodeId> = bands.iter().map(|bounded| bounded.condition.node).collect();
            let relative_to = self.relative_to(&placed, &below, &sweeps, &levels);
            let at = relative_to.map_or_else(|| below.iter().map(level).max().unwrap_or(0), |of| level(&of) - 1);
            let joins = |(level, conditions, sweep): &(usize, BTreeSet<NodeId>, Sweep)| match relative_to {
                Some(of) => sweep.folds.iter().any(|fold| fold.placed.node == of),
                None => *level == at && sweep.columns.size == columns.size && *conditions == known,
            };
            let place = sweeps.iter().position(joins).unwrap_or_else(|| {
                let sweep =
                    Sweep { columns, pairs: Vec::new(), weights: Vec::new(), folds: Vec::new(), bands: bands.clone() };
                sweeps.push((at, known.clone(), sweep));
                sweeps.len() - 1
            });
            let (_, conditions, sweep) = &mut sweeps[place];
            conditions.retain(|condition| known.contains(condition));
            sweep.bands.retain(|bounded| bands.iter().any(|other| other.condition == bounded.condition));
            levels.insert(placed.node, at + 1);
            sweep.folds.push(Swept { placed, relative_to, is_read: true });
        }
        sweeps.sort_by_key(|(level, ..)| *level);
        for (_, _, sweep) in &mut sweeps {
            self.gather_pairs(sweep, &own, unit);
        }
        let before = |level: usize| sweeps.iter().filter(|(other, ..)| *other < level).count();
        let is_row = |placed: &Placed| !self.columns.contains_key(&placed.node);
        unit.nodes.retain(is_row);
        for placed in &mut unit.nodes {
            placed.after = before(levels.get(&placed.node).copied().unwrap_or(0));
        }
        unit.sweeps = sweeps.into_iter().map(|(.., sweep)| sweep).collect();
    }

    fn is_swept(&self, placed: &Placed) -> bool {
        let node = self.graph.node(placed.node);
        self.columns.get(&placed.node) == Some(&node.axes.len())
    }

    /// Users first: a fold over a long axis has columns; a value that is read at the columns of all its users alone is one
    /// of pairs.
    fn find_columns(&mut self, unit: &Unit) {
        let own: HashMap<NodeId, &Placed> = unit.nodes.iter().map(|placed| (placed.node, placed)).collect();
        for placed in unit.nodes.iter().rev() {
            let node = self.graph.node(placed.node);
            let Some(row) = placed.row.filter(|row| *row < node.axes.len() && !placed.shared) else { continue };
            let found = match self.pair_columns(placed.node, row, &own) {
                Some(column) => Some(column),
                None => matches!(node.op, Op::Fold(_))
                    .then(|| node.reduced.as_ref().filter(|axis| is_long(axis)).map(|_| node.axes.len()))
                    .flatten(),
            };
            if let Some(column) = found {
                self.columns.insert(placed.node, column);
            }
        }
    }

    /// The axis of a value at which everybody who reads it stands at his column.
    fn pair_columns(&self, id: NodeId, row: usize, own: &HashMap<NodeId, &Placed>) -> Option<usize> {
        let node = self.graph.node(id);
        if !matches!(node.op, Op::Fold(_) | Op::Map(_) | Op::Select | Op::Copy) {
            return None;
        }
        let uses = self.uses.get(&id).filter(|uses| !uses.is_empty())?;
        let mut found = None;
        for (user, read) in uses {
            let column = *self.columns.get(user)?;
            let user = own.get(user)?;
            let mut at = (0..node.axes.len()).filter(|axis| read.at[*axis] == Index::Axis(column));
            let axis = at.next().filter(|axis| at.next().is_none() && *axis != row)?;
            let others = (0..node.axes.len()).all(|other| other == axis || !read.at[other].mentions(column));
            let in_row = user.row.is_some_and(|row_of| read.at[row] == Index::Axis(row_of));
            if !others || !in_row || !read.within.is_empty() || found.is_some_and(|found| found != axis) {
                return None;
            }
            found = Some(axis);
        }
        found
    }

    /// The kept values of the unit that a node is made of: of pairs, and of rows through them.
    fn below(&self, id: NodeId, own: &HashMap<NodeId, Placed>) -> Below {
        let mut below = Below::default();
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let reads = kept_below(self.graph, self.stored, self.graph.node(id));
            for read in reads.iter().map(|read| read.node).filter(|node| own.contains_key(node)) {
                let is_pair = self.columns.get(&read).is_some_and(|column| *column < self.graph.node(read).axes.len());
                if !is_pair {
                    below.rows.insert(read);
                } else if below.pairs.insert(read) {
                    waiting.push(read);
                }
            }
        }
        below
    }

    /// The maximum of an earlier fold that this one can go along with.
    fn relative_to(
        &self,
        placed: &Placed,
        below: &BTreeSet<NodeId>,
        sweeps: &[(usize, BTreeSet<NodeId>, Sweep)],
        levels: &HashMap<NodeId, usize>,
    ) -> Option<NodeId> {
        let node = self.graph.node(placed.node);
        if node.op != Op::Fold(Fold::Sum) {
            return None;
        }
        let level = |of: &NodeId| levels.get(of).copied().unwrap_or(0);
        below.iter().copied().find(|&of| {
            let (maximum, ours) = (self.graph.node(of), level(&of));
            let others = below.iter().all(|other| *other == of || level(other) < ours);
            let mut folds = sweeps.iter().flat_map(|(.., sweep)| &sweep.folds);
            let is_first = folds.any(|fold| fold.placed.node == of && fold.relative_to.is_none());
            let alike = maximum.reduced.as_ref().map(|axis| &axis.size) == node.reduced.as_ref().map(|axis| &axis.size);
            let relative = || self.part(&node.operands[0], of, &mut HashMap::new()) == Part::Relative;
            maximum.op == Op::Fold(Fold::Max) && is_first && alike && others && relative()
        })
    }

    /// What a value is of a maximum.
    fn part(&self, operand: &Operand, of: NodeId, known: &mut HashMap<NodeId, Part>) -> Part {
        let id = operand.node;
        // Operands stand before their users.
        if id.index() <= of.index() {
            return if id == of { Part::Other } else { Part::Free };
        }
        let part = match known.get(&id) {
            Some(part) => *part,
            None => {
                let part = self.part_of(self.graph.node(id), of, known);
                known.insert(id, part);
                part
            }
        };
        if operand.within.is_empty() || part == Part::Free { part } else { Part::Other }
    }

    fn part_of(&self, node: &Node, of: NodeId, known: &mut HashMap<NodeId, Part>) -> Part {
        use Part::{Free, Other, Relative};
        let parts: Vec<Part> = node.operands.iter().map(|x| self.part(x, of, known)).collect();
        match (&node.op, parts.as_slice()) {
            (_, parts) if parts.iter().all(|part| *part == Free) => Free,
            (Op::Map(Function::Exp), _) if self.is_distance(&node.operands[0], of, known) => Relative,
            (Op::Map(Function::Mul), [Relative, Free] | [Free, Relative]) => Relative,
            (Op::Map(Function::Div), [Relative, Free]) => Relative,
            (Op::Map(Function::Neg), [Relative]) => Relative,
            (Op::Map(Function::Add | Function::Sub), [Relative, Relative]) => Relative,
            (Op::Select, [Free, Relative, Relative]) => Relative,
            (Op::Select, [Free, Relative, Free]) if self.is_zero(&node.operands[2]) => Relative,
            (Op::Select, [Free, Free, Relative]) if self.is_zero(&node.operands[1]) => Relative,
            (Op::Copy, [Relative]) => Relative,
            _ => Other,
        }
    }

    fn is_zero(&self, x: &Operand) -> bool {
        self.graph.node(x.node).op == Op::Number(0)
    }

    /// `x - m`, or `x - max(m, number)`, with an x that is free of m.
    fn is_distance(&self, x: &Operand, of: NodeId, known: &mut HashMap<NodeId, Part>) -> bool {
        let node = self.graph.node(x.node);
        let ([x, most], Op::Map(Function::Sub)) = (node.operands.as_slice(), &node.op) else { return false };
        let bounded = self.graph.node(most.node);
        let is_maximum = match (&bounded.op, bounded.operands.as_slice()) {
            _ if most.node == of => true,
            (Op::Map(Function::Max), [m, least]) => {
                m.node == of && matches!(self.graph.node(least.node).op, Op::Number(_))
            }
            _ => false,
        };
        is_maximum && self.part(x, of, known) == Part::Free
    }

    /// The conditions of a fold's body, beyond which it takes in nothing, that are bands.
    fn bands(&self, placed: &Placed) -> Vec<Bounded> {
        let node = self.graph.node(placed.node);
        let (Some(row), Some(body)) = (placed.row, node.operands.first()) else { return Vec::new() };
        let inner = self.graph.node(body.node);
        let (Op::Select, [condition, _, none]) = (&inner.op, inner.operands.as_slice()) else { return Vec::new() };
        let nothing = match node.op {
            Op::Fold(Fold::Max) => f64::NEG_INFINITY,
            Op::Fold(Fold::Min) => f64::INFINITY,
            Op::Fold(Fold::Product) => 1.0,
            _ => 0.0,
        };
        if self.graph.node(none.node).op != Op::Number(nothing.to_bits()) {
            return Vec::new();
        }
        let mut all = Vec::new();
        let places = pair_places(node.axes.len() + 1, Some(row), Some(node.axes.len()));
        conjuncts(self.graph, &condition.through(&body.at).through(&places), &mut all);
        let bounded = |condition: Operand| Some(Bounded { band: band(self.graph, &condition)?, condition });
        all.into_iter().filter_map(bounded).collect()
    }

    /// The values of pairs that a sweep's folds need.
    fn gather_pairs(&self, sweep: &mut Sweep, own: &HashMap<NodeId, Placed>, unit: &Unit) {
        let needed: HashSet<NodeId> =
            sweep.folds.iter().flat_map(|fold| self.below(fold.placed.node, own).pairs).collect();
        for placed in unit.nodes.iter().filter(|placed| needed.contains(&placed.node)) {
            let placed = Placed { column: self.columns.get(&placed.node).copied(), ..placed.clone() };
            let relative = self.below(placed.node, own).rows.iter().any(|of| sweep.is_led_by(*of));
            if relative { sweep.weights.push(placed) } else { sweep.pairs.push(placed) }
        }
        let inside: HashSet<NodeId> = sweep.all().map(|placed| placed.node).collect();
        for fold in &mut sweep.folds {
            let uses = self.uses.get(&fold.placed.node);
            fold.is_read = uses.is_none_or(|uses| uses.iter().any(|(user, _)| !inside.contains(user)));
            fold.placed.column = self.columns.get(&fold.placed.node).copied();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing of it.
    Free,
    /// It times exp(-m).
    Relative,
    Other,
}

/// What a node is made of.
#[derive(Default)]
struct Below {
    rows: BTreeSet<NodeId>,
    pairs: HashSet<NodeId>,
}

/// Where so many axes stand when the row is axis 0 and the column axis 1: all others are beyond.
pub fn pair_places(axes: usize, row: Option<usize>, column: Option<usize>) -> Vec<Index> {
    let place = |axis: usize| match axis {
        _ if Some(axis) == row => 0,
        _ if Some(axis) == column => 1,
        other => 2 + other,
    };
    (0..axes).map(|axis| Index::Axis(place(axis))).collect()
}

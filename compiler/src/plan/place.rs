//! Where every node of a graph of values is computed and kept.
//!
//! A unit is a part of a kernel: values once per batch element, blocks of rows (tokens) side by side on the grid, or a
//! pass over all blocks that sums up. A value that is read at its own row is a tile of the unit that reads it; one that is
//! read at other rows is computed in a unit before and shared.
//!
//! ```text
//! kv = sum[j](phi(k[j]) v[j]')      pass over T:  tile phi(k), shared kv
//! o[i] = kv' * phi(q[i])            rows of T:    tile phi(q), output o
//! ```

mod print;
pub mod sweep;

use std::collections::{BTreeSet, HashMap};

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{BatchDim, Function, LetId, Variant};

use crate::Unsupported;
use crate::layout::Form;
pub use sweep::{Bounded, Sweep, Swept};

use crate::program::{self, Factored, Graph, Index, Node, NodeId, Op, Operand};

/// Operations of one statement beyond which a value that several use is kept.
const LONG: usize = 24;

/// Units in the order of computation.
#[derive(Debug)]
pub struct Placement {
    pub units: Vec<Unit>,
    /// What is kept in memory, rather than computed where it is used.
    pub stored: Vec<bool>,
    /// For an output that is written by the node it names, that node.
    pub written_by: HashMap<NodeId, NodeId>,
}

#[derive(Debug)]
pub struct Unit {
    pub space: Space,
    level: usize,
    /// Operands first.
    pub nodes: Vec<Placed>,
    /// In the order of computation.
    pub sweeps: Vec<Sweep>,
}

/// The grid of a unit beside the batch axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// Once per element of these batch axes.
    Once(Vec<AxisId>),
    /// Blocks of rows on the grid.
    Rows(Size),
    /// Blocks of rows on a grid without the heads.
    OverHeads(Size),
    /// Blocks of rows one after another.
    Pass(Size),
    /// Rows of a convolution's result on the grid: of so many rows of the image every `stride`-th.
    Image { rows: Size, stride: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub node: NodeId,
    /// The axis that blocks divide; the reduced one (after all axes) for what a pass sums up.
    pub row: Option<usize>,
    /// In a sweep, the axis that blocks of columns divide; the reduced one for what a sweep folds.
    pub column: Option<usize>,
    /// How many of the unit's sweeps go before it.
    pub after: usize,
    /// Whether other units read it.
    pub shared: bool,
    /// The iteration that it is a part of.
    pub inside: Option<LetId>,
}

/// Places every node that the outputs need.
pub fn place(variant: &Variant, graph: &Graph) -> Placement {
    let stored = Stored::of(graph);
    let mut placing = Placing {
        graph,
        batch: batch_axes_of(variant, graph, &stored),
        all: crate::bind::batch_axes(variant),
        inside: inside(graph),
        uses: HashMap::new(),
        heavy: vec![false; graph.nodes.len()],
        homes: HashMap::new(),
        units: Vec::new(),
        stored,
        written_by: HashMap::new(),
    };
    placing.find_uses();
    for id in graph.ids().rev() {
        if placing.stored[id.index()] {
            placing.place(id);
        }
    }
    placing.finish()
}

/// The units of a variant without states as text, in the order of computation.
///
/// # Errors
/// What only the reference evaluates, and every form but the parallel one.
pub fn text(variant: &Variant, form: Form) -> Result<String, Unsupported> {
    if form != Form::Parallel {
        return Err(program::lacks(variant, form));
    }
    let graph = Graph::of(variant)?;
    Ok(print::text(variant, &graph, &place(variant, &graph)))
}

/// Where a node is computed: the place of a unit, and its row axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    unit: usize,
    row: Option<usize>,
    shared: bool,
}

struct Placing<'a> {
    graph: &'a Graph,
    /// The batch axes that a node depends on.
    batch: Vec<BTreeSet<AxisId>>,
    all: Vec<AxisId>,
    /// The iteration that a node is a part of.
    inside: Vec<Option<LetId>>,
    /// Of a kept node the kept nodes that read it, and where.
    uses: HashMap<NodeId, Vec<(NodeId, Operand)>>,
    /// Products of matrices, and what reads them at its own row.
    heavy: Vec<bool>,
    homes: HashMap<NodeId, Vec<Home>>,
    units: Vec<Unit>,
    stored: Vec<bool>,
    written_by: HashMap<NodeId, NodeId>,
}

impl Placing<'_> {
    /// Who reads what. An output that is a node as it is is written by that node.
    fn find_uses(&mut self) {
        let mut direct: HashMap<NodeId, usize> = HashMap::new();
        for node in &self.graph.nodes {
            node.operands.iter().for_each(|operand| *direct.entry(operand.node).or_default() += 1);
        }
        for &output in &self.graph.outputs {
            let node = self.graph.node(output);
            let [operand] = node.operands.as_slice() else { continue };
            let of = self.graph.node(operand.node);
            let swept = has_token(of) && of.reduced.as_ref().is_some_and(sweep::is_long);
            let writes = !swept && matches!(of.op, Op::Fold(_) | Op::Join(_) | Op::Dwconv(_));
            if writes && is_plain(operand) && of.axes == node.axes && direct.get(&operand.node) == Some(&1) {
                self.stored[operand.node.index()] = false;
                self.written_by.insert(output, operand.node);
            }
        }
        for id in self.graph.ids().filter(|id| self.stored[id.index()]) {
            let reads = kept_below(self.graph, &self.stored, self.meaning(id));
            self.heavy[id.index()] = matches!(self.meaning(id).op, Op::Iterate { .. })
                || self.meaning(id).product(self.graph).is_some()
                || reads.iter().any(|read| self.heavy[read.node.index()] && has_token(self.graph.node(read.node)));
            for read in reads {
                self.uses.entry(read.node).or_default().push((id, read));
            }
        }
    }

    /// The node that a kept node's statements compute.
    fn meaning(&self, id: NodeId) -> &Node {
        self.graph.node(self.written_by.get(&id).copied().unwrap_or(id))
    }

    fn place(&mut self, id: NodeId) {
        let uses = self.uses.get(&id).cloned().unwrap_or_default();
        let is_output = matches!(self.graph.node(id).op, Op::Output(_));
        if uses.is_empty() && !is_output {
            return;
        }
        if let Some(of) = self.inside[id.index()] {
            let whole = self
                .graph
                .ids()
                .find(|other| matches!(self.graph.node(*other).op, Op::Iterate { of: other, .. } if other == of));
            let homes = whole.and_then(|whole| self.homes.get(&whole).cloned()).unwrap_or_default();
            let token = self.graph.node(id).axes.iter().position(|axis| axis.token);
            let own = |home: Home| Home { row: home.row.and(token), shared: false, ..home };
            let homes = homes.into_iter().map(own).collect();
            self.homes.insert(id, homes);
            return;
        }
        let homes = match self.beside(id, &uses) {
            Some(homes) => homes,
            None => {
                let level = uses.iter().flat_map(|(user, _)| self.homes.get(user)).flatten();
                let level = level.map(|home| self.units[home.unit].level + 1).max().unwrap_or(0);
                let (space, row) = self.own_space(id);
                vec![Home { unit: self.unit(space, level), row, shared: !is_output }]
            }
        };
        self.homes.insert(id, homes);
    }

    /// The homes of a node that all users read at their own rows: theirs.
    fn beside(&self, id: NodeId, uses: &[(NodeId, Operand)]) -> Option<Vec<Home>> {
        let node = self.meaning(id);
        let (space, _) = self.own_space(id);
        if !matches!(space, Space::Rows(_)) || uses.is_empty() {
            return None;
        }
        let mut homes: Vec<Home> = Vec::new();
        for (user, read) in uses {
            if self.meaning(*user).op == Op::OverHeads {
                return None;
            }
            for home in self.homes.get(user)? {
                let row = home.row?;
                let mut here = (0..node.axes.len()).filter(|axis| read.at[*axis] == Index::Axis(row));
                let axis = here.next().filter(|axis| node.axes[*axis].token)?;
                if here.next().is_some() || !read.within.is_empty() {
                    return None;
                }
                let own = Home { unit: home.unit, row: Some(axis), shared: false };
                match homes.iter().find(|other| other.unit == home.unit) {
                    Some(other) if *other != own => return None,
                    Some(_) => {}
                    None => homes.push(own),
                }
            }
        }
        (homes.len() == 1 || !self.heavy[id.index()]).then_some(homes)
    }

    fn own_space(&self, id: NodeId) -> (Space, Option<usize>) {
        let node = self.meaning(id);
        let token = node.axes.iter().position(|axis| axis.token);
        match (&node.op, token, &node.reduced) {
            (Op::Dwconv(of), _, _) => (Space::Image { rows: of.grid[0].clone(), stride: of.stride.max(1) }, None),
            (Op::OverHeads, Some(row), _) => (Space::OverHeads(node.axes[row].size.clone()), Some(row)),
            (_, Some(row), _) => (Space::Rows(node.axes[row].size.clone()), Some(row)),
            (Op::Fold(_), None, Some(over)) if over.token => (Space::Pass(over.size.clone()), Some(node.axes.len())),
            _ if matches!(self.graph.node(id).op, Op::Output(_)) => (Space::Once(self.all.clone()), None),
            _ => (Space::Once(self.batch[id.index()].iter().copied().collect()), None),
        }
    }

    fn unit(&mut self, space: Space, level: usize) -> usize {
        let found = self.units.iter().position(|unit| unit.space == space && unit.level == level);
        found.unwrap_or_else(|| {
            self.units.push(Unit { space, level, nodes: Vec::new(), sweeps: Vec::new() });
            self.units.len() - 1
        })
    }

    fn finish(mut self) -> Placement {
        for id in self.graph.ids() {
            for home in self.homes.get(&id).into_iter().flatten() {
                let inside = self.inside[id.index()];
                self.units[home.unit].nodes.push(Placed {
                    node: id,
                    row: home.row,
                    column: None,
                    after: 0,
                    shared: home.shared,
                    inside,
                });
            }
        }
        self.units.sort_by_key(|unit| std::cmp::Reverse(unit.level));
        let mut placement = Placement { units: self.units, stored: self.stored, written_by: self.written_by };
        sweep::find(self.graph, &mut placement);
        placement
    }
}

/// An operand of its node's own axes, in order.
pub fn is_plain(operand: &Operand) -> bool {
    operand.within.is_empty() && operand.at.iter().enumerate().all(|(place, index)| *index == Index::Axis(place))
}

fn has_token(node: &Node) -> bool {
    node.axes.iter().any(|axis| axis.token)
}

/// The kept nodes that a node is made of, each where it is read.
pub fn kept_below(graph: &Graph, stored: &[bool], node: &Node) -> Vec<Operand> {
    let mut reads = Vec::new();
    node.operands.iter().for_each(|operand| expand(graph, stored, operand, &mut reads));
    reads
}

fn expand(graph: &Graph, stored: &[bool], operand: &Operand, reads: &mut Vec<Operand>) {
    if stored[operand.node.index()] {
        reads.push(operand.clone());
        return;
    }
    for below in &graph.node(operand.node).operands {
        expand(graph, stored, &below.through(&operand.at), reads);
    }
}

/// The iteration whose old entry or step a node depends on, until its end.
fn inside(graph: &Graph) -> Vec<Option<LetId>> {
    let mut inside: Vec<Option<LetId>> = Vec::new();
    for node in &graph.nodes {
        let below = node.operands.iter().filter_map(|operand| inside[operand.node.index()]).next();
        let stepping = |index: &Index| index.step();
        let at = node.operands.iter().flat_map(|operand| &operand.at).find_map(stepping);
        inside.push(match &node.op {
            Op::Iterate { of, .. } => below.filter(|other| other != of),
            Op::Old(of) => Some(*of),
            Op::Position(index) => index.step(),
            _ => below.or(at),
        });
    }
    inside
}

/// What is kept for blocks of rows is kept for every batch element, and so is what is made of it.
fn batch_axes_of(variant: &Variant, graph: &Graph, stored: &[bool]) -> Vec<BTreeSet<AxisId>> {
    let mut all: Vec<BTreeSet<AxisId>> = Vec::new();
    for node in &graph.nodes {
        let mut own: BTreeSet<AxisId> =
            node.operands.iter().flat_map(|operand| all[operand.node.index()].clone()).collect();
        match &node.op {
            Op::Tensor(id) => {
                own.extend(variant.tensors[id.index()].dims.iter().filter_map(|dim| match &dim.batch {
                    Some(BatchDim::Index(axis) | BatchDim::Group { of: axis, .. }) => Some(*axis),
                    None => None,
                }));
            }
            Op::Head => own.extend(variant.head),
            Op::OverHeads => own.retain(|axis| variant.head != Some(*axis)),
            _ => {}
        }
        let in_blocks = has_token(node) || node.reduced.as_ref().is_some_and(|axis| axis.token);
        if stored[all.len()] && in_blocks {
            own.extend(crate::bind::batch_axes(variant));
        }
        all.push(own);
    }
    all
}

/// What is kept: what needs memory, factors of products, and what would be computed again and again.
struct Stored<'a> {
    graph: &'a Graph,
    stored: Vec<bool>,
}

impl<'a> Stored<'a> {
    fn of(graph: &'a Graph) -> Vec<bool> {
        let stored = graph.nodes.iter().map(|node| !node.is_fusable() && !matches!(node.op, Op::Old(_))).collect();
        let mut this = Self { graph, stored };
        this.keep_factors();
        this.keep_what_repeats();
        this.stored
    }

    fn keep(&mut self, id: NodeId) {
        let op = &self.graph.node(id).op;
        self.stored[id.index()] |= !matches!(op, Op::Tensor(_) | Op::Old(_));
    }

    fn keep_factors(&mut self) {
        for node in &self.graph.nodes {
            if let Some(Factored { factors, .. }) = node.product(self.graph) {
                let inner = node.axes.len();
                let product = inner > 0 && {
                    let [a, b] = &factors;
                    b.mentions(inner - 1)
                        && !a.mentions(inner - 1)
                        && (0..inner).any(|axis| a.mentions(axis) && !b.mentions(axis))
                };
                if product {
                    factors.iter().for_each(|factor| self.keep(factor.node));
                }
            }
            for operand in node.operands.iter().filter(|operand| !operand.within.is_empty()) {
                self.keep(operand.node);
            }
        }
    }

    /// What is dear and read over more axes than it has, or twice.
    fn keep_what_repeats(&mut self) {
        let count = self.graph.nodes.len();
        let (mut dear, mut size) = (vec![false; count], vec![0usize; count]);
        let mut users = vec![0usize; count];
        for node in &self.graph.nodes {
            node.operands.iter().for_each(|operand| users[operand.node.index()] += 1);
        }
        for (place, node) in self.graph.nodes.iter().enumerate() {
            let over = node.axes.len() + usize::from(node.reduced.is_some());
            for operand in &node.operands {
                let below = operand.node.index();
                let wider = over > self.graph.node(operand.node).axes.len();
                if (dear[below] && (wider || users[below] > 1)) || (size[below] > LONG && users[below] > 1) {
                    self.keep(operand.node);
                }
            }
            let fused = node.operands.iter().map(|operand| operand.node.index()).filter(|n| !self.stored[*n]);
            for below in fused {
                dear[place] |= dear[below];
                size[place] += size[below];
            }
            size[place] += 1;
            dear[place] |= matches!(&node.op, Op::Map(function) if is_dear(*function));
        }
    }
}

fn is_dear(function: Function) -> bool {
    use Function::*;
    matches!(
        function,
        Pow | FloorDiv
            | Mod
            | Div
            | Exp
            | ExpRest
            | Ln
            | Sqrt
            | Rsqrt
            | Elu
            | Silu
            | Gelu
            | Sigmoid
            | LogSigmoid
            | Softplus
            | Tanh
            | Sin
            | Cos
    )
}

#[cfg(test)]
mod tests;

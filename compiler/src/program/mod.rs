//! A variant without states as one graph of values: every node an element-wise function, a fold over one axis, or one of
//! the few operations that need memory, each over its own axes. Nodes of equal content are one node.
//!
//! ```text
//! kv = sum[j](k[j] * v[j]')     ->   n2[a, b] = sum over r of n0[r, a] * n1[r, b]       n0, n1 the tensors k and v
//! o[i] = kv' * q[i]             ->   n4[i, b] = sum over r of n2[r, b] * n3[i, r]
//! ```
//!
//! Which element of an operand is read is an integer expression in the node's axes: a transpose, a subscript, `flatten`
//! and `cols` are no nodes but ways to read one. `build` makes the graph from typed expressions, `plan::place` says where
//! every node is computed.

mod axis_functions;
mod band;
mod build;
mod index;
mod print;
mod reduce;
mod sequence;
mod solve;
mod subscript;
#[cfg(test)]
mod tests;
mod view;
mod visible;

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{Function, LetId, TensorId, Variant};

pub use band::{Band, band, conjuncts, slope};
pub use index::Index;
pub use print::Printer;
pub use reduce::LEAST;

use crate::Unsupported;
use crate::layout::Form;

chunkwise_dsl::ids! {
    /// A place in `Graph::nodes`.
    NodeId
}

/// The values of one variant. Operands stand before their users.
#[derive(Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// A node of `Op::Output` for every output, in file order.
    pub outputs: Vec<NodeId>,
    known: HashMap<Node, NodeId>,
    spans: Vec<Span>,
}

/// A value for every setting of its axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub op: Op,
    pub operands: Vec<Operand>,
    pub axes: Vec<Axis>,
    /// What a fold runs over; its place among the indices of the operand is after all axes.
    pub reduced: Option<Axis>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Axis {
    pub size: Size,
    /// Whether it is the token axis: as long as the sequence, so computed in blocks.
    pub token: bool,
    /// Of what a fold runs over, whether that is an index variable and no dim of a value.
    pub index: bool,
}

/// An element of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operand {
    pub node: NodeId,
    /// For every axis of the node.
    pub at: Vec<Index>,
    /// Positions that may lie outside of `0..size`: the operand is then 0, and nothing is read.
    pub within: Vec<(Index, Size)>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// The bits of an f64.
    Number(u64),
    Size(Size),
    /// A position as a number.
    Position(Index),
    /// The position on the head axis.
    Head,
    /// The tensor without its batch axes.
    Tensor(TensorId),
    Map(Function),
    /// The second operand where the first is not 0, else the third; what is not taken has no effect.
    Select,
    /// The operand as it is, in memory of its own.
    Copy,
    Fold(Fold),
    /// The sum over all heads of an operand that is kept for each.
    OverHeads,
    /// Operands written along the last axis, each at its places.
    Join(Vec<Part>),
    /// `sum over a, b of w[.., a, b] x[(y s + a - ky div 2) X + x s + b - kx div 2, ..]` at token `y X' + x`.
    Dwconv(Dwconv),
    /// Turns per position of every pair of a `rope`: the first 12 bits of each, or what is left.
    Turns {
        /// The bits of an f64.
        base: u64,
        length: Size,
        rest: bool,
    },
    /// Its first operand, then for s in from..=to its second in terms of `Old` and `Index::Step`.
    Iterate {
        of: LetId,
        from: i64,
        to: Size,
    },
    /// Entry s-1 of the iteration of that let.
    Old(LetId),
    Output(usize),
}

/// How a fold puts elements together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fold {
    Sum,
    Max,
    Min,
    Product,
}

/// The refusal of a form that no variant without states has.
pub fn lacks(variant: &Variant, form: Form) -> Unsupported {
    let (reason, way_out) = ("a variant without states has one form, the parallel one", "use --form parallel");
    Unsupported::new(format!("the {} form of `{}`", form.name(), variant.name), reason, way_out).at(variant.span)
}

/// Where an operand of a `Join` goes: element n to place `first + step * n` of the last axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    pub first: Size,
    pub step: i64,
    /// How many elements it has.
    pub length: Size,
}

/// The extents of a convolution on the grid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dwconv {
    pub stride: i64,
    /// Rows and columns of the grid that is read.
    pub grid: [Size; 2],
    /// Rows and columns of the weights.
    pub taps: [Size; 2],
}

impl Graph {
    /// The graph of a variant without states.
    ///
    /// # Errors
    /// What only the reference evaluates.
    pub fn of(variant: &Variant) -> Result<Self, Unsupported> {
        build::Builder::new(variant).finish()
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Where the node was first written.
    pub fn span(&self, id: NodeId) -> Span {
        self.spans[id.index()]
    }

    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The graph of what the outputs need alone.
    fn needed(self) -> Graph {
        let mut needed = vec![false; self.nodes.len()];
        self.outputs.iter().for_each(|output| needed[output.index()] = true);
        for (place, node) in self.nodes.iter().enumerate().rev() {
            if needed[place] {
                node.operands.iter().for_each(|operand| needed[operand.node.index()] = true);
            }
        }
        let mut graph = Graph::default();
        let mut places: Vec<NodeId> = Vec::new();
        for ((mut node, span), needed) in self.nodes.into_iter().zip(self.spans).zip(needed) {
            if !needed {
                places.push(NodeId(0));
                continue;
            }
            node.operands.iter_mut().for_each(|operand| operand.node = places[operand.node.index()]);
            places.push(graph.intern(node, span));
        }
        graph.outputs = self.outputs.into_iter().map(|output| places[output.index()]).collect();
        graph
    }

    /// The node of this content, made if there is none.
    fn intern(&mut self, node: Node, span: Span) -> NodeId {
        if let Some(&id) = self.known.get(&node) {
            return id;
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node.clone());
        self.spans.push(span);
        self.known.insert(node, id);
        id
    }
}

impl Node {
    /// A node that reads nothing.
    pub fn leaf(op: Op, axes: Vec<Axis>) -> Self {
        Self { op, operands: Vec::new(), axes, reduced: None }
    }

    /// Whether it is computed where it is used and needs no memory: numbers, positions, element-wise functions.
    pub fn is_fusable(&self) -> bool {
        matches!(
            self.op,
            Op::Number(_) | Op::Size(_) | Op::Position(_) | Op::Head | Op::Map(_) | Op::Select | Op::Tensor(_)
        )
    }

    /// The two factors of what a sum runs over, if it is a product of matrices: both depend on the position summed over.
    pub fn factors(&self, graph: &Graph) -> Option<[Operand; 2]> {
        self.product(graph).filter(|product| product.condition.is_none()).map(|product| product.factors)
    }

    /// What a sum runs over, if it is a product of matrices of which some elements may be hidden.
    pub fn product(&self, graph: &Graph) -> Option<Factored> {
        let ([body], Op::Fold(Fold::Sum)) = (self.operands.as_slice(), &self.op) else { return None };
        let (body, condition) = match graph.node(body.node) {
            Node { op: Op::Select, operands, .. } => {
                let [condition, product, none] = operands.as_slice() else { return None };
                let zero = graph.node(none.node).op == Op::Number(0);
                let read = |x: &Operand| x.through(&body.at);
                (zero.then(|| read(product))?, Some(read(condition)))
            }
            _ => (body.clone(), None),
        };
        let inner = graph.node(body.node);
        let ([a, b], Op::Map(Function::Mul)) = (inner.operands.as_slice(), &inner.op) else { return None };
        let factors = [a, b].map(|x| x.through(&body.at));
        let reduced = self.axes.len();
        let both = body.within.is_empty() && factors.iter().all(|x| x.within.is_empty() && x.mentions(reduced));
        // The left factor of a hidden product is 0 where that is hidden.
        let seen = |condition: &Operand| {
            let left = graph.node(factors[0].node);
            left.op == Op::Select && left.operands[0].through(&factors[0].at) == *condition
        };
        (both && condition.as_ref().is_none_or(seen)).then_some(Factored { factors, condition })
    }
}

/// A product of matrices as a sum runs over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Factored {
    pub factors: [Operand; 2],
    /// Where it does not hold an element counts as 0, whatever the factors are; the left one is 0 there.
    pub condition: Option<Operand>,
}

impl Operand {
    /// A node of so many axes as it is.
    pub fn whole(node: NodeId, axes: usize) -> Self {
        Self { node, at: (0..axes).map(Index::Axis).collect(), within: Vec::new() }
    }

    /// The operand in terms of another node's axes: `at` says where each of this one's axes stands.
    pub fn through(&self, at: &[Index]) -> Operand {
        let place = |axis: usize| at.get(axis).cloned().unwrap_or(Index::Number(0));
        Operand {
            node: self.node,
            at: self.at.iter().map(|index| index.replaced(&place)).collect(),
            within: self.within.iter().map(|(index, size)| (index.replaced(&place), size.clone())).collect(),
        }
    }

    pub fn mentions(&self, axis: usize) -> bool {
        self.at.iter().any(|index| index.mentions(axis))
    }
}

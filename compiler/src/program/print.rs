//! Values of the graph as text. Axes are named after their sizes: `t` for `T`, a second one `t2`.
//!
//! ```text
//! n4[k, v] = sum[t](k[t, k] * v[t, v])
//! ```

use std::collections::HashSet;

use chunkwise_dsl::typed::{Function, Variant};

use super::{Axis, Graph, Index, Node, NodeId, Op, Operand};

/// Prints the values of one graph.
pub struct Printer<'a> {
    pub variant: &'a Variant,
    pub graph: &'a Graph,
    /// What is named where it is used; all others are written out there.
    pub named: &'a [bool],
}

impl Printer<'_> {
    /// What a node computes.
    pub fn value(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        self.computed(node, &self.names(node))
    }

    /// A node with the names of its axes: `n4[k, v]`, an output by its own name.
    pub fn name(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        let own = self.names(node);
        self.element(&self.called(id), &own[..node.axes.len()])
    }

    fn called(&self, id: NodeId) -> String {
        match self.graph.node(id).op {
            Op::Output(place) => self.variant.outputs().nth(place).map(|output| output.name.clone()),
            Op::Tensor(tensor) => Some(self.variant.tensors[tensor.index()].name.clone()),
            Op::Old(of) => {
                let name = self.variant.lets.get(of.index()).map_or("x", |binding| binding.name.as_str());
                Some(format!("{name}[s - 1]"))
            }
            _ => None,
        }
        .unwrap_or_else(|| format!("n{}", id.0))
    }

    fn element(&self, name: &str, places: &[String]) -> String {
        if places.is_empty() { name.to_string() } else { format!("{name}[{}]", places.join(", ")) }
    }

    /// Names of a node's axes, and of what it is reduced over after them.
    fn names(&self, node: &Node) -> Vec<String> {
        let mut taken = HashSet::new();
        let mut name = |axis: &Axis| {
            let letter = if axis.token { "t".to_string() } else { self.letter(axis) };
            let spelt = |n: usize| if n == 1 { letter.clone() } else { format!("{letter}{n}") };
            let free = (1..).map(spelt).find(|name| !taken.contains(name)).unwrap_or_default();
            taken.insert(free.clone());
            free
        };
        node.axes.iter().chain(&node.reduced).map(&mut name).collect()
    }

    fn letter(&self, axis: &Axis) -> String {
        let size = axis.size.print(&|id| self.variant.axis_name(id));
        let is_name = size.chars().all(char::is_alphabetic);
        if is_name { size.to_lowercase() } else { "n".to_string() }
    }

    fn operand(&self, operand: &Operand, names: &[String]) -> String {
        let node = self.graph.node(operand.node);
        let leaf = matches!(node.op, Op::Tensor(_) | Op::Old(_));
        if !leaf && !self.named[operand.node.index()] {
            let below = operand_of(node, operand);
            return self.computed(&below, names);
        }
        let places: Vec<String> = operand.at.iter().map(|index| self.index(index, names)).collect();
        let element = self.element(&self.called(operand.node), &places);
        if operand.within.is_empty() { element } else { format!("({element} or 0)") }
    }

    fn computed(&self, node: &Node, names: &[String]) -> String {
        let size = |size: &chunkwise_dsl::shape::Size| size.print(&|id| self.variant.axis_name(id));
        let of: Vec<String> = node.operands.iter().map(|operand| self.operand(operand, names)).collect();
        let all = of.join(", ");
        match &node.op {
            Op::Number(bits) => f64::from_bits(*bits).to_string(),
            Op::Size(of) => size(of),
            Op::Position(index) => self.index(index, names),
            Op::Head => "h".to_string(),
            Op::Tensor(_) | Op::Old(_) => "its memory".to_string(),
            Op::Map(function) => match (sign(*function), of.as_slice()) {
                (Some(sign), [a, b]) => format!("({a} {sign} {b})"),
                (_, [only]) if *function == Function::Neg => format!("-{only}"),
                (_, [only]) => format!("{}({})", function.name(), bare(only)),
                _ => format!("{}({all})", function.name()),
            },
            Op::Select => match of.as_slice() {
                [cond, then, otherwise] => format!("(if {cond} then {then} else {otherwise})"),
                _ => all,
            },
            Op::Copy | Op::Output(_) => bare(&all).to_string(),
            Op::Fold(op) => {
                let over = names.last().cloned().unwrap_or_default();
                format!("{}[{over}]({})", format!("{op:?}").to_lowercase(), bare(&all))
            }
            Op::OverHeads => format!("sum over heads of {all}"),
            Op::Join(_) => format!("join({all})"),
            Op::Dwconv(of) => {
                let whole: Vec<String> = node.operands.iter().map(|operand| self.called(operand.node)).collect();
                format!("dwconv({}, stride = {})", whole.join(", "), of.stride)
            }
            Op::Turns { rest, .. } => if *rest { "rest of turns" } else { "turns" }.to_string(),
            Op::Iterate { from, to, .. } => match of.as_slice() {
                [first, step] => format!("{step} for s in {from}..{} from {first}", size(to)),
                _ => all,
            },
        }
    }

    /// A position, the axes by these names.
    pub fn index(&self, index: &Index, names: &[String]) -> String {
        let of = |x: &Index| self.index(x, names);
        match index {
            Index::Axis(axis) => names.get(*axis).cloned().unwrap_or_else(|| format!("axis {axis}")),
            Index::Number(n) => n.to_string(),
            Index::Size(size) => size.print(&|axis| self.variant.axis_name(axis)),
            Index::Step(_) => "s".to_string(),
            Index::Add(a, b) => format!("({} + {})", of(a), of(b)),
            Index::Sub(a, b) => format!("({} - {})", of(a), of(b)),
            Index::Mul(a, b) => format!("{} * {}", of(a), of(b)),
            Index::Div(a, b) => format!("({} div {})", of(a), of(b)),
            Index::Mod(a, b) => format!("({} mod {})", of(a), of(b)),
            Index::Min(a, b) => format!("min({}, {})", of(a), of(b)),
            Index::Max(a, b) => format!("max({}, {})", of(a), of(b)),
        }
    }
}

/// A fused node in terms of the axes of what uses it.
fn operand_of(node: &Node, operand: &Operand) -> Node {
    let place = |axis: usize| operand.at.get(axis).cloned().unwrap_or(Index::Number(0));
    let op = match &node.op {
        Op::Position(index) => Op::Position(index.replaced(&place)),
        op => op.clone(),
    };
    Node { op, operands: node.operands.iter().map(|below| below.through(&operand.at)).collect(), ..node.clone() }
}

/// Without parentheses that hold all of it.
fn bare(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { return text };
    let mut open = 0i32;
    let closes = inner.chars().any(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open < 0
    });
    if closes { text } else { inner }
}

/// How a function of two is written between them.
fn sign(function: Function) -> Option<&'static str> {
    use Function::*;
    Some(match function {
        Add => "+",
        Sub => "-",
        Mul => "*",
        Div => "/",
        Pow => "^",
        FloorDiv => "div",
        Mod => "mod",
        Lt => "<",
        Le => "<=",
        Gt => ">",
        Ge => ">=",
        Eq => "==",
        Ne => "!=",
        And => "and",
        Or => "or",
        _ => return None,
    })
}

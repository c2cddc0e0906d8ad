//! The graph as text: a line a node, as `emit --stage plan` shows it.

use std::fmt::Write;

use chunkwise_dsl::typed::Variant;

use super::{Graph, Index, NodeId, Op, Operand};

/// Names of axes by position.
const AXES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Nodes in the order of computation: `n4[T, E] = sum over D of n2[c, b] * n3[a, c]`.
pub fn text(variant: &Variant, graph: &Graph) -> String {
    let mut text = String::new();
    for id in graph.ids() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line(variant, graph, id));
    }
    text
}

/// One node.
pub fn line(variant: &Variant, graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let size = |size: &chunkwise_dsl::shape::Size| size.print(&|axis| variant.axis_name(axis));
    let axes: Vec<String> = node.axes.iter().map(|axis| size(&axis.size)).collect();
    let operands: Vec<String> = node.operands.iter().map(|operand| read(variant, operand)).collect();
    let value = match &node.op {
        Op::Number(bits) => f64::from_bits(*bits).to_string(),
        Op::Size(of) => size(of),
        Op::Position(index) => format!("position {}", at(variant, index)),
        Op::Head => "head".to_string(),
        Op::Tensor(tensor) => variant.tensors[tensor.index()].name.clone(),
        Op::Map(function) => format!("{}({})", function.name(), operands.join(", ")),
        Op::Select => format!("select({})", operands.join(", ")),
        Op::Copy => format!("copy {}", operands.join(", ")),
        Op::Fold(op) => {
            let over = node.reduced.as_ref().map(|axis| size(&axis.size)).unwrap_or_default();
            format!("{op:?} over {over} of {}", operands.join(", ")).to_lowercase()
        }
        Op::OverHeads => format!("sum over heads of {}", operands.join(", ")),
        Op::Join(_) => format!("join({})", operands.join(", ")),
        Op::Dwconv(of) => format!("dwconv({}) stride {}", operands.join(", "), of.stride),
        Op::Turns { rest, .. } => if *rest { "rest of turns" } else { "turns" }.to_string(),
        Op::Iterate { from, to, .. } => format!("iterate({}) for {from}..{to}", operands.join(", ")),
        Op::Old(of) => format!("old {}", variant.lets[of.index()].name),
        Op::Output(place) => {
            let name = variant.outputs().nth(*place).map(|output| output.name.clone()).unwrap_or_default();
            format!("output {name} {}", operands.join(", "))
        }
    };
    format!("n{}[{}] = {value}", id.0, axes.join(", "))
}

fn read(variant: &Variant, operand: &Operand) -> String {
    let places: Vec<String> = operand.at.iter().map(|index| at(variant, index)).collect();
    let within = if operand.within.is_empty() { "" } else { " or 0" };
    format!("n{}[{}]{within}", operand.node.0, places.join(", "))
}

fn at(variant: &Variant, index: &Index) -> String {
    let of = |x: &Index| at(variant, x);
    match index {
        Index::Axis(axis) => AXES.get(*axis).map_or_else(|| format!("x{axis}"), ToString::to_string),
        Index::Number(n) => n.to_string(),
        Index::Size(size) => size.print(&|axis| variant.axis_name(axis)),
        Index::Step(_) => "step".to_string(),
        Index::Add(a, b) => format!("({} + {})", of(a), of(b)),
        Index::Sub(a, b) => format!("({} - {})", of(a), of(b)),
        Index::Mul(a, b) => format!("{} * {}", of(a), of(b)),
        Index::Div(a, b) => format!("({} div {})", of(a), of(b)),
        Index::Mod(a, b) => format!("({} mod {})", of(a), of(b)),
    }
}

//! The plan as text, and as a graph for Graphviz.

use chunkwise_dsl::typed::{StateId, Variant};
use petgraph::visit::EdgeRef;

use super::{Op, Plan};
use crate::ir::Term;

/// `digraph` text: one box a value, results and states set apart.
pub fn dot(variant: &Variant, plan: &Plan) -> String {
    let mut text =
        format!("digraph {} {{\n  rankdir = TB;\n  node [shape = box, fontname = monospace];\n", plan.form.name());
    let name = |state: StateId| variant.states[state.index()].name.as_str();
    for index in plan.graph.node_indices() {
        let node = &plan.graph[index];
        let (label, style) = match &node.op {
            Op::Leaf(leaf, _) => (leaf.to_string(), "shape = ellipse"),
            Op::Start(state) => (format!("{} before", name(*state)), "shape = cylinder"),
            Op::Next(state) => (format!("{} after", name(*state)), "shape = cylinder"),
            Op::Read(expr) => (chunkwise_dsl::print_typed::expr_text(variant, *expr), "style = bold"),
            Op::Output(name) => (name.clone(), "shape = doubleoctagon"),
            Op::Term(term) => (operator(term), "shape = box"),
        };
        text.push_str(&format!("  n{} [label = {label:?}, {style}];\n", index.index()));
    }
    for edge in plan.graph.edge_references() {
        text.push_str(&format!("  n{} -> n{};\n", edge.source().index(), edge.target().index()));
    }
    text.push_str("}\n");
    text
}

/// An operator's name.
fn operator(term: &Term) -> String {
    term.to_string()
}

/// One line a value, in the order of computation, operands by number.
pub fn text(variant: &Variant, plan: &Plan) -> String {
    let mut text = format!("{} form of {}\n", plan.form.name(), variant.name);
    let names = |state: StateId| variant.states[state.index()].name.as_str();
    for index in plan.graph.node_indices() {
        let node = &plan.graph[index];
        let operands: Vec<String> = node.operands.iter().map(|operand| format!("%{}", operand.index())).collect();
        let what = match &node.op {
            Op::Leaf(leaf, _) => format!("value {leaf}"),
            Op::Start(state) => format!("before {}", names(*state)),
            Op::Next(state) => format!("after {}", names(*state)),
            Op::Read(expr) => format!("read {}", chunkwise_dsl::print_typed::expr_text(variant, *expr)),
            Op::Output(name) => format!("output {name}"),
            Op::Term(term) => operator(term),
        };
        text.push_str(&format!("  %{} = {what} {}\n", index.index(), operands.join(" ")).replace(" \n", "\n"));
    }
    text.push_str(&format!("  {} values, {} edges\n", plan.graph.node_count(), plan.graph.edge_count()));
    text
}

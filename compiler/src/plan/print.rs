//! The plan as a graph for Graphviz.

use petgraph::visit::EdgeRef;

use super::{Op, Plan};
use crate::ir::Term;

/// `digraph` text: one box a value, results and states set apart.
pub fn dot(plan: &Plan) -> String {
    let mut text =
        format!("digraph {} {{\n  rankdir = TB;\n  node [shape = box, fontname = monospace];\n", plan.form.name());
    for index in plan.graph.node_indices() {
        let node = &plan.graph[index];
        let (label, style) = match &node.op {
            Op::Leaf(leaf, _) => (leaf.to_string(), "shape = ellipse"),
            Op::Start(state) => (format!("state {} before", state.0), "shape = cylinder"),
            Op::Next(state) => (format!("state {} after", state.0), "shape = cylinder"),
            Op::Read(_) => ("read".to_string(), "style = bold"),
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

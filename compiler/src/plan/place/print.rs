//! A placement as text: every unit with its grid, every kept value with what it is computed of.
//!
//! ```text
//! plan lit parallel
//! pass over T, each B, H
//!   tile   n8[t, k] = relu(k[t, k])
//!   shared n10[k, v] = sum[t](n8[t, k] * v[t, v])
//! rows of T, each B, H
//!   output o[t, v] = ...
//! ```

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::Variant;

use super::{Placed, Placement, Space};
use crate::program::{Graph, Op, Printer};

/// The units in the order of computation.
pub fn text(variant: &Variant, graph: &Graph, placement: &Placement) -> String {
    let printer = Printer { variant, graph, named: &placement.stored };
    let mut text = format!("plan {} parallel\n", variant.name);
    let mut values = 0;
    for unit in &placement.units {
        text.push_str(&format!("{}\n", space(variant, &unit.space)));
        for placed in &unit.nodes {
            values += 1;
            text.push_str(&format!("  {}\n", line(&printer, placement, placed)));
        }
    }
    text + &format!("{} units, {values} values\n", placement.units.len())
}

fn line(printer: &Printer, placement: &Placement, placed: &Placed) -> String {
    let node = printer.graph.node(placed.node);
    let kind = match node.op {
        Op::Output(_) => "output",
        _ if placed.inside.is_some() => "step  ",
        _ if placed.shared => "shared",
        _ => "tile  ",
    };
    // A sum that writes an output stands for it.
    let meaning = placement.written_by.get(&placed.node).copied().unwrap_or(placed.node);
    format!("{kind} {} = {}", printer.name(placed.node), printer.value(meaning))
}

fn space(variant: &Variant, space: &Space) -> String {
    let size = |size: &Size| size.print(&|axis| variant.axis_name(axis));
    let each = |axes: &[chunkwise_dsl::shape::AxisId]| {
        let names: Vec<String> = axes.iter().map(|axis| variant.axis_name(*axis)).collect();
        if names.is_empty() { String::new() } else { format!(", each {}", names.join(", ")) }
    };
    let all = crate::bind::batch_axes(variant);
    match space {
        Space::Once(axes) => format!("once{}", each(axes)),
        Space::Rows(of) => format!("rows of {} in blocks{}", size(of), each(&all)),
        Space::OverHeads(of) => {
            let heads = |axis: &chunkwise_dsl::shape::AxisId| Some(*axis) != variant.head;
            let all: Vec<_> = all.into_iter().filter(heads).collect();
            format!("rows of {} in blocks, all heads together{}", size(of), each(&all))
        }
        Space::Pass(of) => format!("pass over {}{}", size(of), each(&all)),
        Space::Image { rows, stride: 1 } => format!("image of {} rows{}", size(rows), each(&all)),
        Space::Image { rows, stride } => format!("image of every row {stride} of {}{}", size(rows), each(&all)),
    }
}

//! A placement as text: every unit with its grid, every kept value with what it is computed of.
//!
//! ```text
//! plan lit parallel
//! pass over T, each B, H
//!   tile   n8[t, k] = relu(k[t, k])
//!   shared n10[k, v] = sum[t](n8[t, k] * v[t, v])
//! rows of T, each B, H
//!   output o[t, v] = ...
//!
//! plan causal parallel
//! rows of T in blocks, each B, H
//!   sweep over T in blocks, j <= i
//!     pair   n4[t, t2] = sum[k](q[t, k] * k[t2, k])
//!     fold   n9[t] = max[t2](if t2 <= t then n4[t, t2] else -inf)
//!     ...
//! ```

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::Variant;

use super::{Bounded, Placed, Placement, Space, Sweep};
use crate::program::{Graph, Index, Op, Printer};

/// The units in the order of computation.
pub fn text(variant: &Variant, graph: &Graph, placement: &Placement) -> String {
    let printer = Printer { variant, graph, named: &placement.stored };
    let mut text = format!("plan {} parallel\n", variant.name);
    let mut values = 0;
    for unit in &placement.units {
        text.push_str(&format!("{}\n", space(variant, &unit.space)));
        for sweeps in 0..=unit.sweeps.len() {
            for placed in unit.nodes.iter().filter(|placed| placed.after == sweeps) {
                values += 1;
                text.push_str(&format!("  {}\n", line(&printer, placement, placed)));
            }
            if let Some(sweep) = unit.sweeps.get(sweeps) {
                text.push_str(&format!("  {}\n", head(&printer, sweep)));
                for placed in sweep.all() {
                    values += 1;
                    text.push_str(&format!("    {}\n", line(&printer, placement, placed)));
                }
            }
        }
    }
    text + &format!("{} units, {values} values\n", placement.units.len())
}

fn line(printer: &Printer, placement: &Placement, placed: &Placed) -> String {
    let node = printer.graph.node(placed.node);
    let kind = match node.op {
        Op::Output(_) => "output",
        _ if placed.column == Some(node.axes.len()) => "fold  ",
        _ if placed.column.is_some() => "pair  ",
        _ if placed.inside.is_some() => "step  ",
        _ if placed.shared => "shared",
        _ => "tile  ",
    };
    // A sum that writes an output stands for it.
    let meaning = placement.written_by.get(&placed.node).copied().unwrap_or(placed.node);
    format!("{kind} {} = {}", printer.name(placed.node), printer.value(meaning))
}

/// A loop over blocks of columns, and which of them it goes over for row i.
fn head(printer: &Printer, sweep: &Sweep) -> String {
    let size = |size: &Size| size.print(&|axis| printer.variant.axis_name(axis));
    let names = ["i".to_string(), "j".to_string()];
    let bound = |index: &Index| printer.index(index, &names);
    let mut bounds = Vec::new();
    for (place, Bounded { band, .. }) in sweep.bands.iter().enumerate() {
        if sweep.bands[..place].iter().any(|other| other.band == *band) {
            continue;
        }
        bounds.extend(band.first.as_ref().map(|first| format!("j >= {}", bound(first))));
        bounds.extend(band.last.as_ref().map(|last| format!("j <= {}", bound(last))));
    }
    let where_seen = if bounds.is_empty() { String::new() } else { format!(", {}", bounds.join(", ")) };
    format!("sweep over {} in blocks{where_seen}", size(&sweep.columns.size))
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

//! The lines of `bench`: an entry each, as text or JSON, printed when it is done.

use chunkwise_compiler::{
    Form,
    bind::{Sizes, batch_axes},
};
use chunkwise_dsl::{shape::AxisId, typed::Variant};
use chunkwise_runtime::{Backend, Plan};
use serde_json::json;

use super::{Arguments, measure::Entry, plans::sizes};
use crate::{
    arguments::Shared,
    failure::Failure,
    print,
    table::{Columns, Side, Streamed},
};

pub struct Table {
    lines: Streamed,
    /// Whether calls are on one token each.
    decode: bool,
}

impl Table {
    /// A table of these plans: what they differ in least is known by the first.
    pub fn new(variant: &Variant, arguments: &Arguments, plans: &[(Plan, usize)]) -> Result<Self, Failure> {
        let widest = match plans.first() {
            Some((_, tokens)) => sizes_text(variant, &sizes(variant, *tokens, arguments)?).chars().count(),
            None => 0,
        };
        let columns = Columns::new([
            ("variant", variant.name.chars().count(), Side::Left),
            ("backend", 9, Side::Left),
            ("form", 9, Side::Left),
            ("schedule", 8, Side::Left),
            ("C", 4, Side::Right),
            ("T", 6, Side::Right),
            ("sizes", widest, Side::Left),
            ("median ms", 9, Side::Right),
            ("p20", 9, Side::Right),
            ("p80", 9, Side::Right),
            ("tokens/s", 9, Side::Right),
            ("GF/s", 7, Side::Right),
            ("GB/s", 6, Side::Right),
            ("workspace", 9, Side::Right),
            ("compile ms", 10, Side::Right),
        ]);
        Ok(Self { lines: Streamed::new(columns), decode: arguments.decode })
    }

    /// Prints an entry, and a word where its spread makes it doubtful.
    pub fn show(&mut self, variant: &Variant, entry: &Entry, shared: &Shared) -> Result<(), Failure> {
        if print::json() {
            return print::line(&self.as_json(variant, entry, shared));
        }
        self.lines.print(&cells(variant, entry))?;
        if entry.is_doubtful() {
            let share = 100.0 * (entry.quantile(0.8) / entry.quantile(0.2) - 1.0);
            let name = name(entry.plan);
            print::warning(&format!(
                "{name}: p80 is {share:.0} % above p20, so the median says little: is the machine busy?"
            ));
        }
        Ok(())
    }

    fn as_json(&self, variant: &Variant, entry: &Entry, shared: &Shared) -> String {
        let dims: serde_json::Map<String, serde_json::Value> =
            own_dims(variant, &entry.sizes).into_iter().map(|(name, size)| (name, json!(size))).collect();
        json!({
            "variant": variant.name, "backend": entry.plan.backend.name(), "form": entry.plan.form.name(),
            "schedule": entry.plan.schedule.name(), "precision": shared.precision().on(entry.plan.backend).name(),
            "chunk": entry.chunk(), "batch": size_named(variant, &entry.sizes, "B"),
            "tokens": entry.tokens, "heads": heads(variant, &entry.sizes), "dims": dims, "threads": shared.threads(),
            "median_ms": entry.quantile(0.5), "p20_ms": entry.quantile(0.2), "p80_ms": entry.quantile(0.8),
            "runs": entry.runs.len(), "flops": entry.flops, "bytes": entry.bytes,
            "gflops": entry.rate(entry.flops as f64), "gbps": entry.rate(entry.bytes as f64),
            "compile_ms": 1e3 * entry.compile.as_secs_f64(), "decode": self.decode,
            "tokens_per_s": entry.tokens_per_second(sequences(variant, &entry.sizes)),
            "workspace_bytes": entry.workspace, "doubtful": entry.is_doubtful(),
        })
        .to_string()
    }
}

/// A plan in words: `chunked on llvm, C = 64`.
pub fn name(plan: Plan) -> String {
    let (form, backend) = (plan.form.name(), plan.backend.name());
    match (plan.backend, plan.form) {
        (Backend::Reference, _) => backend.to_string(),
        (_, Form::Chunked) => format!("{form} on {backend}, C = {}, {}", plan.chunk, plan.schedule.name()),
        _ => format!("{form} on {backend}"),
    }
}

fn cells(variant: &Variant, entry: &Entry) -> Vec<String> {
    vec![
        variant.name.clone(),
        entry.plan.backend.name().into(),
        if entry.plan.backend == Backend::Reference { "-".into() } else { entry.plan.form.name().into() },
        if entry.plan.form == Form::Chunked { entry.plan.schedule.name().into() } else { "-".into() },
        entry.chunk().to_string(),
        entry.tokens.to_string(),
        sizes_text(variant, &entry.sizes),
        format!("{:.3}", entry.quantile(0.5)),
        format!("{:.3}", entry.quantile(0.2)),
        format!("{:.3}", entry.quantile(0.8)),
        scaled(entry.tokens_per_second(sequences(variant, &entry.sizes)), 1000.0),
        format!("{:.1}", entry.rate(entry.flops as f64)),
        format!("{:.1}", entry.rate(entry.bytes as f64)),
        entry.workspace.map_or("-".into(), |bytes| format!("{}B", scaled(bytes as f64, 1024.0))),
        format!("{:.1}", 1e3 * entry.compile.as_secs_f64()),
    ]
}

/// Three digits and the thousands: `1.23 M`.
fn scaled(amount: f64, step: f64) -> String {
    let mut amount = amount;
    for unit in ["", "k", "M", "G"] {
        if amount < step {
            return format!("{amount:.digits$} {unit}", digits = if amount < 10.0 && !unit.is_empty() { 2 } else { 0 });
        }
        amount /= step;
    }
    format!("{amount:.0} T")
}

fn sizes_text(variant: &Variant, sizes: &Sizes) -> String {
    let all = [("B".to_string(), size_named(variant, sizes, "B")), ("H".to_string(), heads(variant, sizes))];
    let all = all.into_iter().chain(own_dims(variant, sizes));
    all.map(|(name, size)| format!("{name}={size}")).collect::<Vec<_>>().join(" ")
}

fn heads(variant: &Variant, sizes: &Sizes) -> usize {
    variant.head.and_then(|head| sizes.get(head)).unwrap_or(1)
}

/// Sequences of tokens that a run takes: one a batch element, whatever the heads.
fn sequences(variant: &Variant, sizes: &Sizes) -> usize {
    let axes = batch_axes(variant).into_iter().filter(|axis| Some(*axis) != variant.head);
    axes.map(|axis| sizes.get(axis).unwrap_or(1)).product()
}

/// The sizes of the axes that are neither batch, tokens nor heads.
fn own_dims(variant: &Variant, sizes: &Sizes) -> Vec<(String, usize)> {
    let ids = (0..variant.axes.len()).map(|place| AxisId(place as u32));
    ids.filter(|id| Some(*id) != variant.token && Some(*id) != variant.head && variant.axis_name(*id) != "B")
        .filter_map(|id| Some((variant.axis_name(id), sizes.get(id)?)))
        .collect()
}

fn size_named(variant: &Variant, sizes: &Sizes, name: &str) -> usize {
    let place = variant.axes.iter().position(|axis| axis.name == name);
    place.and_then(|place| sizes.get(AxisId(place as u32))).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_at_most() {
        let of = |amount| scaled(amount, 1000.0);
        assert_eq!([of(7.0), of(950.4), of(1500.0), of(123_456_789.0)], ["7 ", "950 ", "1.50 k", "123 M"]);
    }
}

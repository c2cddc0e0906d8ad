//! The lines of `verify`: a form on a back end at a number of tokens, as text or JSON.

use chunkwise_compiler::Form;
use chunkwise_dsl::typed::Variant;
use serde_json::json;

use super::{compare::Worst, targets::Target};
use crate::{
    failure::Failure,
    print,
    table::{Columns, Side, Streamed},
};

/// A line of the table.
pub struct Row {
    pub target: Target,
    pub tokens: usize,
    pub worst: Worst,
    pub bound: f64,
}

impl Row {
    pub fn holds(&self) -> bool {
        self.worst.error <= self.bound
    }
}

/// How lines are printed: those of a target as soon as it is done.
pub struct Table {
    lines: Streamed,
    extent: Extent,
}

/// Which lines of a target are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The worst one.
    Worst,
    /// One a number of tokens.
    All,
}

impl Table {
    pub fn new<'v>(variants: impl Iterator<Item = &'v Variant>, extent: Extent) -> Self {
        let name_width = variants.map(|variant| variant.name.chars().count()).max().unwrap_or(0);
        let columns = Columns::new([
            ("variant", name_width, Side::Left),
            ("form", 13, Side::Left),
            ("C", 4, Side::Right),
            ("backend", 9, Side::Left),
            ("T", 5, Side::Right),
            ("worst error", 11, Side::Right),
            ("bound", 6, Side::Right),
            ("", 4, Side::Left),
            ("where", 0, Side::Left),
        ]);
        Self { lines: Streamed::new(columns), extent }
    }

    /// Prints what is known of one target, the shortest sequences first.
    pub fn show(&mut self, variant: &Variant, mut rows: Vec<Row>) -> Result<(), Failure> {
        rows.sort_by_key(|row| row.tokens);
        if print::json() {
            return rows.iter().try_for_each(|row| print::line(&as_json(variant, row)));
        }
        let shown = match self.extent {
            Extent::All => rows,
            Extent::Worst => worst(rows).into_iter().collect(),
        };
        shown.iter().try_for_each(|row| self.lines.print(&cells(variant, row)))
    }
}

fn worst(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().reduce(|worst, row| if row.worst.error > worst.worst.error { row } else { worst })
}

fn cells(variant: &Variant, row: &Row) -> [String; 9] {
    let plan = row.target.plan;
    [
        variant.name.clone(),
        row.target.layout(),
        if plan.form == Form::Chunked { plan.chunk.to_string() } else { "-".into() },
        plan.backend.name().into(),
        row.tokens.to_string(),
        format!("{:.1e}", row.worst.error),
        format!("{:.0e}", row.bound),
        if row.holds() { "ok".into() } else { "OVER".into() },
        row.worst.place(),
    ]
}

fn as_json(variant: &Variant, row: &Row) -> String {
    let plan = row.target.plan;
    json!({
        "variant": variant.name, "form": plan.form.name(), "schedule": plan.schedule.name(), "backend": plan.backend.name(),
        "chunk": (plan.form == Form::Chunked).then_some(plan.chunk), "tokens": row.tokens,
        // JSON has no infinity: an error without a number is null, and not ok.
        "error": row.worst.error.is_finite().then_some(row.worst.error), "bound": row.bound, "ok": row.holds(),
        "case": row.worst.case, "tensor": row.worst.tensor, "why": row.worst.why,
    })
    .to_string()
}

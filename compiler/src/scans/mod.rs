//! A variant whose scans are stages among others: one of several orders, of an order that is not forward, or with values
//! around its scans that kernels without states compute.
//!
//! ```text
//! order causal(g = gf), reverse(g = gb) merge mean;  ..  read o[t] = S[t]' * q[t];  output y[t] = rms(o[t]) .. dwconv(x)
//!   ->  values  reverse.in    q, k, v, gb with token T-1-t at place t
//!       scan    causal        read.0[t]
//!       scan    reverse       read.1[t], over the places of reverse.in
//!       values  merged        o[t] = (read.0[t] + read.1[T-1-t]) / 2 and the outputs
//! ```
//!
//! Every stage is a variant of its own, under one forward order or without states; tensors whose names hold a `.` are
//! handed from one to the next. `link` makes one module of their modules.

mod both;
mod edit;
mod link;
mod places;
mod scan;
mod several;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{
    Dtype, ExprId, ExprKind, LetId, LetKind, LetValue, LocalKind, Merge, Order, OrderKind, Output, Stmt, Ty, Variant,
};

use crate::calls::{Kind, Part, Wire, further_axes};
use crate::{Form, Unsupported};
use edit::Edit;
pub use link::link;
use places::Places;

type Result<T> = std::result::Result<T, Unsupported>;

/// A stage: a variant under one forward order, or one without states.
#[derive(Debug, Clone)]
pub struct Stage {
    pub name: String,
    pub variant: Variant,
    /// Axes that the variant as a whole has not, and how long each is: one that counts the stage's places where they are not
    /// its tokens, those of a variant called.
    pub axes: Vec<(String, Size)>,
    /// What its tensors, states and outputs are in the whole, where they have other names there.
    pub wires: BTreeMap<String, Wire>,
    /// Its states are its own: nobody outside gives or takes them.
    pub closed: bool,
}

impl Stage {
    /// A stage whose tensors have the names that they have in the whole.
    fn new(name: String, variant: Variant, axes: Vec<(String, Size)>) -> Self {
        Self { name, variant, axes, wires: BTreeMap::new(), closed: false }
    }

    /// A part of a variant that calls others.
    pub fn of_call(part: Part, caller: &Variant) -> Self {
        let axes = further_axes(&part.variant, caller).map(|(name, size)| (name.to_string(), size.clone())).collect();
        let Part { name, kind, variant, wires } = part;
        Self { name, variant, axes, wires, closed: kind != Kind::Rest }
    }

    pub fn is_scan(&self) -> bool {
        !self.variant.states.is_empty()
    }

    /// The form of the stage where the whole is computed in a form.
    pub fn form(&self, whole: Form) -> Form {
        if self.is_scan() { whole } else { Form::Parallel }
    }
}

/// The stages of a variant; None where it is one itself.
///
/// # Errors
/// An order whose places kernels cannot count, a value of a scan that looks at other tokens by position.
pub fn stages(variant: &Variant) -> Result<Option<Vec<Stage>>> {
    stages_named(variant, "")
}

/// The same, with names that begin so.
fn stages_named(variant: &Variant, prefix: &str) -> Result<Option<Vec<Stage>>> {
    if variant.states.iter().any(|state| state.reverse) {
        return both::both_ways(variant).map(Some);
    }
    if variant.states.is_empty() || !needs_stages(variant) {
        return Ok(None);
    }
    let forward = [Order { kind: OrderKind::Causal, bindings: Vec::new(), by: None }];
    let orders = if variant.orders.is_empty() { &forward } else { variant.orders.as_slice() };
    let mut stages: Vec<Stage> = Vec::new();
    let mut results = Vec::new();
    for (place, order) in orders.iter().enumerate() {
        let places = Places::of(variant, order, prefix)?;
        let standing = places.standing(variant).filter(|stage| stages.iter().all(|known| known.name != stage.name));
        stages.extend(standing);
        let name = format!("{prefix}{}{place}", order_name(order.kind));
        let (before, scan) = scan::split(variant, (order, &places), &name)?;
        stages.extend(before.map(|variant| Stage::new(format!("{name}.in"), variant, Vec::new())));
        let filled = places.filled().map(|(count, _)| (scan::places_axis(&name), count.clone()));
        stages.push(Stage::new(name.clone(), scan, filled.into_iter().collect()));
        results.push((name, places));
    }
    stages.push(Stage::new(format!("{prefix}merged"), merged(variant, &results), Vec::new()));
    Ok(Some(stages))
}

/// Whether one pass forward over the tokens does not do.
fn needs_stages(variant: &Variant) -> bool {
    let plain = |kind| matches!(kind, OrderKind::Causal | OrderKind::Raster);
    let moved = variant.orders.iter().any(|order| order.by.is_some());
    let several = variant.orders.len() > 1 || variant.orders.iter().any(|order| !plain(order.kind));
    let parts =
        variant.locals.iter().any(|local| !matches!(local.kind, LocalKind::Window { .. } | LocalKind::Block(_)));
    let heads = variant.lets.iter().any(|binding| matches!(binding.value, LetValue::Norm { heads: true, .. }));
    moved || several || parts || heads || scan::has_values_apart(variant)
}

fn order_name(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Causal => "causal",
        OrderKind::Full => "full",
        OrderKind::Reverse => "reverse",
        OrderKind::Raster => "raster",
        OrderKind::Column => "column",
        OrderKind::RasterRev => "raster_rev",
        OrderKind::ColumnRev => "column_rev",
    }
}

/// What the scans give out, to be merged: the reads, or else every output that mentions a state.
enum Wanted {
    Reads(Vec<LetId>),
    Outputs,
}

fn wanted(variant: &Variant) -> Wanted {
    let reads: Vec<LetId> = variant.reads().collect();
    let normed = || {
        variant.lets.iter().find_map(|binding| match binding.value {
            LetValue::Norm { of, heads: true, .. } => Some(of),
            _ => None,
        })
    };
    if !reads.is_empty() {
        return Wanted::Reads(reads);
    }
    normed().map_or(Wanted::Outputs, |of| Wanted::Reads(vec![of]))
}

/// The tensor in which a scan gives out its n-th result.
fn result_name(stage: &str, n: usize) -> String {
    format!("{stage}.out{n}")
}

/// The variant without its scans: what they gave is merged, the outputs are made of it.
fn merged(variant: &Variant, results: &[(String, Places)]) -> Variant {
    let mut edit = Edit::without_states(variant);
    match wanted(variant) {
        Wanted::Reads(reads) => {
            for (n, read) in reads.into_iter().enumerate() {
                let binding = &variant.lets[read.index()];
                let token = binding.indices.first().copied();
                let value = merged_value(&mut edit, results, (n, token), &binding.ty);
                let binding = &mut edit.variant.lets[read.index()];
                (binding.value, binding.scan, binding.kind) = (LetValue::Expr(value), false, LetKind::Let);
            }
        }
        Wanted::Outputs => {
            let scans = variant.outputs().filter(|output| output.scan);
            for (n, output) in scans.enumerate() {
                let value = merged_value(&mut edit, results, (n, output.indices.first().copied()), &output.ty);
                let same = |stmt: &&mut Stmt| matches!(stmt, Stmt::Output(other) if other.name == output.name);
                if let Some(Stmt::Output(output)) = edit.variant.body.iter_mut().find(same) {
                    (output.value, output.scan) = (value, false);
                }
            }
        }
    }
    edit.variant
}

/// The n-th result of every scan at its own place of the token, summed or averaged.
fn merged_value(
    edit: &mut Edit,
    results: &[(String, Places)],
    (n, token): (usize, Option<chunkwise_dsl::typed::IndexId>),
    ty: &Ty,
) -> ExprId {
    let mut terms = Vec::new();
    for (stage, places) in results {
        let tensor = edit.tensor(&result_name(stage, n), places.count(), ty);
        let whole = edit.whole(tensor);
        terms.push(match token {
            Some(token) => {
                let at = edit.index(token);
                let place = places.of_token(edit, at);
                edit.expr(ExprKind::Subscript { base: whole, at: vec![place] }, ty.clone())
            }
            None => whole,
        });
    }
    let mut terms = terms.into_iter();
    let Some(first) = terms.next() else { return edit.number(0.0) };
    let sum = terms.fold(first, |a, b| edit.map(chunkwise_dsl::typed::Function::Add, vec![a, b], ty.clone()));
    match edit.variant.merge {
        Merge::Mean if results.len() > 1 => {
            let count = edit.number(results.len() as f64);
            edit.map(chunkwise_dsl::typed::Function::Div, vec![sum, count], ty.clone())
        }
        _ => sum,
    }
}

/// An output of a stage that another stage reads.
fn handed_on(
    name: String,
    (indices, ty): (Vec<chunkwise_dsl::typed::IndexId>, Ty),
    value: ExprId,
    edit: &Edit,
) -> Output {
    let span = edit.variant.span;
    Output { name, span, indices, ty, value, scan: false, dims: Vec::new() }
}

/// Handed-on tensors are as f32 as everything that is computed.
const HANDED: Dtype = Dtype::F32;

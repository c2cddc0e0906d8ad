//! The derivation of a variant that calls others, part by part.

use chunkwise_dsl::typed::Variant;

use super::{Explanation, explain, line};
use crate::{Derivation, Unsupported, calls, layout::Form};

/// Of a variant that calls others each part is told by itself, of parts that are alike the first.
pub(super) fn told(variant: &Variant, form: Form, check: bool) -> Result<Explanation, Unsupported> {
    let derivation = Derivation::of(variant);
    if let Some(missing) = derivation.missing(form) {
        return Err(missing);
    }
    let mut all = Explanation { text: String::new(), steps: 0, worst: 0.0 };
    line(&mut all.text, format!("{}: the {} form, of parts that are run one by one", variant.name, form.name()));
    let named = calls::parts(variant);
    for (name, form, count) in derivation.calls(form) {
        let Some(part) = named.iter().find(|part| part.name == name) else { continue };
        let times = if count > 1 { format!(", and {} more like it", count - 1) } else { String::new() };
        line(&mut all.text, format!("\npart {name}, in its {} form{times}\n", form.name()));
        let told = explain(&part.variant, form, check)?;
        line(&mut all.text, told.to_string());
        all.steps += told.steps;
        all.worst = all.worst.max(told.worst);
    }
    Ok(all)
}

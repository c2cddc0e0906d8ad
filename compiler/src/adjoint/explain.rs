//! The gradient program as text, with the rule that made each of its lines.

use chunkwise_dsl::print_typed::typed;
use chunkwise_dsl::typed::{LetKind, Stmt, Variant};

use super::{Gradients, Result, adjoint};

/// The program and its rules.
///
/// # Errors
/// As `adjoint`.
pub fn explain(primal: &Variant) -> Result<String> {
    let made = adjoint(primal)?;
    let rules = rules(primal, &made);
    let mut text = String::new();
    for line in typed(&made.variant).lines() {
        let name = line.trim_start().split([' ', '[']).nth(1).unwrap_or_default();
        let word = line.trim_start().split(' ').next().unwrap_or_default();
        if let Some((_, _, rule)) = rules.iter().find(|(of_word, of, _)| *of_word == word && of == name) {
            text.push_str(&format!("  # {rule}\n"));
        }
        text.push_str(line);
        text.push('\n');
    }
    for gradient in made.gradients.iter().filter(|gradient| gradient.output.is_none()) {
        text.push_str(&format!("0 by rule: d_{}\n", gradient.tensor));
    }
    Ok(text)
}

/// The rule of every line that the adjoint has beside its primal: its first word, its name, the rule.
fn rules(primal: &Variant, made: &Gradients) -> Vec<(&'static str, String, String)> {
    let variant = &made.variant;
    let mut rules = Vec::new();
    for tensor in &variant.tensors[primal.tensors.len()..] {
        rules.push(("input", tensor.name.clone(), "the cotangent of an output".to_string()));
    }
    for state in &variant.states[primal.states.len()..] {
        let rule = format!("the partner of `{}`: dL/d{}[t] by later tokens", &state.name[2..], &state.name[2..]);
        rules.push(("state", state.name.clone(), rule));
        rules.push(("update", state.name.clone(), format!("what gathers at {}[t-1]", &state.name[2..])));
    }
    for stmt in &variant.body {
        let (Stmt::Let(id) | Stmt::Read(id)) = stmt else { continue };
        let named = &variant.lets[id.index()];
        if id.index() < primal.lets.len() {
            continue;
        }
        let of = named.name.trim_start_matches("d_");
        let (word, rule) = match (named.kind, named.name.starts_with("d_")) {
            (LetKind::Read, _) => ("read", format!("what the scan hands to `{}`", of.trim_end_matches("_read"))),
            (_, true) => ("let", format!("the cotangent of `{of}`: what its reads hand back, each at its place")),
            _ if named.name.starts_with("ones") => ("let", "what a sum hands to each of its terms".to_string()),
            _ if named.name.starts_with("order") => ("let", "1 in its order: what that order alone binds".to_string()),
            _ => ("let", "a part of a cotangent, entry by entry".to_string()),
        };
        rules.push((word, named.name.clone(), rule));
    }
    for gradient in &made.gradients {
        if let Some(output) = &gradient.output {
            let sums = if gradient.summed > 0 { ", still by batch element" } else { "" };
            rules.push(("output", output.clone(), format!("the gradient of `{}`{sums}", gradient.tensor)));
        }
    }
    rules
}

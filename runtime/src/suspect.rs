//! What is suspicious about a run: results that are not finite although all inputs are, and decays above 1 (`decays`).
//! Said, not refused: decays are the caller's promise. Outputs are looked at once.

mod decays;

use crate::{
    request::{Outputs, Request},
    tensor::{Data, Tensor},
};

/// A sentence for each thing that is suspicious, decays first.
pub fn warnings(request: Request, outputs: &Outputs) -> Vec<String> {
    let decays = decays::above_one(request);
    let mut warnings: Vec<String> = decays.iter().map(|found| found.sentence.clone()).collect();
    if inputs_are_finite(request) {
        let cause = decays.first().map(|found| format!("the decay of `{}`, which is above 1", found.state));
        warnings.extend(outputs.all().filter_map(|(name, tensor)| not_finite(name, tensor, cause.as_deref())));
    }
    warnings
}

/// Whether what is given is finite; a log decay may be -inf.
fn inputs_are_finite(request: Request) -> bool {
    let logs = decays::tensors(request.variant);
    let given = request.inputs.iter().chain(request.initial);
    given.into_iter().all(|(name, tensor)| match &tensor.data {
        Data::F32(data) if logs.contains(name) => data.iter().all(|x| x.is_finite() || *x == f32::NEG_INFINITY),
        Data::F32(data) => is_finite(data),
        Data::I32(_) => true,
    })
}

/// Without a branch an element, so that it runs at the speed of memory.
fn is_finite(data: &[f32]) -> bool {
    let largest = data.iter().fold(0u32, |largest, x| largest.max(x.abs().to_bits()));
    largest < f32::INFINITY.to_bits()
}

/// Magnitudes from here on are on their way out of f32.
const HUGE: f32 = 1e30;

fn not_finite(name: &str, tensor: &Tensor, cause: Option<&str>) -> Option<String> {
    let Data::F32(data) = &tensor.data else { return None };
    if is_finite(data) {
        return None;
    }
    let first = data.iter().position(|x| !x.is_finite())?;
    let count = data.iter().filter(|x| !x.is_finite()).count();
    let largest = data.iter().filter(|x| x.is_finite()).fold(0f32, |largest, x| largest.max(x.abs()));
    let grows = data[first].is_infinite() || largest > HUGE;
    let cause = cause.unwrap_or(match grows {
        true => "values that grow beyond what f32 holds (3.4e38)",
        false => "a quotient by 0, or a function outside its domain",
    });
    let place = place(first, &tensor.shape);
    let rest = if count > 1 { format!(", the first of {count} elements that are not finite") } else { String::new() };
    Some(format!("`{name}` is {} at {place}{rest}, although all inputs are finite; likely cause: {cause}", data[first]))
}

/// The index of an element, `[0,17,2]`.
fn place(mut at: usize, shape: &[usize]) -> String {
    let mut index = vec![0; shape.len()];
    for (slot, n) in index.iter_mut().zip(shape).rev() {
        *slot = at % n;
        at /= n;
    }
    brackets(&index)
}

fn brackets(index: &[usize]) -> String {
    let index: Vec<String> = index.iter().map(usize::to_string).collect();
    format!("[{}]", index.join(","))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chunkwise_compiler::bind::bind_dims;
    use chunkwise_dsl::{compile, source::Source, typed::Variant};

    use super::*;
    use crate::tensor::Tensors;

    fn variant(text: &str) -> Variant {
        compile(&Source::new("x", text), &[]).unwrap().variants.remove(0)
    }

    fn said(text: &str, inputs: &[(&str, Vec<usize>, Vec<f32>)], output: &[f32]) -> Vec<String> {
        let variant = variant(text);
        let sizes = bind_dims(&variant, &[("B".into(), 1), ("T".into(), 3), ("H".into(), 2), ("K".into(), 1)]).unwrap();
        let tensor = |(name, shape, data): &(&str, Vec<usize>, Vec<f32>)| {
            (name.to_string(), Tensor::f32(shape.clone(), data.clone()))
        };
        let inputs: Tensors = inputs.iter().map(tensor).collect();
        let request =
            Request { variant: &variant, sizes: &sizes, inputs: &inputs, initial: &Tensors::new(), threads: 1 };
        let outputs = vec![("o".to_string(), Tensor::f32(vec![1, output.len()], output.to_vec()))];
        warnings(request, &Outputs { outputs, states: Vec::new(), kernel_time: Duration::ZERO })
    }

    const GATED: &str = "variant f { axes B, T, H, K; input g : [B,T,H], k : [B,T,H,K]; state z : [K] = 0; \
                         decay a[t] = exp(g[t]); update z additive(k); output o[t] = z[t]; }";

    fn gated(g: [f32; 6], output: &[f32]) -> Vec<String> {
        said(GATED, &[("g", vec![1, 3, 2], g.to_vec()), ("k", vec![1, 3, 2, 1], vec![1.0; 6])], output)
    }

    #[test]
    fn a_log_decay_above_0_is_said_with_its_first_place() {
        let said = gated([-1.0, 0.0, f32::NEG_INFINITY, -0.5, 0.0, 0.25], &[1.0]);
        let text = "the decay `exp(g[t])` of `z` is 1.284, above 1, first at g[0,2,1] = 0.25: a log decay is at most 0";
        assert_eq!(said, [text]);
        assert!(gated([0.0, -1.0, -2.0, f32::NEG_INFINITY, -1e4, 0.0], &[1.0, -3e38]).is_empty());
    }

    #[test]
    fn results_that_are_not_finite_are_said_with_their_cause() {
        let fine = [-1.0; 6];
        let said = gated(fine, &[1.0, f32::NAN, f32::NAN]);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("`o` is NaN at [0,1], the first of 2 elements"), "{said:?}");
        assert!(said[0].ends_with("likely cause: a quotient by 0, or a function outside its domain"), "{said:?}");
        assert!(gated(fine, &[1e35, f32::NAN])[0].contains("grow beyond what f32 holds"));
        assert!(gated(fine, &[1.0, f32::NEG_INFINITY])[0].contains("grow beyond what f32 holds"));
        let grown = gated([0.1; 6], &[f32::NAN]);
        assert!(
            grown.len() == 2 && grown[1].ends_with("likely cause: the decay of `z`, which is above 1"),
            "{grown:?}"
        );
        // What is not finite among the inputs explains it.
        assert!(gated([f32::NAN, -1.0, -1.0, -1.0, -1.0, -1.0], &[f32::NAN]).is_empty());
    }

    #[test]
    fn decays_of_recurrences_and_params_count() {
        let k = ("k", vec![1, 3, 2, 1], vec![0.5f32; 6]);
        let raw = "variant f { axes B, T, H, K; input f : [B,T,H], k : [B,T,H,K]; state z : [K] = 0; \
                   update z[t] = (1 - f[t]) * z[t-1] + k[t]; output o[t] = z[t]; }";
        let f = |data: Vec<f32>| ("f", vec![1, 3, 2], data);
        let found = said(raw, &[k.clone(), f(vec![0.5, 1.0, 0.0, -0.5, 0.5, 0.5])], &[1.0]);
        assert_eq!(
            found,
            ["the decay `1 - f[t]` of `z` is 1.5, above 1, first at f[0,1,1] = -0.5: decays lie in [0, 1]"]
        );
        assert!(said(raw, &[k.clone(), f(vec![0.5; 6])], &[1.0]).is_empty());
        let constant = "variant f { axes B, T, H, K; input k : [B,T,H,K]; param gamma : [H]; state z : [K] = 0; \
                        decay a = gamma; update z additive(k); output o[t] = z[t]; }";
        let found = said(constant, &[k.clone(), ("gamma", vec![2], vec![0.5, 1.5])], &[1.0]);
        assert_eq!(found, ["the decay `gamma` of `z` is 1.5, above 1, first at gamma[1] = 1.5: decays lie in [0, 1]"]);
        let channel = "variant f { axes B, T, H, K; input k, a : [B,T,H,K]; state z : [K] = 0; \
                       decay d[t] = min(a[t], 1) * 2; update z additive(k); output o[t] = z[t]; }";
        let found = said(channel, &[k, ("a", vec![1, 3, 2, 1], vec![0.5, 0.4, 0.6, 0.5, 3.0, 0.0])], &[1.0]);
        assert!(found[0].contains("is 1.2, above 1, first at a[0,1,0,0] = 0.6"), "{found:?}");
    }
}

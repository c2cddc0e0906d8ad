//! Dot products of features come from their parts, so that they are exact where the sum over all features cancels.
#![cfg(any(feature = "cranelift", feature = "llvm"))]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use chunkwise_compiler::{Form, Schedule, bind::bind_dims};
use chunkwise_dsl::{compile, source::Source, typed::Variant};
use chunkwise_runtime::{Backend, Engine, Plan, Request, Tensor, Tensors};

fn variant(feature: &str, size: &str) -> Variant {
    let text = format!(
        "variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; feature phi(x) = {feature} on q, k; \
         state S : [{size},V] = 0, z : [{size}] = 0; update S additive(k, v); update z additive(k); \
         output o[t] = S[t]' * q[t] / (z[t]' * q[t]); }}"
    );
    compile(&Source::new("f", text), &[]).unwrap().variants.remove(0)
}

/// One token: the scores of numerator and denominator are one, so o is v.
fn of_one_token(feature: &str, size: &str) {
    let variant = variant(feature, size);
    let dims: Vec<(String, usize)> =
        [("B", 1), ("T", 1), ("H", 1), ("K", 2), ("V", 1)].map(|(name, n)| (name.to_string(), n)).into();
    let sizes = bind_dims(&variant, &dims).unwrap();
    let row = |x: &[f32]| Tensor::f32(vec![1, 1, 1, x.len()], x.to_vec());
    let inputs = Tensors::from([
        ("q".to_string(), row(&[1.0, 1.0])),
        ("k".to_string(), row(&[1.0, -0.999])),
        ("v".to_string(), row(&[1.0 / 3.0])),
    ]);
    let initial = Tensors::new();
    let request = Request { variant: &variant, sizes: &sizes, inputs: &inputs, initial: &initial, threads: 1 };
    let compiled = |backend: &Backend| *backend != Backend::Reference && backend.usable();
    for backend in Backend::ALL.into_iter().filter(compiled) {
        for form in [Form::Chunked, Form::Parallel] {
            let plan = Plan { backend, form, schedule: Schedule::Fused, chunk: 16 };
            let outputs = Engine::new().run(request, plan).unwrap();
            let o = outputs.outputs[0].1.to_f64()[0];
            assert!((o - 1.0 / 3.0).abs() < 1e-6, "{feature}, {}, {}: {o}", backend.name(), form.name());
        }
    }
}

#[test]
fn scores_of_squares_do_not_cancel() {
    of_one_token("flatten(x * x')", "K*K");
    of_one_token("flatten(x * x') / sqrt(2 * K)", "K*K");
    of_one_token("stack(x / 1000, flatten(x * (3 * x)'))", "K+K*K");
}

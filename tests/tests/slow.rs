//! Slow decays over many tokens: what a decay loses in f32 it loses at every token in the same way, so 65,536 of them show
//! what a few hundred hide. Inputs are positive, so that nothing cancels; the oracle is the reference interpreter. Outputs
//! are held to the bound: single elements of a state carry the rounding of 65,536 sums (1.1e-5 at g = -1e-6 in the recurrent
//! form), with a decay as without.

use std::collections::BTreeMap;

use chunkwise_compiler::bind::{Sizes, bind_dims, tensor_shape};
use chunkwise_compiler::{Form, Schedule};
use chunkwise_dsl::{compile, source::Source, typed::Variant};
use chunkwise_runtime::draw::Random;
use chunkwise_runtime::{Backend, Engine, Plan, Request, Tensor, Tensors, reference};

const TOKENS: usize = 65_536;
const BOUND: f64 = 1e-5;
const FORMS: [(Form, Schedule, usize); 4] = [
    (Form::Recurrent, Schedule::Fused, 64),
    (Form::Chunked, Schedule::Fused, 16),
    (Form::Chunked, Schedule::Fused, 64),
    (Form::Chunked, Schedule::Split, 64),
];

fn variant(declared: &str, update: &str) -> Variant {
    let text = format!(
        "variant s {{ axes B, T, H, K, V; input k : [B,T,H,K], q : [B,T,H,K], v : [B,T,H,V]; {declared} order causal; \
         state S : [K,V] = 0; {update} output o[t] = S[t]' * q[t]; }}"
    );
    let program = compile(&Source::new("slow.attn", text), &[]).unwrap_or_else(|errors| panic!("{errors:?}"));
    program.variants.into_iter().next().expect("the program has a variant")
}

fn sizes(variant: &Variant, tokens: usize) -> Sizes {
    let dims = [("B", 1), ("H", 1), ("K", 8), ("V", 8), ("T", tokens)].map(|(name, n)| (name.to_string(), n));
    bind_dims(variant, &dims).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Keys of length 1, sizes of normal numbers, and what is constant.
fn inputs(variant: &Variant, sizes: &Sizes, constant: &[(&str, f64)]) -> Tensors {
    let mut random = Random::new(33);
    let mut drawn = |name: &str, shape: Vec<usize>| {
        let len = shape.iter().product();
        let mut data: Vec<f32> = match constant.iter().find(|(given, _)| *given == name) {
            Some((_, x)) => vec![*x as f32; len],
            None => (0..len).map(|_| random.normal().abs() as f32).collect(),
        };
        if name == "k" {
            for key in data.chunks_mut(8) {
                let norm = key.iter().map(|x| x * x).sum::<f32>().sqrt();
                key.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Tensor::f32(shape, data)
    };
    variant.tensors.iter().map(|t| (t.name.clone(), drawn(&t.name, tensor_shape(t, sizes)))).collect()
}

/// max|got - want| / max|want| of every tensor, the worst of them.
fn deviation<'t>(got: impl Iterator<Item = (&'t String, &'t Tensor)>, want: &BTreeMap<String, Vec<f64>>) -> f64 {
    got.map(|(name, got)| {
        let want = &want[name];
        let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let errors = got.to_f64().into_iter().zip(want).map(|(got, want)| (got - want).abs());
        errors.fold(0.0, |worst, error| if error.is_nan() { error } else { f64::max(worst, error) }) / largest
    })
    .fold(0.0, |worst, error| if error.is_nan() { error } else { f64::max(worst, error) })
}

/// A program, at some constants each.
fn check(declared: &str, update: &str, constants: &[&[(&str, f64)]], forms: &[(Form, Schedule, usize)]) {
    let variant = variant(declared, update);
    let sizes = sizes(&variant, TOKENS);
    let initial = Tensors::new();
    let mut engines = [Backend::Cranelift, Backend::Llvm].map(|backend| (backend, Engine::new()));
    for constant in constants {
        let inputs = inputs(&variant, &sizes, constant);
        let request = || Request { variant: &variant, sizes: &sizes, inputs: &inputs, initial: &initial, threads: 1 };
        let want = reference::results(request()).unwrap_or_else(|error| panic!("{update}: {error}"));
        let want = want.outputs.into_iter().map(|(name, array)| (name, array.data)).collect();
        for (backend, engine) in engines.iter_mut().filter(|(backend, _)| backend.devices().is_ok()) {
            for &(form, schedule, chunk) in forms {
                let plan = Plan { backend: *backend, form, schedule, chunk };
                let got = engine.run(request(), plan).unwrap_or_else(|error| panic!("{update}: {error}"));
                let error = deviation(got.outputs.iter().map(|(name, x)| (name, x)), &want);
                let what = format!("{update} {constant:?}, {} {} {schedule:?} {chunk}", backend.name(), form.name());
                println!("{error:.1e}  {what}");
                assert!(error <= BOUND, "{what}: {error:.1e}");
            }
        }
    }
}

/// Rates of every size.
fn rates(declared: &str, update: &str) {
    let constants = [-1e-2, -1e-3, -1e-4, -1e-5, -1e-6].map(|g| [("g", g), ("beta", 0.4)]);
    let constants: Vec<&[(&str, f64)]> = constants.iter().map(|constant| &constant[..]).collect();
    check(declared, update, &constants, &FORMS);
}

/// One slow rate.
fn slow(declared: &str, update: &str, constant: &[(&str, f64)]) {
    check(declared, update, &[constant], &FORMS);
}

const SCALAR: &str = "input g : [B,T,H], beta : [B,T,H];";
const DIAGONAL: &str = "input g : [B,T,H,K], beta : [B,T,H];";

#[test]
fn a_scalar_decay() {
    rates(SCALAR, "decay a[t] = exp(g[t]); update S additive(k, v);");
}

#[test]
fn a_decay_by_channel() {
    rates(DIAGONAL, "decay a[t] = exp(g[t]); update S additive(k, v);");
}

#[test]
fn a_scalar_decay_and_a_delta_rule() {
    rates(SCALAR, "decay a[t] = exp(g[t]); update S delta(k, v, beta);");
}

#[test]
fn a_decay_by_channel_and_a_delta_rule() {
    rates(DIAGONAL, "decay a[t] = exp(g[t]); update S delta(k, v, beta);");
}

#[test]
fn decays_of_columns_and_of_both_sides() {
    slow("input g : [B,T,H,V];", "update S[t] = S[t-1] * diag(exp(g[t])) + k[t] * v[t]';", &[("g", -1e-5)]);
    slow(
        "input f : [B,T,H,K], g : [B,T,H,V];",
        "update S[t] = diag(exp(f[t])) * S[t-1] * diag(exp(g[t])) + k[t] * v[t]';",
        &[("f", -1e-5), ("g", -2e-5)],
    );
}

#[test]
fn products_and_branches_of_decays() {
    let declared = "input f : [B,T,H], g : [B,T,H,K], r : [B,T,H];";
    let constant = [("f", -1e-5), ("g", -2e-5), ("r", 0.25)];
    slow(declared, "decay a[t] = exp(f[t]) * exp(g[t]); update S additive(k, v);", &constant);
    slow(declared, "decay a[t] = if r[t] > 0.5 then 0 else exp(f[t]); update S additive(k, v);", &constant);
    slow(declared, "update S[t] = if r[t] > 0.5 then k[t] * v[t]' else exp(f[t]) * S[t-1] + k[t] * v[t]';", &constant);
}

#[test]
fn a_gate_of_what_a_decay_leaves() {
    slow("input g : [B,T,H,K];", "decay a[t] = exp(g[t]); update S gated(v);", &[("g", -1e-4)]);
}

/// WGSL leaves the rounding of a sum to the driver.
#[test]
fn decays_on_a_gpu() {
    if Backend::Wgpu.devices().is_err() {
        println!("no GPU, and no driver that plays one");
        return;
    }
    for (declared, g) in [(SCALAR, -1e-6), (DIAGONAL, -1e-4)] {
        let variant = variant(declared, "decay a[t] = exp(g[t]); update S additive(k, v);");
        let sizes = sizes(&variant, TOKENS);
        let (inputs, initial) = (inputs(&variant, &sizes, &[("g", g)]), Tensors::new());
        let request = || Request { variant: &variant, sizes: &sizes, inputs: &inputs, initial: &initial, threads: 1 };
        let want = reference::results(request()).unwrap_or_else(|error| panic!("{error}"));
        let want = want.outputs.into_iter().map(|(name, array)| (name, array.data)).collect();
        for (form, schedule, chunk) in [FORMS[0], FORMS[2]] {
            let plan = Plan { backend: Backend::Wgpu, form, schedule, chunk };
            let got = Engine::new().run(request(), plan).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            let error = deviation(got.outputs.iter().map(|(name, x)| (name, x)), &want);
            assert!(error <= 1e-4, "{plan:?} at {g}: {error:.1e}");
        }
    }
}

/// What is given as a decay is right as f32 gives it.
#[test]
fn decays_that_are_no_exponentials() {
    slow("input a : [B,T,H];", "decay d[t] = a[t]; update S additive(k, v);", &[("a", 1.0 - 1e-5)]);
    slow("param p : [H];", "decay d = 1 - p; update S additive(k, v);", &[("p", 3.0517578125e-5)]);
}

#[test]
fn recurrences_without_a_chunked_form() {
    let recurrent = &FORMS[..1];
    let matrix = "input x : [B,T,H,K]; param p : [K,V];";
    let constant = [("x", 1e-3), ("p", 1e-2)];
    check(matrix, "decay a[t] = exp(-(diag(x[t]) * p)); update S additive(k, v);", &[&constant], recurrent);
    let bent = "update S[t] = exp(g[t]) * S[t-1] + k[t] * (v[t] + tanh(S[t-1]' * k[t]))';";
    check("input g : [B,T,H];", bent, &[&[("g", -1e-5)]], recurrent);
}

/// Token by token, the state handed over by the caller.
#[test]
fn a_state_carried_from_call_to_call() {
    let variant = variant("input g : [B,T,H];", "decay a[t] = exp(g[t]); update S additive(k, v);");
    let whole = sizes(&variant, 8192);
    let inputs = inputs(&variant, &whole, &[("g", -1e-4)]);
    let none = Tensors::new();
    let request = Request { variant: &variant, sizes: &whole, inputs: &inputs, initial: &none, threads: 1 };
    let want = reference::results(request).unwrap_or_else(|e| panic!("{e}"));
    let want = want.states.into_iter().map(|(name, array)| (name, array.data)).collect();
    let one = sizes(&variant, 1);
    for backend in [Backend::Cranelift, Backend::Llvm].into_iter().filter(|backend| backend.devices().is_ok()) {
        let mut engine = Engine::new();
        let mut state = Tensors::new();
        for t in 0..8192 {
            let token = inputs.iter().map(|(name, x)| (name.clone(), x.slice(1, t..t + 1))).collect();
            let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 64 };
            let request = Request { variant: &variant, sizes: &one, inputs: &token, initial: &state, threads: 1 };
            let got = engine.run(request, plan).unwrap_or_else(|e| panic!("{e}"));
            state = got.states.into_iter().collect();
        }
        let error = deviation(state.iter(), &want);
        assert!(error <= BOUND, "{}: {error:.1e}", backend.name());
    }
}

//! States that decay into silence: what falls below the normal range counts as 0, everything else is right, and the mode in
//! which it does so is the kernels' alone.
#![cfg(any(feature = "cranelift", feature = "llvm"))]

use std::hint::black_box;

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, bind_dims},
};
use chunkwise_dsl::{compile, source::Source, typed::Variant};
use chunkwise_runtime::{Backend, Engine, Plan, Request, Tensor, Tensors};

const TEXT: &str = "variant f { axes B, T, K, V; input q, k, g : [B,T,K], v : [B,T,V]; state S : [K,V] = 0; \
                    decay a[t] = exp(g[t]); update S additive(k, v); output o[t] = S[t]' * q[t]; }";
const WIDTH: usize = 20;
const TOKENS: usize = 300;

fn variant() -> Variant {
    compile(&Source::new("f.attn", TEXT), &[]).expect("the program checks").variants.remove(0)
}

fn sizes(variant: &Variant, tokens: usize) -> Sizes {
    let dims = [("B", 2), ("T", tokens), ("K", WIDTH), ("V", WIDTH)];
    bind_dims(variant, &dims.map(|(name, n)| (name.to_string(), n))).expect("the sizes fit")
}

/// One token, then silence: the state halves with every token.
fn silence(tokens: usize) -> Tensors {
    let of = |first: f32, rest: f32| {
        let one = |at: usize| if (at / WIDTH).is_multiple_of(tokens) { first + at as f32 * 1e-3 } else { rest };
        Tensor::f32(vec![2, tokens, WIDTH], (0..2 * tokens * WIDTH).map(one).collect())
    };
    let half = Tensor::f32(vec![2, tokens, WIDTH], vec![-std::f32::consts::LN_2; 2 * tokens * WIDTH]);
    [("q", of(1.0, 1.0)), ("k", of(1.0, 0.5)), ("v", of(1.0, 0.0)), ("g", half)]
        .map(|(name, x)| (name.to_string(), x))
        .into()
}

/// Every back end and plan of the variant.
fn plans() -> impl Iterator<Item = Plan> {
    let backends = [Backend::Cranelift, Backend::Llvm].into_iter().filter(|backend| backend.usable());
    backends.flat_map(|backend| {
        let plan = |form, schedule, chunk| Plan { backend, form, schedule, chunk };
        [
            plan(Form::Recurrent, Schedule::Fused, 1),
            plan(Form::Chunked, Schedule::Fused, 16),
            plan(Form::Chunked, Schedule::Split, 64),
        ]
    })
}

/// Whether subnormal numbers are numbers in this thread.
fn usual() -> bool {
    black_box(1e-39f32) * black_box(0.5) > 0.0
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64().into_iter().map(|x| x as f32).collect()
}

#[test]
fn a_state_decays_to_zero_through_no_subnormal_number() {
    let variant = variant();
    let (sizes, tensors, none) = (sizes(&variant, TOKENS), silence(TOKENS), Tensors::new());
    let request = Request { variant: &variant, sizes: &sizes, inputs: &tensors, initial: &none, threads: 2 };
    let mut engine = Engine::new();
    for plan in plans() {
        let want = engine.run(request, Plan { backend: Backend::Reference, ..plan }).expect("the reference runs");
        let got = engine.run(request, plan).expect("the kernel runs");
        assert!(usual(), "{plan:?} leaves the mode that was");
        let tensors = got.outputs.iter().chain(&got.states).zip(want.outputs.iter().chain(&want.states));
        for ((name, got), (_, want)) in tensors {
            let (got, want) = (floats(got), floats(want));
            assert!(got.iter().all(|x| *x == 0.0 || x.is_normal()), "{name} {plan:?}");
            // A sum over K terms loses those that are below the normal range, and what a state loses at a token may be: one
            // below twice the least normal number then stays as it is.
            let lost = 2.0 * WIDTH as f32 * f32::MIN_POSITIVE;
            let near = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-4 * want.abs() + lost;
            assert!(got.iter().zip(&want).all(near), "{name} {plan:?}");
        }
        let end = floats(&want.states[0].1);
        assert!(end.iter().all(|x| *x < f32::MIN_POSITIVE), "the state goes below the normal range");
    }
}

#[test]
fn a_session_leaves_the_mode_after_every_call() {
    let variant = variant();
    let (sizes, tensors) = (sizes(&variant, 1), silence(1));
    let tiny = Tensors::from([("S".to_string(), Tensor::f32(vec![2, WIDTH, WIDTH], vec![1e-39; 2 * WIDTH * WIDTH]))]);
    let still = Tensors::from([("v".to_string(), Tensor::zeros(vec![2, 1, WIDTH]))]);
    let quiet: Tensors = tensors.into_iter().chain(still).collect();
    for plan in plans() {
        let mut session = Engine::new().session(&variant, &sizes, plan, 2).expect("the session opens");
        session.set_states(&tiny).expect("the state fits");
        for _ in 0..3 {
            session.step(&quiet).expect("a call runs");
            assert!(usual(), "{plan:?}");
            assert!(session.outputs().all(|(_, o)| o.values.iter().all(|x| *x == 0.0)), "{plan:?}");
        }
        assert!(session.states().all(|(_, state)| state.values.iter().all(|x| *x == 0.0)), "{plan:?}");
    }
}

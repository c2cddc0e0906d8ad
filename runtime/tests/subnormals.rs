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

/// Decays of rows, of all elements, of columns and of both sides. `g` is as wide as `q`, `h` as `v`, `f` a number.
const UPDATES: [&str; 4] = [
    "decay a[t] = exp(g[t]); update S additive(k, v);",
    "decay a[t] = exp(f[t]); update S additive(k, v);",
    "update S[t] = S[t-1] * diag(exp(h[t])) + k[t] * v[t]';",
    "update S[t] = diag(exp(g[t])) * S[t-1] * diag(exp(h[t])) + k[t] * v[t]';",
];
const WIDTH: usize = 20;
const TOKENS: usize = 300;

fn variant(update: &str) -> Variant {
    let text = format!(
        "variant f {{ axes B, T, K, V; input q, k, g : [B,T,K], v, h : [B,T,V], f : [B,T]; state S : [K,V] = 0; {update} \
         output o[t] = S[t]' * q[t]; }}"
    );
    compile(&Source::new("f.attn", text), &[]).expect("the program checks").variants.remove(0)
}

fn sizes(variant: &Variant, tokens: usize) -> Sizes {
    let dims = [("B", 2), ("T", tokens), ("K", WIDTH), ("V", WIDTH)];
    bind_dims(variant, &dims.map(|(name, n)| (name.to_string(), n))).expect("the sizes fit")
}

/// One token, then silence: decays are exp(rate) at every token.
fn silence(tokens: usize, rate: f32) -> Tensors {
    let of = |first: f32, rest: f32| {
        let one = |at: usize| if (at / WIDTH).is_multiple_of(tokens) { first + at as f32 * 1e-3 } else { rest };
        Tensor::f32(vec![2, tokens, WIDTH], (0..2 * tokens * WIDTH).map(one).collect())
    };
    let wide = Tensor::f32(vec![2, tokens, WIDTH], vec![rate; 2 * tokens * WIDTH]);
    let one = Tensor::f32(vec![2, tokens], vec![rate; 2 * tokens]);
    [("q", of(1.0, 1.0)), ("k", of(1.0, 0.5)), ("v", of(1.0, 0.0)), ("g", wide.clone()), ("h", wide), ("f", one)]
        .map(|(name, x)| (name.to_string(), x))
        .into()
}

/// A state as small as `x`.
fn small(x: f32) -> Tensors {
    Tensors::from([("S".to_string(), Tensor::f32(vec![2, WIDTH, WIDTH], vec![x; 2 * WIDTH * WIDTH]))])
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

/// Every plan's results beside the reference's.
fn check(update: &str, (inputs, initial): (&Tensors, &Tensors)) {
    let variant = variant(update);
    let sizes = sizes(&variant, TOKENS);
    let request = Request { variant: &variant, sizes: &sizes, inputs, initial, threads: 2 };
    let mut engine = Engine::new();
    for plan in plans() {
        let want = engine.run(request, Plan { backend: Backend::Reference, ..plan }).expect("the reference runs");
        let got = engine.run(request, plan).expect("the kernel runs");
        assert!(usual(), "{plan:?} leaves the mode that was");
        let tensors = got.outputs.iter().chain(&got.states).zip(want.outputs.iter().chain(&want.states));
        for ((name, got), (_, want)) in tensors {
            let (got, want) = (floats(got), floats(want));
            assert!(got.iter().all(|x| *x == 0.0 || x.is_normal()), "{name} {plan:?} of {update}");
            // A sum over K terms loses those that are below the normal range.
            let lost = WIDTH as f32 * f32::MIN_POSITIVE;
            let near = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-4 * want.abs() + lost;
            assert!(got.iter().zip(&want).all(near), "{name} {plan:?} of {update}");
        }
        let end = floats(&want.states[0].1);
        assert!(end.iter().all(|x| *x < f32::MIN_POSITIVE), "the state goes below the normal range");
        assert!(got.states.iter().all(|(_, state)| floats(state).iter().all(|x| *x == 0.0)), "{plan:?} of {update}");
    }
}

#[test]
fn a_state_decays_to_zero_through_no_subnormal_number() {
    for update in UPDATES {
        check(update, (&silence(TOKENS, -std::f32::consts::LN_2), &Tensors::new()));
    }
}

/// What a slow decay takes off a small state is below the normal range itself.
#[test]
fn a_small_state_decays_to_zero_slowly() {
    let still = Tensors::from([("v".to_string(), Tensor::zeros(vec![2, TOKENS, WIDTH]))]);
    let quiet: Tensors = silence(TOKENS, -0.01).into_iter().chain(still).collect();
    for update in UPDATES {
        check(update, (&quiet, &small(1e-37)));
    }
}

#[test]
fn a_session_leaves_the_mode_after_every_call() {
    let still = Tensors::from([("v".to_string(), Tensor::zeros(vec![2, 1, WIDTH]))]);
    let quiet: Tensors = silence(1, -0.01).into_iter().chain(still).collect();
    for (update, plan) in UPDATES.into_iter().flat_map(|update| plans().map(move |plan| (update, plan))) {
        let variant = variant(update);
        let sizes = sizes(&variant, 1);
        let mut session = Engine::new().session(&variant, &sizes, plan, 2).expect("the session opens");
        session.set_states(&small(1e-39)).expect("the state fits");
        for _ in 0..3 {
            session.step(&quiet).expect("a call runs");
            assert!(usual(), "{plan:?}");
            assert!(session.outputs().all(|(_, o)| o.values.iter().all(|x| *x == 0.0)), "{plan:?}");
        }
        assert!(session.states().all(|(_, state)| state.values.iter().all(|x| *x == 0.0)), "{plan:?}");
        session.set_states(&small(1e-37)).expect("the state fits");
        (0..TOKENS).for_each(|_| session.step(&quiet).expect("a call runs"));
        assert!(session.states().all(|(_, state)| state.values.iter().all(|x| *x == 0.0)), "{plan:?} of {update}");
    }
}

//! Calls that go on from each other give what one call over all tokens gives, on every back end present, whether states
//! stay in place or change places.

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, bind_dims},
};
use chunkwise_dsl::{compile, source::Source, typed::Variant};
use chunkwise_runtime::{
    Backend, Engine, Plan, Request, Tensor, Tensors,
    draw::{Gates, inputs},
};

const TOKENS: usize = 1;

/// A state that lies along V, one that does not, and a declared value that is a tensor's.
const TEXT: &str = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H]; \
                    param z0 : [H,K]; state S : [K,V] = 0, z : [K] = z0; decay a[t] = exp(g[t]); \
                    update S additive(k, v); update z additive(k); \
                    output o[t] = S[t]' * q[t] + z[t]' * q[t]; check draw(g = logdecay); }";

fn variant() -> Variant {
    compile(&Source::new("f.attn", TEXT), &[]).expect("the program checks").variants.remove(0)
}

fn sizes(variant: &Variant, (batch, heads): (usize, usize), tokens: usize) -> Sizes {
    let dims = [("B", batch), ("T", tokens), ("H", heads), ("K", 12), ("V", 20)];
    bind_dims(variant, &dims.map(|(name, n)| (name.to_string(), n))).expect("the sizes fit")
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).fold(0.0, |worst, (got, want)| worst.max((f64::from(*got) - want).abs()))
}

fn slice(all: &Tensors, range: std::ops::Range<usize>) -> Tensors {
    let cut = |name: &String, tensor: &Tensor| {
        if name == "z0" { tensor.clone() } else { tensor.slice(TOKENS, range.clone()) }
    };
    all.iter().map(|(name, tensor)| (name.clone(), cut(name, tensor))).collect()
}

#[test]
fn calls_go_on_from_each_other() {
    let variant = variant();
    for (backend, (batch, heads), threads) in [Backend::Reference, Backend::Cranelift, Backend::Llvm, Backend::Wgpu]
        .into_iter()
        .filter(|backend| backend.usable())
        .flat_map(|backend| [((2, 3), 1), ((2, 3), 2), ((1, 1), 2)].map(|(items, threads)| (backend, items, threads)))
    {
        let all = sizes(&variant, (batch, heads), 9);
        let tensors = inputs(&variant, &all, Gates::Plain, 7);
        let none = Tensors::new();
        let request = Request { variant: &variant, sizes: &all, inputs: &tensors, initial: &none, threads: 1 };
        let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
        let mut engine = Engine::new();
        let whole = engine.run(request, Plan { backend: Backend::Reference, ..plan }).unwrap();
        let few = sizes(&variant, (batch, heads), 3);
        let mut session = engine.session(&variant, &few, plan, threads).unwrap();
        for _ in 0..2 {
            for call in 0..3 {
                let range = 3 * call..3 * call + 3;
                session.step(&slice(&tensors, range.clone())).unwrap();
                let want = whole.outputs[0].1.slice(TOKENS, range).to_f64();
                let (name, view) = session.outputs().next().unwrap();
                assert_eq!((name, view.shape), ("o", &[batch, 3, heads, 20][..]));
                let off = worst(view.values, &want);
                assert!(off < 1e-3, "{} call {call}: off by {off:.1e}", backend.name());
            }
            for ((name, state), (known, want)) in session.states().zip(&whole.states) {
                assert_eq!(name, known);
                assert!(worst(state.values, &want.to_f64()) < 1e-3, "{} {name}", backend.name());
            }
            session.reset();
        }
    }
}

#[test]
fn states_are_set_between_calls_and_wrong_ones_refused() {
    let variant = variant();
    let one = sizes(&variant, (1, 2), 1);
    let tensors = inputs(&variant, &one, Gates::Plain, 3);
    for backend in
        [Backend::Reference, Backend::Cranelift, Backend::Llvm].into_iter().filter(|backend| backend.usable())
    {
        let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
        let mut session = Engine::new().session(&variant, &one, plan, 1).unwrap();
        session.step(&tensors).unwrap();
        let first: Vec<f32> = session.outputs().next().unwrap().1.values.to_vec();
        let given = Tensors::from([
            ("S".to_string(), Tensor::zeros(vec![1, 2, 12, 20])),
            (
                "z".to_string(),
                Tensor::f32(
                    vec![1, 2, 12],
                    match &tensors["z0"].data {
                        chunkwise_runtime::Data::F32(data) => data.to_vec(),
                        chunkwise_runtime::Data::I32(_) => unreachable!("the param is f32"),
                    },
                ),
            ),
        ]);
        session.set_states(&given).unwrap();
        session.step(&tensors).unwrap();
        let second = session.outputs().next().unwrap().1.values;
        assert!(worst(second, &first.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) < 1e-6, "{}", backend.name());

        let wrong = Tensors::from([("S".to_string(), Tensor::zeros(vec![1, 2, 20, 12]))]);
        assert!(session.set_states(&wrong).is_err());
        assert!(session.set_states(&Tensors::from([("o".to_string(), Tensor::zeros(vec![1]))])).is_err());
        assert!(session.step(&Tensors::new()).is_err());
    }
}

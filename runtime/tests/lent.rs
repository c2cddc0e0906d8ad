//! Runs on memory that others own give what runs on tensors of the runtime give, and what does not fit is refused.

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, bind_dims},
};
use chunkwise_dsl::{compile, source::Source, typed::Variant};
use chunkwise_runtime::{
    Backend, Data, Engine, Input, Lent, Plan, Request, Tensor, Tensors,
    draw::{Gates, inputs, states},
};

/// A state whose declared value is a number, and one whose is a tensor's.
const TEXT: &str = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; param z0 : [H,K]; \
                    state S : [K,V] = 0, z : [K] = z0; update S additive(k, v); update z additive(k); \
                    output o[t] = S[t]' * q[t] + z[t]' * q[t]; }";

fn variant(text: &str) -> Variant {
    compile(&Source::new("f.attn", text), &[]).expect("the program checks").variants.remove(0)
}

fn sizes(variant: &Variant) -> Sizes {
    let dims = [("B", 2), ("T", 9), ("H", 3), ("K", 4), ("V", 5)];
    bind_dims(variant, &dims.map(|(name, n)| (name.to_string(), n))).expect("the sizes fit")
}

fn plan(backend: Backend) -> Plan {
    Plan { backend, form: Form::Chunked, schedule: Schedule::Fused, chunk: 4 }
}

fn lent<'a>(variant: &Variant, tensors: &'a Tensors) -> Vec<Input<'a>> {
    let input = |tensor: &'a Tensor| match &tensor.data {
        Data::F32(data) => Input::F32(data),
        Data::I32(data) => Input::I32(data),
    };
    variant.tensors.iter().map(|declared| input(&tensors[&declared.name])).collect()
}

#[test]
fn lent_memory_is_filled_as_the_runtime_fills_its_own() {
    let variant = variant(TEXT);
    let sizes = sizes(&variant);
    let tensors = inputs(&variant, &sizes, Gates::Plain, 3);
    let given = states(&variant, &sizes, 5).unwrap();
    for backend in [Backend::Cranelift, Backend::Llvm, Backend::Wgpu].into_iter().filter(|of| of.usable()) {
        let mut engine = Engine::new();
        let ready = engine.ready((&variant, &sizes), plan(backend), 2).unwrap();
        for named in [&[][..], &["S"], &["S", "z"]] {
            let initial: Tensors = given.iter().filter(|(name, _)| named.contains(&name.as_str())).map(owned).collect();
            let request = Request { variant: &variant, sizes: &sizes, inputs: &tensors, initial: &initial, threads: 2 };
            let want = engine.run(request, plan(backend)).unwrap();
            let start = ["S", "z"].map(|name| initial.get(name).and_then(Tensor::floats));
            // What lies there before is nothing that kernels may read.
            let before = |len: usize| vec![f32::NAN; len];
            let (mut o, mut o_alone) = (before(2 * 9 * 3 * 5), before(2 * 9 * 3 * 5));
            let (mut s, mut z) = (before(2 * 3 * 4 * 5), before(2 * 3 * 4));
            let (inputs, initial) = (lent(&variant, &tensors), start.to_vec());
            let (outputs, states) = (vec![&mut o[..]], vec![&mut s[..], &mut z[..]]);
            ready.run(Lent { inputs: inputs.clone(), initial: initial.clone(), outputs, states }).unwrap();
            ready.run(Lent { inputs, initial, outputs: vec![&mut o_alone[..]], states: Vec::new() }).unwrap();
            assert_eq!(want.outputs[0].1.floats(), Some(&o[..]), "{} {named:?}", backend.name());
            assert_eq!(o, o_alone);
            assert_eq!([want.states[0].1.floats(), want.states[1].1.floats()], [Some(&s[..]), Some(&z[..])]);
        }
    }
}

#[test]
fn states_go_on_where_they_lie() {
    let variant = variant(TEXT);
    let sizes = sizes(&variant);
    let tensors = inputs(&variant, &sizes, Gates::Plain, 3);
    let given = states(&variant, &sizes, 5).unwrap();
    for backend in [Backend::Cranelift, Backend::Llvm].into_iter().filter(|of| of.usable()) {
        let mut engine = Engine::new();
        let request = Request { variant: &variant, sizes: &sizes, inputs: &tensors, initial: &given, threads: 2 };
        let want = engine.run(request, plan(backend)).unwrap();
        let ready = engine.ready_in_place((&variant, &sizes), plan(backend), 2).unwrap().unwrap();
        let mut o = vec![f32::NAN; 2 * 9 * 3 * 5];
        let [mut s, mut z] = ["S", "z"].map(|name| given[name].floats().unwrap().to_vec());
        let none = vec![None, None];
        let (inputs, states) = (lent(&variant, &tensors), vec![&mut s[..], &mut z[..]]);
        ready.run(Lent { inputs: inputs.clone(), initial: none.clone(), outputs: vec![&mut o[..]], states }).unwrap();
        assert_eq!(want.outputs[0].1.floats(), Some(&o[..]), "{}", backend.name());
        assert_eq!([want.states[0].1.floats(), want.states[1].1.floats()], [Some(&s[..]), Some(&z[..])]);
        let placeless = Lent { inputs, initial: none, outputs: vec![&mut o[..]], states: Vec::new() };
        let told = ready.run(placeless).unwrap_err().to_string();
        assert_eq!(told, "the states of `f` are kept in place: give them as such");
    }
}

fn owned((name, tensor): (&String, &Tensor)) -> (String, Tensor) {
    (name.clone(), tensor.clone())
}

#[test]
fn what_does_not_fit_is_refused() {
    let variant = variant(TEXT);
    let sizes = sizes(&variant);
    let tensors = inputs(&variant, &sizes, Gates::Plain, 3);
    let mut engine = Engine::new();
    assert!(engine.ready((&variant, &sizes), plan(Backend::Reference), 1).is_err());
    if !Backend::Cranelift.usable() {
        return;
    }
    let ready = engine.ready((&variant, &sizes), plan(Backend::Cranelift), 1).unwrap();
    let (mut o, mut short) = (vec![0.0; 2 * 9 * 3 * 5], vec![0.0; 7]);
    let none: Vec<Option<&[f32]>> = vec![None, None];
    let told = |lent: Lent<'_>| ready.run(lent).unwrap_err().to_string();
    let (all, states) = (lent(&variant, &tensors), Vec::new);
    let inputs = all[1..].to_vec();
    let few = Lent { inputs, initial: none.clone(), outputs: vec![&mut o[..]], states: states() };
    assert_eq!(told(few), "`f` has 4 inputs, and 3 are given");
    let few = Lent { inputs: all.clone(), initial: vec![None], outputs: vec![&mut o[..]], states: states() };
    assert_eq!(told(few), "`f` has 2 states, and 1 are given");
    let few = Lent { inputs: all.clone(), initial: none.clone(), outputs: Vec::new(), states: states() };
    assert_eq!(told(few), "`f` has 1 outputs, and 0 are given");
    let shorter = Lent { inputs: all, initial: none, outputs: vec![&mut short[..]], states: states() };
    assert_eq!(told(shorter), "`o` has 7 elements, but its shape has 270");
}

#[test]
fn what_by_gives_is_checked_wherever_it_comes_from() {
    let text = "variant f { axes B, T, K; input x : [B,T,K], perm : i32 [B,T]; order causal(by = perm); \
                output o[i] = sum[j](x[j]); }";
    let variant = variant(text);
    let sizes = bind_dims(&variant, &[("B", 1), ("T", 3), ("K", 4)].map(|(name, n)| (name.to_string(), n))).unwrap();
    let (x, perm) = (Tensor::f32(vec![1, 3, 4], vec![1.0; 12]), |third| Tensor::i32(vec![1, 3], vec![0, 1, third]));
    let plan = Plan { form: Form::Parallel, ..plan(Backend::Cranelift) };
    let mut engine = Engine::new();
    if !Backend::Cranelift.usable() {
        return;
    }
    let ready = engine.ready((&variant, &sizes), plan, 1).unwrap();
    let mut session = engine.session(&variant, &sizes, plan, 1).unwrap();
    for (third, fits) in [(2, true), (1, false), (1 << 20, false)] {
        let tensors = Tensors::from([("x".to_string(), x.clone()), ("perm".to_string(), perm(third))]);
        let mut o = [0.0; 12];
        let (inputs, outputs) = (lent(&variant, &tensors), vec![&mut o[..]]);
        let done = ready.run(Lent { inputs, initial: Vec::new(), outputs, states: Vec::new() });
        assert_eq!(done.is_ok(), fits, "{done:?}");
        assert_eq!(session.step(&tensors).is_ok(), fits);
    }
}

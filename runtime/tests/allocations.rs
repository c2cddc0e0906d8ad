//! What a call of a session costs beside its kernels: no memory from the allocator, once it has begun.
#![cfg(any(feature = "cranelift", feature = "llvm"))]

use chunkwise_compiler::{Form, Schedule, bind::bind_dims};
use chunkwise_dsl::{compile, source::Source};
use chunkwise_runtime::{
    Backend, Engine, Plan,
    draw::{Gates, inputs},
};

/// Writes a rank, and reads the state before it: a delta rule with a decay.
const DELTA: &str = "variant delta { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, b : [B,T,H]; \
                     order causal; state S : [K,V] = 0; decay a[t] = exp(g[t]); update S delta(k, v, b); \
                     output o[t] = S[t]' * q[t]; check draw(g = logdecay, b = sigmoid); }";

#[test]
fn calls_of_a_session_allocate_nothing() {
    let variant = compile(&Source::new("d.attn", DELTA), &[]).expect("the program checks").variants.remove(0);
    let seen = allocation_counter::measure(|| drop(vec![1u8; 64]));
    assert_eq!(seen.count_total, 1, "what is allocated is counted");
    for backend in [Backend::Cranelift, Backend::Llvm].into_iter().filter(|backend| backend.usable()) {
        for (tokens, threads) in [(1, 1), (1, 2), (5, 1), (5, 2)] {
            let dims = [("B", 2), ("T", tokens), ("H", 4), ("K", 32), ("V", 48)];
            let sizes = bind_dims(&variant, &dims.map(|(name, n)| (name.to_string(), n))).expect("the sizes fit");
            let tensors = inputs(&variant, &sizes, Gates::Plain, 3);
            let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
            let mut session = Engine::new().session(&variant, &sizes, plan, threads).expect("the session opens");
            // The first call places the initial states and wakes the threads.
            session.step(&tensors).expect("a call runs");
            let counted = allocation_counter::measure(|| (0..20).for_each(|_| session.step(&tensors).expect("a call")));
            assert_eq!(counted.count_total, 0, "{} of {tokens} tokens on {threads} threads", backend.name());
        }
    }
}

//! What is chosen by the built-in rates: directions that hold on any machine, no times.

use chunkwise_compiler::bind::bind_dims;
use chunkwise_dsl::{compile, source::Source};

use super::*;

const ADDITIVE: &str = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; \
                        state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t]; }";

const DELTA: &str = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H]; \
                     state S : [K,V] = 0; decay a[t] = exp(g[t]); update S delta(k, v, beta); \
                     output o[t] = S[t]' * q[t]; check draw(g = logdecay, beta = sigmoid); }";

fn variant(text: &str) -> Variant {
    compile(&Source::new("f.attn", text), &[]).unwrap().variants.remove(0)
}

fn sizes(variant: &Variant, (heads, tokens, width): (usize, usize, usize)) -> Sizes {
    let dims = [("B", 1), ("H", heads), ("T", tokens), ("K", width), ("V", width)];
    bind_dims(variant, &dims.map(|(name, n)| (name.to_string(), n))).unwrap()
}

/// What is cheapest for 8 heads in one thread.
fn cheapest(text: &str, (tokens, width): (usize, usize), wish: Wish) -> Candidate {
    let variant = variant(text);
    let wish = Wish { threads: Some(1), ..wish };
    let all = priced(&mut Engine::new(), (&variant, &sizes(&variant, (8, tokens, width))), Backend::Llvm, wish);
    all.into_iter().next().unwrap()
}

#[test]
fn chunks_run_apart_where_there_is_little_else_to_do() {
    let variant = variant(ADDITIVE);
    let of = |heads: usize, tokens: usize, backend: Backend| {
        let sizes = sizes(&variant, (heads, tokens, 64));
        let plan = Plan { backend, form: Form::Chunked, schedule: Schedule::Fused, chunk: 64 };
        let workers = if backend == Backend::Wgpu { 256 } else { 2 };
        schedule(&mut Engine::new(), &variant, &sizes, (plan, workers)).0
    };
    assert_eq!(of(1, 16384, Backend::Wgpu), Schedule::Split);
    assert_eq!(of(1, 64, Backend::Wgpu), Schedule::Fused);
    assert_eq!(of(512, 16384, Backend::Wgpu), Schedule::Fused);
    assert_eq!(of(8, 16384, Backend::Llvm), Schedule::Fused);
}

#[test]
fn one_token_is_stepped_and_many_are_chunked() {
    for text in [ADDITIVE, DELTA] {
        assert_eq!(cheapest(text, (1, 128), Wish::default()).form, Form::Recurrent);
        for tokens in [512, 2048, 8192] {
            let choice = cheapest(text, (tokens, 128), Wish::default());
            assert_eq!(choice.form, Form::Chunked, "{}", choice.price());
        }
    }
}

#[test]
fn more_to_choose_from_is_never_dearer() {
    for (tokens, width) in [(1, 64), (64, 64), (512, 128)] {
        let free = cheapest(DELTA, (tokens, width), Wish::default()).nanoseconds;
        for chunk in CHUNKS {
            let wish = Wish { form: Some(Form::Chunked), chunk: Some(chunk), ..Wish::default() };
            assert!(free <= cheapest(DELTA, (tokens, width), wish).nanoseconds * 1.0001);
        }
        for form in [Form::Recurrent, Form::Chunked] {
            let wish = Wish { form: Some(form), ..Wish::default() };
            assert!(free <= cheapest(DELTA, (tokens, width), wish).nanoseconds);
        }
    }
}

#[test]
fn chunks_as_long_as_the_sequence_are_priced_once() {
    let of = |tokens| chunks((Form::Chunked, Wish::default()), tokens);
    assert_eq!([of(1), of(9), of(64)], [vec![8], vec![8, 16], vec![8, 16, 32, 64]]);
    assert_eq!(of(4096), CHUNKS);
}

#[test]
fn two_threads_are_worth_more_than_one() {
    let variant = variant(DELTA);
    for heads in [1, 8] {
        let price = |threads| {
            let wish = Wish { threads: Some(threads), ..Wish::default() };
            let sizes = sizes(&variant, (heads, 4096, 128));
            priced(&mut Engine::new(), (&variant, &sizes), Backend::Llvm, wish)[0].nanoseconds
        };
        assert!(price(2) < price(1));
    }
}

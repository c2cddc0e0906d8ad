//! Prefill, then decode: a prompt in one call, then one token a call, each starting from the state that the one before
//! left. The outputs are those of a single call over all the tokens. A session keeps the states and all else that a call
//! of one token needs.
//!
//! `cargo run --release -p chunkwise --features llvm --example decode`; without `--features llvm` Cranelift
//! compiles it.

use std::{error::Error, fs, ops::Range, time::Instant};

use chunkwise_compiler::{bind::Sizes, bind::bind_dims};
use chunkwise_dsl::{compile, render::render, source::Source, typed::Variant};
use chunkwise_runtime::{
    Engine, Outputs, Request, Tensors,
    choose::{Wish, choose},
    draw::{Gates, inputs},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gated_deltanet.attn");
/// Tokens of the prompt, and tokens decoded after it.
const PROMPT: usize = 150;
const DECODED: usize = 10;
/// The axis of tokens in every tensor of this variant: `[B,T,H,..]`.
const TOKENS: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let source = Source::new("gated_deltanet.attn", fs::read_to_string(FILE)?);
    let program = compile(&source, &[]).map_err(|found| render(&found, &source))?;
    let variant = &program.variants[0];
    let all = inputs(variant, &sizes(variant, PROMPT + DECODED)?, Gates::Plain, 1);
    let mut engine = Engine::new();

    let whole = call(&mut engine, variant, &all, &Tensors::new())?;
    let prefill = call(&mut engine, variant, &part(&all, 0..PROMPT), &Tensors::new())?;
    println!("prefill: {PROMPT} tokens in {:?}", prefill.kernel_time);

    let one = sizes(variant, 1)?;
    let plan = choose(&mut engine, variant, &one, Wish::default())?.plan;
    let mut session = engine.session(variant, &one, plan, 1)?;
    session.set_states(&prefill.states.into_iter().collect())?;
    for token in PROMPT..PROMPT + DECODED {
        let inputs = part(&all, token..token + 1);
        let clock = Instant::now();
        session.step(&inputs)?;
        let time = clock.elapsed();
        let (name, decoded) = session.outputs().next().ok_or("the variant has no output")?;
        let expected = whole.outputs[0].1.slice(TOKENS, token..token + 1);
        let differences = decoded.values.iter().zip(expected.to_f64()).map(|(a, b)| (f64::from(*a) - b).abs());
        let worst = differences.fold(0.0, f64::max);
        println!("decode:  token {token} in {time:?}, {name} within {worst:.1e} of the single call");
    }
    Ok(())
}

/// One call with the plan that suits its number of tokens.
fn call(
    engine: &mut Engine,
    variant: &Variant,
    inputs: &Tensors,
    initial: &Tensors,
) -> Result<Outputs, Box<dyn Error>> {
    let sizes = sizes(variant, inputs["q"].shape[TOKENS])?;
    let plan = choose(engine, variant, &sizes, Wish::default())?.plan;
    Ok(engine.run(Request { variant, sizes: &sizes, inputs, initial, threads: 1 }, plan)?)
}

/// Some of the tokens of every input.
fn part(inputs: &Tensors, range: Range<usize>) -> Tensors {
    inputs.iter().map(|(name, tensor)| (name.clone(), tensor.slice(TOKENS, range.clone()))).collect()
}

fn sizes(variant: &Variant, tokens: usize) -> Result<Sizes, String> {
    let dims = [("B", 1), ("T", tokens), ("H", 2), ("K", 64), ("V", 48)].map(|(name, size)| (name.to_string(), size));
    bind_dims(variant, &dims).map_err(|errors| format!("{errors:?}"))
}

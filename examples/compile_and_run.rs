//! From a variant's text to numbers, one step at a time: parse, check, bind the sizes, choose a plan, run.
//!
//! `cargo run --release -p chunkwise --features llvm --example compile_and_run`; without `--features llvm` Cranelift
//! compiles it.

use std::error::Error;

use chunkwise_compiler::{bind::bind_dims, report};
use chunkwise_dsl::{compile, render::render, source::Source};
use chunkwise_runtime::{
    Engine, Request, Tensors,
    choose::{Wish, choose},
    draw::{Gates, inputs},
    reference,
};

/// A variant of this program's own: gated linear attention, its gate shared by all key channels.
const TEXT: &str = "
variant scalar_gate {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];
  order   causal;
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);
  update  S additive(k, v);
  output  o[t] = S[t]' * q[t] / sqrt(K);
  check   draw(g = logdecay);
}";

fn main() -> Result<(), Box<dyn Error>> {
    // Text to meaning: parsed and checked. Everything that is wrong is reported, not only the first.
    let source = Source::new("scalar_gate.attn", TEXT);
    let program = compile(&source, &[]).map_err(|found| render(&found, &source))?;
    let variant = &program.variants[0];

    // What the compiler makes of its state, and which forms it therefore has.
    let (states, forms) = report(variant);
    for state in states {
        println!("state {}: {}", state.state, state.class);
    }
    for form in forms {
        match form.missing {
            None => println!("form {}: exists", form.form.name()),
            Some(why) => println!("form {}: {why}", form.form.name()),
        }
    }

    // Sizes are known only now: 1 sequence of 200 tokens, 2 heads.
    let dims = [("B", 1), ("T", 200), ("H", 2), ("K", 48), ("V", 40)].map(|(name, size)| (name.to_string(), size));
    let sizes = bind_dims(variant, &dims).map_err(|errors| format!("{errors:?}"))?;
    let tensors = inputs(variant, &sizes, Gates::Plain, 1);
    let initial = Tensors::new();

    // The cost model's choice of back end, form and chunk length, and its reasons.
    let mut engine = Engine::new();
    let choice = choose(&mut engine, variant, &sizes, Wish::default())?;
    for reason in &choice.reasons {
        println!("chosen: {reason}");
    }

    let request = Request { variant, sizes: &sizes, inputs: &tensors, initial: &initial, threads: 1 };
    let got = engine.run(request, choice.plan)?;
    let want = reference::results(request)?;
    for ((name, tensor), (_, exact)) in got.outputs.iter().zip(&want.outputs) {
        let largest = exact.data.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let errors = tensor.to_f64().into_iter().zip(&exact.data).map(|(got, want)| (got - want).abs());
        println!(
            "{name} : {:?}, error {:.1e} of the largest element",
            tensor.shape,
            errors.fold(0.0, f64::max) / largest
        );
    }
    Ok(())
}

//! Makes a file of inputs for `chunkwise run`: the tensors of `gated_deltanet.attn`, drawn as its `check` says, for 1
//! batch element, 300 tokens, 2 heads, K = 64 and V = 48.
//!
//! `cargo run -p chunkwise --example make_tensors -- in.safetensors`

use std::{env, error::Error, fs, path::Path};

use chunkwise_compiler::bind::bind_dims;
use chunkwise_dsl::{compile, render::render, source::Source};
use chunkwise_runtime::{
    draw::{Gates, inputs},
    tensor,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gated_deltanet.attn");

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("say where to write: make_tensors OUT.safetensors")?;
    let source = Source::new("gated_deltanet.attn", fs::read_to_string(FILE)?);
    let program = compile(&source, &[]).map_err(|found| render(&found, &source))?;
    let variant = &program.variants[0];

    let dims = [("B", 1), ("T", 300), ("H", 2), ("K", 64), ("V", 48)].map(|(name, size)| (name.to_string(), size));
    let sizes = bind_dims(variant, &dims).map_err(|errors| format!("{errors:?}"))?;
    let tensors = inputs(variant, &sizes, Gates::Plain, 1);
    tensor::write(Path::new(&path), &tensors)?;
    for (name, tensor) in &tensors {
        println!("{name} : {:?}", tensor.shape);
    }
    println!("written to {path}");
    Ok(())
}

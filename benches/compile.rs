//! How long it takes from source to a kernel that can be called: gated DeltaNet, chunked, K = V = 128. Prints the median
//! of each part: what the language and the e-graph cost, then lowering, then LLVM.
//!
//! `cargo bench -p chunkwise --features llvm --bench compile`

use std::{error::Error, time::Instant};

use chunkwise_compiler::{Form, Schedule, Tiles, bind::bind_dims, codegen::llvm, form, kernel};
use chunkwise_dsl::source::Source;
use chunkwise_runtime::cpu::{self, Loaded};

const RUNS: usize = 15;
const PARTS: [&str; 4] = ["parse, derive and extract", "lower to kernels", "LLVM", "load"];

fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gated_deltanet.attn");
    let text = std::fs::read_to_string(path)?;
    let target = cpu::host();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let mut marks = vec![Instant::now()];
        let program =
            chunkwise_dsl::compile(&Source::new(path, text.as_str()), &[]).map_err(|_| "it does not check")?;
        let variant = &program.variants[0];
        let plan = form::planned(variant, Form::Chunked, Schedule::Fused)?;
        marks.push(Instant::now());
        let dims = [("B", 1), ("T", 64), ("H", 1), ("K", 128), ("V", 128)].map(|(name, n)| (name.to_string(), n));
        let sizes = bind_dims(variant, &dims).map_err(|errors| format!("{errors:?}"))?;
        let module = kernel::lower::form::lower(variant, &sizes, &plan, Tiles::Whole)?;
        marks.push(Instant::now());
        let code = llvm::emit(&module, &target)?;
        marks.push(Instant::now());
        let loaded = Loaded::new(&module, &code)?;
        marks.push(Instant::now());
        drop(loaded);
        runs.push(marks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect::<Vec<f64>>());
    }
    println!("gated_deltanet, chunked, K = V = 128: median of {RUNS} runs in ms");
    for (place, part) in PARTS.iter().enumerate() {
        println!("  {part:<26} {:8.2}", median(runs.iter().map(|run| run[place])));
    }
    println!("  {:<26} {:8.2}", "from source to kernel", median(runs.iter().map(|run| run.iter().sum())));
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

//! How long it takes from source to a kernel that can be called: gated DeltaNet, chunked, K = V = 128. Prints the median
//! of each part: what the language and the e-graph cost, then lowering, then each code generator that is built in.
//!
//! `cargo bench -p chunkwise --features llvm --bench compile`

use std::{error::Error, time::Instant};

use chunkwise_compiler::{Derivation, Form, Schedule, Tiles, bind::bind_dims, kernel};
use chunkwise_dsl::source::Source;

const RUNS: usize = 15;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// A code generator: from a module to code that can be called, which is dropped at once.
type Generator = (&'static str, fn(&kernel::Checked) -> Fallible<()>);

const GENERATORS: &[Generator] = &[
    #[cfg(feature = "cranelift")]
    ("Cranelift", |module| {
        chunkwise_runtime::cpu::cranelift::load(module, chunkwise_runtime::Precision::F32)?;
        Ok(())
    }),
    #[cfg(feature = "llvm")]
    ("LLVM", |module| {
        chunkwise_runtime::cpu::llvm::load(module)?;
        Ok(())
    }),
];

fn main() -> Fallible<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gated_deltanet.attn");
    let text = std::fs::read_to_string(path)?;
    let mut front = Vec::new();
    let mut back = vec![Vec::new(); GENERATORS.len()];
    for _ in 0..RUNS {
        let mut marks = vec![Instant::now()];
        let program =
            chunkwise_dsl::compile(&Source::new(path, text.as_str()), &[]).map_err(|_| "it does not check")?;
        let variant = &program.variants[0];
        let plan = Derivation::of(variant).plan((Form::Chunked, Schedule::Fused))?;
        marks.push(Instant::now());
        let dims = [("B", 1), ("T", 64), ("H", 1), ("K", 128), ("V", 128)].map(|(name, n)| (name.to_string(), n));
        let sizes = bind_dims(variant, &dims).map_err(|errors| format!("{errors:?}"))?;
        let module = kernel::lower::form::lower(variant, &sizes, &plan, Tiles::Whole)?;
        let module = kernel::check(module).map_err(|errors| errors.join("; "))?;
        marks.push(Instant::now());
        front.push([0, 1].map(|part| milliseconds(marks[part + 1] - marks[part])));
        for ((_, load), times) in GENERATORS.iter().zip(&mut back) {
            let start = Instant::now();
            load(&module)?;
            times.push(milliseconds(start.elapsed()));
        }
    }
    println!("gated_deltanet, chunked, K = V = 128: median of {RUNS} runs in ms");
    let [derive, lower] = [0, 1].map(|part| median(front.iter().map(|times| times[part])));
    println!("  {:<40} {derive:8.2}", "parse, derive and extract");
    println!("  {:<40} {lower:8.2}", "lower to kernels");
    for ((name, _), times) in GENERATORS.iter().zip(&back) {
        let sums = front.iter().zip(times).map(|(front, back)| front.iter().sum::<f64>() + back);
        println!("  {:<40} {:8.2}", format!("{name}: generate and load"), median(times.iter().copied()));
        println!("  {:<40} {:8.2}", format!("{name}: from source to kernel"), median(sums));
        println!("  {:<40} {:8.2}", format!("{name}: the first of the process"), times[0]);
    }
    Ok(())
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

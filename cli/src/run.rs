//! `chunkwise run`: one variant on the tensors of a file.

use std::path::PathBuf;

use chunkwise_runtime::{
    Engine, Outputs, Request,
    choose::{Choice, Wish, choose},
    inputs, tensor,
};
use clap::Args;

use crate::{
    arguments::{OneVariant, Shared},
    failure::Failure,
    print, program,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    /// The input tensors, and initial states
    #[arg(long, value_name = "IN.safetensors")]
    inputs: PathBuf,
    /// Where the outputs and the final states go
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    let wish = Wish {
        backend: shared.backend()?,
        form: shared.form()?,
        schedule: shared.schedule()?,
        chunk: shared.chunk()?,
        threads: Some(shared.threads()),
    };
    let variant = program::load_one(&arguments.which, shared)?;
    let inputs = inputs::load(&variant, &arguments.inputs, &shared.dims).map_err(Failure::Wrong)?;
    let mut engine = Engine::new();
    let choice = choose(&mut engine, &variant, &inputs.sizes, wish)?;
    say(&choice, shared.verbose);
    let request = Request {
        variant: &variant,
        sizes: &inputs.sizes,
        inputs: &inputs.tensors,
        initial: &inputs.initial,
        threads: shared.threads(),
    };
    let outputs = engine.run(request, choice.plan)?;
    if shared.verbose {
        print::note(&format!("ran in {:.3} ms", 1e3 * outputs.kernel_time.as_secs_f64()));
    }
    write(outputs, &arguments.output)
}

fn say(choice: &Choice, verbose: bool) {
    if verbose {
        choice.reasons.iter().for_each(|reason| print::note(&format!("auto: {reason}")));
    } else if choice.fell_back {
        print::note("note: run on the reference, which is slow (-v says why)");
    }
}

fn write(outputs: Outputs, path: &std::path::Path) -> Result<(), Failure> {
    let tensors = outputs.outputs.into_iter().chain(outputs.states).collect();
    tensor::write(path, &tensors).map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

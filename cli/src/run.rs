//! `chunkwise run`: one variant on the tensors of a file.

use std::path::PathBuf;

use chunkwise_compiler::bind::Sizes;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Engine, Outputs, Precision, Request, Settings, Tensor,
    choose::{Choice, Wish, choose},
    inputs, room, suspect, tensor,
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
    let wish = shared.wish()?;
    let variant = program::load_one(&arguments.which, shared)?;
    let inputs = inputs::load(&variant, &arguments.inputs, &shared.dims).map_err(Failure::Wrong)?;
    room::for_tensors(&variant, &inputs.sizes, room::OF_A_RUN)?;
    let mut engine = shared.engine()?;
    let choice = settled(&mut engine, &variant, &inputs.sizes, (shared, wish))?;
    say(&choice, shared.verbose);
    shared.say_precision();
    let request = Request {
        variant: &variant,
        sizes: &inputs.sizes,
        inputs: &inputs.tensors,
        initial: &inputs.initial,
        threads: shared.threads(),
    };
    let outputs = engine.run(request, choice.plan)?;
    suspect::warnings(request, &outputs).iter().for_each(|warning| print::note(&format!("warning: {warning}")));
    if shared.verbose {
        print::note(&format!("ran in {:.3} ms", 1e3 * outputs.kernel_time.as_secs_f64()));
        if shared.precision() != Precision::F32 {
            let exact = Settings { precision: Precision::F32, ..shared.settings() };
            let exact = Engine::with(exact).run(request, choice.plan)?;
            let name = shared.precision().name();
            print::note(&format!("{name} deviates from f32 by {:.1e} at most", deviation(&outputs, &exact)));
        }
    }
    write(outputs, &arguments.output)
}

/// The plan: what was asked for, and the cost model's choice of the rest.
pub(crate) fn settled(
    engine: &mut Engine,
    variant: &Variant,
    sizes: &Sizes,
    (shared, wish): (&Shared, Wish),
) -> Result<Choice, Failure> {
    let choice = choose(engine, variant, sizes, wish)?;
    if shared.precision().backend().is_some_and(|backend| backend != choice.plan.backend) {
        return Err(shared.elsewhere());
    }
    Ok(choice)
}

/// The largest max|got - want| / max|want| of all tensors.
fn deviation(got: &Outputs, want: &Outputs) -> f64 {
    let of_tensor = |((_, got), (_, want)): (&(String, Tensor), &(String, Tensor))| {
        let (got, want) = (got.to_f64(), want.to_f64());
        let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let worst = got.iter().zip(&want).fold(0.0f64, |worst, (got, want)| worst.max((got - want).abs()));
        if largest > 0.0 { worst / largest } else { worst }
    };
    got.all().zip(want.all()).map(of_tensor).fold(0.0, f64::max)
}

pub(crate) fn say(choice: &Choice, verbose: bool) {
    if verbose {
        choice.reasons.iter().for_each(|reason| print::note(&format!("auto: {reason}")));
    } else if choice.fell_back {
        print::note("note: run on the reference, which is slow (-v says why)");
    }
}

pub(crate) fn write(outputs: Outputs, path: &std::path::Path) -> Result<(), Failure> {
    let tensors = outputs.outputs.into_iter().chain(outputs.states).collect();
    tensor::write(path, &tensors).map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

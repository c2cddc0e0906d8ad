//! `chunkwise run`: one variant on the tensors of a file.

use std::path::PathBuf;

use chunkwise_compiler::{Form, adjoint::adjoint, bind::Sizes};
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Backend, Engine, Outputs, Precision, Request, Settings, Tensor,
    choose::{Choice, Wish, choose},
    gradient,
    initial::only_interpreted,
    inputs::{self, Inputs},
    room, suspect,
    tensor::{self, Real},
};
use clap::Args;
use serde_json::json;

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
    /// The gradients instead: IN holds cotangents too, `d_o` of an output `o` and `d_S` of a final state
    #[arg(long)]
    backward: bool,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let wish = arguments.shared.wish()?;
    program::with_one(&arguments.which, &arguments.shared, |variant| of_variant(variant, wish, &arguments))
}

fn of_variant(variant: &Variant, wish: Wish, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.backward {
        return gradients(variant, wish, arguments);
    }
    let inputs = inputs::load(variant, &arguments.inputs, &arguments.shared.dims).map_err(Failure::Wrong)?;
    run_on(variant, &inputs, (wish, arguments), &|outputs| outputs)
}

/// The adjoint on a file's tensors; gradients of what has none by the reference.
fn gradients(primal: &Variant, wish: Wish, arguments: &Arguments) -> Result<(), Failure> {
    let inputs = gradient::load(primal, &arguments.inputs, &arguments.shared.dims).map_err(Failure::Wrong)?;
    let made = match adjoint(primal) {
        Ok(made) => made,
        Err(refusal) if wish.backend == Some(Backend::Reference) => {
            print::note(&format!("by the reference, a run for every entry, which is slow: {refusal}"));
            return write(gradient::by_reference(primal, &inputs)?, &arguments.output);
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let sizes = inputs.sizes.clone();
    run_on(&made.variant, &inputs, (wish, arguments), &|outputs| gradient::gathered(primal, &made, &sizes, outputs))
}

fn run_on(
    variant: &Variant,
    inputs: &Inputs,
    (mut wish, arguments): (Wish, &Arguments),
    finished: &dyn Fn(Outputs) -> Outputs,
) -> Result<(), Failure> {
    let shared = &arguments.shared;
    room::for_tensors(variant, &inputs.sizes, room::OF_A_RUN)?;
    let mut engine = shared.engine()?;
    if let (None, Some(state)) = (wish.backend, only_interpreted(variant, &inputs.sizes, &inputs.initial)) {
        print::note(&format!(
            "run on the reference, which is slow: it alone evaluates the declared value of `{state}`"
        ));
        wish.backend = Some(Backend::Reference);
    }
    let choice = settled(&mut engine, variant, &inputs.sizes, (shared, wish))?;
    say(&choice);
    shared.say_precision();
    let request = Request {
        variant,
        sizes: &inputs.sizes,
        inputs: &inputs.tensors,
        initial: &inputs.initial,
        threads: shared.threads(),
    };
    let outputs = engine.run(request, choice.plan)?;
    suspect::warnings(request, &outputs).iter().for_each(|warning| print::warning(warning));
    if print::verbose() {
        print::detail(&format!("ran in {:.3} ms", 1e3 * outputs.kernel_time.as_secs_f64()));
        if shared.precision() != Precision::F32 {
            let exact = Settings { precision: Precision::F32, ..shared.settings() };
            let exact = Engine::with(exact).run(request, choice.plan)?;
            let name = shared.precision().name();
            print::detail(&format!("{name} deviates from f32 by {:.1e} at most", deviation(&outputs, &exact)));
        }
    }
    let outputs = finished(outputs);
    let object = print::json().then(|| as_json(variant, &outputs, (&choice, arguments)));
    // Gradients and states stay f32.
    let real = if arguments.backward { Real::F32 } else { inputs.real };
    let states: Vec<String> = outputs.states.iter().map(|(name, _)| name.clone()).collect();
    write_as(outputs, &arguments.output, &|name| {
        if states.iter().any(|state| state == name) { Real::F32 } else { real }
    })?;
    object.map_or(Ok(()), |object| print::line(&object))
}

/// What was run, how, and what came out.
fn as_json(variant: &Variant, outputs: &Outputs, (choice, arguments): (&Choice, &Arguments)) -> String {
    let shapes: Vec<_> = outputs.all().map(|(name, tensor)| json!({"name": name, "shape": tensor.shape})).collect();
    let plan = choice.plan;
    json!({
        "variant": variant.name, "backend": plan.backend.name(), "form": plan.form.name(),
        "schedule": plan.schedule.name(), "chunk": (plan.form == Form::Chunked).then_some(plan.chunk),
        "threads": arguments.shared.threads(), "kernel_ms": 1e3 * outputs.kernel_time.as_secs_f64(),
        "output": arguments.output.display().to_string(), "tensors": shapes,
    })
    .to_string()
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
    if shared.asks_of_a_gpu() && choice.plan.backend != Backend::Wgpu {
        return Err(Shared::not_of_a_gpu());
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

pub(crate) fn say(choice: &Choice) {
    if print::verbose() {
        choice.reasons.iter().for_each(|reason| print::detail(&format!("auto: {reason}")));
    } else if choice.fell_back {
        print::note("run on the reference, which is slow (-v says why)");
    }
}

pub(crate) fn write(outputs: Outputs, path: &std::path::Path) -> Result<(), Failure> {
    write_as(outputs, path, &|_| Real::F32)
}

fn write_as(outputs: Outputs, path: &std::path::Path, real: &dyn Fn(&str) -> Real) -> Result<(), Failure> {
    let tensors = outputs.outputs.into_iter().chain(outputs.states).collect();
    tensor::write_as(path, &tensors, real)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

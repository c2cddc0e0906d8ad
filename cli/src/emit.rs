//! `chunkwise emit`: what the compiler made at a stage, as text; the stage `object` is a file to link (`object`).

use std::path::PathBuf;

use chunkwise_compiler::{
    Derivation, Form, Schedule,
    adjoint::adjoint,
    bind::Sizes,
    kernel::{Checked, check, pass},
    stage::{self, Stage},
};
use chunkwise_dsl::{parse::parse, print::file, typed::Variant};
use chunkwise_runtime::{Backend, Precision, choose::exists, request, room, whole};
use clap::Args;
use serde_json::json;

use crate::{
    arguments::{OneVariant, Shared, one_of},
    failure::Failure,
    object, print, program,
    sizes::{usual, usual_form},
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    /// What is shown
    #[arg(long, default_value = "code", value_parser = one_of(Stage::ALL.map(|stage| (stage.name(), stage))))]
    stage: Stage,
    /// The kernels as they are after this pass on the way to the back end's code; of the stage kernel
    #[arg(long, value_name = "PASS")]
    after: Option<String>,
    /// Where the text goes; stdout if not given
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Of the gradients
    #[arg(long)]
    backward: bool,
    #[command(flatten)]
    object: object::Flags,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    if arguments.after.is_some() && arguments.stage != Stage::Kernel {
        return Err(Failure::wrong("--after: passes go from kernels to code: say --stage kernel"));
    }
    if arguments.backward && matches!(arguments.stage, Stage::Ast | Stage::Object) {
        let stage = arguments.stage.name();
        return Err(Failure::wrong(format!(
            "--backward: gradients have no stage {stage}, only those from typed to asm"
        )));
    }
    if arguments.stage == Stage::Object {
        return object::run(&arguments.which, arguments.output.as_deref(), &arguments.object, shared);
    }
    arguments.object.refuse()?;
    shared.of_chunks()?;
    let backend = shared.backend()?.unwrap_or_else(default_backend);
    silent(arguments.stage, backend, shared)?;
    let passes = arguments.after.as_deref().map(|last| passes(last, backend)).transpose()?;
    let form = shared.form()?;
    program::with_one(&arguments.which, shared, |variant| match arguments.backward {
        true => show(&adjoint(variant)?.variant, (backend, form), passes, &arguments),
        false => show(variant, (backend, form), passes, &arguments),
    })
}

fn show(
    variant: &Variant,
    (backend, form): (Backend, Option<Form>),
    passes: Option<usize>,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let text = match arguments.stage {
        Stage::Ast => {
            let source = program::source(&arguments.which.file)?;
            let tree = parse(&source).map_err(|found| Failure::Diagnosed(found, source.clone()))?;
            file(&tree)
        }
        stage => of_variant((stage, passes), variant, (backend, form), &arguments.shared)?,
    };
    let text = text.trim_end();
    match &arguments.output {
        None if print::json() => {
            let object = json!({"variant": variant.name, "stage": arguments.stage.name(), "text": text});
            print::line(&object.to_string())
        }
        None => print::line(text),
        Some(path) => whole::write(path, format!("{text}\n").as_bytes())
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display()))),
    }
}

/// How many passes of a back end there are up to the one that is named.
fn passes(last: &str, backend: Backend) -> Result<usize, Failure> {
    let target =
        backend.target().ok_or_else(|| Failure::wrong("--after: the reference has no kernels and no passes"))?;
    target.until(last).map_err(|unknown| Failure::wrong(format!("--after, {}: {unknown}", backend.name())))
}

fn of_variant(
    (stage, passes): (Stage, Option<usize>),
    variant: &Variant,
    (backend, form): (Backend, Option<Form>),
    shared: &Shared,
) -> Result<String, Failure> {
    let wish = usual().fill_all(&variant.checks.dims).give_all(&shared.dims);
    let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
    room::for_tensors(variant, &sizes, room::OF_CODE)?;
    let form = match form {
        Some(form) if stage.of_form() => exists(&Derivation::of(variant), form).map(|()| form)?,
        Some(form) => form,
        None => usual_form(variant),
    };
    let schedule = shared.schedule()?.unwrap_or(Schedule::Fused);
    if let Some(passes) = passes {
        return passed((variant, &sizes), (form, schedule), (backend, passes), shared);
    }
    if !matches!(stage, Stage::Code | Stage::Asm) {
        return Ok(stage::print(stage, variant, &sizes, (form, schedule))?);
    }
    if backend == Backend::Reference {
        return Err(Failure::wrong("the reference interprets the typed program and has no code: see --stage typed"));
    }
    if backend == Backend::Wgpu {
        return shaders(stage, variant, &sizes, ((form, schedule), shared));
    }
    backend.devices().map_err(|why| request::Failure::Unusable(backend, why))?;
    let module = chunkwise_compiler::compile(variant, &sizes, (form, schedule), chunkwise_compiler::Tiles::Whole)?;
    let module = check(module).map_err(|errors| Failure::Failed(errors.join("; ")))?;
    code(stage, &module, (backend, shared.precision()))
}

/// Refuses what a stage or a back end has no use for.
fn silent(stage: Stage, backend: Backend, shared: &Shared) -> Result<(), Failure> {
    let coded = matches!(stage, Stage::Code | Stage::Asm);
    let before = format!("the stage {} comes before it: say --stage code", stage.name());
    if let Some(of) = shared.precision().backend() {
        match (coded, of == backend) {
            (true, true) => {}
            (true, false) => return Err(shared.elsewhere()),
            (false, _) => return Err(Failure::wrong(format!("--precision: {before}"))),
        }
    }
    if shared.asks_of_a_gpu() {
        match (coded, backend) {
            (true, Backend::Wgpu) => {}
            (true, _) => return Err(Shared::not_of_a_gpu()),
            (false, _) => return Err(Failure::wrong(format!("--device and --limit: {before}"))),
        }
    }
    if shared.schedule()?.is_some()
        && !matches!(stage, Stage::Form | Stage::Plan | Stage::Kernel | Stage::Code | Stage::Asm)
    {
        return Err(Failure::wrong(format!("--schedule: {before}")));
    }
    if shared.chunk()?.is_some() && !(coded && backend == Backend::Wgpu) {
        print::note("kernels are given their chunk length when they run: this text serves every C");
    }
    Ok(())
}

/// The one that `auto` takes.
fn default_backend() -> Backend {
    [Backend::Llvm, Backend::Cranelift].into_iter().find(|backend| backend.usable()).unwrap_or(Backend::Llvm)
}

/// The kernels after the first so many passes of a back end.
#[cfg_attr(not(feature = "wgpu"), allow(unused_variables, reason = "a GPU alone has settings that kernels depend on"))]
fn passed(
    (variant, sizes): (&Variant, &Sizes),
    layout: (Form, Schedule),
    (backend, passes): (Backend, usize),
    shared: &Shared,
) -> Result<String, Failure> {
    let target = match backend.target() {
        #[cfg(feature = "wgpu")]
        Some(pass::Target::Wgsl) => {
            return built((variant, sizes), layout, shared, |build| Ok(build.after(passes)?.to_string()));
        }
        Some(target) => target,
        None => return Err(Failure::wrong("the reference has no kernels")),
    };
    let module = chunkwise_compiler::compile(variant, sizes, layout, chunkwise_compiler::Tiles::Whole)?;
    Ok(pass::run_first(&module, target, &|_| None, passes).to_string())
}

/// WGSL for the adapter that would run it, or for any where there is none: one shader a kernel.
#[cfg(feature = "wgpu")]
fn shaders(
    stage: Stage,
    variant: &Variant,
    sizes: &Sizes,
    (layout, shared): ((Form, Schedule), &Shared),
) -> Result<String, Failure> {
    if stage == Stage::Asm {
        return Err(Failure::wrong("the wgpu back end leaves machine code to the driver: see --stage code"));
    }
    built((variant, sizes), layout, shared, |build| {
        let code = build.code()?;
        Ok(code.shaders.iter().map(|shader| shader.source.trim_end()).collect::<Vec<_>>().join("\n\n"))
    })
}

/// What is made of the build that a run would load.
#[cfg(feature = "wgpu")]
fn built(
    (variant, sizes): (&Variant, &Sizes),
    layout: (Form, Schedule),
    shared: &Shared,
    made: impl FnOnce(&chunkwise_runtime::gpu::Build<'_>) -> Result<String, request::Failure>,
) -> Result<String, Failure> {
    use chunkwise_runtime::{Plan, choose::CHUNK};
    let tokens = variant.token.map_or(1, |axis| sizes.get(axis).unwrap_or(0));
    let (form, schedule) = layout;
    let plan = Plan { backend: Backend::Wgpu, form, schedule, chunk: shared.chunk()?.unwrap_or(CHUNK) };
    let settings = shared.settings();
    let chunk = chunkwise_runtime::execute::compiled_chunk(plan, tokens);
    let derivation = &Derivation::of(variant);
    let build = chunkwise_runtime::gpu::Build { derivation, sizes, layout, chunk, tiles: 1, settings: &settings };
    Ok(made(&build)?)
}

#[cfg(not(feature = "wgpu"))]
fn shaders(_: Stage, variant: &Variant, _: &Sizes, _: ((Form, Schedule), &Shared)) -> Result<String, Failure> {
    Backend::Wgpu.devices().map_err(|why| request::Failure::Unusable(Backend::Wgpu, why))?;
    Err(Failure::Failed(format!("{}: this chunkwise was built without the cargo feature `wgpu`", variant.name)))
}

/// A code generator's text, a row each.
#[cfg_attr(not(feature = "cranelift"), allow(unused_variables, reason = "only Cranelift has several precisions"))]
fn code(stage: Stage, module: &Checked, (backend, precision): (Backend, Precision)) -> Result<String, Failure> {
    match backend {
        #[cfg(feature = "cranelift")]
        Backend::Cranelift => {
            use chunkwise_compiler::codegen::cranelift::Text;
            let what = if stage == Stage::Asm { Text::Assembly } else { Text::Code };
            if precision == Precision::Bf16 {
                print::note("the micro-kernels that this code calls multiply in bf16; the text is that of f32");
            }
            chunkwise_runtime::cpu::cranelift::print(module, what).map_err(failed)
        }
        #[cfg(feature = "llvm")]
        Backend::Llvm => {
            use chunkwise_compiler::codegen::llvm;
            let host = chunkwise_runtime::cpu::host();
            match stage {
                Stage::Asm => llvm::assembly(module, &host).map_err(failed),
                _ => llvm::emit(module, &host).map(|code| code.ir).map_err(failed),
            }
        }
        _ => {
            let what = format!("kernel `{}` at stage {}", module.name, stage.name());
            Err(Failure::Failed(format!("{what}: {} has no text of it", backend.name())))
        }
    }
}

#[cfg(any(feature = "cranelift", feature = "llvm"))]
fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

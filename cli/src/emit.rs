//! `chunkwise emit`: what the compiler made at a stage, as text; the stage `object` is a file to link (`object`).

use std::path::PathBuf;

use chunkwise_compiler::{
    Form, Schedule, Unsupported,
    kernel::Module,
    stage::{self, Stage},
};
use chunkwise_dsl::{parse::parse, print::file, typed::Variant};
use chunkwise_runtime::{Backend, choose::exists, execute, room, tensor::write_whole};
use clap::Args;

use crate::{
    arguments::{OneVariant, Shared, one_of},
    failure::Failure,
    object, print, program,
    sizes::Wish,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    /// What is shown
    #[arg(long, default_value = "code", value_parser = one_of(Stage::ALL.map(|stage| (stage.name(), stage))))]
    stage: Stage,
    /// Where the text goes; stdout if not given
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    object: object::Flags,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    if arguments.stage == Stage::Object {
        return object::run(&arguments.which, arguments.output.as_deref(), &arguments.object, shared);
    }
    arguments.object.refuse()?;
    let backend = shared.backend()?.unwrap_or_else(default_backend);
    let form = shared.form()?;
    let variant = program::load_one(&arguments.which, shared)?;
    let text = match arguments.stage {
        Stage::Ast => {
            let source = program::source(&arguments.which.file)?;
            let tree = parse(&source).map_err(|found| program::diagnosed(&found, &source))?;
            file(&tree)
        }
        stage => of_variant(stage, &variant, (backend, form), shared)?,
    };
    match &arguments.output {
        None => print::line(text.trim_end()),
        Some(path) => write_whole(path, format!("{}\n", text.trim_end()).as_bytes())
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display()))),
    }
}

fn of_variant(
    stage: Stage,
    variant: &Variant,
    (backend, form): (Backend, Option<Form>),
    shared: &Shared,
) -> Result<String, Failure> {
    let wish = Wish::new().fill_all(&variant.checks.dims).give_all(&shared.dims);
    let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
    room::for_tensors(variant, &sizes, room::OF_CODE)?;
    let form = match form {
        Some(form) if stage.of_form() => exists(variant, form).map(|()| form)?,
        Some(form) => form,
        None => default_form(variant),
    };
    let schedule = shared.schedule()?.unwrap_or(Schedule::Fused);
    if !matches!(stage, Stage::Code | Stage::Asm) {
        return stage::print(stage, variant, &sizes, (form, schedule)).map_err(unsupported);
    }
    if backend == Backend::Reference {
        return Err(Failure::wrong("the reference interprets the typed program and has no code: see --stage typed"));
    }
    if backend == Backend::Wgpu {
        return shaders(stage, variant, &sizes, ((form, schedule), shared));
    }
    backend.devices().map_err(|why| execute::Failure::Unusable(backend, why))?;
    let module = chunkwise_compiler::compile(variant, &sizes, (form, schedule), chunkwise_compiler::Tiles::Whole)
        .map_err(unsupported)?;
    code(stage, &module, backend)
}

/// The one that `auto` takes.
fn default_backend() -> Backend {
    [Backend::Llvm, Backend::Cranelift].into_iter().find(|backend| backend.usable()).unwrap_or(Backend::Llvm)
}

/// WGSL for the adapter that would run it, or for any where there is none: one shader a kernel.
#[cfg(feature = "wgpu")]
fn shaders(
    stage: Stage,
    variant: &Variant,
    sizes: &chunkwise_compiler::bind::Sizes,
    (layout, shared): ((Form, Schedule), &Shared),
) -> Result<String, Failure> {
    use chunkwise_runtime::{Plan, choose::CHUNK};
    if stage == Stage::Asm {
        return Err(Failure::wrong("the wgpu back end leaves machine code to the driver: see --stage code"));
    }
    let tokens = variant.token.map_or(1, |axis| sizes.get(axis).unwrap_or(0));
    let (form, schedule) = layout;
    let plan = Plan { backend: Backend::Wgpu, form, schedule, chunk: shared.chunk()?.unwrap_or(CHUNK) };
    let settings = shared.settings();
    let chunk = execute::compiled_chunk(plan, tokens);
    let build = chunkwise_runtime::gpu::Build { variant, sizes, layout, chunk, tiles: 1, settings: &settings };
    let code = build.code()?;
    Ok(code.shaders.iter().map(|shader| shader.source.trim_end()).collect::<Vec<_>>().join("\n\n"))
}

#[cfg(not(feature = "wgpu"))]
fn shaders(
    _: Stage,
    variant: &Variant,
    _: &chunkwise_compiler::bind::Sizes,
    _: ((Form, Schedule), &Shared),
) -> Result<String, Failure> {
    Backend::Wgpu.devices().map_err(|why| execute::Failure::Unusable(Backend::Wgpu, why))?;
    Err(Failure::Failed(format!("{}: this chunkwise was built without the cargo feature `wgpu`", variant.name)))
}

/// The first form that exists, chunks first.
fn default_form(variant: &Variant) -> Form {
    let order = [Form::Chunked, Form::Recurrent, Form::Parallel];
    order.into_iter().find(|&form| exists(variant, form).is_ok()).unwrap_or(Form::Recurrent)
}

/// A code generator's text, a row each.
fn code(stage: Stage, module: &Module, backend: Backend) -> Result<String, Failure> {
    match backend {
        #[cfg(feature = "cranelift")]
        Backend::Cranelift => {
            use chunkwise_compiler::codegen::cranelift::Text;
            let what = if stage == Stage::Asm { Text::Assembly } else { Text::Code };
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

pub fn unsupported(refusal: Unsupported) -> Failure {
    execute::Failure::Unsupported(refusal).into()
}

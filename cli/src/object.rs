//! `chunkwise emit --stage object`: an object file that C programs link, and its header. Both are there afterwards, or
//! neither.

use std::path::{Path, PathBuf};

use chunkwise_compiler::{
    Form, Schedule, Tiles, Unsupported,
    interface::{self, Interface, header, names},
    kernel::{Checked, Module, check},
};
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Backend, Engine, Precision,
    choose::{self, exists},
    execute::longest_chunk,
    request, room, whole,
};
use clap::Args;

use crate::{
    arguments::{OneVariant, Shared},
    failure::Failure,
    print, program,
    sizes::usual,
};

/// Flags of the stage `object` alone.
#[derive(Args)]
pub struct Flags {
    /// Where the C header of an object goes
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,
    /// The C function of an object; the variant's name if not given
    #[arg(long, value_name = "NAME", value_parser = c_name)]
    name: Option<String>,
    /// The processor that an object is for; this one if not given
    #[arg(long, value_name = "NAME")]
    target_cpu: Option<String>,
}

impl Flags {
    /// Other stages take none of them.
    pub fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("--header", self.header.is_some()),
            ("--name", self.name.is_some()),
            ("--target-cpu", self.target_cpu.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::wrong(format!("{flag} is of --stage object only"))),
            None => Ok(()),
        }
    }
}

fn c_name(text: &str) -> Result<String, String> {
    if names::is_function(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a C identifier that no C library has and no language keeps for itself".to_owned())
    }
}

pub fn run(which: &OneVariant, output: Option<&Path>, flags: &Flags, shared: &Shared) -> Result<(), Failure> {
    let output = output.ok_or_else(|| Failure::wrong("an object is binary: say where it goes with -o FILE"))?;
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if flags.header.as_deref().map(whole) == Some(whole(output)) {
        return Err(Failure::wrong("-o and --header name one file: the object and its header are two"));
    }
    if shared.precision() != Precision::F32 {
        let name = shared.precision().name();
        return Err(Failure::wrong(format!("--precision {name}: objects are of f32: leave it out")));
    }
    if let Some(other) = shared.backend()?.filter(|&backend| backend != Backend::Llvm) {
        return Err(Failure::wrong(format!("{} makes no objects: say --backend llvm", other.name())));
    }
    if shared.asks_of_a_gpu() {
        return Err(Failure::wrong(
            "--device and --limit are of GPUs, and an object is of a processor: see --target-cpu",
        ));
    }
    shared.of_chunks()?;
    program::with_one(which, shared, |variant| of_variant(variant, (which, output), flags, shared))
}

fn of_variant(
    variant: &Variant,
    (which, output): (&OneVariant, &Path),
    flags: &Flags,
    shared: &Shared,
) -> Result<(), Failure> {
    if !variant.calls.is_empty() {
        let refusal = Unsupported::new(
            "an object of a variant that calls others",
            "its parts are made for exact sizes",
            "run it, or make objects of the variants called",
        );
        return Err(refusal.at(variant.span).into());
    }
    let wish = usual().fill_all(&variant.checks.dims).give_all(&shared.dims);
    let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
    room::for_tensors(variant, &sizes, room::OF_CODE)?;
    Backend::Llvm.devices().map_err(|why| request::Failure::Unusable(Backend::Llvm, why))?;
    let schedule = shared.schedule()?.unwrap_or(Schedule::Fused);
    let wish = choose::Wish {
        backend: Some(Backend::Llvm),
        form: shared.form()?,
        schedule: Some(schedule),
        chunk: shared.chunk()?,
        threads: Some(1),
    };
    // By the built-in rates: the same object comes out on every machine.
    let mut engine = Engine::new();
    if let Some(form) = wish.form {
        exists(&engine.derivation(variant), form)?;
    }
    let (form, chunk) = choose::for_any_length(&mut engine, variant, &sizes, wish);
    let module = engine.module(variant, &sizes, (form, schedule), Tiles::Whole)?;
    let longest = longest_chunk(form, chunk);
    let interface = interface::interface((variant, &sizes), &module, flags.name.as_deref(), longest)?;
    let module = check(Module::clone(&module)).map_err(|errors| Failure::Failed(errors.join("; ")))?;
    let (object, machine) = object(&module, &interface, flags.target_cpu.as_deref())?;
    let header = flags.header.as_ref().map(|path| {
        let about = header::About {
            source: which.file.display().to_string(),
            variant: named(variant),
            form: formed((form, schedule), chunk),
            machine,
        };
        (path.as_path(), header::text(&interface, &about))
    });
    write((output, &object), header)?;
    say(&interface, shared);
    Ok(())
}

fn named(variant: &Variant) -> String {
    let args = variant.args.iter().map(|(name, value)| format!("{name} = {value}"));
    std::iter::once(variant.name.clone()).chain(args).collect::<Vec<_>>().join(", ")
}

fn formed((form, schedule): (Form, Schedule), chunk: usize) -> String {
    match (form, schedule) {
        (Form::Chunked, Schedule::Fused) => format!("chunked, {chunk} tokens a chunk"),
        (Form::Chunked, schedule) => format!("chunked, {chunk} tokens a chunk, {} kernels", schedule.name()),
        (form, _) => form.name().to_owned(),
    }
}

/// Sizes that are compiled in though nobody asked for them.
fn say(interface: &Interface, shared: &Shared) {
    let asked = |axis: &String| shared.dims.iter().any(|(name, _)| name == axis);
    let taken: Vec<String> = interface
        .constants
        .iter()
        .filter(|constant| !asked(&constant.axis))
        .map(|constant| format!("{} = {}", constant.axis, constant.size))
        .collect();
    if !taken.is_empty() {
        print::note(&format!("compiled in: {}; --dim NAME=N says otherwise", taken.join(", ")));
    }
}

/// The object, and the machine it is for in words.
#[cfg(feature = "llvm")]
fn object(module: &Checked, interface: &Interface, cpu: Option<&str>) -> Result<(Vec<u8>, String), Failure> {
    use chunkwise_compiler::codegen::llvm::{self, Target};
    let target = match cpu {
        None | Some("host") => chunkwise_runtime::cpu::host(),
        Some(name) => Target::named(name).ok_or_else(|| {
            let known: Vec<&str> = std::iter::once("host").chain(Target::names()).collect();
            Failure::wrong(format!("--target-cpu {name}: expected one of {}", known.join(", ")))
        })?,
    };
    let machine = format!("{} {}, {} lanes of f32", std::env::consts::ARCH, target.cpu, target.width);
    let code = llvm::library(module, interface, &target).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok((code.object, machine))
}

/// A back end that is not built in is refused before this.
#[cfg(not(feature = "llvm"))]
fn object(module: &Checked, _: &Interface, _: Option<&str>) -> Result<(Vec<u8>, String), Failure> {
    Err(Failure::Failed(format!("kernel `{}`: this chunkwise was built without LLVM", module.name)))
}

/// Both or neither.
fn write((output, object): (&Path, &[u8]), header: Option<(&Path, String)>) -> Result<(), Failure> {
    let header = header.iter().map(|(path, text)| (*path, text.as_bytes()));
    let files: Vec<(&Path, &[u8])> = header.chain([(output, object)]).collect();
    whole::write_all(&files).map_err(|(place, error)| {
        let (path, _) = files[place];
        Failure::Failed(format!("cannot write {}: {error}", path.display()))
    })
}

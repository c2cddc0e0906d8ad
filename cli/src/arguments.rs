//! The flags that subcommands share, and how their values are read.

use std::{num::NonZeroUsize, path::PathBuf};

use chunkwise_compiler::{Form, Schedule};
use chunkwise_dsl::{suggest::nearest, typed::Variant};
use chunkwise_runtime::{
    Backend, Engine, Limit, Precision, Settings,
    backend::cores,
    backends::bf16_products,
    choose::Wish,
    rates::{Table, path},
};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{failure::Failure, print, sizes::axis_named};

/// Flags of every subcommand that reads a program.
#[derive(Args, Debug, Clone)]
pub struct Shared {
    /// What runs it
    ///
    /// If not given: check, verify and bench take all that are here, but no software GPU; run and emit llvm or else
    /// cranelift.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = backend())]
    backend: Vec<Wanted<Backend>>,
    /// How it is computed
    ///
    /// If not given: run takes the cheapest, emit and explain the chunked form or else the recurrent one, bench both, check
    /// and verify all.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = form())]
    form: Vec<Wanted<Form>>,
    /// The chunked form as one kernel (fused) or as three (split)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = schedule(), hide_short_help = true)]
    schedule: Vec<Wanted<Schedule>>,
    /// Tokens in a chunk of the chunked form, or auto
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = chunk)]
    chunk: Vec<Wanted<usize>>,
    /// The size of an axis
    ///
    /// If not given: emit, bench and check take B=1, H=8, K=V=128 and what `check dims` says, verify small odd sizes.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = size)]
    pub dims: Vec<(String, usize)>,
    /// The value of a variant's parameter
    #[arg(long = "arg", value_name = "NAME=N", value_parser = number)]
    pub args: Vec<(String, f64)>,
    #[command(flatten)]
    gpu: Gpu,
    /// Threads; all cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Seeds the random inputs
    #[arg(long, value_name = "N", default_value_t = 0, hide_short_help = true)]
    pub seed: u64,
}

/// What kernels are to run on, and how exactly.
#[derive(Args, Debug, Clone)]
struct Gpu {
    /// The GPU: its number or a part of its name in `chunkwise backends`
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    device: Option<String>,
    /// bf16: operands of products on the CPU (cranelift); f16: tensors on a GPU (wgpu)
    #[arg(long, value_name = "PRECISION", default_value = "f32", value_parser = precision(), hide_short_help = true)]
    precision: Precision,
    /// A limit of the GPU to stay below: workgroup-memory, invocations, groups, storage-buffers, binding, trips or
    /// milliseconds
    #[arg(long = "limit", value_name = "NAME=N", value_parser = limit, hide_short_help = true)]
    limits: Vec<(Limit, u64)>,
}

/// The sizes that `verify` and `bench` run on.
#[derive(Args, Debug, Clone)]
pub struct Shape {
    /// Tokens
    ///
    /// If not given: bench takes 2048; verify one, a few, round a chunk, several chunks, and many.
    #[arg(long, value_name = "T", value_delimiter = ',')]
    pub tokens: Vec<usize>,
    /// Batch size
    #[arg(long, value_name = "B", value_parser = positive)]
    pub batch: Option<usize>,
    /// Heads
    #[arg(long, value_name = "H", value_parser = positive)]
    pub heads: Option<usize>,
}

impl Shape {
    /// Refuses a size that is also said by `--dim`.
    ///
    /// # Errors
    /// It is.
    pub fn once(&self, variant: &Variant, shared: &Shared) -> Result<(), Failure> {
        let said = [
            ("--tokens", !self.tokens.is_empty(), variant.token),
            ("--batch", self.batch.is_some(), axis_named(variant, "B")),
            ("--heads", self.heads.is_some(), variant.head.or(axis_named(variant, "H"))),
        ];
        for (flag, given, axis) in said {
            let name = axis.map(|axis| variant.axis_name(axis)).filter(|_| given);
            if let Some((name, _)) = shared.dims.iter().find(|(known, _)| Some(known) == name.as_ref()) {
                return Err(Failure::wrong(format!("{flag} and --dim {name}=N both say how many: leave one out")));
            }
        }
        Ok(())
    }
}

/// The program of a subcommand that takes one variant.
#[derive(Args, Debug, Clone)]
pub struct OneVariant {
    /// The source file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The variant, where the file holds several
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
}

/// A value of a list, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted<T> {
    Auto,
    This(T),
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<T> {
    /// Whether `auto` is in it.
    pub auto: bool,
    /// The others, each once.
    pub named: Vec<T>,
}

impl<T: Copy + PartialEq> Asked<T> {
    fn of(list: &[Wanted<T>]) -> Self {
        let mut named = Vec::new();
        for value in list.iter().filter_map(|wanted| wanted.this()) {
            if !named.contains(&value) {
                named.push(value);
            }
        }
        Self { auto: list.contains(&Wanted::Auto), named }
    }

    /// Whether the usual values are wanted: nothing is asked for, or `auto` is.
    pub fn is_open(&self) -> bool {
        self.auto || self.named.is_empty()
    }

    /// The usual values where they are wanted, and those named.
    pub fn or_usual(&self, usual: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut all: Vec<T> = if self.is_open() { usual.into_iter().collect() } else { Vec::new() };
        let more: Vec<T> = self.named.iter().copied().filter(|value| !all.contains(value)).collect();
        all.extend(more);
        all
    }

    /// Each value as a wish of its own: None leaves it to the cost model.
    pub fn wishes(&self) -> Vec<Option<T>> {
        self.is_open().then_some(None).into_iter().chain(self.named.iter().copied().map(Some)).collect()
    }
}

impl Shared {
    /// The back ends asked for. A precision that one back end alone has asks for it.
    pub fn backends(&self) -> Asked<Backend> {
        let asked = Asked::of(&self.backend);
        match self.precision().backend() {
            Some(backend) if self.backend.is_empty() => Asked { auto: false, named: vec![backend] },
            _ => asked,
        }
    }

    pub fn forms(&self) -> Asked<Form> {
        Asked::of(&self.form)
    }

    /// What is asked of a command that takes one plan.
    pub fn wish(&self) -> Result<Wish, Failure> {
        self.of_chunks()?;
        Ok(Wish {
            backend: self.backend()?,
            form: self.form()?,
            schedule: self.schedule()?,
            chunk: self.chunk()?,
            threads: Some(self.threads()),
        })
    }

    pub fn schedules(&self) -> Asked<Schedule> {
        Asked::of(&self.schedule)
    }

    pub fn chunks(&self) -> Asked<usize> {
        Asked::of(&self.chunk)
    }

    /// Says where a chunk length has no effect, and refuses a schedule of three kernels, where no form that was asked for
    /// has chunks.
    ///
    /// # Errors
    /// The schedule.
    pub fn of_chunks(&self) -> Result<(), Failure> {
        let forms = self.forms();
        if forms.is_open() || forms.named.contains(&Form::Chunked) {
            return Ok(());
        }
        let of = forms.named.iter().map(|form| form.name()).collect::<Vec<_>>().join(" and ");
        if self.schedule.contains(&Wanted::This(Schedule::Split)) {
            let message = format!("--schedule split is of the chunked form, not of the {of} one: say --form chunked");
            return Err(Failure::wrong(message));
        }
        if !self.chunk.is_empty() {
            print::note(&format!("--chunk has no effect: it is of the chunked form, not of the {of} one"));
        }
        Ok(())
    }

    /// The one back end asked for, of a command that takes one.
    pub fn backend(&self) -> Result<Option<Backend>, Failure> {
        let asked = single("--backend", &self.backend)?.and_then(Wanted::this);
        Ok(asked.or(if self.precision() == Precision::Bf16 { Precision::Bf16.backend() } else { None }))
    }

    pub fn form(&self) -> Result<Option<Form>, Failure> {
        single("--form", &self.form).map(|one| one.and_then(Wanted::this))
    }

    pub fn schedule(&self) -> Result<Option<Schedule>, Failure> {
        single("--schedule", &self.schedule).map(|one| one.and_then(Wanted::this))
    }

    pub fn chunk(&self) -> Result<Option<usize>, Failure> {
        single("--chunk", &self.chunk).map(|one| one.and_then(Wanted::this))
    }

    /// An engine whose runs are on the device asked for, as exact as asked for.
    ///
    /// # Errors
    /// Something is asked of GPUs, and the back ends asked for run on none; or none of them has the precision.
    pub fn engine(&self) -> Result<Engine, Failure> {
        let precision = self.precision();
        let lacks = |backend: Backend| !self.backends().is_open() && !self.backends().named.contains(&backend);
        if self.asks_of_a_gpu() && lacks(Backend::Wgpu) {
            return Err(Self::not_of_a_gpu());
        }
        if precision.backend().is_some_and(lacks) {
            return Err(self.elsewhere());
        }
        Ok(Engine::with(self.settings()).with_rates(rates()))
    }

    pub fn settings(&self) -> Settings {
        let Gpu { device, precision, limits } = &self.gpu;
        let threads = Some(self.threads());
        Settings { device: device.clone(), precision: *precision, threads, lowered: limits.clone() }
    }

    /// Whether a GPU is asked for by name.
    pub fn names_a_gpu(&self) -> bool {
        self.gpu.device.is_some()
    }

    /// Whether a GPU or a limit of one is asked for.
    pub fn asks_of_a_gpu(&self) -> bool {
        self.gpu.device.is_some() || !self.gpu.limits.is_empty()
    }

    /// That something is asked of GPUs where another back end is taken.
    pub fn not_of_a_gpu() -> Failure {
        Failure::wrong("--device and --limit are of the wgpu back end: say --backend wgpu")
    }

    pub fn precision(&self) -> Precision {
        self.gpu.precision
    }

    /// That the precision asked for is of a back end which is not the one taken.
    pub fn elsewhere(&self) -> Failure {
        let (name, has) = (self.precision().name(), self.precision().backend().map_or("any", Backend::name));
        Failure::wrong(format!("--precision {name} is of the {has} back end: say --backend {has}"))
    }

    /// Says what multiplies here, if that was asked for.
    pub fn say_precision(&self) {
        if print::verbose() && self.precision() == Precision::Bf16 {
            print::detail(&bf16_products());
        }
    }

    pub fn threads(&self) -> usize {
        self.threads.map_or_else(cores, NonZeroUsize::get)
    }
}

/// This machine's rates, as `chunkwise calibrate` left them. Damage is a note: the built-in rates serve.
pub fn rates() -> Table {
    let loaded = path().map_or_else(|| Ok(Table::default()), |path| Table::load(&path));
    loaded.unwrap_or_else(|why| {
        print::warning(&format!("built-in rates: {why}"));
        Table::default()
    })
}

impl<T> Wanted<T> {
    fn this(self) -> Option<T> {
        match self {
            Wanted::Auto => None,
            Wanted::This(value) => Some(value),
        }
    }
}

fn single<T: Copy>(flag: &str, list: &[T]) -> Result<Option<T>, Failure> {
    match list {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(Failure::wrong(format!("this command takes one value of {flag}, found {}", list.len()))),
    }
}

fn backend() -> impl TypedValueParser<Value = Wanted<Backend>> {
    or_auto(Backend::ALL.map(|backend| (backend.name(), backend)))
}

fn form() -> impl TypedValueParser<Value = Wanted<Form>> {
    or_auto(Form::ALL.map(|form| (form.name(), form)))
}

fn schedule() -> impl TypedValueParser<Value = Wanted<Schedule>> {
    or_auto(Schedule::ALL.map(|schedule| (schedule.name(), schedule)))
}

fn precision() -> impl TypedValueParser<Value = Precision> {
    one_of(Precision::ALL.map(|precision| (precision.name(), precision)))
}

fn chunk(text: &str) -> Result<Wanted<usize>, String> {
    if text == "auto" { Ok(Wanted::Auto) } else { positive(text).map(Wanted::This) }
}

fn or_auto<T, const N: usize>(names: [(&'static str, T); N]) -> impl TypedValueParser<Value = Wanted<T>>
where
    T: Copy + Send + Sync + 'static,
{
    let these = names.into_iter().map(|(name, value)| (name, Wanted::This(value)));
    one_of(these.chain([("auto", Wanted::Auto)]))
}

/// A value by its name. The names stand in the help and in completions, and a misspelt one is answered with the nearest.
pub fn one_of<T>(names: impl IntoIterator<Item = (&'static str, T)>) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let names: Vec<(&'static str, T)> = names.into_iter().collect();
    let known = PossibleValuesParser::new(names.iter().map(|(name, _)| *name));
    known.try_map(move |text| {
        let found = names.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| format!("`{text}` is not known"))
    })
}

fn limit(text: &str) -> Result<(Limit, u64), String> {
    let (name, value) = pair(text)?;
    let limit: Limit = name.parse().map_err(|known| nearer(&name, Limit::ALL.map(Limit::name), known))?;
    match value.parse::<u64>() {
        Ok(value) if value >= limit.least() => Ok((limit, value)),
        _ => Err(format!("`{value}` is no limit of {limit}: expected a whole number of {} or more", limit.least())),
    }
}

/// What is expected, and the nearest of the names to what was found.
fn nearer<const N: usize>(found: &str, names: [&str; N], expected: String) -> String {
    match nearest(found, names) {
        Some(near) => format!("{expected}; did you mean `{near}`?"),
        None => expected,
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse::<NonZeroUsize>().map(NonZeroUsize::get).map_err(|_| "expected a whole number of 1 or more".to_string())
}

fn size(text: &str) -> Result<(String, usize), String> {
    let (name, value) = pair(text)?;
    let value = value.parse().map_err(|_| format!("`{value}` is no size: expected NAME=N, N a whole number"))?;
    Ok((name, value))
}

fn number(text: &str) -> Result<(String, f64), String> {
    let (name, value) = pair(text)?;
    match value.parse::<f64>() {
        Ok(value) if !value.is_nan() => Ok((name, value)),
        _ => Err(format!("`{value}` is no number: expected NAME=N")),
    }
}

fn pair(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_string(), value.trim())),
        _ => Err("expected NAME=N".to_string()),
    }
}

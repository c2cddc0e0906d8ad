//! `chunkwise bench`: how long the kernels take, on warm tensors. Timing as an outside harness says is `serve`.

mod serve;

use std::time::{Duration, Instant};

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, carries_state, output_shape, state_shape, tensor_shape},
    kernel::flops,
};
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Backend, Engine, Plan, Request, Tensors,
    choose::{self, CHUNK, Wish, exists},
    draw::{self, Gates},
    execute, room,
};
use clap::Args;
use serde_json::json;

use crate::{
    arguments::{OneVariant, Shape, Shared},
    failure::Failure,
    print, program,
    run::{say, settled},
    sizes,
};

/// Tokens where none are asked for: enough for many chunks; the reference, an interpreter, gets fewer.
const TOKENS: usize = 2048;
const TOKENS_OF_REFERENCE: usize = 128;

/// Runs are repeated for this long, within these numbers of them.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);
const RUNS: std::ops::RangeInclusive<usize> = 5..=200;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    served: serve::Flags,
    #[command(flatten)]
    shared: Shared,
}

/// One line.
struct Entry {
    plan: Plan,
    tokens: usize,
    sizes: Sizes,
    runs: Vec<Duration>,
    flops: u64,
    bytes: usize,
    compile: Duration,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    if let Some(inputs) = arguments.served.inputs() {
        return serve::run(&arguments, inputs);
    }
    shared.say_precision();
    let start = Instant::now();
    let variant = program::load_one(&arguments.which, shared)?;
    let checked = start.elapsed();
    let mut rows = Vec::new();
    let plans = plans(&variant, &arguments)?;
    let bar = print::progress(plans.len());
    let (mut refusals, mut entries) = (Vec::new(), 0);
    for (plan, tokens) in plans {
        match entry(&variant, (plan, tokens), &arguments, checked) {
            Ok(entry) => {
                entries += 1;
                if shared.json {
                    print::line(&as_json(&variant, &entry, shared))?;
                } else {
                    rows.push(cells(&variant, &entry));
                }
            }
            // Of what was not asked for, what is there is timed.
            Err(Failure::Wrong(messages)) if shared.forms().is_empty() => refusals.extend(messages),
            Err(failure) => return Err(failure),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if entries == 0 {
        refusals.push(format!("`{}` has no form that compiles: use --backend reference", variant.name));
        return Err(Failure::Wrong(refusals));
    }
    refusals.iter().for_each(|refusal| print::note(&format!("note: {refusal}")));
    if shared.json {
        return Ok(());
    }
    let header = [
        "variant",
        "backend",
        "form",
        "schedule",
        "C",
        "T",
        "sizes",
        "median ms",
        "p20",
        "p80",
        "GF/s",
        "GB/s",
        "compile ms",
    ];
    print::line(&print::table(&header, &rows))
}

/// What to time: every back end, form, chunk length and token count asked for.
fn plans(variant: &Variant, arguments: &Arguments) -> Result<Vec<(Plan, usize)>, Failure> {
    let shared = &arguments.shared;
    if shared.chooses_form() {
        return chosen(variant, arguments);
    }
    let asked = shared.forms();
    for form in &asked {
        exists(variant, *form)?;
    }
    let mut plans = Vec::new();
    for backend in backends(variant, shared)? {
        let lengths = tokens(variant, backend, arguments);
        for form in forms(variant, backend, &asked) {
            for chunk in if form == Form::Chunked { chunks(shared) } else { vec![1] } {
                for &tokens in &lengths {
                    let plan = Plan { backend, form, schedule: Schedule::Fused, chunk };
                    let schedules = schedules(variant, (plan, tokens), arguments)?;
                    plans.extend(schedules.into_iter().map(|schedule| (Plan { schedule, ..plan }, tokens)));
                }
            }
        }
    }
    Ok(plans)
}

/// The cost model's choice for every back end, chunk length, schedule and token count asked for, and of those that are
/// not asked for.
fn chosen(variant: &Variant, arguments: &Arguments) -> Result<Vec<(Plan, usize)>, Failure> {
    fn each<T: Copy>(asked: &[T]) -> Vec<Option<T>> {
        if asked.is_empty() { vec![None] } else { asked.iter().copied().map(Some).collect() }
    }
    let shared = &arguments.shared;
    let mut engine = shared.engine()?;
    let mut plans = Vec::new();
    for backend in each(&shared.backends()) {
        for tokens in tokens(variant, backend.unwrap_or(Backend::Cranelift), arguments) {
            let sizes = sizes(variant, tokens, arguments)?;
            for chunk in each(shared.chunks()) {
                for schedule in each(&shared.schedules()) {
                    let wish = Wish { backend, form: None, schedule, chunk, threads: Some(shared.threads()) };
                    let choice = settled(&mut engine, variant, &sizes, (shared, wish))?;
                    say(&choice, shared.verbose);
                    plans.push((choice.plan, tokens));
                }
            }
        }
    }
    Ok(plans)
}

fn backends(variant: &Variant, shared: &Shared) -> Result<Vec<Backend>, Failure> {
    let asked = shared.backends();
    for backend in &asked {
        backend.devices().map_err(|why| execute::Failure::Unusable(*backend, why))?;
    }
    if !asked.is_empty() {
        return Ok(asked);
    }
    let compiles = Form::ALL.iter().any(|&form| exists(variant, form).is_ok()) && !variant.states.is_empty();
    let compiled: Vec<Backend> = Backend::ALL
        .into_iter()
        .filter(|&backend| compiles && backend != Backend::Reference && backend.usable())
        .collect();
    Ok(if compiled.is_empty() { vec![Backend::Reference] } else { compiled })
}

/// The forms asked for; else token by token and chunked, or whichever there is.
fn forms(variant: &Variant, backend: Backend, asked: &[Form]) -> Vec<Form> {
    if backend == Backend::Reference {
        return vec![Form::Recurrent];
    }
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let present: Vec<Form> = Form::ALL.into_iter().filter(|&form| exists(variant, form).is_ok()).collect();
    let usual: Vec<Form> = present.iter().copied().filter(|&form| form != Form::Parallel).collect();
    if usual.is_empty() { present } else { usual }
}

/// The schedules asked for, of a form that may have several; else the one that the price says.
fn schedules(
    variant: &Variant,
    (plan, tokens): (Plan, usize),
    arguments: &Arguments,
) -> Result<Vec<Schedule>, Failure> {
    let asked = arguments.shared.schedules();
    if plan.form != Form::Chunked || plan.backend == Backend::Reference {
        return Ok(vec![Schedule::Fused]);
    }
    if !asked.is_empty() {
        return Ok(asked);
    }
    let sizes = sizes(variant, tokens, arguments)?;
    let workers = choose::workers(plan.backend, &arguments.shared.settings(), arguments.shared.threads());
    let mut engine = arguments.shared.engine()?;
    Ok(vec![choose::schedule(&mut engine, variant, &sizes, (plan, workers)).0])
}

fn chunks(shared: &Shared) -> Vec<usize> {
    if shared.chunks().is_empty() { vec![CHUNK] } else { shared.chunks().to_vec() }
}

fn tokens(variant: &Variant, backend: Backend, arguments: &Arguments) -> Vec<usize> {
    let given = variant.token.and_then(|token| {
        let name = variant.axis_name(token);
        arguments.shared.dims.iter().find(|(given, _)| *given == name).map(|(_, size)| *size)
    });
    match (arguments.shape.tokens.as_slice(), given, backend) {
        ([], Some(given), _) => vec![given],
        ([], None, Backend::Reference) => vec![TOKENS_OF_REFERENCE],
        ([], None, _) => vec![TOKENS],
        (asked, _, _) => asked.to_vec(),
    }
}

fn sizes(variant: &Variant, tokens: usize, arguments: &Arguments) -> Result<Sizes, Failure> {
    let head = variant.head.map_or("H".to_string(), |head| variant.axis_name(head));
    let place = |name: &str| variant.axes.iter().position(|axis| axis.name == name);
    let axis = |name: &str| place(name).map(|place| chunkwise_dsl::shape::AxisId(place as u32));
    let wish = sizes::Wish::new()
        .fill("B", 1)
        .fill("H", 8)
        .fill("K", 128)
        .fill("V", 128)
        .give_axis(variant, axis("B"), arguments.shape.batch)
        .give_axis(variant, axis(&head), arguments.shape.heads)
        .give_axis(variant, variant.token, Some(tokens))
        .fill_all(&variant.checks.dims)
        .give_all(&arguments.shared.dims);
    let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
    room::for_tensors(variant, &sizes, room::OF_A_RUN)?;
    Ok(sizes)
}

fn entry(
    variant: &Variant,
    (plan, tokens): (Plan, usize),
    arguments: &Arguments,
    checked: Duration,
) -> Result<Entry, Failure> {
    let shared = &arguments.shared;
    let sizes = sizes(variant, tokens, arguments)?;
    let inputs = draw::inputs(variant, &sizes, Gates::Plain, shared.seed);
    let mut engine = shared.engine()?;
    let start = Instant::now();
    engine.prepare(variant, &sizes, plan)?;
    let compile = checked + start.elapsed();
    let initial = Tensors::new();
    let request = Request { variant, sizes: &sizes, inputs: &inputs, initial: &initial, threads: shared.threads() };
    let runs = timed(&mut engine, request, plan)?;
    let flops = count(variant, &sizes, plan, tokens);
    let bytes = bytes(variant, &sizes);
    Ok(Entry { plan, tokens, sizes, runs, flops, bytes, compile })
}

/// Sorted times, after two runs that warm caches and threads up.
fn timed(engine: &mut Engine, request: Request, plan: Plan) -> Result<Vec<Duration>, Failure> {
    for _ in 0..if matches!(plan.backend, Backend::Reference | Backend::Wgpu) { 0 } else { 2 } {
        engine.run(request, plan)?;
    }
    let start = Instant::now();
    let enough = |times: &[Duration]| {
        times.len() >= *RUNS.start() && (start.elapsed() >= LONG_ENOUGH || times.len() >= *RUNS.end())
    };
    let mut runs = engine.time(request, plan, &enough)?;
    runs.sort();
    Ok(runs)
}

/// The useful operations of the form; those of the recurrent form for the reference, 0 where nothing compiles.
fn count(variant: &Variant, sizes: &Sizes, plan: Plan, tokens: usize) -> u64 {
    let form = if plan.backend == Backend::Reference { Form::Recurrent } else { plan.form };
    let chunk = effective_chunk(plan, tokens);
    let size_of = |name: &str| {
        let place = variant.axes.iter().position(|axis| axis.name == name);
        place.and_then(|place| sizes.get(chunkwise_dsl::shape::AxisId(place as u32))).unwrap_or(0)
    };
    chunkwise_compiler::compile(variant, sizes, (form, plan.schedule), chunkwise_compiler::Tiles::Whole)
        .map_or(0, |module| flops(&module, &size_of, chunk))
}

fn effective_chunk(plan: Plan, tokens: usize) -> usize {
    match plan.form {
        Form::Recurrent => 1,
        Form::Chunked => plan.chunk,
        Form::Parallel => tokens.max(1),
    }
}

/// Each input read and each output and final state written once.
fn bytes(variant: &Variant, sizes: &Sizes) -> usize {
    let len = |shape: Vec<usize>| shape.into_iter().product::<usize>();
    let inputs: usize = variant.tensors.iter().map(|tensor| len(tensor_shape(tensor, sizes))).sum();
    let outputs: usize = variant.outputs().map(|output| len(output_shape(variant, output, sizes))).sum();
    let given = if carries_state(variant) { variant.states.as_slice() } else { &[] };
    let states: usize = given.iter().map(|state| len(state_shape(variant, state, sizes))).sum();
    4 * (inputs + outputs + states)
}

impl Entry {
    /// The time below which this share of the runs lies, in ms.
    fn quantile(&self, share: f64) -> f64 {
        let place = (share * (self.runs.len() - 1) as f64).round() as usize;
        1e3 * self.runs[place].as_secs_f64()
    }

    /// Billions of these a second at the median.
    fn rate(&self, amount: f64) -> f64 {
        amount / (self.quantile(0.5) * 1e6).max(f64::MIN_POSITIVE)
    }
}

/// The sizes of the axes that are neither batch, tokens nor heads.
fn own_dims(variant: &Variant, sizes: &Sizes) -> Vec<(String, usize)> {
    let ids = (0..variant.axes.len()).map(|place| chunkwise_dsl::shape::AxisId(place as u32));
    ids.filter(|id| Some(*id) != variant.token && Some(*id) != variant.head && variant.axis_name(*id) != "B")
        .filter_map(|id| Some((variant.axis_name(id), sizes.get(id)?)))
        .collect()
}

fn size_named(variant: &Variant, sizes: &Sizes, name: &str) -> usize {
    let place = variant.axes.iter().position(|axis| axis.name == name);
    place.and_then(|place| sizes.get(chunkwise_dsl::shape::AxisId(place as u32))).unwrap_or(1)
}

fn as_json(variant: &Variant, entry: &Entry, shared: &Shared) -> String {
    let dims: serde_json::Map<String, serde_json::Value> =
        own_dims(variant, &entry.sizes).into_iter().map(|(name, size)| (name, json!(size))).collect();
    let heads = variant.head.and_then(|head| entry.sizes.get(head)).unwrap_or(1);
    json!({
        "variant": variant.name, "backend": entry.plan.backend.name(), "form": entry.plan.form.name(),
        "schedule": entry.plan.schedule.name(), "precision": shared.precision().on(entry.plan.backend).name(),
        "chunk": effective_chunk(entry.plan, entry.tokens), "batch": size_named(variant, &entry.sizes, "B"),
        "tokens": entry.tokens, "heads": heads, "dims": dims, "threads": shared.threads(),
        "median_ms": entry.quantile(0.5), "p20_ms": entry.quantile(0.2), "p80_ms": entry.quantile(0.8),
        "runs": entry.runs.len(), "flops": entry.flops, "bytes": entry.bytes,
        "gflops": entry.rate(entry.flops as f64), "gbps": entry.rate(entry.bytes as f64),
        "compile_ms": 1e3 * entry.compile.as_secs_f64(),
    })
    .to_string()
}

fn cells(variant: &Variant, entry: &Entry) -> Vec<String> {
    let heads = variant.head.and_then(|head| entry.sizes.get(head)).unwrap_or(1);
    let mut sizes = vec![format!("B={}", size_named(variant, &entry.sizes, "B")), format!("H={heads}")];
    sizes.extend(own_dims(variant, &entry.sizes).into_iter().map(|(name, size)| format!("{name}={size}")));
    vec![
        variant.name.clone(),
        entry.plan.backend.name().into(),
        if entry.plan.backend == Backend::Reference { "-".into() } else { entry.plan.form.name().into() },
        if entry.plan.form == Form::Chunked { entry.plan.schedule.name().into() } else { "-".into() },
        effective_chunk(entry.plan, entry.tokens).to_string(),
        entry.tokens.to_string(),
        sizes.join(" "),
        format!("{:.3}", entry.quantile(0.5)),
        format!("{:.3}", entry.quantile(0.2)),
        format!("{:.3}", entry.quantile(0.8)),
        format!("{:.1}", entry.rate(entry.flops as f64)),
        format!("{:.1}", entry.rate(entry.bytes as f64)),
        format!("{:.1}", 1e3 * entry.compile.as_secs_f64()),
    ]
}

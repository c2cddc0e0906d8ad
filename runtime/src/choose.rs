//! `auto`: which back end, form and chunk length a run takes, and why. The choice always works: where nothing compiles,
//! it is the reference.

use chunkwise_compiler::{
    Derivation, Form, Schedule, Tiles,
    bind::{Sizes, batch_elements},
    kernel::{self, Rates, pass::Target},
};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::{Backend, cores},
    device::Settings,
    execute::{Engine, chunk_length, tiles_on_gpu},
    request::{Failure, Plan},
};

/// Tokens in a chunk where none are asked for and none are priced.
pub const CHUNK: usize = 64;

/// Chunk lengths that `auto` prices.
pub(crate) const CHUNKS: [usize; 5] = [8, 16, 32, 64, 128];

/// The back ends that `auto` takes, the fastest first.
const COMPILED: [Backend; 2] = [Backend::Llvm, Backend::Cranelift];

/// Forms are priced on at most this many tokens; all cost per token is alike beyond it.
const PRICED: usize = 256;

/// What kernels are priced as where nothing compiles them.
const PRICED_FOR: Target = Target::Llvm;

/// A parallel form is priced up to this many tokens: its pairs of tokens are then as good as one chunk's.
const ONE_CHUNK: usize = 128;

/// What was asked for; None leaves it to the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub backend: Option<Backend>,
    pub form: Option<Form>,
    pub schedule: Option<Schedule>,
    pub chunk: Option<usize>,
    /// Threads that the run will have; all cores if none are given.
    pub threads: Option<usize>,
}

/// What is taken, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    pub plan: Plan,
    /// A sentence for each thing chosen.
    pub reasons: Vec<String>,
    /// The back end was left open and none that compiles could take the variant.
    pub fell_back: bool,
}

/// Settles on a plan. Compiled back ends compile at once, so that a refusal is known here.
///
/// # Errors
/// A back end that was asked for and is not usable here, a form that the variant lacks, a variant that a back end asked
/// for cannot compile.
pub fn choose(engine: &mut Engine, variant: &Variant, sizes: &Sizes, wish: Wish) -> Result<Choice, Failure> {
    match wish.backend {
        Some(Backend::Reference) => Ok(reference(wish, vec!["the reference was asked for".into()])),
        Some(backend) => compiled(engine, variant, sizes, (backend, wish)),
        None => {
            if let Some(form) = wish.form {
                exists(&engine.derivation(variant), form)?;
            }
            let mut refusals = Vec::new();
            // A GPU is taken only where one is asked for by name.
            let gpu = engine.settings().device.as_ref().map(|_| Backend::Wgpu);
            for backend in gpu.into_iter().chain(COMPILED) {
                match compiled(engine, variant, sizes, (backend, wish)) {
                    Ok(mut choice) => {
                        if refusals.is_empty() {
                            refusals.push(format!("{} comes first where it is built in", backend.name()));
                        }
                        choice.reasons.splice(1..1, refusals);
                        return Ok(choice);
                    }
                    // A form that was asked for must be there; without states the reference serves the only one.
                    Err(Failure::Unsupported(refusal)) if wish.form.is_some() && !variant.states.is_empty() => {
                        return Err(Failure::Unsupported(refusal));
                    }
                    Err(failure @ Failure::Unusable(Backend::Wgpu, _)) => return Err(failure),
                    // What has no kernel has none on any of them.
                    Err(Failure::Unsupported(refusal)) if backend != Backend::Wgpu => {
                        refusals.push(format!("no back end compiles it: {}", Failure::Unsupported(refusal)));
                        break;
                    }
                    Err(failure) => refusals.push(format!("not {}: {failure}", backend.name())),
                }
            }
            refusals.push("the reference runs every variant".into());
            Ok(Choice { fell_back: true, ..reference(wish, refusals) })
        }
    }
}

/// The form and chunk length that `auto` takes for long sequences, in one thread. Where nothing is priced it is what was
/// asked for, or the first form that exists, chunks first.
pub fn for_any_length(engine: &mut Engine, variant: &Variant, sizes: &Sizes, wish: Wish) -> (Form, usize) {
    let mut long = sizes.clone();
    if let Some(token) = variant.token {
        long.set(token, PRICED);
    }
    let wish = Wish { threads: Some(1), ..wish };
    let cheapest = priced(engine, (variant, &long), Backend::Llvm, wish).into_iter().next();
    cheapest.map_or_else(
        || {
            let order = [Form::Chunked, Form::Recurrent, Form::Parallel];
            let derivation = engine.derivation(variant);
            let first = || order.into_iter().find(|&form| exists(&derivation, form).is_ok());
            (wish.form.or_else(first).unwrap_or(Form::Recurrent), wish.chunk.unwrap_or(CHUNK))
        },
        |candidate| (candidate.form, candidate.chunk),
    )
}

/// The form, if the variant has it.
pub fn exists(derivation: &Derivation, form: Form) -> Result<(), Failure> {
    derivation.missing(form).map_or(Ok(()), |missing| Err(Failure::Unsupported(missing)))
}

fn reference(wish: Wish, reasons: Vec<String>) -> Choice {
    let plan = Plan {
        backend: Backend::Reference,
        form: wish.form.unwrap_or(Form::Recurrent),
        schedule: Schedule::Fused,
        chunk: wish.chunk.unwrap_or(CHUNK),
    };
    Choice { plan, reasons, fell_back: false }
}

fn compiled(
    engine: &mut Engine,
    variant: &Variant,
    sizes: &Sizes,
    (backend, wish): (Backend, Wish),
) -> Result<Choice, Failure> {
    backend.devices().map_err(|why| Failure::Unusable(backend, why))?;
    if let Some(form) = wish.form {
        exists(&engine.derivation(variant), form)?;
    }
    let mut candidates = priced(engine, (variant, sizes), backend, wish);
    if candidates.is_empty() {
        let (chunk, schedule) = (wish.chunk.unwrap_or(CHUNK), wish.schedule.unwrap_or(Schedule::Fused));
        let forms = wished_forms(wish);
        candidates = forms.into_iter().map(|form| Candidate { form, schedule, chunk, nanoseconds: f64::NAN }).collect();
    }
    let mut reasons = Vec::new();
    let mut refusal = None;
    for candidate in &candidates {
        let Candidate { form, schedule, chunk, .. } = *candidate;
        let (plan, why) = scheduled(engine, variant, sizes, (Plan { backend, form, schedule, chunk }, wish));
        match engine.prepare(variant, sizes, plan) {
            Ok(()) => {
                reasons.extend(why);
                reasons.insert(0, format!("{} runs the {}", backend.name(), candidate.name()));
                if candidates.len() > 1 {
                    let prices: Vec<String> = candidates.iter().map(Candidate::price).collect();
                    reasons.push(format!("by price, in ns a token and head: {}", prices.join(", ")));
                }
                return Ok(Choice { plan, reasons, fell_back: false });
            }
            Err(failure) => {
                reasons.push(format!("no {}: {failure}", candidate.name()));
                refusal.get_or_insert(failure);
            }
        }
    }
    Err(refusal.unwrap_or_else(|| Failure::Failed("no form was tried".into())))
}

/// The forms to choose from: only the chunked one can be split.
fn wished_forms(wish: Wish) -> Vec<Form> {
    match (wish.form, wish.schedule) {
        (Some(form), _) => vec![form],
        (None, Some(Schedule::Split)) => vec![Form::Chunked],
        (None, _) => Form::ALL.to_vec(),
    }
}

/// A form at a chunk length, and what its kernels cost a token and head.
struct Candidate {
    form: Form,
    schedule: Schedule,
    chunk: usize,
    nanoseconds: f64,
}

impl Candidate {
    fn name(&self) -> String {
        match (self.form, self.schedule) {
            (Form::Chunked, Schedule::Fused) => format!("chunked form, C = {}", self.chunk),
            (Form::Chunked, Schedule::Split) => format!("chunked form in three kernels, C = {}", self.chunk),
            (form, _) => format!("{} form", form.name()),
        }
    }

    fn price(&self) -> String {
        format!("{} {:.0}", self.name(), self.nanoseconds)
    }
}

/// The plan with the schedule that a GPU runs, and a sentence on why; for CPUs it is a part of what is priced. Where
/// nobody asks for a schedule, one that does not compile is not taken.
fn scheduled(
    engine: &mut Engine,
    variant: &Variant,
    sizes: &Sizes,
    (plan, wish): (Plan, Wish),
) -> (Plan, Option<String>) {
    if plan.backend != Backend::Wgpu || wish.schedule.is_some() || plan.form != Form::Chunked {
        return (plan, None);
    }
    let workers = workers(plan.backend, engine.settings(), wish.threads.unwrap_or_else(cores));
    let (schedule, why) = schedule(engine, variant, sizes, (plan, workers));
    match engine.prepare(variant, sizes, Plan { schedule, ..plan }) {
        Ok(()) => (Plan { schedule, ..plan }, Some(why)),
        Err(failure) => (plan, Some(format!("fused: split does not compile: {failure}"))),
    }
}

/// What runs at a time: the threads, or as many work items as the GPU is to have.
pub fn workers(backend: Backend, settings: &Settings, threads: usize) -> usize {
    match backend {
        // Where there is no GPU, preparing a plan says so.
        Backend::Wgpu => tiles_on_gpu(settings, 1).unwrap_or(1),
        _ => threads.max(1),
    }
}

/// What a further kernel costs on a GPU, in nanoseconds.
const LAUNCH: f64 = 5_000.0;

/// Bytes that kernels hand on through memory in a nanosecond, all workers together: on CPUs some lie in caches, some
/// do not.
const HANDED_ON: f64 = 10.0;
const HANDED_ON_BY_GPU: f64 = 300.0;

/// Three kernels must be faster than one by this factor, since a price is no time.
const MARGIN: f64 = 1.1;

/// The schedule of a chunked plan by the work there is, and why: three kernels where work items are fewer than
/// `workers` run at a time, chunks are several, and the price is lower.
pub fn schedule(
    engine: &mut Engine,
    variant: &Variant,
    sizes: &Sizes,
    (plan, workers): (Plan, usize),
) -> (Schedule, String) {
    let fused = |why: String| (Schedule::Fused, format!("fused: {why}"));
    let items = batch_elements(variant, sizes);
    if items >= workers {
        return fused(format!("{items} batch elements are work for {workers}"));
    }
    if tokens(variant, sizes) <= plan.chunk {
        return fused("there is one chunk".into());
    }
    let mut price = |schedule| {
        let target = plan.backend.target().unwrap_or(PRICED_FOR);
        let module = engine.emitted((variant, sizes), (Form::Chunked, schedule), (Tiles::Split, target));
        let plan = Plan { schedule, ..plan };
        module.map(|module| elapsed((variant, sizes), &module, (plan, workers), &engine.rates(plan.backend)))
    };
    match (price(Schedule::Fused), price(Schedule::Split)) {
        (Ok(one), Ok(three)) => {
            let prices = format!("{:.0} us as one kernel, {:.0} us as three, on {workers}", one / 1e3, three / 1e3);
            match three * MARGIN < one {
                true => (Schedule::Split, format!("split: by price {prices}")),
                false => fused(format!("by price {prices}")),
            }
        }
        (_, Err(refusal)) => fused(refusal.to_string()),
        (Err(_), Ok(_)) => fused("one kernel has no price".into()),
    }
}

fn tokens(variant: &Variant, sizes: &Sizes) -> usize {
    variant.token.map_or(0, |axis| sizes.get(axis).unwrap_or(0))
}

/// The price of a run in one thread, in nanoseconds.
///
/// # Errors
/// A form that the variant lacks.
pub(crate) fn price(
    engine: &mut Engine,
    (variant, sizes): (&Variant, &Sizes),
    plan: Plan,
    rates: &Rates,
) -> Result<f64, Failure> {
    let target = plan.backend.target().unwrap_or(PRICED_FOR);
    let module = engine.emitted((variant, sizes), (plan.form, plan.schedule), (Tiles::Whole, target));
    let module = module.map_err(Failure::Unsupported)?;
    Ok(elapsed((variant, sizes), &module, (plan, 1), rates))
}

/// The price of a run's kernels as a target's emitter takes them, one after another, on so many workers, in nanoseconds. What one work item costs is
/// counted on few tokens: all cost per token is alike.
fn elapsed(
    (variant, sizes): (&Variant, &Sizes),
    module: &kernel::Module,
    (plan, workers): (Plan, usize),
    rates: &Rates,
) -> f64 {
    let (tokens, gpu) = (tokens(variant, sizes), plan.backend == Backend::Wgpu);
    let most = if plan.form == Form::Parallel { tokens } else { PRICED.max(2 * plan.chunk) };
    let counted = tokens.min(most);
    let chunk = chunk_length(plan.form, plan.chunk, counted);
    let tiles = workers.div_ceil(batch_elements(variant, sizes).max(1));
    let few = kernel::work(module, &*with_tokens(variant, sizes, counted), (chunk, tiles), rates);
    let many = kernel::items(module, &*with_tokens(variant, sizes, tokens), chunk, tiles);
    let growth = tokens as f64 / counted.max(1) as f64;
    let call = if gpu { LAUNCH } else { rates.call * f64::from(u8::from(workers > 1)) };
    let of = |(work, items): (&kernel::Work, f64)| {
        let total = work.items * work.nanoseconds * growth;
        call + total / items.max(1.0) * (items / workers as f64).ceil()
    };
    // Written by one kernel and read by another, four bytes each.
    let bytes = 8.0 * kernel::handed_on(module, &*with_tokens(variant, sizes, counted), chunk, tiles) * growth;
    few.iter().zip(many).map(of).sum::<f64>() + bytes / if gpu { HANDED_ON_BY_GPU } else { HANDED_ON }
}

/// The sizes by name, of so many tokens.
fn with_tokens<'a>(variant: &'a Variant, sizes: &'a Sizes, tokens: usize) -> Box<dyn Fn(&str) -> usize + 'a> {
    Box::new(move |name| {
        let place = variant.axes.iter().position(|axis| axis.name == name);
        match place {
            Some(place) if variant.token.is_some_and(|token| token.0 as usize == place) => tokens,
            Some(place) => sizes.get(chunkwise_dsl::shape::AxisId(place as u32)).unwrap_or(1),
            None => 1,
        }
    })
}

/// Every form that is asked for and exists, the cheapest first.
fn priced(engine: &mut Engine, (variant, sizes): (&Variant, &Sizes), backend: Backend, wish: Wish) -> Vec<Candidate> {
    let (tokens, items) = (tokens(variant, sizes), batch_elements(variant, sizes));
    // A GPU's forms are compared by the work of one thread, and scheduled apart.
    let workers = if backend == Backend::Wgpu { 1 } else { wish.threads.unwrap_or_else(cores).max(1) };
    let tiles = if items < workers { Tiles::Split } else { Tiles::Whole };
    let (rates, target) = (engine.rates(backend), backend.target().unwrap_or(PRICED_FOR));
    let mut candidates = Vec::new();
    for form in wished_forms(wish) {
        // Of one token a chunk is a step with more around it.
        let pointless = match form {
            Form::Recurrent => false,
            Form::Chunked => tokens <= 1 && wish.schedule.is_none(),
            Form::Parallel => tokens <= 1 || tokens > ONE_CHUNK,
        };
        if pointless && wish.form.is_none() {
            continue;
        }
        for schedule in schedules((form, wish), (items, workers)) {
            let Ok(module) = engine.emitted((variant, sizes), (form, schedule), (tiles, target)) else { continue };
            for chunk in chunks((form, wish), tokens) {
                if schedule == Schedule::Split && wish.schedule.is_none() && tokens <= chunk {
                    continue;
                }
                let plan = Plan { backend, form, schedule, chunk };
                let time = elapsed((variant, sizes), &module, (plan, workers), &rates);
                let margin = if schedule == Schedule::Split { MARGIN } else { 1.0 };
                let nanoseconds = margin * time / (tokens.max(1) * items.max(1)) as f64;
                candidates.push(Candidate { form, schedule, chunk, nanoseconds });
            }
        }
    }
    candidates.sort_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds));
    candidates
}

/// The schedules to price: three kernels only where work items are fewer than workers.
fn schedules((form, wish): (Form, Wish), (items, workers): (usize, usize)) -> Vec<Schedule> {
    match wish.schedule {
        _ if form != Form::Chunked => vec![Schedule::Fused],
        Some(schedule) => vec![schedule],
        None if items < workers => Schedule::ALL.to_vec(),
        None => vec![Schedule::Fused],
    }
}

/// The chunk lengths to price: of those as long as the sequence, the first.
fn chunks((form, wish): (Form, Wish), tokens: usize) -> Vec<usize> {
    if form != Form::Chunked || wish.chunk.is_some() {
        return vec![wish.chunk.unwrap_or(CHUNK)];
    }
    let within = CHUNKS.iter().position(|chunk| *chunk >= tokens).map_or(CHUNKS.len(), |last| last + 1);
    CHUNKS[..within].to_vec()
}

#[cfg(test)]
mod tests;

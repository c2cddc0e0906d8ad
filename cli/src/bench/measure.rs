//! One entry of `bench`: a plan compiled, warmed and timed, and what its kernels do and move.

use std::time::{Duration, Instant};

use chunkwise_compiler::{
    Form,
    bind::{Sizes, carries_state, output_shape, state_shape, tensor_shape},
    kernel::flops,
};
use chunkwise_dsl::{shape::AxisId, typed::Variant};
use chunkwise_runtime::{
    Backend, Engine, Plan, Request, Tensors,
    draw::{self, Gates},
    inputs::token,
};

use super::{Arguments, plans::sizes};
use crate::failure::Failure;

/// Runs are repeated for this long, within these numbers of them.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);
const RUNS: std::ops::RangeInclusive<usize> = 5..=200;

/// Calls on one token are short, so there are more of them; they take these many tokens in turn.
const CALLS: std::ops::RangeInclusive<usize> = 50..=20_000;
const DRAWN: usize = 64;

/// The slow runs take so much longer than the fast ones where a median says little.
const DOUBTFUL: f64 = 1.25;

/// What was found of one plan.
pub struct Entry {
    pub plan: Plan,
    /// Of a run; of a call, where states are carried.
    pub tokens: usize,
    pub sizes: Sizes,
    /// Sorted.
    pub runs: Vec<Duration>,
    pub flops: u64,
    pub bytes: usize,
    /// Bytes that kernels work in, beside the tensors; None where nobody counts them.
    pub workspace: Option<usize>,
    pub compile: Duration,
}

impl Entry {
    /// The time below which this share of the runs lies, in ms.
    pub fn quantile(&self, share: f64) -> f64 {
        let place = (share * self.runs.len().saturating_sub(1) as f64).round() as usize;
        self.runs.get(place).map_or(0.0, |time| 1e3 * time.as_secs_f64())
    }

    /// Billions of these a second at the median.
    pub fn rate(&self, amount: f64) -> f64 {
        amount / (self.quantile(0.5) * 1e6).max(f64::MIN_POSITIVE)
    }

    /// Tokens a second, those of all batch elements.
    pub fn tokens_per_second(&self, batch: usize) -> f64 {
        1e9 * self.rate((self.tokens * batch) as f64)
    }

    /// Whether p80 is so far from p20 that the median says little.
    pub fn is_doubtful(&self) -> bool {
        self.quantile(0.8) > DOUBTFUL * self.quantile(0.2)
    }

    /// Tokens in a chunk.
    pub fn chunk(&self) -> usize {
        effective_chunk(self.plan, self.tokens)
    }
}

pub fn entry(
    variant: &Variant,
    (plan, tokens): (Plan, usize),
    arguments: &Arguments,
    checked: Duration,
) -> Result<Entry, Failure> {
    let shared = &arguments.shared;
    let sizes = sizes(variant, tokens, arguments)?;
    let mut engine = shared.engine()?;
    let start = Instant::now();
    engine.prepare(variant, &sizes, plan)?;
    let compile = checked + start.elapsed();
    let runs = match arguments.decode {
        true => decoded(variant, (&sizes, plan), &mut engine, arguments)?,
        false => {
            let inputs = draw::inputs(variant, &sizes, Gates::Plain, shared.seed);
            let (initial, threads) = (Tensors::new(), shared.threads());
            timed(&mut engine, Request { variant, sizes: &sizes, inputs: &inputs, initial: &initial, threads }, plan)?
        }
    };
    let flops = count(variant, &sizes, plan, tokens);
    let bytes = bytes(variant, &sizes);
    let workspace = engine.workspace((variant, &sizes), plan, shared.threads())?;
    Ok(Entry { plan, tokens, sizes, runs, flops, bytes, workspace, compile })
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

/// Sorted times of calls on one token each, every call from the states of the one before.
fn decoded(
    variant: &Variant,
    (sizes, plan): (&Sizes, Plan),
    engine: &mut Engine,
    arguments: &Arguments,
) -> Result<Vec<Duration>, Failure> {
    let shared = &arguments.shared;
    let mut drawn = sizes.clone();
    if let Some(axis) = variant.token {
        drawn.set(axis, DRAWN);
    }
    let inputs = draw::inputs(variant, &drawn, Gates::Plain, shared.seed);
    let tokens: Vec<Tensors> = (0..DRAWN).map(|t| token(variant, &inputs, t)).collect();
    let mut session = engine.session(variant, sizes, plan, shared.threads())?;
    // The first calls warm up.
    for inputs in tokens.iter().take(2) {
        session.step(inputs)?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    for inputs in tokens.iter().cycle() {
        let clock = Instant::now();
        session.step(inputs)?;
        times.push(clock.elapsed());
        if times.len() >= *CALLS.start() && (start.elapsed() >= LONG_ENOUGH || times.len() >= *CALLS.end()) {
            break;
        }
    }
    times.sort();
    Ok(times)
}

/// The useful operations of the form; those of the recurrent form for the reference, 0 where nothing compiles.
fn count(variant: &Variant, sizes: &Sizes, plan: Plan, tokens: usize) -> u64 {
    let form = if plan.backend == Backend::Reference { Form::Recurrent } else { plan.form };
    let chunk = effective_chunk(plan, tokens);
    let size_of = |name: &str| {
        let place = variant.axes.iter().position(|axis| axis.name == name);
        place.and_then(|place| sizes.get(AxisId(place as u32))).unwrap_or(0)
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

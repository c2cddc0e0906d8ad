//! One way to run a variant on any back end: `run`, `verify` and `bench` all pass here. A kernel is compiled once for a
//! form and the sizes it is compiled for; batch sizes, tokens and the chunk length are given at each run.

use std::{collections::HashMap, time::Duration, time::Instant};

use chunkwise_compiler::{
    Form, Schedule, Tiles, Unsupported,
    bind::{Sizes, carries_state},
    reference,
};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::{Backend, Unusable, cores},
    compiled::Compiled,
    inputs::arrays,
    tensor::{Tensor, Tensors},
};

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub backend: Backend,
    /// The reference ignores it.
    pub form: Form,
    /// How the chunked form is laid out in kernels; the others are fused.
    pub schedule: Schedule,
    /// Tokens in a chunk of the chunked form, >= 1.
    pub chunk: usize,
}

/// What to run on what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub variant: &'a Variant,
    pub sizes: &'a Sizes,
    pub inputs: &'a Tensors,
    /// The initial states given; the others start at their declared value.
    pub initial: &'a Tensors,
    pub threads: usize,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// In file order.
    pub outputs: Vec<(String, Tensor)>,
    /// The final states; none under an order that gives none.
    pub states: Vec<(String, Tensor)>,
    /// Time in the kernels alone.
    pub kernel_time: Duration,
}

impl Outputs {
    /// Outputs, then final states.
    pub fn all(&self) -> impl Iterator<Item = &(String, Tensor)> {
        self.outputs.iter().chain(&self.states)
    }
}

/// Why a run did not come about.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The variant lacks the form, or the form or target an operation: the command line asks for what is not there.
    Unsupported(Unsupported),
    /// The back end does not run here.
    Unusable(Backend, Unusable),
    /// The work failed.
    Failed(String),
}

impl From<Unsupported> for Failure {
    fn from(unsupported: Unsupported) -> Self {
        Failure::Unsupported(unsupported)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unsupported(unsupported) => unsupported.fmt(f),
            Failure::Unusable(backend, why) => write!(f, "the {} back end is not usable here: {why}", backend.name()),
            Failure::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// Runs variants and keeps what it compiled.
#[derive(Default)]
pub struct Engine {
    compiled: HashMap<Key, Result<Compiled, Failure>>,
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `typed::Variant::fingerprint`: args are a part of it.
    variant: u64,
    backend: Backend,
    form: Form,
    schedule: Schedule,
    /// Too few batch elements for all cores: value tiles are wanted.
    tiled: bool,
    /// Of every axis that is a constant of the kernel.
    constants: Vec<usize>,
}

impl Key {
    fn new(variant: &Variant, sizes: &Sizes, plan: Plan) -> Self {
        let Plan { backend, form, schedule, .. } = plan;
        let constants = constant_axes(variant).map(|axis| sizes.get(axis).unwrap_or(0)).collect();
        let batch = chunkwise_compiler::bind::batch_axes(variant);
        let items: usize = batch.iter().map(|axis| sizes.get(*axis).unwrap_or(1)).product();
        Self { variant: variant.fingerprint, backend, form, schedule, tiled: items < cores(), constants }
    }
}

/// The axes whose sizes are compiled in: all but the batch axes and the token axis.
fn constant_axes(variant: &Variant) -> impl Iterator<Item = chunkwise_dsl::shape::AxisId> {
    let ids = (0..variant.axes.len()).map(|place| chunkwise_dsl::shape::AxisId(place as u32));
    let batch = chunkwise_compiler::bind::batch_axes(variant);
    ids.filter(move |id| !batch.contains(id) && variant.token != Some(*id))
}

impl Engine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles what a plan runs, if it is not compiled yet.
    ///
    /// # Errors
    /// A back end that is not usable here, a form that the variant lacks, an operation that the back end cannot compile.
    pub fn prepare(&mut self, variant: &Variant, sizes: &Sizes, plan: Plan) -> Result<(), Failure> {
        if plan.backend == Backend::Reference {
            return Ok(());
        }
        plan.backend.devices().map_err(|why| Failure::Unusable(plan.backend, why))?;
        self.compiled(variant, sizes, plan).map(|_| ())
    }

    /// Runs once.
    pub fn run(&mut self, request: Request, plan: Plan) -> Result<Outputs, Failure> {
        self.prepare(request.variant, request.sizes, plan)?;
        match plan.backend {
            Backend::Reference => run_reference(request),
            _ => {
                let compiled = self.compiled(request.variant, request.sizes, plan)?;
                let tokens = request.variant.token.map_or(1, |axis| request.sizes.get(axis).unwrap_or(0));
                compiled.run(request, chunk_length(plan.form, plan.chunk, tokens))
            }
        }
    }

    fn compiled(&mut self, variant: &Variant, sizes: &Sizes, plan: Plan) -> Result<&Compiled, Failure> {
        let key = Key::new(variant, sizes, plan);
        let tiles = if key.tiled { Tiles::Split } else { Tiles::Whole };
        let entry = self.compiled.entry(key).or_insert_with(|| {
            let module = chunkwise_compiler::compile(variant, sizes, (plan.form, plan.schedule), tiles)?;
            Compiled::new(plan.backend, &module)
        });
        entry.as_ref().map_err(Failure::clone)
    }
}

/// Tokens whose values the recurrent form computes before it steps through them.
const BLOCK: usize = 32;

/// The most tokens in a chunk; None for all of them.
pub fn longest_chunk(form: Form, chunk: usize) -> Option<usize> {
    match form {
        Form::Recurrent => Some(BLOCK),
        Form::Chunked => Some(chunk),
        Form::Parallel => None,
    }
}

/// Tokens in a chunk: all of them in the parallel form; a chunk longer than the sequence is as long as it.
pub(crate) fn chunk_length(form: Form, chunk: usize, tokens: usize) -> usize {
    let tokens = tokens.max(1);
    longest_chunk(form, chunk).map_or(tokens, |longest| longest.min(tokens))
}

/// The reference's results in f64: what `verify` compares with.
pub fn reference(request: Request) -> Result<reference::Results, Failure> {
    reference::run(request.variant, request.sizes, &arrays(request.inputs), &arrays(request.initial))
        .map_err(|error| Failure::Failed(error.to_string()))
}

fn run_reference(request: Request) -> Result<Outputs, Failure> {
    let start = Instant::now();
    let results = reference(request)?;
    let kernel_time = start.elapsed();
    let tensor = |(name, array): (String, reference::Array)| {
        (name, Tensor::f32(array.shape, array.data.into_iter().map(|x| x as f32).collect()))
    };
    let states = if carries_state(request.variant) { results.states } else { Vec::new() };
    Ok(Outputs {
        outputs: results.outputs.into_iter().map(tensor).collect(),
        states: states.into_iter().map(tensor).collect(),
        kernel_time,
    })
}

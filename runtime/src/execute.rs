//! One way to run a variant on any back end: `run`, `verify` and `bench` all pass here. A kernel is compiled once for a
//! form and the sizes it is compiled for; batch sizes, tokens and the chunk length are given at each run.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chunkwise_compiler::{
    Derivation, Form, Schedule, Tiles, Unsupported,
    bind::{Sizes, batch_elements, carries_state},
    kernel::{
        self, Module, Rates,
        pass::{self, Target},
    },
};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::{Backend, cores},
    compiled::Compiled,
    device::Settings,
    rates::Table,
    ready::Ready,
    reference,
    request::{Failure, Outputs, Plan, Request},
    room,
    session::{Results, Runner, Session},
};

/// Runs variants and keeps what it compiled.
#[derive(Default)]
pub struct Engine {
    compiled: HashMap<Key, Result<Compiled, Failure>>,
    /// What was derived of a variant, by its fingerprint: all forms and shapes are of one derivation.
    derivations: HashMap<u64, Arc<Derivation>>,
    /// Kernels as they were lowered: what is priced and then compiled is lowered once.
    lowered: HashMap<Lowered, Result<Arc<Module>, Unsupported>>,
    /// The same as a target's emitter takes them: what prices are of.
    emitted: HashMap<(Lowered, Target), Arc<Module>>,
    settings: Settings,
    rates: Table,
}

/// What kernels are lowered for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lowered {
    variant: u64,
    form: Form,
    schedule: Schedule,
    tiles: Tiles,
    constants: Vec<usize>,
}

impl Lowered {
    fn new(variant: &Variant, sizes: &Sizes, (form, schedule): (Form, Schedule), tiles: Tiles) -> Self {
        let constants = constant_axes(variant).map(|axis| sizes.get(axis).unwrap_or(0)).collect();
        Self { variant: variant.fingerprint, form, schedule, tiles, constants }
    }
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `typed::Variant::fingerprint`: args are a part of it.
    variant: u64,
    backend: Backend,
    form: Form,
    schedule: Schedule,
    /// Tokens in a chunk, where they are compiled in.
    chunk: Option<usize>,
    /// Value tiles wanted: more than one where there are too few batch elements to keep the device busy.
    tiles: usize,
    /// Whether states lie in their final place from the start (`kernel::in_place`).
    in_place: bool,
    /// Of every axis that is a constant of the kernel.
    constants: Vec<usize>,
}

impl Key {
    fn new(variant: &Variant, sizes: &Sizes, plan: Plan, settings: &Settings) -> Result<Self, Failure> {
        let Plan { backend, form, schedule, .. } = plan;
        let constants = constant_axes(variant).map(|axis| sizes.get(axis).unwrap_or(0)).collect();
        let items = batch_elements(variant, sizes);
        let (chunk, tiles) = match backend {
            Backend::Wgpu => (compiled_chunk(plan, tokens(variant, sizes)), tiles_on_gpu(settings, items)?),
            _ => (None, if items < settings.threads.unwrap_or_else(cores) { 2 } else { 1 }),
        };
        let (variant, in_place) = (variant.fingerprint, false);
        Ok(Self { variant, backend, form, schedule, chunk, tiles, in_place, constants })
    }
}

/// Value tiles that keep the GPU busy beside so many batch elements; of one element, all work items it is to have.
#[cfg(feature = "wgpu")]
pub(crate) fn tiles_on_gpu(settings: &Settings, items: usize) -> Result<usize, Failure> {
    crate::gpu::tiles_wanted(settings, items)
}

#[cfg(not(feature = "wgpu"))]
pub(crate) fn tiles_on_gpu(_: &Settings, _: usize) -> Result<usize, Failure> {
    Ok(1)
}

fn tokens(variant: &Variant, sizes: &Sizes) -> usize {
    variant.token.map_or(1, |axis| sizes.get(axis).unwrap_or(0))
}

/// The axes whose sizes are compiled in: all but the batch axes and the token axis, and all where variants are called, whose
/// token axis another one may be.
fn constant_axes(variant: &Variant) -> impl Iterator<Item = chunkwise_dsl::shape::AxisId> {
    let ids = (0..variant.axes.len()).map(|place| chunkwise_dsl::shape::AxisId(place as u32));
    let batch = chunkwise_compiler::bind::batch_axes(variant);
    let calls = !variant.calls.is_empty();
    ids.filter(move |id| calls || (!batch.contains(id) && variant.token != Some(*id)))
}

impl Engine {
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine whose runs are as the settings say.
    pub fn with(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// An engine that prices kernels by these rates, where they are known.
    pub fn with_rates(self, rates: Table) -> Self {
        Self { rates, ..self }
    }

    /// What this machine's rates are for a back end's code; those built in where none were measured.
    pub fn rates(&self, backend: Backend) -> Rates {
        self.rates.of(backend)
    }

    /// What is derived of a variant's states, whatever form or shape is asked for.
    pub fn derivation(&mut self, variant: &Variant) -> Arc<Derivation> {
        let derive = || Arc::new(Derivation::of(variant));
        Arc::clone(self.derivations.entry(variant.fingerprint).or_insert_with(derive))
    }

    /// The kernels of a form for these sizes.
    ///
    /// # Errors
    /// As `Derivation::compile`.
    pub fn module(
        &mut self,
        variant: &Variant,
        sizes: &Sizes,
        (form, schedule): (Form, Schedule),
        tiles: Tiles,
    ) -> Result<Arc<Module>, Unsupported> {
        let key = Lowered::new(variant, sizes, (form, schedule), tiles);
        self.lowered(variant, sizes, &key)
    }

    /// The same kernels after all passes of a target: what is priced.
    pub(crate) fn emitted(
        &mut self,
        (variant, sizes): (&Variant, &Sizes),
        (form, schedule): (Form, Schedule),
        (tiles, target): (Tiles, Target),
    ) -> Result<Arc<Module>, Unsupported> {
        let key = Lowered::new(variant, sizes, (form, schedule), tiles);
        let module = self.lowered(variant, sizes, &key)?;
        let emit = || Arc::new(pass::run(&module, target, &|_| None));
        Ok(Arc::clone(self.emitted.entry((key, target)).or_insert_with(emit)))
    }

    fn lowered(&mut self, variant: &Variant, sizes: &Sizes, key: &Lowered) -> Result<Arc<Module>, Unsupported> {
        if let Some(known) = self.lowered.get(key) {
            return known.clone();
        }
        let module = self.derivation(variant).compile(sizes, (key.form, key.schedule), key.tiles).map(Arc::new);
        self.lowered.insert(key.clone(), module.clone());
        module
    }

    /// Compiles what a plan runs, if it is not compiled yet.
    ///
    /// # Errors
    /// A back end that is not usable here, a form that the variant lacks, an operation that the back end cannot compile.
    pub fn prepare(&mut self, variant: &Variant, sizes: &Sizes, plan: Plan) -> Result<(), Failure> {
        room::for_tensors(variant, sizes, room::OF_CODE)?;
        if plan.backend == Backend::Reference {
            return Ok(());
        }
        plan.backend.devices().map_err(|why| Failure::Unusable(plan.backend, why))?;
        self.compiled(variant, sizes, plan).map(|_| ())
    }

    /// Runs once.
    ///
    /// # Errors
    /// As `prepare`; memory that cannot be had; inputs that are not what the variant declares.
    pub fn run(&mut self, request: Request, plan: Plan) -> Result<Outputs, Failure> {
        room::for_tensors(request.variant, request.sizes, room::OF_A_RUN)?;
        self.prepare(request.variant, request.sizes, plan)?;
        match plan.backend {
            Backend::Reference => reference::run(request),
            _ => {
                let chunk = chunk_length(plan.form, plan.chunk, tokens(request.variant, request.sizes));
                self.compiled(request.variant, request.sizes, plan)?.run(request, chunk)
            }
        }
    }

    /// Times the kernels on the same tensors until `enough` says so of all times: what a GPU is given once stays there.
    pub fn time(
        &mut self,
        request: Request,
        plan: Plan,
        enough: &dyn Fn(&[Duration]) -> bool,
    ) -> Result<Vec<Duration>, Failure> {
        room::for_tensors(request.variant, request.sizes, room::OF_A_RUN)?;
        if plan.backend == Backend::Reference {
            let mut times = Vec::new();
            while !enough(&times) {
                times.push(reference::run(request)?.kernel_time);
            }
            return Ok(times);
        }
        self.prepare(request.variant, request.sizes, plan)?;
        let chunk = chunk_length(plan.form, plan.chunk, tokens(request.variant, request.sizes));
        self.compiled(request.variant, request.sizes, plan)?.time(request, chunk, enough)
    }

    /// Bytes that a run of a plan works in beside its tensors; None for the reference, and for a run in parts.
    ///
    /// # Errors
    /// As `prepare`.
    pub fn workspace(
        &mut self,
        (variant, sizes): (&Variant, &Sizes),
        plan: Plan,
        threads: usize,
    ) -> Result<Option<usize>, Failure> {
        if plan.backend == Backend::Reference {
            return Ok(None);
        }
        room::for_tensors(variant, sizes, room::OF_CODE)?;
        let chunk = chunk_length(plan.form, plan.chunk, tokens(variant, sizes));
        Ok(self.compiled(variant, sizes, plan)?.workspace((variant, sizes), (chunk, threads)))
    }

    /// Compiles what a plan runs at these sizes, for tensors that others own.
    ///
    /// # Errors
    /// As `prepare`; the reference, which compiles nothing.
    pub fn ready(
        &mut self,
        (variant, sizes): (&Variant, &Sizes),
        plan: Plan,
        threads: usize,
    ) -> Result<Ready, Failure> {
        if plan.backend == Backend::Reference {
            return Err(Failure::Failed("the reference interprets the program and compiles nothing".into()));
        }
        self.prepare(variant, sizes, plan)?;
        let chunk = chunk_length(plan.form, plan.chunk, tokens(variant, sizes));
        let compiled = self.compiled(variant, sizes, plan)?.clone();
        Ok(Ready::new(compiled, (variant, sizes), (chunk, threads)))
    }

    /// The same for states that stay where they are: a run finds them in `Lent::states` and leaves them there. None where
    /// the plan's kernels read states after they began to write them.
    ///
    /// # Errors
    /// As `ready`.
    pub fn ready_in_place(
        &mut self,
        (variant, sizes): (&Variant, &Sizes),
        plan: Plan,
        threads: usize,
    ) -> Result<Option<Ready>, Failure> {
        room::for_tensors(variant, sizes, room::OF_CODE)?;
        plan.backend.devices().map_err(|why| Failure::Unusable(plan.backend, why))?;
        let (compiled, in_place) = self.carrying((variant, sizes), plan, threads)?;
        let chunk = chunk_length(plan.form, plan.chunk, tokens(variant, sizes));
        Ok(in_place.then(|| Ready::new(compiled, (variant, sizes), (chunk, threads)).in_place()))
    }

    /// Lays out calls of one plan at these sizes, each of which goes on from the states that the one before left.
    ///
    /// # Errors
    /// As `prepare`; working memory that cannot be had.
    pub fn session(
        &mut self,
        variant: &Variant,
        sizes: &Sizes,
        plan: Plan,
        threads: usize,
    ) -> Result<Session, Failure> {
        room::for_tensors(variant, sizes, room::OF_A_RUN)?;
        let results = Results::of(variant, sizes);
        let runner = match plan.backend {
            Backend::Reference => Runner::Reference,
            _ => {
                plan.backend.devices().map_err(|why| Failure::Unusable(plan.backend, why))?;
                let (compiled, in_place) = self.carrying((variant, sizes), plan, threads)?;
                let chunk = chunk_length(plan.form, plan.chunk, tokens(variant, sizes));
                let (outputs, states) = results.names();
                match compiled.prepare((variant, sizes), (chunk, threads), (&outputs, &states))? {
                    Some(steps) => Runner::Prepared { steps, in_place },
                    None => Runner::Compiled(compiled, chunk),
                }
            }
        };
        Ok(Session::new((variant, sizes), threads, runner, results))
    }

    /// Code that finds and leaves states in one place, if there can be any; and whether it does.
    fn carrying(
        &mut self,
        (variant, sizes): (&Variant, &Sizes),
        plan: Plan,
        threads: usize,
    ) -> Result<(Compiled, bool), Failure> {
        let mut key = Key::new(variant, sizes, plan, &self.settings)?;
        if plan.backend != Backend::Wgpu && carries_state(variant) {
            let items = batch_elements(variant, sizes);
            (key.in_place, key.tiles) = (true, if items < threads { 2 } else { 1 });
            if !self.compiled.contains_key(&key) {
                let module = self.module(variant, sizes, (plan.form, plan.schedule), tiles_of(&key))?;
                match kernel::in_place(&module) {
                    Some(module) => {
                        self.compiled
                            .insert(key.clone(), Compiled::new(plan.backend, &module, self.settings.precision));
                    }
                    None => key.in_place = false,
                }
            }
        }
        let in_place = key.in_place;
        self.of_key((variant, sizes), plan, key).map(|compiled| (compiled.clone(), in_place))
    }

    fn compiled(&mut self, variant: &Variant, sizes: &Sizes, plan: Plan) -> Result<&Compiled, Failure> {
        let key = Key::new(variant, sizes, plan, &self.settings)?;
        self.of_key((variant, sizes), plan, key)
    }

    fn of_key(&mut self, (variant, sizes): (&Variant, &Sizes), plan: Plan, key: Key) -> Result<&Compiled, Failure> {
        if !self.compiled.contains_key(&key) {
            let compiled = self.compile((variant, sizes), plan, &key);
            self.compiled.insert(key.clone(), compiled);
        }
        self.compiled[&key].as_ref().map_err(Failure::clone)
    }

    fn compile(&mut self, (variant, sizes): (&Variant, &Sizes), plan: Plan, key: &Key) -> Result<Compiled, Failure> {
        #[cfg(feature = "wgpu")]
        if plan.backend == Backend::Wgpu {
            let derivation = &*self.derivation(variant);
            let (layout, settings) = ((plan.form, plan.schedule), &self.settings);
            let build = crate::gpu::Build { derivation, sizes, layout, chunk: key.chunk, tiles: key.tiles, settings };
            return Compiled::shaders(&build);
        }
        let module = self.module(variant, sizes, (plan.form, plan.schedule), tiles_of(key))?;
        Compiled::new(plan.backend, &module, self.settings.precision)
    }
}

fn tiles_of(key: &Key) -> Tiles {
    if key.tiles > 1 { Tiles::Split } else { Tiles::Whole }
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

/// The chunk length that a shader is compiled for. One serves many numbers of tokens, so it may be longer than the
/// sequence; that of the parallel form, which the sequence alone bounds, is given at each run.
pub fn compiled_chunk(plan: Plan, tokens: usize) -> Option<usize> {
    match plan.form {
        Form::Recurrent if tokens <= 1 => Some(1),
        Form::Recurrent => Some(BLOCK),
        Form::Chunked => Some(plan.chunk.max(1)),
        Form::Parallel => None,
    }
}

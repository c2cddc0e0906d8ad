//! A variant's kernel, loaded, and a request as the launch of it: tensors in, tensors out. A code generator is an `impl`
//! of `Code`; without any, nothing is ever compiled, so nothing is ever run. A run on more than a device holds is split here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chunkwise_compiler::{
    bind::{Sizes, batch_elements, carries_state, output_shape, state_shape},
    kernel::{Module, check},
};
use chunkwise_dsl::{shape::AxisId, typed::Variant};

use crate::{
    backend::Backend,
    device::Precision,
    initial::initial_states,
    launch::{Input, Launch, RunError, Steps},
    permutation,
    request::{Failure, Outputs, Request},
    split,
    tensor::{Data, Tensor, Tensors},
};

/// Code in memory.
#[derive(Clone)]
pub struct Compiled(Arc<dyn Code>);

/// Whether times taken so far are enough.
type Enough<'a> = &'a dyn Fn(&[Duration]) -> bool;

/// Names of outputs and of states.
type Names<'a> = (&'a [String], &'a [String]);

/// What a back end loads.
trait Code: Send + Sync {
    /// Runs once; time in the kernels alone.
    fn run(&self, launch: &mut Launch<'_>, threads: usize) -> Result<Duration, RunError>;

    /// Times the kernels on the same tensors until `enough` says so.
    fn time(&self, launch: &mut Launch<'_>, (threads, enough): (usize, Enough<'_>)) -> Result<Vec<Duration>, RunError> {
        let mut times = Vec::new();
        while !enough(&times) {
            times.push(self.run(launch, threads)?);
        }
        Ok(times)
    }

    /// Runs of a launch's sizes, prepared once; None where every run is made anew.
    ///
    /// # Errors
    /// Sizes or names that do not fit the module, working memory that cannot be had.
    fn prepare(self: Arc<Self>, _: &Launch<'_>, _: usize, _: Names<'_>) -> Result<Option<Box<dyn Steps>>, RunError> {
        Ok(None)
    }

    /// Tokens in a chunk and value tiles of a launch: those wished for, where they are not compiled in.
    fn shape(&self, wished: (i64, i64)) -> (i64, i64) {
        wished
    }

    /// Whether a launch of these sizes can run at once.
    fn holds(&self, _: &Launch<'_>) -> Result<(), RunError> {
        Ok(())
    }

    /// Bytes that a launch of these sizes works in beside its tensors.
    fn workspace(&self, launch: &Launch<'_>, threads: usize) -> Result<usize, RunError>;
}

#[cfg(any(feature = "cranelift", feature = "llvm"))]
impl Code for crate::cpu::Loaded {
    fn run(&self, launch: &mut Launch<'_>, threads: usize) -> Result<Duration, RunError> {
        let times = self.repeat(launch, threads, &mut |_| true)?;
        Ok(times.into_iter().sum())
    }

    fn time(&self, launch: &mut Launch<'_>, (threads, enough): (usize, Enough<'_>)) -> Result<Vec<Duration>, RunError> {
        self.repeat(launch, threads, &mut |times| enough(times))
    }

    fn prepare(
        self: Arc<Self>,
        launch: &Launch<'_>,
        threads: usize,
        names: Names<'_>,
    ) -> Result<Option<Box<dyn Steps>>, RunError> {
        let fit = self.admission().measure(launch)?;
        Ok(Some(Box::new(crate::cpu::Repeated::new(self, fit, threads, names)?)))
    }

    fn workspace(&self, launch: &Launch<'_>, threads: usize) -> Result<usize, RunError> {
        self.workspace(launch, threads)
    }
}

#[cfg(feature = "wgpu")]
impl Code for crate::gpu::Loaded {
    fn run(&self, launch: &mut Launch<'_>, _: usize) -> Result<Duration, RunError> {
        self.run(launch)
    }

    fn time(&self, launch: &mut Launch<'_>, (_, enough): (usize, Enough<'_>)) -> Result<Vec<Duration>, RunError> {
        self.time(launch, enough)
    }

    fn shape(&self, (chunk, _): (i64, i64)) -> (i64, i64) {
        (self.chunk().unwrap_or(chunk), self.tiles())
    }

    fn holds(&self, launch: &Launch<'_>) -> Result<(), RunError> {
        self.holds(launch)
    }

    fn workspace(&self, launch: &Launch<'_>, _: usize) -> Result<usize, RunError> {
        self.workspace(launch)
    }
}

impl Compiled {
    /// Generates code for this machine's processor, with products of this precision where the back end has them, and
    /// loads it.
    ///
    /// # Errors
    /// A failure of the code generator.
    #[cfg_attr(not(feature = "cranelift"), allow(unused_variables, reason = "only Cranelift has several"))]
    pub fn new(backend: Backend, module: &Module, precision: Precision) -> Result<Self, Failure> {
        let module = &check(module.clone()).map_err(|errors| Failure::Failed(errors.join("; ")))?;
        match backend {
            #[cfg(feature = "cranelift")]
            Backend::Cranelift => {
                crate::cpu::cranelift::load(module, precision).map(|loaded| Self(Arc::new(loaded))).map_err(failed)
            }
            #[cfg(feature = "llvm")]
            Backend::Llvm => crate::cpu::llvm::load(module).map(|loaded| Self(Arc::new(loaded))).map_err(failed),
            _ => Err(Failure::Failed(format!("{} has no code generator for kernel `{}`", backend.name(), module.name))),
        }
    }

    /// Generates shaders and loads them.
    ///
    /// # Errors
    /// As `gpu::Build::load`.
    #[cfg(feature = "wgpu")]
    pub fn shaders(build: &crate::gpu::Build<'_>) -> Result<Self, Failure> {
        build.load().map(|loaded| Self(Arc::new(loaded)))
    }

    /// Times a launch of any module in one thread until `enough` says so.
    ///
    /// # Errors
    /// A launch that does not fit the module.
    pub(crate) fn time_launch(&self, launch: &mut Launch<'_>, enough: Enough<'_>) -> Result<Vec<Duration>, Failure> {
        self.0.time(launch, (1, enough)).map_err(failed)
    }

    /// Runs with `chunk` tokens in a chunk.
    ///
    /// # Errors
    /// An initial value that only the reference evaluates, a batch element that the device does not hold, a failure of
    /// the device, or a launch that does not fit (a bug).
    pub fn run(&self, request: Request, chunk: usize) -> Result<Outputs, Failure> {
        match self.0.holds(&Work::sized(&*self.0, &request, chunk).empty()) {
            Ok(()) => self.run_whole(request, chunk),
            Err(RunError::TooLarge { what, bytes, most }) => {
                let Some((axis, [first, second])) = split::halves(request) else {
                    let error = RunError::TooLarge { what, bytes, most };
                    return Err(Failure::Failed(format!("{error}, and no batch axis is left to split the run along")));
                };
                let first = self.run(first.request(request), chunk)?;
                let second = self.run(second.request(request), chunk)?;
                Ok(split::joined(request.variant, axis, [first, second]))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn run_whole(&self, request: Request, chunk: usize) -> Result<Outputs, Failure> {
        let mut work = Work::sized(&*self.0, &request, chunk).with_tensors(&request)?;
        let kernel_time = self.0.run(&mut work.launch(request.inputs), request.threads).map_err(failed)?;
        let states = if carries_state(request.variant) { work.states } else { Vec::new() };
        Ok(Outputs { outputs: work.outputs, states, kernel_time })
    }

    /// Runs of a request's sizes that are prepared once; None where this back end makes every run anew.
    ///
    /// # Errors
    /// Working memory that cannot be had, or a launch that does not fit (a bug).
    pub(crate) fn prepare(
        &self,
        (variant, sizes): (&Variant, &Sizes),
        (chunk, threads): (usize, usize),
        names: Names<'_>,
    ) -> Result<Option<Box<dyn Steps>>, Failure> {
        let none = Tensors::new();
        let request = Request { variant, sizes, inputs: &none, initial: &none, threads };
        let work = Work::sized(&*self.0, &request, chunk);
        Arc::clone(&self.0).prepare(&work.empty(), threads, names).map_err(failed)
    }

    /// How a run of these sizes is laid out.
    pub(crate) fn layout(&self, (variant, sizes): (&Variant, &Sizes), (chunk, threads): (usize, usize)) -> Layout {
        let none = Tensors::new();
        let request = Request { variant, sizes, inputs: &none, initial: &none, threads };
        let Work { sizes, chunk, tiles, .. } = Work::sized(&*self.0, &request, chunk);
        Layout { sizes, chunk, tiles }
    }

    /// Runs on tensors that others own, in one piece.
    ///
    /// # Errors
    /// A launch that does not fit the module or the device, a failure of the device.
    pub(crate) fn launch(&self, launch: &mut Launch<'_>, threads: usize) -> Result<Duration, Failure> {
        self.0.run(launch, threads).map_err(failed)
    }

    /// Bytes that a run of these sizes works in beside its tensors; None where it is run in parts.
    pub(crate) fn workspace(
        &self,
        (variant, sizes): (&Variant, &Sizes),
        (chunk, threads): (usize, usize),
    ) -> Option<usize> {
        let none = Tensors::new();
        let request = Request { variant, sizes, inputs: &none, initial: &none, threads };
        self.0.workspace(&Work::sized(&*self.0, &request, chunk).empty(), threads).ok()
    }

    /// Times the kernels again and again on the same tensors until `enough` says so of all times. A run that is split
    /// is timed as a whole, its parts summed.
    ///
    /// # Errors
    /// As `run`.
    pub fn time(&self, request: Request, chunk: usize, enough: Enough<'_>) -> Result<Vec<Duration>, Failure> {
        let sized = Work::sized(&*self.0, &request, chunk);
        if self.0.holds(&sized.empty()).is_ok() {
            let mut work = sized.with_tensors(&request)?;
            return self.0.time(&mut work.launch(request.inputs), (request.threads, enough)).map_err(failed);
        }
        let mut times = Vec::new();
        while !enough(&times) {
            times.push(self.run(request, chunk)?.kernel_time);
        }
        Ok(times)
    }
}

/// How the work of a launch is laid out: its sizes, and what the code makes of the wishes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) sizes: BTreeMap<String, i64>,
    /// Tokens in a chunk.
    pub(crate) chunk: i64,
    /// Value tiles.
    pub(crate) tiles: i64,
}

/// What a launch borrows.
struct Work {
    sizes: BTreeMap<String, i64>,
    chunk: i64,
    tiles: i64,
    start: Tensors,
    outputs: Vec<(String, Tensor)>,
    states: Vec<(String, Tensor)>,
}

impl Work {
    /// The sizes of a request, without tensors.
    fn sized(code: &dyn Code, request: &Request, chunk: usize) -> Self {
        let Request { variant, sizes, threads, .. } = *request;
        let items = batch_elements(variant, sizes);
        let (chunk, tiles) = code.shape((chunk as i64, threads.div_ceil(items.max(1)) as i64));
        let (start, outputs, states) = Default::default();
        Self { sizes: by_name(variant, sizes), chunk, tiles, start, outputs, states }
    }

    /// Initial states, and zeros for what comes out.
    fn with_tensors(self, request: &Request) -> Result<Self, Failure> {
        let Request { variant, sizes, inputs, initial, .. } = *request;
        let tokens = variant.token.map_or(1, |axis| sizes.get(axis).unwrap_or(0));
        permutation::check(variant, tokens, inputs).map_err(Failure::Failed)?;
        let start = initial_states(variant, sizes, inputs, initial)
            .map_err(|state| Failure::Failed(format!("only the reference evaluates the initial value of `{state}`")))?;
        let outputs =
            variant.outputs().map(|of| (of.name.clone(), Tensor::zeros(output_shape(variant, of, sizes)))).collect();
        let states = variant.states.iter();
        let states = states.map(|of| (of.name.clone(), Tensor::zeros(state_shape(variant, of, sizes)))).collect();
        Ok(Self { start, outputs, states, ..self })
    }

    fn launch<'a>(&'a mut self, inputs: &'a Tensors) -> Launch<'a> {
        Launch {
            sizes: &self.sizes,
            chunk: self.chunk,
            tiles: self.tiles,
            inputs: inputs.iter().map(|(name, tensor)| (name.as_str(), input(tensor))).collect(),
            states_in: floats(&self.start),
            outputs: floats_mut(&mut self.outputs),
            states_out: floats_mut(&mut self.states),
        }
    }

    /// A launch that is only measured.
    fn empty(&self) -> Launch<'_> {
        let (inputs, states_in, outputs, states_out) = Default::default();
        Launch { sizes: &self.sizes, chunk: self.chunk, tiles: self.tiles, inputs, states_in, outputs, states_out }
    }
}

fn by_name(variant: &Variant, sizes: &Sizes) -> BTreeMap<String, i64> {
    let axes = variant.axes.iter().enumerate();
    axes.filter_map(|(place, axis)| Some((axis.name.clone(), sizes.get(AxisId(place as u32))? as i64))).collect()
}

fn failed(error: RunError) -> Failure {
    Failure::Failed(error.to_string())
}

fn input(tensor: &Tensor) -> Input<'_> {
    match &tensor.data {
        Data::F32(data) => Input::F32(data),
        Data::I32(data) => Input::I32(data),
    }
}

fn floats(tensors: &Tensors) -> BTreeMap<&str, &[f32]> {
    tensors.iter().filter_map(|(name, tensor)| Some((name.as_str(), tensor.floats()?))).collect()
}

fn floats_mut(tensors: &mut [(String, Tensor)]) -> BTreeMap<&str, &mut [f32]> {
    tensors
        .iter_mut()
        .filter_map(|(name, tensor)| match &mut tensor.data {
            Data::F32(data) => Some((name.as_str(), &mut data[..])),
            Data::I32(_) => None,
        })
        .collect()
}

#[cfg(all(test, any(feature = "cranelift", feature = "llvm")))]
mod tests {
    use chunkwise_compiler::{
        bind::bind_dims,
        kernel::{
            Access, Buffer, BufferId, BufferRole, Elem, Function, GridAxis, Int, Kernel, Map, Module, Param, ParamId,
            ParamRole, Stmt, Value, VarId,
        },
    };
    use chunkwise_dsl::{compile, source::Source};

    use super::*;
    use crate::{Request, Tensor, Tensors};

    /// c[t] = c[t-1] + x[t]; o[t] = c[t], a work item a batch element.
    fn running_sum() -> Module {
        let (batch, tokens, item, t) = (ParamId(0), ParamId(1), ParamId(2), VarId(0));
        let size = |name: &str| Param { name: name.into(), role: ParamRole::Size(name.into()) };
        let buffer = |name: &str, role, size| Buffer { name: name.into(), role, elem: Elem::F32, size };
        let all = || Int::from(batch) * tokens;
        let copy = |dst: Access, value: Value| Stmt::Map(Map::new(Vec::new(), dst, value));
        let of_item = |buffer| Access::new(BufferId(buffer), item, []);
        let of_token = |buffer| Access::new(BufferId(buffer), Int::from(item) * tokens + t, []);
        let added = Value::Call(Function::Add, vec![Value::Load(of_item(3)), Value::Load(of_token(0))]);
        let step = vec![copy(of_item(3), added), copy(of_token(1), Value::Load(of_item(3)))];
        Module {
            name: "sum".into(),
            params: vec![size("B"), size("T"), Param { name: "b".into(), role: ParamRole::Grid }],
            buffers: vec![
                buffer("x", BufferRole::Input, all()),
                buffer("o", BufferRole::Output, all()),
                buffer("c", BufferRole::StateIn, batch.into()),
                buffer("c", BufferRole::StateOut, batch.into()),
            ],
            kernels: vec![Kernel {
                name: "sum".into(),
                grid: vec![GridAxis { param: item, extent: batch.into() }],
                body: vec![
                    copy(of_item(3), Value::Load(of_item(2))),
                    Stmt::For { var: t, from: 0i64.into(), to: tokens.into(), step: 1i64.into(), body: step },
                ],
            }],
        }
    }

    #[test]
    fn a_kernel_runs_on_tensors_and_starts_from_the_declared_value() {
        let text =
            "variant sum { axes B, T; input x : [B,T]; state c : [] = 10; update c additive(x); output o[t] = c[t]; }";
        let program = compile(&Source::new("sum", text), &[]).unwrap();
        let variant = &program.variants[0];
        let sizes = bind_dims(variant, &[("B".into(), 2), ("T".into(), 3)]).unwrap();
        let inputs = Tensors::from([("x".to_string(), Tensor::f32(vec![2, 3], vec![1., 2., 3., 4., 5., 6.]))]);
        let given = Tensors::from([("c".to_string(), Tensor::f32(vec![2], vec![0., 100.]))]);
        let backend = if cfg!(feature = "llvm") { Backend::Llvm } else { Backend::Cranelift };
        let compiled = Compiled::new(backend, &running_sum(), Precision::F32).unwrap();
        let run = |initial: &Tensors| {
            compiled.run(Request { variant, sizes: &sizes, inputs: &inputs, initial, threads: 2 }, 1).unwrap()
        };
        let out = run(&Tensors::new());
        assert_eq!(out.outputs[0], ("o".to_string(), Tensor::f32(vec![2, 3], vec![11., 13., 16., 14., 19., 25.])));
        assert_eq!(run(&given).states[0], ("c".to_string(), Tensor::f32(vec![2], vec![6., 115.])));
    }
}

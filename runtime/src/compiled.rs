//! A variant's kernel, loaded, and a request as the launch of it: tensors in, tensors out. A code generator is a row of
//! `Code`; without any, nothing is ever compiled, so nothing is ever run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chunkwise_compiler::{
    bind::{batch_axes, carries_state, output_shape, state_shape},
    kernel::Module,
};
use chunkwise_dsl::shape::AxisId;

use crate::{
    backend::Backend,
    execute::{Failure, Outputs, Request},
    initial::initial_states,
    launch::{Input, Launch, RunError},
    tensor::{Data, Tensor, Tensors},
};

/// Code in memory.
pub struct Compiled(Code);

enum Code {
    #[cfg(any(feature = "cranelift", feature = "llvm"))]
    Cpu(crate::cpu::Loaded),
}

impl Code {
    fn new(backend: Backend, module: &Module) -> Result<Self, Failure> {
        match backend {
            #[cfg(feature = "cranelift")]
            Backend::Cranelift => crate::cpu::cranelift::load(module).map(Code::Cpu).map_err(failed),
            #[cfg(feature = "llvm")]
            Backend::Llvm => {
                let code = chunkwise_compiler::codegen::llvm::emit(module, &crate::cpu::host());
                let code = code.map_err(|error| Failure::Failed(error.to_string()))?;
                crate::cpu::llvm::load(module, &code).map(Code::Cpu).map_err(failed)
            }
            _ => Err(Failure::Failed(format!("{} has no code generator for kernel `{}`", backend.name(), module.name))),
        }
    }

    /// Runs once; time in the kernels alone.
    #[cfg_attr(
        not(any(feature = "cranelift", feature = "llvm")),
        allow(unused_variables, reason = "there is nothing to run")
    )]
    fn run(&self, launch: Launch<'_>, threads: usize) -> Result<Duration, RunError> {
        let clock = Instant::now();
        match *self {
            #[cfg(any(feature = "cranelift", feature = "llvm"))]
            Code::Cpu(ref loaded) => loaded.run(launch, threads).map(|()| clock.elapsed()),
        }
    }
}

impl Compiled {
    /// Generates code for this machine and loads it.
    ///
    /// # Errors
    /// A failure of the code generator.
    pub fn new(backend: Backend, module: &Module) -> Result<Self, Failure> {
        Code::new(backend, module).map(Self)
    }

    /// Runs with `chunk` tokens in a chunk.
    ///
    /// # Errors
    /// An initial value that only the reference evaluates, or a launch that does not fit (a bug).
    pub fn run(&self, request: Request, chunk: usize) -> Result<Outputs, Failure> {
        let Request { variant, sizes, inputs, initial, threads } = request;
        let start = initial_states(variant, sizes, inputs, initial)
            .map_err(|state| Failure::Failed(format!("only the reference evaluates the initial value of `{state}`")))?;
        let mut outputs: Vec<(String, Tensor)> = variant
            .outputs()
            .map(|output| (output.name.clone(), Tensor::zeros(output_shape(variant, output, sizes))))
            .collect();
        let mut states: Vec<(String, Tensor)> = variant
            .states
            .iter()
            .map(|state| (state.name.clone(), Tensor::zeros(state_shape(variant, state, sizes))))
            .collect();
        let items: usize = batch_axes(variant).iter().map(|axis| sizes.get(*axis).unwrap_or(1)).product();
        let sizes: BTreeMap<String, i64> = variant
            .axes
            .iter()
            .enumerate()
            .filter_map(|(place, axis)| Some((axis.name.clone(), sizes.get(AxisId(place as u32))? as i64)))
            .collect();
        let launch = Launch {
            sizes: &sizes,
            chunk: chunk as i64,
            tiles: threads.div_ceil(items.max(1)) as i64,
            inputs: inputs.iter().map(|(name, tensor)| (name.as_str(), input(tensor))).collect(),
            states_in: floats(&start),
            outputs: floats_mut(&mut outputs),
            states_out: floats_mut(&mut states),
        };
        let kernel_time = self.0.run(launch, threads).map_err(failed)?;
        let states = if carries_state(variant) { states } else { Vec::new() };
        Ok(Outputs { outputs, states, kernel_time })
    }
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
    tensors.iter().filter_map(|(name, tensor)| Some((name.as_str(), slice(tensor)?))).collect()
}

fn slice(tensor: &Tensor) -> Option<&[f32]> {
    match &tensor.data {
        Data::F32(data) => Some(data),
        Data::I32(_) => None,
    }
}

fn floats_mut(tensors: &mut [(String, Tensor)]) -> BTreeMap<&str, &mut [f32]> {
    tensors
        .iter_mut()
        .filter_map(|(name, tensor)| match &mut tensor.data {
            Data::F32(data) => Some((name.as_str(), data.as_mut_slice())),
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
        let compiled = Compiled::new(backend, &running_sum()).unwrap();
        let run = |initial: &Tensors| {
            compiled.run(Request { variant, sizes: &sizes, inputs: &inputs, initial, threads: 2 }, 1).unwrap()
        };
        let out = run(&Tensors::new());
        assert_eq!(out.outputs[0], ("o".to_string(), Tensor::f32(vec![2, 3], vec![11., 13., 16., 14., 19., 25.])));
        assert_eq!(run(&given).states[0], ("c".to_string(), Tensor::f32(vec![2], vec![6., 115.])));
    }
}

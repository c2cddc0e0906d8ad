//! A variant's kernel, loaded, and a request as the launch of it: tensors in, tensors out. Without a code generator
//! nothing is ever compiled, so nothing is ever run.

#[cfg(not(feature = "llvm"))]
pub use absent::Compiled;
#[cfg(feature = "llvm")]
pub use present::Compiled;

#[cfg(feature = "llvm")]
mod present {
    use std::{collections::BTreeMap, time::Instant};

    use chunkwise_compiler::{
        bind::{carries_state, output_shape, state_shape},
        codegen::llvm,
        kernel::Module,
    };
    use chunkwise_dsl::shape::AxisId;

    use crate::{
        cpu::{Loaded, host},
        execute::{Failure, Outputs, Request},
        initial::initial_states,
        launch::{Input, Launch},
        tensor::{Data, Tensor, Tensors},
    };

    /// Code in memory.
    pub struct Compiled(Loaded);

    impl Compiled {
        /// Generates code for this machine and links it.
        ///
        /// # Errors
        /// A failure of the code generator.
        pub fn new(module: &Module) -> Result<Self, Failure> {
            let code = llvm::emit(module, &host()).map_err(|error| Failure::Failed(error.to_string()))?;
            Loaded::new(module, &code).map(Self).map_err(|error| Failure::Failed(error.to_string()))
        }

        /// Runs with `chunk` tokens in a chunk.
        ///
        /// # Errors
        /// An initial value that only the reference evaluates, or a launch that does not fit (a bug).
        pub fn run(&self, request: Request, chunk: usize) -> Result<Outputs, Failure> {
            let Request { variant, sizes, inputs, initial, threads } = request;
            let start = initial_states(variant, sizes, inputs, initial).map_err(|state| {
                Failure::Failed(format!("only the reference evaluates the initial value of `{state}`"))
            })?;
            let mut outputs: Vec<(String, Tensor)> = variant
                .outputs()
                .map(|output| (output.name.clone(), Tensor::zeros(output_shape(variant, output, sizes))))
                .collect();
            let mut states: Vec<(String, Tensor)> = variant
                .states
                .iter()
                .map(|state| (state.name.clone(), Tensor::zeros(state_shape(variant, state, sizes))))
                .collect();
            let sizes: BTreeMap<String, i64> = variant
                .axes
                .iter()
                .enumerate()
                .filter_map(|(place, axis)| Some((axis.name.clone(), sizes.get(AxisId(place as u32))? as i64)))
                .collect();
            let launch = Launch {
                sizes: &sizes,
                chunk: chunk as i64,
                inputs: inputs.iter().map(|(name, tensor)| (name.as_str(), input(tensor))).collect(),
                states_in: floats(&start),
                outputs: floats_mut(&mut outputs),
                states_out: floats_mut(&mut states),
            };
            let clock = Instant::now();
            self.0.run(launch, threads).map_err(|error| Failure::Failed(error.to_string()))?;
            let kernel_time = clock.elapsed();
            let states = if carries_state(variant) { states } else { Vec::new() };
            Ok(Outputs { outputs, states, kernel_time })
        }
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
}

#[cfg(not(feature = "llvm"))]
mod absent {
    use chunkwise_compiler::kernel::Module;

    use crate::execute::{Failure, Outputs, Request};

    /// Nothing.
    pub enum Compiled {}

    impl Compiled {
        pub fn new(module: &Module) -> Result<Self, Failure> {
            Err(Failure::Failed(format!(
                "there is no code generator for kernel `{}`: build with --features llvm",
                module.name
            )))
        }

        pub fn run(&self, _: Request, _: usize) -> Result<Outputs, Failure> {
            match *self {}
        }
    }
}

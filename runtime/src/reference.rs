//! Runs of the compiler's own interpreter of typed programs, the oracle: its results in f64, and as those of a back end.

use std::time::Instant;

use chunkwise_compiler::{bind::carries_state, reference};

use crate::{
    inputs::arrays,
    request::{Failure, Outputs, Request},
    tensor::Tensor,
};

/// The reference's results in f64: what `verify` compares with.
pub fn results(request: Request) -> Result<reference::Results, Failure> {
    reference::run(request.variant, request.sizes, &arrays(request.inputs), &arrays(request.initial))
        .map_err(|error| Failure::Failed(error.to_string()))
}

pub(crate) fn run(request: Request) -> Result<Outputs, Failure> {
    let start = Instant::now();
    let results = results(request)?;
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

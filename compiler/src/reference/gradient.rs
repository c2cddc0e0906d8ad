//! Reference gradients: directional derivatives, one run a direction. Slow, and sharing nothing with the adjoint.

use std::collections::BTreeMap;

use chunkwise_dsl::typed::{Dtype, Variant};

use super::dual::Dual;
use super::{Array, EvalError, Results, run_in};
use crate::bind::Sizes;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Array>;

/// How outputs and final states change as inputs and initial states move along a direction. A tensor that the direction
/// does not name stays as it is; one that `initial` does not hold cannot move.
///
/// # Errors
/// As `run`.
pub fn along(
    variant: &Variant,
    sizes: &Sizes,
    (inputs, initial): (&Tensors, &Tensors),
    direction: &Tensors,
) -> Result<Results, EvalError> {
    let moving = |tensors: &Tensors| -> BTreeMap<String, Array<Dual>> {
        tensors.iter().map(|(name, array)| (name.clone(), pair(array, direction.get(name)))).collect()
    };
    let results = run_in(variant, sizes, &moving(inputs), &moving(initial))?;
    let slope = |(name, array): (String, Array<Dual>)| {
        let data = array.data.into_iter().map(|x| x.dx).collect();
        (name, Array { shape: array.shape, data })
    };
    Ok(Results {
        outputs: results.outputs.into_iter().map(slope).collect(),
        states: results.states.into_iter().map(slope).collect(),
    })
}

fn pair(array: &Array, direction: Option<&Array>) -> Array<Dual> {
    let dx = |at: usize| direction.and_then(|direction| direction.data.get(at)).copied().unwrap_or(0.0);
    let data = array.data.iter().enumerate().map(|(at, x)| Dual { x: *x, dx: dx(at) }).collect();
    Array { shape: array.shape.clone(), data }
}

/// The gradients of every real input, param and given initial state, for cotangents of outputs and of final states by
/// their names (those absent are 0): one run for every entry, so for small sizes.
///
/// # Errors
/// As `run`.
pub fn gradients(
    variant: &Variant,
    sizes: &Sizes,
    (inputs, initial): (&Tensors, &Tensors),
    cotangents: &Tensors,
) -> Result<Tensors, EvalError> {
    let real = variant.tensors.iter().filter(|tensor| tensor.dtype == Dtype::F32);
    let of_inputs = real.filter_map(|tensor| Some((&tensor.name, inputs.get(&tensor.name)?)));
    let mut gradients = Tensors::new();
    for (name, array) in of_inputs.chain(initial) {
        let mut gradient = Array::zeros(array.shape.clone());
        for at in 0..array.data.len() {
            let mut unit = Array::zeros(array.shape.clone());
            unit.data[at] = 1.0;
            let slopes = along(variant, sizes, (inputs, initial), &Tensors::from([(name.clone(), unit)]))?;
            gradient.data[at] = inner(&slopes, cotangents);
        }
        gradients.insert(name.clone(), gradient);
    }
    Ok(gradients)
}

/// <cotangents, slopes>, over outputs and final states.
pub fn inner(slopes: &Results, cotangents: &Tensors) -> f64 {
    let all = slopes.outputs.iter().chain(&slopes.states);
    let with = all.filter_map(|(name, slope)| Some((slope, cotangents.get(name)?)));
    with.map(|(slope, by)| {
        slope.data.iter().zip(&by.data).filter(|(_, by)| **by != 0.0).map(|(x, by)| x * by).sum::<f64>()
    })
    .sum()
}

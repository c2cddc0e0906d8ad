//! The reference: the checked program evaluated as it is written, in f64, token by token and pair by pair. Every form and
//! every back end is held against it, so it shares nothing with the derivation: it reads `typed` and knows no e-graph,
//! no form, no kernel. Rooms: `scalar` functions, `value`, `linear`, `sequence` and `reduce` over values, `facts` what
//! an expression depends on, `eval` expressions, `visible` order and locality, `scan` states.
//!
//! One evaluator serves one batch element under one order. Orders are merged, and norms across heads taken, in between.
//! Variants that call others are run part by part (`calls`).

mod calls;
mod dual;
mod eval;
mod facts;
mod gradient;
mod job;
mod linear;
mod number;
mod reduce;
mod scalar;
mod scan;
mod sequence;
#[cfg(test)]
mod tests;
mod value;
mod visible;

use std::collections::BTreeMap;

use chunkwise_dsl::typed::Variant;

use crate::bind::{Sizes, batch_axes, carries_state, state_shape, tensor_shape};
use eval::World;
use facts::Facts;
pub use gradient::{Tensors, along, gradients, inner};
use job::Job;
use number::Number;
pub use value::Array;
use value::MOST_DIMS;

/// What a run gives: outputs in file order, and the final states where they are carried (none otherwise). Shapes are
/// those of `bind::output_shape` and `bind::state_shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Results<N = f64> {
    pub outputs: Vec<(String, Array<N>)>,
    pub states: Vec<(String, Array<N>)>,
}

/// Why a program could not be evaluated: its tensors are not those that it declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalError {
    pub message: String,
}

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EvalError {}

/// Evaluates a variant. `inputs` holds every input and param in its declared shape, `initial` any initial states
/// (`[batch axes.., own dims..]`). Errors: a tensor missing or misshapen, an initial state where none is carried.
pub fn run(
    variant: &Variant,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array>,
    initial: &BTreeMap<String, Array>,
) -> Result<Results, EvalError> {
    run_in(variant, sizes, inputs, initial)
}

/// `run` in numbers of either kind.
fn run_in<N: Number>(
    variant: &Variant,
    sizes: &Sizes,
    inputs: &BTreeMap<String, Array<N>>,
    initial: &BTreeMap<String, Array<N>>,
) -> Result<Results<N>, EvalError> {
    if !variant.calls.is_empty() {
        return calls::run(variant, sizes, (inputs, initial));
    }
    check_ranks(variant)?;
    let facts = Facts::find(variant, sizes);
    let batch: Vec<usize> = batch_axes(variant).iter().map(|axis| sizes.get(*axis).unwrap_or(0)).collect();
    let job = Job {
        world: World { variant, sizes, facts: &facts },
        inputs: ordered_inputs(variant, sizes, inputs)?,
        initial: ordered_states(variant, sizes, initial)?,
        orders: if variant.orders.is_empty() { vec![None] } else { variant.orders.iter().map(Some).collect() },
        elements: batch.iter().product(),
        batch,
    };
    job.check_permutations()?;
    let (outputs, states) = job.run()?;
    Ok(job.assemble(&outputs, &states))
}

fn failed(message: String) -> EvalError {
    EvalError { message }
}

fn check_ranks(variant: &Variant) -> Result<(), EvalError> {
    let tensors = variant.tensors.iter().map(|tensor| (&tensor.name, tensor.dims.len()));
    let lets = variant.lets.iter().map(|named| (&named.name, named.indices.len() + named.ty.dims().len()));
    match tensors.chain(lets).find(|(_, rank)| *rank > MOST_DIMS) {
        Some((name, rank)) => Err(failed(format!("`{name}` has {rank} axes, expected at most {MOST_DIMS}"))),
        None => Ok(()),
    }
}

fn check_shape<N>(name: &str, array: &Array<N>, wanted: &[usize]) -> Result<(), EvalError> {
    if array.shape != wanted || array.data.len() != wanted.iter().product::<usize>() {
        return Err(failed(format!("tensor `{name}` is {:?}, expected {wanted:?}", array.shape)));
    }
    Ok(())
}

fn ordered_inputs<'a, N>(
    variant: &Variant,
    sizes: &Sizes,
    inputs: &'a BTreeMap<String, Array<N>>,
) -> Result<Vec<&'a Array<N>>, EvalError> {
    let find = |tensor: &chunkwise_dsl::typed::Tensor| {
        let wanted = tensor_shape(tensor, sizes);
        let missing = || failed(format!("tensor `{}` was not found, expected {wanted:?}", tensor.name));
        let array = inputs.get(&tensor.name).ok_or_else(missing)?;
        check_shape(&tensor.name, array, &wanted)?;
        Ok(array)
    };
    variant.tensors.iter().map(find).collect()
}

fn ordered_states<'a, N>(
    variant: &Variant,
    sizes: &Sizes,
    initial: &'a BTreeMap<String, Array<N>>,
) -> Result<Vec<Option<&'a Array<N>>>, EvalError> {
    if let Some(name) = initial.keys().find(|name| !variant.states.iter().any(|state| state.name == **name)) {
        return Err(failed(format!("an initial state `{name}` was found, but `{}` has no such state", variant.name)));
    }
    if let Some(name) = initial.keys().next().filter(|_| !carries_state(variant)) {
        let rule = "it is taken only under one forward order (`causal`, `raster`, `column`) and without `local`";
        return Err(failed(format!("an initial state `{name}` was found, expected none: {rule}")));
    }
    let find = |state: &chunkwise_dsl::typed::State| {
        let array = initial.get(&state.name);
        if let Some(array) = array {
            check_shape(&state.name, array, &state_shape(variant, state, sizes))?;
        }
        Ok(array)
    };
    variant.states.iter().map(find).collect()
}

//! The reference: the checked program evaluated as it is written, in f64, token by token and pair by pair. Every form and
//! every back end is held against it, so it shares nothing with the derivation: it reads `typed` and knows no e-graph,
//! no form, no kernel. Rooms: `scalar` functions, `value`, `linear`, `sequence` and `reduce` over values, `facts` what
//! an expression depends on, `eval` expressions, `visible` order and locality, `scan` states.
//!
//! One evaluator serves one batch element under one order. Orders are merged, and norms across heads taken, in between.

mod eval;
mod facts;
mod linear;
mod reduce;
mod scalar;
mod scan;
mod sequence;
#[cfg(test)]
mod tests;
mod value;
mod visible;

use std::collections::BTreeMap;

use chunkwise_dsl::typed::{LetId, LetValue, Merge, Norm, Order, Output, OutputDim, Stmt, Variant};

use crate::bind::{
    Sizes, batch_axes, carries_state, output_dims, output_own_shape, output_shape, state_shape, tensor_shape,
};
use eval::{Evaluator, World, for_each_place};
use facts::Facts;
use scan::{Pass, Wanted};
pub use value::Array;
use value::{Dims, MOST_DIMS, Value};

/// Deep programs recurse deeply; only what is touched costs memory.
const STACK: usize = 64 << 20;

/// What a run gives: outputs in file order, and the final states where they are carried (none otherwise). Shapes are
/// those of `bind::output_shape` and `bind::state_shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    pub outputs: Vec<(String, Array)>,
    pub states: Vec<(String, Array)>,
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
    let (outputs, states) = match staged(variant) {
        Some(read) => job.run_staged(read)?,
        None => job.run_whole()?,
    };
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

fn check_shape(name: &str, array: &Array, wanted: &[usize]) -> Result<(), EvalError> {
    if array.shape != wanted || array.data.len() != wanted.iter().product::<usize>() {
        return Err(failed(format!("tensor `{name}` is {:?}, expected {wanted:?}", array.shape)));
    }
    Ok(())
}

fn ordered_inputs<'a>(
    variant: &Variant,
    sizes: &Sizes,
    inputs: &'a BTreeMap<String, Array>,
) -> Result<Vec<&'a Array>, EvalError> {
    let find = |tensor: &chunkwise_dsl::typed::Tensor| {
        let wanted = tensor_shape(tensor, sizes);
        let missing = || failed(format!("tensor `{}` was not found, expected {wanted:?}", tensor.name));
        let array = inputs.get(&tensor.name).ok_or_else(missing)?;
        check_shape(&tensor.name, array, &wanted)?;
        Ok(array)
    };
    variant.tensors.iter().map(find).collect()
}

fn ordered_states<'a>(
    variant: &Variant,
    sizes: &Sizes,
    initial: &'a BTreeMap<String, Array>,
) -> Result<Vec<Option<&'a Array>>, EvalError> {
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

/// The let that is complete, merged over orders, before outputs are evaluated: the read, or what a norm across heads is
/// of where there is none.
fn staged(variant: &Variant) -> Option<LetId> {
    let read = variant.body.iter().find_map(|stmt| match stmt {
        Stmt::Read(id) => Some(*id),
        _ => None,
    });
    read.or_else(|| head_norms(variant).next().map(|(_, of, _)| of))
}

/// The norms across heads in file order: the let, what it is of, the norm.
fn head_norms(variant: &Variant) -> impl Iterator<Item = (LetId, LetId, Norm)> {
    variant.lets.iter().enumerate().filter_map(|(at, named)| match &named.value {
        LetValue::Norm { of, norm, heads: true } => Some((LetId(at as u32), *of, *norm)),
        _ => None,
    })
}

/// Own-ordered data: by output (or state), by batch element.
type ByElement = Vec<Vec<Vec<f64>>>;

struct Job<'a> {
    world: World<'a>,
    inputs: Vec<&'a Array>,
    initial: Vec<Option<&'a Array>>,
    orders: Vec<Option<&'a Order>>,
    /// The sizes of the batch axes, and how many elements that makes.
    batch: Vec<usize>,
    elements: usize,
}

impl<'a> Job<'a> {
    /// Everything in one pass for each order; what depends on the order is merged.
    fn run_whole(&self) -> Result<(ByElement, ByElement), EvalError> {
        let outputs: Vec<&Output> = self.world.variant.outputs().collect();
        let wanted = Wanted { lets: Vec::new(), outputs: outputs.clone() };
        let passes = self.for_each_element(&|element| {
            let mut merged = self.pass(element, self.orders[0], &wanted);
            for order in &self.orders[1..] {
                let pass = self.pass(element, *order, &wanted);
                for ((output, sum), more) in outputs.iter().zip(&mut merged.outputs).zip(&pass.outputs) {
                    if self.world.facts.exprs[output.value.index()].needs.order {
                        sum.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
                    }
                }
            }
            for (output, sum) in outputs.iter().zip(&mut merged.outputs) {
                if self.world.facts.exprs[output.value.index()].needs.order {
                    self.finish_merge(sum);
                }
            }
            merged
        })?;
        Ok(self.transposed(passes))
    }

    /// The read first, merged; then norms across heads; then the outputs.
    fn run_staged(&self, read: LetId) -> Result<(ByElement, ByElement), EvalError> {
        let wanted = Wanted { lets: vec![read], outputs: Vec::new() };
        let reads = self.for_each_element(&|element| {
            let mut merged = self.pass(element, self.orders[0], &wanted);
            for order in &self.orders[1..] {
                let pass = self.pass(element, *order, &wanted);
                merged.lets[0].iter_mut().zip(&pass.lets[0]).for_each(|(sum, x)| *sum += x);
            }
            self.finish_merge(&mut merged.lets[0]);
            merged
        })?;
        let mut given = vec![(read, reads.iter().map(|pass| pass.lets[0].clone()).collect::<Vec<_>>())];
        for (id, of, norm) in head_norms(self.world.variant) {
            let mut values =
                self.for_each_element(&|element| self.evaluator_with(element, &given).whole(of).data().to_vec())?;
            self.normalise_heads(norm, self.world.facts.lets[of.index()].dims.last(), &mut values);
            given.push((id, values));
        }
        let variant = self.world.variant;
        let mut passes = self.for_each_element(&|element| {
            let mut evaluator = self.evaluator_with(element, &given);
            let outputs = variant.outputs().map(|output| {
                let size = output_own_shape(variant, output, self.world.sizes).iter().product();
                let mut data = vec![0.0; size];
                evaluator.write_output(output, None, &mut data);
                data
            });
            Pass { outputs: outputs.collect(), ..Pass::default() }
        })?;
        for (pass, read) in passes.iter_mut().zip(reads) {
            pass.states = read.states;
        }
        Ok(self.transposed(passes))
    }

    /// `by` must name every token once, for every batch element.
    fn check_permutations(&self) -> Result<(), EvalError> {
        for order in self.orders.iter().flatten().copied().filter(|order| order.by.is_some()) {
            for element in 0..self.elements {
                if let Some((place, token)) = self.evaluator(element, Some(order)).misplaced() {
                    let count = self.world.variant.token.and_then(|axis| self.world.sizes.get(axis)).unwrap_or(0);
                    return Err(failed(format!(
                        "what `by` gives is no permutation of the {count} tokens: place {place} holds {token}, which \
                         stands before or is no token (batch element {element})"
                    )));
                }
            }
        }
        Ok(())
    }

    fn evaluator(&self, element: usize, order: Option<&'a Order>) -> Evaluator<'a> {
        Evaluator::new(self.world, &self.places(element), &self.inputs, order)
    }

    /// An evaluator under the first order, with lets that are known already.
    fn evaluator_with(&self, element: usize, given: &[(LetId, Vec<Vec<f64>>)]) -> Evaluator<'a> {
        let mut evaluator = self.evaluator(element, self.orders[0]);
        for (id, values) in given {
            let dims = self.world.facts.lets[id.index()].whole();
            evaluator.give(*id, Value::new(values[element].clone(), dims));
        }
        evaluator
    }

    fn pass(&self, element: usize, order: Option<&'a Order>, wanted: &Wanted<'a>) -> Pass {
        let mut evaluator = self.evaluator(element, order);
        let states = self.world.variant.states.iter().zip(&self.initial);
        let initial: Vec<Option<Value>> = states
            .map(|(state, array)| {
                let dims = Dims::new(&self.world.sizes.shape(&state.dims));
                let from = element * dims.size();
                array.map(|array| Value::new(array.data[from..from + dims.size()].to_vec(), dims))
            })
            .collect();
        evaluator.pass(&initial, wanted)
    }

    fn finish_merge(&self, sum: &mut [f64]) {
        if self.world.variant.merge == Merge::Mean {
            sum.iter_mut().for_each(|x| *x /= self.orders.len() as f64);
        }
    }

    /// The place of a batch element on each batch axis.
    fn places(&self, element: usize) -> Vec<usize> {
        let mut rest = element;
        let mut places = vec![0; self.batch.len()];
        for (place, size) in places.iter_mut().zip(&self.batch).rev() {
            *place = rest % size;
            rest /= size;
        }
        places
    }

    /// Normalises each line of `width`, joined over all heads, in place.
    fn normalise_heads(&self, norm: Norm, width: usize, values: &mut [Vec<f64>]) {
        let axis = self
            .world
            .variant
            .head
            .and_then(|head| batch_axes(self.world.variant).iter().position(|axis| *axis == head));
        let (heads, stride) = match axis {
            Some(axis) => (self.batch[axis], self.batch[axis + 1..].iter().product()),
            None => (1, 1),
        };
        for first in (0..values.len()).filter(|element| (element / stride) % heads == 0) {
            let group: Vec<usize> = (0..heads).map(|head| first + head * stride).collect();
            for from in (0..values[first].len()).step_by(width.max(1)) {
                let mut line: Vec<f64> =
                    group.iter().flat_map(|element| values[*element][from..from + width].to_vec()).collect();
                reduce::normalise(norm, &mut line);
                for (element, part) in group.iter().zip(line.chunks(width)) {
                    values[*element][from..from + width].copy_from_slice(part);
                }
            }
        }
    }

    /// Runs a job for every batch element, spread over the machine's threads.
    fn for_each_element<R: Send>(&self, job: &(dyn Fn(usize) -> R + Sync)) -> Result<Vec<R>, EvalError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.elements.max(1));
        let share = |thread: usize| (thread..self.elements).step_by(threads).map(job).collect::<Vec<R>>();
        let shares: Result<Vec<Vec<R>>, EvalError> = std::thread::scope(|scope| {
            let spawn = |thread| {
                let share = &share;
                std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || share(thread))
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let join = |handle: std::io::Result<std::thread::ScopedJoinHandle<'_, Vec<R>>>| {
                let handle = handle.map_err(|error| failed(format!("no thread to evaluate in: {error}")))?;
                handle.join().map_err(|_| failed(format!("the evaluation of `{}` broke off", self.world.variant.name)))
            };
            handles.into_iter().map(join).collect()
        });
        let mut shares: Vec<_> = shares?.into_iter().map(Vec::into_iter).collect();
        Ok((0..self.elements).filter_map(|element| shares[element % threads].next()).collect())
    }

    fn transposed(&self, passes: Vec<Pass>) -> (ByElement, ByElement) {
        let mut outputs = vec![Vec::with_capacity(self.elements); self.world.variant.outputs().count()];
        let mut states = vec![Vec::with_capacity(self.elements); self.world.variant.states.len()];
        for pass in passes {
            outputs.iter_mut().zip(pass.outputs).for_each(|(all, one)| all.push(one));
            states.iter_mut().zip(pass.states).for_each(|(all, one)| all.push(one));
        }
        (outputs, states)
    }

    /// Puts every batch element's values at their places in the whole tensors.
    fn assemble(&self, outputs: &ByElement, states: &ByElement) -> Results {
        let World { variant, sizes, .. } = self.world;
        let outputs = variant
            .outputs()
            .zip(outputs)
            .map(|(output, data)| (output.name.clone(), self.assemble_output(output, data)));
        let states = variant.states.iter().zip(states).filter(|_| carries_state(variant)).map(|(state, data)| {
            let array = Array { shape: state_shape(variant, state, sizes), data: data.concat() };
            (state.name.clone(), array)
        });
        Results { outputs: outputs.collect(), states: states.collect() }
    }

    fn assemble_output(&self, output: &Output, data: &[Vec<f64>]) -> Array {
        let World { variant, sizes, .. } = self.world;
        let own = output_own_shape(variant, output, sizes);
        let dims = output_dims(variant, output);
        let axes = batch_axes(variant);
        let mut array = Array::zeros(output_shape(variant, output, sizes));
        for (element, data) in data.iter().enumerate() {
            let at = self.places(element);
            let mut values = data.iter();
            for_each_place(&own, &mut |places| {
                let flat = dims.iter().zip(&array.shape).fold(0, |flat, (dim, size)| {
                    let place = match dim {
                        OutputDim::Own(axis) => places[*axis] as usize,
                        OutputDim::Batch(axis) => axes.iter().position(|other| other == axis).map_or(0, |n| at[n]),
                    };
                    flat * size + place
                });
                if let Some(value) = values.next() {
                    array.data[flat] = *value;
                }
            });
        }
        array
    }
}

//! Variants that call others: each part by itself, as it is written, on the arrays that those before it gave.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chunkwise_dsl::typed::Variant;

use super::number::Number;
use super::{Array, EvalError, Results, failed, run_in};
use crate::bind::Sizes;
use crate::calls::{Kind, Part, Wire, parts, sizes_of};

type Arrays<N> = BTreeMap<String, Array<N>>;

/// `run` of a variant with calls.
pub(super) fn run<N: Number>(
    variant: &Variant,
    sizes: &Sizes,
    (inputs, initial): (&Arrays<N>, &Arrays<N>),
) -> Result<Results<N>, EvalError> {
    let mut given: Arrays<N> = Arrays::new();
    for part in parts(variant) {
        // A state that is not given starts as it is declared.
        if part.kind == Kind::Start {
            continue;
        }
        let mut taken = Arrays::new();
        for tensor in &part.variant.tensors {
            let wire = wire(&part, &tensor.name);
            let array = given.get(&wire.name).or_else(|| inputs.get(&wire.name));
            let missing = || failed(format!("tensor `{}` was not found", wire.name));
            // What is not run yet, nothing of this part reads.
            match array {
                Some(array) => drop(taken.insert(tensor.name.clone(), entry(array, &wire))),
                None if part.kind == Kind::Values => {
                    let shape = crate::bind::tensor_shape(tensor, sizes);
                    taken.insert(tensor.name.clone(), Array::zeros(shape));
                }
                None => return Err(missing()),
            }
        }
        let own = sizes_of(&part.variant, variant, sizes);
        let start: Cow<Arrays<N>> = match part.kind {
            Kind::Rest => Cow::Borrowed(initial),
            _ => Cow::Owned(started(&part, &given)),
        };
        let results = run_in(&part.variant, &own, &taken, &start)?;
        if part.kind == Kind::Rest {
            return Ok(results);
        }
        given.extend(results.outputs.into_iter().map(|(name, array)| (wire(&part, &name).name, array)));
    }
    Err(failed(format!("`{}` has no part that gives its outputs", variant.name)))
}

fn wire(part: &Part, name: &str) -> Wire {
    part.wires.get(name).cloned().unwrap_or(Wire { name: name.to_string(), entry: None })
}

/// The initial states that a call is given.
fn started<N: Number>(part: &Part, given: &Arrays<N>) -> Arrays<N> {
    let states = part.variant.states.iter();
    states.filter_map(|state| Some((state.name.clone(), given.get(&wire(part, &state.name).name)?.clone()))).collect()
}

/// The array, or its entry.
fn entry<N: Number>(array: &Array<N>, wire: &Wire) -> Array<N> {
    let Some((at, _)) = wire.entry else { return array.clone() };
    let shape = array.shape[1..].to_vec();
    let len: usize = shape.iter().product();
    Array { shape, data: array.data[at * len..(at + 1) * len].to_vec() }
}

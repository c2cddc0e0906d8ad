//! Gradients on tensors: what an adjoint takes from a file, and what its results come to. Running it is running a variant.

use std::{collections::BTreeMap, path::Path};

use chunkwise_compiler::{
    adjoint::{Gradients, cotangent_name},
    bind::{Sizes, carries_state, output_shape, state_shape},
    reference::{self, Array},
};
use chunkwise_dsl::typed::{Dtype, Variant};

use crate::{
    draw::Random,
    initial::initial_states,
    inputs::{Inputs, arrays, gather},
    request::{Failure, Outputs, Request},
    tensor::{Data, Stored, Tensor, Tensors, read},
};

/// Reads a variant's inputs, initial states and cotangents: `d_o` of the output `o`, `d_S` of the final state `S`. Those of
/// outputs that the file lacks are 0; so are those of states, which are left out.
///
/// # Errors
/// As `inputs::load`, and a cotangent whose shape or type is not that of what it is of.
pub fn load(primal: &Variant, path: &Path, dims: &[(String, usize)]) -> Result<Inputs, Vec<String>> {
    let mut stored = read(path).map_err(|error| vec![error.to_string()])?;
    let outputs = primal.outputs().map(|output| cotangent_name(&output.name));
    let states = primal.states.iter().filter(|_| carries_state(primal)).map(|state| cotangent_name(&state.name));
    let names: Vec<String> = outputs.chain(states).collect();
    let taken = |name: &String| primal.tensors.iter().any(|tensor| tensor.name == *name);
    let mut cotangents = BTreeMap::new();
    for name in names.iter().filter(|name| !taken(name)) {
        cotangents.extend(stored.remove_entry(name));
    }
    let mut inputs = gather(primal, stored, dims)?;
    let mut errors = Vec::new();
    for output in primal.outputs() {
        let (name, shape) = (cotangent_name(&output.name), output_shape(primal, output, &inputs.sizes));
        match cotangents.remove(&name).map(|found| fitting(&name, found, &shape)) {
            None => drop(inputs.tensors.insert(name, Tensor::zeros(shape))),
            Some(Ok(tensor)) => drop(inputs.tensors.insert(name, tensor)),
            Some(Err(error)) => errors.push(error),
        }
    }
    for state in &primal.states {
        let (name, shape) = (cotangent_name(&state.name), state_shape(primal, state, &inputs.sizes));
        match cotangents.remove(&name).map(|found| fitting(&name, found, &shape)) {
            None => {}
            Some(Ok(tensor)) => drop(inputs.initial.insert(name, tensor)),
            Some(Err(error)) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(inputs) } else { Err(errors) }
}

fn fitting(name: &str, found: Stored, shape: &[usize]) -> Result<Tensor, String> {
    if found.shape != shape {
        return Err(format!(
            "tensor `{name}` is {:?}, expected {shape:?}, the shape of what it is the cotangent of",
            found.shape
        ));
    }
    match found.tensor {
        Some(tensor) if matches!(tensor.data, Data::F32(_)) => Ok(tensor),
        _ => Err(format!("tensor `{name}` holds {}, expected F32 (float32), BF16 or F16", found.dtype)),
    }
}

/// What a run of the adjoint gave as gradients: one of every real input and param in file order, then those of the initial
/// states, by the names of cotangents.
pub fn gathered(primal: &Variant, made: &Gradients, sizes: &Sizes, given: Outputs) -> Outputs {
    let found: BTreeMap<&str, &Tensor> = given.outputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let outputs = made.gradients.iter().map(|gradient| {
        let output = gradient.output.as_ref().and_then(|name| found.get(name.as_str()));
        let tensor = match output.and_then(|tensor| Some((tensor, tensor.floats()?))) {
            Some((tensor, data)) => {
                let (shape, data) = gradient.gather(&tensor.shape, data, sizes);
                Tensor::f32(shape, data)
            }
            None => Tensor::zeros(shape_of(primal, &gradient.tensor, sizes)),
        };
        (cotangent_name(&gradient.tensor), tensor)
    });
    let outputs = outputs.collect();
    let of_states: Vec<String> = primal.states.iter().map(|state| cotangent_name(&state.name)).collect();
    let states = given.states.iter().filter(|(name, _)| of_states.contains(name)).cloned().collect();
    Outputs { outputs, states, kernel_time: given.kernel_time }
}

fn shape_of(primal: &Variant, name: &str, sizes: &Sizes) -> Vec<usize> {
    let tensor = primal.tensors.iter().find(|tensor| tensor.name == name);
    tensor.map(|tensor| chunkwise_compiler::bind::tensor_shape(tensor, sizes)).unwrap_or_default()
}

/// Gradients by the reference alone, one run for every entry of the inputs: of small sizes, where there is no adjoint.
///
/// # Errors
/// As `reference::run`.
pub fn by_reference(primal: &Variant, inputs: &Inputs) -> Result<Outputs, Failure> {
    let start = std::time::Instant::now();
    let own = |tensors: &Tensors, named: &dyn Fn(&str) -> bool| -> BTreeMap<String, Array> {
        arrays(tensors).into_iter().filter(|(name, _)| named(name)).collect()
    };
    let is_tensor = |name: &str| primal.tensors.iter().any(|tensor| tensor.name == name);
    let is_state = |name: &str| primal.states.iter().any(|state| state.name == name);
    let tensors = own(&inputs.tensors, &is_tensor);
    let mut initial = own(&inputs.initial, &is_state);
    for state in primal
        .states
        .iter()
        .filter(|state| carries_state(primal) && !initial.contains_key(&state.name))
        .collect::<Vec<_>>()
    {
        let shape = state_shape(primal, state, &inputs.sizes);
        let first = initial_states(primal, &inputs.sizes, &inputs.tensors, &Tensors::new())
            .ok()
            .and_then(|states| states.get(&state.name).map(Tensor::to_f64));
        if let Some(data) = first {
            initial.insert(state.name.clone(), Array { shape, data });
        }
    }
    let names =
        primal.outputs().map(|output| output.name.clone()).chain(primal.states.iter().map(|state| state.name.clone()));
    let all: BTreeMap<String, Array> = arrays(&inputs.tensors).into_iter().chain(arrays(&inputs.initial)).collect();
    let cotangents = names.filter_map(|name| Some((name.clone(), all.get(&cotangent_name(&name))?.clone()))).collect();
    let found = reference::gradients(primal, &inputs.sizes, (&tensors, &initial), &cotangents)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let tensor = |name: &String| {
        let array = found.get(name)?;
        let data = array.data.iter().map(|x| *x as f32).collect();
        Some((cotangent_name(name), Tensor::f32(array.shape.clone(), data)))
    };
    let real = primal.tensors.iter().filter(|tensor| tensor.dtype == Dtype::F32);
    Ok(Outputs {
        outputs: real.filter_map(|of| tensor(&of.name)).collect(),
        states: primal.states.iter().filter_map(|of| tensor(&of.name)).collect(),
        kernel_time: start.elapsed(),
    })
}

/// How far an adjoint's gradients on the reference are from the slopes of its primal along random directions: by dual
/// numbers, which share nothing with it. The worst of all tensors, relative to the sizes of what is summed.
///
/// # Errors
/// As `reference::run`.
pub fn deviation(primal: &Variant, made: &Gradients, request: Request, seed: u64) -> Result<f64, Failure> {
    let failed = |error: reference::EvalError| Failure::Failed(error.to_string());
    let (mut inputs, mut initial) = (arrays(request.inputs), arrays(request.initial));
    let declared = initial_states(&made.variant, request.sizes, request.inputs, request.initial).unwrap_or_default();
    if carries_state(primal) {
        initial.extend(arrays(&declared));
    }
    let results = reference::run(&made.variant, request.sizes, &inputs, &initial).map_err(failed)?;
    let found: BTreeMap<&str, &Array> =
        results.outputs.iter().chain(&results.states).map(|(name, array)| (name.as_str(), array)).collect();
    let mut cotangents = BTreeMap::new();
    let names = primal.outputs().map(|output| &output.name).chain(primal.states.iter().map(|state| &state.name));
    for name in names {
        let of = cotangent_name(name);
        cotangents.extend(inputs.remove(&of).or(initial.remove(&of)).map(|array| (name.clone(), array)));
    }
    let mut draw = Random::new(seed);
    let of_tensors = made.gradients.iter().filter_map(|gradient| {
        let array = found.get(gradient.output.as_ref()?.as_str())?;
        let (_, data) = gradient.gather(&array.shape, &array.data, request.sizes);
        Some((gradient.tensor.clone(), data))
    });
    let of_states = initial.keys().filter_map(|name| {
        let array = found.get(cotangent_name(name).as_str())?;
        Some((name.clone(), array.data.clone()))
    });
    let gradients: Vec<(String, Vec<f64>)> = of_tensors.chain(of_states).collect();
    let mut compared: Vec<(f64, f64)> = Vec::new();
    for (name, gradient) in gradients {
        let Some(shape) = inputs.get(&name).or(initial.get(&name)).map(|array| array.shape.clone()) else { continue };
        let data: Vec<f64> = (0..gradient.len()).map(|_| draw.normal()).collect();
        let terms = gradient.iter().zip(&data).map(|(a, b)| a * b);
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size): (f64, f64), x| (sum + x, size + x.abs()));
        let direction = BTreeMap::from([(name, Array { shape, data })]);
        let slopes = reference::along(primal, request.sizes, (&inputs, &initial), &direction).map_err(failed)?;
        let slope = reference::inner(&slopes, &cotangents);
        compared.push(((slope - sum).abs(), size + slope.abs()));
    }
    // Beside the largest, what cancels to next to nothing is nothing.
    let floor = compared.iter().fold(SMALLEST, |floor, (_, size)| floor.max(SMALL * size));
    let errors = compared.iter().map(|(off, size)| off / size.max(floor));
    Ok(errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst }))
}

/// What is compared is at least relative to this part of the largest, and to so much.
const SMALL: f64 = 1e-3;
const SMALLEST: f64 = 1e-6;

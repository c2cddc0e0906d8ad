//! From the tensors of a file to a variant's inputs: every name, type, rank and size is checked here, and all that is
//! wrong is reported. Initial states are taken where the file has them.

use std::{collections::BTreeMap, path::Path};

use chunkwise_compiler::bind::{Sizes, bind};
use chunkwise_dsl::{
    suggest::nearest,
    typed::{Dtype, TensorRole, Variant},
};

use crate::tensor::{Data, Real, Stored, Tensor, Tensors, read};

/// Everything that a variant needs to run.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub sizes: Sizes,
    /// Inputs and params, each as declared.
    pub tensors: Tensors,
    /// The initial states given; `[batch axes.., own dims..]`.
    pub initial: Tensors,
    /// What all inputs lay in the file as, params apart; f32 where they differ.
    pub real: Real,
}

impl Inputs {
    /// The inputs of token `t` alone, one token long, and the params; the sizes for that are `sizes` with one token.
    pub fn token(&self, variant: &Variant, t: usize) -> Tensors {
        token(variant, &self.tensors, t)
    }
}

/// The inputs of token `t` alone, one token long, and the params.
pub fn token(variant: &Variant, tensors: &Tensors, t: usize) -> Tensors {
    let along = |name: &str| {
        let declared = variant.tensors.iter().find(|tensor| tensor.name == name)?;
        let token = variant.token?;
        declared.dims.iter().position(|dim| dim.size.as_axis() == Some(token))
    };
    let cut = |name: &str, tensor: &Tensor| along(name).map_or(tensor.clone(), |axis| tensor.slice(axis, t..t + 1));
    tensors.iter().map(|(name, tensor)| (name.clone(), cut(name, tensor))).collect()
}

/// Reads a variant's inputs and initial states from a safetensors file.
///
/// # Errors
/// What is wrong, a sentence each: a file that is absent or damaged, or a tensor that is missing, unknown, of the wrong
/// type or rank, or whose sizes disagree with the rest or with `dims` (from `--dim`).
pub fn load(variant: &Variant, path: &Path, dims: &[(String, usize)]) -> Result<Inputs, Vec<String>> {
    let stored = read(path).map_err(|error| vec![error.to_string()])?;
    gather(variant, stored, dims)
}

/// The tensors of a file as a variant's inputs.
pub(crate) fn gather(
    variant: &Variant,
    stored: BTreeMap<String, Stored>,
    dims: &[(String, usize)],
) -> Result<Inputs, Vec<String>> {
    let shapes = stored.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let mut errors: Vec<String> =
        stored.iter().filter_map(|(name, tensor)| wrong_type(variant, name, tensor)).collect();
    let sizes = match bind(variant, &shapes, dims) {
        Ok(sizes) => sizes,
        Err(found) => {
            errors.extend(found.into_iter().map(|error| suggest(variant, &shapes, error.tensor, error.message)));
            return Err(errors);
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let real = common(variant, &stored);
    let all = stored.into_iter().filter_map(|(name, tensor)| Some((name, tensor.tensor?)));
    let (initial, tensors) = all.partition(|(name, _)| variant.states.iter().any(|state| state.name == *name));
    Ok(Inputs { sizes, tensors, initial, real })
}

fn common(variant: &Variant, stored: &BTreeMap<String, Stored>) -> Real {
    let inputs = variant.tensors.iter().filter(|tensor| tensor.role == TensorRole::Input);
    let mut reals = inputs.filter_map(|tensor| stored.get(&tensor.name)?.real);
    let first = reals.next().unwrap_or(Real::F32);
    if reals.all(|real| real == first) { first } else { Real::F32 }
}

/// A tensor whose elements are not of the declared type. Unknown names are `bind`'s.
fn wrong_type(variant: &Variant, name: &str, found: &Stored) -> Option<String> {
    let expected = expected_type(variant, name)?;
    let fits = matches!(
        (expected, found.tensor.as_ref().map(|tensor| &tensor.data)),
        (Dtype::F32, Some(Data::F32(_))) | (Dtype::I32, Some(Data::I32(_)))
    );
    let expected = match expected {
        Dtype::F32 => "F32 (float32), BF16 or F16",
        Dtype::I32 => "I32 (int32) or I64 that fits",
    };
    (!fits).then(|| format!("tensor `{name}` holds {}, expected {expected}", found.dtype))
}

fn expected_type(variant: &Variant, name: &str) -> Option<Dtype> {
    let tensor = variant.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.dtype);
    tensor.or_else(|| variant.states.iter().any(|state| state.name == name).then_some(Dtype::F32))
}

/// The message, and for a name that the variant does not know the one probably meant.
fn suggest(
    variant: &Variant,
    shapes: &BTreeMap<String, Vec<usize>>,
    tensor: Option<String>,
    message: String,
) -> String {
    let Some(name) = tensor.filter(|name| expected_type(variant, name).is_none()) else { return message };
    let tensors = variant.tensors.iter().map(|tensor| tensor.name.as_str());
    let known = tensors.chain(variant.states.iter().map(|state| state.name.as_str()));
    match nearest(&name, known.filter(|known| !shapes.contains_key(*known))) {
        Some(meant) => format!("{message}; did you mean `{meant}`?"),
        None => message,
    }
}

/// Tensors as the reference takes them.
pub(crate) fn arrays(tensors: &Tensors) -> BTreeMap<String, chunkwise_compiler::reference::Array> {
    tensors.iter().map(|(name, tensor)| (name.clone(), array(tensor))).collect()
}

fn array(tensor: &Tensor) -> chunkwise_compiler::reference::Array {
    chunkwise_compiler::reference::Array { shape: tensor.shape.clone(), data: tensor.to_f64() }
}

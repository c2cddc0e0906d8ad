//! What a call gives, as the engine takes it: where a tensor lies if it lies as kernels read it, a copy where it is
//! transposed, expanded or of another width. Every type that is not taken is refused here.

use chunkwise_compiler::reference::Array;
use chunkwise_dsl::typed::Dtype;
use chunkwise_runtime::{Input, Precision};
use half::{bf16, f16};
use pyo3::prelude::*;

use crate::{
    errors,
    view::{Elem, View},
};

/// A tensor's elements for compiled code.
pub enum Operand<'a> {
    Floats(&'a [f32]),
    Integers(&'a [i32]),
    FloatsMade(Vec<f32>),
    IntegersMade(Vec<i32>),
}

impl<'a> Operand<'a> {
    /// The elements of a tensor that is declared so.
    ///
    /// # Errors
    /// Another type.
    pub fn of(
        py: Python<'_>,
        name: &str,
        view: &'a View<'_>,
        (dtype, precision): (Dtype, Precision),
    ) -> PyResult<Self> {
        if dtype == Dtype::I32 {
            return Self::integers(py, name, view);
        }
        let made = match (view.elem(), precision) {
            (Elem::F32, _) => match view.dense::<f32>() {
                Some(floats) => return Ok(Operand::Floats(floats)),
                None => view.gathered(|x: f32| x),
            },
            (Elem::Bf16, Precision::Bf16) => view.gathered(bf16::to_f32),
            (Elem::F16, Precision::F16) => view.gathered(f16::to_f32),
            _ => None,
        };
        made.map(Operand::FloatsMade).ok_or_else(|| errors::dtype(py, &refusal(name, view.elem())))
    }

    fn integers(py: Python<'_>, name: &str, view: &'a View<'_>) -> PyResult<Self> {
        if let Some(integers) = view.dense::<i32>() {
            return Ok(Operand::Integers(integers));
        }
        if let Some(made) = view.gathered(|x: i32| x) {
            return Ok(Operand::IntegersMade(made));
        }
        let Some(wide) = view.gathered(|x: i64| x) else {
            let found = view.elem().name();
            return Err(errors::dtype(py, &format!("tensor `{name}` is {found}, expected int32")));
        };
        let narrow = wide.iter().map(|&x| {
            let beyond = || errors::dtype(py, &format!("tensor `{name}` holds {x}, beyond int32"));
            i32::try_from(x).map_err(|_| beyond())
        });
        narrow.collect::<PyResult<_>>().map(Operand::IntegersMade)
    }

    pub fn input(&self) -> Input<'_> {
        match self {
            Operand::Floats(floats) => Input::F32(floats),
            Operand::FloatsMade(floats) => Input::F32(floats),
            Operand::Integers(integers) => Input::I32(integers),
            Operand::IntegersMade(integers) => Input::I32(integers),
        }
    }

    /// The elements of a state, which is of floats.
    pub fn floats(&self) -> Option<&[f32]> {
        match self.input() {
            Input::F32(floats) => Some(floats),
            Input::I32(_) => None,
        }
    }
}

/// Why a tensor of floats is not taken, and what takes it.
fn refusal(name: &str, found: Elem) -> String {
    let way_out = match found {
        Elem::F64 => "convert it, or compile with backend=\"reference\"",
        Elem::Bf16 => "convert it, or compile with precision=\"bf16\"",
        Elem::F16 => "convert it, or compile with precision=\"f16\"",
        _ => "convert it",
    };
    format!("tensor `{name}` is {}, expected float32; {way_out}", found.name())
}

/// A tensor for the reference, in f64.
///
/// # Errors
/// Floats for declared integers, or the reverse; elements of half the width.
pub fn array(py: Python<'_>, name: &str, view: &View<'_>, dtype: Dtype) -> PyResult<Array> {
    let shape = view.shape().to_vec();
    let data = match (dtype, view.elem()) {
        (Dtype::F32, Elem::F32) => view.gathered(|x: f32| f64::from(x)),
        (Dtype::F32, Elem::F64) => view.gathered(|x: f64| x),
        (Dtype::I32, _) => {
            let integers = Operand::integers(py, name, view)?;
            match integers.input() {
                Input::I32(data) => Some(data.iter().map(|&x| f64::from(x)).collect()),
                Input::F32(_) => None,
            }
        }
        _ => None,
    };
    data.map(|data| Array { shape, data }).ok_or_else(|| errors::dtype(py, &refusal(name, view.elem())))
}

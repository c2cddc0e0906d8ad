//! What a variant declares, as Python reads it: names, roles and shapes, sizes as expressions in the axes.

use chunkwise_compiler::{
    Form,
    bind::{batch_axes, carries_state, output_dims},
};
use chunkwise_dsl::{
    shape::Size,
    typed::{Dtype, Output, OutputDim, TensorRole, Variant},
};
use chunkwise_runtime::{Plan, independent};
use pyo3::{prelude::*, types::PyDict};

use crate::stretch::{self, Needs};

/// A dict: `name`, `args`, `axes`, `token`, `inputs`, `states`, `outputs`, `carries_state`, `stretch`,
/// `independent`.
pub fn declared<'py>(py: Python<'py>, variant: &Variant) -> PyResult<Bound<'py, PyAny>> {
    let facts = PyDict::new(py);
    facts.set_item("name", &variant.name)?;
    facts.set_item("args", variant.args.clone())?;
    let axes = variant.axes.iter().map(|axis| (axis.name.clone(), axis.value.as_ref().map(|size| text(variant, size))));
    facts.set_item("axes", axes.collect::<Vec<_>>())?;
    // A grid's is made of others.
    let token = variant.token.filter(|axis| variant.axes[axis.0 as usize].value.is_none());
    facts.set_item("token", token.map(|axis| variant.axis_name(axis)))?;
    let inputs = variant.tensors.iter().map(|tensor| {
        let role = if tensor.role == TensorRole::Param { "param" } else { "input" };
        let dtype = if tensor.dtype == Dtype::I32 { "int32" } else { "float32" };
        let shape: Vec<_> = tensor.dims.iter().map(|dim| text(variant, &dim.size)).collect();
        (tensor.name.clone(), role, dtype, shape)
    });
    facts.set_item("inputs", inputs.collect::<Vec<_>>())?;
    let batch: Vec<_> = batch_axes(variant).into_iter().map(|axis| variant.axis_name(axis)).collect();
    let states = variant.states.iter().map(|state| {
        let own = state.dims.iter().map(|size| text(variant, size));
        (state.name.clone(), batch.iter().cloned().chain(own).collect::<Vec<_>>())
    });
    facts.set_item("states", states.collect::<Vec<_>>())?;
    let outputs = variant.outputs().map(|output| (output.name.clone(), shape(variant, output)));
    facts.set_item("outputs", outputs.collect::<Vec<_>>())?;
    facts.set_item("carries_state", carries_state(variant) && !variant.states.is_empty())?;
    let needs = match stretch::needs(variant) {
        Ok(Needs::States) => ("states", [0, 0], ""),
        Ok(Needs::Coupled) => ("coupled", [0, 0], ""),
        Ok(Needs::Window { left, right }) => ("window", [left, right], ""),
        Err(why) => ("no", [0, 0], why),
    };
    facts.set_item("stretch", needs)?;
    let independent: Vec<_> = independent(variant).into_iter().map(|axis| variant.axis_name(axis)).collect();
    facts.set_item("independent", independent)?;
    Ok(facts.into_any())
}

fn text(variant: &Variant, size: &Size) -> String {
    size.print(&|axis| variant.axis_name(axis))
}

fn shape(variant: &Variant, output: &Output) -> Vec<String> {
    let indices = output.indices.iter().map(|index| variant.indices[index.index()].size.clone());
    let own: Vec<Size> = indices.chain(output.ty.dims().iter().cloned()).collect();
    let dim = |dim: &OutputDim| match dim {
        OutputDim::Batch(axis) => variant.axis_name(*axis),
        OutputDim::Own(at) => text(variant, &own[*at]),
    };
    output_dims(variant, output).iter().map(dim).collect()
}

/// A plan in words: `cranelift, chunked, 64 tokens a chunk`.
pub fn plan(plan: &Plan) -> String {
    let (backend, form) = (plan.backend.name(), plan.form.name());
    match plan.form {
        Form::Chunked => format!("{backend}, {form}, {} tokens a chunk", plan.chunk),
        _ => format!("{backend}, {form}"),
    }
}

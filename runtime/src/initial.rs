//! Initial states: those given, and for the others the value that the variant declares, spread over all batch elements.

use chunkwise_compiler::bind::{Sizes, batch_axes, constant, state_shape};
use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::{BatchDim, ExprKind, State, TensorId, Variant},
};

use crate::tensor::{Data, Tensor, Tensors, elements};

/// Every state's initial value, `[batch axes.., own dims..]`. None names a state whose declared value is neither a
/// constant nor a param: only the reference evaluates that.
pub fn initial_states(variant: &Variant, sizes: &Sizes, inputs: &Tensors, given: &Tensors) -> Result<Tensors, String> {
    let value = |state: &State| match given.get(&state.name) {
        Some(tensor) => Ok((state.name.clone(), tensor.clone())),
        None => declared(variant, sizes, inputs, state)
            .map(|tensor| (state.name.clone(), tensor))
            .ok_or_else(|| state.name.clone()),
    };
    variant.states.iter().map(value).collect()
}

/// A state whose declared value is neither a constant nor a param, and that is not given: only the reference runs then.
pub fn only_interpreted(variant: &Variant, sizes: &Sizes, given: &Tensors) -> Option<String> {
    let held = |state: &&State| {
        let param = matches!(variant.expr(state.init).kind, ExprKind::Tensor(_));
        !given.contains_key(&state.name) && !param && constant(variant, sizes, state.init).is_none()
    };
    variant.states.iter().find(held).map(|state| state.name.clone())
}

fn declared(variant: &Variant, sizes: &Sizes, inputs: &Tensors, state: &State) -> Option<Tensor> {
    let shape = state_shape(variant, state, sizes);
    let len = elements(&shape);
    if let Some(number) = constant(variant, sizes, state.init) {
        return Some(Tensor::f32(shape, vec![number as f32; len]));
    }
    let ExprKind::Tensor(param) = variant.expr(state.init).kind else { return None };
    let Data::F32(data) = &inputs.get(&variant.tensors[param.index()].name)?.data else { return None };
    let axes = batch_axes(variant);
    let at = strides(variant, sizes, param);
    let value = |place: usize| {
        let mut index = unravel(place, &shape);
        let own = index.split_off(axes.len());
        data[at.iter().map(|(stride, of)| stride * of.index(&axes, &index, &own)).sum::<usize>()]
    };
    Some(Tensor::f32(shape.clone(), (0..len).map(value).collect()))
}

/// What one axis of a param is indexed by.
enum Along {
    Batch(AxisId),
    Group(AxisId, usize),
    Own(usize),
}

impl Along {
    fn index(&self, axes: &[AxisId], batch: &[usize], own: &[usize]) -> usize {
        let batch_index = |axis| axes.iter().position(|a| a == axis).map_or(0, |place| batch[place]);
        match self {
            Along::Batch(axis) => batch_index(axis),
            Along::Group(axis, ratio) => batch_index(axis) / ratio.max(&1),
            // A scalar param fills a state of any shape.
            Along::Own(place) => own.get(*place).copied().unwrap_or(0),
        }
    }
}

fn strides(variant: &Variant, sizes: &Sizes, param: TensorId) -> Vec<(usize, Along)> {
    let dims = &variant.tensors[param.index()].dims;
    let extent = |size: &Size| sizes.extent(size);
    let mut own = 0;
    let along = dims.iter().enumerate().map(|(place, dim)| {
        let stride = dims[place + 1..].iter().map(|dim| extent(&dim.size)).product();
        let along = match &dim.batch {
            Some(BatchDim::Index(axis)) => Along::Batch(*axis),
            Some(BatchDim::Group { of, ratio }) => Along::Group(*of, extent(ratio)),
            None => {
                own += 1;
                Along::Own(own - 1)
            }
        };
        (stride, along)
    });
    along.collect()
}

fn unravel(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (slot, n) in index.iter_mut().zip(shape).rev() {
        *slot = place % n;
        place /= n;
    }
    index
}

//! A run on more than a device holds at once, as runs on halves of its batch. Tensors are cut along one batch axis;
//! those without it go whole to both.

use chunkwise_compiler::bind::{Sizes, batch_axes, output_dims};
use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::{BatchDim, ExprKind, OutputDim, Variant},
};

use crate::{
    request::{Outputs, Request},
    tensor::{Data, Tensor, Tensors},
};

/// One half of a request.
pub(crate) struct Half {
    sizes: Sizes,
    inputs: Tensors,
    initial: Tensors,
}

impl Half {
    pub(crate) fn request<'a>(&'a self, whole: Request<'a>) -> Request<'a> {
        Request { sizes: &self.sizes, inputs: &self.inputs, initial: &self.initial, ..whole }
    }
}

/// Two requests that together ask for the same, and the axis that they were cut along: the first batch axis of two
/// elements or more that nothing but the layout of tensors depends on. None if there is none.
pub(crate) fn halves(request: Request) -> Option<(AxisId, [Half; 2])> {
    let Request { variant, sizes, .. } = request;
    let extent = |axis: &AxisId| sizes.get(*axis).unwrap_or(1);
    let axis = batch_axes(variant).into_iter().find(|axis| extent(axis) >= 2 && lays_out_only(variant, *axis))?;
    let (middle, end) = (extent(&axis) / 2, extent(&axis));
    Some((axis, [half(request, axis, 0..middle), half(request, axis, middle..end)]))
}

fn half(request: Request, axis: AxisId, range: std::ops::Range<usize>) -> Half {
    let variant = request.variant;
    let mut sizes = request.sizes.clone();
    sizes.set(axis, range.len());
    let cut = |name: &String, tensor: &Tensor, dim: Option<usize>| match dim {
        Some(dim) => (name.clone(), tensor.slice(dim, range.clone())),
        None => (name.clone(), tensor.clone()),
    };
    let of_input = |name: &String| {
        let declared = variant.tensors.iter().find(|tensor| tensor.name == *name)?;
        declared.dims.iter().position(|dim| matches!(dim.batch, Some(BatchDim::Index(of)) if of == axis))
    };
    let of_state = batch_axes(variant).iter().position(|of| *of == axis);
    Half {
        sizes,
        inputs: request.inputs.iter().map(|(name, tensor)| cut(name, tensor, of_input(name))).collect(),
        initial: request.initial.iter().map(|(name, tensor)| cut(name, tensor, of_state)).collect(),
    }
}

/// The batch axes that nothing but the layout of tensors depends on: what is done along parts of one is what is done along
/// all of it.
pub fn independent(variant: &Variant) -> Vec<AxisId> {
    batch_axes(variant).into_iter().filter(|axis| lays_out_only(variant, *axis)).collect()
}

/// Whether an axis is met only as whole dims of tensors: no size, index, group or head's number depends on it.
fn lays_out_only(variant: &Variant, axis: AxisId) -> bool {
    let mentions = |size: &Size| size.axes().contains(&axis);
    let plain = |dim: &chunkwise_dsl::typed::TensorDim| match &dim.batch {
        Some(BatchDim::Group { of, ratio }) => *of != axis && !mentions(ratio) && !mentions(&dim.size),
        Some(BatchDim::Index(of)) if *of == axis => dim.size.as_axis() == Some(axis),
        _ => !mentions(&dim.size),
    };
    let named = |kind: &ExprKind| match kind {
        ExprKind::Size(size) | ExprKind::Eye(size) => mentions(size),
        ExprKind::Head => variant.head == Some(axis),
        _ => false,
    };
    variant.axes[axis.0 as usize].value.is_none()
        && !variant.axes.iter().any(|other| other.value.as_ref().is_some_and(mentions))
        && variant.tensors.iter().flat_map(|tensor| &tensor.dims).all(plain)
        && !variant.states.iter().flat_map(|state| &state.dims).any(mentions)
        && !variant.indices.iter().any(|index| mentions(&index.size))
        && !variant.exprs.iter().any(|expr| named(&expr.kind) || expr.ty.dims().iter().any(mentions))
}

/// The results of two halves as those of the whole.
pub(crate) fn joined(variant: &Variant, axis: AxisId, [first, second]: [Outputs; 2]) -> Outputs {
    let of_output = |name: &str| {
        let output = variant.outputs().find(|output| output.name == name)?;
        output_dims(variant, output).iter().position(|dim| matches!(dim, OutputDim::Batch(of) if *of == axis))
    };
    let of_state = batch_axes(variant).iter().position(|of| *of == axis);
    let join = |(name, first): (String, Tensor), (_, second): (String, Tensor), dim: Option<usize>| {
        let tensor = dim.map(|dim| concatenated(&first, &second, dim)).unwrap_or(first);
        (name, tensor)
    };
    Outputs {
        outputs: first
            .outputs
            .into_iter()
            .zip(second.outputs)
            .map(|(first, second)| {
                let dim = of_output(&first.0);
                join(first, second, dim)
            })
            .collect(),
        states: first.states.into_iter().zip(second.states).map(|(a, b)| join(a, b, of_state)).collect(),
        kernel_time: first.kernel_time + second.kernel_time,
    }
}

fn concatenated(first: &Tensor, second: &Tensor, dim: usize) -> Tensor {
    let mut shape = first.shape.clone();
    shape[dim] += second.shape[dim];
    let block = |tensor: &Tensor| tensor.shape[dim..].iter().product::<usize>();
    let (Data::F32(a), Data::F32(b)) = (&first.data, &second.data) else { return first.clone() };
    let outer: usize = shape[..dim].iter().product();
    let (a_block, b_block) = (block(first), block(second));
    let mut data = Vec::with_capacity(a.len() + b.len());
    for n in 0..outer {
        data.extend_from_slice(&a[n * a_block..(n + 1) * a_block]);
        data.extend_from_slice(&b[n * b_block..(n + 1) * b_block]);
    }
    Tensor::f32(shape, data)
}

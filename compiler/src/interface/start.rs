//! Initial states: the declared value of a state as a kernel that writes it for every batch element, and a kernel that
//! copies a given one.

use chunkwise_dsl::shape::AxisId;
use chunkwise_dsl::typed::{BatchDim, Dtype, ExprId, ExprKind, State, Tensor, Variant};

use super::{Around, Fill, Interface, Start};
use crate::Unsupported;
use crate::bind::{batch_axes, constant};
use crate::kernel::{
    Access, Buffer, BufferId, BufferRole, Elem, Int, Kernel, Map, Module, Param, ParamRole, Stmt, Value, VarId,
};

impl Around<'_> {
    pub(super) fn start(
        &self,
        name: &str,
        given: Option<(usize, usize)>,
        made: &Interface,
    ) -> Result<Start, Unsupported> {
        let state = self.variant.states.iter().find(|state| state.name == name).ok_or_else(|| {
            Unsupported::new(format!("the state `{name}`"), "the variant has no such state", "report it: this is a bug")
        })?;
        let declared = self.declared(state, made);
        if given.is_none() && declared.is_none() {
            return Err(Unsupported::new(
                format!("the initial value of `{name}` in an object"),
                "only the reference evaluates it",
                "declare a number or a param as the initial value",
            )
            .at(state.span));
        }
        let elements = self.extents(&self.state_dims(state)).into_iter().fold(Int::from(1i64), |all, n| all * n);
        let flat = |buffer| Access::new(BufferId(buffer), 0i64, [Int::from(1i64)]);
        let map = Map { axes: vec![elements.clone()], dst: flat(1), value: Value::Load(flat(0)), below: None };
        let copy = self.kernel("copy", vec![elements.clone(), elements], vec![Stmt::Map(map)]);
        Ok(Start { given, declared, copy })
    }

    fn declared(&self, state: &State, made: &Interface) -> Option<Fill> {
        let dims = self.extents(&self.state_dims(state));
        let elements = dims.iter().fold(Int::from(1i64), |all, n| all * n.clone());
        if !depends(self, state.init)
            && let Some(number) = constant(self.variant, self.sizes, state.init)
        {
            let dst = Access::new(BufferId(0), 0i64, [Int::from(1i64)]);
            let map = Map { axes: vec![elements.clone()], dst, value: Value::Const(number), below: None };
            let module = self.kernel("fill", vec![elements], vec![Stmt::Map(map)]);
            return Some(Fill { from: None, module, text: format!("{}", number as f32) });
        }
        let ExprKind::Tensor(param) = self.variant.expr(state.init).kind else { return None };
        let tensor = &self.variant.tensors[param.index()];
        if tensor.dtype != Dtype::F32 {
            return None;
        }
        let from = made.arguments.iter().position(|a| a.role == BufferRole::Input && a.name == tensor.name)?;
        let sizes = vec![made.arguments[from].elements.clone(), elements];
        let module = self.kernel("fill", sizes, self.spread(tensor, &dims));
        Some(Fill { from: Some(from), module, text: format!("the value of `{}`", tensor.name) })
    }

    /// A loop over every batch axis around a map over the state's own dims; a scalar param fills a state of any shape.
    fn spread(&self, tensor: &Tensor, dims: &[Int]) -> Vec<Stmt> {
        let batch = batch_axes(self.variant);
        let index = |axis: &AxisId| {
            let place = batch.iter().position(|of| of == axis);
            place.map_or(Int::from(0i64), |place| Int::Var(VarId(place as u32)))
        };
        let extents = self.extents(tensor.dims.iter().map(|dim| &dim.size));
        let (mut offset, mut own) = (Int::from(0i64), Vec::new());
        for (dim, stride) in tensor.dims.iter().zip(strides(&extents)) {
            match &dim.batch {
                Some(BatchDim::Index(axis)) => offset = offset + index(axis) * stride,
                Some(BatchDim::Group { of, ratio }) => {
                    offset = offset + index(of).floor_div(self.size(ratio).max(1i64)) * stride;
                }
                None => own.push(stride),
            }
        }
        let mut to = strides(dims);
        let to_own = to.split_off(batch.len());
        own.resize(to_own.len(), Int::from(0i64));
        let begin = batch.iter().zip(to).fold(Int::from(0i64), |sum, (axis, stride)| sum + index(axis) * stride);
        let map = Map {
            axes: dims[batch.len()..].to_vec(),
            dst: Access::new(BufferId(1), begin, to_own),
            value: Value::Load(Access::new(BufferId(0), offset, own)),
            below: None,
        };
        (0..batch.len()).rev().fold(vec![Stmt::Map(map)], |body, place| {
            let (var, to) = (VarId(place as u32), dims[place].clone());
            vec![Stmt::For { var, from: 0i64.into(), to, step: 1i64.into(), body }]
        })
    }

    /// A kernel without a grid over f32 buffers of these sizes, the last of which it writes.
    fn kernel(&self, name: &str, sizes: Vec<Int>, body: Vec<Stmt>) -> Module {
        let params = self.free().into_iter().map(|axis| {
            let name = self.variant.axis_name(axis);
            Param { name: name.clone(), role: ParamRole::Size(name) }
        });
        let last = sizes.len() - 1;
        let buffers = sizes.into_iter().enumerate().map(|(place, size)| {
            let role = if place == last { BufferRole::Output } else { BufferRole::Input };
            Buffer { name: format!("{name}.{place}"), role, elem: Elem::F32, size }
        });
        Module {
            name: name.to_owned(),
            params: params.collect(),
            buffers: buffers.collect(),
            kernels: vec![Kernel { name: name.to_owned(), grid: Vec::new(), body }],
        }
    }
}

/// Row-major.
fn strides(extents: &[Int]) -> Vec<Int> {
    (0..extents.len()).map(|d| extents[d + 1..].iter().fold(Int::from(1i64), |all, n| all * n.clone())).collect()
}

/// Whether a value depends on a size that is an argument.
fn depends(around: &Around<'_>, id: ExprId) -> bool {
    let variant: &Variant = around.variant;
    let here = match &variant.expr(id).kind {
        ExprKind::Size(size) => size.axes().into_iter().any(|axis| around.varies(axis)),
        _ => false,
    };
    here || variant.children(id).into_iter().any(|child| depends(around, child))
}

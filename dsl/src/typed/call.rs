//! Calls of variants: what a call takes and gives, and the variant called in the terms of its caller.
//!
//! A variant called has its caller's axes, and after them those that it needs beside: its batch axes are the caller's and
//! its own, its tokens one axis of the caller. So its values are arrays of the caller, and it is an ordinary variant.

use std::sync::Arc;

use super::{
    Axis, AxisKind, BatchDim, Dtype, ExprId, ExprKind, LocalKind, Output, OutputDim, StateId, Stmt, TensorDim,
    TensorId, Ty, Variant,
};
use crate::shape::{AxisId, Size};
use crate::source::Span;

/// A variant called on whole arrays of its caller.
#[derive(Debug, Clone)]
pub struct Call {
    /// What no other call of the caller is called: `gla`, `gla_2`.
    pub name: String,
    pub span: Span,
    /// The variant called, in its own axes.
    pub callee: Arc<Variant>,
    /// What each of its axes is in those of the caller.
    pub sizes: Vec<Size>,
    /// What each of its tensors is, in their order.
    pub given: Vec<Given>,
    /// The states whose initial values are given.
    pub initial: Vec<(StateId, ExprId)>,
    /// The arguments as they are written.
    pub written: Vec<ExprId>,
    /// Its outputs in file order.
    pub results: Vec<CallResult>,
}

/// What a tensor of a variant called is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A value of the caller, for every element of the caller's batch axes.
    Value(ExprId),
    /// A tensor of the caller where it lies, or one entry along its first axis.
    Tensor { tensor: TensorId, entry: Option<i64> },
    /// What an earlier call gave, where it lies.
    Result { call: usize, result: usize },
}

/// An output of a variant called, as a tensor of the caller.
#[derive(Debug, Clone)]
pub struct CallResult {
    pub name: String,
    /// All axes in memory order.
    pub dims: Vec<TensorDim>,
}

impl CallResult {
    /// The shape that expressions of the caller see.
    pub fn own_dims(&self) -> Vec<Size> {
        self.dims.iter().filter(|dim| dim.batch.is_none()).map(|dim| dim.size.clone()).collect()
    }
}

impl Call {
    /// The variant called, in the axes of the caller. Its tensors and states keep their names.
    pub fn placed(&self, caller: &Variant) -> Variant {
        let placing = Placing::new(&self.callee, caller, &self.sizes);
        let ranks = self.callee.tensors.iter().map(|tensor| placing.own(&tensor.dims).count());
        let dims: Vec<Vec<TensorDim>> =
            self.given.iter().zip(ranks).map(|(given, rank)| caller.given_dims(given, rank)).collect();
        let mut made = placing.placed(&dims);
        for (tensor, given) in made.tensors.iter_mut().zip(&self.given) {
            tensor.dtype = match given {
                Given::Tensor { tensor, .. } => caller.tensors[tensor.index()].dtype,
                Given::Value(_) | Given::Result { .. } => Dtype::F32,
            };
        }
        made
    }

    /// What its outputs are to the caller.
    pub fn results_in(&self, caller: &Variant) -> Vec<CallResult> {
        Placing::new(&self.callee, caller, &self.sizes).results()
    }
}

/// A variant on its way into the axes of a caller.
struct Placing<'a> {
    callee: &'a Variant,
    caller: &'a Variant,
    /// What each axis of the callee is there.
    sizes: &'a [Size],
    axes: Vec<Axis>,
    /// What each axis of the callee is called among `axes`.
    named: Vec<Size>,
}

impl<'a> Placing<'a> {
    /// `sizes` say what each axis of the callee is in those of the caller.
    fn new(callee: &'a Variant, caller: &'a Variant, sizes: &'a [Size]) -> Self {
        let axes = caller.axes.clone();
        let mut placing = Self { callee, caller, sizes, axes, named: sizes.to_vec() };
        let batch = |at: &usize| callee.axes[*at].kind == AxisKind::Batch;
        let mut taken: Vec<AxisId> = Vec::new();
        let token = callee.token.map(|axis| axis.0 as usize);
        for at in token.into_iter().chain((0..callee.axes.len()).filter(batch)) {
            let own = sizes[at].as_axis().filter(|axis| placing.may_be(*axis, at, &taken));
            let axis = own.unwrap_or_else(|| placing.further(at));
            placing.named[at] = Size::axis(axis);
            if callee.axes[at].kind == AxisKind::Batch {
                placing.axes[axis.0 as usize].kind = AxisKind::Batch;
            }
            taken.push(axis);
        }
        let scanned = token.map(|at| placing.expanded(&sizes[at]));
        for (at, size) in sizes.iter().enumerate() {
            if Some(at) == token || batch(&at) {
                continue;
            }
            // What is as long as there are tokens is no token axis by that, nor is what is as long as a batch axis one.
            let (of, whole) = (size.axes(), placing.expanded(size));
            let counted = of.iter().any(|axis| taken.contains(axis) || placing.is_batch(*axis));
            if counted || scanned.as_ref() == Some(&whole) {
                placing.named[at] = Size::axis(placing.further(at));
            }
        }
        placing
    }

    /// Whether an axis of the caller can be the callee's token axis or a batch axis of it.
    fn may_be(&self, axis: AxisId, at: usize, taken: &[AxisId]) -> bool {
        let (own, callee) = (&self.caller.axes[axis.0 as usize], &self.callee.axes[at]);
        let around = own.kind == AxisKind::Batch && callee.kind == AxisKind::Batch;
        !taken.contains(&axis) && (around || own.kind == AxisKind::Own)
    }

    fn is_batch(&self, axis: AxisId) -> bool {
        self.axes[axis.0 as usize].kind == AxisKind::Batch
    }

    fn expanded(&self, size: &Size) -> Size {
        let mut expanded = size.clone();
        for _ in 0..self.caller.axes.len() {
            let value = |axis: AxisId| self.caller.axes.get(axis.0 as usize).and_then(|axis| axis.value.clone());
            expanded = expanded.substitute(&value);
        }
        expanded
    }

    /// An axis beside those of the caller.
    fn further(&mut self, at: usize) -> AxisId {
        let Axis { name, span, kind, .. } = self.callee.axes[at].clone();
        let name = format!("{}.{name}", self.callee.name);
        self.axes.push(Axis { name, span, kind, value: Some(self.sizes[at].clone()) });
        AxisId(u32::try_from(self.axes.len() - 1).expect("a file has fewer than 2^32 axes"))
    }

    /// A size of the callee among `axes`.
    fn size(&self, size: &Size) -> Size {
        size.substitute(&|axis| Some(self.named[axis.0 as usize].clone()))
    }

    fn axis(&self, axis: AxisId) -> AxisId {
        self.named[axis.0 as usize].as_axis().unwrap_or(axis)
    }

    fn ty(&self, ty: &Ty) -> Ty {
        match ty {
            Ty::Bool => Ty::Bool,
            Ty::Array(dims) => Ty::Array(dims.iter().map(|dim| self.size(dim)).collect()),
            Ty::Row(dim) => Ty::Row(self.size(dim)),
        }
    }

    /// The caller's batch axes.
    fn around(&self) -> Vec<AxisId> {
        let axes = self.caller.axes.iter().enumerate();
        axes.filter(|(_, axis)| axis.kind == AxisKind::Batch).map(|(at, _)| AxisId(at as u32)).collect()
    }

    /// Whether the caller is inside of a dim, so that no argument has it.
    fn is_around(&self, dim: &TensorDim) -> bool {
        match &dim.batch {
            Some(BatchDim::Index(axis) | BatchDim::Group { of: axis, .. }) => self.around().contains(&self.axis(*axis)),
            None => false,
        }
    }

    /// The dims that an argument has.
    fn own<'d>(&self, dims: &'d [TensorDim]) -> impl Iterator<Item = &'d TensorDim> {
        dims.iter().filter(|dim| !self.is_around(dim))
    }

    fn dim(&self, dim: &TensorDim) -> TensorDim {
        let batch = dim.batch.as_ref().map(|batch| match batch {
            BatchDim::Index(axis) => BatchDim::Index(self.axis(*axis)),
            BatchDim::Group { of, ratio } => BatchDim::Group { of: self.axis(*of), ratio: self.size(ratio) },
        });
        TensorDim { size: self.size(&dim.size), batch }
    }

    /// The dims of a tensor of the callee that holds what is given for it.
    fn tensor_dims(&self, tensor: TensorId, given: &[TensorDim]) -> Vec<TensorDim> {
        let mut own = self.own(&self.callee.tensors[tensor.index()].dims).map(|dim| self.dim(dim));
        given.iter().filter_map(|dim| if dim.batch.is_some() { Some(dim.clone()) } else { own.next() }).collect()
    }

    /// The callee there. `dims` are those of what is given for each of its tensors, in memory order.
    fn placed(&self, dims: &[Vec<TensorDim>]) -> Variant {
        let mut made = self.callee.clone();
        made.axes = self.axes.clone();
        made.token = made.token.map(|axis| self.axis(axis));
        made.head = made.head.map(|axis| self.axis(axis));
        if let Some(grid) = &mut made.grid {
            for size in [&mut grid.offset, &mut grid.rows, &mut grid.cols] {
                *size = self.size(size);
            }
        }
        for (at, (tensor, given)) in made.tensors.iter_mut().zip(dims).enumerate() {
            tensor.dims = self.tensor_dims(TensorId(at as u32), given);
        }
        for state in &mut made.states {
            state.dims.iter_mut().for_each(|dim| *dim = self.size(dim));
        }
        made.lets.iter_mut().for_each(|of| of.ty = self.ty(&of.ty));
        made.indices.iter_mut().for_each(|index| index.size = self.size(&index.size));
        for expr in &mut made.exprs {
            expr.ty = self.ty(&expr.ty);
            match &mut expr.kind {
                ExprKind::Size(size) | ExprKind::Eye(size) => *size = self.size(size),
                ExprKind::Cols { from, to, .. } => (*from, *to) = (self.size(from), self.size(to)),
                _ => {}
            }
        }
        for local in &mut made.locals {
            self.local(&mut local.kind);
        }
        for stmt in &mut made.body {
            if let Stmt::Output(output) = stmt {
                (output.ty, output.dims) = (self.ty(&output.ty), self.output_dims(output));
            }
        }
        for at in 0..made.calls.len() {
            made.calls[at].sizes = made.calls[at].sizes.iter().map(|size| self.size(size)).collect();
            made.calls[at].results = made.calls[at].results_in(&made);
        }
        made
    }

    fn local(&self, kind: &mut LocalKind) {
        let sizes = match kind {
            LocalKind::Window { left, right } => vec![left, right],
            LocalKind::Block(width) => vec![width],
            LocalKind::GridBlock { wy, wx, shift } => vec![wy, wx, shift],
            LocalKind::Atrous { wy, wx, rate } => vec![wy, wx, rate],
            LocalKind::Disc { .. } | LocalKind::Where { .. } => Vec::new(),
        };
        sizes.into_iter().for_each(|size| *size = self.size(size));
    }

    /// The dims of an output in memory order, all of them.
    fn output_dims(&self, output: &Output) -> Vec<OutputDim> {
        let mut dims: Vec<OutputDim> = output
            .dims
            .iter()
            .map(|dim| match dim {
                OutputDim::Batch(axis) => OutputDim::Batch(self.axis(*axis)),
                OutputDim::Own(at) => OutputDim::Own(*at),
            })
            .collect();
        let own = output.indices.len() + output.ty.dims().len();
        for at in (0..own).map(OutputDim::Own) {
            if !dims.contains(&at) {
                dims.push(at);
            }
        }
        let missing = self.around().into_iter().map(OutputDim::Batch).filter(|dim| !dims.contains(dim));
        let missing: Vec<OutputDim> = missing.collect();
        dims.splice(0..0, missing);
        dims
    }

    /// What the outputs of the callee are to its caller.
    fn results(&self) -> Vec<CallResult> {
        let result = |output: &Output| {
            let indices = output.indices.iter().map(|index| &self.callee.indices[index.index()].size);
            let own: Vec<Size> = indices.cloned().chain(output.ty.dims()).collect();
            let there = |size: &Size| size.substitute(&|axis| Some(self.sizes[axis.0 as usize].clone()));
            let dims = self.output_dims(output).into_iter().map(|dim| match dim {
                OutputDim::Own(at) => TensorDim { size: there(&own[at]), batch: None },
                OutputDim::Batch(axis) if self.around().contains(&axis) => {
                    TensorDim { size: Size::axis(axis), batch: Some(BatchDim::Index(axis)) }
                }
                OutputDim::Batch(axis) => {
                    let at = self.named.iter().position(|named| named.as_axis() == Some(axis));
                    TensorDim { size: at.map_or(Size::axis(axis), |at| self.sizes[at].clone()), batch: None }
                }
            });
            CallResult { name: output.name.clone(), dims: dims.collect() }
        };
        self.callee.outputs().map(result).collect()
    }
}

impl Variant {
    /// The dims of what is given for a tensor of a variant called, in memory order: of a value the caller's batch axes, then
    /// its own, `rank` of them.
    pub fn given_dims(&self, given: &Given, rank: usize) -> Vec<TensorDim> {
        match given {
            Given::Tensor { tensor, entry } => {
                let dims = &self.tensors[tensor.index()].dims;
                dims.iter().skip(usize::from(entry.is_some())).cloned().collect()
            }
            Given::Result { call, result } => self.calls[*call].results[*result].dims.clone(),
            Given::Value(_) => {
                let batch = self.axes.iter().enumerate().filter(|(_, axis)| axis.kind == AxisKind::Batch);
                let batch = batch.map(|(at, _)| AxisId(at as u32));
                let dims = batch.map(|axis| TensorDim { size: Size::axis(axis), batch: Some(BatchDim::Index(axis)) });
                let own = TensorDim { size: Size::constant(0), batch: None };
                dims.chain(std::iter::repeat_n(own, rank)).collect()
            }
        }
    }

    /// The values that calls take, in the order of the calls.
    pub fn given_values(&self) -> impl Iterator<Item = ExprId> {
        self.calls.iter().flat_map(|call| {
            let values = call.given.iter().filter_map(|given| match given {
                Given::Value(value) => Some(*value),
                _ => None,
            });
            values.chain(call.initial.iter().map(|(_, value)| *value))
        })
    }
}

//! A variant with new tensors and expressions in it. Those of the original keep their places, so that what is said of one
//! copy holds for another.

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{
    Axis, AxisKind, BatchDim, Expr, ExprId, ExprKind, Function, Index, IndexId, Stmt, Tensor, TensorDim, TensorId,
    TensorRole, Ty, Variant,
};

use crate::bind::batch_axes;

use super::HANDED;

pub(super) struct Edit {
    pub variant: Variant,
}

impl Edit {
    pub fn of(variant: &Variant) -> Self {
        Self { variant: variant.clone() }
    }

    /// The variant without states and what belongs to their scan, under its first order.
    pub fn without_states(variant: &Variant) -> Self {
        let mut variant = variant.clone();
        variant.states.clear();
        variant.orders.truncate(1);
        variant.orders.iter_mut().for_each(|order| order.bindings.clear());
        variant.body.retain(|stmt| !matches!(stmt, Stmt::Update(_) | Stmt::Read(_)));
        Self { variant }
    }

    pub fn expr(&mut self, kind: ExprKind, ty: Ty) -> ExprId {
        let span = self.variant.span;
        self.variant.exprs.push(Expr { kind, ty, span });
        ExprId(self.variant.exprs.len() as u32 - 1)
    }

    pub fn number(&mut self, x: f64) -> ExprId {
        self.expr(ExprKind::Number(x), Ty::scalar())
    }

    pub fn size(&mut self, size: Size) -> ExprId {
        self.expr(ExprKind::Size(size), Ty::scalar())
    }

    pub fn index(&mut self, index: IndexId) -> ExprId {
        self.expr(ExprKind::Index(index), Ty::scalar())
    }

    pub fn map(&mut self, function: Function, args: Vec<ExprId>, ty: Ty) -> ExprId {
        self.expr(ExprKind::Map { function, args }, ty)
    }

    /// The whole array of a tensor.
    pub fn whole(&mut self, tensor: TensorId) -> ExprId {
        let dims = self.variant.tensors[tensor.index()].own_dims();
        self.expr(ExprKind::Tensor(tensor), Ty::Array(dims))
    }

    /// The tensor of this name with a value of this type for so many places of every batch element, made if there is none.
    pub fn tensor(&mut self, name: &str, places: &Size, ty: &Ty) -> TensorId {
        if let Some(place) = self.variant.tensors.iter().position(|tensor| tensor.name == name) {
            return TensorId(place as u32);
        }
        let batch = batch_axes(&self.variant).into_iter();
        let mut dims: Vec<TensorDim> =
            batch.map(|axis| TensorDim { size: Size::axis(axis), batch: Some(BatchDim::Index(axis)) }).collect();
        let own = [places.clone()].into_iter().chain(ty.dims());
        dims.extend(own.map(|size| TensorDim { size, batch: None }));
        self.tensor_of(name, dims)
    }

    /// The tensor of this name that another stage hands on, made if there is none.
    pub fn tensor_of(&mut self, name: &str, dims: Vec<TensorDim>) -> TensorId {
        if let Some(place) = self.variant.tensors.iter().position(|tensor| tensor.name == name) {
            return TensorId(place as u32);
        }
        let span = self.variant.span;
        self.variant.tensors.push(Tensor {
            name: name.to_string(),
            span,
            role: TensorRole::Input,
            dtype: HANDED,
            dims,
        });
        TensorId(self.variant.tensors.len() as u32 - 1)
    }

    /// An index variable over so many places.
    pub fn place_index(&mut self, places: &Size) -> IndexId {
        let found = self.variant.indices.iter().position(|index| index.size == *places);
        found.map_or_else(|| self.new_index(places), |place| IndexId(place as u32))
    }

    /// An index variable that nothing else has.
    pub fn new_index(&mut self, size: &Size) -> IndexId {
        self.variant.indices.push(Index { name: "p".into(), size: size.clone(), token: false });
        IndexId(self.variant.indices.len() as u32 - 1)
    }

    /// Another token axis, of so many places.
    pub fn count_places(&mut self, name: &str, places: &Size) -> AxisId {
        let axis = AxisId(self.variant.axes.len() as u32);
        let span = self.variant.span;
        let value = Some(places.clone());
        self.variant.axes.push(Axis { name: name.to_string(), span, kind: AxisKind::Own, value });
        self.variant.indices.iter_mut().filter(|index| index.token).for_each(|index| index.size = Size::axis(axis));
        (self.variant.token, self.variant.grid) = (Some(axis), None);
        axis
    }
}

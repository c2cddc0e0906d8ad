//! Where tokens stand under `by`, once for every batch element that it has: a stage of its own.
//!
//! ```text
//! order causal(by = perm)   ->   standing[t] = sum[n : perm[n] == t](n)
//! ```
//! T^2 comparisons, for kernels write where a loop says and not where a tensor says.

use chunkwise_dsl::typed::{
    AxisKind, BatchDim, Domain, ExprId, ExprKind, Function, ReduceOp, Stmt, TensorDim, TensorId, Ty, Variant,
};

use chunkwise_dsl::shape::Size;

use super::edit::Edit;
use super::{Stage, handed_on};

/// The tensor of a `by` that is one.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The tensor in which its stage gives the places out.
    name: String,
    dims: Vec<TensorDim>,
}

impl Standing {
    /// None where `by` is no tensor but made of some.
    pub fn of(variant: &Variant, by: ExprId, prefix: &str) -> Option<Self> {
        let ExprKind::Tensor(perm) = variant.expr(by).kind else { return None };
        let perm = &variant.tensors[perm.index()];
        Some(Self { name: format!("{prefix}{}.standing", perm.name), dims: perm.dims.clone() })
    }

    /// The stage that computes it.
    pub fn stage(&self, variant: &Variant, by: ExprId) -> Stage {
        let mut edit = Edit::without_states(variant);
        let kept = &mut edit.variant;
        if let ExprKind::Tensor(perm) = variant.expr(by).kind {
            kept.tensors = vec![variant.tensors[perm.index()].clone()];
        }
        (kept.lets, kept.exprs, kept.indices, kept.body, kept.orders, kept.locals) = Default::default();
        for (place, axis) in kept.axes.iter_mut().enumerate() {
            let has = |dim: &TensorDim| matches!(dim.batch, Some(BatchDim::Index(of)) if of.0 as usize == place);
            if axis.kind == AxisKind::Batch && !self.dims.iter().any(has) {
                axis.kind = AxisKind::Own;
            }
        }
        let tokens = variant.token.map_or(Size::constant(1), Size::axis);
        let token = edit.new_index(&tokens);
        edit.variant.indices[token.index()].token = true;
        let (at, by) = (edit.index(token), edit.whole(TensorId(0)));
        let value = among(&mut edit, by, (at, &tokens));
        let output = handed_on(self.name.clone(), (vec![token], Ty::scalar()), value, &edit);
        edit.variant.body.push(Stmt::Output(output));
        Stage::new(self.name.clone(), edit.variant, Vec::new())
    }

    /// Where a token stands, in another stage.
    pub fn at(&self, edit: &mut Edit, token: ExprId) -> ExprId {
        let tensor = edit.tensor_of(&self.name, self.dims.clone());
        let base = edit.whole(tensor);
        edit.expr(ExprKind::Subscript { base, at: vec![token] }, Ty::scalar())
    }
}

/// The sum of the n at which `by` has a token, of which there is one.
pub(super) fn among(edit: &mut Edit, by: ExprId, (token, tokens): (ExprId, &Size)) -> ExprId {
    let n = edit.new_index(tokens);
    let body = edit.index(n);
    let there = edit.expr(ExprKind::Subscript { base: by, at: vec![body] }, Ty::scalar());
    let here = edit.map(Function::Eq, vec![there, token], Ty::scalar());
    let domain = Domain { visible_from: None, filter: Some(here) };
    edit.expr(ExprKind::Reduce { op: ReduceOp::Sum, index: n, domain, body }, Ty::scalar())
}

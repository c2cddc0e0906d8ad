//! Gradients: the adjoint of a variant is a variant. Typed program -> typed program, before any derivation.
//!
//! ```text
//! state S : [K,V] = 0;  update S[t] = a[t] * S[t-1] + k[t] * v[t]';  output o[t] = S[t]' * q[t];
//!   ->  .. the same lets, state and update ..
//!       input  d_o : [B,T,H,V];
//!       state  d_S : [K,V] = 0 in reverse;                    d_S[t-1]: dL/dS[t] by later tokens
//!       update d_S[t] = a[t] * (d_S[t-1] + q[t] * d_o[t]');
//!       read   d_v[t] = (d_S[t-1] + q[t] * d_o[t]')' * k[t];  ..
//!       output d_v[t] = d_v[t];  ..
//! ```
//!
//! Reverse-mode differentiation of the outputs, then of the updates, stopping at what is named: lets and tensors
//! (`expression`). What gathers at S[t-1] is the update of a partner that scans backwards; what gathers in the scan at a
//! let or a tensor is a `read`; what gathers there outside is turned round by `gather`: reads of k[f(i)] sum over the i
//! that f takes to a place. Params are summed over tokens here, over batch axes by whoever runs the adjoint (`Gradient`).
//! `build` and `matrix` make the expressions. Nothing here knows a form or an e-graph, and nothing there knows of gradients.

mod batch;
mod build;
mod exchange;
mod explain;
mod expression;
mod gather;
mod iterate;
mod matrix;
mod normal;
mod scan;
mod sequence;
#[cfg(test)]
mod tests;
mod visible;

use std::collections::{BTreeMap, HashMap};

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{
    BatchDim, Domain, Dtype, ExprId, ExprKind, IndexId, LetId, LetKind, LetValue, Output, OutputDim, StateId, Stmt,
    Tensor, TensorDim, TensorId, TensorRole, Ty, Variant,
};

use crate::Unsupported;
use crate::bind::{batch_axes, output_dims};
use crate::needed::keep_needed;
use build::Builder;
use gather::{Leaf, Share};

pub use explain::explain;

pub type Result<T> = std::result::Result<T, Unsupported>;

/// The adjoint of a variant, and how its results are the gradients.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Takes the inputs, initial states, a cotangent `d_o` for every output `o` and `d_S` of every final state; gives the
    /// gradients per batch element, and `d_S` of the initial states.
    pub variant: Variant,
    /// One for every real input and param, in file order.
    pub gradients: Vec<Gradient>,
}

/// The gradient of an input or a param.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// The tensor's name in the primal.
    pub tensor: String,
    /// The output that holds it; none where it is 0 by rule.
    pub output: Option<String>,
    /// How many of the output's first axes are batch axes that the tensor lacks: to be summed over.
    pub summed: usize,
    /// The axis of the tensor that several heads read, and how many.
    pub group: Option<(usize, Size)>,
}

/// A bound variable and what it ranges over.
#[derive(Debug, Clone, PartialEq)]
struct Bound {
    index: IndexId,
    domain: Domain,
}

/// The name of the cotangent or gradient of what is named so.
pub fn cotangent_name(name: &str) -> String {
    format!("d_{name}")
}

/// The adjoint of a variant.
///
/// # Errors
/// What has no rule, named with its place.
pub fn adjoint(primal: &Variant) -> Result<Gradients> {
    if let Some(call) = primal.calls.first() {
        let reason = "gradients are derived of one variant at a time, and not yet through calls";
        let way_out = "take those of the variants called one by one";
        let operation = format!("the gradient of `{}`", primal.name);
        return Err(Unsupported::new(operation, reason, way_out).at(call.span));
    }
    let mut adjoint = Adjoint::new(primal);
    adjoint.cotangents()?;
    adjoint.differentiate()?;
    adjoint.finish()
}

struct Adjoint<'a> {
    primal: &'a Variant,
    build: Builder,
    /// The cotangents of outputs, by output.
    given: Vec<TensorId>,
    /// What is gathered so far.
    shares: BTreeMap<Leaf, Vec<Share>>,
    /// The partner of every state.
    partners: Vec<StateId>,
    /// What is gathered at S[t-1].
    before: Vec<ExprId>,
    /// The token variable of the scan.
    token: Option<IndexId>,
    /// Whether expressions below are of the scan.
    scanning: bool,
    /// Lets that stand for a value that something was stopped at.
    hoisted: HashMap<ExprId, LetId>,
    active: HashMap<ExprId, bool>,
    /// Lets under what an order binds, for that order.
    bound: HashMap<(LetId, usize), LetId>,
    picks: Vec<LetId>,
    /// Every state's update, and the node that stands for it after, in the scan's own token variable.
    updates: HashMap<StateId, ExprId>,
    news: HashMap<StateId, ExprId>,
    /// Values of the scan's lets where they are read.
    values: HashMap<(LetId, Vec<ExprId>), ExprId>,
    /// What an iteration's step hands to the one before, while its steps are turned round.
    iterated: Option<Vec<ExprId>>,
    /// The iteration whose entries are taken as they are, since their cotangents are known.
    constant: Option<LetId>,
}

impl<'a> Adjoint<'a> {
    fn new(primal: &'a Variant) -> Self {
        let mut variant = primal.clone();
        variant.name = format!("{}_backward", primal.name);
        variant.body.retain(|stmt| !matches!(stmt, Stmt::Output(_)));
        let mut build = Builder::new(variant);
        let zero = build.number(0.0);
        let token = primal.body.iter().find_map(|stmt| match stmt {
            Stmt::Update(update) => Some(update.index),
            _ => None,
        });
        Self {
            primal,
            build,
            given: Vec::new(),
            shares: BTreeMap::new(),
            partners: Vec::new(),
            before: vec![zero; primal.states.len()],
            token,
            scanning: false,
            hoisted: HashMap::new(),
            active: HashMap::new(),
            bound: HashMap::new(),
            picks: Vec::new(),
            updates: HashMap::new(),
            news: HashMap::new(),
            values: HashMap::new(),
            iterated: None,
            constant: None,
        }
    }

    fn refused(&self, what: impl Into<String>, why: impl Into<String>) -> Unsupported {
        Unsupported::new(what, why, "gradients of small sizes come by differences of runs").at(self.build.span)
    }

    /// An input for the cotangent of every output.
    fn cotangents(&mut self) -> Result<()> {
        for output in self.primal.outputs() {
            let name = cotangent_name(&output.name);
            if self.primal.tensors.iter().any(|tensor| tensor.name == name) {
                return Err(self.refused(
                    format!("gradients of `{}`", self.primal.name),
                    format!("its tensor `{name}` has the name of the cotangent of `{}`", output.name),
                ));
            }
            let over = output.indices.iter().map(|index| self.primal.indices[index.index()].size.clone());
            let own: Vec<Size> = over.chain(output.ty.dims()).collect();
            let dims = output_dims(self.primal, output).into_iter().map(|dim| match dim {
                OutputDim::Batch(axis) => TensorDim { size: Size::axis(axis), batch: Some(BatchDim::Index(axis)) },
                OutputDim::Own(n) => TensorDim { size: own[n].clone(), batch: None },
            });
            let dims = dims.collect();
            let (role, dtype, span) = (TensorRole::Input, Dtype::F32, output.span);
            self.build.variant.tensors.push(Tensor { name, span, role, dtype, dims });
            self.given.push(TensorId(self.build.variant.tensors.len() as u32 - 1));
        }
        Ok(())
    }

    /// The cotangent of an output at its subscripts.
    fn given(&mut self, n: usize, output: &Output) -> Result<ExprId> {
        let tensor = self.given[n];
        let own: Vec<usize> = output_dims(self.primal, output)
            .into_iter()
            .filter_map(|dim| match dim {
                OutputDim::Own(n) => Some(n),
                OutputDim::Batch(_) => None,
            })
            .collect();
        let dims = self.build.variant.tensors[tensor.index()].own_dims();
        let mut whole = self.build.expr(ExprKind::Tensor(tensor), Ty::Array(dims));
        match own.as_slice() {
            own if own.iter().enumerate().all(|(at, n)| at == *n) => {}
            [1, 0] => whole = self.build.transpose(whole),
            _ => return Err(self.refused(format!("the cotangent of `{}`", output.name), "its axes are exchanged")),
        }
        let at = output.indices.iter().map(|index| self.build.index(*index)).collect();
        Ok(self.build.at(whole, at))
    }

    fn is_after_read(&self, id: LetId) -> bool {
        let named = &self.primal.lets[id.index()];
        named.scan && self.primal.body.iter().any(|stmt| matches!(stmt, Stmt::Read(_))) && self.reaches_read(id)
    }

    fn reaches_read(&self, id: LetId) -> bool {
        match &self.primal.lets[id.index()].value {
            _ if self.primal.lets[id.index()].kind == LetKind::Read => true,
            LetValue::Norm { of, .. } => self.reaches_read(*of),
            LetValue::Expr(value) => self.mentions_read(*value),
            LetValue::Iterate { init, step, .. } => self.mentions_read(*init) || self.mentions_read(*step),
        }
    }

    fn mentions_read(&self, id: ExprId) -> bool {
        match self.primal.expr(id).kind {
            ExprKind::Let(of) => self.reaches_read(of),
            _ => self.primal.children(id).into_iter().any(|child| self.mentions_read(child)),
        }
    }

    fn differentiate(&mut self) -> Result<()> {
        let read = self.primal.reads().next();
        let mut scanned = Vec::new();
        for (n, output) in self.primal.outputs().cloned().collect::<Vec<_>>().into_iter().enumerate() {
            self.build.span = output.span;
            let cotangent = self.given(n, &output)?;
            let bound = self.whole_bounds(&output.indices);
            if output.scan && read.is_none() && !self.primal.states.is_empty() {
                scanned.push((output.value, bound, cotangent));
            } else {
                self.reverse(vec![(output.value, bound, cotangent)])?;
            }
        }
        if let Some(read) = read {
            for id in (0..self.primal.lets.len()).rev().map(|at| LetId(at as u32)) {
                if id != read && self.is_after_read(id) {
                    self.settle_let(id)?;
                }
            }
            if let Some(cotangent) = self.settle(Leaf::Let(read))? {
                let named = self.primal.lets[read.index()].clone();
                let LetValue::Expr(value) = named.value else {
                    return Err(self.refused("this read", "it is no expression"));
                };
                let cotangent = self.build.named(cotangent);
                scanned.push((value, self.whole_bounds(&named.indices), cotangent));
            }
        }
        if !self.primal.states.is_empty() {
            self.scan(scanned)?;
        }
        for id in (0..self.build.variant.lets.len()).rev().map(|at| LetId(at as u32)) {
            self.settle_let(id)?;
        }
        Ok(())
    }

    fn whole_bounds(&self, indices: &[IndexId]) -> Vec<Bound> {
        let whole = Domain { visible_from: None, filter: None };
        indices.iter().map(|index| Bound { index: *index, domain: whole.clone() }).collect()
    }

    /// A let's cotangent, and what it hands on to what the let is made of.
    fn settle_let(&mut self, id: LetId) -> Result<()> {
        let named = self.build.variant.lets[id.index()].clone();
        self.build.span = named.span;
        let Some(cotangent) = self.settle(Leaf::Let(id))? else { return Ok(()) };
        let at = self.build.named(cotangent);
        let bound = self.whole_bounds(&named.indices);
        match named.value {
            LetValue::Expr(value) => self.reverse(vec![(value, bound, at)]),
            LetValue::Iterate { from, to, init, step } => self.iterate((id, cotangent), (from, to), (init, step)),
            LetValue::Norm { of, norm, heads: false } => {
                let (arg, value) = (self.build.named_at(of, &named.indices), self.build.named(id));
                let of_arg = self.normalised(norm, (arg, value), at);
                self.reverse(vec![(arg, bound, of_arg)])
            }
            LetValue::Norm { .. } => {
                Err(self.refused("the gradient of a norm over heads", "no value sums over heads").at(named.span))
            }
        }
    }

    fn finish(mut self) -> Result<Gradients> {
        let mut gradients = Vec::new();
        for (at, tensor) in self.primal.tensors.iter().enumerate() {
            if tensor.dtype != Dtype::F32 {
                continue;
            }
            self.build.span = tensor.span;
            let cotangent = self.settle(Leaf::Tensor(TensorId(at as u32)))?;
            let lacked: Vec<AxisId> = self.lacked_axes(tensor);
            let group = tensor.dims.iter().position(|dim| matches!(dim.batch, Some(BatchDim::Group { .. })));
            let ratio = group.and_then(|at| match &tensor.dims[at].batch {
                Some(BatchDim::Group { ratio, .. }) => Some((at, ratio.clone())),
                _ => None,
            });
            let output = cotangent.map(|id| self.give_out(tensor, id, &lacked));
            gradients.push(Gradient { tensor: tensor.name.clone(), output, summed: lacked.len(), group: ratio });
        }
        let mut variant = self.build.variant;
        keep_needed(&mut variant);
        // Another program has another key.
        variant.fingerprint = self.primal.fingerprint ^ BACKWARD;
        Ok(Gradients { variant, gradients })
    }

    /// The batch axes that a tensor has not, in the order of `axes`.
    fn lacked_axes(&self, tensor: &Tensor) -> Vec<AxisId> {
        let has = |axis: AxisId| {
            tensor.dims.iter().any(|dim| match &dim.batch {
                Some(BatchDim::Index(of)) => *of == axis,
                Some(BatchDim::Group { of, .. }) => *of == axis,
                None => false,
            })
        };
        batch_axes(self.primal).into_iter().filter(|axis| !has(*axis)).collect()
    }

    /// The output with a tensor's gradient, laid out as the tensor behind the axes that it lacks.
    fn give_out(&mut self, tensor: &Tensor, id: LetId, lacked: &[AxisId]) -> String {
        let named = self.build.variant.lets[id.index()].clone();
        let mut own = 0;
        let mut dims: Vec<OutputDim> = lacked.iter().map(|axis| OutputDim::Batch(*axis)).collect();
        dims.extend(tensor.dims.iter().map(|dim| match &dim.batch {
            Some(BatchDim::Index(axis) | BatchDim::Group { of: axis, .. }) => OutputDim::Batch(*axis),
            None => {
                own += 1;
                OutputDim::Own(own - 1)
            }
        }));
        let name = cotangent_name(&tensor.name);
        let value = self.build.named(id);
        let output = Output {
            name: name.clone(),
            span: tensor.span,
            indices: named.indices,
            ty: named.ty,
            value,
            scan: false,
            dims,
        };
        self.build.variant.body.push(Stmt::Output(output));
        name
    }
}

/// What sets the key of an adjoint apart from that of its primal.
const BACKWARD: u64 = 0x6261_636b_7761_7264;

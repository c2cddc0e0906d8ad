//! A variant that calls others as parts, each a variant without calls of its caller: what calls take, the variants called, and
//! what is left of the caller. Both the reference and the way to kernels run them one by one.
//!
//! ```text
//! let o = gla(q = silu(x) ..);  output y[t] = W * o[t]
//!   ->  values  gla.in      gla..in0 = silu(x)
//!       values  gla.start   gla..start0 = 0             the initial states
//!       call    gla         q = gla..in0, S = gla..start0, o = gla..out0
//!       rest                y[t] = W * gla..out0[t]
//! ```
//!
//! Names with two dots are no program's: they are what parts hand on.

use std::collections::BTreeMap;

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{
    Call, Dtype, ExprId, ExprKind, Given, Index, IndexId, LetValue, Output, Stmt, Tensor, TensorId, TensorRole, Ty,
    Variant,
};

use crate::bind::Sizes;
use crate::needed::keep_needed;

/// A part of a variant with calls.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: String,
    pub kind: Kind,
    pub variant: Variant,
    /// What its tensors, states and outputs are among those of the caller and what parts hand on; the others keep their names.
    pub wires: BTreeMap<String, Wire>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What calls take, computed from what the caller has.
    Values,
    /// Initial states of a variant called.
    Start,
    Call,
    /// The caller itself, its calls done.
    Rest,
}

/// A tensor by its name, or one entry along its first axis, of so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    pub name: String,
    pub entry: Option<(usize, usize)>,
}

impl Wire {
    fn whole(name: String) -> Self {
        Self { name, entry: None }
    }
}

/// The parts of a variant, in the order in which they are run; none where it calls nothing.
pub fn parts(variant: &Variant) -> Vec<Part> {
    let mut parts = Vec::new();
    if variant.calls.is_empty() {
        return parts;
    }
    let plain = with_results(variant);
    let mut taken = 0;
    for (at, call) in variant.calls.iter().enumerate() {
        if at >= taken {
            let group = group(variant, at);
            parts.extend(values(&plain, (variant, at..group)));
            taken = group;
        }
        parts.extend(called(variant, call));
    }
    let mut rest = plain;
    keep_needed(&mut rest);
    parts.push(Part { name: "rest".into(), kind: Kind::Rest, variant: rest, wires: BTreeMap::new() });
    parts
}

/// The sizes of a part: those of its caller, and of the axes that it has beside.
pub fn sizes_of(part: &Variant, caller: &Variant, sizes: &Sizes) -> Sizes {
    let mut all = sizes.clone();
    for (at, axis) in part.axes.iter().enumerate().skip(caller.axes.len()) {
        if let Some(size) = axis.value.as_ref().and_then(|value| sizes.eval(value)) {
            all.set(AxisId(at as u32), size);
        }
    }
    all
}

/// The axes that a part has beside those of its caller, and how long each is.
pub fn further_axes<'v>(part: &'v Variant, caller: &Variant) -> impl Iterator<Item = (&'v str, &'v Size)> {
    let further = part.axes.iter().skip(caller.axes.len());
    further.filter_map(|axis| Some((axis.name.as_str(), axis.value.as_ref()?)))
}

fn result_name(call: &Call, result: usize) -> String {
    format!("{}..out{result}", call.name)
}

fn value_name(call: &Call, at: usize) -> String {
    format!("{}..in{at}", call.name)
}

fn start_name(call: &Call, at: usize) -> String {
    format!("{}..start{at}", call.name)
}

/// The variant with what calls gave as tensors, and no calls.
fn with_results(variant: &Variant) -> Variant {
    let mut made = variant.clone();
    let calls = std::mem::take(&mut made.calls);
    let mut tensors: Vec<Vec<TensorId>> = Vec::new();
    for call in &calls {
        let mut of_call = Vec::new();
        for (at, result) in call.results.iter().enumerate() {
            of_call.push(TensorId(made.tensors.len() as u32));
            made.tensors.push(Tensor {
                name: result_name(call, at),
                span: call.span,
                role: TensorRole::Input,
                dtype: Dtype::F32,
                dims: result.dims.clone(),
            });
        }
        tensors.push(of_call);
    }
    for expr in &mut made.exprs {
        if let ExprKind::Result { call, result } = expr.kind {
            expr.kind = ExprKind::Tensor(tensors[call][result]);
        }
    }
    made
}

/// The end of the calls from one on whose values need none of what those give.
fn group(variant: &Variant, from: usize) -> usize {
    let waits = |call: &Call| values_of(call).any(|(_, value)| latest(variant, value).is_some_and(|of| of >= from));
    let end = variant.calls[from + 1..].iter().position(waits);
    end.map_or(variant.calls.len(), |end| from + 1 + end)
}

/// The values that a call takes: the names under which they are handed on.
fn values_of(call: &Call) -> impl Iterator<Item = (String, ExprId)> {
    let given = call.given.iter().enumerate().filter_map(|(at, given)| match given {
        Given::Value(value) => Some((value_name(call, at), *value)),
        Given::Tensor { .. } | Given::Result { .. } => None,
    });
    given.chain(call.initial.iter().map(|(state, value)| (start_name(call, state.index()), *value)))
}

/// The last call that a value is made of.
fn latest(variant: &Variant, value: ExprId) -> Option<usize> {
    let (mut open, mut seen, mut last) = (vec![value], vec![false; variant.exprs.len()], None);
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        match &variant.expr(id).kind {
            ExprKind::Result { call, .. } => last = last.max(Some(*call)),
            ExprKind::Let(of) => match &variant.lets[of.index()].value {
                LetValue::Expr(value) => open.push(*value),
                LetValue::Iterate { init, step, .. } => open.extend([*init, *step]),
                // A norm is of a read, which no call takes.
                LetValue::Norm { .. } => {}
            },
            kind => open.extend(kind.children()),
        }
    }
    last
}

/// What some calls take, as a part; None where all of it lies there already.
fn values(plain: &Variant, (variant, calls): (&Variant, std::ops::Range<usize>)) -> Option<Part> {
    let name = format!("{}.in", variant.calls[calls.start].name);
    let mut made = without_scan(plain);
    for call in &variant.calls[calls] {
        for (name, value) in values_of(call) {
            let state = call.initial.iter().find(|(state, _)| start_name(call, state.index()) == name);
            let output = match state.filter(|_| made.expr(value).ty.is_scalar()) {
                // A scalar fills the state.
                Some((state, _)) => {
                    let dims = call.placed(variant).states[state.index()].dims.clone();
                    filled(&mut made, (name, value), &dims)
                }
                None => whole(&made, (name, value)),
            };
            made.body.push(Stmt::Output(output));
        }
    }
    keep_needed(&mut made);
    made.outputs().next()?;
    Some(Part { name, kind: Kind::Values, variant: made, wires: BTreeMap::new() })
}

/// A variant without states, reads and outputs.
fn without_scan(variant: &Variant) -> Variant {
    let mut made = variant.clone();
    made.states.clear();
    // What is kept reaches no state.
    let states = made.exprs.iter_mut().filter(|of| matches!(of.kind, ExprKind::StateOld(_) | ExprKind::StateNew(_)));
    states.for_each(|of| of.kind = ExprKind::Number(0.0));
    made.body.retain(|stmt| matches!(stmt, Stmt::Let(of) if !variant.lets[of.index()].scan));
    made
}

/// An array as it is.
fn whole(variant: &Variant, (name, value): (String, ExprId)) -> Output {
    let ty = Ty::Array(variant.expr(value).ty.dims());
    Output { name, span: variant.span, indices: Vec::new(), ty, value, scan: false, dims: Vec::new() }
}

/// A scalar at every place of a shape.
fn filled(variant: &mut Variant, (name, value): (String, ExprId), dims: &[Size]) -> Output {
    let first = variant.indices.len() as u32;
    for (at, size) in dims.iter().enumerate() {
        variant.indices.push(Index { name: format!("n{at}"), size: size.clone(), token: false });
    }
    let indices = (0..dims.len() as u32).map(|at| IndexId(first + at)).collect();
    Output { name, span: variant.span, indices, ty: Ty::scalar(), value, scan: false, dims: Vec::new() }
}

/// A variant called, and its initial states before it.
fn called(variant: &Variant, call: &Call) -> Vec<Part> {
    let placed = call.placed(variant);
    let mut wires = BTreeMap::new();
    for (at, (tensor, given)) in placed.tensors.iter().zip(&call.given).enumerate() {
        let wire = match given {
            Given::Value(_) => Wire::whole(value_name(call, at)),
            Given::Result { call, result } => Wire::whole(result_name(&variant.calls[*call], *result)),
            Given::Tensor { tensor, entry } => {
                let tensor = &variant.tensors[tensor.index()];
                let count = tensor.dims.first().and_then(|dim| dim.size.as_constant()).unwrap_or(1);
                let entry = entry.map(|entry| (entry as usize, count as usize));
                Wire { name: tensor.name.clone(), entry }
            }
        };
        wires.insert(tensor.name.clone(), wire);
    }
    let mut parts = Vec::new();
    parts.extend(start((&placed, call), &wires));
    for (at, state) in placed.states.iter().enumerate() {
        wires.insert(state.name.clone(), Wire::whole(start_name(call, at)));
    }
    for (at, output) in placed.outputs().enumerate() {
        wires.insert(output.name.clone(), Wire::whole(result_name(call, at)));
    }
    parts.push(Part { name: call.name.clone(), kind: Kind::Call, variant: placed, wires });
    parts
}

/// The declared initial states of a variant called; None where it has none, or all are given.
fn start((placed, call): (&Variant, &Call), wires: &BTreeMap<String, Wire>) -> Option<Part> {
    let mut made = without_scan(placed);
    // What it calls needs no initial state of its own.
    made.calls.clear();
    for (at, state) in placed.states.iter().enumerate() {
        if call.initial.iter().any(|(given, _)| given.index() == at) {
            continue;
        }
        let given = (start_name(call, at), state.init);
        let output = match placed.expr(state.init).ty.is_scalar() {
            true => filled(&mut made, given, &state.dims),
            false => whole(&made, given),
        };
        made.body.push(Stmt::Output(output));
    }
    keep_needed(&mut made);
    made.outputs().next()?;
    Some(Part { name: format!("{}.start", call.name), kind: Kind::Start, variant: made, wires: wires.clone() })
}

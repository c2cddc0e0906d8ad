//! Decays above 1. The ranges of the tensors that a decay reads bound it; only where they let it pass 1 is it evaluated
//! element by element, up to the first that does.

use std::collections::{BTreeMap, BTreeSet};

use chunkwise_compiler::{
    bind::batch_axes,
    ir::{
        facts::range_given,
        lower::{Dependence, resolve},
    },
};
use chunkwise_dsl::{
    print_typed::expr_text,
    typed::{BatchDim, ExprId, ExprKind, Function, LetValue, Stmt, TensorId, Variant},
};

use super::brackets;
use crate::{
    request::Request,
    tensor::{Data, Tensor},
};

/// Elements of one decay that are looked at: more would take longer than many a run.
const MOST: usize = 1 << 24;

/// A rounding above 1 is none.
const ONE: f64 = 1.0 + 1e-6;

/// A decay that is above 1.
pub(super) struct Found {
    pub state: String,
    pub sentence: String,
}

/// The decays that are above 1 somewhere.
pub(super) fn above_one(request: Request) -> Vec<Found> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for (state, decay) in decays(request.variant) {
        if !seen.contains(&decay) {
            seen.push(decay);
            found.extend(
                look(request, decay).map(|text| Found { sentence: sentence(request, &state, decay, &text), state }),
            );
        }
    }
    found
}

fn sentence(request: Request, state: &str, decay: ExprId, (value, places): &(f64, String)) -> String {
    let variant = request.variant;
    let exponential = matches!(variant.expr(decay).kind, ExprKind::Map { function: Function::Exp, .. });
    let rule = if exponential { "a log decay is at most 0" } else { "decays lie in [0, 1]" };
    let value = if *value < 1e6 { format!("{value:.4}") } else { format!("{value:.3e}") };
    let value = value.trim_end_matches('0').trim_end_matches('.');
    format!("the decay `{}` of `{state}` is {value}, above 1, first at {places}: {rule}", expr_text(variant, decay))
}

/// The inputs and params that decays read.
pub(super) fn tensors(variant: &Variant) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, decay) in decays(variant) {
        read(variant, decay, &mut found);
    }
    found.into_iter().map(|id| variant.tensors[id.index()].name.clone()).collect()
}

fn read(variant: &Variant, expr: ExprId, found: &mut BTreeSet<TensorId>) {
    let expr = resolve(variant, expr);
    if let ExprKind::Tensor(id) = variant.expr(expr).kind {
        found.insert(id);
    }
    variant.children(expr).into_iter().for_each(|child| read(variant, child, found));
}

/// What every state's laws multiply it by, and what a recurrence does.
fn decays(variant: &Variant) -> Vec<(String, ExprId)> {
    let dependence = Dependence::new(variant);
    let mut found = Vec::new();
    for state in &variant.states {
        if let Some(LetValue::Expr(value)) = state.decay.map(|id| &variant.lets[id.index()].value) {
            found.push((state.name.clone(), resolve(variant, *value)));
        }
    }
    for stmt in &variant.body {
        let Stmt::Update(update) = stmt else { continue };
        let state = &variant.states[update.state.index()];
        if state.decay.is_none() {
            let mut factors = Vec::new();
            terms(variant, &dependence, update.value, &mut factors);
            // Several terms in the state may cancel.
            if let [Some(factor)] = factors.as_slice() {
                found.push((state.name.clone(), resolve(variant, *factor)));
            }
        }
    }
    found.retain(|(_, decay)| dependence.on(*decay).is_empty());
    found
}

/// For every term of a sum that depends on a state: the one factor of the state itself, if it is of that shape.
fn terms(variant: &Variant, dependence: &Dependence, expr: ExprId, found: &mut Vec<Option<ExprId>>) {
    let expr = resolve(variant, expr);
    if dependence.on(expr).is_empty() {
        return;
    }
    let is_state = |x: ExprId| matches!(variant.expr(resolve(variant, x)).kind, ExprKind::StateOld(_));
    let factor = match &variant.expr(expr).kind {
        ExprKind::Map { function: Function::Add, args } => {
            args.iter().for_each(|&arg| terms(variant, dependence, arg, found));
            return;
        }
        ExprKind::Map { function: Function::Mul, args } if is_state(args[1]) => Some(args[0]),
        ExprKind::Map { function: Function::Mul, args } if is_state(args[0]) => Some(args[1]),
        ExprKind::Product(a, b) if is_state(*b) => diagonal(variant, *a),
        ExprKind::Product(a, b) if is_state(*a) => diagonal(variant, *b),
        _ => None,
    };
    found.push(factor);
}

fn diagonal(variant: &Variant, expr: ExprId) -> Option<ExprId> {
    match variant.expr(resolve(variant, expr)).kind {
        ExprKind::Diag(d) => Some(d),
        _ => None,
    }
}

/// The first element above 1: its value, and the elements that it is made of.
fn look(request: Request, decay: ExprId) -> Option<(f64, String)> {
    let ranges = ranges(request, decay);
    let given = |kind: &ExprKind| match kind {
        ExprKind::Size(size) => Some((request.sizes.number(size) as f64, request.sizes.number(size) as f64)),
        ExprKind::Tensor(id) => ranges.get(id).copied(),
        _ => None,
    };
    if range_given(request.variant, decay, &given).1 <= ONE {
        return None;
    }
    let variant = request.variant;
    let size = |axis| request.sizes.get(axis).unwrap_or(0);
    let batch: Vec<usize> = batch_axes(variant).into_iter().map(size).collect();
    let tokens = if is_constant(variant, decay) { 1 } else { variant.token.map_or(1, size) };
    let own = match variant.expr(decay).ty.dims().as_slice() {
        [] => 1,
        [length] => request.sizes.extent(length),
        _ => return None,
    };
    let elements = batch.iter().try_fold(tokens.checked_mul(own)?, |all, n| all.checked_mul(*n))?;
    let row = (elements / tokens.max(1)).max(1);
    // The earliest token first.
    (0..elements.min(MOST)).find_map(|at| {
        let mut element = Element { request, batch: vec![0; batch.len()], token: at / row, own: at % own };
        let mut rest = at % row / own;
        for (slot, n) in element.batch.iter_mut().zip(&batch).rev() {
            *slot = rest % n;
            rest /= n;
        }
        let value = element.value(decay)?;
        (value > ONE).then(|| (value, element.places(decay)))
    })
}

/// The least and the largest number of every tensor that the decay reads.
fn ranges(request: Request, decay: ExprId) -> BTreeMap<TensorId, (f64, f64)> {
    let mut found = BTreeSet::new();
    read(request.variant, decay, &mut found);
    let of = |id: TensorId| {
        let data = &request.inputs.get(&request.variant.tensors[id.index()].name)?.data;
        let (low, high) = match data {
            Data::F32(data) => data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x))),
            Data::I32(data) => {
                data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x as f32), b.max(x as f32)))
            }
        };
        Some((id, (f64::from(low), f64::from(high))))
    };
    found.into_iter().filter_map(of).collect()
}

/// Whether no token index occurs.
fn is_constant(variant: &Variant, expr: ExprId) -> bool {
    let expr = resolve(variant, expr);
    !matches!(variant.expr(expr).kind, ExprKind::Index(_) | ExprKind::Subscript { .. })
        && variant.children(expr).into_iter().all(|child| is_constant(variant, child))
}

/// One element of a decay.
struct Element<'a> {
    request: Request<'a>,
    batch: Vec<usize>,
    token: usize,
    /// Along the state.
    own: usize,
}

impl Element<'_> {
    /// The value, where it is made of elements by functions of numbers.
    fn value(&self, expr: ExprId) -> Option<f64> {
        let variant = self.request.variant;
        let expr = resolve(variant, expr);
        match &variant.expr(expr).kind {
            ExprKind::Number(x) => Some(*x),
            ExprKind::Bool(x) => Some(f64::from(u8::from(*x))),
            ExprKind::Size(size) => Some(self.request.sizes.number(size) as f64),
            ExprKind::Index(index) if variant.indices[index.index()].token => Some(self.token as f64),
            ExprKind::Map { function, args } => {
                let args: Option<Vec<f64>> = args.iter().map(|&arg| self.value(arg)).collect();
                Some(function.eval(&args?))
            }
            ExprKind::If { cond, then, otherwise } => {
                self.value(if self.value(*cond)? != 0.0 { *then } else { *otherwise })
            }
            _ => {
                let (id, index) = self.element(expr)?;
                let tensor = self.tensor(id)?;
                let place = index.iter().zip(&tensor.shape).fold(0, |place, (i, n)| place * n + i);
                match &tensor.data {
                    Data::F32(data) => data.get(place).map(|&x| f64::from(x)),
                    Data::I32(data) => data.get(place).map(|&x| f64::from(x)),
                }
            }
        }
    }

    fn tensor(&self, id: TensorId) -> Option<&Tensor> {
        self.request.inputs.get(&self.request.variant.tensors[id.index()].name)
    }

    /// The element of a tensor that `x[t]` or `x` is.
    fn element(&self, expr: ExprId) -> Option<(TensorId, Vec<usize>)> {
        let variant = self.request.variant;
        let (base, at) = match &variant.expr(expr).kind {
            ExprKind::Subscript { base, at } => (*base, at.as_slice()),
            _ => (expr, [].as_slice()),
        };
        let ExprKind::Tensor(id) = variant.expr(base).kind else { return None };
        let token = |at: &ExprId| match variant.expr(*at).kind {
            ExprKind::Index(index) => variant.indices[index.index()].token,
            _ => false,
        };
        if !at.iter().all(token) {
            return None;
        }
        let axes = batch_axes(variant);
        let batch = |axis| axes.iter().position(|a| *a == axis).map(|place| self.batch[place]);
        let mut own = at.iter().map(|_| self.token).chain([self.own]);
        let dims = variant.tensors[id.index()].dims.iter().map(|dim| match &dim.batch {
            Some(BatchDim::Index(axis)) => batch(*axis),
            Some(BatchDim::Group { of, ratio }) => Some(batch(*of)? / self.request.sizes.extent(ratio).max(1)),
            None => own.next(),
        });
        Some((id, dims.collect::<Option<Vec<usize>>>()?))
    }

    /// The elements below an expression, with their values.
    fn places(&self, expr: ExprId) -> String {
        let mut places = Vec::new();
        self.collect(expr, &mut places);
        places.join(", ")
    }

    fn collect(&self, expr: ExprId, places: &mut Vec<String>) {
        let variant = self.request.variant;
        let expr = resolve(variant, expr);
        if let (Some((id, index)), Some(value)) = (self.element(expr), self.value(expr)) {
            let place = format!("{}{} = {}", variant.tensors[id.index()].name, brackets(&index), value as f32);
            if !places.contains(&place) {
                places.push(place);
            }
            return;
        }
        variant.children(expr).into_iter().for_each(|child| self.collect(child, places));
    }
}

//! Evaluation of expressions for one batch element under one order. Lazy: a let's entry is computed when it is first
//! asked for, a branch when it is taken. Scans are driven from `scan`; reductions are in `reduce`.

use chunkwise_dsl::typed::{
    BatchDim, ExprId, ExprKind, Function, GridAxis, IndexId, LetId, LetValue, Order, StateId, Ty, Variant,
};

use super::facts::{Facts, Needs};
use super::number::Number;
use super::value::{Array, Dims, Value, place};
use super::visible::Visibility;
use super::{linear, reduce, sequence};
use crate::bind::{Sizes, batch_axes};

/// Beyond so many entries a let is computed anew whenever it is read.
const MOST_ENTRIES: usize = 1 << 24;
const MOST_ARRAYS: usize = 1 << 20;

/// What stays the same over batch elements and orders.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) variant: &'a Variant,
    pub(super) sizes: &'a Sizes,
    pub(super) facts: &'a Facts,
}

/// The circumstances that a kept value holds for: the step of the scan and the free indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    step: u64,
    at: [i64; 4],
}

/// States before and after a token.
pub(super) type Seen<N> = (Vec<Value<N>>, Vec<Value<N>>);

/// A let's values, as far as they are known.
struct Store<N> {
    whole: Option<(Key, Value<N>)>,
    last: Option<(Key, Vec<i64>, Value<N>)>,
    scalars: Vec<N>,
    filled: Vec<bool>,
    arrays: Vec<Option<Value<N>>>,
}

impl<N> Store<N> {
    fn empty() -> Self {
        Self { whole: None, last: None, scalars: Vec::new(), filled: Vec::new(), arrays: Vec::new() }
    }
}

pub(super) struct Evaluator<'a, N> {
    pub(super) world: World<'a>,
    pub(super) order: Option<&'a Order>,
    /// The position on the head axis.
    head: usize,
    tensors: Vec<Value<N>>,
    /// The position of every index variable.
    pub(super) env: Vec<i64>,
    kept: Vec<Option<(Key, Value<N>)>>,
    pub(super) weights: Vec<Option<(Key, std::rc::Rc<Vec<N>>)>>,
    lets: Vec<Store<N>>,
    /// The lets whose whole array came from outside.
    given: Vec<bool>,
    iterates: Vec<Value<N>>,
    /// S[t-1] and S[t] of the current step.
    pub(super) old: Vec<Value<N>>,
    pub(super) new: Vec<Value<N>>,
    /// Both at every token, as those that scan earlier left them, where states scan both ways.
    pub(super) seen: Vec<Seen<N>>,
    pub(super) step: u64,
    pub(super) visibility: Visibility,
}

impl<'a, N: Number> Evaluator<'a, N> {
    /// `element` is the position on each batch axis; `inputs` holds every tensor in its whole shape.
    pub(super) fn new(world: World<'a>, element: &[usize], inputs: &[&Array<N>], order: Option<&'a Order>) -> Self {
        let variant = world.variant;
        let axes = batch_axes(variant);
        let at = |axis| axes.iter().position(|other| *other == axis).map_or(0, |n| element[n]);
        let tensors = variant
            .tensors
            .iter()
            .zip(inputs)
            .map(|(tensor, input)| {
                let fixed: Vec<Option<usize>> = tensor
                    .dims
                    .iter()
                    .map(|dim| {
                        dim.batch.as_ref().map(|batch| match batch {
                            BatchDim::Index(axis) => at(*axis),
                            BatchDim::Group { of, ratio } => at(*of) / world.sizes.extent(ratio).max(1),
                        })
                    })
                    .collect();
                part_of(input, &fixed)
            })
            .collect();
        let mut evaluator = Self {
            world,
            order,
            head: variant.head.map_or(0, at),
            tensors,
            env: vec![0; variant.indices.len()],
            kept: vec![None; variant.exprs.len()],
            weights: vec![None; variant.exprs.len()],
            lets: variant.lets.iter().map(|_| Store::empty()).collect(),
            given: vec![false; variant.lets.len()],
            iterates: vec![Value::Scalar(N::from(0.0)); variant.lets.len()],
            old: Vec::new(),
            new: Vec::new(),
            seen: Vec::new(),
            step: 0,
            visibility: Visibility::default(),
        };
        evaluator.prepare_visibility();
        evaluator
    }

    /// The circumstances now; None where they do not fit a key.
    pub(super) fn key(&self, needs: &Needs) -> Option<Key> {
        let mut at = [0; 4];
        if needs.free.len() > at.len() {
            return None;
        }
        for (slot, index) in at.iter_mut().zip(&needs.free) {
            *slot = self.env[index.index()];
        }
        Some(Key { step: if needs.state { self.step } else { 0 }, at })
    }

    pub(super) fn eval(&mut self, id: ExprId) -> Value<N> {
        let facts = &self.world.facts.exprs[id.index()];
        if !facts.keep {
            return self.compute(id);
        }
        let Some(key) = self.key(&facts.needs) else { return self.compute(id) };
        if let Some((kept, value)) = &self.kept[id.index()]
            && *kept == key
        {
            return value.clone();
        }
        let value = self.compute(id);
        self.kept[id.index()] = Some((key, value.clone()));
        value
    }

    pub(super) fn scalar(&mut self, id: ExprId) -> N {
        self.eval(id).scalar()
    }

    /// With an index variable at a position.
    pub(super) fn set(&mut self, index: IndexId, at: usize) {
        self.env[index.index()] = at as i64;
    }

    /// Gives a let its whole array from outside.
    pub(super) fn give(&mut self, id: LetId, value: Value<N>) {
        self.lets[id.index()] = Store { whole: Some((Key { step: 0, at: [0; 4] }, value)), ..Store::empty() };
        self.given[id.index()] = true;
    }

    fn is_given(&self, id: LetId) -> bool {
        self.given[id.index()]
    }

    fn compute(&mut self, id: ExprId) -> Value<N> {
        let variant = self.world.variant;
        let dims = self.world.facts.exprs[id.index()].dims;
        match &variant.expr(id).kind {
            ExprKind::Number(x) => Value::Scalar(N::from(*x)),
            ExprKind::Bool(x) => Value::Scalar(N::from(f64::from(u8::from(*x)))),
            ExprKind::Size(size) => Value::Scalar(N::from(self.world.sizes.number(size) as f64)),
            ExprKind::Index(index) => Value::Scalar(N::from(self.env[index.index()] as f64)),
            ExprKind::Coord { index, axis } => Value::Scalar(N::from(self.coordinate(*index, *axis) as f64)),
            ExprKind::Head => Value::Scalar(N::from(self.head as f64)),
            ExprKind::Tensor(tensor) => self.tensors[tensor.index()].clone(),
            ExprKind::Result { .. } => unreachable!("calls are run before what is left of their caller"),
            ExprKind::Let(name) => self.whole(*name),
            ExprKind::StateOld(state) => held(&self.old, *state, dims),
            ExprKind::StateNew(state) => held(&self.new, *state, dims),
            ExprKind::IterateOld(name) => self.iterates[name.index()].clone(),
            ExprKind::Subscript { base, at } => self.subscript(*base, at),
            ExprKind::Map { function, args } => self.map(*function, args, dims),
            ExprKind::Product(a, b) => self.product(*a, *b, dims),
            ExprKind::Transpose(x) => linear::transpose(self.eval(*x), dims),
            ExprKind::If { cond, then, otherwise } => {
                let taken = if self.scalar(*cond).value() != 0.0 { *then } else { *otherwise };
                self.eval(taken).filling(dims)
            }
            ExprKind::Reduce { op, index, domain, body } => self.reduce(*op, *index, domain, *body),
            ExprKind::Softmax { index, bound, domain, over, .. } => self.softmax(id, *index, (*bound, *over), domain),
            ExprKind::Fold { op, arg } => reduce::fold(*op, &self.eval(*arg), dims),
            ExprKind::SoftmaxAxis(arg) => reduce::softmax_axis(&self.eval(*arg)),
            ExprKind::Normalise { norm, arg } => reduce::normalise_axis(*norm, &self.eval(*arg)),
            ExprKind::Stack(args) => {
                let parts: Vec<Value<N>> = args.iter().map(|arg| self.eval(*arg)).collect();
                linear::stack(&parts, dims)
            }
            ExprKind::Flatten(arg) => Value::new(self.eval(*arg).data().to_vec(), dims),
            ExprKind::Diag(arg) => linear::diagonal(&self.eval(*arg), dims),
            ExprKind::Eye(_) => linear::diagonal(&Value::full(N::from(1.0), Dims::new(&[dims.last()])), dims),
            ExprKind::Cols { arg, from, .. } => {
                let from = self.world.sizes.extent(from);
                linear::columns(&self.eval(*arg), from, dims)
            }
            ExprKind::Conv1d { arg, weights } => {
                let (x, w) = (self.eval(*arg), self.eval(*weights));
                sequence::conv1d(&x, &w)
            }
            ExprKind::Dwconv { arg, weights, stride } => {
                let (x, w) = (self.eval(*arg), self.eval(*weights));
                sequence::dwconv(&x, &w, self.grid_size(), *stride, dims)
            }
            ExprKind::Rope { arg, at, base } => {
                let (x, at, base) = (self.eval(*arg), self.eval(*at), self.scalar(*base));
                sequence::rope(&x, &at, base)
            }
            ExprKind::Rope2d { arg, index } => {
                let at = [self.coordinate(*index, GridAxis::Y), self.coordinate(*index, GridAxis::X)];
                sequence::rope2d(&self.eval(*arg), at)
            }
            ExprKind::TopkMask { arg, count } => {
                let count = self.scalar(*count);
                reduce::topk_mask(&self.eval(*arg), count.value())
            }
            ExprKind::SolveCg { matrix, vector, iters } => {
                let (a, b) = (self.eval(*matrix), self.eval(*vector));
                linear::solve_cg(&a, &b, *iters)
            }
            ExprKind::Solve { matrix, vector } => {
                let (a, b) = (self.eval(*matrix), self.eval(*vector));
                linear::solve(&a, &b)
            }
        }
    }

    fn subscript(&mut self, base: ExprId, at: &[ExprId]) -> Value<N> {
        let mut places = [0i64; 8];
        let count = at.len().min(places.len());
        for (slot, id) in places.iter_mut().zip(at) {
            *slot = match &self.world.variant.expr(*id).kind {
                ExprKind::Index(index) => self.env[index.index()],
                _ => place(self.scalar(*id).value()),
            };
        }
        match &self.world.variant.expr(base).kind {
            ExprKind::Let(name) => self.named_at(*name, &places[..count]),
            ExprKind::Tensor(tensor) => self.tensors[tensor.index()].at(&places[..count]),
            _ => self.eval(base).at(&places[..count]),
        }
    }

    fn map(&mut self, function: Function, args: &[ExprId], dims: Dims) -> Value<N> {
        match args {
            [x] => {
                let x = self.eval(*x);
                match &x {
                    Value::Scalar(x) => Value::Scalar(N::unary(function, *x)),
                    Value::Array(x) => {
                        let data = x.data().iter().map(|x| N::unary(function, *x)).collect();
                        Value::new(data, x.dims)
                    }
                }
            }
            [a, b] => {
                let (a, b) = (self.eval(*a), self.eval(*b));
                linear::zip(function, &a, &b)
            }
            _ => {
                let values: Vec<Value<N>> = args.iter().map(|arg| self.eval(*arg)).collect();
                let at = |value: &Value<N>, n: usize| match value {
                    Value::Scalar(x) => *x,
                    Value::Array(view) => view.data()[n],
                };
                let one = |n| N::apply(function, &values.iter().map(|value| at(value, n)).collect::<Vec<N>>());
                Value::new((0..dims.size()).map(one).collect(), dims)
            }
        }
    }

    /// Products with a diagonal or a transposed factor do without the matrix that stands there.
    fn product(&mut self, a: ExprId, b: ExprId, dims: Dims) -> Value<N> {
        let variant = self.world.variant;
        let is_matrix = |id: ExprId| matches!(&variant.expr(id).ty, Ty::Array(dims) if dims.len() == 2);
        if let ExprKind::Diag(scale) = &variant.expr(a).kind {
            let (scale, matrix) = (self.eval(*scale), self.eval(b));
            return linear::scale_rows(&scale, &matrix);
        }
        if let ExprKind::Diag(scale) = &variant.expr(b).kind {
            let (matrix, scale) = (self.eval(a), self.eval(*scale));
            return linear::scale_columns(&matrix, &scale);
        }
        let right_is_row = matches!(variant.expr(b).ty, Ty::Row(_));
        let left = match &variant.expr(a).kind {
            ExprKind::Transpose(inner) if is_matrix(*inner) => linear::Factor::transposed(self.eval(*inner)),
            _ => linear::Factor::left(self.eval(a), right_is_row),
        };
        linear::product(&left, &self.eval(b), dims)
    }

    /// A let's whole array: its index axes first.
    pub(super) fn whole(&mut self, id: LetId) -> Value<N> {
        let variant = self.world.variant;
        let facts = &self.world.facts.lets[id.index()];
        let key = if self.is_given(id) { Some(Key { step: 0, at: [0; 4] }) } else { self.key(&facts.needs) };
        if let (Some(key), Some((kept, value))) = (key, &self.lets[id.index()].whole)
            && key == *kept
        {
            return value.clone();
        }
        let value = match (self.rebound(id), &variant.lets[id.index()].value) {
            (Some(value), _) => self.eval(value).filling(facts.whole()),
            (None, LetValue::Iterate { from, to, init, step }) => self.iterate(id, (*from, *to), *init, *step),
            (None, LetValue::Expr(value)) if facts.over.is_empty() => self.eval(*value).filling(facts.dims),
            _ => self.gather(id),
        };
        if let Some(key) = key {
            self.lets[id.index()].whole = Some((key, value.clone()));
        }
        value
    }

    /// Every entry in turn.
    fn gather(&mut self, id: LetId) -> Value<N> {
        let facts = &self.world.facts.lets[id.index()];
        let mut data = Vec::with_capacity(facts.whole().size());
        for_each_place(&facts.over, &mut |places| {
            data.extend_from_slice(self.entry(id, places).data());
        });
        Value::new(data, facts.whole())
    }

    fn iterate(&mut self, id: LetId, (from, to): (i64, i64), init: ExprId, step: ExprId) -> Value<N> {
        let facts = &self.world.facts.lets[id.index()];
        let size = facts.dims.size();
        let mut data = vec![N::from(0.0); facts.whole().size()];
        let mut write = |at: i64, value: &Value<N>| {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| data.get_mut(at * size..(at + 1) * size)) {
                slot.copy_from_slice(value.data());
            }
        };
        let mut entry = self.eval(init).filling(facts.dims);
        write(from - 1, &entry);
        let index = self.world.variant.lets[id.index()].indices.first().copied();
        let saved = index.map(|index| self.env[index.index()]);
        for at in from..=to {
            if let Some(index) = index {
                self.env[index.index()] = at;
            }
            let before = std::mem::replace(&mut self.iterates[id.index()], entry);
            entry = self.eval(step).filling(facts.dims);
            self.iterates[id.index()] = before;
            write(at, &entry);
        }
        if let (Some(index), Some(saved)) = (index, saved) {
            self.env[index.index()] = saved;
        }
        Value::new(data, facts.whole())
    }

    /// A let subscripted: an entry or a part of one, or several entries where subscripts are missing.
    pub(super) fn named_at(&mut self, id: LetId, places: &[i64]) -> Value<N> {
        let count = self.world.facts.lets[id.index()].over.len();
        let by_entry = !self.is_given(id)
            && self.rebound(id).is_none()
            && count > 0
            && places.len() >= count
            && !matches!(self.world.variant.lets[id.index()].value, LetValue::Iterate { .. });
        if by_entry { self.entry(id, &places[..count]).at(&places[count..]) } else { self.whole(id).at(places) }
    }

    fn entry(&mut self, id: LetId, places: &[i64]) -> Value<N> {
        let facts = &self.world.facts.lets[id.index()];
        let mut flat = 0usize;
        for (place, n) in places.iter().zip(&facts.over) {
            match usize::try_from(*place) {
                Ok(at) if at < *n => flat = flat * n + at,
                _ => return Value::full(N::from(0.0), facts.dims),
            }
        }
        let count: usize = facts.over.iter().product();
        let scalars = facts.dims.len() == 0;
        let fits = if scalars { count <= MOST_ENTRIES } else { count <= MOST_ARRAYS };
        if !facts.needs.is_closed() || !fits {
            return self.last_entry(id, places);
        }
        let store = &mut self.lets[id.index()];
        if scalars {
            if store.filled.is_empty() {
                store.scalars = vec![N::from(0.0); count];
                store.filled = vec![false; count];
            }
            if store.filled[flat] {
                return Value::Scalar(store.scalars[flat]);
            }
        } else {
            if store.arrays.is_empty() {
                store.arrays = vec![None; count];
            }
            if let Some(value) = &store.arrays[flat] {
                return value.clone();
            }
        }
        let value = self.compute_entry(id, places);
        let store = &mut self.lets[id.index()];
        if scalars {
            store.scalars[flat] = value.scalar();
            store.filled[flat] = true;
        } else {
            store.arrays[flat] = Some(value.clone());
        }
        value
    }

    /// An entry of a let of the scan, or of one too large to keep: only the last is kept.
    fn last_entry(&mut self, id: LetId, places: &[i64]) -> Value<N> {
        let key = self.key(&self.world.facts.lets[id.index()].needs);
        if let (Some(key), Some((kept, at, value))) = (key, &self.lets[id.index()].last)
            && key == *kept
            && at == places
        {
            return value.clone();
        }
        let value = self.compute_entry(id, places);
        if let Some(key) = key {
            self.lets[id.index()].last = Some((key, places.to_vec(), value.clone()));
        }
        value
    }

    fn compute_entry(&mut self, id: LetId, places: &[i64]) -> Value<N> {
        let variant = self.world.variant;
        let named = &variant.lets[id.index()];
        let dims = self.world.facts.lets[id.index()].dims;
        match &named.value {
            LetValue::Norm { of, norm, .. } => reduce::normalise_axis(*norm, &self.named_at(*of, places)),
            LetValue::Iterate { .. } => self.whole(id).at(places),
            LetValue::Expr(value) => {
                let mut saved = [0i64; 8];
                for ((slot, index), place) in saved.iter_mut().zip(&named.indices).zip(places) {
                    *slot = std::mem::replace(&mut self.env[index.index()], *place);
                }
                let value = self.eval(*value).filling(dims);
                for (slot, index) in saved.iter().zip(&named.indices) {
                    self.env[index.index()] = *slot;
                }
                value
            }
        }
    }

    /// What the order at hand binds a name to.
    fn rebound(&self, id: LetId) -> Option<ExprId> {
        let bindings = &self.order?.bindings;
        bindings.iter().find(|(name, _)| *name == id).map(|(_, value)| *value)
    }
}

/// A state's value; outside the scan there is none, and it reads 0.
fn held<N: Number>(states: &[Value<N>], state: StateId, dims: Dims) -> Value<N> {
    states.get(state.index()).cloned().unwrap_or_else(|| Value::full(N::from(0.0), dims))
}

/// Calls with every place of a shape, the last axis fastest.
pub(super) fn for_each_place(shape: &[usize], visit: &mut dyn FnMut(&[i64])) {
    if shape.contains(&0) {
        return;
    }
    let mut places = vec![0i64; shape.len()];
    loop {
        visit(&places);
        let Some(axis) = (0..shape.len()).rev().find(|axis| places[*axis] + 1 < shape[*axis] as i64) else { return };
        places[axis] += 1;
        places[axis + 1..].fill(0);
    }
}

/// The part of a tensor at fixed places of some axes.
fn part_of<N: Number>(tensor: &Array<N>, fixed: &[Option<usize>]) -> Value<N> {
    let own: Vec<usize> =
        tensor.shape.iter().zip(fixed).filter(|(_, at)| at.is_none()).map(|(size, _)| *size).collect();
    let mut data = Vec::with_capacity(own.iter().product());
    for_each_place(&own, &mut |places| {
        let mut free = places.iter();
        let mut flat = 0;
        for (size, at) in tensor.shape.iter().zip(fixed) {
            let place = match at {
                Some(at) => *at,
                None => free.next().map_or(0, |place| *place as usize),
            };
            flat = flat * size + place;
        }
        data.push(tensor.data[flat]);
    });
    Value::new(data, Dims::new(&own))
}

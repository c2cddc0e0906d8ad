//! A run: one evaluator a batch element and an order, spread over threads; orders merged, norms across heads taken, and
//! every element's values put at their places.

use chunkwise_dsl::typed::{ExprKind, LetId, LetValue, Merge, Norm, Order, Output, OutputDim, Stmt, Variant};

use super::eval::{Evaluator, World, for_each_place};
use super::number::Number;
use super::scan::{Pass, Wanted};
use super::value::{Array, Dims, Value};
use super::{EvalError, Results, failed, reduce};
use crate::bind::{batch_axes, carries_state, output_dims, output_own_shape, output_shape, state_shape};

/// Deep programs recurse deeply; only what is touched costs memory.
const STACK: usize = 64 << 20;

/// The lets that are complete, merged over orders, before outputs are evaluated: the reads, or what a norm across heads is
/// of where there is none.
fn staged(variant: &Variant) -> Vec<LetId> {
    let reads: Vec<LetId> = variant.reads().collect();
    if reads.is_empty() { head_norms(variant).next().map(|(_, of, _)| of).into_iter().collect() } else { reads }
}

/// Whether a let is one of others or made of one.
fn reaches(variant: &Variant, id: LetId, others: &[LetId]) -> bool {
    let (mut lets, mut below) = (vec![id], Vec::new());
    let (mut seen_lets, mut seen) = (vec![false; variant.lets.len()], vec![false; variant.exprs.len()]);
    loop {
        while let Some(id) = lets.pop() {
            if others.contains(&id) {
                return true;
            }
            if !std::mem::replace(&mut seen_lets[id.index()], true) {
                match &variant.lets[id.index()].value {
                    LetValue::Expr(value) => below.push(*value),
                    LetValue::Iterate { init, step, .. } => below.extend([*init, *step]),
                    LetValue::Norm { of, .. } => lets.push(*of),
                }
            }
        }
        // What a state is made of is read with it.
        let Some(at) = below.pop() else { return false };
        if std::mem::replace(&mut seen[at.index()], true) {
            continue;
        }
        match variant.expr(at).kind {
            ExprKind::Let(of) | ExprKind::IterateOld(of) => lets.push(of),
            ExprKind::StateOld(state) | ExprKind::StateNew(state) => {
                below.extend(variant.body.iter().filter_map(|stmt| match stmt {
                    Stmt::Update(update) if update.state == state => Some(update.value),
                    _ => None,
                }));
            }
            _ => below.extend(variant.children(at)),
        }
    }
}

/// The norms across heads in file order: the let, what it is of, the norm.
fn head_norms(variant: &Variant) -> impl Iterator<Item = (LetId, LetId, Norm)> {
    variant.lets.iter().enumerate().filter_map(|(at, named)| match &named.value {
        LetValue::Norm { of, norm, heads: true } => Some((LetId(at as u32), *of, *norm)),
        _ => None,
    })
}

/// Own-ordered data: by output (or state), by batch element.
type ByElement<N> = Vec<Vec<Vec<N>>>;

pub(super) struct Job<'a, N> {
    pub(super) world: World<'a>,
    pub(super) inputs: Vec<&'a Array<N>>,
    pub(super) initial: Vec<Option<&'a Array<N>>>,
    pub(super) orders: Vec<Option<&'a Order>>,
    /// The sizes of the batch axes, and how many elements that makes.
    pub(super) batch: Vec<usize>,
    pub(super) elements: usize,
}

/// Lets whose whole arrays are known, for every batch element.
type Given<N> = Vec<(LetId, Vec<Vec<N>>)>;

impl<'a, N: Number> Job<'a, N> {
    /// Outputs and final states.
    pub(super) fn run(&self) -> Result<(ByElement<N>, ByElement<N>), EvalError> {
        match staged(self.world.variant) {
            reads if reads.is_empty() => self.run_whole(),
            reads => self.run_staged(&reads),
        }
    }

    /// Everything in one pass for each order; what depends on the order is merged.
    fn run_whole(&self) -> Result<(ByElement<N>, ByElement<N>), EvalError> {
        let outputs: Vec<&Output> = self.world.variant.outputs().collect();
        let wanted = Wanted { lets: Vec::new(), outputs: outputs.clone() };
        let passes = self.for_each_element(&|element| {
            let mut merged = self.pass((element, self.orders[0]), &wanted, &Vec::new());
            for order in &self.orders[1..] {
                let pass = self.pass((element, *order), &wanted, &Vec::new());
                for ((output, sum), more) in outputs.iter().zip(&mut merged.outputs).zip(&pass.outputs) {
                    if self.world.facts.exprs[output.value.index()].needs.order {
                        sum.iter_mut().zip(more).for_each(|(sum, x)| *sum += *x);
                    }
                }
            }
            for (output, sum) in outputs.iter().zip(&mut merged.outputs) {
                if self.world.facts.exprs[output.value.index()].needs.order {
                    self.finish_merge(sum);
                }
            }
            merged
        })?;
        Ok(self.transposed(passes))
    }

    /// The reads, merged, those first that others are made of; norms across heads as soon as what they are of is known; then
    /// the outputs.
    fn run_staged(&self, reads: &[LetId]) -> Result<(ByElement<N>, ByElement<N>), EvalError> {
        let variant = self.world.variant;
        let mut given = Vec::new();
        let mut states = Vec::new();
        let mut pending = reads.to_vec();
        let mut norms: Vec<(LetId, LetId, Norm)> = head_norms(variant).collect();
        while !pending.is_empty() {
            let waits = |read: &LetId| {
                let others: Vec<LetId> = pending.iter().copied().filter(|other| other != read).collect();
                reaches(variant, *read, &others)
            };
            let (mut later, ready): (Vec<LetId>, Vec<LetId>) = pending.iter().partition(|read| waits(read));
            // Reads of each other cannot be; if they were, all would be taken as they stand.
            let ready = if ready.is_empty() { std::mem::take(&mut later) } else { ready };
            states = self.read(ready, &mut given)?;
            pending = later;
            let (known, rest) = norms.into_iter().partition(|(_, of, _)| !reaches(variant, *of, &pending));
            norms = rest;
            for (id, of, norm) in known {
                let mut values =
                    self.for_each_element(&|element| self.evaluator_with(element, &given).whole(of).data().to_vec())?;
                self.normalise_heads(norm, self.world.facts.lets[of.index()].dims.last(), &mut values);
                given.push((id, values));
            }
        }
        let mut passes = self.for_each_element(&|element| {
            let mut evaluator = self.evaluator_with(element, &given);
            let outputs = variant.outputs().map(|output| {
                let size = output_own_shape(variant, output, self.world.sizes).iter().product();
                let mut data = vec![N::from(0.0); size];
                evaluator.write_output(output, None, &mut data);
                data
            });
            Pass { lets: Vec::new(), outputs: outputs.collect(), states: Vec::new() }
        })?;
        for (pass, states) in passes.iter_mut().zip(states) {
            pass.states = states;
        }
        Ok(self.transposed(passes))
    }

    /// Scans for reads, which are merged and given to what follows. The states as they are at the end.
    fn read(&self, lets: Vec<LetId>, given: &mut Given<N>) -> Result<Vec<Vec<Vec<N>>>, EvalError> {
        let wanted = Wanted { lets, outputs: Vec::new() };
        let passes = self.for_each_element(&|element| {
            let mut merged = self.pass((element, self.orders[0]), &wanted, given);
            for order in &self.orders[1..] {
                let pass = self.pass((element, *order), &wanted, given);
                for (sum, more) in merged.lets.iter_mut().zip(&pass.lets) {
                    sum.iter_mut().zip(more).for_each(|(sum, x)| *sum += *x);
                }
            }
            merged.lets.iter_mut().for_each(|sum| self.finish_merge(sum));
            merged
        })?;
        for (n, read) in wanted.lets.iter().enumerate() {
            given.push((*read, passes.iter().map(|pass| pass.lets[n].clone()).collect()));
        }
        Ok(passes.into_iter().map(|pass| pass.states).collect())
    }

    /// `by` must name every token once, for every batch element.
    pub(super) fn check_permutations(&self) -> Result<(), EvalError> {
        for order in self.orders.iter().flatten().copied().filter(|order| order.by.is_some()) {
            for element in 0..self.elements {
                if let Some((place, token)) = self.evaluator(element, Some(order)).misplaced() {
                    let count = self.world.variant.token.and_then(|axis| self.world.sizes.get(axis)).unwrap_or(0);
                    return Err(failed(format!(
                        "what `by` gives is no permutation of the {count} tokens: place {place} holds {token}, which \
                         stands before or is no token (batch element {element})"
                    )));
                }
            }
        }
        Ok(())
    }

    fn evaluator(&self, element: usize, order: Option<&'a Order>) -> Evaluator<'a, N> {
        Evaluator::new(self.world, &self.places(element), &self.inputs, order)
    }

    /// An evaluator under the first order, with lets that are known already.
    fn evaluator_with(&self, element: usize, given: &Given<N>) -> Evaluator<'a, N> {
        let mut evaluator = self.evaluator(element, self.orders[0]);
        self.give(&mut evaluator, element, given);
        evaluator
    }

    fn give(&self, evaluator: &mut Evaluator<'a, N>, element: usize, given: &Given<N>) {
        for (id, values) in given {
            let dims = self.world.facts.lets[id.index()].whole();
            evaluator.give(*id, Value::new(values[element].clone(), dims));
        }
    }

    fn pass(&self, (element, order): (usize, Option<&'a Order>), wanted: &Wanted<'a>, given: &Given<N>) -> Pass<N> {
        let mut evaluator = self.evaluator(element, order);
        self.give(&mut evaluator, element, given);
        let states = self.world.variant.states.iter().zip(&self.initial);
        let initial: Vec<Option<Value<N>>> = states
            .map(|(state, array)| {
                let dims = Dims::new(&self.world.sizes.shape(&state.dims));
                let from = element * dims.size();
                array.map(|array| Value::new(array.data[from..from + dims.size()].to_vec(), dims))
            })
            .collect();
        evaluator.pass(&initial, wanted)
    }

    fn finish_merge(&self, sum: &mut [N]) {
        if self.world.variant.merge == Merge::Mean {
            sum.iter_mut().for_each(|x| *x /= N::from(self.orders.len() as f64));
        }
    }

    /// The place of a batch element on each batch axis.
    fn places(&self, element: usize) -> Vec<usize> {
        let mut rest = element;
        let mut places = vec![0; self.batch.len()];
        for (place, size) in places.iter_mut().zip(&self.batch).rev() {
            *place = rest % size;
            rest /= size;
        }
        places
    }

    /// Normalises each line of `width`, joined over all heads, in place.
    fn normalise_heads(&self, norm: Norm, width: usize, values: &mut [Vec<N>]) {
        let axis = self
            .world
            .variant
            .head
            .and_then(|head| batch_axes(self.world.variant).iter().position(|axis| *axis == head));
        let (heads, stride) = match axis {
            Some(axis) => (self.batch[axis], self.batch[axis + 1..].iter().product()),
            None => (1, 1),
        };
        for first in (0..values.len()).filter(|element| (element / stride) % heads == 0) {
            let group: Vec<usize> = (0..heads).map(|head| first + head * stride).collect();
            for from in (0..values[first].len()).step_by(width.max(1)) {
                let mut line: Vec<N> =
                    group.iter().flat_map(|element| values[*element][from..from + width].to_vec()).collect();
                reduce::normalise(norm, &mut line);
                for (element, part) in group.iter().zip(line.chunks(width)) {
                    values[*element][from..from + width].copy_from_slice(part);
                }
            }
        }
    }

    /// Runs a job for every batch element, spread over the machine's threads.
    fn for_each_element<R: Send>(&self, job: &(dyn Fn(usize) -> R + Sync)) -> Result<Vec<R>, EvalError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.elements.max(1));
        let share = |thread: usize| (thread..self.elements).step_by(threads).map(job).collect::<Vec<R>>();
        let shares: Result<Vec<Vec<R>>, EvalError> = std::thread::scope(|scope| {
            let spawn = |thread| {
                let share = &share;
                std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || share(thread))
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let join = |handle: std::io::Result<std::thread::ScopedJoinHandle<'_, Vec<R>>>| {
                let handle = handle.map_err(|error| failed(format!("no thread to evaluate in: {error}")))?;
                handle.join().map_err(|_| failed(format!("the evaluation of `{}` broke off", self.world.variant.name)))
            };
            handles.into_iter().map(join).collect()
        });
        let mut shares: Vec<_> = shares?.into_iter().map(Vec::into_iter).collect();
        Ok((0..self.elements).filter_map(|element| shares[element % threads].next()).collect())
    }

    fn transposed(&self, passes: Vec<Pass<N>>) -> (ByElement<N>, ByElement<N>) {
        let mut outputs = vec![Vec::with_capacity(self.elements); self.world.variant.outputs().count()];
        let mut states = vec![Vec::with_capacity(self.elements); self.world.variant.states.len()];
        for pass in passes {
            outputs.iter_mut().zip(pass.outputs).for_each(|(all, one)| all.push(one));
            states.iter_mut().zip(pass.states).for_each(|(all, one)| all.push(one));
        }
        (outputs, states)
    }

    /// Puts every batch element's values at their places in the whole tensors.
    pub(super) fn assemble(&self, outputs: &ByElement<N>, states: &ByElement<N>) -> Results<N> {
        let World { variant, sizes, .. } = self.world;
        let outputs = variant
            .outputs()
            .zip(outputs)
            .map(|(output, data)| (output.name.clone(), self.assemble_output(output, data)));
        let states = variant.states.iter().zip(states).filter(|_| carries_state(variant)).map(|(state, data)| {
            let array = Array { shape: state_shape(variant, state, sizes), data: data.concat() };
            (state.name.clone(), array)
        });
        Results { outputs: outputs.collect(), states: states.collect() }
    }

    fn assemble_output(&self, output: &Output, data: &[Vec<N>]) -> Array<N> {
        let World { variant, sizes, .. } = self.world;
        let own = output_own_shape(variant, output, sizes);
        let dims = output_dims(variant, output);
        let axes = batch_axes(variant);
        let mut array = Array::zeros(output_shape(variant, output, sizes));
        for (element, data) in data.iter().enumerate() {
            let at = self.places(element);
            let mut values = data.iter();
            for_each_place(&own, &mut |places| {
                let flat = dims.iter().zip(&array.shape).fold(0, |flat, (dim, size)| {
                    let place = match dim {
                        OutputDim::Own(axis) => places[*axis] as usize,
                        OutputDim::Batch(axis) => axes.iter().position(|other| other == axis).map_or(0, |n| at[n]),
                    };
                    flat * size + place
                });
                if let Some(value) = values.next() {
                    array.data[flat] = *value;
                }
            });
        }
        array
    }
}

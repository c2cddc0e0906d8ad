//! The scan: states run through the tokens in the order's sequence, and what reads them is collected at each token.

use std::collections::{BTreeMap, VecDeque};

use chunkwise_dsl::typed::{LetId, Output, Stmt};

use super::eval::{Evaluator, for_each_place};
use super::value::Value;
use crate::bind::output_own_shape;

/// What a pass is to bring back.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted<'a> {
    /// Per-token lets, whole.
    pub(super) lets: Vec<LetId>,
    pub(super) outputs: Vec<&'a Output>,
}

/// What one batch element gives under one order, each in the order of what was wanted; states as they are at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Pass {
    pub(super) lets: Vec<Vec<f64>>,
    pub(super) outputs: Vec<Vec<f64>>,
    pub(super) states: Vec<Vec<f64>>,
}

/// The states of one part of the sequence.
struct Part {
    states: Vec<Value>,
    /// The tokens whose writes the states hold.
    tokens: VecDeque<usize>,
    /// Some token's writes have left the window.
    dropped: bool,
}

impl<'a> Evaluator<'a> {
    /// One pass through the tokens. `initial` holds a value for each state that is given one.
    pub(super) fn pass(&mut self, initial: &[Option<Value>], wanted: &Wanted<'a>) -> Pass {
        let variant = self.world.variant;
        let first: Vec<Value> = variant
            .states
            .iter()
            .zip(initial)
            .map(|(state, given)| {
                let dims = super::value::Dims::new(&self.world.sizes.shape(&state.dims));
                given.clone().unwrap_or_else(|| self.eval(state.init)).filling(dims)
            })
            .collect();
        let mut pass = self.empty_pass(wanted);
        let states = if variant.states.is_empty() { first } else { self.scan(&first, wanted, &mut pass) };
        for (output, data) in wanted.outputs.iter().zip(&mut pass.outputs) {
            if !self.is_scanned(output) {
                self.write_output(output, None, data);
            }
        }
        for (id, data) in wanted.lets.iter().zip(&mut pass.lets) {
            if variant.states.is_empty() || !self.world.facts.lets[id.index()].needs.state {
                *data = self.whole(*id).data().to_vec();
            }
        }
        pass.states = states.iter().map(|state| state.data().to_vec()).collect();
        pass
    }

    fn empty_pass(&self, wanted: &Wanted) -> Pass {
        let lets = wanted.lets.iter().map(|id| vec![0.0; self.world.facts.lets[id.index()].whole().size()]).collect();
        let size = |output: &&Output| output_own_shape(self.world.variant, output, self.world.sizes).iter().product();
        let outputs = wanted.outputs.iter().map(|output| vec![0.0; size(output)]).collect();
        Pass { lets, outputs, states: Vec::new() }
    }

    fn is_scanned(&self, output: &Output) -> bool {
        !self.world.variant.states.is_empty() && self.world.facts.exprs[output.value.index()].needs.state
    }

    fn scan(&mut self, first: &[Value], wanted: &Wanted<'a>, pass: &mut Pass) -> Vec<Value> {
        let mut parts: BTreeMap<Vec<[i64; 4]>, Part> = BTreeMap::new();
        let window = self.window();
        let mut end = first.to_vec();
        for token in self.visibility.sequence.clone() {
            let part = parts.entry(self.parts(token)).or_insert_with(|| Part {
                states: first.to_vec(),
                tokens: VecDeque::new(),
                dropped: false,
            });
            self.old = part.states.clone();
            self.new = part.states.clone();
            self.update(token);
            if let Some(window) = window {
                self.keep_window(part, token, window, first);
            }
            self.collect(token, wanted, pass);
            part.states = std::mem::take(&mut self.new);
            end.clone_from(&part.states);
        }
        end
    }

    /// S[t] from S[t-1], every state's equation in turn.
    fn update(&mut self, token: usize) {
        self.step += 1;
        for stmt in &self.world.variant.body {
            if let Stmt::Update(update) = stmt {
                self.set(update.index, token);
                let state = update.state.index();
                let dims = self.new[state].dims();
                self.new[state] = self.eval(update.value).filling(dims);
            }
        }
    }

    /// Leaves in `new` only what the last `window` tokens wrote: once a token has left, by writing theirs anew.
    fn keep_window(&mut self, part: &mut Part, token: usize, window: i64, first: &[Value]) {
        part.tokens.push_back(token);
        let oldest = self.visibility.rank[token] as i64 - window;
        while part.tokens.front().is_some_and(|token| self.visibility.rank[*token] as i64 <= oldest) {
            part.tokens.pop_front();
            part.dropped = true;
        }
        if !part.dropped {
            return;
        }
        self.new = first.to_vec();
        for token in &part.tokens {
            self.old = self.new.clone();
            self.update(*token);
        }
        self.old = part.states.clone();
        self.step += 1;
    }

    fn collect(&mut self, token: usize, wanted: &Wanted<'a>, pass: &mut Pass) {
        for (id, data) in wanted.lets.iter().zip(&mut pass.lets) {
            if self.world.facts.lets[id.index()].needs.state {
                let value = self.named_at(*id, &[token as i64]);
                let size = value.data().len();
                data[token * size..(token + 1) * size].copy_from_slice(value.data());
            }
        }
        for (output, data) in wanted.outputs.iter().zip(&mut pass.outputs) {
            if self.is_scanned(output) {
                self.write_output(output, Some(token), data);
            }
        }
    }

    /// Evaluates an output at every setting of its subscripts, or at those of one token.
    pub(super) fn write_output(&mut self, output: &Output, token: Option<usize>, data: &mut [f64]) {
        let variant = self.world.variant;
        let dims = super::value::Dims::new(&self.world.sizes.shape(&output.ty.dims()));
        let size = dims.size();
        let shape = &output_own_shape(variant, output, self.world.sizes)[..output.indices.len()];
        let along = output.indices.iter().position(|index| variant.indices[index.index()].token);
        let mut asked = shape.to_vec();
        if let (Some(_), Some(along)) = (token, along) {
            asked[along] = asked[along].min(1);
        }
        for_each_place(&asked, &mut |places| {
            let mut flat = 0;
            for (axis, index) in output.indices.iter().enumerate() {
                let at = token.filter(|_| along == Some(axis)).unwrap_or(places[axis] as usize);
                self.set(*index, at);
                flat = flat * shape[axis] + at;
            }
            let value = self.eval(output.value).filling(dims);
            data[flat * size..(flat + 1) * size].copy_from_slice(value.data());
        });
    }
}

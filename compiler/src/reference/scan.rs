//! The scan: states run through the tokens in the order's sequence, and what reads them is collected at each token.

use std::collections::{BTreeMap, VecDeque};

use chunkwise_dsl::typed::{LetId, Output, State, Stmt};

use super::eval::{Evaluator, for_each_place};
use super::number::Number;
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
#[derive(Debug, Clone)]
pub(super) struct Pass<N> {
    pub(super) lets: Vec<Vec<N>>,
    pub(super) outputs: Vec<Vec<N>>,
    pub(super) states: Vec<Vec<N>>,
}

/// The states of one part of the sequence.
struct Part<N> {
    states: Vec<Value<N>>,
    /// The tokens whose writes the states hold.
    tokens: VecDeque<usize>,
    /// Some token's writes have left the window.
    dropped: bool,
}

/// The way a state scans, seen from the order's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    fn is_of(self, state: &State) -> bool {
        state.reverse == (self == Direction::Backward)
    }
}

impl<'a, N: Number> Evaluator<'a, N> {
    /// One pass through the tokens. `initial` holds a value for each state that is given one.
    pub(super) fn pass(&mut self, initial: &[Option<Value<N>>], wanted: &Wanted<'a>) -> Pass<N> {
        let variant = self.world.variant;
        let first: Vec<Value<N>> = variant
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

    fn empty_pass(&self, wanted: &Wanted) -> Pass<N> {
        let lets =
            wanted.lets.iter().map(|id| vec![N::from(0.0); self.world.facts.lets[id.index()].whole().size()]).collect();
        let size = |output: &&Output| output_own_shape(self.world.variant, output, self.world.sizes).iter().product();
        let outputs = wanted.outputs.iter().map(|output| vec![N::from(0.0); size(output)]).collect();
        Pass { lets, outputs, states: Vec::new() }
    }

    fn is_scanned(&self, output: &Output) -> bool {
        !self.world.variant.states.is_empty() && self.world.facts.exprs[output.value.index()].needs.state
    }

    fn scan(&mut self, first: &[Value<N>], wanted: &Wanted<'a>, pass: &mut Pass<N>) -> Vec<Value<N>> {
        if !self.world.variant.states.iter().any(|state| state.reverse) {
            return self.sweep(Direction::Forward, first, &mut |this, token| this.collect(token, wanted, pass));
        }
        // Those that scan later read at every token what the others are there.
        let [earlier, later] = self.directions();
        let mut seen = vec![(Vec::new(), Vec::new()); self.visibility.tokens];
        let ends = self.sweep(earlier, first, &mut |this, token| {
            seen[token] = (this.old.clone(), this.new.clone());
        });
        self.seen = seen;
        let later_ends = self.sweep(later, first, &mut |this, token| this.collect(token, wanted, pass));
        let states = self.world.variant.states.iter().zip(ends.into_iter().zip(later_ends));
        states.map(|(state, (end, later_end))| if later.is_of(state) { later_end } else { end }).collect()
    }

    /// The tokens one way, with the states that scan so. `visit` is called at each with what it has become.
    fn sweep(
        &mut self,
        direction: Direction,
        first: &[Value<N>],
        visit: &mut dyn FnMut(&mut Self, usize),
    ) -> Vec<Value<N>> {
        let mut parts: BTreeMap<Vec<[i64; 4]>, Part<N>> = BTreeMap::new();
        let window = self.window();
        let mut end = first.to_vec();
        let mut sequence = self.visibility.sequence.clone();
        if direction == Direction::Backward {
            sequence.reverse();
        }
        for token in sequence {
            let part = parts.entry(self.parts(token)).or_insert_with(|| Part {
                states: first.to_vec(),
                tokens: VecDeque::new(),
                dropped: false,
            });
            self.old = part.states.clone();
            self.new = part.states.clone();
            self.see(direction, token);
            self.update(direction, token);
            if let Some(window) = window {
                self.keep_window(part, token, window, first);
            }
            visit(self, token);
            part.states = std::mem::take(&mut self.new);
            end.clone_from(&part.states);
        }
        end
    }

    /// The directions in which states scan; the updates of the first use no state of the second.
    fn directions(&self) -> [Direction; 2] {
        let waits = |stmt: &Stmt| match stmt {
            Stmt::Update(update) => {
                let reverse = self.world.variant.states[update.state.index()].reverse;
                !reverse && self.world.facts.exprs[update.value.index()].needs.reverse
            }
            _ => false,
        };
        match self.world.variant.body.iter().any(waits) {
            true => [Direction::Backward, Direction::Forward],
            false => [Direction::Forward, Direction::Backward],
        }
    }

    /// The states of the other direction are at the token what they were there.
    fn see(&mut self, direction: Direction, token: usize) {
        let Some((old, new)) = self.seen.get(token) else { return };
        for (at, _) in self.world.variant.states.iter().enumerate().filter(|(_, state)| !direction.is_of(state)) {
            (self.old[at], self.new[at]) = (old[at].clone(), new[at].clone());
        }
    }

    /// S[t] from S[t-1], every state's equation in turn.
    fn update(&mut self, direction: Direction, token: usize) {
        self.step += 1;
        for stmt in &self.world.variant.body {
            if let Stmt::Update(update) = stmt {
                let state = update.state.index();
                if !direction.is_of(&self.world.variant.states[state]) {
                    continue;
                }
                self.set(update.index, token);
                let dims = self.new[state].dims();
                self.new[state] = self.eval(update.value).filling(dims);
            }
        }
    }

    /// Leaves in `new` only what the last `window` tokens wrote: once a token has left, by writing theirs anew.
    fn keep_window(&mut self, part: &mut Part<N>, token: usize, window: i64, first: &[Value<N>]) {
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
            self.update(Direction::Forward, *token);
        }
        self.old = part.states.clone();
        self.step += 1;
    }

    fn collect(&mut self, token: usize, wanted: &Wanted<'a>, pass: &mut Pass<N>) {
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
    pub(super) fn write_output(&mut self, output: &Output, token: Option<usize>, data: &mut [N]) {
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

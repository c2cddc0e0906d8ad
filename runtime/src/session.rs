//! Calls of one plan and one set of sizes that come again and again, each from the states that the one before left:
//! decoding, a token or a few a call. All that a call needs is laid out beforehand; on the CPU back ends it allocates
//! nothing, and states stay where they lie. Not here: choosing the plan (`choose`), or compiling it (`execute`).

use chunkwise_compiler::bind::{Sizes, carries_state, output_shape, state_shape};
use chunkwise_dsl::typed::Variant;

use crate::{
    compiled::Compiled,
    initial::initial_states,
    launch::{Bound, RunError, Steps},
    named::Named,
    permutation, reference,
    request::{Failure, Outputs, Request},
    tensor::{Data, Tensor, Tensors},
};

/// A variant that goes on from call to call. Made by `Engine::session`.
pub struct Session {
    variant: Variant,
    sizes: Sizes,
    threads: usize,
    runner: Runner,
    outputs: Vec<Named>,
    /// The states that the next call starts from.
    states: Vec<Named>,
    /// Where it leaves them, if it cannot leave them where they were.
    next: Vec<Named>,
    /// States given before the first call; the others start at their declared value, which may be that of a tensor.
    given: Tensors,
    started: bool,
}

/// What makes a call.
pub(crate) enum Runner {
    Prepared {
        steps: Box<dyn Steps>,
        in_place: bool,
    },
    /// Every call is a run of its own, with so many tokens in a chunk.
    Compiled(Compiled, usize),
    Reference,
}

/// A tensor of a session, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View<'a> {
    pub shape: &'a [usize],
    /// Row-major.
    pub values: &'a [f32],
}

impl View<'_> {
    pub fn to_tensor(self) -> Tensor {
        Tensor::f32(self.shape.to_vec(), self.values.to_vec())
    }
}

/// The outputs and states of a variant at these sizes: names and shapes, in file order.
pub(crate) struct Results {
    pub(crate) outputs: Vec<Named>,
    pub(crate) states: Vec<Named>,
}

impl Results {
    pub(crate) fn of(variant: &Variant, sizes: &Sizes) -> Self {
        let outputs = variant.outputs().map(|of| Named::zeros(of.name.clone(), output_shape(variant, of, sizes)));
        let states = variant.states.iter();
        let states = states.map(|of| Named::zeros(of.name.clone(), state_shape(variant, of, sizes)));
        Self { outputs: outputs.collect(), states: states.collect() }
    }

    /// Names of the outputs and of the states.
    pub(crate) fn names(&self) -> (Vec<String>, Vec<String>) {
        let names = |all: &[Named]| all.iter().map(|tensor| tensor.name.clone()).collect();
        (names(&self.outputs), names(&self.states))
    }
}

impl Session {
    pub(crate) fn new((variant, sizes): (&Variant, &Sizes), threads: usize, runner: Runner, results: Results) -> Self {
        let Results { outputs, states } = results;
        let next = match runner {
            Runner::Prepared { in_place: false, .. } => Results::of(variant, sizes).states,
            _ => Vec::new(),
        };
        let (variant, sizes, given) = (variant.clone(), sizes.clone(), Tensors::new());
        Self { variant, sizes, threads, runner, outputs, states, next, given, started: false }
    }

    /// Runs once on these inputs: outputs and states are then those after it. Under an order that carries no state every
    /// call starts from the declared values.
    ///
    /// # Errors
    /// An input that is missing or of another shape than the session's sizes say, an initial value that only the
    /// reference evaluates, a failure of the device. Outputs and states are then what they were.
    pub fn step(&mut self, inputs: &Tensors) -> Result<(), Failure> {
        let tokens = self.variant.token.map_or(1, |axis| self.sizes.get(axis).unwrap_or(0));
        permutation::check(&self.variant, tokens, inputs).map_err(Failure::Failed)?;
        let Runner::Prepared { steps, in_place } = &mut self.runner else { return self.step_anew(inputs) };
        if !self.started {
            let start = initial_states(&self.variant, &self.sizes, inputs, &self.given);
            let start = start.map_err(|state| {
                Failure::Failed(format!("only the reference evaluates the initial value of `{state}`"))
            })?;
            start.iter().try_for_each(|(name, tensor)| write(&mut self.states, name, tensor))?;
            self.started = true;
        }
        let failed = |error: RunError| Failure::Failed(error.to_string());
        let (inputs, outputs) = (inputs, &mut self.outputs[..]);
        if *in_place {
            return steps.step(&mut Bound { inputs, outputs, start: &[], states: &mut self.states }).map_err(failed);
        }
        steps.step(&mut Bound { inputs, outputs, start: &self.states, states: &mut self.next }).map_err(failed)?;
        if carries_state(&self.variant) {
            std::mem::swap(&mut self.states, &mut self.next);
        }
        Ok(())
    }

    /// A call as a run of its own.
    fn step_anew(&mut self, inputs: &Tensors) -> Result<(), Failure> {
        let initial = match self.started {
            true => self.states.iter().map(|state| (state.name.clone(), state.to_tensor())).collect(),
            false => std::mem::take(&mut self.given),
        };
        let Self { variant, sizes, threads, .. } = self;
        let request = Request { variant, sizes, inputs, initial: &initial, threads: *threads };
        let Outputs { outputs, states, .. } = match &self.runner {
            Runner::Compiled(compiled, chunk) => compiled.run(request, *chunk)?,
            _ => reference::run(request)?,
        };
        outputs.iter().try_for_each(|(name, tensor)| write(&mut self.outputs, name, tensor))?;
        states.iter().try_for_each(|(name, tensor)| write(&mut self.states, name, tensor))?;
        self.started = !states.is_empty();
        Ok(())
    }

    /// What the last call put out, in file order; zeros before the first.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.outputs.iter().map(named)
    }

    /// The states after the last call, `[batch axes.., own dims..]`; none under an order that carries none. Before the
    /// first call they hold nothing yet.
    pub fn states(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        let carried = if carries_state(&self.variant) { &self.states[..] } else { &[] };
        carried.iter().map(named)
    }

    /// Goes on from these states; those that are not named stay as they are.
    ///
    /// # Errors
    /// A tensor that is no state of the variant or has another shape; nothing has changed then.
    pub fn set_states(&mut self, states: &Tensors) -> Result<(), Failure> {
        states.iter().try_for_each(|(name, tensor)| place(&self.states, name, tensor).map(|_| ()))?;
        if self.started {
            return states.iter().try_for_each(|(name, tensor)| write(&mut self.states, name, tensor));
        }
        self.given.extend(states.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        Ok(())
    }

    /// Starts anew: from the declared values, or what `set_states` gives next.
    pub fn reset(&mut self) {
        self.given.clear();
        self.started = false;
    }
}

fn named(tensor: &Named) -> (&str, View<'_>) {
    (&tensor.name, View { shape: &tensor.shape, values: tensor.values() })
}

/// The tensor of this name, if another's values fit into it.
fn place(tensors: &[Named], name: &str, from: &Tensor) -> Result<usize, Failure> {
    let wrong = |why: String| Failure::Failed(format!("`{name}` {why}"));
    let place = tensors.iter().position(|tensor| tensor.name == name);
    let place = place.ok_or_else(|| wrong("is nothing that a call gives".into()))?;
    if tensors[place].shape != from.shape {
        return Err(wrong(format!("has the shape {:?}, not {:?}", tensors[place].shape, from.shape)));
    }
    if from.len() != tensors[place].values().len() {
        return Err(wrong(format!("has {} elements, not {}", from.len(), tensors[place].values().len())));
    }
    if matches!(from.data, Data::I32(_)) {
        return Err(wrong("is f32, not i32".into()));
    }
    Ok(place)
}

fn write(tensors: &mut [Named], name: &str, from: &Tensor) -> Result<(), Failure> {
    let place = place(tensors, name, from)?;
    if let Data::F32(data) = &from.data {
        tensors[place].values_mut().copy_from_slice(data);
    }
    Ok(())
}

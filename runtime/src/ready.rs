//! Code for one variant at settled sizes, run on memory that others own: nothing is copied on the way in or out, and any
//! number of threads may run it at once. Made by `Engine::ready`. Not here: choosing the plan, or making such memory.

use chunkwise_compiler::bind::{Sizes, carries_state, state_shape, tensor_shape};
use chunkwise_dsl::typed::{ExprKind, TensorId, Variant};

use crate::{
    compiled::{Compiled, Layout},
    initial::initial_states,
    launch::{Input, Launch},
    permutation,
    request::Failure,
    tensor::{Tensor, Tensors},
};

/// A variant that is compiled and has its sizes.
#[derive(Clone)]
pub struct Ready {
    compiled: Compiled,
    variant: Variant,
    sizes: Sizes,
    layout: Layout,
    threads: usize,
    states: Place,
}

/// Where a call finds the states it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In `Lent::initial`, or at their declared value.
    Apart,
    /// Where it leaves the final ones.
    Same,
}

/// The tensors of a call, each whole and row-major, in the order in which the variant declares them.
#[derive(Debug)]
pub struct Lent<'a> {
    /// Inputs and params.
    pub inputs: Vec<Input<'a>>,
    /// A place a state; those not given start at their declared value.
    pub initial: Vec<Option<&'a [f32]>>,
    pub outputs: Vec<&'a mut [f32]>,
    /// Where final states go; empty if they are not wanted. Code that keeps states in place starts from what lies here.
    pub states: Vec<&'a mut [f32]>,
}

impl Ready {
    pub(crate) fn new(
        compiled: Compiled,
        (variant, sizes): (&Variant, &Sizes),
        (chunk, threads): (usize, usize),
    ) -> Self {
        let layout = compiled.layout((variant, sizes), (chunk, threads));
        let (variant, sizes) = (variant.clone(), sizes.clone());
        Self { compiled, variant, sizes, layout, threads, states: Place::Apart }
    }

    /// The same of code that finds states where it leaves them.
    pub(crate) fn in_place(self) -> Self {
        Self { states: Place::Same, ..self }
    }

    /// Runs once.
    ///
    /// # Errors
    /// Another number of tensors than declared, one of another length or type, an initial state or a final one under an
    /// order that carries none, an initial value that only the reference evaluates, a failure of the device; of code that
    /// keeps states in place, no place, or an initial state beside it. Nothing has run then.
    pub fn run(&self, lent: Lent<'_>) -> Result<(), Failure> {
        self.counted(&lent)?;
        let Lent { inputs, initial, outputs, states } = lent;
        let tokens = self.variant.token.map_or(1, |axis| self.sizes.get(axis).unwrap_or(0));
        permutation::check_lent(&self.variant, tokens, &|id| inputs.get(id.index()).copied())
            .map_err(Failure::Failed)?;
        let declared = match self.states {
            Place::Apart => self.declared(&inputs, &initial)?,
            Place::Same => Tensors::new(),
        };
        let mut unwanted = if states.is_empty() { self.unwanted() } else { Vec::new() };
        let names = self.variant.states.iter().map(|state| state.name.as_str());
        let start = names.clone().zip(&initial).filter_map(|(name, given)| {
            let given = given.or_else(|| declared.get(name).and_then(Tensor::floats));
            Some((name, given?))
        });
        let finals: Vec<&mut [f32]> = match states.is_empty() {
            true => unwanted.iter_mut().map(|memory| &mut memory[..]).collect(),
            false => states,
        };
        let mut launch = Launch {
            sizes: &self.layout.sizes,
            chunk: self.layout.chunk,
            tiles: self.layout.tiles,
            inputs: self.variant.tensors.iter().map(|tensor| tensor.name.as_str()).zip(inputs).collect(),
            states_in: start.collect(),
            outputs: self.variant.outputs().map(|output| output.name.as_str()).zip(outputs).collect(),
            states_out: names.zip(finals).collect(),
        };
        self.compiled.launch(&mut launch, self.threads).map(|_| ())
    }

    fn counted(&self, lent: &Lent<'_>) -> Result<(), Failure> {
        let variant = &self.variant;
        let carried = carries_state(variant);
        let (tensors, outputs, states) = (variant.tensors.len(), variant.outputs().count(), variant.states.len());
        let of = |what: &str, given, wanted| match given == wanted {
            true => Ok(()),
            false => Err(Failure::Failed(format!("`{}` has {wanted} {what}, and {given} are given", variant.name))),
        };
        of("inputs", lent.inputs.len(), tensors)?;
        of("outputs", lent.outputs.len(), outputs)?;
        of("states", lent.initial.len(), states)?;
        if !lent.states.is_empty() {
            of("states", lent.states.len(), states)?;
        }
        if self.states == Place::Same && (lent.states.is_empty() || lent.initial.iter().any(Option::is_some)) {
            return Err(Failure::Failed(format!(
                "the states of `{}` are kept in place: give them as such",
                variant.name
            )));
        }
        if !carried && (!lent.states.is_empty() || lent.initial.iter().any(Option::is_some)) {
            return Err(Failure::Failed(format!("the order of `{}` carries no state", variant.name)));
        }
        Ok(())
    }

    /// The declared values of the states that are not given.
    fn declared(&self, inputs: &[Input<'_>], initial: &[Option<&[f32]>]) -> Result<Tensors, Failure> {
        let states = self.variant.states.iter().zip(initial);
        let (given, missing): (Vec<_>, Vec<_>) = states.partition(|(_, given)| given.is_some());
        if missing.is_empty() {
            return Ok(Tensors::new());
        }
        let params = missing.iter().filter_map(|(state, _)| match self.variant.expr(state.init).kind {
            ExprKind::Tensor(param) => self.param(param, inputs),
            _ => None,
        });
        // What is given needs no value here: a tensor without elements stands for it.
        let stand_in = given.iter().map(|(state, _)| (state.name.clone(), Tensor::zeros(vec![0])));
        initial_states(&self.variant, &self.sizes, &params.collect(), &stand_in.collect()).map_err(|state| {
            let message = format!("only the reference evaluates the initial value of `{state}`; give it as a tensor");
            Failure::Failed(message)
        })
    }

    fn param(&self, param: TensorId, inputs: &[Input<'_>]) -> Option<(String, Tensor)> {
        let declared = &self.variant.tensors[param.index()];
        match inputs.get(param.index()) {
            Some(Input::F32(data)) => {
                let shape = tensor_shape(declared, &self.sizes);
                (shape.iter().product::<usize>() == data.len())
                    .then(|| (declared.name.clone(), Tensor::f32(shape, data.to_vec())))
            }
            _ => None,
        }
    }

    /// Memory for final states that nobody wants: kernels leave them somewhere.
    fn unwanted(&self) -> Vec<Vec<f32>> {
        self.variant
            .states
            .iter()
            .map(|state| vec![0.0; state_shape(&self.variant, state, &self.sizes).iter().product()])
            .collect()
    }
}

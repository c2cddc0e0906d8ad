//! Decoding from Python: calls that go on from the states that the one before left. Inputs are copied into memory that the
//! session holds, so a step allocates nothing but the tensors that it hands out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunkwise_compiler::bind::{Sizes, state_shape, tensor_shape};
use chunkwise_dsl::typed::{Dtype, Variant};
use chunkwise_runtime::{self as runtime, Data, Input, Precision, Tensor, Tensors};
use pyo3::{prelude::*, types::PyTuple};

use crate::{
    errors,
    operand::Operand,
    results::Results,
    view::{Elem, View},
};

/// A variant that goes on from call to call.
#[pyclass(frozen, module = "chunkwise._engine")]
pub struct Session {
    variant: Arc<Variant>,
    sizes: Sizes,
    precision: Precision,
    held: Mutex<Held>,
}

struct Held {
    session: runtime::Session,
    inputs: Tensors,
}

impl Session {
    pub(crate) fn new(
        variant: Arc<Variant>,
        (sizes, precision): (Sizes, Precision),
        session: runtime::Session,
    ) -> Self {
        let zeros = |tensor: &chunkwise_dsl::typed::Tensor| {
            let shape = tensor_shape(tensor, &sizes);
            let zeros = match tensor.dtype {
                Dtype::F32 => Tensor::zeros(shape),
                Dtype::I32 => {
                    let len = shape.iter().product();
                    Tensor::i32(shape, vec![0; len])
                }
            };
            (tensor.name.clone(), zeros)
        };
        let inputs = variant.tensors.iter().map(zeros).collect();
        Self { variant, sizes, precision, held: Mutex::new(Held { session, inputs }) }
    }

    /// Taken with the interpreter's lock released: another thread may hold it for a whole step.
    fn held(&self, py: Python<'_>) -> MutexGuard<'_, Held> {
        if let Ok(held) = self.held.try_lock() {
            return held;
        }
        // A guard does not go from thread to thread: the wait is one lock, the taking another.
        loop {
            py.detach(|| drop(self.held.lock().unwrap_or_else(PoisonError::into_inner)));
            if let Ok(held) = self.held.try_lock() {
                return held;
            }
        }
    }
}

#[pymethods]
impl Session {
    /// Runs once; `empty` makes a tensor of a shape.
    fn step<'py>(&self, inputs: &Bound<'py, PyTuple>, empty: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let py = inputs.py();
        let mut held = self.held(py);
        let Held { session, inputs: own } = &mut *held;
        let tensors = &self.variant.tensors;
        if inputs.len() != tensors.len() {
            let (wanted, given) = (tensors.len(), inputs.len());
            let message = format!("`{}` has {wanted} inputs, and {given} are given", self.variant.name);
            return Err(errors::shape(py, &message));
        }
        for (declared, object) in tensors.iter().zip(inputs.iter_borrowed()) {
            let name = &declared.name;
            let Some(to) = own.get_mut(name) else { continue };
            let view = View::of(name, &object)?;
            same_shape(py, (name, "the session's sizes"), &view, &to.shape)?;
            let operand = Operand::of(py, name, &view, (declared.dtype, self.precision))?;
            match (operand.input(), &mut to.data) {
                (Input::F32(from), Data::F32(to)) => to.copy_from_slice(from),
                (Input::I32(from), Data::I32(to)) => to.copy_from_slice(from),
                _ => return Err(errors::dtype(py, &format!("tensor `{name}` is of another type than declared"))),
            }
        }
        py.detach(|| session.step(own)).map_err(|failure| errors::failure(py, &failure))?;
        filled(&empty, session.outputs().map(|(_, view)| view).collect())
    }

    /// The states after the last step.
    fn states<'py>(&self, empty: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let held = self.held(empty.py());
        filled(&empty, held.session.states().map(|(_, view)| view).collect())
    }

    /// Goes on from these states, a place each; None leaves one as it is.
    fn set_states(&self, states: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = states.py();
        if states.len() != self.variant.states.len() {
            let (wanted, given) = (self.variant.states.len(), states.len());
            let message = format!("`{}` has {wanted} states, and {given} are given", self.variant.name);
            return Err(errors::shape(py, &message));
        }
        let mut given = Tensors::new();
        for (state, object) in self.variant.states.iter().zip(states.iter_borrowed()) {
            if object.is_none() {
                continue;
            }
            let view = View::of(&state.name, &object)?;
            let shape = state_shape(&self.variant, state, &self.sizes);
            same_shape(py, (&state.name, "the session's sizes"), &view, &shape)?;
            let operand = Operand::of(py, &state.name, &view, (Dtype::F32, self.precision))?;
            let floats = operand.floats().unwrap_or_default();
            given.insert(state.name.clone(), Tensor::f32(shape, floats.to_vec()));
        }
        self.held(py).session.set_states(&given).map_err(|failure| errors::failure(py, &failure))
    }

    /// Starts anew from the declared values.
    fn reset(&self, py: Python<'_>) {
        self.held(py).session.reset();
    }
}

fn same_shape(py: Python<'_>, (name, whose): (&str, &str), view: &View<'_>, wanted: &[usize]) -> PyResult<()> {
    if view.shape() == wanted {
        return Ok(());
    }
    let found = view.shape();
    Err(errors::shape(py, &format!("tensor `{name}` is {found:?}, expected {wanted:?} by {whose}")))
}

/// Fresh tensors with these values.
fn filled<'py>(empty: &Bound<'py, PyAny>, views: Vec<runtime::View<'_>>) -> PyResult<Bound<'py, PyTuple>> {
    let py = empty.py();
    let shapes: Vec<_> = views.iter().map(|view| view.shape.to_vec()).collect();
    let mut results = Results::made(empty, &shapes, Elem::F32)?;
    for (to, view) in results.floats(py, Vec::new())?.into_iter().zip(&views) {
        to.copy_from_slice(view.values);
    }
    Ok(results.into_tuples(py, views.len())?.0)
}

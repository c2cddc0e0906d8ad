//! A variant as Python calls it: checked when it is made, compiled for the sizes that a call's tensors have, and run on
//! those tensors with the interpreter's lock released.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chunkwise_compiler::{
    adjoint::adjoint,
    bind::{BindError, Sizes, bind, bind_dims, carries_state, output_shape, state_shape},
};
use chunkwise_dsl::{
    compile,
    source::Source,
    suggest::nearest,
    typed::{Dtype, Program, Variant},
};
use chunkwise_runtime::{Data, Lent, Ready};
use pyo3::{prelude::*, types::PyTuple};

use crate::{
    engine::{self, Arrays, Options, Settled, States},
    errors, facts,
    operand::{Operand, array},
    results::Results,
    session::Session,
    view::{Elem, View},
};

/// Shapes and threads whose compiled code is kept at hand; all others are found in the engine.
const KEPT: usize = 16;

/// One variant of a source.
#[pyclass(frozen, module = "chunkwise._engine")]
pub struct Kernel {
    variant: Arc<Variant>,
    options: Options,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    /// The extents of all tensors and states given, ranks between them.
    shapes: Vec<usize>,
    dims: Dims,
    how: (usize, States),
    settled: Arc<Settled>,
}

/// Two tuples of tensors: outputs, and final states.
type Given<'py> = (Bound<'py, PyTuple>, Bound<'py, PyTuple>);

/// Sizes by the names of their axes.
type Dims = Vec<(String, usize)>;

/// The gradient of a tensor: its name, the adjoint's result that holds it, how many of that one's first axes are summed over,
/// and the axis of which several heads share a place.
type Gradient = (String, Option<String>, usize, Option<usize>);

/// One a tensor.
type Shapes = Vec<Vec<usize>>;

/// The tensors of a call.
struct Call<'py> {
    inputs: Vec<View<'py>>,
    initial: Vec<Option<View<'py>>>,
}

#[pymethods]
impl Kernel {
    /// Parses and checks; `options` are backend, form, chunk and precision.
    #[new]
    fn new(
        py: Python<'_>,
        source: (String, String),
        variant: Option<&str>,
        args: Vec<(String, f64)>,
        options: (String, String, Option<usize>, String),
    ) -> PyResult<Self> {
        let source = Source::new(source.0, source.1);
        let (backend, form, chunk, precision) = options;
        let options = Options::named(&backend, &form, chunk, &precision).map_err(|why| errors::wrong(py, &why))?;
        let program = py.detach(|| compile(&source, &args)).map_err(|found| errors::source(py, &found, &source))?;
        if !program.warnings.is_empty() {
            errors::warn(py, chunkwise_dsl::render::render(&program.warnings, &source).trim_end())?;
        }
        if let (_, Some(why)) = engine::rates() {
            errors::warn(py, why)?;
        }
        let variant = Arc::new(one(&program, variant).map_err(|why| errors::wrong(py, &why))?.clone());
        Ok(Self { variant, options, kept: Mutex::default() })
    }

    /// Outputs and, if they are wanted, final states. `made` is what makes a tensor, and whether they are; `how` is the
    /// threads, and sizes of axes that no tensor gives.
    fn run<'py>(
        &self,
        inputs: &Bound<'py, PyTuple>,
        initial: Option<&Bound<'py, PyTuple>>,
        made: (Bound<'py, PyAny>, bool),
        how: (usize, Dims),
    ) -> PyResult<Given<'py>> {
        let (py, (empty, wanted), (threads, dims)) = (inputs.py(), made, how);
        let call = self.call(inputs, initial)?;
        if wanted && (!carries_state(&self.variant) || self.variant.states.is_empty()) {
            let why = if self.variant.states.is_empty() { "it has none" } else { "its order carries none" };
            return Err(errors::shape(py, &format!("no final state of `{}` can be given: {why}", self.variant.name)));
        }
        let settled = self.settled(py, &call, ((threads, States::Apart), dims))?;
        let mut shapes: Vec<_> =
            self.variant.outputs().map(|output| output_shape(&self.variant, output, &settled.sizes)).collect();
        if wanted {
            shapes.extend(self.variant.states.iter().map(|state| state_shape(&self.variant, state, &settled.sizes)));
        }
        let results = Results::made(&empty, &shapes, call.elem(&self.variant, &settled))?;
        let results = match settled.ready() {
            Some(ready) => self.compiled(py, &call, ready, results)?,
            None => self.interpreted(py, &call, &settled.sizes, results)?,
        };
        results.into_tuples(py, self.variant.outputs().count())
    }

    /// Outputs, as of `run`; the states that it starts from are left as they are after it.
    fn advance<'py>(
        &self,
        inputs: &Bound<'py, PyTuple>,
        states: &Bound<'py, PyTuple>,
        empty: Bound<'py, PyAny>,
        how: (usize, Dims),
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (py, (threads, dims)) = (inputs.py(), how);
        let variant = &self.variant;
        let call = self.call(inputs, Some(states))?;
        if !carries_state(variant) || variant.states.is_empty() || call.initial.iter().any(Option::is_none) {
            let why = "it has none, its order carries none, or one is not given";
            return Err(errors::shape(py, &format!("the states of `{}` cannot go on in place: {why}", variant.name)));
        }
        let settled = self.settled(py, &call, ((threads, States::InPlace), dims))?;
        let outputs = variant.outputs().map(|output| output_shape(variant, output, &settled.sizes));
        let names: Vec<_> = variant.states.iter().map(|state| state.name.as_str()).collect();
        let elem = call.elem(variant, &settled);
        let results = Results::made(&empty, &outputs.collect::<Vec<_>>(), elem)?.and(states, &names, elem)?;
        let results = match settled.ready() {
            Some(ready) => self.going_on(py, &call, (ready, settled.states), results)?,
            None => self.interpreted(py, &call, &settled.sizes, results)?,
        };
        Ok(results.into_tuples(py, variant.outputs().count())?.0)
    }

    /// What is taken at these sizes, and why.
    fn choice(&self, py: Python<'_>, dims: Dims, threads: usize) -> PyResult<(String, Vec<String>)> {
        let sizes = self.sizes(py, &dims)?;
        let settled = py.detach(|| self.options.settle(&self.variant, sizes, (threads, States::Apart)));
        let choice = settled.map_err(|failure| errors::failure(py, &failure))?.choice;
        Ok((facts::plan(&choice.plan), choice.reasons))
    }

    /// Calls at these sizes that go on from each other's states.
    fn session(&self, py: Python<'_>, dims: Dims, threads: usize) -> PyResult<Session> {
        let sizes = self.sizes(py, &dims)?;
        let made = py.detach(|| self.options.session(&self.variant, &sizes, threads));
        let made = made.map_err(|failure| errors::failure(py, &failure))?;
        Ok(Session::new(Arc::clone(&self.variant), (sizes, self.options.precision), made))
    }

    /// Random inputs of these sizes, as `check draw` says.
    fn draw<'py>(&self, empty: Bound<'py, PyAny>, dims: Dims, seed: u64) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
        let py = empty.py();
        let sizes = self.sizes(py, &dims)?;
        let drawn = py.detach(|| engine::draw(&self.variant, &sizes, seed));
        let drawn = drawn.map_err(|failure| errors::failure(py, &failure))?;
        let made = self.variant.tensors.iter().filter_map(|tensor| Some((&tensor.name, drawn.get(&tensor.name)?)));
        let made = made.map(|(name, tensor)| {
            let elem = if matches!(tensor.data, Data::I32(_)) { Elem::I32 } else { Elem::F32 };
            let mut result = Results::made(&empty, std::slice::from_ref(&tensor.shape), elem)?;
            result.copy(py, 0, &tensor.data)?;
            Ok((name.clone(), result.into_tuples(py, 1)?.0.get_item(0)?))
        });
        made.collect()
    }

    /// What the variant declares.
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        facts::declared(py, &self.variant)
    }

    /// The program of the gradients, and how its results are those of the real inputs and params.
    fn adjoint(&self, py: Python<'_>) -> PyResult<(Self, Vec<Gradient>)> {
        let made = py.detach(|| adjoint(&self.variant)).map_err(|why| errors::unsupported(py, &why))?;
        let rows = made.gradients.into_iter();
        let rows = rows.map(|of| (of.tensor, of.output, of.summed, of.group.map(|(axis, _)| axis)));
        let rows = rows.collect();
        Ok((Self { variant: Arc::new(made.variant), options: self.options, kept: Mutex::default() }, rows))
    }

    /// The class of every state, and for every form why it does not exist.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (states, forms) = py.detach(|| self.options.report(&self.variant));
        let states: Vec<_> = states.into_iter().map(|state| (state.state, state.class)).collect();
        let reason = |missing: Option<chunkwise_compiler::Unsupported>| missing.map(|why| why.to_string());
        let forms: Vec<_> = forms.into_iter().map(|form| (form.form.name(), reason(form.missing))).collect();
        Ok((states, forms).into_pyobject(py)?.into_any())
    }

    /// The shapes of outputs and states that follow from those of the inputs.
    fn shapes(&self, py: Python<'_>, inputs: Shapes, dims: Dims) -> PyResult<(Shapes, Shapes)> {
        let names = self.variant.tensors.iter().map(|tensor| tensor.name.clone());
        let sizes = self.bound(py, &names.zip(inputs).collect(), &dims)?;
        let outputs = self.variant.outputs().map(|output| output_shape(&self.variant, output, &sizes)).collect();
        let states = self.variant.states.iter().map(|state| state_shape(&self.variant, state, &sizes)).collect();
        Ok((outputs, states))
    }
}

impl Kernel {
    fn call<'py>(&self, inputs: &Bound<'py, PyTuple>, initial: Option<&Bound<'py, PyTuple>>) -> PyResult<Call<'py>> {
        let (py, variant) = (inputs.py(), &self.variant);
        if inputs.len() != variant.tensors.len() {
            let (wanted, given) = (variant.tensors.len(), inputs.len());
            return Err(errors::shape(py, &format!("`{}` has {wanted} inputs, and {given} are given", variant.name)));
        }
        let inputs = variant.tensors.iter().zip(inputs.iter_borrowed());
        let inputs = inputs.map(|(tensor, object)| View::of(&tensor.name, &object)).collect::<PyResult<_>>()?;
        let Some(given) = initial else {
            return Ok(Call { inputs, initial: variant.states.iter().map(|_| None).collect() });
        };
        if given.len() != variant.states.len() {
            let (wanted, given) = (variant.states.len(), given.len());
            return Err(errors::shape(py, &format!("`{}` has {wanted} states, and {given} are given", variant.name)));
        }
        let states = variant.states.iter().zip(given.iter_borrowed());
        let view = |name: &str, object: &Bound<'py, PyAny>| (!object.is_none()).then(|| View::of(name, object));
        let initial = states.map(|(state, object)| view(&state.name, &object).transpose());
        Ok(Call { inputs, initial: initial.collect::<PyResult<_>>()? })
    }

    /// The code for these shapes.
    fn settled(&self, py: Python<'_>, call: &Call<'_>, (how, dims): ((usize, States), Dims)) -> PyResult<Arc<Settled>> {
        let shapes = call.shapes();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().find(|kept| kept.shapes == shapes && kept.how == how && kept.dims == dims);
        if let Some(known) = known {
            return Ok(Arc::clone(&known.settled));
        }
        drop(kept);
        let sizes = self.bound(py, &self.named_shapes(call), &dims)?;
        let settled = py.detach(|| self.options.settle(&self.variant, sizes, how));
        let settled = Arc::new(settled.map_err(|failure| errors::failure(py, &failure))?);
        if settled.choice.fell_back {
            let why = settled.choice.reasons.join("; ");
            errors::warn(py, &format!("`{}` is run on the reference, which is slow: {why}", self.variant.name))?;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Kept { shapes, dims, how, settled: Arc::clone(&settled) });
        Ok(settled)
    }

    fn named_shapes(&self, call: &Call<'_>) -> BTreeMap<String, Vec<usize>> {
        let inputs = self.variant.tensors.iter().map(|tensor| &tensor.name).zip(call.inputs.iter().map(Some));
        let states = self.variant.states.iter().map(|state| &state.name).zip(call.initial.iter().map(Option::as_ref));
        inputs.chain(states).filter_map(|(name, view)| Some((name.clone(), view?.shape().to_vec()))).collect()
    }

    fn bound(
        &self,
        py: Python<'_>,
        shapes: &BTreeMap<String, Vec<usize>>,
        dims: &[(String, usize)],
    ) -> PyResult<Sizes> {
        bind(&self.variant, shapes, dims).map_err(|found| unbound(py, &found))
    }

    /// The sizes that are named; of the token axis 1, if nothing is said of it.
    fn sizes(&self, py: Python<'_>, dims: &[(String, usize)]) -> PyResult<Sizes> {
        let mut dims = dims.to_vec();
        let token = self.variant.token.filter(|axis| self.variant.axes[axis.0 as usize].value.is_none());
        let token = token.map(|axis| self.variant.axis_name(axis));
        dims.extend(token.filter(|token| !dims.iter().any(|(name, _)| name == token)).map(|token| (token, 1)));
        bind_dims(&self.variant, &dims).map_err(|found| unbound(py, &found))
    }

    fn compiled<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'py>,
        ready: &Ready,
        mut results: Results<'py>,
    ) -> PyResult<Results<'py>> {
        let inputs = self.operands(py, call)?;
        let states = self.variant.states.iter().zip(&call.initial);
        let initial = states
            .map(|(state, view)| {
                let of = (Dtype::F32, self.options.precision);
                view.as_ref().map(|view| Operand::of(py, &state.name, view, of)).transpose()
            })
            .collect::<PyResult<Vec<_>>>()?;
        let read = call.inputs.iter().chain(call.initial.iter().flatten()).map(View::addresses);
        let mut outputs = results.floats(py, read.collect())?;
        let states = outputs.split_off(self.variant.outputs().count());
        let lent = Lent {
            inputs: inputs.iter().map(Operand::input).collect(),
            initial: initial.iter().map(|given| given.as_ref().and_then(Operand::floats)).collect(),
            outputs,
            states,
        };
        py.detach(|| engine::run(ready, lent)).map_err(|failure| errors::failure(py, &failure))?;
        Ok(results)
    }

    /// A call whose states are among its results, and are what it starts from.
    fn going_on<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'py>,
        (ready, place): (&Ready, States),
        mut results: Results<'py>,
    ) -> PyResult<Results<'py>> {
        let inputs = self.operands(py, call)?;
        let mut outputs = results.floats(py, call.inputs.iter().map(View::addresses).collect())?;
        let states = outputs.split_off(self.variant.outputs().count());
        let before: Vec<Option<Vec<f32>>> =
            states.iter().map(|state| (place == States::Apart).then(|| state.to_vec())).collect();
        let lent = Lent {
            inputs: inputs.iter().map(Operand::input).collect(),
            initial: before.iter().map(Option::as_deref).collect(),
            outputs,
            states,
        };
        py.detach(|| engine::run(ready, lent)).map_err(|failure| errors::failure(py, &failure))?;
        Ok(results)
    }

    fn operands<'a>(&self, py: Python<'_>, call: &'a Call<'_>) -> PyResult<Vec<Operand<'a>>> {
        let tensors = self.variant.tensors.iter().zip(&call.inputs);
        let operand = |(tensor, view): (&chunkwise_dsl::typed::Tensor, &'a View<'_>)| {
            Operand::of(py, &tensor.name, view, (tensor.dtype, self.options.precision))
        };
        tensors.map(operand).collect()
    }

    fn interpreted<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'py>,
        sizes: &Sizes,
        mut results: Results<'py>,
    ) -> PyResult<Results<'py>> {
        let named = |name: &String, view: &View<'py>, dtype| Ok((name.clone(), array(py, name, view, dtype)?));
        let tensors = self.variant.tensors.iter().zip(&call.inputs);
        let inputs =
            tensors.map(|(tensor, view)| named(&tensor.name, view, tensor.dtype)).collect::<PyResult<Arrays>>()?;
        let states = self.variant.states.iter().zip(&call.initial);
        let given = states.filter_map(|(state, view)| Some(named(&state.name, view.as_ref()?, Dtype::F32)));
        let initial = given.collect::<PyResult<Arrays>>()?;
        let found = py.detach(|| engine::interpret(&self.variant, sizes, (&inputs, &initial)));
        let found = found.map_err(|failure| errors::failure(py, &failure))?;
        let all = found.outputs.iter().chain(&found.states).take(results.len());
        for (place, (_, array)) in all.enumerate() {
            results.write(py, place, &array.data)?;
        }
        Ok(results)
    }
}

impl Call<'_> {
    fn shapes(&self) -> Vec<usize> {
        let all = self.inputs.iter().map(Some).chain(self.initial.iter().map(Option::as_ref));
        let mut shapes = Vec::with_capacity(64);
        for view in all {
            // A rank that no tensor has stands for one that is not given.
            shapes.push(view.map_or(usize::MAX, |view| view.shape().len()));
            shapes.extend(view.into_iter().flat_map(View::shape));
        }
        shapes
    }

    /// What results are made of: f64 where the reference is given some.
    fn elem(&self, variant: &Variant, settled: &Settled) -> Elem {
        let floats = variant.tensors.iter().zip(&self.inputs).filter(|(tensor, _)| tensor.dtype == Dtype::F32);
        let wide = floats.map(|(_, view)| view.elem()).any(|elem| elem == Elem::F64);
        if wide && settled.ready().is_none() { Elem::F64 } else { Elem::F32 }
    }
}

/// What is wrong with sizes; a flag of the command is an argument here.
fn unbound(py: Python<'_>, found: &[BindError]) -> PyErr {
    let messages: Vec<_> = found.iter().map(|error| error.message.replace("`--dim ", "`")).collect();
    errors::shape(py, &messages.join("\n"))
}

/// The variant of this name, or the only one.
fn one<'p>(program: &'p Program, wanted: Option<&str>) -> Result<&'p Variant, String> {
    let names: Vec<&str> = program.variants.iter().map(|variant| variant.name.as_str()).collect();
    let (file, listed) = (&program.source.name, names.join(", "));
    match (wanted, program.variants.as_slice()) {
        (Some(wanted), variants) => variants.iter().find(|variant| variant.name == wanted).ok_or_else(|| {
            let meant = nearest(wanted, names.iter().copied()).map(|meant| format!("; did you mean `{meant}`?"));
            format!("{file} has no variant `{wanted}`, only {listed}{}", meant.unwrap_or_default())
        }),
        (None, [variant]) => Ok(variant),
        (None, []) => Err(format!("{file} holds no variant")),
        (None, _) => Err(format!("{file} holds several variants: give variant= one of {listed}")),
    }
}

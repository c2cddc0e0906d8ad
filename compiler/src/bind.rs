//! Sizes: what every axis is, from the shapes of the tensors and from `--dim`, and the shapes that follow from them.
//! Serves the reference and the compiled forms alike. Reads no tensor's data.

use std::collections::BTreeMap;

use chunkwise_dsl::shape::{AxisId, Size};
use chunkwise_dsl::typed::{
    AxisKind, ExprId, ExprKind, Function, Output, OutputDim, State, Tensor, TensorRole, Variant,
};

/// A size beyond this is refused: no memory holds a tensor of it. Products are checked, since those of two may overflow.
const LARGEST: i64 = 1 << 40;

/// The size of every axis of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sizes {
    sizes: Vec<Option<usize>>,
}

impl Sizes {
    pub fn set(&mut self, axis: AxisId, size: usize) {
        let place = axis.0 as usize;
        if self.sizes.len() <= place {
            self.sizes.resize(place + 1, None);
        }
        self.sizes[place] = Some(size);
    }

    pub fn get(&self, axis: AxisId) -> Option<usize> {
        self.sizes.get(axis.0 as usize).copied().flatten()
    }

    /// A size expression's value, if every axis in it is bound and the value is not negative.
    pub fn eval(&self, size: &Size) -> Option<usize> {
        size.eval(&|axis| self.get(axis).map(|n| n as i64)).and_then(|n| usize::try_from(n).ok())
    }

    /// A size expression's value as a number; 0 where an axis is unbound or a divisor is 0.
    pub fn number(&self, size: &Size) -> i64 {
        size.eval(&|axis| self.get(axis).map(|n| n as i64)).unwrap_or(0)
    }

    /// How long an array of that size is: a negative size (`[T-1]` at T = 0) is 0.
    pub fn extent(&self, size: &Size) -> usize {
        usize::try_from(self.number(size)).unwrap_or(0)
    }

    /// Several extents at once.
    pub fn shape(&self, sizes: &[Size]) -> Vec<usize> {
        sizes.iter().map(|size| self.extent(size)).collect()
    }
}

/// Why sizes could not be bound; `tensor` where one is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindError {
    pub tensor: Option<String>,
    /// In the user's words; names the tensor, what was found and what was expected.
    pub message: String,
}

/// The batch axes, in the order of `axes`.
pub fn batch_axes(variant: &Variant) -> Vec<AxisId> {
    let of =
        |(at, axis): (usize, &chunkwise_dsl::typed::Axis)| (axis.kind == AxisKind::Batch).then_some(AxisId(at as u32));
    variant.axes.iter().enumerate().filter_map(of).collect()
}

/// How many batch elements there are; as many as there are numbers where the product passes them.
pub fn batch_elements(variant: &Variant, sizes: &Sizes) -> usize {
    batch_axes(variant).into_iter().fold(1, |all: usize, axis| all.saturating_mul(sizes.get(axis).unwrap_or(1)))
}

/// Whether an initial state is taken and a final one given: only under one forward order and without `local`.
pub fn carries_state(variant: &Variant) -> bool {
    variant.carries_state()
}

/// The shape of an input or a param: every dim in memory order.
pub fn tensor_shape(tensor: &Tensor, sizes: &Sizes) -> Vec<usize> {
    tensor.dims.iter().map(|dim| sizes.extent(&dim.size)).collect()
}

/// The shape of an initial or final state: the batch axes, then its own dims.
pub fn state_shape(variant: &Variant, state: &State, sizes: &Sizes) -> Vec<usize> {
    let batch = batch_axes(variant).into_iter().map(|axis| sizes.get(axis).unwrap_or(0));
    batch.chain(sizes.shape(&state.dims)).collect()
}

/// An output's own axes: those of its subscripts, then those of its value.
pub fn output_own_shape(variant: &Variant, output: &Output, sizes: &Sizes) -> Vec<usize> {
    let subscripts = output.indices.iter().map(|index| sizes.extent(&variant.indices[index.index()].size));
    subscripts.chain(sizes.shape(&output.ty.dims())).collect()
}

/// The dims of an output's tensor in memory order, each a batch axis or one of its own; what `Output::dims` leaves out
/// follows in order.
pub fn output_dims(variant: &Variant, output: &Output) -> Vec<OutputDim> {
    let own = output.indices.len() + output.ty.dims().len();
    let mut dims = output.dims.clone();
    let missing = |dims: &[OutputDim], dim: OutputDim| (!dims.contains(&dim)).then_some(dim);
    for axis in batch_axes(variant) {
        dims.extend(missing(&dims, OutputDim::Batch(axis)));
    }
    for at in 0..own {
        dims.extend(missing(&dims, OutputDim::Own(at)));
    }
    dims
}

/// The shape of an output's tensor.
pub fn output_shape(variant: &Variant, output: &Output, sizes: &Sizes) -> Vec<usize> {
    let own = output_own_shape(variant, output, sizes);
    let size = |dim: &OutputDim| match dim {
        OutputDim::Batch(axis) => sizes.get(*axis).unwrap_or(0),
        OutputDim::Own(at) => own[*at],
    };
    output_dims(variant, output).iter().map(size).collect()
}

/// The value of a scalar without tensors: `0`, `-1`, `1 / K`.
pub fn constant(variant: &Variant, sizes: &Sizes, id: ExprId) -> Option<f64> {
    match &variant.expr(id).kind {
        ExprKind::Number(number) => Some(*number),
        ExprKind::Size(size) => Some(sizes.number(size) as f64),
        ExprKind::Map { function, args } => {
            let args: Option<Vec<f64>> = args.iter().map(|&arg| constant(variant, sizes, arg)).collect();
            match (function, args?.as_slice()) {
                (Function::Neg, [x]) => Some(-x),
                (Function::Add, [x, y]) => Some(x + y),
                (Function::Sub, [x, y]) => Some(x - y),
                (Function::Mul, [x, y]) => Some(x * y),
                (Function::Div, [x, y]) => Some(x / y),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Binds every axis from the shapes of the tensors (and initial states) and the `--dim` values.
///
/// Each dim is an equation between its size expression and what was found; a derived axis is one too. What has one
/// unknown axis left, to the first power, gives it. Errors: a missing or unknown tensor, a wrong rank, sizes that
/// disagree, an axis that nothing gives.
pub fn bind(
    variant: &Variant,
    shapes: &BTreeMap<String, Vec<usize>>,
    dims: &[(String, usize)],
) -> Result<Sizes, Vec<BindError>> {
    let mut binder = Binder::new(variant);
    binder.take_dims(dims);
    for tensor in &variant.tensors {
        let wanted: Vec<Size> = tensor.dims.iter().map(|dim| dim.size.clone()).collect();
        match shapes.get(&tensor.name) {
            Some(found) => binder.take_shape(&tensor.name, &wanted, found),
            None => binder.missing(tensor, &wanted),
        }
    }
    binder.take_states(shapes);
    for name in shapes.keys().filter(|name| !names(variant).contains(name)) {
        binder.unknown(name);
    }
    binder.finish()
}

/// Binds every axis from `--dim` values alone, for tensors that are still to be drawn.
pub fn bind_dims(variant: &Variant, dims: &[(String, usize)]) -> Result<Sizes, Vec<BindError>> {
    let mut binder = Binder::new(variant);
    binder.take_dims(dims);
    binder.finish()
}

fn names(variant: &Variant) -> Vec<&String> {
    let tensors = variant.tensors.iter().map(|tensor| &tensor.name);
    tensors.chain(variant.states.iter().map(|state| &state.name)).collect()
}

/// `size = found`, as `source` says at dim `dim`.
struct Equation {
    size: Size,
    found: i64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Dim(String),
    Tensor { name: String, wanted: Vec<Size>, found: Vec<usize>, dim: usize },
    Derived(AxisId),
}

struct Binder<'a> {
    variant: &'a Variant,
    values: Vec<Option<i64>>,
    /// Who said so, for messages.
    givers: Vec<String>,
    equations: Vec<Equation>,
    errors: Vec<BindError>,
}

impl<'a> Binder<'a> {
    fn new(variant: &'a Variant) -> Self {
        let count = variant.axes.len();
        Self {
            variant,
            values: vec![None; count],
            givers: vec![String::new(); count],
            equations: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn take_dims(&mut self, dims: &[(String, usize)]) {
        for (name, found) in dims {
            match self.variant.axes.iter().position(|axis| axis.name == *name) {
                Some(at) => self.equations.push(Equation {
                    size: Size::axis(AxisId(at as u32)),
                    found: i64::try_from(*found).unwrap_or(i64::MAX),
                    source: Source::Dim(name.clone()),
                }),
                None => {
                    let known: Vec<&str> = self.variant.axes.iter().map(|axis| axis.name.as_str()).collect();
                    let message =
                        format!("`{}` has no axis `{name}`; its axes are {}", self.variant.name, known.join(", "));
                    self.errors.push(BindError { tensor: None, message });
                }
            }
        }
    }

    fn take_shape(&mut self, name: &str, wanted: &[Size], found: &[usize]) {
        if wanted.len() != found.len() {
            let message = format!(
                "tensor `{name}` has rank {} (found {found:?}), expected rank {}: {}",
                found.len(),
                wanted.len(),
                self.print_shape(wanted)
            );
            self.errors.push(BindError { tensor: Some(name.to_string()), message });
            return;
        }
        for (dim, (size, n)) in wanted.iter().zip(found).enumerate() {
            let source = Source::Tensor { name: name.to_string(), wanted: wanted.to_vec(), found: found.to_vec(), dim };
            self.equations.push(Equation { size: size.clone(), found: i64::try_from(*n).unwrap_or(i64::MAX), source });
        }
    }

    fn take_states(&mut self, shapes: &BTreeMap<String, Vec<usize>>) {
        let variant = self.variant;
        for state in &variant.states {
            let Some(found) = shapes.get(&state.name) else { continue };
            if !carries_state(variant) {
                let message = format!(
                    "an initial state `{}` was found, expected none: it is taken only under one forward order \
                     (`causal`, `raster`, `column`) and without `local`",
                    state.name
                );
                self.errors.push(BindError { tensor: Some(state.name.clone()), message });
                continue;
            }
            let batch = batch_axes(variant).into_iter().map(Size::axis);
            let wanted: Vec<Size> = batch.chain(state.dims.iter().cloned()).collect();
            self.take_shape(&state.name, &wanted, found);
        }
    }

    fn missing(&mut self, tensor: &Tensor, wanted: &[Size]) {
        let role = match tensor.role {
            TensorRole::Input => "input",
            TensorRole::Param => "param",
        };
        let shape = self.print_shape(wanted);
        let message = format!("tensor `{}` was not found, expected the {role} {shape}", tensor.name);
        self.errors.push(BindError { tensor: Some(tensor.name.clone()), message });
    }

    fn unknown(&mut self, name: &str) {
        let expected: Vec<String> = names(self.variant).into_iter().map(|name| format!("`{name}`")).collect();
        let message = format!("tensor `{name}` was found, expected only {}", expected.join(", "));
        self.errors.push(BindError { tensor: Some(name.to_string()), message });
    }

    fn finish(mut self) -> Result<Sizes, Vec<BindError>> {
        for (at, axis) in self.variant.axes.iter().enumerate() {
            if let Some(value) = &axis.value {
                let id = AxisId(at as u32);
                let size = Size::axis(id).sub(value);
                self.equations.push(Equation { size, found: 0, source: Source::Derived(id) });
            }
        }
        while self.solve_some() {}
        self.check_equations();
        // A missing or misshapen tensor is the cause of what it leaves unbound.
        if self.errors.is_empty() {
            self.check_bound();
        }
        if self.errors.is_empty() {
            Ok(Sizes { sizes: self.values.iter().map(|n| n.map(|n| n.max(0) as usize)).collect() })
        } else {
            Err(self.errors)
        }
    }

    /// Solves every equation that has one unknown axis left; whether there was one.
    fn solve_some(&mut self) -> bool {
        let mut progress = false;
        for at in 0..self.equations.len() {
            let equation = &self.equations[at];
            let unknown: Vec<AxisId> =
                equation.size.axes().into_iter().filter(|axis| self.values[axis.0 as usize].is_none()).collect();
            let [axis] = unknown.as_slice() else { continue };
            if let Some(value) = self.solve(&equation.size, equation.found, *axis) {
                self.values[axis.0 as usize] = Some(value);
                self.givers[axis.0 as usize] = self.print_source(&equation.source);
                progress = true;
            }
        }
        progress
    }

    /// The x >= 0 at which `size` is `found`, where `size` is linear in x.
    fn solve(&self, size: &Size, found: i64, unknown: AxisId) -> Option<i64> {
        let at = |x: i64| size.eval(&|axis| if axis == unknown { Some(x) } else { self.values[axis.0 as usize] });
        let zero = at(0)?;
        let slope = at(1)?.checked_sub(zero)?;
        let line = |x: i64| slope.checked_mul(x)?.checked_add(zero);
        let linear = [2, 3, 1009].into_iter().all(|x| line(x).is_some() && at(x) == line(x));
        if !linear || slope == 0 {
            return None;
        }
        let value = found.checked_sub(zero)?.checked_div(slope)?;
        (value >= 0 && line(value) == Some(found)).then_some(value)
    }

    fn check_equations(&mut self) {
        let mut blamed: Vec<String> = Vec::new();
        for equation in std::mem::take(&mut self.equations) {
            let Some(expected) = equation.size.eval(&|axis| self.values[axis.0 as usize]) else {
                self.check_soluble(&equation);
                continue;
            };
            if expected == equation.found {
                continue;
            }
            let error = match &equation.source {
                Source::Tensor { name, .. } if blamed.contains(name) => continue,
                Source::Tensor { name, wanted, found, dim } => {
                    blamed.push(name.clone());
                    let message = format!(
                        "tensor `{name}` is {found:?}, expected {} = {}: dim {dim} is {}, {}",
                        self.print_shape(wanted),
                        self.print_values(wanted),
                        equation.found,
                        self.explain(&equation.size, expected)
                    );
                    BindError { tensor: Some(name.clone()), message }
                }
                Source::Dim(name) => {
                    let why = self.explain(&equation.size, expected);
                    let message = format!("`--dim {name}={}` was found, {why}", equation.found);
                    BindError { tensor: None, message }
                }
                Source::Derived(axis) => self.derived_error(*axis),
            };
            self.errors.push(error);
        }
    }

    /// An equation that no size solves: `2*K = 7`, `Y*X = 10` with X = 3.
    fn check_soluble(&mut self, equation: &Equation) {
        let unknown: Vec<AxisId> =
            equation.size.axes().into_iter().filter(|axis| self.values[axis.0 as usize].is_none()).collect();
        let [axis] = unknown.as_slice() else { return };
        let name = self.variant.axis_name(*axis);
        if let Source::Tensor { name: tensor, found, dim, .. } = &equation.source {
            let message = format!(
                "tensor `{tensor}` is {found:?}: dim {dim} is {}, expected {}, which no size of `{name}` gives",
                equation.found,
                self.print(&equation.size)
            );
            self.errors.push(BindError { tensor: Some(tensor.clone()), message });
        } else if let Source::Derived(derived) = &equation.source
            && let Some(value) = &self.variant.axes[derived.0 as usize].value
            && let Some(found) = self.values[derived.0 as usize]
            && value.axes().iter().any(|axis| self.values[axis.0 as usize].is_some())
        {
            let derived_name = self.variant.axis_name(*derived);
            let giver = &self.givers[derived.0 as usize];
            let message = format!(
                "axis `{derived_name}` is {found} (from {giver}), expected {}, which no size of `{name}` gives; \
                 give it with `--dim {name}=N`",
                self.print(value)
            );
            self.errors.push(BindError { tensor: None, message });
        }
    }

    fn derived_error(&self, axis: AxisId) -> BindError {
        let at = axis.0 as usize;
        let name = self.variant.axis_name(axis);
        let found = self.values[at].unwrap_or(0);
        let Some(value) = &self.variant.axes[at].value else {
            return BindError { tensor: None, message: format!("axis `{name}` disagrees with itself") };
        };
        let expected = value.eval(&|axis| self.values[axis.0 as usize]).unwrap_or(0);
        let why = self.explain(value, expected);
        let message = format!("axis `{name}` is {found} (from {}), {why}", self.givers[at]);
        BindError { tensor: self.tensor_of(&self.givers[at]), message }
    }

    fn tensor_of(&self, giver: &str) -> Option<String> {
        let tensors = names(self.variant);
        tensors.into_iter().find(|name| giver == format!("tensor `{name}`")).cloned()
    }

    fn check_bound(&mut self) {
        for (at, axis) in self.variant.axes.iter().enumerate() {
            let name = &axis.name;
            let message = match self.values[at] {
                Some(n) if n > LARGEST => format!("axis `{name}` is {n}, expected at most {LARGEST}"),
                Some(n) if n < 0 => format!("axis `{name}` is {n}, expected at least 0"),
                Some(_) => continue,
                None => match axis.value.as_ref().and_then(|value| Some((value, self.values_of(value)?))) {
                    Some((value, at)) => format!("axis `{name}` = {} is beyond every size at {at}", self.print(value)),
                    None => {
                        format!("axis `{name}` is not bound: no tensor gives its size; say it with `--dim {name}=N`")
                    }
                },
            };
            self.errors.push(BindError { tensor: None, message });
        }
    }

    /// `K = 8, V = 4` of the axes in a size, where all are bound.
    fn values_of(&self, size: &Size) -> Option<String> {
        let named =
            |axis: AxisId| Some(format!("{} = {}", self.variant.axis_name(axis), self.values[axis.0 as usize]?));
        let named: Option<Vec<String>> = size.axes().into_iter().map(named).collect();
        named.map(|named| named.join(", "))
    }

    /// `expected K = 8 (from tensor `q`)`.
    fn explain(&self, size: &Size, expected: i64) -> String {
        let givers: Vec<String> = size
            .axes()
            .iter()
            .map(|axis| (axis, &self.givers[axis.0 as usize], self.values[axis.0 as usize]))
            .filter(|(_, giver, _)| !giver.is_empty())
            .map(|(axis, giver, value)| {
                let value = value.unwrap_or(0);
                match size.as_axis() {
                    Some(_) => format!("from {giver}"),
                    None => format!("{} is {value} from {giver}", self.variant.axis_name(*axis)),
                }
            })
            .collect();
        let from = if givers.is_empty() { String::new() } else { format!(" ({})", givers.join(", ")) };
        match size.as_constant() {
            Some(n) => format!("expected {n}"),
            None => format!("expected {} = {expected}{from}", self.print(size)),
        }
    }

    fn print(&self, size: &Size) -> String {
        size.print(&|axis| self.variant.axis_name(axis))
    }

    fn print_shape(&self, sizes: &[Size]) -> String {
        let parts: Vec<String> = sizes.iter().map(|size| self.print(size)).collect();
        format!("[{}]", parts.join(","))
    }

    fn print_values(&self, sizes: &[Size]) -> String {
        let value = |size: &Size| match size.eval(&|axis| self.values[axis.0 as usize]) {
            Some(n) => n.to_string(),
            None => "?".to_string(),
        };
        let parts: Vec<String> = sizes.iter().map(value).collect();
        format!("[{}]", parts.join(","))
    }

    fn print_source(&self, source: &Source) -> String {
        match source {
            Source::Dim(name) => format!("`--dim {name}`"),
            Source::Tensor { name, .. } => format!("tensor `{name}`"),
            Source::Derived(axis) => {
                let value = self.variant.axes[axis.0 as usize].value.as_ref();
                let text = value.map(|size| self.print(size)).unwrap_or_default();
                format!("{} = {text}", self.variant.axis_name(*axis))
            }
        }
    }
}

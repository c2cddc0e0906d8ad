//! Stacks as variants: every layer a call of its block, `x` flowing through, the params of a block stacked under
//! `block.W : [n, ...]`, one entry a layer (one for all layers under `shared`).
//!
//! Axes of one name are one axis of the stack where they are defined alike; what a block calls otherwise is `block.K`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::ast::{self, Layer};
use crate::diagnostic::Diagnostic;
use crate::shape::{AxisId, Size};
use crate::source::Span;
use crate::typed::{
    Axis, BatchDim, Call, ExprKind, Given, Grid, Output, Stmt, Tensor, TensorDim, TensorId, TensorRole, Ty, Variant,
};

use super::compose::MOST_CALLS;
use super::scope::Scope;
use super::{Checked, Checker, fingerprint};

/// One layer: its block, and which of the block's sets of params is its own.
struct Placed<'a> {
    named: &'a ast::Named,
    block: Arc<Variant>,
    /// A number for every set of params.
    set: usize,
}

/// The layers of a stack as they are run.
#[derive(Default)]
struct Run<'a> {
    layers: Vec<Placed<'a>>,
    /// By block, how many sets of params there are, and whether it has its layers under `shared` alone.
    sets: HashMap<String, (usize, bool)>,
}

impl<'a> Checker<'a> {
    /// The stack as a variant; None where something is wrong.
    pub(super) fn compose(
        &mut self,
        stack: &'a ast::Stack,
        shell: &'a ast::Variant,
        args: &[(String, f64)],
    ) -> Checked<()> {
        self.overrides = args.to_vec();
        self.parameters(shell, args);
        if !self.diagnostics.is_empty() {
            return None;
        }
        let mut run = Run::default();
        self.run_of(&stack.layers, &mut run, &mut Sets::Own)?;
        let Some(first) = run.layers.first() else {
            let message = format!("the stack `{}` has no layers", stack.name.name);
            return self.fail("stack-layer", message, stack.name.span, "nothing in it", "name a variant: `mixer;`");
        };
        let first = Arc::clone(&first.block);
        for layer in &run.layers {
            self.is_layer(layer)?;
        }
        let mut blocks: HashMap<*const Variant, Vec<Size>> = HashMap::new();
        for layer in &run.layers {
            if let Entry::Vacant(entry) = blocks.entry(Arc::as_ptr(&layer.block)) {
                entry.insert(self.axes_of_block(&layer.block, &first));
            }
        }
        let x = self.input_of(&first, &blocks[&Arc::as_ptr(&first)]);
        self.variant.tensors.push(x);
        let mut last = self.node(ExprKind::Tensor(TensorId(0)), self.shape_of_x(), stack.span);
        for layer in &run.layers {
            let sizes = blocks[&Arc::as_ptr(&layer.block)].clone();
            last = self.layer(layer, sizes, &run)?;
        }
        let name = run.layers.last().and_then(|layer| layer.block.outputs().next().map(|output| output.name.clone()));
        let (ty, indices) = (self.shape_of_x(), Vec::new());
        let dims = self.output_dims(&indices, &ty);
        let (name, span) = (name.unwrap_or_default(), stack.span);
        let output = Output { name, span, indices, ty, value: last, scan: false, dims };
        self.variant.body.push(Stmt::Output(output));
        checks(&mut self.variant);
        self.variant.exprs = self.arena.take();
        self.variant.fingerprint = fingerprint(&self.variant);
        Some(())
    }

    fn shape_of_x(&self) -> Ty {
        Ty::Array(self.tensor_shape(TensorId(0)))
    }

    /// The layers in the order in which they are run.
    fn run_of(&mut self, layers: &'a [Layer], run: &mut Run<'a>, sets: &mut Sets) -> Checked<()> {
        for layer in layers {
            match layer {
                Layer::Variant(named) => self.one_layer(named, run, sets)?,
                Layer::Repeat { count, shared, layers } => {
                    let times = self.whole(count, &Scope::default())?;
                    if times < 0 {
                        let message = format!("layers are repeated 0 times or more, not {times}");
                        return self.fail("not-a-size", message, count.span, "negative here", "");
                    }
                    // Under one `shared`, what stands at one place has one set, in inner repeats too.
                    let mut inner = Sets::Shared(HashMap::new());
                    let sets = if *shared && !sets.is_shared() { &mut inner } else { &mut *sets };
                    for _ in 0..times {
                        self.run_of(layers, run, sets)?;
                    }
                }
            }
        }
        Some(())
    }

    fn one_layer(&mut self, named: &'a ast::Named, run: &mut Run<'a>, sets: &mut Sets) -> Checked<()> {
        if run.layers.len() >= MOST_CALLS {
            return self.too_many_calls(named.span);
        }
        let numbers = self.layer_arguments(named)?;
        let block = self.composable(&named.name, numbers)?;
        let key = named.span.start;
        let (count, shared) = run.sets.entry(block.name.clone()).or_insert((0, true));
        let set = match sets {
            Sets::Own => {
                *shared = false;
                *count += 1;
                *count - 1
            }
            Sets::Shared(known) => *known.entry(key).or_insert_with(|| {
                *count += 1;
                *count - 1
            }),
        };
        run.layers.push(Placed { named, block, set });
        Some(())
    }

    /// The values of a layer's compile-time parameters, by place or by name.
    fn layer_arguments(&mut self, named: &'a ast::Named) -> Checked<Vec<(String, f64)>> {
        let params = self.compile_time_params(&named.name.name);
        let mut found = Vec::new();
        for (at, arg) in named.args.iter().enumerate() {
            let name = arg.name.as_ref().map(|name| name.name.as_str()).or_else(|| params.get(at).copied())?;
            found.push((name.to_string(), self.number(&arg.value, &Scope::default())?));
        }
        Some(found)
    }

    /// Whether `x` can flow through a block.
    fn is_layer(&mut self, layer: &Placed<'a>) -> Checked<()> {
        let (block, span) = (&layer.block, layer.named.span);
        let inputs: Vec<&Tensor> = block.tensors.iter().filter(|tensor| tensor.role == TensorRole::Input).collect();
        let help = "a layer has one input `x` and one output of its shape: write a variant around it that calls it";
        let [x] = inputs[..] else {
            let list: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let message = format!("`{}` has the inputs {}, and a layer has one, `x`", block.name, list.join(", "));
            return self.no_layer(message, span, help);
        };
        if x.name != "x" {
            let message = format!("the input of `{}` is called `{}`, and that of a layer `x`", block.name, x.name);
            return self.no_layer(message, span, help);
        }
        let outputs: Vec<&Output> = block.outputs().collect();
        let [output] = outputs[..] else {
            let message = format!("`{}` has {} outputs, and a layer has one", block.name, outputs.len());
            return self.no_layer(message, span, help);
        };
        let indices = output.indices.iter().map(|index| block.indices[index.index()].size.clone());
        let own: Vec<Size> = indices.chain(output.ty.dims()).collect();
        let plain = |size: &Size| expanded(block, size);
        let wanted: Vec<Size> = x.own_dims().iter().map(plain).collect();
        if own.iter().map(plain).collect::<Vec<_>>() != wanted {
            let text = |dims: &[Size]| {
                dims.iter().map(|dim| dim.print(&|axis| block.axis_name(axis))).collect::<Vec<_>>().join(",")
            };
            let (own, x) = (text(&own), text(&x.own_dims()));
            let message = format!("`{}` gives [{own}] and takes `x` as [{x}]: a layer keeps the shape", block.name);
            return self.no_layer(message, span, help);
        }
        Some(())
    }

    /// Such a stack says what is composed of what, but it cannot be run: a warning.
    fn no_layer<T>(&mut self, message: String, span: Span, help: &str) -> Checked<T> {
        self.warnings.push(Diagnostic::warning("stack-layer", message).label(span, "`x` cannot flow here").help(help));
        None
    }

    /// The axes of a block among those of the stack: those of `x` by place, others by name where they mean the same.
    fn axes_of_block(&mut self, block: &Variant, first: &Variant) -> Vec<Size> {
        let mut sizes: Vec<Option<Size>> = vec![None; block.axes.len()];
        if !self.variant.axes.is_empty() {
            let (own, theirs) = (x_of(block), x_of(first));
            for (dim, along) in own.dims.iter().zip(&theirs.dims) {
                let there = along.size.as_axis().and_then(|axis| self.axis_called(&first.axis_name(axis)));
                if let (Some(axis), Some(there)) = (dim.size.as_axis(), there) {
                    sizes[axis.0 as usize] = Some(Size::axis(there));
                }
            }
        }
        // Definitions mention other axes, so that one follows the others.
        let order = |derived: bool| (0..block.axes.len()).filter(move |at| block.axes[*at].value.is_some() == derived);
        let mut open: Vec<usize> = order(false).chain(order(true)).collect();
        while !open.is_empty() {
            let before = open.len();
            open.retain(|&at| !self.place_axis(block, at, &mut sizes));
            if open.len() == before {
                break;
            }
        }
        sizes.into_iter().map(Option::unwrap_or_default).collect()
    }

    fn axis_called(&self, name: &str) -> Option<AxisId> {
        self.variant.axes.iter().position(|axis| axis.name == name).map(|at| AxisId(at as u32))
    }

    /// Whether an axis of a block could be placed.
    fn place_axis(&mut self, block: &Variant, at: usize, sizes: &mut [Option<Size>]) -> bool {
        let axis = &block.axes[at];
        let value = match &axis.value {
            Some(value) if value.axes().iter().any(|part| sizes[part.0 as usize].is_none()) => return false,
            Some(value) => Some(value.substitute(&|part| sizes[part.0 as usize].clone())),
            None => None,
        };
        if let Some(known) = sizes[at].as_ref().and_then(Size::as_axis) {
            // An axis of `x`, whose definition may be said by a later block.
            let cyclic = value.as_ref().is_some_and(|value| value.axes().contains(&known));
            let own = &mut self.variant.axes[known.0 as usize];
            if own.value.is_none() && !cyclic {
                own.value = value;
            }
            return true;
        }
        let same = self.axis_called(&axis.name).filter(|known| {
            let known = &self.variant.axes[known.0 as usize];
            known.kind == axis.kind && known.value == value
        });
        let id = same.unwrap_or_else(|| {
            let taken = self.axis_called(&axis.name).is_some();
            let name = if taken { format!("{}.{}", block.name, axis.name) } else { axis.name.clone() };
            self.variant.axes.push(Axis { name, span: axis.span, kind: axis.kind, value });
            AxisId(self.variant.axes.len() as u32 - 1)
        });
        let there = |axis: AxisId| if axis.0 as usize == at { Some(id) } else { None };
        self.variant.token = self.variant.token.or(block.token.and_then(there));
        self.variant.head = self.variant.head.or(block.head.and_then(there));
        sizes[at] = Some(Size::axis(id));
        true
    }

    /// `x` of the stack: that of its first block.
    fn input_of(&mut self, first: &Variant, sizes: &[Size]) -> Tensor {
        let there = |size: &Size| size.substitute(&|axis| Some(sizes[axis.0 as usize].clone()));
        if let Some(Grid { offset, rows, cols }) = &first.grid {
            self.variant.grid = Some(Grid { offset: there(offset), rows: there(rows), cols: there(cols) });
        }
        let x = x_of(first);
        let dims = x.dims.iter().map(|dim| dim_there(dim, sizes)).collect();
        Tensor { dims, ..x.clone() }
    }

    /// The call that a layer is; what it gives.
    fn layer(&mut self, layer: &Placed<'a>, sizes: Vec<Size>, run: &Run<'a>) -> Checked {
        let block = &layer.block;
        let span = layer.named.span;
        let x = match self.variant.calls.len() {
            0 => Given::Tensor { tensor: TensorId(0), entry: None },
            n => Given::Result { call: n - 1, result: 0 },
        };
        let mut given = Vec::new();
        for tensor in &block.tensors {
            given.push(match tensor.role {
                TensorRole::Input => x,
                TensorRole::Param => self.layer_param(layer, (tensor, &sizes), run)?,
            });
        }
        let (name, callee) = (self.call_name(&block.name), Arc::clone(block));
        let call =
            Call { name, span, callee, sizes, given, initial: Vec::new(), written: Vec::new(), results: Vec::new() };
        let results = call.results_in(&self.variant);
        let at = self.variant.calls.len();
        self.variant.calls.push(Call { results, ..call });
        Some(self.node(ExprKind::Result { call: at, result: 0 }, self.shape_of_x(), span))
    }

    /// A param of a layer among those of its block.
    fn layer_param(
        &mut self,
        layer: &Placed<'a>,
        (tensor, sizes): (&Tensor, &[Size]),
        run: &Run<'a>,
    ) -> Checked<Given> {
        let (count, shared) = run.sets[&layer.block.name];
        let one_for_all = shared && count == 1;
        let name = format!("{}.{}", layer.block.name, tensor.name);
        let mut dims: Vec<TensorDim> = tensor.dims.iter().map(|dim| dim_there(dim, sizes)).collect();
        if !one_for_all {
            dims.insert(0, TensorDim { size: Size::constant(count as i64), batch: None });
        }
        let entry = (!one_for_all).then_some(layer.set as i64);
        if let Some(at) = self.variant.tensors.iter().position(|known| known.name == name) {
            if self.variant.tensors[at].dims != dims {
                let message =
                    format!("the layers of `{}` have params `{}` of several shapes", layer.block.name, tensor.name);
                let help = "write a variant for each: params of one name are stacked in one tensor";
                return self.fail("stack-layer", message, layer.named.span, "another shape", help);
            }
            return Some(Given::Tensor { tensor: TensorId(at as u32), entry });
        }
        let draw = layer.block.checks.draws.iter().find(|(of, _)| *of == tensor.name);
        self.variant.checks.draws.extend(draw.map(|(_, draw)| (name.clone(), *draw)));
        self.variant.tensors.push(Tensor { name, dims, ..tensor.clone() });
        Some(Given::Tensor { tensor: TensorId(self.variant.tensors.len() as u32 - 1), entry })
    }
}

/// Which set of params a layer has.
enum Sets {
    /// One for each.
    Own,
    /// One for each place in the text.
    Shared(HashMap<usize, usize>),
}

impl Sets {
    fn is_shared(&self) -> bool {
        matches!(self, Sets::Shared(_))
    }
}

fn x_of(block: &Variant) -> &Tensor {
    let input = block.tensors.iter().find(|tensor| tensor.role == TensorRole::Input);
    input.expect("a layer has an input")
}

fn dim_there(dim: &TensorDim, sizes: &[Size]) -> TensorDim {
    let there = |size: &Size| size.substitute(&|axis| Some(sizes[axis.0 as usize].clone()));
    let axis = |axis: AxisId| sizes[axis.0 as usize].as_axis().unwrap_or(axis);
    let batch = dim.batch.as_ref().map(|batch| match batch {
        BatchDim::Index(of) => BatchDim::Index(axis(*of)),
        BatchDim::Group { of, ratio } => BatchDim::Group { of: axis(*of), ratio: there(ratio) },
    });
    TensorDim { size: there(&dim.size), batch }
}

/// A size with derived axes as what they equal.
fn expanded(variant: &Variant, size: &Size) -> Size {
    let mut expanded = size.clone();
    for _ in 0..variant.axes.len() {
        expanded = expanded.substitute(&|axis| variant.axes[axis.0 as usize].value.clone());
    }
    expanded
}

/// The checks of a stack: what its blocks ask for, together.
fn checks(variant: &mut Variant) {
    let blocks: Vec<Arc<Variant>> = variant.calls.iter().map(|call| Arc::clone(&call.callee)).collect();
    for block in blocks {
        let checks = &block.checks;
        let own = &mut variant.checks;
        if own.tokens.is_empty() {
            own.tokens.clone_from(&checks.tokens);
        }
        if own.grids.is_empty() {
            own.grids.clone_from(&checks.grids);
        }
        for (name, size) in &checks.dims {
            if !own.dims.iter().any(|(known, _)| known == name) && variant.axes.iter().any(|axis| axis.name == *name) {
                own.dims.push((name.clone(), *size));
            }
        }
        own.tolerance = match (own.tolerance, checks.tolerance) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let x = checks.draws.iter().find(|(name, _)| name == "x");
        if !own.draws.iter().any(|(name, _)| name == "x") {
            own.draws.extend(x.cloned());
        }
    }
}

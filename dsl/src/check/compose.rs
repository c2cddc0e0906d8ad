//! Calls of variants: `let o = gla(q = qq, ...);`. Which variant, what each of its inputs, params, sizes and initial states
//! is, and what its results are. Which axis is which is solved in `unify`, layers of stacks are in `layers`.

use std::sync::Arc;

use crate::ast::{self, Arg, Ident};
use crate::diagnostic::Diagnostic;
use crate::shape::{AxisId, Size};
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{
    AxisKind, BatchDim, Call, ExprId, ExprKind, Given, LetKind, LetValue, StateId, TensorDim, TensorId, TensorRole, Ty,
    Variant,
};

use super::scope::{Binding, Scope};
use super::unify::{Equation, Unknowns};
use super::{Checked, Checker};

/// The most stages that calls may come to, so that a few lines do not make a program without end.
pub(super) const MOST_CALLS: usize = 1000;

/// How many stages a variant comes to.
fn stages(variant: &Variant) -> usize {
    variant.calls.iter().fold(1, |all, call| all.saturating_add(stages(&call.callee)))
}

/// What is given by name, by what it is to the variant called.
#[derive(Default)]
struct Arguments {
    tensors: Vec<(TensorId, ExprId)>,
    sizes: Vec<(AxisId, Size, Span)>,
    initial: Vec<(StateId, ExprId)>,
}

impl<'a> Checker<'a> {
    /// The name and the arguments of a call of a variant or a stack.
    pub(super) fn called(&self, value: &'a ast::Expr) -> Option<(&'a Ident, &'a [Arg])> {
        match &value.kind {
            ast::ExprKind::Call { name, args } if self.is_composable(&name.name) => Some((name, args)),
            _ => None,
        }
    }

    pub(super) fn is_composable(&self, name: &str) -> bool {
        !self.is_function(name) && self.around.variants.contains_key(name)
    }

    /// `let o = f(...);`
    pub(super) fn one_result(&mut self, lhs: &'a ast::Lhs, call: (&'a Ident, &'a [Arg]), span: Span) -> Checked<()> {
        if let Some(subscript) = lhs.subscripts.first() {
            let message = format!("`{}` gives whole arrays", call.0.name);
            let help = format!("write `let {} = {}(...);`, and subscript it below", lhs.name.name, call.0.name);
            return self.fail("left-subscript", message, subscript.span, "a subscript here", &help);
        }
        self.call_variant(std::slice::from_ref(&lhs.name), call, span)
    }

    /// `let (o, w) = f(...);`
    pub(super) fn several_results(&mut self, names: &'a [Ident], value: &'a ast::Expr) {
        let done = match self.called(value) {
            Some((callee, args)) => self.call_variant(names, (callee, args), value.span),
            None => {
                let message = "several names at once are results of a variant called".to_string();
                let help = "write `let (o, w) = f(q = q, ...);`, or a `let` each";
                self.fail("misplaced", message, value.span, "no call of a variant", help)
            }
        };
        if done.is_none() {
            names.iter().for_each(|name| self.poison(name));
        }
    }

    /// A call, its results under the names on the left.
    pub(super) fn call_variant(
        &mut self,
        names: &'a [Ident],
        (name, args): (&'a Ident, &'a [Arg]),
        span: Span,
    ) -> Checked<()> {
        let numbers = self.compile_time_arguments(name, args);
        let callee = self.composable(name, numbers?)?;
        let given = self.given_by_name(name, &callee, args);
        let (tensors, given) = (self.all_tensors(name, &callee, given.as_ref()), given?);
        let tensors = tensors?;
        let sizes = self.axes_of_call(name, &callee, (&tensors, &given))?;
        let outputs: Vec<&str> = callee.outputs().map(|output| output.name.as_str()).collect();
        if outputs.len() != names.len() {
            let list = outputs.join(", ");
            let message = format!("`{}` gives {} ({list}), and {} here", name.name, outputs.len(), names.len());
            let help = format!("write `let {} = {}(...);`", bracketed(&outputs), name.name);
            return self.fail("wrong-arity", message, span, "its results are taken here", &help);
        }
        let written = tensors.iter().copied().chain(given.initial.iter().map(|(_, value)| *value)).collect();
        let call = Call {
            name: self.call_name(&name.name),
            span,
            callee,
            sizes,
            given: tensors.into_iter().map(|value| self.given(value)).collect(),
            initial: given.initial,
            written,
            results: Vec::new(),
        };
        self.take_results(names, call)
    }

    fn take_results(&mut self, names: &'a [Ident], mut call: Call) -> Checked<()> {
        call.results = call.results_in(&self.variant);
        let at = self.variant.calls.len();
        let results = call.results.clone();
        let span = call.span;
        self.variant.calls.push(call);
        for (result, (name, given)) in names.iter().zip(&results).enumerate() {
            let ty = Ty::Array(given.own_dims());
            let value = self.node(ExprKind::Result { call: at, result }, ty, span);
            let found = self.new_let(name, LetKind::Let, Vec::new(), value, None)?;
            self.shadow(name, Binding::Let(found))?;
        }
        Some(())
    }

    /// A name that no other call has.
    pub(super) fn call_name(&self, name: &str) -> String {
        let taken = |name: &str| self.variant.calls.iter().any(|call| call.name == name);
        let further = (2..).map(|n| format!("{name}_{n}"));
        std::iter::once(name.to_string()).chain(further).find(|name| !taken(name)).unwrap_or_default()
    }

    /// The values given for the compile-time parameters of the variant called.
    fn compile_time_arguments(&mut self, name: &Ident, args: &'a [Arg]) -> Checked<Vec<(String, f64)>> {
        let params = self.compile_time_params(&name.name);
        let mut found = Some(Vec::new());
        for arg in args {
            let Some(given) = arg.name.as_ref().filter(|given| params.iter().any(|param| **param == given.name)) else {
                continue;
            };
            let value = self.number(&arg.value, &Scope::default());
            found = found.zip(value).map(|(mut found, value)| {
                found.push((given.name.clone(), value));
                found
            });
        }
        found
    }

    pub(super) fn compile_time_params(&self, name: &str) -> Vec<&'a str> {
        let params = self.file.items.iter().find_map(|item| match item {
            ast::Item::Variant(variant) if variant.name.name == name => Some(&variant.params),
            ast::Item::Stack(stack) if stack.name.name == name => Some(&stack.params),
            _ => None,
        });
        params.into_iter().flatten().map(|param| param.name.name.as_str()).collect()
    }

    /// The variant or stack of a name, which stands above, with its compile-time parameters as given. None where it is wrong
    /// itself, which is said there.
    pub(super) fn composable(&mut self, name: &Ident, mut args: Vec<(String, f64)>) -> Checked<Arc<Variant>> {
        if self.around.reaches(&name.name, &self.variant.name) {
            let message = format!("`{}` calls itself by way of `{}`", self.variant.name, name.name);
            let help = "a variant is made of variants above it: write what repeats as a state or an iterated let";
            return self.fail("recursion", message, name.span, "leads back here", help);
        }
        if self.around.place(&name.name) > self.around.place(&self.variant.name) {
            let message = format!("`{}` stands below", name.name);
            let help = format!("move `{}` above `{}`", name.name, self.variant.name);
            return self.fail("undeclared-name", message, name.span, "not known yet", &help);
        }
        args.splice(0..0, self.overrides.iter().cloned());
        let found = super::checked(self.file, &name.name, &args, &self.around)?;
        self.stages = self.stages.saturating_add(stages(&found));
        if self.stages > MOST_CALLS {
            return self.too_many_calls(name.span);
        }
        Some(found)
    }

    pub(super) fn too_many_calls<T>(&mut self, span: Span) -> Checked<T> {
        let message = format!("calls come to more than {MOST_CALLS} stages here");
        self.fail("too-large", message, span, "beyond them from here on", "make the program of several variants")
    }

    /// The arguments, each checked as what the name is to the callee.
    fn given_by_name(&mut self, name: &Ident, callee: &Variant, args: &'a [Arg]) -> Checked<Arguments> {
        let (mut found, mut fine) = (Arguments::default(), true);
        let params = self.compile_time_params(&name.name);
        let mut seen: Vec<&Ident> = Vec::new();
        for arg in args {
            let Some(given) = &arg.name else {
                let message = format!("what `{}` is given goes by name", name.name);
                let help = format!("write `{}(q = ...)`, each input by its name", name.name);
                fine = self.fail::<()>("call-argument", message, arg.value.span, "no name", &help).is_some();
                continue;
            };
            if let Some(first) = seen.iter().find(|first| first.name == given.name) {
                let error = Diagnostic::new("duplicate-name", format!("`{}` is given twice", given.name))
                    .label(given.span, "the second time")
                    .label(first.span, "the first time")
                    .help("leave one of them out");
                self.report(error);
                fine = false;
                continue;
            }
            seen.push(given);
            let known = self.given_as(name, callee, (given, &arg.value), &mut found);
            if known.is_none() && !params.contains(&given.name.as_str()) {
                fine = false;
            }
        }
        fine.then_some(found)
    }

    fn given_as(
        &mut self,
        name: &Ident,
        callee: &Variant,
        (given, value): (&'a Ident, &'a ast::Expr),
        found: &mut Arguments,
    ) -> Checked<()> {
        if let Some(at) = callee.tensors.iter().position(|tensor| tensor.name == given.name) {
            let value = self.whole_array(name, (given, value))?;
            found.tensors.push((TensorId(at as u32), value));
        } else if let Some(at) = callee.states.iter().position(|state| state.name == given.name) {
            if !callee.carries_state() {
                let message = format!("`{}` takes no initial state", name.name);
                let help =
                    "a variant takes one under one forward order (`causal`, `raster`, `column`) and without `local`";
                return self.fail("call-argument", message, given.span, "given here", help);
            }
            let value = self.whole_array(name, (given, value))?;
            found.initial.push((StateId(at as u32), value));
        } else if let Some(at) = callee.axes.iter().position(|axis| axis.name == given.name) {
            let size = self.size(value, &Scope::default())?;
            found.sizes.push((AxisId(at as u32), size, value.span));
        } else if !self.compile_time_params(&name.name).contains(&given.name.as_str()) {
            let known = callee.tensors.iter().map(|tensor| tensor.name.as_str());
            let help = match nearest(&given.name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its inputs and params are {}", known.collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`{}` has nothing called `{}`", name.name, given.name);
            return self.fail("unknown-argument", message, given.span, "given here", &help);
        }
        Some(())
    }

    /// An argument's value: a whole array that no scan makes.
    fn whole_array(&mut self, name: &Ident, (given, value): (&Ident, &'a ast::Expr)) -> Checked {
        let id = self.expr(value, &mut Scope::default())?;
        let id = self.numeric(id);
        let depends = self.arena.depends(id);
        if depends.scan || depends.read {
            let message = format!("`{}` of `{}` is made in this variant's own scan", given.name, name.name);
            let help = "a call is a stage before the scan: write the scan as a variant above, and call both";
            return self.fail("call-scan", message, value.span, "a value per token of the scan", help);
        }
        match self.ty(id) {
            Ty::Row(_) => self.transpose(id, value.span),
            _ => Some(id),
        }
    }

    /// A value for every input and param of the callee, in their order: params that are left out are the caller's own.
    fn all_tensors(&mut self, name: &Ident, callee: &Variant, given: Option<&Arguments>) -> Checked<Vec<ExprId>> {
        let given = given?;
        let mut all = Some(Vec::new());
        for (at, tensor) in callee.tensors.iter().enumerate() {
            let found = given.tensors.iter().find(|(id, _)| id.index() == at).map(|(_, value)| *value);
            let own = || tensor.role == TensorRole::Param && self.names.contains_key(&tensor.name);
            let value = match found {
                Some(value) => Some(value),
                None if own() => self.own_array(&tensor.name, name.span),
                None => {
                    let (what, help) = match tensor.role {
                        TensorRole::Input => ("input", format!("give it: `{}({} = ...)`", name.name, tensor.name)),
                        TensorRole::Param => {
                            let help = "give it, or declare it here under its name: `param {0} : [...];`";
                            ("param", help.replace("{0}", &tensor.name))
                        }
                    };
                    let message = format!("`{}` is not given its {what} `{}`", name.name, tensor.name);
                    self.fail("call-argument", message, name.span, "called without it", &help)
                }
            };
            all = all.zip(value).map(|(mut all, value)| {
                all.push(value);
                all
            });
        }
        all
    }

    /// The caller's own array of a name.
    fn own_array(&mut self, name: &str, span: Span) -> Checked {
        match self.names.get(name).map(|named| named.binding)? {
            Binding::Tensor(id) => {
                let shape = self.tensor_shape(id);
                Some(self.node(ExprKind::Tensor(id), Ty::Array(shape), span))
            }
            Binding::Let(id) => self.whole_let(id, span),
            Binding::Arg(value) => Some(self.number_node(value, span)),
            Binding::Poison => None,
            Binding::Axis(_) | Binding::State(_) => {
                let message = format!("`{name}` is no array here, and the variant called wants one of that name");
                self.fail("call-argument", message, span, "called here", "give it by name")
            }
        }
    }

    /// What a checked argument is: a tensor or a result where it lies, else a value.
    fn given(&self, value: ExprId) -> Given {
        match self.arena.get(value).kind {
            ExprKind::Tensor(tensor) => Given::Tensor { tensor, entry: None },
            ExprKind::Result { call, result } => Given::Result { call, result },
            ExprKind::Let(id) => match self.variant.lets[id.index()].value {
                LetValue::Expr(of) if self.variant.lets[id.index()].indices.is_empty() => match self.given(of) {
                    Given::Value(_) => Given::Value(value),
                    lies => lies,
                },
                _ => Given::Value(value),
            },
            _ => Given::Value(value),
        }
    }

    /// What every axis of the callee is here.
    fn axes_of_call(
        &mut self,
        name: &Ident,
        callee: &Variant,
        (tensors, given): (&[ExprId], &Arguments),
    ) -> Checked<Vec<Size>> {
        let mut unknowns = Unknowns::of(callee);
        for (at, axis) in callee.axes.iter().enumerate() {
            let around =
                self.variant.axes.iter().position(|own| {
                    own.kind == AxisKind::Batch && axis.kind == AxisKind::Batch && own.name == axis.name
                });
            if let Some(own) = around {
                unknowns.give(AxisId(at as u32), Size::axis(AxisId(own as u32)), "the caller");
            }
        }
        let mut fine = true;
        for (axis, size, span) in &given.sizes {
            let by = format!("`{}`", callee.axes[axis.0 as usize].name);
            unknowns.equations.push(Equation { size: Size::axis(*axis), found: size.clone(), by, span: *span });
        }
        for (tensor, value) in callee.tensors.iter().zip(tensors) {
            let wanted = tensor.dims.iter().filter(|dim| !self.is_around(callee, dim)).map(|dim| dim.size.clone());
            let what = format!("`{}`", tensor.name);
            fine &= self.equate((name, callee), (&what, wanted.collect(), *value), &mut unknowns).is_some();
        }
        for (state, value) in &given.initial {
            let state = &callee.states[state.index()];
            let what = format!("the state `{}`", state.name);
            // A scalar fills the state.
            if !self.ty(*value).is_scalar() {
                let batch = callee.axes.iter().enumerate().filter(|(_, axis)| axis.kind == AxisKind::Batch);
                let batch = batch.map(|(at, _)| Size::axis(AxisId(at as u32)));
                let batch = batch.filter(|size| unknowns.there(size).is_none());
                let wanted = batch.chain(state.dims.iter().cloned()).collect();
                fine &= self.equate((name, callee), (&what, wanted, *value), &mut unknowns).is_some();
            }
        }
        unknowns.solve();
        self.own_grid(&mut unknowns);
        unknowns.solve();
        if !fine {
            return None;
        }
        self.agree(name, &unknowns)?;
        self.all_known(name, &unknowns)
    }

    /// Whether the caller is inside of a dim of the callee's.
    fn is_around(&self, callee: &Variant, dim: &TensorDim) -> bool {
        let (Some(BatchDim::Index(axis)) | Some(BatchDim::Group { of: axis, .. })) = &dim.batch else { return false };
        let name = &callee.axes[axis.0 as usize].name;
        self.variant.axes.iter().any(|own| own.kind == AxisKind::Batch && own.name == *name)
    }

    /// The equations between the dims wanted and those of a value.
    fn equate(
        &mut self,
        (name, callee): (&Ident, &Variant),
        (what, wanted, value): (&str, Vec<Size>, ExprId),
        unknowns: &mut Unknowns,
    ) -> Checked<()> {
        let (found, span) = (self.ty(value).dims(), self.span(value));
        if found.len() != wanted.len() {
            let list: Vec<String> = wanted.iter().map(|size| size.print(&|axis| callee.axis_name(axis))).collect();
            let found = self.type_text(&Ty::Array(found));
            let message = format!("{what} of `{}` is [{}], and this is {found}", name.name, list.join(","));
            let help = "an argument has the declared shape without the batch axes that this variant is inside of";
            return self.fail("call-argument", message, span, &format!("{found} here"), help);
        }
        let by = what.to_string();
        let equations =
            wanted.into_iter().zip(found).map(|(size, found)| Equation { size, found, by: by.clone(), span });
        unknowns.equations.extend(equations);
        Some(())
    }

    /// Tokens of this variant on its grid are on the callee's where nothing else says its sides. Groups of heads of which this
    /// variant is inside are heads.
    fn own_grid(&self, unknowns: &mut Unknowns) {
        let callee = unknowns.callee;
        let known = |unknowns: &Unknowns, axis: AxisId| unknowns.known[axis.0 as usize].clone().map(|(size, _)| size);
        let tokens = callee.token.and_then(|axis| known(unknowns, axis));
        if let (Some(theirs), Some(own)) = (&callee.grid, &self.variant.grid)
            && tokens.is_some_and(|size| self.is_token_size(&size))
        {
            for (side, size) in [(&theirs.rows, &own.rows), (&theirs.cols, &own.cols)] {
                if let Some(axis) = side.as_axis() {
                    unknowns.give(axis, size.clone(), "the caller's grid");
                }
            }
            unknowns.solve();
        }
        let head = callee.head.and_then(|axis| known(unknowns, axis));
        if let Some(head) = head {
            for (at, axis) in callee.axes.iter().enumerate() {
                if axis.kind == AxisKind::Group {
                    unknowns.give(AxisId(at as u32), head.clone(), "the caller's heads");
                }
            }
        }
    }

    /// Whether every equation holds.
    fn agree(&mut self, name: &Ident, unknowns: &Unknowns) -> Checked<()> {
        let mut fine = true;
        for Equation { size, found, by, span } in &unknowns.equations {
            let Some(there) = unknowns.there(size) else { continue };
            if self.same_size(&there, found) {
                continue;
            }
            let axis = size.print(&|axis| unknowns.callee.axis_name(axis));
            let [there, found] = [&there, found].map(|size| self.size_text(size));
            let giver = size.as_axis().and_then(|axis| unknowns.known[axis.0 as usize].clone());
            let giver = giver.map_or(String::new(), |(_, by)| format!(" by {by}"));
            let message = format!("`{axis}` of `{}` is {there}{giver}, and {found} by {by}", name.name);
            let help = "arrays that share an axis of the variant called have one size there";
            self.fail::<()>("call-axis", message, *span, &format!("{found} here"), help);
            fine = false;
        }
        for (at, axis) in unknowns.callee.axes.iter().enumerate() {
            let (Some(value), Some((size, _))) = (&axis.value, &unknowns.known[at]) else { continue };
            let Some(there) = unknowns.there(value).filter(|there| fine && !self.same_size(there, size)) else {
                continue;
            };
            let definition = value.print(&|axis| unknowns.callee.axis_name(axis));
            let [there, size] = [&there, size].map(|size| self.size_text(size));
            let message = format!(
                "`{}` of `{}` is {definition}, which is {there} here, and {size} is given",
                axis.name, name.name
            );
            self.fail::<()>("call-axis", message, name.span, "called here", "give arrays of sizes that fit each other");
            fine = false;
        }
        fine.then_some(())
    }

    fn all_known(&mut self, name: &Ident, unknowns: &Unknowns) -> Checked<Vec<Size>> {
        let (callee, mut sizes) = (unknowns.callee, Vec::new());
        let mut missing: Vec<&str> = Vec::new();
        for (at, known) in unknowns.known.iter().enumerate() {
            match known {
                Some((size, _)) => sizes.push(size.clone()),
                None => missing.push(&callee.axes[at].name),
            }
        }
        if missing.is_empty() {
            return Some(sizes);
        }
        let is_side = |axis: &AxisId| missing.contains(&callee.axes[axis.0 as usize].name.as_str());
        let side = callee.grid.as_ref().filter(|grid| grid.rows.mul(&grid.cols).axes().iter().any(is_side));
        let message = match side {
            Some(_) => format!("nothing gives the sides of the grid of `{}`: {}", name.name, missing.join(", ")),
            None => format!("nothing gives `{}` its {}", name.name, missing.join(", ")),
        };
        let help = format!("say it: `{}({} = ...)`", name.name, missing.join(" = ..., "));
        self.fail("call-axis", message, name.span, "called here", &help)
    }
}

/// `o`, or `(o, w)`.
fn bracketed(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_string(),
        _ => format!("({})", names.join(", ")),
    }
}

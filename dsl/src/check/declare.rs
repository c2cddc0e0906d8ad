//! Declarations: inputs, params, states and functions.

use std::collections::HashSet;

use crate::advice;
use crate::ast::{self, Decl, Ident};
use crate::shape::Size;
use crate::typed::{self, AxisKind, BatchDim, Dtype, State, StateId, Tensor, TensorDim, TensorId, TensorRole, Ty};

use super::scope::{Binding, Callee, Meaning, Scope};
use super::{Checked, Checker};

impl<'a> Checker<'a> {
    pub(super) fn tensors(&mut self, decls: &'a [Decl], role: TensorRole) {
        for decl in decls {
            let dtype = self.dtype(decl.dtype.as_ref());
            let dims = self.tensor_dims(&decl.dims);
            if let Some(init) = &decl.init {
                let help = "inputs and params are given at run time; a default stands on a parameter of the variant";
                self.fail::<()>("initial-value", "only a state has an initial value".into(), init.span, "here", help);
            }
            if let Some(way) = &decl.within {
                let message = "only a state scans in a direction".to_string();
                self.fail::<()>("state-direction", message, way.span, "here", "leave out `in`");
            }
            for name in &decl.names {
                match (dtype, &dims) {
                    (Some(dtype), Some(dims)) => self.declare_tensor(name, role, dtype, dims.clone()),
                    _ => self.poison(name),
                }
            }
        }
    }

    fn declare_tensor(&mut self, name: &Ident, role: TensorRole, dtype: Dtype, dims: Vec<TensorDim>) {
        let id = TensorId(u32::try_from(self.variant.tensors.len()).expect("a file has fewer than 2^32 tensors"));
        if self.declare(name, Binding::Tensor(id)).is_some() {
            self.variant.tensors.push(Tensor { name: name.name.clone(), span: name.span, role, dtype, dims });
        }
    }

    fn dtype(&mut self, dtype: Option<&Ident>) -> Checked<Dtype> {
        match dtype.map(|ident| (ident, ident.name.as_str())) {
            None | Some((_, "f32")) => Some(Dtype::F32),
            Some((_, "i32")) => Some(Dtype::I32),
            Some((ident, name)) => self.fail(
                "unknown-type",
                format!("`{name}` is no type of numbers"),
                ident.span,
                "not known here",
                advice::number_type(name).unwrap_or("write `f32` (or nothing) or `i32`"),
            ),
        }
    }

    fn tensor_dims(&mut self, dims: &'a [ast::Expr]) -> Checked<Vec<TensorDim>> {
        let scope = Scope::default();
        let sizes: Vec<Checked<TensorDim>> = dims.iter().map(|dim| self.tensor_dim(dim, &scope)).collect();
        let dims_known: Option<Vec<TensorDim>> = sizes.into_iter().collect();
        let dims_known = dims_known?;
        for (place, dim) in dims_known.iter().enumerate() {
            let twice = dim.batch.is_some() && dims_known[..place].iter().any(|other| other.batch == dim.batch);
            if twice {
                let message = format!("the batch axis `{}` stands twice in one shape", self.size_text(&dim.size));
                return self.fail("batch-axis-twice", message, dims[place].span, "the second time", "");
            }
        }
        Some(dims_known)
    }

    fn tensor_dim(&mut self, dim: &'a ast::Expr, scope: &Scope<'a>) -> Checked<TensorDim> {
        if let ast::ExprKind::Name(name) = &dim.kind
            && let Some(Meaning::Bound(Binding::Axis(id))) = self.meaning(name, scope)
        {
            let batch = match self.variant.axes[id.0 as usize].kind {
                AxisKind::Batch => Some(BatchDim::Index(id)),
                AxisKind::Group => self.group(id),
                AxisKind::Own => None,
            };
            // As written: a lone axis is bound by the tensor, derived or not.
            return Some(TensorDim { size: Size::axis(id), batch });
        }
        let size = self.size(dim, scope)?;
        if let Some(n) = size.as_constant()
            && n < 0
        {
            let message = format!("a size cannot be negative: {n}");
            return self.fail("not-a-size", message, dim.span, "negative here", "");
        }
        Some(TensorDim { size, batch: None })
    }

    /// Where heads read an axis G of `H = G*R`.
    fn group(&self, group: crate::shape::AxisId) -> Option<BatchDim> {
        let head = self.variant.head?;
        let value = self.variant.axes[head.0 as usize].value.clone()?;
        let one = Size::constant(1);
        // H / G: the other factor is what the product leaves with G at 1.
        let ratio = value.substitute(&|axis| (axis == group).then(|| one.clone()));
        Some(BatchDim::Group { of: head, ratio })
    }

    pub(super) fn declare_states(&mut self, decls: &'a [Decl]) {
        for decl in decls {
            let shape = self.state_dims(decl);
            let init = self.initial_value(decl, shape.as_deref());
            let reverse = decl.within.as_ref().is_some_and(|way| self.direction(way));
            for name in &decl.names {
                match (&shape, init) {
                    (Some(dims), Some(init)) => {
                        let (name, span) = (name.name.clone(), name.span);
                        self.declare_state(State { name, span, dims: dims.clone(), init, reverse, decay: None });
                    }
                    _ => self.poison(name),
                }
            }
        }
        if self.variant.token.is_none()
            && !self.names.contains_key("T")
            && let Some(decl) = decls.first()
        {
            let help = self.token_mend().unwrap_or_else(|| "list it: `axes T;`".to_string());
            let message = "a state is updated token by token, and this variant has no axis `T`".to_string();
            self.fail::<()>("no-token-axis", message, decl.span, "needs tokens", &help);
        }
    }

    /// Whether a state scans backwards: `in reverse`.
    fn direction(&mut self, way: &Ident) -> bool {
        if way.name != "reverse" {
            let message = format!("a state scans in the order, or `in reverse`, not `in {}`", way.name);
            self.fail::<()>(
                "state-direction",
                message,
                way.span,
                "not a direction",
                "write `in reverse` or leave it out",
            );
        }
        way.name == "reverse"
    }

    fn declare_state(&mut self, state: State) {
        let id = StateId(u32::try_from(self.variant.states.len()).expect("a file has fewer than 2^32 states"));
        let name = Ident { name: state.name.clone(), span: state.span };
        if self.declare(&name, Binding::State(id)).is_some() {
            self.variant.states.push(state);
        }
    }

    /// States that scan both ways: those of one direction go first, so their updates use none of the other. `finish` calls
    /// it when the whole variant is read.
    pub(super) fn states_both_ways(&mut self) {
        let Some(state) = self.variant.states.iter().find(|state| state.reverse) else { return };
        let (name, span) = (state.name.clone(), state.span);
        if self.variant.locals.iter().any(|local| matches!(local.kind, typed::LocalKind::Window { .. })) {
            let message = format!("`{name}` scans in reverse under a window");
            let help = "leave out the window, or write the sum over tokens: `sum[j](..)`";
            self.fail::<()>("states-both-ways", message, span, "in reverse", help);
        }
        let updates: Vec<(StateId, typed::ExprId)> = self
            .variant
            .body
            .iter()
            .filter_map(|stmt| match stmt {
                typed::Stmt::Update(update) => Some((update.state, update.value)),
                _ => None,
            })
            .collect();
        let crossing = |reverse: bool| {
            let own = updates.iter().filter(|(of, _)| self.variant.states[of.index()].reverse == reverse);
            own.map(|(of, value)| (*of, self.states_below(*value)))
                .find(|(_, below)| below.iter().any(|other| self.variant.states[other.index()].reverse != reverse))
        };
        if let (Some((forward, _)), Some((backward, _))) = (crossing(false), crossing(true)) {
            let states = &self.variant.states;
            let message = format!(
                "the updates of `{}` and `{}` each read a state that scans the other way",
                states[forward.index()].name,
                states[backward.index()].name
            );
            let span = states[backward.index()].span;
            let help = "one direction goes first, and its updates read only states of their own direction";
            self.fail::<()>("states-both-ways", message, span, "waits for the other", help);
        }
    }

    /// The states that a value mentions, by lets too.
    fn states_below(&self, value: typed::ExprId) -> HashSet<StateId> {
        let (mut states, mut seen, mut below) = (HashSet::new(), HashSet::new(), vec![value]);
        while let Some(id) = below.pop() {
            if !seen.insert(id) {
                continue;
            }
            let kind = self.arena.get(id).kind.clone();
            match kind {
                typed::ExprKind::StateOld(state) | typed::ExprKind::StateNew(state) => {
                    states.insert(state);
                }
                typed::ExprKind::Let(of) => match &self.variant.lets[of.index()].value {
                    typed::LetValue::Expr(value) => below.push(*value),
                    typed::LetValue::Iterate { init, step, .. } => below.extend([*init, *step]),
                    typed::LetValue::Norm { of, .. } => {
                        if let typed::LetValue::Expr(value) = self.variant.lets[of.index()].value {
                            below.push(value);
                        }
                    }
                },
                kind => below.extend(kind.children()),
            }
        }
        states
    }

    fn state_dims(&mut self, decl: &'a Decl) -> Checked<Vec<Size>> {
        let dims = self.tensor_dims(&decl.dims)?;
        if let Some(place) = dims.iter().position(|dim| dim.batch.is_some()) {
            return self.fail(
                "state-batch-axis",
                format!(
                    "`{}` is a batch axis: every batch element has its own state",
                    self.size_text(&dims[place].size)
                ),
                decl.dims[place].span,
                "leave this axis out",
                "a state's shape is that for one batch element and one head: `state S : [K,V] = 0;`",
            );
        }
        if dims.len() > 2 {
            let message = format!("a state is a scalar, a vector or a matrix, not of {} axes", dims.len());
            return self.fail("state-rank", message, decl.span, "too many axes", "");
        }
        // In types a derived axis is what it equals.
        Some(dims.iter().map(|dim| dim.size.as_axis().map_or(dim.size.clone(), |id| self.axis_size(id))).collect())
    }

    fn initial_value(&mut self, decl: &'a Decl, shape: Option<&[Size]>) -> Checked {
        let Some(init) = &decl.init else {
            return Some(self.number_node(0.0, decl.span));
        };
        let value = self.expr(init, &mut Scope::default())?;
        if self.mentions_input(value) || self.arena.depends(value).scan {
            let help = "write a number or a param; a state given at run time replaces it";
            let message = "an initial value is a constant or a param".to_string();
            return self.fail("initial-value", message, init.span, "depends on an input", help);
        }
        let ty = self.ty(value);
        let shape = shape?;
        if ty.is_scalar() || self.same_type(&ty, &Ty::Array(shape.to_vec())) {
            return Some(value);
        }
        let (found, wanted) = (self.type_text(&ty), self.dims_text(shape));
        self.fail(
            "shape-mismatch",
            format!("the initial value is {found}, the state {wanted}"),
            init.span,
            &format!("{found} here"),
            "a scalar fills the state; else the shapes must be equal",
        )
    }

    fn mentions_input(&self, root: typed::ExprId) -> bool {
        let (mut open, mut seen) = (vec![root], HashSet::new());
        while let Some(id) = open.pop() {
            match &self.arena.get(id).kind {
                typed::ExprKind::Tensor(tensor) if self.variant.tensors[tensor.index()].role == TensorRole::Input => {
                    return true;
                }
                typed::ExprKind::Let(_) => return true,
                kind if seen.insert(id) => open.extend(kind.children()),
                _ => {}
            }
        }
        false
    }

    pub(super) fn function(&mut self, f: &'a ast::Function) {
        self.functions.insert(f.name.name.clone(), Callee { params: &f.params, body: &f.body });
        self.expansions.forget();
    }
}

//! Decays and laws: a law becomes the equation it stands for, several on one state one equation.

use crate::ast::{self, ExprKind as Ast, Ident, Lhs, Named};
use crate::diagnostic::Diagnostic;
use crate::shape::Size;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{ExprId, ExprKind, Function, IndexId, LetId, LetKind, StateId, Stmt, Ty, Update};

use super::scope::{Binding, Scope};
use super::{Checked, Checker};

pub(super) const LAWS: &[&str] = &["additive", "gated", "delta"];

/// A decay that the laws below it use.
#[derive(Debug, Clone)]
pub(super) struct DecayInForce {
    /// The states it is on; None: all.
    pub on: Option<Vec<StateId>>,
    /// None if it is wrong and reported.
    pub value: Option<LetId>,
    pub span: Span,
}

impl DecayInForce {
    fn applies(&self, state: StateId) -> bool {
        self.on.as_ref().is_none_or(|on| on.contains(&state))
    }
}

/// A law's arguments, at the token, and the state it is on.
struct Law<'n> {
    state: StateId,
    dims: Vec<Size>,
    name: &'n Ident,
    span: Span,
    /// P, what the state's decay or the laws before leave.
    p: ExprId,
    /// The decay at the token.
    decay: Option<ExprId>,
}

impl<'a> Checker<'a> {
    pub(super) fn decay(&mut self, lhs: &'a Lhs, value: Option<&'a ast::Expr>, on: &'a [Ident]) {
        let states: Vec<Checked<StateId>> = on.iter().map(|name| self.state_named(name)).collect();
        let states: Option<Vec<StateId>> = states.into_iter().collect();
        let id = self.decay_value(lhs, value);
        if id.is_none() && value.is_some() {
            self.poison(&lhs.name);
        }
        let Some(states) = states else { return };
        let decay = DecayInForce { on: (!on.is_empty()).then_some(states), value: id, span: lhs.span };
        self.one_decay(&decay);
        for (state, name) in decay.on.iter().flatten().zip(on) {
            if self.states.get(state).is_some_and(|progress| progress.seen > 0) {
                let message = format!("the decay of `{}` stands below its first update", name.name);
                let help = "a decay applies once, before the first law: move it above";
                self.fail::<()>("decay-after-law", message, lhs.span, "too late", help);
            } else if let Some(id) = decay.value {
                self.decay_fits(*state, id, lhs.span);
            }
        }
        self.decays.push(decay);
    }

    fn one_decay(&mut self, decay: &DecayInForce) {
        let all = (0..).map(StateId).take(self.variant.states.len());
        let states: Vec<StateId> = decay.on.clone().unwrap_or_else(|| all.collect());
        for state in states {
            let free = self.states.get(&state).is_none_or(|progress| progress.seen == 0);
            let first = self.decays.iter().find(|other| other.applies(state));
            if let (true, Some(first)) = (free, first) {
                let error = Diagnostic::new(
                    "several-decays",
                    format!("the state `{}` has two decays", self.variant.states[state.index()].name),
                );
                let error = error
                    .label(decay.span, "the second")
                    .label(first.span, "the first")
                    .help("say which states each is on: `decay a[t] = ... on S;`, or multiply them");
                self.report(error);
                return;
            }
        }
    }

    fn decay_value(&mut self, lhs: &'a Lhs, value: Option<&'a ast::Expr>) -> Checked<LetId> {
        if lhs.subscripts.len() > 1 {
            let message = "a decay is per token, or constant".to_string();
            return self.fail("left-subscript", message, lhs.span, "too many subscripts", "write `decay a[t] = ...;`");
        }
        let id = match value {
            Some(value) => self.define(lhs, value, LetKind::Decay)?,
            None => self.named_decay(lhs)?,
        };
        let found = &self.variant.lets[id.index()];
        let per_other = found.indices.first().is_some_and(|index| !self.variant.indices[index.index()].token);
        if per_other {
            let message = "a decay is per token, or constant".to_string();
            return self.fail("left-subscript", message, lhs.span, "no token index", "write `decay a[t] = ...;`");
        }
        let whole = found.indices.is_empty() && found.ty.dims().first().is_some_and(|dim| self.is_token_size(dim));
        if whole {
            let name = lhs.name.name.clone();
            let message = format!("`{name}` without a subscript is the values of all tokens");
            let help = match value {
                Some(_) => format!("write `decay {name}[t] = ...;`"),
                None => format!("write `decay {name}[t];`"),
            };
            return self.fail("decay-shape", message, lhs.span, "a whole sequence", &help);
        }
        Some(id)
    }

    /// `decay g0[t] on z;`: the value of a name, as a let of its own unless it is one already.
    fn named_decay(&mut self, lhs: &'a Lhs) -> Checked<LetId> {
        let mut scope = self.left_scope(&lhs.subscripts, None)?;
        let (array, whole) = match self.names.get(&lhs.name.name).map(|named| named.binding) {
            Some(Binding::Let(id)) if self.variant.lets[id.index()].indices.len() == lhs.subscripts.len() => {
                return Some(id);
            }
            Some(Binding::Let(id)) => (ExprKind::Let(id), self.let_dims(id)),
            Some(Binding::Tensor(id)) => (ExprKind::Tensor(id), self.tensor_shape(id)),
            Some(Binding::Arg(value)) => (ExprKind::Number(value), Vec::new()),
            Some(Binding::Poison) => return None,
            Some(_) => {
                let message = format!("`{}` is no value per token", lhs.name.name);
                return self.fail("decay-shape", message, lhs.name.span, "named here", "");
            }
            None => return self.undeclared(&lhs.name.name, lhs.name.span, &Scope::default()),
        };
        let mut value = self.node(array, Ty::Array(whole.clone()), lhs.name.span);
        let token = scope.token;
        let indices: Vec<IndexId> = scope.indices.drain(..).map(|(_, id)| id).collect();
        if let Some(index) = indices.first() {
            let Some(first) = whole.first() else {
                let message = format!("`{}` is a scalar, the same for all tokens", lhs.name.name);
                let help = format!("write `decay {};`", lhs.name.name);
                return self.fail("subscript-count", message, lhs.span, "subscripted here", &help);
            };
            let first = first.clone();
            self.check_direct(*index, &first, lhs.span)?;
            let at = self.node(ExprKind::Index(*index), Ty::scalar(), lhs.span);
            let ty = Ty::Array(whole[1..].to_vec());
            value = self.node(ExprKind::Subscript { base: value, at: vec![at] }, ty, lhs.span);
        }
        self.new_let(&lhs.name, LetKind::Decay, indices, value, token)
    }

    /// Whether a decay's shape fits a state's.
    fn decay_fits(&mut self, state: StateId, id: LetId, span: Span) -> Checked<()> {
        let (ty, dims) = (self.variant.lets[id.index()].ty.clone(), self.variant.states[state.index()].dims.clone());
        let own = matches!(&ty, Ty::Array(a) if a.is_empty() || self.same_dims(a, &dims));
        let rows = matches!((&ty, dims.as_slice()), (Ty::Array(a), [k, _]) if a.len() == 1 && self.same_size(&a[0], k));
        if own || rows {
            return Some(());
        }
        let (found, wanted) = (self.type_text(&ty), self.type_text(&Ty::Array(dims.clone())));
        let name = self.variant.states[state.index()].name.clone();
        let message = format!("a decay of {found} does not fit the state `{name}`, {wanted}");
        let help = match dims.as_slice() {
            [k, _] => format!("a scalar, [{}] (rows), or the state's own shape", self.size_text(k)),
            _ => "a scalar, or the state's own shape".to_string(),
        };
        self.fail("decay-shape", message, span, &format!("{found} here"), &help)
    }

    pub(super) fn law(&mut self, state: &'a Ident, law: &'a Named, span: Span) {
        let Some(id) = self.state_named(state) else { return };
        let result = self.check_law(id, state, law, span);
        let total = self.update_counts.get(&state.name).copied().unwrap_or(0);
        let decays = self.decays.len();
        let progress = self.states.entry(id).or_default();
        if progress.seen == 0 {
            progress.decays = decays;
        }
        progress.seen += 1;
        progress.failed |= result.is_none();
        progress.first.get_or_insert((span, false));
        progress.value = result.map(|(value, _)| value);
        let complete = progress.seen == total && !progress.failed;
        if let (true, Some((value, index))) = (complete, result) {
            self.variant.body.push(Stmt::Update(Update { state: id, span, value, index }));
        }
    }

    fn check_law(&mut self, id: StateId, name: &'a Ident, law: &'a Named, span: Span) -> Checked<(ExprId, IndexId)> {
        self.only_update(id, name, span, false)?;
        if !LAWS.contains(&law.name.name.as_str()) {
            let help = match nearest(&law.name.name, LAWS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "the laws are additive, gated and delta; or write the recurrence, `update S[t] = ...;`".into(),
            };
            return self.fail("unknown-law", format!("no law `{}`", law.name.name), law.name.span, "not known", &help);
        }
        // A state without a token axis is reported where it is declared.
        let (index, mut scope) = self.token_scope()?;
        let progress = self.states.get(&id).cloned().unwrap_or_default();
        if progress.failed {
            return None;
        }
        let decay = self.decay_at(id, index, span)?;
        let dims = self.variant.states[id.index()].dims.clone();
        let old = self.node(ExprKind::StateOld(id), Ty::Array(dims.clone()), span);
        let p = match (progress.value, decay) {
            (Some(before), _) => before,
            (None, None) => old,
            (None, Some(decay)) => self.decayed(decay, old, &dims, span)?,
        };
        let args = self.law_arguments(law, index, &mut scope)?;
        let on = Law { state: id, dims, name: &law.name, span, p, decay };
        let value = match law.name.name.as_str() {
            "additive" => self.additive(&on, &args),
            "gated" => self.gated(&on, &args),
            _ => self.delta(&on, &args),
        }?;
        self.inside_scan(name, value)?;
        Some((value, index))
    }

    /// The state's decay at the token; the inner None: it has none.
    fn decay_at(&mut self, state: StateId, index: IndexId, span: Span) -> Checked<Option<ExprId>> {
        let progress = self.states.get(&state);
        let above = progress.filter(|progress| progress.seen > 0).map_or(self.decays.len(), |progress| progress.decays);
        let Some(decay) = self.decays[..above].iter().find(|decay| decay.applies(state)).cloned() else {
            return Some(None);
        };
        let id = decay.value?;
        if decay.on.is_none() {
            self.decay_fits(state, id, decay.span)?;
        }
        self.variant.states[state.index()].decay = Some(id);
        let found = self.variant.lets[id.index()].clone();
        let whole = if found.indices.is_empty() { found.ty.clone() } else { Ty::Array(self.let_dims(id)) };
        let array = self.node(ExprKind::Let(id), whole, span);
        if found.indices.is_empty() {
            return Some(Some(array));
        }
        let at = self.node(ExprKind::Index(index), Ty::scalar(), span);
        Some(Some(self.node(ExprKind::Subscript { base: array, at: vec![at] }, found.ty, span)))
    }

    /// A S[t-1] by the decay's shape.
    fn decayed(&mut self, decay: ExprId, old: ExprId, dims: &[Size], span: Span) -> Checked {
        if self.ty(decay).dims().len() == 1 && dims.len() == 2 {
            let ty = Ty::Array(vec![dims[0].clone(), dims[0].clone()]);
            let diagonal = self.node(ExprKind::Diag(decay), ty, span);
            return self.product(diagonal, old, span);
        }
        self.map(Function::Mul, &[decay, old], span)
    }

    /// The arguments at the token: values per token subscripted, params as they are.
    fn law_arguments(&mut self, law: &'a Named, index: IndexId, scope: &mut Scope<'a>) -> Checked<Vec<(ExprId, Span)>> {
        let args: Vec<Checked<(ExprId, Span)>> = law
            .args
            .iter()
            .map(|arg| self.law_argument(&arg.value, index, scope).map(|id| (id, arg.value.span)))
            .collect();
        args.into_iter().collect()
    }

    fn law_argument(&mut self, arg: &'a ast::Expr, index: IndexId, scope: &mut Scope<'a>) -> Checked {
        let name = match &arg.kind {
            Ast::Name(name) => name,
            Ast::Number(value) => return Some(self.number_node(*value, arg.span)),
            Ast::Subscript { .. } => {
                let help = "a law takes its values at the token by itself: leave the subscript out";
                let message = "a law's arguments are names without subscripts".to_string();
                return self.fail("law-argument", message, arg.span, "subscripted here", help);
            }
            _ => {
                let help = "name it first: `let x[t] = ...;`";
                let message = "a law's arguments are names of values per token or params".to_string();
                return self.fail("law-argument", message, arg.span, "an expression here", help);
            }
        };
        let scan_let = match self.names.get(name).map(|named| named.binding) {
            Some(Binding::Let(id)) if self.let_depends_on_scan(id) => Some(id),
            _ => None,
        };
        let array = match scan_let {
            Some(id) => {
                let whole = Ty::Array(self.let_dims(id));
                self.node(ExprKind::Let(id), whole, arg.span)
            }
            // The token's own index is no value per token: `t` here is a name like any other.
            None => self.expr(arg, &mut Scope { token: scope.token, ..Scope::default() })?,
        };
        let ty = self.ty(array);
        match &ty {
            Ty::Array(dims) if dims.first().is_some_and(|first| self.is_token_size(first)) => {
                let ty = match self.arena.get(array).kind {
                    ExprKind::Let(id) if self.variant.lets[id.index()].indices.len() == 1 => {
                        self.variant.lets[id.index()].ty.clone()
                    }
                    _ => Ty::Array(dims[1..].to_vec()),
                };
                let at = self.node(ExprKind::Index(index), Ty::scalar(), arg.span);
                Some(self.node(ExprKind::Subscript { base: array, at: vec![at] }, ty, arg.span))
            }
            _ => Some(array),
        }
    }

    fn law_arity<T>(&mut self, on: &Law<'_>, given: usize, forms: &str) -> Checked<T> {
        let message = format!("`{}` does not take {given} argument(s) on this state", on.name.name);
        self.fail("wrong-arity", message, on.name.span, "this law", &format!("write {forms}"))
    }

    /// An argument of a law must have a shape.
    fn law_shape(&mut self, on: &Law<'_>, what: &str, arg: (ExprId, Span), wanted: &[Size]) -> Checked {
        let ty = self.ty(arg.0);
        if self.same_type(&ty, &Ty::Array(wanted.to_vec())) {
            return Some(arg.0);
        }
        let (found, wanted) = (self.type_text(&ty), self.type_text(&Ty::Array(wanted.to_vec())));
        let state = &self.variant.states[on.state.index()];
        let (name, shape) = (state.name.clone(), self.type_text(&Ty::Array(state.dims.clone())));
        let message =
            format!("the {what} of `{}` is {wanted} per token for `{name} : {shape}`, not {found}", on.name.name);
        let help = self.batch_mend().or_else(|| self.group_mend(&[arg.0])).unwrap_or_default();
        self.fail("shape-mismatch", message, arg.1, &format!("{found} here"), &help)
    }

    /// k v' for a matrix state; k v for a vector or scalar state and scalar v.
    fn outer(&mut self, k: ExprId, v: ExprId, span: Span) -> Checked {
        if self.ty(v).is_scalar() {
            return self.map(Function::Mul, &[k, v], span);
        }
        let row = self.transpose(v, span)?;
        self.product(k, row, span)
    }

    /// The key's and the value's shapes for a state's: [K] and [V].
    fn key_and_value(&self, on: &Law<'_>) -> (Vec<Size>, Vec<Size>) {
        (on.dims[..on.dims.len().min(1)].to_vec(), on.dims.get(1..).unwrap_or_default().to_vec())
    }

    fn additive(&mut self, on: &Law<'_>, args: &[(ExprId, Span)]) -> Checked {
        let (key, value) = self.key_and_value(on);
        let write = match (args, on.dims.len()) {
            ([k, v], 1 | 2) => {
                let (k, v) = (self.law_shape(on, "key", *k, &key), self.law_shape(on, "value", *v, &value));
                self.outer(k?, v?, on.span)?
            }
            ([k], 0 | 1) => self.law_shape(on, "value", *k, &key)?,
            (_, 2) => return self.law_arity(on, args.len(), "`additive(k, v)` on a matrix state"),
            _ => return self.law_arity(on, args.len(), "`additive(k)` on a vector or scalar state"),
        };
        self.map(Function::Add, &[on.p, write], on.span)
    }

    fn gated(&mut self, on: &Law<'_>, args: &[(ExprId, Span)]) -> Checked {
        let Some(decay) = on.decay else {
            let message = "the gate of `gated` is 1 - a, a the state's decay, and it has none".to_string();
            return self.fail(
                "gated-without-decay",
                message,
                on.name.span,
                "nothing is written",
                "declare one above: `decay a[t] = ...;`",
            );
        };
        let (key, value) = self.key_and_value(on);
        let one = self.number_node(1.0, on.span);
        let gate = self.map(Function::Sub, &[one, decay], on.span)?;
        let gate_ty = self.ty(gate);
        let fits = gate_ty.is_scalar() && on.dims.len() != 2 || gate_ty.is_scalar() && args.len() == 2;
        if !fits && !self.same_type(&gate_ty, &Ty::Array(key.clone())) {
            let (found, wanted) = (self.type_text(&gate_ty), self.type_text(&Ty::Array(key)));
            let message = format!("`gated` ties the key to the decay, which must be {wanted} then, not {found}");
            let help = "with a scalar decay say the key: `gated(k, v)`";
            return self.fail("decay-shape", message, on.name.span, &format!("the decay is {found}"), help);
        }
        let write = match (args, on.dims.len()) {
            ([v], 1) if !self.ty(v.0).is_scalar() => {
                let v = self.law_shape(on, "value", *v, &key)?;
                self.map(Function::Mul, &[gate, v], on.span)?
            }
            ([v], _) => {
                let v = self.law_shape(on, "value", *v, &value)?;
                self.outer(gate, v, on.span)?
            }
            ([k, v], _) => {
                let (k, v) = (self.law_shape(on, "key", *k, &key), self.law_shape(on, "value", *v, &value));
                let (k, v) = (k?, v?);
                let gated = self.map(Function::Mul, &[gate, k], on.span)?;
                self.outer(gated, v, on.span)?
            }
            _ => return self.law_arity(on, args.len(), "`gated(v)` or `gated(k, v)`"),
        };
        self.map(Function::Add, &[on.p, write], on.span)
    }

    /// P + beta k (v - P'k)'
    fn delta(&mut self, on: &Law<'_>, args: &[(ExprId, Span)]) -> Checked {
        let [k, v, beta] = args else {
            return self.law_arity(on, args.len(), "`delta(k, v, beta)`");
        };
        let span = on.span;
        let (key, value) = self.key_and_value(on);
        let (k, v) = (self.law_shape(on, "key", *k, &key), self.law_shape(on, "value", *v, &value));
        let scalar_beta = self.ty(beta.0).is_scalar();
        let beta = if scalar_beta { Some(beta.0) } else { self.law_shape(on, "strength", *beta, &value) };
        let (k, v, beta) = (k?, v?, beta?);
        let transposed = self.transpose(on.p, span)?;
        let predicted = self.product(transposed, k, span)?;
        let error = self.map(Function::Sub, &[v, predicted], span)?;
        let write = if scalar_beta {
            let k = self.map(Function::Mul, &[beta, k], span)?;
            self.outer(k, error, span)?
        } else {
            let error = self.map(Function::Mul, &[beta, error], span)?;
            self.outer(k, error, span)?
        };
        self.map(Function::Add, &[on.p, write], span)
    }
}

//! The updates of states: recurrences, and how far each state's updates have come.

use std::collections::HashMap;

use crate::ast::{self, Ident, Lhs, StmtKind};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{ExprId, IndexId, StateId, Stmt, Ty, Update};

use super::scope::Binding;
use super::{Checked, Checker};

/// How far a state's updates have come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Updates read so far.
    pub seen: usize,
    /// The state after the laws so far.
    pub value: Option<ExprId>,
    /// The place of the first update, and whether that is a recurrence.
    pub first: Option<(Span, bool)>,
    /// How many decays stood above the first update: a later one comes too late for this state.
    pub decays: usize,
    /// An update is wrong and reported.
    pub failed: bool,
}

impl<'a> Checker<'a> {
    /// Counts each state's updates, so that the last is known when it comes.
    pub(super) fn count_updates(&mut self, body: &'a [ast::Stmt]) {
        let mut counts = HashMap::new();
        for stmt in body {
            match &stmt.kind {
                StmtKind::Law { state: name, .. } => *counts.entry(name.name.clone()).or_insert(0) += 1,
                StmtKind::Recurrence { lhs, .. } => *counts.entry(lhs.name.name.clone()).or_insert(0) += 1,
                _ => {}
            }
        }
        self.update_counts = counts;
    }

    /// The state that an update or a decay names.
    pub(super) fn state_named(&mut self, name: &Ident) -> Checked<StateId> {
        match self.names.get(&name.name).map(|named| named.binding) {
            Some(Binding::State(id)) => Some(id),
            Some(Binding::Poison) => None,
            None if self.is_unsaid(&name.name) => None,
            Some(_) => {
                let message = format!("`{}` is no state", name.name);
                let help = format!("declare one above: `state {} : [K,V] = 0;`", name.name);
                self.fail("not-a-state", message, name.span, "a state is wanted here", &help)
            }
            None => {
                let error = Diagnostic::new("undeclared-name", format!("no state `{}` is declared above", name.name));
                let help = match self.near_state(&name.name) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("declare it above: `state {} : [K,V] = 0;`", name.name),
                };
                self.report(error.label(name.span, "not known here").help(help));
                None
            }
        }
    }

    fn near_state(&mut self, name: &str) -> Option<String> {
        self.afford(self.variant.states.len())?;
        nearest(name, self.variant.states.iter().map(|state| state.name.as_str())).map(str::to_string)
    }

    /// `S[t]` is read: all updates of the state must stand above.
    pub(super) fn state_after(&mut self, name: &str, id: StateId, span: Span) -> Checked<()> {
        let progress = self.states.get(&id).cloned().unwrap_or_default();
        let total = self.update_counts.get(name).copied().unwrap_or(0);
        // A state without any update is an error of its own.
        if progress.failed || total == 0 {
            return None;
        }
        if progress.seen == total {
            return Some(());
        }
        let message = format!("`{name}[t]` is the state after its update, which does not stand above");
        let help = format!("move this below the update, or read the state before it: `{name}[t-1]`");
        self.fail("state-read-before-update", message, span, "not known yet", &help)
    }

    pub(super) fn recurrence(&mut self, lhs: &'a Lhs, value: &'a ast::Expr, span: Span) {
        let Some(state) = self.state_named(&lhs.name) else { return };
        let result = self.check_recurrence(state, lhs, value, span);
        let progress = self.states.entry(state).or_default();
        progress.seen += 1;
        progress.failed |= result.is_none();
        progress.first.get_or_insert((span, true));
        if let Some((value, index)) = result {
            self.variant.body.push(Stmt::Update(Update { state, span, value, index }));
        }
    }

    fn check_recurrence(
        &mut self,
        state: StateId,
        lhs: &'a Lhs,
        value: &'a ast::Expr,
        span: Span,
    ) -> Checked<(ExprId, IndexId)> {
        self.only_update(state, &lhs.name, span, true)?;
        let scope = self.left_scope(&lhs.subscripts, Some(value))?;
        let (Some(index), [_]) = (scope.token, scope.indices.as_slice()) else {
            let message = "a recurrence is written per token".to_string();
            let help = self.batch_mend().unwrap_or_else(|| format!("write `update {}[t] = ...;`", lhs.name.name));
            return self.fail("left-subscript", message, lhs.span, "one token index is wanted", &help);
        };
        let mut scope = scope;
        let id = self.expr(value, &mut scope)?;
        let id = self.numeric(id);
        self.inside_scan(&lhs.name, id)?;
        let (found, wanted) = (self.ty(id), Ty::Array(self.variant.states[state.index()].dims.clone()));
        if !self.same_type(&found, &wanted) {
            return self.wrong_update(&lhs.name, &found, &wanted, value.span);
        }
        Some((id, index))
    }

    pub(super) fn wrong_update<T>(&mut self, name: &Ident, found: &Ty, wanted: &Ty, span: Span) -> Checked<T> {
        let (f, w) = (self.type_text(found), self.type_text(wanted));
        let message = format!("the state `{}` is {w}, its update {f}", name.name);
        let transposed = match (found, wanted) {
            (Ty::Array(a), Ty::Array(b)) => a.len() == 2 && b.len() == 2 && a[0] == b[1] && a[1] == b[0],
            (Ty::Row(_), Ty::Array(b)) => b.len() == 1,
            _ => false,
        };
        let help = if transposed { "transpose it with `'`" } else { "" };
        self.fail("shape-mismatch", message, span, &format!("{f} here"), help)
    }

    /// A recurrence is its state's only update. `raw`: whether this update is one.
    pub(super) fn only_update(&mut self, state: StateId, name: &Ident, span: Span, raw: bool) -> Checked<()> {
        let first = self.states.get(&state).and_then(|progress| progress.first);
        let (code, message) = match (first, raw) {
            (None, _) | (Some((_, false)), false) => return Some(()),
            (Some((_, true)), true) => ("several-recurrences", format!("`{}` has a second recurrence", name.name)),
            (Some((_, true)), false) => ("law-after-recurrence", format!("`{}` has a recurrence and a law", name.name)),
            (Some((_, false)), true) => ("recurrence-after-law", format!("`{}` has a law and a recurrence", name.name)),
        };
        let before = first.map_or(span, |(before, _)| before);
        let error = Diagnostic::new(code, message)
            .label(span, "one update too many")
            .label(before, "its first update")
            .help("a recurrence is its state's only update: write the whole update in one, or use laws only");
        self.report(error);
        None
    }

    pub(super) fn states_without_update(&mut self) {
        for state in self.variant.states.clone() {
            if self.update_counts.get(&state.name).copied().unwrap_or(0) == 0 {
                let message = format!("the state `{}` is never updated", state.name);
                let help = format!(
                    "say how it changes: `update {0}[t] = ...;` or a law, `update {0} additive(k, v);`",
                    state.name
                );
                self.fail::<()>("state-without-update", message, state.span, "declared here", &help);
            }
        }
    }
}

//! The steps from a raw recurrence to a form: what the e-graphs' proofs say, each rewriting once.

use std::collections::HashSet;

use egg::{Id, Language, RecExpr};

use super::arena::{Arena, Rewriting};
use crate::{
    egraph::{Derived, Stage, cost, extract},
    ir::{Term, facts::Graph, form::roots},
    layout::{Form, Schedule},
    rules::Phase,
};

/// The sorting of sums between the two phases, which is no rule.
pub const SORTED: &str = "sums-are-sorted";

/// One rewriting and every whole term that it led to.
pub struct Step {
    pub what: Rewriting,
    pub phase: Phase,
    pub wholes: Vec<Id>,
}

/// All steps of one state, in order.
pub struct Proof {
    pub arena: Arena,
    pub steps: Vec<Step>,
    /// The raw roots: what every whole term must equal.
    pub raw: Id,
    /// The roots in the form.
    pub form: Id,
}

/// The proof of a form; `None` where the form has no extraction.
pub fn prove(derived: &mut Derived, form: Form) -> Option<Proof> {
    let mut arena = Arena::default();
    let mut steps = Vec::new();
    let normal = extract::extract(&derived.raw.graph, derived.raw.root, &cost::normal)?;
    follow(&mut derived.raw, &normal, Phase::Normalise, &mut arena, &mut steps)?;
    let (unsorted, sorted) = (arena.add_term(&normal), arena.add_term(&derived.forms.term));
    if unsorted != sorted {
        let (before, after) = scans(&normal, &derived.forms.term, &mut arena).unwrap_or((unsorted, sorted));
        let what = Rewriting { rule: SORTED.into(), forward: true, before, after };
        steps.push(Step { what, phase: Phase::Normalise, wholes: vec![sorted] });
    }
    let mut reached = derived.forms.term.clone();
    if form != Form::Recurrent {
        reached = derived.extract(form, Schedule::Fused)?;
        follow(&mut derived.forms, &reached, Phase::Derive, &mut arena, &mut steps)?;
    }
    let (raw, form) = (arena.add_term(&derived.raw.term), arena.add_term(&reached));
    Some(Proof { arena, steps, raw, form })
}

/// The scans of two terms.
fn scans(a: &RecExpr<Term>, b: &RecExpr<Term>, arena: &mut Arena) -> Option<(Id, Id)> {
    let mut scan = |term: &RecExpr<Term>| {
        arena.add_term(term);
        let place = term.as_ref().iter().position(|node| matches!(node, Term::Scan(_)))?;
        Some(arena.add_term(&term[Id::from(place)].build_recexpr(|id| term[id].clone())))
    };
    Some((scan(a)?, scan(b)?))
}

/// Adds the steps from a stage's term to another of the same class.
fn follow(stage: &mut Stage, to: &RecExpr<Term>, phase: Phase, arena: &mut Arena, steps: &mut Vec<Step>) -> Option<()> {
    let known = |graph: &Graph, term: &RecExpr<Term>| graph.lookup_expr(term).map(|id| graph.find(id));
    if known(&stage.graph, &stage.term)? != known(&stage.graph, to)? {
        return None;
    }
    // Root by root: one proof of all would repeat what the roots share at every step.
    let parts = |term: &RecExpr<Term>| -> Vec<RecExpr<Term>> {
        roots(term).into_iter().map(|root| term[root].build_recexpr(|id| term[id].clone())).collect()
    };
    let mut reached: Vec<RecExpr<Term>> = parts(&stage.term);
    let mut seen: HashSet<Rewriting> = steps.iter().map(|step| step.what.clone()).collect();
    for (place, goal) in parts(to).into_iter().enumerate() {
        let mut explanation = stage.graph.explain_equivalence(&reached[place], &goal);
        let flat = explanation.make_flat_explanation();
        let others: Vec<Id> = reached.iter().map(|term| arena.add_term(term)).collect();
        for pair in flat.windows(2) {
            let Some(what) = arena.rewriting(&pair[0], &pair[1]) else { continue };
            let mut all = others.clone();
            all[place] = arena.add_flat(&pair[1]);
            let whole = joined(arena, &all);
            if seen.insert(what.clone()) {
                steps.push(Step { what, phase, wholes: vec![whole] });
            } else if let Some(step) = steps.iter_mut().find(|step| step.what == what) {
                step.wholes.push(whole);
            }
        }
        reached[place] = goal;
    }
    Some(())
}

/// The `roots` term of its parts.
fn joined(arena: &mut Arena, parts: &[Id]) -> Id {
    let (last, rest) = parts.split_last().expect("a system has a final state");
    rest.iter().rev().fold(*last, |tail, &part| arena.add(Term::Roots([part, tail])))
}

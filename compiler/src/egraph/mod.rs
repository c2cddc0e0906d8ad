//! Saturation: a state's raw recurrence to its normal form (phase 1), the normal form to all its forms (phases 2 and 3).
//!
//! The equation itself is put into the e-graph (`S` is united with its update), so classes are cyclic and there are no
//! binders. Phase 1's normal form is extracted before phase 2 starts in a graph of its own: run together the rules
//! grow without end.

pub mod cost;
pub mod extract;

use std::{sync::OnceLock, time::Duration};

use egg::{Id, RecExpr, Runner, SimpleScheduler};

use crate::{
    ir::{
        Term,
        facts::{Graph, Known},
        lower::System,
        normal::{NoNormalForm, Normal},
    },
    layout::{Form, Schedule},
    rules::{Phase, rewrites},
};

/// A state's derivation: its normal form and the saturated graph of its forms.
pub struct Derived {
    pub system: System,
    pub normal: Normal,
    /// Phase 1: `(roots read (roots read .. (fin S)))` of the raw recurrence.
    pub raw: Stage,
    /// Phases 2 and 3: the same of the normal form.
    pub forms: Stage,
    /// The forms whose chunks wait for no other, once they were asked for.
    distributed: OnceLock<Graph>,
}

/// A saturated e-graph and the term it was asked about.
pub struct Stage {
    pub graph: Graph,
    pub root: Id,
    pub term: RecExpr<Term>,
}

/// Whether proofs are recorded: `explain` wants them, compilation is faster without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proofs {
    Off,
    On,
}

/// Limits that a clock has no part in. A graph that reaches one is still sound: it only may lack forms, and a form that
/// it lacks is refused by name. The recurrences of the tests stay below a fiftieth of it.
const NODE_LIMIT: usize = 50_000;
const ITERATION_LIMIT: usize = 80;

/// Derives all forms of one state's recurrence.
pub fn derive(system: System, proofs: Proofs) -> Result<Derived, NoNormalForm> {
    let raw = normalise(&system, proofs);
    let mut extracted = extract::extract(&raw.graph, raw.root, &cost::normal).ok_or(NoNormalForm::Scan)?;
    let mut known = raw.graph.analysis.clone();
    let scan = extracted
        .as_ref()
        .iter()
        .position(|node| matches!(node, Term::Scan(_)))
        .map(Id::from)
        .ok_or(NoNormalForm::Scan)?;
    let normal = Normal::collect(&extracted, scan, &mut known)?;
    extracted = with_scan(&extracted, scan, &normal);
    known.promised = normal.decays().cloned().collect();
    let forms = saturate(extracted, &normal, known, proofs);
    Ok(Derived { system, normal, raw, forms, distributed: OnceLock::new() })
}

impl Derived {
    /// Whether a read is the state itself, not a vector of it.
    pub fn reads_whole(&self) -> bool {
        self.system.reads.iter().any(|read| matches!(read.term.as_ref().last(), Some(Term::State | Term::Prev(_))))
    }

    /// The roots in one form: every read of the system, then the final state.
    pub fn extract(&self, form: Form, schedule: Schedule) -> Option<RecExpr<Term>> {
        let cost = |graph: &Graph, term: &Term| cost::of_form(graph, term, form);
        match schedule {
            Schedule::Fused => extract::extract(&self.forms.graph, self.forms.root, &cost),
            Schedule::Split => {
                let graph = self.distributed();
                let cost = |graph: &Graph, term: &Term| cost(graph, term) + cost::of_waiting(graph, term);
                extract::extract(graph, self.forms.root, &cost)
            }
        }
    }

    /// The forms, and those whose solves wait for no other chunk. A graph of its own: what the further rules add is of
    /// no use to the forms in one kernel.
    fn distributed(&self) -> &Graph {
        self.distributed.get_or_init(|| run(self.forms.graph.clone(), Phase::Distribute))
    }
}

fn run(graph: Graph, phase: Phase) -> Graph {
    Runner::default()
        .with_egraph(graph)
        .with_scheduler(SimpleScheduler)
        .with_iter_limit(ITERATION_LIMIT)
        .with_node_limit(NODE_LIMIT)
        .with_time_limit(Duration::MAX)
        .run(rewrites(phase))
        .egraph
}

fn empty(known: Known, proofs: Proofs) -> Graph {
    let graph = Graph::new(known);
    match proofs {
        Proofs::On => graph.with_explanations_enabled(),
        Proofs::Off => graph,
    }
}

fn normalise(system: &System, proofs: Proofs) -> Stage {
    let mut graph = empty(system.known.clone(), proofs);
    let term = raw_roots(system);
    let root = graph.add_expr(&term);
    let state = graph.add(Term::State);
    let update = graph.add_expr(&system.update);
    graph.union_trusted(state, update, "definition-of-the-state");
    graph.rebuild();
    Stage { graph: run(graph, Phase::Normalise), root, term }
}

fn raw_roots(system: &System) -> RecExpr<Term> {
    let mut term = RecExpr::default();
    let places: Vec<Id> = system.reads.iter().map(|read| append(&mut term, &read.term)).collect();
    let state = term.add(Term::State);
    let mut root = term.add(Term::Final([state]));
    for place in places.into_iter().rev() {
        root = term.add(Term::Roots([place, root]));
    }
    term
}

/// Adds a whole term to another; gives the place of its root.
fn append(term: &mut RecExpr<Term>, other: &RecExpr<Term>) -> Id {
    let mut places: Vec<Id> = Vec::new();
    for node in other.as_ref() {
        let node = egg::Language::map_children(node.clone(), |child| places[usize::from(child)]);
        places.push(term.add(node));
    }
    places.last().copied().expect("a term has a root")
}

/// The term with its scan in canonical order.
fn with_scan(term: &RecExpr<Term>, scan: Id, normal: &Normal) -> RecExpr<Term> {
    let mut rebuilt = RecExpr::default();
    let canonical = normal.scan(&mut rebuilt);
    let mut places: Vec<Id> = Vec::new();
    for (place, node) in term.as_ref().iter().enumerate() {
        let id = if Id::from(place) == scan {
            canonical
        } else {
            rebuilt.add(egg::Language::map_children(node.clone(), |child| places[usize::from(child)]))
        };
        places.push(id);
    }
    rebuilt
}

fn saturate(term: RecExpr<Term>, normal: &Normal, known: Known, proofs: Proofs) -> Stage {
    let mut graph = empty(known, proofs);
    let root = graph.add_expr(&term);
    let mut scan = RecExpr::default();
    normal.scan(&mut scan);
    let (scan, state) = (graph.add_expr(&scan), graph.add(Term::State));
    graph.union_trusted(state, scan, "definition-of-the-state");
    graph.rebuild();
    Stage { graph: run(graph, Phase::Derive), root, term }
}

#[cfg(test)]
mod audit;
#[cfg(test)]
mod tests;

//! The plan: what extraction chose for every state, as one data-flow graph, in the order it is computed.
//!
//! ```text
//! for every chunk            (parallel: one chunk of all tokens)
//!   for every state, in an order in which each needs only reads of those before it
//!     reads      R_i = f_i(values of the program, state before the chunk)
//!     next state S   = f(values of the program, state before the chunk)
//!   outputs from the reads
//! ```
//!
//! States that share values share nodes: a normaliser's scores and masks are those of its state, so it costs one more
//! column. Under `local block(W)` no chunk reaches over a block's end, and the state is set to its initial value there: nothing is
//! multiplied by 0, so that what is not finite stays in its block. `local window(L)` needs no carried state: a chunk looks
//! at itself and the L-1 tokens before it, each pair in the band once, never by subtraction.

pub mod place;
mod print;
#[cfg(test)]
mod tests;
pub mod tiles;

use std::collections::HashMap;

use chunkwise_dsl::typed::{ExprId, LocalKind, StateId, Stmt, Variant};
use egg::{Id, Language, RecExpr};
use petgraph::graph::{DiGraph, NodeIndex};

pub use print::{dot, text};

use crate::{
    Form, Schedule, Unsupported,
    egraph::{self, Derived, Proofs},
    ir::{
        self, Leaf, Term,
        facts::{Definition, Known},
        lower::{self, Blocked, Class, Dependence, System},
        normal::Normal,
    },
};

/// A form of a variant, ready to be lowered.
pub struct Plan {
    pub form: Form,
    pub schedule: Schedule,
    pub graph: DiGraph<Node, ()>,
    pub states: Vec<StatePlan>,
}

/// A value of the plan. Edges run from operands to results; `operands` lists them in order.
#[derive(Debug, Clone)]
pub struct Node {
    pub op: Op,
    pub operands: Vec<NodeIndex>,
    /// A state whose rows and columns the value lies along.
    pub state: StateId,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// A canonical product of values of the program, each with what it stands for.
    Leaf(Leaf, Vec<Definition>),
    /// The state before the chunk.
    Start(StateId),
    /// An operator; its children are the node's operands.
    Term(Term),
    /// A read, as the expression of the program that it is.
    Read(ExprId),
    /// The state after the chunk.
    Next(StateId),
    /// A result of the variant, by name.
    Output(String),
}

/// What is computed of one state.
pub struct StatePlan {
    pub state: StateId,
    pub transposed: bool,
    pub known: Known,
    pub normal: Normal,
    /// The normal form's leaves as nodes, where the state steps token by token.
    pub leaves: Vec<(Leaf, NodeIndex)>,
    pub reads: Vec<(ExprId, NodeIndex)>,
    pub next: NodeIndex,
}

/// The derivations of all states in an order in which each needs only reads of those before it. A refusal names a state,
/// not a form: `Unsupported::of_form` says which was asked for.
pub fn derive(variant: &Variant, proofs: Proofs) -> Result<Vec<Derived>, Unsupported> {
    let dependence = Dependence::new(variant);
    let mut systems = Vec::new();
    for place in 0..variant.states.len() {
        let state = StateId(place as u32);
        let system = lower::lower(variant, &dependence, state).map_err(|blocked| refuse(variant, state, &blocked))?;
        systems.push(system);
    }
    let systems = ordered(variant, &dependence, systems)?;
    systems.into_iter().map(|system| derived(variant, system, proofs)).collect()
}

fn derived(variant: &Variant, system: System, proofs: Proofs) -> Result<Derived, Unsupported> {
    let state = &variant.states[system.state.index()];
    egraph::derive(system, proofs).map_err(|none| {
        Unsupported::new(format!("state `{}`", state.name), none.reason(), "use --form recurrent").at(state.span)
    })
}

/// The plan of a chunked or parallel form.
pub fn plan(variant: &Variant, derived: &[Derived], (form, schedule): (Form, Schedule)) -> Result<Plan, Unsupported> {
    let mut building = Building { graph: DiGraph::new(), known: HashMap::new() };
    let mut states = Vec::new();
    // Under a window a chunk is a parallel form of its own, of itself and the tokens that it sees.
    let window = variant.locals.iter().any(|local| matches!(local.kind, LocalKind::Window { .. }));
    let extracted = if window { Form::Parallel } else { form };
    for derived in derived {
        if form == Form::Recurrent && derived.reads_whole() {
            return Err(stepped_as_written(variant, derived.system.state).in_form(form));
        }
        let term = derived.extract(extracted, schedule).ok_or_else(|| {
            let name = &variant.states[derived.system.state.index()].name;
            let reason = "no extraction of its derivation is realisable";
            Unsupported::new(format!("state `{name}`"), reason, "use --form recurrent").of_form(form)
        })?;
        states.push(building.state(derived, &term, form));
    }
    building.outputs(variant, &states);
    Ok(Plan { form, schedule, graph: building.graph, states })
}

/// A token's whole matrix is at hand where the state steps as it is written.
fn stepped_as_written(variant: &Variant, state: StateId) -> Unsupported {
    let state = &variant.states[state.index()];
    Unsupported::new(
        format!("a plan of state `{}`", state.name),
        "it is read as a whole matrix, so it steps token by token as it is written",
        "use --form chunked",
    )
    .at(state.span)
}

/// Systems so that each depends only on earlier ones; states that need each other have no chunked form.
fn ordered(variant: &Variant, dependence: &Dependence, systems: Vec<System>) -> Result<Vec<System>, Unsupported> {
    let mut waiting: Vec<(System, Vec<StateId>)> =
        systems.into_iter().map(|system| (needed(variant, dependence, &system), system)).map(|(n, s)| (s, n)).collect();
    let mut order: Vec<System> = Vec::new();
    while !waiting.is_empty() {
        let done: Vec<StateId> = order.iter().map(|system| system.state).collect();
        let ready = waiting.iter().position(|(_, needs)| needs.iter().all(|state| done.contains(state)));
        match ready {
            Some(place) => order.push(waiting.remove(place).0),
            None => {
                let left: Vec<StateId> = waiting.iter().map(|(system, _)| system.state).collect();
                return Err(coupled(variant, &left));
            }
        }
    }
    Ok(order)
}

/// The other states whose reads a state's update or its own reads are made of.
fn needed(variant: &Variant, dependence: &Dependence, system: &System) -> Vec<StateId> {
    let updates = variant.body.iter().filter_map(|stmt| match stmt {
        Stmt::Update(update) if update.state == system.state => Some(update.value),
        _ => None,
    });
    updates
        .chain(system.reads.iter().map(|read| read.expr))
        .flat_map(|value| dependence.on(value).to_vec())
        .filter(|state| *state != system.state)
        .collect()
}

fn coupled(variant: &Variant, states: &[StateId]) -> Unsupported {
    let names: Vec<String> = states.iter().map(|s| format!("`{}`", variant.states[s.index()].name)).collect();
    Unsupported::new(
        format!("the states {}", names.join(" and ")),
        "their recurrences are coupled: each needs the other's value at the token before",
        "use --form recurrent",
    )
    .at(variant.states[states[0].index()].span)
}

/// A refusal in the terms of the language.
pub fn refuse(variant: &Variant, state: StateId, blocked: &Blocked) -> Unsupported {
    let name = &variant.states[state.index()].name;
    Unsupported::new(
        format!("state `{name}`"),
        format!("{} ({})", blocked.reason, class_name(blocked.class)),
        "use --form recurrent",
    )
    .at(variant.expr(blocked.at).span)
}

/// The class of a transition that has no chunked form, in words.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::ElementWise => "element-wise",
        Class::Dense => "dense",
        Class::TwoSided => "two-sided",
        Class::NonAffine => "not affine in the state",
        Class::Coupled => "coupled",
        Class::WholeRead => "read as a whole",
    }
}

struct Building {
    graph: DiGraph<Node, ()>,
    /// Nodes by what they are, so that equal values are one node.
    known: HashMap<String, NodeIndex>,
}

impl Building {
    fn node(&mut self, key: String, node: Node) -> NodeIndex {
        if let Some(&found) = self.known.get(&key) {
            return found;
        }
        let operands = node.operands.clone();
        let index = self.graph.add_node(node);
        for operand in operands {
            self.graph.add_edge(operand, index, ());
        }
        self.known.insert(key, index);
        index
    }

    fn state(&mut self, derived: &Derived, term: &RecExpr<Term>, form: Form) -> StatePlan {
        let state = derived.system.state;
        let known = derived.forms.graph.analysis.clone();
        let mut places: HashMap<Id, NodeIndex> = HashMap::new();
        let mut roots = Vec::new();
        for root in ir::form::roots(term) {
            roots.push(self.term(term, root, state, &known, &mut places));
        }
        let last = roots.pop().expect("the roots end with the final state");
        let next = self.node(format!("next {state:?}"), Node { op: Op::Next(state), operands: vec![last], state });
        let reads: Vec<(ExprId, NodeIndex)> = derived
            .system
            .reads
            .iter()
            .zip(roots)
            .map(|(read, root)| {
                let key = format!("read {:?}", read.expr);
                let node = Node { op: Op::Read(read.expr), operands: vec![root], state };
                (read.expr, self.node(key, node))
            })
            .collect();
        let whole = reads.iter().any(|(_, read)| self.is_whole(*read));
        let leaves = match form {
            _ if whole => self.leaves(&derived.normal, state, &known),
            Form::Recurrent => self.leaves(&derived.normal, state, &known),
            Form::Chunked | Form::Parallel => Vec::new(),
        };
        let (transposed, normal) = (derived.system.transposed, derived.normal.clone());
        StatePlan { state, transposed, known, normal, leaves, reads, next }
    }

    fn term(
        &mut self,
        term: &RecExpr<Term>,
        id: Id,
        state: StateId,
        known: &Known,
        places: &mut HashMap<Id, NodeIndex>,
    ) -> NodeIndex {
        if let Some(&done) = places.get(&id) {
            return done;
        }
        let node = &term[id];
        let index = match node {
            // Reshaping moves no data, and a final state is the one that the loop carries out.
            Term::Chunks([x]) | Term::Tokens([x]) | Term::Final([x]) => self.term(term, *x, state, known, places),
            Term::Init | Term::Boundary(_) => {
                self.node(format!("start {state:?}"), Node { op: Op::Start(state), operands: Vec::new(), state })
            }
            Term::Leaf(leaf) => self.leaf(leaf, state, known),
            _ => {
                let operands: Vec<NodeIndex> =
                    node.children().iter().map(|&child| self.term(term, child, state, known, places)).collect();
                let mut shape = node.clone();
                for (child, operand) in shape.children_mut().iter_mut().zip(&operands) {
                    *child = Id::from(operand.index());
                }
                self.node(format!("{shape:?}"), Node { op: Op::Term(shape), operands, state })
            }
        };
        places.insert(id, index);
        index
    }

    fn leaf(&mut self, leaf: &Leaf, state: StateId, known: &Known) -> NodeIndex {
        let definitions: Vec<Definition> =
            leaf.factors.iter().map(|(atom, _)| known.definitions[atom].clone()).collect();
        // Constants have the extents of their state.
        let of = if leaf.factors.is_empty() { format!("{state:?}") } else { String::new() };
        let powers: Vec<i8> = leaf.factors.iter().map(|(_, power)| *power).collect();
        let key = format!("leaf {} {powers:?} {:?} {definitions:?} {of}", leaf.number, leaf.feat);
        self.node(key, Node { op: Op::Leaf(leaf.clone(), definitions), operands: Vec::new(), state })
    }

    /// Whether a read is the state itself at every token.
    fn is_whole(&self, read: NodeIndex) -> bool {
        let value = &self.graph[self.graph[read].operands[0]];
        matches!(value.op, Op::Term(Term::All(_) | Term::AllBefore(_)))
    }

    fn leaves(&mut self, normal: &Normal, state: StateId, known: &Known) -> Vec<(Leaf, NodeIndex)> {
        let ranks = normal.ranks.iter().flat_map(|rank| [&rank.c, &rank.u, &rank.w]);
        let writes = normal.writes.iter().flat_map(|write| [&write.k, &write.v]);
        normal.decays().chain(ranks).chain(writes).map(|leaf| (leaf.clone(), self.leaf(leaf, state, known))).collect()
    }

    fn outputs(&mut self, variant: &Variant, states: &[StatePlan]) {
        let dependence = Dependence::new(variant);
        for output in variant.outputs() {
            let needs = dependence.on(output.value);
            let operands: Vec<NodeIndex> = states
                .iter()
                .filter(|plan| needs.contains(&plan.state))
                .flat_map(|plan| plan.reads.iter().map(|(_, node)| *node))
                .collect();
            let state = states.first().map_or(StateId(0), |plan| plan.state);
            let node = Node { op: Op::Output(output.name.clone()), operands, state };
            self.node(format!("output {}", output.name), node);
        }
    }
}

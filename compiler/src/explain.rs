//! The derivation of a form in words and math: every rule used, what it rewrote, and why it was allowed to.
//!
//! ```text
//! # S
//!   S[t] = a[t] * S[t-1] + k[t] * v[t]'
//!
//! affine extraction
//!    1  state-is-affine: S[t-1] = I S[t-1] + 0   off by 0.0e0
//!         S[t-1]
//!       = [I] S[t-1] + [0]
//! ```
//!
//! The steps are the e-graphs' own proofs, each rewriting told once. With a check every whole term on the way is
//! evaluated in f64 on a small random instance and compared with a loop over tokens of the equation as it was written.

mod arena;
mod math;
mod parts;
mod proof;

use std::{collections::HashMap, fmt};

use chunkwise_dsl::{
    print_typed::expr_text,
    typed::{LocalKind, StateId, Stmt, Variant},
};
use egg::{Id, Language};

use crate::{
    Unsupported,
    egraph::{self, Derived, Proofs},
    ir::{
        Atom, Feat, Frame, Term, Ty,
        eval::{Dims, IllTyped, Instance, Value},
        facts::{Definition, Graph, Known, type_of},
        lower::{self, Dependence},
    },
    layout::{Form, Schedule},
    plan,
    rules::{self, Kind, Phase},
};
use arena::{Arena, Rewriting};
use math::Math;
use proof::{Proof, Step};

/// A derivation as text, and how far its terms are from the equation.
#[derive(Debug, Clone)]
pub struct Explanation {
    text: String,
    /// Steps told, over all states.
    pub steps: usize,
    /// The worst deviation of any term, max |x - reference| / max |reference|; 0 without a check, infinite where a term
    /// has no value.
    pub worst: f64,
}

/// What a derivation's terms must keep to under a check.
pub const BOUND: f64 = 1e-9;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text.trim_end())
    }
}

/// The derivation of one form of every state, its terms evaluated if `check`.
///
/// # Errors
/// A form that the variant lacks, with the reason.
pub fn explain(variant: &Variant, form: Form, check: bool) -> Result<Explanation, Unsupported> {
    if !variant.calls.is_empty() {
        return parts::told(variant, form, check);
    }
    if variant.states.is_empty() {
        return stages(variant, form);
    }
    let mut explanation = Explanation { text: String::new(), steps: 0, worst: 0.0 };
    let out = &mut explanation.text;
    line(out, format!("{}: the {} form", variant.name, form.name()));
    line(out, "");
    line(out, math::LEGEND);
    for (state, derived) in derivations(variant, form)? {
        let mut section = Section::new(variant, state);
        match derived {
            Ok(mut derived) => section.derivation(&mut derived, form, check)?,
            Err(reason) => section.underived(&reason),
        }
        explanation.text.push_str(&section.text);
        explanation.steps += section.steps;
        explanation.worst = explanation.worst.max(section.worst);
    }
    if check && explanation.steps > 0 {
        let verdict = if explanation.worst <= BOUND { "every term holds" } else { "A TERM DOES NOT HOLD" };
        line(&mut explanation.text, format!("\n{verdict}: off by at most {:.1e}", explanation.worst));
    }
    Ok(explanation)
}

/// Of a variant without states there is no derivation: what is told is where its values are computed.
fn stages(variant: &Variant, form: Form) -> Result<Explanation, Unsupported> {
    let plan = plan::place::text(variant, form)?;
    let mut text = String::new();
    line(&mut text, format!("{}: the {} form, of a variant without states", variant.name, form.name()));
    line(&mut text, "nothing is derived: sums are products of matrices where they can be, and every value is computed");
    line(&mut text, "in one of these units, a kernel or a part of one each, in this order\n");
    text.push_str(&plan);
    Ok(Explanation { text, steps: 0, worst: 0.0 })
}

fn line(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref());
    out.push('\n');
}

/// A state with its derivation, or why it has none.
type PerState = (StateId, Result<Derived, String>);

/// Every state's derivation; a recurrent form needs none, so there a state may have a reason instead.
fn derivations(variant: &Variant, form: Form) -> Result<Vec<PerState>, Unsupported> {
    if form != Form::Recurrent {
        let derived = plan::derive(variant, Proofs::On).map_err(|refusal| refusal.of_form(form))?;
        plan::plan(variant, &derived, (form, Schedule::Fused))?;
        return Ok(derived.into_iter().map(|derived| (derived.system.state, Ok(derived))).collect());
    }
    let dependence = Dependence::new(variant);
    let of = |place: usize| {
        let state = StateId(place as u32);
        let derived = lower::lower(variant, &dependence, state)
            .map_err(|blocked| format!("{} (`{}`)", blocked.reason, expr_text(variant, blocked.at)))
            .and_then(|system| {
                let none = |_| "no rule brings it into the shape of one scan".to_string();
                egraph::derive(system, Proofs::On).map_err(none)
            });
        (state, derived)
    };
    Ok((0..variant.states.len()).map(of).collect())
}

/// The text of one state.
struct Section<'a> {
    variant: &'a Variant,
    state: StateId,
    text: String,
    steps: usize,
    worst: f64,
}

impl<'a> Section<'a> {
    fn new(variant: &'a Variant, state: StateId) -> Self {
        let mut section = Self { variant, state, text: String::new(), steps: 0, worst: 0.0 };
        let declared = &variant.states[state.index()].name;
        section.line(format!("\n# {declared}"));
        let update = variant.body.iter().find_map(|stmt| match stmt {
            Stmt::Update(update) if update.state == state => Some(update.value),
            _ => None,
        });
        let value = update.map_or("S[t-1]".to_string(), |value| expr_text(variant, value));
        section.line(format!("  {declared}[t] = {value}"));
        section
    }

    fn line(&mut self, text: impl AsRef<str>) {
        line(&mut self.text, text);
    }

    fn underived(&mut self, reason: &str) {
        self.line(format!("  is computed as it is written, token by token; it has no other form: {reason}"));
    }

    fn derivation(&mut self, derived: &mut Derived, form: Form, check: bool) -> Result<(), Unsupported> {
        let name = self.variant.states[self.state.index()].name.clone();
        // Under a window a chunk is a parallel form of its own.
        let window = self.variant.locals.iter().any(|local| matches!(local.kind, LocalKind::Window { .. }));
        let extracted = if window && form == Form::Chunked { Form::Parallel } else { form };
        let proof = proof::prove(derived, extracted).ok_or_else(|| {
            let what = format!("the {} form of state `{name}`", form.name());
            Unsupported::new(what, "no extraction of its derivation is realisable", "use --form recurrent")
        })?;
        if let Some(LocalKind::Block(size)) = self.variant.locals.first().map(|local| &local.kind) {
            let size = size.print(&|axis| self.variant.axis_name(axis));
            self.line(format!("  every block of {size} tokens is a sequence of its own, from the initial value"));
        }
        if derived.system.transposed {
            self.line(format!("  held transposed: below, {name} stands for {name}'"));
        }
        let held = check.then(|| Held::new(derived, &proof));
        let known = &derived.forms.graph.analysis;
        for (name, text) in named(self.variant, known) {
            self.line(format!("  with {name} = {text}"));
        }
        let mut telling = Telling::new(&proof, derived, &name);
        let mut heading = "";
        for step in &proof.steps {
            let off = held.as_ref().map(|held| held.worst(&step.wholes));
            self.worst = self.worst.max(off.unwrap_or(0.0));
            let Some(told) = telling.step(step) else { continue };
            if told.principle != heading {
                heading = told.principle;
                self.line(format!("\n{heading}"));
            }
            self.steps += 1;
            let number = self.steps;
            let off = off.map_or(String::new(), |off| format!("   off by {off:.1e}"));
            self.line(format!("{number:>4}  {}{off}", told.title));
            told.lines.iter().for_each(|text| self.line(format!("      {text}")));
        }
        self.line(format!("\nnormal form\n      {}", derived.normal.class()));
        self.line("result");
        for text in telling.result(self.variant, &derived.system.reads) {
            self.line(format!("      {text}"));
        }
        if telling.silent > 0 {
            let checked = if check { ", evaluated with the rest" } else { "" };
            self.line(format!("\n{} steps only reshape or reorder and are not shown{checked}", telling.silent));
        }
        Ok(())
    }
}

/// The terms of a proof, evaluated.
struct Held {
    values: Vec<Result<Value, IllTyped>>,
    raw: Id,
}

impl Held {
    fn new(derived: &Derived, proof: &Proof) -> Self {
        let known = &derived.forms.graph.analysis;
        let mut held = Self { values: Vec::new(), raw: proof.raw };
        match Instance::of(&derived.system, known, Dims::SMALL, 1) {
            Ok(instance) => held.fill(&proof.arena, &instance),
            Err(error) => held.values.resize(proof.arena.len(), Err(error)),
        }
        held
    }

    fn fill(&mut self, arena: &Arena, instance: &Instance) {
        for place in 0..arena.len() {
            let node = arena.node(Id::from(place));
            let children: Result<Vec<&Value>, &IllTyped> =
                node.children().iter().map(|&id| self.values[usize::from(id)].as_ref()).collect();
            let value = children.map_err(Clone::clone).and_then(|children| instance.node(node, &children));
            self.values.push(value);
        }
    }

    /// The worst deviation of whole terms from the equation.
    fn worst(&self, wholes: &[Id]) -> f64 {
        let of = |id: Id| self.values[usize::from(id)].as_ref().ok();
        let off = |&id: &Id| of(id)?.deviation(of(self.raw)?);
        wholes.iter().map(|id| off(id).unwrap_or(f64::INFINITY)).fold(0.0, f64::max)
    }
}

/// One step in words.
struct Told {
    principle: &'static str,
    title: String,
    lines: Vec<String>,
}

/// Tells steps, naming what recurs.
struct Telling<'a> {
    proof: &'a Proof,
    derived: &'a Derived,
    state: &'a str,
    names: [HashMap<Id, String>; 2],
    /// Names whose definition has been printed.
    defined: Vec<Id>,
    silent: usize,
}

impl<'a> Telling<'a> {
    fn new(proof: &'a Proof, derived: &'a Derived, state: &'a str) -> Self {
        let states = [&derived.raw.graph, &derived.forms.graph].map(|graph| states(&proof.arena, graph));
        let recurring = recurring(proof, &states);
        let names = states.map(|ids| {
            let states = ids.into_iter().map(|id| (id, state.to_string()));
            recurring.clone().into_iter().chain(states).collect()
        });
        Self { proof, derived, state, names, defined: Vec::new(), silent: 0 }
    }

    fn names(&self, phase: Phase) -> &HashMap<Id, String> {
        &self.names[usize::from(phase == Phase::Derive)]
    }

    fn graph(&self, phase: Phase) -> &Graph {
        if phase == Phase::Derive { &self.derived.forms.graph } else { &self.derived.raw.graph }
    }

    fn math(&self, phase: Phase) -> Math<'_> {
        Math {
            arena: &self.proof.arena,
            names: self.names(phase),
            state: self.state,
            known: &self.derived.forms.graph.analysis,
        }
    }

    /// A step's text; `None` where nothing that is printed changes.
    fn step(&mut self, step: &Step) -> Option<Told> {
        let Rewriting { rule, forward, before, after } = &step.what;
        let (left, right) = (self.math(step.phase).full(*before), self.math(step.phase).full(*after));
        if left == right {
            self.silent += 1;
            return None;
        }
        let back = if *forward { "" } else { ", right to left" };
        let (law, principle) = law(rule);
        let mut lines = vec![format!("  {left}"), format!("= {right}")];
        lines.extend(self.definitions(&[*before, *after], step.phase));
        lines.extend(self.conditions(step));
        Some(Told { principle, title: format!("{rule}{back}: {law}"), lines })
    }

    /// Names used for the first time, with what they stand for.
    fn definitions(&mut self, of: &[Id], phase: Phase) -> Vec<String> {
        let mut lines = Vec::new();
        let mut waiting: Vec<Id> = of.iter().flat_map(|&id| self.proof.arena.node(id).children().to_vec()).collect();
        while let Some(id) = waiting.pop() {
            let name = self.names(phase).get(&id).cloned();
            match name {
                Some(name) if name != self.state && !self.defined.contains(&id) => {
                    self.defined.push(id);
                    lines.push(format!("  with {name} = {}", self.math(phase).full(id)));
                }
                Some(_) => continue,
                None => {}
            }
            waiting.extend(self.proof.arena.node(id).children());
        }
        lines
    }

    /// What allowed the rule: its side conditions with the facts that met them.
    fn conditions(&self, step: &Step) -> Vec<String> {
        let Some(rule) = rules::by_name(&step.what.rule) else { return Vec::new() };
        let matched = if step.what.forward { step.what.before } else { step.what.after };
        let Some(bound) = self.proof.arena.bindings(&rules::pattern(rule.lhs).ast, matched) else { return Vec::new() };
        let told = |condition: &rules::Condition| {
            let id = *bound.get(&condition.var)?;
            let text = self.math(step.phase).named(id);
            let fact = match condition.kind {
                // These keep the graph small, or say what the notation shows.
                Kind::Free | Kind::NoRead | Kind::NonZero | Kind::Fading | Kind::Matrix | Kind::Start => return None,
                Kind::Decays => format!("{text} {}: {}", condition.kind.says(), self.decay(id, step.phase)?),
                kind => format!("{text} {}", kind.says()),
            };
            Some(format!("  since {fact}"))
        };
        rule.conditions.iter().filter_map(told).collect()
    }

    /// Why a decay lies in [-1, 1].
    fn decay(&self, mut id: Id, phase: Phase) -> Option<String> {
        while let Term::Chunks([x]) = self.proof.arena.node(id) {
            id = *x;
        }
        let graph = self.graph(phase);
        let class = class_of(&self.proof.arena, graph, id, &mut HashMap::new())?;
        let facts = &graph[class].data;
        let (low, high) = facts.range;
        let promised = facts.leaf.as_ref().is_some_and(|leaf| graph.analysis.promised.contains(leaf));
        let promise = if promised { ", the promise on decays" } else { ", from its expression" };
        Some(format!("in [{low}, {high}]{promise}"))
    }

    fn result(&mut self, variant: &Variant, reads: &[lower::Read]) -> Vec<String> {
        let after = format!("{} after the last token", self.state);
        let texts = reads.iter().map(|read| expr_text(variant, read.expr)).chain([after]);
        let mut lines = Vec::new();
        for (text, id) in texts.zip(parts(&self.proof.arena, self.proof.form)) {
            lines.push(format!("{text} = {}", self.math(Phase::Derive).full(id)));
            lines.extend(self.definitions(&[id], Phase::Derive));
        }
        lines
    }
}

/// What the atoms that a `let` or a `decay` names stand for, by name.
fn named(variant: &Variant, known: &Known) -> Vec<(String, String)> {
    let of = |(atom, definition): (&Atom, &Definition)| {
        let Definition::Expr(value) = definition else { return None };
        let (name, text) = (atom.name.to_string(), expr_text(variant, *value).replace("[t]", ""));
        (name != text).then_some((name, text))
    };
    let mut all: Vec<(String, String)> = known.definitions.iter().filter_map(of).collect();
    all.sort();
    all
}

/// A rule's line of math and the principle it belongs to.
fn law(rule: &str) -> (String, &'static str) {
    match rule {
        "definition-of-the-state" => ("the equation itself".into(), "the equation"),
        "product-is-canonical" => ("equal products are one product".into(), "products"),
        proof::SORTED => ("the terms of sums and the factors of products in one order".into(), "normal form"),
        _ => match rules::by_name(rule) {
            Some(found) => (found.math.to_string(), rules::principle(rule)),
            None => (String::new(), "other"),
        },
    }
}

/// The class of a term of the arena.
fn class_of(arena: &Arena, graph: &Graph, id: Id, known: &mut HashMap<Id, Option<Id>>) -> Option<Id> {
    if let Some(&class) = known.get(&id) {
        return class;
    }
    let node = arena.node(id);
    let children: Option<Vec<Id>> = node.children().iter().map(|&id| class_of(arena, graph, id, known)).collect();
    let class = children.and_then(|children| {
        let mut children = children.into_iter();
        graph.lookup(node.clone().map_children(|child| children.next().unwrap_or(child)))
    });
    known.insert(id, class);
    class
}

/// Every term of the arena that is the state.
fn states(arena: &Arena, graph: &Graph) -> Vec<Id> {
    let state = graph.lookup(Term::State).map(|id| graph.find(id));
    let mut known = HashMap::new();
    let all = (0..arena.len()).map(Id::from);
    all.filter(|&id| state.is_some() && class_of(arena, graph, id, &mut known) == state).collect()
}

/// Names of terms that several steps speak of.
fn recurring(proof: &Proof, states: &[Vec<Id>; 2]) -> HashMap<Id, String> {
    let mut uses: Vec<(Id, usize)> = Vec::new();
    let roots = parts(&proof.arena, proof.form);
    // What several results share is worth a name even where few steps speak of it.
    let results = roots.iter().flat_map(|&root| [root, root]);
    for side in proof.steps.iter().flat_map(|step| [step.what.before, step.what.after]).chain(results) {
        for id in proof.arena.below(side).into_iter().skip(1) {
            match uses.iter_mut().find(|(known, _)| *known == id) {
                Some((_, count)) => *count += 1,
                None => uses.push((id, 1)),
            }
        }
    }
    let types = types(&proof.arena);
    let mut names = HashMap::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (id, count) in uses {
        let is_state = states.iter().any(|ids| ids.contains(&id));
        let reshapes = matches!(proof.arena.node(id), Term::Chunks(_) | Term::Tokens(_) | Term::Roots(_));
        if count < 4 || is_state || reshapes || size(&proof.arena, id) < 6 {
            continue;
        }
        let letter = letter(types[usize::from(id)]);
        let number = counts.entry(letter).or_default();
        *number += 1;
        names.insert(id, format!("{letter}{number}"));
    }
    names
}

fn letter(ty: Ty) -> &'static str {
    match ty {
        Ty::Ten { feat: Feat::V, .. } => "x",
        Ty::Ten { feat: Feat::K, .. } => "w",
        Ty::Ten { feat: Feat::S, .. } => "c",
        Ty::Ten { feat: Feat::F, .. } => "f",
        Ty::Mat(Frame::Chunks) => "N",
        Ty::Mat(_) | Ty::Init => "H",
        Ty::Op(_) => "A",
        Ty::Tri { .. } => "P",
        Ty::Unknown | Ty::Roots => "r",
    }
}

/// The parts of a `roots` term.
fn parts(arena: &Arena, roots: Id) -> Vec<Id> {
    match arena.node(roots) {
        Term::Roots([first, rest]) => [vec![*first], parts(arena, *rest)].concat(),
        _ => vec![roots],
    }
}

fn types(arena: &Arena) -> Vec<Ty> {
    let mut types: Vec<Ty> = Vec::new();
    for place in 0..arena.len() {
        let ty = type_of(arena.node(Id::from(place)), &|id| types[usize::from(id)]);
        types.push(ty);
    }
    types
}

/// Operators of a term, reshapes not counted.
fn size(arena: &Arena, id: Id) -> usize {
    let node = arena.node(id);
    let below: usize = node.children().iter().map(|&child| size(arena, child)).sum();
    below + usize::from(!matches!(node, Term::Chunks(_) | Term::Tokens(_)))
}

#[cfg(test)]
mod tests;

//! The rule book: every rewrite of the derivation, as data.
//!
//! A family is a text table. A rule is `name | lhs => rhs | conditions`; the `#` line above it says it in math and is
//! what `explain` prints. The tests evaluate both sides of every rule on random inputs taken from the rule's own
//! patterns (`audit`); a fix-point rule (`is H`: the class matched is the class of H) is checked as an implication.
//!
//! | phase | families | purpose |
//! | --- | --- | --- |
//! | 1 | affine, transition | the recurrence as one affine scan: its normal form |
//! | 2 | structure, scan, chunk | feedback, reads of diagonal scans, solves, chunks |
//! | 3 | realise, feature | masks and products whose factors lie in [-1, 1]; dot products of features by their parts |
//! | 4 | solve | solves that wait for no other chunk, where chunks run apart |
//!
//! Conditions: `scalar x`, `rowwise d` (scalar or K-vector), `along-k d`, `along-v c`, `free B` (no state), `noread B`,
//! `is H`, `strict P`, `start s` (an initial state), `matrix x`, `nonzero x`, `decays d` (every entry in [-1, 1]),
//! `fading d` (a decay that is not the constant 1), `whole B` (all writes of the state), `splits x` and `divides d`
//! (which bind the parts of a canonical product), `outer q` and `stacked q` (which bind those of the features `q` and
//! `k`). Rules know no costs.
//!
//! Not done: terms in log space and the gauge (quotient) form. Within a chunk products of decays need no logarithm, are
//! exact at a decay of 0, and leave no exponent to bound. What a state keeps from token to token and from chunk to chunk
//! is the same in exact arithmetic however it is evaluated: there the logarithms count (`kernel::lower::form::decay`).

mod affine;
mod chunk;
mod feature;
mod realise;
mod scan;
mod solve;
mod structure;
mod transition;

use std::{str::FromStr, sync::LazyLock};

use egg::{Applier, Id, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};

use crate::ir::{
    Feat, Leaf, Term, Ty,
    facts::{Graph, Known},
};

/// The rules of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Raw recurrence to normal form.
    Normalise,
    /// Normal form to the recurrent, chunked and parallel forms.
    Derive,
    /// The chunked form to one whose solves do not depend on the state at a chunk's start.
    Distribute,
}

impl Phase {
    pub const ALL: [Phase; 3] = [Phase::Normalise, Phase::Derive, Phase::Distribute];
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: &'static str,
    pub math: &'static str,
    pub lhs: &'static str,
    pub rhs: &'static str,
    pub conditions: Vec<Condition>,
}

/// A side condition on the class bound to a pattern variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: Kind,
    pub var: Var,
}

impl Condition {
    /// Whether it binds variables that the left side lacks.
    fn binds(&self) -> bool {
        matches!(self.kind, Kind::Splits | Kind::Divides | Kind::Outer | Kind::Stacked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Scalar,
    Rowwise,
    AlongK,
    AlongV,
    Free,
    NoRead,
    Is,
    Strict,
    Start,
    Matrix,
    NonZero,
    Decays,
    Fading,
    /// A leaf with a scalar part other than 1, bound to `?xs` and `?xv` (its scalar and its vector part).
    Splits,
    /// `scan ?A ?B ?s` is the system's state itself, not a part of its writes.
    Whole,
    /// `?c * ?w` is divisible by `?d`: bound to `?cq` and `?wq`, with `c w = d (cq wq)`.
    Divides,
    /// `?q` and `?k` are flattened outer products: of `?qa` and `?qb`, of `?ka` and `?kb`.
    Outer,
    /// `?q` and `?k` are stacks: of `?qa` on the rest `?qb`, of `?ka` on the rest `?kb`.
    Stacked,
}

const KINDS: &[(&str, Kind, &str)] = &[
    ("scalar", Kind::Scalar, "is a scalar"),
    ("rowwise", Kind::Rowwise, "acts on rows"),
    ("along-k", Kind::AlongK, "is a vector along the rows"),
    ("along-v", Kind::AlongV, "is a vector along the columns"),
    ("free", Kind::Free, "does not depend on the state"),
    ("noread", Kind::NoRead, "reads no state"),
    ("is", Kind::Is, "is the stream being defined"),
    ("strict", Kind::Strict, "is strictly lower triangular, so I - P is invertible"),
    ("start", Kind::Start, "is the initial state"),
    ("matrix", Kind::Matrix, "is a stream of matrices"),
    ("nonzero", Kind::NonZero, "is not the zero stream"),
    ("decays", Kind::Decays, "lies in [-1, 1], so no product of it grows"),
    ("fading", Kind::Fading, "is not the constant 1"),
    ("splits", Kind::Splits, "has a scalar factor"),
    ("whole", Kind::Whole, "is all that the state is written"),
    ("divides", Kind::Divides, "is a factor of the rank-one term"),
    ("outer", Kind::Outer, "is a flattened outer product, as what it meets is"),
    ("stacked", Kind::Stacked, "is a stack, as what it meets is"),
];

impl Kind {
    /// What the condition says of its variable.
    pub fn says(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or("", |(_, _, says)| says)
    }
}

/// All rules of a phase.
pub fn rules(phase: Phase) -> Vec<Rule> {
    let tables: &[&'static str] = match phase {
        Phase::Normalise => &[affine::TABLE, transition::TABLE],
        Phase::Derive => &[structure::TABLE, scan::TABLE, chunk::TABLE, realise::TABLE, feature::TABLE],
        Phase::Distribute => &[solve::TABLE],
    };
    tables.iter().flat_map(|table| parse(table)).collect()
}

/// The rule of a name, whatever its phase.
pub fn by_name(name: &str) -> Option<Rule> {
    Phase::ALL.into_iter().flat_map(rules).find(|rule| rule.name == name)
}

/// The principle that a rule belongs to, in words.
pub fn principle(name: &str) -> &'static str {
    let holds = |table: &'static str| parse(table).into_iter().find(|rule| rule.name == name);
    // What speaks of products with pairs of times (`mm`) or solves them is the system, the rest of its table feedback.
    let feedback = |rule: Rule| {
        if rule.lhs.contains("(mm ") || rule.lhs.contains("(rd ") { "the triangular system" } else { "feedback" }
    };
    let tables: [(&'static str, &'static str); 7] = [
        (affine::TABLE, "affine extraction"),
        (transition::TABLE, "the transition's structure"),
        (scan::TABLE, "reads of a diagonal scan"),
        (chunk::TABLE, "chunks and their boundaries"),
        (realise::TABLE, "realisation"),
        (feature::TABLE, "dot products of features"),
        (solve::TABLE, "the triangular system"),
    ];
    let found = tables.into_iter().find(|(table, _)| holds(table).is_some()).map(|(_, says)| says);
    found.or(holds(structure::TABLE).map(feedback)).unwrap_or("other")
}

/// The rules of a phase as rewrites, made once.
pub fn rewrites(phase: Phase) -> &'static [Rewrite<Term, Known>] {
    static NORMALISE: LazyLock<Vec<Rewrite<Term, Known>>> = LazyLock::new(|| made(Phase::Normalise));
    static DERIVE: LazyLock<Vec<Rewrite<Term, Known>>> = LazyLock::new(|| made(Phase::Derive));
    static DISTRIBUTE: LazyLock<Vec<Rewrite<Term, Known>>> = LazyLock::new(|| made(Phase::Distribute));
    match phase {
        Phase::Normalise => &NORMALISE,
        Phase::Derive => &DERIVE,
        Phase::Distribute => &DISTRIBUTE,
    }
}

fn made(phase: Phase) -> Vec<Rewrite<Term, Known>> {
    rules(phase).into_iter().map(Rule::rewrite).collect()
}

fn parse(table: &'static str) -> Vec<Rule> {
    let mut math = "";
    let mut rules = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix('#') {
            math = text.trim();
            continue;
        }
        let mut parts = line.split('|').map(str::trim);
        let name = parts.next().expect("a split has a first part");
        let (lhs, rhs) = parts.next().and_then(|rule| rule.split_once("=>")).expect("a rule is `lhs => rhs`");
        let conditions = parts.next().unwrap_or("").split(',').map(str::trim).filter(|c| !c.is_empty());
        rules.push(Rule {
            name,
            math,
            lhs: lhs.trim(),
            rhs: rhs.trim(),
            conditions: conditions.map(condition).collect(),
        });
    }
    rules
}

fn condition(text: &str) -> Condition {
    let (kind, var) = text.split_once(' ').expect("a condition is `kind variable`");
    let kind = KINDS.iter().find(|(name, _, _)| *name == kind).expect("a condition of the table").1;
    Condition { kind, var: var_named(var) }
}

fn var_named(name: &str) -> Var {
    Var::from_str(&format!("?{name}")).expect("a letter is a pattern variable")
}

/// The pattern of one side of a rule.
pub fn pattern(text: &str) -> Pattern<Term> {
    text.parse().unwrap_or_else(|error| panic!("the rule book's pattern {text} does not parse: {error}"))
}

impl Rule {
    fn rewrite(self) -> Rewrite<Term, Known> {
        let applier = Guarded { conditions: self.conditions, rhs: pattern(self.rhs) };
        Rewrite::new(self.name, pattern(self.lhs), applier).expect("the sides of a rule use the same variables")
    }
}

/// Applies the right side where every condition holds; some conditions bind further variables.
struct Guarded {
    conditions: Vec<Condition>,
    rhs: Pattern<Term>,
}

impl Applier<Term, Known> for Guarded {
    fn apply_one(
        &self,
        graph: &mut Graph,
        class: Id,
        subst: &Subst,
        searcher: Option<&PatternAst<Term>>,
        name: Symbol,
    ) -> Vec<Id> {
        let mut subst = subst.clone();
        for condition in &self.conditions {
            if !holds(condition, graph, class, &mut subst) {
                return Vec::new();
            }
        }
        self.rhs.apply_one(graph, class, &subst, searcher, name)
    }

    fn get_pattern_ast(&self) -> Option<&PatternAst<Term>> {
        // With variables that the left side lacks, egg could not check the rewrite against its patterns alone.
        (!self.conditions.iter().any(Condition::binds)).then_some(&self.rhs.ast)
    }
}

fn holds(condition: &Condition, graph: &mut Graph, matched: Id, subst: &mut Subst) -> bool {
    let class = graph.find(subst[condition.var]);
    let facts = graph[class].data.clone();
    let feat = facts.ty.feat();
    match condition.kind {
        Kind::Scalar => feat == Some(Feat::S),
        Kind::Rowwise => matches!(feat, Some(Feat::S | Feat::K)),
        Kind::AlongK => feat == Some(Feat::K),
        Kind::AlongV => feat == Some(Feat::V),
        Kind::Free => !facts.dep,
        Kind::NoRead => !facts.read,
        Kind::Is => class == graph.find(matched),
        Kind::Strict => matches!(facts.ty, Ty::Tri { strict: true, .. }),
        Kind::Start => facts.ty == Ty::Init,
        Kind::Matrix => matches!(facts.ty, Ty::Mat(_)),
        Kind::NonZero => !facts.zero,
        Kind::Decays => facts.range.0 >= -1.0 && facts.range.1 <= 1.0,
        Kind::Fading => !facts.leaf.as_ref().is_some_and(Leaf::is_one),
        Kind::Splits => split(graph, condition.var, facts.leaf, subst),
        Kind::Whole => scans_the_state(graph, subst),
        Kind::Divides => divide(graph, class, subst),
        Kind::Outer | Kind::Stacked => feature::bind(condition.kind, graph, subst),
    }
}

fn scans_the_state(graph: &mut Graph, subst: &Subst) -> bool {
    let of = |name: &str| subst[var_named(name)];
    let scan = graph.lookup(Term::Scan([of("A"), of("B"), of("s")]));
    scan.is_some_and(|class| graph[class].nodes.contains(&Term::State))
}

fn split(graph: &mut Graph, var: Var, leaf: Option<Leaf>, subst: &mut Subst) -> bool {
    let Some(leaf) = leaf else { return false };
    let (scalar, vector) = leaf.split();
    if scalar.is_one() || leaf.feat == Feat::S {
        return false;
    }
    let name = var.to_string();
    let (scalar, vector) = (graph.add(Term::Leaf(scalar)), graph.add(Term::Leaf(vector)));
    subst.insert(var_named(&format!("{}s", &name[1..])), scalar);
    subst.insert(var_named(&format!("{}v", &name[1..])), vector);
    true
}

/// Binds cq and wq with c w = d (cq wq): the decay's vector factors come out of w, its scalar ones out of c.
fn divide(graph: &mut Graph, decay: Id, subst: &mut Subst) -> bool {
    let leaf = |graph: &Graph, id: Id| graph[graph.find(id)].data.leaf.clone();
    let (c, w) = (subst[var_named("c")], subst[var_named("w")]);
    let (Some(d), Some(c), Some(w)) = (leaf(graph, decay), leaf(graph, c), leaf(graph, w)) else { return false };
    let (scalar, vector) = d.split();
    let vector = if d.feat == Feat::S { Leaf::number(1.0) } else { vector };
    let (Some(c), Some(w)) = (c.divided_by(&scalar), w.divided_by(&vector)) else { return false };
    let (c, w) = (graph.add(Term::Leaf(c)), graph.add(Term::Leaf(w)));
    subst.insert(var_named("cq"), c);
    subst.insert(var_named("wq"), w);
    true
}

/// The variables of a pattern.
pub fn variables(ast: &PatternAst<Term>) -> Vec<Var> {
    let mut found: Vec<Var> = ast
        .as_ref()
        .iter()
        .filter_map(|node| match node {
            egg::ENodeOrVar::Var(var) => Some(*var),
            egg::ENodeOrVar::ENode(_) => None,
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod audit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_parses_and_names_are_unique() {
        let all: Vec<Rule> = Phase::ALL.into_iter().flat_map(rules).collect();
        let mut names: Vec<&str> = all.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for rule in all {
            assert!(!rule.math.is_empty(), "{} has no line of math", rule.name);
            pattern(rule.lhs);
            pattern(rule.rhs);
        }
    }
}

//! Terms in mathematical notation. Reshapes into chunks are not shown: they change no value.
//!
//! ```text
//! x'  transposed            S[t-1]  the state before     S0   the state before each chunk
//! G[d](t,s)                 product of d over s < tau <= t;  G-[d]  the same without d[t]
//! <q, k>                    q[t]' k[s] for all t, s;  <q, G[d] k>  with the decay between them
//! tril, tril1               s <= t, s < t               sum(k v')  over one segment
//! ```

use std::collections::HashMap;

use egg::{Id, Language};

use super::arena::Arena;
use crate::ir::{
    Atom, Feat, Leaf, Term,
    facts::{Definition, Known},
};

pub const LEGEND: &str = "S[t-1] the state before a token, S0 before a chunk; G[d](t,s) the product of d over s < tau <= t; \
<q, k> the products q[t]' k[s] of all pairs;
tril keeps s <= t, tril1 s < t; G-[d](t,s) = G[d](t-1,s); sum(k v') runs over one segment; products of vectors are element by element.";

/// How tightly a text binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Sum,
    Product,
    Postfix,
}

/// Prints terms; parts that have names are printed by name.
pub struct Math<'a> {
    pub arena: &'a Arena,
    pub names: &'a HashMap<Id, String>,
    /// What `S` is called in the program.
    pub state: &'a str,
    pub known: &'a Known,
}

impl Math<'_> {
    /// A term in full, its parts by their names.
    pub fn full(&self, id: Id) -> String {
        self.print(id).0
    }

    /// A term by its name, where it has one.
    pub fn named(&self, id: Id) -> String {
        self.at(id, Level::Sum)
    }

    fn at(&self, id: Id, level: Level) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let (text, own) = self.print(id);
        if own < level { format!("({text})") } else { text }
    }

    fn print(&self, id: Id) -> (String, Level) {
        use Level::{Postfix, Product, Sum};
        let node = self.arena.node(id).clone();
        let child = |place: usize| node.children()[place];
        let at = |place: usize, level: Level| self.at(child(place), level);
        let is_one = |place: usize| matches!(self.arena.node(child(place)), Term::Leaf(leaf) if leaf.is_one());
        match &node {
            Term::Leaf(leaf) => self.leaf(leaf),
            Term::State => (self.state.to_string(), Postfix),
            Term::Init => (format!("{}[init]", self.state), Postfix),
            Term::ZeroMat | Term::ZeroVec => ("0".into(), Postfix),
            Term::Add(_) | Term::OpAdd(_) => (format!("{} + {}", at(0, Sum), at(1, Sum)), Sum),
            Term::Mul(_) | Term::Apply(_) => (format!("{} {}", at(0, Product), at(1, Product)), Product),
            Term::Compose(_) | Term::MatMul(_) => (format!("{} {}", at(0, Product), at(1, Postfix)), Product),
            Term::Dot(_) => (format!("{}' {}", at(0, Postfix), at(1, Product)), Product),
            Term::Stack(_) => (format!("[{}, {}]", at(0, Sum), at(1, Sum)), Postfix),
            Term::Outer(_) => (format!("{} {}'", at(0, Product), at(1, Postfix)), Product),
            Term::Prev(_) => (format!("{}[t-1]", at(1, Postfix)), Postfix),
            Term::DecayedPrev(_) => (format!("{} {}[t-1]", self.diagonal(child(0)), at(2, Postfix)), Product),
            Term::Read(_) => (format!("{}' {}", at(1, Postfix), at(0, Postfix)), Product),
            Term::ReadRight(_) => (format!("{} {}", at(1, Postfix), at(0, Postfix)), Product),
            Term::ScaleColumns(_) => (format!("{} {}", at(1, Postfix), self.diagonal(child(0))), Product),
            Term::Affine(_) => (format!("[{}] {} + [{}]", at(0, Sum), at(2, Postfix), at(1, Sum)), Sum),
            Term::ReadAffine(_) => (format!("{}' [{}] + [{}]", at(2, Postfix), at(0, Sum), at(1, Sum)), Sum),
            Term::Scan(_) if matches!(self.arena.node(child(2)), Term::Init) => {
                (format!("scan({}, {})", at(0, Sum), at(1, Sum)), Postfix)
            }
            Term::Scan(_) => (format!("scan({}, {} from {})", at(0, Sum), at(1, Sum), at(2, Sum)), Postfix),
            Term::All(_) => (format!("all({}, {} from {})", at(0, Sum), at(1, Sum), at(2, Sum)), Postfix),
            Term::AllBefore(_) => (format!("all({}, {} from {})[t-1]", at(0, Sum), at(1, Sum), at(2, Sum)), Postfix),
            Term::Final(_) => (format!("{}[end]", at(0, Postfix)), Postfix),
            Term::Last(_) => (format!("{}[C]", at(0, Postfix)), Postfix),
            Term::Boundary(_) => ("S0".into(), Postfix),
            Term::Identity => ("I".into(), Postfix),
            Term::Diagonal(_) => (self.diagonal(child(0)), Postfix),
            Term::DiagonalBoth(_) => (format!("{} . {}", self.diagonal(child(0)), self.diagonal(child(1))), Product),
            Term::RankOne(_) => self.rank_one(child(0), child(1), child(2)),
            Term::Post(_) => {
                let rank = self.rank_one(child(0), child(1), child(2)).0;
                if is_one(3) {
                    (format!("I + {rank}"), Sum)
                } else {
                    (format!("(I + {rank}) {}", self.diagonal(child(3))), Product)
                }
            }
            Term::ApplyTransposed(_) => (format!("{}' {}", at(0, Postfix), at(1, Postfix)), Product),
            Term::Tri(_) => (format!("tril {}", self.pairs("G", child(0), child(1), child(2))), Product),
            Term::TriStrict(_) => (format!("tril1 {}", self.pairs("G", child(0), child(1), child(2))), Product),
            Term::TriBefore(_) => (format!("tril1 {}", self.pairs("G-", child(0), child(1), child(2))), Product),
            Term::TriProducts(_) => (self.pairs("G", child(0), child(1), child(2)), Postfix),
            Term::TriProductsBefore(_) => (self.pairs("G-", child(0), child(1), child(2)), Postfix),
            Term::TriRight(_) | Term::TriRightProducts(_) => {
                (format!("(tril {} .* G[{}]) {}", at(1, Product), at(0, Sum), at(2, Postfix)), Product)
            }
            Term::TriRightBefore(_) | Term::TriRightProductsBefore(_) => {
                (format!("(tril1 {} .* G-[{}]) {}", at(1, Product), at(0, Sum), at(2, Postfix)), Product)
            }
            Term::Rows(_) => (format!("diag({}) {}", at(0, Sum), at(1, Postfix)), Product),
            Term::Solve(_) => (format!("(I - {})^-1 {}", at(0, Product), at(1, Postfix)), Product),
            Term::SolveColumns(_) => {
                (format!("solve y = {} .* ({} y) + {}", at(0, Postfix), at(1, Product), at(2, Sum)), Sum)
            }
            Term::SolveDecayed(_) => {
                let pairs = format!("({} .* G-[{}]) y", at(2, Product), at(1, Sum));
                (format!("solve y = {} .* ({pairs}) + {}", at(0, Postfix), at(3, Sum)), Sum)
            }
            Term::DecayFromStart(_) => (format!("G[{}](t,0) {}", at(0, Sum), at(1, Product)), Product),
            Term::DecayFromStartBefore(_) => (format!("G[{}](t-1,0) {}", at(0, Sum), at(1, Product)), Product),
            Term::DecayToEnd(_) => (format!("G[{}](C,s) {}", at(0, Sum), at(1, Product)), Product),
            Term::ReadStart(_) => (format!("{}' ({})", at(1, Postfix), at(0, Sum)), Product),
            Term::ReadStartRight(_) => {
                (format!("G[{}](t,0) ({} {})", at(0, Sum), at(2, Postfix), at(1, Postfix)), Product)
            }
            Term::ReadStartRightBefore(_) => {
                (format!("G[{}](t-1,0) ({} {})", at(0, Sum), at(2, Postfix), at(1, Postfix)), Product)
            }
            Term::Gather(_) => (format!("sum({} {}')", at(0, Product), at(1, Postfix)), Postfix),
            Term::Step(_) if is_one(0) => {
                (format!("{} + sum({} {}')", at(3, Postfix), at(1, Product), at(2, Postfix)), Sum)
            }
            Term::Step(_) => {
                let kept = format!("G[{}](C,0) {}", at(0, Sum), at(3, Postfix));
                (format!("{kept} + sum({} {}')", at(1, Product), at(2, Postfix)), Sum)
            }
            Term::StepBoth(_) => {
                let rows = if is_one(0) { String::new() } else { format!("G[{}](C,0) ", at(0, Sum)) };
                let kept = format!("{rows}{} G[{}](C,0)", at(4, Postfix), at(1, Sum));
                (format!("{kept} + sum({} {}')", at(2, Product), at(3, Postfix)), Sum)
            }
            Term::Chunks(_) | Term::Tokens(_) => match self.names.get(&child(0)) {
                Some(name) => (name.clone(), Postfix),
                None => self.print(child(0)),
            },
            Term::Pairs(_) => (format!("<{}, {}>", at(0, Sum), at(1, Sum)), Postfix),
            Term::DecayMask(_) => (format!("G[{}]", at(0, Sum)), Postfix),
            Term::DecayMaskBefore(_) => (format!("G-[{}]", at(0, Sum)), Postfix),
            Term::Hadamard(_) => (format!("{} .* {}", at(0, Product), at(1, Product)), Sum),
            Term::Lower(_) => (format!("tril({})", at(0, Sum)), Postfix),
            Term::StrictlyLower(_) => (format!("tril1({})", at(0, Sum)), Postfix),
            Term::Roots(_) => (format!("{}; {}", at(0, Sum), at(1, Sum)), Sum),
        }
    }

    fn diagonal(&self, d: Id) -> String {
        format!("diag({})", self.at(d, Level::Sum))
    }

    fn rank_one(&self, c: Id, u: Id, w: Id) -> (String, Level) {
        let pair = format!("{} {}'", self.at(u, Level::Product), self.at(w, Level::Postfix));
        match self.arena.node(c) {
            Term::Leaf(leaf) if leaf.is_one() => (pair, Level::Product),
            _ => (format!("{} {pair}", self.at(c, Level::Product)), Level::Product),
        }
    }

    fn pairs(&self, decay: &str, d: Id, q: Id, k: Id) -> String {
        let (q, k) = (self.at(q, Level::Sum), self.at(k, Level::Product));
        match self.arena.node(d) {
            Term::Leaf(leaf) if leaf.is_one() => format!("<{q}, {k}>"),
            _ => format!("<{q}, {decay}[{}] {k}>", self.at(d, Level::Sum)),
        }
    }
}

impl Math<'_> {
    fn leaf(&self, leaf: &Leaf) -> (String, Level) {
        if leaf.factors.is_empty() {
            let text = match leaf.feat {
                Feat::S => leaf.number.to_string(),
                _ => format!("ones({})", leaf.number),
            };
            return (text, if leaf.number < 0.0 { Level::Product } else { Level::Postfix });
        }
        let mut parts: Vec<String> = Vec::new();
        if leaf.number.abs() != 1.0 {
            parts.push(leaf.number.abs().to_string());
        }
        for (atom, power) in &leaf.factors {
            let name = self.atom(*atom);
            parts.push(if *power == 1 { name } else { format!("{name}^{power}") });
        }
        let sign = if leaf.number < 0.0 { "-" } else { "" };
        let level = if parts.len() == 1 && sign.is_empty() { Level::Postfix } else { Level::Product };
        (format!("{sign}{}", parts.join(" ")), level)
    }

    fn atom(&self, atom: Atom) -> String {
        match self.known.definitions.get(&atom) {
            Some(Definition::Dot(w, k)) => {
                let side = |leaf: &Leaf| match self.leaf(leaf) {
                    (text, Level::Postfix) => text,
                    (text, _) => format!("({text})"),
                };
                format!("({}' {})", side(w), side(k))
            }
            Some(Definition::Sum(terms)) => {
                let terms: Vec<String> = terms.iter().map(|term| self.leaf(term).0).collect();
                format!("({})", terms.join(" + "))
            }
            _ => bracketed(atom.name.as_str()),
        }
    }
}

/// An atom's text in brackets where it is a sum or a product and not bracketed yet.
fn bracketed(name: &str) -> String {
    let (mut depth, mut open) = (0i32, false);
    for c in name.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ' ' | '*' | '+' | '/' if depth == 0 => open = true,
            _ => {}
        }
    }
    if open { format!("({name})") } else { name.to_string() }
}

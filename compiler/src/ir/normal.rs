//! The normal form of a recurrence: one diagonal, rank-one terms beside it, outer products written.
//!
//! ```text
//! S[t] = (diag(d) + sum_j c_j u_j w_j') S[t-1] + sum_i k_i v_i'
//! ```
//!
//! Phase 1 leaves sums in the order they were written; here they are sorted, so every arrangement of a recurrence's
//! terms has one normal form and one printed text.

use egg::{Id, RecExpr};

use super::{
    Feat, Leaf, Term,
    facts::{Definition, Known},
};

/// The canonical recurrence of one state. All leaves are state-free.
#[derive(Debug, Clone, PartialEq)]
pub struct Normal {
    pub decay: Leaf,
    pub ranks: Vec<RankOne>,
    pub writes: Vec<Write>,
}

/// `c u w'`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RankOne {
    pub u: Leaf,
    pub w: Leaf,
    pub c: Leaf,
}

/// `k v'`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    pub k: Leaf,
    pub v: Leaf,
}

impl Normal {
    /// Collects an extracted `(scan A B s)` at `scan`; `None` if it has another shape.
    pub fn collect(term: &RecExpr<Term>, scan: Id, known: &mut Known) -> Option<Normal> {
        let Term::Scan([operator, writes, _]) = &term[scan] else { return None };
        let (mut diagonals, mut ranks) = (Vec::new(), Vec::new());
        transition(term, *operator, known, &mut diagonals, &mut ranks)?;
        let mut written = Vec::new();
        outer_products(term, *writes, known, &mut written)?;
        let decay = match diagonals.len() {
            0 => Leaf::number(0.0),
            _ => sum(diagonals, known),
        };
        Some(Normal { decay, ranks: merge_ranks(ranks), writes: merge_writes(written, known) })
    }

    /// The canonical `(scan A B s0)`, added to `term`.
    pub fn scan(&self, term: &mut RecExpr<Term>) -> Id {
        let leaf = |term: &mut RecExpr<Term>, leaf: &Leaf| term.add(Term::Leaf(leaf.clone()));
        let decay = leaf(term, &self.decay);
        let mut operator = term.add(Term::Diagonal([decay]));
        for rank in &self.ranks {
            let (c, u, w) = (leaf(term, &rank.c), leaf(term, &rank.u), leaf(term, &rank.w));
            let rank = term.add(Term::RankOne([c, u, w]));
            operator = term.add(Term::OpAdd([operator, rank]));
        }
        let mut writes = Vec::new();
        for write in &self.writes {
            let (k, v) = (leaf(term, &write.k), leaf(term, &write.v));
            writes.push(term.add(Term::Outer([k, v])));
        }
        let mut written = writes.pop().expect("a normal form writes something");
        while let Some(write) = writes.pop() {
            written = term.add(Term::Add([write, written]));
        }
        let start = term.add(Term::Init);
        term.add(Term::Scan([operator, written, start]))
    }

    /// The structure class in words.
    pub fn class(&self) -> String {
        let decay = match (&self.decay, self.decay.feat) {
            (d, _) if d.is_one() => "identity",
            (_, Feat::S) => "scalar decay",
            _ => "diagonal decay",
        };
        match self.ranks.as_slice() {
            [] => decay.to_string(),
            [rank] => {
                let merged = self.writes.iter().any(|write| write.k == rank.u);
                let key = if merged { "key of the write" } else { "key of its own" };
                format!("{decay} and rank one ({key})")
            }
            ranks => format!("{decay} and rank {}", ranks.len()),
        }
    }

    /// The recurrence in math.
    pub fn print(&self) -> String {
        let decayed = match (&self.decay, self.decay.feat) {
            (d, _) if d.is_one() => "S'".to_string(),
            (d, Feat::S) => format!("{d} S'"),
            (d, _) => format!("diag({d}) S'"),
        };
        let ranks = self.ranks.iter().map(|r| format!(" + {} {} ({}^T S')", r.c, r.u, r.w));
        let writes = self.writes.iter().map(|w| format!(" + {} ({})^T", w.k, w.v));
        format!("S = {decayed}{}", ranks.chain(writes).collect::<String>())
    }
}

/// A state-free stream as one leaf; sums become atoms of their own.
fn leaf(term: &RecExpr<Term>, id: Id, known: &mut Known) -> Option<Leaf> {
    match &term[id] {
        Term::Leaf(leaf) => Some(leaf.clone()),
        Term::Mul([a, b]) => leaf(term, *a, known)?.times(&leaf(term, *b, known)?),
        Term::Dot([a, b]) => {
            let (a, b) = (leaf(term, *a, known)?, leaf(term, *b, known)?);
            Some(known.define(Definition::Dot(a, b), Feat::S))
        }
        Term::Add(_) => {
            let mut terms = Vec::new();
            summands(term, id, known, &mut terms)?;
            Some(sum(terms, known))
        }
        _ => None,
    }
}

fn summands(term: &RecExpr<Term>, id: Id, known: &mut Known, terms: &mut Vec<Leaf>) -> Option<()> {
    match &term[id] {
        Term::Add([a, b]) => {
            summands(term, *a, known, terms)?;
            summands(term, *b, known, terms)
        }
        Term::ZeroVec => Some(()),
        _ => {
            let one = leaf(term, id, known)?;
            terms.push(one);
            Some(())
        }
    }
}

/// The canonical sum of leaves of one shape: sorted, equal products added.
fn sum(mut terms: Vec<Leaf>, known: &mut Known) -> Leaf {
    terms.sort();
    let mut merged: Vec<Leaf> = Vec::new();
    for term in terms {
        match merged.last_mut() {
            Some(last) if last.factors == term.factors && last.feat == term.feat => last.number += term.number,
            _ => merged.push(term),
        }
    }
    if merged.len() == 1 {
        return merged.remove(0);
    }
    let feat = merged.iter().map(|leaf| leaf.feat).max().expect("a sum has summands");
    known.define(Definition::Sum(merged), feat)
}

fn transition(
    term: &RecExpr<Term>,
    id: Id,
    known: &mut Known,
    diagonals: &mut Vec<Leaf>,
    ranks: &mut Vec<RankOne>,
) -> Option<()> {
    match &term[id] {
        Term::OpAdd([a, b]) => {
            transition(term, *a, known, diagonals, ranks)?;
            transition(term, *b, known, diagonals, ranks)
        }
        Term::Diagonal([d]) => {
            let d = leaf(term, *d, known)?;
            diagonals.push(d);
            Some(())
        }
        Term::RankOne([c, u, w]) => {
            let (c, u, w) = (leaf(term, *c, known)?, leaf(term, *u, known)?, leaf(term, *w, known)?);
            let ((us, u), (ws, w)) = (u.split(), w.split());
            let c = c.times(&us)?.times(&ws)?;
            ranks.push(RankOne { u, w, c });
            Some(())
        }
        _ => None,
    }
}

fn merge_ranks(mut ranks: Vec<RankOne>) -> Vec<RankOne> {
    ranks.sort();
    let mut merged: Vec<RankOne> = Vec::new();
    for rank in ranks {
        match merged.last_mut() {
            Some(last) if last.u == rank.u && last.w == rank.w && last.c.factors == rank.c.factors => {
                last.c.number += rank.c.number;
            }
            _ => merged.push(rank),
        }
    }
    merged.retain(|rank| rank.c.number != 0.0);
    merged
}

fn outer_products(term: &RecExpr<Term>, id: Id, known: &mut Known, written: &mut Vec<Write>) -> Option<()> {
    match &term[id] {
        Term::Add([a, b]) => {
            outer_products(term, *a, known, written)?;
            outer_products(term, *b, known, written)
        }
        Term::Outer([k, v]) => {
            let (scalar, k) = leaf(term, *k, known)?.split();
            let v = leaf(term, *v, known)?.times(&scalar)?;
            written.push(Write { k, v });
            Some(())
        }
        Term::ZeroMat => {
            written.push(Write { k: Leaf::ones(Feat::K), v: Leaf { number: 0.0, ..Leaf::ones(Feat::V) } });
            Some(())
        }
        _ => None,
    }
}

/// Writes along one key become one write.
fn merge_writes(mut writes: Vec<Write>, known: &mut Known) -> Vec<Write> {
    writes.sort();
    let mut merged: Vec<(Leaf, Vec<Leaf>)> = Vec::new();
    for write in writes {
        match merged.iter_mut().find(|(k, _)| *k == write.k) {
            Some((_, values)) => values.push(write.v),
            None => merged.push((write.k, vec![write.v])),
        }
    }
    merged.into_iter().map(|(k, values)| Write { k, v: sum(values, known) }).collect()
}

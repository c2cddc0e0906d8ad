//! The normal form of a recurrence: one diagonal of each side, rank-one terms beside them, outer products written.
//!
//! ```text
//! S[t] = diag(d) S[t-1] diag(b) + sum_j u_j (c_j .* (S[t-1]' w_j))' + sum_i k_i v_i'
//! ```
//!
//! Scalar factors are d's, and where columns do not decay b is the constant 1. A rank-one term carries what scales its
//! columns itself, so (I - k k') S diag(b) is S diag(b) - k (b .* (S' k))' however it was written.
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
    /// The decay of columns: 1 or a V-vector.
    pub columns: Leaf,
    pub ranks: Vec<RankOne>,
    pub writes: Vec<Write>,
}

/// Why a recurrence has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoNormalForm {
    /// No rule brings it into the shape of a scan.
    Scan,
    /// The diagonals of its two sides add up, so every entry decays in its own way.
    ElementWise,
}

impl NoNormalForm {
    pub fn reason(self) -> &'static str {
        match self {
            NoNormalForm::Scan => "no rule brings its recurrence into the shape of one scan",
            NoNormalForm::ElementWise => {
                "diagonals of its two sides add up, so every entry decays in its own way (element-wise)"
            }
        }
    }

    /// The structure class in words.
    pub fn class(self) -> &'static str {
        match self {
            NoNormalForm::Scan => "unknown",
            NoNormalForm::ElementWise => "element-wise",
        }
    }
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
    /// Collects an extracted `(scan A B s)` at `scan`.
    ///
    /// # Errors
    /// A term of another shape, and diagonals that are no product of one of each side.
    pub fn collect(term: &RecExpr<Term>, scan: Id, known: &mut Known) -> Result<Normal, NoNormalForm> {
        let Term::Scan([operator, writes, _]) = &term[scan] else { return Err(NoNormalForm::Scan) };
        let (mut diagonals, mut ranks) = (Vec::new(), Vec::new());
        transition(term, *operator, known, &mut diagonals, &mut ranks).ok_or(NoNormalForm::Scan)?;
        let mut written = Vec::new();
        outer_products(term, *writes, known, &mut written).ok_or(NoNormalForm::Scan)?;
        let (decay, columns) = both_sides(diagonals, known).ok_or(NoNormalForm::ElementWise)?;
        Ok(Normal { decay, columns, ranks: merge_ranks(ranks), writes: merge_writes(written, known) })
    }

    /// The canonical `(scan A B s0)`, added to `term`.
    pub fn scan(&self, term: &mut RecExpr<Term>) -> Id {
        let leaf = |term: &mut RecExpr<Term>, leaf: &Leaf| term.add(Term::Leaf(leaf.clone()));
        let decay = leaf(term, &self.decay);
        let mut operator = if self.columns.is_one() {
            term.add(Term::Diagonal([decay]))
        } else {
            let columns = leaf(term, &self.columns);
            term.add(Term::DiagonalBoth([decay, columns]))
        };
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

    /// The decays: of rows, and of columns where they decay.
    pub fn decays(&self) -> impl Iterator<Item = &Leaf> {
        std::iter::once(&self.decay).chain((!self.columns.is_one()).then_some(&self.columns))
    }

    /// The structure class in words.
    pub fn class(&self) -> String {
        let decay = match (&self.decay, self.decay.feat) {
            (d, Feat::K) if !d.is_one() && !self.columns.is_one() => "diagonal decay from both sides",
            _ if !self.columns.is_one() && self.ranks.is_empty() => "diagonal decay",
            _ if !self.columns.is_one() => "diagonal decay from the other side",
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
        let columns = if self.columns.is_one() { String::new() } else { format!(" diag({})", self.columns) };
        let ranks = self.ranks.iter().map(|r| format!(" + {} {} ({}^T S')", r.c, r.u, r.w));
        let writes = self.writes.iter().map(|w| format!(" + {} ({})^T", w.k, w.v));
        format!("S = {decayed}{columns}{}", ranks.chain(writes).collect::<String>())
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

/// The sum of terms `diag(d) X diag(b)` as one; `None` where it is none.
fn both_sides(diagonals: Vec<(Leaf, Leaf)>, known: &mut Known) -> Option<(Leaf, Leaf)> {
    let one = Leaf::number(1.0);
    if diagonals.is_empty() {
        return Some((Leaf::number(0.0), one));
    }
    let mut alike: Vec<(Leaf, Vec<Leaf>)> = Vec::new();
    for (d, b) in diagonals {
        match alike.iter_mut().find(|(columns, _)| *columns == b) {
            Some((_, rows)) => rows.push(d),
            None => alike.push((b, vec![d])),
        }
    }
    let (columns, rows): (Vec<Leaf>, Vec<Leaf>) = alike.into_iter().map(|(b, rows)| (b, sum(rows, known))).unzip();
    if let ([b], [d]) = (columns.as_slice(), rows.as_slice()) {
        return Some((d.clone(), b.clone()));
    }
    // Unlike columns: what is left of the rows without their scalars must be one vector, then the columns add up.
    let (scalars, vectors): (Vec<Leaf>, Vec<Leaf>) = rows.iter().map(Leaf::split).unzip();
    let constant = |d: &Leaf| d.factors.is_empty();
    if !vectors.iter().all(|d| *d == vectors[0] || constant(d) && constant(&vectors[0])) {
        return None;
    }
    let scaled = scalars.iter().zip(&columns).map(|(s, b)| s.times(b)).collect::<Option<Vec<Leaf>>>()?;
    let (scalar, columns) = sum(scaled, known).split();
    let vector = if constant(&vectors[0]) { one } else { vectors[0].clone() };
    Some((scalar.times(&vector)?, columns))
}

/// A column decay without its scalars, which go to the rows; 1 where nothing else is left.
fn column_decay(d: &Leaf, b: &Leaf) -> Option<(Leaf, Leaf)> {
    let (scalar, vector) = b.split();
    let vector = if vector.factors.is_empty() { Leaf::number(1.0) } else { vector };
    Some((d.times(&scalar)?, vector))
}

fn transition(
    term: &RecExpr<Term>,
    id: Id,
    known: &mut Known,
    diagonals: &mut Vec<(Leaf, Leaf)>,
    ranks: &mut Vec<RankOne>,
) -> Option<()> {
    match &term[id] {
        Term::OpAdd([a, b]) => {
            transition(term, *a, known, diagonals, ranks)?;
            transition(term, *b, known, diagonals, ranks)
        }
        Term::Diagonal([d]) => {
            let d = leaf(term, *d, known)?;
            diagonals.push((d, Leaf::number(1.0)));
            Some(())
        }
        Term::DiagonalBoth([d, b]) => {
            let (d, b) = (leaf(term, *d, known)?, leaf(term, *b, known)?);
            let both = column_decay(&d, &b)?;
            diagonals.push(both);
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

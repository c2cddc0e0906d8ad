//! Normal forms and forms of hand-written recurrences.

use chunkwise_dsl::typed::{ExprId, StateId};
use egg::{Language, RecExpr, SymbolLang};

use super::*;
use crate::ir::{
    Feat, Leaf,
    lower::{Read, System},
};

/// A term of text, its names atoms: k q w u p b a~K (rows), v~V, else scalars.
pub fn term(text: &str) -> RecExpr<Term> {
    let parsed: RecExpr<SymbolLang> = text.parse().expect("a term");
    let mut term = RecExpr::default();
    for node in parsed.as_ref() {
        let name = node.op.as_str();
        let made = <Term as egg::FromOp>::from_op(name, node.children.clone()).unwrap_or_else(|_| {
            let feat = match name.chars().next() {
                Some('k' | 'q' | 'w' | 'u' | 'p' | 'D') => Feat::K,
                Some('v' | 'V') => Feat::V,
                _ => Feat::S,
            };
            Term::Leaf(Leaf::atom(name, feat))
        });
        term.add(made);
    }
    term
}

pub fn system(update: &str, reads: &[&str]) -> System {
    System {
        state: StateId(0),
        transposed: false,
        known: Known::default(),
        update: term(update),
        reads: reads
            .iter()
            .enumerate()
            .map(|(place, read)| Read { expr: ExprId(place as u32), term: term(read) })
            .collect(),
    }
}

pub const P: &str = "(prev s0 S)";

/// Delta laws on one state, one after the other.
fn deltas(start: &str, betas: &[&str]) -> String {
    betas.iter().enumerate().fold(start.replace('P', P), |state, (n, beta)| {
        format!("(add {state} (mul {beta} (outer k{n} (add v{n} (mul -1 (read k{n} {state}))))))")
    })
}

/// Every transition class the project derives.
pub fn recurrences() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let read = vec!["(read q S)"];
    vec![
        ("linear", format!("(add {P} (outer k v))"), read.clone()),
        ("scalar decay", format!("(add (mul a {P}) (outer k v))"), read.clone()),
        ("diagonal decay", format!("(add (mul D {P}) (outer k v))"), read.clone()),
        ("bonus", format!("(add (mul D {P}) (outer k v))"), vec!["(read q (add (prev s0 S) (outer (mul u k) v)))"]),
        ("delta", format!("(add {P} (outer k (mul b (add v (mul -1 (read k {P}))))))"), read.clone()),
        (
            "gated delta",
            format!("(add (mul a {P}) (outer k (mul b (add v (mul -1 (read k (mul a {P})))))))"),
            read.clone(),
        ),
        (
            "gated delta, as an operator",
            format!(
                "(add (app (ocomp (odi a) (oadd oid (ocomp (odi -1) (ocomp (odi b) (or1 1 k k))))) {P}) (mul b (outer k v)))"
            ),
            read.clone(),
        ),
        (
            "gated delta, distributed",
            format!("(add (mul b (outer k v)) (add (mul -1 (mul b (mul a (outer k (read k {P}))))) (mul a {P})))"),
            read.clone(),
        ),
        (
            "channel delta",
            format!("(add (mul D {P}) (outer (mul b k) (add v (mul -1 (read k (mul D {P}))))))"),
            read.clone(),
        ),
        ("comba", format!("(add (mul a {P}) (outer k (mul b (add v (mul -1 (read p (mul a {P})))))))"), read.clone()),
        ("rank one before decay", format!("(add (add (mul D {P}) (outer u (read w {P}))) (outer k v))"), read.clone()),
        (
            "two deltas",
            format!(
                "(add (add {P} (outer k (mul b (add v (mul -1 (read k {P})))))) (outer k2 (mul b2 (add v2 (mul -1 (read k2 (add {P} (outer k (mul b (add v (mul -1 (read k {P}))))))))))))"
            ),
            read.clone(),
        ),
        (
            "column gates",
            format!("(add (mul a {P}) (outer k (mul V (add v (mul -1 (read k (mul a {P})))))))"),
            read.clone(),
        ),
        (
            "two deltas with column gates",
            format!(
                "(add (add {P} (outer k (mul V (add v (mul -1 (read k {P})))))) (outer k2 (mul V2 (add v2 (mul -1 (read k2 (add {P} (outer k (mul V (add v (mul -1 (read k {P}))))))))))))"
            ),
            read.clone(),
        ),
        ("three deltas after a channel decay", deltas("(mul D P)", &["b1", "b2", "b3"]), read.clone()),
        ("count", format!("(add {P} (outer 1k 1v))"), vec!["(read 1k S)"]),
        (
            "whole reads",
            format!("(add (mul D {P}) (outer k (add v (mul -1 (read k {P})))))"),
            vec!["S", P, "(read q S)"],
        ),
        (
            "diagonals of both sides",
            format!("(add (mul D (cols V {P})) (outer k v))"),
            vec!["(read q S)", "(readv v S)"],
        ),
        (
            "diagonals of both sides, read before",
            format!("(add (mul a (cols V {P})) (add (outer k v) (outer k2 v2)))"),
            vec!["(read q (prev s0 S))", "(readv v (prev s0 S))", "(read q S)", "S"],
        ),
        (
            "rank one and a diagonal of the other side",
            format!("(add (cols V (add {P} (mul -1 (mul b (outer k (read k {P})))))) (outer k v))"),
            vec!["(read q S)", "(readv v S)", P],
        ),
        (
            "rank one after a diagonal of the other side",
            format!("(add (app (oadd oid (ocomp (odi -1) (ocomp (odi b) (or1 1 k k)))) (cols V {P})) (outer k v))"),
            read.clone(),
        ),
        (
            "rank one and a diagonal of the other side, distributed",
            format!("(add (outer k v) (add (outer k (mul (mul -1 b) (read k (cols V {P})))) (cols V {P})))"),
            read.clone(),
        ),
        (
            "rank one and a diagonal of the other side, by a gated read",
            format!("(add (cols V {P}) (outer k (add v (mul -1 (mul V (mul b (read k {P})))))))"),
            read.clone(),
        ),
        (
            "deltas under diagonals of both sides",
            deltas("(mul D (cols V P))", &["b1", "b2"]),
            vec!["(read q S)", "(read w (prev s0 S))"],
        ),
        (
            "a diagonal of the other side after deltas",
            format!("(add (cols V {}) (outer u v))", deltas("P", &["b1", "b2"])),
            read.clone(),
        ),
        ("right read", format!("(add (mul D {P}) (outer k v))"), vec!["(readv v S)", "(readv v (prev s0 S))"]),
    ]
}

#[test]
fn every_class_has_a_normal_form_and_all_forms() {
    for (name, update, reads) in recurrences() {
        let derived = derive(system(&update, &reads), Proofs::Off).unwrap_or_else(|_| panic!("{name}: no normal form"));
        let nodes = (derived.raw.graph.total_number_of_nodes(), derived.forms.graph.total_number_of_nodes());
        assert!(nodes.0 + nodes.1 < 3000, "{name}: {nodes:?} e-nodes");
        for form in [Form::Recurrent, Form::Chunked, Form::Parallel] {
            let term = derived.extract(form, Schedule::Fused);
            assert!(term.is_some(), "{name}: no {form:?} form");
        }
        let distributed = derived.distributed().total_number_of_nodes();
        assert!(distributed < 3000, "{name}: {distributed} e-nodes");
    }
}

/// Whether a node of a term depends on the state at a chunk's start.
fn waits(term: &RecExpr<Term>, id: egg::Id) -> bool {
    matches!(term[id], Term::Boundary(_)) || term[id].children().iter().any(|child| waits(term, *child))
}

#[test]
fn solves_of_chunks_that_run_apart_wait_for_no_other() {
    let mut solves = 0;
    for (name, update, reads) in recurrences() {
        let derived = derive(system(&update, &reads), Proofs::Off).unwrap_or_else(|_| panic!("{name}: no normal form"));
        let term = derived.extract(Form::Chunked, Schedule::Split).unwrap_or_else(|| panic!("{name}: no form"));
        for node in term.as_ref() {
            if let Term::Solve([_, x]) = node {
                solves += 1;
                assert!(!waits(&term, *x), "{name}: {term}");
            }
        }
    }
    assert!(solves > 10, "{solves} solves");
}

#[test]
fn arrangements_of_one_recurrence_have_one_normal_form() {
    let of = |name: &str| {
        let (_, update, reads) = recurrences().into_iter().find(|(n, ..)| *n == name).expect("a known name");
        derive(system(&update, &reads), Proofs::Off).expect("a normal form").normal
    };
    assert_eq!(of("gated delta"), of("gated delta, as an operator"));
    assert_eq!(of("gated delta"), of("gated delta, distributed"));
    let of_columns = of("rank one and a diagonal of the other side");
    assert_eq!(of_columns.class(), "diagonal decay from the other side and rank one (key of the write)");
    assert_eq!(of_columns, of("rank one after a diagonal of the other side"));
    assert_eq!(of_columns, of("rank one and a diagonal of the other side, distributed"));
    assert_eq!(of_columns, of("rank one and a diagonal of the other side, by a gated read"));
}

#[test]
fn no_term_has_unknown_children() {
    assert_eq!(term("(mul a k)").root(), egg::Id::from(2usize));
    assert_eq!(term("(mul a k)")[egg::Id::from(2usize)].children().len(), 2);
}

//! The text of a form: what extraction chose, shared sub-terms named once, and counts at the end.
//!
//! ```text
//!   x1 = (dmask (ch a))
//!   read (unch (add (mm (tril (had (mmT (ch q) (ch k)) x1)) (ch v)) (rd (qin (ch a) (ch q)) (bnd s0))))
//!   last (fin (step (ch a) (kout (ch a) (ch k)) (ch v) (bnd s0)))
//!   1 mm, 1 mmT, 1 rd, 0 usolve
//! ```

use std::collections::HashMap;

use egg::{Id, Language, RecExpr};

use super::Term;

/// Shorter sub-terms are repeated rather than named.
const LONG: usize = 12;

/// The roots of a form, one a line.
pub fn print(term: &RecExpr<Term>) -> String {
    let mut uses: HashMap<Id, usize> = HashMap::new();
    for node in term.as_ref() {
        for child in node.children() {
            *uses.entry(*child).or_default() += 1;
        }
    }
    let mut text = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut named = 0;
    for (place, node) in term.as_ref().iter().enumerate() {
        let operands: Vec<&str> = node.children().iter().map(|child| names[usize::from(*child)].as_str()).collect();
        let own = match operands.as_slice() {
            [] => node.to_string(),
            operands => format!("({node} {})", operands.join(" ")),
        };
        let shared = uses.get(&Id::from(place)).copied().unwrap_or(0) > 1;
        if shared && own.len() > LONG && !matches!(node, Term::Roots(_)) {
            named += 1;
            text.push_str(&format!("  x{named} = {own}\n"));
            names.push(format!("x{named}"));
        } else {
            names.push(own);
        }
    }
    let roots = roots(term);
    for (place, root) in roots.iter().enumerate() {
        let what = if place + 1 == roots.len() { "last" } else { "read" };
        text.push_str(&format!("  {what} {}\n", names[usize::from(*root)]));
    }
    text.push_str(&format!("  {}\n", counts(term)));
    text
}

/// The places of the roots in a `roots` term: the reads in order, then the final state.
pub fn roots(term: &RecExpr<Term>) -> Vec<Id> {
    let mut found = Vec::new();
    let mut at = term.root();
    while let Term::Roots([first, rest]) = &term[at] {
        found.push(*first);
        at = *rest;
    }
    found.push(at);
    found
}

fn counts(term: &RecExpr<Term>) -> String {
    let count = |name: &str| term.as_ref().iter().filter(|node| node.to_string() == name).count();
    let counted = ["mm", "mmT", "trisub", "rd", "usolve", "dmask", "scan"];
    counted.map(|name| format!("{} {name}", count(name))).join(", ")
}

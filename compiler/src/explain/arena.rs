//! Terms of proofs with equal terms stored once: thousands of terms of one proof share almost all of their parts.

use std::collections::HashMap;

use egg::{ENodeOrVar, FlatTerm, Id, Language, PatternAst, RecExpr, Var};

use crate::ir::Term;

#[derive(Default)]
pub struct Arena {
    nodes: Vec<Term>,
    places: HashMap<Term, Id>,
}

/// One rewrite inside a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rewriting {
    pub rule: String,
    /// Left to right; else the rule was used from right to left.
    pub forward: bool,
    pub before: Id,
    pub after: Id,
}

impl Arena {
    pub fn node(&self, id: Id) -> &Term {
        &self.nodes[usize::from(id)]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The place of a node whose children are places.
    pub fn add(&mut self, node: Term) -> Id {
        let Arena { nodes, places } = self;
        *places.entry(node.clone()).or_insert_with(|| {
            nodes.push(node);
            Id::from(nodes.len() - 1)
        })
    }

    pub fn add_term(&mut self, term: &RecExpr<Term>) -> Id {
        let mut ids: Vec<Id> = Vec::new();
        for node in term.as_ref() {
            let id = self.add(node.clone().map_children(|child| ids[usize::from(child)]));
            ids.push(id);
        }
        ids[usize::from(term.root())]
    }

    pub fn add_flat(&mut self, term: &FlatTerm<Term>) -> Id {
        let children: Vec<Id> = term.children.iter().map(|child| self.add_flat(child)).collect();
        let mut children = children.into_iter();
        self.add(term.node.clone().map_children(|child| children.next().unwrap_or(child)))
    }

    /// What was rewritten between two successive terms of a proof.
    pub fn rewriting(&mut self, last: &FlatTerm<Term>, next: &FlatTerm<Term>) -> Option<Rewriting> {
        let named = next.forward_rule.map(|rule| (rule, true)).or(next.backward_rule.map(|rule| (rule, false)));
        if let Some((rule, forward)) = named {
            let (before, after) = (self.add_flat(last), self.add_flat(next));
            return Some(Rewriting { rule: rule.to_string(), forward, before, after });
        }
        last.children.iter().zip(&next.children).find_map(|(last, next)| self.rewriting(last, next))
    }

    /// What a pattern's variables are in a term that it matches.
    pub fn bindings(&self, pattern: &PatternAst<Term>, id: Id) -> Option<HashMap<Var, Id>> {
        let mut found = HashMap::new();
        self.bind(pattern, pattern.root(), id, &mut found).then_some(found)
    }

    fn bind(&self, pattern: &PatternAst<Term>, at: Id, id: Id, found: &mut HashMap<Var, Id>) -> bool {
        match &pattern[at] {
            ENodeOrVar::Var(var) => *found.entry(*var).or_insert(id) == id,
            ENodeOrVar::ENode(term) => {
                let node = self.node(id);
                let pairs = term.children().iter().zip(node.children());
                term.matches(node) && pairs.fold(true, |all, (&at, &id)| all && self.bind(pattern, at, id, found))
            }
        }
    }

    /// Every term at or below one, once each.
    pub fn below(&self, id: Id) -> Vec<Id> {
        let mut found = vec![id];
        let mut next = 0;
        while next < found.len() {
            for &child in self.node(found[next]).children() {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
            next += 1;
        }
        found
    }
}

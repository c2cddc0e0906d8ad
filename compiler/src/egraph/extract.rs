//! Greedy DAG extraction: a class costs what its whole sub-DAG costs, shared classes once.
//!
//! egg's `Extractor` charges shared terms at every use, which is wrong for masks and solves that several reads share.
//! A node whose children already need its own class is skipped: that is what makes cyclic classes harmless.

use std::collections::{BTreeMap, HashMap};

use egg::{Id, Language, RecExpr};

use crate::ir::{Term, facts::Graph};

struct Choice {
    cost: f64,
    /// Every class below and its own cost.
    below: BTreeMap<Id, f64>,
    node: Term,
}

/// The cheapest term of a class by a cost for every node (infinite: never), if there is one.
pub fn extract(graph: &Graph, root: Id, cost: &dyn Fn(&Graph, &Term) -> f64) -> Option<RecExpr<Term>> {
    let choices = choose(graph, cost);
    let root = graph.find(root);
    choices.contains_key(&root).then(|| {
        let mut term = RecExpr::default();
        build(graph, root, &choices, &mut term, &mut HashMap::new());
        term
    })
}

fn choose(graph: &Graph, cost: &dyn Fn(&Graph, &Term) -> f64) -> HashMap<Id, Choice> {
    let mut classes: Vec<_> = graph.classes().collect();
    classes.sort_by_key(|class| class.id);
    let mut best: HashMap<Id, Choice> = HashMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for class in &classes {
            for node in &class.nodes {
                let own = cost(graph, node);
                if own.is_finite() && improve(graph, class.id, node, own, &mut best) {
                    changed = true;
                }
            }
        }
    }
    best
}

fn improve(graph: &Graph, class: Id, node: &Term, own: f64, best: &mut HashMap<Id, Choice>) -> bool {
    let mut below = BTreeMap::new();
    for child in node.children() {
        match best.get(&graph.find(*child)) {
            Some(choice) => below.extend(choice.below.iter().map(|(id, cost)| (*id, *cost))),
            None => return false,
        }
    }
    if below.contains_key(&class) {
        return false;
    }
    below.insert(class, own);
    let cost: f64 = below.values().sum();
    // A strict improvement by more than rounding, so that the loop ends.
    if best.get(&class).is_some_and(|choice| cost >= choice.cost * (1.0 - 1e-9)) {
        return false;
    }
    best.insert(class, Choice { cost, below, node: node.clone() });
    true
}

fn build(
    graph: &Graph,
    class: Id,
    choices: &HashMap<Id, Choice>,
    term: &mut RecExpr<Term>,
    done: &mut HashMap<Id, Id>,
) -> Id {
    if let Some(&id) = done.get(&class) {
        return id;
    }
    let node = choices[&class].node.clone().map_children(|child| build(graph, graph.find(child), choices, term, done));
    let id = term.add(node);
    done.insert(class, id);
    id
}

//! The saturated graphs and what is extracted from them against loops over tokens, for every class of transition.

use std::collections::HashMap;

use egg::{Id, Language};

use super::{tests::*, *};
use crate::ir::eval::{Dims, Instance, Value};

const BOUND: f64 = 1e-9;

/// Two instances with chunks that fill the tokens and one with a short last chunk.
const SIZES: [Dims; 2] = [Dims::SMALL, Dims { tokens: 17, chunk: 5, rows: 3, columns: 6 }];

fn instances(derived: &Derived) -> Vec<Instance> {
    let known = &derived.forms.graph.analysis;
    let make = |(place, &dims): (usize, &Dims)| {
        Instance::of(&derived.system, known, dims, place as u64 + 1).expect("a raw recurrence has a value")
    };
    SIZES.iter().enumerate().map(make).collect()
}

fn derived() -> Vec<(&'static str, Derived)> {
    let derive = |(name, update, reads): (&'static str, String, Vec<&'static str>)| {
        let derived = derive(system(&update, &reads), Proofs::Off);
        (name, derived.unwrap_or_else(|_| panic!("{name}: no normal form")))
    };
    recurrences().into_iter().map(derive).collect()
}

/// The value of every class by any node whose children have one.
fn values(graph: &Graph, instance: &Instance) -> HashMap<Id, Value> {
    let mut values: HashMap<Id, Value> = HashMap::new();
    loop {
        let before = values.len();
        for class in graph.classes() {
            if values.contains_key(&class.id) {
                continue;
            }
            let value = class.nodes.iter().find_map(|node| node_value(graph, instance, &values, node));
            if let Some(Ok(value)) = value {
                values.insert(class.id, value);
            }
        }
        if values.len() == before {
            return values;
        }
    }
}

type Outcome = Result<Value, crate::ir::eval::IllTyped>;

fn node_value(graph: &Graph, instance: &Instance, values: &HashMap<Id, Value>, node: &Term) -> Option<Outcome> {
    let children: Option<Vec<&Value>> = node.children().iter().map(|id| values.get(&graph.find(*id))).collect();
    children.map(|children| instance.node(node, &children))
}

/// How many nodes were evaluated; panics at the first class whose nodes disagree.
fn audit(name: &str, graph: &Graph, instance: &Instance) -> usize {
    let values = values(graph, instance);
    let mut nodes = 0;
    for class in graph.classes() {
        let Some(value) = values.get(&class.id) else {
            let tried: Vec<_> =
                class.nodes.iter().map(|node| (node, node_value(graph, instance, &values, node))).collect();
            panic!("{name}: a class has no value: {tried:?}");
        };
        for node in &class.nodes {
            let found = node_value(graph, instance, &values, node).expect("every class has a value");
            let found = found.unwrap_or_else(|error| panic!("{name}: {node:?} of {:?}: {error}", class.nodes));
            let off = found.deviation(value);
            assert!(off.is_some_and(|off| off <= BOUND), "{name}: {node:?} of {:?} is off by {off:?}", class.nodes);
            nodes += 1;
        }
    }
    nodes
}

#[test]
fn all_nodes_of_every_class_have_one_value() {
    let mut nodes = 0;
    for (name, derived) in derived() {
        for instance in instances(&derived) {
            nodes += audit(&format!("{name}, phase 1"), &derived.raw.graph, &instance);
            nodes += audit(&format!("{name}, phase 2"), &derived.forms.graph, &instance);
            nodes += audit(&format!("{name}, phase 4"), derived.distributed(), &instance);
        }
    }
    println!("{nodes} nodes evaluated");
}

#[test]
fn every_form_is_the_loop_over_tokens() {
    for (name, derived) in derived() {
        for instance in instances(&derived) {
            let reference = instance.term(&derived.raw.term).expect("the raw roots have values");
            let normal = instance.term(&derived.forms.term).expect("the normal form has a value");
            let off = normal.deviation(&reference);
            assert!(off.is_some_and(|off| off <= BOUND), "{name}: the normal form is off by {off:?}");
            let fused = [Form::Recurrent, Form::Chunked, Form::Parallel].map(|form| (form, Schedule::Fused));
            for (form, schedule) in fused.into_iter().chain([(Form::Chunked, Schedule::Split)]) {
                let term = derived.extract(form, schedule).unwrap_or_else(|| panic!("{name}: no {form:?} form"));
                let value = instance.term(&term).unwrap_or_else(|error| panic!("{name}, {form:?}: {error}"));
                let off = value.deviation(&reference);
                assert!(off.is_some_and(|off| off <= BOUND), "{name}: the {form:?} form is off by {off:?}: {term}");
            }
        }
    }
}

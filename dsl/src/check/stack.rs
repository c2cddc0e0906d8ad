//! What holds between the items of a file: names of variants, stacks and functions, stacks' layers, recursion.

use std::collections::{BTreeMap, HashMap};

use crate::ast::{self, Item, Layer, Named, Param, StmtKind};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;

use super::recursion::{Defined, recursive};

/// The errors between items.
pub(super) fn check_items(file: &ast::File) -> Vec<Diagnostic> {
    let mut errors = duplicates(file);
    let shared = file.items.iter().filter_map(|item| match item {
        Item::Function(f) => Some((&f.name, &f.body)),
        _ => None,
    });
    let shared: Vec<Defined> = shared.collect();
    errors.extend(recursive(&shared));
    let known = composable(file);
    for item in &file.items {
        match item {
            Item::Variant(variant) => {
                let own = variant.body.iter().filter_map(|stmt| match &stmt.kind {
                    StmtKind::Function(f) => Some((&f.name, &f.body)),
                    StmtKind::Feature { name, body: Some(body), .. } => Some((name, body)),
                    _ => None,
                });
                let own: Vec<Defined> = own.collect();
                if !own.is_empty() {
                    errors.extend(recursive(&[own.as_slice(), shared.as_slice()].concat()));
                }
            }
            Item::Stack(stack) => stack.layers.iter().for_each(|layer| check_layer(&known, layer, &mut errors)),
            Item::Function(_) => {}
        }
    }
    errors
}

fn duplicates(file: &ast::File) -> Vec<Diagnostic> {
    let mut first: HashMap<&str, Span> = HashMap::new();
    let mut errors = Vec::new();
    for item in &file.items {
        let name = match item {
            Item::Variant(variant) => &variant.name,
            Item::Stack(stack) => &stack.name,
            Item::Function(f) => &f.name,
        };
        match first.get(name.name.as_str()) {
            Some(span) => errors.push(
                Diagnostic::new("duplicate-name", format!("`{}` is defined twice in this file", name.name))
                    .label(name.span, "the second time")
                    .label(*span, "the first time")
                    .help("choose another name"),
            ),
            None => {
                first.insert(&name.name, name.span);
            }
        }
    }
    errors
}

/// What a stack may be composed of, by name, with its parameters.
type Composable<'a> = BTreeMap<&'a str, &'a [Param]>;

fn composable(file: &ast::File) -> Composable<'_> {
    let named = file.items.iter().filter_map(|item| match item {
        Item::Variant(variant) => Some((variant.name.name.as_str(), variant.params.as_slice())),
        Item::Stack(stack) => Some((stack.name.name.as_str(), stack.params.as_slice())),
        Item::Function(_) => None,
    });
    named.collect()
}

fn check_layer(known: &Composable, layer: &Layer, errors: &mut Vec<Diagnostic>) {
    match layer {
        Layer::Repeat { layers, .. } => layers.iter().for_each(|layer| check_layer(known, layer, errors)),
        Layer::Variant(named) => check_named(known, named, errors),
    }
}

fn check_named(known: &Composable, named: &Named, errors: &mut Vec<Diagnostic>) {
    /// In a larger file a misspelt name is not compared with all others.
    const COMPARED: usize = 200;
    let Some(params) = known.get(named.name.name.as_str()) else {
        let help = match nearest(&named.name.name, known.keys().copied().take(COMPARED)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "a stack is composed of variants of its file".to_string(),
        };
        let message = format!("this file has no variant `{}`", named.name.name);
        errors.push(Diagnostic::new("undeclared-name", message).label(named.name.span, "not known here").help(help));
        return;
    };
    for (place, arg) in named.args.iter().enumerate() {
        let unknown = match &arg.name {
            Some(name) => params.iter().all(|param| param.name.name != name.name),
            None => place >= params.len(),
        };
        if unknown {
            let span = arg.name.as_ref().map_or(arg.value.span, |name| name.span);
            let list: Vec<String> = params.iter().map(|param| format!("`{}`", param.name.name)).collect();
            let help = match list.is_empty() {
                true => "it takes no arguments".to_string(),
                false => format!("its parameters are {}", list.join(", ")),
            };
            let message = format!("`{}` has no such parameter", named.name.name);
            errors.push(Diagnostic::new("unknown-argument", message).label(span, "given here").help(help));
        }
    }
}

/// The names that a variant calls in its lets, variants or not.
pub(super) fn called_by(variant: &ast::Variant) -> Vec<&str> {
    let values = variant.body.iter().filter_map(|stmt| match &stmt.kind {
        StmtKind::Let { value, .. } | StmtKind::LetSeveral { value, .. } => Some(value),
        _ => None,
    });
    let names = values.filter_map(|value| match &value.kind {
        ast::ExprKind::Call { name, .. } => Some(name.name.as_str()),
        _ => None,
    });
    names.collect()
}

/// The blocks of a stack.
pub(super) fn blocks(layers: &[Layer]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open: Vec<&Layer> = layers.iter().collect();
    while let Some(layer) = open.pop() {
        match layer {
            Layer::Repeat { layers, .. } => open.extend(layers),
            Layer::Variant(named) => found.push(named.name.name.as_str()),
        }
    }
    found
}

//! What holds between the items of a file: names of variants, stacks and functions, stacks' layers, recursion.

use std::collections::HashMap;

use crate::ast::{self, Item, Layer, Named, StmtKind};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;

use super::call::recursive;

/// The errors between items.
pub(super) fn check_items(file: &ast::File) -> Vec<Diagnostic> {
    let mut errors = duplicates(file);
    let shared: Vec<&ast::Function> = file
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Function(f) => Some(f),
            _ => None,
        })
        .collect();
    errors.extend(recursive(&shared));
    for item in &file.items {
        match item {
            Item::Variant(variant) => {
                let own = variant.body.iter().filter_map(|stmt| match &stmt.kind {
                    StmtKind::Function(f) => Some(f),
                    _ => None,
                });
                let all: Vec<&ast::Function> = own.chain(shared.iter().copied()).collect();
                errors.extend(recursive(&all));
            }
            Item::Stack(stack) => stack.layers.iter().for_each(|layer| check_layer(file, layer, &mut errors)),
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

fn check_layer(file: &ast::File, layer: &Layer, errors: &mut Vec<Diagnostic>) {
    match layer {
        Layer::Repeat { layers, .. } => layers.iter().for_each(|layer| check_layer(file, layer, errors)),
        Layer::Variant(named) => check_named(file, named, errors),
    }
}

fn check_named(file: &ast::File, named: &Named, errors: &mut Vec<Diagnostic>) {
    let params = file.items.iter().find_map(|item| match item {
        Item::Variant(variant) if variant.name.name == named.name.name => Some(&variant.params),
        Item::Stack(stack) if stack.name.name == named.name.name => Some(&stack.params),
        _ => None,
    });
    let Some(params) = params else {
        let known = file.items.iter().filter_map(|item| match item {
            Item::Variant(variant) => Some(variant.name.name.as_str()),
            _ => None,
        });
        let help = match nearest(&named.name.name, known) {
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

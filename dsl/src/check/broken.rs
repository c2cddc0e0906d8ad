//! What does not parse, as the checker sees it: its words are known to be said and nothing more, and no error is
//! reported that may be only for the lack of it. The syntax errors themselves are the parser's.

use std::collections::HashSet;

use crate::ast::{self, Broken};
use crate::diagnostic::Diagnostic;

use super::scope::Binding;
use super::{Checker, stack};

/// Errors that a statement which is missing may be the cause of.
const OF_ABSENCE: [&str; 9] = [
    "no-output",
    "state-without-update",
    "state-read-before-update",
    "gated-without-decay",
    "norm-without-read",
    "no-grid",
    "no-token-axis",
    "unknown-index",
    "missing-arg",
];

/// The errors between items, as far as all items are there.
pub(super) fn items(file: &ast::File) -> Vec<Diagnostic> {
    let mut found = stack::check_items(file);
    if !file.broken.is_empty() {
        found.retain(|error| error.code != "undeclared-name");
    }
    found
}

/// The broken statements of a variant.
pub(super) fn within<'a>(file: &'a ast::File, variant: &ast::Variant) -> impl Iterator<Item = &'a Broken> {
    let span = variant.span;
    file.broken.iter().filter(move |broken| span.start <= broken.span.start && broken.span.end <= span.end)
}

/// The words that a variant may not call undeclared: those of its own broken statements, and of what is broken
/// outside all variants.
pub(super) fn words(file: &ast::File, variant: &ast::Variant) -> HashSet<String> {
    let elsewhere = |broken: &Broken| {
        file.items.iter().any(|item| match item {
            ast::Item::Variant(other) => within(file, other).any(|inside| inside == broken),
            _ => false,
        })
    };
    let outside = file.broken.iter().filter(|broken| !elsewhere(broken));
    within(file, variant)
        .chain(outside)
        .flat_map(|broken| &broken.words)
        .flat_map(|word| match word.name.as_str() {
            // The head's index comes with its axis.
            "H" => vec!["H".to_string(), "h".to_string()],
            name => vec![name.to_string()],
        })
        .collect()
}

impl<'a> Checker<'a> {
    /// What a broken statement would have given a meaning to has an unknown one from here on.
    pub(super) fn broken_statement(&mut self, broken: &'a Broken) {
        let Some((keyword, words)) = broken.words.split_first() else { return };
        let redefined = match keyword.name.as_str() {
            "feature" => words,
            "let" | "decay" | "read" | "output" => &words[..words.len().min(1)],
            _ => &[],
        };
        for word in words {
            let known = self.names.get(&word.name).map(|named| named.binding);
            let redefined = redefined.contains(word) && matches!(known, Some(Binding::Tensor(_) | Binding::Let(_)));
            // An unknown name is left to `unsaid`: a sound statement may still declare it.
            if redefined {
                self.poison(word);
            }
        }
        self.has_read |= keyword.name == "read";
    }

    /// Takes back the errors that a broken statement may be the cause of.
    pub(super) fn leave_out_what_follows_from_broken(&mut self, variant: &ast::Variant) {
        if within(self.file, variant).next().is_some() {
            self.diagnostics.retain(|error| !OF_ABSENCE.contains(&error.code));
        }
    }
}

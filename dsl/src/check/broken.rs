//! What does not parse, as the checker sees it: its words are known to be said and nothing more, and no error is
//! reported that may be only for the lack of it. The syntax errors themselves are the parser's.

use std::collections::HashSet;

use crate::ast::{self, Broken};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

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

/// The broken statements of a variant. Those of a file stand in the order of the text.
pub(super) fn within<'a>(file: &'a ast::File, variant: &ast::Variant) -> &'a [Broken] {
    let (start, end) = (variant.span.start, variant.span.end);
    let from = file.broken.partition_point(|broken| broken.span.start < start);
    let to = file.broken.partition_point(|broken| broken.span.start < end);
    &file.broken[from..to.max(from)]
}

/// The words of what is broken outside all variants.
pub(super) fn words_outside(file: &ast::File) -> HashSet<String> {
    let variants = file.items.iter().filter_map(|item| match item {
        ast::Item::Variant(variant) => Some(within(file, variant)),
        _ => None,
    });
    let inside: HashSet<Span> = variants.flatten().map(|broken| broken.span).collect();
    file.broken.iter().filter(|broken| !inside.contains(&broken.span)).flat_map(words).collect()
}

/// The words of a broken piece.
pub(super) fn words(broken: &Broken) -> impl Iterator<Item = String> {
    // The head's index comes with its axis.
    broken
        .words
        .iter()
        .flat_map(|word| std::iter::once(word.name.clone()).chain((word.name == "H").then(|| "h".into())))
}

impl<'a> Checker<'a> {
    /// Whether a name is a word of what does not parse: then it may be declared there.
    pub(super) fn is_unsaid(&self, name: &str) -> bool {
        self.unsaid.contains(name) || self.around.unsaid.contains(name)
    }

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
        if !within(self.file, variant).is_empty() {
            self.diagnostics.retain(|error| !OF_ABSENCE.contains(&error.code));
        }
    }
}

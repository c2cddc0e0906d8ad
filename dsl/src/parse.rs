//! Text to syntax tree. The grammar is `grammar.pest`; nothing is resolved here, no name is known.
//!
//! A sound file parses in one go. A broken one is taken apart statement by statement (`recover`), so that every
//! syntax error of the file is reported; those messages come from there.

mod build;
mod explain;
mod express;
pub(crate) mod recover;
mod scan;

use pest::Parser;

use crate::ast;
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span};

/// The generated parser: apart, since what the derive makes is as public as its type.
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar.pest"]
    pub struct Grammar;
}

use grammar::{Grammar, Rule};

/// The words that may not be names.
pub const RESERVED: [&str; 16] = [
    "if", "then", "else", "and", "or", "not", "mod", "div", "on", "for", "in", "from", "over", "merge", "where",
    "repeat",
];

/// The syntax tree of a source, or every syntax error in it, in the order of the text.
///
/// # Errors
/// What the grammar does not have (`syntax`, `missing-semicolon`, `reserved-word`, `unknown-statement`, ...), what
/// nests beyond a bound (`too-deep`), and a file without items (`empty-file`).
pub fn parse(source: &Source) -> Result<ast::File, Vec<Diagnostic>> {
    let (file, errors) = parse_partial(source);
    if errors.is_empty() { Ok(file) } else { Err(errors) }
}

/// Like [`parse`], but what is sound of a broken source comes back beside its errors: the statements and items
/// that have none. For finding further errors in them; what a broken statement declares is missing.
pub fn parse_partial(source: &Source) -> (ast::File, Vec<Diagnostic>) {
    let tokens = scan::tokens(&source.text);
    if tokens.is_empty() {
        return (ast::File::default(), vec![empty_file()]);
    }
    let deep = scan::check_nesting(&source.text, &tokens);
    if !deep.is_empty() {
        return (ast::File::default(), deep);
    }
    match Grammar::parse(Rule::file, &source.text) {
        Ok(pairs) => {
            let mut builder = build::Builder::new(&tokens, 0);
            let file = builder.file(pairs);
            (file, builder.errors)
        }
        Err(error) => recover::recover(&source.text, &tokens, &error),
    }
}

fn empty_file() -> Diagnostic {
    Diagnostic::new("empty-file", "the file holds no variant")
        .label(Span::new(0, 0), "nothing stands here")
        .help("write `variant name { ... }`")
}

#[cfg(test)]
mod programs;
#[cfg(test)]
pub use programs::PROGRAMS;
#[cfg(test)]
mod tests;

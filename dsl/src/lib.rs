//! TEXT -> MEANING: the attention language. Knows names and shapes; no e-graph, no target.
//!
//! ```text
//! source   the text and places in it
//! parse    -> ast: what was written, nothing resolved; a broken file statement by statement
//! check    -> typed: names resolved, functions and laws expanded, shapes known as polynomials in the axes (`shape`)
//! ```
//!
//! Every mistake of a file is a `diagnostic`, and so is what is legal and hardly meant (`Program::warnings`). They are
//! collected and never printed: `render` makes text of them, `suggest` finds the name that was meant, `advice` the one that
//! something has elsewhere. `print` and `print_typed` write a tree and a typed program back in the language. `function` is
//! the table of scalar functions that all later stages share. Spans end at `typed`; no file is read here.

#![forbid(unsafe_code)]

pub mod advice;
pub mod ast;
pub mod check;
pub mod diagnostic;
#[cfg(test)]
mod draw;
pub mod function;
pub mod parse;
pub mod print;
pub mod print_typed;
pub mod render;
pub mod shape;
pub mod source;
pub mod suggest;
pub mod typed;

use diagnostic::Diagnostic;
use source::Source;

/// Text to checked program, its warnings in it. `args` are the values given for variants' parameters (`--arg W=128`).
///
/// # Errors
/// Every mistake in the text, in its order: of the syntax, and of what the rest says.
pub fn compile(source: &Source, args: &[(String, f64)]) -> Result<typed::Program, Vec<Diagnostic>> {
    let (file, mut errors) = parse::parse_partial(source);
    if file.items.is_empty() && !errors.is_empty() {
        return Err(errors);
    }
    match check::check(&file, source, args) {
        Ok(program) if errors.is_empty() => return Ok(program),
        Ok(_) => {}
        Err(found) => errors.extend(found),
    }
    errors.sort_by_key(|error| error.start().unwrap_or_default());
    Err(errors)
}

//! TEXT -> MEANING: the attention language. Knows names and shapes; no e-graph, no target.

#![forbid(unsafe_code)]

pub mod ast;
pub mod check;
pub mod diagnostic;
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

/// Text to checked program. `args` are the values given for variants' parameters (`--arg W=128`).
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
    errors.sort_by_key(|error| error.labels.first().map_or(0, |label| label.span.start));
    Err(errors)
}

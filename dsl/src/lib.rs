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
/// Every syntax error of the text; if there is none, every other mistake.
pub fn compile(source: &Source, args: &[(String, f64)]) -> Result<typed::Program, Vec<Diagnostic>> {
    let file = parse::parse(source)?;
    check::check(&file, source, args)
}

//! Takes a broken source apart.
use super::{Rule, scan::Token};
use crate::ast::File;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

pub(super) fn recover(_text: &str, _tokens: &[Token], error: &pest::error::Error<Rule>) -> (File, Vec<Diagnostic>) {
    let at = match error.location {
        pest::error::InputLocation::Pos(p) => p,
        pest::error::InputLocation::Span((p, _)) => p,
    };
    (
        File::default(),
        vec![Diagnostic::new("syntax", error.variant.message().to_string()).label(Span::new(at, at), "here")],
    )
}

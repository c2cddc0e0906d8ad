//! What a checked program may still meet: an operation that a form or a target cannot express.

use chunkwise_dsl::source::Span;

use crate::Form;

/// A refusal: what, why, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The operation or statement, in the terms of the language.
    pub operation: String,
    /// Why it cannot be done.
    pub reason: String,
    /// What to do instead.
    pub way_out: String,
    /// Where it stands in the source.
    pub span: Option<Span>,
}

impl Unsupported {
    pub fn new(operation: impl Into<String>, reason: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { operation: operation.into(), reason: reason.into(), way_out: way_out.into(), span: None }
    }

    /// The refusal of a state or a variant as that of the form which was asked for.
    pub fn of_form(self, form: Form) -> Self {
        Self { operation: format!("the {} form of {}", form.name(), self.operation), ..self }
    }

    /// The refusal of an operation as met on the way to the form which was asked for.
    pub fn in_form(self, form: Form) -> Self {
        Self { operation: format!("{} in the {} form", self.operation, form.name()), ..self }
    }

    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is unsupported: {}; {}", self.operation, self.reason, self.way_out)
    }
}

impl std::error::Error for Unsupported {}

//! What is wrong with a program, where, and what to write instead. One type, one renderer.
//!
//! `code` is a stable kebab-case slug (`undeclared-name`); the message is in the user's words;
//! labels state the fact at a place; help says the mend.

use crate::source::Span;

/// One finding about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static str,
    pub message: String,
    /// The first label is the place of the error.
    pub labels: Vec<Label>,
    pub help: Option<String>,
}

/// A fact at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

impl Diagnostic {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), help: None }
    }

    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

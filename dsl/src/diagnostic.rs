//! What is wrong or odd in a program, where, and what to write instead. One type, one renderer.
//!
//! `code` is a stable kebab-case slug (`undeclared-name`); the message is in the user's words;
//! labels state the fact at a place; help says the mend.

use crate::source::Span;

/// Whether a program with this finding can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The program means nothing as it is written.
    Error,
    /// It is legal, and hardly what was meant.
    Warning,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One finding about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
    /// The first label is the place of the finding.
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
    /// An error.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), labels: Vec::new(), help: None }
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(code, message) }
    }

    /// Where it begins in its source, in bytes; None for what stands at no place.
    pub fn start(&self) -> Option<usize> {
        self.labels.first().map(|label| label.span.start)
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

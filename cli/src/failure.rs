//! How a command ends badly: what is to be said of it, and its exit status. Saying it is `print`'s.

use chunkwise_compiler::Unsupported;
use chunkwise_dsl::{
    diagnostic::Diagnostic,
    source::{Source, Span},
    typed::Variant,
};
use chunkwise_runtime::request;

/// 1: the work failed. 2: what the command was given is wrong.
#[derive(Debug)]
pub enum Failure {
    /// The command line, a source file or an input file is wrong. A message each.
    Wrong(Vec<String>),
    /// What no kernel does, of a variant whose source is not at hand.
    Refused(Vec<Refusal>),
    /// A source is wrong, or says what no kernel does, at these places.
    Diagnosed(Vec<Diagnostic>, Source),
    /// The work failed, or a back end is not usable here.
    Failed(String),
    /// A check did not hold; stdout says which.
    DidNotHold(String),
    /// Whoever read stdout has gone: nothing is left to say.
    ReaderGone,
}

/// Something that no kernel does, and the way out.
#[derive(Debug, Clone)]
pub struct Refusal {
    message: String,
    way_out: Option<String>,
    /// Where it stands in the source; of the whole variant if None.
    span: Option<Span>,
}

/// The code of refusals, for programs.
pub const UNSUPPORTED: &str = "unsupported";

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), way_out: None, span: None }
    }

    /// The refusal as the reason of another one.
    pub fn under(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// At its statement; one of a whole variant at the line that names it.
    fn at(&self, variant: &Variant, source: &Source) -> Diagnostic {
        let (span, text) = match self.span.filter(|span| *span != variant.span) {
            Some(span) => (span, "no kernel does this"),
            None => (first_line(variant.span, source), "of this variant"),
        };
        let found = Diagnostic::new(UNSUPPORTED, &self.message).label(span, text);
        self.way_out.iter().fold(found, |found, way_out| found.help(way_out))
    }
}

fn first_line(span: Span, source: &Source) -> Span {
    let line = source.slice(span).lines().next().unwrap_or("").trim_end_matches(['{', ' ']);
    Span::new(span.start, span.start + line.len())
}

impl From<&Unsupported> for Refusal {
    fn from(of: &Unsupported) -> Self {
        let message = format!("{} is unsupported: {}", of.operation, of.reason);
        Self { message, way_out: Some(of.way_out.clone()), span: of.span }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.way_out.iter().try_for_each(|way_out| write!(f, "; {way_out}"))
    }
}

impl Failure {
    /// Refusals with their place in the source of their variant; any other failure as it is.
    pub fn placed(self, variant: &Variant, source: &Source) -> Self {
        match self {
            Failure::Refused(refusals) => {
                Failure::Diagnosed(refusals.iter().map(|refusal| refusal.at(variant, source)).collect(), source.clone())
            }
            other => other,
        }
    }

    pub fn wrong(message: impl Into<String>) -> Self {
        Failure::Wrong(vec![message.into()])
    }

    pub fn status(&self) -> u8 {
        match self {
            Failure::Wrong(_) | Failure::Refused(_) | Failure::Diagnosed(..) => 2,
            Failure::Failed(_) | Failure::DidNotHold(_) => 1,
            Failure::ReaderGone => 0,
        }
    }

    /// What it says, in one line.
    pub fn line(&self) -> String {
        match self {
            Failure::Wrong(messages) => messages.join("; "),
            Failure::Refused(refusals) => refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; "),
            Failure::Diagnosed(found, _) => found.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; "),
            Failure::Failed(message) | Failure::DidNotHold(message) => message.replace('\n', " "),
            Failure::ReaderGone => "nobody reads".into(),
        }
    }
}

impl From<request::Failure> for Failure {
    fn from(failure: request::Failure) -> Self {
        match failure {
            request::Failure::Unsupported(unsupported) => unsupported.into(),
            request::Failure::Unusable(..) | request::Failure::Failed(_) => Failure::Failed(failure.to_string()),
        }
    }
}

impl From<Unsupported> for Failure {
    fn from(unsupported: Unsupported) -> Self {
        Failure::Refused(vec![Refusal::from(&unsupported)])
    }
}

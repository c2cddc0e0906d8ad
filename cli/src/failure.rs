//! How a command ends badly: what is to be said of it, and its exit status. Saying it is `print`'s.

use chunkwise_compiler::Unsupported;
use chunkwise_dsl::{diagnostic::Diagnostic, source::Source};
use chunkwise_runtime::request;

/// 1: the work failed. 2: what the command was given is wrong.
#[derive(Debug)]
pub enum Failure {
    /// The command line, a source file or an input file is wrong. A message each.
    Wrong(Vec<String>),
    /// A source is wrong at these places.
    Diagnosed(Vec<Diagnostic>, Source),
    /// The work failed, or a back end is not usable here.
    Failed(String),
    /// A check did not hold; stdout says which.
    DidNotHold(String),
    /// Whoever read stdout has gone: nothing is left to say.
    ReaderGone,
}

impl Failure {
    pub fn wrong(message: impl Into<String>) -> Self {
        Failure::Wrong(vec![message.into()])
    }

    pub fn status(&self) -> u8 {
        match self {
            Failure::Wrong(_) | Failure::Diagnosed(..) => 2,
            Failure::Failed(_) | Failure::DidNotHold(_) => 1,
            Failure::ReaderGone => 0,
        }
    }

    /// What it says, in one line.
    pub fn line(&self) -> String {
        match self {
            Failure::Wrong(messages) => messages.join("; "),
            Failure::Diagnosed(found, _) => found.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; "),
            Failure::Failed(message) | Failure::DidNotHold(message) => message.replace('\n', " "),
            Failure::ReaderGone => "nobody reads".into(),
        }
    }
}

impl From<request::Failure> for Failure {
    fn from(failure: request::Failure) -> Self {
        match failure {
            request::Failure::Unsupported(unsupported) => Failure::wrong(unsupported.to_string()),
            request::Failure::Unusable(..) | request::Failure::Failed(_) => Failure::Failed(failure.to_string()),
        }
    }
}

impl From<Unsupported> for Failure {
    fn from(refusal: Unsupported) -> Self {
        request::Failure::Unsupported(refusal).into()
    }
}

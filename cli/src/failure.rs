//! How a command ends badly: what it says on stderr and its exit status.

use chunkwise_dsl::{diagnostic::Diagnostic, source::Source};
use chunkwise_runtime::execute;

use crate::print;

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

    /// Says it on stderr.
    pub fn print(&self) {
        match self {
            Failure::Wrong(messages) => messages.iter().for_each(|message| print::error("wrong-input", message)),
            Failure::Diagnosed(found, source) => print::diagnostics(found, source),
            Failure::Failed(message) => print::error("failed", message),
            Failure::DidNotHold(message) => print::error("did-not-hold", message),
            Failure::ReaderGone => {}
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

impl From<execute::Failure> for Failure {
    fn from(failure: execute::Failure) -> Self {
        match failure {
            execute::Failure::Unsupported(unsupported) => Failure::wrong(unsupported.to_string()),
            execute::Failure::Unusable(..) | execute::Failure::Failed(_) => Failure::Failed(failure.to_string()),
        }
    }
}

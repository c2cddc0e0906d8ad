//! What a run is asked for and what comes of it: plan, request, outputs, failure. Not here: how it is run (`execute`).

use std::time::Duration;

use chunkwise_compiler::{Form, Schedule, Unsupported, bind::Sizes};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::{Backend, Unusable},
    tensor::{Tensor, Tensors},
};

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub backend: Backend,
    /// The reference ignores it.
    pub form: Form,
    /// How the chunked form is laid out in kernels; the others are fused.
    pub schedule: Schedule,
    /// Tokens in a chunk of the chunked form, >= 1.
    pub chunk: usize,
}

/// What to run on what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub variant: &'a Variant,
    pub sizes: &'a Sizes,
    pub inputs: &'a Tensors,
    /// The initial states given; the others start at their declared value.
    pub initial: &'a Tensors,
    pub threads: usize,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// In file order.
    pub outputs: Vec<(String, Tensor)>,
    /// The final states; none under an order that gives none.
    pub states: Vec<(String, Tensor)>,
    /// Time in the kernels alone.
    pub kernel_time: Duration,
}

impl Outputs {
    /// Outputs, then final states.
    pub fn all(&self) -> impl Iterator<Item = &(String, Tensor)> {
        self.outputs.iter().chain(&self.states)
    }
}

/// Why a run did not come about.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The variant lacks the form, or the form or target an operation: the command line asks for what is not there.
    Unsupported(Unsupported),
    /// The back end does not run here.
    Unusable(Backend, Unusable),
    /// The work failed.
    Failed(String),
}

impl From<Unsupported> for Failure {
    fn from(unsupported: Unsupported) -> Self {
        Failure::Unsupported(unsupported)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unsupported(unsupported) => unsupported.fmt(f),
            Failure::Unusable(backend, why) => write!(f, "the {} back end is not usable here: {why}", backend.name()),
            Failure::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

//! The words for how a variant is laid out: its form, its schedule in kernels, how states' columns are shared. The floor that
//! all rooms stand on; what a form is made of is `plan`'s.

/// How a variant is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Token by token.
    Recurrent,
    /// C tokens at a time.
    Chunked,
    /// All tokens as one chunk.
    Parallel,
}

impl Form {
    pub const ALL: [Form; 3] = [Form::Recurrent, Form::Chunked, Form::Parallel];

    pub fn name(self) -> &'static str {
        match self {
            Form::Recurrent => "recurrent",
            Form::Chunked => "chunked",
            Form::Parallel => "parallel",
        }
    }
}

/// How the columns of states are shared among work items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tiles {
    /// A work item takes all columns of a batch element.
    Whole,
    /// It takes a tile of them, as long as the run says.
    Split,
}

/// How a form's work is laid out in kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Schedule {
    /// One kernel, whose work items step through all chunks.
    Fused,
    /// What chunks do apart, what they hand on, and the outputs: a kernel each. Of the chunked form only.
    Split,
}

impl Schedule {
    pub const ALL: [Schedule; 2] = [Schedule::Fused, Schedule::Split];

    pub fn name(self) -> &'static str {
        match self {
            Schedule::Fused => "fused",
            Schedule::Split => "split",
        }
    }
}

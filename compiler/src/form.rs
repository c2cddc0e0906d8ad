//! The forms of a variant: which exist and why the others do not, and the way from one of them to kernels.

use chunkwise_dsl::typed::Variant;

use crate::{Unsupported, bind::Sizes, kernel::Module};

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

/// What a state's transition is.
#[derive(Debug, Clone, PartialEq)]
pub struct StateReport {
    pub state: String,
    /// The structure class in words: `scalar decay, then rank one (merged key)`.
    pub class: String,
}

/// Whether a form exists.
#[derive(Debug, Clone, PartialEq)]
pub struct FormReport {
    pub form: Form,
    /// Why it does not.
    pub missing: Option<Unsupported>,
}

/// The structure class of every state's transition and the forms that exist.
pub fn report(variant: &Variant) -> (Vec<StateReport>, Vec<FormReport>) {
    let states =
        variant.states.iter().map(|s| StateReport { state: s.name.clone(), class: "underived".into() }).collect();
    let forms = Form::ALL.iter().map(|&form| FormReport { form, missing: Some(not_yet(form)) }).collect();
    (states, forms)
}

/// Kernels for one form. Sizes of batch axes and of the token axis are run-time parameters of the module, and so is the
/// chunk length; all other axes are constants from `sizes`.
pub fn compile(_variant: &Variant, _sizes: &Sizes, form: Form) -> Result<Module, Unsupported> {
    Err(not_yet(form))
}

fn not_yet(form: Form) -> Unsupported {
    Unsupported::new(
        format!("the {} form", form.name()),
        "no derivation is connected",
        "run it with --backend reference",
    )
}

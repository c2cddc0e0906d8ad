//! The forms of a variant: which exist and why the others do not, and the way from one of them to kernels.

use chunkwise_dsl::typed::{LocalKind, StateId, Variant};

use crate::{
    Unsupported,
    bind::Sizes,
    egraph::{self, Proofs},
    ir::lower::{self, Dependence},
    kernel::{self, Module},
    plan::{self, Plan},
};

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

/// What a state's transition is.
#[derive(Debug, Clone, PartialEq)]
pub struct StateReport {
    pub state: String,
    /// The structure class in words: `scalar decay and rank one (key of the write)`.
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
    let derived = plan::derive(variant, Proofs::Off);
    let dependence = Dependence::new(variant);
    let class = |place: usize| {
        let state = StateId(place as u32);
        let known = derived.iter().flatten().find(|derived| derived.system.state == state);
        if let Some(derived) = known {
            return derived.normal.class();
        }
        // Another state is what blocks: this one's class is still its own.
        match lower::lower(variant, &dependence, state) {
            Ok(system) => egraph::derive(system, Proofs::Off)
                .map_or_else(|none| none.class().to_string(), |derived| derived.normal.class()),
            Err(blocked) => plan::class_name(blocked.class).to_string(),
        }
    };
    let states = variant
        .states
        .iter()
        .enumerate()
        .map(|(place, state)| StateReport { state: state.name.clone(), class: class(place) })
        .collect();
    let forms = Form::ALL
        .iter()
        .map(|&form| {
            let missing = match form {
                _ if variant.states.is_empty() => (form != Form::Parallel).then(|| stateless(variant, form)),
                Form::Recurrent => None,
                Form::Chunked | Form::Parallel => derived.as_ref().map_or_else(
                    |refusal| Some(refusal.clone().of_form(form)),
                    |d| plan::plan(variant, d, (form, Schedule::Fused)).err(),
                ),
            };
            FormReport { form, missing }
        })
        .collect();
    (states, forms)
}

/// Kernels for one form. Sizes of batch axes and of the token axis are run-time parameters of the module, and so is the
/// chunk length; all other axes are constants from `sizes`.
/// With `Tiles::Split` work items take a part of the states' columns each, where nothing mixes columns.
///
/// # Errors
/// What the form, the schedule or the kernel IR has no place for.
pub fn compile(
    variant: &Variant,
    sizes: &Sizes,
    (form, schedule): (Form, Schedule),
    tiles: Tiles,
) -> Result<Module, Unsupported> {
    if schedule == Schedule::Split {
        return split(variant, sizes, form, tiles);
    }
    if variant.states.is_empty() {
        return Err(stateless(variant, form));
    }
    match form {
        Form::Recurrent => match planned(variant, form, schedule) {
            Ok(plan) if !keeps_a_window(variant) => kernel::lower::form::lower(variant, sizes, &plan, tiles),
            // Any update steps token by token as it is written, affine or not.
            _ => kernel::lower::recurrent::raw(variant, sizes, tiles),
        },
        Form::Chunked | Form::Parallel => {
            kernel::lower::form::lower(variant, sizes, &planned(variant, form, schedule)?, tiles)
        }
    }
    .map_err(|refusal| refusal.in_form(form))
}

/// The chunked form in three kernels.
fn split(variant: &Variant, sizes: &Sizes, form: Form, tiles: Tiles) -> Result<Module, Unsupported> {
    if variant.states.is_empty() {
        return Err(stateless(variant, form));
    }
    let refused = |reason: &str| {
        let feature = format!("the split schedule of `{}`", variant.name);
        Unsupported::new(feature, reason, "use --schedule fused").at(variant.span)
    };
    if form != Form::Chunked {
        return Err(refused("only the chunked form is taken apart into kernels"));
    }
    let plan = planned(variant, form, Schedule::Split)?;
    let one = kernel::lower::form::lower(variant, sizes, &plan, tiles).map_err(|refusal| refusal.in_form(form))?;
    kernel::split(&one).map_err(refused)
}

/// What extraction chose for a form.
pub fn planned(variant: &Variant, form: Form, schedule: Schedule) -> Result<Plan, Unsupported> {
    let derived = plan::derive(variant, Proofs::Off).map_err(|refusal| refusal.of_form(form))?;
    plan::plan(variant, &derived, (form, schedule))
}

fn keeps_a_window(variant: &Variant) -> bool {
    variant.locals.iter().any(|local| matches!(local.kind, LocalKind::Window { .. }))
}

fn stateless(variant: &Variant, form: Form) -> Unsupported {
    let (reason, way_out) = match form {
        Form::Parallel => ("no compiled back end runs variants without states", "run it with --backend reference"),
        _ => ("a variant without states has one form, the parallel one", "use --form parallel"),
    };
    Unsupported::new(format!("the {} form of `{}`", form.name(), variant.name), reason, way_out).at(variant.span)
}

//! The way from a variant to kernels: its derivation, made once, and of it each form that exists, or why it does not.

use std::fmt;

use chunkwise_dsl::typed::{LocalKind, State, StateId, Variant};

use crate::{
    Form, Schedule, Tiles, Unsupported,
    bind::Sizes,
    egraph::{self, Derived, Proofs},
    ir::lower::{self, Dependence},
    kernel::{self, Module},
    plan::{self, Plan},
    program::{Graph, lacks},
    scans::{self, Stage},
};

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

/// A variant and what was derived of its states, of which every form is extracted. It does not depend on sizes: one
/// serves all forms, schedules and shapes.
pub struct Derivation {
    variant: Variant,
    states: Result<Vec<Derived>, Unsupported>,
    /// The stages that the variant is made of; none where it is one itself.
    stages: Result<Vec<(Stage, Derivation)>, Unsupported>,
}

impl Derivation {
    /// Derives all forms of all states; what blocks that is told where a form is asked for.
    pub fn of(variant: &Variant) -> Self {
        let both = variant.states.iter().any(|state| state.reverse);
        let stages = scans::stages(variant).map(|stages| {
            let derived = |stage: Stage| {
                let derivation = Derivation::of_stage(&stage.variant);
                (stage, derivation)
            };
            stages.into_iter().flatten().map(derived).collect()
        });
        if both {
            // Each direction is derived as a stage.
            let refusal =
                Unsupported::new("one plan of states both ways", "each direction is a stage", "ask its stages");
            return Self { variant: variant.clone(), states: Err(refusal.at(variant.span)), stages };
        }
        Self { stages, ..Self::of_stage(variant) }
    }

    /// A variant that is one stage, whatever is left in it of others.
    fn of_stage(variant: &Variant) -> Self {
        Self { variant: variant.clone(), states: plan::derive(variant, Proofs::Off), stages: Ok(Vec::new()) }
    }

    /// The scans that the variant is made of, by name: itself without one, where it is one.
    pub fn scans(&self) -> Vec<(Option<&str>, &Derivation)> {
        let stages = self.stages.iter().flatten().filter(|(stage, _)| stage.is_scan());
        let scans: Vec<_> = stages.map(|(stage, derivation)| (Some(stage.name.as_str()), derivation)).collect();
        if scans.is_empty() { vec![(None, self)] } else { scans }
    }

    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// The derived states, in an order in which each needs only reads of those before it.
    ///
    /// # Errors
    /// The state that has no normal form. It names no form: `Unsupported::of_form` says which was asked for.
    pub fn states(&self) -> Result<&[Derived], Unsupported> {
        self.states.as_deref().map_err(Clone::clone)
    }

    /// The structure class of every state's transition and the forms that exist.
    pub fn report(&self) -> (Vec<StateReport>, Vec<FormReport>) {
        let variant = &self.variant;
        let dependence = Dependence::new(variant);
        let state = |(place, state): (usize, &State)| StateReport {
            state: state.name.clone(),
            class: self.class(&dependence, StateId(place as u32)),
        };
        let states = variant.states.iter().enumerate().map(state).collect();
        let forms = Form::ALL.iter().map(|&form| FormReport { form, missing: self.missing(form) }).collect();
        (states, forms)
    }

    fn class(&self, dependence: &Dependence, state: StateId) -> String {
        let known = |(_, of): (Option<&str>, &Derivation)| {
            let derived = of.states.iter().flatten().find(|derived| derived.system.state == state);
            derived.map(|derived| derived.normal.class())
        };
        if let Some(class) = self.scans().into_iter().find_map(known) {
            return class;
        }
        // Another state is what blocks: this one's class is still its own.
        match lower::lower(&self.variant, dependence, state) {
            Ok(system) => egraph::derive(system, Proofs::Off)
                .map_or_else(|none| none.class().to_string(), |derived| derived.normal.class()),
            Err(blocked) => plan::class_name(blocked.class).to_string(),
        }
    }

    /// Why a form does not exist; none where it does.
    pub fn missing(&self, form: Form) -> Option<Unsupported> {
        match &self.stages {
            Err(refusal) => return Some(refusal.clone().in_form(form)),
            Ok(stages) if !stages.is_empty() => {
                return stages.iter().find_map(|(stage, derivation)| derivation.missing(stage.form(form)));
            }
            Ok(_) => {}
        }
        match form {
            Form::Parallel if self.variant.states.is_empty() => Graph::of(&self.variant).err(),
            _ if self.variant.states.is_empty() => Some(lacks(&self.variant, form)),
            Form::Recurrent => None,
            Form::Chunked | Form::Parallel => self.plan((form, Schedule::Fused)).err(),
        }
    }

    /// What extraction chose for a form.
    ///
    /// # Errors
    /// A form that the variant lacks.
    pub fn plan(&self, (form, schedule): (Form, Schedule)) -> Result<Plan, Unsupported> {
        let states = self.states.as_ref().map_err(|refusal| refusal.clone().of_form(form))?;
        plan::plan(&self.variant, states, (form, schedule))
    }

    /// The plan as text: of every stage where there are several, of values without states where each is computed.
    ///
    /// # Errors
    /// A form that the variant lacks.
    pub fn planned(&self, (form, schedule): (Form, Schedule)) -> Result<String, Unsupported> {
        let stages = self.stages.as_ref().map_err(|refusal| refusal.clone().in_form(form))?;
        if !stages.is_empty() {
            let text = |(stage, derivation): &(Stage, Derivation)| {
                Ok(format!("stage {}\n{}", stage.name, derivation.planned((stage.form(form), schedule))?))
            };
            return stages.iter().map(text).collect();
        }
        if self.variant.states.is_empty() {
            return plan::place::text(&self.variant, form);
        }
        Ok(plan::text(&self.variant, &self.plan((form, schedule))?))
    }

    /// Kernels for one form. Sizes of batch axes and of the token axis are run-time parameters of the module, and so is
    /// the chunk length; all other axes are constants from `sizes`.
    /// With `Tiles::Split` work items take a part of the states' columns each, where nothing mixes columns.
    ///
    /// # Errors
    /// What the form, the schedule or the kernel IR has no place for.
    pub fn compile(
        &self,
        sizes: &Sizes,
        (form, schedule): (Form, Schedule),
        tiles: Tiles,
    ) -> Result<Module, Unsupported> {
        let variant = &self.variant;
        let stages = self.stages.as_ref().map_err(|refusal| refusal.clone().in_form(form))?;
        if !stages.is_empty() {
            let mut modules = Vec::new();
            for (stage, derivation) in stages {
                let layout = if stage.is_scan() { (form, schedule) } else { (Form::Parallel, Schedule::Fused) };
                modules.push((stage, derivation.compile(sizes, layout, tiles)?));
            }
            return Ok(scans::link(variant, sizes, &modules));
        }
        if variant.states.is_empty() {
            return match form {
                Form::Parallel => kernel::lower::stages::lower(variant, sizes),
                _ => Err(lacks(variant, form)),
            };
        }
        if schedule == Schedule::Split {
            return self.split(sizes, form, tiles);
        }
        match form {
            Form::Recurrent => match self.plan((form, schedule)) {
                Ok(plan) if !keeps_a_window(variant) => kernel::lower::form::lower(variant, sizes, &plan, tiles),
                // Any update steps token by token as it is written, affine or not.
                _ => kernel::lower::recurrent::raw(variant, sizes, tiles),
            },
            Form::Chunked | Form::Parallel => {
                kernel::lower::form::lower(variant, sizes, &self.plan((form, schedule))?, tiles)
            }
        }
        .map_err(|refusal| refusal.in_form(form))
    }

    /// The chunked form in three kernels.
    fn split(&self, sizes: &Sizes, form: Form, tiles: Tiles) -> Result<Module, Unsupported> {
        let variant = &self.variant;
        let refused = |reason: &str| {
            let feature = format!("the split schedule of `{}`", variant.name);
            Unsupported::new(feature, reason, "use --schedule fused").at(variant.span)
        };
        if form != Form::Chunked {
            return Err(refused("only the chunked form is taken apart into kernels"));
        }
        let plan = self.plan((form, Schedule::Split))?;
        let one = kernel::lower::form::lower(variant, sizes, &plan, tiles).map_err(|refusal| refusal.in_form(form))?;
        kernel::split(&one).map_err(refused)
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Derivation({})", self.variant.name)
    }
}

/// The report of a variant that nothing else is asked of: `Derivation::report`.
pub fn report(variant: &Variant) -> (Vec<StateReport>, Vec<FormReport>) {
    Derivation::of(variant).report()
}

/// Kernels of a variant that nothing else is asked of: `Derivation::compile`.
///
/// # Errors
/// As `Derivation::compile`.
pub fn compile(
    variant: &Variant,
    sizes: &Sizes,
    layout: (Form, Schedule),
    tiles: Tiles,
) -> Result<Module, Unsupported> {
    Derivation::of(variant).compile(sizes, layout, tiles)
}

fn keeps_a_window(variant: &Variant) -> bool {
    variant.locals.iter().any(|local| matches!(local.kind, LocalKind::Window { .. }))
}

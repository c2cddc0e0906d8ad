//! The way from a variant to kernels: its derivation, made once, and of it each form that exists, or why it does not.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chunkwise_dsl::typed::{LocalKind, State, StateId, Variant};

use crate::{
    Form, Schedule, Tiles, Unsupported,
    bind::Sizes,
    calls::{parts, sizes_of},
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
    /// The stages that the variant is made of; none where it is one itself. Those that are alike share a derivation.
    stages: Result<Vec<(Stage, Arc<Derivation>)>, Unsupported>,
}

impl Derivation {
    /// Derives all forms of all states; what blocks that is told where a form is asked for.
    pub fn of(variant: &Variant) -> Self {
        if !variant.calls.is_empty() {
            return Self::of_calls(variant);
        }
        let both = variant.states.iter().any(|state| state.reverse);
        let stages = scans::stages(variant).map(|stages| {
            let derived = |stage: Stage| {
                let derivation = Derivation::of_stage(&stage.variant);
                (stage, Arc::new(derivation))
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

    /// A variant that calls others: its parts, each with stages of its own.
    fn of_calls(variant: &Variant) -> Self {
        let mut known: HashMap<String, Arc<Derivation>> = HashMap::new();
        let mut stages = Vec::new();
        for part in parts(variant) {
            let alike = format!("{:?}", part.variant);
            let derive = || Arc::new(Derivation::of(&part.variant));
            let derivation = Arc::clone(known.entry(alike).or_insert_with(derive));
            stages.push((Stage::of_call(part, variant), derivation));
        }
        let refusal = Unsupported::new("one plan of several variants", "each call is a stage", "ask its stages");
        Self { variant: variant.clone(), states: Err(refusal.at(variant.span)), stages: Ok(stages) }
    }

    /// A variant that is one stage, whatever is left in it of others.
    fn of_stage(variant: &Variant) -> Self {
        Self { variant: variant.clone(), states: plan::derive(variant, Proofs::Off), stages: Ok(Vec::new()) }
    }

    /// The scans that the variant is made of, by name: itself without one, where it is one. Of stages that are alike the first
    /// stands for all.
    pub fn scans(&self) -> Vec<(Option<String>, &Derivation)> {
        let mut scans = Vec::new();
        for (stage, derivation) in self.different_stages().into_iter().filter(|(_, of)| of.has_scans()) {
            scans.extend(derivation.scans().into_iter().map(|(inner, of)| {
                let inner = inner.map_or(String::new(), |inner| format!(" {inner}"));
                (Some(format!("{}{inner}", stage.name)), of)
            }));
        }
        if scans.is_empty() { vec![(None, self)] } else { scans }
    }

    /// The stages, one for all that share a derivation.
    fn different_stages(&self) -> Vec<(&Stage, &Derivation)> {
        let mut found: Vec<(&Stage, &Derivation)> = Vec::new();
        for (stage, derivation) in self.stages.iter().flatten() {
            if !found.iter().any(|(_, known)| std::ptr::eq(*known, &raw const **derivation)) {
                found.push((stage, derivation));
            }
        }
        found
    }

    /// Whether states are scanned anywhere in it.
    pub fn has_scans(&self) -> bool {
        !self.variant.states.is_empty() || self.stages.iter().flatten().any(|(_, of)| of.has_scans())
    }

    /// The form that a stage takes where the whole is computed in a form: its own only one, or the one asked for where it has
    /// it, since a call that lacks it has the recurrent form.
    pub fn form_of(&self, stage: &Derivation, whole: Form) -> Form {
        if !stage.has_scans() {
            Form::Parallel
        } else if self.variant.calls.is_empty() || stage.missing(whole).is_none() {
            whole
        } else {
            Form::Recurrent
        }
    }

    /// The parts of a variant that calls others, with the form of each where the whole is computed in one: alike ones once, with
    /// how many there are.
    pub fn calls(&self, whole: Form) -> Vec<(String, Form, usize)> {
        let mut found: Vec<(&Derivation, String, usize)> = Vec::new();
        for (stage, derivation) in self.stages.iter().flatten().filter(|_| !self.variant.calls.is_empty()) {
            match found.iter_mut().find(|(known, ..)| std::ptr::eq(*known, &raw const **derivation)) {
                Some((_, _, count)) => *count += 1,
                None => found.push((derivation, stage.name.clone(), 1)),
            }
        }
        found.into_iter().map(|(of, name, count)| (name, self.form_of(of, whole), count)).collect()
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
        if !self.variant.calls.is_empty() {
            // What is left of the caller has its states in their places.
            let rest = self.stages.iter().flatten().last();
            return rest.map_or_else(String::new, |(stage, of)| of.class(&Dependence::new(&stage.variant), state));
        }
        let known = |(_, of): (Option<String>, &Derivation)| {
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
            Ok(_) if !self.variant.calls.is_empty() => return self.missing_in_calls(form),
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

    /// Why no call has a form: one whose scan has it is enough, and those without states must have their own.
    fn missing_in_calls(&self, form: Form) -> Option<Unsupported> {
        let stages = self.different_stages();
        let (scans, values): (Vec<_>, Vec<_>) = stages.into_iter().partition(|(_, of)| of.has_scans());
        if let Some(refusal) = values.iter().find_map(|(_, of)| of.missing(Form::Parallel)) {
            return Some(refusal);
        }
        if scans.is_empty() {
            return (form != Form::Parallel).then(|| lacks(&self.variant, form));
        }
        if let Some(refusal) = scans.iter().find_map(|(_, of)| of.missing(Form::Recurrent)) {
            return Some(refusal);
        }
        let refusals: Vec<Option<Unsupported>> = scans.iter().map(|(_, of)| of.missing(form)).collect();
        refusals.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next())
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
            let text = |(stage, derivation): (&Stage, &Derivation)| {
                let form = self.form_of(derivation, form);
                Ok(format!("stage {}\n{}", stage.name, derivation.planned((form, schedule))?))
            };
            return self.different_stages().into_iter().map(text).collect();
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
            let mut modules: Vec<(&Stage, Module)> = Vec::new();
            for (at, (stage, derivation)) in stages.iter().enumerate() {
                let alike = stages[..at].iter().position(|(_, known)| Arc::ptr_eq(known, derivation));
                let module = match alike {
                    Some(known) => modules[known].1.clone(),
                    None => derivation.compile(
                        &sizes_of(&stage.variant, variant, sizes),
                        self.layout_of(derivation, (form, schedule)),
                        tiles,
                    )?,
                };
                modules.push((stage, module));
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

    /// The layout of a stage: only chunks are taken apart.
    fn layout_of(&self, stage: &Derivation, (form, schedule): (Form, Schedule)) -> (Form, Schedule) {
        let own = self.form_of(stage, form);
        (own, if stage.has_scans() && own == form { schedule } else { Schedule::Fused })
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

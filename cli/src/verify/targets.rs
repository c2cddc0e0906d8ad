//! What `verify` compares with the reference: the back ends, and of each the forms, schedules and chunk lengths. Each is
//! compiled when its turn comes.

use chunkwise_compiler::{Derivation, Form, Schedule, bind::Sizes};
use chunkwise_dsl::typed::{FormCheck, Variant};
use chunkwise_runtime::{Backend, Engine, Plan, choose::exists, request};

use crate::{
    arguments::Shared,
    failure::{Failure, Refusal},
    print,
};

/// Chunk lengths tried where none are asked for: one token, an odd few, and the usual ones.
const CHUNKS: [usize; 4] = [1, 7, 16, 64];

/// Those of a GPU, which compiles a shader for each: a software driver takes seconds for one.
const CHUNKS_OF_GPU: [usize; 2] = [7, 64];

/// One form on one back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub plan: Plan,
}

/// A form and schedule on one back end, which may not compile, and its chunk lengths.
pub struct Candidate {
    pub targets: Vec<Target>,
}

/// What is known of a variant's candidates before any is compiled.
pub struct Candidates {
    pub all: Vec<Candidate>,
    /// A form or schedule was asked for, so each must be there.
    asked: bool,
    /// Only the split schedule was asked for.
    only_split: bool,
    /// The reference may be compared with itself, and is where nothing else is there.
    reference: bool,
    refusals: Vec<Refusal>,
}

impl Target {
    pub const REFERENCE: Target = Target {
        plan: Plan { backend: Backend::Reference, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 },
    };

    /// The form, and the schedule where it is not the usual one.
    pub fn layout(&self) -> String {
        match (self.plan.backend, self.plan.schedule) {
            (Backend::Reference, _) => "-".into(),
            (_, Schedule::Fused) => self.plan.form.name().to_string(),
            (_, schedule) => format!("{} {}", self.plan.form.name(), schedule.name()),
        }
    }
}

/// The back ends asked for, which must be usable; those present, where that is left open. A GPU that the processor plays
/// is then left out.
pub fn backends(shared: &Shared) -> Result<Vec<Backend>, Failure> {
    let asked = shared.backends();
    for backend in &asked.named {
        backend.devices().map_err(|why| request::Failure::Unusable(*backend, why))?;
    }
    if !asked.is_open() {
        return Ok(asked.named);
    }
    let mut present = Vec::new();
    for backend in Backend::ALL {
        let Ok(devices) = backend.devices() else { continue };
        match devices.first().filter(|device| device.software && !shared.names_a_gpu()) {
            Some(_) if asked.named.contains(&backend) => {}
            Some(device) => {
                let name = backend.name();
                print::note(&format!("{} is a software GPU, left out: --backend {name} takes it", device.name));
            }
            None => present.push(backend),
        }
    }
    let taken = asked.or_usual(present);
    if shared.asks_of_a_gpu() && !taken.contains(&Backend::Wgpu) {
        Backend::Wgpu.devices().map_err(|why| request::Failure::Unusable(Backend::Wgpu, why))?;
        return Err(Shared::not_of_a_gpu());
    }
    Ok(taken)
}

/// Every form on every back end; of the chunked form every chunk length. The reference is compared with itself only where
/// it was asked for or is all there is.
pub fn candidates(
    variant: &Variant,
    backends: &[Backend],
    engine: &mut Engine,
    shared: &Shared,
) -> Result<Candidates, Failure> {
    let asked = shared.forms();
    let derivation = engine.derivation(variant);
    for form in &asked.named {
        exists(&derivation, *form)?;
    }
    let forms = asked.or_usual(present_forms(&derivation));
    let layouts = layouts(&forms, &shared.schedules().or_usual(Schedule::ALL));
    let mut all = Vec::new();
    if shared.backends().named.contains(&Backend::Reference) {
        all.push(Candidate { targets: vec![Target::REFERENCE] });
    }
    for &backend in backends.iter().filter(|backend| **backend != Backend::Reference) {
        for &(form, schedule) in &layouts {
            let chunks = if form == Form::Chunked { chunks(variant, backend, shared) } else { vec![1] };
            let target = |chunk: usize| Target { plan: Plan { backend, form, schedule, chunk } };
            all.push(Candidate { targets: chunks.into_iter().map(target).collect() });
        }
    }
    let only_split = shared.schedules().named == [Schedule::Split] && !shared.schedules().is_open();
    // Without states there is but one form, which the reference serves.
    let asked = (!asked.named.is_empty() || only_split) && !variant.states.is_empty();
    Ok(Candidates { all, asked, only_split, reference: backends.contains(&Backend::Reference), refusals: Vec::new() })
}

impl Candidate {
    /// Compiles it; a refusal is for `Candidates::settle`.
    ///
    /// # Errors
    /// The back end is not usable.
    pub fn compiles(
        &self,
        engine: &mut Engine,
        (variant, sizes): (&Variant, &Sizes),
    ) -> Result<Option<Refusal>, Failure> {
        let Some(target) = self.targets.first().filter(|target| **target != Target::REFERENCE) else { return Ok(None) };
        let refusal = match engine.prepare(variant, sizes, target.plan) {
            Ok(_) => return Ok(None),
            Err(failure @ request::Failure::Unusable(..)) => return Err(failure.into()),
            Err(request::Failure::Unsupported(refusal)) => Refusal::from(&refusal),
            Err(failure) => Refusal::new(failure.to_string()),
        };
        let what = format!("{} has no {} form on {}", variant.name, target.layout(), target.plan.backend.name());
        Ok(Some(refusal.under(&what)))
    }
}

impl Candidates {
    /// Notes a refusal. A form that has one schedule is there, whichever others were listed beside it.
    pub fn refuse(&mut self, candidate: &Candidate, refusal: Refusal) {
        let split = candidate.targets.first().is_some_and(|target| target.plan.schedule == Schedule::Split);
        if !split || self.only_split {
            self.refusals.push(refusal);
        }
    }

    /// What is left when all are tried, and how many were there: the reference, an error or nothing.
    pub fn settle(mut self, compiled: usize) -> Result<Option<Target>, Failure> {
        let itself = compiled == 0 && self.reference;
        if compiled == 0 && !itself && self.refusals.is_empty() {
            self.refusals.push(Refusal::new("none of its forms compiles: use --backend reference"));
        }
        if compiled == 0 && !itself || self.asked && !self.refusals.is_empty() {
            return Err(Failure::Refused(self.refusals));
        }
        self.refusals.iter().for_each(|refusal| print::note(&refusal.to_string()));
        Ok(itself.then_some(Target::REFERENCE))
    }
}

/// The forms in the schedules; each schedule of the forms that have several.
fn layouts(forms: &[Form], schedules: &[Schedule]) -> Vec<(Form, Schedule)> {
    let all = forms.iter().flat_map(|&form| schedules.iter().map(move |&schedule| (form, schedule)));
    all.filter(|(form, schedule)| *form == Form::Chunked || *schedule == Schedule::Fused).collect()
}

fn present_forms(derivation: &Derivation) -> Vec<Form> {
    let (_, forms) = derivation.report();
    forms.into_iter().filter(|report| report.missing.is_none()).map(|report| report.form).collect()
}

fn chunks(variant: &Variant, backend: Backend, shared: &Shared) -> Vec<usize> {
    let of_checks = variant.checks.forms.iter().filter_map(|form| match form {
        FormCheck::Chunked(chunk) => *chunk,
        _ => None,
    });
    let usual: &[usize] = if backend == Backend::Wgpu { &CHUNKS_OF_GPU } else { &CHUNKS };
    let mut chunks = shared.chunks().or_usual(usual.iter().copied().chain(of_checks));
    chunks.sort();
    chunks.dedup();
    chunks
}

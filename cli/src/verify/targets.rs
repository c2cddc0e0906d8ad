//! What `verify` compares with the reference: the back ends, and of each the forms, schedules and chunk lengths.

use chunkwise_compiler::{Derivation, Form, Schedule};
use chunkwise_dsl::typed::{FormCheck, Variant};
use chunkwise_runtime::{Backend, Engine, Plan, choose::exists, request};

use super::cases::Case;
use crate::{arguments::Shared, failure::Failure, print};

/// Chunk lengths tried where none are asked for: one token, an odd few, and the usual ones.
const CHUNKS: [usize; 4] = [1, 7, 16, 64];

/// Those of a GPU, which compiles a shader for each: a software driver takes seconds for one.
const CHUNKS_OF_GPU: [usize; 2] = [7, 64];

/// One form on one back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub plan: Plan,
}

impl Target {
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

/// Every form on every back end; of the chunked form every chunk length.
pub fn targets(
    variant: &Variant,
    backends: &[Backend],
    engine: &mut Engine,
    (cases, shared): (&[Case], &Shared),
) -> Result<Vec<Target>, Failure> {
    let asked = shared.forms();
    let derivation = engine.derivation(variant);
    for form in &asked.named {
        exists(&derivation, *form)?;
    }
    let forms = asked.or_usual(present_forms(&derivation));
    let mut targets = Vec::new();
    let mut refusals = Vec::new();
    let only_split = shared.schedules().named == [Schedule::Split] && !shared.schedules().is_open();
    for &backend in backends {
        if backend == Backend::Reference {
            continue;
        }
        for (form, schedule) in layouts(&forms, &shared.schedules().or_usual(Schedule::ALL)) {
            let chunks = if form == Form::Chunked { chunks(variant, backend, shared) } else { vec![1] };
            let target = |chunk: usize| Target { plan: Plan { backend, form, schedule, chunk } };
            let first = cases.first().zip(chunks.first());
            let prepared = first.map(|(case, &chunk)| engine.prepare(variant, &case.sizes, target(chunk).plan));
            match prepared {
                Some(Err(failure @ request::Failure::Unusable(..))) => return Err(failure.into()),
                // A form that has one schedule is there, whichever others were listed beside it.
                Some(Err(_)) if schedule == Schedule::Split && !only_split => {}
                Some(Err(failure)) => {
                    let what = target(1).layout();
                    refusals.push(format!("{} has no {what} form on {}: {failure}", variant.name, backend.name()));
                }
                _ => targets.extend(chunks.into_iter().map(target)),
            }
        }
    }
    // The reference is compared with itself only where it was asked for or is all there is.
    if backends.contains(&Backend::Reference)
        && (targets.is_empty() || shared.backends().named.contains(&Backend::Reference))
    {
        let plan = Plan { backend: Backend::Reference, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
        targets.insert(0, Target { plan });
    }
    if targets.is_empty() && refusals.is_empty() {
        refusals.push("none of its forms compiles: use --backend reference".into());
    }
    // A form or schedule that was asked for must be there; without states there is but one, which the reference serves.
    let named = !asked.named.is_empty() || only_split;
    let lacks = named && !refusals.is_empty() && !variant.states.is_empty();
    if targets.is_empty() || lacks {
        return Err(Failure::Wrong(refusals));
    }
    refusals.iter().for_each(|refusal| print::note(refusal));
    Ok(targets)
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

//! `auto`: which back end, form and chunk length a run takes, and why. The choice always works: where nothing compiles,
//! it is the reference.

use chunkwise_compiler::{Form, bind::Sizes, report};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::Backend,
    execute::{Engine, Failure, Plan},
};

/// Tokens in a chunk where none are asked for: small enough that the C x C part stays beside the C x K part in cache.
pub const CHUNK: usize = 64;

/// Below this many tokens a chunk is not worth its set-up.
const FEW: usize = 16;

/// What was asked for; None leaves it to the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub backend: Option<Backend>,
    pub form: Option<Form>,
    pub chunk: Option<usize>,
}

/// What is taken, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    pub plan: Plan,
    /// A sentence for each thing chosen.
    pub reasons: Vec<String>,
    /// The back end was left open and none that compiles could take the variant.
    pub fell_back: bool,
}

/// Settles on a plan. Compiled back ends compile at once, so that a refusal is known here.
///
/// # Errors
/// A back end that was asked for and is not usable here, a form that the variant lacks, a variant that a back end asked
/// for cannot compile.
pub fn choose(engine: &mut Engine, variant: &Variant, sizes: &Sizes, wish: Wish) -> Result<Choice, Failure> {
    match wish.backend {
        Some(Backend::Reference) => Ok(reference(wish, vec!["the reference was asked for".into()])),
        Some(backend) => compiled(engine, variant, sizes, (backend, wish)),
        None => {
            if let Some(form) = wish.form {
                exists(variant, form)?;
            }
            let mut refusals = Vec::new();
            for backend in [Backend::Llvm] {
                match compiled(engine, variant, sizes, (backend, wish)) {
                    Ok(choice) => return Ok(choice),
                    // A form that was asked for must be there; without states the reference serves the only one.
                    Err(Failure::Unsupported(refusal)) if wish.form.is_some() && !variant.states.is_empty() => {
                        return Err(Failure::Unsupported(refusal));
                    }
                    Err(failure) => refusals.push(format!("not {}: {failure}", backend.name())),
                }
            }
            refusals.push("the reference runs every variant".into());
            Ok(Choice { fell_back: true, ..reference(wish, refusals) })
        }
    }
}

/// The form, if the variant has it.
pub fn exists(variant: &Variant, form: Form) -> Result<(), Failure> {
    let (_, forms) = report(variant);
    match forms.into_iter().find(|report| report.form == form).and_then(|report| report.missing) {
        Some(missing) => Err(Failure::Unsupported(missing)),
        None => Ok(()),
    }
}

fn reference(wish: Wish, reasons: Vec<String>) -> Choice {
    let plan = Plan {
        backend: Backend::Reference,
        form: wish.form.unwrap_or(Form::Recurrent),
        chunk: wish.chunk.unwrap_or(CHUNK),
    };
    Choice { plan, reasons, fell_back: false }
}

fn compiled(
    engine: &mut Engine,
    variant: &Variant,
    sizes: &Sizes,
    (backend, wish): (Backend, Wish),
) -> Result<Choice, Failure> {
    backend.devices().map_err(|why| Failure::Unusable(backend, why))?;
    let tokens = variant.token.map_or(0, |axis| sizes.get(axis).unwrap_or(0));
    let chunk = wish.chunk.unwrap_or(CHUNK);
    let mut reasons = Vec::new();
    let forms = match wish.form {
        Some(form) => {
            exists(variant, form)?;
            vec![form]
        }
        None if variant.states.is_empty() => vec![Form::Parallel],
        None if tokens < FEW => {
            reasons.push(format!("{tokens} tokens are too few for a chunk to pay"));
            vec![Form::Recurrent, Form::Chunked, Form::Parallel]
        }
        None => {
            reasons.push(format!("{tokens} tokens: chunks turn token-by-token work into matrix products"));
            vec![Form::Chunked, Form::Recurrent, Form::Parallel]
        }
    };
    let mut refusal = None;
    for form in forms {
        match exists(variant, form).and_then(|()| engine.prepare(variant, sizes, (backend, form))) {
            Ok(()) => {
                reasons.insert(0, format!("{} runs the {} form", backend.name(), form.name()));
                return Ok(Choice { plan: Plan { backend, form, chunk }, reasons, fell_back: false });
            }
            Err(failure) => {
                reasons.push(format!("no {} form: {failure}", form.name()));
                refusal.get_or_insert(failure);
            }
        }
    }
    Err(refusal.unwrap_or_else(|| Failure::Failed("no form was tried".into())))
}

//! `auto`: which back end, form and chunk length a run takes, and why. The choice always works: where nothing compiles,
//! it is the reference.

use chunkwise_compiler::{Form, Tiles, bind::Sizes, kernel, report};
use chunkwise_dsl::typed::Variant;

use crate::{
    backend::Backend,
    execute::{Engine, Failure, Plan, chunk_length},
};

/// Tokens in a chunk where none are asked for and none are priced.
pub const CHUNK: usize = 64;

/// Chunk lengths that `auto` prices.
const CHUNKS: [usize; 4] = [16, 32, 64, 128];

/// Forms are priced on at most this many tokens; all cost per token is alike beyond it.
const PRICED: usize = 256;

/// A parallel form is priced up to this many tokens: its pairs of tokens are then as good as one chunk's.
const ONE_CHUNK: usize = 128;

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
    if let Some(form) = wish.form {
        exists(variant, form)?;
    }
    let tokens = variant.token.map_or(0, |axis| sizes.get(axis).unwrap_or(0));
    let mut candidates = priced(variant, sizes, wish, tokens);
    if candidates.is_empty() {
        let chunk = wish.chunk.unwrap_or(CHUNK);
        let forms = wish.form.map_or(Form::ALL.to_vec(), |form| vec![form]);
        candidates = forms.into_iter().map(|form| Candidate { form, chunk, nanoseconds: f64::NAN }).collect();
    }
    let mut reasons = Vec::new();
    let mut refusal = None;
    for candidate in &candidates {
        let plan = Plan { backend, form: candidate.form, chunk: candidate.chunk };
        match engine.prepare(variant, sizes, plan) {
            Ok(()) => {
                reasons.insert(0, format!("{} runs the {}", backend.name(), candidate.name()));
                if candidates.len() > 1 {
                    let prices: Vec<String> = candidates.iter().map(Candidate::price).collect();
                    reasons.push(format!("by price, in ns a token and head: {}", prices.join(", ")));
                }
                return Ok(Choice { plan, reasons, fell_back: false });
            }
            Err(failure) => {
                reasons.push(format!("no {} form: {failure}", candidate.form.name()));
                refusal.get_or_insert(failure);
            }
        }
    }
    Err(refusal.unwrap_or_else(|| Failure::Failed("no form was tried".into())))
}

/// A form at a chunk length, and what its kernels cost a token and head.
struct Candidate {
    form: Form,
    chunk: usize,
    nanoseconds: f64,
}

impl Candidate {
    fn name(&self) -> String {
        match self.form {
            Form::Chunked => format!("chunked form, C = {}", self.chunk),
            form => format!("{} form", form.name()),
        }
    }

    fn price(&self) -> String {
        format!("{} {:.0}", self.name(), self.nanoseconds)
    }
}

/// Every form that is asked for and exists, the cheapest first.
fn priced(variant: &Variant, sizes: &Sizes, wish: Wish, tokens: usize) -> Vec<Candidate> {
    let forms = wish.form.map_or(Form::ALL.to_vec(), |form| vec![form]);
    let mut candidates = Vec::new();
    for form in forms {
        if form == Form::Parallel && wish.form.is_none() && tokens > ONE_CHUNK {
            continue;
        }
        let Ok(module) = chunkwise_compiler::compile(variant, sizes, form, Tiles::Whole) else { continue };
        let chunks = match (form, wish.chunk) {
            (Form::Chunked, None) => CHUNKS.to_vec(),
            (_, chunk) => vec![chunk.unwrap_or(CHUNK)],
        };
        for chunk in chunks {
            let nanoseconds = price(variant, sizes, &module, (form, chunk, tokens));
            candidates.push(Candidate { form, chunk, nanoseconds });
        }
    }
    candidates.sort_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds));
    candidates
}

fn price(
    variant: &Variant,
    sizes: &Sizes,
    module: &kernel::Module,
    (form, chunk, tokens): (Form, usize, usize),
) -> f64 {
    let counted = if form == Form::Parallel { tokens } else { tokens.min(PRICED) };
    let size_of = |name: &str| {
        let place = variant.axes.iter().position(|axis| axis.name == name);
        match place {
            Some(place) if variant.token.is_some_and(|token| token.0 as usize == place) => counted,
            Some(place) => sizes.get(chunkwise_dsl::shape::AxisId(place as u32)).unwrap_or(1),
            None => 1,
        }
    };
    let length = chunk_length(form, chunk, counted);
    kernel::nanoseconds(module, &size_of, length) / counted.max(1) as f64
}

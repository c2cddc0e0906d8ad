//! The runtime as this package uses it, and the only file that calls it: one engine for all variants of the same settings,
//! behind a lock that is taken to compile and never to run.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chunkwise_compiler::{Form, FormReport, StateReport, bind::Sizes, reference};
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Backend, Engine, Failure, Lent, Precision, Ready, Session, Settings, Tensors,
    backend::cores,
    choose::{Choice, Wish, choose},
    draw, rates, room,
};

/// What a variant is compiled for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub backend: Option<Backend>,
    pub form: Option<Form>,
    pub chunk: Option<usize>,
    pub precision: Precision,
}

/// A variant at settled sizes.
pub struct Settled {
    pub sizes: Sizes,
    pub choice: Choice,
    /// None where the reference runs it.
    ready: Option<Ready>,
    /// Where that code finds states, and leaves them.
    pub states: States,
}

/// Where the states that a call starts from lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum States {
    /// Apart from where it leaves them.
    Apart,
    /// There.
    InPlace,
}

impl Options {
    /// What is named.
    ///
    /// # Errors
    /// A name of nothing; a precision that the back end lacks.
    pub fn named(backend: &str, form: &str, chunk: Option<usize>, precision: &str) -> Result<Self, String> {
        let backend = or_auto("backend", backend, &Backend::ALL.map(|of| (of.name(), of)))?;
        let form = or_auto("form", form, &Form::ALL.map(|of| (of.name(), of)))?;
        let precision = one_of("precision", precision, &Precision::ALL.map(|of| (of.name(), of)))?;
        if chunk == Some(0) {
            return Err("chunk is 0, expected 1 token or more".into());
        }
        let has = precision.backend();
        if let (Some(has), Some(backend)) = (has, backend)
            && has != backend
        {
            let (name, has, backend) = (precision.name(), has.name(), backend.name());
            return Err(format!("precision {name:?} is of the back end {has:?}, not of {backend:?}"));
        }
        Ok(Self { backend: backend.or(has), form, chunk, precision })
    }

    /// Compiles a variant for these sizes; where states cannot stay in place as asked for, with states apart.
    ///
    /// # Errors
    /// What cannot be compiled as asked for, or does not fit into memory.
    pub fn settle(
        self,
        variant: &Variant,
        sizes: Sizes,
        (threads, states): (usize, States),
    ) -> Result<Settled, Failure> {
        room::for_tensors(variant, &sizes, room::OF_CODE)?;
        let engine = self.engine(threads);
        let mut engine = locked(&engine);
        let choice = choose(&mut engine, variant, &sizes, self.wish(threads))?;
        let of = (variant, &sizes);
        let in_place = match (choice.plan.backend, states) {
            (Backend::Reference, _) | (_, States::Apart) => None,
            (_, States::InPlace) => engine.ready_in_place(of, choice.plan, threads)?,
        };
        let (ready, states) = match (choice.plan.backend, in_place) {
            (Backend::Reference, _) => (None, States::Apart),
            (_, Some(ready)) => (Some(ready), States::InPlace),
            (_, None) => (Some(engine.ready(of, choice.plan, threads)?), States::Apart),
        };
        Ok(Settled { sizes, choice, ready, states })
    }

    /// Lays out calls that go on from each other's states.
    ///
    /// # Errors
    /// As `settle`.
    pub fn session(self, variant: &Variant, sizes: &Sizes, threads: usize) -> Result<Session, Failure> {
        room::for_tensors(variant, sizes, room::OF_A_RUN)?;
        let engine = self.engine(threads);
        let mut engine = locked(&engine);
        let plan = choose(&mut engine, variant, sizes, self.wish(threads))?.plan;
        engine.session(variant, sizes, plan, threads)
    }

    /// What the derivation finds of a variant: its states' classes, and which forms there are.
    pub fn report(self, variant: &Variant) -> (Vec<StateReport>, Vec<FormReport>) {
        let engine = self.engine(cores());
        let derivation = locked(&engine).derivation(variant);
        derivation.report()
    }

    fn wish(self, threads: usize) -> Wish {
        let Self { backend, form, chunk, .. } = self;
        Wish { backend, form, schedule: None, chunk, threads: Some(threads) }
    }

    /// The engine of these settings. Variants are derived and compiled once in it, whoever asks.
    fn engine(self, threads: usize) -> Arc<Mutex<Engine>> {
        static ENGINES: Mutex<Vec<(Settings, Arc<Mutex<Engine>>)>> = Mutex::new(Vec::new());
        let settings = Settings { precision: self.precision, threads: Some(threads), ..Settings::default() };
        let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = engines.iter().find(|(of, _)| *of == settings) {
            return Arc::clone(known);
        }
        let (rates, _) = rates();
        let made = Arc::new(Mutex::new(Engine::with(settings.clone()).with_rates(rates.clone())));
        engines.push((settings, Arc::clone(&made)));
        made
    }
}

impl Settled {
    /// The compiled code; None where the reference is to run.
    pub fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }
}

/// Random inputs and params, as the variant says that tests draw them.
///
/// # Errors
/// Tensors that do not fit into memory.
pub fn draw(variant: &Variant, sizes: &Sizes, seed: u64) -> Result<Tensors, Failure> {
    room::for_tensors(variant, sizes, room::OF_A_RUN)?;
    Ok(draw::inputs(variant, sizes, draw::Gates::Plain, seed))
}

/// Runs compiled code.
///
/// # Errors
/// As `Ready::run`.
pub fn run(ready: &Ready, lent: Lent<'_>) -> Result<(), Failure> {
    ready.run(lent)
}

/// Runs the reference, in f64.
///
/// # Errors
/// What it cannot evaluate.
pub fn interpret(
    variant: &Variant,
    sizes: &Sizes,
    (inputs, initial): (&Arrays, &Arrays),
) -> Result<reference::Results, Failure> {
    reference::run(variant, sizes, inputs, initial).map_err(|error| Failure::Failed(error.to_string()))
}

/// Arrays by name.
pub type Arrays = std::collections::BTreeMap<String, reference::Array>;

/// This machine's rates, as `chunkwise calibrate` left them, and what is wrong with them.
pub fn rates() -> &'static (rates::Table, Option<String>) {
    static RATES: OnceLock<(rates::Table, Option<String>)> = OnceLock::new();
    RATES.get_or_init(|| match rates::path().map(|path| rates::Table::load(&path)) {
        None => (rates::Table::default(), None),
        Some(Ok(table)) => (table, None),
        Some(Err(why)) => (rates::Table::default(), Some(format!("built-in rates: {why}"))),
    })
}

fn locked(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn or_auto<T: Copy>(what: &str, name: &str, all: &[(&str, T)]) -> Result<Option<T>, String> {
    if name == "auto" { Ok(None) } else { one_of(what, name, all).map(Some) }
}

fn one_of<T: Copy>(what: &str, name: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(known, _)| *known == name);
    let names = || all.iter().map(|(known, _)| format!("{known:?}")).collect::<Vec<_>>().join(", ");
    found.map(|(_, of)| *of).ok_or_else(|| format!("{what} is {name:?}, expected one of {}", names()))
}

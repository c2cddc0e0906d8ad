//! Whole kernels of every class of transition, timed: what rates are fitted to and judged by. The states are of 16, 64 and
//! 256 KiB, so that each lies in another cache than the one before, as caches are today.

use std::time::Duration;

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, bind_dims},
    kernel::Rates,
};
use chunkwise_dsl::{compile, source::Source, typed::Variant};

use super::fit::{Observed, fit};
use crate::{
    backend::Backend,
    choose::{CHUNKS, price},
    device::Settings,
    draw::{Gates, inputs},
    execute::Engine,
    request::{Failure, Plan, Request},
    tensor::Tensors,
};

/// The inputs, the update and how inputs are drawn of a program of each class: identity, scalar and diagonal decay, and
/// the delta rule beside each of them.
const PROGRAMS: [[&str; 3]; 6] = [
    ["", "update S additive(k, v);", ""],
    [", g : [B,T,H]", "decay a[t] = exp(g[t]); update S additive(k, v);", ", g = logdecay"],
    [", g : [B,T,H,K]", "decay a[t] = exp(g[t]); update S additive(k, v);", ", g = logdecay"],
    [", b : [B,T,H]", "update S delta(k, v, b);", ", b = sigmoid"],
    [", g, b : [B,T,H]", "decay a[t] = exp(g[t]); update S delta(k, v, b);", ", g = logdecay, b = sigmoid"],
    [", g : [B,T,H,K], b : [B,T,H]", "decay a[t] = exp(g[t]); update S delta(k, v, b);", ", g = logdecay, b = sigmoid"],
];

/// K and V: of these every form is timed, ...
const WIDTHS: [usize; 2] = [64, 128];
/// ... of this one the recurrent form.
const WIDE: usize = 256;

const TOKENS: usize = 256;
const HEADS: usize = 2;

/// Every kernel is timed in so many turns, so that what else the machine does for a while weighs on all alike.
const TURNS: usize = 4;
/// Long enough for a few runs.
const LONG: Duration = Duration::from_millis(4);
const RUNS: usize = 3;

/// What `measure` says it does, once each: programs as they are compiled, and turns.
pub(super) const STEPS: usize = PROGRAMS.len() * (WIDTHS.len() + 1) + TURNS;

/// A program at one size, and what its plans take.
struct Case {
    variant: Variant,
    sizes: Sizes,
    inputs: Tensors,
    /// Plans and their least times so far, in nanoseconds.
    plans: Vec<(Plan, f64)>,
}

impl Case {
    fn new(backend: Backend, [more, update, draw]: [&str; 3], width: usize) -> Result<Self, Failure> {
        let text = format!(
            "variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]{more}; order causal; \
             state S : [K,V] = 0; {update} output o[t] = S[t]' * q[t]; check draw(q = unit, k = unit{draw}); }}"
        );
        let broken = |why: String| Failure::Failed(format!("a program of calibrate's own: {why}"));
        let program = compile(&Source::new("calibrate", text), &[]).map_err(|_| broken("it does not check".into()))?;
        let variant = program.variants.into_iter().next().ok_or_else(|| broken("it is empty".into()))?;
        let dims = [("B", 1), ("T", TOKENS), ("H", HEADS), ("K", width), ("V", width)];
        let sizes = bind_dims(&variant, &dims.map(|(name, n)| (name.to_string(), n)))
            .map_err(|_| broken("its sizes do not fit".into()))?;
        let inputs = inputs(&variant, &sizes, Gates::Plain, 1);
        let plan = |form, chunk| (Plan { backend, form, schedule: Schedule::Fused, chunk }, f64::INFINITY);
        let chunks: &[usize] = if width == WIDE { &[] } else { &CHUNKS };
        let chunked = chunks.iter().map(|chunk| plan(Form::Chunked, *chunk));
        let plans = [plan(Form::Recurrent, 1)].into_iter().chain(chunked).collect();
        Ok(Self { variant, sizes, inputs, plans })
    }

    fn compile(&self, engine: &mut Engine) -> Result<(), Failure> {
        self.plans.iter().try_for_each(|(plan, _)| engine.prepare(&self.variant, &self.sizes, *plan))
    }

    fn time(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        let none = Tensors::new();
        let Self { variant, sizes, inputs, plans } = self;
        let request = Request { variant, sizes, inputs, initial: &none, threads: 1 };
        for (plan, least) in plans {
            let enough = |times: &[Duration]| times.len() >= RUNS && times.iter().sum::<Duration>() >= LONG;
            let times = engine.time(request, *plan, &enough)?;
            *least = times.into_iter().map(|time| time.as_secs_f64() * 1e9).fold(*least, f64::min);
        }
        Ok(())
    }

    /// How many times as long as the best plan the one takes that is cheapest by these rates.
    fn lost(&self, engine: &mut Engine, rates: &Rates) -> Result<f64, Failure> {
        let (mut cheapest, mut taken, mut best) = (f64::INFINITY, 1.0, f64::INFINITY);
        for (plan, time) in &self.plans {
            let price = price(engine, (&self.variant, &self.sizes), *plan, rates)?;
            if price < cheapest {
                (cheapest, taken) = (price, *time);
            }
            best = best.min(*time);
        }
        Ok(taken / best)
    }
}

/// The kernels of a back end and their times.
pub(super) struct Timed {
    engine: Engine,
    cases: Vec<Case>,
}

impl Timed {
    /// Compiles and times them in one thread.
    ///
    /// # Errors
    /// A back end that generates no code for this processor here.
    pub(super) fn new(backend: Backend, step: &mut dyn FnMut(&str)) -> Result<Self, Failure> {
        let mut engine = Engine::with(Settings { threads: Some(1), ..Settings::default() });
        let mut cases = Vec::new();
        for program in PROGRAMS {
            for width in WIDTHS.into_iter().chain([WIDE]) {
                let case = Case::new(backend, program, width)?;
                case.compile(&mut engine)?;
                step("kernels are compiled");
                cases.push(case);
            }
        }
        for _ in 0..TURNS {
            cases.iter_mut().try_for_each(|case| case.time(&mut engine))?;
            step("kernels are timed");
        }
        Ok(Self { engine, cases })
    }

    /// These rates, fitted to the times; `least` as in `fit`.
    pub(super) fn fit(&mut self, rates: &Rates, least: &Rates) -> Result<Rates, Failure> {
        let Self { engine, cases } = self;
        let mut observed = Vec::new();
        for case in cases {
            let best = case.plans.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
            for (plan, time) in &case.plans {
                let mut price = |rates: &Rates| price(engine, (&case.variant, &case.sizes), *plan, rates);
                observed.push(Observed::new((*time, best), rates, &mut price)?);
            }
        }
        Ok(fit(rates, least, &observed))
    }

    /// How many times as long as the best plans those take that these rates choose, in the geometric mean.
    pub(super) fn lost(&mut self, rates: &Rates) -> Result<f64, Failure> {
        let Self { engine, cases } = self;
        let several = cases.iter().filter(|case| case.plans.len() > 1);
        let logarithms = several.map(|case| case.lost(engine, rates).map(f64::ln));
        let logarithms = logarithms.collect::<Result<Vec<_>, _>>()?;
        Ok((logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp())
    }
}

#[cfg(all(test, feature = "cranelift"))]
mod tests {
    use super::*;
    use crate::rates::built_in;

    #[test]
    fn programs_of_every_class_are_priced_and_timed() {
        let mut engine = Engine::with(Settings { threads: Some(1), ..Settings::default() });
        let case = |program| Case::new(Backend::Cranelift, program, 8).unwrap();
        let mut cases: Vec<Case> = PROGRAMS.into_iter().map(case).collect();
        for case in &mut cases {
            case.time(&mut engine).unwrap();
            assert_eq!(case.plans.len(), 1 + CHUNKS.len());
            assert!(case.plans.iter().all(|(_, time)| time.is_finite() && *time > 0.0));
        }
        let rates = built_in(Backend::Cranelift);
        let mut timed = Timed { engine, cases };
        let fitted = timed.fit(&rates, &rates).unwrap();
        let lost = [timed.lost(&rates).unwrap(), timed.lost(&fitted).unwrap()];
        assert!(lost.iter().all(|lost| lost.is_finite() && *lost >= 1.0), "{lost:?}");
        // As if every plan had taken what the fitted rates say.
        for case in &mut timed.cases {
            for (plan, time) in &mut case.plans {
                *time = price(&mut timed.engine, (&case.variant, &case.sizes), *plan, &fitted).unwrap();
            }
        }
        assert_eq!(timed.lost(&fitted).unwrap(), 1.0, "the cheapest is the best");
    }
}

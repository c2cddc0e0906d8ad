//! Rates fitted to the times of whole kernels. A price is a sum of counts times rates, so the rates that explain times
//! best are a least-squares problem:
//!
//! ```text
//! minimise over rates r >= 0:   sum over kernels of (best / time) (price / time - 1)^2
//!                               + HELD * sum over rates of (r / prior - 1)^2
//! ```
//!
//! `best` is the time of the fastest kernel of the same results: a choice is among those near it, so they weigh most.
//! The prior is what single statements took: it settles what no kernel depends on, and which of two rates that all kernels
//! have in one proportion is which.

use chunkwise_compiler::kernel::Rates;

/// How much a rate counts that is away from its prior by all of it, beside a kernel whose price is off by all of its time.
const HELD: f64 = 0.03;

/// Rounds of descent, one rate after another: a few dozen rates settle in far fewer.
const ROUNDS: usize = 4000;

/// Rates that no price is proportional to, or no price of one thread.
const FIXED: [&str; 5] = ["vector", "first_bytes", "second_bytes", "third_bytes", "call"];

/// The rates that are fitted.
pub(super) fn fitted() -> impl Iterator<Item = &'static str> {
    Rates::NAMES.iter().copied().filter(|name| !FIXED.contains(name))
}

/// What a kernel took and the fastest of the same results, and how often each of the fitted rates is in its price.
pub(super) struct Observed {
    counts: Vec<f64>,
    time: f64,
    best: f64,
}

impl Observed {
    /// Counts found from prices: of rates that are all 0 but for one of them, 1.
    pub(super) fn new<E>(
        (time, best): (f64, f64),
        rates: &Rates,
        price: &mut dyn FnMut(&Rates) -> Result<f64, E>,
    ) -> Result<Self, E> {
        let mut none = rates.clone();
        for name in fitted() {
            none.set(name, 0.0);
        }
        let counts = fitted().map(|name| {
            let mut one = none.clone();
            one.set(name, 1.0);
            price(&one)
        });
        Ok(Self { counts: counts.collect::<Result<_, E>>()?, time, best })
    }
}

/// The rates that explain what was observed, near the prior; `least` holds what a rate is worth at least when distances
/// from a prior of next to nothing are taken.
pub(super) fn fit(prior: &Rates, least: &Rates, observed: &[Observed]) -> Rates {
    let of = |rates: &Rates, name: &str| rates.get(name).unwrap_or(0.0);
    let priors: Vec<f64> = fitted().map(|name| of(prior, name)).collect();
    let scales: Vec<f64> = fitted().map(|name| of(prior, name).max(0.25 * of(least, name)).max(1e-6)).collect();
    // Residuals are weighed by their roots.
    let weights: Vec<f64> = observed.iter().map(|x| (x.best / x.time).sqrt()).collect();
    let row = |(x, weight): (&Observed, &f64)| x.counts.iter().map(|n| weight * n / x.time).collect();
    let rows: Vec<Vec<f64>> = observed.iter().zip(&weights).map(row).collect();
    let mut found = priors.clone();
    // What is left of each kernel's time, as a part of it.
    let mut left: Vec<f64> = rows.iter().zip(&weights).map(|(row, weight)| weight - dot(row, &found)).collect();
    for _ in 0..ROUNDS {
        for (at, ((found, prior), scale)) in found.iter_mut().zip(&priors).zip(&scales).enumerate() {
            let held = HELD / (scale * scale);
            let slope = rows.iter().zip(&left).map(|(row, left)| row[at] * left).sum::<f64>();
            let steep = rows.iter().map(|row| row[at] * row[at]).sum::<f64>();
            let next = (*found + (slope + held * (prior - *found)) / (steep + held)).max(0.0);
            let moved = next - *found;
            left.iter_mut().zip(&rows).for_each(|(left, row)| *left -= moved * row[at]);
            *found = next;
        }
    }
    let mut rates = prior.clone();
    for (name, value) in fitted().zip(found) {
        rates.set(name, value);
    }
    rates
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(true_rates: &Rates, counts: &[(&str, f64)]) -> Observed {
        let price = |rates: &Rates| counts.iter().map(|(name, n)| n * rates.get(name).unwrap_or(0.0)).sum::<f64>();
        let time = price(true_rates);
        Observed::new::<()>((time, time), true_rates, &mut |rates| Ok(price(rates))).unwrap()
    }

    #[test]
    fn rates_that_explain_the_times_are_found() {
        let prior = Rates::default();
        let known = Rates { product: 0.5 * prior.product, swept: 2.0 * prior.swept, ..prior.clone() };
        let kernels: Vec<Observed> = (1..40)
            .map(|n| f64::from(n) * 1e4)
            .flat_map(|n| [[n, 1e4], [1e4, n]])
            .map(|[products, elements]| observed(&known, &[("product", products), ("swept", elements)]))
            .collect();
        let found = fit(&prior, &prior, &kernels);
        assert!((found.product / known.product - 1.0).abs() < 0.02, "{}", found.product);
        assert!((found.swept / known.swept - 1.0).abs() < 0.02, "{}", found.swept);
        assert_eq!(Rates { product: prior.product, swept: prior.swept, ..found }, prior, "the others stay");
    }

    #[test]
    fn no_rate_is_below_0() {
        let prior = Rates::default();
        // The second kernel does more of everything in less time.
        let kernel = |time, n| Observed { time, ..observed(&prior, &[("element", n), ("row", 1.0)]) };
        let found = fit(&prior, &prior, &[kernel(100.0, 10.0), kernel(1.0, 1000.0)]);
        assert!(Rates::NAMES.iter().all(|name| found.get(name).is_some_and(|x| x >= 0.0)));
    }
}

//! Divisions by numbers: what one gives is a whole number of its own, of which it is known how it lies to what is divided.

use super::Proof;
use super::linear::{Linear, Symbol};

/// What a division by a known number gave, at one place and further in.
pub(super) struct Division {
    part: Part,
    of: Linear,
    by: i128,
    pub(super) gave: Symbol,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Quotient,
    Remainder,
}

impl Proof<'_> {
    /// Rounded down; by 0 it is 0.
    pub(super) fn quotient(&mut self, a: &Linear, b: &Linear) -> Linear {
        let (range, by) = (self.scope.range(a), self.scope.range(b));
        match b.known() {
            Some(0) => Linear::constant(0),
            Some(n) if n > 0 && is_multiple(a, n) => Linear {
                constant: a.constant.div_euclid(n),
                terms: a.terms.iter().map(|(symbol, by)| (*symbol, by / n)).collect(),
                choices: Vec::new(),
            },
            Some(n) if n > 0 => self.division(Part::Quotient, a, n, [range.0.div_euclid(n), range.1.div_euclid(n)]),
            _ if by.0 > 0 => {
                self.between([range.0, range.1].map(|x| [by.0, by.1].map(|n| x.div_euclid(n))).as_flattened())
            }
            _ => {
                let most = range.0.abs().max(range.1.abs());
                self.between(&[-most, most])
            }
        }
    }

    /// Never negative; by 0 it is 0.
    pub(super) fn remainder(&mut self, a: &Linear, b: &Linear) -> Linear {
        let (range, by) = (self.scope.range(a), self.scope.range(b));
        match b.known() {
            Some(0) => Linear::constant(0),
            Some(n) if n > 0 && is_multiple(a, n) => Linear::constant(a.constant.rem_euclid(n)),
            Some(n) if range.0 >= 0 && range.1 < n => a.clone(),
            Some(n) if n > 0 => self.division(Part::Remainder, a, n, [0, n - 1]),
            _ => self.between(&[0, by.0.abs().max(by.1.abs()).saturating_sub(1).max(0)]),
        }
    }

    /// What a division gives, between two numbers: the same wherever it is met again.
    fn division(&mut self, part: Part, of: &Linear, by: i128, [lo, hi]: [i128; 2]) -> Linear {
        let same = |known: &&Division| known.part == part && known.by == by && known.of == *of;
        if let Some(known) = self.divided.iter().find(same) {
            return Linear::symbol(known.gave);
        }
        if lo == hi {
            return Linear::constant(lo);
        }
        let Some(gave) = self.scope.symbol(Linear::constant(lo), Linear::constant(hi)) else {
            return Linear::constant(lo);
        };
        // by gave <= of < by gave + by, or gave <= of.
        let times = if part == Part::Quotient { by } else { 1 };
        let natural = part == Part::Quotient || self.scope.range(of).0 >= 0;
        let below = of.plus(&Linear::symbol(gave), -times).filter(|_| natural);
        let above = Linear::symbol(gave).scaled(by).and_then(|x| x.less(of)).filter(|_| part == Part::Quotient);
        below.into_iter().chain(above.map(|x| x.and(by - 1))).for_each(|fact| self.scope.assume(fact));
        self.divided.push(Division { part, of: of.clone(), by, gave });
        Linear::symbol(gave)
    }
}

/// Whether a sum without its constant is a multiple of a number.
fn is_multiple(x: &Linear, of: i128) -> bool {
    x.choices.is_empty() && x.terms.iter().all(|(_, by)| by % of == 0)
}

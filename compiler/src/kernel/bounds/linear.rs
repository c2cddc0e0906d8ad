//! Integers of a launch as sums: a constant, symbols times constants, and minima and maxima of such sums.

use std::rc::Rc;

/// A place on a grid, a loop variable, a position along an axis, or a whole number that is only known to lie between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Symbol(pub(super) usize);

/// `constant + sum of by * symbol + sum of by * choice`, no symbol and no choice twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    pub(super) constant: i128,
    /// The innermost symbol last; none times 0.
    pub(super) terms: Vec<(Symbol, i128)>,
    pub(super) choices: Vec<(Rc<Choice>, i128)>,
}

/// The least or the most of two sums.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) extreme: Extreme,
    pub(super) of: [Linear; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Least,
    Most,
}

impl Linear {
    pub(super) fn constant(constant: i128) -> Self {
        Self { constant, terms: Vec::new(), choices: Vec::new() }
    }

    pub(super) fn symbol(symbol: Symbol) -> Self {
        Self { terms: vec![(symbol, 1)], ..Self::constant(0) }
    }

    pub(super) fn choice(extreme: Extreme, of: [Linear; 2]) -> Self {
        if of[0] == of[1] {
            let [one, _] = of;
            return one;
        }
        Self { choices: vec![(Rc::new(Choice { extreme, of }), 1)], ..Self::constant(0) }
    }

    /// The number that it is, where it depends on nothing.
    pub(super) fn known(&self) -> Option<i128> {
        (self.terms.is_empty() && self.choices.is_empty()).then_some(self.constant)
    }

    /// How often a symbol is in it, choices apart.
    pub(super) fn times(&self, symbol: Symbol) -> i128 {
        self.terms.binary_search_by_key(&symbol, |term| term.0).map_or(0, |place| self.terms[place].1)
    }

    /// The sum and so many times another; none beyond i128.
    pub(super) fn plus(&self, other: &Linear, times: i128) -> Option<Linear> {
        let mut sum = self.clone();
        sum.constant = sum.constant.checked_add(other.constant.checked_mul(times)?)?;
        for (symbol, by) in &other.terms {
            let by = by.checked_mul(times)?;
            match sum.terms.binary_search_by_key(symbol, |term| term.0) {
                Ok(place) => sum.terms[place].1 = sum.terms[place].1.checked_add(by)?,
                Err(place) => sum.terms.insert(place, (*symbol, by)),
            }
        }
        for (choice, by) in &other.choices {
            let by = by.checked_mul(times)?;
            match sum.choices.iter_mut().find(|(known, _)| known == choice) {
                Some((_, known)) => *known = known.checked_add(by)?,
                None => sum.choices.push((Rc::clone(choice), by)),
            }
        }
        sum.terms.retain(|(_, by)| *by != 0);
        sum.choices.retain(|(_, by)| *by != 0);
        Some(sum)
    }

    pub(super) fn scaled(&self, times: i128) -> Option<Linear> {
        Linear::constant(0).plus(self, times)
    }

    pub(super) fn less(&self, other: &Linear) -> Option<Linear> {
        self.plus(other, -1)
    }

    pub(super) fn and(mut self, constant: i128) -> Linear {
        self.constant = self.constant.saturating_add(constant);
        self
    }
}

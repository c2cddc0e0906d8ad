//! Whether a sum is never negative, whatever the symbols in it stand for.
//!
//! ```text
//! goal >= 0
//!   min(a, b) or max(a, b) in it    by cases: both where the worse one counts, else whichever is enough
//!   its innermost symbol s, c s     s at the end of its range that makes the goal least, in terms of symbols further out;
//!                                   or the goal less a multiple of something >= 0 that has s in it too
//! ```
//! What is proved is true: every step goes from a goal to one that implies it. What is true may stay unproved.

use super::linear::{Extreme, Linear, Symbol};

/// Steps of one proof before it is given up: those of kernels take a few dozen.
const STEPS: u32 = 4_000;

/// What a symbol stands for: a number from `lo` to `hi`, both in terms of symbols further out.
#[derive(Debug, Clone)]
struct Bound {
    lo: Linear,
    hi: Linear,
    /// The numbers that it lies between, whatever all others are.
    least: i128,
    most: i128,
}

/// The symbols at one place of a kernel, the outermost first, and what else holds there.
#[derive(Debug, Default)]
pub(super) struct Scope {
    bounds: Vec<Bound>,
    /// Sums that are not negative.
    facts: Vec<Linear>,
}

/// A place to return to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize, usize);

impl Scope {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.bounds.len(), self.facts.len())
    }

    pub(super) fn leave(&mut self, mark: Mark) {
        self.bounds.truncate(mark.0);
        self.facts.truncate(mark.1);
    }

    pub(super) fn has(&self, symbol: Symbol) -> bool {
        symbol.0 < self.bounds.len()
    }

    /// A new innermost symbol from `lo` to `hi`; none where there is no such number.
    pub(super) fn symbol(&mut self, lo: Linear, hi: Linear) -> Option<Symbol> {
        let (least, most) = (self.range(&lo).0, self.range(&hi).1);
        let symbol = Symbol(self.bounds.len());
        self.bounds.push(Bound { lo, hi, least, most });
        (least <= most).then_some(symbol)
    }

    /// From here on the sum is not negative.
    pub(super) fn assume(&mut self, sum: Linear) {
        if self.range(&sum).0 >= 0 {
            return;
        }
        // What the least of two is above, both are.
        let parts = |(choice, by): &(_, i128)| Self::is_worse(choice, *by);
        let Some(place) = sum.choices.iter().position(parts) else {
            self.facts.push(sum);
            return;
        };
        let mut rest = sum;
        let (choice, by) = rest.choices.swap_remove(place);
        for one in choice.of.iter().filter_map(|one| rest.plus(one, by)) {
            self.assume(one);
        }
    }

    /// Whether a goal with so many of a choice holds only where it does with both.
    fn is_worse(choice: &std::rc::Rc<super::linear::Choice>, by: i128) -> bool {
        (choice.extreme == Extreme::Least) == (by > 0)
    }

    /// Numbers that a sum lies between; what it shares with itself is not seen.
    pub(super) fn range(&self, sum: &Linear) -> (i128, i128) {
        let mut range = (sum.constant, sum.constant);
        let mut add = |(lo, hi): (i128, i128), by: i128| {
            let ends = [lo.saturating_mul(by), hi.saturating_mul(by)];
            range = (range.0.saturating_add(ends[0].min(ends[1])), range.1.saturating_add(ends[0].max(ends[1])));
        };
        for (symbol, by) in &sum.terms {
            add((self.bounds[symbol.0].least, self.bounds[symbol.0].most), *by);
        }
        for (choice, by) in &sum.choices {
            let [a, b] = [&choice.of[0], &choice.of[1]].map(|one| self.range(one));
            let of = match choice.extreme {
                Extreme::Least => (a.0.min(b.0), a.1.min(b.1)),
                Extreme::Most => (a.0.max(b.0), a.1.max(b.1)),
            };
            add(of, *by);
        }
        range
    }

    /// Whether a sum is proved to be at least 0.
    pub(super) fn holds(&mut self, goal: &Linear) -> bool {
        let mut steps = STEPS;
        self.search(goal, 0, &mut steps)
    }

    /// `used`: the facts that a goal on the way has taken in.
    fn search(&mut self, goal: &Linear, used: u128, steps: &mut u32) -> bool {
        if self.range(goal).0 >= 0 {
            return true;
        }
        let Some(left) = steps.checked_sub(1) else { return false };
        *steps = left;
        if let Some(((choice, by), rest)) = split(goal) {
            let [a, b] = &choice.of;
            let (Some(first), Some(second)) = (rest.plus(a, by), rest.plus(b, by)) else { return false };
            if !Self::is_worse(&choice, by) {
                return self.search(&first, used, steps) || self.search(&second, used, steps);
            }
            // The first counts where it is the extreme, and likewise the second.
            let least = choice.extreme == Extreme::Least;
            let [lower, upper] = if least { [a, b] } else { [b, a] };
            return self.search_where((&first, upper.less(lower)), used, steps)
                && self.search_where((&second, lower.less(upper)), used, steps);
        }
        let Some(&(symbol, by)) = goal.terms.last() else { return false };
        let Bound { lo, hi, .. } = &self.bounds[symbol.0];
        let rest = Linear { terms: goal.terms[..goal.terms.len() - 1].to_vec(), ..goal.clone() };
        let natural = rest.plus(if by > 0 { lo } else { hi }, by);
        if natural.is_some_and(|goal| self.search(&goal, used, steps)) {
            return true;
        }
        (0..self.facts.len().min(128)).filter(|n| used & (1 << n) == 0).any(|n| {
            let times = self.facts[n].times(symbol);
            if times == 0 || (times > 0) != (by > 0) {
                return false;
            }
            let goal = goal.scaled(times.abs()).and_then(|goal| goal.plus(&self.facts[n], -by.abs()));
            goal.is_some_and(|goal| self.search(&goal, used | (1 << n), steps))
        })
    }

    /// The same where a further sum is not negative.
    fn search_where(&mut self, (goal, sum): (&Linear, Option<Linear>), used: u128, steps: &mut u32) -> bool {
        let facts = self.facts.len();
        self.facts.extend(sum);
        let found = self.search(goal, used, steps);
        self.facts.truncate(facts);
        found
    }
}

/// A choice of a goal, how often it is in it, and the goal without it.
fn split(goal: &Linear) -> Option<((std::rc::Rc<super::linear::Choice>, i128), Linear)> {
    let mut rest = goal.clone();
    let choice = rest.choices.pop()?;
    Some((choice, rest))
}

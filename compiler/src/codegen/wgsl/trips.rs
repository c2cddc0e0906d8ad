//! How many trips an invocation takes through the loops of a shader, counted as the shader is written: those of kernels,
//! and those that the writing itself makes. Trips of all loops count together, as they do for drivers that end every loop
//! of an invocation after so many.
//!
//! ```text
//! for (a trips) { for (b trips) { } }   ->   a * (1 + b + 1) + 2
//! ```
//!
//! Beside its trips a loop counts once more when its condition fails, and so does each loop inside it: invocations that
//! are masked out still pass through. Counts are those of the invocation that takes the most.

use crate::kernel::{Int, ParamId};

/// Trips, some of them known only when sizes are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trips {
    known: u64,
    open: Vec<Open>,
    /// Loops, whatever they are inside of: what passing through takes where no invocation is left.
    idle: u64,
}

/// A loop whose rounds are known when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    count: Int,
    each: Trips,
}

impl Trips {
    /// A loop of at most so many rounds, in terms of params, around `each`.
    pub fn rounds(count: Int, each: Trips) -> Self {
        let idle = each.idle.saturating_add(1);
        match (&count, each.known()) {
            (Int::Const(n), Some(inner)) => {
                let rounds = (*n).max(0) as u64;
                Self { known: rounds.saturating_mul(inner.saturating_add(1)).saturating_add(idle), open: vec![], idle }
            }
            _ => Self { known: idle, open: vec![Open { count, each }], idle },
        }
    }

    /// One after the other.
    pub fn add(&mut self, other: Trips) {
        self.known = self.known.saturating_add(other.known);
        self.idle = self.idle.saturating_add(other.idle);
        self.open.extend(other.open);
    }

    /// Where no size is left open.
    pub(super) fn known(&self) -> Option<u64> {
        self.open.is_empty().then_some(self.known)
    }

    /// The most that they are with these params.
    pub fn most(&self, param: &dyn Fn(ParamId) -> i64) -> u64 {
        let of = |open: &Open| rounds(&open.count, param).saturating_mul(open.each.most(param).saturating_add(1));
        self.open.iter().map(of).fold(self.known, u64::saturating_add)
    }

    /// What passing through takes where there is nothing to do.
    pub fn idle(&self) -> u64 {
        self.idle
    }
}

fn rounds(count: &Int, param: &dyn Fn(ParamId) -> i64) -> u64 {
    count.eval(param, &|_| 0).max(0) as u64
}

/// What a dispatch may begin or end with, in the order of the kernel. A dispatch does a stretch of them; where one is
/// written down as its place among those beside it and its round, from the outermost on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Statements that are done together.
    Whole(Trips),
    /// A loop; a dispatch does some of its rounds.
    Rounds {
        count: Int,
        /// Of one round.
        each: Trips,
        /// What a dispatch may begin or end with inside a round; none where a round is done whole.
        inside: Vec<Unit>,
    },
}

impl Unit {
    /// The most rounds that a loop takes with these params.
    pub fn rounds(count: &Int, param: &dyn Fn(ParamId) -> i64) -> u64 {
        rounds(count, param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_loops_multiply_and_every_failing_condition_counts() {
        let none = |_: ParamId| 0;
        let inner = Trips::rounds(Int::Const(3), Trips::default());
        assert_eq!(inner.most(&none), 3 + 1);
        let outer = Trips::rounds(Int::Const(5), inner);
        assert_eq!((outer.most(&none), outer.idle()), (5 * (1 + 4) + 2, 2));
    }

    #[test]
    fn counts_of_sizes_are_known_with_the_sizes() {
        let tokens = Int::Param(ParamId(0));
        let mut all = Trips::rounds(tokens.clone(), Trips::rounds(tokens.floor_div(2i64), Trips::default()));
        all.add(Trips::rounds(Int::Const(1), Trips::default()));
        assert_eq!(all.known(), None);
        assert_eq!(all.most(&|_| 6), 6 * (1 + 3 + 1) + 2 + 2);
        assert_eq!(all.most(&|_| 0), 4);
        assert_eq!(all.most(&|_| i64::MAX), u64::MAX);
    }
}

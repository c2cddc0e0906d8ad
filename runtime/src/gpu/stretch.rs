//! Where the dispatches of a kernel begin and end, so that none takes more trips through its loops than it may: arithmetic
//! alone. What can be cut, and what each part takes, is the shader's (`wgsl::Unit`).

use chunkwise_compiler::codegen::wgsl::{Shader, Unit};
use chunkwise_compiler::kernel::ParamId;

/// What one dispatch does of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Places as shaders read them (`Word::Begin`, `Word::End`); what is not there is 0.
    pub(super) begin: Vec<i64>,
    pub(super) end: Vec<i64>,
    /// The most that an invocation takes.
    pub(super) trips: u64,
}

/// Trips of a dispatch: those that it should not take more of, and those that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) wanted: u64,
    pub(super) most: u64,
}

/// A kernel in as few dispatches as the bound allows.
///
/// # Errors
/// The trips of a part that is done in one dispatch or not at all, where they are more than one may take.
pub(super) fn stretches(shader: &Shader, param: &dyn Fn(ParamId) -> i64, bound: Bound) -> Result<Vec<Stretch>, u64> {
    let wanted = bound.wanted.min(bound.most);
    let idle = shader.idle;
    let mut cutter =
        Cutter { param, bound: Bound { wanted, ..bound }, idle, spent: idle, place: Vec::new(), cuts: vec![] };
    cutter.walk(&shader.units)?;
    let mut begin = Vec::new();
    let mut found = Vec::new();
    for (end, trips) in cutter.cuts {
        found.push(Stretch { begin, end: end.clone(), trips });
        begin = end;
    }
    found.push(Stretch { begin, end: vec![shader.units.len() as i64], trips: cutter.spent });
    Ok(found)
}

/// A walk through a kernel in its order.
struct Cutter<'a> {
    param: &'a dyn Fn(ParamId) -> i64,
    bound: Bound,
    idle: u64,
    /// Trips since the last cut.
    spent: u64,
    /// Where the walk stands.
    place: Vec<i64>,
    /// Where dispatches end, and what those took.
    cuts: Vec<(Vec<i64>, u64)>,
}

impl Cutter<'_> {
    fn walk(&mut self, units: &[Unit]) -> Result<(), u64> {
        for (place, unit) in units.iter().enumerate() {
            self.place.extend([place as i64, 0]);
            match unit {
                Unit::Whole(trips) => {
                    self.take(trips.most(self.param), 1)?;
                }
                Unit::Rounds { count, each, inside } => {
                    let rounds = Unit::rounds(count, self.param);
                    let whole = each.most(self.param).saturating_add(1);
                    let fits = self.idle.saturating_add(whole) <= self.bound.wanted;
                    if inside.is_empty() || fits {
                        self.rounds(rounds, whole)?;
                    } else {
                        for round in 0..rounds {
                            self.at_round(round);
                            self.spent = self.spent.saturating_add(1);
                            self.walk(inside)?;
                        }
                    }
                }
            }
            self.place.truncate(self.place.len() - 2);
        }
        Ok(())
    }

    /// Rounds that are done whole.
    fn rounds(&mut self, rounds: u64, each: u64) -> Result<(), u64> {
        let mut done = 0;
        while done < rounds {
            self.at_round(done);
            done += self.take(each, rounds - done)?;
        }
        Ok(())
    }

    fn at_round(&mut self, round: u64) {
        if let Some(last) = self.place.last_mut() {
            *last = round as i64;
        }
    }

    /// Does up to so many parts of so many trips each, at least one, after a cut if there is no room for it; how many.
    fn take(&mut self, each: u64, parts: u64) -> Result<u64, u64> {
        if self.spent.saturating_add(each) > self.bound.wanted && self.spent > self.idle {
            self.cuts.push((self.place.clone(), self.spent));
            self.spent = self.idle;
        }
        let room = self.bound.wanted.saturating_sub(self.spent).checked_div(each);
        let taken = room.unwrap_or(parts).clamp(1, parts);
        self.spent = self.spent.saturating_add(taken.saturating_mul(each));
        if self.spent > self.bound.most { Err(self.spent) } else { Ok(taken) }
    }
}

#[cfg(test)]
mod tests {
    use chunkwise_compiler::codegen::wgsl::Trips;
    use chunkwise_compiler::kernel::Int;

    use super::*;

    fn whole(trips: i64) -> Unit {
        // A loop of n empty rounds takes n + 1 trips.
        Unit::Whole(Trips::rounds(Int::Const(trips - 1), Trips::default()))
    }

    fn shader(units: Vec<Unit>) -> Shader {
        let (source, entry) = Default::default();
        Shader { source, entry, kernel: 0, workgroup_memory: 0, invocations: 1, kept: 0, units, idle: 10 }
    }

    fn cut(units: Vec<Unit>, wanted: u64, most: u64) -> Result<Vec<(Vec<i64>, u64)>, u64> {
        let found = stretches(&shader(units), &|_| 7, Bound { wanted, most })?;
        for (before, after) in found.iter().zip(&found[1..]) {
            assert_eq!(before.end, after.begin);
        }
        assert!(found[0].begin.is_empty());
        Ok(found.into_iter().map(|stretch| (stretch.end, stretch.trips)).collect())
    }

    /// A loop over 7 rounds of 5 trips and 4 trips; a round takes one more.
    fn tokens(inside: bool) -> Unit {
        let parts = vec![whole(5), whole(4)];
        let mut each = Trips::rounds(Int::Const(4), Trips::default());
        each.add(Trips::rounds(Int::Const(3), Trips::default()));
        Unit::Rounds { count: Int::Param(ParamId(0)), each, inside: if inside { parts } else { Vec::new() } }
    }

    #[test]
    fn what_fits_is_one_dispatch() {
        assert_eq!(cut(vec![whole(20), tokens(false), whole(3)], 200, 200), Ok(vec![(vec![3], 10 + 20 + 70 + 3)]));
    }

    #[test]
    fn loops_are_cut_between_rounds() {
        let stretches = cut(vec![whole(5), tokens(false), whole(3)], 40, 40).unwrap();
        assert_eq!(stretches, [(vec![1, 2], 35), (vec![1, 5], 40), (vec![3], 33)]);
    }

    #[test]
    fn long_rounds_are_cut_inside() {
        let stretches = cut(vec![tokens(true)], 17, 17).unwrap();
        assert_eq!(stretches.len(), 14);
        assert_eq!(stretches[..2], [(vec![0, 0, 1, 0], 16), (vec![0, 1, 0, 0], 15)]);
        assert!(stretches.iter().all(|(_, trips)| *trips <= 17));
    }

    #[test]
    fn what_cannot_be_cut_is_done_alone_or_refused() {
        let stretches = cut(vec![whole(5), whole(50), whole(5)], 20, 100).unwrap();
        assert_eq!(stretches, [(vec![1, 0], 15), (vec![2, 0], 60), (vec![3], 15)]);
        assert_eq!(cut(vec![whole(5), whole(50), whole(5)], 20, 40), Err(60));
        assert_eq!(cut(vec![tokens(false)], 15, 15), Err(20));
    }
}

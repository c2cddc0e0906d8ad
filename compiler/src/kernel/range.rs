//! What values integers of a kernel can take: bounds by which extents become constants and divisions simple.

use std::collections::BTreeMap;

use super::{Int, Kernel, Module, ParamId, ParamRole, Stmt, VarId};

/// Inclusive bounds; none is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) lo: Option<i64>,
    pub(crate) hi: Option<i64>,
}

impl Range {
    fn exactly(n: i64) -> Self {
        Self { lo: Some(n), hi: Some(n) }
    }
}

/// Bounds of every param and loop variable of one kernel.
pub(crate) struct Ranges {
    params: Vec<Range>,
    vars: BTreeMap<VarId, Range>,
    /// Where the loop of a variable starts and ends: the variable is less than the latter.
    starts: BTreeMap<VarId, Int>,
    ends: BTreeMap<VarId, Int>,
    /// Extents of the grid.
    extents: BTreeMap<ParamId, Int>,
}

/// From which side something is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

impl Side {
    fn other(self) -> Self {
        if self == Side::Above { Side::Below } else { Side::Above }
    }
}

impl Ranges {
    pub(crate) fn new(module: &Module, kernel: &Kernel) -> Self {
        let least = |role: &ParamRole| match role {
            ParamRole::Size(_) | ParamRole::Grid => 0,
            ParamRole::Chunk | ParamRole::Tile(_) => 1,
        };
        let params = module.params.iter().map(|p| Range { lo: Some(least(&p.role)), hi: None }).collect();
        let (vars, starts, ends, extents) = Default::default();
        let mut ranges = Self { params, vars, starts, ends, extents };
        for axis in &kernel.grid {
            ranges.extents.insert(axis.param, axis.extent.clone());
            let hi = ranges.of(&axis.extent).hi.map(|n| n - 1);
            ranges.params[axis.param.index()] = Range { lo: Some(0), hi };
        }
        ranges.walk(&kernel.body);
        ranges
    }

    fn walk(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { var, from, to, body, .. } => {
                    let (lo, hi) = (self.of(from).lo, self.of(to).hi.map(|n| n - 1));
                    self.vars.insert(*var, Range { lo, hi });
                    self.starts.insert(*var, from.clone());
                    self.ends.insert(*var, to.clone());
                    self.walk(body);
                }
                Stmt::If { then, otherwise, .. } => {
                    self.walk(then);
                    self.walk(otherwise);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn of(&self, x: &Int) -> Range {
        let both = |f: fn(i64, i64) -> Option<i64>, a: Option<i64>, b: Option<i64>| f(a?, b?);
        match x {
            Int::Const(n) => Range::exactly(*n),
            Int::Param(id) => self.params[id.index()],
            Int::Var(id) => self.vars.get(id).copied().unwrap_or(Range { lo: None, hi: None }),
            Int::Add(a, b) => {
                let (a, b) = (self.of(a), self.of(b));
                Range { lo: both(i64::checked_add, a.lo, b.lo), hi: both(i64::checked_add, a.hi, b.hi) }
            }
            Int::Sub(a, b) => {
                let end = matches!(&**b, Int::Var(v) if self.ends.get(v) == Some(&**a));
                let (a, b) = (self.of(a), self.of(b));
                let lo = both(i64::checked_sub, a.lo, b.hi);
                let lo = if end { Some(lo.unwrap_or(1).max(1)) } else { lo };
                Range { lo, hi: both(i64::checked_sub, a.hi, b.lo) }
            }
            Int::Mul(a, b) => product(self.of(a), self.of(b)),
            Int::Div(a, b) => match (self.of(a), self.of(b)) {
                (Range { lo: Some(lo), hi }, Range { lo: Some(least), hi: most }) if lo >= 0 && least > 0 => {
                    Range { lo: Some(most.map_or(0, |most| lo / most)), hi: hi.map(|hi| hi / least) }
                }
                _ => Range { lo: None, hi: None },
            },
            Int::Load(_) => Range { lo: None, hi: None },
            Int::Mod(_, b) => match self.of(b) {
                Range { lo: Some(lo), hi } if lo >= 0 => Range { lo: Some(0), hi: hi.map(|hi| (hi - 1).max(0)) },
                _ => Range { lo: Some(0), hi: None },
            },
            Int::Min(a, b) => {
                let (a, b) = (self.of(a), self.of(b));
                let hi = [a.hi, b.hi].into_iter().flatten().min();
                Range { lo: both(|a, b| Some(a.min(b)), a.lo, b.lo), hi }
            }
            Int::Max(a, b) => {
                let (a, b) = (self.of(a), self.of(b));
                let lo = [a.lo, b.lo].into_iter().flatten().max();
                Range { lo, hi: both(|a, b| Some(a.max(b)), a.hi, b.hi) }
            }
        }
    }

    /// The most that an extent can be.
    pub(crate) fn most(&self, x: &Int) -> Option<i64> {
        match self.most_of(x) {
            Some(Int::Const(n)) => Some(n),
            _ => None,
        }
    }

    /// The most that an extent can be, in terms of params alone; none where that is not known.
    pub(crate) fn most_of(&self, x: &Int) -> Option<Int> {
        let known = self.of(x).hi.map(Int::Const);
        let most = known.or_else(|| self.most_of_sum(&Sum::of(x)?, ALTERNATIVES));
        most.map(|most| most.max(0i64))
    }

    /// The same of a sum. What is subtracted may be a part of what it is subtracted from: min(e + C, T) - max(e - W, 0) is
    /// no more than C + W.
    fn most_of_sum(&self, sum: &Sum, alternatives: usize) -> Option<Int> {
        let chooses = |(atom, by): &(Int, i64)| matches!((atom, by), (Int::Min(..), 1) | (Int::Max(..), -1));
        let choice = sum.terms.iter().position(chooses).filter(|_| alternatives > 0);
        let Some(place) = choice else {
            return sum.terms.iter().try_fold(Int::Const(sum.constant), |total, (atom, by)| {
                let side = if *by > 0 { Side::Above } else { Side::Below };
                Some(total + self.bound(atom, side)? * *by)
            });
        };
        let mut rest = sum.clone();
        let (atom, by) = rest.terms.remove(place);
        let (Int::Min(a, b) | Int::Max(a, b)) = &atom else { return None };
        let most = |one: &Int| self.most_of_sum(&rest.clone().with(one, by)?, alternatives - 1);
        match (most(a), most(b)) {
            (Some(a @ Int::Const(_)), Some(b @ Int::Const(_))) => Some(a.min(b)),
            // What is known now is worth more than what may be less later.
            (Some(known @ Int::Const(_)), _) | (_, Some(known @ Int::Const(_))) => Some(known),
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The least that a loop's step can be, likewise.
    pub(crate) fn least_of(&self, x: &Int) -> Int {
        self.bound(x, Side::Below).unwrap_or(Int::Const(1)).max(1i64)
    }

    fn bound(&self, x: &Int, side: Side) -> Option<Int> {
        let range = self.of(x);
        if let Some(n) = if side == Side::Above { range.hi } else { range.lo } {
            return Some(Int::Const(n));
        }
        let natural = |x: &Int| self.of(x).lo.is_some_and(|lo| lo >= 0);
        let either = |a: &Int, b: &Int, join: fn(Int, Int) -> Int| match (self.bound(a, side), self.bound(b, side)) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (one, other) => one.or(other),
        };
        let both = |a: &Int, b: &Int, join: fn(Int, Int) -> Int| Some(join(self.bound(a, side)?, self.bound(b, side)?));
        match x {
            Int::Const(n) => Some(Int::Const(*n)),
            Int::Param(id) => match self.extents.get(id) {
                Some(extent) if side == Side::Above => Some(self.bound(extent, side)? - 1i64),
                Some(_) => Some(Int::Const(0)),
                None => Some(x.clone()),
            },
            Int::Var(id) if side == Side::Above => Some(self.bound(self.ends.get(id)?, side)? - 1i64),
            Int::Var(id) => self.bound(self.starts.get(id)?, side),
            Int::Add(a, b) => both(a, b, Int::sum),
            Int::Sub(a, b) => Some(self.bound(a, side)? - self.bound(b, side.other())?),
            Int::Mul(a, b) if natural(a) && natural(b) => both(a, b, Int::product),
            Int::Div(a, b) if natural(a) && self.of(b).lo.is_some_and(|lo| lo > 0) => {
                Some(self.bound(a, side)?.floor_div(self.bound(b, side.other())?))
            }
            Int::Mod(_, b) if side == Side::Above && natural(b) => self.bound(b, side),
            Int::Mul(..) | Int::Div(..) | Int::Mod(..) | Int::Load(_) => None,
            Int::Min(a, b) if side == Side::Above => either(a, b, |a, b| a.min(b)),
            Int::Min(a, b) => both(a, b, |a, b| a.min(b)),
            Int::Max(a, b) if side == Side::Below => either(a, b, |a, b| a.max(b)),
            Int::Max(a, b) => both(a, b, |a, b| a.max(b)),
        }
    }

    /// The most elements of a box.
    pub(crate) fn volume(&self, axes: &[Int]) -> Option<i64> {
        axes.iter().try_fold(1i64, |all, x| all.checked_mul(self.most(x)?))
    }
}

/// Minima and maxima that are looked into, one inside the other.
const ALTERNATIVES: usize = 4;

/// `constant + sum of by * atom`, every atom once, and none a sum itself.
#[derive(Debug, Clone, Default)]
struct Sum {
    constant: i64,
    terms: Vec<(Int, i64)>,
}

impl Sum {
    fn of(x: &Int) -> Option<Self> {
        Self::default().with(x, 1)
    }

    /// The sum and so many times an integer; none beyond i64.
    fn with(mut self, x: &Int, by: i64) -> Option<Self> {
        match x {
            Int::Const(n) => self.constant = self.constant.checked_add(n.checked_mul(by)?)?,
            Int::Add(a, b) => return self.with(a, by)?.with(b, by),
            Int::Sub(a, b) => return self.with(a, by)?.with(b, by.checked_neg()?),
            Int::Mul(a, b) => match (&**a, &**b) {
                (Int::Const(n), x) | (x, Int::Const(n)) => return self.with(x, by.checked_mul(*n)?),
                _ => self.add(x, by)?,
            },
            _ => self.add(x, by)?,
        }
        Some(self)
    }

    fn add(&mut self, atom: &Int, by: i64) -> Option<()> {
        match self.terms.iter_mut().find(|(known, _)| known == atom) {
            Some((_, times)) => *times = times.checked_add(by)?,
            None => self.terms.push((atom.clone(), by)),
        }
        self.terms.retain(|(_, times)| *times != 0);
        Some(())
    }
}

fn product(a: Range, b: Range) -> Range {
    if let (Some(x), Some(y)) = (a.lo, b.lo)
        && x >= 0
        && y >= 0
    {
        let hi = a.hi.zip(b.hi).and_then(|(x, y)| x.checked_mul(y));
        return Range { lo: x.checked_mul(y), hi };
    }
    let corners = [(a.lo, b.lo), (a.lo, b.hi), (a.hi, b.lo), (a.hi, b.hi)];
    let corners: Option<Vec<i64>> = corners.into_iter().map(|(x, y)| x?.checked_mul(y?)).collect();
    match corners {
        Some(corners) => Range { lo: corners.iter().min().copied(), hi: corners.iter().max().copied() },
        None => Range { lo: None, hi: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Param;

    #[test]
    fn the_tokens_left_in_a_chunk_are_at_least_one() {
        let t = Int::Param(ParamId(0));
        let left = (t.clone() - Int::Var(VarId(0))).min(64i64);
        let body =
            vec![Stmt::For { var: VarId(0), from: Int::Const(0), to: t, step: Int::Const(64), body: Vec::new() }];
        let kernel = Kernel { name: "k".into(), grid: Vec::new(), body };
        let params = vec![Param { name: "T".into(), role: ParamRole::Size("T".into()) }];
        let module = Module { name: "m".into(), params, buffers: Vec::new(), kernels: Vec::new() };
        let ranges = Ranges::new(&module, &kernel);
        assert_eq!(ranges.of(&left), Range { lo: Some(1), hi: Some(64) });
        assert_eq!(ranges.of(&(left * 3i64 - 1i64)), Range { lo: Some(2), hi: Some(191) });
    }
    #[test]
    fn bounds_of_open_sizes_mention_params_alone() {
        let t = Int::Param(ParamId(0));
        let window = (Int::Var(VarId(0)) + 1i64) - (Int::Var(VarId(0)) - 3i64).max(0i64);
        let step = 1i64.into();
        let body = vec![Stmt::For { var: VarId(0), from: 2i64.into(), to: t.clone(), step, body: Vec::new() }];
        let kernel = Kernel { name: "k".into(), grid: Vec::new(), body };
        let params = vec![Param { name: "T".into(), role: ParamRole::Size("T".into()) }];
        let module = Module { name: "m".into(), params, buffers: Vec::new(), kernels: Vec::new() };
        let ranges = Ranges::new(&module, &kernel);
        let at = |x: &Int| ranges.most_of(x).unwrap().eval(&|_| 10, &|_| panic!("a loop variable is left"));
        assert_eq!(at(&(t.clone() - Int::Var(VarId(0)))), 8);
        assert_eq!(at(&(Int::Var(VarId(0)) * 2i64)), 18);
        assert_eq!(at(&window), 4);
        let end = t.clone() - Int::Var(VarId(0));
        let window = end.clone() - (end.clone() - 4i64).max(0i64);
        assert_eq!(ranges.most(&window), Some(4));
        let seen = (end.clone() + 16i64).min(t.clone()) - (end.clone() - 24i64).max(0i64);
        assert_eq!(ranges.most(&seen), Some(40));
        assert_eq!(ranges.most(&(seen - (end.clone() - (end - 24i64).max(0i64)))), Some(16));
        assert_eq!(ranges.most_of(&Int::Var(VarId(7))), None);
    }
}

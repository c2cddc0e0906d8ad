//! What values integers of a kernel can take: bounds by which extents become constants and divisions simple.

use std::collections::BTreeMap;

use crate::kernel::{Int, Kernel, Module, ParamRole, Stmt, VarId};

/// Inclusive bounds; none is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) lo: Option<i64>,
    pub(super) hi: Option<i64>,
}

impl Range {
    fn exactly(n: i64) -> Self {
        Self { lo: Some(n), hi: Some(n) }
    }
}

/// Bounds of every param and loop variable of one kernel.
pub(super) struct Ranges {
    params: Vec<Range>,
    vars: BTreeMap<VarId, Range>,
    /// Where the loop of a variable ends: the variable is less.
    ends: BTreeMap<VarId, Int>,
}

impl Ranges {
    pub(super) fn new(module: &Module, kernel: &Kernel) -> Self {
        let least = |role: &ParamRole| match role {
            ParamRole::Size(_) | ParamRole::Grid => 0,
            ParamRole::Chunk | ParamRole::Tile(_) => 1,
        };
        let params = module.params.iter().map(|p| Range { lo: Some(least(&p.role)), hi: None }).collect();
        let mut ranges = Self { params, vars: BTreeMap::new(), ends: BTreeMap::new() };
        for axis in &kernel.grid {
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

    pub(super) fn of(&self, x: &Int) -> Range {
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
    pub(super) fn most(&self, x: &Int) -> Option<i64> {
        self.of(x).hi.map(|n| n.max(0))
    }

    /// The most elements of a box.
    pub(super) fn volume(&self, axes: &[Int]) -> Option<i64> {
        axes.iter().try_fold(1i64, |all, x| all.checked_mul(self.most(x)?))
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
    use crate::kernel::{Param, ParamId};

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
}

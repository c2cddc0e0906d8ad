//! What the axes of a variant called are in those of its caller: equations between sizes of both, solved one unknown axis at
//! a time. The caller's sizes are never solved for.

use std::collections::BTreeMap;

use crate::shape::{AxisId, Factor, Size};
use crate::source::Span;
use crate::typed::Variant;

/// `size`, in the axes of the variant called, is `found`, in those of its caller.
#[derive(Debug, Clone)]
pub(super) struct Equation {
    pub size: Size,
    pub found: Size,
    /// Who says so: `` `q` ``.
    pub by: String,
    pub span: Span,
}

/// The axes of a variant called as far as they are known.
pub(super) struct Unknowns<'v> {
    pub callee: &'v Variant,
    /// Each axis's size in the caller, and who gave it.
    pub known: Vec<Option<(Size, String)>>,
    pub equations: Vec<Equation>,
}

impl<'v> Unknowns<'v> {
    pub fn of(callee: &'v Variant) -> Self {
        Self { callee, known: vec![None; callee.axes.len()], equations: Vec::new() }
    }

    pub fn give(&mut self, axis: AxisId, size: Size, by: impl Into<String>) {
        self.known[axis.0 as usize].get_or_insert((size, by.into()));
    }

    /// A size of the callee in the axes of the caller, if all of its axes are known.
    pub fn there(&self, size: &Size) -> Option<Size> {
        size.axes().iter().all(|axis| self.known[axis.0 as usize].is_some()).then(|| self.with(size, &|_| None))
    }

    /// A size with what is known put in, unknown axes as `rest` says.
    fn with(&self, size: &Size, rest: &dyn Fn(AxisId) -> Option<Size>) -> Size {
        size.substitute(&|axis| match &self.known[axis.0 as usize] {
            Some((size, _)) => Some(size.clone()),
            None => rest(axis),
        })
    }

    /// Solves what can be solved.
    pub fn solve(&mut self) {
        while self.solve_some() {}
    }

    fn solve_some(&mut self) -> bool {
        for at in 0..self.equations.len() {
            let Equation { size, found, by, .. } = self.equations[at].clone();
            if self.solve_for(&size, &found, &by) {
                return true;
            }
        }
        for (at, axis) in self.callee.axes.iter().enumerate() {
            let Some(value) = &axis.value else { continue };
            let by = format!("`{}`", axis.name);
            let done = match &self.known[at] {
                Some((size, _)) => self.solve_for(value, &size.clone(), &by),
                None => match self.there(value) {
                    Some(size) => {
                        self.known[at] = Some((size, by));
                        true
                    }
                    None => false,
                },
            };
            if done {
                return true;
            }
        }
        false
    }

    /// Whether an equation has one unknown axis, to the first power, and gives it.
    fn solve_for(&mut self, size: &Size, found: &Size, by: &str) -> bool {
        let unknown: Vec<AxisId> =
            size.axes().into_iter().filter(|axis| self.known[axis.0 as usize].is_none()).collect();
        let [axis] = unknown[..] else { return false };
        let at = |n: i64| self.with(size, &|_| Some(Size::constant(n)));
        let (none, one, two) = (at(0), at(1), at(2));
        let step = one.sub(&none);
        if two.sub(&one) != step {
            return false;
        }
        let Some(value) = quotient(&found.sub(&none), &step) else { return false };
        self.known[axis.0 as usize] = Some((value, by.to_string()));
        true
    }
}

/// `a / b`, where b is one product that divides every term of a.
fn quotient(a: &Size, b: &Size) -> Option<Size> {
    let mut terms = b.terms();
    let (factors, n) = terms.next()?;
    if terms.next().is_some() {
        // Of sums only equal ones divide each other here.
        return (a == b).then(|| Size::constant(1));
    }
    let mut total = Size::constant(0);
    for (own, m) in a.terms() {
        let mut left: BTreeMap<&Factor, usize> = BTreeMap::new();
        own.iter().for_each(|factor| *left.entry(factor).or_default() += 1);
        for factor in factors {
            let count = left.get_mut(factor).filter(|count| **count > 0)?;
            *count -= 1;
        }
        if m % n != 0 {
            return None;
        }
        let rest = left.into_iter().flat_map(|(factor, count)| std::iter::repeat_n(factor, count));
        let product = rest.fold(Size::constant(m / n), |product, factor| product.mul(&Size::factor(factor.clone())));
        total = total.add(&product);
    }
    Some(total)
}

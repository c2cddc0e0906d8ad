//! Integer expressions of the kernel IR: sizes, offsets and loop bounds, folded as they are built.

use std::sync::Arc;

use super::{BufferId, ParamId, VarId};

/// An integer expression. Division and remainder round down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Int {
    Const(i64),
    Param(ParamId),
    Var(VarId),
    Add(Arc<Int>, Arc<Int>),
    Sub(Arc<Int>, Arc<Int>),
    Mul(Arc<Int>, Arc<Int>),
    Div(Arc<Int>, Arc<Int>),
    Mod(Arc<Int>, Arc<Int>),
    Min(Arc<Int>, Arc<Int>),
    Max(Arc<Int>, Arc<Int>),
    /// The element of a shared buffer that no statement of the kernel writes, towards 0. It stands in the condition of a
    /// branch alone, whose `otherwise` is right whatever is loaded: a target may always take that.
    Load(Arc<Element>),
}

/// An element of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    pub buffer: BufferId,
    pub at: Int,
}

impl From<i64> for Int {
    fn from(n: i64) -> Self {
        Int::Const(n)
    }
}

impl From<usize> for Int {
    fn from(n: usize) -> Self {
        Int::Const(n as i64)
    }
}

impl From<ParamId> for Int {
    fn from(id: ParamId) -> Self {
        Int::Param(id)
    }
}

impl From<VarId> for Int {
    fn from(id: VarId) -> Self {
        Int::Var(id)
    }
}

macro_rules! int_operator {
    ($trait:ident, $method:ident, $build:ident) => {
        impl<R: Into<Int>> std::ops::$trait<R> for Int {
            type Output = Int;
            fn $method(self, right: R) -> Int {
                Int::$build(self, right.into())
            }
        }
    };
}
int_operator!(Add, add, sum);
int_operator!(Sub, sub, difference);
int_operator!(Mul, mul, product);

impl Int {
    pub fn sum(a: Int, b: Int) -> Int {
        match (&a, &b) {
            (Int::Const(x), Int::Const(y)) => Int::Const(x.saturating_add(*y)),
            (Int::Const(0), _) => b,
            (_, Int::Const(0)) => a,
            _ => Int::Add(Arc::new(a), Arc::new(b)),
        }
    }

    pub fn difference(a: Int, b: Int) -> Int {
        match (&a, &b) {
            (Int::Const(x), Int::Const(y)) => Int::Const(x.saturating_sub(*y)),
            (_, Int::Const(0)) => a,
            _ if a == b => Int::Const(0),
            _ => Int::Sub(Arc::new(a), Arc::new(b)),
        }
    }

    pub fn product(a: Int, b: Int) -> Int {
        match (&a, &b) {
            (Int::Const(x), Int::Const(y)) => Int::Const(x.saturating_mul(*y)),
            (Int::Const(0), _) | (_, Int::Const(0)) => Int::Const(0),
            (Int::Const(1), _) => b,
            (_, Int::Const(1)) => a,
            _ => Int::Mul(Arc::new(a), Arc::new(b)),
        }
    }

    /// Rounding down.
    pub fn floor_div(self, by: impl Into<Int>) -> Int {
        match (self, by.into()) {
            (Int::Const(x), Int::Const(y)) if y != 0 => Int::Const(x.div_euclid(y)),
            (a, Int::Const(1)) => a,
            (a, b) => Int::Div(Arc::new(a), Arc::new(b)),
        }
    }

    pub fn modulo(self, by: impl Into<Int>) -> Int {
        match (self, by.into()) {
            (Int::Const(x), Int::Const(y)) if y != 0 => Int::Const(x.rem_euclid(y)),
            (_, Int::Const(1)) => Int::Const(0),
            (a, b) => Int::Mod(Arc::new(a), Arc::new(b)),
        }
    }

    pub fn min(self, other: impl Into<Int>) -> Int {
        match (self, other.into()) {
            (Int::Const(x), Int::Const(y)) => Int::Const(Ord::min(x, y)),
            (a, b) if a == b => a,
            (a, b) => Int::Min(Arc::new(a), Arc::new(b)),
        }
    }

    pub fn max(self, other: impl Into<Int>) -> Int {
        match (self, other.into()) {
            (Int::Const(x), Int::Const(y)) => Int::Const(Ord::max(x, y)),
            (a, b) if a == b => a,
            (a, b) => Int::Max(Arc::new(a), Arc::new(b)),
        }
    }

    /// The integer with `value` in place of a loop variable.
    pub fn with(&self, var: VarId, value: &Int) -> Int {
        self.replaced(&|leaf| (*leaf == Int::Var(var)).then(|| value.clone()))
    }

    /// The integer, folded anew, with what `leaf` gives in place of params and loop variables; those without stay.
    pub fn replaced(&self, leaf: &dyn Fn(&Int) -> Option<Int>) -> Int {
        let of = |x: &Int| x.replaced(leaf);
        match self {
            Int::Const(_) => self.clone(),
            Int::Param(_) | Int::Var(_) => leaf(self).unwrap_or_else(|| self.clone()),
            Int::Load(of) => leaf(self)
                .unwrap_or_else(|| Int::Load(Arc::new(Element { buffer: of.buffer, at: of.at.replaced(leaf) }))),
            Int::Add(a, b) => of(a) + of(b),
            Int::Sub(a, b) => of(a) - of(b),
            Int::Mul(a, b) => of(a) * of(b),
            Int::Div(a, b) => of(a).floor_div(of(b)),
            Int::Mod(a, b) => of(a).modulo(of(b)),
            Int::Min(a, b) => of(a).min(of(b)),
            Int::Max(a, b) => of(a).max(of(b)),
        }
    }

    /// The value under an assignment of params and loop variables. A division by 0 gives 0; what is beyond i64 its end,
    /// which no memory holds; what is loaded counts as 0.
    pub fn eval(&self, param: &dyn Fn(ParamId) -> i64, var: &dyn Fn(VarId) -> i64) -> i64 {
        let of = |x: &Int| x.eval(param, var);
        match self {
            Int::Const(n) => *n,
            Int::Param(id) => param(*id),
            Int::Var(id) => var(*id),
            Int::Load(_) => 0,
            Int::Add(a, b) => of(a).saturating_add(of(b)),
            Int::Sub(a, b) => of(a).saturating_sub(of(b)),
            Int::Mul(a, b) => of(a).saturating_mul(of(b)),
            Int::Div(a, b) => of(a).checked_div_euclid(of(b)).unwrap_or(0),
            Int::Mod(a, b) => of(a).checked_rem_euclid(of(b)).unwrap_or(0),
            Int::Min(a, b) => Ord::min(of(a), of(b)),
            Int::Max(a, b) => Ord::max(of(a), of(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fold_and_units_vanish() {
        let t = Int::Param(ParamId(0));
        assert_eq!(t.clone() * 1i64 + 0i64, t);
        assert_eq!(t.clone() - t.clone(), Int::Const(0));
        assert_eq!((Int::from(7i64)).floor_div(2i64), Int::Const(3));
        assert_eq!((t.clone() * 3i64 + 1i64).eval(&|_| 5, &|_| 0), 16);
        assert_eq!((t.clone() * t).eval(&|_| 1 << 40, &|_| 0), i64::MAX);
        assert_eq!(Int::from(1i64 << 40) * (1i64 << 40), Int::Const(i64::MAX));
    }
}

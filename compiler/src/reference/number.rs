//! The numbers that programs are evaluated in: f64, and f64 with a derivative along one direction (`dual`).

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use chunkwise_dsl::typed::Function;

use super::scalar;

/// A number. Conditions, subscripts and counts look at its value alone.
pub(super) trait Number:
    Copy
    + Debug
    + Send
    + Sync
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    fn value(self) -> f64;

    fn unary(function: Function, x: Self) -> Self;

    fn binary(function: Function, a: Self, b: Self) -> Self;

    /// A function at its arguments; those that a function does not have are not looked at.
    fn apply(function: Function, x: &[Self]) -> Self {
        match x {
            [x] => Self::unary(function, *x),
            [a, b] => Self::binary(function, *a, *b),
            [x, low, high] if function == Function::Clamp => {
                Self::binary(Function::Min, Self::binary(Function::Max, *x, *low), *high)
            }
            _ => Self::from(f64::NAN),
        }
    }
}

impl Number for f64 {
    fn value(self) -> f64 {
        self
    }

    fn unary(function: Function, x: Self) -> Self {
        scalar::unary(function, x)
    }

    fn binary(function: Function, a: Self, b: Self) -> Self {
        scalar::binary(function, a, b)
    }
}

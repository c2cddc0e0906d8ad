//! Dual numbers: a value and its derivative along one direction of the inputs. Evaluated in them, a program gives its
//! directional derivative as it goes, forward: no transposition, no tape, no idea of a scan. The derivatives below are in
//! value form and stand apart from those that the adjoint takes (`dsl::function`), which they are the check of.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use chunkwise_dsl::typed::Function;

use super::number::Number;
use super::scalar;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dual {
    pub(super) x: f64,
    pub(super) dx: f64,
}

/// What does not move contributes nothing, however steep the function is there.
fn along(slope: f64, dx: f64) -> f64 {
    if dx == 0.0 { 0.0 } else { slope * dx }
}

impl Number for Dual {
    fn value(self) -> f64 {
        self.x
    }

    fn unary(function: Function, Dual { x, dx }: Dual) -> Dual {
        let y = scalar::unary(function, x);
        let slope = match function {
            Function::Neg => -1.0,
            Function::Exp => y,
            Function::Ln => 1.0 / x,
            Function::Sqrt => 0.5 / y,
            Function::Rsqrt => -0.5 * y / x,
            Function::Abs => scalar::unary(Function::Sign, x),
            Function::Relu => scalar::truth(x > 0.0),
            Function::Elu => {
                if x > 0.0 {
                    1.0
                } else {
                    x.exp()
                }
            }
            Function::Silu => {
                let s = scalar::unary(Function::Sigmoid, x);
                s * (1.0 + x * (1.0 - s))
            }
            Function::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * scalar::erfc(-x / std::f64::consts::SQRT_2) + x * density
            }
            Function::Sigmoid => y * scalar::unary(Function::Sigmoid, -x),
            Function::LogSigmoid => scalar::unary(Function::Sigmoid, -x),
            Function::Softplus => scalar::unary(Function::Sigmoid, x),
            Function::Tanh => 1.0 / (x.cosh() * x.cosh()),
            Function::Sin => x.cos(),
            Function::Cos => -x.sin(),
            Function::ExpRest => x.exp(),
            Function::ExpOfRest | Function::Apart => 1.0,
            // Steps are flat, and truth values are no numbers to move.
            _ => 0.0,
        };
        Dual { x: y, dx: along(slope, dx) }
    }

    fn binary(function: Function, a: Dual, b: Dual) -> Dual {
        let y = scalar::binary(function, a.x, b.x);
        let dx = match function {
            Function::Add => a.dx + b.dx,
            Function::Sub => a.dx - b.dx,
            Function::Mul => along(b.x, a.dx) + along(a.x, b.dx),
            Function::Div => along(1.0 / b.x, a.dx) - along(y / b.x, b.dx),
            Function::Pow => along(b.x * a.x.powf(b.x - 1.0), a.dx) + along(y * a.x.ln(), b.dx),
            Function::Mod => a.dx - along((a.x / b.x).floor(), b.dx),
            // Of equals the first is taken.
            Function::Max if a.x >= b.x => a.dx,
            Function::Min if a.x <= b.x => a.dx,
            Function::Max | Function::Min => b.dx,
            _ => 0.0,
        };
        Dual { x: y, dx }
    }
}

impl From<f64> for Dual {
    fn from(x: f64) -> Dual {
        Dual { x, dx: 0.0 }
    }
}

macro_rules! operators {
    ($($name:ident $method:ident $assign:ident $assigned:ident $function:ident;)*) => { $(
        impl $name for Dual {
            type Output = Dual;
            fn $method(self, other: Dual) -> Dual {
                Dual::binary(Function::$function, self, other)
            }
        }
        impl $assign for Dual {
            fn $assigned(&mut self, other: Dual) {
                *self = Dual::binary(Function::$function, *self, other);
            }
        }
    )* };
}
operators! {
    Add add AddAssign add_assign Add;
    Sub sub SubAssign sub_assign Sub;
    Mul mul MulAssign mul_assign Mul;
    Div div DivAssign div_assign Div;
}

impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual { x: -self.x, dx: -self.dx }
    }
}

impl Sum for Dual {
    fn sum<I: Iterator<Item = Dual>>(terms: I) -> Dual {
        terms.fold(Dual::default(), |sum, term| sum + term)
    }
}

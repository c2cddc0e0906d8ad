//! The functions of scalars in f64. Truth values are 1 and 0. NaN goes through, in `min`, `max` and `clamp` too.

use chunkwise_dsl::typed::Function;

pub(super) fn unary(function: Function, x: f64) -> f64 {
    use Function::*;
    match function {
        Neg => -x,
        Exp => x.exp(),
        ExpRest => chunkwise_dsl::function::exp_rest(x),
        ExpOfRest => chunkwise_dsl::function::exp_of_rest(x),
        RestLost => chunkwise_dsl::function::rest_lost(x),
        Apart => x,
        Ln => x.ln(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Abs => x.abs(),
        Sign => sign(x),
        Relu => larger(x, 0.0),
        Elu if x <= 0.0 => x.exp_m1(),
        Elu => x,
        Silu => x * sigmoid(x),
        Gelu => 0.5 * x * erfc(-x / std::f64::consts::SQRT_2),
        Sigmoid => sigmoid(x),
        LogSigmoid => -softplus(-x),
        Softplus => softplus(x),
        Tanh => x.tanh(),
        Sin => x.sin(),
        Cos => x.cos(),
        Floor => x.floor(),
        Round => x.round_ties_even(),
        Not => truth(x == 0.0),
        Add | Sub | Mul | Div | Pow | Mod | FloorDiv | Min | Max | Clamp | Lt | Le | Gt | Ge | Eq | Ne | And | Or => {
            f64::NAN
        }
    }
}

pub(super) fn binary(function: Function, a: f64, b: f64) -> f64 {
    use Function::*;
    match function {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Pow => a.powf(b),
        Mod => modulo(a, b),
        FloorDiv => (a / b).floor(),
        Min => smaller(a, b),
        Max => larger(a, b),
        Lt => truth(a < b),
        Le => truth(a <= b),
        Gt => truth(a > b),
        Ge => truth(a >= b),
        Eq => truth(a == b),
        Ne => truth(a != b),
        And => truth(a != 0.0 && b != 0.0),
        Or => truth(a != 0.0 || b != 0.0),
        _ => f64::NAN,
    }
}

pub(super) fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// The remainder of the quotient rounded down: the divisor's sign, exact where `%` is.
fn modulo(a: f64, b: f64) -> f64 {
    let remainder = a % b;
    if remainder != 0.0 && (remainder < 0.0) != (b < 0.0) { remainder + b } else { remainder }
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x + 0.0 } else { x.signum() }
}

/// Never overflows, and keeps its relative accuracy far out on the left.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// The complementary error function, to about 1e-15: the Taylor series of erf near 0, else Lentz's continued fraction
/// (Abramowitz and Stegun 7.1.6, 7.1.14).
pub(super) fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        x
    } else if x < 0.0 {
        2.0 - erfc(-x)
    } else if x < 2.5 {
        1.0 - erf_series(x)
    } else if x > 28.0 {
        0.0
    } else {
        erfc_fraction(x)
    }
}

/// erf(x) = 2/sqrt(pi) exp(-x^2) sum over n of 2^n x^(2n+1) / (1*3*..*(2n+1)); every term is positive.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term > 1e-18 * sum {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// sqrt(pi) exp(x^2) erfc(x) = 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))), from the depth at which it has settled.
fn erfc_fraction(x: f64) -> f64 {
    let tail = (1..=120).rev().fold(x, |below, n| x + 0.5 * f64::from(n) / below);
    (-x * x).exp() / (tail * std::f64::consts::PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::number::Number;
    use super::*;

    #[test]
    fn remainders_round_down() {
        assert_eq!(binary(Function::Mod, -7.0, 3.0), 2.0);
        assert_eq!(binary(Function::FloorDiv, -7.0, 3.0), -3.0);
        assert_eq!(binary(Function::Mod, 7.0, -3.0), -2.0);
    }

    #[test]
    fn erfc_agrees_with_known_values() {
        for (x, known) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 4.677_734_981_047_266e-3),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
            (-1.0, 1.842_700_792_949_715),
        ] {
            assert!((erfc(x) - known).abs() <= 2e-15, "erfc({x}) = {}", erfc(x));
        }
        assert!((erfc(5.0) / 1.537_459_794_428_035e-12 - 1.0).abs() < 1e-13);
    }

    #[test]
    fn extremes_neither_overflow_nor_hide_nan() {
        assert_eq!(unary(Function::Softplus, 1e4), 1e4);
        assert_eq!(unary(Function::LogSigmoid, -1e4), -1e4);
        assert_eq!(unary(Function::Sigmoid, -1e4), 0.0);
        assert_eq!(unary(Function::Round, 2.5), 2.0);
        assert_eq!(unary(Function::Sign, -0.0), 0.0);
        assert!(binary(Function::Max, f64::NAN, 1.0).is_nan());
        assert!(unary(Function::Relu, f64::NAN).is_nan());
        assert!(f64::apply(Function::Clamp, &[f64::NAN, 0.0, 1.0]).is_nan());
    }
}

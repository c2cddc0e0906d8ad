//! The functions of scalars: one row each, its name in the language, its arity and its meaning in f64.
//!
//! Operators are rows too, under their symbols. Not here: functions of vectors and sequences (`check/call.rs`).

use crate::typed::Function;

/// A function of scalars.
pub struct Row {
    pub function: Function,
    /// How it is written: a name, or the symbol of an operator.
    pub name: &'static str,
    pub arity: usize,
    /// Its value; truth values are 0 and 1.
    pub eval: fn(&[f64]) -> f64,
    /// Its derivative by each argument; none where it is flat or gives a truth value.
    pub slopes: &'static [Slope],
    pub spelling: Spelling,
}

/// A derivative, in terms of the arguments and the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slope {
    Number(f64),
    /// The n-th argument.
    Argument(usize),
    /// The function's value there.
    Value,
    Of(Function, &'static [Slope]),
}

/// How programs write a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `exp(x)`.
    Call,
    /// `x .* y`.
    Operator,
    /// Not at all: the compiler makes it of others.
    Internal,
}

type Slopes = &'static [Slope];

const fn named(function: Function, name: &'static str, arity: usize, eval: fn(&[f64]) -> f64, slopes: Slopes) -> Row {
    Row { function, name, arity, eval, slopes, spelling: Spelling::Call }
}

const fn operator(
    function: Function,
    name: &'static str,
    arity: usize,
    eval: fn(&[f64]) -> f64,
    slopes: Slopes,
) -> Row {
    Row { function, name, arity, eval, slopes, spelling: Spelling::Operator }
}

const fn internal(
    function: Function,
    name: &'static str,
    arity: usize,
    eval: fn(&[f64]) -> f64,
    slopes: Slopes,
) -> Row {
    Row { function, name, arity, eval, slopes, spelling: Spelling::Internal }
}

const X: Slope = Slope::Argument(0);
const N: Slope = Slope::Argument(1);
const Y: Slope = Slope::Value;
const ZERO: Slope = Slope::Number(0.0);
const ONE: Slope = Slope::Number(1.0);
const LESS_ONE: Slope = Slope::Number(-1.0);

/// Where a function is flat but for its steps.
const FLAT: Slopes = &[];
/// 1 where x is above 0, else 0.
const STEP: Slope = Slope::Of(Function::Max, &[Slope::Of(Function::Sign, &[X]), ZERO]);
/// 1 where the second argument is above the first, else 0; the other way round.
const BELOW: Slope = Slope::Of(Function::Max, &[Slope::Of(Function::Sign, &[Slope::Of(Function::Sub, &[N, X])]), ZERO]);
const ABOVE: Slope = Slope::Of(Function::Max, &[Slope::Of(Function::Sign, &[Slope::Of(Function::Sub, &[X, N])]), ZERO]);
/// Of equal arguments of `min` and `max` the first is taken.
const MIN: Slopes = &[Slope::Of(Function::Sub, &[ONE, ABOVE]), ABOVE];
const MAX: Slopes = &[Slope::Of(Function::Sub, &[ONE, BELOW]), BELOW];
const RISE: Slope = Slope::Of(Function::Sigmoid, &[X]);
const FALL: Slope = Slope::Of(Function::Sigmoid, &[Slope::Of(Function::Neg, &[X])]);
/// x^(n-1) n, and the value times ln x.
const POWER: Slopes = &[
    Slope::Of(Function::Mul, &[N, Slope::Of(Function::Pow, &[X, Slope::Of(Function::Sub, &[N, ONE])])]),
    Slope::Of(Function::Mul, &[Y, Slope::Of(Function::Ln, &[X])]),
];
const QUOTIENT: Slopes =
    &[Slope::Of(Function::Div, &[ONE, N]), Slope::Of(Function::Neg, &[Slope::Of(Function::Div, &[Y, N])])];
/// s + y (1 - s) with s the sigmoid of x.
const SILU: Slope =
    Slope::Of(Function::Add, &[RISE, Slope::Of(Function::Mul, &[Y, Slope::Of(Function::Sub, &[ONE, RISE])])]);
/// The normal distribution function and x times its density: the first is y / x, 1/2 where x is nothing. What is added to
/// both keeps their quotient there and is lost elsewhere.
const GELU: Slope = Slope::Of(
    Function::Add,
    &[
        Slope::Of(
            Function::Div,
            &[
                Slope::Of(Function::Add, &[Y, Slope::Of(Function::Mul, &[Slope::Number(0.5), AT_ZERO])]),
                Slope::Of(Function::Add, &[X, AT_ZERO]),
            ],
        ),
        Slope::Of(
            Function::Mul,
            &[
                Slope::Of(Function::Mul, &[X, Slope::Number(0.398_942_280_401_432_7)]),
                Slope::Of(
                    Function::Exp,
                    &[Slope::Of(Function::Mul, &[Slope::Number(-0.5), Slope::Of(Function::Mul, &[X, X])])],
                ),
            ],
        ),
    ],
);
/// 1 where x is exactly 0, else 0.
const AT_ZERO: Slope = Slope::Of(Function::Sub, &[ONE, Slope::Of(Function::Abs, &[Slope::Of(Function::Sign, &[X])])]);
/// The slope of `max(x, low)` where that is below the high end, of the ends where they are taken.
const CLAMP: Slopes = &[
    Slope::Of(Function::Mul, &[Slope::Of(Function::Sub, &[ONE, BELOW]), UNDER]),
    Slope::Of(Function::Mul, &[BELOW, UNDER]),
    Slope::Of(Function::Sub, &[ONE, UNDER]),
];
/// 1 where `max(x, low)` is not above the high end, else 0.
const UNDER: Slope = Slope::Of(
    Function::Sub,
    &[
        ONE,
        Slope::Of(
            Function::Max,
            &[
                Slope::Of(
                    Function::Sign,
                    &[Slope::Of(Function::Sub, &[Slope::Of(Function::Max, &[X, N]), Slope::Argument(2)])],
                ),
                ZERO,
            ],
        ),
    ],
);
const ELU: Slope = Slope::Of(Function::Exp, &[Slope::Of(Function::Min, &[X, ZERO])]);
const TANH: Slope = Slope::Of(Function::Sub, &[ONE, Slope::Of(Function::Mul, &[Y, Y])]);
/// -y^3 / 2
const RSQRT: Slope =
    Slope::Of(Function::Mul, &[Slope::Number(-0.5), Slope::Of(Function::Mul, &[Y, Slope::Of(Function::Mul, &[Y, Y])])]);

/// From 0 down to here, itself not included, an exponent's power is 1 and a rest (`Function::ExpRest`). Farther down the
/// rest would lose what little is left beside 1.
pub const REST_ENDS: f64 = -4.0;
/// The rest nearest 0: in f32 the least normal number, which 1 does not feel.
const LEAST_REST: f64 = f32::MIN_POSITIVE as f64;

/// exp(x) - 1 and below 0 where x <= 0 is above `REST_ENDS`, exp(x) and not below 0 elsewhere.
pub fn exp_rest(x: f64) -> f64 {
    if x > REST_ENDS && x <= 0.0 { x.exp_m1().min(-LEAST_REST) } else { x.exp() }
}

/// The exponential of which x is the rest (`exp_rest`), rounded where it is computed.
pub fn exp_of_rest(x: f64) -> f64 {
    if x < 0.0 { 1.0 + x } else { x }
}

/// The exponential of which x is the rest, less `exp_of_rest`: exact where that was rounded.
pub fn rest_lost(x: f64) -> f64 {
    if x < 0.0 { x - ((1.0 + x) - 1.0) } else { 0.0 }
}

/// Every function of scalars.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    operator(Function::Add, "+", 2, |x| x[0] + x[1], &[ONE, ONE]),
    operator(Function::Sub, "-", 2, |x| x[0] - x[1], &[ONE, LESS_ONE]),
    operator(Function::Mul, ".*", 2, |x| x[0] * x[1], &[N, X]),
    operator(Function::Div, "./", 2, |x| x[0] / x[1], QUOTIENT),
    operator(Function::Pow, "^", 2, |x| x[0].powf(x[1]), POWER),
    operator(Function::Mod, "mod", 2, |x| x[0] - x[1] * (x[0] / x[1]).floor(), &[ONE, Slope::Of(Function::Neg, &[Slope::Of(Function::FloorDiv, &[X, N])])]),
    operator(Function::FloorDiv, "div", 2, |x| (x[0] / x[1]).floor(), FLAT),
    operator(Function::Neg, "-", 1, |x| -x[0], &[LESS_ONE]),
    named(Function::Min, "min", 2, |x| smaller(x[0], x[1]), MIN),
    named(Function::Max, "max", 2, |x| larger(x[0], x[1]), MAX),
    named(Function::Clamp, "clamp", 3, |x| smaller(larger(x[0], x[1]), x[2]), CLAMP),
    named(Function::Exp, "exp", 1, |x| x[0].exp(), &[Y]),
    internal(Function::ExpRest, "exp_rest", 1, |x| exp_rest(x[0]), &[Slope::Of(Function::Exp, &[X])]),
    internal(Function::ExpOfRest, "exp_of_rest", 1, |x| exp_of_rest(x[0]), &[ONE]),
    internal(Function::RestLost, "rest_lost", 1, |x| rest_lost(x[0]), FLAT),
    internal(Function::Apart, "apart", 1, |x| x[0], &[ONE]),
    named(Function::Ln, "ln", 1, |x| x[0].ln(), &[Slope::Of(Function::Div, &[ONE, X])]),
    named(Function::Sqrt, "sqrt", 1, |x| x[0].sqrt(), &[Slope::Of(Function::Div, &[Slope::Number(0.5), Y])]),
    named(Function::Rsqrt, "rsqrt", 1, |x| 1.0 / x[0].sqrt(), &[RSQRT]),
    named(Function::Abs, "abs", 1, |x| x[0].abs(), &[Slope::Of(Function::Sign, &[X])]),
    named(Function::Sign, "sign", 1, |x| sign(x[0]), FLAT),
    named(Function::Relu, "relu", 1, |x| larger(x[0], 0.0), &[STEP]),
    named(Function::Elu, "elu", 1, |x| if x[0] > 0.0 { x[0] } else { x[0].exp_m1() }, &[ELU]),
    named(Function::Silu, "silu", 1, |x| silu(x[0]), &[SILU]),
    named(Function::Gelu, "gelu", 1, |x| gelu(x[0]), &[GELU]),
    named(Function::Sigmoid, "sigmoid", 1, |x| sigmoid(x[0]), &[Slope::Of(Function::Mul, &[Y, FALL])]),
    named(Function::LogSigmoid, "logsigmoid", 1, |x| -softplus(-x[0]), &[FALL]),
    named(Function::Softplus, "softplus", 1, |x| softplus(x[0]), &[RISE]),
    named(Function::Tanh, "tanh", 1, |x| x[0].tanh(), &[TANH]),
    named(Function::Sin, "sin", 1, |x| x[0].sin(), &[Slope::Of(Function::Cos, &[X])]),
    named(Function::Cos, "cos", 1, |x| x[0].cos(), &[Slope::Of(Function::Neg, &[Slope::Of(Function::Sin, &[X])])]),
    named(Function::Floor, "floor", 1, |x| x[0].floor(), FLAT),
    named(Function::Round, "round", 1, |x| x[0].round_ties_even(), FLAT),
    operator(Function::Lt, "<", 2, |x| truth(x[0] < x[1]), FLAT),
    operator(Function::Le, "<=", 2, |x| truth(x[0] <= x[1]), FLAT),
    operator(Function::Gt, ">", 2, |x| truth(x[0] > x[1]), FLAT),
    operator(Function::Ge, ">=", 2, |x| truth(x[0] >= x[1]), FLAT),
    operator(Function::Eq, "==", 2, |x| truth(x[0] == x[1]), FLAT),
    operator(Function::Ne, "!=", 2, |x| truth(x[0] != x[1]), FLAT),
    operator(Function::And, "and", 2, |x| truth(x[0] != 0.0 && x[1] != 0.0), FLAT),
    operator(Function::Or, "or", 2, |x| truth(x[0] != 0.0 || x[1] != 0.0), FLAT),
    operator(Function::Not, "not", 1, |x| truth(x[0] == 0.0), FLAT),
];

impl Function {
    /// The row of this function.
    pub fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.function == self).expect("every function has a row")
    }

    /// How it is written.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// How many arguments it takes.
    pub fn arity(self) -> usize {
        self.row().arity
    }

    /// Its value in f64. `args` holds `arity` numbers; truth values are 0 and 1.
    pub fn eval(self, args: &[f64]) -> f64 {
        (self.row().eval)(args)
    }

    /// The function that a call of this name means.
    pub fn by_name(name: &str) -> Option<Function> {
        ROWS.iter().find(|row| row.spelling == Spelling::Call && row.name == name).map(|row| row.function)
    }

    /// Whether its value is a truth value.
    pub fn is_condition(self) -> bool {
        use Function::*;
        matches!(self, Lt | Le | Gt | Ge | Eq | Ne | And | Or | Not)
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The smaller of two; NaN if either is.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// The larger of two; NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        // 0 stays 0 and NaN stays NaN.
        x * 0.0
    }
}

/// 1 / (1 + exp(-x)) with no exponent above 0.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// ln(1 + exp(x)) with no exponent above 0.
fn softplus(x: f64) -> f64 {
    let above = if x.is_nan() || x > 0.0 { x } else { 0.0 };
    above + (-x.abs()).exp().ln_1p()
}

/// x times the normal distribution function, by the complementary error function so that the left tail keeps its digits.
fn gelu(x: f64) -> f64 {
    0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The complementary error function to about 1e-15 relative.
pub fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 { 1.0 - erf_series(x) } else { erfc_fraction(x) }
}

/// erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 .. (2n+1)): all terms positive, so nothing cancels.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term > sum * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
}

/// erfc(x) = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))), evaluated from the far end.
fn erfc_fraction(x: f64) -> f64 {
    if x > 27.5 {
        return 0.0;
    }
    let tail = (1..=120).rev().fold(x, |below, n| x + 0.5 * f64::from(n) / below);
    (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI * 0.5 / tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_hold_at_their_edges() {
        assert_eq!(Function::Mod.eval(&[-7.0, 3.0]), 2.0);
        assert_eq!(Function::FloorDiv.eval(&[-7.0, 3.0]), -3.0);
        assert_eq!(Function::Round.eval(&[2.5]), 2.0);
        assert_eq!(Function::Sign.eval(&[0.0]), 0.0);
        assert_eq!(Function::Softplus.eval(&[1e4]), 1e4);
        assert_eq!(Function::LogSigmoid.eval(&[-1e4]), -1e4);
        assert_eq!(Function::Sigmoid.eval(&[-1e4]), 0.0);
        assert!(Function::Max.eval(&[0.0, f64::NAN]).is_nan() && Function::Relu.eval(&[f64::NAN]).is_nan());
    }

    #[test]
    fn the_error_function_is_exact() {
        for (x, want) in [
            (0.5, 0.4795001221869535),
            (1.9, 0.007209570764742525),
            (2.1, 0.002979466656333),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            assert!((erfc(x) - want).abs() <= 1e-12 * want, "erfc({x}) = {}", erfc(x));
        }
        assert!((Function::Gelu.eval(&[1.0]) - 0.8413447460685429).abs() < 1e-15);
    }

    fn slope(slope: &Slope, (function, x): (Function, &[f64])) -> f64 {
        match slope {
            Slope::Number(n) => *n,
            Slope::Argument(n) => x[*n],
            Slope::Value => function.eval(x),
            Slope::Of(of, args) => {
                of.eval(&args.iter().map(|arg| self::slope(arg, (function, x))).collect::<Vec<f64>>())
            }
        }
    }

    #[test]
    fn slopes_are_the_differences() {
        for row in ROWS {
            for x in [[0.3, 0.7, 0.9], [1.7, 0.4, 0.9], [0.6, 1.3, 0.8], [2.9, 1.1, 2.2]] {
                let x = &x[..row.arity];
                for at in 0..row.arity {
                    let moved = |by: f64| {
                        let mut x = x.to_vec();
                        x[at] += by;
                        row.function.eval(&x)
                    };
                    let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let found = row.slopes.get(at).map_or(0.0, |of| slope(of, (row.function, x)));
                    assert!((found - difference).abs() < 1e-7, "{} at {x:?}: {found}, {difference}", row.name);
                }
            }
        }
        let gelu = &Function::Gelu.row().slopes[0];
        assert_eq!(slope(gelu, (Function::Gelu, &[0.0])), 0.5);
        assert_eq!(slope(&Function::Relu.row().slopes[0], (Function::Relu, &[0.0])), 0.0);
        // Of equals the first is taken.
        assert_eq!(
            Function::Min.row().slopes.iter().map(|of| slope(of, (Function::Min, &[1.0, 1.0]))).sum::<f64>(),
            1.0
        );
        assert_eq!(slope(&Function::Max.row().slopes[0], (Function::Max, &[1.0, 1.0])), 1.0);
    }

    #[test]
    fn names_find_their_rows() {
        assert_eq!(Function::by_name("silu"), Some(Function::Silu));
        assert_eq!(Function::by_name("mod"), None);
        assert_eq!(Function::Clamp.arity(), 3);
    }
}

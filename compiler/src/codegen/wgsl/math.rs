//! The functions of scalars: WGSL's own where every driver has them right, else ours. WGSL lets exp, ln, pow and tanh be
//! off by many units of the last place, and lets tanh overflow.
//!
//! Polynomials are those of Cephes (single precision) unless said otherwise, as in `codegen/llvm/math`. NaN gives NaN;
//! it is recognised by its bits, for drivers may take `x != x` to be false.

use chunkwise_dsl::typed::Function;

use super::binding;
use super::dialect::number;

/// A function written into a shader where anything calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routine {
    IsNan,
    Nan,
    Min,
    Max,
    Sign,
    TwoTo,
    ExpLessOne,
    Exp,
    ExpRest,
    Ln,
    Elu,
    Sigmoid,
    Softplus,
    Tanh,
    Gelu,
    Wave,
    Pow,
    FloorDiv,
    Mod,
    Half,
    DivideDown,
    Modulo,
}

/// A call of a function of scalars, which is no condition, and the routine that it needs.
pub(super) fn call(function: Function, args: &[String]) -> (String, Option<Routine>) {
    use Function::*;
    let a = &args[0];
    let b = args.get(1).map_or("", |b| b);
    let plain = |text: String| (text, None);
    let ours = |name: &str, routine: Routine| (format!("{name}({})", args.join(", ")), Some(routine));
    match function {
        Add => plain(format!("({a} + {b})")),
        Sub => plain(format!("({a} - {b})")),
        Mul => plain(format!("({a} * {b})")),
        Div => plain(format!("({a} / {b})")),
        Neg => plain(format!("(-{a})")),
        Sqrt => plain(format!("sqrt({a})")),
        Rsqrt => plain(format!("(1.0f / sqrt({a}))")),
        Abs => plain(format!("abs({a})")),
        Floor => plain(format!("floor({a})")),
        Round => plain(format!("round({a})")),
        Min => ours("f_min", Routine::Min),
        Max => ours("f_max", Routine::Max),
        Clamp => (format!("f_min(f_max({a}, {b}), {})", args[2]), Some(Routine::Min)),
        Relu => plain(format!("select({a}, 0.0f, {a} < 0.0f)")),
        Sign => ours("f_sign", Routine::Sign),
        Exp => ours("f_exp", Routine::Exp),
        ExpRest => ours("f_exp_rest", Routine::ExpRest),
        ExpOfRest => plain(format!("select({a}, 1.0f + {}, {a} < 0.0f)", kept(a))),
        // Drivers make `f s` of `s + (f - 1) s`, through selects and `fma` too. They cannot know that there is a group, so
        // that the sign of how many there are is 0.
        Apart => plain(format!("bitcast<f32>(bitcast<i32>({a}) | ({} >> 31u))", binding::word(1))),
        RestLost => plain(format!("select(0.0f, {a} - {}, {a} < 0.0f)", kept(a))),
        Ln => ours("f_ln", Routine::Ln),
        Elu => ours("f_elu", Routine::Elu),
        Silu => (format!("({a} * f_sigmoid({a}))"), Some(Routine::Sigmoid)),
        Sigmoid => ours("f_sigmoid", Routine::Sigmoid),
        Softplus => ours("f_softplus", Routine::Softplus),
        LogSigmoid => (format!("(-f_softplus(-{a}))"), Some(Routine::Softplus)),
        Tanh => ours("f_tanh", Routine::Tanh),
        Gelu => ours("f_gelu", Routine::Gelu),
        Sin => (format!("f_wave({a}, 0)"), Some(Routine::Wave)),
        Cos => (format!("f_wave({a}, 1)"), Some(Routine::Wave)),
        Pow => ours("f_pow", Routine::Pow),
        FloorDiv => ours("f_div", Routine::FloorDiv),
        Mod => ours("f_mod", Routine::Mod),
        Lt | Le | Gt | Ge | Eq | Ne | And | Or | Not => plain(a.clone()),
    }
}

/// What is left of a rest once it was added to 1: its multiples of 2^-24. `(1 + x) - 1` is x to drivers that calculate.
fn kept(rest: &str) -> String {
    format!("round({rest} * {}) * {}", number(16_777_216.0), number(1.0 / 16_777_216.0))
}

/// A power with a constant exponent, where multiplications or a root do.
pub(super) fn power(x: &str, exponent: f64) -> Option<String> {
    if exponent == 0.5 {
        return Some(format!("sqrt({x})"));
    }
    if exponent == -0.5 {
        return Some(format!("(1.0f / sqrt({x}))"));
    }
    if exponent.fract() != 0.0 || exponent.abs() > 4.0 {
        return None;
    }
    let factors = vec![x; exponent.abs() as usize];
    let result = if factors.is_empty() { number(1.0) } else { format!("({})", factors.join(" * ")) };
    Some(if exponent < 0.0 { format!("(1.0f / {result})") } else { result })
}

impl Routine {
    /// What its text calls.
    pub(super) fn needs(self) -> &'static [Routine] {
        use Routine::*;
        match self {
            Min | Max | Ln => &[IsNan],
            Exp | Elu => &[TwoTo, ExpLessOne],
            Sigmoid | Tanh | Gelu => &[Exp],
            ExpRest => &[Exp, ExpLessOne],
            Softplus => &[Exp, Ln],
            Pow => &[Exp, Ln, Nan],
            Mod => &[FloorDiv],
            IsNan | Nan | Sign | TwoTo | ExpLessOne | Wave | FloorDiv | Half | DivideDown | Modulo => &[],
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Routine::IsNan => IS_NAN,
            Routine::Nan => NAN,
            Routine::Min => MIN,
            Routine::Max => MAX,
            Routine::Sign => SIGN,
            Routine::TwoTo => TWO_TO,
            Routine::ExpLessOne => EXP_LESS_ONE,
            Routine::Exp => EXP,
            Routine::ExpRest => EXP_REST,
            Routine::Ln => LN,
            Routine::Elu => ELU,
            Routine::Sigmoid => SIGMOID,
            Routine::Softplus => SOFTPLUS,
            Routine::Tanh => TANH,
            Routine::Gelu => GELU,
            Routine::Wave => WAVE,
            Routine::Pow => POW,
            Routine::FloorDiv => FLOOR_DIV,
            Routine::Mod => MOD,
            Routine::Half => HALF,
            Routine::DivideDown => DIVIDE_DOWN,
            Routine::Modulo => MODULO,
        }
    }
}

const IS_NAN: &str = "fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}
";

/// The bits come from a variable: a constant that is NaN is refused.
const NAN: &str = "var<private> nan_bits: u32 = 0x7fc00000u;
fn nan() -> f32 {
  return bitcast<f32>(nan_bits);
}
";

const MIN: &str = "fn f_min(a: f32, b: f32) -> f32 {
  return select(b, a, a < b || is_nan(a));
}
";

const MAX: &str = "fn f_max(a: f32, b: f32) -> f32 {
  return select(b, a, a > b || is_nan(a));
}
";

const SIGN: &str = "fn f_sign(x: f32) -> f32 {
  return select(select(x, -1.0f, x < 0.0f), 1.0f, x > 0.0f);
}
";

/// 2^n for n in -126..=127.
const TWO_TO: &str = "fn two_to(n: i32) -> f32 {
  return bitcast<f32>((n + 127) << 23u);
}
";

/// exp(r) - 1 for |r| <= ln(2) / 2: r + r^2 p.
const EXP_LESS_ONE: &str = "fn exp_less_one(r: f32) -> f32 {
  var p = 1.98756915e-4f;
  p = fma(p, r, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  return fma(p, r * r, r);
}
";

/// x = n ln 2 + r; ln 2 in two parts, the first short enough that n times it is exact. Below -104.5 all is 0, above 89
/// all overflows. The factor 2^n is taken in two steps: 2^128 and the smallest have no single one.
const EXP: &str = "fn f_exp(v: f32) -> f32 {
  let x = select(select(v, -104.5f, v < -104.5f), 89.0f, v > 89.0f);
  let n = floor(fma(x, 1.442695f, 0.5f));
  let r = fma(n, 2.1219444e-4f, fma(n, -0.693359375f, x));
  let y = exp_less_one(r) + 1.0f;
  let i = i32(n);
  let h = i >> 1u;
  return y * two_to(h) * two_to(i - h);
}
";

/// As `function::exp_rest` says.
const EXP_REST: &str = "fn f_exp_rest(x: f32) -> f32 {
  let near = x > -0.34375f && x <= 0.0f;
  let rest = select(f_exp(x) - 1.0f, exp_less_one(select(0.0f, x, near)), near);
  return select(f_exp(x), min(rest, -1.1754944e-38f), x > -4.0f && x <= 0.0f);
}
";

/// x = m 2^e, m between the roots of 1/2 and 2. The edges: ln 0 = -inf, of negative numbers NaN, of inf and NaN themselves.
const LN: &str = "fn f_ln(x: f32) -> f32 {
  let tiny = x < 1.1754944e-38f;
  let shifted = bitcast<i32>(select(x, x * 8388608.0f, tiny)) - 0x3f3504f3;
  let e = f32(shifted >> 23u) + select(0.0f, -23.0f, tiny);
  let f = bitcast<f32>((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
  let s = f * f;
  var p = 7.0376836292e-2f;
  p = fma(p, f, -1.151461031e-1f);
  p = fma(p, f, 1.167699874e-1f);
  p = fma(p, f, -1.2420140846e-1f);
  p = fma(p, f, 1.4249322787e-1f);
  p = fma(p, f, -1.6668057665e-1f);
  p = fma(p, f, 2.0000714765e-1f);
  p = fma(p, f, -2.4999993993e-1f);
  p = fma(p, f, 3.3333331174e-1f);
  var y = fma(e, -2.1219444e-4f, p * f * s);
  y = fma(e, 0.693359375f, f + fma(s, -0.5f, y));
  let bits = bitcast<u32>(x);
  y = select(y, x, is_nan(x) || bits == 0x7f800000u);
  y = select(y, bitcast<f32>(bits | 0x7fc00000u), x < 0.0f);
  return select(y, -1.0f / abs(x), x == 0.0f);
}
";

/// exp(x) - 1 below 0: 2^n (exp(r) - 1) + (2^n - 1) keeps the digits of small x.
const ELU: &str = "fn f_elu(v: f32) -> f32 {
  let x = select(select(v, -30.0f, v < -30.0f), 0.0f, v > 0.0f);
  let n = floor(fma(x, 1.442695f, 0.5f));
  let r = fma(n, 2.1219444e-4f, fma(n, -0.693359375f, x));
  let scale = two_to(i32(n));
  let below = fma(exp_less_one(r), scale, scale - 1.0f);
  return select(below, v, v > 0.0f);
}
";

/// No exponent above 0.
const SIGMOID: &str = "fn f_sigmoid(x: f32) -> f32 {
  let e = f_exp(-abs(x));
  return select(e, 1.0f, x >= 0.0f) / (1.0f + e);
}
";

/// max(x, 0) + ln(1 + exp(-|x|)); the logarithm corrected by what rounding 1 + u lost.
const SOFTPLUS: &str = "fn f_softplus(x: f32) -> f32 {
  let u = f_exp(-abs(x));
  let above = u + 1.0f;
  let lost = (u - (above - 1.0f)) / above;
  return select(0.0f, x, x > 0.0f) + (f_ln(above) + lost);
}
";

const TANH: &str = "fn f_tanh(x: f32) -> f32 {
  let s = x * x;
  var p = -5.70498872745e-3f;
  p = fma(p, s, 2.06390887954e-2f);
  p = fma(p, s, -5.37397155531e-2f);
  p = fma(p, s, 1.33314422036e-1f);
  p = fma(p, s, -3.33332819422e-1f);
  let near = fma(p * s, x, x);
  let e = f_exp(-2.0f * abs(x));
  let far = (1.0f - e) / (1.0f + e);
  return select(select(far, -far, x < 0.0f), near, abs(x) < 0.625f);
}
";

/// x times the normal distribution function, erfc by the Chebyshev fit of Numerical Recipes (1.2e-7 relative everywhere).
const GELU: &str = "fn f_gelu(x: f32) -> f32 {
  let z = abs(x) * 0.70710678f;
  let u = 1.0f / fma(z, 0.5f, 1.0f);
  var p = 0.17087277f;
  p = fma(p, u, -0.82215223f);
  p = fma(p, u, 1.48851587f);
  p = fma(p, u, -1.13520398f);
  p = fma(p, u, 0.27886807f);
  p = fma(p, u, -0.18628806f);
  p = fma(p, u, 0.09678418f);
  p = fma(p, u, 0.37409196f);
  p = fma(p, u, 1.00002368f);
  p = fma(p, u, -1.26551223f);
  let tail = u * 0.5f * f_exp(fma(-z, z, p));
  return x * select(tail, 1.0f - tail, x > 0.0f);
}
";

/// sin (quarter 0) or cos (quarter 1): the angle less a multiple of pi/2, first of many turns and then of few, pi/2 in parts
/// so short that each product is exact even where fma rounds it, the smallest last: angles up to about 1e6 keep their
/// digits.
const WAVE: &str = "fn f_wave(x: f32, quarter: i32) -> f32 {
  let m = round(x * 1.5542474e-4f) * 4096.0f;
  var r = fma(-m, 1.5703125f, x);
  r = fma(-m, 4.837512969970703e-4f, r);
  let n = round(r * 0.63661977f);
  r = fma(-n, 1.5703125f, r);
  r = fma(-n, 4.837512969970703e-4f, r);
  r = fma(-m, 7.549533620476723e-8f, r);
  r = fma(-n, 7.549533620476723e-8f, r);
  r = fma(-m, 2.5632829192545614e-12f, r);
  let turn = i32(n) + quarter;
  let z = r * r;
  var s = -1.9515295891e-4f;
  s = fma(s, z, 8.3321608736e-3f);
  s = fma(s, z, -1.6666654611e-1f);
  s = fma(s * z, r, r);
  var c = 2.443315712e-5f;
  c = fma(c, z, -1.388731625e-3f);
  c = fma(c, z, 4.1666645683e-2f);
  c = fma(c, z, -0.5f);
  c = fma(c, z, 1.0f);
  let y = select(s, c, (turn & 1) != 0);
  return select(y, -y, (turn & 2) != 0);
}
";

/// Through the logarithm of the size; negative numbers have powers with whole exponents only.
const POW: &str = "fn f_pow(x: f32, y: f32) -> f32 {
  let size = f_exp(y * f_ln(select(abs(x), 1.0f, x == 0.0f)));
  let whole = floor(y) == y;
  let odd = whole && floor(y * 0.5f) != y * 0.5f;
  var z = select(size, select(nan(), select(size, -size, odd), whole), x < 0.0f);
  z = select(z, select(1.0f / abs(x), 0.0f, y > 0.0f), x == 0.0f);
  return select(z, 1.0f, y == 0.0f);
}
";

/// floor(a / b), put right where the quotient's rounding crossed a whole number.
const FLOOR_DIV: &str = "fn f_div(a: f32, b: f32) -> f32 {
  let q = floor(a / b);
  let r = fma(-q, b, a);
  let low = (r < 0.0f && b > 0.0f) || (r > 0.0f && b < 0.0f);
  let high = abs(r) >= abs(b) && !low;
  return q + select(select(0.0f, 1.0f, high), -1.0f, low);
}
";

const MOD: &str = "fn f_mod(a: f32, b: f32) -> f32 {
  return fma(-f_div(a, b), b, a);
}
";

/// To f16; what rounds to more than the largest is infinite, whatever a driver makes of it. The bits come from a variable:
/// a constant that is infinite is refused.
const HALF: &str = "var<private> infinite_bits: u32 = 0x7f800000u;
fn half(x: f32) -> f16 {
  let infinite = bitcast<f32>(infinite_bits);
  let beyond = select(infinite, -infinite, x < 0.0f);
  let within = select(select(x, 65504.0f, x > 65504.0f), -65504.0f, x < -65504.0f);
  return f16(select(within, beyond, abs(x) >= 65520.0f));
}
";

/// The quotient whose remainder is never negative; by 0 it is 0.
const DIVIDE_DOWN: &str = "fn divide_down(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  let q = a / b;
  let r = a - q * b;
  return select(q, select(q - 1, q + 1, b < 0), r < 0);
}
";

const MODULO: &str = "fn modulo(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  let r = a - (a / b) * b;
  return select(r, r + abs(b), r < 0);
}
";

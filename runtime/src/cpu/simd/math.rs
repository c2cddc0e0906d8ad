//! Functions of one argument on vectors of f32, by polynomials. Errors are about 1e-7 relative (absolute where a result
//! crosses 0); NaN gives NaN.
//!
//! Polynomials are those of Cephes (single precision) unless said otherwise. Rounding to an integer adds and takes away
//! 1.5 * 2^23, whose low bits then hold the integer: no conversions, which not every instruction set has.

use chunkwise_dsl::function::REST_ENDS;
use pulp::Simd;

use super::function::{Unary, multiply_add};

const MAGIC: f32 = 12_582_912.0;
const MAGIC_BITS: u32 = MAGIC.to_bits();
/// ln 2 in two parts, the first short enough that whole multiples of it are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Names each function as a type, so that a loop is compiled for it.
macro_rules! functions {
    ($($name:ident: |$simd:ident, $x:ident| $value:expr;)*) => {
        $(
            pub(super) struct $name;

            impl Unary for $name {
                #[inline(always)]
                fn of<S: Simd>($simd: S, $x: S::f32s) -> S::f32s {
                    $value
                }
            }
        )*
    };
}

functions! {
    Exp: |s, x| exp(s, x);
    ExpRest: |s, x| exp_rest(s, x);
    Ln: |s, x| ln(s, x);
    Sqrt: |s, x| s.sqrt_f32s(x);
    Rsqrt: |s, x| s.div_f32s(s.splat_f32s(1.0), s.sqrt_f32s(x));
    Elu: |s, x| elu(s, x);
    Silu: |s, x| sigmoid(s, x, x);
    Gelu: |s, x| gelu(s, x);
    Sigmoid: |s, x| sigmoid(s, x, s.splat_f32s(1.0));
    LogSigmoid: |s, x| s.neg_f32s(softplus(s, s.neg_f32s(x)));
    Softplus: |s, x| softplus(s, x);
    Tanh: |s, x| tanh(s, x);
}

/// Angles above are reduced in f64, one by one.
const FAR: f32 = 65_536.0;

pub(super) struct Sin;

impl Unary for Sin {
    const LIMIT: f32 = FAR;

    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        wave(simd, x, 0)
    }

    fn far(x: f32) -> f32 {
        f64::from(x).sin() as f32
    }
}

pub(super) struct Cos;

impl Unary for Cos {
    const LIMIT: f32 = FAR;

    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        wave(simd, x, 1)
    }

    fn far(x: f32) -> f32 {
        f64::from(x).cos() as f32
    }
}

/// The polynomial by Horner's rule, the highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut y = s.splat_f32s(coefficients[0]);
    for c in &coefficients[1..] {
        y = multiply_add(s, y, x, s.splat_f32s(*c));
    }
    y
}

/// x in lo..hi, NaN kept.
#[inline(always)]
fn within<S: Simd>(s: S, x: S::f32s, lo: f32, hi: f32) -> S::f32s {
    let (lo, hi) = (s.splat_f32s(lo), s.splat_f32s(hi));
    let up = s.select_f32s(s.less_than_f32s(x, lo), lo, x);
    s.select_f32s(s.greater_than_f32s(up, hi), hi, up)
}

/// x = n ln 2 + r.
struct Exponent<S: Simd> {
    /// n + 254 as an integer.
    raised: S::u32s,
    /// exp(r) - 1.
    rest: S::f32s,
}

/// |x| is below 1e5.
#[inline(always)]
fn exponent<S: Simd>(s: S, x: S::f32s) -> Exponent<S> {
    let magic = s.splat_f32s(MAGIC);
    let shifted = multiply_add(s, x, s.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = s.sub_f32s(shifted, magic);
    let raised = s.sub_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(MAGIC_BITS - 254));
    let r = multiply_add(s, n, s.splat_f32s(-LN_2[0]), x);
    let r = multiply_add(s, n, s.splat_f32s(-LN_2[1]), r);
    let p = polynomial(s, r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1]);
    Exponent { raised, rest: multiply_add(s, p, s.mul_f32s(r, r), r) }
}

/// 2^(n - 127) for n in 1..=254.
#[inline(always)]
fn two_to<S: Simd>(s: S, n: S::u32s) -> S::f32s {
    s.transmute_f32s_u32s(s.wrapping_dyn_shl_u32s(n, s.splat_u32s(23)))
}

#[inline(always)]
fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    power_of_e(s, x, s.splat_f32s(1.0))
}

/// As `function::exp_rest` says.
#[inline(always)]
fn exp_rest<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let (zero, one) = (s.splat_f32s(0.0), s.splat_f32s(1.0));
    let ends = s.splat_f32s(REST_ENDS as f32);
    let near = s.and_m32s(s.less_than_or_equal_f32s(x, zero), s.greater_than_f32s(x, ends));
    // 2^n (exp(r) - 1) + (2^n - 1) keeps the digits of small x, and takes less than an exponential does.
    let Exponent { raised, rest } = exponent(s, within(s, x, REST_ENDS as f32, 0.0));
    let scale = two_to(s, s.sub_u32s(raised, s.splat_u32s(127)));
    let y = multiply_add(s, rest, scale, s.sub_f32s(scale, one));
    let y = s.min_f32s(y, s.splat_f32s(-f32::MIN_POSITIVE));
    if s.first_true_m32s(s.not_m32s(near)) == S::F32_LANES {
        return y;
    }
    s.select_f32s(near, y, exp(s, x))
}

/// 2^n (exp(r) - 1 + one) for x = n ln 2 + r.
#[inline(always)]
fn power_of_e<S: Simd>(s: S, x: S::f32s, one: S::f32s) -> S::f32s {
    // Below -104.5 everything rounds to 0, above 89 everything overflows.
    let Exponent { raised, rest } = exponent(s, within(s, x, -104.5, 89.0));
    let y = s.add_f32s(rest, one);
    // In two steps: 2^128 and subnormal results have no single factor.
    let half = s.wrapping_dyn_shr_u32s(raised, s.splat_u32s(1));
    let y = s.mul_f32s(y, two_to(s, half));
    s.mul_f32s(y, two_to(s, s.sub_u32s(raised, half)))
}

/// exp(x) - 1 below 0, x above. 2^n (exp(r) - 1) + (2^n - 1) keeps the digits of small x.
#[inline(always)]
fn elu<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let Exponent { raised, rest } = exponent(s, within(s, x, -30.0, 0.0));
    let scale = two_to(s, s.sub_u32s(raised, s.splat_u32s(127)));
    let below = multiply_add(s, rest, scale, s.sub_f32s(scale, s.splat_f32s(1.0)));
    s.select_f32s(s.greater_than_f32s(x, s.splat_f32s(0.0)), x, below)
}

/// above / (1 + exp(-x))
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::f32s, above: S::f32s) -> S::f32s {
    let below = s.add_f32s(exp(s, s.neg_f32s(x)), s.splat_f32s(1.0));
    s.div_f32s(above, below)
}

#[inline(always)]
fn ln<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let zero = s.splat_f32s(0.0);
    // Subnormal numbers are scaled into the normal range first.
    let tiny = s.less_than_f32s(x, s.splat_f32s(f32::MIN_POSITIVE));
    let normal = s.select_f32s(tiny, s.mul_f32s(x, s.splat_f32s(8_388_608.0)), x);
    let lost = s.select_f32s(tiny, s.splat_f32s(-23.0), zero);
    // normal = m 2^e, m between the roots of 1/2 and 2; e + 127 is taken, which is no less than 0.
    const ROOT: u32 = 0x3f35_04f3;
    let shifted = s.sub_u32s(s.transmute_u32s_f32s(normal), s.splat_u32s(ROOT));
    let raised = s.add_u32s(shifted, s.splat_u32s(127 << 23));
    let raised = s.wrapping_dyn_shr_u32s(raised, s.splat_u32s(23));
    let e = s.transmute_f32s_u32s(s.add_u32s(raised, s.splat_u32s(MAGIC_BITS)));
    let e = s.add_f32s(s.sub_f32s(e, s.splat_f32s(MAGIC + 127.0)), lost);
    let fraction = s.and_u32s(shifted, s.splat_u32s(0x007f_ffff));
    let m = s.transmute_f32s_u32s(s.add_u32s(fraction, s.splat_u32s(ROOT)));
    let f = s.sub_f32s(m, s.splat_f32s(1.0));
    let y = logarithm(s, e, f);
    // The edges: ln 0 = -inf, of negative numbers NaN, of inf and NaN themselves.
    let inner = s.less_than_f32s(x, s.splat_f32s(f32::INFINITY));
    let y = s.select_f32s(inner, y, x);
    let y = s.select_f32s(s.equal_f32s(x, zero), s.splat_f32s(f32::NEG_INFINITY), y);
    s.select_f32s(s.less_than_f32s(x, zero), s.splat_f32s(f32::NAN), y)
}

/// ln(2^e (1 + f)) for 1 + f between the roots of 1/2 and 2.
#[inline(always)]
fn logarithm<S: Simd>(s: S, e: S::f32s, f: S::f32s) -> S::f32s {
    let square = s.mul_f32s(f, f);
    let p = polynomial(
        s,
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let y = s.mul_f32s(p, s.mul_f32s(f, square));
    let y = multiply_add(s, e, s.splat_f32s(LN_2[1]), y);
    let y = multiply_add(s, square, s.splat_f32s(-0.5), y);
    multiply_add(s, e, s.splat_f32s(LN_2[0]), s.add_f32s(f, y))
}

/// max(x, 0) + ln(1 + u) with u = exp(-|x|): above the root of 2, 1 + u is 2 (1 + (u - 1) / 2), and neither sum is rounded.
#[inline(always)]
fn softplus<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let (zero, half) = (s.splat_f32s(0.0), s.splat_f32s(0.5));
    let u = exp(s, s.neg_f32s(s.abs_f32s(x)));
    let large = s.greater_than_f32s(u, s.splat_f32s(std::f32::consts::SQRT_2 - 1.0));
    let e = s.select_f32s(large, s.splat_f32s(1.0), zero);
    let f = s.select_f32s(large, multiply_add(s, u, half, s.splat_f32s(-0.5)), u);
    let positive = s.select_f32s(s.greater_than_f32s(x, zero), x, zero);
    s.add_f32s(positive, logarithm(s, e, f))
}

#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let (one, size) = (s.splat_f32s(1.0), s.abs_f32s(x));
    let square = s.mul_f32s(x, x);
    let p = polynomial(s, square, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let small = multiply_add(s, s.mul_f32s(p, square), x, x);
    let e = exp(s, s.add_f32s(size, size));
    let large = s.sub_f32s(one, s.div_f32s(s.splat_f32s(2.0), s.add_f32s(e, one)));
    let sign = s.and_f32s(x, s.splat_f32s(-0.0));
    let near = s.less_than_f32s(size, s.splat_f32s(0.625));
    s.select_f32s(near, small, s.or_f32s(large, sign))
}

/// x times the normal distribution function, erfc by the Chebyshev fit of Numerical Recipes (1.2e-7 relative everywhere).
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let one = s.splat_f32s(1.0);
    let z = s.mul_f32s(s.abs_f32s(x), s.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let u = s.div_f32s(one, multiply_add(s, z, s.splat_f32s(0.5), one));
    let p = polynomial(
        s,
        u,
        [
            0.170_872_77,
            -0.822_152_23,
            1.488_515_9,
            -1.135_204,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ],
    );
    let e = exp(s, multiply_add(s, s.neg_f32s(z), z, p));
    let tail = s.mul_f32s(s.mul_f32s(u, s.splat_f32s(0.5)), e);
    let up = s.greater_than_f32s(x, s.splat_f32s(0.0));
    let part = s.select_f32s(up, s.sub_f32s(one, tail), tail);
    s.mul_f32s(x, part)
}

/// sin (quarter 0) or cos (quarter 1) of an angle up to `FAR`.
#[inline(always)]
fn wave<S: Simd>(s: S, x: S::f32s, quarter: u32) -> S::f32s {
    // -pi/2 in parts, the first three of 8 bits so that whole multiples of them are exact even without fused steps.
    const PARTS: [f32; 4] = [-1.570_312_5, -4.825_592e-4, -1.266_598_7e-6, -9.920_935e-10];
    let magic = s.splat_f32s(MAGIC);
    let shifted = multiply_add(s, x, s.splat_f32s(std::f32::consts::FRAC_2_PI), magic);
    let n = s.sub_f32s(shifted, magic);
    let mut r = x;
    for part in PARTS {
        r = multiply_add(s, n, s.splat_f32s(part), r);
    }
    let turn = s.add_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(quarter));
    let z = s.mul_f32s(r, r);
    let p = polynomial(s, z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
    let sine = multiply_add(s, s.mul_f32s(p, z), r, r);
    let cosine = polynomial(s, z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2, -0.5, 1.0]);
    let even = s.equal_u32s(s.and_u32s(turn, s.splat_u32s(1)), s.splat_u32s(0));
    let y = s.select_f32s(even, sine, cosine);
    let flip = s.wrapping_dyn_shl_u32s(s.and_u32s(turn, s.splat_u32s(2)), s.splat_u32s(30));
    s.transmute_f32s_u32s(s.xor_u32s(s.transmute_u32s_f32s(y), flip))
}

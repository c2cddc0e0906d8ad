//! The functions of scalars on vectors of f32: our own polynomials, since LLVM's vector intrinsics turn into a libm call
//! a lane. Errors are about 1e-7 relative (absolute where a result crosses 0); NaN gives NaN.
//!
//! Polynomials are those of Cephes (single precision) unless said otherwise. Rounding to an integer adds and takes away
//! 1.5 * 2^23, whose low bits then hold the integer: no conversion, so no NaN traps, and no libm call on old targets.

use chunkwise_dsl::function::REST_ENDS;
use chunkwise_dsl::typed::Function;

use super::text::{Text, constant as k, whole};
use super::{Routine, Target, power};

const MAGIC: f64 = 12_582_912.0;

/// The function on vectors: an expression for cheap ones, else a call to a routine of the module.
pub(super) fn call(t: &mut Text, function: Function, args: &[String]) -> String {
    use Function::*;
    let a = &args[0];
    match (function, args) {
        (Add, [a, b]) => t.float("fadd", a, b),
        (Sub, [a, b]) => t.float("fsub", a, b),
        (Mul, [a, b]) => t.float("fmul", a, b),
        (Div, [a, b]) => t.exact("fdiv", a, b),
        (Min, [a, b]) => t.intrinsic("minimum", &[a, b]),
        (Max, [a, b]) => t.intrinsic("maximum", &[a, b]),
        (Clamp, [a, lo, hi]) => {
            let above = t.intrinsic("maximum", &[a, lo]);
            t.intrinsic("minimum", &[&above, hi])
        }
        (Neg, _) => {
            let ty = t.floats();
            t.set(format_args!("fneg {ty} {a}"))
        }
        (Sqrt, _) => t.intrinsic("sqrt", &[a]),
        (Rsqrt, _) => {
            let root = t.intrinsic("sqrt", &[a]);
            t.exact("fdiv", &k(1.0), &root)
        }
        (Abs, _) => t.intrinsic("fabs", &[a]),
        (Floor, _) => t.intrinsic("floor", &[a]),
        (Round, _) => t.intrinsic("roundeven", &[a]),
        (Sign, _) => sign(t, a),
        (Relu, _) => {
            let below = t.compare("olt", a, &k(0.0));
            t.select(&below, &k(0.0), a)
        }
        (ExpOfRest, _) => {
            let (near, sum) = (t.compare("olt", a, &k(0.0)), t.exact("fadd", a, &k(1.0)));
            t.select(&near, &sum, a)
        }
        (RestLost, _) => {
            let (near, sum) = (t.compare("olt", a, &k(0.0)), t.exact("fadd", a, &k(1.0)));
            let kept = t.exact("fsub", &sum, &k(1.0));
            let lost = t.exact("fsub", a, &kept);
            t.select(&near, &lost, &k(0.0))
        }
        _ => routine(t, function, args),
    }
}

fn routine(t: &mut Text, function: Function, args: &[String]) -> String {
    let routine = Routine::Function(function, t.lanes);
    let ty = t.floats();
    let args: Vec<String> = args.iter().map(|x| format!("{ty} {x}")).collect();
    let name = routine.name();
    t.needs.insert(routine);
    t.set(format_args!("call {ty} @{name}({})", args.join(", ")))
}

/// A power with a constant exponent, where multiplications or a root do.
pub(super) fn power(t: &mut Text, x: &str, exponent: f64) -> Option<String> {
    if exponent == 0.5 {
        return Some(t.intrinsic("sqrt", &[x]));
    }
    if exponent == -0.5 {
        return Some(call(t, Function::Rsqrt, &[x.to_owned()]));
    }
    if exponent.fract() != 0.0 || exponent.abs() > 32.0 {
        return None;
    }
    let mut left = exponent.abs() as u32;
    let (mut square, mut result) = (x.to_owned(), None::<String>);
    while left > 0 {
        if left & 1 == 1 {
            result = Some(match result {
                Some(so_far) => t.exact("fmul", &so_far, &square),
                None => square.clone(),
            });
        }
        left >>= 1;
        if left > 0 {
            square = t.exact("fmul", &square, &square);
        }
    }
    let result = result.unwrap_or_else(|| k(1.0));
    Some(if exponent < 0.0 { t.exact("fdiv", &k(1.0), &result) } else { result })
}

/// The routine of a function: its definition, and what it needs in turn.
pub(super) fn define(function: Function, lanes: u32, target: &Target) -> (String, Text) {
    use Function::*;
    let mut t = Text::new(lanes);
    let ty = t.floats();
    let (x, y) = ("%x", "%y");
    let result = match function {
        Exp => exp(&mut t, x, target),
        ExpRest => exp_rest(&mut t, x, target),
        Ln => ln(&mut t, x),
        Elu => elu(&mut t, x, target),
        Sigmoid => sigmoid(&mut t, x, &k(1.0), target),
        Silu => sigmoid(&mut t, x, x, target),
        Softplus => softplus(&mut t, x, target),
        LogSigmoid => {
            let minus = t.set(format_args!("fneg {ty} {x}"));
            let up = softplus(&mut t, &minus, target);
            t.set(format_args!("fneg {ty} {up}"))
        }
        Tanh => tanh(&mut t, x, target),
        Gelu => gelu(&mut t, x, target),
        Sin => wave(&mut t, x, 0),
        Cos => wave(&mut t, x, 1),
        Pow => power::power(&mut t, x, y),
        Mod => remainder(&mut t, x, y),
        FloorDiv => quotient(&mut t, x, y),
        // `call` writes all others in place.
        _ => x.to_owned(),
    };
    t.run(format_args!("ret {ty} {result}"));
    let params: Vec<String> = [x, y][..function.arity().min(2)].iter().map(|p| format!("{ty} {p}")).collect();
    // Short ones pay for being written in place, long ones do not.
    let inline = if matches!(function, Exp | ExpRest | Sigmoid | Silu) { "alwaysinline" } else { "noinline" };
    (
        format!(
            "define internal {ty} @{}({}) {inline} #0",
            Routine::Function(function, lanes).name(),
            params.join(", ")
        ),
        t,
    )
}

fn sign(t: &mut Text, x: &str) -> String {
    let (up, down) = (t.compare("ogt", x, &k(0.0)), t.compare("olt", x, &k(0.0)));
    let low = t.select(&down, &k(-1.0), x);
    t.select(&up, &k(1.0), &low)
}

/// Coefficients highest power first.
fn polynomial(t: &mut Text, x: &str, coefficients: &[f64]) -> String {
    let mut sum = k(coefficients[0]);
    for c in &coefficients[1..] {
        sum = t.fma(&sum, x, &k(*c));
    }
    sum
}

fn bits(t: &mut Text, x: &str) -> String {
    let (from, to) = (t.floats(), t.vector("i32"));
    t.set(format_args!("bitcast {from} {x} to {to}"))
}

fn from_bits(t: &mut Text, x: &str) -> String {
    let (from, to) = (t.vector("i32"), t.floats());
    t.set(format_args!("bitcast {from} {x} to {to}"))
}

fn int(t: &mut Text, op: &str, a: &str, b: &str) -> String {
    let ty = t.vector("i32");
    t.set(format_args!("{op} {ty} {a}, {b}"))
}

/// x in lo..hi, NaN kept.
fn within(t: &mut Text, x: &str, lo: f64, hi: f64) -> String {
    let below = t.compare("olt", x, &k(lo));
    let up = t.select(&below, &k(lo), x);
    let above = t.compare("ogt", &up, &k(hi));
    t.select(&above, &k(hi), &up)
}

/// x = n ln 2 + r: (n, the bits of n as an integer, r, the polynomial (exp(r) - 1 - r) / r^2). |x| is below 1e5.
fn reduce_exponent(t: &mut Text, x: &str) -> (String, String, String, String) {
    let shifted = t.fma(x, &k(std::f64::consts::LOG2_E), &k(MAGIC));
    let n = t.exact("fsub", &shifted, &k(MAGIC));
    let raw = bits(t, &shifted);
    let integer = int(t, "sub", &raw, &whole(i64::from((MAGIC as f32).to_bits())));
    // ln 2 in two parts, the first short enough that n times it is exact.
    let r = t.fma(&n, &k(-0.693_359_375), x);
    let r = t.fma(&n, &k(2.121_944_4e-4), &r);
    let p = polynomial(
        t,
        &r,
        &[
            1.987_569_15e-4,
            1.398_199_950_7e-3,
            8.333_451_907_3e-3,
            4.166_579_589_4e-2,
            1.666_666_545_9e-1,
            5.000_000_120_1e-1,
        ],
    );
    (n, integer, r, p)
}

/// 2^n for n in -126..=127.
fn two_to(t: &mut Text, n: &str) -> String {
    let biased = int(t, "add", n, &whole(127));
    let placed = int(t, "shl", &biased, &whole(23));
    from_bits(t, &placed)
}

fn exp(t: &mut Text, x: &str, target: &Target) -> String {
    power_of_e(t, x, &k(1.0), target)
}

/// As `function::exp_rest` says.
fn exp_rest(t: &mut Text, x: &str, target: &Target) -> String {
    let (down, above) = (t.compare("ole", x, &k(0.0)), t.compare("ogt", x, &k(REST_ENDS)));
    let (floats, bools, lanes) = (t.floats(), t.vector("i1"), t.lanes);
    let near = t.set(format_args!("and {bools} {down}, {above}"));
    // 2^n (exp(r) - 1) + (2^n - 1) keeps the digits of small x, and takes less than an exponential does.
    let low = within(t, x, REST_ENDS, 0.0);
    let (_, integer, r, p) = reduce_exponent(t, &low);
    let square = t.exact("fmul", &r, &r);
    let tail = t.fma(&p, &square, &r);
    let scale = two_to(t, &integer);
    let less = t.exact("fsub", &scale, &k(1.0));
    let y = t.fma(&tail, &scale, &less);
    let least = k(-f64::from(f32::MIN_POSITIVE));
    let is_less = t.compare("olt", &y, &least);
    let y = t.select(&is_less, &y, &least);
    let all = t.set(format_args!("call i1 @llvm.vector.reduce.and.v{lanes}i1({bools} {near})"));
    t.branch(&all, "near", "apart");
    t.block("near");
    t.run(format_args!("ret {floats} {y}"));
    t.block("apart");
    let power = exp(t, x, target);
    t.select(&near, &y, &power)
}

/// 2^n (exp(r) - 1 + one) for x = n ln 2 + r.
fn power_of_e(t: &mut Text, x: &str, one: &str, target: &Target) -> String {
    // Below -104.5 everything rounds to 0, above 89 everything overflows.
    let x = within(t, x, -104.5, 89.0);
    let (n, integer, r, p) = reduce_exponent(t, &x);
    let square = t.exact("fmul", &r, &r);
    let tail = t.fma(&p, &square, &r);
    let y = t.exact("fadd", &tail, one);
    if target.scales() && t.lanes == 16 {
        let ty = t.floats();
        return t.set(format_args!(
            "call {ty} @llvm.x86.avx512.mask.scalef.ps.512({ty} {y}, {ty} {n}, {ty} zeroinitializer, i16 -1, i32 4)"
        ));
    }
    // In two steps: 2^128 and subnormal results have no single factor.
    let half = int(t, "ashr", &integer, &whole(1));
    let rest = int(t, "sub", &integer, &half);
    let (half, rest) = (two_to(t, &half), two_to(t, &rest));
    let y = t.exact("fmul", &y, &half);
    t.exact("fmul", &y, &rest)
}

/// exp(x) - 1 below 0, x above. 2^n (r + r^2 p) + (2^n - 1) keeps the digits of small x.
fn elu(t: &mut Text, x: &str, _target: &Target) -> String {
    let low = within(t, x, -30.0, 0.0);
    let (_, integer, r, p) = reduce_exponent(t, &low);
    let square = t.exact("fmul", &r, &r);
    let tail = t.fma(&p, &square, &r);
    let scale = two_to(t, &integer);
    let less = t.exact("fsub", &scale, &k(1.0));
    let below = t.fma(&tail, &scale, &less);
    let up = t.compare("ogt", x, &k(0.0));
    t.select(&up, x, &below)
}

/// above / (1 + exp(-x))
fn sigmoid(t: &mut Text, x: &str, above: &str, target: &Target) -> String {
    let ty = t.floats();
    let minus = t.set(format_args!("fneg {ty} {x}"));
    let e = exp(t, &minus, target);
    let below = t.exact("fadd", &e, &k(1.0));
    t.exact("fdiv", above, &below)
}

fn ln(t: &mut Text, x: &str) -> String {
    // Subnormal numbers are scaled into the normal range first.
    let tiny = t.compare("olt", x, &k(1.175_494_35e-38));
    let scaled = t.exact("fmul", x, &k(8_388_608.0));
    let normal = t.select(&tiny, &scaled, x);
    let lost = t.select(&tiny, &k(-23.0), &k(0.0));
    // normal = m 2^e, m between the roots of 1/2 and 2.
    let raw = bits(t, &normal);
    let shifted = int(t, "sub", &raw, &whole(0x3f35_04f3));
    let e = int(t, "ashr", &shifted, &whole(23));
    let (ints, floats) = (t.vector("i32"), t.floats());
    let e = t.set(format_args!("sitofp {ints} {e} to {floats}"));
    let e = t.exact("fadd", &e, &lost);
    let fraction = int(t, "and", &shifted, &whole(0x007f_ffff));
    let m = int(t, "add", &fraction, &whole(0x3f35_04f3));
    let m = from_bits(t, &m);
    let f = t.exact("fsub", &m, &k(1.0));
    let square = t.exact("fmul", &f, &f);
    let p = polynomial(
        t,
        &f,
        &[
            7.037_683_629_2e-2,
            -1.151_461_031e-1,
            1.167_699_874e-1,
            -1.242_014_084_6e-1,
            1.424_932_278_7e-1,
            -1.666_805_766_5e-1,
            2.000_071_476_5e-1,
            -2.499_999_399_3e-1,
            3.333_333_117_4e-1,
        ],
    );
    let cube = t.exact("fmul", &f, &square);
    let y = t.exact("fmul", &p, &cube);
    let y = t.fma(&e, &k(-2.121_944_4e-4), &y);
    let y = t.fma(&square, &k(-0.5), &y);
    let y = t.exact("fadd", &f, &y);
    let y = t.fma(&e, &k(0.693_359_375), &y);
    // The edges: ln 0 = -inf, of negative numbers NaN, of inf and NaN themselves.
    let edge = t.compare("ult", x, &k(f64::INFINITY));
    let y = t.select(&edge, &y, x);
    let zero = t.compare("oeq", x, &k(0.0));
    let y = t.select(&zero, &k(f64::NEG_INFINITY), &y);
    let negative = t.compare("ult", x, &k(0.0));
    t.select(&negative, &k(f64::NAN), &y)
}

/// max(x, 0) + ln(1 + exp(-|x|)); the logarithm corrected by what rounding 1 + u lost.
fn softplus(t: &mut Text, x: &str, target: &Target) -> String {
    let ty = t.floats();
    let size = t.intrinsic("fabs", &[x]);
    let minus = t.set(format_args!("fneg {ty} {size}"));
    let u = exp(t, &minus, target);
    let above = t.exact("fadd", &u, &k(1.0));
    let log = routine(t, Function::Ln, std::slice::from_ref(&above));
    let kept = t.exact("fsub", &above, &k(1.0));
    let lost = t.exact("fsub", &u, &kept);
    let correction = t.exact("fdiv", &lost, &above);
    let log = t.exact("fadd", &log, &correction);
    let up = t.compare("ogt", x, &k(0.0));
    let positive = t.select(&up, x, &k(0.0));
    t.exact("fadd", &positive, &log)
}

fn tanh(t: &mut Text, x: &str, target: &Target) -> String {
    let square = t.exact("fmul", x, x);
    let p = polynomial(
        t,
        &square,
        &[-5.704_988_727_45e-3, 2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1],
    );
    let p = t.exact("fmul", &p, &square);
    let small = t.fma(&p, x, x);
    let size = t.intrinsic("fabs", &[x]);
    let double = t.exact("fadd", &size, &size);
    let e = exp(t, &double, target);
    let below = t.exact("fadd", &e, &k(1.0));
    let part = t.exact("fdiv", &k(2.0), &below);
    let large = t.exact("fsub", &k(1.0), &part);
    let large = t.intrinsic("copysign", &[&large, x]);
    let near = t.compare("olt", &size, &k(0.625));
    t.select(&near, &small, &large)
}

/// x times the normal distribution function, erfc by the Chebyshev fit of Numerical Recipes (1.2e-7 relative everywhere).
fn gelu(t: &mut Text, x: &str, target: &Target) -> String {
    let ty = t.floats();
    let size = t.intrinsic("fabs", &[x]);
    let z = t.exact("fmul", &size, &k(std::f64::consts::FRAC_1_SQRT_2));
    let below = t.fma(&z, &k(0.5), &k(1.0));
    let u = t.exact("fdiv", &k(1.0), &below);
    let p = polynomial(
        t,
        &u,
        &[
            0.170_872_77,
            -0.822_152_23,
            1.488_515_87,
            -1.135_203_98,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_68,
            -1.265_512_23,
        ],
    );
    let minus = t.set(format_args!("fneg {ty} {z}"));
    let power = t.fma(&minus, &z, &p);
    let e = exp(t, &power, target);
    let half = t.exact("fmul", &u, &k(0.5));
    let tail = t.exact("fmul", &half, &e);
    let rest = t.exact("fsub", &k(1.0), &tail);
    let up = t.compare("ogt", x, &k(0.0));
    let part = t.select(&up, &rest, &tail);
    t.exact("fmul", x, &part)
}

/// sin (quarter 0) or cos (quarter 1): the angle less a multiple of pi/2 in f64, so that large angles keep their digits.
fn wave(t: &mut Text, x: &str, quarter: i64) -> String {
    let (floats, doubles, longs, ints, n) = (t.floats(), t.vector("double"), t.vector("i64"), t.vector("i32"), t.lanes);
    let d = |x: f64| format!("splat (double 0x{:016X})", x.to_bits());
    let magic = 6_755_399_441_055_744.0;
    let wide = t.set(format_args!("fpext {floats} {x} to {doubles}"));
    let turns = t.set(format_args!("fmul {doubles} {wide}, {}", d(std::f64::consts::FRAC_2_PI)));
    let shifted = t.set(format_args!("fadd {doubles} {turns}, {}", d(magic)));
    let whole_turns = t.set(format_args!("fsub {doubles} {shifted}, {}", d(magic)));
    let mut r = wide;
    for part in [-std::f64::consts::FRAC_PI_2, -6.123_233_995_736_766e-17] {
        r = t.set(format_args!(
            "call {doubles} @llvm.fmuladd.v{n}f64({doubles} {whole_turns}, {doubles} {}, {doubles} {r})",
            d(part)
        ));
    }
    let r = t.set(format_args!("fptrunc {doubles} {r} to {floats}"));
    let raw = t.set(format_args!("bitcast {doubles} {shifted} to {longs}"));
    let raw = t.set(format_args!("trunc {longs} {raw} to {ints}"));
    let turn = int(t, "add", &raw, &whole(quarter));
    let z = t.exact("fmul", &r, &r);
    let s = polynomial(t, &z, &[-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1]);
    let s = t.exact("fmul", &s, &z);
    let s = t.fma(&s, &r, &r);
    let c =
        polynomial(t, &z, &[2.443_315_711_809_948e-5, -1.388_731_625_493_765e-3, 4.166_664_568_298_827e-2, -0.5, 1.0]);
    let odd = int(t, "and", &turn, &whole(1));
    let odd = t.set(format_args!("icmp ne {ints} {odd}, zeroinitializer"));
    let y = t.select(&odd, &c, &s);
    let flip = int(t, "and", &turn, &whole(2));
    let flip = int(t, "shl", &flip, &whole(30));
    let y = bits(t, &y);
    let y = int(t, "xor", &y, &flip);
    from_bits(t, &y)
}

/// floor(a / b) in f64, so that exact quotients stay exact.
fn divide_down(t: &mut Text, a: &str, b: &str) -> [String; 3] {
    let (floats, doubles, n) = (t.floats(), t.vector("double"), t.lanes);
    let a = t.set(format_args!("fpext {floats} {a} to {doubles}"));
    let b = t.set(format_args!("fpext {floats} {b} to {doubles}"));
    let q = t.set(format_args!("fdiv {doubles} {a}, {b}"));
    let q = t.set(format_args!("call {doubles} @llvm.floor.v{n}f64({doubles} {q})"));
    [a, b, q]
}

fn quotient(t: &mut Text, a: &str, b: &str) -> String {
    let (floats, doubles) = (t.floats(), t.vector("double"));
    let [_, _, q] = divide_down(t, a, b);
    t.set(format_args!("fptrunc {doubles} {q} to {floats}"))
}

fn remainder(t: &mut Text, a: &str, b: &str) -> String {
    let (floats, doubles) = (t.floats(), t.vector("double"));
    let [a, b, q] = divide_down(t, a, b);
    let whole = t.set(format_args!("fmul {doubles} {q}, {b}"));
    let r = t.set(format_args!("fsub {doubles} {a}, {whole}"));
    t.set(format_args!("fptrunc {doubles} {r} to {floats}"))
}

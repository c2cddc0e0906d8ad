//! Powers x^y of any exponent, in lanes of f64: 2^(y log2 |x|) with both functions to about 1e-12, so the result is right
//! to the last bit of f32 but for ties. No library is called, so an object needs none. The corners are those of IEEE 754:
//! x^0 = 1^y = 1, also of a NaN; (-1)^(+-inf) = 1; a negative base has powers of whole exponents only.

use super::text::{Text, constant as k};

/// The magnitude of a whole f64 that is added and taken away to round: its low bits then hold the integer.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// The bits of sqrt(1/2): mantissas are taken from there to sqrt(2).
const HALF_ROOT: i64 = 0x3FE6_A09E_667F_3BCD;

pub(super) fn power(t: &mut Text, x: &str, y: &str) -> String {
    let size = t.intrinsic("fabs", &[x]);
    let (exponent, base) = (widen(t, y), widen(t, &size));
    let log = log2(t, &base);
    let log = double(t, "fmul", &exponent, &log);
    let positive = exp2(t, &log);
    let positive = narrow(t, &positive);
    let ends = ends(t, &size, y, &positive);
    signed(t, x, y, &ends)
}

/// |x|^y where |x| is 0, 1 or infinite.
fn ends(t: &mut Text, size: &str, y: &str, usual: &str) -> String {
    let up = t.compare("ogt", y, &k(0.0));
    let [none, all] = [k(0.0), k(f64::INFINITY)];
    let of_zero = t.select(&up, &none, &all);
    let of_infinity = t.select(&up, &all, &none);
    let (zero, one) = (t.compare("oeq", size, &none), t.compare("oeq", size, &k(1.0)));
    let infinite = t.compare("oeq", size, &all);
    let result = t.select(&zero, &of_zero, usual);
    let result = t.select(&infinite, &of_infinity, &result);
    t.select(&one, &k(1.0), &result)
}

/// The power of a base of any sign, NaN too, given that of its magnitude.
fn signed(t: &mut Text, x: &str, y: &str, positive: &str) -> String {
    let (floats, bools, lanes) = (t.floats(), t.vector("i1"), t.lanes);
    let half = t.exact("fmul", y, &k(0.5));
    let [whole, half_whole] = [y, half.as_str()].map(|z| {
        let down = t.intrinsic("floor", &[z]);
        t.compare("oeq", &down, z)
    });
    // A quotient by 2 that is not whole is an odd exponent's.
    let odd = t.set(format_args!("xor {bools} {half_whole}, splat (i1 true)"));
    let odd = t.set(format_args!("and {bools} {whole}, {odd}"));
    let as_base = t.set(format_args!("call {floats} @llvm.copysign.v{lanes}f32({floats} {positive}, {floats} {x})"));
    let result = t.select(&odd, &as_base, positive);
    // Below 0 and finite, to no whole power.
    let below = t.compare("olt", x, &k(0.0));
    let finite = t.compare("ogt", x, &k(f64::NEG_INFINITY));
    let broken = t.set(format_args!("xor {bools} {whole}, splat (i1 true)"));
    let wrong = t.set(format_args!("and {bools} {below}, {finite}"));
    let wrong = t.set(format_args!("and {bools} {wrong}, {broken}"));
    let result = t.select(&wrong, &k(f64::NAN), &result);
    let nan = t.compare("uno", x, y);
    let sum = t.exact("fadd", x, y);
    let result = t.select(&nan, &sum, &result);
    let (unit, nought) = (t.compare("oeq", x, &k(1.0)), t.compare("oeq", y, &k(0.0)));
    let either = t.set(format_args!("or {bools} {unit}, {nought}"));
    t.select(&either, &k(1.0), &result)
}

/// log2 of positive finite doubles: e + log2 m, m in sqrt(1/2)..sqrt(2), by the series of artanh.
fn log2(t: &mut Text, x: &str) -> String {
    let (doubles, longs) = (t.vector("double"), t.vector("i64"));
    let bits = t.set(format_args!("bitcast {doubles} {x} to {longs}"));
    let above = t.set(format_args!("sub {longs} {bits}, splat (i64 {HALF_ROOT})"));
    let e = t.set(format_args!("ashr {longs} {above}, splat (i64 52)"));
    let shift = t.set(format_args!("shl {longs} {e}, splat (i64 52)"));
    let bits = t.set(format_args!("sub {longs} {bits}, {shift}"));
    let m = t.set(format_args!("bitcast {longs} {bits} to {doubles}"));
    let (less, more) = (double(t, "fsub", &m, &number(1.0)), double(t, "fadd", &m, &number(1.0)));
    let s = double(t, "fdiv", &less, &more);
    let square = double(t, "fmul", &s, &s);
    let terms: Vec<f64> = (0..8).rev().map(|n| 2.0 * std::f64::consts::LOG2_E / f64::from(2 * n + 1)).collect();
    let series = polynomial(t, &square, &terms);
    let log = double(t, "fmul", &s, &series);
    // Exponents fit 32 bits, whose conversion every target has.
    let ints = t.vector("i32");
    let e = t.set(format_args!("trunc {longs} {e} to {ints}"));
    let e = t.set(format_args!("sitofp {ints} {e} to {doubles}"));
    double(t, "fadd", &e, &log)
}

/// 2^x; beyond the range of f32 any number that is beyond it too. NaN gives any number.
fn exp2(t: &mut Text, x: &str) -> String {
    let (doubles, longs, bools) = (t.vector("double"), t.vector("i64"), t.vector("i1"));
    let mut x = x.to_owned();
    for (how, end) in [("olt", -300.0), ("ogt", 300.0)] {
        let beyond = t.set(format_args!("fcmp {how} {doubles} {x}, {}", number(end)));
        x = t.set(format_args!("select {bools} {beyond}, {doubles} {}, {doubles} {x}", number(end)));
    }
    let shifted = double(t, "fadd", &x, &number(MAGIC));
    let n = double(t, "fsub", &shifted, &number(MAGIC));
    let rest = double(t, "fsub", &x, &n);
    let mut term = 1.0;
    let mut terms = vec![term];
    for i in 1..=10 {
        term *= std::f64::consts::LN_2 / f64::from(i);
        terms.insert(0, term);
    }
    let fraction = polynomial(t, &rest, &terms);
    let bits = t.set(format_args!("bitcast {doubles} {fraction} to {longs}"));
    let n = t.set(format_args!("bitcast {doubles} {shifted} to {longs}"));
    let n = t.set(format_args!("shl {longs} {n}, splat (i64 52)"));
    let bits = t.set(format_args!("add {longs} {bits}, {n}"));
    t.set(format_args!("bitcast {longs} {bits} to {doubles}"))
}

/// Coefficients highest power first.
fn polynomial(t: &mut Text, x: &str, coefficients: &[f64]) -> String {
    coefficients[1..].iter().fold(number(coefficients[0]), |sum, c| {
        let product = double(t, "fmul contract", &sum, x);
        double(t, "fadd contract", &product, &number(*c))
    })
}

fn double(t: &mut Text, op: &str, a: &str, b: &str) -> String {
    let doubles = t.vector("double");
    t.set(format_args!("{op} {doubles} {a}, {b}"))
}

fn widen(t: &mut Text, x: &str) -> String {
    let (floats, doubles) = (t.floats(), t.vector("double"));
    t.set(format_args!("fpext {floats} {x} to {doubles}"))
}

fn narrow(t: &mut Text, x: &str) -> String {
    let (floats, doubles) = (t.floats(), t.vector("double"));
    t.set(format_args!("fptrunc {doubles} {x} to {floats}"))
}

/// A double in all lanes.
fn number(x: f64) -> String {
    format!("splat (double 0x{:016X})", x.to_bits())
}

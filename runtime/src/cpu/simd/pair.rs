//! Functions of two arguments, in f64: plain loops over a few elements at a time, which the compiler turns into vectors
//! of the instruction set that stands around them.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

/// A function of two arguments, without branches.
pub(super) trait Binary: 'static {
    fn of(x: f64, y: f64) -> f64;

    /// Whether `of` does not reach these arguments, so that `far` is taken.
    #[inline(always)]
    fn is_far(_x: f32, _y: f32) -> bool {
        false
    }

    fn far(x: f64, y: f64) -> f64 {
        Self::of(x, y)
    }
}

pub(super) struct FloorDiv;

impl Binary for FloorDiv {
    #[inline(always)]
    fn of(x: f64, y: f64) -> f64 {
        (x / y).floor()
    }
}

pub(super) struct Mod;

impl Binary for Mod {
    #[inline(always)]
    fn of(x: f64, y: f64) -> f64 {
        x - y * (x / y).floor()
    }
}

/// x^y = 2^(y log2 x), exact to about 1e-10, so that rounding to f32 is all that is lost.
pub(super) struct Pow;

impl Binary for Pow {
    #[inline(always)]
    fn of(x: f64, y: f64) -> f64 {
        // 2^200 and 2^-200 are beyond what f32 holds.
        let t = y * log2(x);
        let t = if t > 200.0 { 200.0 } else { t };
        exp2(if t < -200.0 { -200.0 } else { t })
    }

    /// Zeros, negative bases, what is not finite: their signs and limits are the standard library's.
    #[inline(always)]
    fn is_far(x: f32, y: f32) -> bool {
        let inner = (x > 0.0) & (x < f32::INFINITY) & (y.abs() < f32::INFINITY);
        !inner
    }

    fn far(x: f64, y: f64) -> f64 {
        x.powf(y)
    }
}

/// log2 of a positive normal number: x = m 2^e with m between the roots of 1/2 and 2, and
/// ln m = 2 atanh((m - 1) / (m + 1)).
#[inline(always)]
fn log2(x: f64) -> f64 {
    const ROOT: u32 = 0x3fe6_a09e;
    let bits = x.to_bits();
    let e = ((bits >> 32) as u32).wrapping_sub(ROOT).cast_signed() >> 20;
    let m = f64::from_bits(bits.wrapping_sub(((e as u32 as u64) << 20) << 32));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 2.0 / 15.0;
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * z + 2.0 / odd;
    }
    f64::from(e) + s * p * std::f64::consts::LOG2_E
}

/// 2^t for |t| up to 200.
#[inline(always)]
fn exp2(t: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let shifted = t + MAGIC;
    let r = (t - (shifted - MAGIC)) * std::f64::consts::LN_2;
    let mut p = 1.0 / 3_628_800.0;
    for factorial in [362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        p = p * r + 1.0 / factorial;
    }
    p * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// dst[i] = F(a[i], b[i]).
pub(super) struct Pairs<F> {
    dst: *mut f32,
    args: [*const f32; 2],
    n: isize,
    function: PhantomData<F>,
}

impl<F> Pairs<F> {
    /// # Safety
    /// n elements of each argument may be read and of dst written, until the value was run; each is dst or apart.
    pub(super) unsafe fn new(dst: *mut f32, args: [*const f32; 2], n: isize) -> Self {
        Pairs { dst, args, n, function: PhantomData }
    }
}

/// Elements that are treated at once.
const RUN: usize = 16;

impl<F: Binary> WithSimd for Pairs<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Pairs { dst, args: [a, b], n, .. } = self;
        let mut from = 0;
        while from < n {
            let rows = RUN.min((n - from) as usize);
            // Ones fill up the last run: every function takes them.
            let (mut x, mut y) = ([1f32; RUN], [1f32; RUN]);
            // SAFETY: elements from .. from + rows are among the n of each; the copies are arrays of their own, so dst may
            // be one of the arguments.
            unsafe {
                x.as_mut_ptr().copy_from_nonoverlapping(a.offset(from), rows);
                y.as_mut_ptr().copy_from_nonoverlapping(b.offset(from), rows);
                let z = run::<F>(&x, &y);
                dst.offset(from).copy_from_nonoverlapping(z.as_ptr(), rows);
            }
            from += RUN as isize;
        }
    }
}

#[inline(always)]
fn run<F: Binary>(x: &[f32; RUN], y: &[f32; RUN]) -> [f32; RUN] {
    let mut z = [0f32; RUN];
    let mut far = false;
    for i in 0..RUN {
        z[i] = F::of(f64::from(x[i]), f64::from(y[i])) as f32;
        far |= F::is_far(x[i], y[i]);
    }
    if far {
        for i in 0..RUN {
            if F::is_far(x[i], y[i]) {
                z[i] = F::far(f64::from(x[i]), f64::from(y[i])) as f32;
            }
        }
    }
    z
}

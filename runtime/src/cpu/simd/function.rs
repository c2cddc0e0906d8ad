//! Loops over elements: whole vectors, then what is left under a mask.

use std::any::TypeId;
use std::marker::PhantomData;

use pulp::{MemMask, Simd, WithSimd};

/// A function of one argument.
pub(super) trait Unary: 'static {
    /// Beyond this size an argument goes to `far` instead.
    const LIMIT: f32 = f32::INFINITY;

    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s;

    /// The function where vectors do not reach.
    fn far(x: f32) -> f32 {
        x
    }
}

/// dst[i] = F(a[i]).
pub(super) struct Each<F> {
    dst: *mut f32,
    a: *const f32,
    n: isize,
    function: PhantomData<F>,
}

impl<F> Each<F> {
    /// # Safety
    /// n elements of a may be read and of dst written, until the value was run; they are the same or apart.
    pub(super) unsafe fn new(dst: *mut f32, a: *const f32, n: isize) -> Self {
        Each { dst, a, n, function: PhantomData }
    }
}

impl<F: Unary> WithSimd for Each<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Each { dst, a, n, .. } = self;
        let lanes = S::F32_LANES as isize;
        let mut i = 0;
        while i + lanes <= n {
            // SAFETY: elements i .. i + lanes are among the n of both.
            unsafe {
                let x = a.offset(i).cast::<S::f32s>().read_unaligned();
                dst.offset(i).cast::<S::f32s>().write_unaligned(value::<S, F>(simd, x));
            }
            i += lanes;
        }
        if i < n {
            let mask = first::<S>(simd, n - i);
            // SAFETY: the mask holds the elements that are left and no others.
            unsafe {
                let x = simd.mask_load_ptr_f32s(mask, a.offset(i));
                simd.mask_store_ptr_f32s(mask, dst.offset(i), value::<S, F>(simd, x));
            }
        }
    }
}

/// The mask of the first `n` lanes.
#[inline(always)]
pub(super) fn first<S: Simd>(simd: S, n: isize) -> MemMask<S::m32s> {
    // A mask alone: with what pulp adds to it, loads would be calls.
    MemMask::new(simd.mask_between_m32s(0, n as u32).mask())
}

/// x y + z, fused where the processor fuses it: pulp's own calls a function of the C library where it does not.
#[inline(always)]
pub(super) fn multiply_add<S: Simd>(simd: S, x: S::f32s, y: S::f32s, z: S::f32s) -> S::f32s {
    if TypeId::of::<S>() == TypeId::of::<pulp::Scalar128b>() {
        simd.add_f32s(simd.mul_f32s(x, y), z)
    } else {
        simd.mul_add_e_f32s(x, y, z)
    }
}

#[inline(always)]
pub(super) fn value<S: Simd, F: Unary>(simd: S, x: S::f32s) -> S::f32s {
    let mut y = F::of(simd, x);
    if F::LIMIT < f32::INFINITY {
        let far = simd.greater_than_f32s(simd.abs_f32s(x), simd.splat_f32s(F::LIMIT));
        if simd.first_true_m32s(far) < S::F32_LANES {
            y = beyond::<S, F>(x, y);
        }
    }
    y
}

/// The lanes beyond the limit one by one.
#[cold]
#[inline(never)]
fn beyond<S: Simd, F: Unary>(mut x: S::f32s, mut y: S::f32s) -> S::f32s {
    for (x, y) in lanes::<S>(&mut x).iter().zip(lanes::<S>(&mut y)) {
        if x.abs() > F::LIMIT {
            *y = F::far(*x);
        }
    }
    y
}

pub(super) fn lanes<S: Simd>(x: &mut S::f32s) -> &mut [f32] {
    pulp::bytemuck::cast_slice_mut(std::slice::from_mut(x))
}

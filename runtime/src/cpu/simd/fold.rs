//! Reductions along rows whose elements lie together.
//!
//! ```text
//! dst[i] = dst[i] op a[i, 0] op a[i, 1] ..        a partial result a lane, then one of all lanes
//! ```

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::element::{Add, Element, Max, Min, Mul};
use super::function::{first, lanes};

/// A reduction's operation.
pub(super) trait Joint: Element<2> {
    /// What changes nothing.
    const EMPTY: f32;

    fn of_two(x: f32, y: f32) -> f32;
}

impl Joint for Add {
    const EMPTY: f32 = 0.0;

    fn of_two(x: f32, y: f32) -> f32 {
        x + y
    }
}

impl Joint for Mul {
    const EMPTY: f32 = 1.0;

    fn of_two(x: f32, y: f32) -> f32 {
        x * y
    }
}

impl Joint for Max {
    const EMPTY: f32 = f32::NEG_INFINITY;

    fn of_two(x: f32, y: f32) -> f32 {
        if x > y || x.is_nan() { x } else { y }
    }
}

impl Joint for Min {
    const EMPTY: f32 = f32::INFINITY;

    fn of_two(x: f32, y: f32) -> f32 {
        if x < y || x.is_nan() { x } else { y }
    }
}

/// dst[i] = dst[i] J all a[i, j].
pub(super) struct Fold<J> {
    dst: *mut f32,
    /// From one result to the next.
    step: isize,
    a: *const f32,
    lda: isize,
    rows: isize,
    columns: isize,
    joint: PhantomData<J>,
}

impl<J> Fold<J> {
    /// Results and the stride from one to the next; rows and theirs; how many rows, and of how many elements.
    ///
    /// # Safety
    /// The rows may be read, and the results read and written, apart from each other, until the value was run.
    pub(super) unsafe fn new(
        (dst, step): (*mut f32, isize),
        (a, lda): (*const f32, isize),
        [rows, columns]: [isize; 2],
    ) -> Self {
        Fold { dst, step, a, lda, rows, columns, joint: PhantomData }
    }
}

/// Rows that are reduced at once.
const ROWS: usize = 4;

impl<J: Joint> WithSimd for Fold<J> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut row = 0;
        while row + ROWS as isize <= self.rows {
            self.some::<S, ROWS>(simd, row);
            row += ROWS as isize;
        }
        while row < self.rows {
            self.some::<S, 1>(simd, row);
            row += 1;
        }
    }
}

impl<J: Joint> Fold<J> {
    /// R rows from `row` on.
    #[inline(always)]
    fn some<S: Simd, const R: usize>(&self, simd: S, row: isize) {
        let step = S::F32_LANES as isize;
        let empty = simd.splat_f32s(J::EMPTY);
        let mut parts = [empty; R];
        let mut i = 0;
        // SAFETY: R rows of a from `row` on have `columns` elements, of which the mask leaves out what is beyond; so many
        // results may be read and written.
        unsafe {
            while i + step <= self.columns {
                for (r, part) in parts.iter_mut().enumerate() {
                    let x = self.a.offset((row + r as isize) * self.lda + i).cast::<S::f32s>().read_unaligned();
                    *part = J::of(simd, [*part, x]);
                }
                i += step;
            }
            if i < self.columns {
                let left = self.columns - i;
                let (mask, kept) = (first::<S>(simd, left), simd.mask_between_m32s(0, left as u32).mask());
                for (r, part) in parts.iter_mut().enumerate() {
                    let x = simd.mask_load_ptr_f32s(mask, self.a.offset((row + r as isize) * self.lda + i));
                    *part = J::of(simd, [*part, simd.select_f32s(kept, x, empty)]);
                }
            }
            for (r, part) in parts.iter_mut().enumerate() {
                let dst = self.dst.offset((row + r as isize) * self.step);
                *dst = lanes::<S>(part).iter().fold(*dst, |so_far, x| J::of_two(so_far, *x));
            }
        }
    }
}

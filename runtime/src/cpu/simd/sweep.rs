//! Sweeps: one pass over a tile, strip of columns by strip, all rows of a strip one after another.
//!
//! ```text
//! for every strip of V vectors               u of its columns in registers
//!     for every run of rows                  sums of their own, so that long sums lose less to rounding
//!         for every group of G rows          s = factor * from + (lost * from + sum of w * u); sums += x * s
//!     y = sums
//! ```
//! The rows of a group have sums of their own: one sum alone would wait for the multiply-add before it.

use pulp::{MemMask, Simd, WithSimd};

use super::function::{first, multiply_add};
use super::tile::RUN;

/// A matrix of rows that lie together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub at: *mut f32,
    pub stride: isize,
}

impl Rows {
    #[inline(always)]
    fn row(self, i: isize) -> *mut f32 {
        self.at.wrapping_offset(i * self.stride)
    }
}

/// A factor along the rows, and a row beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    pub factors: Rows,
    pub row: *mut f32,
}

/// What is kept of the tile before: all of it, or each row times a factor.
pub(super) const ALL: u8 = 0;
pub(super) const SCALED: u8 = 1;
/// The same with what the factor lost.
pub(super) const GIVEN_BACK: u8 = 2;

/// What a sweep works on: `state = factor * from + (lost * from + sum of ranks)`, then its reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep<const KEEP: u8, const RANKS: usize, const READS: usize> {
    pub state: Rows,
    pub from: Rows,
    pub keep: Rows,
    /// At the stride of the factors.
    pub lost: *const f32,
    pub ranks: [Outer; RANKS],
    pub reads: [Outer; READS],
    pub rows: isize,
    pub columns: isize,
}

impl<const KEEP: u8, const RANKS: usize, const READS: usize> WithSimd for Sweep<KEEP, RANKS, READS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES as isize;
        let mut column = 0;
        if S::REGISTER_COUNT >= 32 {
            column = self.panel::<S, 4, 2>(simd, column);
        }
        column = self.panel::<S, 2, 2>(simd, column);
        while column < self.columns {
            let mask = first::<S>(simd, (self.columns - column).min(lanes));
            Strip::<S, KEEP, RANKS, READS, 1, true> { simd, mask, of: self, column }.run::<2>();
            column += lanes;
        }
    }
}

impl<const KEEP: u8, const RANKS: usize, const READS: usize> Sweep<KEEP, RANKS, READS> {
    /// Strips of V vectors from `column` on, as many as fit.
    #[inline(always)]
    fn panel<S: Simd, const V: usize, const G: usize>(self, simd: S, mut column: isize) -> isize {
        let width = (V * S::F32_LANES) as isize;
        while column + width <= self.columns {
            let mask = first::<S>(simd, 0);
            Strip::<S, KEEP, RANKS, READS, V, false> { simd, mask, of: self, column }.run::<G>();
            column += width;
        }
        column
    }
}

/// A strip of V vectors; under a mask, of one that may stand over the right edge.
struct Strip<S: Simd, const KEEP: u8, const RANKS: usize, const READS: usize, const V: usize, const MASKED: bool> {
    simd: S,
    mask: MemMask<S::m32s>,
    of: Sweep<KEEP, RANKS, READS>,
    column: isize,
}

type Sums<S, const READS: usize, const V: usize> = [[<S as Simd>::f32s; V]; READS];

impl<S: Simd, const KEEP: u8, const RANKS: usize, const READS: usize, const V: usize, const MASKED: bool>
    Strip<S, KEEP, RANKS, READS, V, MASKED>
{
    #[inline(always)]
    fn run<const G: usize>(&self) {
        let (simd, rows) = (self.simd, self.of.rows);
        let zero = [[simd.splat_f32s(0.0); V]; READS];
        let mut totals = zero;
        let mut added = [[simd.splat_f32s(0.0); V]; RANKS];
        for (added, rank) in added.iter_mut().zip(&self.of.ranks) {
            // SAFETY: a rank's row has as many columns as the tile.
            *added = unsafe { self.load(rank.row) };
        }
        let mut from = 0;
        while from < rows {
            let to = rows.min(from + RUN * G as isize);
            let mut sums = [zero; G];
            // SAFETY: rows from .. to are the tile's.
            unsafe {
                while from + G as isize <= to {
                    for (g, sums) in sums.iter_mut().enumerate() {
                        self.row(from + g as isize, &added, sums);
                    }
                    from += G as isize;
                }
                while from < to {
                    self.row(from, &added, &mut sums[0]);
                    from += 1;
                }
            }
            // By index: iterators that are not unrolled early would keep the sums in memory.
            for m in 0..READS {
                for v in 0..V {
                    let mut sum = sums[0][m][v];
                    for sums in &sums[1..] {
                        sum = simd.add_f32s(sum, sums[m][v]);
                    }
                    totals[m][v] = simd.add_f32s(totals[m][v], sum);
                }
            }
        }
        for (total, read) in totals.iter().zip(&self.of.reads) {
            // SAFETY: what is read has as many columns as the tile.
            unsafe { self.store(read.row, total) };
        }
    }

    /// Row i: its new elements, and what they add to the sums.
    #[inline(always)]
    unsafe fn row(&self, i: isize, added: &[[S::f32s; V]; RANKS], sums: &mut Sums<S, READS, V>) {
        let (simd, of) = (self.simd, &self.of);
        // SAFETY: the caller vouches for the row; every factor has an element for it.
        unsafe {
            let before: [S::f32s; V] = self.load(of.from.row(i));
            let mut x = before;
            for (r, added) in added.iter().enumerate() {
                let factor = simd.splat_f32s(*of.ranks[r].factors.row(i));
                for v in 0..V {
                    x[v] = match r {
                        // What does not wait for the row comes first.
                        0 if KEEP != ALL => simd.mul_f32s(factor, added[v]),
                        _ => multiply_add(simd, factor, added[v], x[v]),
                    };
                }
            }
            if KEEP == GIVEN_BACK {
                let lost = simd.splat_f32s(*of.lost.wrapping_offset(i * of.keep.stride));
                for v in 0..V {
                    x[v] = multiply_add(simd, lost, before[v], x[v]);
                }
            }
            if KEEP != ALL {
                let factor = simd.splat_f32s(*of.keep.row(i));
                for v in 0..V {
                    x[v] = multiply_add(simd, factor, before[v], x[v]);
                }
            }
            if RANKS > 0 {
                self.store(of.state.row(i), &x);
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let factor = simd.splat_f32s(*of.reads[m].factors.row(i));
                for v in 0..V {
                    sums[v] = multiply_add(simd, factor, x[v], sums[v]);
                }
            }
        }
    }

    /// The strip's columns of the row at `row`.
    #[inline(always)]
    unsafe fn load(&self, row: *const f32) -> [S::f32s; V] {
        let from = row.wrapping_offset(self.column);
        let mut out = [self.simd.splat_f32s(0.0); V];
        for (v, x) in out.iter_mut().enumerate() {
            // SAFETY: the caller vouches for V vectors, or for what the mask holds of one.
            *x = unsafe {
                if MASKED {
                    self.simd.mask_load_ptr_f32s(self.mask, from)
                } else {
                    from.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned()
                }
            };
        }
        out
    }

    #[inline(always)]
    unsafe fn store(&self, row: *mut f32, values: &[S::f32s; V]) {
        let to = row.wrapping_offset(self.column);
        for (v, x) in values.iter().enumerate() {
            // SAFETY: as for loads.
            unsafe {
                if MASKED {
                    self.simd.mask_store_ptr_f32s(self.mask, to, *x);
                } else {
                    to.add(v * S::F32_LANES).cast::<S::f32s>().write_unaligned(*x);
                }
            }
        }
    }
}

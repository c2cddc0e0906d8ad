//! The register tile: R rows by V vectors of sums.
//!
//! ```text
//! for every run of k                     at most RUN terms, so that long sums lose less to rounding
//!     for k: one row of b, one scalar of a for every row, fused multiply-adds
//!     c += sums                          or c = sums, c = factor c + (lost c + sums): the first run of a product
//! ```
//! A triangular tile goes on with its diagonal block after the last run, written out: row r takes the first r rows only,
//! so nothing above the diagonal is read. A substitution takes its own sums in place of b there.

use std::marker::PhantomData;

use pulp::{MemMask, Simd, WithSimd};

use super::function::{first, multiply_add};
use super::product::{Operands, Shape};

/// Terms that are summed on their own before they join the total.
pub(super) const RUN: isize = 64;

pub(super) struct Tile<const R: usize, const V: usize, const MASKED: bool, T> {
    at: Operands,
    /// Rows and columns that are left from here on, and the rows of b that count before the diagonal.
    size: [isize; 3],
    shape: PhantomData<T>,
}

impl<const R: usize, const V: usize, const MASKED: bool, T> Tile<R, V, MASKED, T> {
    /// # Safety
    /// As `Product::new`, of the tile's rows and columns.
    pub(super) unsafe fn new(at: Operands, size: [isize; 3]) -> Self {
        Tile { at, size, shape: PhantomData }
    }
}

impl<const R: usize, const V: usize, const MASKED: bool, T: Shape> WithSimd for Tile<R, V, MASKED, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile { at, size: [rows, columns, k], .. } = self;
        let row = |r: usize| if T::TRIANGULAR { r as isize } else { (r as isize).min(rows - 1) };
        let mut a = [at.a; R];
        let mut c = [at.c; R];
        for r in 0..R {
            a[r] = at.a.wrapping_offset(row(r) * at.am);
            c[r] = at.c.wrapping_offset(row(r) * at.ldc);
        }
        let mask = first::<S>(simd, if MASKED { columns.min(S::F32_LANES as isize) } else { 0 });
        let tile = Registers::<S, R, V, MASKED> { simd, mask, a, ak: at.ak };
        let mut from = 0;
        loop {
            let to = k.min(from + RUN);
            let b = at.b.wrapping_offset(from * at.ldb);
            // SAFETY: rows from .. to of b and columns from .. to of a are the product's, as are R rows of c.
            unsafe {
                let mut sums = tile.sums(b, at.ldb, [from, to]);
                match at.scale.filter(|_| from == 0) {
                    Some(scale) => tile.join_scaled(&mut sums, &c, |r| scale.at(row(r)).first()),
                    None if at.add || from > 0 => tile.join(&mut sums, &c),
                    None => {}
                }
                if to >= k {
                    let b = at.b.wrapping_offset(k * at.ldb);
                    tile.diagonal::<T>(&mut sums, b, at.ldb, k);
                }
                tile.store(&sums, &c);
            }
            from = to;
            if from >= k {
                break;
            }
        }
    }
}

type Sums<S, const R: usize, const V: usize> = [[<S as Simd>::f32s; V]; R];

/// What stays in registers.
struct Registers<S: Simd, const R: usize, const V: usize, const MASKED: bool> {
    simd: S,
    mask: MemMask<S::m32s>,
    /// The tile's rows of a.
    a: [*const f32; R],
    ak: isize,
}

impl<S: Simd, const R: usize, const V: usize, const MASKED: bool> Registers<S, R, V, MASKED> {
    /// V vectors from `from` on.
    #[inline(always)]
    unsafe fn load(&self, from: *const f32) -> [S::f32s; V] {
        let mut row = [self.simd.splat_f32s(0.0); V];
        for (v, x) in row.iter_mut().enumerate() {
            // SAFETY: the caller vouches for V vectors, or for what the mask holds of one.
            *x = unsafe {
                if MASKED {
                    self.simd.mask_load_ptr_f32s(self.mask, from)
                } else {
                    from.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned()
                }
            };
        }
        row
    }

    /// Row r of the sums += a[r, at `across`] * row.
    #[inline(always)]
    unsafe fn step(&self, sums: &mut [S::f32s; V], r: usize, across: isize, row: &[S::f32s; V]) {
        // SAFETY: the caller vouches for the element.
        let x = self.simd.splat_f32s(unsafe { *self.a[r].offset(across) });
        for v in 0..V {
            sums[v] = multiply_add(self.simd, x, row[v], sums[v]);
        }
    }

    /// The sums over columns from .. to of a; `b` is the first of these rows.
    #[inline(always)]
    unsafe fn sums(&self, mut b: *const f32, ldb: isize, [from, to]: [isize; 2]) -> Sums<S, R, V> {
        let mut sums = [[self.simd.splat_f32s(0.0); V]; R];
        let mut across = from * self.ak;
        for _ in from..to {
            // SAFETY: these elements of a and b are the product's.
            unsafe {
                let row = self.load(b);
                for (r, sums) in sums.iter_mut().enumerate() {
                    self.step(sums, r, across, &row);
                }
            }
            b = b.wrapping_offset(ldb);
            across += self.ak;
        }
        sums
    }

    /// sums += c
    #[inline(always)]
    unsafe fn join(&self, sums: &mut Sums<S, R, V>, c: &[*mut f32; R]) {
        for r in 0..R {
            // SAFETY: the caller vouches for the tile's rows of c.
            let row = unsafe { self.load(c[r]) };
            for v in 0..V {
                sums[r][v] = self.simd.add_f32s(sums[r][v], row[v]);
            }
        }
    }

    /// sums = factor c + (lost c + sums), [lost, factor] = factors(r)
    #[inline(always)]
    unsafe fn join_scaled(&self, sums: &mut Sums<S, R, V>, c: &[*mut f32; R], factors: impl Fn(usize) -> [f32; 2]) {
        for r in 0..R {
            // SAFETY: the caller vouches for the tile's rows of c.
            let row = unsafe { self.load(c[r]) };
            let [lost, factor] = factors(r).map(|factor| self.simd.splat_f32s(factor));
            for v in 0..V {
                let added = multiply_add(self.simd, lost, row[v], sums[r][v]);
                sums[r][v] = multiply_add(self.simd, factor, row[v], added);
            }
        }
    }

    /// The block on the diagonal, whose first column is k and whose first row of b is `b`.
    #[inline(always)]
    unsafe fn diagonal<T: Shape>(&self, sums: &mut Sums<S, R, V>, b: *const f32, ldb: isize, k: isize) {
        if !T::TRIANGULAR {
            return;
        }
        for s in 0..R - T::AFTER {
            let row = if T::IN_PLACE {
                sums[s]
            } else {
                // SAFETY: b has as many rows as the triangle has columns.
                unsafe { self.load(b.wrapping_offset(s as isize * ldb)) }
            };
            for (r, sums) in sums.iter_mut().enumerate().skip(s + T::AFTER) {
                // SAFETY: column k + s of row r is in the triangle.
                unsafe { self.step(sums, r, (k + s as isize) * self.ak, &row) };
            }
        }
    }

    #[inline(always)]
    unsafe fn store(&self, sums: &Sums<S, R, V>, c: &[*mut f32; R]) {
        for (row, c) in sums.iter().zip(c) {
            for (v, x) in row.iter().enumerate() {
                // SAFETY: the caller vouches for the tile's rows of c.
                unsafe {
                    if MASKED {
                        self.simd.mask_store_ptr_f32s(self.mask, *c, *x);
                    } else {
                        c.add(v * S::F32_LANES).cast::<S::f32s>().write_unaligned(*x);
                    }
                }
            }
        }
    }
}

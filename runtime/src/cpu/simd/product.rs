//! Products: which register tile goes where.
//!
//! ```text
//! for every panel of columns, widest first          as many vectors as fill the registers, the last one masked
//!     for every block of rows: a tile               a triangular one ends on its diagonal block
//! ```
//! Rows that do not fill a tile: a full product takes a smaller tile whose missing rows repeat the last one (the same
//! numbers are written twice); a triangular one takes tiles of 4, 2 and 1 rows.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::tile::Tile;
use super::vector::Column;

/// The operands of a product: first elements and strides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub c: *mut f32,
    pub ldc: isize,
    pub a: *const f32,
    pub am: isize,
    pub ak: isize,
    pub b: *const f32,
    pub ldb: isize,
    pub add: bool,
    /// What each row of c is multiplied by before it is added to.
    pub scale: Option<Scale>,
}

/// A factor a row, and what it lost when it was rounded: factor c + (lost c + what is added).
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub lost: *const f32,
    pub factor: *const f32,
    pub stride: isize,
}

impl Scale {
    /// The same from row `row` on.
    #[inline(always)]
    pub(super) fn at(self, row: isize) -> Scale {
        let [lost, factor] = [self.lost, self.factor].map(|first| first.wrapping_offset(row * self.stride));
        Scale { lost, factor, ..self }
    }

    /// What the first row's factor lost, and the factor.
    ///
    /// # Safety
    /// They may be read.
    #[inline(always)]
    pub(super) unsafe fn first(self) -> [f32; 2] {
        // SAFETY: the caller vouches for them.
        unsafe { [*self.lost, *self.factor] }
    }
}

impl Operands {
    /// The same from row `row` of c and column `column` on. Wrapping, since of nothing there may be no such element.
    #[inline(always)]
    pub(super) fn at(self, row: isize, column: isize) -> Operands {
        Operands {
            c: self.c.wrapping_offset(row * self.ldc + column),
            a: self.a.wrapping_offset(row * self.am),
            b: self.b.wrapping_offset(column),
            scale: self.scale.map(|scale| scale.at(row)),
            ..self
        }
    }
}

/// What of a and c counts.
pub(super) trait Shape: 'static {
    /// Row i ends on the diagonal of a.
    const TRIANGULAR: bool = false;
    /// Row s of a diagonal block reaches the rows from s + AFTER on.
    const AFTER: usize = 0;
    /// b is c itself, which grows row by row.
    const IN_PLACE: bool = false;
    /// What is above the diagonal of c is not needed.
    const LOWER_OUT: bool = false;
}

pub(super) struct Full;

impl Shape for Full {}

pub(super) struct Lower;

impl Shape for Lower {
    const TRIANGULAR: bool = true;
}

pub(super) struct StrictlyLower;

impl Shape for StrictlyLower {
    const TRIANGULAR: bool = true;
    const AFTER: usize = 1;
}

pub(super) struct LowerOut;

impl Shape for LowerOut {
    const LOWER_OUT: bool = true;
}

/// One system of a substitution as a product: c and b are x, a is p.
pub(super) struct Substitution;

impl Shape for Substitution {
    const TRIANGULAR: bool = true;
    const AFTER: usize = 1;
    const IN_PLACE: bool = true;
}

/// c[m,n] (+)= sum over k of a[m,k] b[k,n].
pub(super) struct Product<T> {
    at: Operands,
    /// m, n, k.
    size: [isize; 3],
    shape: PhantomData<T>,
}

impl<T> Product<T> {
    /// # Safety
    /// The operands of m, n and k may be read and c be written, until the value was run; c is apart from a and b.
    pub(super) unsafe fn new(at: Operands, size: [isize; 3]) -> Self {
        Product { at, size, shape: PhantomData }
    }
}

impl<T: Shape> WithSimd for Product<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product { at, size: [m, n, k], .. } = self;
        if n == 1 && m > 1 && !T::TRIANGULAR && at.scale.is_none() {
            return Column { at, m, k }.run(simd);
        }
        let mut panels = Panels::<S, T> { simd, at, m, n, k, column: 0, shape: PhantomData };
        if S::REGISTER_COUNT >= 32 {
            if !T::LOWER_OUT {
                // Narrow panels follow the diagonal of c more closely.
                panels.wide::<6, 4>();
            }
            panels.wide::<8, 2>();
        } else {
            panels.wide::<6, 2>();
        }
        panels.wide::<8, 1>();
        if panels.column < n {
            panels.panel::<8, 1, true>();
        }
    }
}

struct Panels<S, T> {
    simd: S,
    at: Operands,
    m: isize,
    n: isize,
    k: isize,
    /// The first column that is still to do.
    column: isize,
    shape: PhantomData<T>,
}

impl<S: Simd, T: Shape> Panels<S, T> {
    /// Panels of V whole vectors, as long as there are columns for them.
    #[inline(always)]
    fn wide<const R: usize, const V: usize>(&mut self) {
        while self.column + (V * S::F32_LANES) as isize <= self.n {
            self.panel::<R, V, false>();
            self.column += (V * S::F32_LANES) as isize;
        }
    }

    #[inline(always)]
    fn panel<const R: usize, const V: usize, const MASKED: bool>(&self) {
        let mut row = 0;
        if T::LOWER_OUT {
            // Blocks wholly above the diagonal are not needed.
            row = self.column - self.column % R as isize;
        }
        if T::TRIANGULAR {
            let end = if T::IN_PLACE { self.m } else { self.m.min(self.k) };
            while row + R as isize <= end {
                row = self.diagonal::<R, V, MASKED>(row);
            }
            while row + 4 <= end {
                row = self.diagonal::<4, V, MASKED>(row);
            }
            while row + 2 <= end {
                row = self.diagonal::<2, V, MASKED>(row);
            }
            if row < end {
                row = self.diagonal::<1, V, MASKED>(row);
            }
        }
        if T::IN_PLACE {
            return;
        }
        while row + R as isize <= self.m {
            self.tile::<R, V, MASKED, Full>(row, self.k);
            row += R as isize;
        }
        match self.m - row {
            ..=0 => {}
            1 => self.tile::<1, V, MASKED, Full>(row, self.k),
            2 => self.tile::<2, V, MASKED, Full>(row, self.k),
            3 | 4 => self.tile::<4, V, MASKED, Full>(row, self.k),
            _ => self.tile::<R, V, MASKED, Full>(row, self.k),
        }
    }

    /// A tile on the diagonal; gives the row after it.
    #[inline(always)]
    fn diagonal<const R: usize, const V: usize, const MASKED: bool>(&self, row: isize) -> isize {
        self.tile::<R, V, MASKED, T>(row, row);
        row + R as isize
    }

    /// A tile over the first k rows of b, and its diagonal if it has one.
    #[inline(always)]
    fn tile<const R: usize, const V: usize, const MASKED: bool, K: Shape>(&self, row: isize, k: isize) {
        let at = self.at.at(row, self.column);
        let size = [self.m - row, self.n - self.column, k];
        // SAFETY: a tile of the operands that this value was made for.
        Simd::vectorize(self.simd, unsafe { Tile::<R, V, MASKED, K>::new(at, size) });
    }
}

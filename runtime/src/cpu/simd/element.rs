//! Element by element: functions of one to three operands over tiles, row after row in order, so that a row may read what
//! the row before it wrote.
//!
//! ```text
//! dst[i, j] = f(a[i, j], b[i, j], ..)        for j < min(columns, diagonal + i)
//! ```
//! An operand's row lies together (`lane` 1) or is one number (`lane` 0), which is then read once a row. Nothing beyond a
//! row's end is read or written.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::function::{Unary, first, multiply_add, value};

/// A function of N arguments on vectors.
pub(super) trait Element<const N: usize>: 'static {
    fn of<S: Simd>(simd: S, x: [S::f32s; N]) -> S::f32s;
}

impl<F: Unary> Element<1> for F {
    #[inline(always)]
    fn of<S: Simd>(simd: S, [x]: [S::f32s; 1]) -> S::f32s {
        value::<S, F>(simd, x)
    }
}

/// Names functions as types, so that a loop is compiled for each.
macro_rules! elements {
    ($($name:ident: |$simd:ident, [$($x:ident),+]| $value:expr;)*) => {
        $(
            pub(super) struct $name;

            impl Element<{ [$(stringify!($x)),+].len() }> for $name {
                #[inline(always)]
                fn of<S: Simd>($simd: S, [$($x),+]: [S::f32s; { [$(stringify!($x)),+].len() }]) -> S::f32s {
                    $value
                }
            }
        )*
    };
}

elements! {
    Copy: |_s, [x]| x;
    Neg: |s, [x]| s.neg_f32s(x);
    Abs: |s, [x]| s.abs_f32s(x);
    Relu: |s, [x]| s.select_f32s(s.less_than_f32s(x, s.splat_f32s(0.0)), s.splat_f32s(0.0), x);
    ExpOfRest: |s, [x]| s.select_f32s(near(s, x), s.add_f32s(x, s.splat_f32s(1.0)), x);
    RestLost: |s, [x]| {
        let one = s.splat_f32s(1.0);
        let kept = s.sub_f32s(s.add_f32s(x, one), one);
        s.select_f32s(near(s, x), s.sub_f32s(x, kept), s.splat_f32s(0.0))
    };
    Add: |s, [x, y]| s.add_f32s(x, y);
    Sub: |s, [x, y]| s.sub_f32s(x, y);
    Mul: |s, [x, y]| s.mul_f32s(x, y);
    Div: |s, [x, y]| s.div_f32s(x, y);
    Min: |s, [x, y]| chosen(s, s.less_than_f32s(x, y), x, y);
    Max: |s, [x, y]| chosen(s, s.greater_than_f32s(x, y), x, y);
    Lt: |s, [x, y]| truth(s, s.less_than_f32s(x, y));
    Le: |s, [x, y]| truth(s, s.less_than_or_equal_f32s(x, y));
    Gt: |s, [x, y]| truth(s, s.greater_than_f32s(x, y));
    Ge: |s, [x, y]| truth(s, s.greater_than_or_equal_f32s(x, y));
    Eq: |s, [x, y]| truth(s, s.equal_f32s(x, y));
    MulAdd: |s, [x, y, z]| multiply_add(s, x, y, z);
    Select: |s, [x, y, z]| s.select_f32s(s.equal_f32s(x, s.splat_f32s(0.0)), z, y);
}

/// Whether a rest is one of 1.
#[inline(always)]
fn near<S: Simd>(s: S, rest: S::f32s) -> S::m32s {
    s.less_than_f32s(rest, s.splat_f32s(0.0))
}

/// x where it is chosen, else y; NaN where either is.
#[inline(always)]
fn chosen<S: Simd>(s: S, x_is: S::m32s, x: S::f32s, y: S::f32s) -> S::f32s {
    s.select_f32s(s.equal_f32s(x, x), s.select_f32s(x_is, x, y), x)
}

/// 1 where a condition holds, else 0.
#[inline(always)]
fn truth<S: Simd>(s: S, holds: S::m32s) -> S::f32s {
    s.select_f32s(holds, s.splat_f32s(1.0), s.splat_f32s(0.0))
}

/// Where the elements of an operand lie, in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    pub at: *const f32,
    pub row: isize,
    /// 0 or 1.
    pub lane: isize,
}

/// Which elements of a tile count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub rows: isize,
    pub columns: isize,
    /// Row i has min(columns, diagonal + i) of them.
    pub diagonal: isize,
}

impl Extent {
    #[inline(always)]
    pub(super) fn columns(&self, row: isize) -> isize {
        self.columns.min(self.diagonal + row)
    }
}

/// dst = E(operands).
pub(super) struct Elements<E, const N: usize> {
    dst: *mut f32,
    ldd: isize,
    operands: [Operand; N],
    extent: Extent,
    function: PhantomData<E>,
}

impl<E, const N: usize> Elements<E, N> {
    /// # Safety
    /// The elements within the extent may be read and, of dst, written, until the value was run.
    pub(super) unsafe fn new(dst: *mut f32, ldd: isize, operands: [Operand; N], extent: Extent) -> Self {
        Elements { dst, ldd, operands, extent, function: PhantomData }
    }
}

impl<E: Element<N>, const N: usize> WithSimd for Elements<E, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.extent = self.joined(S::F32_LANES as isize);
        let mut numbers = 0;
        for (k, operand) in self.operands.iter().enumerate() {
            numbers |= usize::from(operand.lane == 0) << k;
        }
        match numbers {
            0 => self.tile::<S, 0>(simd),
            1 => self.tile::<S, 1>(simd),
            2 if N > 1 => self.tile::<S, 2>(simd),
            4 if N > 2 => self.tile::<S, 4>(simd),
            _ => self.tile::<S, ANY>(simd),
        }
    }
}

/// Which operands are numbers is not known before.
const ANY: usize = usize::MAX;

impl<E: Element<N>, const N: usize> Elements<E, N> {
    /// Rows that lie one after the other everywhere as one row. Rows shorter than a vector stay: an operand may be the row
    /// that was written before.
    #[inline(always)]
    fn joined(&self, lanes: isize) -> Extent {
        let Extent { rows, columns, diagonal } = self.extent;
        let whole = rows > 1 && columns >= lanes && diagonal >= columns && self.ldd == columns;
        let joins = |operand: &Operand| operand.row == operand.lane * columns;
        if !(whole && self.operands.iter().all(joins)) {
            return self.extent;
        }
        Extent { rows: 1, columns: rows * columns, diagonal: rows * columns }
    }

    /// Whether operand k is a number.
    #[inline(always)]
    fn is_number<const NUMBERS: usize>(&self, k: usize) -> bool {
        if NUMBERS == ANY { self.operands[k].lane == 0 } else { NUMBERS >> k & 1 == 1 }
    }

    /// The whole tile, where the operands among NUMBERS (a bit each) are numbers and the others rows.
    #[inline(always)]
    fn tile<S: Simd, const NUMBERS: usize>(&self, simd: S) {
        for row in 0..self.extent.rows {
            let n = self.extent.columns(row);
            if n > 0 {
                // SAFETY: the row has n elements of dst and of each operand.
                unsafe { self.row::<S, NUMBERS>(simd, row, n) };
            }
        }
    }

    /// The n > 0 elements of a row.
    #[inline(always)]
    unsafe fn row<S: Simd, const NUMBERS: usize>(&self, simd: S, row: isize, n: isize) {
        let lanes = S::F32_LANES as isize;
        let dst = self.dst.wrapping_offset(row * self.ldd);
        let mut from = [dst.cast_const(); N];
        let mut x = [simd.splat_f32s(0.0); N];
        for (k, operand) in self.operands.iter().enumerate() {
            from[k] = operand.at.wrapping_offset(row * operand.row);
            if self.is_number::<NUMBERS>(k) {
                // SAFETY: the caller vouches for the row's first element.
                x[k] = simd.splat_f32s(unsafe { *from[k] });
            }
        }
        let mut i = 0;
        // SAFETY: the caller vouches for n elements of the rows; the mask leaves out what is beyond.
        unsafe {
            while i + lanes <= n {
                for (k, x) in x.iter_mut().enumerate() {
                    if !self.is_number::<NUMBERS>(k) {
                        *x = from[k].offset(i).cast::<S::f32s>().read_unaligned();
                    }
                }
                dst.offset(i).cast::<S::f32s>().write_unaligned(E::of(simd, x));
                i += lanes;
            }
            if i < n {
                let mask = first::<S>(simd, n - i);
                for (k, x) in x.iter_mut().enumerate() {
                    if !self.is_number::<NUMBERS>(k) {
                        *x = simd.mask_load_ptr_f32s(mask, from[k].offset(i));
                    }
                }
                simd.mask_store_ptr_f32s(mask, dst.offset(i), E::of(simd, x));
            }
        }
    }
}

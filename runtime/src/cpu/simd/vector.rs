//! A product of one column: sums along the rows of a, or a product of one row where a lies the other way.

use pulp::Simd;

use super::function::{first, multiply_add};
use super::product::{Full, Operands, Product};

/// c[m] (+)= sum over k of a[m,k] b[k].
pub(super) struct Column {
    pub at: Operands,
    pub m: isize,
    pub k: isize,
}

/// Elements of a copy that lies together.
const COPY: usize = 64;
/// Rows that are summed at once.
const ROWS: usize = 4;

impl Column {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        if self.at.ak == 1 { self.along(simd) } else { self.across(simd) }
    }

    /// Sums along rows whose elements lie together, a run of k at a time.
    #[inline(always)]
    fn along<S: Simd>(self, simd: S) {
        let Column { at, m, k } = self;
        let mut copy = [0f32; COPY];
        let mut from = 0;
        loop {
            let terms = (k - from).min(COPY as isize);
            let mut b = at.b.wrapping_offset(from * at.ldb);
            if at.ldb != 1 {
                for i in 0..terms {
                    // SAFETY: row from + i of b is the product's.
                    copy[i as usize] = unsafe { *b.offset(i * at.ldb) };
                }
                b = copy.as_ptr();
            }
            let run = Run { a: at.a.wrapping_offset(from), am: at.am, b, terms, c: at.c, ldc: at.ldc };
            let add = at.add || from > 0;
            let mut row = 0;
            while row + ROWS as isize <= m {
                run.rows::<S, ROWS>(simd, row, add);
                row += ROWS as isize;
            }
            while row < m {
                run.rows::<S, 1>(simd, row, add);
                row += 1;
            }
            from += terms;
            if from >= k {
                break;
            }
        }
    }

    /// c' = b' a': a product of one row, in a copy of c where its elements lie apart.
    #[inline(always)]
    fn across<S: Simd>(self, simd: S) {
        let Column { at, m, k } = self;
        if at.am != 1 {
            // Neither way do elements of a lie together.
            return self.scattered();
        }
        let turned = Operands { a: at.b, am: 0, ak: at.ldb, b: at.a, ldb: at.ak, ..at };
        if at.ldc == 1 {
            // SAFETY: the same operands the other way around.
            return Simd::vectorize(simd, unsafe { Product::<Full>::new(Operands { ldc: 0, ..turned }, [1, m, k]) });
        }
        let mut copy = [0f32; COPY];
        let mut from = 0;
        while from < m {
            let rows = (m - from).min(COPY as isize);
            let c = at.c.wrapping_offset(from * at.ldc);
            let part = Operands { c: copy.as_mut_ptr(), ldc: 0, b: at.a.wrapping_offset(from), add: false, ..turned };
            // SAFETY: some rows of the operands, into a copy that holds as many.
            Simd::vectorize(simd, unsafe { Product::<Full>::new(part, [1, rows, k]) });
            for i in 0..rows {
                // SAFETY: row from + i of c is the product's.
                unsafe {
                    let c = c.offset(i * at.ldc);
                    *c = if at.add { *c } else { 0.0 } + copy[i as usize];
                }
            }
            from += rows;
        }
    }

    #[inline(always)]
    fn scattered(self) {
        let Column { at, m, k } = self;
        for row in 0..m {
            let mut sum = 0.0;
            for i in 0..k {
                // SAFETY: these elements are the product's.
                sum += unsafe { *at.a.offset(row * at.am + i * at.ak) * *at.b.offset(i * at.ldb) };
            }
            // SAFETY: row `row` of c is the product's.
            unsafe {
                let c = at.c.offset(row * at.ldc);
                *c = if at.add { *c } else { 0.0 } + sum;
            }
        }
    }
}

/// A run of terms: both factors lie together.
struct Run {
    a: *const f32,
    am: isize,
    b: *const f32,
    terms: isize,
    c: *mut f32,
    ldc: isize,
}

impl Run {
    /// c of R rows from `row` on.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&self, simd: S, row: isize, add: bool) {
        let lanes = S::F32_LANES as isize;
        let mut sums = [simd.splat_f32s(0.0); R];
        let mut i = 0;
        // SAFETY: terms i .. i + lanes of b and of R rows of a are the product's; the mask leaves out what is beyond; so
        // are the rows of c.
        unsafe {
            while i + lanes <= self.terms {
                let b = self.b.offset(i).cast::<S::f32s>().read_unaligned();
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = self.a.offset((row + r as isize) * self.am + i).cast::<S::f32s>().read_unaligned();
                    *sum = multiply_add(simd, a, b, *sum);
                }
                i += lanes;
            }
            if i < self.terms {
                let mask = first::<S>(simd, self.terms - i);
                let b = simd.mask_load_ptr_f32s(mask, self.b.offset(i));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = simd.mask_load_ptr_f32s(mask, self.a.offset((row + r as isize) * self.am + i));
                    *sum = multiply_add(simd, a, b, *sum);
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                let c = self.c.offset((row + r as isize) * self.ldc);
                *c = if add { *c } else { 0.0 } + simd.reduce_sum_f32s(*sum);
            }
        }
    }
}

//! Forward substitutions. One system is a product in place, tile by tile; several go by blocks of rows: first what the
//! rows above a block give, as products, then the block row by row.

use pulp::{Simd, WithSimd};

use super::product::{Full, Operands, Product, Substitution};

/// Rows of a block.
const BLOCK: isize = 8;

/// A matrix operand as it stands in a table.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    at: *mut f32,
    strides: [isize; 2],
}

/// Matrices of a table: an address and so many strides each.
#[derive(Clone, Copy)]
pub(super) struct Matrices<'t> {
    table: &'t [i64],
    strides: usize,
}

impl Matrix {
    /// Tiles whose last stride is 1: an address and a stride each.
    pub(super) fn rows(table: &[i64]) -> Matrices<'_> {
        Matrices { table, strides: 1 }
    }

    /// Tiles of an address and two strides each.
    pub(super) fn tiles(table: &[i64]) -> Matrices<'_> {
        Matrices { table, strides: 2 }
    }

    #[inline(always)]
    fn from(self, row: isize, column: isize) -> *mut f32 {
        self.at.wrapping_offset(row * self.strides[0] + column * self.strides[1])
    }
}

impl Matrices<'_> {
    fn count(&self) -> usize {
        self.table.len() / (1 + self.strides)
    }

    #[inline(always)]
    fn get(&self, i: usize) -> Matrix {
        let row = &self.table[i * (1 + self.strides)..][..1 + self.strides];
        let last = if self.strides == 2 { row[2] as isize } else { 1 };
        Matrix { at: row[0] as usize as *mut f32, strides: [row[1] as isize, last] }
    }
}

/// For t = 0, 1, ..: x_i[t] += sum over j and s < t of p_ij[t,s] x_j[s].
pub(super) struct Solve<'t> {
    pub x: Matrices<'t>,
    /// Row-major.
    pub p: Matrices<'t>,
    pub n: isize,
    pub columns: isize,
}

impl WithSimd for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.x.count() == 1 {
            let at = self.operands([0, 0], [0, 0]);
            // SAFETY: the system that this value was made for.
            return Simd::vectorize(simd, unsafe { Product::<Substitution>::new(at, [self.n, self.columns, 0]) });
        }
        let mut block = 0;
        while block < self.n {
            let rows = BLOCK.min(self.n - block);
            self.add(simd, [block, rows], [0, block]);
            for row in block + 1..block + rows {
                self.add(simd, [row, 1], [block, row - block]);
            }
            block += rows;
        }
    }
}

impl Solve<'_> {
    /// Adds to `rows` rows from `to` on what `terms` rows from `from` on give, for every pair of systems.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, [to, rows]: [isize; 2], [from, terms]: [isize; 2]) {
        if terms == 0 {
            return;
        }
        for i in 0..self.x.count() {
            for j in 0..self.x.count() {
                let at = self.operands([i, j], [to, from]);
                // SAFETY: rows of the systems that this value was made for, apart from those that they are added to.
                Simd::vectorize(simd, unsafe { Product::<Full>::new(at, [rows, self.columns, terms]) });
            }
        }
    }

    /// x_i from row `to` on += p_ij x_j from row `from` on.
    #[inline(always)]
    fn operands(&self, [i, j]: [usize; 2], [to, from]: [isize; 2]) -> Operands {
        let (c, a, b) = (self.x.get(i), self.p.get(i * self.x.count() + j), self.x.get(j));
        Operands {
            c: c.from(to, 0),
            ldc: c.strides[0],
            a: a.from(to, from),
            am: a.strides[0],
            ak: a.strides[1],
            b: b.from(from, 0),
            ldb: b.strides[0],
            add: true,
            scale: None,
        }
    }
}

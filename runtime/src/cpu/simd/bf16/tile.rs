//! The register tile of packed operands: R rows by V vectors of sums.
//!
//! ```text
//! for every pair along k: V vectors of pairs of b, one pair of a for every row, a fused step of two terms each
//! the diagonal block of a triangular product, unpacked and in f32
//! c += sums                          or c = sums: the first run of a product that overwrites
//! ```
//! Rows that do not fill a tile repeat the last one: the same numbers are written twice. Since packed terms end before
//! a tile's diagonal block, nothing above the diagonal of a counts, nor do rows of b that only later rows take.

use std::arch::x86_64::*;

use super::pack::{Rows, first, whole};
use crate::cpu::simd::product::Operands;

/// Numbers in a vector of f32, or pairs in one of bf16.
pub(super) const VECTOR: isize = 16;

/// Some columns of a block of rows: what a packed block of a and a packed panel of b add to c.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The operands from the block's first row and the panel's first column on, and the first row of b.
    pub at: Operands,
    pub a: Rows,
    pub b: *const u32,
    pub columns: isize,
    /// The block's first row.
    pub row: isize,
    /// The first term that is packed, and how many are.
    pub from: isize,
    pub depth: isize,
    /// All terms.
    pub k: isize,
    /// Of a triangular a: row s of a diagonal block reaches the rows from s + this on.
    pub diagonal: Option<isize>,
}

impl Panel {
    /// Rows `start` to `end` of the block, the first of them even where a is triangular.
    ///
    /// # Safety
    /// The operands hold these rows and the panel's columns, and are packed.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn run(&self, [start, end]: [isize; 2]) {
        // SAFETY: the caller vouches for the operands; V vectors hold the panel's columns.
        unsafe {
            match (self.columns + VECTOR - 1) / VECTOR {
                1 => self.rows::<1>(start, end),
                2 => self.rows::<2>(start, end),
                3 => self.rows::<3>(start, end),
                _ => self.rows::<4>(start, end),
            }
        }
    }

    /// The same with V vectors of columns.
    ///
    /// # Safety
    /// As `run`; the panel's columns lie in V vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn rows<const V: usize>(&self, start: isize, end: isize) {
        let mut row = start;
        while row < end {
            // SAFETY: the rows from `row` to `end` are there.
            unsafe {
                row += match end - row {
                    1 | 2 => self.tile::<2, V>([row, end]),
                    3 | 4 => self.tile::<4, V>([row, end]),
                    _ => self.tile::<6, V>([row, end]),
                };
            }
        }
    }

    /// The tile that begins at row `row`; gives its number of rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn tile<const R: usize, const V: usize>(&self, [row, end]: [isize; 2]) -> isize {
        let above = self.row + row;
        let terms = match self.diagonal {
            Some(_) => self.depth.min(above - self.from),
            None => self.depth,
        };
        if terms <= 0 && self.from > 0 {
            return R as isize;
        }
        let mut rows = [row; R];
        for (r, place) in (0..).zip(&mut rows) {
            *place = (row + r).min(end - 1);
        }
        let tile = Tile::<R, V> { panel: self, rows, mask: first(self.columns - (V as isize - 1) * VECTOR) };
        // SAFETY: `terms` terms are packed, and the caller vouches for the rows.
        unsafe {
            let mut sums = tile.sums((terms + 1) / 2);
            if let (Some(after), 0) = (self.diagonal, self.from) {
                tile.diagonal(&mut sums, above, after);
            }
            tile.store(&mut sums);
        }
        R as isize
    }
}

/// c + sum, or with factors [lost, factor]: factor c + (lost c + sum).
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn joined(c: __m512, factors: Option<[f32; 2]>, sum: __m512) -> __m512 {
    let Some([lost, factor]) = factors.map(|factors| factors.map(|factor| _mm512_set1_ps(factor))) else {
        return _mm512_add_ps(c, sum);
    };
    _mm512_fmadd_ps(factor, c, _mm512_fmadd_ps(lost, c, sum))
}

type Sums<const R: usize, const V: usize> = [[__m512; V]; R];

struct Tile<'a, const R: usize, const V: usize> {
    panel: &'a Panel,
    /// The block's rows that are the tile's.
    rows: [isize; R],
    /// Columns of the last vector.
    mask: __mmask16,
}

impl<const R: usize, const V: usize> Tile<'_, R, V> {
    /// The sums over the first `pairs` pairs.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn sums(&self, pairs: isize) -> Sums<R, V> {
        let Rows { first, row, pair } = self.panel.a;
        let a = self.rows.map(|r| first.wrapping_offset(r * row));
        let stride = whole(self.panel.columns);
        let mut b = self.panel.b;
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let mut across = 0;
        for _ in 0..pairs {
            // SAFETY: these pairs of a and b are packed.
            unsafe {
                let mut columns = [_mm512_setzero_si512(); V];
                for (v, pairs) in columns.iter_mut().enumerate() {
                    *pairs = _mm512_load_si512(b.add(v * VECTOR as usize).cast());
                }
                for (a, sums) in a.iter().zip(&mut sums) {
                    let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(a.offset(across).read() as i32));
                    for v in 0..V {
                        sums[v] = _mm512_dpbf16_ps(sums[v], x, std::mem::transmute::<__m512i, __m512bh>(columns[v]));
                    }
                }
            }
            b = b.wrapping_offset(stride);
            across += pair;
        }
        sums
    }

    /// The block on the diagonal, whose first row of the product is `above`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn diagonal(&self, sums: &mut Sums<R, V>, above: isize, after: isize) {
        let Panel { at, row: first, k, .. } = *self.panel;
        for s in above..k.min(above + R as isize) {
            // SAFETY: b has a row s, and column s of the rows that take it is in the triangle.
            unsafe {
                let row = self.load(at.b.wrapping_offset(s * at.ldb));
                for (i, sums) in self.rows.iter().zip(&mut *sums) {
                    if first + i >= s + after {
                        let x = _mm512_set1_ps(*at.a.wrapping_offset(i * at.am + s * at.ak));
                        for v in 0..V {
                            sums[v] = _mm512_fmadd_ps(x, row[v], sums[v]);
                        }
                    }
                }
            }
        }
    }

    /// Adds to c what stands there, if that counts, and stores.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn store(&self, sums: &mut Sums<R, V>) {
        let Operands { c, ldc, add, scale, .. } = self.panel.at;
        let c = self.rows.map(|r| c.wrapping_offset(r * ldc));
        if add || self.panel.from > 0 {
            // What the first run has scaled stays as it is.
            let scale = scale.filter(|_| self.panel.from == 0);
            for ((c, sums), i) in c.iter().zip(&mut *sums).zip(self.rows) {
                // SAFETY: the caller vouches for the tile's rows of c, and for a factor of each.
                let (row, factors) = unsafe { (self.load(*c), scale.map(|scale| scale.at(i).first())) };
                for v in 0..V {
                    sums[v] = joined(row[v], factors, sums[v]);
                }
            }
        }
        for (c, sums) in c.iter().zip(&*sums) {
            for (v, x) in sums.iter().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let to = c.add(v * VECTOR as usize);
                    match v + 1 == V && self.mask != __mmask16::MAX {
                        true => _mm512_mask_storeu_ps(to, self.mask, *x),
                        false => _mm512_storeu_ps(to, *x),
                    }
                }
            }
        }
    }

    /// V vectors of f32, the last one masked.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn load(&self, from: *const f32) -> [__m512; V] {
        let mut row = [_mm512_setzero_ps(); V];
        for (v, x) in row.iter_mut().enumerate() {
            let mask = if v + 1 == V { self.mask } else { __mmask16::MAX };
            // SAFETY: the caller vouches for what the masks hold.
            *x = unsafe { _mm512_maskz_loadu_ps(mask, from.add(v * VECTOR as usize)) };
        }
        row
    }
}

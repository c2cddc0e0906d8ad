//! Copies of tiles that lie another way: dst[i, j] = a[i ar + j al], in blocks that fit in registers where ar is 1.
//!
//! ```text
//! a block: rows of a, as many as a vector has lanes, are loaded, turned by shuffles and stored as rows of dst
//! ```
//! At the edges masks leave out what is beyond.

use super::element::Extent;

/// Where the copy's elements lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub dst: *mut f32,
    pub ldd: isize,
    pub a: *const f32,
    pub lda: isize,
}

impl Tile {
    /// The block whose first element is dst[i, j].
    #[inline(always)]
    fn at(self, i: isize, j: isize) -> Tile {
        Tile { dst: self.dst.wrapping_offset(i * self.ldd + j), a: self.a.wrapping_offset(j * self.lda + i), ..self }
    }

    /// dst[i, j] = a[i + j lda], element by element.
    ///
    /// # Safety
    /// The tile's elements may be read and written, and dst is apart from a.
    #[inline(always)]
    pub(super) unsafe fn plain(self, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements.
        unsafe { each(self.dst, self.ldd, self.a, [1, self.lda], Extent { rows, columns, diagonal: columns }) };
    }

    /// All blocks of N x N, each by `block(tile, rows, columns)` with 1..=N of both.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    fn blocks<const N: isize>(self, rows: isize, columns: isize, block: impl Fn(Tile, isize, isize)) {
        let mut j = 0;
        while j < columns {
            let mut i = 0;
            while i < rows {
                block(self.at(i, j), (rows - i).min(N), (columns - j).min(N));
                i += N;
            }
            j += N;
        }
    }
}

/// dst[i, j] = a[i across[0] + j across[1]].
///
/// # Safety
/// The elements within the extent may be read and written, and dst is apart from a.
#[inline(always)]
pub(super) unsafe fn each(dst: *mut f32, ldd: isize, a: *const f32, across: [isize; 2], extent: Extent) {
    for i in 0..extent.rows {
        for j in 0..extent.columns(i) {
            // SAFETY: the caller vouches for the elements.
            unsafe { *dst.offset(i * ldd + j) = *a.offset(i * across[0] + j * across[1]) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use wide::{eight, sixteen};

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::Tile;

    /// By blocks of 16 x 16.
    ///
    /// # Safety
    /// As `Tile::plain`; the processor has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn sixteen(tile: Tile, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements and the instruction set; blocks lie within the tile.
        tile.blocks::<16>(rows, columns, |tile, rows, columns| unsafe { block_of_sixteen(tile, rows, columns) });
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn block_of_sixteen(tile: Tile, rows: isize, columns: isize) {
        let mask = |n: isize| ((1u32 << n) - 1) as __mmask16;
        let mut x = [_mm512_setzero_ps(); 16];
        for (j, x) in x.iter_mut().enumerate().take(columns as usize) {
            // SAFETY: the mask keeps to the elements of row j of a.
            *x = unsafe { _mm512_maskz_loadu_ps(mask(rows), tile.a.wrapping_offset(j as isize * tile.lda)) };
        }
        let mut y = x;
        for i in 0..8 {
            y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..4 {
            x[4 * i] = _mm512_shuffle_ps::<0x44>(y[4 * i], y[4 * i + 2]);
            x[4 * i + 1] = _mm512_shuffle_ps::<0xee>(y[4 * i], y[4 * i + 2]);
            x[4 * i + 2] = _mm512_shuffle_ps::<0x44>(y[4 * i + 1], y[4 * i + 3]);
            x[4 * i + 3] = _mm512_shuffle_ps::<0xee>(y[4 * i + 1], y[4 * i + 3]);
        }
        // x[4 g + r] holds, of rows 4 g .. 4 g + 4, column r of every quarter.
        for r in 0..4 {
            let low = [x[r], x[4 + r]];
            let high = [x[8 + r], x[12 + r]];
            let (a, b) = (_mm512_shuffle_f32x4::<0x88>(low[0], low[1]), _mm512_shuffle_f32x4::<0x88>(high[0], high[1]));
            let (c, d) = (_mm512_shuffle_f32x4::<0xdd>(low[0], low[1]), _mm512_shuffle_f32x4::<0xdd>(high[0], high[1]));
            y[r] = _mm512_shuffle_f32x4::<0x88>(a, b);
            y[8 + r] = _mm512_shuffle_f32x4::<0xdd>(a, b);
            y[4 + r] = _mm512_shuffle_f32x4::<0x88>(c, d);
            y[12 + r] = _mm512_shuffle_f32x4::<0xdd>(c, d);
        }
        for (i, y) in y.iter().enumerate().take(rows as usize) {
            // SAFETY: the mask keeps to the elements of row i of dst.
            unsafe { _mm512_mask_storeu_ps(tile.dst.wrapping_offset(i as isize * tile.ldd), mask(columns), *y) };
        }
    }

    /// By blocks of 8 x 8.
    ///
    /// # Safety
    /// As `Tile::plain`; the processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn eight(tile: Tile, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements and the instruction set; blocks lie within the tile.
        tile.blocks::<8>(rows, columns, |tile, rows, columns| unsafe { block_of_eight(tile, rows, columns) });
    }

    #[target_feature(enable = "avx2")]
    unsafe fn block_of_eight(tile: Tile, rows: isize, columns: isize) {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = |n: isize| _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane);
        let mut x = [_mm256_setzero_ps(); 8];
        for (j, x) in x.iter_mut().enumerate().take(columns as usize) {
            // SAFETY: the mask keeps to the elements of row j of a.
            *x = unsafe { _mm256_maskload_ps(tile.a.wrapping_offset(j as isize * tile.lda), mask(rows)) };
        }
        let mut y = x;
        for i in 0..4 {
            y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..2 {
            x[4 * i] = _mm256_shuffle_ps::<0x44>(y[4 * i], y[4 * i + 2]);
            x[4 * i + 1] = _mm256_shuffle_ps::<0xee>(y[4 * i], y[4 * i + 2]);
            x[4 * i + 2] = _mm256_shuffle_ps::<0x44>(y[4 * i + 1], y[4 * i + 3]);
            x[4 * i + 3] = _mm256_shuffle_ps::<0xee>(y[4 * i + 1], y[4 * i + 3]);
        }
        for r in 0..4 {
            y[r] = _mm256_permute2f128_ps::<0x20>(x[r], x[4 + r]);
            y[4 + r] = _mm256_permute2f128_ps::<0x31>(x[r], x[4 + r]);
        }
        for (i, y) in y.iter().enumerate().take(rows as usize) {
            // SAFETY: the mask keeps to the elements of row i of dst.
            unsafe { _mm256_maskstore_ps(tile.dst.wrapping_offset(i as isize * tile.ldd), mask(columns), *y) };
        }
    }
}

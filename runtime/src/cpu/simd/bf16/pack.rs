//! Packing: f32 in memory to pairs of bf16 along k.

use std::arch::x86_64::*;

use super::tile::VECTOR;

/// A packed block of a: the pair of columns 2p and 2p + 1 of row i is at `first[i * row + p * pair]`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub first: *const u32,
    pub row: isize,
    pub pair: isize,
}

impl Rows {
    /// Packs `rows` by `depth` elements with these strides into `to`. The last pair of an odd depth ends in 0.
    ///
    /// # Safety
    /// The elements may be read; of `to` as many pairs may be written, both numbers rounded up to whole vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pack(a: *const f32, [am, ak]: [isize; 2], [rows, depth]: [isize; 2], to: *mut u32) -> Rows {
        if am == 1 && ak != 1 {
            // SAFETY: the caller vouches for both.
            unsafe { interleave(a, ak, [depth, rows], to) };
            return Rows { first: to, row: 1, pair: whole(rows) };
        }
        let row = whole((depth + 1) / 2);
        for i in 0..rows {
            // SAFETY: the caller vouches for every row.
            unsafe { pairs(a.wrapping_offset(i * am), ak, depth, to.wrapping_offset(i * row)) };
        }
        Rows { first: to, row, pair: 1 }
    }
}

/// So many elements as whole vectors.
pub(super) fn whole(n: isize) -> isize {
    (n + VECTOR - 1) / VECTOR * VECTOR
}

/// The mask of the first `n` lanes, none below 0, all from 16 on.
pub(super) fn first(n: isize) -> __mmask16 {
    ((1u32 << n.clamp(0, VECTOR)) - 1) as __mmask16
}

/// One row: neighbours along k become a pair.
///
/// # Safety
/// As `Rows::pack`, of one row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pairs(a: *const f32, ak: isize, depth: isize, to: *mut u32) {
    for from in (0..depth).step_by(2 * VECTOR as usize) {
        let left = depth - from;
        let a = a.wrapping_offset(from * ak);
        // SAFETY: `left` elements are there; the vector written holds a pair that the caller vouches for.
        unsafe {
            let [low, high] = if ak == 1 {
                [0, VECTOR].map(|at| _mm512_maskz_loadu_ps(first(left - at), a.wrapping_offset(at)))
            } else {
                scattered(a, ak, left)
            };
            let pairs = _mm512_cvtne2ps_pbh(high, low);
            to.offset(from / 2).cast::<__m512bh>().write_unaligned(pairs);
        }
    }
}

/// 32 elements at a stride, zeros after the first `n`.
///
/// # Safety
/// The first `n` may be read.
#[target_feature(enable = "avx512f")]
unsafe fn scattered(a: *const f32, stride: isize, n: isize) -> [__m512; 2] {
    let mut elements = [0.0f32; 2 * VECTOR as usize];
    for (i, element) in elements.iter_mut().enumerate().take(n as usize) {
        // SAFETY: the caller vouches for the first n.
        *element = unsafe { *a.offset(i as isize * stride) };
    }
    // SAFETY: the array holds two vectors.
    unsafe { [_mm512_loadu_ps(elements.as_ptr()), _mm512_loadu_ps(elements.as_ptr().add(VECTOR as usize))] }
}

/// As `pairs` of `rows` rows that lie side by side (row i begins at a[i]), in blocks of vectors that are turned. Rows
/// of zeros fill up the last block.
///
/// # Safety
/// As `Rows::pack`, with the number of rows rounded up to whole vectors too.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn turned(a: *const f32, ak: isize, [rows, depth]: [isize; 2], to: *mut u32) -> Rows {
    let order = interleaved();
    let row = whole((depth + 1) / 2);
    for i in (0..rows).step_by(VECTOR as usize) {
        let mask = first(rows - i);
        for p in (0..row).step_by(VECTOR as usize) {
            let mut block = [_mm512_setzero_si512(); VECTOR as usize];
            for (q, pairs) in (p..(depth + 1) / 2).zip(&mut block) {
                let low = a.wrapping_offset(2 * q * ak + i);
                let two = 2 * q + 1 < depth;
                // SAFETY: the masks hold what is there of both terms, the second one only if there is one.
                *pairs = unsafe { paired([low, low.wrapping_offset(ak)], [mask, if two { mask } else { 0 }], order) };
            }
            for (r, pairs) in (0..).zip(turn(&block)) {
                // SAFETY: the caller vouches for whole vectors of rows and of pairs.
                unsafe { to.offset((i + r) * row + p).cast::<__m512i>().write_unaligned(pairs) };
            }
        }
    }
    Rows { first: to, row, pair: 1 }
}

/// Column i as vector i.
#[target_feature(enable = "avx512f")]
fn turn(block: &[__m512i; 16]) -> [__m512i; 16] {
    let mut quads = *block;
    for four in quads.chunks_exact_mut(4) {
        let [low, high] = [0, 2].map(|r| _mm512_unpacklo_epi32(four[r], four[r + 1]));
        let [low_after, high_after] = [0, 2].map(|r| _mm512_unpackhi_epi32(four[r], four[r + 1]));
        four[0] = _mm512_unpacklo_epi64(low, high);
        four[1] = _mm512_unpackhi_epi64(low, high);
        four[2] = _mm512_unpacklo_epi64(low_after, high_after);
        four[3] = _mm512_unpackhi_epi64(low_after, high_after);
    }
    // Now lane l of vector 4 g + j holds column 4 l + j of rows 4 g to 4 g + 3.
    let mut columns = *block;
    for j in 0..4 {
        let [even, even_after] = [0, 8].map(|g| _mm512_shuffle_i32x4::<0x88>(quads[g + j], quads[g + 4 + j]));
        let [odd, odd_after] = [0, 8].map(|g| _mm512_shuffle_i32x4::<0xdd>(quads[g + j], quads[g + 4 + j]));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even, even_after);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd_after);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even_after);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_after);
    }
    columns
}

/// `depth` rows of `columns` neighbours: the pair of rows 2p and 2p + 1 in column j goes to `to[p * whole(columns) + j]`.
/// The last pair of an odd depth ends in 0, and zeros fill up the last vector.
///
/// # Safety
/// The elements may be read; of `to` half as many whole vectors a row may be written.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn interleave(b: *const f32, ldb: isize, [depth, columns]: [isize; 2], to: *mut u32) {
    let order = interleaved();
    let stride = whole(columns);
    for p in 0..(depth + 1) / 2 {
        let low = b.wrapping_offset(2 * p * ldb);
        let high = low.wrapping_offset(ldb);
        let to = to.wrapping_offset(p * stride);
        let two = 2 * p + 1 < depth;
        for column in (0..columns).step_by(VECTOR as usize) {
            let mask = first(columns - column);
            let both = [low, high].map(|row| row.wrapping_offset(column));
            // SAFETY: the masks hold what is there of both rows, the second one only if there is one.
            unsafe {
                let pairs = paired(both, [mask, if two { mask } else { 0 }], order);
                to.offset(column).cast::<__m512i>().write_unaligned(pairs);
            }
        }
    }
}

/// What the masks hold of two rows, as pairs of neighbours below each other; `order` is `interleaved`.
///
/// # Safety
/// What the masks hold may be read.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
unsafe fn paired([low, high]: [*const f32; 2], [first, second]: [__mmask16; 2], order: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the elements; both forms of the halves are 64 bytes.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first, low);
        let high = _mm512_maskz_loadu_ps(second, high);
        _mm512_permutexvar_epi16(order, std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)))
    }
}

/// 0, 16, 1, 17 and so on: halves of a vector to pairs.
#[target_feature(enable = "avx512f")]
fn interleaved() -> __m512i {
    let mut order = [0u16; 2 * VECTOR as usize];
    for (i, place) in (0u16..).zip(&mut order) {
        *place = i / 2 + i % 2 * VECTOR as u16;
    }
    // SAFETY: both are 64 bytes without a meaning of their own.
    unsafe { std::mem::transmute(order) }
}

//! Tiles of packed operands: 32 rows by 32 columns of sums in four tile registers, 32 terms a step.
//!
//! ```text
//! tiles 0 to 3: sums, from c or from 0
//! for every 16 pairs along k: two tiles of a (16 rows of 16 pairs), two of b (16 pairs by 16 columns), four steps
//! stored in c                        or, at edges and where c is scaled, in a buffer that vectors add to c
//! the diagonal block of a triangular product in f32, by the exact micro-kernels
//! ```
//! Tiles are always whole: packs are zero beyond the last term, and what lies beyond the last row or column of a pack
//! only reaches sums that nobody reads. Since blocks of rows begin at multiples of 32, packed terms of a triangular
//! product end with a step, before its diagonal block: no step reads what is above the diagonal of a, nor rows of b
//! that only later rows take.
//!
//! Seen to run under Linux 6.1 on an emulated Sapphire Rapids (Bochs 3.0), every test of products in bf16; not yet on a
//! processor, so the sizes of blocks, which are those of `vdpbf16ps`, are not tuned for it, and no times are known.
//!
//! Not done: the diagonal blocks of triangular products in tiles too. Half of a product of 64 rows lies in them, but a
//! step takes 32 terms, some of which are NaN to some of its rows.
//!
//! Not here: the instructions themselves (`processor`), and a model of them for tests (`model`).

#[cfg(test)]
mod model;
mod processor;

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::pack::{self, Rows, first, whole};
use super::tile::{Panel, VECTOR, joined};
use super::{Engine, entry};
use crate::cpu::simd::product::{Operands, Scale, Shape};

#[cfg(test)]
pub(super) use model::Model;
pub(super) use processor::{Processor, permitted};

/// Rows and columns of a block of sums, and terms of a step.
const BLOCK: isize = 32;

/// What multiplies one block of sums.
pub(super) trait Instructions: 'static {
    const NAME: &'static str;
    /// What a thread holds while it uses tiles.
    type Session;

    fn session() -> Self::Session;

    /// c (+)= a b.
    ///
    /// # Safety
    /// The block's operands may be read and its sums written; the thread holds a session.
    unsafe fn multiply(block: Block);
}

/// A block of sums, 32 by 32. Strides are in bytes, between rows.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// 32 rows of pairs, 16 a step.
    a: *const u32,
    across: isize,
    /// 16 rows of 32 pairs a step.
    b: *const u32,
    down: isize,
    /// At least 1.
    steps: isize,
    c: *mut f32,
    below: isize,
    /// Whether the sums begin with c, rather than with 0.
    add: bool,
}

/// Bytes of a pair, or of a sum.
const BYTES: isize = 4;

/// The engine of tiles.
pub(super) struct Amx<I>(PhantomData<I>);

impl<I: Instructions> Engine for Amx<I> {
    const NAME: &'static str = I::NAME;
    type Session = I::Session;

    fn session() -> I::Session {
        I::session()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack(a: *const f32, [am, ak]: [isize; 2], size: [isize; 2], to: *mut u32) -> Rows {
        // SAFETY: the caller vouches for both.
        unsafe {
            match am == 1 && ak != 1 {
                true => pack::turned(a, ak, size, to),
                false => Rows::pack(a, [am, ak], size, to),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn interleave(b: *const f32, ldb: isize, [depth, columns]: [isize; 2], to: *mut u32) {
        let (pairs, stride) = ((depth + 1) / 2, whole(columns));
        // SAFETY: the caller vouches for both, and for whole vectors of pairs.
        unsafe {
            pack::interleave(b, ldb, [depth, columns], to);
            to.offset(pairs * stride).write_bytes(0, ((whole(pairs) - pairs) * stride) as usize);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn panel<T: Shape>(panel: &Panel, [start, end]: [isize; 2]) {
        for row in (start..end).step_by(BLOCK as usize) {
            let strip = Strip::<I> { panel, row, rows: BLOCK.min(end - row), instructions: PhantomData };
            // SAFETY: the strip's rows are the panel's.
            unsafe { strip.run::<T>() };
        }
    }
}

/// Up to 32 rows of a panel.
struct Strip<'a, I> {
    panel: &'a Panel,
    /// The block's first row that is the strip's.
    row: isize,
    rows: isize,
    instructions: PhantomData<I>,
}

impl<I: Instructions> Strip<'_, I> {
    /// What the panel's terms add to the strip's rows of c.
    ///
    /// # Safety
    /// As `Engine::panel`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn run<T: Shape>(&self) {
        let Panel { row, from, depth, columns, .. } = *self.panel;
        let above = row + self.row;
        let terms = if T::TRIANGULAR { depth.min(above - from) } else { depth };
        // SAFETY: the terms are packed, and the caller vouches for the rows.
        unsafe {
            if terms > 0 {
                for column in (0..columns).step_by(BLOCK as usize) {
                    self.block(column, (terms + BLOCK - 1) / BLOCK);
                }
            }
            if T::TRIANGULAR && from == 0 {
                self.diagonal::<T>(above, terms > 0);
            }
        }
    }

    /// The block of sums that begins at column `column`.
    ///
    /// # Safety
    /// As `run`; so many steps are packed.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn block(&self, column: isize, steps: isize) {
        let Panel { at, a, b, columns, from, .. } = *self.panel;
        let columns_here = BLOCK.min(columns - column);
        let c = at.c.wrapping_offset(self.row * at.ldc + column);
        let add = at.add || from > 0;
        // What the first run has scaled stays as it is.
        let scale = at.scale.filter(|_| from == 0 && add);
        let block = Block {
            a: a.first.wrapping_offset(self.row * a.row),
            across: a.row * BYTES,
            b: b.wrapping_offset(column),
            down: whole(columns) * BYTES,
            steps,
            c,
            below: at.ldc * BYTES,
            add,
        };
        if self.rows == BLOCK && columns_here == BLOCK && scale.is_none() {
            // SAFETY: 32 rows of 32 elements of c are there, and the operands are packed.
            return unsafe { I::multiply(block) };
        }
        let mut sums = MaybeUninit::<Sums>::uninit();
        // SAFETY: the buffer holds a block, which is written before it is read.
        let sums = unsafe {
            I::multiply(Block { c: sums.as_mut_ptr().cast(), below: BLOCK * BYTES, add: false, ..block });
            sums.assume_init_ref()
        };
        let scale = scale.map(|scale| scale.at(self.row));
        let edge = Edge { c, ldc: at.ldc, rows: self.rows, columns: columns_here, add, scale };
        // SAFETY: the caller vouches for these rows and columns of c, and for a factor of each row.
        unsafe { edge.join(sums) };
    }

    /// The block on the diagonal, whose first row of the product is `above`, in f32.
    ///
    /// # Safety
    /// As `run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn diagonal<T: Shape>(&self, above: isize, added: bool) {
        let Panel { at, columns, k, .. } = *self.panel;
        if above >= k {
            return;
        }
        let at = Operands {
            c: at.c.wrapping_offset(self.row * at.ldc),
            a: at.a.wrapping_offset(self.row * at.am + above * at.ak),
            b: at.b.wrapping_offset(above * at.ldb),
            add: at.add || added,
            ..at
        };
        // SAFETY: the block's rows are the strip's, and its terms those of the product from `above` on.
        unsafe { entry::multiply::<pulp::x86::V4, T>(at, [self.rows, columns, self.rows.min(k - above)]) };
    }
}

/// A block of sums beside c.
#[repr(align(64))]
struct Sums([[f32; BLOCK as usize]; BLOCK as usize]);

/// What of a block is there, and how it is joined to c.
struct Edge {
    c: *mut f32,
    ldc: isize,
    rows: isize,
    columns: isize,
    add: bool,
    /// What each row of c is multiplied by before it is added to.
    scale: Option<Scale>,
}

impl Edge {
    /// c = sums, c = c + sums, or that with c multiplied first.
    ///
    /// # Safety
    /// The rows and columns of c may be read and written, and the factors of each row read.
    #[target_feature(enable = "avx512f")]
    unsafe fn join(&self, sums: &Sums) {
        for (i, row) in (0..self.rows).zip(&sums.0) {
            // SAFETY: the caller vouches for the factors.
            let factors = self.scale.map(|scale| unsafe { scale.at(i).first() });
            for (column, sums) in (0..self.columns).step_by(VECTOR as usize).zip(row.chunks_exact(VECTOR as usize)) {
                let (c, mask) = (self.c.wrapping_offset(i * self.ldc + column), first(self.columns - column));
                // SAFETY: the mask holds what is there of c, and of the sums there is a vector.
                unsafe {
                    let mut x = _mm512_loadu_ps(sums.as_ptr());
                    if self.add {
                        x = joined(_mm512_maskz_loadu_ps(mask, c), factors, x);
                    }
                    _mm512_mask_storeu_ps(c, mask, x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

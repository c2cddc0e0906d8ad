//! Products of operands rounded to bf16, with sums in f32: which blocks are packed, and which tile goes where.
//!
//! ```text
//! for every block of rows of a, for every run of k           the block of a is packed (`pack`)
//!     for every panel of columns                             the panel of b is packed
//!         for every few rows: a tile (`tile`, `amx`)         a triangular one ends on its diagonal block, in f32
//! ```
//! Packed operands are pairs along k in 32 bits, the first of a pair in the lower half, a pair of b a column apart: the
//! layout that `vdpbf16ps` and `tdpbf16ps` read. Both are rounded to nearest even; subnormal numbers count as 0.
//! Which of the two multiplies is an `Engine`; the best one that the processor has is taken.
//!
//! Not here: forward substitutions and products too small to be worth packing, which are those of `product`.

mod amx;
mod pack;
mod tile;

use std::cell::RefCell;

use super::Table;
use super::entry;
use super::product::{Full, Lower, LowerOut, Operands, Scale, Shape, StrictlyLower};
use pack::Rows;
use tile::{Panel, VECTOR};

/// Rows of a in a block, its columns, and columns of b in a panel: a panel stays in the innermost cache, a block in the
/// next.
const ROWS: isize = 128;
const DEPTH: isize = 256;
const WIDTH: isize = 64;

/// Panels of a product whose upper triangle is not needed: narrow ones follow the diagonal of c more closely.
const WIDTH_LOWER_OUT: isize = 32;

/// Products of fewer rows, columns or terms gain nothing.
const SMALLEST: [isize; 3] = [4, 16, 16];

/// A cache line of packed pairs.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read through pointers")] [u32; VECTOR as usize]);

/// Lines of a packed block of a, and of a packed panel of b.
const LINES_A: usize = (ROWS * DEPTH / 2 / VECTOR) as usize;
const LINES_B: usize = (DEPTH * WIDTH / 2 / VECTOR) as usize;

thread_local! {
    /// Where operands are packed; empty until a thread's first product.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// What multiplies packed operands.
trait Engine: 'static {
    /// What processors call it.
    const NAME: &'static str;
    /// What a thread holds while it multiplies.
    type Session;

    fn session() -> Self::Session;

    /// As `Rows::pack`.
    ///
    /// # Safety
    /// As `Rows::pack`, with the number of rows rounded up to whole vectors too.
    unsafe fn pack(a: *const f32, strides: [isize; 2], size: [isize; 2], to: *mut u32) -> Rows;

    /// As `pack::interleave`.
    ///
    /// # Safety
    /// As `pack::interleave`, with the number of pairs along k rounded up to whole vectors too.
    unsafe fn interleave(b: *const f32, ldb: isize, size: [isize; 2], to: *mut u32);

    /// Rows `start` to `end` of the block, the first of them even where a is triangular.
    ///
    /// # Safety
    /// The operands hold these rows and the panel's columns, and are packed by this engine; the thread holds a session.
    unsafe fn panel<T: Shape>(panel: &Panel, rows: [isize; 2]);
}

/// Vectors of AVX-512.
struct Avx512;

impl Engine for Avx512 {
    const NAME: &'static str = "avx512_bf16";
    type Session = ();

    fn session() {}

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack(a: *const f32, strides: [isize; 2], size: [isize; 2], to: *mut u32) -> Rows {
        // SAFETY: the caller vouches for both.
        unsafe { Rows::pack(a, strides, size, to) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn interleave(b: *const f32, ldb: isize, size: [isize; 2], to: *mut u32) {
        // SAFETY: the caller vouches for both.
        unsafe { pack::interleave(b, ldb, size, to) };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn panel<T: Shape>(panel: &Panel, rows: [isize; 2]) {
        // SAFETY: the caller vouches for the operands.
        unsafe { panel.run(rows) };
    }
}

/// The routines of `exact` with products in bf16, by everything that this processor has for them, the best first.
pub(super) fn tables(exact: &Table) -> Vec<Table> {
    let mut all = Vec::new();
    if !pulp::x86::V4::is_available() || !std::arch::is_x86_feature_detected!("avx512bf16") {
        return all;
    }
    if amx::permitted() {
        all.push(table::<amx::Amx<amx::Processor>>(exact));
    }
    all.push(table::<Avx512>(exact));
    #[cfg(test)]
    all.push(table::<amx::Amx<amx::Model>>(exact));
    all
}

fn table<E: Engine>(exact: &Table) -> Table {
    let rounded = |(symbol, address): &(&'static str, *const u8)| {
        let address = match *symbol {
            "product_full" => product::<E, Full> as *const u8,
            "product_scaled" => product_scaled::<E> as *const u8,
            "product_lower" => product::<E, Lower> as *const u8,
            "product_strictly_lower" => product::<E, StrictlyLower> as *const u8,
            "product_lower_out" => product::<E, LowerOut> as *const u8,
            _ => *address,
        };
        (*symbol, address)
    };
    Table { set: E::NAME, routines: exact.routines.iter().map(rounded).collect() }
}

/// c[m,n] (+)= sum over k of a[m,k] b[k,n].
///
/// # Safety
/// As `entry::product`; the processor has the engine.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn product<E: Engine, T: Shape>(
    c: *mut f32,
    ldc: i64,
    a: *const f32,
    am: i64,
    ak: i64,
    b: *const f32,
    ldb: i64,
    m: i64,
    n: i64,
    k: i64,
    add: i64,
) {
    let at = Operands { add: add != 0, ..entry::operands((c, ldc), (a, am, ak), (b, ldb)) };
    // SAFETY: the caller vouches for the operands and the processor.
    unsafe { multiply::<E, T>(at, [m, n, k].map(|x| x as isize)) };
}

/// c[m,n] = factor[m] c[m,n] + (lost[m] c[m,n] + sum over k of a[m,k] b[k,n].
///
/// # Safety
/// As `entry::product_scaled`; the processor has the engine.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn product_scaled<E: Engine>(
    c: *mut f32,
    ldc: i64,
    a: *const f32,
    am: i64,
    ak: i64,
    b: *const f32,
    ldb: i64,
    m: i64,
    n: i64,
    k: i64,
    lost: *const f32,
    stride: i64,
    factor: *const f32,
) {
    let scale = Some(Scale { lost, factor, stride: stride as isize });
    let at = Operands { scale, ..entry::operands((c, ldc), (a, am, ak), (b, ldb)) };
    // SAFETY: the caller vouches for the operands and the processor.
    unsafe { multiply::<E, Full>(at, [m, n, k].map(|x| x as isize)) };
}

/// A product of m, n and k: packed where that is worth it, else in f32.
///
/// # Safety
/// As `product`.
unsafe fn multiply<E: Engine, T: Shape>(at: Operands, size: [isize; 3]) {
    if size.iter().zip(SMALLEST).any(|(size, smallest)| *size < smallest) {
        // SAFETY: the caller vouches for the operands and the processor.
        return unsafe { entry::multiply::<pulp::x86::V4, T>(at, size) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(LINES_A + LINES_B, Line([0; VECTOR as usize]));
        let (a, b) = scratch.split_at_mut(LINES_A);
        let [packed_a, packed_b] = [a, b].map(|lines| lines.as_mut_ptr().cast::<u32>());
        let blocks = Blocks { at, size, packed_a, packed_b };
        let _session = E::session();
        // SAFETY: the caller vouches for the operands and the processor.
        unsafe { blocks.run::<E, T>() };
    });
}

/// A product, and where its operands are packed.
struct Blocks {
    at: Operands,
    /// m, n, k.
    size: [isize; 3],
    packed_a: *mut u32,
    packed_b: *mut u32,
}

impl Blocks {
    /// The whole product.
    ///
    /// # Safety
    /// The operands may be read and c written; the packed ones have `LINES_A` and `LINES_B` lines; the thread holds a
    /// session of the engine.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn run<E: Engine, T: Shape>(&self) {
        let [m, _, k] = self.size;
        for row in (0..m).step_by(ROWS as usize) {
            let rows = ROWS.min(m - row);
            let end = if T::TRIANGULAR { k.min(row + rows) } else { k };
            for from in (0..end).step_by(DEPTH as usize) {
                // SAFETY: the block lies in a, whose rows and columns are the product's.
                unsafe { self.block::<E, T>([row, rows], [from, DEPTH.min(end - from)]) };
            }
        }
    }

    /// What a block of a adds to its rows of c: a first and a number of rows, a first and a number of terms.
    ///
    /// # Safety
    /// As `run`; the block lies in a.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn block<E: Engine, T: Shape>(&self, [row, rows]: [isize; 2], [from, depth]: [isize; 2]) {
        let Operands { am, ak, b, ldb, .. } = self.at;
        let [_, n, k] = self.size;
        let first = self.at.a.wrapping_offset(row * am + from * ak);
        // SAFETY: `rows` by `depth` elements of a are there; packed they fit into a block's lines.
        let a = unsafe { E::pack(first, [am, ak], [rows, depth], self.packed_a) };
        let width = if T::LOWER_OUT { WIDTH_LOWER_OUT } else { WIDTH };
        for column in (0..n).step_by(width as usize) {
            // Rows wholly above the diagonal of c are not needed.
            let start = if T::LOWER_OUT { (column - row).max(0) } else { 0 };
            if start >= rows {
                break;
            }
            let columns = width.min(n - column);
            let b = b.wrapping_offset(from * ldb + column);
            // SAFETY: `depth` rows of b are there, each of `columns` elements; packed they fit into a panel's lines.
            unsafe { E::interleave(b, ldb, [depth, columns], self.packed_b) };
            let diagonal = T::TRIANGULAR.then_some(T::AFTER as isize);
            let at = self.at.at(row, column);
            let panel = Panel { at, a, b: self.packed_b, columns, row, from, depth, k, diagonal };
            // SAFETY: the panel's rows and columns are the product's, and the operands are packed.
            unsafe { E::panel::<T>(&panel, [start, rows]) };
        }
    }
}

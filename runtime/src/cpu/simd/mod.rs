//! Micro-kernels in the widest vectors of this processor, for code that a generator of narrower vectors calls: products,
//! forward substitutions, functions of scalars over rows. Each algorithm is written once, generic over `pulp::Simd`, and
//! compiled for every instruction set; which one is taken is decided once a process.
//!
//! ```text
//! routines   symbol -> address of an `extern "C"` function (`entry`)
//! product    panels of columns, blocks of rows: which tile goes where       tile      the register tile itself
//! solve      blocks of rows: a product with what stands above, then the block
//! sweep      one pass over a tile: an update and reads of it
//! vector     products of one column: sums along rows
//! function   functions of vectors in f32 (`math`), of pairs in f64 (`pair`)
//! element    functions of tiles, element by element      fold   reductions along rows      turn   transposed copies
//! bf16       products of operands rounded to bf16, in place of those above where they are asked for
//! ```
//! Sizes and strides are `i64`, counted in elements; sizes may be 0; f32 is aligned to 4 bytes.
//!
//! | symbol | arguments |
//! | --- | --- |
//! | `product_full`, `product_lower`, `product_strictly_lower`, `product_lower_out` | c, ldc, a, am, ak, b, ldb, m, n, k, add |
//! | `exact_full` and so on | as `product_full`: the products whose operands no precision rounds |
//! | `product_scaled` | c, ldc, a, am, ak, b, ldb, m, n, k, lost, stride, factor |
//! | `solve` | systems, n, columns, table |
//! | `sweep` | rows, columns, ranks, reads, table |
//! | `vector_NAME` of one argument | dst, a, n |
//! | `vector_NAME` of two arguments | dst, a, b, n |
//! | `map_NAME` | dst, ldd, an address and two strides for each of one to three operands, rows, columns, diagonal |
//! | `turn` | as `map_NAME` of one operand, of any strides |
//! | `fold_sum`, `fold_prod`, `fold_max`, `fold_min` | dst, step, a, lda, rows, columns |
//!
//! NAME is a scalar function's name as it is written in a call (`exp`); `^`, `mod` and `div` are `pow`, `mod` and `div`.
//! Not here: what generated code does itself (a few elements at a time), and threads.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod element;
mod entry;
mod fold;
mod function;
mod math;
mod pair;
mod product;
mod solve;
mod sweep;
mod tile;
mod turn;
mod vector;

use std::sync::OnceLock;

use crate::device::Precision;

/// A routine's symbol and its address.
pub type Routine = (&'static str, *const u8);

/// The routines of one instruction set.
struct Table {
    set: &'static str,
    routines: Vec<Routine>,
}

// SAFETY: the addresses are those of functions, which live as long as the process and change nothing of their own.
unsafe impl Send for Table {}
// SAFETY: as above; a table is never written after it was made.
unsafe impl Sync for Table {}

/// Symbol and address of every routine for this processor. Where it has no products of bf16, those of f32 stand in.
pub fn routines(precision: Precision) -> &'static [Routine] {
    let rounded = if precision == Precision::Bf16 { rounded() } else { None };
    &rounded.unwrap_or_else(chosen).routines
}

/// What multiplies numbers of bf16 here, if anything does: `amx_bf16` or `avx512_bf16`.
pub fn bf16_instructions() -> Option<&'static str> {
    rounded().map(|table| table.set)
}

/// The instruction set that was taken: `avx512`, `avx2+fma`, `neon` or `portable`.
pub fn instruction_set() -> &'static str {
    chosen().set
}

fn chosen() -> &'static Table {
    static CHOSEN: OnceLock<Table> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let [make, ..] = &available()[..] else { unreachable!("the portable set runs everywhere") };
        make()
    })
}

/// The chosen table with products of bf16.
fn rounded() -> Option<&'static Table> {
    static ROUNDED: OnceLock<Option<Table>> = OnceLock::new();
    let make = || {
        #[cfg(target_arch = "x86_64")]
        return bf16::tables(chosen()).into_iter().next();
        #[cfg(not(target_arch = "x86_64"))]
        None
    };
    ROUNDED.get_or_init(make).as_ref()
}

/// The tables that this processor can run, the best first.
fn available() -> Vec<fn() -> Table> {
    let mut all: Vec<fn() -> Table> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            all.push(entry::table::<pulp::x86::V4>);
        }
        if pulp::x86::V3::is_available() {
            all.push(entry::table::<pulp::x86::V3>);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if pulp::aarch64::Neon::is_available() {
        all.push(entry::table::<pulp::aarch64::Neon>);
    }
    all.push(entry::table::<pulp::Scalar128b>);
    all
}

#[cfg(test)]
mod tests;

//! The `extern "C"` functions that generated code calls, one instance an instruction set, and their table.

use std::slice;

use pulp::Simd;

use super::Table;
use super::function::{Each, Unary};
use super::math;
use super::pair::{self, Binary, Pairs};
use super::product::{Full, Lower, LowerOut, Operands, Product, Shape, StrictlyLower};
use super::solve::{Matrix, Solve};

/// An instruction set, and how to say that this processor has it.
pub(super) trait Set: Simd {
    const NAME: &'static str;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn taken() -> Self;
}

#[cfg(target_arch = "x86_64")]
impl Set for pulp::x86::V4 {
    const NAME: &'static str = "avx512";

    #[inline(always)]
    unsafe fn taken() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::new_unchecked() }
    }
}

#[cfg(target_arch = "x86_64")]
impl Set for pulp::x86::V3 {
    const NAME: &'static str = "avx2+fma";

    #[inline(always)]
    unsafe fn taken() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::new_unchecked() }
    }
}

#[cfg(target_arch = "aarch64")]
impl Set for pulp::aarch64::Neon {
    const NAME: &'static str = "neon";

    #[inline(always)]
    unsafe fn taken() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::new_unchecked() }
    }
}

impl Set for pulp::Scalar128b {
    const NAME: &'static str = "portable";

    #[inline(always)]
    unsafe fn taken() -> Self {
        pulp::Scalar128b
    }
}

/// Every routine of a set. Its addresses may be called only where the processor has the set.
pub(super) fn table<S: Set>() -> Table {
    let routines = vec![
        ("product_full", product::<S, Full> as *const u8),
        ("product_lower", product::<S, Lower> as *const u8),
        ("product_strictly_lower", product::<S, StrictlyLower> as *const u8),
        ("product_lower_out", product::<S, LowerOut> as *const u8),
        ("solve", solve::<S> as *const u8),
        ("vector_exp", unary::<S, math::Exp> as *const u8),
        ("vector_ln", unary::<S, math::Ln> as *const u8),
        ("vector_sqrt", unary::<S, math::Sqrt> as *const u8),
        ("vector_rsqrt", unary::<S, math::Rsqrt> as *const u8),
        ("vector_elu", unary::<S, math::Elu> as *const u8),
        ("vector_silu", unary::<S, math::Silu> as *const u8),
        ("vector_gelu", unary::<S, math::Gelu> as *const u8),
        ("vector_sigmoid", unary::<S, math::Sigmoid> as *const u8),
        ("vector_logsigmoid", unary::<S, math::LogSigmoid> as *const u8),
        ("vector_softplus", unary::<S, math::Softplus> as *const u8),
        ("vector_tanh", unary::<S, math::Tanh> as *const u8),
        ("vector_sin", unary::<S, math::Sin> as *const u8),
        ("vector_cos", unary::<S, math::Cos> as *const u8),
        ("vector_pow", binary::<S, pair::Pow> as *const u8),
        ("vector_mod", binary::<S, pair::Mod> as *const u8),
        ("vector_div", binary::<S, pair::FloorDiv> as *const u8),
    ];
    Table { set: S::NAME, routines }
}

/// c[m,n] (+)= sum over k of a[m,k] b[k,n].
///
/// # Safety
/// The operands lie in memory that the caller may read and write, c apart from a and b; the processor has the set.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn product<S: Set, T: Shape>(
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
    // SAFETY: a table is made for a processor that has its set.
    let simd = unsafe { S::taken() };
    let at =
        Operands { c, ldc: ldc as isize, a, am: am as isize, ak: ak as isize, b, ldb: ldb as isize, add: add != 0 };
    let product = Product::<T>::new(at, [m, n, k].map(|x| x as isize));
    Simd::vectorize(simd, product);
}

/// Forward substitution in place, of `systems` systems of `n` rows.
///
/// # Safety
/// The table holds an address and a row stride for every x, then an address and two strides for every p; what they
/// describe may be read, and the x be written; the processor has the set.
unsafe extern "C" fn solve<S: Set>(systems: i64, n: i64, columns: i64, table: *const i64) {
    // SAFETY: a table is made for a processor that has its set.
    let simd = unsafe { S::taken() };
    let systems = systems as usize;
    if systems == 0 {
        return;
    }
    // SAFETY: the table holds two numbers a system and three a pair of systems.
    let table = unsafe { slice::from_raw_parts(table, systems * 2 + systems * systems * 3) };
    let (x, p) = table.split_at(systems * 2);
    Simd::vectorize(simd, Solve { x: Matrix::rows(x), p: Matrix::tiles(p), n: n as isize, columns: columns as isize });
}

/// dst[i] = f(a[i]).
///
/// # Safety
/// `n` elements of a may be read, those of dst written; they are the same or apart; the processor has the set.
unsafe extern "C" fn unary<S: Set, F: Unary>(dst: *mut f32, a: *const f32, n: i64) {
    // SAFETY: a table is made for a processor that has its set.
    let simd = unsafe { S::taken() };
    Simd::vectorize(simd, Each::<F>::new(dst, a, n as isize));
}

/// dst[i] = f(a[i], b[i]).
///
/// # Safety
/// `n` elements of a and b may be read, those of dst written; each is dst or apart; the processor has the set.
unsafe extern "C" fn binary<S: Set, F: Binary>(dst: *mut f32, a: *const f32, b: *const f32, n: i64) {
    // SAFETY: a table is made for a processor that has its set.
    let simd = unsafe { S::taken() };
    Simd::vectorize(simd, Pairs::<F>::new(dst, [a, b], n as isize));
}

//! The `extern "C"` functions that generated code calls, one instance an instruction set, and their table.

use std::slice;

use pulp::Simd;

use super::element::{self, Element, Elements, Extent, Operand};
use super::fold::{Fold, Joint};
use super::function::{Each, Unary};
use super::math;
use super::pair::{self, Binary, Pairs};
use super::product::{Full, Lower, LowerOut, Operands, Product, Scale, Shape, StrictlyLower};
use super::solve::{Matrix, Solve};
use super::sweep::{ALL, GIVEN_BACK, Outer, Rows, SCALED, Sweep};
use super::turn::{self, Tile};
use super::{Routine, Table};

/// An instruction set, and how to say that this processor has it.
pub(super) trait Set: Simd {
    const NAME: &'static str;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn taken() -> Self;

    /// dst[i, j] = a[i + j lda].
    ///
    /// # Safety
    /// The tile's elements may be read and written, dst is apart from a, and the processor has the instruction set.
    unsafe fn turn(tile: Tile, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements.
        unsafe { tile.plain(rows, columns) };
    }
}

#[cfg(target_arch = "x86_64")]
impl Set for pulp::x86::V4 {
    const NAME: &'static str = "avx512";

    #[inline(always)]
    unsafe fn taken() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::new_unchecked() }
    }

    unsafe fn turn(tile: Tile, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements and the instruction set.
        unsafe { turn::sixteen(tile, rows, columns) };
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

    unsafe fn turn(tile: Tile, rows: isize, columns: isize) {
        // SAFETY: the caller vouches for the elements and the instruction set.
        unsafe { turn::eight(tile, rows, columns) };
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
    let mut routines = vec![
        ("product_full", product::<S, Full> as *const u8),
        ("product_scaled", product_scaled::<S> as *const u8),
        ("product_lower", product::<S, Lower> as *const u8),
        ("product_strictly_lower", product::<S, StrictlyLower> as *const u8),
        ("product_lower_out", product::<S, LowerOut> as *const u8),
        ("exact_full", product::<S, Full> as *const u8),
        ("exact_lower", product::<S, Lower> as *const u8),
        ("exact_strictly_lower", product::<S, StrictlyLower> as *const u8),
        ("exact_lower_out", product::<S, LowerOut> as *const u8),
        ("solve", solve::<S> as *const u8),
        ("sweep", sweep::<S> as *const u8),
        ("vector_exp", unary::<S, math::Exp> as *const u8),
        ("vector_exp_rest", unary::<S, math::ExpRest> as *const u8),
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
    routines.extend(tiles::<S>());
    Table { set: S::NAME, routines }
}

/// The routines on tiles.
fn tiles<S: Set>() -> Vec<Routine> {
    vec![
        ("map_copy", map_one::<S, element::Copy> as *const u8),
        ("map_neg", map_one::<S, element::Neg> as *const u8),
        ("map_abs", map_one::<S, element::Abs> as *const u8),
        ("map_relu", map_one::<S, element::Relu> as *const u8),
        ("map_exp", map_one::<S, math::Exp> as *const u8),
        ("map_exp_rest", map_one::<S, math::ExpRest> as *const u8),
        ("map_exp_of_rest", map_one::<S, element::ExpOfRest> as *const u8),
        ("map_rest_lost", map_one::<S, element::RestLost> as *const u8),
        ("map_ln", map_one::<S, math::Ln> as *const u8),
        ("map_sqrt", map_one::<S, math::Sqrt> as *const u8),
        ("map_rsqrt", map_one::<S, math::Rsqrt> as *const u8),
        ("map_elu", map_one::<S, math::Elu> as *const u8),
        ("map_silu", map_one::<S, math::Silu> as *const u8),
        ("map_gelu", map_one::<S, math::Gelu> as *const u8),
        ("map_sigmoid", map_one::<S, math::Sigmoid> as *const u8),
        ("map_logsigmoid", map_one::<S, math::LogSigmoid> as *const u8),
        ("map_softplus", map_one::<S, math::Softplus> as *const u8),
        ("map_tanh", map_one::<S, math::Tanh> as *const u8),
        ("map_sin", map_one::<S, math::Sin> as *const u8),
        ("map_cos", map_one::<S, math::Cos> as *const u8),
        ("map_add", map_two::<S, element::Add> as *const u8),
        ("map_sub", map_two::<S, element::Sub> as *const u8),
        ("map_mul", map_two::<S, element::Mul> as *const u8),
        ("map_div", map_two::<S, element::Div> as *const u8),
        ("map_min", map_two::<S, element::Min> as *const u8),
        ("map_max", map_two::<S, element::Max> as *const u8),
        ("map_lt", map_two::<S, element::Lt> as *const u8),
        ("map_le", map_two::<S, element::Le> as *const u8),
        ("map_gt", map_two::<S, element::Gt> as *const u8),
        ("map_ge", map_two::<S, element::Ge> as *const u8),
        ("map_eq", map_two::<S, element::Eq> as *const u8),
        ("map_mul_add", map_three::<S, element::MulAdd> as *const u8),
        ("map_select", map_three::<S, element::Select> as *const u8),
        ("turn", turned::<S> as *const u8),
        ("fetch", fetch as *const u8),
        ("fold_sum", fold::<S, element::Add> as *const u8),
        ("fold_prod", fold::<S, element::Mul> as *const u8),
        ("fold_max", fold::<S, element::Max> as *const u8),
        ("fold_min", fold::<S, element::Min> as *const u8),
    ]
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
    let at = Operands { add: add != 0, ..operands((c, ldc), (a, am, ak), (b, ldb)) };
    // SAFETY: the caller vouches for the operands and the processor.
    unsafe { multiply::<S, T>(at, [m, n, k].map(|x| x as isize)) };
}

/// c[m,n] = factor[m] c[m,n] + (lost[m] c[m,n] + sum over k of a[m,k] b[k,n]).
///
/// # Safety
/// As `product`; every row has its two factors, `stride` elements from those before, apart from c.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn product_scaled<S: Set>(
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
    let at = Operands { scale, ..operands((c, ldc), (a, am, ak), (b, ldb)) };
    // SAFETY: the caller vouches for the operands and the processor.
    unsafe { multiply::<S, Full>(at, [m, n, k].map(|x| x as isize)) };
}

/// A product of m, n and k in f32.
///
/// # Safety
/// As `product`.
pub(super) unsafe fn multiply<S: Set, T: Shape>(at: Operands, size: [isize; 3]) {
    // SAFETY: the caller vouches for the operands and the processor.
    let (simd, product) = unsafe { (S::taken(), Product::<T>::new(at, size)) };
    Simd::vectorize(simd, product);
}

/// Operands of a product that adds to c.
pub(super) fn operands(
    (c, ldc): (*mut f32, i64),
    (a, am, ak): (*const f32, i64, i64),
    (b, ldb): (*const f32, i64),
) -> Operands {
    let [ldc, am, ak, ldb] = [ldc, am, ak, ldb].map(|x| x as isize);
    Operands { c, ldc, a, am, ak, b, ldb, add: true, scale: None }
}

/// A hint that rows of `columns` elements of a are wanted soon. They need not be in any memory.
extern "C" fn fetch(a: *const f32, lda: i64, rows: i64, columns: i64, written: i64) {
    for i in 0..rows as isize {
        for j in (0..columns as isize).step_by(LINE) {
            fetch_line(a.wrapping_offset(i * lda as isize + j), written != 0);
        }
        // A row that starts within a line ends in one more.
        fetch_line(a.wrapping_offset(i * lda as isize + columns as isize - 1), written != 0);
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Into the second level: the first is full of tiles.
#[inline(always)]
fn fetch_line(at: *const f32, written: bool) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint reads nothing, whatever the address.
        unsafe {
            if written {
                _mm_prefetch::<_MM_HINT_ET0>(at.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T1>(at.cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, written);
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

/// One pass over a tile: an update of `ranks` ranks (0 to 2; without any the tile is only read) and 1 or 2 reads; of
/// any other number it does nothing.
///
/// # Safety
/// The table holds an address and a stride for the state, the tile before and the factors kept, then the address of what
/// they lost, whose stride is theirs (0 where there is none); then the address and stride of the factors and the address of
/// the row of every rank and every read. What they describe may be read, the state and the reads' rows be
/// written, and what is written overlaps nothing else but the tile before, which may be the state. The processor has the
/// set.
unsafe extern "C" fn sweep<S: Set>(rows: i64, columns: i64, ranks: i64, reads: i64, table: *const i64) {
    // SAFETY: a table is made for a processor that has its set.
    let simd = unsafe { S::taken() };
    let (Ok(ranks @ 0..=2), Ok(reads @ 1..=2)) = (usize::try_from(ranks), usize::try_from(reads)) else { return };
    // SAFETY: the table holds `KEPT` numbers, and three for every rank and every read.
    let table = unsafe { slice::from_raw_parts(table, KEPT + 3 * (ranks + reads)) };
    let size = [rows as isize, columns as isize];
    match ranks {
        0 => passes::<S, ALL, 0>(simd, table, (size, reads)),
        1 => keeping::<S, 1>(simd, table, (size, reads)),
        _ => keeping::<S, 2>(simd, table, (size, reads)),
    }
}

fn keeping<S: Set, const RANKS: usize>(simd: S, table: &[i64], (size, reads): ([isize; 2], usize)) {
    match [table[4], table[6]] {
        [0, _] => passes::<S, ALL, RANKS>(simd, table, (size, reads)),
        [_, 0] => passes::<S, SCALED, RANKS>(simd, table, (size, reads)),
        [_, _] => passes::<S, GIVEN_BACK, RANKS>(simd, table, (size, reads)),
    }
}

/// What a sweep's table holds before its ranks.
const KEPT: usize = 7;

fn passes<S: Set, const KEEP: u8, const RANKS: usize>(simd: S, table: &[i64], (size, reads): ([isize; 2], usize)) {
    match reads {
        1 => pass::<S, KEEP, RANKS, 1>(simd, table, size),
        _ => pass::<S, KEEP, RANKS, 2>(simd, table, size),
    }
}

fn pass<S: Set, const KEEP: u8, const RANKS: usize, const READS: usize>(
    simd: S,
    table: &[i64],
    [rows, columns]: [isize; 2],
) {
    let tile = |n: usize| Rows { at: table[n] as *mut f32, stride: table[n + 1] as isize };
    let outer = |n: usize| Outer { factors: tile(KEPT + 3 * n), row: table[KEPT + 3 * n + 2] as *mut f32 };
    let ranks = std::array::from_fn(outer);
    let reads = std::array::from_fn(|n| outer(RANKS + n));
    let (state, from, keep, lost) = (tile(0), tile(2), tile(4), table[6] as *const f32);
    let of = Sweep::<KEEP, RANKS, READS> { state, from, keep, lost, ranks, reads, rows, columns };
    Simd::vectorize(simd, of);
}

/// dst[i] = f(a[i]).
///
/// # Safety
/// `n` elements of a may be read, those of dst written; they are the same or apart; the processor has the set.
unsafe extern "C" fn unary<S: Set, F: Unary>(dst: *mut f32, a: *const f32, n: i64) {
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, each) = unsafe { (S::taken(), Each::<F>::new(dst, a, n as isize)) };
    Simd::vectorize(simd, each);
}

/// dst[i] = f(a[i], b[i]).
///
/// # Safety
/// `n` elements of a and b may be read, those of dst written; each is dst or apart; the processor has the set.
unsafe extern "C" fn binary<S: Set, F: Binary>(dst: *mut f32, a: *const f32, b: *const f32, n: i64) {
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, pairs) = unsafe { (S::taken(), Pairs::<F>::new(dst, [a, b], n as isize)) };
    Simd::vectorize(simd, pairs);
}

/// An operand of a map as it is passed.
fn operand(at: *const f32, row: i64, lane: i64) -> Operand {
    Operand { at, row: row as isize, lane: lane as isize }
}

fn extent(rows: i64, columns: i64, diagonal: i64) -> Extent {
    Extent { rows: rows as isize, columns: columns as isize, diagonal: diagonal as isize }
}

/// dst = f(a), element by element.
///
/// # Safety
/// The elements within the extent may be read and written; dst and an operand are apart, or the same element by element,
/// or the operand is a row of dst that an earlier row wrote; the processor has the set.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn map_one<S: Set, E: Element<1>>(
    dst: *mut f32,
    ldd: i64,
    a: *const f32,
    ar: i64,
    al: i64,
    rows: i64,
    columns: i64,
    diagonal: i64,
) {
    let (operands, extent) = ([operand(a, ar, al)], extent(rows, columns, diagonal));
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, elements) = unsafe { (S::taken(), Elements::<E, 1>::new(dst, ldd as isize, operands, extent)) };
    Simd::vectorize(simd, elements);
}

/// dst = f(a, b), element by element.
///
/// # Safety
/// As `map_one`.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn map_two<S: Set, E: Element<2>>(
    dst: *mut f32,
    ldd: i64,
    a: *const f32,
    ar: i64,
    al: i64,
    b: *const f32,
    br: i64,
    bl: i64,
    rows: i64,
    columns: i64,
    diagonal: i64,
) {
    let (operands, extent) = ([operand(a, ar, al), operand(b, br, bl)], extent(rows, columns, diagonal));
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, elements) = unsafe { (S::taken(), Elements::<E, 2>::new(dst, ldd as isize, operands, extent)) };
    Simd::vectorize(simd, elements);
}

/// dst = f(a, b, c), element by element.
///
/// # Safety
/// As `map_one`.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn map_three<S: Set, E: Element<3>>(
    dst: *mut f32,
    ldd: i64,
    a: *const f32,
    ar: i64,
    al: i64,
    b: *const f32,
    br: i64,
    bl: i64,
    c: *const f32,
    cr: i64,
    cl: i64,
    rows: i64,
    columns: i64,
    diagonal: i64,
) {
    let (operands, extent) =
        ([operand(a, ar, al), operand(b, br, bl), operand(c, cr, cl)], extent(rows, columns, diagonal));
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, elements) = unsafe { (S::taken(), Elements::<E, 3>::new(dst, ldd as isize, operands, extent)) };
    Simd::vectorize(simd, elements);
}

/// dst[i, j] = a[i ar + j al].
///
/// # Safety
/// The elements within the extent may be read and written, and dst is apart from a; the processor has the set.
#[allow(clippy::too_many_arguments, reason = "generated code calls it so")]
unsafe extern "C" fn turned<S: Set>(
    dst: *mut f32,
    ldd: i64,
    a: *const f32,
    ar: i64,
    al: i64,
    rows: i64,
    columns: i64,
    diagonal: i64,
) {
    let (ldd, across, extent) = (ldd as isize, [ar as isize, al as isize], extent(rows, columns, diagonal));
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    unsafe {
        if ar == 1 && diagonal >= columns {
            S::turn(Tile { dst, ldd, a, lda: across[1] }, extent.rows, extent.columns);
        } else {
            turn::each(dst, ldd, a, across, extent);
        }
    }
}

/// dst[i] = dst[i] op all a[i, j].
///
/// # Safety
/// The rows of a may be read, and the results read and written, apart from each other; the processor has the set.
unsafe extern "C" fn fold<S: Set, J: Joint>(
    dst: *mut f32,
    step: i64,
    a: *const f32,
    lda: i64,
    rows: i64,
    columns: i64,
) {
    let [step, lda, rows, columns] = [step, lda, rows, columns].map(|x| x as isize);
    // SAFETY: the caller vouches for the elements, and a table is made for a processor that has its set.
    let (simd, fold) = unsafe { (S::taken(), Fold::<J>::new((dst, step), (a, lda), [rows, columns])) };
    Simd::vectorize(simd, fold);
}

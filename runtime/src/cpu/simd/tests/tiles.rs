//! Maps, transposed copies and reductions of tiles, with NaN beyond every row's end.

use super::*;

type One = unsafe extern "C" fn(*mut f32, i64, *const f32, i64, i64, i64, i64, i64);
type Three = unsafe extern "C" fn(
    *mut f32,
    i64,
    *const f32,
    i64,
    i64,
    *const f32,
    i64,
    i64,
    *const f32,
    i64,
    i64,
    i64,
    i64,
    i64,
);
type FoldFn = unsafe extern "C" fn(*mut f32, i64, *const f32, i64, i64, i64);

const SIZES: [usize; 10] = [0, 1, 3, 7, 8, 9, 16, 17, 33, 130];

/// The address of a routine as a function of some signature.
///
/// # Safety
/// The routine has the signature.
unsafe fn at<F: Copy>(table: &Table, name: &str) -> F {
    let address = routine(table, name);
    assert_eq!(size_of::<F>(), size_of::<*const u8>());
    // SAFETY: the sizes agree, and the caller vouches for the signature.
    unsafe { std::mem::transmute_copy(&address) }
}

/// Elements of row i that count.
fn length(i: usize, columns: usize, diagonal: i64) -> usize {
    (diagonal + i as i64).clamp(0, columns as i64) as usize
}

/// A tile of which only what lies in its rows is a number.
fn tile(seed: u64, [rows, columns, row]: [usize; 3], diagonal: i64) -> Vec<f32> {
    let mut x = vec![f32::NAN; rows * row + 1];
    for (i, drawn) in numbers(seed, rows * columns).chunks(columns.max(1)).enumerate().take(rows) {
        let n = length(i, columns, diagonal);
        x[i * row..i * row + n].copy_from_slice(&drawn[..n]);
    }
    x
}

#[test]
fn maps_keep_to_their_rows() {
    for table in tables() {
        // SAFETY: the routine has this signature.
        let mul_add: Three = unsafe { at(&table, "map_mul_add") };
        for (rows, columns) in SIZES.iter().flat_map(|m| SIZES.map(|n| (*m.min(&17), n))) {
            for diagonal in [columns as i64, 0, -2, 1] {
                let row = columns + 3;
                let a = tile(1, [rows, columns, row], diagonal);
                let b = tile(2, [rows, 1, 1], rows as i64 + 1);
                let c = tile(3, [1, columns, row], columns as i64);
                let mut got = vec![7f32; rows * row + 1];
                let [m, n, ld] = [rows, columns, row].map(|x| x as i64);
                let (p, q, r) = (a.as_ptr(), b.as_ptr(), c.as_ptr());
                // SAFETY: all tiles have these sizes.
                unsafe { mul_add(got.as_mut_ptr(), ld, p, ld, 1, q, 1, 0, r, 0, 1, m, n, diagonal) };
                for (place, got) in got.iter().enumerate() {
                    let (i, j) = (place / row, place % row);
                    let inside = i < rows && j < length(i, columns, diagonal);
                    let want = if inside { f64::from(a[place]) * f64::from(b[i]) + f64::from(c[j]) } else { 7.0 };
                    let near = (f64::from(*got) - want).abs() < 3e-7;
                    assert!(near, "{}: {rows} x {columns} under {diagonal}: {got}, not {want}", table.set);
                }
            }
        }
    }
}

#[test]
fn rows_may_read_the_row_before() {
    for table in tables() {
        // SAFETY: the routine has this signature.
        let mul: PairFn = unsafe { at(&table, "map_mul") };
        for columns in SIZES {
            let mut x = vec![1f32; columns * 5];
            let twos = vec![2f32; columns];
            let (to, n) = (x.as_mut_ptr().wrapping_add(columns), columns as i64);
            // SAFETY: four rows follow the first one.
            unsafe { mul(to, n, x.as_ptr(), n, 1, twos.as_ptr(), 0, 1, 4, n, n) };
            for (i, got) in x.iter().enumerate() {
                assert_eq!(*got, f32::powi(2.0, (i / columns) as i32), "{}: {columns} columns", table.set);
            }
        }
    }
}

#[test]
fn comparisons_and_extremes_see_nan() {
    let (nan, x, y) = (f32::NAN, [1.0, 2.0, f32::NAN, 0.0], [2.0, 1.0, 1.0, f32::NAN]);
    let cases =
        [("map_lt", [1.0, 0.0, 0.0, 0.0]), ("map_max", [2.0, 2.0, nan, nan]), ("map_min", [1.0, 1.0, nan, nan])];
    for table in tables() {
        for (name, want) in cases {
            // SAFETY: the routine has this signature.
            let function: PairFn = unsafe { at(&table, name) };
            let mut got = [0f32; 4];
            // SAFETY: one row of four elements.
            unsafe { function(got.as_mut_ptr(), 0, x.as_ptr(), 0, 1, y.as_ptr(), 0, 1, 1, 4, 4) };
            let same = got
                .iter()
                .zip(want)
                .all(|(got, want)| got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
            assert!(same, "{}: {name} gives {got:?}, not {want:?}", table.set);
        }
        // SAFETY: the routine has this signature.
        let select: Three = unsafe { at(&table, "map_select") };
        let (cond, mut got) = ([1.0, 0.0, f32::NAN, -0.0], [0f32; 4]);
        // SAFETY: one row of four elements.
        unsafe {
            select(got.as_mut_ptr(), 0, cond.as_ptr(), 0, 1, [3f32].as_ptr(), 0, 0, [4f32].as_ptr(), 0, 0, 1, 4, 4)
        };
        assert_eq!(got, [3.0, 4.0, 3.0, 4.0], "{}", table.set);
    }
}

#[test]
fn turned_copies_keep_to_their_tile() {
    for table in tables() {
        // SAFETY: the routine has this signature.
        let turn: One = unsafe { at(&table, "turn") };
        for (rows, columns) in SIZES.iter().flat_map(|m| SIZES.map(|n| (*m, n))) {
            for ([ar, al], diagonal) in [([1, rows + 2], columns), ([3, 3 * rows + 1], columns), ([1, rows], 1)] {
                let a = numbers(5, rows * ar + columns * al + 1);
                let row = columns + 1;
                let mut got = vec![7f32; rows * row + 1];
                let [m, n, ld, ar, al] = [rows, columns, row, ar, al].map(|x| x as i64);
                let diagonal = diagonal as i64;
                // SAFETY: the tiles have these sizes.
                unsafe { turn(got.as_mut_ptr(), ld, a.as_ptr(), ar, al, m, n, diagonal) };
                for (place, got) in got.iter().enumerate() {
                    let (i, j) = (place / row, place % row);
                    let inside = i < rows && j < length(i, columns, diagonal);
                    let want = if inside { a[i * ar as usize + j * al as usize] } else { 7.0 };
                    assert_eq!(*got, want, "{}: {rows} x {columns} from {ar}, {al} at {i}, {j}", table.set);
                }
            }
        }
    }
}

#[test]
fn reductions_join_what_was_there() {
    for table in tables() {
        for (name, first) in [("fold_sum", 0.5), ("fold_max", 0.5), ("fold_min", 0.5), ("fold_prod", 0.5)] {
            // SAFETY: the routine has this signature.
            let fold: FoldFn = unsafe { at(&table, name) };
            for (rows, columns) in SIZES.iter().flat_map(|m| SIZES.map(|n| (*m.min(&9), n))) {
                let a = tile(9, [rows, columns, columns + 1], columns as i64);
                let mut got = vec![first as f32; 2 * rows];
                // SAFETY: the tile has these rows, and there are as many results, two elements apart.
                unsafe { fold(got.as_mut_ptr(), 2, a.as_ptr(), columns as i64 + 1, rows as i64, columns as i64) };
                for i in 0..rows {
                    let row = a[i * (columns + 1)..][..columns].iter().map(|x| f64::from(*x));
                    let want: f64 = match name {
                        "fold_sum" => row.fold(first, |x, y| x + y),
                        "fold_prod" => row.fold(first, |x, y| x * y),
                        "fold_max" => row.fold(first, f64::max),
                        _ => row.fold(first, f64::min),
                    };
                    let near = (f64::from(got[2 * i]) - want).abs() < 1e-5;
                    assert!(near, "{}: {name} of {columns}: {}, not {want}", table.set, got[2 * i]);
                }
            }
        }
    }
}

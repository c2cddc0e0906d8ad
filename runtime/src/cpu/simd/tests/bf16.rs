//! Products of bf16 against plain loops in f64 over the rounded operands, with NaN where nothing may be read.

use super::super::bf16;
use super::*;

const KINDS: [(&str, Option<usize>); 4] = [
    ("product_full", None),
    ("product_lower_out", None),
    ("product_lower", Some(0)),
    ("product_strictly_lower", Some(1)),
];

const SIZES: [[usize; 3]; 12] = [
    [3, 15, 15],
    [4, 16, 16],
    [5, 17, 17],
    [31, 33, 35],
    [64, 128, 64],
    [65, 127, 66],
    [64, 64, 128],
    [33, 50, 20],
    [20, 81, 63],
    [130, 70, 131],
    [131, 64, 259],
    [261, 17, 300],
];

/// To the nearest number of bf16, of two as near the even one.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// An m x k matrix that lies row by row, column by column, or with gaps, and its strides.
fn laid_out(values: &[f32], [m, k]: [usize; 2], layout: usize) -> (Vec<f32>, [usize; 2]) {
    let [am, ak] = [[k + layout, 1], [1, m + 3], [2 * k + 1, 2]][layout];
    let mut a = vec![f32::NAN; m * am + k * ak];
    for (i, x) in values.iter().enumerate() {
        a[i / k * am + i % k * ak] = *x;
    }
    (a, [am, ak])
}

/// Runs one product; c has two elements beside each row.
fn run(
    (table, name): (&Table, &str),
    [m, n, k]: [usize; 3],
    (a, [am, ak]): &(Vec<f32>, [usize; 2]),
    b: &[f32],
    (c, add): (&mut [f32], bool),
) {
    // SAFETY: products have this signature.
    let product = unsafe { std::mem::transmute::<*const u8, PairFn>(routine(table, name)) };
    let [am, ak, m, n, k] = [*am, *ak, m, n, k].map(|x| x as i64);
    // SAFETY: the operands hold m x k, k x n and m x n elements under their strides.
    unsafe { product(c.as_mut_ptr(), n + 2, a.as_ptr(), am, ak, b.as_ptr(), n, m, n, k, i64::from(add)) };
}

fn check(table: &Table, (name, after): (&str, Option<usize>), [m, n, k]: [usize; 3], layout: usize, add: bool) {
    let set = table.set;
    let used = |i: usize, l: usize| after.is_none_or(|after| l + after <= i);
    let drawn: Vec<f32> = numbers((m * 7 + n * 3 + k) as u64, m * k + k * n).into_iter().map(rounded).collect();
    let (da, b) = drawn.split_at(m * k);
    let triangle = |(place, x): (usize, &f32)| if used(place / k, place % k) { *x } else { f32::NAN };
    let a: Vec<f32> = da.iter().enumerate().map(triangle).collect();
    let mut c = vec![if add { 0.5 } else { f32::NAN }; m * (n + 2)];
    c.chunks_mut(n + 2).for_each(|row| row[n..].fill(f32::NAN));
    run((table, name), [m, n, k], &laid_out(&a, [m, k], layout), b, (&mut c, add));
    for (i, row) in c.chunks(n + 2).enumerate() {
        assert!(row[n..].iter().all(|x| x.is_nan()), "{name} {m}x{n}x{k}: wrote beside row {i}");
        for (j, got) in row[..n].iter().enumerate().filter(|(j, _)| name != "product_lower_out" || *j <= i) {
            let terms = (0..k).filter(|l| used(i, *l)).map(|l| f64::from(da[i * k + l]) * f64::from(b[l * n + j]));
            let want = terms.sum::<f64>() + if add { 0.5 } else { 0.0 };
            let near = (f64::from(*got) - want).abs() < 3e-5;
            assert!(near, "{set} {name} {m}x{n}x{k} layout {layout} add {add}, [{i},{j}]: {got}, not {want}");
        }
    }
}

/// The tables of this machine with products of bf16, none where it has no such instructions.
fn rounding() -> Vec<Table> {
    bf16::tables(&tables()[0])
}

#[test]
fn products_of_bf16_agree_with_plain_loops() {
    for table in rounding() {
        for kind in KINDS {
            for size in SIZES {
                for layout in 0..3 {
                    check(&table, kind, size, layout, false);
                    check(&table, kind, size, layout, true);
                }
            }
        }
    }
}

#[test]
fn what_is_added_to_may_be_scaled() {
    rounding().iter().for_each(check_scaled);
}

fn check_scaled(table: &Table) {
    // SAFETY: scaled products have this signature.
    let product = unsafe { std::mem::transmute::<*const u8, ScaledFn>(routine(table, "product_scaled")) };
    for [m, n, k] in [[3, 20, 20], [65, 70, 33], [131, 33, 260]] {
        let drawn: Vec<f32> = numbers(9, m * k + k * n + m * n + 4 * m).into_iter().map(rounded).collect();
        let (a, rest) = drawn.split_at(m * k);
        let (b, rest) = rest.split_at(k * n);
        let (before, factors) = rest.split_at(m * n);
        let (rest, whole) = factors.split_at(2 * m);
        let mut c = before.to_vec();
        let [lda, ldb, ldc] = [k, n, n].map(|x| x as i64);
        let [m64, n64, k64] = [m, n, k].map(|x| x as i64);
        // SAFETY: a, b and c hold their elements row by row, and every second factor is a row's.
        unsafe {
            let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
            product(c, ldc, a, lda, 1, b, ldb, m64, n64, k64, rest.as_ptr(), 2, whole.as_ptr());
        }
        for (place, got) in c.iter().enumerate() {
            let (i, j) = (place / n, place % n);
            let sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
            let factor = f64::from(rest[2 * i]) + f64::from(whole[2 * i]);
            let want = sum + factor * f64::from(before[place]);
            assert!((f64::from(*got) - want).abs() < 3e-5, "{m}x{n}x{k} [{i},{j}]: {got}, not {want}");
        }
    }
}

#[test]
fn operands_are_rounded_to_nearest_even() {
    let [m, n, k] = [7, 35, 40];
    let (a, b) = (numbers(5, m * k), numbers(6, k * n));
    for table in rounding() {
        let mut c = vec![0.0; m * (n + 2)];
        run((&table, "product_full"), [m, n, k], &laid_out(&a, [m, k], 0), &b, (&mut c, false));
        for i in 0..m {
            for j in 0..n {
                let of = |l: usize| f64::from(rounded(a[i * k + l])) * f64::from(rounded(b[l * n + j]));
                let want: f64 = (0..k).map(of).sum();
                assert!((f64::from(c[i * (n + 2) + j]) - want).abs() < 5e-6, "{} [{i},{j}]", table.set);
            }
        }
    }
}

/// What is not a number in a row of b or a column of a stays with the rows that take it.
#[test]
fn what_is_not_a_number_stays_in_its_rows() {
    for table in rounding() {
        for (name, after) in [("product_lower", 0), ("product_strictly_lower", 1)] {
            for bad in [0, 5, 6, 31, 32, 62] {
                check_rows(&table, (name, after), bad);
            }
        }
    }
}

fn check_rows(table: &Table, (name, after): (&str, usize), bad: usize) {
    let [m, n, k] = [64, 64, 64];
    let (a, mut b) = (numbers(1, m * k), numbers(2, k * n));
    b[bad * n..][..n].fill(f32::NAN);
    let mut c = vec![0.0; m * (n + 2)];
    run((table, name), [m, n, k], &laid_out(&a, [m, k], 0), &b, (&mut c, false));
    for i in 0..m {
        let row = &c[i * (n + 2)..][..n];
        let kept = row.iter().all(|x| x.is_nan() == (i >= bad + after));
        assert!(kept, "{} {name}, row {bad} of b, row {i} of c", table.set);
    }
}

//! Products of every shape at odd sizes and both ways a may lie, with NaN where nothing may be read.

use super::*;

const SIZES: [usize; 10] = [0, 1, 2, 3, 5, 16, 17, 31, 64, 65];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Full,
    Lower,
    StrictlyLower,
    LowerOut,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Full, "product_full"),
    (Kind::Lower, "product_lower"),
    (Kind::StrictlyLower, "product_strictly_lower"),
    (Kind::LowerOut, "product_lower_out"),
];

/// How the operands lie: the strides of a (across rows, across columns) and what a row of b and c has beside its elements.
#[derive(Clone, Copy, Debug)]
struct Layout {
    transposed: bool,
    spread: usize,
    extra: usize,
}

fn used(kind: Kind, i: usize, k: usize) -> bool {
    match kind {
        Kind::Full | Kind::LowerOut => true,
        Kind::Lower => k <= i,
        Kind::StrictlyLower => k < i,
    }
}

fn check(product: PairFn, kind: Kind, [m, n, k]: [usize; 3], layout: Layout, add: bool) {
    let (am, ak) = if layout.transposed {
        (layout.spread, m * layout.spread + layout.extra)
    } else {
        (k * layout.spread + layout.extra, layout.spread)
    };
    let (ldb, ldc) = (n + layout.extra, n + layout.extra);
    // What lies between the elements is NaN, so that a look at it shows.
    let mut a = vec![f32::NAN; m * am + k * ak + 1];
    let mut b = vec![f32::NAN; k * ldb + 1];
    let mut c = vec![f32::NAN; m * ldc + 1];
    let drawn = numbers((m * 10_000 + n * 100 + k) as u64, m * k + k * n + m * n);
    let (da, rest) = drawn.split_at(m * k);
    let (db, dc) = rest.split_at(k * n);
    for i in 0..m {
        for l in (0..k).filter(|l| used(kind, i, *l)) {
            a[i * am + l * ak] = da[i * k + l];
        }
        if add {
            c[i * ldc..][..n].copy_from_slice(&dc[i * n..][..n]);
        }
    }
    for l in 0..k {
        b[l * ldb..][..n].copy_from_slice(&db[l * n..][..n]);
    }
    // SAFETY: the operands hold m x k, k x n and m x n elements under their strides.
    unsafe {
        let [am, ak, ldb, ldc] = [am, ak, ldb, ldc].map(|x| x as i64);
        let (m, n, k) = (m as i64, n as i64, k as i64);
        product(c.as_mut_ptr(), ldc, a.as_ptr(), am, ak, b.as_ptr(), ldb, m, n, k, i64::from(add));
    }
    for i in 0..m {
        for j in 0..n {
            let sum: f64 =
                (0..k).filter(|l| used(kind, i, *l)).map(|l| f64::from(da[i * k + l]) * f64::from(db[l * n + j])).sum();
            let want = sum + if add { f64::from(dc[i * n + j]) } else { 0.0 };
            let got = f64::from(c[i * ldc + j]);
            let needed = kind != Kind::LowerOut || j <= i;
            let near = (got - want).abs() < 1e-5;
            assert!(!needed || near, "{kind:?} {m}x{n}x{k} {layout:?} add {add}, [{i},{j}]: {got}, not {want}");
        }
        let beside = &c[i * ldc + n..][..layout.extra];
        assert!(beside.iter().all(|x| x.is_nan()), "{kind:?} {m}x{n}x{k} {layout:?}: wrote beside row {i}");
    }
}

#[test]
fn products_agree_with_plain_loops() {
    for table in tables() {
        for (kind, name) in KINDS {
            // SAFETY: products have this signature.
            let product = unsafe { std::mem::transmute::<*const u8, PairFn>(routine(&table, name)) };
            for m in SIZES {
                for (n, k) in SIZES.iter().flat_map(|n| SIZES.iter().map(|k| (*n, *k))) {
                    for (at, transposed) in [false, true].into_iter().enumerate() {
                        let layout = Layout { transposed, spread: 1, extra: (m + n + k) % 3 };
                        check(product, kind, [m, n, k], layout, (m + n + k + at) % 2 == 0);
                    }
                }
            }
        }
    }
}

#[test]
fn elements_of_a_may_lie_apart() {
    for table in tables() {
        for (kind, name) in KINDS {
            // SAFETY: products have this signature.
            let product = unsafe { std::mem::transmute::<*const u8, PairFn>(routine(&table, name)) };
            for size in [[5, 1, 7], [70, 1, 3], [1, 9, 130], [9, 20, 4], [13, 70, 66], [130, 1, 130]] {
                for add in [false, true] {
                    check(product, kind, size, Layout { transposed: false, spread: 2, extra: 3 }, add);
                    check(product, kind, size, Layout { transposed: true, spread: 2, extra: 0 }, add);
                    check(product, kind, size, Layout { transposed: true, spread: 1, extra: 0 }, add);
                }
            }
        }
    }
}

#[test]
fn what_is_added_to_may_be_scaled_row_by_row() {
    for table in tables() {
        // SAFETY: the routine has this signature.
        let product = unsafe { std::mem::transmute::<*const u8, ScaledFn>(routine(&table, "product_scaled")) };
        for [m, n, k] in [[1, 1, 1], [5, 1, 3], [7, 33, 130], [16, 64, 16], [70, 17, 65], [3, 20, 0], [0, 4, 4]] {
            for stride in [0, 1, 3] {
                let (a, b, before) = (numbers(1, m * k + 1), numbers(2, k * n + 1), numbers(3, m * n));
                let (rest, whole, mut c) = (numbers(4, m * 3 + 1), numbers(5, m * 3 + 1), before.clone());
                let size = [m, n, k].map(|x| x as i64);
                // SAFETY: the operands are dense, and there are factors for every row.
                unsafe {
                    let [m, n, k] = size;
                    let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
                    product(c, n, a, k, 1, b, n, m, n, k, rest.as_ptr(), stride as i64, whole.as_ptr());
                }
                for (at, got) in c.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
                    let factor = f64::from(rest[i * stride]) + f64::from(whole[i * stride]);
                    let want = sum + factor * f64::from(before[at]);
                    assert!((f64::from(*got) - want).abs() < 1e-5, "{m}x{n}x{k} stride {stride}, [{i},{j}]");
                }
            }
        }
    }
}

/// The rows of a and b may run backwards.
#[test]
fn strides_may_be_negative() {
    let (a, b) = (numbers(1, 6), numbers(2, 6));
    for table in tables() {
        // SAFETY: products have this signature.
        let product = unsafe { std::mem::transmute::<*const u8, PairFn>(routine(&table, "product_full")) };
        let mut c = [0f32; 4];
        // SAFETY: a is 2 x 3 from its end, b 3 x 2 from its last row, c 2 x 2.
        unsafe { product(c.as_mut_ptr(), 2, &a[5], -3, -1, &b[4], -2, 2, 2, 3, 0) };
        for i in 0..2 {
            for j in 0..2 {
                let want: f32 = (0..3).map(|k| a[5 - 3 * i - k] * b[4 - 2 * k + j]).sum();
                assert!((c[2 * i + j] - want).abs() < 1e-6);
            }
        }
    }
}

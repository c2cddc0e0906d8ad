//! Substitutions of one to three systems, with NaN on and above the diagonals.

use super::*;

/// n x n strictly lower triangular tiles, small enough that solutions stay near what they start from.
fn tile(seed: u64, n: usize, transposed: bool) -> Vec<f32> {
    let drawn = numbers(seed, n * n);
    let mut p = vec![f32::NAN; n * n];
    for t in 0..n {
        for s in 0..t {
            let at = if transposed { s * n + t } else { t * n + s };
            p[at] = drawn[t * n + s] / n as f32;
        }
    }
    p
}

fn check(solve: SolveFn, systems: usize, n: usize, columns: usize, transposed: bool) {
    let row = columns + 2;
    let mut x: Vec<Vec<f32>> = (0..systems).map(|i| numbers(i as u64 + 1, n * row)).collect();
    let p: Vec<Vec<f32>> = (0..systems * systems).map(|i| tile(i as u64 + 7, n, transposed)).collect();
    let mut want: Vec<Vec<f64>> = x.iter().map(|x| x.iter().map(|x| f64::from(*x)).collect()).collect();
    for t in 0..n {
        for i in 0..systems {
            for (j, s, c) in (0..systems * t * columns).map(|x| (x / (t * columns), x / columns % t, x % columns)) {
                let at = if transposed { s * n + t } else { t * n + s };
                want[i][t * row + c] += f64::from(p[i * systems + j][at]) * want[j][s * row + c];
            }
        }
    }
    let mut table = Vec::new();
    for x in &mut x {
        table.extend([x.as_mut_ptr() as i64, row as i64]);
    }
    let strides = if transposed { [1, n as i64] } else { [n as i64, 1] };
    for p in &p {
        table.extend([p.as_ptr() as i64, strides[0], strides[1]]);
    }
    // SAFETY: the table describes tiles of n rows.
    unsafe { solve(systems as i64, n as i64, columns as i64, table.as_ptr()) };
    for (got, want) in x.iter().flatten().zip(want.iter().flatten()) {
        let near = (f64::from(*got) - want).abs() < 3e-6;
        assert!(near, "{systems} systems of {n} x {columns}, transposed {transposed}: {got}, not {want}");
    }
}

#[test]
fn substitutions_agree_with_plain_loops() {
    for table in tables() {
        // SAFETY: substitutions have this signature.
        let solve = unsafe { std::mem::transmute::<*const u8, SolveFn>(routine(&table, "solve")) };
        for systems in [0, 1, 2, 3] {
            for n in [0, 1, 2, 3, 5, 8, 16, 17, 31, 64, 65] {
                for columns in [0, 1, 2, 5, 16, 17, 64, 65] {
                    check(solve, systems, n, columns, false);
                    check(solve, systems, n, columns, true);
                }
            }
        }
    }
}

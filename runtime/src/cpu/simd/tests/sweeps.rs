//! Sweeps with every number of ranks and reads, in place and from another tile.

use super::*;

/// Rows, columns, ranks, reads.
type Shape = [usize; 4];

/// What is kept of the tile before.
#[derive(Debug, Clone, Copy)]
enum Keep {
    All,
    /// A factor a row, and how far they lie apart.
    Scaled(usize),
    /// The same with what it lost.
    GivenBack(usize),
}

fn check(sweep: SweepFn, [rows, columns, ranks, reads]: Shape, keep: Keep, in_place: bool) {
    let row = columns + 3;
    let mut state = numbers(1, rows * row);
    let from = numbers(2, rows * row);
    let (factors, lost) = (numbers(3, rows * 5 + 1), numbers(5, rows * 2 + 1));
    let beside = numbers(4, columns * 2);
    let mut out = vec![7.0f32; columns * 2];
    let (mut want_state, mut want) = (state.clone(), vec![7.0f64; columns * 2]);
    want[..columns * reads].fill(0.0);
    for (i, j) in (0..rows * columns).map(|x| (x / columns, x % columns)) {
        let mut x = f64::from(if in_place || ranks == 0 { state[i * row + j] } else { from[i * row + j] });
        if ranks > 0 {
            x *= match keep {
                Keep::All => 1.0,
                Keep::Scaled(stride) => f64::from(factors[i * stride]),
                Keep::GivenBack(stride) => f64::from(factors[i * stride]) + f64::from(lost[i * stride]),
            };
            x += (0..ranks).map(|r| f64::from(factors[i * 5 + r]) * f64::from(beside[r * columns + j])).sum::<f64>();
            want_state[i * row + j] = x as f32;
        }
        for m in 0..reads {
            want[m * columns + j] += f64::from(factors[i * 3 + m]) * x;
        }
    }
    let tile = if in_place { state.as_ptr() } else { from.as_ptr() };
    let mut table = vec![state.as_mut_ptr() as i64, row as i64, tile as i64, row as i64];
    if ranks == 0 {
        table[2] = table[0];
    }
    let (first, second) = (factors.as_ptr() as i64, lost.as_ptr() as i64);
    table.extend(match keep {
        Keep::Scaled(stride) if ranks > 0 => [first, stride as i64, 0],
        Keep::GivenBack(stride) if ranks > 0 => [first, stride as i64, second],
        _ => [0; 3],
    });
    for r in 0..ranks {
        table.extend([factors[r..].as_ptr() as i64, 5, beside[r * columns..].as_ptr() as i64]);
    }
    for m in 0..reads {
        table.extend([factors[m..].as_ptr() as i64, 3, out[m * columns..].as_mut_ptr() as i64]);
    }
    // SAFETY: the table describes tiles of so many rows and columns, and factors for as many rows.
    unsafe { sweep(rows as i64, columns as i64, ranks as i64, reads as i64, table.as_ptr()) };
    let told = format!("{rows} x {columns}, {ranks} ranks, {reads} reads, keep {keep:?}, in place {in_place}");
    for (got, want) in state.iter().zip(&want_state) {
        assert!((got - want).abs() < 1e-6, "{told}: an element is {got}, not {want}");
    }
    for (got, want) in out.iter().zip(&want) {
        assert!((f64::from(*got) - want).abs() < 3e-5, "{told}: a sum is {got}, not {want}");
    }
}

const KEPT: [Keep; 5] = [Keep::All, Keep::Scaled(0), Keep::Scaled(2), Keep::GivenBack(0), Keep::GivenBack(2)];

#[test]
fn sweeps_agree_with_plain_loops() {
    for table in tables() {
        // SAFETY: sweeps have this signature.
        let sweep = unsafe { std::mem::transmute::<*const u8, SweepFn>(routine(&table, "sweep")) };
        for rows in [0, 1, 2, 5, 64, 131, 300] {
            for columns in [1, 3, 16, 33, 64, 101] {
                for (ranks, reads) in (0..3).flat_map(|ranks| [(ranks, 1), (ranks, 2)]) {
                    for keep in KEPT {
                        check(sweep, [rows, columns, ranks, reads], keep, true);
                        check(sweep, [rows, columns, ranks, reads], keep, false);
                    }
                }
            }
        }
    }
}

//! Blocks, windows, grids and their orders, for pairs and for states.

use super::*;

/// o[t] = the sum of a[j] over what the state holds at t, and p[i] the same over what is visible from i.
fn text(order: &str) -> String {
    format!(
        "variant x {{ axes B, H, T = Y*X; input a : [B,T,H]; {order} state S : [] = 0; update S additive(a);
         output o[t] = S[t]; output p[i] = sum[j](a[j]); }}"
    )
}

const GRID: [(&str, usize); 4] = [("B", 1), ("H", 2), ("Y", 4), ("X", 6)];

#[test]
fn a_state_sees_what_pairs_see() {
    for order in [
        "order causal;",
        "order reverse;",
        "order column;",
        "order raster_rev;",
        "order column_rev;",
        "local block(5);",
        "order reverse; local block(5);",
        "local window(3);",
        "local window(40);",
        "local window(3); local block(5);",
        "local block(2, 3);",
        "order column; local block(2, 3);",
        "local atrous(1, 1, rate = 2);",
        "order raster, column, raster_rev, column_rev merge sum; local atrous(2, 1, rate = 2);",
    ] {
        let (_, results) = evaluate(&text(order), &GRID);
        agree(output(&results, "o"), output(&results, "p"));
    }
}

#[test]
fn columns_are_scanned_from_top_to_bottom() {
    let (x, results) = evaluate(&text("order column;"), &GRID);
    holds(output(&results, "o"), |at| {
        let (y, c) = (at[1] / 6, at[1] % 6);
        (0..24).filter(|j| (j % 6, j / 6) <= (c, y)).map(|j| x["a"].at(&[at[0], j, at[2]])).sum()
    });
}

#[test]
fn shifted_tiles_part_at_the_seam() {
    let (x, results) = evaluate(
        "variant x { axes B, H, T = Y*X; input a : [B,T,H]; local block(2, 3, shift = 1);
         output p[i] = sum[j](a[j]); }",
        &GRID,
    );
    let tile = |at: usize| {
        let (y, c) = (at / 6, at % 6);
        ((y + 3) % 4 / 2, y < 1, (c + 5) % 6 / 3, c < 1)
    };
    holds(output(&results, "p"), |at| {
        (0..=at[1]).filter(|j| tile(*j) == tile(at[1])).map(|j| x["a"].at(&[at[0], j, at[2]])).sum()
    });
}

#[test]
fn a_disc_is_open() {
    let (x, results) = evaluate(
        "variant x { axes B, H, T = Y*X; input a : [B,T,H]; order full; local disc(2);
         output p[i] = sum[j](a[j]); output d[i] = count[j]((i.y - j.y)^2 + (i.x - j.x)^2 >= 4); }",
        &GRID,
    );
    holds(output(&results, "p"), |at| {
        let square = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
        let near = |j: &usize| square(j / 6, at[1] / 6) + square(j % 6, at[1] % 6) < 4.0;
        (0..24).filter(near).map(|j| x["a"].at(&[at[0], j, at[2]])).sum()
    });
    assert!(output(&results, "d").data.iter().all(|n| *n == 0.0));
}

#[test]
fn a_gated_window_forgets_what_has_left() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, K, V; input q, f : [B,T,H,K], v : [B,T,H,V]; local window(3);
         state S : [K,V] = 0; decay a[t] = sigmoid(f[t]); update S gated(v); output o[t] = S[t]' * q[t]; }",
        &[("B", 1), ("T", 8), ("H", 2), ("K", 2), ("V", 3)],
    );
    holds(output(&results, "o"), |at| {
        let [b, t, h, v] = *at else { unreachable!() };
        let mut total = 0.0;
        for n in 0..2 {
            let mut s = 0.0;
            for j in t.saturating_sub(2)..=t {
                let a = 1.0 / (1.0 + (-x["f"].at(&[b, j, h, n])).exp());
                s = a * s + (1.0 - a) * x["v"].at(&[b, j, h, v]);
            }
            total += s * x["q"].at(&[b, t, h, n]);
        }
        total
    });
}

#[test]
fn a_permutation_moves_tokens_for_locality_only() {
    let variant = variant(
        "variant x { axes B, T, H; input a : [B,T,H], perm : i32 [B,T,H]; order full(by = perm); local block(2);
         output p[i] = sum[j](a[j]); }",
    );
    let sizes = sizes(&variant, &[("B", 1), ("T", 4), ("H", 1)]);
    let tensor = |data: &[f64]| Array { shape: vec![1, 4, 1], data: data.to_vec() };
    let x = Arrays::from([
        ("a".to_string(), tensor(&[1.0, 10.0, 100.0, 1000.0])),
        ("perm".to_string(), tensor(&[2.0, 0.0, 3.0, 1.0])),
    ]);
    let results = run(&variant, &sizes, &x, &Arrays::new()).unwrap();
    assert_eq!(output(&results, "p").data, [101.0, 1010.0, 101.0, 1010.0]);
}

#[test]
fn a_permutation_is_the_sequence_of_a_scan() {
    let scanned = |order: &str, perm: &[f64]| {
        let variant = variant(&format!(
            "variant x {{ axes B, T, H; input a : [B,T,H], perm : i32 [B,T,H]; order {order}(by = perm); local block(3);
             state S : [] = 0; update S additive(a); output o[t] = S[t]; output p[i] = sum[j](a[j]); }}"
        ));
        let sizes = sizes(&variant, &[("B", 1), ("T", 4), ("H", 1)]);
        let tensor = |data: &[f64]| Array { shape: vec![1, 4, 1], data: data.to_vec() };
        let x =
            Arrays::from([("a".to_string(), tensor(&[1.0, 10.0, 100.0, 1000.0])), ("perm".to_string(), tensor(perm))]);
        run(&variant, &sizes, &x, &Arrays::new())
    };
    // Tokens 2, 0, 3 stand in the first block, 1 in the second.
    let results = scanned("causal", &[2.0, 0.0, 3.0, 1.0]).unwrap();
    assert_eq!(output(&results, "o").data, [101.0, 10.0, 100.0, 1101.0]);
    assert_eq!(output(&results, "p").data, output(&results, "o").data);
    let results = scanned("reverse", &[2.0, 0.0, 3.0, 1.0]).unwrap();
    assert_eq!(output(&results, "o").data, [1001.0, 10.0, 1101.0, 1000.0]);
    for wrong in [[2.0, 0.0, 2.0, 1.0], [0.0, 1.0, 4.0, 2.0], [0.0, 1.0, -1.0, 2.0]] {
        let error = scanned("causal", &wrong).unwrap_err();
        assert!(error.message.contains("place 2"), "{error}");
    }
}

#[test]
fn a_grid_convolution_is_centred_and_strides() {
    let (x, results) = evaluate(
        "variant x { axes B, T = Y*X, C; input a : [B,T,C]; param w : [C,3,3], u : [3,2];
         output o = dwconv(a, w); output s = dwconv(a, u, stride = 2); }",
        &[("B", 2), ("Y", 3), ("X", 5), ("C", 2)],
    );
    let a = |b: usize, y: i64, c: i64, n: usize| {
        let inside = (0..3).contains(&y) && (0..5).contains(&c);
        if inside { x["a"].at(&[b, (y * 5 + c) as usize, n]) } else { 0.0 }
    };
    let sum = |b: usize, y: usize, c: usize, n: usize, [ky, kx]: [usize; 2], w: &dyn Fn(usize, usize) -> f64| {
        let mut total = 0.0;
        for (i, j) in (0..ky).flat_map(|i| (0..kx).map(move |j| (i, j))) {
            total += w(i, j) * a(b, (y + i) as i64 - (ky / 2) as i64, (c + j) as i64 - (kx / 2) as i64, n);
        }
        total
    };
    holds(output(&results, "o"), |at| {
        sum(at[0], at[1] / 5, at[1] % 5, at[2], [3, 3], &|i, j| x["w"].at(&[at[2], i, j]))
    });
    let s = output(&results, "s");
    assert_eq!(s.shape, [2, 6, 2]);
    holds(s, |at| sum(at[0], at[1] / 3 * 2, at[1] % 3 * 2, at[2], [3, 2], &|i, j| x["u"].at(&[i, j])));
}

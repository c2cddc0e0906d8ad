//! Pairwise equations, sequence functions, lets, functions of the last axis.

use super::*;

const DIMS: [(&str, usize); 5] = [("B", 2), ("T", 6), ("H", 2), ("K", 4), ("V", 3)];

fn attention(x: &Arrays, at: &[usize], sees: impl Fn(usize, usize) -> bool) -> f64 {
    let [b, i, h, v] = *at else { unreachable!() };
    let tokens = x["k"].shape[1];
    let score = |j: usize| (0..4).map(|n| x["q"].at(&[b, i, h, n]) * x["k"].at(&[b, j, h, n])).sum::<f64>() / 2.0;
    let seen: Vec<usize> = (0..tokens).filter(|j| sees(i, *j)).collect();
    let total: f64 = seen.iter().map(|j| score(*j).exp()).sum();
    if seen.is_empty() { 0.0 } else { seen.iter().map(|j| score(*j).exp() / total * x["v"].at(&[b, *j, h, v])).sum() }
}

fn attention_text(order: &str) -> String {
    format!(
        "variant x {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; {order}
         let p[i,j] = softmax[j](q[i]' * k[j] / sqrt(K)); output o[i] = sum[j](p[i,j] * v[j]); }}"
    )
}

#[test]
fn softmax_attention_is_the_dense_formula() {
    type Sees = fn(usize, usize) -> bool;
    let cases: [(&str, Sees); 7] = [
        ("order causal;", |i, j| j <= i),
        ("", |i, j| j <= i),
        ("order full;", |_, _| true),
        ("order reverse;", |i, j| j >= i),
        ("order causal; local window(2);", |i, j| j <= i && j + 2 > i),
        ("order full; local window(2, 1);", |i, j| j + 2 > i && j <= i + 1),
        ("order full; local block(4);", |i, j| i / 4 == j / 4),
    ];
    for (order, sees) in cases {
        let (x, results) = evaluate(&attention_text(order), &DIMS);
        holds(output(&results, "o"), |at| attention(&x, at, sees));
    }
}

#[test]
fn nothing_visible_weighs_nothing() {
    let (_, results) = evaluate(&attention_text("local where i != 2 and j > 0;"), &DIMS);
    let o = output(&results, "o");
    assert_eq!(o.at(&[0, 0, 1, 2]), 0.0);
    assert_eq!(o.at(&[1, 2, 0, 0]), 0.0);
    assert_ne!(o.at(&[1, 3, 0, 0]), 0.0);
}

#[test]
fn a_convolution_takes_the_current_token_last() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, K, N = 3; input q : [B,T,H,K]; param w : [H,K,N];
         let q = silu(conv1d(q, w)); output o[t] = q[t]; }",
        &[("B", 1), ("T", 5), ("H", 2), ("K", 3)],
    );
    holds(output(&results, "o"), |at| {
        let [b, t, h, k] = *at else { unreachable!() };
        let taps = (0..3).filter(|n| t + 1 + n >= 3);
        let y: f64 = taps.map(|n| x["w"].at(&[h, k, n]) * x["q"].at(&[b, t + 1 + n - 3, h, k])).sum();
        y / (1.0 + (-y).exp())
    });
}

#[test]
fn subscripts_out_of_range_read_zero() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, K; input q : [B,T,H,K]; param b : [2*T-1];
         output o[t] = q[t-1] + q[t+2]; output r[i] = sum[j : true](b[j - i + T - 1] * q[j]); }",
        &[("B", 1), ("T", 4), ("H", 1), ("K", 2)],
    );
    let q = |t: i64, k: usize| if (0..4).contains(&t) { x["q"].at(&[0, t as usize, 0, k]) } else { 0.0 };
    holds(output(&results, "o"), |at| q(at[1] as i64 - 1, at[3]) + q(at[1] as i64 + 2, at[3]));
    holds(output(&results, "r"), |at| (0..4).map(|j| x["b"].at(&[j + 3 - at[1]]) * q(j as i64, at[3])).sum());
}

#[test]
fn reductions_of_nothing_have_their_units() {
    let (_, results) = evaluate(
        "variant x { axes B, T, H; input a : [B,T,H];
         output s[i] = sum[j : j > T](a[j]); output m[i] = mean[j : j > T](a[j]); output p[i] = prod[j : j > T](a[j]);
         output u[i] = max[j : j > T](a[j]); output l[i] = min[j : j > T](a[j]); output g[i] = argmax[j : j > T](a[j]);
         output c[i] = count[j](a[j] < 5); output f[i] = argmax[j : true](if j < 2 then 1 else 0); }",
        &[("B", 1), ("T", 3), ("H", 1)],
    );
    let firsts: Vec<f64> = results.outputs.iter().map(|(_, array)| array.data[2]).collect();
    assert_eq!(firsts, [0.0, 0.0, 1.0, f64::NEG_INFINITY, f64::INFINITY, 0.0, 3.0, 0.0]);
}

#[test]
fn the_branch_not_taken_has_no_effect() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H; input a : [B,T,H]; output o[t] = if t > 1 then a[t] else sqrt(0 - 1) * 0 + 1 / 0 ;
         output z[t] = if a[t] > 0 then sqrt(a[t]) else 0; }",
        &[("B", 1), ("T", 4), ("H", 1)],
    );
    assert!(output(&results, "o").at(&[0, 0, 0]).is_nan());
    assert_eq!(output(&results, "o").at(&[0, 2, 0]), x["a"].at(&[0, 2, 0]));
    assert!(output(&results, "z").data.iter().all(|z| z.is_finite()));
}

#[test]
fn an_iteration_ends_at_its_last_entry() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H; input a : [B,T,H]; let c = sum[j](a[j]) ;
         let y[s] = 2 * y[s-1] + 1 for s in 1..3 from c; output o[t] = a[t] * y; }",
        &[("B", 1), ("T", 4), ("H", 1)],
    );
    let c: f64 = x["a"].data.iter().sum();
    holds(output(&results, "o"), |at| x["a"].at(at) * (8.0 * c + 7.0));
}

#[test]
fn an_iterated_vector_is_subscripted_by_its_own_axis() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, K; input a : [B,T,H], c : [B,H,K]; let y[s] = 2 * y[s-1] for s in 1..3 from c;
         output o[t] = a[t] * y[1]; }",
        &[("B", 1), ("T", 4), ("H", 2), ("K", 3)],
    );
    holds(output(&results, "o"), |at| x["a"].at(at) * 8.0 * x["c"].at(&[at[0], at[2], 1]));
}

#[test]
fn a_sum_in_an_equation_for_a_pair_sees_what_the_first_token_sees() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H; input a : [B,T,H]; local window(3);
         output p[i,j] = a[j] / sum[j](exp(a[j])); output w[i] = sum[i](a[i]); output e[i] = sum[j : true](a[j]); }",
        &[("B", 1), ("T", 6), ("H", 1)],
    );
    let a = |t: usize| x["a"].at(&[0, t, 0]);
    let total: f64 = (0..6).map(a).sum();
    holds(output(&results, "p"), |at| {
        let (i, j) = (at[2], at[3]);
        a(j) / (i.saturating_sub(2)..=i).map(|s| a(s).exp()).sum::<f64>()
    });
    holds(output(&results, "w"), |_| total);
    holds(output(&results, "e"), |_| total);
}

#[test]
fn rows_of_hidden_logits_weigh_nothing() {
    let text = "variant x { axes B, T, H, K; input a : [B,T,H,K], m : [B,T,H]; output r[t] = softmax(a[t]);
         output p[i] = sum[j](softmax[j](m[j]) * a[j]); }";
    let variant = variant(text);
    let sizes = sizes(&variant, &[("B", 1), ("T", 2), ("H", 1), ("K", 2)]);
    let hidden = f64::NEG_INFINITY;
    let x = Arrays::from([
        ("a".to_string(), Array { shape: vec![1, 2, 1, 2], data: vec![hidden, hidden, hidden, 1.0] }),
        ("m".to_string(), Array { shape: vec![1, 2, 1], data: vec![hidden, hidden] }),
    ]);
    let results = run(&variant, &sizes, &x, &Arrays::new()).unwrap();
    assert_eq!(output(&results, "r").data, [0.0, 0.0, 0.0, 1.0]);
    let x = Arrays::from([
        ("a".to_string(), Array { shape: vec![1, 2, 1, 2], data: vec![2.0, 3.0, 4.0, 5.0] }),
        ("m".to_string(), Array { shape: vec![1, 2, 1], data: vec![hidden, 0.5] }),
    ]);
    let results = run(&variant, &sizes, &x, &Arrays::new()).unwrap();
    assert_eq!(output(&results, "p").data, [0.0, 0.0, 4.0, 5.0]);
}

#[test]
fn groups_share_an_entry_among_heads() {
    let (x, results) = evaluate(
        "variant x { axes B, T, G, R, H = G*R, K; input q : [B,T,H,K], k : [B,T,G,K]; param slope : [H];
         output o[i] = sum[j](q[i]' * k[j]) * slope + h; }",
        &[("B", 1), ("T", 3), ("G", 2), ("R", 3), ("K", 2)],
    );
    holds(output(&results, "o"), |at| {
        let [b, i, h] = *at else { unreachable!() };
        let dot = |j: usize| (0..2).map(|n| x["q"].at(&[b, i, h, n]) * x["k"].at(&[b, j, h / 3, n])).sum::<f64>();
        (0..=i).map(dot).sum::<f64>() * x["slope"].at(&[h]) + h as f64
    });
}

#[test]
fn rotations_depend_on_distance_alone() {
    let (_, results) = evaluate(
        "variant x { axes B, T, H, K; param a, b : [K];
         output o[t] = rope(a, t)' * rope(b, t + 3); input q : [B,T,H]; }",
        &[("B", 1), ("T", 5), ("H", 1), ("K", 4)],
    );
    let o = output(&results, "o");
    assert!(o.data.iter().all(|x| close(*x, o.data[0])), "{o:?}");
}

#[test]
fn solvers_agree() {
    let (_, results) = evaluate(
        "variant x { axes B, T, H, K; input k : [B,T,H,K], q : [B,T,H,K];
         state S : [K,K] = 0; update S additive(k, k);
         output a[t] = solve(S[t] + eye(K), q[t]); output b[t] = solve_cg(S[t] + eye(K), q[t], iters = 8);
         output r[t] = (S[t] + eye(K)) * solve(S[t] + eye(K), q[t]) - q[t];
         output m[t] = topk_mask(q[t], 2); }",
        &[("B", 1), ("T", 5), ("H", 2), ("K", 4)],
    );
    agree(output(&results, "a"), output(&results, "b"));
    assert!(output(&results, "r").data.iter().all(|x| x.abs() < 1e-12));
    assert!(output(&results, "m").data.chunks(4).all(|line| line.iter().sum::<f64>() == 2.0));
}

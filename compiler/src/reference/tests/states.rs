//! States and their laws, decays, initial values, directions.

use super::*;

const DIMS: [(&str, usize); 5] = [("B", 2), ("T", 7), ("H", 3), ("K", 4), ("V", 5)];

#[test]
fn linear_attention_is_its_pairwise_sum() {
    let text = "variant x { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V];
        state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    let (x, results) = evaluate(text, &DIMS);
    holds(output(&results, "o"), |at| {
        let [b, t, h, v] = *at else { unreachable!() };
        let dot = |j: usize| (0..4).map(|n| x["q"].at(&[b, t, h, n]) * x["k"].at(&[b, j, h, n])).sum::<f64>();
        (0..=t).map(|j| dot(j) * x["v"].at(&[b, j, h, v])).sum()
    });
    holds(state(&results, "S"), |at| {
        let [b, h, k, v] = *at else { unreachable!() };
        (0..7).map(|j| x["k"].at(&[b, j, h, k]) * x["v"].at(&[b, j, h, v])).sum()
    });
}

/// S[t] and o[t] of the gated delta rule with a decay per head, by loops.
fn gated_delta(x: &Arrays, [b, h]: [usize; 2], backwards: bool) -> Vec<Vec<f64>> {
    let (tokens, k_size, v_size) = (x["k"].shape[1], x["k"].shape[3], x["v"].shape[3]);
    let mut s = vec![vec![0.0; v_size]; k_size];
    let mut reads = vec![Vec::new(); tokens];
    for n in 0..tokens {
        let t = if backwards { tokens - 1 - n } else { n };
        let (a, beta) = (x["g"].at(&[b, t, h]).exp(), x["beta"].at(&[b, t, h]));
        let k: Vec<f64> = (0..k_size).map(|n| x["k"].at(&[b, t, h, n])).collect();
        s.iter_mut().flatten().for_each(|s| *s *= a);
        for v in 0..v_size {
            let old: f64 = k.iter().zip(&s).map(|(k, row)| k * row[v]).sum();
            let write = beta * (x["v"].at(&[b, t, h, v]) - old);
            k.iter().zip(&mut s).for_each(|(k, row)| row[v] += k * write);
        }
        reads[t] = (0..v_size).map(|v| (0..k_size).map(|n| s[n][v] * x["q"].at(&[b, t, h, n])).sum()).collect();
    }
    reads
}

fn gated_delta_text(order: &str, update: &str) -> String {
    format!(
        "variant x {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H]; order {order};
         state S : [K,V] = 0; decay a[t] = exp(g[t]); {update} output o[t] = S[t]' * q[t]; }}"
    )
}

#[test]
fn the_gated_delta_rule_is_its_loop_in_both_spellings() {
    let law = "update S delta(k, v, beta);";
    let equation = "update S[t] = a[t] * (eye(K) - beta[t] * k[t] * k[t]') * S[t-1] + beta[t] * k[t] * v[t]';";
    for update in [law, equation] {
        let (x, results) = evaluate(&gated_delta_text("causal", update), &DIMS);
        holds(output(&results, "o"), |at| gated_delta(&x, [at[0], at[2]], false)[at[1]][at[3]]);
    }
}

#[test]
fn a_reverse_order_scans_from_the_last_token() {
    let (x, results) = evaluate(&gated_delta_text("reverse", "update S delta(k, v, beta);"), &DIMS);
    holds(output(&results, "o"), |at| gated_delta(&x, [at[0], at[2]], true)[at[1]][at[3]]);
    assert!(results.states.is_empty());
}

#[test]
fn several_orders_merge_their_reads() {
    for (merge, factor) in [("", 1.0), (" merge sum", 1.0), (" merge mean", 0.5)] {
        let order = format!("causal, reverse{merge}");
        let (x, results) = evaluate(&gated_delta_text(&order, "update S delta(k, v, beta);"), &DIMS);
        holds(output(&results, "o"), |at| {
            let one = |backwards| gated_delta(&x, [at[0], at[2]], backwards)[at[1]][at[3]];
            factor * (one(false) + one(true))
        });
    }
}

#[test]
fn an_order_binds_its_own_decay() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, V; input v : [B,T,H,V], f, r : [B,T,H];
         order causal(g = f), reverse(g = r) merge sum;
         state S : [V] = 0; decay a[t] = exp(g[t]); update S additive(v); read y[t] = S[t];
         output o[t] = y[t] .* v[t]; }",
        &[("B", 1), ("T", 5), ("H", 2), ("V", 3)],
    );
    holds(output(&results, "o"), |at| {
        let [b, t, h, n] = *at else { unreachable!() };
        let decay = |name: &str, from: usize, to: usize| (from..to).map(|j| x[name].at(&[b, j, h])).sum::<f64>().exp();
        let v = |j: usize| x["v"].at(&[b, j, h, n]);
        let forward: f64 = (0..=t).map(|j| decay("f", j + 1, t + 1) * v(j)).sum();
        let back: f64 = (t..5).map(|j| decay("r", t, j) * v(j)).sum();
        (forward + back) * v(t)
    });
}

#[test]
fn a_gate_is_tied_to_its_decay() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H, K, V; input q, f : [B,T,H,K], v : [B,T,H,V];
         let a[t] = sigmoid(f[t]); let i[t] = 1 - a[t];
         state S : [K,V] = 0; decay d[t] = a[t]; update S gated(v); output o[t] = S[t]' * q[t]; }",
        &DIMS,
    );
    holds(output(&results, "o"), |at| {
        let [b, t, h, v] = *at else { unreachable!() };
        let mut total = 0.0;
        for n in 0..4 {
            let mut s = 0.0;
            for j in 0..=t {
                let a = 1.0 / (1.0 + (-x["f"].at(&[b, j, h, n])).exp());
                s = a * s + (1.0 - a) * x["v"].at(&[b, j, h, v]);
            }
            total += s * x["q"].at(&[b, t, h, n]);
        }
        total
    });
}

#[test]
fn a_run_in_two_parts_is_one_run() {
    let variant = variant(&gated_delta_text("causal", "update S delta(k, v, beta);"));
    let whole = sizes(&variant, &DIMS);
    let x = inputs(&variant, &whole);
    let all = run(&variant, &whole, &x, &Arrays::new()).unwrap();
    let part = |from: usize, to: usize| -> Arrays {
        let cut = |array: &Array| {
            let width: usize = array.shape[2..].iter().product();
            let rows = (0..array.shape[0]).flat_map(|b| (from..to).map(move |t| (b * array.shape[1] + t) * width));
            let mut shape = array.shape.clone();
            shape[1] = to - from;
            Array { shape, data: rows.flat_map(|at| array.data[at..at + width].to_vec()).collect() }
        };
        x.iter().map(|(name, array)| (name.clone(), cut(array))).collect()
    };
    let size = |tokens| sizes(&variant, &[("B", 2), ("T", tokens), ("H", 3), ("K", 4), ("V", 5)]);
    let first = run(&variant, &size(3), &part(0, 3), &Arrays::new()).unwrap();
    let second = run(&variant, &size(4), &part(3, 7), &first.states.iter().cloned().collect()).unwrap();
    agree(state(&second, "S"), state(&all, "S"));
    holds(output(&second, "o"), |at| output(&all, "o").at(&[at[0], at[1] + 3, at[2], at[3]]));
}

#[test]
fn coupled_recurrences_read_new_values() {
    let (x, results) = evaluate(
        "variant x { axes B, T, H; input a, b : [B,T,H]; state m : [] = -inf, s : [] = 0;
         update m[t] = max(m[t-1], a[t]);
         update s[t] = s[t-1] * exp(m[t-1] - m[t]) + exp(a[t] - m[t]) * b[t];
         output o[t] = s[t]; output p[t] = m[t-1]; }",
        &[("B", 1), ("T", 6), ("H", 2)],
    );
    let a = |at: &[usize], j: usize| x["a"].at(&[at[0], j, at[2]]);
    let most = |at: &[usize], to: usize| (0..to).map(|j| a(at, j)).fold(f64::NEG_INFINITY, f64::max);
    holds(output(&results, "o"), |at| {
        (0..=at[1]).map(|j| (a(at, j) - most(at, at[1] + 1)).exp() * x["b"].at(&[at[0], j, at[2]])).sum()
    });
    assert_eq!(output(&results, "p").at(&[0, 0, 1]), f64::NEG_INFINITY);
    assert_eq!(output(&results, "p").at(&[0, 3, 1]), most(&[0, 3, 1], 3));
}

#[test]
fn a_norm_spans_heads_where_it_says_so() {
    let text = |over: &str| {
        format!(
            "variant x {{ axes B, T, H, V; input v : [B,T,H,V]; state S : [V] = 0; update S additive(v);
             read y[t] = S[t]; norm rms(eps = 0.01){over}; output o[t] = 2 * y[t]; }}"
        )
    };
    let dims = [("B", 2), ("T", 3), ("H", 4), ("V", 5)];
    for (over, heads) in [("", false), (" over V", false), (" over H, V", true)] {
        let (x, results) = evaluate(&text(over), &dims);
        let s = |b: usize, t: usize, h: usize, n: usize| (0..=t).map(|j| x["v"].at(&[b, j, h, n])).sum::<f64>();
        holds(output(&results, "o"), |at| {
            let [b, t, h, n] = *at else { unreachable!() };
            let of: Vec<usize> = if heads { (0..4).collect() } else { vec![h] };
            let squares: f64 = of.iter().flat_map(|h| (0..5).map(move |n| s(b, t, *h, n).powi(2))).sum();
            2.0 * s(b, t, h, n) / (squares / (5 * of.len()) as f64 + 0.01).sqrt()
        });
    }
}

#[test]
fn a_decay_of_zero_resets_without_nan() {
    let text = "variant x { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];
        state S : [K,V] = 0; decay a[t] = exp(g[t]); update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    let variant = variant(text);
    let sizes = sizes(&variant, &DIMS);
    let mut x = inputs(&variant, &sizes);
    let mut g = x["g"].clone();
    g.data[3 * 3] = -1e4;
    g.data[3 * 3 + 1] = f64::NEG_INFINITY;
    x.insert("g".to_string(), g);
    let results = run(&variant, &sizes, &x, &Arrays::new()).unwrap();
    for h in 0..2 {
        let dot: f64 = (0..4).map(|n| x["q"].at(&[0, 3, h, n]) * x["k"].at(&[0, 3, h, n])).sum();
        assert!(close(output(&results, "o").at(&[0, 3, h, 2]), dot * x["v"].at(&[0, 3, h, 2])));
    }
}

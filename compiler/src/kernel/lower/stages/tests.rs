//! Kernels of variants without states, run by the kernel interpreter, against the reference: over no token, one, a few,
//! and more than a block of rows.

mod fuzz;
mod grids;
mod pairs;

use std::collections::BTreeMap;

use crate::bind::bind_dims;
use crate::reference::Array;

use super::super::tests::{agree_in_stages, agree_spoilt, variant};
use super::lower;

/// Token counts round the blocks of rows.
const TOKENS: [usize; 6] = [0, 1, 6, 64, 67, 201];

const DIMS: [(&str, usize); 6] = [("B", 2), ("H", 2), ("K", 3), ("V", 5), ("F", 4), ("N", 7)];

/// The variant of this body, over tensors of every kind.
fn text(body: &str) -> String {
    format!(
        "variant f {{ axes B, T, H, K, V, F, N; input q, k : [B,T,H,K], v : [B,T,H,V], g, b : [B,T,H], ids : i32 [B,T], \
         mem : [B,N,H,K]; param w : [H,F,K], m : [H,K,K], c : [H,K,4], gamma : [H], n : i32 [H,K]; {body} }}"
    )
}

fn agree(body: &str) {
    let variant = variant(&text(body));
    for tokens in TOKENS {
        let dims: Vec<(&str, usize)> = DIMS.into_iter().chain([("T", tokens)]).collect();
        agree_in_stages(&variant, &dims);
    }
}

#[test]
fn reductions_over_tokens_with_and_without_a_filter() {
    for op in ["sum", "mean", "max", "min", "prod"] {
        agree(&format!("order full; let s = {op}[j](g[j] * 0.9); output o[t] = s * q[t]; output r = {op}[j](k[j]);"));
        agree(&format!("order full; output o = {op}[j : g[j] > 0.2](k[j]); output p = {op}[j : j > 1](g[j] .* v[j]);"));
        agree(&format!("order full; output o = {op}[j : g[j] > 9](k[j]);"));
    }
    agree(
        "order full; output o = argmax[j](g[j]); output p = argmax[j : j > 2](b[j]); output r = argmax[j](0 * g[j]);",
    );
    agree("order full; output o = count[j](g[j] > 0); output p = count[j : b[j] > 0](g[j] > 0);");
    agree("output o[t] = argmax[f in F](w[f]' * q[t]); output p[t] = count[f in F](w[f]' * q[t] > 0);");
    agree(
        "output o[t] = argmax[f in F : w[f]' * q[t] > 99](w[f]' * q[t]); output p[t] = max[f in F : f > 9](w[f]' * q[t]);",
    );
}

#[test]
fn sums_are_products_of_matrices_in_every_orientation() {
    agree("order full; let s = sum[j](k[j] * v[j]'); output o[t] = s' * q[t]; output p = s; output r = s';");
    agree("order full; let s = sum[j](v[j] * k[j]'); output o[t] = s * q[t]; output p = s * s';");
    agree("order full; let s = sum[j]((g[j] * b[j]) * k[j] * (exp(b[j]) * v[j])'); output o[t] = gamma * (s' * q[t]);");
    agree("order full; output o = k' * v; output p = q * m; output r = q * (m * m'); output s = k * q';");
    agree("order full; output o = (k .* q)' * (v + 1); output p = (q * m') * (k' * v); output r = v' * (q * m);");
    agree("order full; let s = sum[j](k[j]' * q[j]); output o = s; output p = sum[j](k[j]' * m * q[j]);");
    agree("order full; let s = mean[j](exp(g[j]) * n .* k[j]); output o[t] = s * g[t] / (1 + g[t]^2);");
}

#[test]
fn factors_that_do_not_depend_on_the_summed_position_go_before_it() {
    agree(
        "order full; output o[i] = sum[j](g[i] * k[j] / (1 + b[i]^2)); output p[i] = sum[j](g[i]); output r[i] = sum[j](2);",
    );
    agree("order full; output o[i] = sum[j]((q[i]' * k[j]) * v[j]); output p[i] = sum[j : true](g[i] * g[j]);");
    agree("output o[t] = sum[f in F](g[t] * w[f]) / K; output p[t] = sum[f in F](gamma * g[t]);");
}

#[test]
fn vectors_folded_and_normalised() {
    agree("output o[t] = softmax(q[t]); output p[t] = softmax(k[t] * v[t]'); output r[t] = softmax(-1e30 * q[t]^2);");
    agree("output o[t] = rms(v[t]) + layer_norm(v[t], eps = 0.1); output p[t] = l2norm(q[t] * v[t]');");
    agree(
        "output o = l2norm(q); output p = softmax(k'); output r = l2norm(q') * l2norm(k')'; output s = layer_norm(v');",
    );
    agree(
        "output o[t] = sum(q[t]) + mean(k[t]) * max(q[t]) - min(k[t]) * norm2(v[t]); output p = sum(q'); output r = max(k);",
    );
    agree("output o[t] = rms(stack(q[t], v[t])); output p[t] = layer_norm(flatten(q[t] * v[t]'));");
}

#[test]
fn what_is_largest_is_marked_and_of_equals_the_first() {
    for n in [0, 1, 2, 9] {
        agree(&format!("output o[t] = topk_mask(q[t], {n}); output p[t] = topk_mask(q[t] * v[t]', {n});"));
    }
    agree("output o[t] = topk_mask(floor(2 * v[t]), 2); output p[t] = topk_mask(0 * v[t], 3);");
    agree("output o[t] = topk_mask(stack(q[t], k[t]), h + 1) .* stack(q[t], k[t]);");
}

#[test]
fn subscripts_out_of_range_read_nothing() {
    agree("output o[t] = q[t-1] + k[t+2] - q[T - 1 - t]; output p[t] = g[t-70] + g[t+70]; output r[t] = q[0] + k[5];");
    agree(
        "output o[t] = if t >= 2 then q[t-2] else k[t+1]; output p[t] = if g[t-1] > 0 and t < 3 then v[t-1] else v[2*t];",
    );
    agree("output o[t] = q[t div 2] + k[(t + 3) mod 5] + q[2*t - 1]; output p[t,f] = w[f - 1, f] * g[t - f];");
    agree("let a[t] = exp(q[t]); output o[t] = a[t-1] .* a[t+1]; output p[t] = a[t-1][0] + a[t][1];");
    agree("let e[t,f] = w[f]' * q[t]; output o[t,f] = e[t-1,f+1] + e[t,f-2]; output p[f,t] = e[t,F-1-f];");
    agree("let s = k' * v; output o[f] = s[f]; output p = s[1]; output r = s[7]; output u[t] = s[t mod 4] * g[t];");
}

#[test]
fn subscripts_that_the_data_give() {
    agree("output o[t] = q[ids[t]]; output p[t] = w[ids[t]]; output r[t] = w[ids[t], ids[t] - 1] * g[t];");
    agree("output o[t] = w[ids[t] mod 4, t mod 3] * g[t];");
    agree("let a[t] = exp(q[t]); output o[t] = a[ids[t] + 1]; output p[t] = a[argmax[r in K](k[t][r])];");
    agree("order full; output o = sum[j](v[ids[j]]); output p[i] = sum[j : ids[j] == i mod 3](k[ids[i]]);");
    agree("output o = m[n[0]]; output p[t] = v[t][ids[t]]; output r[f] = w[f, n[f - 1]];");
}

#[test]
fn constants_read_out_of_range_are_nothing_too() {
    agree(
        "let c1[t] = 2; let e[t] = h + 1; let s[t] = T; output o[t] = c1[t-1] * q[t]; output p[t] = e[t+1] + s[t-2] + c1[t];",
    );
    agree("let e = eye(K); output o[f] = e[f]; output p[t] = e[t] + e[1];");
}

#[test]
fn conditions_take_one_branch() {
    agree(
        "output o[t] = if g[t] > 0 then ln(g[t]) else sqrt(-g[t]); output p[t] = if g[t] > 0 or g[t-1] > 0 then q[t] else 0;",
    );
    agree(
        "output o[t] = if not (0 < g[t] <= 0.5) then q[t] / g[t] else k[t]; output p[t] = if t mod 3 == 1 then 1 else v[t];",
    );
    agree("let a[t] = if t == 0 then 1 / g[t-1] else 2; output o[t] = if t == 0 then q[t] else a[t] * q[t];");
}

#[test]
fn integers_and_positions() {
    agree(
        "output o[t] = ids[t] * q[t] + (ids[t] mod 3); output p[t] = (ids[t] div 2) * 1; output r[t] = h + t + K * T;",
    );
    agree(
        "order full; output o = sum[j](ids[j]); output p = max[j](ids[j] * ids[j]); output r[t] = n .* (ids[t] * n);",
    );
    agree("order full; let s = sum[j](n * (ids[j] * n)'); output o[t] = s * q[t]; output p = n * n';");
}

#[test]
fn convolutions_in_time() {
    agree("let y = conv1d(q, c); output o[t] = y[t]; output p = silu(y) + conv1d(y, c); output r[t] = y[t-1] .* k[t];");
    agree("let u[t] = exp(q[t]) .* k[t]; let y = conv1d(u, c); output o[t] = y[t] + u[t];");
    agree("let e = conv1d(w, c); output o[f] = e[f];");
}

#[test]
fn turned_vectors_of_even_and_odd_lengths() {
    agree(
        "output o[t] = rope(q[t], t); output p[t] = rope(v[t], t - 3, base = 100); output r[t] = rope(stack(q[t], k[t]), 2*t);",
    );
    agree("let a[t] = rope(l2norm(q[t]), t); order full; let s = sum[j](a[j] * v[j]'); output o[t] = s' * a[t];");
    agree("output o[t] = rope(cols(v[t], 1, 3), t); output p[t] = rope(flatten(q[t] * k[t]'), t);");
}

#[test]
fn views_are_read_where_they_lie() {
    agree("output o[t] = flatten(w) * g[t]; output p[t] = flatten(q[t] * v[t]'); output r[t] = cols(m, 1, 3)' * q[t];");
    agree(
        "output o[t] = cols(flatten(m), 2, 7); output p[t] = flatten(cols(m', 0, 2)) * g[t]; output r[t] = cols(v[t], 4, 5);",
    );
    agree(
        "output o[t] = diag(q[t]) * m * diag(k[t]); output p[t] = (eye(K) - g[t] * k[t] * k[t]') * q[t]; output r = diag(gamma * sum(q')) * m;",
    );
    agree(
        "output o[t] = stack(q[t], v[t], g[t] * k[t]); output p = stack(q, v); output r[t] = cols(stack(q[t], v[t]), 2, 6);",
    );
}

#[test]
fn iterations_keep_their_last_entry() {
    agree(
        "let a = k' * k / (1 + T); let x[s] = 0.5 * x[s-1] + 0.1 * a * x[s-1] for s in 1..5 from a; output o = x; output p[t] = x * q[t];",
    );
    agree("let x[s] = cos(x[s-1]) + s * 0.1 for s in 1..4 from m; output o[t] = x * q[t]; output p = x' * x;");
    agree("let x[s] = x[s-1] * m for s in 1..1 from m; output o = x + m;");
    agree("let a = w * w'; let x[s] = rms(x[s-1] * x[s-1]') + a for s in 1..3 from a; output o = x;");
}

#[test]
fn systems_of_equations() {
    agree("let a = m' * m + eye(K); output o[t] = solve(a, q[t]); output p[t] = solve_cg(a, q[t], iters = 2);");
    agree(
        "output o[t] = solve(m' * m + (1 + g[t]^2) * eye(K), q[t]); output p[t] = solve_cg(m' * m + (2 + b[t]) * eye(K), k[t], iters = 2);",
    );
    agree(
        "order full; let s = sum[j](k[j] * k[j]') + eye(K); output o = solve(s, sum(q')); output p[t] = solve(s, k[t]);",
    );
}

#[test]
fn memories_of_another_length() {
    agree("order full; output o[i] = sum[u in N](softmax[u in N](q[i]' * mem[u]) * mem[u]);");
    agree("let a[i,u] = softmax[u in N](q[i]' * mem[u] / sqrt(K)); output o[i] = sum[u in N](a[i,u] * mem[u]);");
    agree("order full; let s[u] = sum[j](exp(mem[u]' * k[j]) * v[j]); output o[u] = s[u]; output p[t] = s[2] * g[t];");
}

#[test]
fn heads_read_their_groups() {
    let text = "variant f { axes B, T, G, R, H = G*R, K; input q : [B,T,H,K], k, v : [B,T,G,K]; param s : [G], z : [H]; \
                order causal; let p[i,j] = softmax[j](q[i]' * k[j] * s); \
                output o[i] = sum[j](p[i,j] * v[j]) + z * h * v[i]; }";
    let variant = variant(text);
    for tokens in TOKENS {
        agree_in_stages(&variant, &[("B", 2), ("H", 6), ("G", 2), ("R", 3), ("K", 3), ("T", tokens)]);
    }
}

#[test]
fn further_batch_axes_and_layouts() {
    let text = "variant f { axes B, T, H, K; batch U; input q : [U,T,B,K,H], k : [T,B,H,U,K], a : [U]; param w : [H,K,K], p : [K]; \
                order full; let s = sum[j](k[j] * k[j]'); let once = softmax(w * p) + a; \
                output o[t] = s * q[t] + once; output r = w * p; output x = once + h; }";
    let variant = variant(text);
    for tokens in TOKENS {
        agree_in_stages(&variant, &[("B", 2), ("H", 3), ("U", 2), ("K", 4), ("T", tokens)]);
    }
}

#[test]
fn a_token_that_is_no_number_stays_where_it_is() {
    let spoil = |inputs: &mut BTreeMap<String, Array>| {
        for (name, inner) in [("q", 6), ("k", 6), ("v", 10), ("g", 2)] {
            if let Some(array) = inputs.get_mut(name)
                && array.data.len() >= 3 * inner
            {
                array.data[2 * inner..3 * inner].fill(f64::NAN);
            }
        }
    };
    for body in [
        "output o[t] = exp(g[t]) * q[t] .* k[t]; output p[t] = w * q[t]; output r[t] = softmax(v[t]);",
        "output o[t] = q[t-1] + k[t+1]; let y = conv1d(q, c); output p[t] = y[t] + y[t-2];",
        "order causal; let p[i,j] = softmax[j](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * v[j]);",
        "order reverse; output o[i] = sum[j](exp(q[i]' * k[j]) * v[j]);",
        "order causal; local window(2); output o[i] = sum[j](q[i]' * k[j] * v[j]); output p[i] = max[j](g[j]);",
        "order full; output o = sum[j : j > 2](k[j]); output p = count[j : not (g[j] > 0 or g[j] <= 0)](true);",
        "output o[t] = if t == 2 then 0 else exp(g[t]) * q[t]; output p[t] = topk_mask(q[t], 2);",
    ] {
        let variant = variant(&text(body));
        for tokens in [3, 5, 67] {
            let dims: Vec<(&str, usize)> = DIMS.into_iter().chain([("T", tokens)]).collect();
            agree_spoilt(&variant, &dims, 1, (&|variant, sizes| lower(variant, sizes), &spoil));
        }
    }
}

#[test]
fn what_is_not_lowered_is_refused_by_name() {
    for (body, named) in [
        ("output o[t] = rope(q[t], t, base = gamma);", "rope"),
        ("order causal(a = g), reverse(a = b) merge sum; output o[i] = sum[j](a[j] * k[j]);", "several orders"),
        ("order causal(by = ids + 0); output o[i] = sum[j](k[j]);", "by"),
    ] {
        let variant = variant(&text(body));
        let dims: Vec<(String, usize)> =
            DIMS.iter().chain(&[("T", 3)]).map(|(name, n)| (name.to_string(), *n)).collect();
        let refused = lower(&variant, &bind_dims(&variant, &dims).unwrap()).unwrap_err();
        assert!(refused.operation.contains(named), "{refused}");
        assert!(refused.span.is_some() && refused.way_out.contains("--backend reference"), "{refused}");
    }
}

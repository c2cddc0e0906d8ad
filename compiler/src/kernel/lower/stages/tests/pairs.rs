//! Pairs of tokens: softmax and sums under every order and locality, what is hidden from everybody, long logits.

use super::super::super::tests::{agree_in_stages, variant};
use super::{DIMS, TOKENS, agree, text};

/// Softmax attention and a plain sum under an order and its localities.
fn attend(visible: &str) {
    agree(&format!(
        "{visible} let p[i,j] = softmax[j](q[i]' * k[j] / sqrt(K)); output o[i] = sum[j](p[i,j] * v[j]); \
         output r[i] = sum[j](q[i]' * k[j] * v[j]); output c[i] = count[j](g[j] > 0);"
    ));
}

#[test]
fn orders_of_tokens() {
    for order in ["", "order causal;", "order full;", "order reverse;"] {
        attend(order);
    }
}

#[test]
fn localities_of_tokens() {
    for local in [
        "order causal; local window(3);",
        "order full; local window(2, 4);",
        "order full; local window(0);",
        "order reverse; local window(0, 5);",
        "order causal; local block(4);",
        "order full; local block(5); local window(2, 2);",
        "order full; local block(100);",
        "order full; local where i - j < 3 or (i - j) mod 4 == 0;",
        "order causal; local where g[i] > 0 or g[j] > 0.3;",
        "order full; local where ids[i] == ids[j];",
        "order full; local where abs(i - j) < 2 or i < 2 or j < 2;",
        "order causal; local where count[f in F](w[f]' * q[i] > w[f]' * k[j]) > 1;",
    ] {
        attend(local);
    }
}

#[test]
fn nothing_visible_weighs_nothing() {
    attend("order full; local where false;");
    attend("order causal; local where i - j > 2;");
    agree(
        "order full; let p[i,j] = softmax[j](if g[j] > 0 then q[i]' * k[j] else -inf); output o[i] = sum[j](p[i,j] * v[j]);",
    );
    agree("order full; let p[i,j] = softmax[j](-inf); output o[i] = sum[j](p[i,j] * v[j]);");
    agree("order full; let p[j] = softmax[j : g[j] > 9](g[j]); output o = sum[j](p[j] * v[j]);");
    agree(
        "order causal; local where i > j + 1; output o[i] = max[j](g[j]); output p[i] = mean[j](k[j]); output r[i] = min[j](g[j]);",
    );
}

#[test]
fn logits_of_any_size_make_weights() {
    agree("order causal; let p[i,j] = softmax[j](1000 * (q[i]' * k[j])); output o[i] = sum[j](p[i,j] * v[j]);");
    agree("order full; let p[i,j] = softmax[j](-1e30 * (q[i]' * k[j])^2); output o[i] = sum[j](p[i,j] * v[j]);");
}

#[test]
fn reductions_over_what_is_visible() {
    for op in ["sum", "mean", "max", "min", "prod"] {
        agree(&format!("order causal; output o[i] = {op}[j](g[j]); output p[i] = {op}[j : true](g[j] * g[i]);"));
        agree(&format!("order reverse; output o[i] = {op}[j : g[j] > 0](k[j] + g[i]);"));
        agree(&format!("order full; let s[i,j] = g[i] - b[j]; output o[i] = {op}[j : j != i](s[i,j]);"));
    }
    agree(
        "order causal; output o[i] = argmax[j](g[j] * b[i]); output p[i] = argmax[j : j < i](g[j]); output r[i] = argmax[j](0 * g[j]);",
    );
    agree("order full; let n[i] = argmax[f in F](w[f]' * q[i]); output o[i] = count[j : j < i](n[j] == n[i]);");
}

#[test]
fn values_of_pairs() {
    agree("order full; let s[i,j] = q[i]' * k[j]; output o[i,j] = s[i,j] + s[j,i]; output p[i] = s[i,i] * g[i];");
    agree(
        "order full; let s[i,j] = norm2(q[i] - k[j]); output o[i] = sum[j](exp(-s[i,j]) * v[j]) / sum[j](exp(-s[i,j]));",
    );
    agree(
        "order causal; let s[i,j] = exp(g[j] - abs(g[i])); output o[i] = sum[j](s[i,j] * v[j]); output p = sum[i](sum[j : true](s[i,j]));",
    );
    agree("order full; let s[i,j] = relu(q[i]' * k[j]); let y = s * v; output o = y; output p = s' * v;");
    agree(
        "order causal; let s[i,j] = q[i]' * m * k[j]; let p[i,j] = softmax[j](s[i,j] + gamma * (i - j)); output o[i] = sum[j](p[i,j] * v[j]) + k[i-1]' * q[i];",
    );
    agree(
        "order full; let p[i,j] = softmax[j](q[i]' * k[j]); let r[i,j] = softmax[i : true](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * r[i,j] * v[j]);",
    );
    agree(
        "order causal; let p[i,j] = softmax[j](q[i]' * k[j]); let z[i] = sum[j](p[i,j] * v[j]); output o[i] = z[i] + z[i-1]; output r[i] = sum[j](p[i,j] * z[j]);",
    );
}

#[test]
fn tables_of_distances() {
    let body = "axes B, T, H, K; input q, k : [B,T,H,K]; param bias : [H, 2*T-1], near : [H,5]; order full; \
                let p[i,j] = softmax[j](q[i]' * k[j] + bias[j - i + T - 1] + near[i - j + 2]); output o[i] = sum[j](p[i,j] * k[j]);";
    let variant = variant(&format!("variant f {{ {body} }}"));
    for tokens in TOKENS {
        agree_in_stages(&variant, &[("B", 2), ("H", 2), ("K", 3), ("T", tokens)]);
    }
}

#[test]
fn keys_of_another_length_are_all_seen() {
    let variant = variant(&text(
        "order causal; let p[i,u] = softmax[u in N](q[i]' * mem[u]); output o[i] = sum[u in N](p[i,u] * mem[u]); \
         output x[u] = sum[j](g[j] * mem[u]);",
    ));
    for tokens in TOKENS {
        let dims: Vec<(&str, usize)> = DIMS.into_iter().chain([("T", tokens)]).collect();
        agree_in_stages(&variant, &dims);
    }
}

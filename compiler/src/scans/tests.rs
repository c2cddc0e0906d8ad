//! Variants of several stages, run by the kernel interpreter, against the reference.

use crate::kernel::lower::tests::{agree_at, variant};
use crate::{Derivation, Form, Schedule, Tiles};

use super::stages;

const DIMS: [(&str, usize); 4] = [("B", 2), ("H", 3), ("K", 3), ("V", 5)];

/// All forms and schedules, at several numbers of tokens.
fn agree(text: &str, sizes: &[&[(&str, usize)]]) {
    let variant = variant(text);
    assert!(stages(&variant).unwrap().is_some_and(|stages| stages.len() > 1));
    let derivation = Derivation::of(&variant);
    let layouts = [Form::Recurrent, Form::Chunked, Form::Parallel].map(|form| (form, Schedule::Fused));
    for layout in layouts.into_iter().chain([(Form::Chunked, Schedule::Split)]) {
        if derivation.missing(layout.0).is_some() {
            continue;
        }
        for sizes in sizes {
            let dims: Vec<(&str, usize)> = DIMS.iter().chain(*sizes).copied().collect();
            let tokens = sizes.iter().map(|(_, n)| n).product::<usize>().max(1);
            let chunk = if layout.0 == Form::Parallel { tokens } else { 4 };
            agree_at(&variant, &dims, chunk, &|_, sizes| derivation.compile(sizes, layout, Tiles::Whole));
        }
    }
}

fn of(orders: &str, rest: &str) -> String {
    format!(
        "variant v {{ axes B, T, H, K, V; input q, k, gf, gb : [B,T,H,K], v : [B,T,H,V];
         order {orders}; state S : [K,V] = 0; decay a[t] = exp(logsigmoid(g[t])); update S additive(k, v); {rest} }}"
    )
}

const LENGTHS: [&[(&str, usize)]; 5] = [&[("T", 0)], &[("T", 1)], &[("T", 4)], &[("T", 9)], &[("T", 70)]];

#[test]
fn both_directions_are_summed_or_averaged() {
    let both = "causal(g = gf), reverse(g = gb)";
    agree(&of(both, "read o[t] = S[t]' * q[t] / sqrt(K); output o[t];"), &LENGTHS);
    agree(&of(&format!("{both} merge mean"), "output o[t] = S[t]' * q[t];"), &LENGTHS);
    let before = "read o[t] = S[t-1]' * q[t]; norm rms over V; output y[t] = o[t] .* sigmoid(v[t]);";
    agree(&of(both, before), &LENGTHS);
}

#[test]
fn values_by_position_stay_with_their_tokens() {
    let text = "variant v { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; param w : [H,K,3];
                let k = silu(conv1d(k, w)); order reverse; state S : [K,V] = 0;
                update S[t] = 0.9 * S[t-1] + k[t] * (v[t] + t)' + k[t-1] * v[t+1]';
                output o[t] = S[t]' * q[t] + v[t]; output p[t] = t * q[t]; }";
    agree(text, &LENGTHS);
}

#[test]
fn grids_are_scanned_by_columns_and_backwards() {
    let text = "variant v { axes B, T = Y*X, H, K, V; input q, k, a0, a1, a2, a3 : [B,T,H,K], v : [B,T,H,V];
                param w : [H,V,3,3]; order raster(g = a0), column(g = a1), raster_rev(g = a2), column_rev(g = a3);
                state S : [K,V] = 0; decay a[t] = exp(-(g[t]^2)); update S additive(k, v);
                read o[t] = S[t]' * q[t]; output y[t] = o[t] + dwconv(v, w)[t]; }";
    agree(text, &[&[("Y", 1), ("X", 1)], &[("Y", 3), ("X", 5)], &[("Y", 7), ("X", 2)]]);
}

#[test]
fn stretches_of_tokens_are_refused_by_columns() {
    let text = "variant v { axes B, T = Y*X, K; input k, q : [B,T,K]; order column; local block(7); state S : [K] = 0;
                update S additive(k); output o[t] = S[t] .* q[t]; }";
    let refused = stages(&variant(text)).unwrap_err().to_string();
    assert!(refused.contains("no stretches of the order"), "{refused}");
}

#[test]
fn convolutions_on_the_grid_feed_a_scan() {
    let text = "variant v { axes B, T = Y*X, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; param w : [H,V,3,3];
                let u = silu(dwconv(v, w)); state S : [K,V] = 0; update S[t] = 0.8 * S[t-1] + k[t] * u[t]';
                output o[t] = S[t]' * q[t]; }";
    agree(text, &[&[("Y", 1), ("X", 1)], &[("Y", 3), ("X", 5)]]);
}

#[test]
fn norms_over_heads_are_a_stage_after_the_scan() {
    for norm in ["rms", "srms(eps = 1e-8)", "layer"] {
        let text = format!(
            "variant v {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; state S : [K,V] = 0;
             update S additive(k, v); read o[t] = S[t]' * q[t]; norm {norm} over H, V; output o[t]; }}"
        );
        agree(&text, &LENGTHS);
    }
}

#[test]
fn states_that_are_not_affine_scan_backwards() {
    let text = "variant v { axes B, T, H, K, V; input k : [B,T,H,K], v : [B,T,H,V]; order reverse;
                state S : [K,V] = 0; update S[t] = tanh(S[t-1]) + k[t] * v[t]'; output o[t] = S[t]' * k[t]; }";
    agree(text, &LENGTHS);
}

#[test]
fn a_variant_of_one_pass_forward_is_one_stage() {
    for order in ["", "order causal;"] {
        let text = format!(
            "variant v {{ axes B, T, H, K, V; input k : [B,T,H,K], v : [B,T,H,V]; {order}
             state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * k[t]; }}"
        );
        assert!(stages(&variant(&text)).unwrap().is_none());
    }
}

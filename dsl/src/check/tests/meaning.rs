//! What programs mean: which domain a reduction has, what laws become, how outputs lie.

use super::{around, compile, variant};
use crate::print_typed::{expr_text, typed};
use crate::shape::Size;
use crate::typed::{BatchDim, Domain, ExprKind, LetValue, OutputDim, Stmt, Variant};

/// Every reduction's and softmax's domain, and the index it binds, in the order of the arena.
fn domains(variant: &Variant) -> Vec<(String, Domain)> {
    let bound = variant.exprs.iter().filter_map(|expr| match &expr.kind {
        ExprKind::Reduce { index, domain, .. } | ExprKind::Softmax { index, domain, .. } => Some((index, domain)),
        _ => None,
    });
    bound.map(|(index, domain)| (variant.indices[index.index()].name.clone(), domain.clone())).collect()
}

fn visible(body: &str) -> Vec<bool> {
    domains(&variant(&around(body))).into_iter().map(|(_, domain)| domain.visible_from.is_some()).collect()
}

fn update_text(variant: &Variant) -> String {
    let update = variant.body.iter().find_map(|stmt| match stmt {
        Stmt::Update(update) => Some(update.value),
        _ => None,
    });
    expr_text(variant, update.expect("the variant updates a state"))
}

#[test]
fn a_reduction_ranges_over_what_is_visible() {
    assert_eq!(visible("output o[i] = sum[j](k[j]);"), [true]);
    assert_eq!(visible("output o[i] = sum[j : true](k[j]);"), [false]);
    assert_eq!(visible("output o = sum[j](k[j]);"), [false]);
    assert_eq!(visible("output o[i] = sum[i](k[i]);"), [false]);
    assert_eq!(visible("output o[n] = sum[j](k[j]) + u[n];"), [false]);
    assert_eq!(visible("output o[i] = sum[n](u[n]);"), [false]);
    assert_eq!(visible("let s[i,j] = max[j](g[j]); output o[i] = g[i];"), [true]);
    assert_eq!(visible("let s[i,j] = max[i](g[i]); output o[i] = g[i];"), [true]);
    assert_eq!(visible("let s[i,j] = sum[s](g[s]); output o[i] = g[i];"), [true]);
    assert_eq!(visible("let s[i,j] = softmax[j](g[j]); output o[i] = g[i];"), [true]);
    assert_eq!(visible("let s[j] = softmax[j](g[j]); output o[i] = g[i];"), [false]);
    assert_eq!(visible("output o[i] = sum[j](softmax[j](g[j]) * v[j]);"), [true, true]);
}

#[test]
fn a_softmax_binds_a_copy_of_its_index() {
    let v = variant(&around("output o[i] = sum[j](softmax[j](q[i]' * k[j]) * v[j]);"));
    let found = v.exprs.iter().find_map(|expr| match expr.kind {
        ExprKind::Softmax { index, bound, over, at, .. } => Some((index, bound, over, at)),
        _ => None,
    });
    let (index, bound, over, at) = found.expect("there is a softmax");
    assert!(index != bound && over != at);
    assert_eq!(expr_text(&v, over), expr_text(&v, at));
}

#[test]
fn indices_take_their_axes_from_subscripts() {
    let v = variant(
        "variant f { axes T, N, K; input x : [T,K], c : [N,K], d : [T+1];
        let a[j] = c[j]; output o[i] = x[i] + d[i] * d[i+1]; }",
    );
    let size = |name: &str| {
        let index = v.indices.iter().find(|index| index.name == name).expect("the index is used");
        index.size.print(&|axis| v.axis_name(axis))
    };
    assert_eq!((size("j").as_str(), size("i").as_str()), ("N", "T"));
}

#[test]
fn laws_become_equations() {
    let text = |body: &str| {
        update_text(&variant(&around(&format!("state S : [K,V] = 0; {body} output o[t] = S[t]' * q[t];"))))
    };
    assert_eq!(text("update S additive(k, v);"), "S[t-1] + k[t] * v[t]'");
    assert_eq!(text("decay a = gamma; update S additive(k, v);"), "a * S[t-1] + k[t] * v[t]'");
    assert_eq!(text("decay a[t] = sigmoid(k[t]); update S gated(v);"), "diag(a[t]) * S[t-1] + (1 - a[t]) * v[t]'");
    assert_eq!(
        text("decay g[t] on S; update S delta(k, v, beta);"),
        "g[t] * S[t-1] + beta[t] * k[t] * (v[t] - (g[t] * S[t-1])' * k[t])'"
    );
    assert_eq!(
        text("decay g[t]; update S additive(q, v); update S delta(k, v, v);"),
        "g[t] * S[t-1] + q[t] * v[t]' + k[t] * (v[t] .* (v[t] - (g[t] * S[t-1] + q[t] * v[t]')' * k[t]))'"
    );
}

#[test]
fn equal_expressions_are_one_node() {
    let v = variant(&around("output a[t] = exp(g[t]) * q[t]; output b[t] = exp(g[t]) * k[t];"));
    let count =
        v.exprs.iter().filter(|expr| matches!(&expr.kind, ExprKind::Map { function, .. } if function.name() == "exp"));
    assert_eq!(count.count(), 1);
}

#[test]
fn outputs_lie_as_the_first_input_that_has_their_axes() {
    let v =
        variant(&around("output o[t] = q[t]; output s = sum[j](k[j]); output z = T; output p[i,j] = q[i]' * k[j];"));
    let dims: Vec<_> = v.outputs().map(|output| output.dims.clone()).collect();
    let (b, h) = (OutputDim::Batch(crate::shape::AxisId(0)), OutputDim::Batch(crate::shape::AxisId(2)));
    assert_eq!(dims[0], [b.clone(), OutputDim::Own(0), h.clone()]);
    assert_eq!(dims[1], [b.clone(), h.clone(), OutputDim::Own(0)]);
    assert_eq!(dims[2], [b.clone(), h.clone()]);
    assert_eq!(dims[3], [b, h, OutputDim::Own(0), OutputDim::Own(1)]);
}

#[test]
fn groups_of_heads_share_entries() {
    let v =
        variant("variant f { axes B, H = G*R, T, N; input x : [B,H,T], b : [B,G,T,N]; output o[t] = x[t] * b[t]; }");
    let batch = v.tensors[1].dims[1].batch.clone();
    let ratio = v.axes.iter().position(|axis| axis.name == "R").expect("R is an axis");
    let ratio = Size::axis(crate::shape::AxisId(u32::try_from(ratio).expect("few axes")));
    assert_eq!(batch, Some(BatchDim::Group { of: v.head.expect("H is there"), ratio }));
}

#[test]
fn derived_axes_are_what_they_equal() {
    variant(
        "variant f { axes B, T, H, K, V, F = 2*K, T = Y*X; input x : [B,T,H,F], y : [B,T,H,2*K], z : [Y*X];
        param w : [F,K+K]; output o[t] = w * (x[t] + y[t]) * z[t] + x[t] * (t.y + t.x + F); }",
    );
}

#[test]
fn functions_expand_in_place() {
    let v = variant(&around(
        "fn dot(a, b) = a' * b; fn attend(s) = sum[j](softmax[j](s) * v[j]);
        output o[i] = attend(dot(q[i], k[j]));",
    ));
    assert!(typed(&v).contains("sum[j](softmax[j](q[i]' * k[j]) * v[j])"), "{}", typed(&v));
    // An argument that mentions the function's own index means the caller's.
    let v = variant(&around("fn total(s) = sum[j](s * g[j]); output o[j] = total(g[j]);"));
    let domains = domains(&v);
    assert_eq!(domains.len(), 1);
}

#[test]
fn iterations_count_both_ends_and_end_at_the_last() {
    let v = variant(&around("let x[s] = 2 * x[s-1] + s for s in 1..W from 1; output o[t] = x * q[t];"));
    assert!(matches!(v.lets[0].value, LetValue::Iterate { from: 1, to: 7, .. }));
    assert!(typed(&v).contains("= x * q[t]"), "{}", typed(&v));
}

#[test]
fn an_output_is_a_value_for_what_follows() {
    let v = variant(&around("output y[t] = 2 * q[t]; output z[t] = y[t] + k[t];"));
    assert_eq!(v.outputs().count(), 2);
}

#[test]
fn scan_lets_and_reads_are_told_apart() {
    let v = variant(&around(
        "state S : [K,V] = 0; update S additive(k, v); let x[t] = S[t]' * q[t];
        read o[t] = x[t]; norm rms over H, V; let y[t] = o[t] + o[t-1]; output y[t];",
    ));
    let scans: Vec<(&str, bool)> = v.lets.iter().map(|found| (found.name.as_str(), found.scan)).collect();
    assert_eq!(scans[..2], [("x", true), ("o", true)]);
    assert!(!v.lets.last().expect("y is a let").scan);
    assert!(v.outputs().all(|output| !output.scan));
}

#[test]
fn windows_take_additive_updates_however_written() {
    let windowed = |update: &str| {
        compile(&around(&format!("local window(4); state S : [K,V] = 0; {update} output o[t] = S[t]' * q[t];")))
    };
    assert!(windowed("update S additive(k, v);").is_ok());
    assert!(windowed("update S[t] = g[t] * S[t-1] + k[t] * v[t]';").is_ok());
    assert!(windowed("update S[t] = S[t-1] - k[t] * (S[t-1]' * k[t])';").is_err());
}

#[test]
fn the_grid_is_the_first_product_of_the_tokens_sum() {
    let offset_and_rows = |tokens: &str| {
        let text = format!("variant f {{ axes L, T = {tokens}; input x : [T]; output o[t] = t.y * x[t]; }}");
        let found = variant(&text);
        let grid = found.grid.clone().expect("the tokens lie on a grid");
        let name = |axis| found.axis_name(axis);
        (grid.offset.print(&name), grid.rows.print(&name))
    };
    assert_eq!(offset_and_rows("Y*X"), ("0".into(), "Y".into()));
    assert_eq!(offset_and_rows("L + Y*X"), ("L".into(), "Y".into()));
    assert_eq!(offset_and_rows("2*L + Y*X"), ("2*L".into(), "Y".into()));
    assert_eq!(offset_and_rows("L + Y*X + (Y/2)*(X/2)"), ("L".into(), "Y".into()));
}

//! Tokens on a grid: convolutions of every stride and number of taps, coordinates, orders by columns, localities of tiles
//! and discs.

use super::super::super::tests::{agree_in_stages, variant};

/// Rows and columns, a single one of either, and more tokens than a block of rows.
const GRIDS: [(usize, usize); 6] = [(1, 1), (1, 6), (5, 1), (3, 4), (5, 7), (9, 8)];

fn agree_on(grids: &[(usize, usize)], body: &str) {
    let text = format!(
        "variant f {{ axes B, T = Y*X, H, K, V, A, N = A*K; input q, k : [B,T,H,K], v : [B,T,H,V], x : [B,T,H,A,K], \
         own : [B,H,V,3,2]; param w1 : [H,K,1,1], w3 : [H,K,3,3], w7 : [H,K,7,7], even : [H,K,2,4], wide : [3,5], \
         flat : [H,N,3,3], rows : [Y,K], bias : [H,5,5], g : [H], n : i32 [H,K]; {body} }}"
    );
    let variant = variant(&text);
    for (y, x) in grids {
        let dims = [("B", 2), ("H", 2), ("K", 4), ("V", 3), ("A", 2), ("Y", *y), ("X", *x)];
        agree_in_stages(&variant, &dims);
    }
}

#[test]
fn convolutions_of_every_stride_and_tap_count() {
    for stride in [1, 2, 3] {
        for w in ["w1", "w3", "w7", "even", "wide"] {
            agree_on(&GRIDS[..5], &format!("output y = dwconv(q, {w}, stride = {stride});"));
        }
    }
}

#[test]
fn convolutions_of_what_is_computed_and_for_each_sample() {
    agree_on(&GRIDS, "let c = dwconv(silu(q) + k, w3); output y[t] = gelu(c[t]) .* q[t]; output z = dwconv(c, even);");
    agree_on(
        &GRIDS,
        "output y = dwconv(v, own); output z[t] = dwconv(v, g * own)[t] + v[t]; output u = dwconv(q, exp(w3));",
    );
    agree_on(&GRIDS, "let f[t] = flatten(x[t]); output y = dwconv(f, flat); output z = dwconv(cols(f, 1, K + 1), w3);");
    agree_on(&GRIDS, "let m = q .* k; output u = dwconv(m, w3); let r[t] = n .* q[t]; output z = dwconv(r, even);");
    agree_on(
        &GRIDS,
        "let m = q * (q' * k); let c = dwconv(m, w3, stride = 2); output y = c; output z = dwconv(q - k, wide, stride = 2);",
    );
}

#[test]
fn coordinates_and_turns_by_them() {
    agree_on(
        &GRIDS,
        "output o[t] = q[t] * t.y - k[t] * t.x + rows[t.y]; output p[t] = q[(t.y - 1) * X + t.x] + q[t.x * X + t.y];",
    );
    agree_on(
        &GRIDS,
        "output o[t] = rope2d(q[t], t); output p[t] = rope2d(v[t], t); output r[t] = rope2d(stack(q[t], v[t]), t);",
    );
    agree_on(&GRIDS, "order full; let s = mean[j](rope2d(k[j], j) * v[j]'); output o[i] = s' * rope2d(q[i], i);");
    agree_on(&GRIDS, "let r[y] = sum[u in X](k[y * X + u]); output o[t] = r[t.y] .* q[t]; output p = r;");
}

#[test]
fn orders_and_localities_of_a_grid() {
    for visible in [
        "order raster;",
        "order raster_rev;",
        "order column;",
        "order column_rev;",
        "order full; local block(2, 3);",
        "order full; local block(3, 2, shift = 1);",
        "order full; local block(7, 7, shift = 3);",
        "order full; local disc(1.5);",
        "order full; local disc(abs(g) + 1);",
        "order full; local atrous(2, 2, rate = 2);",
        "order raster; local atrous(1, 2, rate = 3); local disc(4);",
        "order full; local where abs(i.y - j.y) <= 1 and i.x >= j.x;",
        "order column; local window(5);",
        "order full; local block(4);",
    ] {
        agree_on(
            &GRIDS,
            &format!("{visible} let p[i,j] = softmax[j](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * v[j]);"),
        );
    }
}

#[test]
fn biases_by_distance_in_both_directions() {
    agree_on(
        &GRIDS,
        "order full; local block(3, 3, shift = 1); let p[i,j] = softmax[j](q[i]' * k[j] + bias[i.y - j.y + 2, i.x - j.x + 2]); \
         output o[i] = sum[j](p[i,j] * v[j]);",
    );
}

#[test]
fn tokens_before_the_grid() {
    let text = "variant f { axes B, T = L + Y*X, H, K; input q, k : [B,T,H,K]; order column; \
                let p[i,j] = softmax[j](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * k[j]) + i.y - i.x; \
                output r[i] = rope2d(q[i], i); }";
    let variant = variant(text);
    for (l, y, x) in [(0, 2, 3), (1, 1, 1), (3, 4, 5), (2, 8, 9)] {
        agree_in_stages(&variant, &[("B", 1), ("H", 2), ("K", 3), ("L", l), ("Y", y), ("X", x)]);
    }
}

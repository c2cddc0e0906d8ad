//! Whole programs: those of the language's page and worked ones of the field.

use super::{compile, variant};

const PAGE: &str = "
variant gated_deltanet {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];   # g: log decay, <= 0
  feature unit(x) = l2norm(x) on q, k;                          # feature map
  order   causal;
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);                                     # decay
  update  S delta(k, v, beta);                                  # state update: a law ...
  output  o[t] = S[t]' * q[t] / sqrt(K);
  check   draw(g = logdecay, beta = sigmoid);
}";

const PAGE_RAW: &str = "
variant gated_deltanet {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];
  feature unit(x) = l2norm(x) on q, k;
  order   causal;
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);
  update  S[t] = a[t] * (eye(K) - beta[t] * k[t] * k[t]') * S[t-1] + beta[t] * k[t] * v[t]';
  output  o[t] = S[t]' * q[t] / sqrt(K);
  check   seq(1, 64, 130), dims(K = 32, V = 48), forms(recurrent, chunk(16)), tol(1e-5), draw(g = logdecay, beta = sigmoid, k = unit);
}";

const WORKED: &[&str] = &[
    "variant linear_attention {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  feature phi(x) = elu(x) + 1 on q, k;
  order   causal;
  state   S : [D,E] = 0, z : [D] = 0;
  update  S additive(k, v);
  update  z additive(k);
  output  o[t] = S[t]' * q[t] / (z[t]' * q[t] + 1e-6);
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5); }",
    "variant performer(M = 64) {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   W : [M,D];
  feature prf(x) = exp(W * x / D^0.25 - norm2(x)^2 / (2 * sqrt(D))) / sqrt(M) + 1e-6 on q, k;
  order   full;
  let     S = sum[j](k[j] * v[j]');
  let     z = sum[j](k[j]);
  output  o[i] = S' * q[i] / (z' * q[i]); }",
    "variant hedgehog {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   W : [H,D,D];
  feature hh(x) = stack(softmax(W*x), softmax(-(W*x))) on q, k;
  order   causal;
  state   S : [2*D,E] = 0, z : [2*D] = 0;
  update  S additive(k, v);
  update  z additive(k);
  output  o[t] = S[t]' * q[t] / (z[t]' * q[t]); }",
    "variant retnet {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  order   causal;
  state   S : [D,E] = 0;
  decay   a = 1 - 2^(-5 - h);
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t] / sqrt(D);
  norm    rms(eps = 1e-5) over E;
  output  o[t]; }",
    "variant gla(tau = 16) {
  axes    B, H, T, D, E;
  input   q, k, g : [B,H,T,D], v : [B,H,T,E];
  state   S : [D,E] = 0;
  decay   a[t] = exp(logsigmoid(g[t]) / tau);
  update  S additive(k, v);
  output  o[t] = S[t]' * q[t] / sqrt(D); }",
    "variant vig(tau = 16) {
  axes    B, H, T = Y*X, D, E;
  input   q, k, gf, gb : [B,H,T,D], v, x, r : [B,H,T,E];
  param   w : [H,E,3,3];
  let     u = silu(dwconv(x, w));
  order   causal(g = gf), reverse(g = gb) merge mean;
  state   S : [D,E] = 0;
  decay   a[t] = exp(logsigmoid(g[t]) / tau);
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t] / sqrt(D);
  let     b[t] = sigmoid(r[t]);
  output  y[t] = rms(o[t]) .* b[t] + rms(u[t]) .* (1 - b[t]);
  check   grid((1,1), (3,5), (8,8)), forms(recurrent, chunk(16)), tol(1e-5); }",
    "variant deltanet {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], beta : [B,H,T];
  feature nk(x) = l2norm(silu(x)) on q, k;
  state   S : [D,E] = 0;
  update  S delta(k, v, beta);
  output  o[t] = S[t]' * q[t] / sqrt(D); }",
    "variant gated_deltanet {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], beta, a0 : [B,H,T];
  param   A_log, dt_bias : [H];
  feature nk(x) = l2norm(silu(x)) on q, k;
  order   causal;
  state   S : [D,E] = 0;
  decay   a[t] = exp(-(exp(A_log) * softplus(a0[t] + dt_bias)));
  update  S delta(k, v, beta);
  read    o[t] = S[t]' * q[t] / sqrt(D);
  norm    rms(eps = 1e-5) over E;
  output  o[t]; }",
    "variant mamba2 {
  axes    B, H = G*R, T, N, E;
  input   x : [B,H,T,E], dt0 : [B,H,T], b, c : [B,G,T,N];
  param   A_log, dt_bias, skip : [H];
  let     dt[t] = softplus(dt0[t] + dt_bias);
  let     u[t]  = dt[t] * x[t];
  state   S : [N,E] = 0;
  decay   a[t] = exp(-(exp(A_log) * dt[t]));
  update  S additive(b, u);
  output  y[t] = S[t]' * c[t] + skip * x[t]; }",
    "variant norm_attention {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  feature phi(x) = elu(x) + 1 on q, k;
  state   S : [D,E] = 0;
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t];
  norm    srms(eps = 1e-8) over H, E;
  output  o[t];
}
variant diag_attention(C = 64) {
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  local   block(C);
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]);
}
stack transnormer(n = 6) { repeat n { diag_attention(C = 64); } repeat n { norm_attention; } }",
    "variant window_softmax(W = 7, shift = 3) {
  axes    B, H, T = Y*X, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   bias : [H, 2*W-1, 2*W-1];
  order   full;
  local   block(W, W, shift = shift);
  let     s[i,j] = q[i]' * k[j] / sqrt(D) + bias[i.y - j.y + W - 1, i.x - j.x + W - 1];
  let     p[i,j] = softmax[j](s[i,j]);
  output  o[i] = sum[j](p[i,j] * v[j]);
  check   grid((7,7), (14,14), (14,21)), tol(1e-5); }",
    "variant inline_attention {
  axes    B, H, T = Y*X, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], r : [B,H,E,3,3];
  feature phi(x) = exp(0.2 * x) on q, k;
  order   full;
  let     kv = sum[j](k[j] * v[j]') / T;
  let     kb = mean[j](k[j]);
  let     vb = mean[j](v[j]);
  let     loc = dwconv(v, r);
  output  o[i] = (kv' * q[i]) / sqrt(D) + (1 - q[i]' * kb / sqrt(D)) * vb + loc[i]; }",
    "variant mamba_s6 {
  axes B, T, C, N;
  input   x, dt : [B,T,C], b, c : [B,T,N];
  param   A_log : [C,N], skip : [C];
  order   causal;
  state   S : [C,N] = 0;
  decay   a[t] = exp(-(diag(dt[t]) * exp(A_log)));
  update  S[t] = a[t] .* S[t-1] + (dt[t] .* x[t]) * b[t]';
  read    y[t] = S[t] * c[t];
  output  o[t] = y[t] + skip .* x[t]; }",
    "fn kappa(a, b) = exp(-norm2(a - b)^2 / 2);
variant soft(iters = 20) {
  axes B, H, T = Y*X, M, D, E;
  input   q : [B,H,T,D], l : [B,H,M,D], v : [B,H,T,E];
  param   w : [H,3,3];
  order   full;
  let     G[m,n] = kappa(l[m], l[n]);
  let     P = G + 0.01 * eye(M);
  let     c = 1.8 / max[m](sum[n](G[m,n]))^2;
  let     V[s] = 2*V[s-1] - V[s-1]*P*V[s-1] for s in 1..iters from c*P;
  let     K[i,m] = kappa(q[i], l[m]);
  output  o = K * (V * (K' * v)) + dwconv(v, w); }",
    "variant crossvit_fusion {
  axes B, H, T, D, E;
  input   q : [B,H,D], k : [B,H,T,D], v : [B,H,T,E];
  order   full;
  let     p[j] = softmax[j](q' * k[j] / sqrt(D));
  output  o = sum[j](p[j] * v[j]); }",
    "variant tnt_inner { axes B, N, H, M, D, E; batch N;
  input   q, k : [B,N,H,M,D], v : [B,N,H,M,E];
  order   full;
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]); }",
    "variant rala {
  axes B, H, T = Y*X, D;
  input   q, k, v, u : [B,H,T,D];
  param   w : [H,D,5,5];
  feature phi(x) = elu(x) + 1 on q, k;
  order   full;
  let     qg = mean[i](q[i]);
  let     a[j] = T * softmax[j](qg' * k[j] / sqrt(D));
  let     kk[j] = a[j] * k[j];
  let     kb = mean[j](kk[j]);
  let     kv = sum[j](rope2d(kk[j], j) * v[j]') / T;
  let     lepe = dwconv(v, w);
  let     o[i] = (kv' * rope2d(q[i], i)) / (q[i]' * kb + 1e-6);
  output  y[i] = (o[i] + lepe[i]) .* u[i]; }",
    "variant clear(r = 16) {
  axes B, H, T = L + Y*X, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  order   full;
  local   where (i < L and j < L + Y*X)
             or (i >= L and (j < L or j >= L + Y*X or (i.y - j.y)^2 + (i.x - j.x)^2 < r^2));
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]); }",
    "variant kept(th = 0.5) {
  axes B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], s : [B,T];
  order   full;
  local   where s[i] >= th and s[j] >= th;
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = if s[i] >= th then sum[j](p[i,j] * v[j]) else 0 * v[i]; }",
    "variant hgrn2 {
  axes B, H, T, D, E;
  input   q, f : [B,H,T,D], v : [B,H,T,E];
  state   S : [D,E] = 0;
  decay   a[t] = sigmoid(f[t]);
  update  S gated(v);
  output  o[t] = S[t]' * q[t]; }",
    "variant nprf_rpe(M = 64) {
  axes B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   W : [M,D], b : [H, 2*T-1];
  feature prf(x) = exp(W * l2norm(x) - 0.5) / sqrt(M) on q, k;
  order   full;
  let     c[i,j] = exp(b[j - i + T - 1]);
  let     N[i] = sum[j](c[i,j] * k[j] * v[j]');
  let     z[i] = sum[j](c[i,j] * k[j]);
  output  o[i] = N[i]' * q[i] / (q[i]' * z[i] + 1e-6); }",
    "variant local_linear_attention(lambda = 0.01, iters = 32) {
  axes B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  order   causal;
  let     w[i,j] = exp(q[i]' * k[j] / sqrt(D) - max[j](q[i]' * k[j] / sqrt(D)));
  let     om[i] = sum[j](w[i,j]);
  let     mu[i] = sum[j](w[i,j] * (k[j] - q[i]));
  let     Sg[i] = sum[j](w[i,j] * (k[j] - q[i]) * (k[j] - q[i])') + lambda * eye(D);
  let     rho[i] = solve_cg(Sg[i], mu[i], iters = iters);
  let     s[i,j] = w[i,j] * (1 - (k[j] - q[i])' * rho[i]) / (om[i] - mu[i]' * rho[i]);
  output  o[i] = sum[j](s[i,j] * v[j]); }",
    "variant gqa_causal(W = 4096, base = 10000) {
  axes B, H = G*R, T, D, E;
  input   q : [B,H,T,D], k, v : [B,G,T,D];
  order   causal;
  local   window(W);
  let     p[i,j] = softmax[j](rope(q[i], i, base)' * rope(k[j], j, base) / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]); }",
    "variant sea_sparse(kk = 64) {
  axes B, H, T, D, E, P;
  input   q, k : [B,H,T,D], v : [B,H,T,E], est : [B,H,T,P], a, b : [B,H,T];
  order   full;
  let     keep[i] = topk_mask(est[i], max(1, round(kk * P / T)));
  local   where keep[i, floor(j * P / T)] == 1;
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  let     c[i] = sigmoid(a[i]) * sum[j](p[i,j] * v[j]);
  let     eb = mean[i](softmax(est[i]));
  let     avg = sum[j : true](eb[floor(j * P / T)] * v[j]);
  output  o[i] = sigmoid(b[i]) * c[i] + (1 - sigmoid(b[i])) * avg; }",
    "variant flow_attention {
  axes B, H, T, N, D, E;
  input   q : [B,H,T,D], k : [B,H,N,D], v : [B,H,N,E];
  feature sigmoid on q, k;
  order   full;
  let     fi[i]   = 1 / ((q[i] + 1e-6)' * (sum[j](k[j]) + 1e-6));
  let     fo[j]   = 1 / ((k[j] + 1e-6)' * (sum[i](q[i]) + 1e-6));
  let     sink[i] = (q[i] + 1e-6)' * (sum[j](k[j] * fo[j]) + 1e-6);
  let     src[j]  = clamp((k[j] + 1e-6)' * (sum[i](q[i] * fi[i]) + 1e-6), -1, 1);
  let     comp[j] = softmax[j](src[j]) * N;
  let     kv = sum[j](k[j] * (comp[j] * v[j])');
  output  o[i] = sigmoid(sink[i] * T / N) * fi[i] * (kv' * q[i]); }",
    "variant flow_attention_causal {
  axes B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  feature sigmoid on q, k;
  order   causal;
  state   ks, qs, ko, qi : [D] = 0, c : [] = 0, S : [D,E] = 0;
  update  ks[t] = ks[t-1] + k[t];
  update  qs[t] = qs[t-1] + q[t];
  let     n[t]  = t + 1;
  let     fi[t] = n[t] / ((q[t] + 1e-6)' * (ks[t] + 1e-6));
  let     fo[t] = n[t] / ((k[t] + 1e-6)' * (qs[t] + 1e-6));
  update  ko[t] = ko[t-1] + fo[t] * k[t];
  update  qi[t] = qi[t-1] + fi[t] * q[t];
  let     si[t] = (q[t] + 1e-6)' * (ko[t] + 1e-6) / n[t];
  let     e[t]  = exp(clamp((k[t] + 1e-6)' * (qi[t] + 1e-6) / n[t], -1, 1));
  update  c[t]  = c[t-1] + e[t];
  update  S[t]  = S[t-1] + k[t] * (n[t] * e[t] / c[t] * v[t])';
  output  o[t]  = sigmoid(si[t]) * (fi[t] / n[t]) * (S[t]' * q[t]); }",
    "variant kmeans_cross_attention {
  axes B, N, D, T, E;
  input   c : [B,N,D], x : [B,T,D], v : [B,T,E];
  order   full;
  let     a[j] = argmax[n](c[n]' * l2norm(x[j]));
  output  dc[n] = sum[j : a[j] == n](v[j]); }",
    "variant hyena2d {
  axes B, T = Y*X, C;
  input   x0, x1, v : [B,T,C];
  param   hy : [Y,C], hx : [X,C], dy, dx : [C], d : [C];
  let     f[i] = (hy[i.y] .* exp(-dy * i.y)) .* (hx[i.x] .* exp(-dx * i.x));
  let     u = v .* x1;
  let     c[i] = sum[j : j.y <= i.y and j.x <= i.x](f[i - j] .* u[j]) + d .* u[i];
  output  y[i] = c[i] .* x0[i]; }",
    "variant mpnn_layer {
  axes B, T, C, N;
  input   x : [B,T,C], row : i32 [B, T+1], col : i32 [B, N];
  param   W0, W1 : [C,C];
  output  y[i] = relu(W0 * x[i] + sum[n : row[i] <= n and n < row[i+1]](W1 * x[col[n]])); }",
    "variant lawcat(N = 4) {
  axes B, H, T, D, E;
  input   q, k, g : [B,H,T,D], v : [B,H,T,E];
  param   wq, wk : [H,D,N], W : [H,D,D];
  let     q = conv1d(q, wq);
  let     k = conv1d(k, wk);
  feature hh(x) = stack(softmax(W*x), softmax(-(W*x))) on q, k;
  state   S : [2*D,E] = 0, z : [2*D] = 0;
  decay   a[t] = exp(logsigmoid(stack(g[t], g[t])) / 16);
  update  S additive(k, v);
  update  z additive(k);
  output  o[t] = S[t]' * q[t] / (z[t]' * q[t] + 1e-6); }",
    "variant sliced(G = 8) {
  axes B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], perm : i32 [B,T];
  order   full(by = perm);
  local   block(T / G);
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]); }",
    "variant linformer(kk = 128) {
  axes B, H, T, D, E, P;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   F : [P,T], G : [P,T];
  order   full;
  let     kp = F * k;
  let     vp = G * v;
  let     a[i,p] = softmax[p](q[i]' * kp[p] / sqrt(D));
  output  o[i] = sum[p](a[i,p] * vp[p]); }",
    "variant atrous(w = 7, rate = 2) {
  axes B, T = Y*X, C, N;
  input   x, dt : [B,T,C], b, c : [B,T,N];
  param   A_log : [C,N], skip : [C];
  local   atrous(w, w, rate = rate);
  order   raster, column, raster_rev, column_rev merge sum;
  state   S : [C,N] = 0;
  decay   a[t] = exp(-(diag(dt[t]) * exp(A_log)));
  update  S[t] = a[t] .* S[t-1] + (dt[t] .* x[t]) * b[t]';
  read    y[t] = S[t] * c[t];
  output  o[t] = y[t] + skip .* x[t]; }",
];

#[test]
fn the_page_checks() {
    variant(PAGE);
    variant(PAGE_RAW);
}

#[test]
fn worked_programs_check() {
    let wrong: Vec<_> = WORKED.iter().filter_map(|text| compile(text).err().map(|e| (&text[..40], e))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Forms of the page that no worked program uses.
const FORMS: &[&str] = &[
    "state S : [K,V] = 0, z : [K] = w, c : [] = 1; decay a[t] = exp(g[t]) on S, c; decay g[t] on z;
     update S additive(k, v); update z additive(k); update c additive(beta); output o[t] = S[t]' * q[t] / (z[t]' * q[t] + c[t]);",
    "state S : [K,V] = 0; decay a[t] = sigmoid(k[t] * v[t]'); update S additive(k, v); output o[t] = S[t-1]' * q[t];",
    "state S : [K,V] = 0; decay a[t] = exp(g[t]); update S gated(k, v); output o[t] = q[t]' * S[t];",
    "state S : [K,V] = 0; update S delta(k, v, v); update S additive(q, v); output o[t] = S[t]' * q[t];",
    "state z : [K] = 0; decay a[t] = sigmoid(q[t]); update z gated(k); output o[t] = z[t] .* q[t];",
    "state S : [K,V] = 0, R : [K,V] = 0; update S[t] = 0.9 * S[t-1] + k[t] * v[t]' - 0.1 * R[t-1];
     update R[t] = R[t-1] + S[t]; output o[t] = R[t]' * q[t];",
    "state S : [K,V] = 0; local block(W); order reverse; update S delta(k, v, beta); output o[t] = S[t]' * q[t];",
    "read o[i] = sum[j](relu(q[i]' * k[j]) * v[j]); norm layer; norm srms(eps = 1e-6) over V; output o[i];",
    "let m = sum[i,j](g[i] * beta[j]); let n = mean[i,j : i < j](g[i]); output o[t] = (m + n) * q[t];",
    "let c[t] = count[j](g[j] > 0.5 and not (j == t)); let p[t] = prod[j](beta[j]); output o[t] = c[t] * p[t];",
    "let a[t] = argmax[j](g[j]); output o[t] = k[a[t]] ^ 2 + q[t - 1] * (t mod 3) * (t div 3) + -q[t] ^ -2;",
    "output o[t] = if 0 < g[t] <= 1 then q[t] else 0; output b = true;",
    "let A = sum[j](k[j] * k[j]') + eye(K); output o[t] = solve(A, q[t]) + diag(q[t]) * cols(stack(k[t], q[t]), 1, K + 1);",
    "output o[t] = rope(q[t], t)' * k[t] + max(q[t]) + norm2(k[t]) + flatten(k[t] * q[t]')[0] + pi + inf;",
    "let x = conv1d(q, u'); output o[t] = x[t] + layer_norm(k[t], eps = 1e-3) + softmax(q)[t];",
    "output o[n] = sum[j in T](k[j]) + u[n]; output p[i] = sum[s in N](u[s - i]);",
    "order causal(z = q), reverse(z = k) merge mean; read o[t] = sum[j](z[j]); output o[t];",
    "fn slope(n) = 2^(-n); let y = q .* k + (K' + 0) * 0; output o = y * w; output z = sum[m in N](h * slope(m));",
];

#[test]
fn forms_of_the_page_check() {
    let failures: Vec<_> =
        FORMS.iter().filter_map(|body| compile(&super::around(body)).err().map(|errors| (body, errors))).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

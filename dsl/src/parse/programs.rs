//! Programs for the tests of parsing and printing.

/// Worked programs of many families, and one with everything in it.
pub const PROGRAMS: [&str; 14] = [
    r#"
variant linear_attention_program {                    # Katharopoulos et al.; family A
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  feature phi(x) = elu(x) + 1 on q, k;
  order   causal;
  state   S : [D,E] = 0, z : [D] = 0;
  update  S additive(k, v);                   # S[t] = S[t-1] + k[t] * v[t]'
  update  z additive(k);                      # z[t] = z[t-1] + k[t]
  output  o[t] = S[t]' * q[t] / (z[t]' * q[t] + 1e-6);
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant performer_program(M = 64) {                   # positive random features, family A
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   W : [M,D];                          # fixed orthogonal Gaussian rows, an input buffer
  feature prf(x) = exp(W * x / D^0.25 - norm2(x)^2 / (2 * sqrt(D))) / sqrt(M) + 1e-6 on q, k;
  order   full;
  let     S = sum[j](k[j] * v[j]');
  let     z = sum[j](k[j]);
  output  o[i] = S' * q[i] / (z' * q[i]);
  check   seq(1, 7, 64, 130), forms(direct, pairwise), tol(1e-5);
}
"#,
    r#"
variant hedgehog_program {                            # learned spiky map, softmax halves; family A
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   W : [H,D,D];
  feature hh(x) = stack(softmax(W*x), softmax(-(W*x))) on q, k;
  order   causal;
  state   S : [2*D,E] = 0, z : [2*D] = 0;
  update  S additive(k, v);
  update  z additive(k);
  output  o[t] = S[t]' * q[t] / (z[t]' * q[t]);
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant retnet_program {                              # fixed per-head decay, family B
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  order   causal;
  state   S : [D,E] = 0;
  decay   a = 1 - 2^(-5 - h);                 # scalar; h is the head index
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t] / sqrt(D);
  norm    rms(eps = 1e-5) over E;             # head-wise group norm
  output  o[t];
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant gla_program(tau = 16) {
  axes    B, H, T, D, E;
  input   q, k, g : [B,H,T,D], v : [B,H,T,E];
  order   causal;
  state   S : [D,E] = 0;
  decay   a[t] = exp(logsigmoid(g[t]) / tau); # data-dependent, per key channel
  update  S additive(k, v);
  output  o[t] = S[t]' * q[t] / sqrt(D);
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant vig_program(tau = 16) {                       # two directions, one program; families B, E, F
  axes    B, H, T = Y*X, D, E;
  input   q, k, gf, gb : [B,H,T,D], v, x, r : [B,H,T,E];
  param   w : [H,E,3,3];
  let     u = silu(dwconv(x, w));             # 2-D locality, computed once
  order   forward(g = gf), reverse(g = gb) merge mean;
  state   S : [D,E] = 0;
  decay   a[t] = exp(logsigmoid(g[t]) / tau);
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t] / sqrt(D);
  let     b[t] = sigmoid(r[t]);
  output  y[t] = rms(o[t]) .* b[t] + rms(u[t]) .* (1 - b[t]);
  check   grid((1,1), (3,5), (8,8)), forms(recurrent, chunk(16)), tol(1e-5);
}
"#,
    r#"
variant delta_rule_program {                            # family C
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], beta : [B,H,T];
  feature nk(x) = l2norm(silu(x)) on q, k;
  order   causal;
  state   S : [D,E] = 0;
  update  S delta(k, v, beta);                # (I - beta k k') S + beta k v'
  output  o[t] = S[t]' * q[t] / sqrt(D);
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant gated_delta_rule_program {                      # families B and C
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E], beta, a0 : [B,H,T];
  param   A_log, dt_bias : [H];
  feature nk(x) = l2norm(silu(x)) on q, k;
  order   causal;
  state   S : [D,E] = 0;
  decay   a[t] = exp(-(exp(A_log) * softplus(a0[t] + dt_bias)));
  update  S delta(k, v, beta);                # a (I - beta k k') S + beta k v'
  read    o[t] = S[t]' * q[t] / sqrt(D);
  norm    rms(eps = 1e-5) over E;
  output  o[t];
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant mamba2_program {                              # SSD; scalar data-dependent decay; family B
  axes    B, H = G*R, T, N, E;                # G groups share b, c (keys, queries)
  input   x : [B,H,T,E], dt0 : [B,H,T], b, c : [B,G,T,N];
  param   A_log, dt_bias, skip : [H];
  order   causal;
  let     dt[t] = softplus(dt0[t] + dt_bias);
  let     u[t]  = dt[t] * x[t];
  state   S : [N,E] = 0;
  decay   a[t] = exp(-(exp(A_log) * dt[t]));
  update  S additive(b, u);
  output  y[t] = S[t]' * c[t] + skip * x[t];
  check   seq(1, 7, 64, 130), forms(recurrent, chunk(16), parallel), tol(1e-5);
}
"#,
    r#"
variant norm_attention_program {                      # second half of the layers; families A, D
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  feature phi(x) = elu(x) + 1 on q, k;        # T2; T1 uses elu
  order   causal;
  state   S : [D,E] = 0;
  update  S additive(k, v);
  read    o[t] = S[t]' * q[t];
  norm    srms(eps = 1e-8) over H, E;         # no scale, no denominator; RMS across heads
  output  o[t];
}
variant diag_attention_program(C = 64) {              # first half of the layers; families E, G
  axes    B, H, T, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  order   causal;
  local   block(C);
  let     p[i,j] = softmax[j](q[i]' * k[j] / sqrt(D));
  output  o[i] = sum[j](p[i,j] * v[j]);
  check   seq(1, 63, 64, 65, 130), tol(1e-5);
}
stack transnormer(n = 6) { repeat n { diag_attention_program(C = 64); } repeat n { norm_attention_program; } }
"#,
    r#"
variant window_softmax_program(W = 7, shift = 3) {    # Swin; with shift = 0 and no bias: L2ViT's LWA
  axes    B, H, T = Y*X, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E];
  param   bias : [H, 2*W-1, 2*W-1];
  order   full;
  local   block(W, W, shift = shift);         # cyclic shift, pairs across the seam masked
  let     s[i,j] = q[i]' * k[j] / sqrt(D) + bias[i.y - j.y + W - 1, i.x - j.x + W - 1];
  let     p[i,j] = softmax[j](s[i,j]);
  output  o[i] = sum[j](p[i,j] * v[j]);
  check   grid((7,7), (14,14), (14,21)), tol(1e-5);
}
"#,
    r#"
variant inline_attention_program {
  axes    B, H, T = Y*X, D, E;
  input   q, k : [B,H,T,D], v : [B,H,T,E],
          r : [B,H,E,3,3];                    # dynamic 3x3 filter, r = MLP(mean x)
  feature phi(x) = exp(0.2 * x) on q, k;      # paper also: identity, relu, leaky relu
  order   full;
  let     kv = sum[j](k[j] * v[j]') / T;
  let     kb = mean[j](k[j]);
  let     vb = mean[j](v[j]);
  let     loc = dwconv(v, r);
  output  o[i] = (kv' * q[i]) / sqrt(D) + (1 - q[i]' * kb / sqrt(D)) * vb + loc[i];
}
"#,
    r#"
# Gated DeltaNet. Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464.
variant gated_delta_rule_program {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];   # g: log decay, <= 0
  feature unit(x) = l2norm(x) on q, k;                          # feature map
  order   causal;
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);                                     # decay
  update  S delta(k, v, beta);                                  # state update: a law ...
  output  o[t] = S[t]' * q[t] / sqrt(K);
  check   draw(g = logdecay, beta = sigmoid);
}
"#,
    r#"
# Every statement and every form of expression.
fn phi(x) = elu(x) + 1;
fn two() = 2;
variant everything_program(W = 64, eps = 1e-6) {
  axes    B, T = L + Y*X, H = G*R, K, V, L, F = 2*K;
  batch   N, M;
  input   q, k : [B,N,M,T,H,K], v : [B,N,M,T,H,V], ids : i32 [B,T], gf, gb, g0 : [B,T,H];
  param   w : [H,F,K], gamma : [H], bias : [2*T-1], V0 : [K,V], c0 : [];
  feature sigmoid on q;
  feature f(x) = if x > 0 then x else -x on q, k;
  fn      sq(x, y) = x^2 + y;
  order   causal(g = gf), reverse(g = gb) merge mean;
  local   window(W, 0);
  local   block(7, 7, shift = 3);
  local   where (i.y - j.y)^2 + (i.x - j.x)^2 <= 9 and not i.y mod 2 == 1 or i div W == j div W;
  state   S : [K,V] = V0, z : [K] = 0, c : [] = 0;
  decay   a[t] = exp(g[t]) on S;
  decay   g0[t] on z, c;
  let     β[t] = 2^-(h + 1) * sigmoid(g0[t]);
  let     m = max[j in T : j div W == 3](q[j]' * k[j]);
  let     n = count[j](k[j][0] > 0.5 != true);
  let     U[s] = U[s-1] * 2 - U[s-1] for s in 1..10 from V0;
  update  S delta(k, v, β);
  update  z[t] = (eye(K) - β[t] * k[t] * k[t]') * z[t-1] ./ 2;
  read    o[t] = S[t]' * q[t] / sqrt(K) + rope(q[t], t, base = 10000)[0] + cols(v[t], 0, 2)[1];
  norm    rms(eps = eps) over H, V;
  output  o[t];
  output  p[i] = sum[j, s in L : 0 <= j < i](softmax[j](bias[j - i + T - 1]) * -2^2);
  check   seq(1, 64), dims(K = 32), grid((7,7), (3,5)), forms(recurrent, chunk(16)), tol(1e-5), draw(g = uniform(0, -1));
}
stack hybrid(r = 3) { repeat r { everything_program(W = 128); repeat 2 { everything_program; } } everything_program; }
"#,
];

//! Lowered programs, run by the kernel interpreter, against the reference.

use std::collections::BTreeMap;

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::{Order, OrderKind, Variant};

use crate::Tiles;
use crate::bind::{Sizes, bind_dims, carries_state, constant, state_shape, tensor_shape};
use crate::kernel::pass::{self, Level, Target};
use crate::kernel::{BufferRole, Module, ParamRole, check, interp};
use crate::reference::{self, Array, Results};

use super::recurrent::raw;

pub(crate) fn variant(text: &str) -> Variant {
    checked(text).unwrap_or_else(|e| panic!("{e}"))
}

fn checked(text: &str) -> Result<Variant, String> {
    let program = chunkwise_dsl::compile(&Source::new("test.attn", text), &[]).map_err(|e| format!("{e:?}"))?;
    program.variants.into_iter().next().ok_or_else(|| "no variant".to_string())
}

pub(super) struct Random(pub u64);

impl Random {
    /// In (-1.2, 1.2).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0) * 1.2
    }

    fn array(&mut self, shape: Vec<usize>) -> Array {
        let mut array = Array::zeros(shape);
        array.data.iter_mut().for_each(|x| *x = self.next());
        array
    }
}

fn param(variant: &Variant, sizes: &Sizes, module: &Module, chunk: usize) -> Vec<i64> {
    let size = |name: &str| {
        let place = variant.axes.iter().position(|axis| axis.name == name).unwrap();
        sizes.get(chunkwise_dsl::shape::AxisId(place as u32)).unwrap() as i64
    };
    let of = |role: &ParamRole| match role {
        ParamRole::Size(name) => size(name),
        ParamRole::Chunk => chunk as i64,
        ParamRole::Tile(name) => smallest_divisor(size(name)),
        ParamRole::Grid => 0,
    };
    module.params.iter().map(|param| of(&param.role)).collect()
}

/// A tile length that divides an axis into several tiles where it can.
fn smallest_divisor(size: i64) -> i64 {
    (2..=size).find(|n| size % n == 0).unwrap_or(1).min(size / 2).max(1)
}

fn run(
    variant: &Variant,
    sizes: &Sizes,
    module: &Module,
    chunk: usize,
    (inputs, initial): (&BTreeMap<String, Array>, &BTreeMap<String, Array>),
) -> BTreeMap<String, Vec<f64>> {
    let errors = check::errors(module, Level::ANY);
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    let params = param(variant, sizes, module, chunk);
    let mut buffers: Vec<Vec<f64>> = module
        .buffers
        .iter()
        .map(|buffer| match buffer.role {
            BufferRole::Input => inputs[&buffer.name].data.clone(),
            BufferRole::StateIn => initial[&buffer.name].data.clone(),
            _ => vec![f64::NAN; buffer.size.eval(&|p| params[p.index()], &|_| 0).max(0) as usize],
        })
        .collect();
    interp::run(module, &params, &mut buffers).unwrap_or_else(|e| panic!("{e}"));
    let kept = |role| matches!(role, BufferRole::Output | BufferRole::StateOut);
    let named = module.buffers.iter().zip(buffers).filter(|(buffer, _)| kept(buffer.role));
    named.map(|(buffer, data)| (buffer.name.clone(), data)).collect()
}

/// How a variant becomes a module.
pub(crate) type Lower<'l> = &'l dyn Fn(&Variant, &Sizes) -> Result<Module, crate::Unsupported>;

/// What is done to inputs before they are used.
type Spoil<'l> = &'l dyn Fn(&mut BTreeMap<String, Array>);

pub(crate) fn agree_at(variant: &Variant, dims: &[(&str, usize)], chunk: usize, lower: Lower) {
    agree_spoilt(variant, dims, chunk, (lower, &|_| {}));
}

/// What the reference keeps finite is right, whatever `spoil` does to the inputs.
pub(super) fn agree_spoilt(variant: &Variant, dims: &[(&str, usize)], chunk: usize, (lower, spoil): (Lower, Spoil)) {
    let owned: Vec<(String, usize)> = dims.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    let sizes = bind_dims(variant, &owned).unwrap();
    let mut random = Random(7);
    let mut inputs = BTreeMap::new();
    for tensor in &variant.tensors {
        let mut array = random.array(tensor_shape(tensor, &sizes));
        if tensor.dtype == chunkwise_dsl::typed::Dtype::I32 {
            array.data.iter_mut().for_each(|x| *x = (*x * 4.0).floor());
        }
        inputs.insert(tensor.name.clone(), array);
    }
    spoil(&mut inputs);
    let spoilt = inputs.values().any(|array| array.data.iter().any(|x| !x.is_finite()));
    let carried = carries_state(variant);
    let mut initial = BTreeMap::new();
    for state in &variant.states {
        let shape = state_shape(variant, state, &sizes);
        let declared = constant(variant, &sizes, state.init).unwrap_or(0.0);
        let mut given = Array::zeros(shape.clone());
        given.data.fill(declared);
        initial.insert(state.name.clone(), if carried { random.array(shape) } else { given });
    }
    let given = if carried { initial.clone() } else { BTreeMap::new() };
    let Results { outputs, states } = reference::run(variant, &sizes, &inputs, &given).unwrap();
    let module = lower(variant, &sizes).unwrap_or_else(|e| panic!("{e}"));
    let got = run(variant, &sizes, &module, chunk, (&inputs, &initial));
    let forward = |order: &Order| matches!(order.kind, OrderKind::Causal | OrderKind::Raster);
    let finals = states.iter().filter(|_| variant.orders.iter().all(forward));
    for (name, wanted) in outputs.iter().chain(finals) {
        let most = wanted.data.iter().filter(|x| x.is_finite()).fold(1e-30f64, |m, x| m.max(x.abs()));
        assert_eq!(got[name].len(), wanted.data.len(), "{name} at {dims:?}");
        for (place, (x, y)) in got[name].iter().zip(&wanted.data).enumerate() {
            let close = (x - y).abs() <= 1e-9 * most || x == y || (x.is_nan() && y.is_nan());
            let close = close || spoilt && !y.is_finite();
            assert!(close, "{name}[{place}] is {x}, expected {y}, at {dims:?}, chunk {chunk}");
        }
    }
}

fn agree_stepped(variant: &Variant, dims: &[(&str, usize)], chunk: usize) {
    agree_at(variant, dims, chunk, &|variant, sizes| raw(variant, sizes, Tiles::Whole));
    agree_at(variant, dims, chunk, &|variant, sizes| {
        raw(variant, sizes, Tiles::Whole).map(|x| pass::run(&x, Target::Llvm, &|_| None))
    });
}

fn agree(text: &str, dims: &[(&str, usize)]) {
    let variant = variant(text);
    for tokens in [0, 1, 4, 9] {
        for chunk in [1, 4] {
            let dims: Vec<(&str, usize)> = dims.iter().copied().chain([("T", tokens)]).collect();
            agree_stepped(&variant, &dims, chunk);
        }
    }
}

const DIMS: [(&str, usize); 5] = [("B", 2), ("H", 2), ("K", 3), ("V", 5), ("F", 4)];

/// Values without a state as kernels of their own, and beside a state that they do not read.
fn stateless(body: &str) {
    let text = |body: &str| {
        format!(
            "variant f {{ axes B, T, H, K, V, F; input q, k : [B,T,H,K], v : [B,H,T,V], g : [B,T,H], ids : i32 [B,T]; \
             param w : [H,F,K], gamma : [H], c : [H,K,4], long : [H,K,11], m : [K,K]; {body} }}"
        )
    };
    agree_staged(&text(body), &DIMS);
    agree(&text(&format!("state past : [] = 0; update past[t] = past[t-1] + 1; {body}")), &DIMS);
}

/// Kernels of the graph of values, as they are and as the passes leave them.
pub(super) fn agree_in_stages(variant: &Variant, dims: &[(&str, usize)]) {
    agree_at(variant, dims, 1, &|variant, sizes| super::stages::lower(variant, sizes));
    agree_at(variant, dims, 1, &|variant, sizes| {
        super::stages::lower(variant, sizes).map(|x| pass::run(&x, Target::Llvm, &|_| None))
    });
}

fn agree_staged(text: &str, dims: &[(&str, usize)]) {
    let variant = variant(text);
    for tokens in [0, 1, 9, 67] {
        let dims: Vec<(&str, usize)> = dims.iter().copied().chain([("T", tokens)]).collect();
        agree_in_stages(&variant, &dims);
    }
}

#[test]
fn element_wise_values_and_layouts() {
    stateless("output o[t] = exp(g[t]) * q[t] .* k[t] + gamma; output p[t] = sigmoid(v[t]) * (h + t + K);");
    stateless("let a[t] = exp(g[t]); let b[t] = a[t] .* k[t]; output o[t] = b[t] / (1 + a[t]) - b[t];");
    stateless("output o[t] = if g[t] < 0 then k[t] else 0; output s[t] = k[t]' * q[t];");
}

#[test]
fn products_with_params() {
    stateless("output o[t] = w * q[t]; output p[t] = q[t]' * m; output r[t] = w * m * (q[t] + 1);");
    stateless("output o[t] = (eye(K) - g[t] * k[t] * k[t]') * q[t]; output p[t] = diag(k[t]) * m * q[t];");
    stateless("output o[t] = (k[t] * v[t]') * v[t] + m' * k[t]; output p[t] = m * diag(q[t]) * m;");
    stateless("output o[t] = (k[t] * q[t]' + m) * m; output p[t] = k[t]' * (m .* (k[t] * q[t]'));");
}

#[test]
fn feature_maps() {
    stateless("feature f(x) = stack(softmax(w * x), softmax(-(w * x))) on q, k; output o[t] = q[t] .* k[t];");
    stateless("feature n(x) = l2norm(x) on q; output o[t] = q[t]; output p[t] = rms(v[t]) + layer_norm(v[t]);");
    stateless("output o[t] = sum(q[t]) + mean(k[t]) * max(q[t]) - min(k[t]) * norm2(v[t]);");
    stateless("feature f(x) = flatten(x * x') on q; output o[t] = q[t]; output p[t] = cols(v[t], 1, 4);");
    stateless("output o[t] = rope(q[t], t); output p[t] = rope(cols(v[t], 0, 4), t - 1, base = 100);");
}

#[test]
fn other_tokens() {
    stateless("output o[t] = q[t] - q[t-1] + k[t+1] + q[0]; output p[t] = v[t-3];");
    stateless("let a[t] = exp(g[t]) * k[t]; output o[t] = a[t-1] + a[t]; output p[t] = silu(a[t+2]);");
    stateless("let q = conv1d(q, c); let k = silu(conv1d(k, c)); output o[t] = q[t] .* k[t];");
    stateless("let u[t] = exp(q[t]); let z = conv1d(u, long); output o[t] = z[t] + conv1d(z, c)[t];");
    stateless("let s = sum[j](k[j] * q[j]'); let n = mean[j](exp(k[j])); output o[t] = s * q[t] + n;");
    stateless("let m1 = max[j](g[j]); output o[t] = exp(g[t] - m1) * q[t div 2];");
}

#[test]
fn whole_sequences() {
    stateless("let s = k' * v; output o[t] = s' * q[t]; output p = q * m; output r = silu(q) + k;");
    stateless("feature f(x) = exp(x) on k; let s = k' * q; output o[t] = s * k[t]; output p = k;");
    stateless("let s = sum[j : g[j] > 0](k[j]); let u = mean[j : g[j] > 0](g[j]); output o[t] = s * u + q[t];");
    stateless("output o = sum[j](k[j] * q[j]'); output p[t] = (if t > 1 then q[t-2] else k[t]) / (t + 1);");
}

#[test]
fn index_variables() {
    stateless("output o[t,r] = sum[k in K](w[r,k] * q[t][k]) + r; output p[t] = max[r in F](w[r] .* q[t]);");
    stateless("let e[t,f] = exp(sum[k in K](w[f,k]) * g[t]); output o[t] = sum[f in F](e[t,f] * w[f] .* q[t]);");
    stateless("output o[t,f] = softmax[f](w[f]' * q[t]); output p[t] = w[ids[t]] + argmax[f in F](w[f]' * k[t]);");
    stateless("output o[t] = prod[f in F : f > 1](w[f]' * q[t]); output p[t] = mean[f in F : f != 2](w[f]);");
}

#[test]
fn groups_and_grids() {
    let text = "variant f { axes B, T, G, R, H = G*R, K; input q : [B,H,K,T], k : [B,T,G,K]; \
                output o[t] = q[t] .* k[t] * (h + 1); }";
    let text = text.replace("q : [B,H,K,T]", "q : [B,H,T,K]");
    agree_staged(&text, &[("B", 1), ("H", 4), ("G", 2), ("R", 2), ("K", 3)]);
    let grid = variant(
        "variant f { axes B, Y, X, T = Y*X, K; input q : [B,T,K]; param p : [Y,K], r : [X,K]; \
         output o[t] = q[t] + p[t.y] + r[t.x] * t.y - t.x; }",
    );
    agree_in_stages(&grid, &[("B", 2), ("Y", 3), ("X", 5), ("T", 15), ("K", 2)]);
}

fn states(body: &str) {
    let text = format!(
        "variant f {{ axes B, T, H, K, V; input q, k, a : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H]; param w : [H,K,V]; \
         {body} }}"
    );
    agree(&text, &DIMS[..4]);
}

#[test]
fn element_wise_states() {
    states(
        "state S : [K,V] = 0; let e[t] = softplus(g[t]); update S[t] = exp(-(e[t] * exp(w))) .* S[t-1] + \
         (e[t] * k[t]) * v[t]'; output o[t] = S[t]' * q[t];",
    );
    states("state z : [K] = 0; update z[t] = tanh(z[t-1] + k[t]); output o[t] = z[t] .* q[t] + z[t-1];");
    states("state c : [] = 1; update c[t] = c[t-1] * sigmoid(g[t]) + 1; output o[t] = c[t] * q[t];");
    states("state S : [K,V] = 0; update S[t] = tanh(w .* S[t-1] + k[t] * v[t]'); output o[t] = rms(S[t]' * q[t]);");
}

#[test]
fn coupled_and_dense_states() {
    states(
        "state S : [K,V] = 0, z : [K] = 0; decay d[t] = sigmoid(g[t]); update S delta(k, v, beta); \
         update z[t] = d[t] * z[t-1] + S[t] * v[t]; output o[t] = S[t]' * q[t] / (1 + z[t]' * z[t]) + S[t-1]' * z[t-1];",
    );
    states(
        "state S : [K,V] = 0, R : [K,V] = 0; update S[t] = R[t-1] + k[t] * v[t]'; update R[t] = tanh(S[t-1] - S[t]); \
         output o[t] = (S[t] + R[t])' * q[t]; output m[t] = R[t];",
    );
    states(
        "state S : [K,V] = 0; update S[t] = (diag(sigmoid(a[t])) - beta[t] * k[t] * k[t]') * S[t-1] + k[t] * v[t]'; \
         read o[t] = S[t]' * q[t]; norm rms(); output o[t]; output p[t] = silu(o[t]) .* v[t];",
    );
    states(
        "state S : [K,V] = 0; update S[t] = w * (w' * S[t-1]) + k[t] * v[t]'; output o[t] = sum(softmax(S[t]' * q[t]));",
    );
}

#[test]
fn laws() {
    states("state S : [K,V] = 0; decay d[t] = sigmoid(a[t]); update S gated(k, v); output o[t] = S[t]' * q[t];");
    states(
        "state S : [K,V] = 0, z : [K] = 0; decay d[t] = sigmoid(a[t]) * v[t]' on S; decay e[t] = sigmoid(a[t]) on z; \
            update S additive(k, v); update z additive(k); output o[t] = S[t]' * q[t] + z[t]' * q[t];",
    );
    states(
        "state S : [K,V] = 0; let b[t] = sigmoid(v[t]); update S delta(k, v, b); update S additive(k, v); \
            output o[t] = S[t-1]' * q[t] + S[t]' * S[t] * v[t];",
    );
}

#[test]
fn further_batch_axes_and_layouts() {
    let text = "variant f { axes B, T, H, K, V; batch N; input q : [N,T,B,K,H], k : [T,B,H,N,K], v : [H,T,B,V,N]; \
                state S : [K,V] = 0; update S[t] = tanh(S[t-1] + k[t] * v[t]'); output o[t] = S[t]' * q[t]; \
                output s[t] = sum(S[t]' * q[t]) + k[t-1]' * q[t]; output m[t] = S[t]; }";
    agree(text, &[("B", 2), ("H", 1), ("N", 3), ("K", 2), ("V", 3)]);
    let raster = "variant f { axes B, Y, X, T = Y*X, K; input q : [B,T,K]; order raster; state z : [K] = 0; \
                  update z[t] = relu(z[t-1] - q[t]); output o[t] = z[t]; }";
    agree_stepped(&variant(raster), &[("B", 2), ("Y", 2), ("X", 3), ("T", 6), ("K", 2)], 4);
}

#[test]
fn restarts() {
    states("local block(3); state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];");
}

#[test]
fn every_example_is_computed_as_it_is_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "attn") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let variant = variant(&text);
        let dims = ["B", "T", "H", "G", "R", "K", "V", "N", "M", "F", "D", "P", "Y", "X", "A", "C"];
        let sizes = [2, 5, 2, 1, 2, 4, 3, 3, 2, 4, 4, 2, 3, 4, 2, 5];
        let known: Vec<(&str, usize)> = dims
            .into_iter()
            .zip(sizes)
            .filter(|(name, _)| variant.axes.iter().any(|axis| axis.name == *name && axis.value.is_none()))
            .collect();
        // What is made of several stages is held to the reference as a whole.
        match crate::scans::stages(&variant).unwrap() {
            Some(_) => continue,
            None if variant.states.is_empty() => agree_in_stages(&variant, &known),
            None => agree_stepped(&variant, &known, 2),
        }
    }
}

#[test]
fn states_that_are_not_affine() {
    states(
        "state S : [K,V] = 0, m1 : [] = 0; update m1[t] = max(g[t] + m1[t-1], beta[t]); \
         update S[t] = exp(g[t] + m1[t-1] - m1[t]) * S[t-1] + exp(beta[t] - m1[t]) * k[t] * v[t]'; \
         output o[t] = S[t]' * q[t];",
    );
    states("state S : [K,V] = 0; update S[t] = l2norm(S[t-1] + k[t] * v[t]'); output o[t] = S[t]' * q[t];");
    states("state S : [K,V] = 0; update S[t] = if g[t] > 0 then S[t-1] else k[t] * v[t]'; output o[t] = S[t]' * q[t];");
    states(
        "state S : [K,V] = w; let e[t] = v[t] - S[t-1]' * k[t]; update S[t] = S[t-1] + beta[t] * k[t] * e[t]'; \
         output o[t] = S[t]' * q[t] + e[t]; output n[t] = norm2(e[t]); output s[t] = S[t-1];",
    );
}

#[test]
fn subscripts_of_every_kind() {
    stateless("let e[f,t] = w[f]' * q[t]; output o[t] = e[2,t] * k[t]; output p[t] = e[1,t-1] + g[t];");
    stateless("output o[t] = if t mod 2 == 0 and g[t] > 0 then q[t] else k[t div 2]; output p[t] = m[h] + m[K - 1];");
    stateless("output o[t] = ids[t] * q[t]; output r[t] = q[ids[t]]; output p[t] = cols(m, 1, 3)' * q[t];");
}

#[test]
fn what_is_not_lowered_is_refused_by_name() {
    let tensors = "axes B, T, H, K; input q, k : [B,T,H,K]; param m : [H,K,K];";
    for (body, named) in [
        ("output o[t] = solve(m, q[t]);", "solve"),
        ("output o[t] = topk_mask(q[t], 1);", "topk_mask"),
        ("output o[i] = sum[j](q[i]' * k[j] * k[j]);", "reduction"),
        ("order reverse; state z : [K] = 0; update z additive(k); output o[t] = z[t];", "order"),
    ] {
        let variant = variant(&format!("variant f {{ {tensors} {body} }}"));
        let dims: Vec<(String, usize)> = ["B", "T", "H", "K"].iter().map(|name| (name.to_string(), 2)).collect();
        let refused = raw(&variant, &bind_dims(&variant, &dims).unwrap(), Tiles::Whole).unwrap_err();
        assert!(refused.operation.contains(named), "{refused}");
        assert!(refused.span.is_some() && refused.way_out.contains("--backend reference"), "{refused}");
    }
}

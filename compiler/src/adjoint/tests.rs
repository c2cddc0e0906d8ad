//! Adjoints evaluated by the reference, against derivatives by dual numbers.

use std::collections::BTreeMap;
use std::path::Path;

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::{Draw, Dtype, Variant};

use super::{adjoint, cotangent_name};
use crate::bind::{self, Sizes, carries_state, output_shape, state_shape, tensor_shape};
use crate::reference::{self, Array, Tensors};

/// Numbers in (-1, 1), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn array(&mut self, shape: Vec<usize>) -> Array {
        let data = (0..shape.iter().product()).map(|_| self.next()).collect();
        Array { shape, data }
    }
}

fn drawn(variant: &Variant, sizes: &Sizes, numbers: &mut Numbers) -> Tensors {
    let draw =
        |name: &str| variant.checks.draws.iter().find(|(of, _)| of == name).map_or(Draw::Normal, |(_, draw)| *draw);
    let tensors = variant.tensors.iter().map(|tensor| {
        let mut array = numbers.array(tensor_shape(tensor, sizes));
        for x in &mut array.data {
            *x = match draw(&tensor.name) {
                _ if tensor.dtype == Dtype::I32 => (*x * 2.0).round(),
                Draw::Sigmoid => 1.0 / (1.0 + (-*x).exp()),
                Draw::TwoSigmoid => 2.0 / (1.0 + (-*x).exp()),
                Draw::LogDecay => -(1.0 + (-2.0 * *x).exp()).ln(),
                Draw::Uniform(a, b) => a + (b - a) * 0.5 * (*x + 1.0),
                Draw::Normal | Draw::Unit => *x * 1.3,
            };
        }
        (tensor.name.clone(), array)
    });
    tensors.collect()
}

fn sized(variant: &Variant, tokens: usize) -> Sizes {
    let free = variant.axes.iter().filter(|axis| axis.value.is_none());
    let size = |name: &str| match name {
        "B" => 2,
        "T" => tokens,
        "H" | "V" | "G" | "R" => 2,
        "K" | "D" => 4,
        "X" => 4,
        _ => 3,
    };
    let dims: Vec<(String, usize)> = free.map(|axis| (axis.name.clone(), size(&axis.name))).collect();
    bind::bind_dims(variant, &dims).unwrap_or_else(|errors| panic!("{}: {errors:?}", variant.name))
}

/// The worst error of a directional derivative, relative to the size of what it is made of.
fn worst(variant: &Variant, sizes: &Sizes, numbers: &mut Numbers) -> Result<f64, String> {
    let inputs = drawn(variant, sizes, numbers);
    let made = adjoint(variant).map_err(|refusal| format!("{refusal}"))?;
    let mut initial = Tensors::new();
    let mut cotangents = Tensors::new();
    for output in variant.outputs() {
        cotangents.insert(output.name.clone(), numbers.array(output_shape(variant, output, sizes)));
    }
    for state in variant.states.iter().filter(|_| carries_state(variant)) {
        initial.insert(state.name.clone(), numbers.array(state_shape(variant, state, sizes)));
        cotangents.insert(state.name.clone(), numbers.array(state_shape(variant, state, sizes)));
    }
    let outputs: Vec<&String> = variant.outputs().map(|output| &output.name).collect();
    let (mut given, mut states) = (inputs.clone(), initial.clone());
    for (name, array) in &cotangents {
        let to = if outputs.contains(&name) { &mut given } else { &mut states };
        to.insert(cotangent_name(name), array.clone());
    }
    let results = reference::run(&made.variant, sizes, &given, &states).map_err(|error| error.message)?;
    let found: BTreeMap<&str, &Array> =
        results.outputs.iter().chain(&results.states).map(|(name, array)| (name.as_str(), array)).collect();
    let mut gradients = Tensors::new();
    for gradient in &made.gradients {
        let array = match &gradient.output {
            Some(name) => {
                let (shape, data) = gradient.gather(&found[name.as_str()].shape, &found[name.as_str()].data, sizes);
                Array { shape, data }
            }
            None => Array::zeros(inputs[&gradient.tensor].shape.clone()),
        };
        assert_eq!(array.shape, inputs[&gradient.tensor].shape, "{}", gradient.tensor);
        gradients.insert(gradient.tensor.clone(), array);
    }
    for name in initial.keys() {
        gradients.insert(name.clone(), found[cotangent_name(name).as_str()].clone());
    }
    let mut worst: f64 = 0.0;
    for (name, gradient) in &gradients {
        for _ in 0..2 {
            let direction = numbers.array(gradient.shape.clone());
            let moved = Tensors::from([(name.clone(), direction.clone())]);
            let slopes =
                reference::along(variant, sizes, (&inputs, &initial), &moved).map_err(|error| error.message)?;
            let want = reference::inner(&slopes, &cotangents);
            let got: f64 = gradient.data.iter().zip(&direction.data).map(|(a, b)| a * b).sum();
            let size: f64 = gradient.data.iter().zip(&direction.data).map(|(a, b)| (a * b).abs()).sum();
            let error = (got - want).abs() / (want.abs() + size + 1e-3);
            if error.is_nan() || error > 1e-9 {
                return Err(format!("d_{name}: {got}, expected {want}"));
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}

fn variants(text: &str) -> Vec<Variant> {
    chunkwise_dsl::compile(&Source::new("t", text), &[]).expect("the text checks").variants
}

/// Examples without an adjoint, and why.
const REFUSED: [(&str, &str); 2] = [
    ("norm_attention", "the gradient of a norm over heads is unsupported"),
    ("window_linear", "the gradient of a state under a window is unsupported"),
];

#[test]
fn gradients_of_all_examples_are_the_slopes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("examples").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "attn"));
    files.sort();
    let mut failures = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("an example reads");
        for variant in &variants(&text) {
            for tokens in [1, 5] {
                let refused = REFUSED.iter().find(|(name, _)| *name == variant.name);
                match (worst(variant, &sized(variant, tokens), &mut Numbers(7)), refused) {
                    (Ok(_), None) => {}
                    (Err(why), Some((_, wanted))) if why.starts_with(wanted) => {}
                    (found, _) => failures.push(format!("{} at T = {tokens}: {found:?}", variant.name)),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn gradients_of_statements_are_the_slopes() {
    let heads = "axes B, T, G, R, H = G*R, K, V; input q : [B,T,H,K], k : [B,T,G,K], v : [B,T,G,V], g : [B,T,H];";
    let one = "axes B, T, K, V; input q, k : [B,T,K], v : [B,T,V], g : [B,T]; param w : [K,3], W : [V,K], s : [K];";
    let grid = "axes B, T = Y*X, Y, X, K, V; input q, k : [B,T,K], v : [B,T,V]; param b : [2*Y-1,2*X-1];";
    let scan = "state S : [K,V] = 0; decay a[t] = sigmoid(g[t]); update S delta(k, v, g);";
    let dot = "let p[i,j] = softmax[j](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * v[j]);";
    let grid_dot = "let p[i,j] = softmax[j](q[i]' * k[j] + b[i.y - j.y + Y - 1, i.x - j.x + X - 1]); output o[i] = sum[j](p[i,j] * v[j]);";
    let programs = [
        format!("{heads} {scan} output o[t] = S[t]' * q[t];"),
        format!("{heads} {dot}"),
        format!("{one} {scan} output o[t] = S[t-1]' * q[t] + v[t]; output n[t] = norm2(S[t]' * q[t]);"),
        format!("{one} order reverse; {scan} output o[t] = S[t]' * q[t];"),
        format!("{one} local block(2); {scan} output o[t] = S[t]' * q[t];"),
        format!(
            "{one} order causal, reverse merge mean; {scan} read o[t] = S[t]' * q[t]; norm layer; output o[t] = o[t] .* v[t-1];"
        ),
        format!("{one} let k = conv1d(k, w); {scan} read o[t] = S[t]' * q[t]; output o[t] = rms(o[t]) + o[t-1];"),
        format!("{one} {scan} let z[t] = W' * v[t]; output o[t] = S[t]' * (q[t] + z[t] .* s) * max(k[t]);"),
        format!(
            "{one} state S : [K,V] = 0; update S[t] = tanh(S[t-1] * diag(v[t])) + k[t] * v[t]'; output o[t] = S[t]' * q[t];"
        ),
        format!(
            "{one} state c : [] = 1, z : [K] = 0; update c[t] = sigmoid(g[t]) * c[t-1] + v[t]' * v[t]; \
                 update z[t] = z[t-1] / (1 + c[t]) + k[t]; output o[t] = z[t] .* q[t] * c[t-1];"
        ),
        format!("{one} local window(3); {dot}"),
        format!("{one} order full; local where i - j < 2 and q[i]' * q[i] > 0; {dot}"),
        format!("{one} order reverse; {dot}"),
        format!("{grid} {grid_dot}"),
        format!("{grid} order column; {grid_dot}"),
        format!("{grid} order full; local block(2, 2, shift = 1); {grid_dot}"),
        format!("{grid} order full; local atrous(1, 1, rate = 2); {grid_dot}"),
        format!("{grid} order full; local disc(1.5); {grid_dot}"),
        format!("{one} let a[t] = prod(n : n < 2)[n](k[t,n]) ; output o[t] = a[t] * v[t];")
            .replace("prod(n : n < 2)[n]", "prod[n]"),
        format!("{one} let m = max[j : true](g[j]); let n[t] = mean[j](v[j]); output o[t] = m * n[t] + min(v[t]);"),
        format!("{one} output o[t] = rope(q[t], t) .* clamp(k[t], -0.5, 0.5) + (abs(q[t]) + 1) ^ (k[t] ^ 2);"),
        format!("{one} output o[t] = solve(K * eye(K) + k[t] * k[t]', q[t]) + (if g[t] > 0 then s else k[t]);"),
        format!("{one} let A[s] = A[s-1] * A[s-1] / 4 + W' * W for s in 1..3 from W' * W; output o[t] = A * q[t];"),
        format!(
            "{one} output o[t] = cols(stack(q[t], k[t]), 1, K + 2) * sum(softmax(v[t]) .* v[t]) + flatten(v[t] * cols(q[t], 0, 1)')[0];"
        ),
        format!("{one} output o[t] = sum[j : j > t and j < t + 3](g[j] * v[j]) + v[2*t - 1];"),
    ];
    let mut failures = Vec::new();
    for program in programs {
        let checked = chunkwise_dsl::compile(&Source::new("t", format!("variant f {{ {program} }}")), &[]);
        let Ok(checked) = checked else {
            failures.push(format!("{:?}\n    {program}", checked.map(|_| ())));
            continue;
        };
        let variant = &checked.variants[0];
        for tokens in [1, 5] {
            if let Err(why) = worst(variant, &sized(variant, tokens), &mut Numbers(3)) {
                failures.push(format!("{why}\n    {program}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn decays_at_their_ends_have_finite_gradients() {
    let text = "variant f { axes B, T, K, V; input q, k : [B,T,K], v : [B,T,V], g : [B,T,K]; state S : [K,V] = 0;
        decay a[t] = exp(g[t]); update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    let variant = &variants(text)[0];
    let sizes = sized(variant, 5);
    let mut numbers = Numbers(5);
    let made = adjoint(variant).expect("it has an adjoint");
    let mut given = drawn(&made.variant, &sizes, &mut numbers);
    let gates = given.get_mut("g").expect("an input");
    for (at, x) in gates.data.iter_mut().enumerate() {
        *x = [-1e4, f64::NEG_INFINITY, -60.0, 0.0][at % 4];
    }
    let results = reference::run(&made.variant, &sizes, &given, &Tensors::new()).expect("it runs");
    for (name, array) in &results.outputs {
        assert!(array.data.iter().all(|x| x.is_finite()), "{name}: {:?}", array.data);
    }
}

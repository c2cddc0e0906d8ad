//! Derivatives by dual numbers, against central differences.

use super::super::along;
use super::{Arrays, draw, inputs, run, sizes, variant};

/// Holds the slope of every output and final state along a random direction against differences.
#[track_caller]
fn differentiates(text: &str, dims: &[(&str, usize)]) {
    let variant = variant(text);
    let sizes = sizes(&variant, dims);
    let inputs = inputs(&variant, &sizes);
    let direction: Arrays =
        inputs.iter().map(|(name, array)| (name.clone(), draw(77 + name.len() as u64, &array.shape))).collect();
    let moved = |by: f64| {
        let mut moved = inputs.clone();
        for (name, array) in &mut moved {
            array.data.iter_mut().zip(&direction[name].data).for_each(|(x, dx)| *x += by * dx);
        }
        run(&variant, &sizes, &moved, &Arrays::new()).unwrap()
    };
    let (above, below) = (moved(1e-5), moved(-1e-5));
    let slopes = along(&variant, &sizes, (&inputs, &Arrays::new()), &direction).unwrap();
    let all = slopes.outputs.iter().zip(above.outputs.iter().zip(&below.outputs));
    let all = all.chain(slopes.states.iter().zip(above.states.iter().zip(&below.states)));
    for ((name, slope), ((_, above), (_, below))) in all {
        assert!(slope.data.iter().any(|dx| *dx != 0.0), "{name} moves");
        for (dx, (a, b)) in slope.data.iter().zip(above.data.iter().zip(&below.data)) {
            let difference = (a - b) / 2e-5;
            assert!((dx - difference).abs() <= 1e-8 * (1.0 + dx.abs()), "{name}: {dx}, {difference}");
        }
    }
}

#[test]
fn states_have_slopes() {
    differentiates(
        "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H]; feature l2norm on q, k;
           state S : [K,V] = 0, z : [K] = 1; decay a[t] = sigmoid(g[t]); update S delta(k, v, a);
           update z additive(k); read o[t] = S[t]' * q[t] / (2 + z[t-1]' * q[t]) ^ 2; norm srms over H, V;
           output y[t] = silu(o[t]) + gelu(o[t]); }",
        &[("B", 1), ("T", 5), ("H", 2), ("K", 3), ("V", 2)],
    );
}

#[test]
fn pairs_of_tokens_have_slopes() {
    differentiates(
        "variant f { axes B, T, K; input q, k, v : [B,T,K]; local window(3);
           let p[i,j] = softmax[j](q[i]' * k[j] + tanh(v[j]' * q[i])); let c = conv1d(v, k' * q * (k' * q)');
           output o[i] = sum[j](p[i,j] * v[j]) + max[j](k[j]) + layer_norm(c[i]) + mean[j](prod[n](q[j,n])) * rope(v[i], i); }",
        &[("B", 1), ("T", 4), ("K", 4)],
    );
}

#[test]
fn what_does_not_move_has_no_slope() {
    let variant = variant("variant f { axes T, K; input x : [T,K]; output o[t] = norm2(0 * x[t]) + ln(x[t]) .* 0; }");
    let sizes = sizes(&variant, &[("T", 1), ("K", 2)]);
    let inputs = Arrays::from([("x".to_string(), super::Array { shape: vec![1, 2], data: vec![0.5, 2.0] })]);
    let slopes = along(&variant, &sizes, (&inputs, &Arrays::new()), &inputs).unwrap();
    assert_eq!(slopes.outputs[0].1.data, [0.0, 0.0]);
}

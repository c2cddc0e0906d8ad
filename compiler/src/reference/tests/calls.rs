//! Variants that call others, and stacks, against their layers run by hand.

use super::*;

/// The last variant of a text, its drawn inputs and its results.
fn last(text: &str, dims: &[(&str, usize)], initial: &[&str]) -> (Arrays, Results) {
    let program = chunkwise_dsl::compile(&Source::new("test.attn", text), &[]);
    let program = program.unwrap_or_else(|errors| panic!("{errors:#?}"));
    let variant = program.variants.last().expect("a variant");
    let sizes = sizes(variant, dims);
    let inputs = inputs(variant, &sizes);
    assert!(initial.iter().all(|name| inputs.contains_key(*name)));
    let results = run(variant, &sizes, &inputs, &Arrays::new()).unwrap();
    (inputs, results)
}

/// x + the decayed sum of w x, from `start`.
fn layer(x: &[f64], w: f64, start: f64) -> Vec<f64> {
    let mut z = start;
    let step = |x: &f64| {
        z = 0.5 * z + w * x;
        x + z
    };
    x.iter().map(step).collect()
}

const LAYER: &str = "variant a { axes T; input x : [T]; param w : []; state z : [] = 0; decay d = 0.5;
    update z[t] = d * z[t-1] + w * x[t]; output y[t] = x[t] + z[t]; }";

#[test]
fn a_stack_is_its_layers_one_after_another() {
    for (layers, count) in
        [("a;", 1), ("repeat 3 { a; }", 3), ("repeat 6 { a; } a;", 7), ("repeat 2 { repeat 6 { a; } }", 12)]
    {
        let (inputs, results) = last(&format!("{LAYER} stack s {{ {layers} }}"), &[("T", 5)], &["x", "a.w"]);
        let weights = &inputs["a.w"];
        assert_eq!(weights.shape, [count]);
        let wanted = weights.data.iter().fold(inputs["x"].data.clone(), |x, w| layer(&x, *w, 0.0));
        let off = wanted.iter().zip(&results.outputs[0].1.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-12, "{layers}: off by {off}");
    }
}

#[test]
fn a_shared_stack_has_one_set_of_params() {
    let (inputs, results) = last(&format!("{LAYER} stack s {{ repeat 3 shared {{ a; }} }}"), &[("T", 4)], &["a.w"]);
    let w = inputs["a.w"].data[0];
    let wanted = (0..3).fold(inputs["x"].data.clone(), |x, _| layer(&x, w, 0.0));
    let off = wanted.iter().zip(&results.outputs[0].1.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-12, "off by {off}");
}

#[test]
fn a_call_starts_from_the_state_that_it_is_given() {
    let text = format!(
        "{LAYER} variant b {{ axes N; input x : [N], s : []; param w : []; let v[n] = 2 * x[n]; let y = a(x = v, z = s);
         output o = y; }}"
    );
    let (inputs, results) = last(&text, &[("N", 4)], &["x", "s", "w"]);
    let doubled: Vec<f64> = inputs["x"].data.iter().map(|x| 2.0 * x).collect();
    let wanted = layer(&doubled, inputs["w"].data[0], inputs["s"].data[0]);
    let off = wanted.iter().zip(&results.outputs[0].1.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-12, "off by {off}");
}

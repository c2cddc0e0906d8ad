//! Gradients through the command: what `run --backward` takes and gives, that they hold, and the program that is printed.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::collections::BTreeMap;

use chunkwise_runtime::{Tensor, tensor};

use place::{Place, inputs};

#[test]
fn gradients_of_examples_hold() {
    let place = Place::new("gradients-hold");
    for example in ["@gated_deltanet", "@linear_attention", "@retnet", "@lawcat", "@ss2d", "@window_softmax"] {
        let done = place.run(&["verify", example, "--backward", "--tokens", "7,20", "--chunk", "8"]);
        assert_eq!(done.status, 0, "{example}\n{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn a_run_gives_a_gradient_of_every_input_and_state() {
    let place = Place::new("gradients-run");
    let mut given = inputs();
    given.insert("d_o".to_string(), Tensor::f32(vec![2, 5, 3, 6], vec![1.0; 180]));
    let cotangent = Tensor::f32(vec![2, 3, 4, 6], vec![0.5; 144]);
    given.insert("d_S".to_string(), cotangent);
    let with = place.tensors("in.safetensors", given);
    let run = |backend: &str, output: &str| {
        let to = ["run", "gated.attn", "--inputs", &with, "--output", output, "--backward", "--backend", backend];
        place.run(&to).succeeds();
        let stored = tensor::read(&place.path(output)).unwrap();
        stored.into_iter().map(|(name, stored)| (name, stored.tensor.unwrap())).collect::<BTreeMap<_, _>>()
    };
    let reference = run("reference", "reference.safetensors");
    assert_eq!(reference.keys().collect::<Vec<_>>(), ["d_S", "d_g", "d_k", "d_q", "d_v"]);
    assert_eq!(reference["d_S"].shape, [2, 3, 4, 6]);
    assert!(reference.values().all(|tensor| tensor.to_f64().iter().any(|x| *x != 0.0)));
    #[cfg(feature = "cranelift")]
    for (name, found) in run("cranelift", "compiled.safetensors") {
        for (x, y) in found.to_f64().iter().zip(reference[&name].to_f64()) {
            assert!((x - y).abs() < 1e-5 * (1.0 + y.abs()), "{name}: {x}, expected {y}");
        }
    }
}

#[test]
fn a_cotangent_has_the_shape_of_what_it_is_of() {
    let place = Place::new("gradients-wrong");
    let mut given = inputs();
    given.insert("d_o".to_string(), Tensor::f32(vec![2, 5, 3], vec![1.0; 30]));
    let with = place.tensors("in.safetensors", given);
    let run = ["run", "gated.attn", "--inputs", &with, "--output", "out.safetensors", "--backward"];
    place.run(&run).fails(2, &["`d_o` is [2, 5, 3], expected [2, 5, 3, 6]"]);
}

#[test]
fn the_gradient_program_is_told() {
    let place = Place::new("gradients-told");
    let text = place.run(&["explain", "gated.attn", "--backward"]).succeeds().to_string();
    for line in ["state d_S : [K,V] = 0 in reverse;", "# what gathers at S[t-1]", "input d_o : [B,T,H,V];"] {
        assert!(text.contains(line), "expected `{line}` in:\n{text}");
    }
    let refused = place.run(&["explain", "@norm_attention", "--backward"]);
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("the gradient of a norm over heads"), "{}", refused.stderr);
}

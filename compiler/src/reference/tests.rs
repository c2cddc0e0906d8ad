//! Programs against loops written by hand, and what must hold between runs of one program.

use std::collections::BTreeMap;

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::{Array, Results, run};
use crate::bind::{Sizes, bind, bind_dims, tensor_shape};

type Arrays = BTreeMap<String, Array>;

mod calls;
mod locality;
mod pairwise;
mod slopes;
mod states;

fn variant(text: &str) -> Variant {
    let source = Source::new("test.attn", text);
    let program = chunkwise_dsl::compile(&source, &[]);
    let program = program.unwrap_or_else(|errors| panic!("{errors:#?}"));
    program.variants.into_iter().next().expect("a variant")
}

fn sizes(variant: &Variant, dims: &[(&str, usize)]) -> Sizes {
    let dims: Vec<(String, usize)> = dims.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    bind_dims(variant, &dims).unwrap()
}

/// Numbers in (-1, 1) that depend on the seed alone.
fn draw(seed: u64, shape: &[usize]) -> Array {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..20).for_each(|_| {
        next();
    });
    Array { shape: shape.to_vec(), data: (0..shape.iter().product()).map(|_| next()).collect() }
}

fn inputs(variant: &Variant, sizes: &Sizes) -> Arrays {
    let one = |(seed, tensor): (usize, &chunkwise_dsl::typed::Tensor)| {
        (tensor.name.clone(), draw(seed as u64 + 1, &tensor_shape(tensor, sizes)))
    };
    variant.tensors.iter().enumerate().map(one).collect()
}

/// Draws the inputs of a program and evaluates it.
fn evaluate(text: &str, dims: &[(&str, usize)]) -> (Arrays, Results) {
    let variant = variant(text);
    let sizes = sizes(&variant, dims);
    let inputs = inputs(&variant, &sizes);
    let results = run(&variant, &sizes, &inputs, &Arrays::new()).unwrap();
    (inputs, results)
}

fn output<'a>(results: &'a Results, name: &str) -> &'a Array {
    &results.outputs.iter().find(|(other, _)| other == name).expect("an output").1
}

fn state<'a>(results: &'a Results, name: &str) -> &'a Array {
    &results.states.iter().find(|(other, _)| other == name).expect("a state").1
}

impl Array {
    fn at(&self, places: &[usize]) -> f64 {
        assert_eq!(places.len(), self.shape.len());
        self.data[places.iter().zip(&self.shape).fold(0, |flat, (place, size)| flat * size + place)]
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * (1.0 + a.abs().max(b.abs()))
}

#[track_caller]
fn agree(a: &Array, b: &Array) {
    assert_eq!(a.shape, b.shape);
    for (at, (a, b)) in a.data.iter().zip(&b.data).enumerate() {
        assert!(close(*a, *b), "entry {at}: {a} and {b}");
    }
}

/// Holds an output `[B,T,H,V]` against a function of its places.
#[track_caller]
fn holds(o: &Array, of: impl Fn(&[usize]) -> f64) {
    let mut places = vec![0; o.shape.len()];
    for (flat, x) in o.data.iter().enumerate() {
        let mut rest = flat;
        for (place, size) in places.iter_mut().zip(&o.shape).rev() {
            *place = rest % size;
            rest /= size;
        }
        let expected = of(&places);
        assert!(close(*x, expected), "at {places:?}: {x}, expected {expected}");
    }
}

#[test]
fn no_tokens_give_empty_outputs_and_the_initial_state() {
    let variant = variant(
        "variant x { axes B, T, H, K; input k : [B,T,H,K]; state S : [K] = 2; update S additive(k);
         output o[t] = S[t]; output p[t] = max[j](sum(k[j])); }",
    );
    let sizes = sizes(&variant, &[("B", 2), ("T", 0), ("H", 1), ("K", 3)]);
    let results = run(&variant, &sizes, &inputs(&variant, &sizes), &Arrays::new()).unwrap();
    assert_eq!(output(&results, "o").shape, [2, 0, 1, 3]);
    assert_eq!(state(&results, "S"), &Array { shape: vec![2, 1, 3], data: vec![2.0; 6] });
    let given = Array { shape: vec![2, 1, 3], data: vec![5.0; 6] };
    let initial = Arrays::from([("S".to_string(), given.clone())]);
    let results = run(&variant, &sizes, &inputs(&variant, &sizes), &initial).unwrap();
    assert_eq!(state(&results, "S"), &given);
}

#[test]
fn a_tensor_that_disagrees_is_named() {
    let variant = variant(
        "variant x { axes B, T, H, K, F = 2*K; input q : [B,T,H,K], f : [B,T,H,F]; output o[t] = sum(q[t]) * sum(f[t]); }",
    );
    let shapes =
        |q: &[usize], f: &[usize]| BTreeMap::from([("q".to_string(), q.to_vec()), ("f".to_string(), f.to_vec())]);
    let sizes = bind(&variant, &shapes(&[1, 0, 2, 3], &[1, 0, 2, 6]), &[]).unwrap();
    assert_eq!(sizes.number(&variant.tensors[1].dims[3].size), 6);
    let errors = bind(&variant, &shapes(&[1, 4, 2, 3], &[1, 4, 2, 7]), &[]).unwrap_err();
    assert!(errors[0].message.contains("expected F = 2*K") || errors[0].message.contains("2*K"), "{errors:?}");
    let errors = bind(&variant, &shapes(&[1, 4, 2, 3], &[1, 5, 2, 6]), &[]).unwrap_err();
    assert_eq!(errors[0].tensor.as_deref(), Some("f"), "{errors:?}");
    let errors = bind(&variant, &shapes(&[1, 4, 2], &[1, 4, 2, 6]), &[]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].message.contains("rank 3"), "{errors:?}");
    assert!(bind(&variant, &shapes(&[1, 4, 2, 3], &[1, 4, 2, 6]), &[("Q".to_string(), 1)]).is_err());
}

#[test]
fn a_product_with_one_unknown_factor_gives_it() {
    let variant = variant("variant x { axes B, T = Y*X, H, K; input q : [B,T,H,K]; output o[t] = sum(q[t]) * t.x; }");
    let shapes = BTreeMap::from([("q".to_string(), vec![1, 12, 1, 2])]);
    let bound = |dims: &[(String, usize)]| bind(&variant, &shapes, dims);
    let grid = variant.grid.clone().unwrap();
    assert_eq!(bound(&[("X".to_string(), 4)]).unwrap().number(&grid.rows), 3);
    assert!(bound(&[("X".to_string(), 5)]).is_err());
    let errors = bound(&[]).unwrap_err();
    assert!(errors[0].message.contains("not bound"), "{errors:?}");
}

//! Random tensors for `verify` and `bench`: drawn as a variant's `check draw(..)` says, the same for the same seed on
//! every machine.

use chunkwise_compiler::{
    bind::{Sizes, tensor_shape},
    reference::Array,
};
use chunkwise_dsl::{
    shape::AxisId,
    typed::{Axis, Draw, Dtype, ExprKind, Tensor as Declared, Variant},
};

use crate::{
    reference,
    request::{Failure, Request},
    tensor::{Tensor, Tensors, elements},
};

/// xorshift* over a splitmix64 seed: small, fast, and good enough to draw test data.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { state: (z ^ (z >> 31)) | 1 }
    }

    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`; 0 for n = 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Normal of mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How gates are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// As `check draw(..)` says.
    Plain,
    /// A quarter of them at the ends of their range: log decays at 0, -20 and -1e4, others at their least and largest.
    Extreme,
    /// Log decays about -1e-4 and everything else that is drawn around 0 positive, so that a state sums up thousands of
    /// tokens and nothing cancels.
    Slow,
}

/// All inputs and params of a variant.
pub fn inputs(variant: &Variant, sizes: &Sizes, gates: Gates, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let draw = |tensor: &Declared| (tensor.name.clone(), tensor_of(variant, sizes, (tensor, gates), &mut random));
    variant.tensors.iter().map(draw).collect()
}

/// Tokens that lead to a drawn state.
const PAST: usize = 8;

/// An initial value for every state: one that some random tokens lead to. Values drawn at will would make the quotients
/// of normalised variants ill-conditioned: their denominators are sums of positive terms only where tokens made them.
///
/// # Errors
/// The reference cannot run the variant.
pub fn states(variant: &Variant, sizes: &Sizes, seed: u64) -> Result<Tensors, Failure> {
    let mut past = sizes.clone();
    if let Some(token) = variant.token.filter(|token| independent(variant, *token)) {
        past.set(token, PAST);
    }
    let inputs = inputs(variant, &past, Gates::Plain, seed ^ 0x5eed);
    let given = Tensors::new();
    let results = reference::results(Request { variant, sizes: &past, inputs: &inputs, initial: &given, threads: 1 })?;
    let narrow = |array: Array| Tensor::f32(array.shape, array.data.into_iter().map(|x| x as f32).collect());
    Ok(results.states.into_iter().map(|(name, array)| (name, narrow(array))).collect())
}

/// Whether no other axis follows from the token axis, nor it from others.
fn independent(variant: &Variant, token: AxisId) -> bool {
    let mentions = |axis: &Axis| axis.value.as_ref().is_some_and(|size| size.axes().contains(&token));
    variant.axes[token.0 as usize].value.is_none() && !variant.axes.iter().any(mentions)
}

fn tensor_of(variant: &Variant, sizes: &Sizes, (tensor, gates): (&Declared, Gates), random: &mut Random) -> Tensor {
    let shape = tensor_shape(tensor, sizes);
    let len = elements(&shape);
    if tensor.dtype == Dtype::I32 {
        let data = if permutes(variant, tensor) {
            permutations(len, shape.last().copied().unwrap_or(1), random)
        } else {
            (0..len).map(|_| random.below(8) as i32).collect()
        };
        return Tensor::i32(shape, data);
    }
    let how = variant.checks.draws.iter().find(|(name, _)| *name == tensor.name).map_or(Draw::Normal, |(_, how)| *how);
    let mut data: Vec<f32> = (0..len).map(|_| element(how, random) as f32).collect();
    if how == Draw::Unit {
        let row = shape.last().copied().unwrap_or(1).max(1);
        data.chunks_mut(row).for_each(normalise);
    }
    match gates {
        Gates::Plain => {}
        Gates::Extreme => exaggerate(how, &mut data, random),
        Gates::Slow => slow_down(how, &mut data),
    }
    Tensor::f32(shape, data)
}

fn element(how: Draw, random: &mut Random) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match how {
        Draw::Normal | Draw::Unit => random.normal(),
        Draw::Sigmoid => sigmoid(random.normal()),
        Draw::TwoSigmoid => 2.0 * sigmoid(random.normal()),
        Draw::LogDecay => sigmoid(random.normal()).ln(),
        Draw::Uniform(from, to) => from + (to - from) * random.unit(),
    }
}

fn normalise(row: &mut [f32]) {
    let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
}

/// Moves a quarter of the gates to the ends of their range.
fn exaggerate(how: Draw, data: &mut [f32], random: &mut Random) {
    let ends: &[f32] = match how {
        Draw::LogDecay => &[0.0, -20.0, -1e4],
        Draw::Sigmoid => &[0.0, 1.0],
        _ => return,
    };
    for x in data {
        if random.unit() < 0.25 {
            *x = ends[random.below(ends.len())];
        }
    }
}

/// Log decays between -1.5e-4 and -0.5e-4, sizes of what is drawn around 0.
fn slow_down(how: Draw, data: &mut [f32]) {
    for x in data {
        *x = match how {
            Draw::LogDecay => -1e-4 * (0.5 + x.exp()),
            Draw::Normal | Draw::Unit => x.abs(),
            Draw::Sigmoid | Draw::TwoSigmoid | Draw::Uniform(..) => *x,
        };
    }
}

/// Whether a tensor is the permutation of an order: `full(by = perm)`.
fn permutes(variant: &Variant, tensor: &Declared) -> bool {
    let names =
        |id| matches!(variant.expr(id).kind, ExprKind::Tensor(at) if variant.tensors[at.index()].name == tensor.name);
    variant.orders.iter().filter_map(|order| order.by).any(|by| {
        let below = variant.children(by);
        names(by) || below.into_iter().any(names)
    })
}

fn permutations(len: usize, row: usize, random: &mut Random) -> Vec<i32> {
    let mut data: Vec<i32> = (0..len).map(|at| (at % row.max(1)) as i32).collect();
    for row in data.chunks_mut(row.max(1)) {
        for last in (1..row.len()).rev() {
            row.swap(last, random.below(last + 1));
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut random = Random::new(1);
        let xs: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let variance = xs.iter().map(|x| x * x).sum::<f64>() / xs.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }

    #[test]
    fn a_permutation_has_every_place_once() {
        let mut drawn = permutations(14, 7, &mut Random::new(3));
        drawn[..7].sort();
        drawn[7..].sort();
        assert_eq!(drawn, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6]);
    }
}

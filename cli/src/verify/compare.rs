//! What counts as an error: max|got - ref| / max|ref| a tensor, and any number that is not finite where the reference's
//! is.

use chunkwise_compiler::reference::{Array, Results};
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{Outputs, Tensor};

/// The reference's results.
pub struct Expected {
    tensors: Vec<(String, Array)>,
    /// What errors are at least relative to: of gradients, which are of one scale, a part of the largest.
    floor: f64,
}

/// Beside the largest gradient one this small is nothing.
const SMALL: f64 = 1e-3;

impl Expected {
    pub fn of(variant: &Variant, results: Results) -> Self {
        let tensors: Vec<(String, Array)> = results.outputs.into_iter().chain(results.states).collect();
        let finite = tensors.iter().flat_map(|(_, array)| &array.data).filter(|x| x.is_finite());
        let largest = finite.fold(0f64, |largest, x| largest.max(x.abs()));
        let floor = if is_adjoint(variant) { SMALL * largest } else { 0.0 };
        Self { tensors, floor }
    }
}

/// Whether results are gradients: states scan both ways in adjoints, or tensors are cotangents.
fn is_adjoint(variant: &Variant) -> bool {
    variant.states.iter().any(|state| state.reverse) || variant.name.ends_with("_backward")
}

/// The largest error met, and where.
#[derive(Debug, Clone)]
pub struct Worst {
    /// Infinite where there is no number to give.
    pub error: f64,
    pub case: &'static str,
    pub tensor: String,
    /// What is wrong beside a number that is too far away.
    pub why: Option<String>,
}

impl Worst {
    pub fn failed(case: &'static str, why: String) -> Self {
        Self { error: f64::INFINITY, case, tensor: String::new(), why: Some(why) }
    }

    pub fn take(&mut self, other: Worst) {
        if other.error > self.error {
            *self = other;
        }
    }

    pub fn place(&self) -> String {
        let place = format!("{} {}", self.case, self.tensor).trim_end().to_string();
        match &self.why {
            Some(why) => format!("{place}: {why}"),
            None => place,
        }
    }
}

/// The worst tensor of a run.
pub fn worst(expected: &Expected, got: &Outputs, case: &'static str) -> Worst {
    let mut worst = Worst { error: 0.0, case, tensor: String::new(), why: None };
    for (name, reference) in &expected.tensors {
        let found = got.all().find(|(found, _)| found == name);
        let (error, why) = match found {
            Some((_, tensor)) => error((reference, expected.floor), tensor),
            None => (f64::INFINITY, Some("it was not given out".to_string())),
        };
        if error > worst.error || worst.tensor.is_empty() {
            worst = Worst { error, case, tensor: name.clone(), why };
        }
    }
    worst
}

/// The error of one tensor. Where the reference is not finite (a NaN among the inputs reaches it) nothing is asked.
fn error((reference, floor): (&Array, f64), got: &Tensor) -> (f64, Option<String>) {
    if reference.shape != got.shape {
        return (f64::INFINITY, Some(format!("its shape is {:?}, expected {:?}", got.shape, reference.shape)));
    }
    let (mut largest, mut furthest) = (0f64, 0f64);
    for (place, (&expected, got)) in reference.data.iter().zip(got.to_f64()).enumerate() {
        if !expected.is_finite() {
            continue;
        }
        if !got.is_finite() {
            let index = index_of(place, &reference.shape);
            let why = diverges(reference).unwrap_or_else(|| format!("{got} at {index:?}, expected {expected:.3e}"));
            return (f64::INFINITY, Some(why));
        }
        largest = largest.max(expected.abs());
        furthest = furthest.max((got - expected).abs());
    }
    let scale = largest.max(floor);
    (if scale == 0.0 { furthest } else { furthest / scale }, None)
}

/// Magnitudes from here on leave f32 little room: what is squared or summed on the way to them has passed it.
const HUGE: f64 = 1e30;

/// Where the reference itself grows out of f32, that is what is wrong, and no back end.
fn diverges(reference: &Array) -> Option<String> {
    let largest = reference.data.iter().filter(|x| x.is_finite()).fold(0f64, |largest, x| largest.max(x.abs()));
    (largest > HUGE).then(|| {
        format!(
            "the reference itself grows to {largest:.1e}, and f32 ends at 3.4e38: the state is not bounded on these \
             inputs; draw unit keys (`check draw(k = unit)`) or normalise them (`feature l2norm on k`)"
        )
    })
}

fn index_of(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (slot, n) in index.iter_mut().zip(shape).rev() {
        *slot = place % n;
        place /= n;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(data: &[f64]) -> Array {
        Array { shape: vec![data.len()], data: data.to_vec() }
    }

    #[test]
    fn errors_are_relative_to_the_largest_reference() {
        let (found, _) = error((&array(&[4.0, 0.0]), 0.0), &Tensor::f32(vec![2], vec![4.0, 1.0]));
        assert_eq!(found, 0.25);
        let (found, _) = error((&array(&[0.0, 0.0]), 0.0), &Tensor::f32(vec![2], vec![0.0, 0.5]));
        assert_eq!(found, 0.5, "where the reference is 0, the error is absolute");
    }

    #[test]
    fn numbers_that_are_not_finite_count_where_the_reference_is() {
        let got = Tensor::f32(vec![2], vec![f32::NAN, 1.0]);
        assert_eq!(error((&array(&[1.0, 1.0]), 0.0), &got).0, f64::INFINITY);
        assert_eq!(error((&array(&[f64::NAN, 1.0]), 0.0), &got).0, 0.0);
        assert_eq!(error((&array(&[1.0]), 0.0), &got).0, f64::INFINITY, "a wrong shape is no match");
        assert_eq!(error((&array(&[2.0, 1.0]), 0.0), &got).1.as_deref(), Some("NaN at [0], expected 2.000e0"));
    }

    #[test]
    fn a_reference_that_grows_out_of_f32_is_what_is_wrong() {
        let (found, why) = error((&array(&[1.3e38, 1e45]), 0.0), &Tensor::f32(vec![2], vec![f32::NAN, 1.0]));
        assert_eq!(found, f64::INFINITY);
        assert!(why.unwrap().starts_with("the reference itself grows to 1.0e45"));
    }
}

//! From an adjoint's results to gradients: sums over the batch axes that a tensor lacks and over heads that share one.

use std::ops::AddAssign;

use crate::bind::Sizes;

use super::Gradient;

impl Gradient {
    /// The gradient and its shape, from the output that holds it: sums in order, the same in every run.
    pub fn gather<N: Copy + Default + AddAssign>(
        &self,
        shape: &[usize],
        data: &[N],
        sizes: &Sizes,
    ) -> (Vec<usize>, Vec<N>) {
        let (lacked, mut own) = (&shape[..self.summed], shape[self.summed..].to_vec());
        let size: usize = own.iter().product();
        let mut sum = vec![N::default(); size];
        for part in 0..lacked.iter().product() {
            for (sum, x) in sum.iter_mut().zip(&data[part * size..]) {
                *sum += *x;
            }
        }
        let Some((axis, ratio)) = &self.group else { return (own, sum) };
        let ratio = sizes.extent(ratio).max(1);
        let inner: usize = own[axis + 1..].iter().product();
        own[*axis] /= ratio;
        let mut grouped = vec![N::default(); own.iter().product()];
        for (at, x) in sum.iter().enumerate() {
            grouped[at / inner.max(1) / ratio * inner + at % inner.max(1)] += *x;
        }
        (own, grouped)
    }
}

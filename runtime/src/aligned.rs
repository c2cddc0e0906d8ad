//! Tensors that compiled code works on again and again: f32, named, their first element on a cache line, so that no
//! vector straddles two.

use crate::tensor::Tensor;

/// Elements of a cache line.
const LINE: usize = 16;

/// A tensor that a session owns.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Never grows, so it stays where it is.
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Named {
    /// Of zeros.
    pub(crate) fn zeros(name: String, shape: Vec<usize>) -> Self {
        let len = shape.iter().product();
        let data = vec![0.0f32; len + LINE - 1];
        // Where the start cannot be aligned it need not be: only speed hangs on it.
        let start = Some(data.as_ptr().align_offset(4 * LINE)).filter(|start| *start < LINE).unwrap_or(0);
        Self { name, shape, data, start, len }
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }

    pub(crate) fn to_tensor(&self) -> Tensor {
        Tensor::f32(self.shape.clone(), self.values().to_vec())
    }
}

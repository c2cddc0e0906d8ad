//! Tensors that compiled code works on again and again: f32, named.

use crate::floats::Floats;
use crate::tensor::{Data, Tensor, elements};

/// A tensor that a session owns.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Never grows, so it stays where it is.
    data: Floats,
}

impl Named {
    /// Of zeros.
    pub(crate) fn zeros(name: String, shape: Vec<usize>) -> Self {
        let data = Floats::zeros(elements(&shape));
        Self { name, shape, data }
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.data
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    pub(crate) fn to_tensor(&self) -> Tensor {
        Tensor { shape: self.shape.clone(), data: Data::F32(self.data.clone()) }
    }
}

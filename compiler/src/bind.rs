//! Axis sizes, bound from tensor shapes and `--dim`.

use chunkwise_dsl::shape::{AxisId, Size};

/// The size of every axis of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sizes {
    sizes: Vec<Option<usize>>,
}

impl Sizes {
    pub fn set(&mut self, axis: AxisId, size: usize) {
        let place = axis.0 as usize;
        if self.sizes.len() <= place {
            self.sizes.resize(place + 1, None);
        }
        self.sizes[place] = Some(size);
    }

    pub fn get(&self, axis: AxisId) -> Option<usize> {
        self.sizes.get(axis.0 as usize).copied().flatten()
    }

    /// A size expression's value, if every axis in it is bound and the value is not negative.
    pub fn eval(&self, size: &Size) -> Option<usize> {
        size.eval(&|axis| self.get(axis).map(|n| n as i64)).and_then(|n| usize::try_from(n).ok())
    }
}

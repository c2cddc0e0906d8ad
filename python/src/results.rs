//! Tensors that a call fills: the caller's library makes them, so they are its own, and none lies where another tensor of
//! the call does.

use std::ops::Range;

use chunkwise_runtime::Data;
use pyo3::{prelude::*, types::PyTuple};

use crate::{
    errors,
    view::{Elem, View},
};

/// Fresh tensors of one call.
pub struct Results<'py> {
    objects: Vec<Bound<'py, PyAny>>,
    views: Vec<View<'py>>,
}

impl<'py> Results<'py> {
    /// Has `empty` make a tensor of each shape: it is given the shape and the name of the elements.
    ///
    /// # Errors
    /// It fails, or makes something else.
    pub fn made(empty: &Bound<'py, PyAny>, shapes: &[Vec<usize>], elem: Elem) -> PyResult<Self> {
        let mut results = Self { objects: Vec::new(), views: Vec::new() };
        for shape in shapes {
            let object = empty.call1((PyTuple::new(empty.py(), shape)?, elem.name()))?;
            let view = View::of("a result", &object)?;
            if view.shape() != shape || view.elem() != elem {
                let (shape, kind) = (view.shape(), view.elem().name());
                let message = format!("a result was made {kind} of shape {shape:?}, not {} of {shape:?}", elem.name());
                return Err(errors::wrong(empty.py(), &message));
            }
            results.objects.push(object);
            results.views.push(view);
        }
        Ok(results)
    }

    /// These, and tensors of the caller that a call is to leave something in.
    ///
    /// # Errors
    /// One of other elements than these, or one that cannot be written where it lies.
    pub fn and(mut self, given: &Bound<'py, PyTuple>, names: &[&str], elem: Elem) -> PyResult<Self> {
        for (object, name) in given.iter().zip(names) {
            let view = View::of(name, &object)?;
            if !view.takes(elem) {
                let message =
                    format!("`{name}` cannot be left in place: expected {}, contiguous and writable", elem.name());
                return Err(errors::shape(given.py(), &message));
            }
            self.views.push(view);
            self.objects.push(object);
        }
        Ok(self)
    }

    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Their memory, to be written, where the tensors that are read have theirs elsewhere (`taken`).
    ///
    /// # Errors
    /// One of them shares memory with another, or with what is read; or it cannot be written.
    pub fn floats(&mut self, py: Python<'_>, mut taken: Vec<Range<usize>>) -> PyResult<Vec<&mut [f32]>> {
        for view in &self.views {
            let own = view.addresses();
            if taken.iter().any(|other| own.start < other.end && other.start < own.end) {
                return Err(errors::wrong(py, "a result was made where another tensor lies"));
            }
            taken.push(own);
        }
        let unwritable = || errors::wrong(py, "a result was made that cannot be written");
        self.views.iter_mut().map(|view| view.dense_mut::<f32>().ok_or_else(unwritable)).collect()
    }

    /// Writes a tensor's elements into one of them.
    ///
    /// # Errors
    /// It cannot be written, or has other elements.
    pub fn copy(&mut self, py: Python<'_>, place: usize, from: &Data) -> PyResult<()> {
        let view = &mut self.views[place];
        let fits = match from {
            Data::F32(data) => {
                view.dense_mut::<f32>().filter(|to| to.len() == data.len()).map(|to| to.copy_from_slice(data))
            }
            Data::I32(data) => {
                view.dense_mut::<i32>().filter(|to| to.len() == data.len()).map(|to| to.copy_from_slice(data))
            }
        };
        fits.ok_or_else(|| errors::wrong(py, "a result cannot take its elements"))
    }

    /// Writes numbers of f64 into one of them, as its elements.
    ///
    /// # Errors
    /// It cannot be written, or has another number of elements.
    pub fn write(&mut self, py: Python<'_>, place: usize, data: &[f64]) -> PyResult<()> {
        let view = &mut self.views[place];
        let len = view.len();
        if len == data.len() {
            if let Some(to) = view.dense_mut::<f64>() {
                to.copy_from_slice(data);
                return Ok(());
            }
            if let Some(to) = view.dense_mut::<f32>() {
                to.iter_mut().zip(data).for_each(|(to, x)| *to = *x as f32);
                return Ok(());
            }
        }
        Err(errors::wrong(py, &format!("a result of {len} elements cannot take {}", data.len())))
    }

    /// The first so many of them, and the others.
    pub fn into_tuples(self, py: Python<'py>, first: usize) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyTuple>)> {
        let (outputs, states) = self.objects.split_at(first);
        Ok((PyTuple::new(py, outputs)?, PyTuple::new(py, states)?))
    }
}

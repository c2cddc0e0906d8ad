//! Views by Python's buffer protocol: NumPy's arrays, `array.array`, `memoryview`.

use std::{ffi::CStr, mem::MaybeUninit};

use pyo3::{ffi, prelude::*};

use super::{Elem, Keep, RANK, View};
use crate::errors;

/// Whether the object has the protocol.
pub(super) fn has_buffer(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: any object may be asked.
    unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) == 1 }
}

/// A buffer that is given back when it is dropped.
pub(super) struct Held<'py> {
    buffer: Box<ffi::Py_buffer>,
    py: Python<'py>,
}

impl<'py> Held<'py> {
    pub(super) fn py(&self) -> Python<'py> {
        self.py
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: `PyObject_GetBuffer` filled it, it is released here alone, and the token says that the thread is attached.
        unsafe { ffi::PyBuffer_Release(&mut *self.buffer) }
    }
}

pub(super) fn by_buffer<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<View<'py>> {
    let py = object.py();
    let mut buffer: Box<MaybeUninit<ffi::Py_buffer>> = Box::new_uninit();
    // SAFETY: the struct is the callee's to fill; 0 says that it did.
    let buffer = unsafe {
        if ffi::PyObject_GetBuffer(object.as_ptr(), buffer.as_mut_ptr(), ffi::PyBUF_FORMAT | ffi::PyBUF_STRIDES) != 0 {
            return Err(PyErr::fetch(py));
        }
        buffer.assume_init()
    };
    let held = Held { buffer, py };
    let buffer = &held.buffer;
    // SAFETY: PyBUF_FORMAT gives a C string, or null for bytes.
    let format = if buffer.format.is_null() { c"B" } else { unsafe { CStr::from_ptr(buffer.format) } };
    let Some(elem) = elem(format.to_bytes(), buffer.itemsize as usize) else {
        let format = format.to_string_lossy();
        return Err(errors::dtype(
            py,
            &format!("tensor `{name}` has `{format}` as its elements, in the letters of `struct`"),
        ));
    };
    let rank = usize::try_from(buffer.ndim).ok().filter(|rank| *rank <= RANK);
    let rank = rank.ok_or_else(|| errors::shape(py, &format!("tensor `{name}` has more than {RANK} axes")))?;
    let (mut shape, mut strides) = ([0; RANK], [0; RANK]);
    for axis in 0..rank {
        // SAFETY: PyBUF_STRIDES gives both, `ndim` entries each.
        unsafe {
            shape[axis] = (*buffer.shape.add(axis)).max(0) as usize;
            strides[axis] = *buffer.strides.add(axis);
        }
    }
    let (data, writable) = (buffer.buf.cast(), buffer.readonly == 0);
    Ok(View { elem, data, shape, strides, rank, writable, _keep: Keep::Buffer(held) })
}

/// The elements that a format of `struct` names, if they are of this machine's byte order.
fn elem(format: &[u8], bytes: usize) -> Option<Elem> {
    let own = if cfg!(target_endian = "little") { b'<' } else { b'>' };
    let letter = match format {
        [letter] => *letter,
        [order, letter] if [b'@', b'=', own].contains(order) => *letter,
        _ => return None,
    };
    match (letter, bytes) {
        (b'e', 2) => Some(Elem::F16),
        (b'f', 4) => Some(Elem::F32),
        (b'd', 8) => Some(Elem::F64),
        (b'i' | b'l', 4) => Some(Elem::I32),
        (b'l' | b'q', 8) => Some(Elem::I64),
        _ => None,
    }
}

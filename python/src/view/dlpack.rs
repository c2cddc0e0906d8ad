//! Views by DLPack: the C table that a type carries (`__dlpack_c_exchange_api__`, DLPack 1.2: a call, no capsule), and the
//! capsules of `__dlpack__`, which everything else that has tensors gives.

use std::{cell::RefCell, ffi::CStr, mem::MaybeUninit};

use pyo3::{
    exceptions::{PyBufferError, PyTypeError},
    ffi,
    prelude::*,
    types::{PyCapsule, PyDict, PyType},
};

use super::{
    Elem, Keep, RANK, View,
    layout::{self, Borrow},
};
use crate::errors;

/// CPU memory, and memory of the host that a GPU may read.
const HOST: [i32; 2] = [1, 3];

/// A view by the C table of the object's type; None if it has none.
pub(super) fn by_table<'py>(name: &str, object: &Bound<'py, PyAny>) -> Option<PyResult<View<'py>>> {
    let borrow = table(&object.get_type())?;
    let mut tensor = MaybeUninit::<layout::Tensor>::uninit();
    // SAFETY: the table is of the object's own type, so the function takes the object; it fills the struct or says not 0.
    let code = unsafe { borrow(object.as_ptr(), tensor.as_mut_ptr()) };
    if code != 0 {
        let py = object.py();
        return Some(Err(PyErr::take(py).unwrap_or_else(|| PyBufferError::new_err(format!("`{name}` gives no view")))));
    }
    // SAFETY: 0 says that it is filled.
    let tensor = unsafe { tensor.assume_init() };
    // SAFETY: what the table gives lives as long as the object, which the view holds.
    Some(unsafe { view(name, &tensor, (true, Keep::Object(object.clone()))) })
}

/// The function of a type's table, remembered for the type asked last. The type is held: its address stays its own.
fn table(kind: &Bound<'_, PyType>) -> Option<Borrow> {
    thread_local! { static LAST: RefCell<Option<(Py<PyType>, Option<Borrow>)>> = const { RefCell::new(None) }; }
    let known = LAST.with_borrow(|last| last.as_ref().filter(|(of, _)| of.is(kind)).map(|(_, borrow)| *borrow));
    if let Some(borrow) = known {
        return borrow;
    }
    let borrow = kind.getattr("__dlpack_c_exchange_api__").ok().and_then(|capsule| {
        // SAFETY: a capsule of this name holds the table, which lives as long as the library it is of; any object may be
        // asked for it. Major version 1 has this layout.
        unsafe {
            let table: *const layout::Exchange =
                ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"dlpack_exchange_api".as_ptr()).cast();
            if table.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            if (*table).version.major == 1 { (*table).borrow } else { None }
        }
    });
    LAST.set(Some((kind.clone().unbind(), borrow)));
    borrow
}

/// A view by the capsule that `__dlpack__` gives.
pub(super) fn by_capsule<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<View<'py>> {
    let py = object.py();
    let newest = PyDict::new(py);
    newest.set_item("max_version", (1, 0))?;
    let capsule = match object.call_method("__dlpack__", (), Some(&newest)) {
        // What is older than DLPack 1.0 takes no version.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => object.call_method0("__dlpack__")?,
        other => other?,
    };
    let capsule = capsule.cast_into::<PyCapsule>()?;
    // SAFETY: a capsule of such a name holds such a struct, which lives as long as the capsule, which the view holds. Of
    // another major version only the version is read.
    unsafe {
        let versioned = ffi::PyCapsule_IsValid(capsule.as_ptr(), c"dltensor_versioned".as_ptr()) == 1;
        let label: &CStr = if versioned { c"dltensor_versioned" } else { c"dltensor" };
        let pointer = ffi::PyCapsule_GetPointer(capsule.as_ptr(), label.as_ptr());
        if pointer.is_null() {
            return Err(PyErr::fetch(py));
        }
        if !versioned {
            let managed = pointer.cast::<layout::Managed>();
            return view(name, &(*managed).tensor, (true, Keep::Object(capsule.into_any())));
        }
        let managed = pointer.cast::<layout::Versioned>();
        if (*managed).version.major != 1 {
            let major = (*managed).version.major;
            return Err(PyBufferError::new_err(format!("`{name}` speaks DLPack {major}, and 1 is known here")));
        }
        let writable = (*managed).flags & layout::READ_ONLY == 0;
        view(name, &(*managed).tensor, (writable, Keep::Object(capsule.into_any())))
    }
}

/// # Safety
/// The struct describes memory that `keep` keeps alive, and its shape and strides, where there are any, have `rank` entries.
unsafe fn view<'py>(name: &str, tensor: &layout::Tensor, (writable, keep): (bool, Keep<'py>)) -> PyResult<View<'py>> {
    let py = keep.py();
    if !HOST.contains(&tensor.device.kind) {
        return Err(errors::device(
            py,
            &format!("tensor `{name}` is on {}, expected the CPU: move it there", place(tensor)),
        ));
    }
    let layout::DataType { code, bits, lanes } = tensor.dtype;
    let elem = match (code, bits, lanes) {
        (2, 16, 1) => Elem::F16,
        (2, 32, 1) => Elem::F32,
        (2, 64, 1) => Elem::F64,
        (4, 16, 1) => Elem::Bf16,
        (0, 32, 1) => Elem::I32,
        (0, 64, 1) => Elem::I64,
        _ => return Err(errors::dtype(py, &format!("tensor `{name}` has {} as its elements", named(tensor.dtype)))),
    };
    let rank = usize::try_from(tensor.rank).ok().filter(|rank| *rank <= RANK);
    let rank = rank.ok_or_else(|| errors::shape(py, &format!("tensor `{name}` has more than {RANK} axes")))?;
    let (mut shape, mut strides) = ([0; RANK], [0; RANK]);
    let mut dense = elem.bytes() as isize;
    for axis in (0..rank).rev() {
        // SAFETY: both have `rank` entries (the caller).
        let (extent, stride) = unsafe {
            let stride = (!tensor.strides.is_null()).then(|| *tensor.strides.add(axis));
            (*tensor.shape.add(axis), stride)
        };
        shape[axis] = extent.max(0) as usize;
        strides[axis] = stride.map_or(dense, |stride| stride as isize * elem.bytes() as isize);
        dense = dense.saturating_mul(extent.max(0) as isize);
    }
    let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
    Ok(View { elem, data, shape, strides, rank, writable, _keep: keep })
}

fn place(tensor: &layout::Tensor) -> String {
    let layout::Device { kind, number } = tensor.device;
    let name = match kind {
        2 => "CUDA",
        7 => "Vulkan",
        8 => "Metal",
        10 => "ROCm",
        14 => "oneAPI",
        _ => return format!("a device of DLPack's kind {kind}"),
    };
    format!("{name} device {number}")
}

fn named(dtype: layout::DataType) -> String {
    let layout::DataType { code, bits, lanes } = dtype;
    let kind = match code {
        0 => "int",
        1 => "uint",
        2 => "float",
        5 => "complex",
        6 => return "bool".into(),
        _ => return format!("DLPack's kind {code} of {bits} bits"),
    };
    if lanes == 1 { format!("{kind}{bits}") } else { format!("{kind}{bits} x {lanes}") }
}

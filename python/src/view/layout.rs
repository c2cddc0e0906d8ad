//! DLPack's structs as its header (`dlpack.h`, major version 1) lays them out. Not here: what is made of them.

use std::ffi::{c_int, c_void};

use pyo3::ffi::PyObject;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Device {
    pub(super) kind: i32,
    pub(super) number: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DataType {
    pub(super) code: u8,
    pub(super) bits: u8,
    pub(super) lanes: u16,
}

/// `DLTensor`. Strides are in elements; none means row-major.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Tensor {
    pub(super) data: *mut c_void,
    pub(super) device: Device,
    pub(super) rank: i32,
    pub(super) dtype: DataType,
    pub(super) shape: *mut i64,
    pub(super) strides: *mut i64,
    pub(super) byte_offset: u64,
}

/// `DLManagedTensor`: before DLPack 1.0.
#[repr(C)]
pub(super) struct Managed {
    pub(super) tensor: Tensor,
    context: *mut c_void,
    deleter: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub(super) major: u32,
    minor: u32,
}

/// `DLManagedTensorVersioned`. Only its first fields are the same in every major version.
#[repr(C)]
pub(super) struct Versioned {
    pub(super) version: Version,
    context: *mut c_void,
    deleter: *mut c_void,
    pub(super) flags: u64,
    pub(super) tensor: Tensor,
}

/// The flag of a tensor that may not be written.
pub(super) const READ_ONLY: u64 = 1;

/// Fills the struct with a view of the object that lives as long as the object; 0 if it could.
pub(super) type Borrow = unsafe extern "C" fn(*mut PyObject, *mut Tensor) -> c_int;

/// `DLPackExchangeAPI`, of which one function is called.
#[repr(C)]
pub(super) struct Exchange {
    pub(super) version: Version,
    previous: *mut c_void,
    allocate: *mut c_void,
    managed_from_object: *mut c_void,
    managed_to_object: *mut c_void,
    pub(super) borrow: Option<Borrow>,
    stream: *mut c_void,
}

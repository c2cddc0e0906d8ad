//! Tensors of other libraries, looked at where they lie: PyTorch's by DLPack's C table, NumPy's by the buffer protocol,
//! all others by DLPack's capsules. The only room of this crate with unsafe code; what it gives out is safe. Not here: what
//! a variant wants of a tensor (`operand`).

mod buffer;
mod dlpack;
mod gather;
mod layout;

use std::ops::Range;

use half::{bf16, f16};
use pyo3::{exceptions::PyTypeError, prelude::*};

/// The most axes of a tensor.
const RANK: usize = 16;

/// What a tensor is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    F16,
    Bf16,
    F32,
    F64,
    I32,
    I64,
}

impl Elem {
    /// What PyTorch and NumPy call it.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F16 => "float16",
            Elem::Bf16 => "bfloat16",
            Elem::F32 => "float32",
            Elem::F64 => "float64",
            Elem::I32 => "int32",
            Elem::I64 => "int64",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Elem::F16 | Elem::Bf16 => 2,
            Elem::F32 | Elem::I32 => 4,
            Elem::F64 | Elem::I64 => 8,
        }
    }
}

/// A type of Rust that is laid out as these elements are.
///
/// # Safety
/// It has the size of `ELEM`, and any bits are a value of it.
pub unsafe trait Element: Copy {
    const ELEM: Elem;
}

macro_rules! elements {
    ($($kind:ty = $elem:ident),*) => { $(
        // SAFETY: a number of as many bits.
        unsafe impl Element for $kind {
            const ELEM: Elem = Elem::$elem;
        }
    )* };
}

elements!(f16 = F16, bf16 = Bf16, f32 = F32, f64 = F64, i32 = I32, i64 = I64);

/// What keeps a view's memory alive.
enum Keep<'py> {
    /// The tensor, or the capsule that it gave.
    Object(Bound<'py, PyAny>),
    Buffer(buffer::Held<'py>),
}

impl<'py> Keep<'py> {
    fn py(&self) -> Python<'py> {
        match self {
            Keep::Object(object) => object.py(),
            Keep::Buffer(held) => held.py(),
        }
    }
}

/// A tensor in this process's memory. It lives as long as the view, and nobody is to write it meanwhile: libraries of
/// Python promise no more of a tensor that is being read.
pub struct View<'py> {
    elem: Elem,
    data: *mut u8,
    shape: [usize; RANK],
    /// In bytes.
    strides: [isize; RANK],
    rank: usize,
    writable: bool,
    _keep: Keep<'py>,
}

impl<'py> View<'py> {
    /// A view of the tensor that is called `name` in messages.
    ///
    /// # Errors
    /// No tensor, or one that is not on the CPU, of other elements than those of `Elem`, or of more axes than `RANK`.
    pub fn of(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(view) = dlpack::by_table(name, object) {
            return view;
        }
        if buffer::has_buffer(object) {
            return buffer::by_buffer(name, object);
        }
        if object.hasattr("__dlpack__")? {
            return dlpack::by_capsule(name, object);
        }
        let kind = object.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "`{name}` is a {kind}, expected a tensor (of PyTorch, NumPy, or whatever has `__dlpack__` or a buffer)"
        )))
    }

    pub fn elem(&self) -> Elem {
        self.elem
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether the elements lie one after another in the order of the indices.
    fn is_dense(&self) -> bool {
        let mut dense = self.elem.bytes() as isize;
        for (extent, stride) in self.shape().iter().zip(&self.strides).rev() {
            if *extent > 1 && *stride != dense {
                return false;
            }
            dense = dense.saturating_mul(*extent as isize);
        }
        true
    }

    /// Whether the elements can be looked at where they lie, as those of a slice.
    fn is_slice<T: Element>(&self) -> bool {
        T::ELEM == self.elem && self.is_dense() && self.data.cast::<T>().is_aligned() && !self.data.is_null()
    }

    /// Whether elements of this type can be written where they lie.
    pub fn takes(&self, elem: Elem) -> bool {
        self.elem == elem && self.writable && self.is_dense()
    }

    /// The elements where they lie; None if they are others, or do not lie one after another.
    pub fn dense<T: Element>(&self) -> Option<&[T]> {
        if self.len() == 0 && T::ELEM == self.elem {
            return Some(&[]);
        }
        // SAFETY: so many elements of this type lie here one after another, aligned; they live as long as the view, and
        // nobody writes them meanwhile (the type's promise).
        self.is_slice::<T>()
            .then(|| unsafe { std::slice::from_raw_parts(self.data.cast::<T>().cast_const(), self.len()) })
    }

    /// The elements to be written where they lie; None as for `dense`, or if they may not be written.
    pub fn dense_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        if self.len() == 0 && T::ELEM == self.elem {
            return Some(&mut []);
        }
        // SAFETY: as in `dense`; the library says that they may be written, and `crate::results` asks for slices to write
        // of memory alone that it has found to overlap nothing that is read or written beside it.
        (self.writable && self.is_slice::<T>())
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.data.cast::<T>(), self.len()) })
    }

    /// The addresses from the first element to behind the last; none of a tensor without elements.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.data as usize;
        if self.len() == 0 {
            return start..start;
        }
        let along = |(extent, stride): (&usize, &isize)| (*extent as isize - 1) * stride;
        let ends = self.shape().iter().zip(&self.strides).map(along);
        let (before, after) = ends.fold((0, 0), |(before, after), end| (before + end.min(0), after + end.max(0)));
        start.wrapping_add_signed(before)..start.wrapping_add_signed(after) + self.elem.bytes()
    }
}

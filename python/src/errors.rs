//! Failures as the exceptions of `chunkwise.errors`: which class each is of, and what it carries. Texts are those of the
//! compiler and the runtime.

use chunkwise_compiler::Unsupported;
use chunkwise_dsl::{
    diagnostic::Diagnostic,
    render::render,
    source::{Lines, Source},
};
use chunkwise_runtime::Failure;
use pyo3::{IntoPyObjectExt, prelude::*, types::PyTuple};

/// A tensor's shape is not what the variant says.
pub fn shape(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "ShapeError", (message,))
}

/// A tensor's elements are not what the variant says.
pub fn dtype(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "DtypeError", (message,))
}

/// A tensor, or a back end, is not where work is done.
pub fn device(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "DeviceError", (message,))
}

/// Anything else that was asked for and cannot be.
pub fn wrong(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "Error", (message,))
}

pub fn failure(py: Python<'_>, failure: &Failure) -> PyErr {
    match failure {
        Failure::Unsupported(of) => unsupported(py, of),
        Failure::Unusable(..) => device(py, &failure.to_string()),
        Failure::Failed(message) => wrong(py, message),
    }
}

pub fn unsupported(py: Python<'_>, of: &Unsupported) -> PyErr {
    raised(py, "Unsupported", (of.to_string(), &of.operation, &of.reason, &of.way_out))
}

/// All that is wrong with a source.
pub fn source(py: Python<'_>, found: &[Diagnostic], source: &Source) -> PyErr {
    let lines = Lines::of(source);
    let row = |one: &Diagnostic| {
        let place = one.start().map(|start| lines.place(start));
        let (line, column) = (place.map(|place| place.line), place.map(|place| place.column));
        (one.severity.name(), one.code, one.message.clone(), line, column, one.help.clone())
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    raised(py, "SourceError", (render(found, source).trim_end(), rows))
}

/// Says what may well be wrong, as a warning of Python.
///
/// # Errors
/// Warnings that are errors here.
pub fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    let class = py.import("chunkwise.errors")?.getattr("ChunkwiseWarning")?;
    py.import("warnings")?.call_method1("warn", (message, class, 3)).map(|_| ())
}

/// An exception of a class of `chunkwise.errors`, which makes itself of these.
fn raised<'py>(py: Python<'py>, class: &str, of: impl IntoPyObjectExt<'py>) -> PyErr {
    let made = || {
        let arguments = of.into_bound_py_any(py)?.cast_into::<PyTuple>()?;
        py.import("chunkwise.errors")?.getattr(class)?.call1(arguments)
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

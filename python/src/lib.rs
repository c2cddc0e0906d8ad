//! The engine of the Python package `chunkwise`: tensors of Python in, the compiler and the runtime called, tensors out.
//! It translates and computes nothing itself; what people call is in `chunkwise/`, written in Python.

mod engine;
mod errors;
mod facts;
mod kernel;
mod operand;
mod results;
mod session;
mod stretch;
mod view;

#[pyo3::pymodule(gil_used = false)]
mod _engine {
    use std::ffi::OsString;

    use chunkwise_cli::examples;
    use chunkwise_runtime::backend;
    use pyo3::prelude::*;

    use crate::errors;
    #[pymodule_export]
    use crate::kernel::Kernel;
    #[pymodule_export]
    use crate::session::Session;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The variants that are built in: name and title.
    #[pyfunction]
    fn examples_all() -> Vec<(&'static str, &'static str)> {
        examples::all().map(|example| (example.name, example.title())).collect()
    }

    /// The source of the variant of this name.
    #[pyfunction]
    fn example(py: Python<'_>, name: &str) -> PyResult<&'static str> {
        examples::named(name).map(|example| example.text).map_err(|failure| errors::wrong(py, &failure.line()))
    }

    /// The `chunkwise` command on these words, the first its own name; its exit status.
    #[pyfunction]
    fn command(py: Python<'_>, words: Vec<OsString>) -> u8 {
        py.detach(|| chunkwise_cli::main(words))
    }

    /// This machine's cores.
    #[pyfunction]
    fn cores() -> usize {
        backend::cores()
    }
}

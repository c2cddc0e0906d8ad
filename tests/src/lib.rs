//! What the tests of the whole share: the cases of `cases/` and how their headers are read, and the examples. The tests
//! are in `tests/`.

#![forbid(unsafe_code)]

pub mod case;
pub mod example;

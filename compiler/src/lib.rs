//! MEANING -> KERNEL CODE. Pure: no files, no clock, no environment; the same program gives the same code. Runs nothing.

pub mod bind;
pub mod codegen;
pub mod egraph;
pub mod explain;
pub mod form;
pub mod ir;
pub mod kernel;
pub mod plan;
pub mod reference;
pub mod rules;
pub mod stage;
pub mod unsupported;

pub use explain::{Explanation, explain};
pub use form::{Form, FormReport, StateReport, Tiles, compile, report};
pub use unsupported::Unsupported;

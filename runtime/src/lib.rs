//! KERNEL CODE -> NUMBERS. The only crate that runs code or touches devices; knows nothing of the language.

#[cfg(feature = "llvm")]
pub mod cpu;
mod launch;

pub use launch::{Input, Launch, RunError, interpret};

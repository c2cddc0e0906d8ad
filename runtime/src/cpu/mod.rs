//! Compiled modules on the processor. The only room of this crate with `unsafe`: loading code, calling it, and lending
//! closures to the threads of the pool.

pub mod llvm;
mod threads;

pub use llvm::{Loaded, host};

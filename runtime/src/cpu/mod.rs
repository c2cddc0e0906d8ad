//! Compiled modules on the processor. The only room of this crate with `unsafe`: loading code, calling it, and lending
//! closures to the threads of the pool.

#[cfg(feature = "llvm")]
pub mod llvm;
#[cfg(feature = "cranelift")]
pub mod simd;
#[cfg(feature = "llvm")]
mod threads;

#[cfg(feature = "llvm")]
pub use llvm::{Loaded, host};

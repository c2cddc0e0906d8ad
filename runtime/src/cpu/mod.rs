//! Compiled modules on the processor. The only room of this crate with `unsafe`: loading code, calling it, lending closures
//! to the threads of the pool, the mode that they compute in (`subnormal`), and the micro-kernels that generated code calls.

#[cfg(feature = "cranelift")]
pub mod cranelift;
#[cfg(feature = "llvm")]
pub mod llvm;
mod loaded;
mod prepared;
#[cfg(feature = "cranelift")]
pub mod simd;
mod subnormal;
mod threads;

#[cfg(feature = "llvm")]
pub use llvm::host;
pub use loaded::Loaded;
pub(crate) use prepared::Repeated;

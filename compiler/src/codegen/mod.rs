//! KERNEL -> CODE. A folder a target; each turns a checked module into code and runs none of it.
//!
//! ```text
//! cranelift  machine code in milliseconds, calling the runtime's micro-kernels    needs nothing but Rust
//! llvm       machine code, micro-kernels and all                                  needs LLVM
//! wgsl       shaders for any GPU
//! ```

#[cfg(feature = "cranelift")]
pub mod cranelift;
#[cfg(feature = "llvm")]
pub mod llvm;
pub mod wgsl;

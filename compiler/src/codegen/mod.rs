//! KERNEL -> CODE. A folder a target; each turns a checked module into code and runs none of it.

#[cfg(feature = "cranelift")]
pub mod cranelift;
#[cfg(feature = "llvm")]
pub mod llvm;
pub mod wgsl;

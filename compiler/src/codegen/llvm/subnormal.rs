//! The mode in which subnormal numbers count as 0, set and put back by a function that a C program calls. What runs in it
//! are functions of their own, never inlined, so that no operation moves out of the mode or into it.
//!
//! ```text
//! x86-64   MXCSR  bits 15 (flush to zero) and 6 (denormals are zero)
//! aarch64  FPCR   bit 24 (FZ), which is both
//! ```
//!
//! Not here: kernels in this process, around which `runtime` sets the mode.

use super::text::Text;

/// An architecture that has the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Mxcsr,
    Fpcr,
}

impl Register {
    /// That of the host, whose architecture objects are for.
    pub(super) const HOST: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::Mxcsr)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Fpcr)
    } else {
        None
    };

    /// Sets the mode; gives an operand that `restore` takes.
    pub(super) fn flush(self, t: &mut Text) -> String {
        match self {
            Self::Mxcsr => {
                let [found, flushed] = [(); 2].map(|()| t.set("alloca i32"));
                t.run(format_args!("call void @llvm.x86.sse.stmxcsr(ptr {found})"));
                let mode = t.set(format_args!("load i32, ptr {found}"));
                let mode = t.set(format_args!("or i32 {mode}, {}", 1 << 15 | 1 << 6));
                t.run(format_args!("store i32 {mode}, ptr {flushed}"));
                t.run(format_args!("call void @llvm.x86.sse.ldmxcsr(ptr {flushed})"));
                found
            }
            Self::Fpcr => {
                let found = t.set("call i64 @llvm.aarch64.get.fpcr()");
                let mode = t.set(format_args!("or i64 {found}, {}", 1 << 24));
                t.run(format_args!("call void @llvm.aarch64.set.fpcr(i64 {mode})"));
                found
            }
        }
    }

    /// Puts back the mode that `flush` found.
    pub(super) fn restore(self, t: &mut Text, found: &str) {
        match self {
            Self::Mxcsr => t.run(format_args!("call void @llvm.x86.sse.ldmxcsr(ptr {found})")),
            Self::Fpcr => t.run(format_args!("call void @llvm.aarch64.set.fpcr(i64 {found})")),
        }
    }
}

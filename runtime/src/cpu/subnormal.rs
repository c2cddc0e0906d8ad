//! Subnormal numbers, those below 1.2e-38, count as 0 while compiled code runs: operands and results. Where a state decays
//! into silence they would be most of its elements, and a processor takes up to a hundred times as long over them.
//!
//! ```text
//! x86-64   MXCSR  bits 15 (flush to zero) and 6 (denormals are zero)
//! aarch64  FPCR   bit 24 (FZ), which is both
//! ```
//!
//! A mode is a thread's own, and everything else that runs there, the reference and the caller's code, expects the usual one.
//! Not here: objects, whose functions set the mode themselves (`codegen::llvm`).

use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    pub(super) const FLUSHED: u64 = 1 << 15 | 1 << 6;

    pub(super) fn read() -> u64 {
        let mut mode = 0u32;
        // SAFETY: SSE is part of x86-64; the instruction writes four bytes, and `mode` has them.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode.into()
    }

    /// # Safety
    /// `mode` is what `read` gave, but for `FLUSHED`, and the code that runs until it is put back expects it.
    pub(super) unsafe fn write(mode: u64) {
        let mode = mode as u32;
        // SAFETY: the instruction reads four bytes, and `mode` has them; what bits are set the caller vouches for.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub(super) const FLUSHED: u64 = 1 << 24;

    pub(super) fn read() -> u64 {
        let mode;
        // SAFETY: the register is readable in every mode of the processor.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }

    /// # Safety
    /// `mode` is what `read` gave, but for `FLUSHED`, and the code that runs until it is put back expects it.
    pub(super) unsafe fn write(mode: u64) {
        // SAFETY: the register is writable in every mode of the processor; what bits are set the caller vouches for.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// Other processors have no such mode that is known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub(super) const FLUSHED: u64 = 0;

    pub(super) fn read() -> u64 {
        0
    }

    /// # Safety
    /// None is needed.
    pub(super) unsafe fn write(_: u64) {}
}

/// While it lives, subnormal numbers count as 0 in this thread.
pub(super) struct Flushed {
    /// The mode that was found, if it was another.
    found: Option<u64>,
    /// It stays in its thread.
    here: PhantomData<*const ()>,
}

impl Flushed {
    /// Sets the mode.
    ///
    /// # Safety
    /// Until the value is dropped, this thread computes with floats in compiled kernels and their micro-kernels alone.
    pub(super) unsafe fn begin() -> Self {
        let found = register::read();
        // Writing is several times as dear as reading.
        let set = found & register::FLUSHED == register::FLUSHED;
        if !set {
            // SAFETY: the mode is the one found but for `FLUSHED`; the caller vouches for what runs in it.
            unsafe { register::write(found | register::FLUSHED) };
        }
        Self { found: (!set).then_some(found), here: PhantomData }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        if let Some(found) = self.found {
            // SAFETY: the mode is the one that `begin` found in this thread, which the value cannot leave.
            unsafe { register::write(found) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use chunkwise_compiler::{Form, Schedule, bind::bind_dims};
    use chunkwise_dsl::{compile, source::Source};

    use super::super::threads;
    use super::*;
    use crate::{
        Backend, Engine, Plan,
        draw::{Gates, inputs},
    };

    /// Whether half of a subnormal number is more than 0.
    fn usual() -> bool {
        black_box(1e-39f32) * black_box(0.5) > 0.0
    }

    fn flushed() -> Flushed {
        // SAFETY: what computes with floats meanwhile is `usual`, to see the mode.
        unsafe { Flushed::begin() }
    }

    #[test]
    fn the_mode_ends_with_its_value() {
        let here = || register::FLUSHED == 0 || !usual();
        assert!(usual());
        let outer = flushed();
        assert!(here());
        drop(flushed());
        assert!(here(), "an inner value puts back what it found");
        drop(outer);
        assert!(usual());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _flushed = flushed();
            assert!(!here(), "a panic");
        }));
        assert!(usual() && (panicked.is_err() || register::FLUSHED == 0));
    }

    /// Whether each of two threads finds the usual mode. The first waits for the second, as long as that takes to wake.
    fn usual_on_the_pool() -> bool {
        let (asked, all) = (AtomicBool::new(false), AtomicBool::new(true));
        threads::run(2, &|number| {
            all.fetch_and(usual(), Ordering::Relaxed);
            asked.fetch_or(number == 1, Ordering::Relaxed);
            for _ in 0..10_000 {
                if asked.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        asked.into_inner() && all.into_inner()
    }

    #[test]
    fn threads_of_the_pool_leave_the_mode() {
        let text = "variant f { axes B, T, K, V; input q, k : [B,T,K], v : [B,T,V]; state S : [K,V] = 0; \
                    update S additive(k, v); output o[t] = S[t]' * q[t]; }";
        let variant = compile(&Source::new("f.attn", text), &[]).expect("the program checks").variants.remove(0);
        let dims = [("B", 8), ("T", 64), ("K", 32), ("V", 32)].map(|(name, n)| (name.to_string(), n));
        let sizes = bind_dims(&variant, &dims).expect("the sizes fit");
        let tensors = inputs(&variant, &sizes, Gates::Plain, 3);
        for backend in [Backend::Cranelift, Backend::Llvm].into_iter().filter(|backend| backend.usable()) {
            let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
            let mut session = Engine::new().session(&variant, &sizes, plan, 2).expect("the session opens");
            for _ in 0..20 {
                session.step(&tensors).expect("a call runs");
                assert!(usual_on_the_pool(), "{}", backend.name());
            }
        }
    }
}

//! The tile instructions of the processor: whether they may be used, a thread's configuration, the block of sums.
//!
//! Tiles are a thread's own and too large to be saved for threads that never use them, so a process asks the kernel for
//! them once (Linux: `arch_prctl`), and a thread lets go of them after each product: then there is nothing to save.
//! Compilers keep nothing in tile registers, and each sequence here says that it overwrites them.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Block, Instructions};

/// Whether the processor has tiles of bf16 and the kernel lets this process use them.
pub(in super::super) fn permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| has_tiles() && asked())
}

/// CPUID leaf 7: AMX_BF16 and AMX_TILE are bits 22 and 24 of EDX.
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const BITS: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BITS == BITS
}

/// Asks the kernel for the tiles' registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn asked() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and touches no memory of ours; kernels that do not know it give an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems have ways of their own, which are not known here.
#[cfg(not(target_os = "linux"))]
fn asked() -> bool {
    false
}

/// Eight tiles of 16 rows of 64 bytes, in the layout of `ldtilecfg`, palette 1.
#[repr(align(64))]
struct Configuration(#[allow(dead_code, reason = "the processor reads it")] [u8; 64]);

static CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Configuration(bytes)
};

/// A thread whose tiles are configured, until this is dropped.
pub(in super::super) struct Configured(PhantomData<*const ()>);

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured, so the instruction is there; nothing is kept in them.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

/// The processor's own instructions; for use only where `permitted`.
pub(in super::super) struct Processor;

impl Instructions for Processor {
    const NAME: &'static str = "amx_bf16";
    type Session = Configured;

    fn session() -> Configured {
        assert!(permitted(), "tiles are used where they are permitted");
        // SAFETY: the processor has tiles and the kernel lets this process use them.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const CONFIGURATION,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
        Configured(PhantomData)
    }

    unsafe fn multiply(block: Block) {
        let Block { a, across, b, down, steps, c, below, add } = block;
        // SAFETY: the caller vouches for the operands, the sums and the configuration.
        unsafe {
            asm!(
                "test {add}, {add}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{c} + {below}*1]",
                "tileloadd tmm1, [{c} + {below}*1 + 64]",
                "tileloadd tmm2, [{c_after} + {below}*1]",
                "tileloadd tmm3, [{c_after} + {below}*1 + 64]",
                "3:",
                "tileloadd tmm4, [{a} + {across}*1]",
                "tileloadd tmm6, [{b} + {down}*1]",
                "tileloadd tmm7, [{b} + {down}*1 + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a_after} + {across}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {a_after}, 64",
                "add {b}, {step}",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{c} + {below}*1], tmm0",
                "tilestored [{c} + {below}*1 + 64], tmm1",
                "tilestored [{c_after} + {below}*1], tmm2",
                "tilestored [{c_after} + {below}*1 + 64], tmm3",
                add = in(reg) u64::from(add),
                a = inout(reg) a => _,
                a_after = inout(reg) a.wrapping_byte_offset(16 * across) => _,
                across = in(reg) across,
                b = inout(reg) b => _,
                down = in(reg) down,
                step = in(reg) 16 * down,
                steps = inout(reg) steps => _,
                c = in(reg) c,
                c_after = in(reg) c.wrapping_byte_offset(16 * below),
                below = in(reg) below,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

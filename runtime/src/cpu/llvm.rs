//! Object code of the LLVM back end, linked into this process by LLJIT.

use std::ffi::{CStr, CString};
use std::ptr;

use chunkwise_compiler::codegen::llvm::{Target, emit};
use chunkwise_compiler::kernel::Checked;
use inkwell::llvm_sys::core::LLVMCreateMemoryBufferWithMemoryRangeCopy;
use inkwell::llvm_sys::error::{LLVMDisposeErrorMessage, LLVMErrorRef, LLVMGetErrorMessage};
use inkwell::llvm_sys::orc2::lljit::{
    LLVMOrcCreateLLJIT, LLVMOrcDisposeLLJIT, LLVMOrcLLJITAddObjectFile, LLVMOrcLLJITGetMainJITDylib,
    LLVMOrcLLJITLookup, LLVMOrcLLJITRef,
};
use inkwell::targets::{InitializationConfig, Target as Back, TargetMachine};

use super::loaded::{Entry, Loaded, Owner};
use crate::launch::RunError;

/// This machine: its processor, its features, and the widest vectors that it has.
pub fn host() -> Target {
    let text = |s: inkwell::support::LLVMString| s.to_string_lossy().into_owned();
    let (cpu, features) = (text(TargetMachine::get_host_cpu_name()), text(TargetMachine::get_host_cpu_features()));
    let has = |feature: &str| features.split(',').any(|x| x == feature);
    let wide = ["+avx512f", "+avx512dq", "+avx512bw", "+avx512vl"].into_iter().all(has);
    let width = if wide {
        16
    } else if has("+avx2") && has("+fma") {
        8
    } else {
        4
    };
    Target { cpu, features, width }
}

/// Generates code for a module on this machine, and links it.
///
/// # Errors
/// `RunError::Load` with LLVM's message.
pub fn load(module: &Checked) -> Result<Loaded, RunError> {
    load_for(module, &host())
}

/// The same with no more of this machine than a target has: a lower level of its architecture, or fewer of its features.
///
/// # Errors
/// As `load`; a target that has what this machine lacks.
pub fn load_for(module: &Checked, target: &Target) -> Result<Loaded, RunError> {
    let host = host();
    let level = target.cpu == host.cpu || Target::named(&target.cpu).is_some_and(|level| level.width <= host.width);
    let mut added = target.features.split(',').filter(|feature| feature.starts_with('+'));
    let has = |feature: &str| host.features.split(',').any(|known| known == feature);
    if !level || !added.all(has) || ![4, 8, 16].contains(&target.width) || target.width > host.width {
        return Err(RunError::Load(format!("this machine is not all that the target `{}` is", target.cpu)));
    }
    let code = emit(module, target).map_err(|error| RunError::Load(error.to_string()))?;
    let jit = Jit::new(&code.object).map_err(RunError::Load)?;
    let entries = code.symbols.iter().map(|symbol| jit.entry(symbol)).collect::<Result<Vec<_>, _>>();
    Loaded::new(module, entries.map_err(RunError::Load)?, Box::new(jit))
}

/// An LLJIT instance.
struct Jit(LLVMOrcLLJITRef);

// SAFETY: after construction the instance is only disposed of, once, by the thread that drops it; code and symbols of
// a JIT belong to the process, not to a thread.
unsafe impl Send for Jit {}
// SAFETY: nothing is done through a shared reference after construction.
unsafe impl Sync for Jit {}

impl Owner for Jit {}

impl Jit {
    fn new(object: &[u8]) -> Result<Self, String> {
        Back::initialize_native(&InitializationConfig::default())?;
        let mut jit = ptr::null_mut();
        // SAFETY: a null builder means defaults; `jit` is written on success.
        check(unsafe { LLVMOrcCreateLLJIT(&raw mut jit, ptr::null_mut()) })?;
        let jit = Self(jit);
        // SAFETY: the bytes are copied; the buffer's ownership goes to the JIT, which is alive.
        check(unsafe {
            let buffer =
                LLVMCreateMemoryBufferWithMemoryRangeCopy(object.as_ptr().cast(), object.len(), c"kernels".as_ptr());
            LLVMOrcLLJITAddObjectFile(jit.0, LLVMOrcLLJITGetMainJITDylib(jit.0), buffer)
        })?;
        Ok(jit)
    }

    /// The address of a kernel.
    fn entry(&self, symbol: &str) -> Result<Entry, String> {
        let name = CString::new(symbol).map_err(|e| e.to_string())?;
        let mut address = 0;
        // SAFETY: the JIT is alive, the name ends in NUL.
        check(unsafe { LLVMOrcLLJITLookup(self.0, &raw mut address, name.as_ptr()) })?;
        if address == 0 {
            return Err(format!("no symbol {symbol}"));
        }
        // SAFETY: every symbol that the back end lists is a function of this signature, and the address is not null.
        Ok(unsafe { std::mem::transmute::<usize, Entry>(address as usize) })
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        // SAFETY: disposed of once; `Loaded` drops its entries with it. A failure leaves memory mapped, no more.
        let _ = check(unsafe { LLVMOrcDisposeLLJIT(self.0) });
    }
}

fn check(error: LLVMErrorRef) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is not null; taking its message consumes it, and the message is freed after it is copied.
    Err(unsafe {
        let message = LLVMGetErrorMessage(error);
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        LLVMDisposeErrorMessage(message);
        text
    })
}

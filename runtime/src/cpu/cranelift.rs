//! Code of the Cranelift back end: made for this processor, in this process, beside the micro-kernels that it calls.

use std::sync::{Mutex, OnceLock, PoisonError};

use chunkwise_compiler::codegen::cranelift::{CodegenError, Text, emit, text};
use chunkwise_compiler::kernel::Checked;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};

use super::loaded::{Entry, Loaded, Owner};
use super::simd;
use crate::{device::Precision, launch::RunError};

/// Generates code for a module, with products of this precision, and loads it.
///
/// # Errors
/// `RunError::Load` with Cranelift's message.
pub fn load(module: &Checked, precision: Precision) -> Result<Loaded, RunError> {
    let failed = |error: CodegenError| RunError::Load(error.to_string());
    let mut jit = Jit::new(precision).map_err(failed)?;
    let functions = emit(module, jit.module()).map_err(failed)?;
    let code = jit.module();
    code.finalize_definitions().map_err(|error| RunError::Load(error.to_string()))?;
    let address = |id| code.get_finalized_function(id);
    // SAFETY: `emit` gives functions of this signature, and they are finalized.
    let entry = |id| unsafe { std::mem::transmute::<*const u8, Entry>(address(id)) };
    let entries = functions.into_iter().map(entry).collect();
    Loaded::new(module, entries, Box::new(jit))
}

/// The code of a module as text, for this processor.
///
/// # Errors
/// Cranelift's message.
pub fn print(module: &Checked, what: Text) -> Result<String, CodegenError> {
    text(module, Jit::new(Precision::F32)?.module(), what)
}

/// This processor, as Cranelift sees it. Code is checked while it is made in builds with debug assertions only.
fn host() -> Result<OwnedTargetIsa, CodegenError> {
    static HOST: OnceLock<Result<OwnedTargetIsa, CodegenError>> = OnceLock::new();
    let make = || {
        let mut flags = settings::builder();
        let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
        let probing = [("enable_probestack", "true"), ("probestack_strategy", "inline")];
        for (name, value) in [("opt_level", "none"), ("enable_verifier", verifier)].into_iter().chain(probing) {
            flags.set(name, value).map_err(|error| CodegenError(error.to_string()))?;
        }
        let native = cranelift_native::builder().map_err(|why| CodegenError(why.to_owned()))?;
        native.finish(settings::Flags::new(flags)).map_err(|error| CodegenError(error.to_string()))
    };
    HOST.get_or_init(make).clone()
}

/// A module of code in memory. Behind a lock since threads may share it; after construction nobody takes it.
struct Jit(Mutex<Option<JITModule>>);

impl Owner for Jit {}

impl Jit {
    fn new(precision: Precision) -> Result<Self, CodegenError> {
        let mut builder = JITBuilder::with_isa(host()?, cranelift_module::default_libcall_names());
        builder.symbols(simd::routines(precision).iter().copied());
        Ok(Self(Mutex::new(Some(JITModule::new(builder)))))
    }

    fn module(&mut self) -> &mut JITModule {
        let module = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        module.as_mut().expect("the module is taken when it is dropped, not before")
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        if let Some(module) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // SAFETY: `Loaded` drops its entries with their owner, so no code of this module runs or is called again.
            unsafe { module.free_memory() };
        }
    }
}

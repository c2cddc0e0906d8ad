//! IR text -> passes -> machine code, through LLVM's API.

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target as Back, TargetMachine};

use super::{CodegenError, Target};

/// What the IR needs: its loops and vectors are as wanted already, so neither LLVM's loop vectoriser nor its unroller
/// runs, and a module compiles in a fraction of the time of `default<O2>`.
const PASSES: &str = "always-inline,function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,\
    loop-mssa(loop-rotate,licm),gvn,instcombine<no-verify-fixpoint>,simplifycfg,adce),globaldce";

pub(super) fn object(ir: &str, target: &Target) -> Result<Vec<u8>, CodegenError> {
    compile(ir, target, FileType::Object)
}

pub(super) fn assembly(ir: &str, target: &Target) -> Result<String, CodegenError> {
    compile(ir, target, FileType::Assembly).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn compile(ir: &str, target: &Target, kind: FileType) -> Result<Vec<u8>, CodegenError> {
    let fail = |what: &str| CodegenError(what.to_owned());
    Back::initialize_native(&InitializationConfig::default()).map_err(|e| fail(&e))?;
    let triple = TargetMachine::get_default_triple();
    let back = Back::from_triple(&triple).map_err(|e| fail(&e.to_string()))?;
    let machine = back
        .create_target_machine(
            &triple,
            &target.cpu,
            &target.features,
            OptimizationLevel::Default,
            RelocMode::PIC,
            CodeModel::Default,
        )
        .ok_or_else(|| fail("no such target machine"))?;
    let context = Context::create();
    // The parser wants a trailing NUL.
    let mut text = ir.as_bytes().to_vec();
    text.push(0);
    let module = context
        .create_module_from_ir(MemoryBuffer::create_from_memory_range_copy(&text, "kernels"))
        .map_err(|e| fail(&e.to_string()))?;
    module.set_triple(&triple);
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    module.verify().map_err(|e| fail(&e.to_string()))?;
    module.run_passes(PASSES, &machine, PassBuilderOptions::create()).map_err(|e| fail(&e.to_string()))?;
    let code = machine.write_to_memory_buffer(&module, kind).map_err(|e| fail(&e.to_string()))?;
    Ok(code.as_slice().to_vec())
}

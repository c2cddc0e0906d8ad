//! A kernel module -> Cranelift IR (CLIF), one function a kernel, with vectors of four lanes.
//!
//! ```text
//! kernel   ->  extern "C" fn kernel.N(block)   the block holds a pointer a buffer, then an i64 a param
//! product, solve, sweep, exp and its like  ->  calls of imported routines (`Routine`), which the loader supplies
//! map      ->  calls of routines on tiles (`tile`), for two axes at a time, where its functions and its memory allow; else
//!              loops over rows, f32x4 along a row where memory lies that way, a scalar tail
//! exp(x)   ->  x of up to 256 elements of a row written to a strip on the stack, then one call for all of them
//! ```
//!
//! Compile time is the point of this back end: everything that a row has in common is computed once before it, so that
//! few instructions are left and no pass is needed to find that out.
//!
//! Files by what they write: `kernel` (statements, loops, integers), `place` (addresses), `plan` and `tile` (calls a tile),
//! `value`, `strip` (calls a row), `map`, `reduce`, `product`, `sweep`, `math`. Not here: machine code's memory, the routines, running anything. The caller
//! lends the `cranelift_module::Module` that functions are declared in.

mod integer;
mod kernel;
mod map;
mod math;
mod place;
mod plan;
mod product;
mod reduce;
mod routine;
mod strip;
mod sweep;
mod tile;
mod value;

use std::fmt;

use cranelift_codegen::{Context, ir::AbiParam, ir::types::I64};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module as Target};

use crate::kernel::Checked;
use crate::kernel::pass::{self, Target as Passes};

pub use routine::{Operation, Routine};

/// A failure of Cranelift itself: a target without vectors, or a function that it rejects.
#[derive(Debug, Clone)]
pub struct CodegenError(pub String);

impl fmt::Display for CodegenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cranelift: {}", self.0)
    }
}

impl std::error::Error for CodegenError {}

impl CodegenError {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What `text` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// CLIF before any pass.
    Code,
    /// Machine instructions.
    Assembly,
}

/// Defines a function a kernel in `target`: each an `extern "C" fn(*const u64)`. The routines that they call are
/// declared as imports, by the names of `Routine`.
///
/// # Errors
/// A failure of Cranelift.
pub fn emit(module: &Checked, target: &mut dyn Target) -> Result<Vec<FuncId>, CodegenError> {
    let mut functions = Vec::new();
    build(module, target, &mut |id, context, target| {
        functions.push(id);
        target.define_function(id, context).map_err(|error| CodegenError(format!("{error:?}")))
    })?;
    Ok(functions)
}

/// The same as text; nothing is defined in `target`.
///
/// # Errors
/// As `emit`.
pub fn text(module: &Checked, target: &mut dyn Target, text: Text) -> Result<String, CodegenError> {
    let mut out = String::new();
    build(module, target, &mut |_, context, target| {
        let name = &module.kernels[out.matches("; kernel ").count()].name;
        out += &format!("; kernel {}\n", name.replace(['\n', '\r'], " "));
        for (id, declared) in target.declarations().get_functions().filter(|(_, x)| x.linkage == Linkage::Import) {
            out += &format!("; u0:{} is {}\n", id.as_u32(), declared.linkage_name(id));
        }
        match text {
            Text::Code => out += &format!("{}\n", context.func.display()),
            Text::Assembly => {
                context.set_disasm(true);
                let compiled = context
                    .compile(target.isa(), &mut Default::default())
                    .map_err(|error| CodegenError(format!("{:?}", error.inner)))?;
                out += compiled.vcode.as_deref().unwrap_or_default();
                out.push('\n');
            }
        }
        Ok(())
    })?;
    Ok(out)
}

type Done<'d> = dyn FnMut(FuncId, &mut Context, &mut dyn Target) -> Result<(), CodegenError> + 'd;

/// Builds the CLIF of every kernel in turn and hands it to `done`.
fn build(module: &Checked, target: &mut dyn Target, done: &mut Done<'_>) -> Result<(), CodegenError> {
    let module = &pass::run(module, Passes::Cranelift, &|_| None);
    let mut memory = FunctionBuilderContext::new();
    for (number, kernel) in module.kernels.iter().enumerate() {
        let mut context = target.make_context();
        context.func.signature.params.push(AbiParam::new(I64));
        let id = target
            .declare_function(&format!("kernel.{number}"), Linkage::Export, &context.func.signature)
            .map_err(CodegenError::new)?;
        kernel::define(module, kernel, target, (&mut context.func, &mut memory))?;
        done(id, &mut context, target)?;
    }
    Ok(())
}

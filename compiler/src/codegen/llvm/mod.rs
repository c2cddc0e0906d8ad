//! A kernel module -> LLVM IR with vectors of the target's width -> object code.
//!
//! ```text
//! kernel  ->  void @kernel.N(ptr block)        the block holds a pointer a buffer, then an i64 a param
//!             void @body.N(noalias pointers, params)   distinct buffers never overlap
//! product, solve -> calls of internal drivers over register tiles (`product`), one copy a module
//! function -> our own polynomials (`math`)
//! ```
//!
//! Files by what they write: `text` (a function body), `kernel` (kernels, loops, integers), `value`, `map`, `reduce`,
//! `product`, `math` and `power`, `object` (parsing, passes, machine code). Not here: loading or running what comes out.

mod kernel;
mod map;
mod math;
mod object;
mod power;
mod product;
mod reduce;
mod text;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use chunkwise_dsl::typed::Function;

use crate::kernel::{Module, sequential};

/// The machine that code is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// LLVM's name of the processor.
    pub cpu: String,
    /// LLVM's list of features: `+avx2,-avx512f`.
    pub features: String,
    /// f32 lanes of a vector: 16, 8 or 4.
    pub width: u32,
}

impl Target {
    /// Whether loads and stores under a mask are single instructions.
    fn masks(&self) -> bool {
        self.width >= 8
    }

    /// Whether multiplying by a power of two is one instruction (AVX-512).
    fn scales(&self) -> bool {
        self.width == 16 && self.features.contains("+avx512f")
    }
}

/// Code of one module for one target.
#[derive(Debug, Clone)]
pub struct Code {
    /// The IR before any pass.
    pub ir: String,
    /// A relocatable object in the host's format.
    pub object: Vec<u8>,
    /// The symbol of every kernel: `extern "C" fn(*const u64)`.
    pub symbols: Vec<String>,
}

/// A failure of LLVM itself: an unknown target, or IR that it rejects.
#[derive(Debug, Clone)]
pub struct CodegenError(pub String);

impl fmt::Display for CodegenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LLVM: {}", self.0)
    }
}

impl std::error::Error for CodegenError {}

/// Object code of a module.
///
/// # Errors
/// A module that `kernel::check` refuses, or a failure of LLVM.
pub fn emit(module: &Module, target: &Target) -> Result<Code, CodegenError> {
    crate::kernel::check(module).map_err(|errors| CodegenError(errors.join("; ")))?;
    let ir = ir(&sequential(module), target);
    let object = object::object(&ir, target)?;
    let symbols = (0..module.kernels.len()).map(|i| format!("kernel.{i}")).collect();
    Ok(Code { ir, object, symbols })
}

/// The same as assembly text.
///
/// # Errors
/// As `emit`.
pub fn assembly(module: &Module, target: &Target) -> Result<String, CodegenError> {
    crate::kernel::check(module).map_err(|errors| CodegenError(errors.join("; ")))?;
    object::assembly(&ir(&sequential(module), target), target)
}

/// An internal function of a module: written once where anything calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Routine {
    /// A function of scalars on vectors of so many lanes.
    Function(Function, u32),
    /// All of a product.
    Driver(product::Kind),
    /// A register tile of a product.
    Tile(product::Kind, product::Tile),
}

impl Routine {
    fn name(self) -> String {
        match self {
            Routine::Function(function, lanes) => format!("{function:?}.{lanes}").to_lowercase(),
            Routine::Driver(kind) => format!("product.{}", kind.name()),
            Routine::Tile(kind, tile) => format!("tile.{}.{}", kind.name(), tile.name()),
        }
    }

    /// Its head line and its body.
    fn define(self, target: &Target) -> (String, text::Text) {
        match self {
            Routine::Function(function, lanes) => math::define(function, lanes, target),
            Routine::Driver(kind) => product::driver(kind, target),
            Routine::Tile(kind, tile) => product::tile(kind, tile),
        }
    }
}

/// The whole module as text.
fn ir(module: &Module, target: &Target) -> String {
    let mut out = String::from("@zero = internal constant float 0.0\n\n");
    let mut waiting = BTreeSet::new();
    for (i, kernel) in module.kernels.iter().enumerate() {
        let (text, needs) = kernel::define(module, i, kernel, target);
        out += &text;
        waiting.extend(needs);
    }
    let mut done = BTreeSet::new();
    while let Some(routine) = waiting.pop_first() {
        if done.insert(routine) {
            let (head, text) = routine.define(target);
            waiting.extend(text.needs.difference(&done).copied());
            out += &format!("{head} {{\n{}}}\n\n", text.finish());
        }
    }
    // Every function says its target: LLVM inlines nothing between functions that differ.
    let Target { cpu, features, width } = target;
    let bits = (width * 32).max(128);
    out += &format!(
        "attributes #0 = {{ nounwind \"target-cpu\"=\"{cpu}\" \"target-features\"=\"{features}\" \
         \"prefer-vector-width\"=\"{bits}\" \"min-legal-vector-width\"=\"{bits}\" }}\n\
         !0 = distinct !{{!0, !1}}\n!1 = !{{!\"llvm.loop.unroll.disable\"}}\n"
    );
    out
}

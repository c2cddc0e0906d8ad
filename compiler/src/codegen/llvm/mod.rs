//! A kernel module -> LLVM IR with vectors of the target's width -> object code.
//!
//! ```text
//! kernel  ->  void @kernel.N(ptr block)        the block holds a pointer a buffer, then an i64 a param
//!             void @body.N(noalias pointers, params)   distinct buffers never overlap, but for a state and its final value
//! product, solve -> calls of internal drivers over register tiles (`product`; `dots` of rows with rows), one copy a module
//! sweep    -> calls of internal loops over strips of columns (`sweep`)
//! function -> our own polynomials (`math`)
//! ```
//!
//! Files by what they write: `text` (a function body), `kernel` (kernels, loops, integers), `value`, `map`, `reduce`,
//! `stream` (stores past the caches), `transpose`, `sweep`, `product` and its `tile`, `dots`, `math` and `power`, `library`
//! (the functions that a C program calls) and `subnormal` (the mode that they compute in), `object` (parsing, passes,
//! machine code). Not here: loading or running what comes out.
//!
//! Subnormal numbers count as 0 in all that is made here, operands and results.

mod dots;
mod kernel;
mod library;
mod map;
mod math;
mod object;
mod power;
mod product;
mod reduce;
mod stream;
mod subnormal;
mod sweep;
mod text;
mod tile;
mod transpose;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use chunkwise_dsl::typed::Function;

use crate::interface::Interface;
use crate::kernel::pass::{self, Level, Target as Passes};
use crate::kernel::{Checked, Kernel, Module, check};

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

/// Processors that code can be made for besides the host's, of the host's architecture: name, features that are asked
/// for, lanes.
#[cfg(target_arch = "x86_64")]
const NAMED: &[(&str, &str, u32)] = &[
    ("x86-64-v2", "", 4),
    ("x86-64-v3", "", 8),
    ("x86-64-v4", "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl", 16),
];
#[cfg(not(target_arch = "x86_64"))]
const NAMED: &[(&str, &str, u32)] = &[("generic", "", 4)];

impl Target {
    /// A processor by its name, if it is one of `names`.
    pub fn named(name: &str) -> Option<Self> {
        let (cpu, features, width) = NAMED.iter().find(|(cpu, ..)| *cpu == name)?;
        Some(Self { cpu: (*cpu).to_owned(), features: (*features).to_owned(), width: *width })
    }

    /// Levels of the host's architecture, the oldest first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }

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
    /// The symbol of every kernel: `extern "C" fn(*const u64)`. None in a library.
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
/// A failure of LLVM.
pub fn emit(module: &Checked, target: &Target) -> Result<Code, CodegenError> {
    let ir = ir(&pass::run(module, Passes::Llvm, &|_| None), target);
    let object = object::object(&ir, target)?;
    let symbols = (0..module.kernels.len()).map(|i| format!("kernel.{i}")).collect();
    Ok(Code { ir, object, symbols })
}

/// Object code that a C program links: it exports the functions of the interface alone, and calls nothing of any library.
///
/// # Errors
/// As `emit`, an interface of another module, or a function that the target has only in a library.
pub fn library(module: &Checked, interface: &Interface, target: &Target) -> Result<Code, CodegenError> {
    let extras = library::extras(module, interface);
    for extra in &extras {
        let errors = check::errors(extra.module, Level::LOWERED);
        if !errors.is_empty() {
            return Err(CodegenError(errors.join("; ")));
        }
    }
    let steps = pass::run(module, Passes::Llvm, &|_| None);
    if !library::fits(&steps, interface) {
        return Err(CodegenError("the interface is of another module".to_owned()));
    }
    let mut writer = Writer::new(target);
    for (number, kernel) in steps.kernels.iter().enumerate() {
        writer.body(&steps, number, kernel);
    }
    for extra in &extras {
        extra.module.kernels.iter().for_each(|kernel| writer.body(extra.module, extra.number, kernel));
    }
    writer.out += &library::define(&steps, interface, &extras);
    let ir = writer.finish();
    let object = object::object(&ir, target)?;
    Ok(Code { ir, object, symbols: Vec::new() })
}

/// The same as assembly text.
///
/// # Errors
/// As `emit`.
pub fn assembly(module: &Checked, target: &Target) -> Result<String, CodegenError> {
    object::assembly(&ir(&pass::run(module, Passes::Llvm, &|_| None), target), target)
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
    /// A tile turned.
    Transpose,
    /// All of a product of rows with rows; of the lower triangle alone.
    Dots {
        lower: bool,
    },
    /// A register tile of it.
    DotTile,
    Sweep(sweep::Spec),
}

impl Routine {
    fn name(self) -> String {
        match self {
            Routine::Function(function, lanes) => format!("{function:?}.{lanes}").to_lowercase(),
            Routine::Driver(kind) => format!("product.{}", kind.name()),
            Routine::Sweep(spec) => spec.name(),
            Routine::Tile(kind, tile) => format!("tile.{}.{}", kind.name(), tile.name()),
            Routine::Transpose => "transpose".to_owned(),
            Routine::Dots { lower } => format!("product.dots.{}", if lower { "lower" } else { "full" }),
            Routine::DotTile => "tile.dots".to_owned(),
        }
    }

    /// Its head line and its body.
    fn define(self, target: &Target) -> (String, text::Text) {
        match self {
            Routine::Function(function, lanes) => math::define(function, lanes, target),
            Routine::Driver(kind) => product::driver(kind, target),
            Routine::Tile(kind, tile) => tile::define(kind, tile),
            Routine::Transpose => transpose::define(target),
            Routine::Dots { lower } => dots::driver(lower, target),
            Routine::DotTile => dots::tile(target),
            Routine::Sweep(spec) => sweep::define(spec, target),
        }
    }
}

/// The whole module as text.
fn ir(module: &Module, target: &Target) -> String {
    let mut writer = Writer::new(target);
    for (number, kernel) in module.kernels.iter().enumerate() {
        writer.body(module, number, kernel);
        writer.out += &kernel::entry(module, number);
    }
    writer.finish()
}

/// A module of LLVM IR being written.
struct Writer<'t> {
    target: &'t Target,
    out: String,
    /// Called, but not written yet.
    waiting: BTreeSet<Routine>,
}

impl<'t> Writer<'t> {
    fn new(target: &'t Target) -> Self {
        let out = String::from("@zero = internal constant float 0.0\n@one = internal constant float 1.0\n\n");
        Self { target, out, waiting: BTreeSet::new() }
    }

    fn body(&mut self, module: &Module, number: usize, kernel: &Kernel) {
        let (text, needs) = kernel::body(module, number, kernel, self.target);
        self.out += &text;
        self.waiting.extend(needs);
    }

    /// All that is called, and what every function says of its target: LLVM inlines nothing between functions that differ.
    fn finish(self) -> String {
        let Self { target, mut out, mut waiting } = self;
        let mut done = BTreeSet::new();
        while let Some(routine) = waiting.pop_first() {
            if done.insert(routine) {
                let (head, text) = routine.define(target);
                waiting.extend(text.needs.difference(&done).copied());
                out += &format!("{head} {{\n{}}}\n\n", text.finish());
            }
        }
        let Target { cpu, features, width } = target;
        let bits = (width * 32).max(128);
        out += &format!(
            "attributes #0 = {{ nounwind \"target-cpu\"=\"{cpu}\" \"target-features\"=\"{features}\" \
             \"prefer-vector-width\"=\"{bits}\" \"min-legal-vector-width\"=\"{bits}\" \
             \"denormal-fp-math\"=\"preserve-sign,preserve-sign\" \"probe-stack\"=\"inline-asm\" }}\n\
             !0 = distinct !{{!0, !1}}\n!1 = !{{!\"llvm.loop.unroll.disable\"}}\n!2 = !{{i32 1}}\n"
        );
        out
    }
}

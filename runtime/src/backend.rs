//! The back ends: what each is called, what it may deviate by, and whether it is built in. Not here: whether one is usable
//! on this machine (`backends`), or how it runs a kernel (`execute`).

use chunkwise_compiler::kernel::pass::Target;

/// Something that runs a variant. A row here, one in `execute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// The f64 interpreter of the typed program: the oracle.
    Reference,
    Cranelift,
    Llvm,
    Wgpu,
}

/// What a usable back end runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// Instruction sets, limits: whatever tells two such devices apart.
    pub features: Vec<String>,
    /// Whether it is a GPU that the processor plays.
    pub software: bool,
}

/// Whether a back end's code generator is in this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Built,
    NotBuiltIn,
}

/// Why a back end is not usable here, and what makes it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub reason: String,
    pub way_out: String,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.reason, self.way_out)
    }
}

impl Backend {
    pub const ALL: [Backend; 4] = [Backend::Reference, Backend::Cranelift, Backend::Llvm, Backend::Wgpu];

    pub fn name(self) -> &'static str {
        match self {
            Backend::Reference => "reference",
            Backend::Cranelift => "cranelift",
            Backend::Llvm => "llvm",
            Backend::Wgpu => "wgpu",
        }
    }

    /// The error that `verify` allows against the reference where the variant says nothing else.
    pub fn bound(self) -> f64 {
        match self {
            Backend::Wgpu => 1e-4,
            _ => 1e-5,
        }
    }

    /// Whose list of passes its kernels take; none of the reference, which has no kernels.
    pub fn target(self) -> Option<Target> {
        match self {
            Backend::Reference => None,
            Backend::Cranelift => Some(Target::Cranelift),
            Backend::Llvm => Some(Target::Llvm),
            Backend::Wgpu => Some(Target::Wgsl),
        }
    }

    pub fn presence(self) -> Presence {
        let built = match self {
            Backend::Reference => true,
            Backend::Cranelift => cfg!(feature = "cranelift"),
            Backend::Llvm => cfg!(feature = "llvm"),
            Backend::Wgpu => cfg!(feature = "wgpu"),
        };
        if built { Presence::Built } else { Presence::NotBuiltIn }
    }
}

/// Threads that `--threads` stands for when it is not given: all cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

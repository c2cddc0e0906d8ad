//! The back ends: what each is called, what it may deviate by, and whether it is usable here. How one runs a kernel is
//! not here (`execute`).

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

    pub fn presence(self) -> Presence {
        let built = match self {
            Backend::Reference => true,
            Backend::Cranelift => cfg!(feature = "cranelift"),
            Backend::Llvm => cfg!(feature = "llvm"),
            Backend::Wgpu => cfg!(feature = "wgpu"),
        };
        if built { Presence::Built } else { Presence::NotBuiltIn }
    }

    /// The devices it runs on here.
    pub fn devices(self) -> Result<Vec<Device>, Unusable> {
        match self {
            Backend::Reference => Ok(vec![cpu()]),
            Backend::Llvm if cfg!(feature = "llvm") => Ok(vec![cpu()]),
            Backend::Llvm => Err(Unusable {
                reason: "this chunkwise was built without the cargo feature `llvm`".into(),
                way_out: "get LLVM 22 (apt-get install llvm-22-dev) and run cargo build --features llvm".into(),
            }),
            #[cfg(feature = "cranelift")]
            Backend::Cranelift => {
                let sets =
                    std::iter::once(crate::cpu::simd::instruction_set()).chain(crate::cpu::simd::bf16_instructions());
                Ok(vec![Device { features: sets.map(String::from).collect(), ..cpu() }])
            }
            #[cfg(not(feature = "cranelift"))]
            Backend::Cranelift => Err(Unusable {
                reason: "this chunkwise was built without the cargo feature `cranelift`".into(),
                way_out: "run cargo build with its default features".into(),
            }),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => crate::gpu::devices(),
            #[cfg(not(feature = "wgpu"))]
            Backend::Wgpu => Err(Unusable {
                reason: "this chunkwise was built without the cargo feature `wgpu`".into(),
                way_out: "run cargo build --features wgpu".into(),
            }),
        }
    }

    pub fn usable(self) -> bool {
        self.devices().is_ok()
    }
}

/// What multiplies operands of bf16 here, as a sentence.
pub fn bf16_products() -> String {
    #[cfg(feature = "cranelift")]
    if let Some(name) = crate::cpu::simd::bf16_instructions() {
        return format!("products of bf16 by {name}, sums in f32");
    }
    "products of f32: this processor has neither amx_bf16 nor avx512_bf16".into()
}

/// Threads that `--threads` stands for when it is not given: all cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn cpu() -> Device {
    Device {
        name: format!("{} CPU, {} cores", std::env::consts::ARCH, cores()),
        features: cpu_features(),
        software: false,
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    macro_rules! found {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    let known =
        found!["sse4.2" "avx" "avx2" "fma" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512bf16" "avx512fp16"];
    known.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_string()).collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<String> {
    macro_rules! found {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_aarch64_feature_detected!($name))),*]
        };
    }
    let known = found!["neon" "fp16" "bf16" "dotprod" "sve" "sve2"];
    known.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_string()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<String> {
    Vec::new()
}

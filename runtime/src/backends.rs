//! The registry of back ends: which of them are usable here, and on what devices. Above the folders that run code, since it
//! asks them; what a back end is called is below them (`backend`).

use crate::backend::{Backend, Device, Unusable, cores};

impl Backend {
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

//! The code generators and machines that tests compile for.

use chunkwise_compiler::kernel::{Module, check};
use chunkwise_runtime::cpu::Loaded;

/// A module's code for every target built in, by name: LLVM for the host and for its restrictions to narrower vectors,
/// and Cranelift.
pub fn load(module: &Module) -> Vec<(String, Loaded)> {
    let module = &check(module.clone()).unwrap_or_else(|errors| panic!("{}", errors.join("; ")));
    let mut all = Vec::new();
    #[cfg(feature = "cranelift")]
    all.extend([(
        "cranelift".to_owned(),
        chunkwise_runtime::cpu::cranelift::load(module, chunkwise_runtime::Precision::F32)
            .expect("a checked module loads"),
    )]);
    #[cfg(feature = "llvm")]
    for target in llvm::targets() {
        let loaded = chunkwise_runtime::cpu::llvm::load_for(module, &target).expect("a checked module loads");
        all.push((format!("llvm, width {}", target.width), loaded));
    }
    all
}

#[cfg(feature = "llvm")]
mod llvm {
    use chunkwise_compiler::codegen::llvm::Target;
    use chunkwise_runtime::cpu::host;

    /// The host, and its restrictions to narrower vectors.
    pub fn targets() -> Vec<Target> {
        let host = host();
        let restricted = |width, cpu: &str, without: &[&str]| {
            let kept = |f: &&str| !without.iter().any(|w| f.starts_with(&format!("+{w}")));
            let features: Vec<&str> = host.features.split(',').filter(kept).collect();
            Target { cpu: cpu.to_owned(), features: features.join(","), width }
        };
        let mut all = Vec::new();
        if host.width == 16 {
            all.push(restricted(8, "x86-64-v3", &["avx512", "avx10", "evex512"]));
        }
        if host.width >= 8 {
            all.push(restricted(4, "x86-64-v2", &["avx", "fma", "f16c", "xop", "vaes", "vpclmulqdq", "evex512"]));
        }
        all.push(host);
        all
    }
}

//! The machines that tests compile for.

use chunkwise_compiler::codegen::llvm::Target;
use chunkwise_runtime::cpu::host;

/// The host, and its restrictions to narrower vectors.
pub fn all() -> Vec<Target> {
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

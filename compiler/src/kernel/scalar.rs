//! What kernels ask of a scalar function beyond its row in `chunkwise_dsl::function`: what it costs.

use chunkwise_dsl::typed::Function;

/// Exponentials and their like in one evaluation.
pub fn exps(function: Function) -> usize {
    use Function::*;
    match function {
        Exp | ExpRest | Ln | Elu | Silu | Sigmoid | Tanh | Sin | Cos => 1,
        Pow | Gelu | LogSigmoid | Softplus => 2,
        _ => 0,
    }
}

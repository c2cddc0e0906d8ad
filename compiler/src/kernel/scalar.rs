//! What kernels ask of a scalar function beyond its row in `chunkwise_dsl::function`: what it costs, and whether it is
//! computed a tile at a time.

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

/// Whether a routine computes it over tiles, where a target has such routines.
pub(crate) fn has_tiles(function: Function) -> bool {
    use Function::*;
    let arithmetic = matches!(function, Add | Sub | Mul | Div | Min | Max | Neg | Abs | Lt | Le | Gt | Ge | Eq);
    let powers = matches!(function, Sqrt | Rsqrt | Exp | ExpRest | ExpOfRest | RestLost | Ln | Sin | Cos);
    let activation = matches!(function, Relu | Elu | Silu | Gelu | Sigmoid | LogSigmoid | Softplus | Tanh);
    arithmetic || powers || activation
}

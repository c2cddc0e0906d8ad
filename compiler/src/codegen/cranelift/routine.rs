//! The routines that compiled kernels call: what a loader has to supply, under which names.

use chunkwise_dsl::typed::Function;

use crate::kernel::Triangle;

/// An imported function. All arguments are 64-bit integers or addresses; matrices are rows of f32, strides in elements.
///
/// ```text
/// product_*(c, ldc, a, am, ak, b, ldb, m, n, k, add)      c[m,n] (+)= sum over k of a[m,k] b[k,n]; add is 0 or 1
/// solve(systems, n, columns, table)                       `kernel::Solve`
/// vector_NAME(dst, a, n), vector_NAME(dst, a, b, n)       dst[i] = f(a[i]) for i < n; dst may be a or b
/// ```
///
/// The table of a solve holds, for each of r systems, the address and the row stride of x; then for each of the r by r
/// tiles, row-major, its address, row stride and column stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Routine {
    Product(Triangle),
    Solve,
    /// A function of scalars on a row.
    Vector(Function),
}

impl Routine {
    pub fn name(self) -> String {
        match self {
            Routine::Product(Triangle::Full) => "product_full".to_owned(),
            Routine::Product(Triangle::LowerLeft { strict: false }) => "product_lower".to_owned(),
            Routine::Product(Triangle::LowerLeft { strict: true }) => "product_strictly_lower".to_owned(),
            Routine::Product(Triangle::LowerOut) => "product_lower_out".to_owned(),
            Routine::Solve => "solve".to_owned(),
            Routine::Vector(Function::Pow) => "vector_pow".to_owned(),
            Routine::Vector(function) => format!("vector_{}", function.name()),
        }
    }

    /// How many arguments it takes.
    pub(super) fn arity(self) -> usize {
        match self {
            Routine::Product(_) => 11,
            Routine::Solve => 4,
            Routine::Vector(function) => function.arity() + 2,
        }
    }
}

/// Whether a function is called for a row at a time, rather than written out.
pub(super) fn is_called(function: Function) -> bool {
    use Function::*;
    matches!(
        function,
        Exp | Ln | Elu | Silu | Gelu | Sigmoid | LogSigmoid | Softplus | Tanh | Sin | Cos | Pow | Mod | FloorDiv
    )
}

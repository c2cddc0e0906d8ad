//! The routines that compiled kernels call: what a loader has to supply, under which names.

use chunkwise_dsl::typed::Function;

use crate::kernel::{ReduceOp, Triangle};

/// An imported function. All arguments are 64-bit integers or addresses; matrices are rows of f32, strides in elements.
///
/// ```text
/// product_*(c, ldc, a, am, ak, b, ldb, m, n, k, add)      c[m,n] (+)= sum over k of a[m,k] b[k,n]; add is 0 or 1
/// exact_*                                                 the same, its operands never rounded
/// product_scaled(c, ldc, a, am, ak, b, ldb, m, n, k, lost, stride, factor)
///                                         c[m,n] = factor[m] c[m,n] + (lost[m] c[m,n] + sum over k of a[m,k] b[k,n])
/// solve(systems, n, columns, table)                       `kernel::Solve`
/// sweep(rows, columns, ranks, reads, table)               `kernel::Sweep`
/// vector_NAME(dst, a, n), vector_NAME(dst, a, b, n)       dst[i] = f(a[i]) for i < n; dst may be a or b
/// map_NAME(dst, ldd, a, ar, al, .., rows, columns, diagonal)
///                                                         dst[i,j] = f(a[i,j], ..) for j < min(columns, diagonal + i)
/// turn(dst, ldd, a, ar, al, rows, columns, diagonal)      dst[i,j] = a[i,j]
/// fold_NAME(dst, step, a, lda, rows, columns)             dst[i] = dst[i] op all a[i,j]
/// fetch(a, lda, rows, columns, written)                   a hint that a[i,j] is wanted soon; written is 0 or 1
/// ```
///
/// The table of a solve holds, for each of r systems, the address and the row stride of x; then for each of the r by r
/// tiles, row-major, its address, row stride and column stride. That of a sweep holds address and row stride of the state,
/// of the tile before (the state itself where there is no update) and of the factors kept, then the address of what they
/// lost (0 where there is none); then address and stride of w and the address of u for every rank; then those of x and y
/// for every read.
///
/// Operands of a map have the last stride 0 or 1, those of `turn` any. A map goes row by row: an operand may be a row of
/// the result that lies before. An operand may be the result itself, but for `turn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Routine {
    Product(Triangle),
    /// Of operands that are not rounded, whatever precision is asked for.
    Exact(Triangle),
    ProductScaled,
    Solve,
    Sweep,
    /// A function of scalars on a row.
    Vector(Function),
    /// A function of scalars on a tile.
    Map(Operation),
    Turn,
    Fold(ReduceOp),
    Fetch,
}

/// What a map computes of each element of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Copy,
    /// a b + c
    MulAdd,
    /// b where a is not 0, else c
    Select,
    /// One of those that have tiles (`scalar::has_tiles`).
    Apply(Function),
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Copy => "copy",
            Operation::MulAdd => "mul_add",
            Operation::Select => "select",
            Operation::Apply(function) => match function {
                Function::Add => "add",
                Function::Sub => "sub",
                Function::Mul => "mul",
                Function::Div => "div",
                Function::Neg => "neg",
                Function::Lt => "lt",
                Function::Le => "le",
                Function::Gt => "gt",
                Function::Ge => "ge",
                Function::Eq => "eq",
                function => function.name(),
            },
        }
    }

    /// How many operands it takes.
    fn arity(self) -> usize {
        match self {
            Operation::Copy => 1,
            Operation::MulAdd | Operation::Select => 3,
            Operation::Apply(function) => function.arity(),
        }
    }
}

impl Routine {
    pub fn name(self) -> String {
        match self {
            Routine::Product(shape) => format!("product_{}", of(shape)),
            Routine::Exact(shape) => format!("exact_{}", of(shape)),
            Routine::ProductScaled => "product_scaled".to_owned(),
            Routine::Solve => "solve".to_owned(),
            Routine::Sweep => "sweep".to_owned(),
            Routine::Vector(Function::Pow) => "vector_pow".to_owned(),
            Routine::Vector(function) => format!("vector_{}", function.name()),
            Routine::Map(operation) => format!("map_{}", operation.name()),
            Routine::Turn => "turn".to_owned(),
            Routine::Fold(ReduceOp::Sum) => "fold_sum".to_owned(),
            Routine::Fold(ReduceOp::Product) => "fold_prod".to_owned(),
            Routine::Fold(ReduceOp::Max | ReduceOp::Most) => "fold_max".to_owned(),
            Routine::Fold(ReduceOp::Min) => "fold_min".to_owned(),
            Routine::Fetch => "fetch".to_owned(),
        }
    }

    /// How many arguments it takes.
    pub(super) fn arity(self) -> usize {
        match self {
            Routine::Product(_) | Routine::Exact(_) => 11,
            Routine::ProductScaled => 13,
            Routine::Solve => 4,
            Routine::Sweep => 5,
            Routine::Vector(function) => function.arity() + 2,
            Routine::Map(operation) => 3 * operation.arity() + 5,
            Routine::Turn => 8,
            Routine::Fold(_) => 6,
            Routine::Fetch => 5,
        }
    }
}

/// What of a product counts, in a routine's name.
fn of(shape: Triangle) -> &'static str {
    match shape {
        Triangle::Full => "full",
        Triangle::LowerLeft { strict: false } => "lower",
        Triangle::LowerLeft { strict: true } => "strictly_lower",
        Triangle::LowerOut => "lower_out",
    }
}

/// Whether a function is called for a row at a time, rather than written out.
pub(super) fn is_called(function: Function) -> bool {
    use Function::*;
    matches!(
        function,
        Exp | ExpRest
            | Ln
            | Elu
            | Silu
            | Gelu
            | Sigmoid
            | LogSigmoid
            | Softplus
            | Tanh
            | Sin
            | Cos
            | Pow
            | Mod
            | FloorDiv
    )
}

//! Typed expressions: what a node of a variant's arena can be, and its type. The statements around them are in `typed`.

use super::{ExprId, IndexId, LetId, Norm, StateId, TensorId};
use crate::shape::Size;
use crate::source::Span;

#[derive(Debug, Clone)]
pub struct Expr {
    pub kind: ExprKind,
    pub ty: Ty,
    pub span: Span,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ty {
    /// A truth value, always a scalar.
    Bool,
    /// An array: no dims is a scalar, one a column vector, two a matrix; whole arrays may have more.
    Array(Vec<Size>),
    /// A transposed vector.
    Row(Size),
}

impl Ty {
    pub fn scalar() -> Self {
        Ty::Array(Vec::new())
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self, Ty::Array(dims) if dims.is_empty())
    }

    /// The dims; a row counts as its one dim.
    pub fn dims(&self) -> Vec<Size> {
        match self {
            Ty::Bool => Vec::new(),
            Ty::Array(dims) => dims.clone(),
            Ty::Row(n) => vec![n.clone()],
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Number(f64),
    Bool(bool),
    /// A size as a number: an axis name, `T`, `2*K`.
    Size(Size),
    /// An index variable's position.
    Index(IndexId),
    /// `i.y`, `i.x`: token coordinates on the grid `T = Y*X` (or `T = L + Y*X`).
    Coord {
        index: IndexId,
        axis: GridAxis,
    },
    /// `h`, the head.
    Head,
    /// A whole tensor without its batch axes.
    Tensor(TensorId),
    /// What a call gave, a whole array without batch axes.
    Result {
        call: usize,
        result: usize,
    },
    /// A let's whole array (its index axes first), or its value where it has no index.
    Let(LetId),
    /// `S[t-1]`: the state before the current token.
    StateOld(StateId),
    /// `S[t]`: the state after the current token's update.
    StateNew(StateId),
    /// Entry s-1 of the iterated let being defined.
    IterateOld(LetId),
    /// Subscripts of the leading axes. Out of range reads 0.
    Subscript {
        base: ExprId,
        at: Vec<ExprId>,
    },
    /// A function of scalars, element by element; a scalar argument fills. `x + y`, `x .* y`, `exp(x)`, `a < b`.
    Map {
        function: Function,
        args: Vec<ExprId>,
    },
    /// The matrix product, by shapes: matrix*vector, row*matrix, vector*row, row*vector, matrix*matrix. A product with a
    /// scalar is a `Map` of `Mul`.
    Product(ExprId, ExprId),
    Transpose(ExprId),
    /// `cond` is a scalar; the branch not taken has no effect.
    If {
        cond: ExprId,
        then: ExprId,
        otherwise: ExprId,
    },
    /// `sum[j](body)` and its like.
    Reduce {
        op: ReduceOp,
        index: IndexId,
        domain: Domain,
        body: ExprId,
    },
    /// `softmax[j](body)`: the weight at `index` (an index in scope), normalised over `domain`, over which the bound
    /// copy `bound` of the index runs in `body`. `over` is the same body in terms of `bound`; `at` that in terms of
    /// `index`.
    Softmax {
        index: IndexId,
        bound: IndexId,
        domain: Domain,
        over: ExprId,
        at: ExprId,
    },
    /// A reduction of the last axis: `sum(x)`, `max(x)`, `norm2(x)`.
    Fold {
        op: FoldOp,
        arg: ExprId,
    },
    /// `softmax(x)` on the last axis.
    SoftmaxAxis(ExprId),
    /// `l2norm rms layer_norm` on the last axis.
    Normalise {
        norm: Norm,
        arg: ExprId,
    },
    /// Concatenation of vectors.
    Stack(Vec<ExprId>),
    Flatten(ExprId),
    /// Vector to diagonal matrix.
    Diag(ExprId),
    /// The identity matrix.
    Eye(Size),
    /// Columns from (included) to (excluded) of the last axis.
    Cols {
        arg: ExprId,
        from: Size,
        to: Size,
    },
    /// y[t] = sum over n of w[:,n] .* x[t-N+1+n]; x : [T,K] a whole array, w : [K,N].
    Conv1d {
        arg: ExprId,
        weights: ExprId,
    },
    Dwconv {
        arg: ExprId,
        weights: ExprId,
        stride: i64,
    },
    /// The pair (x[2n], x[2n+1]) turned by at * base^(-2n/K).
    Rope {
        arg: ExprId,
        at: ExprId,
        base: ExprId,
    },
    Rope2d {
        arg: ExprId,
        index: IndexId,
    },
    TopkMask {
        arg: ExprId,
        count: ExprId,
    },
    SolveCg {
        matrix: ExprId,
        vector: ExprId,
        iters: i64,
    },
    Solve {
        matrix: ExprId,
        vector: ExprId,
    },
}

impl ExprKind {
    /// The expressions directly below.
    pub fn children(&self) -> Vec<ExprId> {
        use ExprKind::*;
        match self {
            Number(_)
            | Bool(_)
            | Size(_)
            | Index(_)
            | Coord { .. }
            | Head
            | Tensor(_)
            | Result { .. }
            | Let(_)
            | StateOld(_)
            | StateNew(_)
            | IterateOld(_)
            | Eye(_) => Vec::new(),
            Subscript { base, at } => std::iter::once(*base).chain(at.iter().copied()).collect(),
            Map { args, .. } | Stack(args) => args.clone(),
            Product(a, b) => vec![*a, *b],
            Transpose(x) | SoftmaxAxis(x) | Flatten(x) | Diag(x) => vec![*x],
            If { cond, then, otherwise } => vec![*cond, *then, *otherwise],
            Reduce { domain, body, .. } => domain.filter.into_iter().chain([*body]).collect(),
            Softmax { domain, over, at, .. } => domain.filter.into_iter().chain([*over, *at]).collect(),
            Fold { arg, .. } | Normalise { arg, .. } | Cols { arg, .. } | Rope2d { arg, .. } => vec![*arg],
            Conv1d { arg, weights } | Dwconv { arg, weights, .. } => vec![*arg, *weights],
            Rope { arg, at, base } => vec![*arg, *at, *base],
            TopkMask { arg, count } => vec![*arg, *count],
            SolveCg { matrix, vector, .. } | Solve { matrix, vector } => vec![*matrix, *vector],
        }
    }

    /// The same, in the same order, to be exchanged.
    pub fn children_mut(&mut self) -> Vec<&mut ExprId> {
        use ExprKind::*;
        match self {
            Subscript { base, at } => std::iter::once(base).chain(at).collect(),
            Map { args, .. } | Stack(args) => args.iter_mut().collect(),
            Product(a, b) => vec![a, b],
            Transpose(x) | SoftmaxAxis(x) | Flatten(x) | Diag(x) => vec![x],
            If { cond, then, otherwise } => vec![cond, then, otherwise],
            Reduce { domain, body, .. } => domain.filter.iter_mut().chain([body]).collect(),
            Softmax { domain, over, at, .. } => domain.filter.iter_mut().chain([over, at]).collect(),
            Fold { arg, .. } | Normalise { arg, .. } | Cols { arg, .. } | Rope2d { arg, .. } => vec![arg],
            Conv1d { arg, weights } | Dwconv { arg, weights, .. } => vec![arg, weights],
            Rope { arg, at, base } => vec![arg, at, base],
            TopkMask { arg, count } => vec![arg, count],
            SolveCg { matrix, vector, .. } | Solve { matrix, vector } => vec![matrix, vector],
            _ => Vec::new(),
        }
    }
}

/// What a bound index ranges over.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Some(i): what is visible from token i by order and locality. None: the whole axis.
    pub visible_from: Option<IndexId>,
    /// And where this condition holds.
    pub filter: Option<ExprId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridAxis {
    Y,
    X,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    Argmax,
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoldOp {
    Sum,
    Mean,
    Max,
    Min,
    Norm2,
}

/// A function of scalars. Its name in the language, its arity and its meaning are rows of `function.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Mod,
    FloorDiv,
    Neg,
    /// An exponential that says by its sign whether it is one: `function::exp_rest`. No program writes it.
    ExpRest,
    /// The exponential of such a rest, and what f32 loses of it: `function::exp_of_rest`, `function::rest_lost`.
    ExpOfRest,
    RestLost,
    /// Its argument, rounded by itself: nothing joins how it was made with what is made of it. No program writes it.
    Apart,
    Min,
    Max,
    Clamp,
    Exp,
    Ln,
    Sqrt,
    Rsqrt,
    Abs,
    Sign,
    Relu,
    Elu,
    Silu,
    Gelu,
    Sigmoid,
    LogSigmoid,
    Softplus,
    Tanh,
    Sin,
    Cos,
    Floor,
    Round,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    Not,
}

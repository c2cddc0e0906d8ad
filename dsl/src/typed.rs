//! The typed program: names resolved, functions expanded, shapes known as expressions in the axes.
//!
//! Laws and feature maps are gone: a law is the equation it stands for, a feature map a `let` that shadows its argument.
//! Expressions live in one arena a variant (`Variant::exprs`), so what is written once (an argument of a function that
//! uses it twice, the `P` of a law) is one node. An expression denotes the value for one batch element and one head:
//! batch axes never appear in a type. Spans end here.

mod call;
mod expression;

use crate::diagnostic::Diagnostic;
use crate::shape::{AxisId, Size};
use crate::source::{Source, Span};

pub use call::*;
pub use expression::*;

/// A checked file.
#[derive(Debug, Clone)]
pub struct Program {
    pub source: Source,
    /// Its variants, and its stacks as variants of calls.
    pub variants: Vec<Variant>,
    /// What is legal in it and hardly meant, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

/// Places in an arena: one `u32` type each.
#[macro_export]
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
        impl $name {
            pub fn index(self) -> usize { self.0 as usize }
        }
    )* };
}
ids! {
    /// A place in `Variant::exprs`.
    ExprId
    /// A place in `Variant::tensors`.
    TensorId
    /// A place in `Variant::lets`.
    LetId
    /// A place in `Variant::states`.
    StateId
    /// A place in `Variant::indices`.
    IndexId
}

/// One variant, with its compile-time arguments filled in.
#[derive(Debug, Clone)]
pub struct Variant {
    pub name: String,
    /// The same for variants that say the same, different (but for chance) for all others: a key for caches.
    pub fingerprint: u64,
    pub span: Span,
    /// Compile-time parameters and the values in force.
    pub args: Vec<(String, f64)>,
    pub axes: Vec<Axis>,
    /// The token axis, `T`: the one that states scan.
    pub token: Option<AxisId>,
    /// How tokens lie on a grid, where the token axis is `Y*X` or `L + Y*X`.
    pub grid: Option<Grid>,
    /// The head axis, `H`, whose index is `h`.
    pub head: Option<AxisId>,
    /// Inputs and params in file order.
    pub tensors: Vec<Tensor>,
    pub states: Vec<State>,
    pub lets: Vec<Let>,
    pub indices: Vec<Index>,
    pub exprs: Vec<Expr>,
    /// Variants that it calls, in file order.
    pub calls: Vec<Call>,
    /// What is done, in file order.
    pub body: Vec<Stmt>,
    pub orders: Vec<Order>,
    pub merge: Merge,
    pub locals: Vec<Local>,
    pub checks: Checks,
}

impl Variant {
    pub fn expr(&self, id: ExprId) -> &Expr {
        &self.exprs[id.index()]
    }

    pub fn axis_name(&self, axis: AxisId) -> String {
        self.axes[axis.0 as usize].name.clone()
    }

    /// Whether an initial state is taken and a final one given: only under one forward order and without `local`.
    pub fn carries_state(&self) -> bool {
        let forward = |kind| matches!(kind, OrderKind::Causal | OrderKind::Raster | OrderKind::Column);
        let one_forward = match self.orders.as_slice() {
            [] => true,
            [order] => forward(order.kind),
            _ => false,
        };
        one_forward && self.locals.is_empty()
    }

    /// What is read from the states, at most one in what a file holds.
    pub fn reads(&self) -> impl Iterator<Item = LetId> {
        self.body.iter().filter_map(|stmt| match stmt {
            Stmt::Read(id) => Some(*id),
            _ => None,
        })
    }

    /// The outputs in file order.
    pub fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.body.iter().filter_map(|stmt| match stmt {
            Stmt::Output(output) => Some(output),
            _ => None,
        })
    }

    /// The expressions directly below one.
    pub fn children(&self, id: ExprId) -> Vec<ExprId> {
        self.expr(id).kind.children()
    }
}

#[derive(Debug, Clone)]
pub struct Axis {
    pub name: String,
    pub span: Span,
    pub kind: AxisKind,
    /// `F = 2*K`: what a derived axis must equal. A parameter used as a size is not an axis but a constant.
    pub value: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisKind {
    /// `B`, `H` and those of `batch`: equations are per element, never subscripted.
    Batch,
    /// `G` of `H = G*R`: a tensor with it is read at `h div R`.
    Group,
    /// Everything else, the token axis too.
    Own,
}

/// Token `offset + y*cols + x` lies at (y, x): `T = Y*X` has offset 0, rows `Y` and columns `X` (the factors as written,
/// which the canonical order of a `Size` forgets).
#[derive(Debug, Clone)]
pub struct Grid {
    pub offset: Size,
    pub rows: Size,
    pub cols: Size,
}

/// An input or a param.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub span: Span,
    pub role: TensorRole,
    pub dtype: Dtype,
    /// All axes in memory order, batch axes among them.
    pub dims: Vec<TensorDim>,
}

impl Tensor {
    /// The shape that expressions see: the dims that are no batch or group axis.
    pub fn own_dims(&self) -> Vec<Size> {
        self.dims.iter().filter(|d| d.batch.is_none()).map(|d| d.size.clone()).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TensorDim {
    pub size: Size,
    /// Set for a batch axis (`Own` position) or a group axis.
    pub batch: Option<BatchDim>,
}

/// Where along a batch dim the current batch element lies.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchDim {
    /// At the element's own index on this axis.
    Index(AxisId),
    /// At `index of head axis div ratio`: a group axis.
    Group { of: AxisId, ratio: Size },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    Input,
    Param,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    I32,
}

/// A state. Its batch axes are all of the variant's, in the order of `axes`.
#[derive(Debug, Clone)]
pub struct State {
    pub name: String,
    pub span: Span,
    /// Its own shape: 0, 1 or 2 dims.
    pub dims: Vec<Size>,
    /// Initial value; its type is a scalar (fills) or the state's shape.
    pub init: ExprId,
    /// Scans against the order's direction: S[t-1] is the state before token t in that direction.
    pub reverse: bool,
    /// The value that the state's laws multiply it by, as declared (`None` where no decay applies).
    pub decay: Option<LetId>,
}

/// A named value: `let`, a feature map's result, a `decay`, a `read`, a norm's result. Later ones may shadow its name.
#[derive(Debug, Clone)]
pub struct Let {
    pub name: String,
    pub span: Span,
    pub kind: LetKind,
    /// Index variables on the left: `[t]`, `[i,j]`; empty for a value of the whole sequence.
    pub indices: Vec<IndexId>,
    /// The type of the value at one setting of `indices`. The let itself has the indices' axes before it.
    pub ty: Ty,
    /// Mentions a state, or a let that does: belongs to the scan and is read only at `[t]`.
    pub scan: bool,
    pub value: LetValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetKind {
    Let,
    Feature,
    Decay,
    Read,
    Norm,
}

#[derive(Debug, Clone)]
pub enum LetValue {
    Expr(ExprId),
    /// `let V[s] = f(V[s-1]) for s in from..to from V0`: entry from-1 is `init`, and entry s of from..=to is `step`, where
    /// `IterateOld(let)` stands for entry s-1. `indices` is then exactly `[s]`, of size to+1; entries below from-1 are 0.
    Iterate {
        from: i64,
        to: i64,
        init: ExprId,
        step: ExprId,
    },
    /// The norm of another let, per token: over its last axis, and over the head axis too if `heads`.
    Norm {
        of: LetId,
        norm: Norm,
        heads: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    pub kind: NormKind,
    pub eps: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// x / sqrt(mean(x^2) + eps)
    Rms,
    /// x / max(sqrt(mean(x^2)), eps)
    Srms,
    /// (x - mean) / sqrt(var + eps)
    Layer,
    /// x / sqrt(sum(x^2) + eps)
    L2,
}

/// An index variable: ranges over `0..size`.
#[derive(Debug, Clone)]
pub struct Index {
    pub name: String,
    pub size: Size,
    /// Ranges over the token axis.
    pub token: bool,
}

#[derive(Debug, Clone)]
pub enum Stmt {
    Let(LetId),
    /// The state's whole update: laws are the equation they stand for, all laws of one state one equation.
    Update(Update),
    /// The `read`: what several orders merge. `LetValue::Norm` lets may follow.
    Read(LetId),
    Output(Output),
}

#[derive(Debug, Clone)]
pub struct Update {
    pub state: StateId,
    pub span: Span,
    /// S[t] in terms of `StateOld` (S[t-1]).
    pub value: ExprId,
    /// The token index variable that the equation is written in.
    pub index: IndexId,
}

#[derive(Debug, Clone)]
pub struct Output {
    pub name: String,
    pub span: Span,
    /// Subscripts on the left; empty for a whole array, whose first axis is then its token axis.
    pub indices: Vec<IndexId>,
    /// The type of the value at one setting of `indices`.
    pub ty: Ty,
    pub value: ExprId,
    /// Mentions a state or a let of the scan.
    pub scan: bool,
    /// The batch axes and the output's own first axes in the order of its tensor; then come `ty`'s dims.
    pub dims: Vec<OutputDim>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum OutputDim {
    Batch(AxisId),
    /// The n-th of the output's own axes (subscripts first, then the value's own dims); those not listed follow in order.
    Own(usize),
}

#[derive(Debug, Clone)]
pub struct Order {
    pub kind: OrderKind,
    /// `causal(g = gf)`: the name `g` means this let or tensor expression in this order. The name is a let whose
    /// `LetValue::Expr` is that of the first order; here stands the whole-array expression for this one.
    pub bindings: Vec<(LetId, ExprId)>,
    /// `full(by = perm)`.
    pub by: Option<ExprId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    Causal,
    Full,
    Reverse,
    Raster,
    Column,
    RasterRev,
    ColumnRev,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    Sum,
    Mean,
}

#[derive(Debug, Clone)]
pub struct Local {
    pub span: Span,
    pub kind: LocalKind,
}

#[derive(Debug, Clone)]
pub enum LocalKind {
    /// i - left < j <= i + right (right is 0 where one size is given).
    Window {
        left: Size,
        right: Size,
    },
    Block(Size),
    GridBlock {
        wy: Size,
        wx: Size,
        shift: Size,
    },
    Disc {
        radius: ExprId,
    },
    Atrous {
        wy: Size,
        wx: Size,
        rate: Size,
    },
    /// A condition on `i` (the left's token) and `j` (the one looked at).
    Where {
        i: IndexId,
        j: IndexId,
        cond: ExprId,
    },
}

/// `check ...`: what `verify` tries besides its defaults.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    pub tokens: Vec<usize>,
    pub dims: Vec<(String, usize)>,
    pub grids: Vec<(usize, usize)>,
    pub forms: Vec<FormCheck>,
    pub tolerance: Option<f64>,
    pub draws: Vec<(String, Draw)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormCheck {
    Recurrent,
    Chunked(Option<usize>),
    Parallel,
}

/// How `verify` and `bench` draw an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    Normal,
    /// Normal over its norm (last axis).
    Unit,
    Sigmoid,
    TwoSigmoid,
    /// logsigmoid of normal
    LogDecay,
    Uniform(f64, f64),
}

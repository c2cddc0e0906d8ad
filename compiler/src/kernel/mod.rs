//! The kernel IR: loops and tile statements over flat buffers. It holds what a kernel does; what only some targets can say
//! (sweeps, products of rows with rows) stands at levels of its own (`pass`). It knows nothing of tokens and heads, and of
//! states only where they lie before and after a run.
//!
//! ```text
//! module  ::= params, buffers, kernels                       one launch each, in order, a barrier between
//! kernel  ::= grid, statements                               run once for every point of its grid, in any order
//! stmt    ::= for v in from..to step { stmt* }
//!           | if a < b { stmt* } else { stmt* }
//!           | map     dst[i..]        = value(i..)           element by element, of all or below a diagonal
//!           | reduce  dst[i..]        = op over r of value(i.., r)
//!           | scan    dst[i.., r]     = op over s <= r of value(i.., s)
//!           | product dst[m,n] (+)=  sum over k of a[m,k] * b[k,n]
//!           | solve   x[t] += sum over s < t of p[t,s] * x[s]    in place, unit lower triangular
//!           | sweep   s[i,j] = keep[i] * from[i,j] + sum over r of w_r[i] * u_r[j], then y[j] = sum over i of x[i] * s[i,j]
//! value   ::= load | bounded load (0 outside) | constant | integer | axis position | function | select
//! access  ::= buffer, offset, a stride for every axis of the statement (elements, not bytes)
//! ```
//!
//! All numbers are f32 (buffers of `Elem::I32` convert on load); all integers are i64. An integer may be a run-time
//! parameter, so one kernel serves every number of tokens and every chunk length.
//!
//! Triangular statements never read what lies outside their triangle: a NaN above the diagonal reaches nothing.
//!
//! Emitters take a `Checked` module, which `check` alone makes; `bounds` proves of a launch, whose sizes are numbers, that no
//! access leaves its buffer.

mod ahead;
mod bounds;
pub mod check;
mod count;
mod exact;
pub(crate) mod frame;
mod held;
mod int;
pub mod interp;
pub mod lower;
pub mod pass;
mod print;
pub(crate) mod range;
mod rates;
pub mod scalar;
mod scaled;
pub(crate) mod visit;

pub use ahead::{Ahead, ahead};
pub use bounds::{Integers, within};
pub use check::{Checked, check};
pub use chunkwise_dsl::typed::Function;
pub use count::{Work, flops, handed_on, items, tiles, work};
pub use exact::exact;
pub use held::held;
pub use int::{Element, Int};
pub use pass::{in_place, split};
pub use print::Counts;
pub use rates::Rates;
pub use scaled::scaled;

/// What one artifact holds: kernels that run one after another over shared buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    pub name: String,
    pub params: Vec<Param>,
    pub buffers: Vec<Buffer>,
    pub kernels: Vec<Kernel>,
}

chunkwise_dsl::ids! {
    /// A place in `Module::params`.
    ParamId
    /// A place in `Module::buffers`.
    BufferId
    /// A loop variable, unique within its module.
    VarId
}

/// An integer known when a kernel is launched.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: String,
    pub role: ParamRole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamRole {
    /// The size of the axis of this name.
    Size(String),
    /// Tokens in a chunk.
    Chunk,
    /// How much of the axis of this name a work item takes: a divisor of its size.
    Tile(String),
    /// Where the work item stands on a grid axis.
    Grid,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    pub name: String,
    pub role: BufferRole,
    pub elem: Elem,
    /// Elements, in terms of the module's size and chunk params.
    pub size: Int,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferRole {
    /// The tensor of the buffer's name, whole, as declared.
    Input,
    /// The result of the buffer's name, whole.
    Output,
    /// The initial value of the state of the buffer's name, for every batch element. Always given.
    StateIn,
    /// Its final value.
    StateOut,
    /// Shared by all work items of all kernels of one run.
    Shared,
    /// Private to a work item; holds nothing at its start.
    Scratch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    F32,
    I32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    pub name: String,
    /// Work items: the product of these axes. Items are independent of each other.
    pub grid: Vec<GridAxis>,
    pub body: Vec<Stmt>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct GridAxis {
    /// Of role `Grid`: runs over 0..extent.
    pub param: ParamId,
    pub extent: Int,
}

/// Element `offset + sum of strides[d] * i[d]` of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    pub buffer: BufferId,
    pub offset: Int,
    pub strides: Vec<Int>,
}

impl Access {
    pub fn new(buffer: BufferId, offset: impl Into<Int>, strides: impl IntoIterator<Item = Int>) -> Self {
        Self { buffer, offset: offset.into(), strides: strides.into_iter().collect() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    For {
        var: VarId,
        from: Int,
        to: Int,
        step: Int,
        body: Vec<Stmt>,
    },
    /// `left < right`; where the left is loaded, `otherwise` is right whatever it is (`Int::Load`).
    If {
        left: Int,
        right: Int,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    Map(Map),
    Reduce(Reduce),
    Scan(Scan),
    Product(Product),
    Solve(Solve),
    Sweep(Sweep),
}

/// `dst[i..] = value(i..)`. Of the elements that it writes, the value may read only the one at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// 0 to 3 extents; the last axis is the one to vectorise.
    pub axes: Vec<Int>,
    /// Some(d), of two axes or more: only the elements whose last index j <= i + d, where i is the index before it. The
    /// others are neither read nor written.
    pub below: Option<Int>,
    pub dst: Access,
    pub value: Value,
}

impl Map {
    /// A map of all elements.
    pub fn new(axes: Vec<Int>, dst: Access, value: Value) -> Self {
        Self { axes, below: None, dst, value }
    }
}

/// `dst[i..] = op over r in 0..inner of value(i.., r)`; over nothing: sum 0, max -inf, min inf, product 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    pub axes: Vec<Int>,
    pub inner: Int,
    pub op: ReduceOp,
    pub dst: Access,
    /// Its accesses have one stride more than `axes`: the last is that of r.
    pub value: Value,
}

/// Running reductions along r in 0..inner: `dst[i.., r] = op(dst[i.., r - 1], value(i.., r))`. The value reads nothing that
/// the scan writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub axes: Vec<Int>,
    pub inner: Int,
    pub op: ReduceOp,
    pub from: ScanFrom,
    /// It and the value's accesses have one stride more than `axes`: the last is that of r.
    pub dst: Access,
    pub value: Value,
}

/// Where a running reduction starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanFrom {
    /// `dst[i.., 0] = value(i.., 0)`
    First,
    /// Of one axis: `dst[i, i]` is the op over nothing; what lies before it is not written.
    Diagonal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Max,
    /// The maximum; of NaN it may be NaN or not, where what else depends on those values carries the NaN on.
    Most,
    Min,
    Product,
}

/// `dst[m,n] (+)= sum over k of a[m,k] * b[k,n]`. The last strides of `dst` and `b` are 1. `dst` overlaps neither input.
///
/// At a level of rows by rows, b's first stride and a's last may be 1 instead: all of a row of a with a row of b's columns.
/// Such a product adds to nothing and is full or `LowerOut`.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    pub m: Int,
    pub n: Int,
    pub k: Int,
    pub dst: Access,
    pub a: Access,
    pub b: Access,
    pub accumulate: bool,
    pub shape: Triangle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Triangle {
    /// All of `a`, all of `dst`.
    Full,
    /// `a` is lower triangular: row m uses k <= m only (k < m if strict).
    LowerLeft { strict: bool },
    /// Only the lower triangle of `dst` is needed, n <= m; what is above it may hold anything afterwards.
    LowerOut,
}

/// Forward substitution in place: for t = 0, 1, ..: x_i[t] += sum over j and s < t of p_ij[t,s] * x_j[s]
/// (with one system, x = (I - P)^-1 x, P strictly lower triangular).
#[derive(Debug, Clone, PartialEq)]
pub struct Solve {
    /// Rows of every x.
    pub n: Int,
    /// Columns of every x.
    pub columns: Int,
    /// r by r strictly lower triangular n x n tiles, row-major by (i, j).
    pub p: Vec<Access>,
    /// r tiles n x columns; their last strides are 1.
    pub x: Vec<Access>,
}

/// One pass over a tile of `rows` x `columns`: `state[i,j] = keep[i] from[i,j] + sum over r of w_r[i] * u_r[j]`, then
/// for every read `y[j] = sum over i of x[i] * state[i,j]`. Without `update` the tile is only read.
///
/// The pass `fuse-update` makes it; no lowering does, and targets with many threads a work item never see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    pub rows: Int,
    pub columns: Int,
    /// Two strides, the last one 1.
    pub state: Access,
    pub update: Option<Rankwise>,
    /// One to `Sweep::READS`. What is written overlaps nothing else of the statement.
    pub reads: Vec<Outer>,
}

/// How a sweep changes its tile.
#[derive(Debug, Clone, PartialEq)]
pub struct Rankwise {
    /// The tile before: the state itself, or apart from it. Strides as those of the state.
    pub from: Access,
    /// None where the factor is 1.
    pub keep: Option<Keep>,
    /// One to `Sweep::RANKS` of w_r and u_r.
    pub ranks: Vec<Outer>,
}

/// What a tile's rows are multiplied by before something is added to them: `factor[i] * x[i,j] + what is added`, or
/// `factor[i] * x[i,j] + (lost[i] * x[i,j] + what is added)` with what the factor lost when it was rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// One stride, that of i.
    pub factor: Access,
    /// At the stride of the factor.
    pub lost: Option<Access>,
}

impl Keep {
    /// Its factors.
    pub fn factors(&self) -> impl Iterator<Item = &Access> {
        [&self.factor].into_iter().chain(&self.lost)
    }
}

/// A factor along the rows of a tile, and a row beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outer {
    /// One stride, that of i.
    pub row: Access,
    /// One stride, that of j: 1.
    pub column: Access,
}

impl Sweep {
    /// The most that a sweep reads at once.
    pub const READS: usize = 2;
    /// The most that a sweep adds at once.
    pub const RANKS: usize = 2;
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Load(Access),
    /// The element where `0 <= position < length`, else 0; nothing outside is read.
    Bounded {
        access: Access,
        position: Position,
        length: Int,
    },
    Const(f64),
    /// An integer of the surrounding loops as a number.
    Int(Int),
    /// The position along an axis of the statement as a number.
    Axis(usize),
    Call(Function, Vec<Value>),
    /// `then` where `cond` is not 0, else `otherwise`; the one not taken has no effect.
    Select(Box<Value>, Box<Value>, Box<Value>),
}

/// `base + sum of strides[d] * i[d]`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    pub base: Int,
    pub strides: Vec<Int>,
}

//! The syntax tree: what was written, nothing resolved. Every node carries its span.

use crate::source::Span;

/// A name and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    pub name: String,
    pub span: Span,
}

/// One source file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    pub items: Vec<Item>,
    /// What of a broken source is no part of `items`, in the order of the text.
    pub broken: Vec<Broken>,
}

/// A statement, or the head of an item, with a syntax error. What its words would have meant is not known, so that
/// what is wrong with them elsewhere may come from here.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub words: Vec<Ident>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Variant(Variant),
    Function(Function),
    Stack(Stack),
}

/// `variant f(W = 64) { ... }`
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub name: Ident,
    pub params: Vec<Param>,
    pub body: Vec<Stmt>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: Ident,
    pub default: Option<Expr>,
}

/// `fn phi(x) = elu(x) + 1;`
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: Ident,
    pub params: Vec<Ident>,
    pub body: Expr,
    pub span: Span,
}

/// `stack hybrid(r = 3) { repeat r { gla; } sdpa; }`
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    pub name: Ident,
    pub params: Vec<Param>,
    pub layers: Vec<Layer>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// `repeat n { ... }`, and with `shared` one set of params for all.
    Repeat {
        count: Expr,
        shared: bool,
        layers: Vec<Layer>,
    },
    Variant(Named),
}

/// A name with optional arguments: `window(64)`, `reverse(g = gb)`, `additive(k, v)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub name: Ident,
    pub args: Vec<Arg>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    pub name: Option<Ident>,
    pub value: Expr,
}

/// The left of an equation: `a`, `a[t]`, `s[i,j]`, `S[t]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lhs {
    pub name: Ident,
    pub subscripts: Vec<Expr>,
    pub span: Span,
}

/// `q, k : [B,T,H,K] = 0`: one group of a declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Decl {
    pub names: Vec<Ident>,
    pub dtype: Option<Ident>,
    pub dims: Vec<Expr>,
    pub init: Option<Expr>,
    /// `in reverse`, of states.
    pub within: Option<Ident>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub name: Ident,
    pub value: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

/// A few dozen of these make a program, so their size does not matter.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum StmtKind {
    Axes(Vec<Axis>),
    Batch(Vec<Ident>),
    Input(Vec<Decl>),
    Param(Vec<Decl>),
    State(Vec<Decl>),
    Function(Function),
    /// `feature phi(x) = e on q, k;` (`body` is None for `feature sigmoid on q;`)
    Feature {
        name: Ident,
        params: Vec<Ident>,
        body: Option<Expr>,
        on: Vec<Ident>,
    },
    /// `let a[t] = e;`, and with `for s in 1..n from V0`
    Let {
        lhs: Lhs,
        value: Expr,
        iterate: Option<Iterate>,
    },
    /// `let (o, w) = f(...);`
    LetSeveral {
        names: Vec<Ident>,
        value: Expr,
    },
    Order {
        orders: Vec<Named>,
        merge: Option<Ident>,
    },
    Local(Local),
    /// `decay a[t] = e;`, `decay g0[t] on z;` (`value` is None when the left is itself the value)
    Decay {
        lhs: Lhs,
        value: Option<Expr>,
        on: Vec<Ident>,
    },
    /// `update S additive(k, v);`
    Law {
        state: Ident,
        law: Named,
    },
    /// `update S[t] = e;`
    Recurrence {
        lhs: Lhs,
        value: Expr,
    },
    Read {
        lhs: Lhs,
        value: Expr,
    },
    Norm {
        norm: Named,
        over: Vec<Ident>,
    },
    Output {
        lhs: Lhs,
        value: Option<Expr>,
    },
    Check(Vec<Named>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Iterate {
    pub index: Ident,
    pub range: Expr,
    pub from: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Local {
    Named(Named),
    Where(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Number(f64),
    Name(String),
    /// `x[t, j]`
    Subscript {
        base: Box<Expr>,
        at: Vec<Expr>,
    },
    /// `i.y`
    Field {
        base: Box<Expr>,
        field: Ident,
    },
    /// `x'`
    Transpose(Box<Expr>),
    Neg(Box<Expr>),
    Not(Box<Expr>),
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `a < b <= c`: first, then (operator, operand)s
    Compare {
        first: Box<Expr>,
        rest: Vec<(CompareOp, Expr)>,
    },
    If {
        cond: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    /// `f(x, eps = 1e-5)`
    Call {
        name: Ident,
        args: Vec<Arg>,
    },
    /// `sum[j in N : cond](e)`, `softmax[j](e)`
    Reduction {
        op: Ident,
        indices: Vec<ReductionIndex>,
        cond: Option<Box<Expr>>,
        body: Box<Expr>,
    },
    /// `a .. b`
    Range {
        from: Box<Expr>,
        to: Box<Expr>,
    },
    /// `(7, 7)`, only in `check grid((7,7))`
    Tuple(Vec<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReductionIndex {
    pub name: Ident,
    pub axis: Option<Ident>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `.*`
    ElementMul,
    /// `./`
    ElementDiv,
    Pow,
    Mod,
    /// `div`
    FloorDiv,
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

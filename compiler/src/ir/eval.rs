//! What every operator computes, in f64, on a small instance: the term language's executable semantics.
//!
//! The oracle of the derivation: rules, saturated graphs, extracted forms and every step that `explain` prints are held
//! against it. It follows the table in `ir` line by line, in loops over times, rows and columns, and shares nothing
//! with the kernels. Atoms are random, drawn by name and within their known ranges; the state stream is what a loop
//! over tokens makes of the raw recurrence. Ill-typed terms are errors.

mod draw;
mod pairs;
mod stream;
mod value;

use std::{fmt, ops::Range};

use egg::{Language, RecExpr};

use super::{Feat, Frame, Leaf, Term, facts::Known, lower::System};

pub use value::{Mat, Op, Ten, Tri, Value};

/// The sizes of an instance. The last chunk may be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    pub tokens: usize,
    pub chunk: usize,
    /// Rows and columns of the state; unlike, so that a mistaken side shows.
    pub rows: usize,
    pub columns: usize,
}

impl Dims {
    pub const SMALL: Dims = Dims { tokens: 24, chunk: 6, rows: 5, columns: 4 };

    /// How many times a stream has.
    pub(crate) fn times(self, frame: Frame) -> usize {
        match frame {
            Frame::Any => 1,
            Frame::Tokens | Frame::Chunk => self.tokens,
            Frame::Chunks => self.tokens.div_ceil(self.chunk),
        }
    }

    /// The stretches of time that `prev` and decays do not reach across.
    pub(crate) fn segments(self, frame: Frame) -> Vec<Range<usize>> {
        match frame {
            Frame::Chunk => {
                (0..self.tokens).step_by(self.chunk).map(|start| start..(start + self.chunk).min(self.tokens)).collect()
            }
            frame => std::iter::once(0..self.times(frame)).collect(),
        }
    }
}

/// Why a term has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllTyped(pub String);

impl fmt::Display for IllTyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for IllTyped {}

pub(crate) type Evaluated<T> = Result<T, IllTyped>;

pub(crate) fn ill_typed<T>(what: impl Into<String>) -> Evaluated<T> {
    Err(IllTyped(what.into()))
}

/// One random instance: what every atom, the initial state and the state stream are.
#[derive(Debug, Clone)]
pub struct Instance {
    pub dims: Dims,
    pub seed: u64,
    pub(crate) known: Known,
    pub(crate) state: Option<Mat>,
}

impl Instance {
    /// An instance without a state: `S` and `bnd` have no value in it.
    pub fn new(dims: Dims, known: Known, seed: u64) -> Self {
        Self { dims: draw::fitted(dims, &known), seed, known, state: None }
    }

    /// An instance of one recurrence, its state stream computed token by token. `known` says what more is known of the
    /// atoms than the system says: definitions of sums and dots that its derivation made.
    pub fn of(system: &System, known: &Known, dims: Dims, seed: u64) -> Evaluated<Self> {
        let mut instance = Self::new(dims, known.clone(), seed);
        let dims = instance.dims;
        let mut state = Mat::zeros(dims, Frame::Tokens);
        for t in 0..dims.tokens {
            instance.state = Some(state.clone());
            let next = instance.term(&system.update)?.mat()?;
            for k in 0..dims.rows {
                for v in 0..dims.columns {
                    *state.at_mut(t, k, v) = next.at(t, k, v);
                }
            }
        }
        instance.state = Some(state);
        Ok(instance)
    }

    /// The value of a term.
    pub fn term(&self, term: &RecExpr<Term>) -> Evaluated<Value> {
        let mut values: Vec<Value> = Vec::new();
        for node in term.as_ref() {
            let children: Vec<&Value> = node.children().iter().map(|&id| &values[usize::from(id)]).collect();
            let value = self.node(node, &children)?;
            values.push(value);
        }
        values.pop().map_or_else(|| ill_typed("an empty term"), Ok)
    }

    /// The value of one operator of its arguments' values.
    pub fn node(&self, term: &Term, c: &[&Value]) -> Evaluated<Value> {
        match term {
            Term::Leaf(leaf) => Ok(Value::Ten(self.leaf(leaf)?)),
            Term::State => self.state_stream().cloned().map(Value::Mat),
            Term::Init => Ok(Value::Mat(self.initial())),
            Term::ZeroMat => Ok(Value::Mat(Mat::zeros(self.dims, Frame::Any))),
            Term::ZeroVec => Ok(Value::Ten(Ten::zeros(self.dims, Frame::Any, Feat::V, 1))),
            Term::Add(_) => stream::add(self.dims, c[0], c[1]),
            Term::Mul(_) => stream::multiply(self.dims, c[0].ten()?, c[1]),
            Term::Dot(_) => stream::dot(self.dims, c[0].ten()?, c[1].ten()?).map(Value::Ten),
            Term::Stack(_) => stream::stack(self.dims, c[0].ten()?, c[1].ten()?).map(Value::Ten),
            Term::Outer(_) => stream::outer(self.dims, c[0].ten()?, c[1].ten()?).map(Value::Mat),
            Term::Prev(_) => stream::prev(self.dims, &c[0].mat()?, &c[1].mat()?).map(Value::Mat),
            Term::DecayedPrev(_) => {
                let before = Value::Mat(stream::prev(self.dims, &c[1].mat()?, &c[2].mat()?)?);
                stream::multiply(self.dims, c[0].ten()?, &before)
            }
            Term::Read(_) => stream::read(self.dims, c[0].ten()?, &c[1].mat()?).map(Value::Ten),
            Term::ReadRight(_) => stream::read_right(self.dims, c[0].ten()?, &c[1].mat()?).map(Value::Ten),
            Term::ScaleColumns(_) => stream::scale_columns(self.dims, c[0].ten()?, &c[1].mat()?).map(Value::Mat),
            Term::Apply(_) => stream::apply(self.dims, &c[0].op(self.dims)?, &c[1].mat()?).map(Value::Mat),
            Term::Affine(_) => {
                let moved = Value::Mat(stream::apply(self.dims, &c[0].op(self.dims)?, &c[2].mat()?)?);
                stream::add(self.dims, &moved, c[1])
            }
            Term::ReadAffine(_) => {
                let read = stream::read_columns(self.dims, c[0], &c[2].mat()?)?;
                stream::add(self.dims, &Value::Ten(read), c[1])
            }
            Term::Scan(_) => stream::scan(self.dims, &c[0].op(self.dims)?, &c[1].mat()?, &c[2].mat()?).map(Value::Mat),
            Term::All(_) => stream::scan(self.dims, &c[0].op(self.dims)?, &c[1].mat()?, &c[2].mat()?).map(Value::Mat),
            Term::AllBefore(_) => {
                let start = c[2].mat()?;
                let states = stream::scan(self.dims, &c[0].op(self.dims)?, &c[1].mat()?, &start)?;
                stream::prev(self.dims, &start, &states).map(Value::Mat)
            }
            Term::Final(_) => stream::last_of_all(self.dims, &c[0].mat()?).map(Value::Mat),
            Term::Last(_) => stream::last_of_chunks(self.dims, &c[0].mat()?).map(Value::Mat),
            Term::Boundary(_) => stream::boundary(self.dims, &c[0].mat()?, self.state_stream()?).map(Value::Mat),
            Term::Identity => Ok(Value::Op(stream::identity(self.dims))),
            Term::Diagonal(_) => stream::diagonal(self.dims, c[0].ten()?).map(Value::Op),
            Term::DiagonalBoth(_) => stream::diagonal_both(self.dims, c[0].ten()?, c[1].ten()?).map(Value::Op),
            Term::RankOne(_) => stream::rank_one(self.dims, c[0].ten()?, c[1].ten()?, c[2]).map(Value::Op),
            Term::Post(_) => {
                let rank = stream::rank_one(self.dims, c[0].ten()?, c[1].ten()?, c[2])?;
                let corrected = stream::op_add(self.dims, &stream::identity(self.dims), &rank)?;
                stream::compose(self.dims, &corrected, &stream::diagonal(self.dims, c[3].ten()?)?).map(Value::Op)
            }
            Term::OpAdd(_) => stream::op_add(self.dims, &c[0].op(self.dims)?, &c[1].op(self.dims)?).map(Value::Op),
            Term::Compose(_) => stream::compose(self.dims, &c[0].op(self.dims)?, &c[1].op(self.dims)?).map(Value::Op),
            Term::ApplyTransposed(_) => stream::apply_transposed(self.dims, &c[0].op(self.dims)?, c[1]),
            Term::Chunks(_) => c[0].relabelled(Frame::Tokens, Frame::Chunk),
            Term::Tokens(_) => c[0].relabelled(Frame::Chunk, Frame::Tokens),
            Term::Roots(_) => Ok(Value::Roots([c[0].roots(), c[1].roots()].concat())),
            _ => pairs::node(self.dims, term, c),
        }
    }

    fn state_stream(&self) -> Evaluated<&Mat> {
        self.state.as_ref().map_or_else(|| ill_typed("there is no state in this instance"), Ok)
    }

    fn leaf(&self, leaf: &Leaf) -> Evaluated<Ten> {
        let mut product = Ten::constant(self.dims, leaf.number, leaf.feat, leaf.as_number().is_none());
        if let Some((atom, _)) = leaf.factors.iter().find(|(atom, _)| atom.feat == Feat::F) {
            product = Ten::of_width(self.dims, Frame::Tokens, Feat::F, self.atom(*atom)?.width);
            product.data.fill(leaf.number);
        }
        let width = product.width;
        for (atom, power) in &leaf.factors {
            let value = self.atom(*atom)?;
            for (place, x) in product.data.iter_mut().enumerate() {
                *x *= value.at(place / width, 0, place % width).powi(i32::from(*power));
            }
        }
        Ok(product)
    }
}

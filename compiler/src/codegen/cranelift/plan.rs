//! Tiles: which values are computed over two axes at a time by routines, and as which steps.
//!
//! ```text
//! map [i < n, j < m] x[i, j] = a[i] b[i, j] + c[j, i]     ->  turn(t, c)   mul_add(x, a, b, t)
//! ```

use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::frame::{Frame, moves};
use crate::kernel::{Access, Elem, Function, Int, Value as Tree};

use super::kernel::{Emitter, TRUSTED};
use super::place::Row;
use super::routine::Operation;

/// Where the elements of a tile lie: an address, and strides in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) at: Value,
    pub(super) row: Value,
    pub(super) lane: Value,
}

/// A value over a frame.
pub(super) enum Plan {
    /// Rows that lie densely.
    Dense(Source),
    /// A number a row.
    Same(Source),
    /// Rows that do not lie densely.
    Turned(Source),
    Square(Box<Plan>),
    Apply(Operation, Vec<Plan>),
}

impl Plan {
    /// The memory that a routine takes as an operand.
    pub(super) fn direct(&self) -> Option<Source> {
        match self {
            Plan::Dense(source) | Plan::Same(source) => Some(*source),
            Plan::Turned(_) | Plan::Square(_) | Plan::Apply(..) => None,
        }
    }

    /// Whether one call computes it.
    pub(super) fn is_one_step(&self) -> bool {
        match self {
            Plan::Dense(_) | Plan::Same(_) | Plan::Turned(_) => true,
            Plan::Square(x) => x.direct().is_some(),
            Plan::Apply(_, args) => args.iter().all(|x| x.direct().is_some()),
        }
    }
}

impl Emitter<'_> {
    /// The tile of an access, reached before, from position 0 of a frame on.
    pub(super) fn source(&mut self, access: &Access, index: &[Option<Value>], frame: Frame) -> Source {
        let at = self.place(access, &Row { index, lane: None }).at;
        let none = Int::Const(0);
        let [row, lane] =
            [frame.rows, Some(frame.lane)].map(|d| match d.and_then(|d| access.strides.get(d)).unwrap_or(&none) {
                Int::Const(n) => self.constant(*n),
                stride => self.int(stride),
            });
        Source { at, row, lane }
    }

    /// Prepares a value, before the loops over its frame.
    pub(super) fn plan(&mut self, value: &Tree, index: &[Option<Value>], frame: Frame) -> Plan {
        if let Tree::Load(access) = value
            && self.module.buffers[access.buffer.index()].elem == Elem::F32
        {
            let source = self.source(access, index, frame);
            return match access.strides.get(frame.lane) {
                None | Some(Int::Const(0)) => Plan::Same(source),
                Some(Int::Const(1)) => Plan::Dense(source),
                Some(_) => Plan::Turned(source),
            };
        }
        if !moves(value, frame) {
            let x = self.single(value, &Row { index, lane: None });
            return Plan::Same(self.alone(x));
        }
        let mut all = |args: &[&Tree]| args.iter().map(|x| self.plan(x, index, frame)).collect::<Vec<_>>();
        match value {
            Tree::Call(Function::Add, args) => match (&args[0], &args[1]) {
                (Tree::Call(Function::Mul, factors), other) | (other, Tree::Call(Function::Mul, factors)) => {
                    Plan::Apply(Operation::MulAdd, all(&[&factors[0], &factors[1], other]))
                }
                (x, y) => Plan::Apply(Operation::Apply(Function::Add), all(&[x, y])),
            },
            Tree::Call(Function::Pow, args) => match &args[1] {
                Tree::Const(e) if *e == 0.5 => Plan::Apply(Operation::Apply(Function::Sqrt), all(&[&args[0]])),
                Tree::Const(e) if *e == -0.5 => Plan::Apply(Operation::Apply(Function::Rsqrt), all(&[&args[0]])),
                _ => Plan::Square(Box::new(self.plan(&args[0], index, frame))),
            },
            Tree::Call(Function::Clamp, args) => {
                let above = Plan::Apply(Operation::Apply(Function::Max), all(&[&args[0], &args[1]]));
                Plan::Apply(Operation::Apply(Function::Min), [above].into_iter().chain(all(&[&args[2]])).collect())
            }
            Tree::Call(Function::Not, args) => {
                Plan::Apply(Operation::Apply(Function::Eq), all(&[&args[0], &Tree::Const(0.0)]))
            }
            Tree::Call(function, args) => {
                Plan::Apply(Operation::Apply(*function), all(&args.iter().collect::<Vec<_>>()))
            }
            Tree::Select(cond, then, otherwise) => Plan::Apply(Operation::Select, all(&[cond, then, otherwise])),
            Tree::Load(_) | Tree::Bounded { .. } | Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => {
                unreachable!("`frame` takes no such value that moves")
            }
        }
    }

    /// One number as a tile.
    pub(super) fn alone(&mut self, x: Value) -> Source {
        debug_assert_eq!(self.b.func.dfg.value_type(x), F32);
        let (slot, none) = (self.slot(4), self.constant(0));
        let at = self.b.ins().stack_addr(I64, slot, 0);
        self.b.ins().store(TRUSTED, x, at, 0);
        Source { at, row: none, lane: none }
    }
}

//! Tiles: which values are computed over two axes at a time by routines, and as which steps.
//!
//! ```text
//! map [i < n, j < m] x[i, j] = a[i] b[i, j] + c[j, i]     ->  turn(t, c)   mul_add(x, a, b, t)
//! ```

use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::{Access, Elem, Function, Int, Map, Module, Scan, Value as Tree};

use super::kernel::{Emitter, TRUSTED};
use super::place::Row;
use super::routine::Operation;
use super::value::varies;

/// Two axes of a statement: the rows of a tile and the elements of a row, along which the result lies densely.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// None where there is one row.
    pub(super) rows: Option<usize>,
    pub(super) lane: usize,
}

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

/// Elements below which a tile is not worth a call.
const FEW: i64 = 64;

/// The frame of a map; none where it is better written out.
pub(super) fn map_frame(module: &Module, map: &Map) -> Option<Frame> {
    let lane = dense(&map.dst, &map.axes)?;
    let rows = match map.below {
        Some(_) => Some(lane.checked_sub(1).filter(|_| lane + 1 == map.axes.len())?),
        None => (0..map.axes.len()).rev().find(|d| *d != lane && map.axes[*d] != Int::Const(1)),
    };
    let frame = Frame { rows, lane };
    is_tiled(module, &map.value, &map.axes, frame).then_some(frame)
}

/// The frame of a scan, whose rows are its steps.
pub(super) fn scan_frame(module: &Module, scan: &Scan) -> Option<Frame> {
    let axes: Vec<Int> = scan.axes.iter().chain([&scan.inner]).cloned().collect();
    let frame = Frame { rows: Some(scan.axes.len()), lane: dense(&scan.dst, &scan.axes)? };
    is_tiled(module, &scan.value, &axes, frame).then_some(frame)
}

/// The last axis along which an access lies densely.
fn dense(access: &Access, axes: &[Int]) -> Option<usize> {
    (0..axes.len()).rev().find(|d| access.strides[*d] == Int::Const(1) && axes[*d] != Int::Const(1))
}

/// Whether routines compute a value over a frame, and it is worth their calls.
pub(super) fn is_tiled(module: &Module, value: &Tree, axes: &[Int], frame: Frame) -> bool {
    let rows = frame.rows.map_or(&Int::Const(1), |rows| &axes[rows]);
    let much = match (rows, &axes[frame.lane]) {
        (Int::Const(rows), Int::Const(lane)) => rows * lane >= FEW && *lane >= 8,
        (Int::Const(1), _) => false,
        (_, Int::Const(lane)) => *lane >= 8,
        _ => true,
    };
    much && has_steps(module, value, frame)
}

fn has_steps(module: &Module, value: &Tree, frame: Frame) -> bool {
    let again = |x: &Tree| has_steps(module, x, frame);
    if !moves(value, frame) {
        return true;
    }
    match value {
        Tree::Load(access) => module.buffers[access.buffer.index()].elem == Elem::F32,
        Tree::Call(Function::Pow, args) => {
            matches!(args[1], Tree::Const(e) if e == 2.0 || e.abs() == 0.5) && again(&args[0])
        }
        Tree::Call(function, args) => {
            let known = matches!(function, Function::Clamp | Function::Not) || Operation::of(*function).is_some();
            known && args.iter().all(again)
        }
        Tree::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().all(|x| again(x)),
        Tree::Bounded { .. } | Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => false,
    }
}

/// Whether elements of a frame may differ.
fn moves(value: &Tree, frame: Frame) -> bool {
    varies(value, frame.lane) || frame.rows.is_some_and(|rows| varies(value, rows))
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
                unreachable!("`has_steps` takes no such value that moves")
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

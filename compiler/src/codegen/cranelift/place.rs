//! Where the elements of an access lie: the address of a row's first element, and the step from one to the next.

use cranelift_codegen::ir::types::{F32, F32X4, I32, I32X4, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::{Access, Elem, Int, Value as Tree};

use super::integer::Extent;
use super::kernel::{Emitter, TRUSTED};

/// A row: the elements of a statement along one axis, the positions on its other axes given.
#[derive(Clone, Copy)]
pub(super) struct Row<'r> {
    /// One an axis; none stands for 0.
    pub(super) index: &'r [Option<Value>],
    /// The axis along which the row lies; none where there is one element.
    pub(super) lane: Option<Lane>,
}

/// The part of an axis that a row covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) axis: usize,
    /// Its first position; none stands for 0.
    pub(super) start: Option<Value>,
    /// Elements, at least 1.
    pub(super) len: Extent,
}

/// Which elements of a row are at hand: `lanes` from byte `bytes + more` of a dense f32 row on.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) bytes: Option<Value>,
    pub(super) more: i32,
    /// 1 or 4.
    pub(super) lanes: u32,
}

impl At {
    /// The only element.
    pub(super) const ONE: At = At { bytes: None, more: 0, lanes: 1 };
}

/// From one element of a row to the next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Same,
    Dense,
    /// So many elements.
    Stride(Value),
}

/// A row of a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The address of its first element.
    pub(super) at: Value,
    pub(super) step: Step,
    pub(super) elem: Elem,
    /// All ones or 0: where 0, only the first 64 bytes are touched.
    pub(super) mask: Option<Value>,
}

impl Emitter<'_> {
    /// Computes the first element's address and the strides, before the statement's loops.
    pub(super) fn reach(&mut self, access: &Access) {
        for stride in access.strides.iter().filter(|stride| !matches!(stride, Int::Const(_))) {
            self.int(stride);
        }
        if self.places.contains_key(access) {
            return;
        }
        let at = self.first(access);
        self.places.insert(access.clone(), at);
    }

    /// The address of an access's first element.
    pub(super) fn first(&mut self, access: &Access) -> Value {
        let base = self.b.ins().load(I64, TRUSTED, self.block, (access.buffer.index() * 8) as i32);
        self.step_on(base, None, &access.offset)
    }

    /// `at` moved by `index` (1 if none) times a stride of elements of 4 bytes.
    fn step_on(&mut self, at: Value, index: Option<Value>, stride: &Int) -> Value {
        let moved = match (index, stride) {
            (_, Int::Const(0)) => return at,
            (None, Int::Const(n)) => return self.b.ins().iadd_imm_s(at, n * 4),
            (Some(index), Int::Const(n)) => self.b.ins().imul_imm_s(index, n * 4),
            (index, stride) => {
                let stride = self.int(stride);
                let elements = match index {
                    Some(index) => self.b.ins().imul(index, stride),
                    None => stride,
                };
                self.b.ins().ishl_imm_u(elements, 2)
            }
        };
        self.b.ins().iadd(at, moved)
    }

    /// The row of an access, reached before.
    pub(super) fn place(&mut self, access: &Access, row: &Row<'_>) -> Place {
        let mut at = *self.places.get(access).expect("a statement reaches its accesses first");
        let mut step = Step::Same;
        for (d, stride) in access.strides.iter().enumerate() {
            let lane = row.lane.filter(|lane| lane.axis == d);
            let index = lane.map_or(row.index[d], |lane| lane.start);
            if index.is_some() {
                at = self.step_on(at, index, stride);
            }
            if lane.is_some() {
                step = match stride {
                    Int::Const(0) => Step::Same,
                    Int::Const(1) => Step::Dense,
                    stride => Step::Stride(self.int(stride)),
                };
            }
        }
        Place { at, step, elem: self.module.buffers[access.buffer.index()].elem, mask: None }
    }

    /// The elements at hand, as f32.
    pub(super) fn load(&mut self, place: &Place, at: At) -> Value {
        let (one, four) = match place.elem {
            Elem::F32 => (F32, F32X4),
            Elem::I32 => (I32, I32X4),
        };
        let loaded = match place.step {
            Step::Same => {
                let x = self.b.ins().load(one, TRUSTED, place.at, 0);
                if at.lanes == 1 { x } else { self.b.ins().splat(four, x) }
            }
            Step::Dense => {
                let (from, more) = self.dense(place, at);
                self.b.ins().load(if at.lanes == 1 { one } else { four }, TRUSTED, from, more)
            }
            Step::Stride(stride) => {
                let mut from = self.strided(place.at, stride, at);
                let mut x = self.b.ins().load(one, TRUSTED, from, 0);
                if at.lanes > 1 {
                    let bytes = self.b.ins().ishl_imm_u(stride, 2);
                    x = self.b.ins().scalar_to_vector(four, x);
                    for lane in 1..4u8 {
                        from = self.b.ins().iadd(from, bytes);
                        let y = self.b.ins().load(one, TRUSTED, from, 0);
                        x = self.b.ins().insertlane(x, y, lane);
                    }
                }
                x
            }
        };
        match place.elem {
            Elem::F32 => loaded,
            Elem::I32 => self.b.ins().fcvt_from_sint(if at.lanes == 1 { F32 } else { F32X4 }, loaded),
        }
    }

    /// Writes f32 to the elements at hand; more than one lie densely.
    pub(super) fn store(&mut self, place: &Place, at: At, x: Value) {
        let (to, more) = match place.step {
            Step::Same => (place.at, 0),
            Step::Dense => self.dense(place, at),
            Step::Stride(stride) => (self.strided(place.at, stride, at), 0),
        };
        self.b.ins().store(TRUSTED, x, to, more);
    }

    fn dense(&mut self, place: &Place, at: At) -> (Value, i32) {
        let Some(mut bytes) = at.bytes else { return (place.at, at.more) };
        if let Some(mask) = place.mask {
            bytes = self.b.ins().band(bytes, mask);
        }
        (self.b.ins().iadd(place.at, bytes), at.more)
    }

    fn strided(&mut self, first: Value, stride: Value, at: At) -> Value {
        let Some(mut bytes) = at.bytes else { return first };
        if at.more != 0 {
            bytes = self.b.ins().iadd_imm_s(bytes, i64::from(at.more));
        }
        let moved = self.b.ins().imul(bytes, stride);
        self.b.ins().iadd(first, moved)
    }
}

/// Whether a value has bounded loads.
pub(super) fn bounded(value: &Tree) -> bool {
    match value {
        Tree::Bounded { .. } => true,
        Tree::Load(_) | Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => false,
        Tree::Call(_, args) => args.iter().any(bounded),
        Tree::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().any(|x| bounded(x)),
    }
}

/// Whether an access lies densely along an axis.
pub(super) fn is_dense(access: &Access, axis: usize) -> bool {
    access.strides.get(axis) == Some(&Int::Const(1))
}

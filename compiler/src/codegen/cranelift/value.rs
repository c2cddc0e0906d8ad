//! Values: element-wise expressions. A row's expression is first prepared (`node`: what all elements share is computed,
//! rows of `exp` and its like are called for), then evaluated for one or four elements at a time.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::frame::varies;
use crate::kernel::{Access, Function, Int, Position, Value as Tree};

use super::kernel::Emitter;
use super::math;
use super::place::{At, Place, Row, Step, is_dense};
use super::routine::is_called;

/// An expression over a row, prepared.
pub(super) enum Node {
    /// The same for all elements: as a scalar, and in four lanes where the node lies on a row.
    Same(Value, Option<Value>),
    Load(Place),
    /// A load bounded by a position that differs along the row.
    Guarded {
        place: Place,
        position: Value,
        stride: Value,
        length: Value,
    },
    /// The position along the row, of its first element.
    Position(Value),
    Call(Function, Vec<Node>),
    /// To a constant exponent that multiplications or a root do.
    Power(Box<Node>, f64),
    Select(Box<[Node; 3]>),
}

impl Emitter<'_> {
    /// Prepares an expression, before the loops over its row.
    pub(super) fn node(&mut self, value: &Tree, row: &Row<'_>) -> Node {
        if let Some(lane) = row.lane
            && !varies(value, lane.axis)
        {
            let one = self.single(value, row);
            let four = self.b.ins().splat(F32X4, one);
            return Node::Same(one, Some(four));
        }
        match value {
            Tree::Load(access) => Node::Load(self.place(access, row)),
            Tree::Bounded { access, position, length } => self.guard(access, position, length, row),
            Tree::Const(c) => Node::Same(self.b.ins().f32const(*c as f32), None),
            Tree::Int(Int::Const(n)) => Node::Same(self.b.ins().f32const(*n as f32), None),
            Tree::Int(x) => {
                let n = self.int(x);
                Node::Same(self.b.ins().fcvt_from_sint(F32, n), None)
            }
            Tree::Axis(d) => {
                let lane = row.lane.filter(|lane| lane.axis == *d);
                let index = lane.map_or(row.index[*d], |lane| lane.start);
                let first = match index {
                    Some(index) => self.b.ins().fcvt_from_sint(F32, index),
                    None => self.b.ins().f32const(0.0),
                };
                if lane.is_some() { Node::Position(first) } else { Node::Same(first, None) }
            }
            Tree::Call(Function::Pow, args) if math::is_product(&args[1]).is_some() => {
                let exponent = math::is_product(&args[1]).expect("the pattern says so");
                Node::Power(Box::new(self.node(&args[0], row)), exponent)
            }
            Tree::Call(function, args) if is_called(*function) => self.called(*function, args, row),
            Tree::Call(function, args) => Node::Call(*function, args.iter().map(|x| self.node(x, row)).collect()),
            Tree::Select(cond, then, otherwise) => {
                Node::Select(Box::new([cond, then, otherwise].map(|x| self.node(x, row))))
            }
        }
    }

    /// The one value of an expression that is the same for all elements of a row.
    pub(super) fn single(&mut self, value: &Tree, row: &Row<'_>) -> Value {
        let start = row.lane.and_then(|lane| Some((lane.axis, lane.start?)));
        let mut index = row.index.to_vec();
        if let Some((axis, start)) = start {
            index[axis] = Some(start);
        }
        let node = self.node(value, &Row { index: &index, lane: None });
        self.eval(&node, At::ONE)
    }

    fn guard(&mut self, access: &Access, position: &Position, length: &Int, row: &Row<'_>) -> Node {
        let mut place = self.place(access, row);
        let mut first = self.int(&position.base);
        let mut along = None;
        for (d, stride) in position.strides.iter().enumerate() {
            let lane = row.lane.filter(|lane| lane.axis == d);
            let index = lane.map_or(row.index[d], |lane| lane.start);
            if *stride == Int::Const(0) {
                continue;
            }
            let stride = self.int(stride);
            if lane.is_some() {
                along = Some(stride);
            }
            if let Some(index) = index {
                let moved = self.b.ins().imul(index, stride);
                first = self.b.ins().iadd(first, moved);
            }
        }
        let (length, none) = (self.int(length), self.constant(0));
        let length = self.b.ins().smax(length, none);
        if let Some(stride) = along {
            return Node::Guarded { place, position: first, stride, length };
        }
        // Outside, the row is one of zeros: no element but the first is read, again and again.
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, first, length);
        let zeros = self.zeros.expect("a kernel with bounded loads has zeros");
        place.at = self.b.ins().select(inside, place.at, zeros);
        match place.step {
            Step::Same => {}
            Step::Dense => {
                let all = self.constant(-1);
                place.mask = Some(self.b.ins().select(inside, all, none));
            }
            Step::Stride(stride) => place.step = Step::Stride(self.b.ins().select(inside, stride, none)),
        }
        Node::Load(place)
    }

    /// The elements at hand: f32 or f32x4.
    pub(super) fn eval(&mut self, node: &Node, at: At) -> Value {
        match node {
            Node::Same(one, four) => match (at.lanes, four) {
                (1, _) => *one,
                (_, Some(four)) => *four,
                (_, None) => self.b.ins().splat(F32X4, *one),
            },
            Node::Load(place) => self.load(place, at),
            Node::Guarded { place, position, stride, length } => self.guarded(place, (*position, *stride, *length), at),
            Node::Position(first) => self.position(*first, at),
            Node::Call(function, _) if function.is_condition() => {
                let holds = self.truth(node, at);
                let (yes, no) = (self.float(1.0, at), self.float(0.0, at));
                math::choose(&mut self.b, holds, yes, no)
            }
            Node::Call(function, args) => {
                let args: Vec<Value> = args.iter().map(|x| self.eval(x, at)).collect();
                math::call(&mut self.b, *function, &args)
            }
            Node::Power(x, exponent) => {
                let x = self.eval(x, at);
                math::power(&mut self.b, x, *exponent)
            }
            Node::Select(parts) => {
                let [cond, then, otherwise] = &**parts;
                let holds = self.truth(cond, at);
                let (then, otherwise) = (self.eval(then, at), self.eval(otherwise, at));
                math::choose(&mut self.b, holds, then, otherwise)
            }
        }
    }

    /// Where the value is not 0: an i8, or lanes of all ones.
    fn truth(&mut self, node: &Node, at: At) -> Value {
        use Function::*;
        if let Node::Call(function, args) = node {
            let how = match function {
                Not => {
                    let x = self.truth(&args[0], at);
                    return math::not(&mut self.b, x);
                }
                And | Or => {
                    let (x, y) = (self.truth(&args[0], at), self.truth(&args[1], at));
                    return if *function == And { self.b.ins().band(x, y) } else { self.b.ins().bor(x, y) };
                }
                Lt => Some(FloatCC::LessThan),
                Le => Some(FloatCC::LessThanOrEqual),
                Gt => Some(FloatCC::GreaterThan),
                Ge => Some(FloatCC::GreaterThanOrEqual),
                Eq => Some(FloatCC::Equal),
                Ne => Some(FloatCC::NotEqual),
                _ => None,
            };
            if let Some(how) = how {
                let (x, y) = (self.eval(&args[0], at), self.eval(&args[1], at));
                return self.b.ins().fcmp(how, x, y);
            }
        }
        let (x, zero) = (self.eval(node, at), self.float(0.0, at));
        self.b.ins().fcmp(FloatCC::NotEqual, x, zero)
    }

    fn float(&mut self, x: f32, at: At) -> Value {
        let one = self.b.ins().f32const(x);
        if at.lanes == 1 { one } else { self.b.ins().splat(F32X4, one) }
    }

    /// The element's number in its row.
    fn number(&mut self, at: At) -> Value {
        match at.bytes {
            Some(bytes) => {
                let n = self.b.ins().sshr_imm_u(bytes, 2);
                self.b.ins().iadd_imm_s(n, i64::from(at.more / 4))
            }
            None => self.constant(i64::from(at.more / 4)),
        }
    }

    fn guarded(&mut self, place: &Place, (first, stride, length): (Value, Value, Value), at: At) -> Value {
        let n = self.number(at);
        let moved = self.b.ins().imul(n, stride);
        let position = self.b.ins().iadd(first, moved);
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, position, length);
        let from = match place.step {
            Step::Same => place.at,
            Step::Dense => {
                let bytes = self.b.ins().ishl_imm_u(n, 2);
                self.b.ins().iadd(place.at, bytes)
            }
            Step::Stride(stride) => {
                let moved = self.b.ins().imul(n, stride);
                let bytes = self.b.ins().ishl_imm_u(moved, 2);
                self.b.ins().iadd(place.at, bytes)
            }
        };
        let zeros = self.zeros.expect("a kernel with bounded loads has zeros");
        let from = self.b.ins().select(inside, from, zeros);
        self.load(&Place { at: from, step: Step::Same, ..*place }, At::ONE)
    }

    fn position(&mut self, first: Value, at: At) -> Value {
        let n = self.number(at);
        let n = self.b.ins().fcvt_from_sint(F32, n);
        let n = self.b.ins().fadd(first, n);
        if at.lanes == 1 {
            return n;
        }
        let mut four = self.b.ins().splat(F32X4, n);
        for lane in 1..4u8 {
            let more = self.b.ins().f32const(f32::from(lane));
            let next = self.b.ins().fadd(n, more);
            four = self.b.ins().insertlane(four, next, lane);
        }
        four
    }
}

/// Whether four elements of a row can be computed at a time.
pub(super) fn fits_lanes(value: &Tree, axis: usize) -> bool {
    match value {
        Tree::Bounded { position, .. } => position.strides[axis] == Int::Const(0),
        Tree::Load(_) | Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => true,
        Tree::Call(_, args) => args.iter().all(|x| fits_lanes(x, axis)),
        Tree::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().all(|x| fits_lanes(x, axis)),
    }
}

/// How many of a value's accesses lie densely along an axis, and how many move otherwise.
pub(super) fn steps(value: &Tree, axis: usize) -> (usize, usize) {
    match value {
        Tree::Load(access) | Tree::Bounded { access, .. } => match &access.strides[axis] {
            _ if is_dense(access, axis) => (1, 0),
            Int::Const(0) => (0, 0),
            _ => (0, 1),
        },
        Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => (0, 0),
        Tree::Call(_, args) => args.iter().map(|x| steps(x, axis)).fold((0, 0), both),
        Tree::Select(cond, then, otherwise) => {
            [cond, then, otherwise].into_iter().map(|x| steps(x, axis)).fold((0, 0), both)
        }
    }
}

fn both(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0 + b.0, a.1 + b.1)
}

//! Values: element-wise expressions on the lanes of one vector, and the accesses they read and write.

use crate::kernel::{Access, Elem, Function, Int, Position, Value};

use super::kernel::Emitter;
use super::math;
use super::text::constant;

/// Where on a statement's axes the lanes stand.
pub(super) struct Point {
    /// Operands, one an axis: the position of the first lane.
    pub(super) index: Vec<String>,
    /// The axis along which the lanes lie; none where there is one lane.
    pub(super) lane: Option<usize>,
    /// Lanes that count; the others read and write nothing.
    pub(super) mask: Option<String>,
}

/// How the lanes of an access lie in memory.
enum Spread {
    Same,
    Dense,
    Stride(String),
}

impl Emitter<'_> {
    /// A float vector.
    pub(super) fn value(&mut self, value: &Value, point: &Point) -> String {
        match value {
            Value::Load(access) => self.load(access, point, None),
            Value::Bounded { access, position, length } => self.bounded(access, position, length, point),
            Value::Const(c) => constant(*c),
            Value::Int(Int::Const(n)) => constant(*n as f64),
            Value::Int(x) => {
                let n = self.int(x);
                let n = self.t.set(format_args!("sitofp i64 {n} to float"));
                self.t.splat("float", &n)
            }
            Value::Axis(d) => self.axis(*d, point),
            Value::Call(Function::Pow, args) => self.power(args, point),
            Value::Call(function, args) if is_condition(*function) => {
                let cond = self.condition(*function, args, point);
                self.t.select(&cond, &constant(1.0), &constant(0.0))
            }
            Value::Call(function, args) => {
                let args: Vec<String> = args.iter().map(|x| self.value(x, point)).collect();
                math::call(&mut self.t, *function, &args)
            }
            Value::Select(cond, then, otherwise) => {
                let cond = self.truth(cond, point);
                let (then, otherwise) = (self.value(then, point), self.value(otherwise, point));
                self.t.select(&cond, &then, &otherwise)
            }
        }
    }

    fn power(&mut self, args: &[Value], point: &Point) -> String {
        let x = self.value(&args[0], point);
        if let Value::Const(exponent) = args[1]
            && let Some(result) = math::power(&mut self.t, &x, exponent)
        {
            return result;
        }
        let y = self.value(&args[1], point);
        math::call(&mut self.t, Function::Pow, &[x, y])
    }

    /// A vector of i1: where the value is not 0.
    fn truth(&mut self, value: &Value, point: &Point) -> String {
        match value {
            Value::Call(function, args) if is_condition(*function) => self.condition(*function, args, point),
            _ => {
                let x = self.value(value, point);
                self.t.compare("une", &x, &constant(0.0))
            }
        }
    }

    fn condition(&mut self, function: Function, args: &[Value], point: &Point) -> String {
        let bools = self.t.vector("i1");
        match function {
            Function::Not => {
                let x = self.truth(&args[0], point);
                self.t.set(format_args!("xor {bools} {x}, splat (i1 true)"))
            }
            Function::And | Function::Or => {
                let (a, b) = (self.truth(&args[0], point), self.truth(&args[1], point));
                let op = if function == Function::And { "and" } else { "or" };
                self.t.set(format_args!("{op} {bools} {a}, {b}"))
            }
            _ => {
                let how = match function {
                    Function::Lt => "olt",
                    Function::Le => "ole",
                    Function::Gt => "ogt",
                    Function::Ge => "oge",
                    Function::Eq => "oeq",
                    _ => "une",
                };
                let (a, b) = (self.value(&args[0], point), self.value(&args[1], point));
                self.t.compare(how, &a, &b)
            }
        }
    }

    fn axis(&mut self, d: usize, point: &Point) -> String {
        let first = self.t.set(format_args!("trunc i64 {} to i32", point.index[d]));
        let mut at = self.t.splat("i32", &first);
        let (ints, floats) = (self.t.vector("i32"), self.t.floats());
        if point.lane == Some(d) {
            let iota = self.t.iota("i32");
            at = self.t.set(format_args!("add {ints} {at}, {iota}"));
        }
        self.t.set(format_args!("sitofp {ints} {at} to {floats}"))
    }

    /// `base + sum of strides * index` of the first lane.
    fn affine(&mut self, base: &Int, strides: &[Int], point: &Point) -> String {
        let mut sum = self.int(base);
        for (stride, index) in strides.iter().zip(&point.index) {
            let stride = self.int(stride);
            let part = self.t.mul(index, &stride);
            sum = self.t.add(&sum, &part);
        }
        sum
    }

    fn spread(&mut self, strides: &[Int], point: &Point) -> Spread {
        match point.lane.filter(|_| self.t.lanes > 1).and_then(|d| strides.get(d)) {
            None | Some(Int::Const(0)) => Spread::Same,
            Some(Int::Const(1)) => Spread::Dense,
            Some(stride) => Spread::Stride(self.int(stride)),
        }
    }

    fn bounded(&mut self, access: &Access, position: &Position, length: &Int, point: &Point) -> String {
        let first = self.affine(&position.base, &position.strides, point);
        let length = self.int(length);
        let same = matches!(self.spread(&position.strides, point), Spread::Same);
        let t = &mut self.t;
        if same {
            let low = t.set(format_args!("icmp sge i64 {first}, 0"));
            let high = t.less(&first, &length);
            let inside = t.set(format_args!("and i1 {low}, {high}"));
            return self.load(access, point, Some(Inside::All(inside)));
        }
        let d = point.lane.expect("lanes that differ lie along an axis");
        let stride = self.int(&position.strides[d]);
        let t = &mut self.t;
        let (longs, bools) = (t.vector("i64"), t.vector("i1"));
        let at = self.lanes_at(&first, &stride);
        let t = &mut self.t;
        let length = t.splat("i64", &length);
        let low = t.set(format_args!("icmp sge {longs} {at}, zeroinitializer"));
        let high = t.set(format_args!("icmp slt {longs} {at}, {length}"));
        let inside = t.set(format_args!("and {bools} {low}, {high}"));
        self.load(access, point, Some(Inside::Each(inside)))
    }

    /// first + stride * lane
    fn lanes_at(&mut self, first: &str, stride: &str) -> String {
        let (longs, iota) = (self.t.vector("i64"), self.t.iota("i64"));
        let stride = self.t.splat("i64", stride);
        let steps = self.t.set(format_args!("mul {longs} {stride}, {iota}"));
        let first = self.t.splat("i64", first);
        self.t.set(format_args!("add {longs} {first}, {steps}"))
    }

    /// The lanes of an access; 0 where `inside` does not hold.
    fn load(&mut self, access: &Access, point: &Point, inside: Option<Inside>) -> String {
        let elem = match self.module.buffers[access.buffer.index()].elem {
            Elem::F32 => "float",
            Elem::I32 => "i32",
        };
        let first = self.affine(&access.offset, &access.strides, point);
        let base = format!("%b{}", access.buffer.0);
        let spread = self.spread(&access.strides, point);
        let loaded = match (spread, &inside) {
            (Spread::Same, None | Some(Inside::All(_))) => {
                let mut from = self.t.element(&base, &first);
                if let Some(Inside::All(cond)) = &inside {
                    from = self.t.set(format_args!("select i1 {cond}, ptr {from}, ptr @zero"));
                }
                let x = self.t.set(format_args!("load {elem}, ptr {from}, align 4"));
                self.t.splat(elem, &x)
            }
            (Spread::Dense, _) => {
                let (from, ty) = (self.t.element(&base, &first), self.t.vector(elem));
                match self.mask(point, inside) {
                    None => self.t.set(format_args!("load {ty}, ptr {from}, align 4")),
                    Some(mask) => self.masked_load(elem, &from, &mask),
                }
            }
            (spread, _) => {
                let stride = if let Spread::Stride(stride) = spread { stride } else { "0".to_owned() };
                let mask = self.mask(point, inside);
                self.gather(elem, &base, &first, &stride, mask)
            }
        };
        if elem == "float" {
            return loaded;
        }
        let (ints, floats) = (self.t.vector("i32"), self.t.floats());
        self.t.set(format_args!("sitofp {ints} {loaded} to {floats}"))
    }

    /// The lanes to touch, if not all.
    fn mask(&mut self, point: &Point, inside: Option<Inside>) -> Option<String> {
        let inside = inside.map(|inside| match inside {
            Inside::All(cond) => self.t.splat("i1", &cond),
            Inside::Each(mask) => mask,
        });
        match (inside, &point.mask) {
            (None, mask) => mask.clone(),
            (inside, None) => inside,
            (Some(inside), Some(mask)) => {
                let bools = self.t.vector("i1");
                Some(self.t.set(format_args!("and {bools} {inside}, {mask}")))
            }
        }
    }

    fn masked_load(&mut self, elem: &str, from: &str, mask: &str) -> String {
        let (ty, bools, name) = (self.t.vector(elem), self.t.vector("i1"), suffix(self.t.lanes, elem));
        self.t.set(format_args!(
            "call {ty} @llvm.masked.load.{name}.p0(ptr align 4 {from}, {bools} {mask}, {ty} zeroinitializer)"
        ))
    }

    fn pointers(&mut self, base: &str, first: &str, stride: &str) -> String {
        let longs = self.t.vector("i64");
        let from = self.t.element(base, first);
        let at = self.lanes_at("0", stride);
        self.t.set(format_args!("getelementptr float, ptr {from}, {longs} {at}"))
    }

    fn gather(&mut self, elem: &str, base: &str, first: &str, stride: &str, mask: Option<String>) -> String {
        let at = self.pointers(base, first, stride);
        let (ty, ptrs, bools) = (self.t.vector(elem), self.t.vector("ptr"), self.t.vector("i1"));
        let (n, name) = (self.t.lanes, suffix(self.t.lanes, elem));
        let mask = mask.unwrap_or_else(|| "splat (i1 true)".to_owned());
        self.t.set(format_args!(
            "call {ty} @llvm.masked.gather.{name}.v{n}p0({ptrs} align 4 {at}, {bools} {mask}, {ty} zeroinitializer)"
        ))
    }

    /// Writes a float vector to the lanes of an access.
    pub(super) fn store(&mut self, access: &Access, point: &Point, x: &str) {
        let first = self.affine(&access.offset, &access.strides, point);
        let base = format!("%b{}", access.buffer.0);
        let (floats, bools, n) = (self.t.floats(), self.t.vector("i1"), self.t.lanes);
        if n == 1 {
            let (to, x) =
                (self.t.element(&base, &first), self.t.set(format_args!("extractelement {floats} {x}, i32 0")));
            return self.t.run(format_args!("store float {x}, ptr {to}, align 4"));
        }
        match self.spread(&access.strides, point) {
            Spread::Dense => {
                let to = self.t.element(&base, &first);
                match &point.mask {
                    None if self.streaming => {
                        self.t.run(format_args!("store {floats} {x}, ptr {to}, align 64, !nontemporal !2"))
                    }
                    None => self.t.run(format_args!("store {floats} {x}, ptr {to}, align 4")),
                    Some(mask) => self.t.run(format_args!(
                        "call void @llvm.masked.store.v{n}f32.p0({floats} {x}, ptr align 4 {to}, {bools} {mask})"
                    )),
                }
            }
            spread => {
                let stride = if let Spread::Stride(stride) = spread { stride } else { "0".to_owned() };
                let at = self.pointers(&base, &first, &stride);
                let (ptrs, mask) = (self.t.vector("ptr"), point.mask.clone().unwrap_or("splat (i1 true)".to_owned()));
                self.t.run(format_args!(
                    "call void @llvm.masked.scatter.v{n}f32.v{n}p0({floats} {x}, {ptrs} align 4 {at}, {bools} {mask})"
                ));
            }
        }
    }
}

/// A condition on what is read: of all lanes alike, or of each.
enum Inside {
    All(String),
    Each(String),
}

fn suffix(lanes: u32, elem: &str) -> String {
    format!("v{lanes}{}", if elem == "float" { "f32" } else { "i32" })
}

fn is_condition(function: Function) -> bool {
    use Function::*;
    matches!(function, Lt | Le | Gt | Ge | Eq | Ne | And | Or | Not)
}

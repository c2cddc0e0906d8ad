//! Values of elements, and the accesses that they read and write.

use crate::kernel::{Access, Function, Int, Position, Value, visit};

use super::Stored;
use super::dialect::{integer, number};
use super::math::{self, Routine};
use super::memory::Home;
use super::product::Rounds;
use super::shader::Emitter;

/// An access whose integers have names: `array[base + stride * index + ..]`.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    array: String,
    /// Summands.
    base: Vec<String>,
    /// Texts of the strides: constants or names.
    strides: Vec<String>,
    stored: Stored,
    /// Whether what is loaded is rounded to f16.
    rounded: bool,
}

impl Spot {
    /// The place in the array.
    fn place(&self, index: &[String]) -> String {
        let mut parts = self.base.clone();
        for (stride, i) in self.strides.iter().zip(index) {
            match (stride.as_str(), i.as_str()) {
                ("0", _) | (_, "0") => {}
                ("1", i) => parts.push(i.to_owned()),
                (stride, i) => parts.push(format!("{stride} * {i}")),
            }
        }
        if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") }
    }

    /// The element as an f32.
    pub(super) fn load(&self, index: &[String]) -> String {
        let element = format!("{}[{}]", self.array, self.place(index));
        self.number(element)
    }

    fn number(&self, element: String) -> String {
        let element = if self.stored == Stored::F32 { element } else { format!("f32({element})") };
        if self.rounded { format!("f32(half({element}))") } else { element }
    }

    /// Whether elements along an axis are next to each other.
    pub(super) fn unit(&self, axis: usize) -> bool {
        self.strides[axis] == "1"
    }

    /// The same where `inside` holds, else 0; nothing else is read.
    pub(super) fn load_if(&self, index: &[String], inside: &str) -> String {
        let element = format!("{}[select(0, {}, {inside})]", self.array, self.place(index));
        let element = self.number(element);
        format!("select(0.0f, {element}, {inside})")
    }
}

impl Emitter<'_> {
    /// Gives names to an access's integers.
    pub(super) fn spot(&mut self, access: &Access) -> Spot {
        let strides = access.strides.iter().map(|x| self.hoist(x)).collect();
        let constant = |at: &u64| Int::Const(*at as i64);
        let (array, first, shift) = match self.memory.homes.get(&access.buffer) {
            Some(Home::Workgroup { at, .. }) => ("w".to_owned(), None, constant(at)),
            Some(Home::Spill { at, .. }) => ("spill".to_owned(), Some("spilled".to_owned()), constant(at)),
            Some(Home::Late { at }) => ("spill".to_owned(), Some("late".to_owned()), at.clone()),
            None => match self.frame.table.slot(access.buffer) {
                Some(slot) => (format!("b{}", slot.binding), slot.offset.map(|word| format!("o{word}")), Int::Const(0)),
                None => ("w".to_owned(), None, Int::Const(0)),
            },
        };
        let offset = self.hoist(&(access.offset.clone() + shift));
        let base = first.into_iter().chain((offset != "0").then_some(offset)).collect();
        Spot { array, base, strides, stored: self.stored(access), rounded: false }
    }

    /// A factor of a product that rounds its factors, or does not.
    pub(super) fn factor(&mut self, access: &Access, rounds: Rounds) -> Spot {
        let spot = self.spot(access);
        let rounded = rounds == Rounds::Factors && spot.stored != Stored::F16;
        if rounded {
            self.needs.insert(Routine::Half);
        }
        Spot { rounded, ..spot }
    }

    /// The access with one index set: an access of the other axes.
    pub(super) fn at(&mut self, spot: &Spot, axis: usize, index: &str) -> Spot {
        let mut indices = vec!["0".to_owned(); spot.strides.len()];
        indices[axis] = index.to_owned();
        let base = self.t.set("at", spot.place(&indices));
        let mut rest = spot.clone();
        rest.strides.remove(axis);
        rest.base = vec![base];
        rest
    }

    pub(super) fn store(&mut self, spot: &Spot, index: &[String], x: &str) {
        let x = match spot.stored {
            Stored::F16 => {
                self.needs.insert(Routine::Half);
                format!("half({x})")
            }
            Stored::F32 | Stored::I32 => x.to_owned(),
        };
        self.t.line(format_args!("{}[{}] = {x};", spot.array, spot.place(index)));
    }

    /// Names all integers of a value, so that none is worked out again for every element.
    pub(super) fn prepare(&mut self, value: &Value) {
        let mut accesses = Vec::new();
        visit::accesses(value, &mut |access| accesses.push(access));
        for access in accesses {
            self.spot(access);
        }
        self.prepare_ints(value);
    }

    fn prepare_ints(&mut self, value: &Value) {
        match value {
            Value::Int(x) => {
                self.hoist(x);
            }
            Value::Bounded { position, length, .. } => {
                [&position.base, length].into_iter().chain(&position.strides).for_each(|x| {
                    self.hoist(x);
                });
            }
            Value::Load(_) | Value::Const(_) | Value::Axis(_) => {}
            Value::Call(_, args) => args.iter().for_each(|x| self.prepare_ints(x)),
            Value::Select(cond, then, otherwise) => {
                [cond, then, otherwise].into_iter().for_each(|x| self.prepare_ints(x));
            }
        }
    }

    /// An f32 expression: the value at a point of the statement's axes.
    pub(super) fn value(&mut self, value: &Value, index: &[String]) -> String {
        match value {
            Value::Load(access) => self.spot(access).load(index),
            Value::Bounded { access, position, length } => self.bounded(access, position, length, index),
            Value::Const(c) => self.number(*c),
            Value::Int(x) => {
                let n = self.hoist(x);
                format!("f32({n})")
            }
            Value::Axis(d) => format!("f32({})", index[*d]),
            Value::Call(Function::Pow, args) => self.power(args, index),
            Value::Call(function, args) if function.is_condition() => {
                let cond = self.condition(*function, args, index);
                format!("select(0.0f, 1.0f, {cond})")
            }
            Value::Call(function, args) => {
                let mut args: Vec<String> = args.iter().map(|x| self.value(x, index)).collect();
                if matches!(function, Function::Silu | Function::Relu | Function::ExpOfRest | Function::RestLost) {
                    args[0] = self.atom(&args[0]);
                }
                let (text, routine) = math::call(*function, &args);
                self.needs.extend(routine);
                if *function == Function::Clamp {
                    self.needs.insert(Routine::Max);
                }
                text
            }
            Value::Select(cond, then, otherwise) => {
                let cond = self.truth(cond, index);
                let (then, otherwise) = (self.value(then, index), self.value(otherwise, index));
                format!("select({otherwise}, {then}, {cond})")
            }
        }
    }

    fn number(&mut self, c: f64) -> String {
        if c.is_nan() {
            self.needs.insert(Routine::Nan);
        }
        number(c)
    }

    /// A name for an expression that is used more than once.
    fn atom(&mut self, text: &str) -> String {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            text.to_owned()
        } else {
            self.t.set("x", text)
        }
    }

    fn power(&mut self, args: &[Value], index: &[String]) -> String {
        let x = self.value(&args[0], index);
        if let Value::Const(exponent) = args[1] {
            let x = self.atom(&x);
            if let Some(result) = math::power(&x, exponent) {
                return result;
            }
        }
        let y = self.value(&args[1], index);
        self.needs.insert(Routine::Pow);
        format!("f_pow({x}, {y})")
    }

    /// A bool expression: whether the value is not 0.
    fn truth(&mut self, value: &Value, index: &[String]) -> String {
        match value {
            Value::Call(function, args) if function.is_condition() => self.condition(*function, args, index),
            _ => {
                let x = self.value(value, index);
                format!("(!({x} == 0.0f))")
            }
        }
    }

    fn condition(&mut self, function: Function, args: &[Value], index: &[String]) -> String {
        match function {
            Function::Not => {
                let x = self.truth(&args[0], index);
                format!("(!{x})")
            }
            Function::And | Function::Or => {
                let (a, b) = (self.truth(&args[0], index), self.truth(&args[1], index));
                format!("({a} {} {b})", if function == Function::And { "&" } else { "|" })
            }
            _ => {
                let (a, b) = (self.value(&args[0], index), self.value(&args[1], index));
                // naga's `!=` is false where either is NaN.
                match function {
                    Function::Ne => format!("(!({a} == {b}))"),
                    _ => format!("({a} {} {b})", function.name()),
                }
            }
        }
    }

    fn bounded(&mut self, access: &Access, position: &Position, length: &Int, index: &[String]) -> String {
        let mut parts = vec![self.hoist(&position.base)];
        for (stride, i) in position.strides.iter().zip(index) {
            match stride {
                Int::Const(0) => {}
                Int::Const(1) => parts.push(i.clone()),
                Int::Const(n) => parts.push(format!("{} * {i}", integer(*n))),
                _ => parts.push(format!("{} * {i}", self.hoist(stride))),
            }
        }
        let length = self.hoist(length);
        let at = self.t.set("at", parts.join(" + "));
        let inside = self.t.set("in", format_args!("{at} >= 0 && {at} < {length}"));
        self.spot(access).load_if(index, &inside)
    }
}

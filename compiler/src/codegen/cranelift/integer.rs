//! Integers of the kernel IR, and the extents of axes.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::Int;

use super::kernel::{Emitter, TRUSTED};

/// How long an axis is, never negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) value: Value,
    /// Where it is a constant.
    pub(super) known: Option<i64>,
}

impl Extent {
    /// Whether whole vectors cover it.
    pub(super) fn is_whole(&self) -> bool {
        self.known.is_some_and(|n| n % 4 == 0)
    }
}

impl Emitter<'_> {
    pub(super) fn constant(&mut self, n: i64) -> Value {
        self.b.ins().iconst(I64, n)
    }

    pub(super) fn extent(&mut self, x: &Int) -> Extent {
        if let Int::Const(n) = x {
            let n = *n.max(&0);
            return Extent { value: self.constant(n), known: Some(n) };
        }
        let (n, zero) = (self.int(x), self.constant(0));
        Extent { value: self.b.ins().smax(n, zero), known: None }
    }

    /// An i64. Computed once a statement: the first use must stand before the statement's loops (`hoist`).
    pub(super) fn int(&mut self, x: &Int) -> Value {
        if let Int::Var(id) = x {
            let bound = self.vars.iter().rev().find(|(number, _)| *number == id.0);
            return bound.map(|(_, value)| *value).expect("a checked kernel binds its variables");
        }
        if let Some(value) = self.ints.get(x) {
            return *value;
        }
        let value = self.compute(x);
        self.ints.insert(x.clone(), value);
        value
    }

    fn compute(&mut self, x: &Int) -> Value {
        match x {
            Int::Const(n) => self.constant(*n),
            Int::Param(id) => {
                let slot = self.module.buffers.len() + id.index();
                self.b.ins().load(I64, TRUSTED, self.block, (slot * 8) as i32)
            }
            Int::Var(_) => self.int(x),
            Int::Load(of) => {
                let at = self.int(&of.at);
                let base = self.b.ins().load(I64, TRUSTED, self.block, (of.buffer.index() * 8) as i32);
                let bytes = self.b.ins().ishl_imm_u(at, 2);
                let element = self.b.ins().iadd(base, bytes);
                let number = self.b.ins().load(F32, TRUSTED, element, 0);
                self.b.ins().fcvt_to_sint_sat(I64, number)
            }
            Int::Add(a, b) => match (&**a, &**b) {
                (a, Int::Const(n)) | (Int::Const(n), a) => {
                    let a = self.int(a);
                    self.b.ins().iadd_imm_s(a, *n)
                }
                (a, b) => {
                    let (a, b) = (self.int(a), self.int(b));
                    self.b.ins().iadd(a, b)
                }
            },
            Int::Sub(a, b) => match &**b {
                Int::Const(n) if *n != i64::MIN => {
                    let a = self.int(a);
                    self.b.ins().iadd_imm_s(a, -n)
                }
                b => {
                    let (a, b) = (self.int(a), self.int(b));
                    self.b.ins().isub(a, b)
                }
            },
            Int::Mul(a, b) => match (&**a, &**b) {
                (a, Int::Const(n)) | (Int::Const(n), a) => {
                    let a = self.int(a);
                    self.b.ins().imul_imm_s(a, *n)
                }
                (a, b) => {
                    let (a, b) = (self.int(a), self.int(b));
                    self.b.ins().imul(a, b)
                }
            },
            Int::Div(a, b) => self.quotient(a, b),
            Int::Mod(a, b) => self.remainder(a, b),
            Int::Min(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.b.ins().smin(a, b)
            }
            Int::Max(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.b.ins().smax(a, b)
            }
        }
    }

    /// The quotient whose remainder is never negative; by 0 it is 0, as `Int::eval` has it.
    fn quotient(&mut self, a: &Int, b: &Int) -> Value {
        if let Int::Const(n) = b
            && *n > 0
            && n.count_ones() == 1
        {
            let a = self.int(a);
            return self.b.ins().sshr_imm_u(a, i64::from(n.trailing_zeros()));
        }
        let Division { a, by, zero, negative } = self.division(a, b);
        let rounded = self.b.ins().sdiv(a, by);
        let backward = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, by, 0);
        let (one, minus, none) = (self.constant(1), self.constant(-1), self.constant(0));
        let unit = self.b.ins().select(backward, minus, one);
        let off = self.b.ins().select(negative, unit, none);
        let result = self.b.ins().isub(rounded, off);
        self.b.ins().select(zero, none, result)
    }

    fn remainder(&mut self, a: &Int, b: &Int) -> Value {
        if let Int::Const(n) = b
            && *n > 0
            && n.count_ones() == 1
        {
            let a = self.int(a);
            return self.b.ins().band_imm_s(a, n - 1);
        }
        let Division { a, by, zero, negative } = self.division(a, b);
        let remainder = self.b.ins().srem(a, by);
        let (size, none) = (self.b.ins().iabs(by), self.constant(0));
        let off = self.b.ins().select(negative, size, none);
        let result = self.b.ins().iadd(remainder, off);
        self.b.ins().select(zero, none, result)
    }

    fn division(&mut self, a: &Int, b: &Int) -> Division {
        let (a, b) = (self.int(a), self.int(b));
        let zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let one = self.constant(1);
        let by = self.b.ins().select(zero, one, b);
        let remainder = self.b.ins().srem(a, by);
        let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, remainder, 0);
        Division { a, by, zero, negative }
    }
}

struct Division {
    a: Value,
    /// 1 in place of 0.
    by: Value,
    zero: Value,
    /// The remainder of the machine's division is negative.
    negative: Value,
}

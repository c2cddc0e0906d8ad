//! A function of LLVM IR as it is written: names, blocks, loops. Operands are text, their types known to the caller.
//!
//! The IR is written as text and parsed, not built through the API: parsing a module takes a few milliseconds, nothing
//! needs `unsafe`, and what is written can be read. Not here: what any statement means.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

/// A function body under construction.
pub(super) struct Text {
    code: String,
    next: u32,
    /// The block being written.
    here: String,
    /// Lanes of the vectors being written.
    pub(super) lanes: u32,
    /// Internal functions that are called.
    pub(super) needs: BTreeSet<super::Routine>,
}

/// A counted loop being written. `carried` are its values at the head, valid after it too.
pub(super) struct Loop {
    pub(super) index: String,
    pub(super) carried: Vec<String>,
    types: Vec<String>,
    step: String,
    number: u32,
}

impl Text {
    pub(super) fn new(lanes: u32) -> Self {
        Self { code: "entry:\n".to_owned(), next: 0, here: "entry".to_owned(), lanes, needs: BTreeSet::new() }
    }

    pub(super) fn finish(self) -> String {
        self.code
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// `%new = rhs`; gives the new name.
    pub(super) fn set(&mut self, rhs: impl Display) -> String {
        let name = format!("%t{}", self.number());
        self.run(format_args!("{name} = {rhs}"));
        name
    }

    /// A line that gives nothing.
    pub(super) fn run(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.code, "  {line}");
    }

    pub(super) fn label(&mut self, stem: &str) -> String {
        format!("{stem}{}", self.number())
    }

    pub(super) fn block(&mut self, label: &str) {
        let _ = writeln!(self.code, "{label}:");
        self.here = label.to_owned();
    }

    pub(super) fn here(&self) -> String {
        self.here.clone()
    }

    pub(super) fn jump(&mut self, to: &str) {
        self.run(format_args!("br label %{to}"));
    }

    pub(super) fn branch(&mut self, cond: &str, yes: &str, no: &str) {
        self.run(format_args!("br i1 {cond}, label %{yes}, label %{no}"));
    }

    /// Opens `for index in from..to step`, carrying values of (type, initial value). `step` is positive.
    pub(super) fn open(&mut self, from: &str, to: &str, step: impl Display, carried: &[(String, String)]) -> Loop {
        let number = self.number();
        let before = self.here();
        let (head, body) = (format!("head{number}"), format!("body{number}"));
        self.jump(&head);
        self.block(&head);
        let index = format!("%i{number}");
        self.run(format_args!("{index} = phi i64 [ {from}, %{before} ], [ %n{number}, %latch{number} ]"));
        let mut names = Vec::new();
        for (c, (ty, init)) in carried.iter().enumerate() {
            let name = format!("%c{number}.{c}");
            self.run(format_args!("{name} = phi {ty} [ {init}, %{before} ], [ %d{number}.{c}, %latch{number} ]"));
            names.push(name);
        }
        let more = self.set(format_args!("icmp slt i64 {index}, {to}"));
        self.branch(&more, &body, &format!("done{number}"));
        self.block(&body);
        let types = carried.iter().map(|(ty, _)| ty.clone()).collect();
        Loop { index, carried: names, types, step: step.to_string(), number }
    }

    /// Closes the loop; `next` are the carried values of the next round.
    pub(super) fn close(&mut self, opened: &Loop, next: &[String]) {
        let Loop { index, types, step, number, .. } = opened;
        self.jump(&format!("latch{number}"));
        self.block(&format!("latch{number}"));
        for (c, (ty, value)) in types.iter().zip(next).enumerate() {
            self.run(format_args!("%d{number}.{c} = bitcast {ty} {value} to {ty}"));
        }
        self.run(format_args!("%n{number} = add nsw i64 {index}, {step}"));
        self.run(format_args!("br label %head{number}, !llvm.loop !0"));
        self.block(&format!("done{number}"));
    }

    pub(super) fn add(&mut self, a: &str, b: &str) -> String {
        match (a, b) {
            (_, "0") => a.to_owned(),
            ("0", _) => b.to_owned(),
            _ => self.set(format_args!("add nsw i64 {a}, {b}")),
        }
    }

    pub(super) fn sub(&mut self, a: &str, b: &str) -> String {
        if b == "0" { a.to_owned() } else { self.set(format_args!("sub nsw i64 {a}, {b}")) }
    }

    pub(super) fn mul(&mut self, a: &str, b: &str) -> String {
        match (a, b) {
            ("0", _) | (_, "0") => "0".to_owned(),
            (_, "1") => a.to_owned(),
            ("1", _) => b.to_owned(),
            _ => self.set(format_args!("mul nsw i64 {a}, {b}")),
        }
    }

    pub(super) fn smaller(&mut self, a: &str, b: &str) -> String {
        self.set(format_args!("call i64 @llvm.smin.i64(i64 {a}, i64 {b})"))
    }

    pub(super) fn larger(&mut self, a: &str, b: &str) -> String {
        self.set(format_args!("call i64 @llvm.smax.i64(i64 {a}, i64 {b})"))
    }

    pub(super) fn less(&mut self, a: &str, b: &str) -> String {
        self.set(format_args!("icmp slt i64 {a}, {b}"))
    }

    /// A pointer to element `at` of 4-byte elements.
    pub(super) fn element(&mut self, base: &str, at: &str) -> String {
        if at == "0" { base.to_owned() } else { self.set(format_args!("getelementptr float, ptr {base}, i64 {at}")) }
    }

    /// `<lanes x ty>`
    pub(super) fn vector(&self, ty: &str) -> String {
        format!("<{} x {ty}>", self.lanes)
    }

    pub(super) fn floats(&self) -> String {
        self.vector("float")
    }

    /// A scalar in all lanes.
    pub(super) fn splat(&mut self, ty: &str, x: &str) -> String {
        let (vector, n) = (self.vector(ty), self.lanes);
        let first = self.set(format_args!("insertelement {vector} poison, {ty} {x}, i32 0"));
        if n == 1 {
            return first;
        }
        self.set(format_args!("shufflevector {vector} {first}, {vector} poison, <{n} x i32> zeroinitializer"))
    }

    /// 0, 1, 2, .. across the lanes.
    pub(super) fn iota(&self, ty: &str) -> String {
        let lanes: Vec<String> = (0..self.lanes).map(|i| format!("{ty} {i}")).collect();
        format!("<{}>", lanes.join(", "))
    }

    /// `op` of two float vectors, fusable with its neighbours.
    pub(super) fn float(&mut self, op: &str, a: &str, b: &str) -> String {
        let ty = self.floats();
        self.set(format_args!("{op} contract {ty} {a}, {b}"))
    }

    /// `op` of two float vectors, rounded as written.
    pub(super) fn exact(&mut self, op: &str, a: &str, b: &str) -> String {
        let ty = self.floats();
        self.set(format_args!("{op} {ty} {a}, {b}"))
    }

    /// a * b + c
    pub(super) fn fma(&mut self, a: &str, b: &str, c: &str) -> String {
        let (ty, n) = (self.floats(), self.lanes);
        self.set(format_args!("call {ty} @llvm.fmuladd.v{n}f32({ty} {a}, {ty} {b}, {ty} {c})"))
    }

    /// A float intrinsic of one or two vectors.
    pub(super) fn intrinsic(&mut self, name: &str, args: &[&str]) -> String {
        let (ty, n) = (self.floats(), self.lanes);
        let args: Vec<String> = args.iter().map(|x| format!("{ty} {x}")).collect();
        self.set(format_args!("call {ty} @llvm.{name}.v{n}f32({})", args.join(", ")))
    }

    pub(super) fn compare(&mut self, how: &str, a: &str, b: &str) -> String {
        let ty = self.floats();
        self.set(format_args!("fcmp {how} {ty} {a}, {b}"))
    }

    pub(super) fn select(&mut self, cond: &str, yes: &str, no: &str) -> String {
        let (ty, bools) = (self.floats(), self.vector("i1"));
        self.set(format_args!("select {bools} {cond}, {ty} {yes}, {ty} {no}"))
    }
}

/// A constant in all lanes.
pub(super) fn constant(x: f64) -> String {
    format!("splat (float {})", float(x))
}

/// A float constant: LLVM spells it as the double of the same value.
pub(super) fn float(x: f64) -> String {
    format!("0x{:016X}", f64::from(x as f32).to_bits())
}

/// An integer constant in all lanes.
pub(super) fn whole(x: i64) -> String {
    format!("splat (i32 {x})")
}

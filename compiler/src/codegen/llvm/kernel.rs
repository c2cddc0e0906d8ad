//! Kernels, their loops and conditions, and integers.

use std::collections::BTreeSet;

use crate::kernel::{Ahead, Buffer, BufferRole, Int, Kernel, Module, Stmt, ahead, scaled};

use super::text::Text;
use super::{Routine, Target, dots, product, sweep};

/// Elements of a cache line.
const LINE: i64 = 16;

/// A kernel being written.
pub(super) struct Emitter<'m> {
    pub(super) module: &'m Module,
    pub(super) target: &'m Target,
    pub(super) t: Text,
    /// Loop variables in scope: (number, operand).
    vars: Vec<(u32, String)>,
    /// Whole vectors are stored past the caches just now, and whether any were: other threads see those after a fence.
    pub(super) streaming: bool,
    pub(super) fenced: bool,
}

/// The text of a kernel's function `body.N`, and the routines it calls.
pub(super) fn body(module: &Module, number: usize, kernel: &Kernel, target: &Target) -> (String, BTreeSet<Routine>) {
    let mut emitter =
        Emitter { module, target, t: Text::new(target.width), vars: Vec::new(), streaming: false, fenced: false };
    emitter.block(&kernel.body, &[]);
    if emitter.fenced {
        emitter.t.run("fence seq_cst");
    }
    emitter.t.run("ret void");
    let needs = std::mem::take(&mut emitter.t.needs);
    // A caller may give one memory for a state and its final value.
    let shared = |buffer: &Buffer| matches!(buffer.role, BufferRole::StateIn | BufferRole::StateOut);
    let apart = |buffer: &Buffer| if shared(buffer) { "" } else { " noalias" };
    let buffers = module.buffers.iter().enumerate().map(|(i, buffer)| format!("ptr{} %b{i}", apart(buffer)));
    let params = (0..module.params.len()).map(|i| format!("i64 %p{i}"));
    let head: Vec<String> = buffers.chain(params).collect();
    let text = format!(
        "; {}\ndefine internal void @body.{number}({}) noinline #0 {{\n{}}}\n\n",
        kernel.name.replace(['\n', '\r'], " "),
        head.join(", "),
        emitter.t.finish()
    );
    (text, needs)
}

/// The function that unpacks the argument block.
pub(super) fn entry(module: &Module, number: usize) -> String {
    let mut t = Text::new(1);
    let mut args = Vec::new();
    for slot in 0..module.buffers.len() + module.params.len() {
        let at = t.set(format_args!("getelementptr i64, ptr %block, i64 {slot}"));
        let ty = if slot < module.buffers.len() { "ptr" } else { "i64" };
        let value = t.set(format_args!("load {ty}, ptr {at}, align 8"));
        args.push(format!("{ty} {value}"));
    }
    t.run(format_args!("call void @body.{number}({})", args.join(", ")));
    t.run("ret void");
    format!("define void @kernel.{number}(ptr %block) #0 {{\n{}}}\n\n", t.finish())
}

impl Emitter<'_> {
    fn block(&mut self, body: &[Stmt], hints: &[Ahead]) {
        let mut skip = false;
        for (place, stmt) in body.iter().enumerate() {
            match stmt {
                _ if std::mem::take(&mut skip) => {}
                Stmt::Map(_)
                    if let Some((product, factors)) = body.get(place + 1).and_then(|next| scaled(stmt, next)) =>
                {
                    product::product(self, product, Some(&factors));
                    skip = true;
                }
                Stmt::For { var, from, to, step: whole_step, body } => {
                    let [from, to, step] = [from, to, whole_step].map(|x| self.int(x));
                    // A size of 0 must not make a loop endless.
                    let step = if step.starts_with('%') { self.t.larger(&step, "1") } else { step };
                    let opened = self.t.open(&from, &to, &step, &[]);
                    self.vars.push((var.0, opened.index.clone()));
                    self.block(body, &ahead(self.module, (*var, whole_step), body));
                    self.vars.pop();
                    self.t.close(&opened, &[]);
                }
                Stmt::If { left, right, then, otherwise } => {
                    let [left, right] = [left, right].map(|x| self.int(x));
                    let [yes, no, join] = ["then", "else", "join"].map(|stem| self.t.label(stem));
                    let cond = self.t.less(&left, &right);
                    self.t.branch(&cond, &yes, &no);
                    for (label, body) in [(yes, then), (no, otherwise)] {
                        self.t.block(&label);
                        self.block(body, &[]);
                        self.t.jump(&join);
                    }
                    self.t.block(&join);
                }
                Stmt::Map(map) => self.map(map),
                Stmt::Reduce(reduce) => self.reduce(reduce),
                Stmt::Scan(_) => unreachable!("the pass `lower-scans` leaves none"),
                Stmt::Product(product) if dots::along(product) => dots::product(self, product),
                Stmt::Product(product) => product::product(self, product, None),
                Stmt::Solve(solve) => product::solve(self, solve),
                Stmt::Sweep(x) => sweep::sweep(self, x),
            }
            hints.iter().filter(|hint| hint.after == place).for_each(|hint| self.fetch(hint));
        }
    }

    /// Asks for every line of some rows; for none that are written past the caches.
    fn fetch(&mut self, ahead: &Ahead) {
        let Ahead { rows, elements, access, written, .. } = ahead;
        let past = if *written { self.streams(access.buffer, &access.offset, &access.strides) } else { None };
        let [mut rows, elements, offset, stride] =
            [rows, elements, &access.offset, &access.strides[0]].map(|x| self.int(x));
        if let Some(past) = past {
            rows = self.t.set(format_args!("select i1 {past}, i64 0, i64 {rows}"));
        }
        let first = self.t.element(&format!("%b{}", access.buffer.0), &offset);
        let around = self.t.open("0", &rows, 1, &[]);
        let down = self.t.mul(&around.index, &stride);
        let row = self.t.element(&first, &down);
        let along = self.t.open("0", &elements, LINE, &[]);
        let at = self.t.element(&row, &along.index);
        // Into the second level: the first is full of tiles.
        self.t.run(format_args!("call void @llvm.prefetch.p0(ptr {at}, i32 {}, i32 2, i32 1)", u8::from(*written)));
        self.t.close(&along, &[]);
        // A row that starts within a line ends in one more.
        let last = self.t.sub(&elements, "1");
        let at = self.t.element(&row, &last);
        self.t.run(format_args!("call void @llvm.prefetch.p0(ptr {at}, i32 {}, i32 2, i32 1)", u8::from(*written)));
        self.t.close(&around, &[]);
    }

    /// An i64 operand.
    pub(super) fn int(&mut self, x: &Int) -> String {
        match x {
            Int::Const(n) => n.to_string(),
            Int::Param(id) => format!("%p{}", id.0),
            Int::Var(id) => {
                let bound = self.vars.iter().rev().find(|(number, _)| *number == id.0);
                bound.map(|(_, operand)| operand.clone()).expect("a checked kernel binds its variables")
            }
            Int::Load(of) => {
                let at = self.int(&of.at);
                let element = self.t.element(&format!("%b{}", of.buffer.0), &at);
                let number = self.t.set(format_args!("load float, ptr {element}, align 4"));
                self.t.set(format_args!("call i64 @llvm.fptosi.sat.i64.f32(float {number})"))
            }
            Int::Add(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.t.add(&a, &b)
            }
            Int::Sub(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.t.sub(&a, &b)
            }
            Int::Mul(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.t.mul(&a, &b)
            }
            Int::Div(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                divide(&mut self.t, (&a, &b), Part::Quotient)
            }
            Int::Mod(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                divide(&mut self.t, (&a, &b), Part::Remainder)
            }
            Int::Min(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.t.smaller(&a, &b)
            }
            Int::Max(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                self.t.larger(&a, &b)
            }
        }
    }

    /// Extents as operands, never negative.
    pub(super) fn extent(&mut self, x: &Int) -> String {
        match x {
            Int::Const(n) => n.max(&0).to_string(),
            _ => {
                let n = self.int(x);
                self.t.larger(&n, "0")
            }
        }
    }
}

/// What of a division is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Quotient,
    Remainder,
}

/// The quotient or remainder of i64 operands whose remainder is never negative; by 0 it is 0, as `Int::eval` has it.
pub(super) fn divide(t: &mut Text, (a, b): (&str, &str), part: Part) -> String {
    let zero = t.set(format_args!("icmp eq i64 {b}, 0"));
    let safe = t.set(format_args!("select i1 {zero}, i64 1, i64 {b}"));
    let remainder = t.set(format_args!("srem i64 {a}, {safe}"));
    let negative = t.set(format_args!("icmp slt i64 {remainder}, 0"));
    let backward = t.set(format_args!("icmp slt i64 {safe}, 0"));
    let result = match part {
        Part::Quotient => {
            let rounded = t.set(format_args!("sdiv i64 {a}, {safe}"));
            let unit = t.set(format_args!("select i1 {backward}, i64 -1, i64 1"));
            let off = t.set(format_args!("select i1 {negative}, i64 {unit}, i64 0"));
            t.sub(&rounded, &off)
        }
        Part::Remainder => {
            let size = t.set(format_args!("call i64 @llvm.abs.i64(i64 {safe}, i1 false)"));
            let off = t.set(format_args!("select i1 {negative}, i64 {size}, i64 0"));
            t.add(&remainder, &off)
        }
    };
    t.set(format_args!("select i1 {zero}, i64 0, i64 {result}"))
}

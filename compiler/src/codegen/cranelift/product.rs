//! Products and forward substitutions: calls of routines.

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::{Access, Ahead, Product, Solve};

use super::Routine;
use super::kernel::{Emitter, TRUSTED};

impl Emitter<'_> {
    /// A product; with factors, what it adds to is multiplied by their sum, row by row.
    pub(super) fn product(&mut self, product: &Product, factors: Option<&[Access; 2]>) {
        let [c, a, b] = [&product.dst, &product.a, &product.b].map(|x| self.first(x));
        let strides = [&product.dst.strides[0], &product.a.strides[0], &product.a.strides[1], &product.b.strides[0]];
        let [ldc, am, ak, ldb] = strides.map(|x| self.int(x));
        let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| self.extent(x).value);
        if let Some([factor, lost]) = factors {
            let [factor, lost, stride] = [self.first(factor), self.first(lost), self.int(&lost.strides[0])];
            return self.call(Routine::ProductScaled, &[c, ldc, a, am, ak, b, ldb, m, n, k, lost, stride, factor]);
        }
        let add = self.constant(i64::from(product.accumulate));
        let exact = self.exact.contains(&product.dst.buffer);
        let routine = if exact { Routine::Exact(product.shape) } else { Routine::Product(product.shape) };
        self.call(routine, &[c, ldc, a, am, ak, b, ldb, m, n, k, add]);
    }

    /// Asks for rows that the next round of a loop touches.
    pub(super) fn fetch(&mut self, ahead: &Ahead) {
        let first = self.first(&ahead.access);
        let stride = self.int(&ahead.access.strides[0]);
        let [rows, elements] = [&ahead.rows, &ahead.elements].map(|x| self.extent(x).value);
        let written = self.constant(i64::from(ahead.written));
        self.call(Routine::Fetch, &[first, stride, rows, elements, written]);
    }

    pub(super) fn solve(&mut self, solve: &Solve) {
        let mut words: Vec<Value> = Vec::new();
        for x in &solve.x {
            words.extend([self.first(x), self.int(&x.strides[0])]);
        }
        for p in &solve.p {
            words.extend([self.first(p), self.int(&p.strides[0]), self.int(&p.strides[1])]);
        }
        let slot = self.slot(words.len() as u32 * 8);
        let table = self.b.ins().stack_addr(I64, slot, 0);
        for (i, word) in (0..).zip(words) {
            self.b.ins().store(TRUSTED, word, table, i * 8);
        }
        let [n, columns] = [&solve.n, &solve.columns].map(|x| self.extent(x).value);
        let systems = self.constant(solve.x.len() as i64);
        self.call(Routine::Solve, &[systems, n, columns, table]);
    }
}

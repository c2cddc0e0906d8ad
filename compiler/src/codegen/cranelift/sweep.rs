//! Sweeps: calls of a routine, which takes its operands in a table.

use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::types::I64;

use crate::kernel::{Keep, Outer, Sweep};

use super::Routine;
use super::kernel::{Emitter, TRUSTED};

impl Emitter<'_> {
    pub(super) fn pass(&mut self, sweep: &Sweep) {
        let update = sweep.update.as_ref();
        let mut words = Vec::new();
        for access in [&sweep.state, update.map_or(&sweep.state, |update| &update.from)] {
            words.extend([self.first(access), self.int(&access.strides[0])]);
        }
        match update.and_then(|update| update.keep.as_ref()) {
            Some(Keep { factor, lost }) => {
                words.extend([self.first(factor), self.int(&factor.strides[0])]);
                words.push(match lost {
                    Some(lost) => self.first(lost),
                    None => self.constant(0),
                });
            }
            None => words.extend([0; 3].map(|none| self.constant(none))),
        }
        let ranks: &[Outer] = update.map_or(&[], |update| &update.ranks);
        for Outer { row, column } in ranks.iter().chain(&sweep.reads) {
            words.extend([self.first(row), self.int(&row.strides[0]), self.first(column)]);
        }
        let slot = self.slot(words.len() as u32 * 8);
        let table = self.b.ins().stack_addr(I64, slot, 0);
        for (i, word) in (0..).zip(words) {
            self.b.ins().store(TRUSTED, word, table, i * 8);
        }
        let [rows, columns] = [&sweep.rows, &sweep.columns].map(|x| self.extent(x).value);
        let [ranks, reads] = [ranks.len(), sweep.reads.len()].map(|n| self.constant(n as i64));
        self.call(Routine::Sweep, &[rows, columns, ranks, reads, table]);
    }
}

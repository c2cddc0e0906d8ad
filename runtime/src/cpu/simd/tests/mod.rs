//! Every routine of every instruction set that this machine has, against plain loops in f64.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod functions;
mod products;
mod solves;
mod sweeps;
mod tiles;

use super::{Table, available, instruction_set, routines};
use crate::device::Precision;

/// A tile from two others: their product, or element by element.
pub(super) type PairFn = unsafe extern "C" fn(*mut f32, i64, *const f32, i64, i64, *const f32, i64, i64, i64, i64, i64);
pub(super) type ScaledFn = unsafe extern "C" fn(
    *mut f32,
    i64,
    *const f32,
    i64,
    i64,
    *const f32,
    i64,
    i64,
    i64,
    i64,
    *const f32,
    i64,
    *const f32,
);
pub(super) type SolveFn = unsafe extern "C" fn(i64, i64, i64, *const i64);
pub(super) type SweepFn = unsafe extern "C" fn(i64, i64, i64, i64, *const i64);
pub(super) type UnaryFn = unsafe extern "C" fn(*mut f32, *const f32, i64);
pub(super) type BinaryFn = unsafe extern "C" fn(*mut f32, *const f32, *const f32, i64);

/// The tables of this machine.
pub(super) fn tables() -> Vec<Table> {
    available().into_iter().map(|make| make()).collect()
}

/// The address of a table's routine.
pub(super) fn routine(table: &Table, name: &str) -> *const u8 {
    table.routines.iter().find(|(symbol, _)| *symbol == name).expect("the routine exists").1
}

/// Numbers between -1 and 1, the same for the same seed.
pub(super) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn the_best_set_is_taken() {
    assert_eq!(instruction_set(), tables()[0].set);
    assert_eq!(routines(Precision::F32).len(), tables()[0].routines.len());
}

#[test]
fn every_set_has_the_same_symbols() {
    let symbols = |table: &Table| table.routines.iter().map(|(symbol, _)| *symbol).collect::<Vec<_>>();
    let all = tables();
    assert!(all.iter().all(|table| symbols(table) == symbols(&all[0])));
}

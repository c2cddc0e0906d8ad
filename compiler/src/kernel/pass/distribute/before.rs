//! The statements before the loop over chunks: cheap ones are repeated in every kernel that needs them, those that grow
//! with the tokens are made once, in a kernel of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::visit::Effects;
use crate::kernel::{BufferId, BufferRole, Module};

use super::{
    Parts, mentions,
    stages::{Item, Stage},
};

/// Where the statements before the loop go.
pub(super) struct Before<'e> {
    pub effects: &'e [Effects],
    /// Those that a kernel runs before its own statements.
    pub repeated: BTreeMap<Stage, Vec<usize>>,
    /// What the first kernel hands on.
    pub handed: BTreeSet<BufferId>,
}

impl<'e> Before<'e> {
    /// # Errors
    /// Why a kernel would lack what it needs.
    pub fn of(
        module: &Module,
        (parts, effects): (&Parts<'_>, &'e [Effects]),
        (items, stages): (&[Item], &[Stage]),
        carried: &BTreeSet<BufferId>,
    ) -> Result<Self, &'static str> {
        let reads = |stage: Stage| {
            let of_stage = items.iter().zip(stages).filter(move |(_, at)| **at == stage);
            let reads = of_stage.flat_map(|(item, _)| &item.effects.reads).copied();
            reads.filter(|buffer| !carried.contains(buffer)).collect::<BTreeSet<_>>()
        };
        let apart = [Stage::Local, Stage::Outputs];
        let none = BTreeSet::new();
        let needed: BTreeSet<usize> =
            apart.into_iter().flat_map(|stage| makers(effects, reads(stage), &none)).collect();
        if needed.iter().any(|&place| !effects[place].reads.is_disjoint(carried)) {
            return Err("what is computed before the loop needs the initial state");
        }
        let handed = handed(parts, effects, &needed);
        let private = |buffer: &BufferId| module.buffers[buffer.index()].role == BufferRole::Scratch;
        if !handed.iter().all(private) || !handed.is_disjoint(carried) {
            return Err("what is computed before the loop is not private to a work item");
        }
        let mut repeated = BTreeMap::from(apart.map(|stage| (stage, makers(effects, reads(stage), &handed))));
        repeated.insert(Stage::Before, makers(effects, handed.clone(), &none));
        let others = (0..effects.len()).filter(|&place| effects[place].writes.is_disjoint(&handed));
        repeated.insert(Stage::States, others.collect());
        Ok(Self { effects, repeated, handed })
    }
}

/// The statements that make what is needed, but for what is known.
fn makers(effects: &[Effects], mut needed: BTreeSet<BufferId>, known: &BTreeSet<BufferId>) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, effects) in effects.iter().enumerate().rev() {
        if effects.writes.iter().any(|buffer| needed.contains(buffer) && !known.contains(buffer)) {
            needed.extend(&effects.reads);
            found.push(place);
        }
    }
    found.reverse();
    found
}

/// The buffers that statements which grow with the tokens write, of those needed.
fn handed(parts: &Parts<'_>, effects: &[Effects], needed: &BTreeSet<usize>) -> BTreeSet<BufferId> {
    let tokens = mentions(parts.to).params;
    let grows = |place: &&usize| !effects[**place].extents.is_disjoint(&tokens);
    let mut handed: BTreeSet<BufferId> =
        needed.iter().filter(grows).flat_map(|&place| effects[place].writes.clone()).collect();
    loop {
        let before = handed.len();
        // All that writes a buffer of theirs is of the same kernel.
        for effects in effects {
            if !effects.writes.is_disjoint(&handed) {
                handed.extend(&effects.writes);
            }
        }
        if handed.len() == before {
            return handed;
        }
    }
}

//! Which kernel a statement of the loop over chunks belongs to, from what it reads and writes alone.
//!
//! ```text
//! carried    buffers that the statements before the loop fill and those of the loop change: the states
//! follows    a statement that touches a carried buffer, or reads what such a statement wrote
//! feeds      a statement that writes a carried buffer, or what such a statement reads
//!
//! feeds, does not follow   ->  local      every chunk apart
//! feeds and follows        ->  states     chunk after chunk
//! does not feed            ->  outputs    every chunk apart, from the carried values at its start
//! ```
//!
//! Buffers count whole. A statement that would overwrite what a later kernel still reads, or would see what it should
//! not, moves to where the order of the loop holds; the states' kernel can always take it.

use std::collections::BTreeSet;

use crate::kernel::BufferId;

use crate::kernel::visit::Effects;

/// The kernels, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// Of no statement of the loop.
    Before,
    Local,
    States,
    Outputs,
}

impl Stage {
    /// The name of the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Before => "before",
            Stage::Local => "local",
            Stage::States => "states",
            Stage::Outputs => "outputs",
        }
    }
}

/// One statement of the loop, as far as staging goes.
pub(super) struct Item {
    pub effects: Effects,
    /// It must run in the order of the chunks.
    pub ordered: bool,
}

/// The stage of every statement.
pub(super) fn stages(items: &[Item], carried: &BTreeSet<BufferId>) -> Vec<Stage> {
    let touches = |item: &Item| item.effects.touches().any(|buffer| carried.contains(&buffer));
    let writes = |item: &Item| item.effects.writes.iter().any(|buffer| carried.contains(buffer));
    let mut follows: Vec<bool> = items.iter().map(|item| item.ordered || touches(item)).collect();
    let mut feeds: Vec<bool> = items.iter().map(|item| item.ordered || writes(item)).collect();
    for (j, item) in items.iter().enumerate() {
        // The values at the chunk's start are kept for the outputs; later ones are not.
        let late = |i: usize| items[i].effects.writes.intersection(&item.effects.reads).any(|b| carried.contains(b));
        feeds[j] |= (0..j).any(late);
    }
    loop {
        close(items, &mut follows, &mut feeds);
        let stages: Vec<Stage> = follows.iter().zip(&feeds).map(|(&follows, &feeds)| stage(follows, feeds)).collect();
        match out_of_order(items, carried, &stages) {
            None => return stages,
            Some((first, _)) if stages[first] == Stage::Outputs => feeds[first] = true,
            Some((_, second)) => follows[second] = true,
        }
    }
}

fn stage(follows: bool, feeds: bool) -> Stage {
    match (follows, feeds) {
        (false, true) => Stage::Local,
        (true, true) => Stage::States,
        (_, false) => Stage::Outputs,
    }
}

/// What is read hands on both properties: `follows` to its readers, `feeds` to its writers.
fn close(items: &[Item], follows: &mut [bool], feeds: &mut [bool]) {
    let mut changed = true;
    while changed {
        changed = false;
        for j in 0..items.len() {
            for i in 0..j {
                if items[i].effects.writes.is_disjoint(&items[j].effects.reads) {
                    continue;
                }
                changed |= (follows[i] && !follows[j]) || (feeds[j] && !feeds[i]);
                follows[j] |= follows[i];
                feeds[i] |= feeds[j];
            }
        }
    }
}

/// Two statements over one buffer whose kernels run in the other order. Reads of carried values before they change do
/// not count: the outputs see copies of them.
fn out_of_order(items: &[Item], carried: &BTreeSet<BufferId>, stages: &[Stage]) -> Option<(usize, usize)> {
    let meet = |a: &BTreeSet<BufferId>, b: &BTreeSet<BufferId>| a.intersection(b).any(|x| !carried.contains(x));
    let conflict = |i: usize, j: usize| {
        let (first, second) = (&items[i].effects, &items[j].effects);
        meet(&first.writes, &second.writes) || meet(&first.reads, &second.writes) || meet(&first.writes, &second.reads)
    };
    let pairs = (0..items.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
    pairs.into_iter().find(|&(i, j)| stages[i] > stages[j] && conflict(i, j))
}

/// Which statements of the kernels that run every chunk apart differ from one grid point of `params` to the next, and
/// the buffers that do. The states' kernel runs at every such point, so all that it writes is of one.
pub(super) fn tiled(items: &[(&Effects, Stage)], places: &dyn Fn(&Effects) -> bool) -> (Vec<bool>, BTreeSet<BufferId>) {
    let mut own: Vec<bool> = items.iter().map(|(effects, stage)| *stage == Stage::States || places(effects)).collect();
    let mut buffers = BTreeSet::new();
    loop {
        let before = (own.iter().filter(|x| **x).count(), buffers.len());
        for (j, (effects, stage)) in items.iter().enumerate() {
            own[j] |= effects.touches().any(|buffer| buffers.contains(&buffer));
            // What comes after a statement of one tile and meets its buffers must stay after it.
            own[j] |= items[..j].iter().zip(&own.clone()).any(|((first, other), tiled)| {
                *tiled && other == stage && first.touches().any(|buffer| effects.writes.contains(&buffer))
            });
            if own[j] {
                buffers.extend(effects.writes.iter().copied());
            }
        }
        if before == (own.iter().filter(|x| **x).count(), buffers.len()) {
            return (own, buffers);
        }
    }
}

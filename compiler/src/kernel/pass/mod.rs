//! The lists of passes: from the kernels that lowering makes to those that a target's emitter takes.
//!
//! ```text
//! cranelift  lower-scans, but those whose steps are tiles
//!            fuse-update, specialise-decode, strip-mine
//! llvm       lower-scans, fuse-update, specialise-decode, strip-mine, fold-transpose
//! wgsl       less-one, specialise, block-rows
//! ```
//!
//! A pass says which statements it takes and which it leaves (`Level`); wherever assertions are on, every module on the way
//! is checked at its level. Prices are of what the whole list leaves, and `emit --stage kernel --after PASS` prints what a
//! part of it does.
//!
//! ```text
//! map [i, j] s[i,j] = a[i] * s[i,j] + k[i] * v[j]; product y[j] = sum over i of q[i] * s[i,j]
//!   ->  sweep                                                                       (`fuse_update`)
//! for t { sweeps, maps of whole rows }
//!   ->  for c in 0..columns step W { for t { the same of columns c..c+W } }         (`strip_mine`)
//! kernel of T tokens
//!   ->  if T = 1 { from the state given straight to the state wanted } else { the kernel }  (`specialise_decode`)
//! ```
//! A strip of columns stays in the nearest cache for a whole block of tokens, so a second pass over it costs no memory.
//! What is found is found by its shape: nothing here knows a token or a state.
//!
//! Two passes are choices of a run, not of a target, and go before a list: `distribute` (the split schedule) and
//! `alias_state` (states that stay where they lie from call to call).

mod alias_state;
mod block_rows;
mod distribute;
mod fold_transpose;
mod fuse_update;
mod less_one;
mod level;
mod lower_scans;
mod specialise;
mod specialise_decode;
mod strip_mine;
#[cfg(test)]
mod tests;

use std::fmt;

use super::check;
use super::{Module, Param};

pub use alias_state::in_place;
pub use distribute::split;
pub use level::{Construct, Level};

/// What emits code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Cranelift,
    Llvm,
    Wgsl,
}

/// The params that are compiled in, each with its value.
pub type Fixed<'f> = &'f dyn Fn(&Param) -> Option<i64>;

/// A step on the way to a target.
#[derive(Debug)]
pub struct Pass {
    pub name: &'static str,
    run: fn(Module, Fixed<'_>) -> Module,
    /// What it takes.
    pub before: Level,
    /// What it leaves.
    pub after: Level,
}

/// A target's passes, in order.
#[derive(Debug)]
pub struct Pipeline {
    pub target: Target,
    pub passes: &'static [Pass],
}

/// A pass that a target does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPass {
    pub target: Target,
    pub asked: String,
}

impl fmt::Display for UnknownPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = self.target.passes().iter().map(|pass| pass.name).collect();
        write!(f, "there is no pass `{}` here; the passes are {}, in this order", self.asked, known.join(", "))
    }
}

impl std::error::Error for UnknownPass {}

const TILE_SCANS: Level = Level::LOWERED.without(Construct::Scan);
const NO_SCANS: Level = TILE_SCANS.without(Construct::TileScan);

/// A row a target.
pub static PIPELINES: [Pipeline; 3] = [
    Pipeline {
        target: Target::Cranelift,
        passes: &[
            Pass {
                name: "lower-scans",
                run: |module, _| lower_scans::but_tiles(module),
                before: Level::LOWERED,
                after: TILE_SCANS,
            },
            fuse_update(TILE_SCANS),
            specialise_decode(TILE_SCANS),
            strip_mine(TILE_SCANS),
        ],
    },
    Pipeline {
        target: Target::Llvm,
        passes: &[
            Pass {
                name: "lower-scans",
                run: |module, _| lower_scans::all(module),
                before: Level::LOWERED,
                after: NO_SCANS,
            },
            fuse_update(NO_SCANS),
            specialise_decode(NO_SCANS),
            strip_mine(NO_SCANS),
            Pass {
                name: "fold-transpose",
                run: |module, _| fold_transpose::fold(module),
                before: NO_SCANS.with(Construct::Sweep),
                after: NO_SCANS.with(Construct::Sweep).with(Construct::RowsByRows),
            },
        ],
    },
    Pipeline {
        target: Target::Wgsl,
        passes: &[
            Pass {
                name: "less-one",
                run: |module, _| less_one::apart(module),
                before: Level::LOWERED,
                after: Level::LOWERED,
            },
            Pass { name: "specialise", run: specialise::specialise, before: Level::LOWERED, after: Level::LOWERED },
            Pass {
                name: "block-rows",
                run: |module, _| block_rows::blocks(&module, block_rows::ROWS),
                before: Level::LOWERED,
                after: Level::LOWERED,
            },
        ],
    },
];

const fn fuse_update(level: Level) -> Pass {
    Pass {
        name: "fuse-update",
        run: |module, _| fuse_update::fuse(module),
        before: level,
        after: level.with(Construct::Sweep),
    }
}

const fn specialise_decode(level: Level) -> Pass {
    let fused = level.with(Construct::Sweep);
    Pass {
        name: "specialise-decode",
        run: |module, _| specialise_decode::specialise(module),
        before: fused,
        after: fused,
    }
}

const fn strip_mine(level: Level) -> Pass {
    let fused = level.with(Construct::Sweep);
    Pass { name: "strip-mine", run: |module, _| strip_mine::mine(module), before: fused, after: fused }
}

impl Target {
    pub fn passes(self) -> &'static [Pass] {
        let row = PIPELINES.iter().find(|row| row.target == self);
        row.map_or(&[], |row| row.passes)
    }

    /// How many of its passes there are up to the one of this name, and it too.
    ///
    /// # Errors
    /// A name that none of them has.
    pub fn until(self, last: &str) -> Result<usize, UnknownPass> {
        let place = self.passes().iter().position(|pass| pass.name == last);
        place.map(|place| place + 1).ok_or_else(|| UnknownPass { target: self, asked: last.to_owned() })
    }

    /// What statements its emitter takes.
    pub fn level(self) -> Level {
        self.passes().last().map_or(Level::LOWERED, |pass| pass.after)
    }
}

/// A module as a target's emitter takes it. Of none that `check` refuses, anything may come out.
pub fn run(module: &Module, target: Target, fixed: Fixed<'_>) -> Module {
    through(module, target.passes(), fixed)
}

/// What the first so many passes of a target make of a module (`Target::until`).
pub fn run_first(module: &Module, target: Target, fixed: Fixed<'_>, count: usize) -> Module {
    let passes = target.passes();
    through(module, &passes[..count.min(passes.len())], fixed)
}

fn through(module: &Module, passes: &[Pass], fixed: Fixed<'_>) -> Module {
    let sound = !cfg!(debug_assertions) || check::errors(module, Level::LOWERED).is_empty();
    passes.iter().fold(module.clone(), |module, pass| {
        let module = (pass.run)(module, fixed);
        if cfg!(debug_assertions) && sound {
            let errors = check::errors(&module, pass.after);
            assert!(errors.is_empty(), "after {}: {}", pass.name, errors.join("; "));
        }
        module
    })
}

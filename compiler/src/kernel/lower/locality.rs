//! What a state keeps of the tokens before, and the loop over chunks that follows from it.
//!
//! ```text
//! all        for c in 0..T step C       the tokens c .. c + C
//! window(L)  the same                   the chunk's own tokens from the last chunk to the first, and L before them
//! block(W)   for c in 0..T' step C'     the tokens of one block from c' on: no chunk reaches over a block's end
//! ```
//!
//! C' = min(C, W), and T' counts every block but the last as whole chunks. The state is set to its initial value at the
//! ends of blocks: a select, so that what is not finite stays in its block.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{LocalKind, Variant};

use crate::Unsupported;
use crate::kernel::{Int, Stmt, VarId};

use super::arena::REFERENCE;
use super::{Lowering, Result, Rows};

/// What a state keeps of the tokens before.
pub(super) enum Locality {
    All,
    /// It restarts at the first token of every block of so many.
    Block(Size),
    /// The last so many tokens' writes.
    Window(Size),
}

impl Locality {
    /// # Errors
    /// What no compiled form has.
    pub(super) fn of(variant: &Variant) -> Result<Self> {
        match variant.locals.as_slice() {
            [] => Ok(Locality::All),
            [local] => match &local.kind {
                LocalKind::Block(size) => Ok(Locality::Block(size.clone())),
                LocalKind::Window { left, right } if right.as_constant() == Some(0) => {
                    Ok(Locality::Window(left.clone()))
                }
                _ => {
                    let reason = "a state keeps the last tokens or restarts in blocks";
                    Err(Unsupported::new("this `local`", reason, REFERENCE).at(local.span))
                }
            },
            [_, second, ..] => {
                Err(Unsupported::new("several `local`", "a state is local in one way", REFERENCE).at(second.span))
            }
        }
    }
}

/// The loop over chunks.
pub(super) struct Chunks {
    var: VarId,
    to: Int,
    step: Int,
    /// The tokens of one chunk. Under a window it begins with the tokens that its first one sees.
    pub(super) rows: Rows,
    /// The row of its first own token.
    pub(super) own: Int,
    /// Tokens that a state keeps.
    pub(super) window: Option<Int>,
    /// Tokens in a block.
    block: Option<Int>,
    /// Loop variables that stand for what one chunk computes once, and what they stand for.
    once: Vec<(VarId, Int)>,
}

impl Chunks {
    pub(super) fn new(lowering: &mut Lowering, locality: &Locality) -> Self {
        let (tokens, chunk, var) = (lowering.tokens(), lowering.chunk(), lowering.var());
        match locality {
            Locality::Block(size) => {
                let every = lowering.size(size).max(1i64);
                Self::blocks(tokens, chunk, var, every)
            }
            Locality::Window(size) => {
                let window = lowering.size(size);
                Self::windows(tokens, chunk, var, window)
            }
            Locality::All => {
                let first = Int::Var(var);
                let count = (tokens.clone() - first.clone()).min(chunk.clone());
                let rows = Rows { first, count, capacity: chunk.clone() };
                Self { to: tokens, step: chunk, rows, ..Self::empty(var) }
            }
        }
    }

    fn empty(var: VarId) -> Self {
        let zero = || Int::from(0i64);
        let rows = Rows { first: zero(), count: zero(), capacity: zero() };
        Self { var, to: zero(), step: zero(), rows, own: zero(), window: None, block: None, once: Vec::new() }
    }

    /// Chunks run from the last to the first, so that what one writes of the tokens before its own is overwritten by
    /// theirs.
    fn windows(tokens: Int, chunk: Int, var: VarId, window: Int) -> Self {
        let last = (tokens.clone() - 1i64).floor_div(chunk.clone()) * chunk.clone();
        let start = last - Int::Var(var);
        let first = (start.clone() - window.clone()).max(0i64);
        let end = (start.clone() + chunk.clone()).min(tokens.clone());
        let capacity = chunk.clone() + window.clone();
        let rows = Rows { count: end - first.clone(), first: first.clone(), capacity };
        Self { to: tokens, step: chunk, rows, own: start - first, window: Some(window), ..Self::empty(var) }
    }

    fn blocks(tokens: Int, chunk: Int, var: VarId, every: Int) -> Self {
        let length = chunk.min(every.clone());
        // A block's chunks as if all were whole.
        let padded = (every.clone() + (length.clone() - 1i64)).floor_div(length.clone()) * length.clone();
        let to = tokens.clone().floor_div(every.clone()) * padded.clone() + tokens.clone().modulo(every.clone());
        let before = Int::Var(var).floor_div(padded.clone());
        let first = Int::Var(var) - before * (padded - every.clone());
        let count = count(tokens, first.clone(), every.clone(), length.clone());
        let rows = Rows { first, count, capacity: length.clone() };
        Self { to, step: length, rows, block: Some(every), ..Self::empty(var) }
    }

    /// Computes what is long once a chunk instead of wherever it stands. The loop over chunks then holds one statement,
    /// so this is not for kernels that are taken apart.
    pub(super) fn settled(mut self, lowering: &mut Lowering) -> Self {
        if let Some(every) = self.block.clone() {
            let (first, rows) = (lowering.var(), lowering.var());
            let count = count(lowering.tokens(), Int::Var(first), every, self.step.clone());
            self.once = vec![(first, self.rows.first), (rows, count)];
            self.rows = Rows { first: Int::Var(first), count: Int::Var(rows), capacity: self.rows.capacity };
        }
        self
    }

    /// The states' initial values, which `begin` copies, at the end of every block but the last.
    pub(super) fn restart(&self, lowering: &mut Lowering, begin: impl FnOnce(&mut Lowering)) {
        let Some(every) = &self.block else { return };
        let before = lowering.exchange(Vec::new());
        begin(lowering);
        let then = lowering.exchange(before);
        let tokens = lowering.tokens();
        let end = self.rows.first.clone() + self.rows.count.clone();
        let (left, right) = (end.clone().modulo(every.clone()), Int::from(1i64));
        let then = vec![Stmt::If { left, right, then, otherwise: Vec::new() }];
        lowering.push(Stmt::If { left: end, right: tokens, then, otherwise: Vec::new() });
    }

    /// `for` every chunk the statements of one.
    pub(super) fn each(self, body: Vec<Stmt>) -> Stmt {
        let once = |body: Vec<Stmt>, (var, value): (VarId, Int)| {
            let (to, step) = (value.clone() + 1i64, Int::from(1i64));
            vec![Stmt::For { var, from: value, to, step, body }]
        };
        let body = self.once.into_iter().rev().fold(body, once);
        Stmt::For { var: self.var, from: Int::from(0i64), to: self.to, step: self.step, body }
    }
}

/// Tokens of a chunk that begins at `first`: up to the end of its block of `every`, and of the sequence.
fn count(tokens: Int, first: Int, every: Int, length: Int) -> Int {
    let left = every.clone() - first.clone().modulo(every);
    (tokens - first).min(left).min(length)
}

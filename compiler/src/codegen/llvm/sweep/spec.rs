//! What tells one sweep's routine from another's: strides, what is kept of the tile before, ranks and reads.

use crate::kernel::{Access, Int, Keep, Outer, Sweep};

/// What a sweep does to its tile, and how often it reads. Strides that are known are written into the code: without, the
/// addresses of all operands would not fit the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::codegen::llvm) struct Spec {
    /// Of the tile's rows.
    pub(super) state: Stride,
    pub(super) update: Option<Update>,
    /// Of the factors of every read.
    pub(super) reads: [Option<Stride>; Sweep::READS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Update {
    /// Of the rows of the tile before; none where it is the tile itself.
    pub(super) from: Option<Stride>,
    pub(super) keep: Kept,
    /// Whether what the factors lost is kept beside them.
    pub(super) lost: bool,
    /// Of the factors of every rank.
    pub(super) ranks: [Option<Stride>; Sweep::RANKS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    All,
    /// One factor for all rows.
    Scaled,
    /// A factor a row.
    Rows(Stride),
}

/// How far rows lie apart, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stride {
    Known(i64),
    Given,
}

impl Stride {
    pub(super) fn of(access: &Access) -> Self {
        match access.strides.first() {
            Some(Int::Const(n)) => Stride::Known(*n),
            _ => Stride::Given,
        }
    }

    pub(super) fn each<const N: usize>(outers: &[Outer]) -> [Option<Self>; N] {
        std::array::from_fn(|n| outers.get(n).map(|outer| Stride::of(&outer.row)))
    }

    pub(super) fn name(self) -> String {
        match self {
            Stride::Known(n) => n.to_string(),
            Stride::Given => "s".to_owned(),
        }
    }

    /// The operand: a number, or the argument of this name.
    pub(super) fn operand(self, name: &str) -> String {
        match self {
            Stride::Known(n) => n.to_string(),
            Stride::Given => name.to_owned(),
        }
    }
}

impl Spec {
    pub(super) fn of(sweep: &Sweep) -> Self {
        let keep = |keep: &Option<Keep>| match keep {
            None => Kept::All,
            Some(keep) if Stride::of(&keep.factor) == Stride::Known(0) => Kept::Scaled,
            Some(keep) => Kept::Rows(Stride::of(&keep.factor)),
        };
        let update = sweep.update.as_ref().map(|x| Update {
            from: (x.from != sweep.state).then(|| Stride::of(&x.from)),
            keep: keep(&x.keep),
            lost: x.keep.as_ref().is_some_and(|keep| keep.lost.is_some()),
            ranks: Stride::each(&x.ranks),
        });
        Self { state: Stride::of(&sweep.state), update, reads: Stride::each(&sweep.reads) }
    }

    pub(in crate::codegen::llvm) fn name(self) -> String {
        let mut name = format!("sweep.{}", self.state.name());
        if let Some(Update { from, keep, lost, ranks }) = self.update {
            name += &from.map_or_else(String::new, |from| format!(".from.{}", from.name()));
            name += &match keep {
                Kept::All => ".all".to_owned(),
                Kept::Scaled => ".scaled".to_owned(),
                Kept::Rows(stride) => format!(".rows.{}", stride.name()),
            };
            name += if lost { ".lost" } else { "" };
            ranks.iter().flatten().for_each(|stride| name += &format!(".w{}", stride.name()));
        }
        self.reads.iter().flatten().for_each(|stride| name += &format!(".x{}", stride.name()));
        name
    }

    pub(super) fn ranks(self) -> impl Iterator<Item = Stride> {
        self.update.into_iter().flat_map(|update| update.ranks.into_iter().flatten())
    }

    pub(super) fn reads(self) -> impl Iterator<Item = Stride> {
        self.reads.into_iter().flatten()
    }

    /// Of the rows of the tile before, where it is another one.
    pub(super) fn from(self) -> Option<Stride> {
        self.update.and_then(|update| update.from)
    }

    pub(super) fn keeps(self) -> Kept {
        self.update.map_or(Kept::All, |update| update.keep)
    }

    pub(super) fn loses(self) -> bool {
        self.update.is_some_and(|update| update.lost)
    }
}

//! Which statements a module may have between two passes.

/// What some targets take and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Construct {
    /// A scan whose steps are anything.
    Scan = 1,
    /// A scan whose steps are rows of a tile (`frame::scan_frame`).
    TileScan = 2,
    /// A fused update of a tile and reads of it.
    Sweep = 4,
    /// A product of rows with rows: the strides of 1 are a's last and b's first.
    RowsByRows = 8,
}

/// A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// What lowering makes, and every target's list begins with.
    pub const LOWERED: Level = Level(Construct::Scan as u8 | Construct::TileScan as u8);
    /// What `check` takes: sweeps too, which the targets of CPUs emit as they are.
    pub const CHECKED: Level = Level::LOWERED.with(Construct::Sweep);
    /// All that there is.
    pub const ANY: Level = Level::LOWERED.with(Construct::Sweep).with(Construct::RowsByRows);

    pub const fn with(self, construct: Construct) -> Level {
        Level(self.0 | construct as u8)
    }

    pub const fn without(self, construct: Construct) -> Level {
        Level(self.0 & !(construct as u8))
    }

    pub const fn has(self, construct: Construct) -> bool {
        self.0 & construct as u8 != 0
    }
}

//! Which statements of a work item depend on each other, and so have a barrier between them.

use crate::kernel::{Access, Int};

/// A stretch of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A buffer of the module in a binding, by its number.
    Bound(u32),
    /// Elements of workgroup memory, from and up to.
    Workgroup(u64, u64),
    /// Elements of the work item's spill memory.
    Spill(u64, u64),
    /// Factors of products staged for cooperative matrices.
    Panels,
}

impl Place {
    fn meets(self, other: Place) -> bool {
        match (self, other) {
            (Place::Bound(a), Place::Bound(b)) => a == b,
            (Place::Panels, Place::Panels) => true,
            (Place::Workgroup(a, b), Place::Workgroup(c, d)) | (Place::Spill(a, b), Place::Spill(c, d)) => {
                a < d && c < b
            }
            _ => false,
        }
    }

    fn inner(self) -> bool {
        matches!(self, Place::Workgroup(..) | Place::Panels)
    }
}

/// Reading or writing a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Touch {
    pub(super) place: Place,
    pub(super) written: bool,
    /// The axes whose elements the invocations share, and what each element touches: two statements that share the
    /// same axes and touch the same element of it need no barrier, for one invocation does both.
    pub(super) own: Option<(Vec<Int>, Access)>,
}

impl Touch {
    fn conflicts(&self, other: &Touch) -> bool {
        let apart = self.own.is_some() && self.own == other.own;
        (self.written || other.written) && !apart && self.place.meets(other.place)
    }
}

/// How far a barrier reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fence {
    Workgroup,
    /// Workgroup memory and storage.
    All,
}

/// What was touched since the last barrier.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pending(Vec<Touch>);

impl Pending {
    /// The barrier that must stand before a statement of these touches.
    pub(super) fn fence(&self, touches: &[Touch]) -> Option<Fence> {
        let met = self.0.iter().filter(|old| touches.iter().any(|new| new.conflicts(old)));
        met.map(|old| if old.place.inner() { Fence::Workgroup } else { Fence::All }).max()
    }

    /// Forgets what a barrier has settled.
    pub(super) fn settle(&mut self, fence: Fence) {
        match fence {
            Fence::Workgroup => self.0.retain(|touch| !touch.place.inner()),
            Fence::All => self.0.clear(),
        }
    }

    pub(super) fn add(&mut self, touches: &[Touch]) {
        for touch in touches {
            if !self.0.contains(touch) {
                self.0.push(touch.clone());
            }
        }
    }

    pub(super) fn join(&mut self, other: &Pending) {
        self.add(&other.0);
    }

    pub(super) fn covers(&self, other: &Pending) -> bool {
        other.0.iter().all(|touch| self.0.contains(touch))
    }

    /// The same touches at another value of a loop variable: which invocation did what no longer matters.
    pub(super) fn stale(&self) -> Pending {
        let mut all = Pending::default();
        for touch in &self.0 {
            all.add(&[Touch { own: None, ..touch.clone() }]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::BufferId;

    fn touch(place: Place, written: bool, own: bool) -> Touch {
        let own = own.then(|| (vec![Int::Const(8)], Access::new(BufferId(0), 0i64, [Int::Const(1)])));
        Touch { place, written, own }
    }

    #[test]
    fn only_what_depends_is_fenced() {
        let mut pending = Pending::default();
        pending.add(&[touch(Place::Workgroup(0, 8), true, true), touch(Place::Bound(3), false, false)]);
        assert_eq!(pending.fence(&[touch(Place::Workgroup(8, 9), true, false)]), None);
        assert_eq!(pending.fence(&[touch(Place::Workgroup(7, 9), false, false)]), Some(Fence::Workgroup));
        assert_eq!(pending.fence(&[touch(Place::Bound(3), false, false)]), None);
        assert_eq!(pending.fence(&[touch(Place::Bound(3), true, false)]), Some(Fence::All));
        assert_eq!(pending.fence(&[touch(Place::Workgroup(0, 8), false, true)]), None);
        assert_eq!(pending.stale().fence(&[touch(Place::Workgroup(0, 8), false, true)]), Some(Fence::Workgroup));
        pending.settle(Fence::Workgroup);
        assert_eq!(pending.fence(&[touch(Place::Workgroup(0, 8), true, false)]), None);
    }
}

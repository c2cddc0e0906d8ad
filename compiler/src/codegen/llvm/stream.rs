//! Stores past the caches: of whole vectors of outputs that no cache would hold until somebody reads them. What a store
//! in a cache costs beside them is the line's old content, which is read for nothing.

use crate::kernel::{BufferId, BufferRole, Int, Map};

use super::kernel::Emitter;

/// Outputs of more elements than this are written past the caches: 4 MiB, more than a second-level cache.
const MANY: i64 = 1 << 20;

/// Bytes of a line.
const LINE: i64 = 64;

impl Emitter<'_> {
    /// Whether the rows of an output, at these strides, are written past the caches: an i1; none where they never are.
    /// They start on lines then, as far as they are whole lines long.
    pub(super) fn streams(&mut self, buffer: BufferId, offset: &Int, strides: &[Int]) -> Option<String> {
        let declared = self.module.buffers.get(buffer.index())?;
        if declared.role != BufferRole::Output || self.target.width != 16 {
            return None;
        }
        let size = self.int(&declared.size);
        let t = &mut self.t;
        let large = t.less(&MANY.to_string(), &size);
        let mut bits = t.set(format_args!("ptrtoint ptr %b{} to i64", buffer.0));
        for part in std::iter::once(offset).chain(strides) {
            let part = self.int(part);
            let part = self.t.mul(&part, "4");
            bits = self.t.set(format_args!("or i64 {bits}, {part}"));
        }
        let off = self.t.set(format_args!("and i64 {bits}, {}", LINE - 1));
        let aligned = self.t.set(format_args!("icmp eq i64 {off}, 0"));
        Some(self.t.set(format_args!("and i1 {large}, {aligned}")))
    }

    /// Whether the whole vectors of a map are.
    pub(super) fn streamed(&mut self, map: &Map, lane: usize) -> Option<String> {
        let (along, others): (Vec<_>, Vec<_>) = map.dst.strides.iter().enumerate().partition(|(d, _)| *d == lane);
        if along.iter().any(|(_, stride)| **stride != Int::Const(1)) {
            return None;
        }
        let others: Vec<Int> = others.into_iter().map(|(_, stride)| stride.clone()).collect();
        self.streams(map.dst.buffer, &map.dst.offset, &others)
    }
}

//! Memory of f32 that kernels work on: it starts on a cache line, so that no vector straddles two, and where it is large
//! it lies on huge pages, if the system has them: rows a token apart are on a page each otherwise, and finding pages takes
//! longer than reading a row.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use aligned_vec::{AVec, ConstAlign};
use memmap2::MmapMut;

/// Numbers of a tensor: as many as it was made with.
pub struct Floats(Memory);

enum Memory {
    Lines(AVec<f32, ConstAlign<LINE>>),
    /// Some bytes of a mapping.
    Pages(MmapMut, Range<usize>),
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of a huge page, on the processors where it matters most.
const HUGE: usize = 1 << 21;

impl Floats {
    pub fn zeros(len: usize) -> Self {
        Self(pages(len).unwrap_or_else(|| {
            let mut lines = AVec::with_capacity(LINE, len);
            lines.resize(len, 0.0);
            Memory::Lines(lines)
        }))
    }
}

/// Zeros on huge pages: none if they do not fill one, or the system has no such memory.
fn pages(len: usize) -> Option<Memory> {
    let bytes = len.checked_mul(4).filter(|bytes| *bytes >= HUGE)?;
    let map = MmapMut::map_anon(bytes.checked_add(HUGE)?).ok()?;
    // A hint: without it pages are small, and nothing else changes.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    let first = map.as_ptr().align_offset(HUGE);
    (first <= HUGE).then(|| Memory::Pages(map, first..first + bytes))
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Memory::Lines(lines) => lines,
            Memory::Pages(map, bytes) => bytemuck::cast_slice(&map[bytes.clone()]),
        }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Memory::Lines(lines) => lines,
            Memory::Pages(map, bytes) => bytemuck::cast_slice_mut(&mut map[bytes.clone()]),
        }
    }
}

impl From<&[f32]> for Floats {
    fn from(data: &[f32]) -> Self {
        let mut floats = Self::zeros(data.len());
        floats.copy_from_slice(data);
        floats
    }
}

impl Clone for Floats {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Floats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_on_a_line_and_holds_what_it_is_given() {
        for len in [0, 1, 17, HUGE / 4 - 1, HUGE / 4, HUGE / 4 + 3] {
            let data: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut floats = Floats::from(&data[..]);
            assert_eq!(floats.as_ptr().align_offset(LINE), 0, "{len}");
            assert!(floats[..] == data[..] && floats.clone() == floats && Floats::zeros(len).iter().all(|x| *x == 0.0));
            floats.iter_mut().for_each(|x| *x += 1.0);
            assert!(floats.iter().zip(&data).all(|(x, y)| *x == y + 1.0), "{len}");
        }
    }
}

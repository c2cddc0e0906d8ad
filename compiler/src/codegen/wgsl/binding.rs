//! Which binding holds which buffer, and what the uniform holds. Where there are more buffers than bindings, buffers of
//! one kind share some, one after another.

use std::collections::BTreeMap;

use crate::Unsupported;
use crate::kernel::{BufferId, BufferRole, Elem, Module, ParamId, ParamRole};

use super::{Binding, Contents, Options, Precision, Stored, Word};
use super::{dialect, stretch};

/// Bindings of a module.
pub(super) struct Table {
    pub(super) bindings: Vec<Binding>,
    pub(super) words: Vec<Word>,
    slots: BTreeMap<BufferId, Slot>,
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The number of its binding.
    pub(super) binding: usize,
    pub(super) stored: Stored,
    /// The word of the uniform that says where it starts; at 0 without one.
    pub(super) offset: Option<usize>,
}

/// The kind of a binding: what may share one.
type Kind = (bool, Stored);

impl Table {
    /// `spills`: whether there is spill memory; `stretches`: whether a dispatch may do a stretch of a kernel.
    ///
    /// # Errors
    /// More kinds of buffers than storage bindings.
    pub(super) fn new(
        module: &Module,
        fixed: &dyn Fn(ParamId) -> bool,
        options: &Options,
        (spills, stretches): (bool, bool),
    ) -> Result<Self, Unsupported> {
        let mut kinds: Vec<(Kind, Vec<BufferId>)> = Vec::new();
        for (i, buffer) in module.buffers.iter().enumerate() {
            let id = BufferId(i as u32);
            let Some(kind) = kind(buffer.role, buffer.elem, options.precision) else { continue };
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, all)) => all.push(id),
                None => kinds.push((kind, vec![id])),
            }
        }
        let most = options.limits.storage_buffers as usize;
        let free = most.checked_sub(usize::from(spills)).filter(|&free| free >= kinds.len());
        let Some(free) = free else { return Err(crowded(module, kinds.len() + usize::from(spills), most)) };
        let params = Binding { contents: Contents::Params, written: false, elem: Stored::I32 };
        let mut table = Self { bindings: vec![params], words: vec![Word::First, Word::Count], slots: BTreeMap::new() };
        for (i, param) in module.params.iter().enumerate() {
            let id = ParamId(i as u32);
            if param.role != ParamRole::Grid && !fixed(id) {
                table.words.push(Word::Param(id));
            }
        }
        for ((written, stored), shared) in shares(kinds, free) {
            table.bind((written, stored), shared);
        }
        if stretches {
            table.words.extend(stretch::words());
        }
        if spills {
            table.bindings.push(Binding { contents: Contents::Spill, written: true, elem: Stored::F32 });
        }
        Ok(table)
    }

    fn bind(&mut self, (written, stored): Kind, buffers: Vec<BufferId>) {
        let binding = self.bindings.len();
        for &id in &buffers {
            let offset = (buffers.len() > 1).then_some(self.words.len());
            if offset.is_some() {
                self.words.push(Word::Offset(id));
            }
            self.slots.insert(id, Slot { binding, stored, offset });
        }
        self.bindings.push(Binding { contents: Contents::Buffers(buffers), written, elem: stored });
    }

    /// Where a buffer lies; none for scratch.
    pub(super) fn slot(&self, id: BufferId) -> Option<Slot> {
        self.slots.get(&id).copied()
    }

    /// The place of a param in the uniform.
    pub(super) fn word(&self, word: Word) -> Option<usize> {
        self.words.iter().position(|w| *w == word)
    }

    /// The declarations of all bindings.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (number, binding) in self.bindings.iter().enumerate() {
            let (space, name, ty) = match &binding.contents {
                Contents::Params => {
                    let quads = self.words.len().div_ceil(4);
                    ("uniform", "params".to_owned(), format!("array<vec4<i32>, {quads}>"))
                }
                Contents::Buffers(_) | Contents::Spill => {
                    let space = if binding.written { "storage, read_write" } else { "storage, read" };
                    let spill = binding.contents == Contents::Spill;
                    let name = if spill { "spill".to_owned() } else { format!("b{number}") };
                    (space, name, format!("array<{}>", dialect::stored(binding.elem)))
                }
            };
            out += &format!("@group(0) @binding({number}) var<{space}> {name}: {ty};\n");
        }
        out
    }
}

/// A word of the uniform.
pub(super) fn word(place: usize) -> String {
    format!("params[{}].{}", place / 4, ["x", "y", "z", "w"][place % 4])
}

/// The kind of a buffer's binding; none for scratch.
fn kind(role: BufferRole, elem: Elem, precision: Precision) -> Option<Kind> {
    let written = match role {
        BufferRole::Scratch => return None,
        BufferRole::Input | BufferRole::StateIn => false,
        BufferRole::Output | BufferRole::StateOut | BufferRole::Shared => true,
    };
    let declared = matches!(role, BufferRole::Input | BufferRole::Output);
    let stored = match elem {
        Elem::I32 => Stored::I32,
        Elem::F32 if declared && precision == Precision::F16 => Stored::F16,
        Elem::F32 => Stored::F32,
    };
    Some((written, stored))
}

/// Buffers in no more than `free` bindings, at least one a kind: a buffer each while bindings last, else the kinds with
/// the most buffers a binding share first.
fn shares(kinds: Vec<(Kind, Vec<BufferId>)>, free: usize) -> Vec<(Kind, Vec<BufferId>)> {
    let mut counts: Vec<usize> = kinds.iter().map(|(_, all)| all.len()).collect();
    while counts.iter().sum::<usize>() > free {
        let fewest = |i: &usize| (kinds[*i].1.len() as f64 / counts[*i] as f64 * 64.0) as usize;
        let Some(i) = (0..counts.len()).filter(|&i| counts[i] > 1).min_by_key(fewest) else { break };
        counts[i] -= 1;
    }
    let mut out = Vec::new();
    for ((kind, all), count) in kinds.into_iter().zip(counts) {
        let each = all.len().div_ceil(count.max(1)).max(1);
        out.extend(all.chunks(each).map(|some| (kind, some.to_vec())));
    }
    out
}

fn crowded(module: &Module, needed: usize, most: usize) -> Unsupported {
    Unsupported::new(
        format!("`{}` on this adapter", module.name),
        format!("its buffers need {needed} storage bindings however they share them, and a shader has {most}"),
        "run it with --backend auto",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_share_bindings_only_where_they_must() {
        let read = |n: u32| ((false, Stored::F32), (0..n).map(BufferId).collect::<Vec<_>>());
        let written = ((true, Stored::F32), vec![BufferId(20), BufferId(21)]);
        let kinds = vec![read(6), written];
        assert_eq!(shares(kinds.clone(), 8).len(), 8);
        let few = shares(kinds, 4);
        assert!(few.len() <= 4, "{few:?}");
        assert_eq!(few.iter().map(|(_, all)| all.len()).sum::<usize>(), 8);
    }
}

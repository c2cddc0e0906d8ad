//! A run whose sizes are settled, ready to be made again and again: its argument blocks, working memory and work items
//! are laid out once, and a call allocates nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chunkwise_compiler::kernel::{BufferRole, Elem, Module};

use super::loaded::{Entry, Loaded};
use super::subnormal::Flushed;
use super::threads;
use crate::launch::{Bound, Fit, RunError, Steps};
use crate::named::Named;
use crate::tensor::Data;

/// 64 bytes, aligned to as many: buffers of vectors start on cache lines.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[expect(dead_code, reason = "only its address is used, by compiled code")] [f32; 16]);

const LINE: usize = 16;

/// Working memory of a run.
#[derive(Default)]
pub(super) struct Memory {
    shared: Vec<Line>,
    /// Of all workers, one after another.
    scratch: Vec<Line>,
}

/// An argument block of one worker; neighbours' lie on other cache lines.
#[derive(Clone)]
#[repr(align(128))]
struct Words([u64; 16]);

impl Words {
    const LEN: usize = 16;
}

struct Block(Vec<Words>);

impl Block {
    fn new(words: usize) -> Self {
        Self(vec![Words([0; Words::LEN]); words.div_ceil(Words::LEN).max(1)])
    }

    fn set(&mut self, slot: usize, value: u64) {
        self.0[slot / Words::LEN].0[slot % Words::LEN] = value;
    }

    /// `Words` is an array of its size, so the words lie one after another.
    fn address(&self) -> *const u64 {
        self.0.as_ptr().cast()
    }
}

/// The work items of one kernel.
struct Grid {
    /// The block's slot of each axis longer than 1, and its extent; the last axis first.
    axes: Vec<(usize, i64)>,
    /// The slots of the other axes.
    still: Vec<usize>,
    items: i64,
}

/// A run of settled sizes.
pub(super) struct Prepared {
    fit: Fit,
    memory: Memory,
    /// A block a worker. A lock is taken once a kernel, by the worker alone.
    blocks: Vec<Mutex<Block>>,
    grids: Vec<Grid>,
}

/// Bytes of tensors that a thread is worth waking for: a microsecond or two of moving them.
const SHARE: usize = 1 << 15;

impl Prepared {
    /// Lays out a run of these sizes on up to `threads` threads.
    ///
    /// # Errors
    /// Working memory that cannot be had.
    pub(super) fn new(module: &Module, fit: Fit, threads: usize, mut memory: Memory) -> Result<Self, RunError> {
        let workers = workers(module, &fit, threads);
        let (shared, shared_lines) = layout(module, &fit, BufferRole::Shared)?;
        let (scratch, scratch_lines) = layout(module, &fit, BufferRole::Scratch)?;
        let too_large = || RunError::WrongSize("working memory".to_owned(), i64::MAX);
        grow(&mut memory.shared, shared_lines)?;
        grow(&mut memory.scratch, scratch_lines.checked_mul(workers).ok_or_else(too_large)?)?;
        let (common, own) = (memory.shared.as_mut_ptr(), memory.scratch.as_mut_ptr());
        let first_param = module.buffers.len();
        let block = |worker: usize| {
            let mut block = Block::new(first_param + module.params.len());
            for (buffer, at) in &shared {
                block.set(*buffer, common.wrapping_add(*at) as u64);
            }
            for (buffer, at) in &scratch {
                block.set(*buffer, own.wrapping_add(worker * scratch_lines + at) as u64);
            }
            for (n, param) in fit.params.iter().enumerate() {
                block.set(first_param + n, *param as u64);
            }
            Mutex::new(block)
        };
        let blocks = (0..workers).map(block).collect();
        let grid = |kernel| {
            let (extents, items) = (fit.extents(kernel), fit.items(kernel));
            let slots = kernel.grid.iter().map(|axis| first_param + axis.param.index());
            let (axes, still): (Vec<_>, Vec<_>) = slots.zip(extents).rev().partition(|(_, extent)| *extent > 1);
            Grid { axes, still: still.into_iter().map(|(slot, _)| slot).collect(), items }
        };
        let grids = module.kernels.iter().map(grid).collect();
        Ok(Self { fit, memory, blocks, grids })
    }

    /// The elements of a buffer.
    pub(super) fn size(&self, buffer: usize) -> usize {
        self.fit.sizes[buffer]
    }

    /// Where a tensor lies from now on.
    pub(super) fn place(&mut self, buffer: usize, address: u64) {
        for block in &mut self.blocks {
            block.get_mut().unwrap_or_else(PoisonError::into_inner).set(buffer, address);
        }
    }

    /// Gives the working memory back, for another run.
    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }

    /// Runs every kernel in turn, its work items on the workers.
    ///
    /// # Safety
    /// `entries` are code of the module that this was prepared for, of which `fit` was measured. Every buffer that is no working memory was placed
    /// (`place`) where as many elements as `size` says are alive for the whole call: of inputs and initial states to
    /// read, of outputs and final states to write, and these overlap nothing else that was placed.
    pub(super) unsafe fn execute(&mut self, entries: &[Entry]) {
        for (grid, entry) in self.grids.iter().zip(entries) {
            let next = AtomicI64::new(0);
            threads::run(self.blocks.len().min(grid.items.max(1) as usize), &|worker| {
                let mut block = self.blocks[worker].lock().unwrap_or_else(PoisonError::into_inner);
                // SAFETY: until the end of this closure, kernels alone compute with floats: the rest counts work items.
                let _flushed = unsafe { Flushed::begin() };
                // A kernel before may have moved along them.
                grid.still.iter().for_each(|slot| block.set(*slot, 0));
                loop {
                    let mut item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= grid.items {
                        break;
                    }
                    for (slot, extent) in &grid.axes {
                        block.set(*slot, (item % extent) as u64);
                        item /= extent;
                    }
                    // SAFETY: the caller vouches for the tensors and for the entry, whose signature this is. The block
                    // has a slot for every buffer and param; working memory is as large as the module says (`grow`) and
                    // scratch is this worker's own. That `fit` was made proves that no access leaves its buffer.
                    unsafe { entry(block.address()) };
                }
            });
        }
    }
}

/// Threads that a run keeps busy.
fn workers(module: &Module, fit: &Fit, threads: usize) -> usize {
    let most = module.kernels.iter().map(|kernel| fit.items(kernel)).max().unwrap_or(1).max(1);
    threads.min(most as usize).min(1 + moved(module, fit) / SHARE).max(1)
}

/// Bytes that a run works in beside its tensors.
pub(super) fn working(module: &Module, fit: &Fit, threads: usize) -> usize {
    let of = |role| {
        let sizes = module.buffers.iter().zip(&fit.sizes).filter(|(buffer, _)| buffer.role == role);
        sizes.fold(0, |all: usize, (_, size)| all.saturating_add(size.saturating_mul(4)))
    };
    of(BufferRole::Shared).saturating_add(of(BufferRole::Scratch).saturating_mul(workers(module, fit, threads)))
}

/// The least bytes that a run moves: those of its tensors.
fn moved(module: &Module, fit: &Fit) -> usize {
    let working = |role| matches!(role, BufferRole::Shared | BufferRole::Scratch);
    let sizes = module.buffers.iter().zip(&fit.sizes).filter(|(buffer, _)| !working(buffer.role));
    sizes.fold(0, |all: usize, (_, size)| all.saturating_add(size.saturating_mul(4)))
}

/// Where the buffers of one role lie: offsets in lines, and lines in all.
fn layout(module: &Module, fit: &Fit, role: BufferRole) -> Result<(Vec<(usize, usize)>, usize), RunError> {
    let (mut places, mut lines) = (Vec::new(), 0usize);
    for (i, (buffer, size)) in module.buffers.iter().zip(&fit.sizes).enumerate() {
        if buffer.role == role {
            places.push((i, lines));
            lines += size.div_ceil(LINE);
        }
    }
    if lines > isize::MAX as usize / 64 {
        return Err(RunError::WrongSize("working memory".to_owned(), i64::MAX));
    }
    // Workers begin on lines of their own, and no prefetch of one takes a line from another.
    Ok((places, lines + 2))
}

fn grow(memory: &mut Vec<Line>, lines: usize) -> Result<(), RunError> {
    if memory.len() < lines {
        let more = lines - memory.len();
        memory
            .try_reserve(more)
            .map_err(|_| RunError::WrongSize("working memory".to_owned(), (lines * LINE) as i64))?;
        memory.resize(lines, Line([0.0; LINE]));
    }
    Ok(())
}

/// What a buffer of a module is, among the tensors of a call.
enum Source {
    Input(String),
    /// A place in `Bound::outputs`, `start` or `states`.
    Output(usize),
    Start(usize),
    State(usize),
}

/// A module's code and a run of it, for calls that come again and again.
pub(crate) struct Repeated {
    code: Arc<Loaded>,
    prepared: Prepared,
    sources: Vec<(usize, Source)>,
}

impl Repeated {
    /// Prepares runs of these sizes, whose outputs and states have these names.
    ///
    /// # Errors
    /// Working memory that cannot be had, or an output or state that the module has and the names lack.
    pub(crate) fn new(
        code: Arc<Loaded>,
        fit: Fit,
        threads: usize,
        (outputs, states): (&[String], &[String]),
    ) -> Result<Self, RunError> {
        let place = |names: &[String], name: &String| {
            names.iter().position(|of| of == name).ok_or_else(|| RunError::MissingTensor(name.clone()))
        };
        let mut sources = Vec::new();
        for (slot, buffer) in code.module().buffers.iter().enumerate() {
            let source = match buffer.role {
                BufferRole::Input => Source::Input(buffer.name.clone()),
                BufferRole::Output => Source::Output(place(outputs, &buffer.name)?),
                BufferRole::StateIn => Source::Start(place(states, &buffer.name)?),
                BufferRole::StateOut => Source::State(place(states, &buffer.name)?),
                BufferRole::Shared | BufferRole::Scratch => continue,
            };
            sources.push((slot, source));
        }
        let prepared = Prepared::new(code.module(), fit, threads, Memory::default())?;
        Ok(Self { code, prepared, sources })
    }
}

impl Steps for Repeated {
    fn step(&mut self, bound: &mut Bound<'_>) -> Result<(), RunError> {
        for (slot, source) in &self.sources {
            let (slot, buffer) = (*slot, &self.code.module().buffers[*slot]);
            let missing = || RunError::MissingTensor(buffer.name.clone());
            let named = |tensor: &Named| (tensor.values().as_ptr() as u64, tensor.values().len(), Elem::F32);
            let (address, given, elem) = match source {
                Source::Input(name) => match &bound.inputs.get(name).ok_or_else(missing)?.data {
                    Data::F32(data) => (data.as_ptr() as u64, data.len(), Elem::F32),
                    Data::I32(data) => (data.as_ptr() as u64, data.len(), Elem::I32),
                },
                Source::Start(place) => named(bound.start.get(*place).ok_or_else(missing)?),
                Source::Output(place) => writable(bound.outputs.get_mut(*place).ok_or_else(missing)?),
                Source::State(place) => writable(bound.states.get_mut(*place).ok_or_else(missing)?),
            };
            if elem != buffer.elem {
                return Err(RunError::WrongElement(buffer.name.clone()));
            }
            let wanted = self.prepared.size(slot);
            if given != wanted {
                return Err(RunError::WrongLength { name: buffer.name.clone(), wanted, given });
            }
            self.prepared.place(slot, address);
        }
        // SAFETY: the entries are those of the module that `prepared` was made for, and `sources` has every buffer of it
        // that is no working memory. The loop above placed each of them in a tensor of its length that `bound` borrows
        // for the whole call; those written are borrowed mutably, and no two buffers have one place in a list.
        unsafe { self.prepared.execute(self.code.entries()) };
        Ok(())
    }
}

fn writable(tensor: &mut Named) -> (u64, usize, Elem) {
    let values = tensor.values_mut();
    (values.as_mut_ptr() as u64, values.len(), Elem::F32)
}

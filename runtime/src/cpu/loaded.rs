//! Code of a CPU back end in memory: working memory for its runs, and its work items over the threads of the pool. How
//! code comes into memory is each back end's own (`llvm`, `cranelift`).

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use chunkwise_compiler::kernel::{BufferRole, Kernel, Module};

use super::threads;
use crate::launch::{Fit, Input, Launch, RunError, fit};

/// A kernel: it takes the address of its argument block.
pub(super) type Entry = unsafe extern "C" fn(*const u64);

/// What owns code: dropping it frees the code.
pub(super) trait Owner: Send + Sync {}

/// A module's code in memory, ready to run any number of times, from any thread.
pub struct Loaded {
    module: Module,
    entries: Vec<Entry>,
    /// Memory of runs that are over, to be used again.
    memory: Mutex<Vec<Memory>>,
    /// Owns the code that `entries` point into.
    _owner: Box<dyn Owner>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.module.name)
    }
}

/// 64 bytes, aligned to as many: buffers of vectors start on cache lines.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[expect(dead_code, reason = "only its address is used, by compiled code")] [f32; 16]);

const LINE: usize = 16;

#[derive(Default)]
struct Memory {
    shared: Vec<Line>,
    /// Of all workers, one after another.
    scratch: Vec<Line>,
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
    Ok((places, lines))
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

impl Loaded {
    /// The code of `module`: an entry for every kernel, which live as long as `owner`.
    ///
    /// # Errors
    /// `RunError::Load` where there are more or fewer entries than kernels.
    pub(super) fn new(module: &Module, entries: Vec<Entry>, owner: Box<dyn Owner>) -> Result<Self, RunError> {
        if entries.len() != module.kernels.len() {
            return Err(RunError::Load("the code is of another module".to_owned()));
        }
        Ok(Self { module: module.clone(), entries, memory: Mutex::new(Vec::new()), _owner: owner })
    }

    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Runs every kernel in turn, its work items on up to `threads` threads.
    ///
    /// # Errors
    /// A launch that does not fit the module; nothing has run then.
    pub fn run(&self, launch: &mut Launch<'_>, threads: usize) -> Result<(), RunError> {
        let fit = fit(&self.module, launch)?;
        let (shared, shared_lines) = layout(&self.module, &fit, BufferRole::Shared)?;
        let (scratch, scratch_lines) = layout(&self.module, &fit, BufferRole::Scratch)?;
        let mut threads = threads.max(1);
        threads = threads.min(self.module.kernels.iter().map(|k| fit.items(k)).max().unwrap_or(1).max(1) as usize);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        grow(&mut memory.shared, shared_lines)?;
        let all = scratch_lines
            .checked_mul(threads)
            .ok_or_else(|| RunError::WrongSize("working memory".to_owned(), i64::MAX))?;
        grow(&mut memory.scratch, all)?;
        let mut block = self.pointers(launch);
        for (buffer, at) in shared {
            block[buffer] = memory.shared.as_mut_ptr().wrapping_add(at) as u64;
        }
        block.extend(fit.params.iter().map(|&x| x as u64));
        let private = Private { base: memory.scratch.as_mut_ptr() as usize, lines: scratch_lines, places: scratch };
        for (kernel, entry) in self.module.kernels.iter().zip(&self.entries) {
            self.kernel(kernel, *entry, &Ready { block: &block, private: &private, fit: &fit, threads });
        }
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        Ok(())
    }

    /// The addresses of the tensors and states that a checked launch gives; 0 for working memory.
    fn pointers(&self, launch: &mut Launch<'_>) -> Vec<u64> {
        let mut address = |buffer: &chunkwise_compiler::kernel::Buffer| {
            let name = buffer.name.as_str();
            match buffer.role {
                BufferRole::Input => launch.inputs.get(name).map(|x| match x {
                    Input::F32(data) => data.as_ptr() as u64,
                    Input::I32(data) => data.as_ptr() as u64,
                }),
                BufferRole::StateIn => launch.states_in.get(name).map(|x| x.as_ptr() as u64),
                BufferRole::Output => launch.outputs.get_mut(name).map(|x| x.as_mut_ptr() as u64),
                BufferRole::StateOut => launch.states_out.get_mut(name).map(|x| x.as_mut_ptr() as u64),
                BufferRole::Shared | BufferRole::Scratch => None,
            }
        };
        self.module.buffers.iter().map(|buffer| address(buffer).unwrap_or(0)).collect()
    }

    fn kernel(&self, kernel: &Kernel, entry: Entry, ready: &Ready<'_>) {
        let extents = ready.fit.extents(kernel);
        let total = ready.fit.items(kernel);
        let first_param = self.module.buffers.len();
        let next = AtomicI64::new(0);
        threads::run(ready.threads.min(total.max(1) as usize), &|worker| {
            let mut block = ready.block.to_vec();
            for (buffer, at) in &ready.private.places {
                block[*buffer] = (ready.private.base + (worker * ready.private.lines + at) * size_of::<Line>()) as u64;
            }
            loop {
                let mut item = next.fetch_add(1, Ordering::Relaxed);
                if item >= total {
                    break;
                }
                for (axis, extent) in kernel.grid.iter().zip(&extents).rev() {
                    block[first_param + axis.param.index()] = (item % extent) as u64;
                    item /= extent;
                }
                // SAFETY: the entry is code of this module with this signature. Its block holds, for every buffer, the
                // address of as many elements as the module says (`fit` checked the launch, `grow` the working
                // memory), alive for the whole run; scratch is this worker's own, and the module's work items write
                // nothing that another one touches.
                unsafe { entry(block.as_ptr()) };
            }
        });
    }
}

/// Working memory of the workers.
struct Private {
    base: usize,
    lines: usize,
    places: Vec<(usize, usize)>,
}

/// What the kernels of one run share.
struct Ready<'r> {
    block: &'r [u64],
    private: &'r Private,
    fit: &'r Fit,
    threads: usize,
}

//! Code of a CPU back end in memory, and single runs of it. How code comes into memory is each back end's own (`llvm`,
//! `cranelift`); how a run is laid out is `prepared`'s.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chunkwise_compiler::kernel::{Buffer, BufferRole, Checked};

use super::prepared::{Memory, Prepared, working};
use crate::launch::{Admission, Input, Launch, RunError};

/// A kernel: it takes the address of its argument block.
pub(super) type Entry = unsafe extern "C" fn(*const u64);

/// What owns code: dropping it frees the code.
pub(super) trait Owner: Send + Sync {}

/// A module's code in memory, ready to run any number of times, from any thread.
pub struct Loaded {
    admission: Admission,
    entries: Vec<Entry>,
    /// Memory of runs that are over, to be used again.
    memory: Mutex<Vec<Memory>>,
    /// Owns the code that `entries` point into.
    _owner: Box<dyn Owner>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.module().name)
    }
}

impl Loaded {
    /// The code of `module`: an entry for every kernel, which live as long as `owner`.
    ///
    /// # Errors
    /// `RunError::Load` where there are more or fewer entries than kernels.
    pub(super) fn new(module: &Checked, entries: Vec<Entry>, owner: Box<dyn Owner>) -> Result<Self, RunError> {
        if entries.len() != module.kernels.len() {
            return Err(RunError::Load("the code is of another module".to_owned()));
        }
        let admission = Admission::new(module.clone());
        Ok(Self { admission, entries, memory: Mutex::new(Vec::new()), _owner: owner })
    }

    pub fn module(&self) -> &Checked {
        self.admission.module()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Runs every kernel in turn, its work items on up to `threads` threads.
    ///
    /// # Errors
    /// A launch that does not fit the module; nothing has run then.
    pub fn run(&self, launch: &mut Launch<'_>, threads: usize) -> Result<(), RunError> {
        self.repeat(launch, threads, &mut |_| true).map(|_| ())
    }

    /// Runs on the same tensors until `enough` says so of all times, once at least; what a run is laid out as is laid
    /// out once.
    ///
    /// # Errors
    /// As `run`.
    pub fn repeat(
        &self,
        launch: &mut Launch<'_>,
        threads: usize,
        enough: &mut dyn FnMut(&[Duration]) -> bool,
    ) -> Result<Vec<Duration>, RunError> {
        let fit = self.admission.fit(launch)?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let mut prepared = Prepared::new(self.module(), fit, threads, memory)?;
        for (buffer, address) in self.pointers(launch).into_iter().enumerate() {
            if let Some(address) = address {
                prepared.place(buffer, address);
            }
        }
        let mut times = Vec::new();
        loop {
            let clock = Instant::now();
            // SAFETY: `fit` found that the launch has every tensor of this module with as many elements as it says, that no
            // access of the module leaves them at these sizes, and they are placed; those written are borrowed mutably,
            // each under a name of its own (`check` refuses two buffers that are written under one).
            unsafe { prepared.execute(&self.entries) };
            times.push(clock.elapsed());
            if enough(&times) {
                break;
            }
        }
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(prepared.into_memory());
        Ok(times)
    }

    /// Bytes that a run of these sizes works in beside its tensors.
    ///
    /// # Errors
    /// A size that is missing.
    pub fn workspace(&self, launch: &Launch<'_>, threads: usize) -> Result<usize, RunError> {
        Ok(working(self.module(), &self.admission.measure(launch)?, threads))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The addresses of the tensors and states that a checked launch gives; none of working memory.
    fn pointers(&self, launch: &mut Launch<'_>) -> Vec<Option<u64>> {
        let mut address = |buffer: &Buffer| {
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
        self.module().buffers.iter().map(&mut address).collect()
    }
}

//! Shaders of `codegen::wgsl` on a GPU, through wgpu: NVIDIA, AMD and Intel by Vulkan, Apple by Metal, Windows by DX12, and
//! the processor by a software driver (Mesa's lavapipe).
//!
//! ```text
//! instance  the way to the drivers
//! adapter   which devices there are, their limits, which one is taken
//! open      an open device; its errors as ours
//! build     a variant as shaders for a device: chunk length and value tiles are compiled in
//! pipeline  shaders compiled by the driver, kept by source
//! place     what lies where, and the launches of one run
//! stretch   where dispatches of a long kernel begin and end
//! session   a run: tensors there, kernels, tensors back
//! ```
//!
//! Not here: what a shader holds (`codegen::wgsl`); runs on more than a device holds at once, which `compiled` splits.

mod adapter;
mod buffers;
mod build;
mod instance;
mod open;
mod pipeline;
mod place;
mod session;
mod stretch;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use chunkwise_compiler::codegen::wgsl::{Code, Contents};
use chunkwise_compiler::kernel::{BufferRole, Checked, Integers};

use crate::{
    device::Settings,
    launch::{Admission, Launch, RunError},
};

pub use adapter::{device, devices};
pub use build::{Build, tiles_wanted};
use open::Gpu;
use pipeline::Ready;
use session::Session;

/// A module's shaders on a device, ready to run any number of times, from any thread.
pub struct Loaded {
    admission: Admission,
    code: Code,
    settings: Settings,
    /// Tokens in a chunk, where they are compiled in, and value tiles, which are.
    chunk: Option<i64>,
    tiles: i64,
    /// The device and the pipelines on it. Made anew after the device was lost.
    ready: Mutex<Option<(Arc<Gpu>, Arc<Ready>)>>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.module().name)
    }
}

impl Loaded {
    pub fn module(&self) -> &Checked {
        self.admission.module()
    }

    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Tokens in a chunk, where they are compiled in.
    pub fn chunk(&self) -> Option<i64> {
        self.chunk
    }

    /// Value tiles, as compiled.
    pub fn tiles(&self) -> i64 {
        self.tiles
    }

    /// Whether the device holds a run of these sizes at once.
    ///
    /// # Errors
    /// `RunError::TooLarge` with what is too large, or a size that is missing.
    pub fn holds(&self, launch: &Launch<'_>) -> Result<(), RunError> {
        let (gpu, _) = self.ready()?;
        let fit = self.admission.measure(launch)?;
        place::Layout::new((self.module(), &self.code), &fit, (&gpu.limits, &gpu.pace)).map(|_| ())
    }

    /// Bytes of the device that a run of these sizes works in beside its tensors.
    ///
    /// # Errors
    /// As `holds`.
    pub fn workspace(&self, launch: &Launch<'_>) -> Result<usize, RunError> {
        let ((gpu, _), fit) = (self.ready()?, self.admission.measure(launch)?);
        let layout = place::Layout::new((self.module(), &self.code), &fit, (&gpu.limits, &gpu.pace))?;
        let bindings = self.code.bindings.iter().zip(&layout.bytes);
        let spilled = bindings.filter(|(bound, _)| bound.contents == Contents::Spill).map(|(_, bytes)| *bytes);
        let buffers = self.module().buffers.iter().zip(&fit.sizes);
        let shared = buffers.filter(|(buffer, _)| buffer.role == BufferRole::Shared).map(|(_, size)| 4 * *size as u64);
        Ok(spilled.chain(shared).sum::<u64>() as usize)
    }

    /// Runs every kernel in turn; how long they took.
    ///
    /// # Errors
    /// A launch that does not fit the module or the device, or a failure of the device. After a device is lost, the
    /// next run opens it anew.
    pub fn run(&self, launch: &mut Launch<'_>) -> Result<Duration, RunError> {
        self.session(launch, |session, launch| {
            session.upload(launch)?;
            let times = session.go(1)?;
            session.download(launch)?;
            Ok(times[0])
        })
    }

    /// Times the kernels on tensors that are there already, again and again until `enough` says so of all times.
    ///
    /// # Errors
    /// As `run`.
    pub fn time(
        &self,
        launch: &mut Launch<'_>,
        enough: &dyn Fn(&[Duration]) -> bool,
    ) -> Result<Vec<Duration>, RunError> {
        self.session(launch, |session, launch| {
            session.upload(launch)?;
            // Once to warm up, and to know how many go into a submission of about 20 ms.
            let first = session.go(1)?[0].max(Duration::from_micros(1));
            let together = (0.02 / first.as_secs_f64()).clamp(1.0, 100.0) as usize;
            session.go(together)?;
            let mut times = Vec::new();
            while !enough(&times) {
                times.extend(session.go(together)?);
            }
            Ok(times)
        })
    }

    /// Does work with a session for a launch. Memory that is short is asked for once more without the buffers that are
    /// kept for later.
    fn session<T>(
        &self,
        launch: &mut Launch<'_>,
        work: impl Fn(&Session<'_>, &mut Launch<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let fit = self.admission.fit(launch)?;
        let (gpu, ready) = self.ready()?;
        let mut once = || {
            gpu.guarded(|| {
                let session = Session::new((self.module(), &self.code), (&gpu, &ready), &fit)?;
                // What a device holds at once, its integers can count; so this comes after what it does not hold.
                self.admission.prove(&fit.params, Integers::I32)?;
                work(&session, launch)
            })
        };
        let held = !gpu.pool().is_empty();
        match once() {
            Err(RunError::Device(_)) if held && gpu.lost().is_none() => once(),
            done => done,
        }
    }

    fn ready(&self) -> Result<(Arc<Gpu>, Arc<Ready>), RunError> {
        let mut ready = open::lock(&self.ready);
        if let Some((gpu, pipelines)) = ready.as_ref().filter(|(gpu, _)| gpu.lost().is_none()) {
            return Ok((Arc::clone(gpu), Arc::clone(pipelines)));
        }
        let gpu = open::open(&self.settings).map_err(|why| RunError::Device(why.to_string()))?;
        let pipelines = Arc::new(Ready::new(&gpu, &self.code)?);
        *ready = Some((Arc::clone(&gpu), Arc::clone(&pipelines)));
        Ok((gpu, pipelines))
    }
}

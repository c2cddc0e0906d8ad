//! An open device: its queue, its buffers that wait to be used again, and what went wrong on it. Opened once a process
//! and adapter, and again after it was lost. wgpu's errors and panics end here as `RunError::Device`.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chunkwise_compiler::codegen::wgsl::Limits;
use wgpu::{ErrorFilter, ExperimentalFeatures, Features};

use super::{adapter, buffers::Pool, pipeline::Pipelines, place::Pace};
use crate::{
    backend::Unusable,
    device::{Limit, Settings},
    launch::RunError,
};

/// A device to run on.
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// Limits that code for it keeps to.
    pub(super) limits: Limits,
    /// How long it is left to itself.
    pub(super) pace: Pace,
    /// Nanoseconds of a timestamp's tick, where it has timestamps.
    pub(super) tick: Option<f32>,
    /// What uniform slots must be aligned to.
    pub(super) alignment: u64,
    pool: Mutex<Pool>,
    pipelines: Mutex<Pipelines>,
    /// Why it is of no use any more.
    lost: Arc<Mutex<Option<String>>>,
}

/// An adapter and the limits that were lowered: devices are opened with these.
type Key = (usize, Vec<(Limit, u64)>);

/// The device that the settings ask for, opened if it is not open yet.
///
/// # Errors
/// There is no adapter, none of the name asked for, or its driver does not open it.
pub(super) fn open(settings: &Settings) -> Result<Arc<Gpu>, Unusable> {
    static OPEN: Mutex<Option<HashMap<Key, Arc<Gpu>>>> = Mutex::new(None);
    let key = (adapter::choose(settings.device.as_deref())?, settings.lowered.clone());
    let mut open = lock(&OPEN);
    let open = open.get_or_insert_default();
    if let Some(gpu) = open.get(&key).filter(|gpu| gpu.lost().is_none()) {
        return Ok(Arc::clone(gpu));
    }
    let gpu = Arc::new(Gpu::new(&adapter::all()[key.0], settings)?);
    open.insert(key, Arc::clone(&gpu));
    Ok(gpu)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole whenever they are free.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    fn new(adapter: &wgpu::Adapter, settings: &Settings) -> Result<Self, Unusable> {
        let (limits, info) = (adapter::limits(adapter, settings), adapter.get_info());
        let pace = adapter::pace(info.device_type, settings);
        let features = adapter::features(adapter);
        let mut required = adapter.limits();
        required.max_compute_workgroup_storage_size = limits.workgroup_memory;
        required.max_compute_invocations_per_workgroup = limits.invocations;
        required.max_compute_workgroups_per_dimension = limits.groups;
        let experimental = match features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            // SAFETY: experimental features may have bugs that are undefined behaviour; of them only cooperative
            // matrices are asked for, whose shaders naga validates and whose loads and stores lie in arrays of ours.
            true => unsafe { ExperimentalFeatures::enabled() },
            false => ExperimentalFeatures::disabled(),
        };
        let wish = wgpu::DeviceDescriptor {
            label: Some("chunkwise"),
            required_features: features,
            required_limits: required,
            experimental_features: experimental,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wish)).map_err(|error| Unusable {
            reason: format!("the driver does not open {}: {error}", info.name),
            way_out: "choose another adapter with --device (see chunkwise backends)".into(),
        })?;
        let lost = Arc::new(Mutex::new(None));
        let why = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            *lock(&why) = Some(format!("{message} ({reason:?})"));
        });
        // Errors outside of a scope come from dropped objects of a failed run, whose scopes have said what was wrong.
        device.on_uncaptured_error(Arc::new(|_| {}));
        let tick = features.contains(Features::TIMESTAMP_QUERY).then(|| queue.get_timestamp_period());
        let alignment = u64::from(device.limits().min_uniform_buffer_offset_alignment);
        let pool = Mutex::new(Pool::new(info.device_type));
        Ok(Self { device, queue, limits, pace, tick, alignment, pool, pipelines: Mutex::default(), lost })
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    pub(super) fn pipelines(&self) -> MutexGuard<'_, Pipelines> {
        lock(&self.pipelines)
    }

    /// Why the device is lost, if it is.
    pub(super) fn lost(&self) -> Option<String> {
        lock(&self.lost).clone()
    }

    /// Does work on the device, and tells what went wrong in it: a device lost, memory exhausted, or anything that wgpu
    /// refuses or panics about.
    ///
    /// # Errors
    /// The work's own, or `RunError::Device`.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
        let filters = [ErrorFilter::Internal, ErrorFilter::Validation, ErrorFilter::OutOfMemory];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        // wgpu panics where a device is lost while it is waited for.
        let done = catch_unwind(AssertUnwindSafe(work));
        // Innermost first: memory that is exhausted makes everything after it invalid.
        let errors = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop())).collect::<Vec<_>>();
        let wrong = match (self.lost(), errors.into_iter().flatten().next(), done) {
            (Some(why), _, _) => format!("the device was lost: {why}"),
            (None, Some(error), _) => error.to_string().trim().to_owned(),
            (None, None, Ok(done)) => return done,
            (None, None, Err(panic)) => said(&*panic),
        };
        self.pool().clear();
        Err(RunError::Device(wrong))
    }

    /// Loses the device on purpose.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.device.destroy();
        let _ = self.device.poll(wgpu::PollType::Poll);
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the driver failed").trim().to_owned()
}

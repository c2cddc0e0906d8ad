//! The adapters of this machine, by any driver that wgpu knows (Vulkan, Metal, DX12): what they are called, what they
//! can do, and which of them is taken. Not here: opening one (`open`).

use std::sync::OnceLock;

use chunkwise_compiler::codegen::wgsl::{Cooperative, Limits, SAFE_TRIPS};
use wgpu::{CooperativeScalarType as Scalar, DeviceType, Features};

use super::{instance, place::Pace};
use crate::{
    backend::{Device, Unusable},
    device::{Limit, Precision, Settings},
};

/// Indices of buffers are i32 in shaders.
const MOST_BYTES: u64 = (1 << 31) - 4;

/// Trips through loops that one dispatch of a GPU may take where a kernel cannot be cut. No driver is known that counts.
const MOST_TRIPS: u64 = 1 << 22;

/// Nanoseconds that a trip is taken to last at the most: a round to memory or a barrier, and what is computed meanwhile.
const TRIP: u64 = 1000;

/// Milliseconds that a device is left to itself. Windows ends what takes 2 seconds, others wait for up to 10.
const MILLISECONDS: u64 = 500;

/// The adapters, in the order of the drivers; found once a process.
pub(super) fn all() -> &'static [wgpu::Adapter] {
    static FOUND: OnceLock<Vec<wgpu::Adapter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let Some(instance) = instance::instance() else { return Vec::new() };
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        adapters.into_iter().filter(runs_kernels).collect()
    })
}

fn runs_kernels(adapter: &wgpu::Adapter) -> bool {
    adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
}

/// All adapters as devices; the one that is taken by itself comes first.
///
/// # Errors
/// There is none.
pub fn devices() -> Result<Vec<Device>, Unusable> {
    let taken = choose(None)?;
    let mut places: Vec<usize> = (0..all().len()).collect();
    places.sort_by_key(|&place| place != taken);
    Ok(places.into_iter().map(|place| described(place, &all()[place])).collect())
}

/// The adapter asked for by number or name.
///
/// # Errors
/// There is no adapter, or none of this name.
pub fn device(wanted: &str) -> Result<Device, Unusable> {
    choose(Some(wanted)).map(|place| described(place, &all()[place]))
}

/// The place of the adapter asked for by number or name; else of the one that WGPU_ADAPTER_NAME names, else of the most
/// powerful one.
///
/// # Errors
/// There is no adapter, or none of this name.
pub(super) fn choose(wanted: Option<&str>) -> Result<usize, Unusable> {
    let adapters = all();
    if adapters.is_empty() {
        return Err(Unusable {
            reason: "there is no Vulkan, Metal or DX12 adapter here".into(),
            way_out: "apt-get install mesa-vulkan-drivers libvulkan1 gives a software one".into(),
        });
    }
    let variable = std::env::var("WGPU_ADAPTER_NAME").ok().filter(|name| !name.is_empty());
    match wanted.or(variable.as_deref()) {
        Some(wanted) => named(wanted, adapters),
        None => {
            let order = |place: &usize| (power(adapters[*place].get_info().device_type), std::cmp::Reverse(*place));
            Ok((0..adapters.len()).max_by_key(order).unwrap_or(0))
        }
    }
}

fn named(wanted: &str, adapters: &[wgpu::Adapter]) -> Result<usize, Unusable> {
    if let Some(place) = wanted.parse::<usize>().ok().filter(|place| *place < adapters.len()) {
        return Ok(place);
    }
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let meant = wanted.to_lowercase();
    names.iter().position(|name| name.to_lowercase().contains(&meant)).ok_or_else(|| {
        let listed: Vec<String> = names.iter().enumerate().map(|(place, name)| format!("{place}: {name}")).collect();
        Unusable {
            reason: format!("no adapter is called `{wanted}`"),
            way_out: format!("there are {}", listed.join(", ")),
        }
    })
}

fn power(kind: DeviceType) -> u32 {
    match kind {
        DeviceType::DiscreteGpu => 4,
        DeviceType::VirtualGpu => 3,
        DeviceType::IntegratedGpu => 2,
        DeviceType::Other => 1,
        DeviceType::Cpu => 0,
    }
}

/// Workgroups that keep an adapter busy.
pub(super) fn groups_wanted(kind: DeviceType) -> usize {
    match kind {
        DeviceType::DiscreteGpu | DeviceType::VirtualGpu => 256,
        DeviceType::IntegratedGpu | DeviceType::Other => 64,
        DeviceType::Cpu => crate::backend::cores(),
    }
}

/// How long a device is left to itself, and how much of its work is done at a time.
pub(super) fn pace(kind: DeviceType, settings: &Settings) -> Pace {
    let asked = settings.lowered.iter().filter(|(limit, _)| *limit == Limit::Milliseconds).map(|(_, to)| *to);
    let milliseconds = asked.fold(MILLISECONDS, u64::min);
    let at_once = match kind {
        // Nobody watches over it.
        DeviceType::Cpu => i64::MAX,
        _ => groups_wanted(kind) as i64,
    };
    Pace { at_once, trips: milliseconds.saturating_mul(1_000_000 / TRIP) }
}

/// The features that are used where they are there.
pub(super) fn features(adapter: &wgpu::Adapter) -> Features {
    let wanted = Features::SUBGROUP
        | Features::SHADER_F16
        | Features::TIMESTAMP_QUERY
        | Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    adapter.features() & wanted
}

/// What code may take for granted: the adapter's limits, or those lowered on purpose.
pub(super) fn limits(adapter: &wgpu::Adapter, settings: &Settings) -> Limits {
    let (has, features) = (adapter.limits(), features(adapter));
    let mut limits = Limits {
        workgroup_memory: has.max_compute_workgroup_storage_size,
        invocations: has.max_compute_invocations_per_workgroup.min(has.max_compute_workgroup_size_x),
        groups: has.max_compute_workgroups_per_dimension,
        // One of the places that a stage has for buffers is the uniform's.
        storage_buffers: has
            .max_storage_buffers_per_shader_stage
            .min(has.max_bindings_per_bind_group.saturating_sub(1)),
        binding_bytes: has.max_storage_buffer_binding_size.min(has.max_buffer_size).min(MOST_BYTES),
        subgroups: features.contains(Features::SUBGROUP),
        f16: features.contains(Features::SHADER_F16),
        cooperative: cooperative(adapter),
        trips: match adapter.get_info().device_type {
            DeviceType::Cpu => SAFE_TRIPS,
            _ => MOST_TRIPS,
        },
    };
    lower(&mut limits, settings);
    limits
}

/// The same of the adapter that the settings ask for; where there is none at all, what WebGPU grants everywhere, and
/// f16 where the settings ask for it.
///
/// # Errors
/// An adapter was asked for by name, and there is none of it.
pub(super) fn limits_without_opening(settings: &Settings) -> Result<Limits, Unusable> {
    if all().is_empty() && settings.device.is_none() {
        let f16 = settings.precision == Precision::F16;
        let mut least = Limits { f16, ..Limits::default() };
        lower(&mut least, settings);
        return Ok(least);
    }
    choose(settings.device.as_deref()).map(|place| limits(&all()[place], settings))
}

fn lower(limits: &mut Limits, settings: &Settings) {
    let narrow = |value: u32, to: u64| value.min(u32::try_from(to).unwrap_or(u32::MAX));
    for &(limit, to) in &settings.lowered {
        match limit {
            Limit::WorkgroupMemory => limits.workgroup_memory = narrow(limits.workgroup_memory, to),
            Limit::Invocations => limits.invocations = narrow(limits.invocations, to),
            Limit::Groups => limits.groups = narrow(limits.groups, to),
            Limit::StorageBuffers => limits.storage_buffers = narrow(limits.storage_buffers, to),
            Limit::Binding => limits.binding_bytes = limits.binding_bytes.min(to),
            Limit::Trips => limits.trips = limits.trips.min(to),
            // Of the pace.
            Limit::Milliseconds => {}
        }
    }
}

/// The cooperative matrices to use: large tiles first, f16 factors first, sums in f32 always.
fn cooperative(adapter: &wgpu::Adapter) -> Option<Cooperative> {
    if !features(adapter).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return None;
    }
    let f16 = features(adapter).contains(Features::SHADER_F16);
    let listed = adapter.cooperative_matrix_properties();
    let has = |side: u32, factors: Scalar| {
        listed.iter().any(|found| {
            [found.m_size, found.n_size, found.k_size] == [side; 3]
                && found.ab_type == factors
                && found.cr_type == Scalar::F32
        })
    };
    let order = [(16, Scalar::F16), (8, Scalar::F16), (16, Scalar::F32), (8, Scalar::F32)];
    let (side, factors) =
        order.into_iter().find(|&(side, factors)| has(side, factors) && (f16 || factors != Scalar::F16))?;
    Some(Cooperative { side, f16: factors == Scalar::F16 })
}

fn described(place: usize, adapter: &wgpu::Adapter) -> Device {
    let (info, limits) = (adapter.get_info(), limits(adapter, &Settings::default()));
    let driver = [info.driver.as_str(), info.driver_info.as_str()].map(str::trim);
    let driver = driver.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    let mut features = vec![kind(info.device_type).to_string(), info.backend.to_str().to_string()];
    if !driver.is_empty() {
        features.push(format!("driver `{driver}`"));
    }
    features.push(format!("{}={}", Limit::WorkgroupMemory, limits.workgroup_memory));
    features.push(format!("{}={}", Limit::Invocations, limits.invocations));
    features.push(format!("{}={}", Limit::Groups, limits.groups));
    features.push(format!("{}={}", Limit::StorageBuffers, limits.storage_buffers));
    features.push(format!("{}={}", Limit::Binding, limits.binding_bytes));
    features.push(format!("{}={}", Limit::Trips, limits.trips));
    features.push(format!("{}={MILLISECONDS}", Limit::Milliseconds));
    if limits.subgroups {
        features.push(match (info.subgroup_min_size, info.subgroup_max_size) {
            (least, most) if least == most => format!("subgroups={most}"),
            (least, most) => format!("subgroups={least}..{most}"),
        });
    }
    features.extend(limits.f16.then(|| "f16".to_string()));
    if self::features(adapter).contains(Features::TIMESTAMP_QUERY) {
        features.push("timestamps".into());
    }
    for found in adapter.cooperative_matrix_properties() {
        let (m, n, k) = (found.m_size, found.n_size, found.k_size);
        let (factors, sums) = (scalar(found.ab_type), scalar(found.cr_type));
        features.push(format!("cooperative={m}x{n}x{k}:{factors}->{sums}"));
    }
    let software = info.device_type == DeviceType::Cpu;
    Device { name: format!("{place}: {}", info.name), features, software }
}

fn kind(kind: DeviceType) -> &'static str {
    match kind {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::Other => "other",
        DeviceType::Cpu => "software",
    }
}

fn scalar(of: Scalar) -> &'static str {
    match of {
        Scalar::F32 => "f32",
        Scalar::F16 => "f16",
        Scalar::I32 => "i32",
        Scalar::U32 => "u32",
    }
}

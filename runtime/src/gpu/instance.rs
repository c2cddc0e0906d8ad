//! The way to the drivers: one instance a process, which draws nothing on any screen.

use wgpu::InstanceFlags;

/// An instance; none where there is no loader of drivers.
#[cfg(not(target_os = "linux"))]
pub(super) fn instance() -> Option<wgpu::Instance> {
    let mut wish = wgpu::InstanceDescriptor::new_without_display_handle();
    wish.flags = FLAGS;
    Some(wgpu::Instance::new(wish))
}

/// An instance; none where there is no loader of drivers. It is asked for without Wayland's extension: with it Mesa looks
/// for a compositor, and the library it asks complains on stderr where XDG_RUNTIME_DIR is not set.
#[cfg(target_os = "linux")]
pub(super) fn instance() -> Option<wgpu::Instance> {
    use wgpu::hal::{InstanceDescriptor, vulkan};
    let wish = InstanceDescriptor {
        name: "chunkwise",
        flags: FLAGS,
        memory_budget_thresholds: Default::default(),
        backend_options: Default::default(),
        telemetry: None,
        display: None,
    };
    let headless = |asked: vulkan::CreateInstanceCallbackArgs<'_, '_, '_>| {
        asked.extensions.retain(|name| *name != c"VK_KHR_wayland_surface");
    };
    // SAFETY: the library that is loaded is the system's loader of Vulkan drivers. The callback adds nothing; what it takes
    // out is an extension that wgpu does without wherever a driver lacks it, for surfaces of windows, which nothing here
    // makes.
    let made = unsafe { vulkan::Instance::init_with_callback(&wish, Some(Box::new(headless))) }.ok()?;
    // SAFETY: the instance is whole, of the same version of wgpu, and nothing else owns it.
    Some(unsafe { wgpu::Instance::from_hal::<vulkan::Api>(made) })
}

/// No validation layers: they report to stderr, and errors come back as errors without them.
const FLAGS: InstanceFlags = InstanceFlags::empty();

//! `chunkwise backends`: what is usable here, and why the rest is not.

use chunkwise_runtime::{
    Backend,
    backend::{Device, Unusable},
};
use clap::Args;
use serde_json::json;

use crate::{failure::Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// Only what runs on this GPU: its number or a part of its name
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shown = match &arguments.device {
        None => Backend::ALL.to_vec(),
        Some(_) => vec![Backend::Wgpu],
    };
    for backend in shown {
        let devices = devices(backend, arguments.device.as_deref());
        if let (Err(why), Some(_)) = (&devices, &arguments.device) {
            return Err(chunkwise_runtime::Failure::Unusable(backend, why.clone()).into());
        }
        print::line(&if print::json() { as_json(backend, devices) } else { as_text(backend, devices) })?;
    }
    Ok(())
}

#[cfg(feature = "wgpu")]
fn devices(backend: Backend, wanted: Option<&str>) -> Result<Vec<Device>, Unusable> {
    match wanted {
        Some(wanted) => chunkwise_runtime::gpu::device(wanted).map(|device| vec![device]),
        None => backend.devices(),
    }
}

#[cfg(not(feature = "wgpu"))]
fn devices(backend: Backend, _: Option<&str>) -> Result<Vec<Device>, Unusable> {
    backend.devices()
}

/// A line a device; the first is the one taken where none is asked for.
fn as_text(backend: Backend, devices: Result<Vec<Device>, Unusable>) -> String {
    match devices {
        Ok(devices) => {
            let line = |(place, device): (usize, &Device)| {
                let (name, usable) = if place == 0 { (backend.name(), "usable") } else { ("", "") };
                format!("{name:<10} {usable:<11} {} ({})", device.name, device.features.join(" "))
            };
            devices.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
        }
        Err(why) => format!("{:<10} not usable  {why}", backend.name()),
    }
}

fn as_json(backend: Backend, devices: Result<Vec<Device>, Unusable>) -> String {
    match devices {
        Ok(devices) => {
            let devices: Vec<_> =
                devices.iter().map(|device| json!({"name": device.name, "features": device.features})).collect();
            json!({"backend": backend.name(), "usable": true, "devices": devices}).to_string()
        }
        Err(why) => json!({"backend": backend.name(), "usable": false, "reason": why.reason, "way_out": why.way_out})
            .to_string(),
    }
}

//! `chunkwise backends`: what is usable here, and why the rest is not.

use chunkwise_runtime::Backend;
use clap::Args;
use serde_json::json;

use crate::{failure::Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// One line of JSON a back end
    #[arg(long)]
    json: bool,
    /// Say more
    #[arg(short, long)]
    #[allow(dead_code, reason = "taken by every subcommand; this one has nothing more to say")]
    verbose: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    for backend in Backend::ALL {
        print::line(&if arguments.json { as_json(backend) } else { as_text(backend) })?;
    }
    Ok(())
}

fn as_text(backend: Backend) -> String {
    match backend.devices() {
        Ok(devices) => {
            let devices = devices.iter().map(|device| format!("{} ({})", device.name, device.features.join(" ")));
            format!("{:<10} usable      {}", backend.name(), devices.collect::<Vec<_>>().join("; "))
        }
        Err(why) => format!("{:<10} not usable  {why}", backend.name()),
    }
}

fn as_json(backend: Backend) -> String {
    match backend.devices() {
        Ok(devices) => {
            let devices: Vec<_> =
                devices.iter().map(|device| json!({"name": device.name, "features": device.features})).collect();
            json!({"backend": backend.name(), "usable": true, "devices": devices}).to_string()
        }
        Err(why) => json!({"backend": backend.name(), "usable": false, "reason": why.reason, "way_out": why.way_out})
            .to_string(),
    }
}

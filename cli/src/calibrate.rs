//! `chunkwise calibrate`: what kernels cost on this machine, measured and kept for `auto` to choose by.

use chunkwise_compiler::kernel::Rates;
use chunkwise_runtime::{
    Backend,
    calibrate::{self, Measured},
    rates::{Table, path, processor},
};
use clap::Args;
use serde_json::{Map, json};

use crate::{failure::Failure, print, table};

#[derive(Args)]
pub struct Arguments {
    /// Measure and print, but keep nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let backends: Vec<Backend> =
        [Backend::Llvm, Backend::Cranelift].into_iter().filter(|backend| backend.usable()).collect();
    let mut table = Table::default();
    let (mut measured, mut worse) = (Vec::new(), Vec::new());
    let bar = print::progress(calibrate::STEPS * backends.len());
    for backend in backends {
        let found = calibrate::measure(backend, &mut |done| {
            bar.set_message(format!("{}: {done}", backend.name()));
            bar.inc(1);
        })?;
        if found.worse() {
            worse.push(said(backend, &found));
        } else if print::verbose() {
            print::detail(&said(backend, &found));
        }
        if print::json() {
            print::line(&as_json(backend, &found.rates))?;
        }
        table.set(backend, found.rates.clone());
        measured.push((backend, found.rates));
    }
    bar.finish_and_clear();
    if measured.is_empty() {
        return Err(Failure::Failed("no back end of this chunkwise compiles for a CPU".into()));
    }
    if !print::json() {
        let header: Vec<&str> = ["ns"].into_iter().chain(measured.iter().map(|(backend, _)| backend.name())).collect();
        let row = |name: &&str| {
            let values = measured.iter().map(|(_, rates)| format!("{:.4}", rates.get(name).unwrap_or(0.0)));
            [name.to_string()].into_iter().chain(values).collect()
        };
        let rows: Vec<Vec<String>> = Rates::NAMES.iter().map(row).collect();
        print::line(&table::aligned(&header, &rows))?;
    }
    if arguments.dry_run {
        worse.iter().for_each(|said| print::warning(said));
        return Ok(());
    }
    if !worse.is_empty() {
        let again = "nothing is kept; try again while the machine is idle";
        return Err(Failure::Failed(format!("{}: {again}", worse.join("; "))));
    }
    let Some(path) = path() else {
        return Err(Failure::Failed("there is no cache folder: neither XDG_CACHE_HOME nor HOME is set".into()));
    };
    let failed = |error| Failure::Failed(format!("cannot write {}: {error}", path.display()));
    table.store(&path).map_err(failed)?;
    if print::verbose() {
        print::detail(&format!("the rates of {} are in {}", processor(), path.display()));
    }
    Ok(())
}

/// What choosing by the rates costs, beside the built-in ones.
fn said(backend: Backend, found: &Measured) -> String {
    let more = |lost: f64| 100.0 * (lost - 1.0);
    format!(
        "{}: what these rates choose takes {:.1} % longer than the best, what the built-in rates choose {:.1} %",
        backend.name(),
        more(found.lost),
        more(found.lost_built_in)
    )
}

fn as_json(backend: Backend, rates: &Rates) -> String {
    let rates: Map<String, serde_json::Value> =
        Rates::NAMES.iter().map(|name| (name.to_string(), json!(rates.get(name)))).collect();
    json!({ "processor": processor(), "backend": backend.name(), "rates": rates }).to_string()
}

//! The `chunkwise` command: a file a subcommand. Parses the command line, calls the compiler and the runtime, prints.
//! Computes nothing itself.

#![forbid(unsafe_code)]

mod arguments;
mod backends;
mod bench;
mod calibrate;
mod check;
mod emit;
mod explain;
mod failure;
mod object;
mod print;
mod program;
mod run;
mod sizes;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Compiles attention variants and runs them.
#[derive(Parser)]
#[command(name = "chunkwise", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Parse and type-check; per variant its inputs, states, their transitions' structure, and its forms
    Check(check::Arguments),
    /// The derivation from the recurrence to a form, rule by rule
    Explain(explain::Arguments),
    /// What the compiler made at a stage
    Emit(emit::Arguments),
    /// Run one variant on real tensors
    Run(run::Arguments),
    /// Every form on every back end, on random inputs of several shapes, against the reference
    Verify(verify::Arguments),
    /// Time the kernels
    Bench(bench::Arguments),
    /// Measure what kernels cost on this machine, for --form auto to choose by
    Calibrate(calibrate::Arguments),
    /// The back ends and devices usable here, and why the others are not
    Backends(backends::Arguments),
}

fn main() -> ExitCode {
    // Usage errors leave here with status 2, help and version with 0.
    let done = match Cli::parse().command {
        Command::Check(arguments) => check::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Emit(arguments) => emit::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Calibrate(arguments) => calibrate::run(arguments),
        Command::Backends(arguments) => backends::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.status())
        }
    }
}

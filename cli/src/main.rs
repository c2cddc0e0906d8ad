//! The `chunkwise` command as a program of its own.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(chunkwise_cli::main(std::env::args_os().collect()))
}

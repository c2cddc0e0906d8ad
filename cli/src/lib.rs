//! The `chunkwise` command: a file a subcommand. Parses the command line, calls the compiler and the runtime, prints.
//! Computes nothing itself. A library, so that packages of other languages bring the same command (`python/`).

#![forbid(unsafe_code)]

mod arguments;
mod backends;
mod bench;
mod calibrate;
mod check;
mod completions;
mod emit;
pub mod examples;
mod explain;
pub mod failure;
mod help;
mod interrupt;
mod new;
mod object;
mod page;
mod print;
mod program;
mod run;
mod sizes;
mod table;
mod unused;
mod usage;
mod verify;

use std::ffi::OsString;

use clap::{ColorChoice, FromArgMatches, Parser, Subcommand};

use failure::Failure;

/// Compiles attention variants and runs them
///
/// A FILE is a source file, `-` for standard input, or @NAME for a built-in example: `chunkwise examples` lists them.
/// `chunkwise help language` describes the language, `chunkwise help NAME` a statement, function, law or error code.
#[derive(Parser)]
#[command(name = "chunkwise", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    manner: print::Manner,
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
    /// Write a source file to start from
    New(new::Arguments),
    /// The variants that are built in; @NAME means one of them wherever a file is taken
    Examples(examples::Arguments),
    /// The command line, and the language: its statements, functions, laws and error codes
    Help(help::Arguments),
    /// A script that completes the command line in a shell
    Completions(completions::Completions),
    /// A page for man
    Man(completions::Page),
}

/// Does what a command line asks for, the program's name its first word, and gives the exit status.
pub fn main(words: Vec<OsString>) -> u8 {
    interrupt::watch();
    let command = usage::command().color(colours_of_usage(&words));
    let parsed = command.clone().try_get_matches_from(&words);
    let (cli, given) = match parsed.and_then(|given| Ok((Cli::from_arg_matches(&given)?, given))) {
        Ok(parsed) => parsed,
        Err(told) => return answered(&told, &words),
    };
    print::set(cli.manner);
    unused::say(&command, &given);
    match done(cli.command) {
        Ok(()) => 0,
        Err(failure) => {
            failure.print();
            failure.status()
        }
    }
}

fn done(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(arguments) => check::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Emit(arguments) => emit::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Calibrate(arguments) => calibrate::run(arguments),
        Command::Backends(arguments) => backends::run(arguments),
        Command::New(arguments) => new::run(arguments),
        Command::Examples(arguments) => examples::run(arguments),
        Command::Help(arguments) => help::run(arguments),
        Command::Completions(arguments) => completions::completions(arguments),
        Command::Man(arguments) => completions::page(arguments),
    }
}

/// What `--color` says, of text that is printed before the command line is understood.
fn colours_of_usage(words: &[OsString]) -> ColorChoice {
    let given: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let says = |when: &str| {
        given.iter().any(|word| *word == format!("--color={when}"))
            || given.windows(2).any(|two| two[0] == "--color" && two[1] == when)
    };
    match (says("always"), says("never")) {
        (true, _) => ColorChoice::Always,
        (_, true) => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// What is wrong with the command line, with status 2; or its help or version, with 0.
fn answered(told: &clap::Error, words: &[OsString]) -> u8 {
    let json = words.iter().any(|word| word == "--json");
    if !(told.use_stderr() && json) {
        // The error of printing an error has nowhere to go.
        let _ = told.print();
    } else {
        print::set(print::Manner { json, ..print::Manner::default() });
        print::error("command-line", told.to_string().trim_start_matches("error: ").trim_end());
    }
    told.exit_code() as u8
}

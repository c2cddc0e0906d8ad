//! Flags that commands on programs share, and that one of them has no use for: its help leaves them out, and it refuses
//! them. What depends on the values given is refused where they are read.

use clap::{ArgMatches, Command, parser::ValueSource};

use crate::failure::Failure;

/// A command, the flags that it has no use for, and what to do instead.
const UNUSED: [(&str, &[&str], &str); 4] = [
    ("check", &["threads", "seed"], "nothing runs: see `verify`"),
    (
        "explain",
        &["backend", "schedule", "chunk", "dims", "device", "precision", "limits", "threads", "seed"],
        "a derivation holds for all sizes and every back end: see `emit`",
    ),
    ("emit", &["threads", "seed"], "nothing runs: see `run` and `bench`"),
    ("run", &["seed"], "the tensors are those of --inputs: see `verify` for random ones"),
];

/// The command with these flags out of its help.
pub fn hidden(command: Command) -> Command {
    UNUSED.into_iter().fold(command, |command, (name, flags, _)| {
        command.mut_subcommand(name, |of| {
            flags.iter().fold(of, |of, flag| of.mut_arg(flag, |argument| argument.hide(true)))
        })
    })
}

/// Whether the command line has any of them.
///
/// # Errors
/// It has.
pub fn refuse(command: &Command, given: &ArgMatches) -> Result<(), Failure> {
    let Some((name, given)) = given.subcommand() else { return Ok(()) };
    let Some((_, flags, instead)) = UNUSED.into_iter().find(|(of, ..)| *of == name) else { return Ok(()) };
    let said = flags.iter().filter(|flag| given.value_source(flag) == Some(ValueSource::CommandLine));
    let long = |flag: &&str| {
        let of = command.find_subcommand(name)?;
        let found = of.get_arguments().find(|argument| argument.get_id() == *flag)?;
        found.get_long().map(|long| format!("--{long}"))
    };
    let messages: Vec<String> =
        said.filter_map(long).map(|flag| format!("`{name}` has no use for {flag}: {instead}")).collect();
    if messages.is_empty() { Ok(()) } else { Err(Failure::Wrong(messages)) }
}

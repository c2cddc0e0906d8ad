//! Flags that commands on programs share, and that one of them has no use for: its help leaves them out, and it says so
//! where they are given. What depends on the values given is said or refused where they are read.

use clap::{ArgMatches, Command, parser::ValueSource};

use crate::print;

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

/// Says on stderr which of them the command line has: scripts hand the same flags to every command.
pub fn say(command: &Command, given: &ArgMatches) {
    let Some((name, given)) = given.subcommand() else { return };
    let Some((_, flags, instead)) = UNUSED.into_iter().find(|(of, ..)| *of == name) else { return };
    let said = flags.iter().filter(|flag| given.value_source(flag) == Some(ValueSource::CommandLine));
    let long = |flag: &&str| {
        let of = command.find_subcommand(name)?;
        let found = of.get_arguments().find(|argument| argument.get_id() == *flag)?;
        found.get_long().map(|long| format!("--{long}"))
    };
    said.filter_map(long).for_each(|flag| print::note(&format!("`{name}` has no use for {flag}: {instead}")));
}

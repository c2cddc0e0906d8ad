//! The command line as a whole: the flags that the subcommands declare, and with each subcommand an example of its use.
//! The examples stand in `docs/commands.md`.

use chunkwise_dsl::suggest::near;
use clap::{Command, CommandFactory};

use crate::{Cli, failure::Failure, page::Page, unused};

/// The command line, with the examples.
pub fn command() -> Command {
    let command = unused::hidden(Cli::command());
    let names: Vec<String> = command.get_subcommands().map(|of| of.get_name().to_string()).collect();
    names.iter().fold(command, |command, name| match example(name) {
        Some(text) => command.mut_subcommand(name, |of| of.after_long_help(format!("Examples:\n{text}"))),
        None => command,
    })
}

/// A subcommand by its name.
///
/// # Errors
/// There is none; the message says which are near.
pub fn subcommand(name: &str) -> Result<Command, Failure> {
    let mut command = command();
    // Flags of all commands are handed down.
    command.build();
    let found = command.get_subcommands().find(|of| of.get_name() == name).cloned();
    found.map(|of| of.bin_name(format!("chunkwise {name}"))).ok_or_else(|| {
        let near = near(name, command.get_subcommands().map(Command::get_name));
        let meant = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
        Failure::wrong(format!("there is no command `{name}`{meant}"))
    })
}

/// The lines of the first code block of the command's section, indented.
fn example(name: &str) -> Option<String> {
    let section = Page::COMMANDS.sections().into_iter().find(|section| section.is_called(name))?;
    let block = section.text.split("```").nth(1)?;
    let lines: Vec<String> = block.lines().skip(1).map(|line| format!("  {line}")).collect();
    Some(lines.join("\n").trim_end().to_string())
}

//! `chunkwise completions` and `chunkwise man`: what shells and `man` want to know of the command line.

use clap::Args;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::{failure::Failure, print, usage};

#[derive(Args)]
pub struct Completions {
    /// The shell to complete for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args)]
pub struct Page {
    /// The subcommand whose page it is; the command's own if not given
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// The script that the shell is to read.
pub fn completions(arguments: Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut usage::command(), "chunkwise", &mut script);
    print::line(String::from_utf8_lossy(&script).trim_end())
}

/// A page for `man`, in roff.
pub fn page(arguments: Page) -> Result<(), Failure> {
    let mut page = Vec::new();
    let man = match &arguments.command {
        None => Man::new(usage::command()),
        Some(name) => Man::new(usage::subcommand(name)?).title(format!("chunkwise-{name}")),
    };
    man.render(&mut page).map_err(|error| Failure::Failed(format!("cannot make the page: {error}")))?;
    print::line(String::from_utf8_lossy(&page).trim_end())
}

//! `chunkwise examples`: the variants that are built in, by name. `@NAME` means one of them wherever a file is taken.

use chunkwise_dsl::suggest::near;
use clap::Args;
use serde_json::json;

use crate::{failure::Failure, print};

/// Every file of `examples/`: its name without the extension, and its text. In the order of the names.
const TEXTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/examples.rs"));

/// An example that is built in.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    pub name: &'static str,
    pub text: &'static str,
}

#[derive(Args)]
pub struct Arguments {
    /// Print this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print this one: the same as its name alone
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    show: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(name) = arguments.name.or(arguments.show) {
        let example = named(name.strip_prefix('@').unwrap_or(&name))?;
        return print::line(&match print::json() {
            true => json!({"name": example.name, "title": example.title(), "text": example.text}).to_string(),
            false => example.text.trim_end().to_string(),
        });
    }
    if print::json() {
        let line = |example: Example| json!({"name": example.name, "title": example.title()}).to_string();
        return all().try_for_each(|example| print::line(&line(example)));
    }
    let width = all().map(|example| example.name.len()).max().unwrap_or(0);
    all().try_for_each(|example| print::line(&format!("{:width$}  {}", example.name, example.title())))
}

/// All of them, by name.
pub fn all() -> impl Iterator<Item = Example> {
    TEXTS.iter().map(|&(name, text)| Example { name, text })
}

/// The example of this name.
///
/// # Errors
/// There is none; the message says which names are near.
pub fn named(name: &str) -> Result<Example, Failure> {
    all().find(|example| example.name == name).ok_or_else(|| {
        let near = near(name, all().map(|example| example.name));
        let meant = match near.as_slice() {
            [] => "`chunkwise examples` lists them".to_string(),
            near => {
                format!("did you mean {}?", near.iter().map(|near| format!("@{near}")).collect::<Vec<_>>().join(", "))
            }
        };
        Failure::wrong(format!("no example is called `{name}`; {meant}"))
    })
}

impl Example {
    /// The first line of its header: what it is called in full, and its paper.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default().trim()
    }
}

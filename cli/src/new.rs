//! `chunkwise new`: a source file to start from, commented, or a copy of an example. Never writes over a file.

use std::{io::ErrorKind, path::Path};

use chunkwise_dsl::{ast::Item, parse::parse, source::Source};
use chunkwise_runtime::whole;
use clap::Args;

use crate::{examples, failure::Failure, print};

/// The start: NAME stands for the variant's name.
const START: &str = include_str!("start.attn");

#[derive(Args)]
pub struct Arguments {
    /// The variant's name; the file is NAME.attn
    #[arg(value_name = "NAME")]
    name: String,
    /// The example to start from; a commented start if not given
    #[arg(long, value_name = "EXAMPLE")]
    from: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let name = arguments.name.strip_suffix(".attn").unwrap_or(&arguments.name);
    let text = match &arguments.from {
        None => START.replace("NAME", name),
        Some(from) => {
            let example = examples::named(from.strip_prefix('@').unwrap_or(from))?;
            renamed(example.text, name)
        }
    };
    // What is no name shows in what was written under it, before anything stands on the disk.
    if parse(&Source::new("start", format!("variant {name} {{ }}"))).is_err() {
        let message = format!("`{name}` is no name of a variant: expected letters, digits and `_`, a letter first");
        return Err(Failure::wrong(message));
    }
    let file = format!("{name}.attn");
    write_new(Path::new(&file), &text)?;
    print::line(&file)?;
    print::note(&format!("next: chunkwise check {file}, chunkwise verify {file}"));
    Ok(())
}

/// The text with its variant called `name`; as it is where it holds several.
fn renamed(text: &str, name: &str) -> String {
    let Ok(tree) = parse(&Source::new("example", text.to_string())) else { return text.to_string() };
    let variants: Vec<_> = tree
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Variant(variant) => Some(variant.name.span),
            _ => None,
        })
        .collect();
    match variants.as_slice() {
        [place] => format!("{}{name}{}", &text[..place.start], &text[place.end..]),
        _ => text.to_string(),
    }
}

/// Writes a file that is not there yet, whole or not at all.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    whole::create(path, text.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::wrong(format!("{shown} is there already, and stays as it is")),
        _ => Failure::Failed(format!("cannot write {shown}: {error}")),
    })
}

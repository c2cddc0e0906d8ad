//! `chunkwise explain`: the derivation of a form, rule by rule.

use chunkwise_compiler::Unsupported;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::execute;
use clap::Args;

use crate::{
    arguments::{OneVariant, Shared},
    failure::Failure,
    print, program,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    /// Evaluate every term on a small random instance; exit 1 if one does not hold
    #[arg(long)]
    check: bool,
    /// The derived form's data-flow graph, for Graphviz
    #[arg(long)]
    dot: bool,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let variant = program::load_one(&arguments.which, &arguments.shared)?;
    arguments.shared.form()?;
    let text = derivation(&variant, &arguments).map_err(|refusal| Failure::from(execute::Failure::from(refusal)))?;
    print::line(&text)
}

fn derivation(variant: &Variant, arguments: &Arguments) -> Result<String, Unsupported> {
    let what = match (arguments.check, arguments.dot) {
        (true, _) => "the check of the derivation",
        (false, true) => "the data-flow graph",
        (false, false) => "the derivation",
    };
    Err(Unsupported::new(
        format!("{what} of `{}`", variant.name),
        "no derivation is connected",
        "see what `chunkwise check` says of its forms",
    ))
}

//! `chunkwise explain`: the derivation of a form, rule by rule.

use chunkwise_compiler::{Form, Unsupported, explain::BOUND};
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
    let form = arguments.shared.form()?.unwrap_or_else(|| chosen(&variant));
    if arguments.dot {
        let plan =
            chunkwise_compiler::form::planned(&variant, form, chunkwise_compiler::Schedule::Fused).map_err(refused)?;
        return print::line(chunkwise_compiler::plan::dot(&variant, &plan).trim_end());
    }
    let told = chunkwise_compiler::explain(&variant, form, arguments.check).map_err(refused)?;
    print::line(&told.to_string())?;
    if told.worst <= BOUND {
        return Ok(());
    }
    Err(Failure::DidNotHold(format!("a term of the derivation of `{}` is off by {:.1e}", variant.name, told.worst)))
}

/// The form that is explained where none is asked for: the first of these that exists.
fn chosen(variant: &Variant) -> Form {
    let (_, forms) = chunkwise_compiler::report(variant);
    let exists = |form: &Form| forms.iter().any(|report| report.form == *form && report.missing.is_none());
    [Form::Chunked, Form::Parallel].into_iter().find(exists).unwrap_or(Form::Recurrent)
}

fn refused(refusal: Unsupported) -> Failure {
    Failure::from(execute::Failure::from(refusal))
}

//! `chunkwise explain`: the derivation of a form, rule by rule.

use chunkwise_compiler::explain::BOUND;
use chunkwise_dsl::typed::Variant;
use clap::Args;
use serde_json::json;

use crate::{
    arguments::{OneVariant, Shared},
    failure::Failure,
    print, program,
    sizes::usual_form,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    /// Evaluate every term on a small random instance; exit 1 if one does not hold
    #[arg(long, conflicts_with = "dot")]
    check: bool,
    /// The derived form's data-flow graph, for Graphviz
    #[arg(long)]
    dot: bool,
    /// The gradient program that is derived, with the rule of each of its lines
    #[arg(long, conflicts_with_all = ["dot", "check"])]
    backward: bool,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    program::with_one(&arguments.which, &arguments.shared, |variant| of_variant(variant, &arguments))
}

fn of_variant(variant: &Variant, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.backward {
        let told = chunkwise_compiler::adjoint::explain(variant)?;
        let object = json!({"variant": variant.name, "text": told});
        return print::line(&if print::json() { object.to_string() } else { told.trim_end().to_string() });
    }
    let form = arguments.shared.form()?.unwrap_or_else(|| usual_form(variant));
    if arguments.dot {
        let layout = (form, chunkwise_compiler::Schedule::Fused);
        let plan = chunkwise_compiler::Derivation::of(variant).plan(layout)?;
        let graph = chunkwise_compiler::plan::dot(variant, &plan);
        let object = json!({"variant": variant.name, "form": form.name(), "dot": graph.trim_end()});
        return print::line(&if print::json() { object.to_string() } else { graph.trim_end().to_string() });
    }
    let told = chunkwise_compiler::explain(variant, form, arguments.check)?;
    let text = told.to_string();
    let off = arguments.check.then_some(told.worst);
    let object = json!({
        "variant": variant.name, "form": form.name(), "text": text, "steps": told.steps, "deviation": off,
        "holds": off.map(|off| off <= BOUND),
    });
    print::line(&if print::json() { object.to_string() } else { text })?;
    if told.worst <= BOUND {
        return Ok(());
    }
    Err(Failure::DidNotHold(format!("a term of the derivation of `{}` is off by {:.1e}", variant.name, told.worst)))
}

//! `chunkwise bench`: how long the kernels take, on warm tensors. `plans` says what is timed, `measure` how, `table` how a
//! line looks. Timing as an outside harness says is `serve`.

mod measure;
mod plans;
mod serve;
mod table;

use std::time::{Duration, Instant};

use chunkwise_compiler::adjoint::adjoint;
use chunkwise_dsl::typed::Variant;
use clap::Args;

use crate::{
    arguments::{OneVariant, Shape, Shared},
    failure::{Failure, Refusal},
    interrupt, print, program,
};
use table::Table;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: OneVariant,
    #[command(flatten)]
    shape: Shape,
    /// Time calls on one token each, states carried from call to call
    #[arg(long, conflicts_with_all = ["tokens", "serve"])]
    decode: bool,
    /// The gradients
    #[arg(long, conflicts_with_all = ["decode", "serve"])]
    backward: bool,
    #[command(flatten)]
    served: serve::Flags,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    shared.of_chunks()?;
    if let Some(inputs) = arguments.served.inputs() {
        return serve::run(&arguments, inputs);
    }
    shared.say_precision();
    let start = Instant::now();
    program::with_one(&arguments.which, shared, |variant| match arguments.backward {
        true => timed(&adjoint(variant)?.variant, start.elapsed(), &arguments),
        false => timed(variant, start.elapsed(), &arguments),
    })
}

/// Times every plan and prints its line when it is done.
fn timed(variant: &Variant, checked: Duration, arguments: &Arguments) -> Result<(), Failure> {
    let shared = &arguments.shared;
    let plans = plans::plans(variant, arguments)?;
    let (count, mut table) = (plans.len(), Table::new(variant, arguments, &plans)?);
    let bar = print::progress(count);
    let (mut refusals, mut entries) = (Vec::new(), 0);
    for (place, (plan, tokens)) in plans.into_iter().enumerate() {
        let name = table::name(plan);
        bar.set_message(format!("{}: {name}", variant.name));
        interrupt::would_say(format!("interrupted at {name}, {place} of {count} entries done"));
        match measure::entry(variant, (plan, tokens), arguments, checked) {
            Ok(entry) => {
                entries += 1;
                table.show(variant, &entry, shared)?;
            }
            // Of what was not asked for, what is there is timed.
            Err(Failure::Refused(more)) if shared.forms().named.is_empty() => refusals.extend(more),
            Err(failure) => return Err(failure),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if entries == 0 {
        let message = format!("`{}` has no form that compiles: use --backend reference", variant.name);
        refusals.push(Refusal::new(message));
        return Err(Failure::Refused(refusals));
    }
    refusals.iter().for_each(|refusal| print::note(&refusal.to_string()));
    Ok(())
}

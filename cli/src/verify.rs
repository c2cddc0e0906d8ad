//! `chunkwise verify`: every form on every back end present, against the reference. `cases` says on what, `compare` what
//! counts as an error, `targets` on which forms and back ends, `table` how rows look; here they are run.

mod backward;
mod cases;
mod compare;
mod table;
mod targets;

use std::{path::PathBuf, sync::Mutex};

use chunkwise_compiler::Form;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{Backend, Engine, Outputs, Plan, Request, reference, request};
use clap::Args;
use indicatif::ProgressBar;

use crate::{
    arguments::{Shape, Shared},
    failure::Failure,
    interrupt, print, program,
};
use cases::Case;
use compare::{Expected, Worst};
use table::{Extent, Row, Table};
pub use targets::backends;
use targets::{Target, candidates};

#[derive(Args)]
pub struct Arguments {
    /// The source files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The gradients: the adjoint against derivatives by dual numbers, and its forms on every back end against it
    #[arg(long)]
    backward: bool,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    shared: Shared,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.shared.of_chunks()?;
    let backends = backends(&arguments.shared)?;
    arguments.shared.say_precision();
    let mut wrong = Vec::new();
    let mut programs = Vec::new();
    for file in &arguments.files {
        match program::load(file, &arguments.shared) {
            Ok(program) => programs.push(program),
            Err(failure) => {
                failure.print();
                wrong.push(format!("{} was not verified", file.display()));
            }
        }
    }
    let all = print::verbose() || !arguments.shape.tokens.is_empty();
    let variants =
        || programs.iter().flat_map(|program| program.variants.iter().map(move |one| (one, &program.source)));
    let mut table = Table::new(variants().map(|(one, _)| one), if all { Extent::All } else { Extent::Worst });
    let mut over = 0;
    for (variant, source) in variants() {
        let compared = match arguments.backward {
            true => backward::verify(variant, &backends, &arguments, &mut table),
            false => verify(variant, &backends, &arguments, &mut table),
        };
        match compared {
            Ok(more) => over += more,
            Err(Failure::Wrong(messages)) => {
                wrong.extend(messages.into_iter().map(|message| format!("{}: {message}", variant.name)));
            }
            Err(refused @ Failure::Refused(_)) => {
                refused.placed(variant, source).print();
                wrong.push(format!("{} was not verified as asked", variant.name));
            }
            Err(failure) => return Err(failure),
        }
    }
    match (wrong.is_empty(), over) {
        (false, _) => Err(Failure::Wrong(wrong)),
        (true, 0) => Ok(()),
        (true, _) => Err(Failure::DidNotHold(format!("{over} lines are over their bound"))),
    }
}

/// Compares every target with the reference and prints its rows when it is done; how many are over their bound.
fn verify(variant: &Variant, backends: &[Backend], arguments: &Arguments, table: &mut Table) -> Result<usize, Failure> {
    let shared = &arguments.shared;
    let mut engine = shared.engine()?;
    arguments.shape.once(variant, shared)?;
    let cases = cases::cases(variant, &arguments.shape, shared)?;
    let mut candidates = candidates(variant, backends, &mut engine, shared)?;
    let all = std::mem::take(&mut candidates.all);
    let count: usize = all.iter().map(|candidate| candidate.targets.len()).sum();
    let bar = print::progress(cases.len() * (count + 1)).with_message(format!("{}: reference", variant.name));
    let expected = references(variant, &cases, shared.threads(), &bar)?;
    let (mut compiled, mut over) = (0, 0);
    let mut row = |target: Target, place: usize, engine: &mut Engine| {
        say_next(variant, target, (place, count), &bar);
        let compared = compared(variant, target, (&cases, &expected), (engine, arguments), &bar);
        over += compared.iter().filter(|row| !row.holds()).count();
        table.show(variant, compared)
    };
    for candidate in &all {
        let refusal = match cases.first() {
            Some(case) => candidate.compiles(&mut engine, (variant, &case.sizes))?,
            None => None,
        };
        match refusal {
            Some(refusal) => candidates.refuse(candidate, refusal),
            None => {
                for &target in &candidate.targets {
                    row(target, compiled, &mut engine)?;
                    compiled += 1;
                }
            }
        }
    }
    if let Some(reference) = candidates.settle(compiled)? {
        row(reference, compiled, &mut engine)?;
    }
    bar.finish_and_clear();
    Ok(over)
}

/// What is compared next: on the bar, and for an interrupt.
fn say_next(variant: &Variant, target: Target, (place, count): (usize, usize), bar: &ProgressBar) {
    let name = format!("{} on {}", target.layout(), target.plan.backend.name());
    bar.set_message(format!("{}: {name}", variant.name));
    interrupt::would_say(format!("interrupted at {}: {name}, {place} of {count} rows done", variant.name));
}

/// The rows of one target, one a number of tokens: the worst of its cases.
fn compared(
    variant: &Variant,
    target: Target,
    (cases, expected): (&[Case], &[Expected]),
    (engine, arguments): (&mut Engine, &Arguments),
    bar: &ProgressBar,
) -> Vec<Row> {
    let shared = &arguments.shared;
    let bound = bound(variant, target.plan.backend, shared);
    let mut rows: Vec<Row> = Vec::new();
    for (case, expected) in cases.iter().zip(expected) {
        bar.inc(1);
        if skips(case, target.plan, arguments) {
            continue;
        }
        let worst = match case.run(engine, variant, (target.plan, shared.threads())) {
            Ok(outputs) => compare::worst(expected, &outputs, case.name),
            // A refusal of sizes that other cases had none of is not an error in the numbers.
            Err(request::Failure::Unsupported(refusal)) => {
                print::note(&format!("{}, {}: {refusal}", variant.name, case.name));
                continue;
            }
            Err(failure) => Worst::failed(case.name, failure.to_string()),
        };
        match rows.iter_mut().find(|row| row.tokens == case.tokens) {
            Some(row) => row.worst.take(worst),
            None => rows.push(Row { target, tokens: case.tokens, worst, bound }),
        }
    }
    rows
}

/// Whether a case takes too long for a plan to be tried where it was not asked for.
fn skips(case: &Case, plan: Plan, arguments: &Arguments) -> bool {
    let on_gpu = case.is_long() && plan.backend == Backend::Wgpu && arguments.shape.tokens.is_empty();
    on_gpu || case.is_longest() && plan.form == Form::Parallel
}

/// The error that a back end may make: as the variant says, and no less than what it rounds to brings.
fn bound(variant: &Variant, backend: Backend, shared: &Shared) -> f64 {
    let stored = shared.precision().on(backend).bound();
    variant.checks.tolerance.unwrap_or(backend.bound()).max(stored)
}

/// The reference's results, a case on each thread.
fn references(variant: &Variant, cases: &[Case], threads: usize, bar: &ProgressBar) -> Result<Vec<Expected>, Failure> {
    let results: Vec<Mutex<Option<Result<Expected, String>>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    // The longest cases first, so that the last to start is short.
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(cases[place].work()));
    let next = Mutex::new(order.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(|| {
                while let Some(place) = next.lock().ok().and_then(|mut next| next.next()) {
                    let result =
                        reference::results(cases[place].request(variant, 1)).map(|found| Expected::of(variant, found));
                    if let Ok(mut slot) = results[place].lock() {
                        *slot = Some(result.map_err(|failure| failure.to_string()));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    let collected = results.into_iter().zip(cases).map(|(slot, case)| {
        let result = slot.into_inner().ok().flatten().unwrap_or_else(|| Err("the reference stopped".into()));
        result.map_err(|why| Failure::Failed(format!("{}, {}: the reference failed: {why}", variant.name, case.name)))
    });
    collected.collect()
}

impl Case {
    /// Runs the case: in one call, or in two with the state carried over.
    fn run(
        &self,
        engine: &mut Engine,
        variant: &Variant,
        (plan, threads): (Plan, usize),
    ) -> Result<Outputs, request::Failure> {
        let request = self.request(variant, threads);
        match &self.parts {
            None => engine.run(request, plan),
            Some((first, second)) => {
                let before = engine.run(first.request(request), plan)?;
                let carried = before.states.iter().cloned().collect();
                let after = engine.run(Request { initial: &carried, ..second.request(request) }, plan)?;
                Ok(cases::joined(variant, before, after))
            }
        }
    }
}

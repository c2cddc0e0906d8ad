//! `chunkwise verify`: every form on every back end present, against the reference. `cases` says on what, `compare` what
//! counts as an error; here they are run and tabled.

mod cases;
mod compare;

use std::{path::PathBuf, sync::Mutex};

use chunkwise_compiler::{Form, Schedule, report};
use chunkwise_dsl::typed::{FormCheck, Variant};
use chunkwise_runtime::{
    Backend, Engine, Outputs, Plan, Request,
    choose::exists,
    execute::{self, reference},
};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use crate::{
    arguments::{Shape, Shared},
    failure::Failure,
    print, program,
};
use cases::Case;
use compare::{Expected, Worst};

/// Chunk lengths tried where none are asked for: one token, an odd few, and the usual ones.
const CHUNKS: [usize; 4] = [1, 7, 16, 64];

/// Those of a GPU, which compiles a shader for each: a software driver takes seconds for one.
const CHUNKS_OF_GPU: [usize; 2] = [7, 64];

#[derive(Args)]
pub struct Arguments {
    /// The source files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    shared: Shared,
}

/// One form on one back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    plan: Plan,
}

/// A line of the table.
struct Row {
    target: Target,
    tokens: usize,
    worst: Worst,
    bound: f64,
}

impl Row {
    fn holds(&self) -> bool {
        self.worst.error <= self.bound
    }
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let backends = usable_backends(&arguments.shared)?;
    arguments.shared.say_precision();
    let mut wrong = Vec::new();
    let mut variants = Vec::new();
    for file in &arguments.files {
        match program::load(file, &arguments.shared) {
            Ok(program) => variants.extend(program.variants),
            Err(failure) => {
                failure.print();
                wrong.push(format!("{} was not verified", file.display()));
            }
        }
    }
    let mut table = Table::new(&variants, &arguments);
    let mut over = 0;
    for variant in &variants {
        match verify(variant, &backends, &arguments) {
            Ok(rows) => {
                over += rows.iter().filter(|row| !row.holds()).count();
                table.show(variant, rows)?;
            }
            Err(Failure::Wrong(messages)) => {
                wrong.extend(messages.into_iter().map(|message| format!("{}: {message}", variant.name)));
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

/// The back ends asked for, else all present. One that was asked for must be usable.
fn usable_backends(shared: &Shared) -> Result<Vec<Backend>, Failure> {
    let asked = shared.backends();
    for backend in &asked {
        backend.devices().map_err(|why| execute::Failure::Unusable(*backend, why))?;
    }
    Ok(if asked.is_empty() { Backend::ALL.into_iter().filter(|backend| backend.usable()).collect() } else { asked })
}

fn verify(variant: &Variant, backends: &[Backend], arguments: &Arguments) -> Result<Vec<Row>, Failure> {
    let shared = &arguments.shared;
    let mut engine = shared.engine()?;
    let cases = cases::cases(variant, &arguments.shape, shared)?;
    let targets = targets(variant, backends, &mut engine, (&cases, shared))?;
    let bar = print::progress(cases.len() * (targets.len() + 1)).with_message(variant.name.clone());
    let expected = references(variant, &cases, shared.threads(), &bar)?;
    let mut rows: Vec<Row> = Vec::new();
    for &target in &targets {
        for (case, expected) in cases.iter().zip(&expected) {
            if skips(case, target.plan, arguments) {
                bar.inc(1);
                continue;
            }
            let got = case.run(&mut engine, variant, (target.plan, shared.threads()));
            let worst = match got {
                Ok(outputs) => compare::worst(expected, &outputs, case.name),
                // A refusal of sizes that other cases had none of is not an error in the numbers.
                Err(execute::Failure::Unsupported(refusal)) => {
                    bar.inc(1);
                    bar.suspend(|| print::note(&format!("note: {}, {}: {refusal}", variant.name, case.name)));
                    continue;
                }
                Err(failure) => Worst::failed(case.name, failure.to_string()),
            };
            bar.inc(1);
            let bound = bound(variant, target.plan.backend, shared);
            match rows.iter_mut().find(|row| row.target == target && row.tokens == case.tokens) {
                Some(row) => row.worst.take(worst),
                None => rows.push(Row { target, tokens: case.tokens, worst, bound }),
            }
        }
    }
    bar.finish_and_clear();
    // Stable: targets stay in their order.
    rows.sort_by_key(|row| (targets.iter().position(|target| *target == row.target), row.tokens));
    Ok(rows)
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
                    let result = reference(cases[place].request(variant, 1)).map(Expected::new);
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

/// Every form on every back end; of the chunked form every chunk length.
fn targets(
    variant: &Variant,
    backends: &[Backend],
    engine: &mut Engine,
    (cases, shared): (&[Case], &Shared),
) -> Result<Vec<Target>, Failure> {
    let asked = shared.forms();
    for form in &asked {
        exists(variant, *form)?;
    }
    let forms = if asked.is_empty() { present_forms(variant) } else { asked.clone() };
    let mut targets = Vec::new();
    let mut refusals = Vec::new();
    for &backend in backends {
        if backend == Backend::Reference {
            continue;
        }
        for (form, schedule) in layouts(&forms, &shared.schedules()) {
            let chunks = if form == Form::Chunked { chunks(variant, backend, shared) } else { vec![1] };
            let plan = |chunk: usize| Plan { backend, form, schedule, chunk };
            let first = cases.first().zip(chunks.first());
            let prepared = first.map(|(case, &chunk)| engine.prepare(variant, &case.sizes, plan(chunk)));
            match prepared {
                Some(Err(failure @ execute::Failure::Unusable(..))) => return Err(failure.into()),
                // A form that has one schedule is there, whichever others were listed beside it.
                Some(Err(_)) if schedule == Schedule::Split && shared.schedules() != [Schedule::Split] => {}
                Some(Err(failure)) => {
                    let what = layout_name(&plan(1));
                    refusals.push(format!("{} has no {what} form on {}: {failure}", variant.name, backend.name()));
                }
                _ => targets.extend(chunks.into_iter().map(|chunk| Target { plan: plan(chunk) })),
            }
        }
    }
    // The reference is compared with itself only where it was asked for or is all there is.
    if backends.contains(&Backend::Reference) && (targets.is_empty() || !shared.backends().is_empty()) {
        let plan = Plan { backend: Backend::Reference, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 };
        targets.insert(0, Target { plan });
    }
    if targets.is_empty() && refusals.is_empty() {
        refusals.push("none of its forms compiles: use --backend reference".into());
    }
    // A form or schedule that was asked for must be there; without states there is but one, which the reference serves.
    let named = !asked.is_empty() || shared.schedules() == [Schedule::Split];
    let lacks = named && !refusals.is_empty() && !variant.states.is_empty();
    if targets.is_empty() || lacks {
        return Err(Failure::Wrong(refusals));
    }
    refusals.iter().for_each(|refusal| print::note(&format!("note: {refusal}")));
    Ok(targets)
}

/// The forms in the schedules asked for; in all that a form may have, where none is.
fn layouts(forms: &[Form], asked: &[Schedule]) -> Vec<(Form, Schedule)> {
    let schedules = if asked.is_empty() { Schedule::ALL.to_vec() } else { asked.to_vec() };
    let all = forms.iter().flat_map(|&form| schedules.iter().map(move |&schedule| (form, schedule)));
    all.filter(|(form, schedule)| *form == Form::Chunked || *schedule == Schedule::Fused).collect()
}

fn layout_name(plan: &Plan) -> String {
    match plan.schedule {
        Schedule::Fused => plan.form.name().to_string(),
        Schedule::Split => format!("{} {}", plan.form.name(), plan.schedule.name()),
    }
}

fn present_forms(variant: &Variant) -> Vec<Form> {
    let (_, forms) = report(variant);
    forms.into_iter().filter(|report| report.missing.is_none()).map(|report| report.form).collect()
}

fn chunks(variant: &Variant, backend: Backend, shared: &Shared) -> Vec<usize> {
    let mut chunks = match shared.chunks() {
        [] if backend == Backend::Wgpu => CHUNKS_OF_GPU.to_vec(),
        [] => CHUNKS.to_vec(),
        asked => asked.to_vec(),
    };
    if shared.chunks().is_empty() {
        let extra = variant.checks.forms.iter().filter_map(|form| match form {
            FormCheck::Chunked(chunk) => *chunk,
            _ => None,
        });
        chunks.extend(extra);
    }
    chunks.sort();
    chunks.dedup();
    chunks
}

/// The table's columns: (name, width).
const COLUMNS: [(&str, usize); 8] =
    [("form", 13), ("C", 4), ("backend", 9), ("T", 5), ("worst error", 11), ("bound", 6), ("", 4), ("where", 0)];

/// How lines are printed: a variant at a time, as each is done.
struct Table {
    /// Of the longest variant's name.
    name_width: usize,
    json: bool,
    /// All lines, not only the worst of each target.
    all: bool,
    /// Whether the columns have their titles.
    titled: bool,
}

impl Table {
    fn new(variants: &[Variant], arguments: &Arguments) -> Self {
        let names = variants.iter().map(|variant| variant.name.chars().count());
        Self {
            name_width: names.chain(["variant".len()]).max().unwrap_or(0),
            json: arguments.shared.json,
            all: arguments.shared.verbose || !arguments.shape.tokens.is_empty(),
            titled: false,
        }
    }

    fn show(&mut self, variant: &Variant, rows: Vec<Row>) -> Result<(), Failure> {
        if self.json {
            return rows.iter().try_for_each(|row| print::line(&as_json(variant, row)));
        }
        if !std::mem::replace(&mut self.titled, true) {
            print::line(&self.line("variant", &COLUMNS.map(|(name, _)| name.to_string())))?;
        }
        let rows = if self.all { rows } else { worst_of_each(rows) };
        rows.iter().try_for_each(|row| print::line(&self.line(&variant.name, &cells(row))))
    }

    fn line(&self, name: &str, cells: &[String; 8]) -> String {
        let mut line = format!("{name:<width$}", width = self.name_width);
        for (cell, (title, width)) in cells.iter().zip(COLUMNS) {
            let numeric = matches!(title, "C" | "T" | "worst error" | "bound");
            let cell = if numeric { format!("  {cell:>width$}") } else { format!("  {cell:<width$}") };
            line.push_str(&cell);
        }
        line.trim_end().to_string()
    }
}

fn worst_of_each(rows: Vec<Row>) -> Vec<Row> {
    let mut worst: Vec<Row> = Vec::new();
    for row in rows {
        match worst.iter_mut().find(|kept| kept.target == row.target) {
            Some(kept) if row.worst.error > kept.worst.error => *kept = row,
            Some(_) => {}
            None => worst.push(row),
        }
    }
    worst
}

fn cells(row: &Row) -> [String; 8] {
    let plan = row.target.plan;
    let chunk = if plan.form == Form::Chunked { plan.chunk.to_string() } else { "-".into() };
    let form = if plan.backend == Backend::Reference { "-".into() } else { layout_name(&plan) };
    [
        form,
        chunk,
        plan.backend.name().into(),
        row.tokens.to_string(),
        format!("{:.1e}", row.worst.error),
        format!("{:.0e}", row.bound),
        if row.holds() { "ok".into() } else { "OVER".into() },
        row.worst.place(),
    ]
}

fn as_json(variant: &Variant, row: &Row) -> String {
    let plan = row.target.plan;
    json!({
        "variant": variant.name, "form": plan.form.name(), "schedule": plan.schedule.name(), "backend": plan.backend.name(),
        "chunk": (plan.form == Form::Chunked).then_some(plan.chunk), "tokens": row.tokens,
        // JSON has no infinity: an error without a number is null, and not ok.
        "error": row.worst.error.is_finite().then_some(row.worst.error), "bound": row.bound, "ok": row.holds(),
        "case": row.worst.case, "tensor": row.worst.tensor, "why": row.worst.why,
    })
    .to_string()
}

impl Case {
    /// Runs the case: in one call, or in two with the state carried over.
    fn run(
        &self,
        engine: &mut Engine,
        variant: &Variant,
        (plan, threads): (Plan, usize),
    ) -> Result<Outputs, execute::Failure> {
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

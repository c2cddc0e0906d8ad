//! Every case of `cases/`, stage by stage, against its snapshots; and every example through the checker. A trial is named
//! `topic::case::stage`, so one can be run alone; `INSTA_UPDATE=always` rewrites the snapshots.

use std::{fs, path::PathBuf, process::ExitCode};

use chunkwise_compiler::{
    Form, Schedule,
    bind::bind_dims,
    explain, report,
    stage::{self, Stage},
};
use chunkwise_dsl::{
    compile, diagnostic::Diagnostic, parse::parse, print, render::render, source::Source, typed::Variant,
};
use chunkwise_tests::{
    case::{Case, cases},
    example,
};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = examples();
    match cases() {
        Ok(cases) => trials.extend(cases.into_iter().flat_map(trials_of)),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// One trial a stage.
fn trials_of(case: Case) -> Vec<Trial> {
    let trial = |stage: &String| {
        let (case, stage) = (case.clone(), stage.clone());
        Trial::test(format!("{}::{}::{stage}", case.topic, case.name), move || compare(&case, &stage))
    };
    case.stages.iter().map(trial).collect()
}

fn compare(case: &Case, stage: &str) -> Result<(), Failed> {
    let text = text(case, stage)?;
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(case.folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(stage, text));
    Ok(())
}

/// The case at a stage, as text.
fn text(case: &Case, stage: &str) -> Result<String, Failed> {
    let source = Source::new(format!("{}.attn", case.name), case.text.clone());
    let told = |found: &[Diagnostic]| render(found, &source);
    if stage == "ast" {
        return parse(&source).map(|file| print::file(&file)).map_err(|found| told(&found).into());
    }
    match (stage, compile(&source, &case.args)) {
        ("diagnostics", Err(found)) => Ok(told(&found)),
        ("diagnostics", Ok(_)) => Err("the case has no errors".into()),
        (_, Err(found)) => Err(told(&found).into()),
        ("warnings", Ok(program)) => Ok(told(&program.warnings)),
        ("forms", Ok(program)) => Ok(program.variants.iter().map(forms).collect()),
        ("explain", Ok(program)) => explained(case, &program.variants[0]),
        (_, Ok(program)) => staged(case, stage, &program.variants[0]),
    }
}

/// The derivation of a form of the first variant.
fn explained(case: &Case, variant: &Variant) -> Result<String, Failed> {
    let form = Form::ALL.into_iter().find(|known| known.name() == case.form).ok_or("no form is called so")?;
    Ok(format!("{}\n", explain(variant, form, false)?))
}

/// The first variant at a stage of the compiler, in the case's form and sizes.
fn staged(case: &Case, stage: &str, variant: &Variant) -> Result<String, Failed> {
    let stage =
        Stage::ALL.into_iter().find(|known| known.name() == stage).ok_or(format!("no stage is called {stage}"))?;
    let form = Form::ALL.into_iter().find(|known| known.name() == case.form).ok_or("no form is called so")?;
    let schedule =
        Schedule::ALL.into_iter().find(|known| known.name() == case.schedule).ok_or("no schedule is called so")?;
    let sizes = bind_dims(variant, &case.dims).map_err(|errors| format!("{errors:?}"))?;
    Ok(stage::print(stage, variant, &sizes, (form, schedule))?)
}

/// The structure class of every state's transition, the forms that exist, and why the others do not.
fn forms(variant: &Variant) -> String {
    let (states, forms) = report(variant);
    let states = states.into_iter().map(|state| format!("state {}: {}\n", state.state, state.class));
    let forms = forms.into_iter().map(|form| match form.missing {
        None => format!("form {}\n", form.form.name()),
        Some(why) => format!("no form {}: {why}\n", form.form.name()),
    });
    format!("{}\n", variant.name) + &states.chain(forms).collect::<String>()
}

/// Every example is sound.
fn examples() -> Vec<Trial> {
    let trial = |path: PathBuf| {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Trial::test(format!("examples::{name}::typed"), move || {
            let source = Source::new(path.to_string_lossy(), fs::read_to_string(&path)?);
            compile(&source, &[]).map(|_| ()).map_err(|found| render(&found, &source).into())
        })
    };
    example::files().into_iter().map(trial).collect()
}

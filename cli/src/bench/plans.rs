//! What `bench` times: plans and numbers of tokens, as asked for, and the usual ones where nothing is.

use chunkwise_compiler::{
    Derivation, Form, Schedule,
    bind::{Sizes, carries_state},
};
use chunkwise_dsl::shape::AxisId;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{
    Backend, Plan,
    choose::{self, CHUNK, Wish, exists},
    room,
};

use super::Arguments;
use crate::{
    failure::Failure,
    run::{say, settled},
    sizes::{TOKENS, axis_named, usual},
    verify::backends,
};

/// Tokens of the reference, an interpreter, where none are asked for.
const TOKENS_OF_REFERENCE: usize = 128;

/// Every back end, form, chunk length and token count asked for; what the cost model chooses where that is `auto`.
pub fn plans(variant: &Variant, arguments: &Arguments) -> Result<Vec<(Plan, usize)>, Failure> {
    arguments.shape.once(variant, &arguments.shared)?;
    let forms = arguments.shared.forms();
    let derivation = Derivation::of(variant);
    for form in &forms.named {
        exists(&derivation, *form)?;
    }
    if arguments.decode && !(variant.token.is_some() && carries_state(variant) && !variant.states.is_empty()) {
        return Err(Failure::wrong(format!("--decode: `{}` carries no state from call to call", variant.name)));
    }
    let mut plans = Vec::new();
    if forms.auto {
        plans.extend(chosen(variant, arguments, &[None])?);
    }
    if !(forms.auto && forms.named.is_empty()) {
        plans.extend(named(variant, arguments)?);
    }
    let mut once: Vec<(Plan, usize)> = Vec::new();
    for (plan, tokens) in plans {
        let plan = (plain(plan), tokens);
        if !once.contains(&plan) {
            once.push(plan);
        }
    }
    Ok(once)
}

/// The plan without what its form or back end ignores, so that equal ones are one entry.
fn plain(plan: Plan) -> Plan {
    match (plan.backend, plan.form) {
        (Backend::Reference, _) => Plan { form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1, ..plan },
        (_, Form::Chunked) => plan,
        _ => Plan { schedule: Schedule::Fused, chunk: 1, ..plan },
    }
}

/// Forms that are named, or the usual ones; of the chunked one the chunk lengths that are named.
fn named(variant: &Variant, arguments: &Arguments) -> Result<Vec<(Plan, usize)>, Failure> {
    let shared = &arguments.shared;
    let mut plans = Vec::new();
    for backend in compiled(variant, arguments)? {
        let lengths = tokens(variant, backend, arguments);
        for form in forms(variant, backend, arguments) {
            let chunks = match (form, shared.chunks().named) {
                (Form::Chunked, named) if !named.is_empty() => named,
                (Form::Chunked, _) if !shared.chunks().auto => vec![CHUNK],
                (Form::Chunked, _) => Vec::new(),
                _ => vec![1],
            };
            for chunk in chunks {
                for &tokens in &lengths {
                    let plan = Plan { backend, form, schedule: Schedule::Fused, chunk };
                    let schedules = schedules(variant, (plan, tokens), arguments)?;
                    plans.extend(schedules.into_iter().map(|schedule| (Plan { schedule, ..plan }, tokens)));
                }
            }
        }
        let chunked = forms(variant, backend, arguments).contains(&Form::Chunked);
        if shared.chunks().auto && chunked && backend != Backend::Reference {
            plans.extend(of_wish(variant, arguments, (Some(backend), Some(Form::Chunked), None))?);
        }
    }
    Ok(plans)
}

/// The cost model's choice for every back end, chunk length, schedule and token count asked for, and of those that are
/// not asked for.
fn chosen(variant: &Variant, arguments: &Arguments, forms: &[Option<Form>]) -> Result<Vec<(Plan, usize)>, Failure> {
    let mut plans = Vec::new();
    for backend in arguments.shared.backends().wishes() {
        for &form in forms {
            for chunk in arguments.shared.chunks().wishes() {
                plans.extend(of_wish(variant, arguments, (backend, form, chunk))?);
            }
        }
    }
    Ok(plans)
}

fn of_wish(
    variant: &Variant,
    arguments: &Arguments,
    (backend, form, chunk): (Option<Backend>, Option<Form>, Option<usize>),
) -> Result<Vec<(Plan, usize)>, Failure> {
    let shared = &arguments.shared;
    let mut engine = shared.engine()?;
    let mut plans = Vec::new();
    for tokens in tokens(variant, backend.unwrap_or(Backend::Cranelift), arguments) {
        let sizes = sizes(variant, tokens, arguments)?;
        for schedule in shared.schedules().wishes() {
            let wish = Wish { backend, form, schedule, chunk, threads: Some(shared.threads()) };
            let choice = settled(&mut engine, variant, &sizes, (shared, wish))?;
            say(&choice);
            plans.push((choice.plan, tokens));
        }
    }
    Ok(plans)
}

/// The back ends asked for; where that is open, those present that compile, or else the reference.
fn compiled(variant: &Variant, arguments: &Arguments) -> Result<Vec<Backend>, Failure> {
    let asked = arguments.shared.backends();
    let derivation = Derivation::of(variant);
    let compiles = Form::ALL.iter().any(|&form| exists(&derivation, form).is_ok());
    let mut present = backends(&arguments.shared)?;
    if asked.is_open() {
        present.retain(|&backend| asked.named.contains(&backend) || (compiles && backend != Backend::Reference));
    }
    Ok(if present.is_empty() { vec![Backend::Reference] } else { present })
}

/// The forms asked for; else token by token and chunked, or whichever there is. A call on one token is token by token.
fn forms(variant: &Variant, backend: Backend, arguments: &Arguments) -> Vec<Form> {
    let asked = arguments.shared.forms().named;
    if backend == Backend::Reference {
        return vec![Form::Recurrent];
    }
    if !asked.is_empty() {
        return asked;
    }
    let derivation = Derivation::of(variant);
    let present: Vec<Form> = Form::ALL.into_iter().filter(|&form| exists(&derivation, form).is_ok()).collect();
    let wanted = |form: &Form| *form == Form::Recurrent || (*form == Form::Chunked && !arguments.decode);
    let usual: Vec<Form> = present.iter().copied().filter(wanted).collect();
    if usual.is_empty() { present } else { usual }
}

/// The schedules asked for, of a form that may have several; else the one that the price says.
fn schedules(
    variant: &Variant,
    (plan, tokens): (Plan, usize),
    arguments: &Arguments,
) -> Result<Vec<Schedule>, Failure> {
    let asked = arguments.shared.schedules();
    if plan.form != Form::Chunked || plan.backend == Backend::Reference {
        return Ok(vec![Schedule::Fused]);
    }
    if !asked.is_open() {
        return Ok(asked.named);
    }
    let sizes = sizes(variant, tokens, arguments)?;
    let workers = choose::workers(plan.backend, &arguments.shared.settings(), arguments.shared.threads());
    let mut engine = arguments.shared.engine()?;
    Ok(asked.or_usual([choose::schedule(&mut engine, variant, &sizes, (plan, workers)).0]))
}

fn tokens(variant: &Variant, backend: Backend, arguments: &Arguments) -> Vec<usize> {
    let asked = |axis: AxisId| {
        let name = variant.axis_name(axis);
        arguments.shared.dims.iter().find(|(given, _)| *given == name).map(|(_, size)| *size)
    };
    // Of a grid the sides say how many tokens there are.
    let of_sides = |token: AxisId| {
        let value = variant.axes.get(token.0 as usize)?.value.as_ref()?;
        usize::try_from(value.eval(&|axis| asked(axis).map(|size| size as i64))?).ok()
    };
    let given = variant.token.and_then(|token| asked(token).or_else(|| of_sides(token)));
    match (arguments.shape.tokens.as_slice(), given, backend) {
        _ if arguments.decode => vec![1],
        ([], Some(given), _) => vec![given],
        ([], None, Backend::Reference) => vec![TOKENS_OF_REFERENCE],
        ([], None, _) => vec![TOKENS],
        (asked, _, _) => asked.to_vec(),
    }
}

/// The sizes of an entry.
pub fn sizes(variant: &Variant, tokens: usize, arguments: &Arguments) -> Result<Sizes, Failure> {
    let (batch, heads) = (axis_named(variant, "B"), variant.head.or(axis_named(variant, "H")));
    for (flag, asked, axis) in [("--batch", arguments.shape.batch, batch), ("--heads", arguments.shape.heads, heads)] {
        if asked.is_some() && axis.is_none() {
            return Err(Failure::wrong(format!("{flag}: `{}` has no such axis", variant.name)));
        }
    }
    let wish = usual()
        .give_axis(variant, batch, arguments.shape.batch)
        .give_axis(variant, heads, arguments.shape.heads)
        .give_axis(variant, variant.token, Some(tokens))
        .fill_all(&variant.checks.dims)
        .give_all(&arguments.shared.dims);
    let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
    room::for_tensors(variant, &sizes, room::OF_A_RUN)?;
    Ok(sizes)
}

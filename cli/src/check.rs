//! `chunkwise check`: what each variant of the files is: its inputs, states, their transitions, its forms.

use std::path::{Path, PathBuf};

use chunkwise_compiler::{
    Derivation, Form, Schedule, StateReport,
    adjoint::adjoint,
    bind::{Sizes, batch_axes},
};
use chunkwise_dsl::{
    shape::Size,
    typed::{Dtype, State, Tensor, TensorRole, Variant},
};
use chunkwise_runtime::{
    Backend,
    choose::CHUNK,
    compiles::{self, Compiles, FormCompiles},
};
use clap::Args;
use serde_json::{Value, json};

use crate::{arguments::Shared, failure::Failure, print, program, program::dims_of, sizes::usual};

#[derive(Args)]
pub struct Arguments {
    /// The source files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

/// Reports every sound file; ends with the errors of the others.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut wrong = 0;
    for file in &arguments.files {
        match program::load(file, &arguments.shared) {
            Ok(program) => {
                for variant in &program.variants {
                    let found = Found::new(variant, &arguments.shared)?;
                    let text = if print::json() { as_json(file, variant, &found) } else { as_text(variant, &found) };
                    print::line(&text)?;
                }
            }
            Err(failure) => {
                failure.print();
                wrong += 1;
            }
        }
    }
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::wrong(format!("{wrong} of {} files did not check", arguments.files.len()))),
    }
}

/// What the compiler says of a variant.
struct Found {
    states: Vec<StateReport>,
    /// Whether any back end compiles each.
    forms: Vec<FormCompiles>,
    compiles: Vec<Compiles>,
    backward: Backward,
}

/// What becomes of the gradients: the forms in which they compile, or why there is none.
struct Backward {
    forms: Vec<Form>,
    reason: Option<String>,
}

impl Backward {
    fn of(variant: &Variant, sizes: &Sizes, schedule: Schedule) -> Self {
        let made = match adjoint(variant) {
            Ok(made) => made,
            Err(refusal) => return Self { forms: Vec::new(), reason: Some(refusal.to_string()) },
        };
        let derivation = Derivation::of(&made.variant);
        let forms = compiles::lowered(&derivation, sizes, derivation.report().1, schedule);
        let taken: Vec<Form> = forms.iter().filter(|of| of.missing.is_none()).map(|of| of.form).collect();
        // Without states the one form is the parallel one, and its reason the one that matters.
        let own = if variant.states.is_empty() { Form::Parallel } else { Form::Recurrent };
        let refused = forms.iter().find(|of| of.form == own).and_then(|of| of.missing.as_ref());
        let reason = refused.filter(|_| taken.is_empty()).map(ToString::to_string);
        Self { forms: taken, reason }
    }

    fn text(&self) -> String {
        match &self.reason {
            Some(reason) => format!("no: {reason}"),
            None => self.forms.iter().map(|form| form.name()).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Found {
    /// # Errors
    /// Sizes that cannot be, more than one chunk length or schedule.
    fn new(variant: &Variant, shared: &Shared) -> Result<Self, Failure> {
        let wish = usual().fill_all(&variant.checks.dims).give_all(&dims_of(variant, shared));
        let sizes = wish.bind(variant).map_err(Failure::Wrong)?;
        let schedule = shared.schedule()?.unwrap_or(Schedule::Fused);
        let chunk = shared.chunk()?.unwrap_or(CHUNK);
        shared.of_chunks()?;
        let asked = shared.forms().or_usual(chunkwise_compiler::Form::ALL);
        let derivation = Derivation::of(variant);
        let (states, mut forms) = derivation.report();
        forms.retain(|of| asked.contains(&of.form));
        let forms = compiles::lowered(&derivation, &sizes, forms, schedule);
        let backends = shared.backends().or_usual(Backend::ALL).into_iter().filter(|of| *of != Backend::Reference);
        let settings = shared.settings();
        let on = |backend| compiles::on(backend, (&derivation, &sizes), &forms, (schedule, chunk, &settings));
        let compiles = backends.map(on).collect();
        let backward = Backward::of(variant, &sizes, Schedule::Fused);
        Ok(Self { states, forms, compiles, backward })
    }
}

fn as_text(variant: &Variant, found: &Found) -> String {
    let states = &found.states;
    let args = variant.args.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    let mut text = match args.is_empty() {
        true => format!("variant {}\n", variant.name),
        false => format!("variant {}({args})\n", variant.name),
    };
    let mut section = |title: &str, lines: Vec<String>| {
        for (place, line) in lines.iter().enumerate() {
            let title = if place == 0 { title } else { "" };
            text.push_str(&format!("  {title:<9} {line}\n"));
        }
    };
    section("axes", vec![variant.axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>().join(", ")]);
    section("inputs", tensors(variant, TensorRole::Input));
    section("params", tensors(variant, TensorRole::Param));
    section("states", states_text(variant, states));
    section("outputs", variant.outputs().map(|output| output.name.clone()).collect());
    section("forms", forms_text(&found.forms));
    section("compiles", vec![compiles_text(&found.compiles)]);
    section("backward", vec![found.backward.text()]);
    text
}

fn tensors(variant: &Variant, role: TensorRole) -> Vec<String> {
    let of_role = variant.tensors.iter().filter(|tensor| tensor.role == role);
    of_role
        .map(|tensor| format!("{} : {}{}", tensor.name, dtype_prefix(tensor), tensor_shape(variant, tensor)))
        .collect()
}

fn dtype_prefix(tensor: &Tensor) -> &'static str {
    match tensor.dtype {
        Dtype::F32 => "",
        Dtype::I32 => "i32 ",
    }
}

fn states_text(variant: &Variant, reports: &[StateReport]) -> Vec<String> {
    let line = |state: &State| {
        let class = class_of(reports, &state.name);
        format!("{} : {}  transition: {class}", state.name, shape_text(variant, &state.dims))
    };
    variant.states.iter().map(line).collect()
}

fn class_of<'a>(reports: &'a [StateReport], state: &str) -> &'a str {
    reports.iter().find(|report| report.state == state).map_or("unknown", |report| report.class.as_str())
}

/// A line a form; what a line above has said is not said again.
fn forms_text(forms: &[FormCompiles]) -> Vec<String> {
    let line = |(place, of): (usize, &FormCompiles)| {
        let said = |why| forms[..place].iter().any(|above| above.missing.as_ref() == Some(why));
        let verdict = match &of.missing {
            None => "yes".to_string(),
            Some(why) if said(why) => "no, likewise".to_string(),
            Some(why) => format!("no: {why}"),
        };
        format!("{:<9}  {verdict}", of.form.name())
    };
    forms.iter().enumerate().map(line).collect()
}

/// `cranelift yes, llvm not built in, wgpu no: why`. What several say is said by the last of them; what every form says is
/// said above.
fn compiles_text(compiles: &[Compiles]) -> String {
    let reason = |of: &Compiles| match of.reason() {
        Some(why) if of.is_own_reason() => why,
        _ => "none of its forms does".to_string(),
    };
    let verdict = |(place, of): (usize, &Compiles)| {
        let again =
            |why: &str| compiles[place + 1..].iter().any(|below| below.taken().is_empty() && reason(below) == why);
        let name = of.backend.name();
        match reason(of) {
            _ if !of.taken().is_empty() => format!("{name} yes"),
            why if why == compiles::NOT_BUILT_IN => format!("{name} {why}"),
            why if !again(&why) => format!("{name} no: {why}"),
            _ => format!("{name} no"),
        }
    };
    compiles.iter().enumerate().map(verdict).collect::<Vec<_>>().join(", ")
}

/// `[B,T,H,K]`
fn shape_text(variant: &Variant, sizes: &[Size]) -> String {
    format!("[{}]", size_names(variant, sizes).join(","))
}

fn size_names(variant: &Variant, sizes: &[Size]) -> Vec<String> {
    sizes.iter().map(|size| size.print(&|axis| variant.axis_name(axis))).collect()
}

fn tensor_sizes(tensor: &Tensor) -> Vec<Size> {
    tensor.dims.iter().map(|dim| dim.size.clone()).collect()
}

fn tensor_shape(variant: &Variant, tensor: &Tensor) -> String {
    shape_text(variant, &tensor_sizes(tensor))
}

fn as_json(file: &Path, variant: &Variant, found: &Found) -> String {
    let tensors: Vec<Value> = variant.tensors.iter().map(|tensor| tensor_json(variant, tensor)).collect();
    let batch: Vec<Size> = batch_axes(variant).into_iter().map(Size::axis).collect();
    let states: Vec<Value> = variant
        .states
        .iter()
        .map(|state| {
            let shape = [batch.as_slice(), &state.dims].concat();
            json!({"name": state.name, "shape": size_names(variant, &shape), "class": class_of(&found.states, &state.name)})
        })
        .collect();
    let forms: Vec<Value> = found
        .forms
        .iter()
        .map(|report| {
            let reason = report.missing.as_ref().map(ToString::to_string);
            json!({"form": report.form.name(), "exists": report.missing.is_none(), "reason": reason})
        })
        .collect();
    let compiles: serde_json::Map<String, Value> =
        found.compiles.iter().map(|of| (of.backend.name().to_string(), compiles_json(of))).collect();
    let outputs: Vec<&str> = variant.outputs().map(|output| output.name.as_str()).collect();
    let args: serde_json::Map<String, Value> =
        variant.args.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "file": file.display().to_string(), "variant": variant.name, "args": args, "inputs": tensors,
        "states": states, "outputs": outputs, "forms": forms, "compiles": compiles,
        "backward": {"forms": found.backward.forms.iter().map(|form| form.name()).collect::<Vec<_>>(), "reason": found.backward.reason},
    })
    .to_string()
}

fn compiles_json(of: &Compiles) -> Value {
    let forms: Vec<&str> = of.taken().into_iter().map(|form| form.name()).collect();
    json!({"ok": !forms.is_empty(), "forms": forms, "reason": of.reason()})
}

fn tensor_json(variant: &Variant, tensor: &Tensor) -> Value {
    let role = match tensor.role {
        TensorRole::Input => "input",
        TensorRole::Param => "param",
    };
    let dtype = match tensor.dtype {
        Dtype::F32 => "f32",
        Dtype::I32 => "i32",
    };
    json!({"name": tensor.name, "role": role, "dtype": dtype, "shape": size_names(variant, &tensor_sizes(tensor))})
}

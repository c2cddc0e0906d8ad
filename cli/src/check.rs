//! `chunkwise check`: what each variant of the files is: its inputs, states, their transitions, its forms.

use std::path::{Path, PathBuf};

use chunkwise_compiler::{FormReport, StateReport, bind::batch_axes, report};
use chunkwise_dsl::{
    shape::Size,
    typed::{Dtype, State, Tensor, TensorRole, Variant},
};
use clap::Args;
use serde_json::{Value, json};

use crate::{arguments::Shared, failure::Failure, print, program};

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
                    let text = if arguments.shared.json { as_json(file, variant) } else { as_text(variant) };
                    print::line(&text)?;
                }
                if !arguments.shared.json {
                    program.stacks.iter().try_for_each(|name| print::line(&format!("stack {name}\n")))?;
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

fn as_text(variant: &Variant) -> String {
    let (states, forms) = report(variant);
    let args = variant.args.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    let mut text = match args.is_empty() {
        true => format!("variant {}\n", variant.name),
        false => format!("variant {}({args})\n", variant.name),
    };
    let mut section = |title: &str, lines: Vec<String>| {
        for (place, line) in lines.iter().enumerate() {
            let title = if place == 0 { title } else { "" };
            text.push_str(&format!("  {title:<8} {line}\n"));
        }
    };
    section("axes", vec![variant.axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>().join(", ")]);
    section("inputs", tensors(variant, TensorRole::Input));
    section("params", tensors(variant, TensorRole::Param));
    section("states", states_text(variant, &states));
    section("outputs", variant.outputs().map(|output| output.name.clone()).collect());
    section("forms", forms.iter().map(form_text).collect());
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

fn form_text(report: &FormReport) -> String {
    match &report.missing {
        None => format!("{:<9}  yes", report.form.name()),
        Some(why) => format!("{:<9}  no: {}", report.form.name(), why),
    }
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

fn as_json(file: &Path, variant: &Variant) -> String {
    let (states, forms) = report(variant);
    let tensors: Vec<Value> = variant.tensors.iter().map(|tensor| tensor_json(variant, tensor)).collect();
    let batch: Vec<Size> = batch_axes(variant).into_iter().map(Size::axis).collect();
    let states: Vec<Value> = variant
        .states
        .iter()
        .map(|state| {
            let shape = [batch.as_slice(), &state.dims].concat();
            json!({"name": state.name, "shape": size_names(variant, &shape), "class": class_of(&states, &state.name)})
        })
        .collect();
    let forms: Vec<Value> = forms
        .iter()
        .map(|report| {
            let reason = report.missing.as_ref().map(ToString::to_string);
            json!({"form": report.form.name(), "exists": report.missing.is_none(), "reason": reason})
        })
        .collect();
    let outputs: Vec<&str> = variant.outputs().map(|output| output.name.as_str()).collect();
    let args: serde_json::Map<String, Value> =
        variant.args.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "file": file.display().to_string(), "variant": variant.name, "args": args, "inputs": tensors,
        "states": states, "outputs": outputs, "forms": forms,
    })
    .to_string()
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

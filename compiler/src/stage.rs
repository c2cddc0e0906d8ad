//! The printable stops between a program and its code: one row a stage, the same names in `--stage` and in snapshots.

use chunkwise_dsl::typed::Variant;

use crate::{Derivation, Form, Schedule, Tiles, Unsupported, bind::Sizes, egraph::Derived, ir::form as form_text};

/// A stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Ast,
    Typed,
    Ir,
    Form,
    Plan,
    Kernel,
    Code,
    Asm,
    /// Binary: a relocatable object.
    Object,
}

impl Stage {
    pub const ALL: [Stage; 9] = [
        Stage::Ast,
        Stage::Typed,
        Stage::Ir,
        Stage::Form,
        Stage::Plan,
        Stage::Kernel,
        Stage::Code,
        Stage::Asm,
        Stage::Object,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Ast => "ast",
            Stage::Typed => "typed",
            Stage::Ir => "ir",
            Stage::Form => "form",
            Stage::Plan => "plan",
            Stage::Kernel => "kernel",
            Stage::Code => "code",
            Stage::Asm => "asm",
            Stage::Object => "object",
        }
    }

    /// Whether the stage depends on a form and on sizes.
    pub fn of_form(self) -> bool {
        !matches!(self, Stage::Ast | Stage::Typed)
    }
}

/// The text of what the compiler made at a stage up to the kernel. The ast and code are printed by their makers.
///
/// # Errors
/// A form that the variant lacks, and the stages that are not printed here.
pub fn print(
    stage: Stage,
    variant: &Variant,
    sizes: &Sizes,
    (form, schedule): (Form, Schedule),
) -> Result<String, Unsupported> {
    match stage {
        Stage::Typed => Ok(chunkwise_dsl::print_typed::typed(variant)),
        Stage::Ir => ir(variant),
        Stage::Form => chosen(variant, (form, schedule)),
        Stage::Plan => Derivation::of(variant).planned((form, schedule)),
        Stage::Kernel => Ok(crate::compile(variant, sizes, (form, schedule), Tiles::Whole)?.to_string()),
        Stage::Ast | Stage::Code | Stage::Asm | Stage::Object => Err(Unsupported::new(
            format!("the stage {}", stage.name()),
            "it is printed by its own maker",
            "print it with `chunkwise emit`",
        )),
    }
}

/// Every state's raw recurrence and its normal form.
fn ir(variant: &Variant) -> Result<String, Unsupported> {
    let mut text = String::new();
    let derivation = Derivation::of(variant);
    for (scan, derived) in each_state(&derivation)? {
        let name = &variant.states[derived.system.state.index()].name;
        let side = if derived.system.transposed { ", held transposed" } else { "" };
        text.push_str(&format!("{scan}state {name}: {}{side}\n", derived.normal.class()));
        text.push_str(&format!("  update  {}\n", derived.system.update));
        for read in &derived.system.reads {
            text.push_str(&format!("  read    {}\n", read.term));
        }
        text.push_str(&format!("  normal  {}\n", derived.normal.print()));
        let nodes = [&derived.raw, &derived.forms].map(|stage| stage.graph.total_number_of_nodes());
        text.push_str(&format!("  e-nodes {} + {}\n", nodes[0], nodes[1]));
    }
    Ok(text)
}

/// The terms that extraction chose, shared sub-terms named.
fn chosen(variant: &Variant, (form, schedule): (Form, Schedule)) -> Result<String, Unsupported> {
    let mut text = String::new();
    let derivation = Derivation::of(variant);
    for (scan, derived) in each_state(&derivation)? {
        let name = &variant.states[derived.system.state.index()].name;
        if let Some(term) = derived.extract(form, schedule) {
            text.push_str(&format!("{scan}state {name}\n{}", form_text::print(&term)));
        }
    }
    Ok(text)
}

/// Every derived state, with the scan that it belongs to where there are several.
fn each_state(derivation: &Derivation) -> Result<Vec<(String, &Derived)>, Unsupported> {
    let mut all = Vec::new();
    for (scan, derivation) in derivation.scans() {
        let scan = scan.map(|name| format!("scan {name} ")).unwrap_or_default();
        all.extend(derivation.states()?.iter().map(|derived| (scan.clone(), derived)));
    }
    Ok(all)
}

//! The printable stops between a program and its code: one row a stage, the same names in `--stage` and in snapshots.

use chunkwise_dsl::typed::Variant;

use crate::{Form, Unsupported, bind::Sizes};

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
}

impl Stage {
    pub const ALL: [Stage; 8] =
        [Stage::Ast, Stage::Typed, Stage::Ir, Stage::Form, Stage::Plan, Stage::Kernel, Stage::Code, Stage::Asm];

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
        }
    }

    /// Whether the stage depends on a form and on sizes.
    pub fn of_form(self) -> bool {
        !matches!(self, Stage::Ast | Stage::Typed)
    }
}

/// The text of what the compiler made at a stage up to the kernel. Code is printed by its generator.
pub fn print(stage: Stage, variant: &Variant, sizes: &Sizes, form: Form) -> Result<String, Unsupported> {
    match stage {
        Stage::Typed => Ok(format!("{variant:#?}")),
        Stage::Kernel => Ok(crate::compile(variant, sizes, form)?.to_string()),
        Stage::Ast | Stage::Ir | Stage::Form | Stage::Plan | Stage::Code | Stage::Asm => Err(Unsupported::new(
            format!("the stage {}", stage.name()),
            "it has no printed form",
            "print the stage typed or kernel",
        )),
    }
}

//! The C header of an interface: C99 and C++, each function under a comment that says what its arguments are.

use std::fmt::Write;

use super::{Argument, Interface};
use crate::kernel::{BufferRole, Elem, Int};

/// What a header tells besides the functions.
#[derive(Debug, Clone)]
pub struct About {
    /// The source file.
    pub source: String,
    /// `gla, tau = 16`
    pub variant: String,
    /// `chunked, 64 tokens a chunk`
    pub form: String,
    /// The machine that the object is for.
    pub machine: String,
}

/// The header's text. The same interface gives the same bytes.
pub fn text(interface: &Interface, about: &About) -> String {
    let mut out = String::new();
    let guard = format!("CHUNKWISE_{}_H", interface.name.to_uppercase());
    opening(&mut out, interface, about);
    line(&mut out, &format!("#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>\n"));
    line(&mut out, RESTRICT);
    macros(&mut out, interface);
    line(&mut out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    workspace(&mut out, interface);
    call(&mut out, interface);
    line(&mut out, &format!("#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {guard} */"));
    out
}

const RESTRICT: &str = "#ifndef CHUNKWISE_RESTRICT
#if defined(__cplusplus)
#define CHUNKWISE_RESTRICT __restrict
#else
#define CHUNKWISE_RESTRICT restrict
#endif
#endif
";

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Text that may stand in a comment.
fn plain(text: &str) -> String {
    text.replace("*/", "* /").replace("/*", "/ *").replace(['\n', '\r'], " ")
}

fn opening(out: &mut String, interface: &Interface, about: &About) {
    let listed = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let fixed = listed(interface.constants.iter().map(|c| format!("{} = {}", c.axis, c.size)).collect());
    let free = listed(interface.sizes.iter().map(|size| size.axis.clone()).collect());
    line(
        out,
        &format!(
            "/* Written by `chunkwise emit --stage object`, with the object file that holds these functions.
 *
 *   source    {}
 *   variant   {}
 *   form      {}
 *   machine   {}
 *   sizes     compiled in: {fixed}; arguments: {free}
 *
 * Tensors are whole, dense and row-major: the last axis of a shape is contiguous. All are float (32 bits) unless declared
 * int32_t, aligned as C has it. What is marked restrict overlaps nothing that a call writes.
 *
 * Nothing is allocated, printed or kept between calls, and no symbol of any library is needed. Calls may run at the same
 * time in several threads, each with its own workspace and results; tensors whose first axis is a batch axis can be
 * shared out among threads by slices of it.
 *
 * Subnormal numbers (below 1.2e-38) count as 0. A call sets the modes of the processor for that (flush to zero, denormals
 * are zero) in its thread and puts back those that it found.
 */",
            plain(&about.source),
            plain(&about.variant),
            plain(&about.form),
            plain(&about.machine),
        ),
    );
}

fn macros(out: &mut String, interface: &Interface) {
    if !interface.constants.is_empty() {
        line(out, "/* Sizes that are compiled in. */");
    }
    for constant in &interface.constants {
        line(out, &format!("#define {} {}", constant.c, constant.size));
    }
    let upper = interface.name.to_uppercase();
    line(
        out,
        &format!(
            "
/* What {0} returns. After a failure no result is written. */
#define {upper}_OK 0
#define {upper}_NULL_POINTER (-1)    /* a pointer is NULL that may not be */
#define {upper}_WRONG_SIZE (-2)      /* a size is below 0, or too large to address */
#define {upper}_SMALL_WORKSPACE (-3) /* workspace_bytes is less than {0}_workspace says */
",
            interface.name
        ),
    );
}

fn sizes(interface: &Interface) -> Vec<String> {
    interface.sizes.iter().map(|size| format!("int64_t {}", size.c)).collect()
}

fn workspace(out: &mut String, interface: &Interface) {
    let sizes = sizes(interface);
    let sizes = if sizes.is_empty() { "void".to_owned() } else { sizes.join(", ") };
    line(
        out,
        &format!(
            "/* Bytes of workspace for these sizes, at least 1; 0 if a size is below 0 or too large. */
size_t {}_workspace({sizes});
",
            interface.name
        ),
    );
}

fn call(out: &mut String, interface: &Interface) {
    let name = &interface.name;
    line(out, &format!("/* Runs {name} on all tokens and batch elements, in the calling thread.\n *"));
    let name_wide = interface.arguments.iter().map(|a| a.c.len()).chain([9]).max().unwrap_or(9);
    let shape_wide = interface.arguments.iter().map(|a| a.shape.len()).max().unwrap_or(0);
    for argument in &interface.arguments {
        line(
            out,
            format!(" *   {:name_wide$}  {:shape_wide$}  {}", argument.c, argument.shape, said(argument)).trim_end(),
        );
    }
    for size in &interface.sizes {
        let renamed = if size.c == size.axis { String::new() } else { format!(" `{}`", size.axis) };
        line(out, &format!(" *   {:name_wide$}  size of axis{renamed}, >= 0", size.c));
    }
    line(
        out,
        &format!(
            " *   {:name_wide$}  any address, {name}_workspace(..) bytes; its contents do not matter",
            "workspace"
        ),
    );
    line(out, " *");
    if interface.arguments.iter().any(|argument| argument.role == BufferRole::StateOut) {
        line(out, " * A state may go in and out at one address (S_in == S_out); otherwise the two do not overlap.");
    }
    line(
        out,
        &format!(" * A tensor without elements may be NULL. Returns {}_OK or what went wrong. */", name.to_uppercase()),
    );
    let mut all: Vec<String> = interface.arguments.iter().map(parameter).collect();
    all.extend(sizes(interface));
    all.extend(["void *CHUNKWISE_RESTRICT workspace".to_owned(), "size_t workspace_bytes".to_owned()]);
    line(out, &format!("int32_t {name}(\n    {});\n", all.join(",\n    ")));
}

fn parameter(argument: &Argument) -> String {
    let elem = if argument.elem == Elem::F32 { "float" } else { "int32_t" };
    let qualifier = match argument.role {
        BufferRole::Input | BufferRole::StateIn => "const ",
        _ => "",
    };
    // A state may go in and out at one address.
    let restrict = match argument.role {
        BufferRole::StateIn | BufferRole::StateOut => "",
        _ => "CHUNKWISE_RESTRICT ",
    };
    format!("{qualifier}{elem} *{restrict}{}", argument.c)
}

fn said(argument: &Argument) -> String {
    let (what, usual) = match argument.role {
        BufferRole::Input => ("input", argument.name.clone()),
        BufferRole::StateIn => ("initial state", format!("{}_in", argument.name)),
        BufferRole::StateOut => ("final state", format!("{}_out", argument.name)),
        _ => ("output", argument.name.clone()),
    };
    let mut said = what.to_owned();
    if argument.elem == Elem::I32 {
        said.push_str(", int32_t");
    }
    if argument.c != usual {
        said.push_str(&format!(" `{}`", plain(&argument.name)));
    }
    if let Some(absent) = &argument.absent {
        said.push_str(&format!("; {absent}"));
    } else if argument.role == BufferRole::StateIn && argument.elements != Int::Const(0) {
        said.push_str("; never NULL: its declared value is not a number or a param");
    }
    said
}

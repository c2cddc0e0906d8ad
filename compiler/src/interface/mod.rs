//! What a C program calls: the functions of a compiled variant, their arguments, and how a call becomes a run of the
//! kernels. Made from the typed variant and its module, for ahead-of-time output; `codegen` writes the functions,
//! `header` their declarations. Not here: machine code, files.
//!
//! ```text
//! size_t  NAME_workspace(sizes..)                                           bytes of working memory
//! int32_t NAME(inputs.., states in.., outputs.., states out.., sizes.., workspace, bytes)
//! ```
//!
//! Sizes that a module takes at run time are arguments, unless they follow from others (`H = G*R`). All integers of an
//! interface are in terms of its size arguments: `ParamId(n)` is the n-th.

pub mod header;
pub mod names;
mod start;

use chunkwise_dsl::shape::{AxisId, Factor, Size};
use chunkwise_dsl::typed::{AxisKind, Dtype, Output, OutputDim, State, Variant};

use crate::Unsupported;
use crate::bind::{Sizes, batch_axes, carries_state, output_dims};
use crate::kernel::{BufferRole, Elem, Int, Module, ParamId, ParamRole};
use names::Names;

/// The functions of one module, and what a call of them means.
#[derive(Debug, Clone)]
pub struct Interface {
    /// The C name of the function that runs the variant; the others begin with it.
    pub name: String,
    pub sizes: Vec<SizeArgument>,
    /// The pointers, in order.
    pub arguments: Vec<Argument>,
    /// The value of every param of the module; 0 for those of the grid.
    pub params: Vec<Int>,
    /// Where every buffer of the module lies.
    pub places: Vec<Place>,
    /// Axes whose sizes are compiled in.
    pub constants: Vec<Constant>,
}

/// A run-time size.
#[derive(Debug, Clone)]
pub struct SizeArgument {
    pub c: String,
    pub axis: String,
}

/// An axis that is a constant of the kernels, and the macro that says so.
#[derive(Debug, Clone)]
pub struct Constant {
    pub c: String,
    pub axis: String,
    pub size: usize,
}

/// A pointer that a call is given.
#[derive(Debug, Clone)]
pub struct Argument {
    pub c: String,
    /// The tensor's or state's name in the program.
    pub name: String,
    pub role: BufferRole,
    pub elem: Elem,
    /// `[B,T,H,K]`
    pub shape: String,
    pub elements: Int,
    /// Whether a null pointer is refused where there are elements.
    pub needed: bool,
    /// What a null pointer means, in words.
    pub absent: Option<String>,
}

/// Where a buffer of the module lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// Where this argument points.
    Argument(usize),
    /// In the workspace.
    Work,
    /// An initial state: where the argument points, if it is given and is no output; else in the workspace.
    Start(Box<Start>),
}

/// The initial value of a state.
#[derive(Debug, Clone)]
pub struct Start {
    /// The argument that may give it, and the one that its final value goes to.
    pub given: Option<(usize, usize)>,
    /// Its declared value; none where only the reference evaluates it.
    pub declared: Option<Fill>,
    /// Copies all of buffer 0 to buffer 1.
    pub copy: Module,
}

/// A declared initial value, as a kernel that writes it.
#[derive(Debug, Clone)]
pub struct Fill {
    /// The argument that it reads, buffer 0 of the kernel.
    pub from: Option<usize>,
    /// One kernel without a grid; its last buffer is written, its params are the size arguments.
    pub module: Module,
    /// In words: `0`, `the param S0`.
    pub text: String,
}

/// The interface of a module that `compile` made of this variant for these sizes. `name` is the C function's, the
/// variant's if not given; `longest` is the most tokens in a chunk, none for all of them.
///
/// # Errors
/// A state that takes no initial value from outside and whose declared one only the reference evaluates.
pub fn interface(
    (variant, sizes): (&Variant, &Sizes),
    module: &Module,
    name: Option<&str>,
    longest: Option<usize>,
) -> Result<Interface, Unsupported> {
    let mut globals = Names::new();
    let name = match name {
        Some(name) => globals.take(name),
        None => globals.function(&variant.name),
    };
    let around = Around { variant, sizes };
    for fixed in ["OK", "NULL_POINTER", "WRONG_SIZE", "SMALL_WORKSPACE", "H"] {
        globals.take(&format!("{}_{fixed}", name.to_uppercase()));
    }
    let constants = around.constants(&name, &mut globals);
    let mut made = Interface {
        sizes: Vec::new(),
        arguments: Vec::new(),
        params: module.params.iter().map(|param| around.param(&param.role, longest)).collect(),
        places: Vec::new(),
        constants,
        name,
    };
    // Macros would replace parameters of their name.
    around.arguments(module, &mut made, globals)?;
    around.places(module, &mut made)?;
    Ok(made)
}

/// What an interface is made from.
struct Around<'a> {
    variant: &'a Variant,
    sizes: &'a Sizes,
}

impl Around<'_> {
    fn axes(&self) -> impl Iterator<Item = AxisId> {
        (0..self.variant.axes.len()).map(|place| AxisId(place as u32))
    }

    /// Whether kernels take the size of the axis when they are launched.
    fn at_run_time(&self, axis: AxisId) -> bool {
        let batch = matches!(self.variant.axes[axis.0 as usize].kind, AxisKind::Batch | AxisKind::Group);
        batch || self.variant.token == Some(axis)
    }

    /// The axes that are arguments.
    fn free(&self) -> Vec<AxisId> {
        self.axes()
            .filter(|axis| self.at_run_time(*axis) && self.variant.axes[axis.0 as usize].value.is_none())
            .collect()
    }

    /// Whether the size of the axis depends on an argument.
    fn varies(&self, axis: AxisId) -> bool {
        match &self.variant.axes[axis.0 as usize].value {
            None => self.at_run_time(axis),
            Some(value) => value.axes().into_iter().any(|part| self.varies(part)),
        }
    }

    fn axis(&self, axis: AxisId) -> Int {
        if let Some(place) = self.free().iter().position(|free| *free == axis) {
            return Int::Param(ParamId(place as u32));
        }
        match &self.variant.axes[axis.0 as usize].value {
            Some(value) if self.varies(axis) => self.size(value),
            _ => Int::from(self.sizes.get(axis).unwrap_or(0)),
        }
    }

    /// A size in terms of the size arguments.
    fn size(&self, size: &Size) -> Int {
        let mut sum = Int::from(0i64);
        for (factors, n) in size.terms() {
            let product = factors.iter().fold(Int::from(n), |product, factor| {
                product
                    * match factor {
                        Factor::Axis(axis) => self.axis(*axis),
                        Factor::FloorDiv(a, b) => self.size(a).floor_div(self.size(b)),
                        Factor::Mod(a, b) => self.size(a).modulo(self.size(b)),
                    }
            });
            sum = sum + product;
        }
        sum
    }

    /// The extent of a dim: a negative size is 0.
    fn extent(&self, size: &Size) -> Int {
        self.size(size).max(0i64)
    }

    fn extents<'s>(&self, sizes: impl IntoIterator<Item = &'s Size>) -> Vec<Int> {
        sizes.into_iter().map(|size| self.extent(size)).collect()
    }

    fn param(&self, role: &ParamRole, longest: Option<usize>) -> Int {
        let named = |name: &String| {
            let axis = self.axes().find(|axis| self.variant.axes[axis.0 as usize].name == *name);
            axis.map_or(Int::from(0i64), |axis| self.axis(axis))
        };
        match role {
            ParamRole::Size(axis) => named(axis),
            ParamRole::Chunk => {
                let tokens = self.variant.token.map_or(Int::from(1i64), |axis| self.axis(axis)).max(1i64);
                longest.map_or(tokens.clone(), |longest| tokens.min(longest))
            }
            // One tile: a call runs in one thread.
            ParamRole::Tile(axis) => named(axis).max(1i64),
            ParamRole::Grid => Int::from(0i64),
        }
    }

    fn constants(&self, name: &str, globals: &mut Names) -> Vec<Constant> {
        let fixed = self.axes().filter(|axis| !self.varies(*axis));
        fixed
            .map(|id| {
                let axis = self.variant.axis_name(id);
                let c = globals.take(&format!("{}_{}", name.to_uppercase(), names::identifier(&axis)));
                Constant { c, axis, size: self.sizes.get(id).unwrap_or(0) }
            })
            .collect()
    }

    fn shape(&self, dims: &[Size]) -> String {
        let names = |axis| self.variant.axis_name(axis);
        format!("[{}]", dims.iter().map(|size| size.print(&names)).collect::<Vec<_>>().join(","))
    }

    fn state_dims(&self, state: &State) -> Vec<Size> {
        batch_axes(self.variant).into_iter().map(Size::axis).chain(state.dims.iter().cloned()).collect()
    }

    fn output_dims(&self, output: &Output) -> Vec<Size> {
        let subscripts = output.indices.iter().map(|index| self.variant.indices[index.index()].size.clone());
        let own: Vec<Size> = subscripts.chain(output.ty.dims()).collect();
        let size = |dim: &OutputDim| match dim {
            OutputDim::Batch(axis) => Size::axis(*axis),
            OutputDim::Own(at) => own[*at].clone(),
        };
        output_dims(self.variant, output).iter().map(size).collect()
    }

    /// Pointers in the order inputs, states in, outputs, states out; then the sizes.
    fn arguments(&self, module: &Module, made: &mut Interface, mut names: Names) -> Result<(), Unsupported> {
        let variant = self.variant;
        let mut push = |wanted: &str, (name, role, elem): (&str, BufferRole, Elem), dims: &[Size]| {
            let read = module.buffers.iter().any(|buffer| buffer.name == name && buffer.role == role);
            let elements = self.extents(dims).into_iter().fold(Int::from(1i64), |all, n| all * n);
            made.arguments.push(Argument {
                c: names.take(wanted),
                name: name.to_owned(),
                role,
                elem,
                shape: self.shape(dims),
                elements,
                needed: read,
                absent: (!read).then(|| "not read: may be NULL".to_owned()),
            });
        };
        for tensor in &variant.tensors {
            let dims: Vec<Size> = tensor.dims.iter().map(|dim| dim.size.clone()).collect();
            let elem = if tensor.dtype == Dtype::I32 { Elem::I32 } else { Elem::F32 };
            push(&tensor.name, (&tensor.name, BufferRole::Input, elem), &dims);
        }
        let carried: &[State] = if carries_state(variant) { &variant.states } else { &[] };
        for state in carried {
            let what = (state.name.as_str(), BufferRole::StateIn, Elem::F32);
            push(&format!("{}_in", state.name), what, &self.state_dims(state));
        }
        for output in variant.outputs() {
            push(&output.name, (&output.name, BufferRole::Output, Elem::F32), &self.output_dims(output));
        }
        for state in carried {
            let what = (state.name.as_str(), BufferRole::StateOut, Elem::F32);
            push(&format!("{}_out", state.name), what, &self.state_dims(state));
        }
        let free = self.free().into_iter().map(|axis| variant.axis_name(axis));
        made.sizes = free.map(|axis| SizeArgument { c: names.take(&axis), axis }).collect();
        Ok(())
    }

    fn places(&self, module: &Module, made: &mut Interface) -> Result<(), Unsupported> {
        for buffer in &module.buffers {
            let argument = |role| made.arguments.iter().position(|a| a.name == buffer.name && a.role == role);
            let place = match (buffer.role, argument(buffer.role)) {
                (BufferRole::StateIn, given) => {
                    let given = given.zip(argument(BufferRole::StateOut));
                    let start = self.start(&buffer.name, given, made)?;
                    Self::say(&start, &mut made.arguments);
                    Place::Start(Box::new(start))
                }
                (BufferRole::Shared | BufferRole::Scratch, _) | (_, None) => Place::Work,
                (_, Some(argument)) => Place::Argument(argument),
            };
            made.places.push(place);
        }
        Ok(())
    }

    /// Notes on the arguments what a start makes of them.
    fn say(start: &Start, arguments: &mut [Argument]) {
        if let Some((given, _)) = start.given {
            arguments[given].needed = start.declared.is_none();
            arguments[given].absent = start.declared.as_ref().map(|fill| format!("NULL: {}", fill.text));
        }
        if let Some(from) = start.declared.as_ref().and_then(|fill| fill.from) {
            arguments[from].needed = true;
            arguments[from].absent = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use chunkwise_dsl::{compile, source::Source};

    use super::*;
    use crate::bind::bind_dims;
    use crate::{Form, Schedule, Tiles};

    fn interface_of(text: &str, dims: &[(&str, usize)]) -> Result<Interface, Unsupported> {
        let program = compile(&Source::new("test", text), &[]).unwrap();
        let variant = &program.variants[0];
        let dims: Vec<(String, usize)> = dims.iter().map(|(name, n)| (name.to_string(), *n)).collect();
        let sizes = bind_dims(variant, &dims).unwrap();
        let module = crate::compile(variant, &sizes, (Form::Recurrent, Schedule::Fused), Tiles::Whole).unwrap();
        interface((variant, &sizes), &module, None, Some(8))
    }

    fn program(state: &str, more: &str) -> String {
        format!(
            "variant grouped {{ axes B, T, G, R, H = G*R, K, V; input q : [B,T,H,K], k : [B,T,G,K], v : [B,T,H,V]; \
             state S : [K,V] = {state}; update S additive(k, v); output o[t] = S[t]' * q[t]; {more} }}"
        )
    }

    const DIMS: [(&str, usize); 6] = [("B", 2), ("T", 5), ("G", 2), ("R", 3), ("K", 4), ("V", 6)];

    #[test]
    fn sizes_that_follow_from_others_are_no_arguments() {
        let made = interface_of(&program("0", ""), &DIMS).unwrap();
        assert_eq!(made.sizes.iter().map(|size| size.c.as_str()).collect::<Vec<_>>(), ["B", "T", "G"]);
        let fixed: Vec<_> = made.constants.iter().map(|c| (c.c.as_str(), c.size)).collect();
        assert_eq!(fixed, [("GROUPED_R", 3), ("GROUPED_K", 4), ("GROUPED_V", 6)]);
        let names: Vec<_> = made.arguments.iter().map(|a| a.c.as_str()).collect();
        assert_eq!(names, ["q", "k", "v", "S_in", "o", "S_out"]);
        // B, T, G = 2, 5, 4: H is 12.
        let elements = |place: usize| made.arguments[place].elements.eval(&|p| [2, 5, 4][p.index()], &|_| 0);
        assert_eq!([elements(0), elements(1), elements(5)], [2 * 5 * 12 * 4, 2 * 5 * 4 * 4, 2 * 12 * 4 * 6]);
    }

    #[test]
    fn a_declared_value_stands_in_for_a_state_that_is_not_given() {
        let made = interface_of(&program("1 / K", ""), &DIMS).unwrap();
        assert_eq!(made.arguments[3].absent.as_deref(), Some("NULL: 0.25"));
        // It would be another number at every call.
        let made = interface_of(&program("1 / G", ""), &DIMS).unwrap();
        assert!(made.arguments[3].needed && made.arguments[3].absent.is_none());
    }

    #[test]
    fn a_state_that_is_not_carried_is_no_argument() {
        let names = |made: Interface| made.arguments.into_iter().map(|a| a.c).collect::<Vec<_>>();
        let made = interface_of(&program("0", "local window(3);"), &DIMS).unwrap();
        assert_eq!(names(made), ["q", "k", "v", "o"]);
        assert!(interface_of(&program("1 / G", "local block(3);"), &DIMS).is_err());
    }
}

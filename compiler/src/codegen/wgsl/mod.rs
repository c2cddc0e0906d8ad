//! A kernel module -> WGSL, one compute shader a kernel. Text only: no device, no dependency.
//!
//! ```text
//! work item    one workgroup; its number = first item + workgroup id (x + y * x-extent), decoded into the grid point
//! statement    shared by the invocations of the workgroup; barriers only between statements that depend on each other
//! scratch      workgroup memory where it fits (`memory`), else a region a work item of the spill binding
//! function     our own polynomials where WGSL's are loose (`math`)
//! ```
//!
//! A launch of `count` items dispatches any x by y workgroups with x * y >= count; the rest do nothing. Items beyond a
//! launch, because a dimension holds no more workgroups or the spill memory no more items, come in further launches with
//! another `Word::First`.
//!
//! A kernel that takes more trips through its loops than a dispatch may comes in further dispatches as well, each of which
//! does a stretch of it (`stretch`); the trips are counted as it is written (`trips`).
//!
//! Files by what they do: `touch` (what statements read and write), `memory`, `barrier`, `binding`, `trips`; then what they write:
//! `text`, `shader` (entry, loops, integers), `stretch`, `value`, `map` (scans too), `reduce`, `product` (by `cooperative`
//! matrices where there are any), `solve`, `math`, `dialect`.
//!
//! Shaders hold no infinities, which WGSL may assume away: maxima start at the lowest finite number, and an infinite
//! constant is the largest finite one. Not here: running what comes out.

mod barrier;
mod binding;
mod cooperative;
mod dialect;
mod map;
mod math;
mod memory;
mod product;
mod reduce;
mod shader;
mod solve;
mod stretch;
#[cfg(test)]
mod tests;
mod text;
mod touch;
mod trips;
mod value;

use crate::Unsupported;
use crate::kernel::pass::{self, Level, Target};
use crate::kernel::range::Ranges;
use crate::kernel::{BufferId, Checked, Int, Kernel, Module, Param, ParamId, Stmt, check};

use binding::Table;
use cooperative::Staging;
use memory::Memory;
use shader::Frame;
pub use trips::{Trips, Unit};

/// What of an adapter decides how kernels are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Workgroups in a dimension of a dispatch.
    pub groups: u32,
    /// Storage buffers bound to a stage.
    pub storage_buffers: u32,
    /// Bytes of a storage binding.
    pub binding_bytes: u64,
    /// Whether subgroup operations may be used.
    pub subgroups: bool,
    /// Whether the adapter has f16 in shaders (`Precision::F16` needs it).
    pub f16: bool,
    /// Cooperative matrices, where the adapter has any that are used here.
    pub cooperative: Option<Cooperative>,
    /// Trips that an invocation may take through loops in one dispatch, those of all loops together.
    pub trips: u64,
}

impl Default for Limits {
    /// What every WebGPU device grants without being asked.
    fn default() -> Self {
        Self {
            workgroup_memory: 16_384,
            invocations: 256,
            groups: 65_535,
            storage_buffers: 8,
            binding_bytes: 1 << 27,
            subgroups: false,
            f16: false,
            cooperative: None,
            trips: SAFE_TRIPS,
        }
    }
}

impl Limits {
    /// Trips up to which statements are always done in one dispatch. It is not more where a dispatch may take more: the
    /// time that it is to take may be short of that.
    fn stretch(&self) -> u64 {
        self.trips.min(SAFE_TRIPS)
    }
}

/// Trips that any driver lets an invocation take. Mesa's software driver ends all loops after 65,535 together and says
/// nothing; its own changes of loops must find room.
pub const SAFE_TRIPS: u64 = 1 << 15;

/// A cooperative matrix that an adapter multiplies, with f32 accumulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cooperative {
    /// Rows and columns of a tile: 8 or 16.
    pub side: u32,
    /// Whether the factors are f16; else f32.
    pub f16: bool,
}

/// Whose WGSL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// naga, as wgpu has it on every native back end.
    Naga,
    /// A browser's WebGPU.
    Browser,
}

/// What numbers are stored and multiplied as. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    /// Declared tensors, in and out, are f16, and products round their factors to it. States and scratch stay f32, and so
    /// do both factors where one is a state, what is read of one, a running sum or of a solve, or where the result is of a
    /// gate or a solve (`kernel::held`, `kernel::exact`). What is too large for f16 becomes infinite.
    F16,
}

/// How a module is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Options {
    pub limits: Limits,
    pub dialect: Dialect,
    pub precision: Precision,
}

/// Shaders of one module.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// One a kernel, in the order in which they run.
    pub shaders: Vec<Shader>,
    /// Of bind group 0; the place in the list is the binding's number. The same for all shaders.
    pub bindings: Vec<Binding>,
    /// The uniform of `Contents::Params`: i32 words, padded with zeros to a multiple of 4.
    pub words: Vec<Word>,
    /// f32 elements of the spill binding that each work item of a launch needs, beside those of `late`.
    pub spill: u64,
    /// Scratch buffers whose sizes are known when a shader runs: their sizes come on top of `spill`.
    pub late: Vec<BufferId>,
}

/// The shader of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Shader {
    pub source: String,
    /// The entry point.
    pub entry: String,
    /// The place of its kernel in the module.
    pub kernel: usize,
    /// Bytes of workgroup memory that it declares.
    pub workgroup_memory: u32,
    /// Invocations of its workgroups.
    pub invocations: u32,
    /// Elements a work item that are kept in the spill binding from one dispatch of a stretch to the next.
    pub kept: u64,
    /// What a dispatch may do a stretch of: one unit where all is done in one.
    pub units: Vec<Unit>,
    /// Trips that a dispatch of a stretch takes beside its own.
    pub idle: u64,
}

/// One entry of bind group 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub contents: Contents,
    /// Whether shaders write it: `storage, read_write`. Else `storage, read`, or `uniform` for params.
    pub written: bool,
    /// What its elements are.
    pub elem: Stored,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// `Code::words` of one launch.
    Params,
    /// Buffers of the module one after another, each anywhere in the binding: `Word::Offset` says where. A buffer alone
    /// in its binding has no such word and starts at element 0.
    Buffers(Vec<BufferId>),
    /// `Code::spill` elements and those of `Code::late` for every work item of a launch, then `Shader::kept` for each where
    /// it comes in several dispatches. What it holds before the first of them does not matter, what one leaves the next one
    /// finds. There is no such binding where there is none of it.
    Spill,
}

/// An element of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    F32,
    I32,
    F16,
}

impl Stored {
    pub fn bytes(self) -> u64 {
        match self {
            Stored::F32 | Stored::I32 => 4,
            Stored::F16 => 2,
        }
    }
}

/// One i32 of the uniform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The number of the launch's first work item.
    First,
    /// Work items of the launch.
    Count,
    /// A param that is not compiled in.
    Param(ParamId),
    /// The first element of a buffer in its binding.
    Offset(BufferId),
    /// Where a stretch begins and ends, as numbers of a place (`Unit`). From 0 to the number of units is all.
    Begin(usize),
    End(usize),
    /// The first element in the spill binding of what work items keep, `Shader::kept` each, one after another.
    Kept,
}

/// Shaders of a checked module.
///
/// `fixed` gives the value of every param that is compiled in; the rest are read from the uniform when a shader runs. The
/// chunk length and the tiles should be: only scratch of a known size can lie in workgroup memory.
///
/// # Errors
/// More buffers than bindings can hold, scratch that a binding or 2^31 elements do
/// not hold, f16 without the adapter's support.
pub fn emit(module: &Checked, fixed: &dyn Fn(&Param) -> Option<i64>, options: &Options) -> Result<Code, Unsupported> {
    let errors = check::errors(module, Level::LOWERED);
    if !errors.is_empty() {
        return Err(refuse(module, &errors.join("; "), "use a back end of the processor"));
    }
    if options.precision == Precision::F16 && !options.limits.f16 {
        return Err(refuse(module, "f16 is asked for and this adapter's shaders have none", "use --precision f32"));
    }
    let folded = pass::run(module, Target::Wgsl, fixed);
    let kept = product::Kept::of(&folded);
    let mut placed = Vec::new();
    for kernel in &folded.kernels {
        let ranges = Ranges::new(&folded, kernel);
        let invocations = invocations(kernel, &ranges, &options.limits);
        let partials = shader::partials(kernel, &ranges, invocations);
        let staging = cooperative::of_kernel(kernel, &ranges, (options, &kept), invocations);
        let capacity = u64::from(options.limits.workgroup_memory).saturating_sub(staging.panel_bytes(options)) / 4;
        let memory = memory::place(&folded, kernel, &ranges, (partials.max(staging.sums), capacity))?;
        placed.push((ranges, memory, (invocations, staging)));
    }
    let spill = placed.iter().map(|(_, memory, _)| memory.spill).max().unwrap_or(0);
    if spill * 4 > options.limits.binding_bytes {
        let reason = format!(
            "a work item's scratch takes {} bytes beside the {} of workgroup memory, and a binding holds {}",
            spill * 4,
            options.limits.workgroup_memory,
            options.limits.binding_bytes
        );
        return Err(refuse(module, &reason, "choose a smaller chunk with --chunk"));
    }
    let (late, more) = memory::late(&folded);
    let known = |id: ParamId| fixed(&module.params[id.index()]).is_some();
    let written = |lengths: &[Length]| -> Result<(Vec<Shader>, Table), Unsupported> {
        let long = lengths.contains(&Length::Long);
        let spills = spill > 0 || !late.is_empty() || long;
        let table = Table::new(&folded, &known, options, (spills, long))?;
        let frame = Frame { module: &folded, options, table: &table, kept: &kept, spill: (spill, more.clone()) };
        let of = |(i, ((ranges, memory, shape), length)): (usize, (&(Ranges, Memory, Shape), &Length))| {
            shader::shader(&frame, i, (ranges, memory), *shape, *length)
        };
        let shaders = placed.iter().zip(lengths).enumerate().map(of).collect::<Result<Vec<_>, _>>()?;
        Ok((shaders, table))
    };
    let short = vec![Length::Short; placed.len()];
    let (shaders, table) = written(&short)?;
    let lengths: Vec<Length> = shaders.iter().map(|shader| Length::of(shader, &options.limits)).collect();
    let (shaders, table) = if lengths == short { (shaders, table) } else { written(&lengths)? };
    let late = late.into_iter().map(|(id, _)| id).collect();
    Ok(Code { shaders, bindings: table.bindings, words: table.words, spill, late })
}

/// What a kernel's products and its invocations take.
type Shape = (u32, Staging);

/// Whether a kernel may take more trips than one dispatch is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Short,
    Long,
}

impl Length {
    fn of(shader: &Shader, limits: &Limits) -> Self {
        let known = shader.units.iter().map(|unit| match unit {
            Unit::Whole(trips) => trips.known(),
            Unit::Rounds { .. } => None,
        });
        let known: Option<Vec<u64>> = known.collect();
        let fits = |all: Vec<u64>| all.into_iter().fold(0, u64::saturating_add) <= limits.stretch();
        if known.is_some_and(fits) { Length::Short } else { Length::Long }
    }
}

fn refuse(module: &Module, reason: &str, way_out: &str) -> Unsupported {
    Unsupported::new(format!("`{}` on the wgpu back end", module.name), reason, way_out)
}

/// Invocations of a kernel's workgroups: a power of two, fewer where no statement has work for many.
fn invocations(kernel: &Kernel, ranges: &Ranges, limits: &Limits) -> u32 {
    let wanted = work(&kernel.body, ranges).clamp(64, 256).next_power_of_two();
    let most = limits.invocations.max(1);
    let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
    most.min(wanted as u32)
}

/// How many invocations the widest statement keeps busy.
fn work(body: &[Stmt], ranges: &Ranges) -> u64 {
    let most = |x: &Int| ranges.most(x).unwrap_or(1 << 12).clamp(0, 1 << 12) as u64;
    let all = |axes: &[Int]| axes.iter().map(most).fold(1u64, u64::saturating_mul);
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { body, .. } => work(body, ranges),
        Stmt::If { then, otherwise, .. } => work(then, ranges).max(work(otherwise, ranges)),
        Stmt::Map(x) => all(&x.axes),
        Stmt::Reduce(x) => all(&x.axes) * most(&x.inner) / 8,
        Stmt::Scan(x) => all(&x.axes),
        Stmt::Product(x) => most(&x.m) * most(&x.n) * most(&x.k) / 16,
        Stmt::Solve(x) => most(&x.columns),
        Stmt::Sweep(_) => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

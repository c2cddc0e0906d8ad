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
//! Shaders hold no infinities, which WGSL may assume away: maxima start at the lowest finite number, and an infinite
//! constant is the largest finite one. Not here: running what comes out.

use crate::Unsupported;
use crate::kernel::{BufferId, Module, Param, ParamId};

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
        }
    }
}

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

/// What numbers are stored as. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    /// Declared tensors, in and out, are f16; states and scratch stay f32.
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
    /// f32 elements of the spill binding that each work item of a launch needs; 0 where there is no such binding.
    pub spill: u64,
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
    /// `Code::spill` elements for every work item of a launch. What it holds before does not matter.
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
}

/// Shaders of a checked module.
///
/// `fixed` gives the value of every param that is compiled in: all that sizes of scratch depend on (the chunk length,
/// tiles), and any other; the rest are read from the uniform when a shader runs.
///
/// # Errors
/// A module that `kernel::check` refuses, more buffers than bindings can hold, scratch whose size is not fixed or that
/// 2^31 elements do not hold, f16 without the adapter's support.
pub fn emit(module: &Module, fixed: &dyn Fn(&Param) -> Option<i64>, options: &Options) -> Result<Code, Unsupported> {
    let _ = (fixed, options);
    Err(Unsupported::new(
        format!("`{}` on the wgpu back end", module.name),
        "no shaders are written yet",
        "run it with --backend auto",
    ))
}

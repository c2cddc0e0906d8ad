//! What is asked of a device: which one, how exact, and limits lowered on purpose. Not here: finding it (`gpu`).

use std::{fmt, str::FromStr};

use crate::backend::Backend;

/// Wishes that hold for all runs of an `Engine`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// A GPU by its number in `chunkwise backends` or by a part of its name; the most powerful one if None.
    pub device: Option<String>,
    pub precision: Precision,
    /// Threads that code for few batch elements is made for; all cores if None.
    pub threads: Option<usize>,
    /// Limits of the GPU that code must keep to although the GPU has more: for tests of small adapters on a large one.
    pub lowered: Vec<(Limit, u64)>,
}

/// What kernels round to: the operands of products (bf16), or declared tensors while a kernel runs (f16). Sums, gates,
/// solves and states are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    F16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::F16];

    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// The back end that has it, where it is not all of them.
    pub fn backend(self) -> Option<Backend> {
        match self {
            Precision::F32 => None,
            Precision::Bf16 => Some(Backend::Cranelift),
            Precision::F16 => Some(Backend::Wgpu),
        }
    }

    /// This one where `backend` has it, else f32.
    pub fn on(self, backend: Backend) -> Precision {
        if self.backend() == Some(backend) { self } else { Precision::F32 }
    }

    /// The error that `verify` allows at this precision, where that of the back end is smaller.
    pub fn bound(self) -> f64 {
        match self {
            Precision::F32 => 0.0,
            Precision::Bf16 | Precision::F16 => 1e-2,
        }
    }
}

/// A limit of an adapter that can be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes of workgroup memory.
    WorkgroupMemory,
    /// Invocations of a workgroup.
    Invocations,
    /// Workgroups in a dimension of a dispatch.
    Groups,
    /// Storage bindings of a shader.
    StorageBuffers,
    /// Bytes of a binding.
    Binding,
    /// Trips through loops that an invocation takes in one dispatch.
    Trips,
    /// Milliseconds that the GPU is left to itself, as they are estimated.
    Milliseconds,
}

impl Limit {
    pub const ALL: [Limit; 7] = [
        Limit::WorkgroupMemory,
        Limit::Invocations,
        Limit::Groups,
        Limit::StorageBuffers,
        Limit::Binding,
        Limit::Trips,
        Limit::Milliseconds,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Limit::WorkgroupMemory => "workgroup-memory",
            Limit::Invocations => "invocations",
            Limit::Groups => "groups",
            Limit::StorageBuffers => "storage-buffers",
            Limit::Binding => "binding",
            Limit::Trips => "trips",
            Limit::Milliseconds => "milliseconds",
        }
    }

    /// What WebGPU grants on every adapter, or less where smaller ones are worth a test: code keeps to nothing lower.
    pub fn least(self) -> u64 {
        match self {
            Limit::WorkgroupMemory => 1024,
            Limit::Invocations => 32,
            Limit::Groups => 1,
            Limit::StorageBuffers => 3,
            Limit::Binding => 4096,
            Limit::Trips => 256,
            Limit::Milliseconds => 1,
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Limit::ALL.map(Limit::name).join(", ");
        Limit::ALL.into_iter().find(|limit| limit.name() == text).ok_or_else(|| format!("expected one of {names}"))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

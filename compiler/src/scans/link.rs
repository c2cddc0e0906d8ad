//! Modules of stages -> one module: params and tensors of one name are one; what stages hand on is shared memory.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::Variant;

use crate::Tiles;
use crate::bind::Sizes;
use crate::kernel::lower::Lowering;
use crate::kernel::visit::{Moved, Rebuild};
use crate::kernel::{Buffer, BufferId, BufferRole, GridAxis, Int, Kernel, Module, Param, ParamId, ParamRole};

use super::Stage;

/// One module of those of a variant's stages, in order. Tensors that the variant does not name stay within it.
pub fn link(variant: &Variant, sizes: &Sizes, stages: &[(&Stage, Module)]) -> Module {
    let name = variant.name.as_str();
    let mut linked = Module { name: name.to_string(), params: Vec::new(), buffers: Vec::new(), kernels: Vec::new() };
    let mut next = 0;
    for (stage, module) in stages {
        let axes = stage.axes.iter().map(|(axis, size)| (axis, size_in(&mut linked, (variant, sizes), size)));
        let axes: Vec<(&String, Int)> = axes.collect();
        let mut params = HashMap::new();
        for (from, param) in module.params.iter().enumerate() {
            let counted = axes.iter().find(|(axis, _)| param.role == ParamRole::Size((*axis).clone()));
            let to = counted.map(|(_, count)| count.clone());
            params.insert(ParamId(from as u32), to.unwrap_or_else(|| Int::Param(param_of(&mut linked, param))));
        }
        let grid_param = |param: ParamId| match params.get(&param) {
            Some(Int::Param(to)) => *to,
            _ => param,
        };
        let grids: Vec<Vec<ParamId>> = module
            .kernels
            .iter()
            .map(|kernel| kernel.grid.iter().map(|axis| grid_param(axis.param)).collect())
            .collect();
        let mut rebuild = Rebuild { vars: HashMap::new(), params, buffers: HashMap::new(), next: &mut next };
        for (from, buffer) in module.buffers.iter().enumerate() {
            let size = rebuild.int(&buffer.size);
            let to = buffer_of(&mut linked, (variant, stage), Buffer { size, ..buffer.clone() });
            rebuild.buffers.insert(BufferId(from as u32), to);
        }
        for (kernel, params) in module.kernels.iter().zip(grids) {
            let axes = kernel.grid.iter().zip(params);
            let grid = axes.map(|(axis, param)| GridAxis { param, extent: rebuild.int(&axis.extent) }).collect();
            let name = format!("{}_{}", stage.name, kernel.name).replace('.', "_");
            linked.kernels.push(Kernel { name, grid, body: rebuild.block(&kernel.body) });
        }
    }
    linked
}

/// A size of the variant in terms of the linked module's params.
fn size_in(linked: &mut Module, (variant, sizes): (&Variant, &Sizes), size: &Size) -> Int {
    let mut lowering = Lowering::new(variant, sizes, Tiles::Whole);
    let size = lowering.size(size);
    let module = lowering.finish(Vec::new());
    let mut params = HashMap::new();
    for (from, param) in module.params.iter().enumerate().filter(|(_, param)| param.role != ParamRole::Grid) {
        params.insert(ParamId(from as u32), Int::Param(param_of(linked, param)));
    }
    size.replaced(&|leaf| match leaf {
        Int::Param(id) => params.get(id).cloned(),
        _ => None,
    })
}

fn param_of(linked: &mut Module, param: &Param) -> ParamId {
    // Where a kernel's work items stand is its own matter.
    let found = linked.params.iter().position(|other| other == param && param.role != ParamRole::Grid);
    let place = found.unwrap_or_else(|| {
        linked.params.push(param.clone());
        linked.params.len() - 1
    });
    ParamId(place as u32)
}

/// Where a stage's buffer lies in the whole.
fn buffer_of(linked: &mut Module, (variant, stage): (&Variant, &Stage), buffer: Buffer) -> Moved {
    let own = matches!(buffer.role, BufferRole::Shared | BufferRole::Scratch);
    let unnamed = stage.closed && buffer.role == BufferRole::StateOut;
    let wire = stage.wires.get(&buffer.name).filter(|_| !own && !unnamed);
    let name = match wire {
        Some(wire) => wire.name.clone(),
        None if own => format!("{}.{}", stage.name, buffer.name),
        None if unnamed => format!("{}.{}..end", stage.name, buffer.name),
        None => buffer.name.clone(),
    };
    // What the whole neither takes nor gives stays within it.
    let role = match buffer.role {
        BufferRole::Input if !variant.tensors.iter().any(|tensor| tensor.name == name) => BufferRole::Shared,
        BufferRole::Output if wire.is_some() || !variant.outputs().any(|output| output.name == name) => {
            BufferRole::Shared
        }
        BufferRole::StateIn | BufferRole::StateOut if stage.closed => BufferRole::Shared,
        role => role,
    };
    let entry = wire.and_then(|wire| wire.entry);
    let offset = entry.map_or(Int::from(0i64), |(at, _)| Int::from(at) * buffer.size.clone());
    let size = entry.map_or(buffer.size.clone(), |(_, count)| Int::from(count) * buffer.size.clone());
    let found = linked.buffers.iter().position(|other| !own && other.name == name && other.role == role);
    let place = found.unwrap_or_else(|| {
        linked.buffers.push(Buffer { name, role, size, ..buffer });
        linked.buffers.len() - 1
    });
    Moved { buffer: BufferId(place as u32), offset }
}

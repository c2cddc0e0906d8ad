//! Modules of stages -> one module: params and tensors of one name are one; what stages hand on is shared memory.

use std::collections::HashMap;

use crate::kernel::visit::{Moved, Rebuild};
use crate::kernel::{Buffer, BufferId, BufferRole, GridAxis, Int, Kernel, Module, Param, ParamId, ParamRole};

/// One module of several, in order. Tensors whose names hold a `.` stay within it.
pub fn link(name: &str, stages: &[(String, Module)]) -> Module {
    let mut linked = Module { name: name.to_string(), params: Vec::new(), buffers: Vec::new(), kernels: Vec::new() };
    let mut next = 0;
    for (stage, module) in stages {
        let params: Vec<ParamId> = module.params.iter().map(|param| param_of(&mut linked, param)).collect();
        let mut rebuild = Rebuild {
            vars: HashMap::new(),
            params: params.iter().enumerate().map(|(from, to)| (ParamId(from as u32), Int::Param(*to))).collect(),
            buffers: HashMap::new(),
            next: &mut next,
        };
        for (from, buffer) in module.buffers.iter().enumerate() {
            let size = rebuild.int(&buffer.size);
            let to = buffer_of(&mut linked, stage, &Buffer { size, ..buffer.clone() });
            rebuild.buffers.insert(BufferId(from as u32), Moved { buffer: to, offset: Int::from(0i64) });
        }
        for kernel in &module.kernels {
            let axis =
                |axis: &GridAxis| GridAxis { param: params[axis.param.index()], extent: rebuild.int(&axis.extent) };
            let grid = kernel.grid.iter().map(axis).collect();
            let name = format!("{stage}_{}", kernel.name).replace('.', "_");
            linked.kernels.push(Kernel { name, grid, body: rebuild.block(&kernel.body) });
        }
    }
    linked
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

fn buffer_of(linked: &mut Module, stage: &str, buffer: &Buffer) -> BufferId {
    let handed = matches!(buffer.role, BufferRole::Input | BufferRole::Output) && buffer.name.contains('.');
    let role = if handed { BufferRole::Shared } else { buffer.role };
    let own = matches!(buffer.role, BufferRole::Shared | BufferRole::Scratch);
    let name = if own { format!("{stage}.{}", buffer.name) } else { buffer.name.clone() };
    let found = linked.buffers.iter().position(|other| !own && other.name == name && other.role == role);
    let place = found.unwrap_or_else(|| {
        linked.buffers.push(Buffer { name, role, ..buffer.clone() });
        linked.buffers.len() - 1
    });
    BufferId(place as u32)
}

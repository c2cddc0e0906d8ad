//! Shaders as pipelines, kept by source: what was compiled once on a device is not compiled again.

use std::collections::HashMap;

use chunkwise_compiler::codegen::wgsl::{Binding, Code, Contents, Shader};
use wgpu::{BindingType, BufferBindingType, ShaderRuntimeChecks, ShaderStages};

use super::open::Gpu;
use crate::launch::RunError;

/// Pipelines by source and what is bound to them.
#[derive(Default)]
pub(super) struct Pipelines(HashMap<(String, Vec<Kind>), wgpu::ComputePipeline>);

/// How a binding is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Params,
    Read,
    Written,
}

impl Kind {
    fn of(binding: &Binding) -> Self {
        match (&binding.contents, binding.written) {
            (Contents::Params, _) => Kind::Params,
            (_, false) => Kind::Read,
            (_, true) => Kind::Written,
        }
    }

    fn entry(self, place: usize) -> wgpu::BindGroupLayoutEntry {
        let ty = match self {
            Kind::Params => BufferBindingType::Uniform,
            Kind::Read => BufferBindingType::Storage { read_only: true },
            Kind::Written => BufferBindingType::Storage { read_only: false },
        };
        // Each launch has its own params, at its own offset.
        let has_dynamic_offset = self == Kind::Params;
        wgpu::BindGroupLayoutEntry {
            binding: place as u32,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        }
    }
}

/// A module's pipelines on a device, and the layout of what is bound to them.
pub(super) struct Ready {
    pub(super) layout: wgpu::BindGroupLayout,
    /// One a shader.
    pub(super) pipelines: Vec<wgpu::ComputePipeline>,
}

impl Ready {
    /// Compiles what is not compiled yet.
    ///
    /// # Errors
    /// A shader of more workgroup memory than the device has, or one that naga or the driver refuses.
    pub(super) fn new(gpu: &Gpu, code: &Code) -> Result<Self, RunError> {
        let kinds: Vec<Kind> = code.bindings.iter().map(Kind::of).collect();
        let entries: Vec<_> = kinds.iter().enumerate().map(|(place, kind)| kind.entry(place)).collect();
        gpu.guarded(|| {
            let wish = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let layout = gpu.device.create_bind_group_layout(&wish);
            let pipelines = code.shaders.iter().map(|shader| pipeline(gpu, shader, (&kinds, &layout)));
            let pipelines = pipelines.collect::<Result<_, _>>()?;
            Ok(Self { layout, pipelines })
        })
    }
}

fn pipeline(
    gpu: &Gpu,
    shader: &Shader,
    (kinds, group): (&[Kind], &wgpu::BindGroupLayout),
) -> Result<wgpu::ComputePipeline, RunError> {
    // wgpu does not check the sum of a shader's workgroup variables.
    let (needs, has) = (shader.workgroup_memory, gpu.limits.workgroup_memory);
    if needs > has {
        let entry = &shader.entry;
        return Err(RunError::Load(format!(
            "`{entry}` takes {needs} bytes of workgroup memory, the adapter has {has}"
        )));
    }
    let key = (shader.source.clone(), kinds.to_vec());
    if let Some(found) = gpu.pipelines().0.get(&key) {
        return Ok(found.clone());
    }
    let wish = wgpu::ShaderModuleDescriptor {
        label: Some(&shader.entry),
        source: wgpu::ShaderSource::Wgsl(shader.source.as_str().into()),
    };
    let checks =
        ShaderRuntimeChecks { bounds_checks: false, force_loop_bounding: false, ..ShaderRuntimeChecks::checked() };
    // SAFETY: shaders come from `codegen::wgsl` alone, of a checked module. No launch goes out of which it is not proved
    // that all accesses stay in their buffers, in integers of 32 bits (`launch::Admission`), and `place` gives every
    // binding room for all of its buffers; loops count from one integer to another by a positive step.
    let module = unsafe { gpu.device.create_shader_module_trusted(wish, checks) };
    let layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(group)],
        immediate_size: 0,
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&shader.entry),
        layout: Some(&layout),
        module: &module,
        entry_point: Some(&shader.entry),
        // Kernels write what they read.
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    });
    gpu.pipelines().0.insert(key, pipeline.clone());
    Ok(pipeline)
}

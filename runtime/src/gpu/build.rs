//! A variant as shaders for the device: which chunk length and value tiles are compiled in, and how exact it stores.
//! Tiles are made smaller until there are enough of them for the device and a work item's scratch fits its workgroup
//! memory.

use std::sync::Mutex;

use chunkwise_compiler::{
    Derivation, Form, Schedule, Tiles,
    bind::{Sizes, batch_axes},
    codegen::wgsl::{self, Code, Dialect, Limits, Options},
    kernel::{
        Checked, Module, Param, ParamRole, check,
        pass::{self, Target},
    },
};
use chunkwise_dsl::{shape::AxisId, typed::Axis};

use super::{Loaded, adapter, open};
use crate::{
    backend::{Backend, Unusable},
    device::{Precision, Settings},
    launch::Admission,
    request::Failure,
};

/// Columns below which a tile is not made smaller: a row of less wastes what memory gives.
const NARROW: usize = 16;

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    pub derivation: &'a Derivation,
    pub sizes: &'a Sizes,
    pub layout: (Form, Schedule),
    /// Tokens in a chunk, where they are compiled in.
    pub chunk: Option<usize>,
    /// Value tiles wanted (`tiles_wanted`).
    pub tiles: usize,
    pub settings: &'a Settings,
}

/// Value tiles that keep the device busy when a variant has so many batch elements: a power of two.
///
/// # Errors
/// No device is usable.
pub fn tiles_wanted(settings: &Settings, items: usize) -> Result<usize, Failure> {
    let place = adapter::choose(settings.device.as_deref()).map_err(unusable)?;
    let groups = adapter::groups_wanted(adapter::all()[place].get_info().device_type);
    let wanted = groups.div_ceil(items.max(1));
    Ok(if wanted <= 1 { 1 } else { 1 << wanted.ilog2() })
}

fn unusable(why: Unusable) -> Failure {
    Failure::Unusable(Backend::Wgpu, why)
}

impl Build<'_> {
    /// The module and its shaders, compiled by the driver.
    ///
    /// # Errors
    /// A form or an operation that is not supported, a state that does not fit, or a device that is not usable.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let gpu = open::open(self.settings).map_err(unusable)?;
        let (module, code, tiles) = self.emit(&gpu.limits)?;
        let (settings, chunk) = (self.settings.clone(), self.chunk.map(|chunk| chunk as i64));
        let fixed = module.params.iter().map(|param| self.fixed(param, tiles)).collect();
        let admission = Admission::new(module).with(fixed);
        let loaded = Loaded { admission, code, settings, chunk, tiles: tiles as i64, ready: Mutex::default() };
        loaded.ready().map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(loaded)
    }

    /// The shaders alone: what `emit --stage code` prints. Where there is no adapter they are for the least that WebGPU
    /// grants.
    ///
    /// # Errors
    /// A form or an operation that is not supported, a state that does not fit, or no adapter of the name asked for.
    pub fn code(&self) -> Result<Code, Failure> {
        let limits = adapter::limits_without_opening(self.settings).map_err(unusable)?;
        self.emit(&limits).map(|(_, code, _)| code)
    }

    /// The kernels after the first so many passes to shaders, with the params put in that the shaders are compiled for.
    ///
    /// # Errors
    /// As `code`.
    pub fn after(&self, passes: usize) -> Result<Module, Failure> {
        let limits = adapter::limits_without_opening(self.settings).map_err(unusable)?;
        let (module, _, tiles) = self.emit(&limits)?;
        Ok(pass::run_first(&module, Target::Wgsl, &|param| self.fixed(param, tiles), passes))
    }

    fn emit(&self, limits: &Limits) -> Result<(Checked, Code, usize), Failure> {
        if self.settings.precision == Precision::F16 && !limits.f16 {
            return Err(unusable(Unusable {
                reason: "the adapter has no f16 in shaders (SHADER_F16)".into(),
                way_out: "use --precision f32, or another adapter with --device".into(),
            }));
        }
        let module = self.derivation.compile(self.sizes, self.layout, Tiles::Split)?;
        let module = check(module).map_err(|errors| Failure::Failed(errors.join("; ")))?;
        let options = Options {
            limits: limits.clone(),
            dialect: Dialect::Naga,
            precision: match self.settings.precision {
                // Products of bf16 are the CPU's: here tensors stay as they are.
                Precision::F32 | Precision::Bf16 => wgsl::Precision::F32,
                Precision::F16 => wgsl::Precision::F16,
            },
        };
        let mut best: Option<(Code, usize)> = None;
        let mut refusal = None;
        for tiles in self.candidates(&module) {
            match wgsl::emit(&module, &|param| self.fixed(param, tiles), &options) {
                Ok(code) if best.as_ref().is_some_and(|(best, _)| best.spill <= code.spill) => {}
                Ok(code) => best = Some((code, tiles)),
                Err(refused) => refusal = Some(refused),
            }
            if best.as_ref().is_some_and(|(best, _)| best.spill == 0) {
                break;
            }
        }
        match (best, refusal) {
            (Some((code, tiles)), _) => Ok((module, code, tiles)),
            (None, Some(refusal)) => Err(refusal.into()),
            (None, None) => Err(Failure::Failed(format!("no tiling of `{}` was tried", module.name))),
        }
    }

    /// Numbers of value tiles to try: from as many as are wanted, or the nearest number below, to the most.
    fn candidates(&self, module: &Module) -> Vec<usize> {
        let tiled = module.params.iter().find_map(|param| match &param.role {
            ParamRole::Tile(axis) => Some(self.size(axis)),
            _ => None,
        });
        let Some(size) = tiled.filter(|size| *size > 0) else { return vec![1] };
        let divides = |n: &usize| size.is_multiple_of(*n) && (*n == 1 || size / n >= NARROW.min(size));
        let all: Vec<usize> = (1..=size).filter(divides).collect();
        let first = all.iter().rposition(|n| *n <= self.tiles).unwrap_or(0);
        all[first..].to_vec()
    }

    fn size(&self, axis: &str) -> usize {
        let place = self.derivation.variant().axes.iter().position(|known| known.name == axis);
        place.and_then(|place| self.sizes.get(AxisId(place as u32))).unwrap_or(0)
    }

    /// The value of a param that is compiled in: all but the sizes of batch and token axes and what derives from them.
    fn fixed(&self, param: &Param, tiles: usize) -> Option<i64> {
        match &param.role {
            ParamRole::Chunk => self.chunk.map(|chunk| chunk as i64),
            ParamRole::Tile(axis) => Some((self.size(axis) / tiles).max(1) as i64),
            ParamRole::Size(axis) => self.is_constant(axis).then(|| self.size(axis) as i64),
            ParamRole::Grid => None,
        }
    }

    fn is_constant(&self, axis: &str) -> bool {
        let variant = self.derivation.variant();
        let open = |id: AxisId| batch_axes(variant).contains(&id) || variant.token == Some(id);
        let place = variant.axes.iter().position(|known| known.name == axis);
        place.is_some_and(|place| {
            let Axis { value, .. } = &variant.axes[place];
            let of_open = value.as_ref().is_some_and(|size| size.axes().into_iter().any(open));
            !open(AxisId(place as u32)) && !of_open
        })
    }
}

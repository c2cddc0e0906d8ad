//! Shaders of every example and of modules statement by statement, parsed and validated by naga.

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::{Code, Dialect, Limits, Options, Precision, emit};
use crate::bind::bind_dims;
use crate::kernel::{Module, ParamRole};
use crate::{Form, Schedule, Tiles, compile};

fn options(workgroup_memory: u32, invocations: u32, precision: Precision) -> Options {
    let limits = Limits { workgroup_memory, invocations, f16: precision == Precision::F16, ..Limits::default() };
    Options { limits, dialect: Dialect::Naga, precision }
}

fn machines() -> [Options; 4] {
    let f32 = |memory, invocations| options(memory, invocations, Precision::F32);
    [f32(49_152, 1024), f32(32_768, 256), f32(16_384, 128), options(49_152, 1024, Precision::F16)]
}

/// The shaders of a module, every one of them held valid by naga and within its limits.
fn valid(module: &Module, sizes: &dyn Fn(&ParamRole) -> Option<i64>, options: &Options) -> Code {
    let code = emit(module, &|param| sizes(&param.role), options).unwrap_or_else(|e| panic!("{}: {e}", module.name));
    assert_eq!(code.shaders.len(), module.kernels.len());
    for shader in &code.shaders {
        let parsed = naga::front::wgsl::parse_str(&shader.source)
            .unwrap_or_else(|e| panic!("{}\n{}", e.emit_to_string(&shader.source), shader.source));
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::SHADER_FLOAT16);
        validator.validate(&parsed).unwrap_or_else(|e| {
            panic!("{}\n{}", e.emit_to_string(&shader.source), shader.source);
        });
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(parsed.to_ctx()).unwrap();
        let shared = parsed.global_variables.iter().filter(|(_, x)| x.space == naga::AddressSpace::WorkGroup);
        let memory: u32 = shared.map(|(_, x)| layouter[x.ty].size).sum();
        assert_eq!(memory, shader.workgroup_memory);
        assert!(memory <= options.limits.workgroup_memory && shader.invocations <= options.limits.invocations);
    }
    let storage = code.bindings.len() - 1;
    assert!(storage <= options.limits.storage_buffers as usize, "{}: {storage} bindings", module.name);
    code
}

fn examples() -> Vec<Variant> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().filter(|path| path.extension().is_some_and(|e| e == "attn"));
    let read = texts.map(|path| std::fs::read_to_string(path).unwrap());
    read.flat_map(|text| chunkwise_dsl::compile(&Source::new("test.attn", &*text), &[]).unwrap().variants).collect()
}

fn module(variant: &Variant, (form, schedule): (Form, Schedule), tiles: Tiles) -> Option<Module> {
    let dims = ["B", "T", "H", "G", "R", "K", "V", "N", "M", "F", "D", "P"];
    let sizes = [2, 5, 4, 2, 2, 64, 64, 3, 2, 32, 64, 2];
    let known = |name: &str| variant.axes.iter().any(|axis| axis.name == name && axis.value.is_none());
    let dims: Vec<(String, usize)> =
        dims.iter().zip(sizes).filter(|(name, _)| known(name)).map(|(name, n)| (name.to_string(), n)).collect();
    compile(variant, &bind_dims(variant, &dims).unwrap(), (form, schedule), tiles).ok()
}

#[test]
fn every_form_of_every_example_is_valid() {
    for variant in examples() {
        let forms = Form::ALL.into_iter().map(|form| (form, Schedule::Fused));
        for (form, machine) in forms.chain([(Form::Chunked, Schedule::Split)]).zip([0, 2, 1, 2]) {
            for (tiles, machine) in [(Tiles::Whole, machine), (Tiles::Split, 3 - machine)] {
                let Some(module) = module(&variant, form, tiles) else { continue };
                let sizes = |role: &ParamRole| match role {
                    ParamRole::Chunk => Some(64),
                    ParamRole::Tile(_) => Some(32),
                    ParamRole::Size(_) | ParamRole::Grid => None,
                };
                valid(&module, &sizes, &machines()[machine]);
            }
        }
    }
}

//! Runs of a shader written by hand on whatever adapter there is; without one each test says that it was skipped.

mod stretches;

use std::collections::BTreeMap;
use std::time::Duration;

use chunkwise_compiler::codegen::wgsl::{Binding, Code, Contents, Shader, Stored, Trips, Unit, Word};
use chunkwise_compiler::kernel::{
    Access, Buffer, BufferId, BufferRole, Elem, GridAxis, Int, Kernel, Map, Module, Param, ParamId, ParamRole, Stmt,
    Value,
};
use chunkwise_compiler::{Form, Schedule, bind::bind_dims};

use chunkwise_dsl::source::Source;

use super::*;
use crate::{
    Backend, Data, Engine, Failure, Plan, Request, Tensor,
    device::{Limit, Settings},
    draw::{self, Gates},
    launch::Input,
};

/// o[b, t] = x[b, t] + c[b], c[b] += 1: a work item a batch element.
fn module() -> Module {
    let (batch, tokens, item) = (ParamId(0), ParamId(1), ParamId(2));
    let size = |name: &str| Param { name: name.into(), role: ParamRole::Size(name.into()) };
    let buffer = |name: &str, role, size| Buffer { name: name.into(), role, elem: Elem::F32, size };
    let all = || Int::from(batch) * tokens;
    let of_item = |buffer| Access::new(BufferId(buffer), item, []);
    let copy = Map { axes: Vec::new(), below: None, dst: of_item(3), value: Value::Load(of_item(2)) };
    Module {
        name: "raised".into(),
        params: vec![size("B"), size("T"), Param { name: "b".into(), role: ParamRole::Grid }],
        buffers: vec![
            buffer("x", BufferRole::Input, all()),
            buffer("o", BufferRole::Output, all()),
            buffer("c", BufferRole::StateIn, batch.into()),
            buffer("c", BufferRole::StateOut, batch.into()),
        ],
        kernels: vec![Kernel {
            name: "raised".into(),
            grid: vec![GridAxis { param: item, extent: batch.into() }],
            body: vec![Stmt::Map(copy)],
        }],
    }
}

fn code(elem: Stored) -> Code {
    let (head, number) = match elem {
        Stored::F16 => ("enable f16;\n", "f16"),
        _ => ("", "f32"),
    };
    let source = format!(
        "{head}@group(0) @binding(0) var<uniform> p: array<vec4<i32>, 2>;
         @group(0) @binding(1) var<storage, read> x: array<{number}>;
         @group(0) @binding(2) var<storage, read_write> o: array<{number}>;
         @group(0) @binding(3) var<storage, read_write> c: array<f32>;
         @group(0) @binding(4) var<storage, read_write> spill: array<f32>;
         @compute @workgroup_size(1)
         fn raise(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {{
           let local = i32(id.x + id.y * n.x);
           if local >= p[0].y {{ return; }}
           let item = p[0].x + local;
           let tokens = p[0].z;
           spill[100 * local] = c[p[0].w + item];
           for (var t = 0; t < tokens; t += 1) {{
             o[item * tokens + t] = {number}(f32(x[item * tokens + t]) + spill[100 * local]);
           }}
           c[p[1].x + item] = spill[100 * local] + 1.0;
         }}"
    );
    let bind = |contents, written, elem| Binding { contents, written, elem };
    Code {
        shaders: vec![Shader {
            source,
            entry: "raise".into(),
            kernel: 0,
            workgroup_memory: 0,
            invocations: 1,
            kept: 0,
            units: vec![Unit::Whole(Trips::default())],
            idle: 0,
        }],
        bindings: vec![
            bind(Contents::Params, false, Stored::I32),
            bind(Contents::Buffers(vec![BufferId(0)]), false, elem),
            bind(Contents::Buffers(vec![BufferId(1)]), true, elem),
            bind(Contents::Buffers(vec![BufferId(2), BufferId(3)]), true, Stored::F32),
            bind(Contents::Spill, true, Stored::F32),
        ],
        words: vec![
            Word::First,
            Word::Count,
            Word::Param(ParamId(1)),
            Word::Offset(BufferId(2)),
            Word::Offset(BufferId(3)),
        ],
        spill: 100,
        late: Vec::new(),
    }
}

/// The shader on the first adapter, or None where there is none.
fn loaded(elem: Stored, lowered: &[(Limit, u64)]) -> Option<Loaded> {
    let settings = Settings { lowered: lowered.to_vec(), ..Settings::default() };
    match open::open(&settings) {
        Ok(gpu) if elem == Stored::F16 && !gpu.limits.f16 => {
            eprintln!("skipped: the adapter has no f16");
            None
        }
        Ok(_) => Some(Loaded {
            admission: Admission::new(chunkwise_compiler::kernel::check(module()).unwrap()),
            code: code(elem),
            settings,
            chunk: None,
            tiles: 1,
            ready: Mutex::default(),
        }),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// Runs on `batch` elements of 3 tokens, x = 0, 1, 2 .., c = 0.5; checks what comes out.
fn check(loaded: &Loaded, batch: usize) -> Result<Duration, RunError> {
    let x: Vec<f32> = (0..3 * batch).map(|n| n as f32).collect();
    let before = vec![0.5; batch];
    let (mut o, mut after) = (vec![f32::NAN; 3 * batch], vec![f32::NAN; batch]);
    let sizes = BTreeMap::from([("B".to_string(), batch as i64), ("T".to_string(), 3)]);
    let time = loaded.run(&mut launch(&sizes, &x, &before, (&mut o, &mut after)))?;
    assert_eq!(o, x.iter().map(|x| x + 0.5).collect::<Vec<f32>>());
    assert_eq!(after, vec![1.5; batch]);
    Ok(time)
}

fn launch<'a>(
    sizes: &'a BTreeMap<String, i64>,
    x: &'a [f32],
    before: &'a [f32],
    (o, after): (&'a mut [f32], &'a mut [f32]),
) -> Launch<'a> {
    Launch {
        sizes,
        chunk: 1,
        tiles: 1,
        inputs: BTreeMap::from([("x", Input::F32(x))]),
        states_in: BTreeMap::from([("c", before)]),
        outputs: BTreeMap::from([("o", o)]),
        states_out: BTreeMap::from([("c", after)]),
    }
}

#[test]
fn tensors_go_there_and_back() {
    let Some(loaded) = loaded(Stored::F32, &[]) else { return };
    for batch in [1, 2, 7, 100, 0, 7] {
        check(&loaded, batch).unwrap();
    }
}

#[test]
fn halves_are_widened_and_narrowed() {
    let Some(loaded) = loaded(Stored::F16, &[]) else { return };
    check(&loaded, 7).unwrap();
}

#[test]
fn many_items_come_in_many_launches() {
    // Three workgroups a dimension: nine items a launch; four items by the memory that they spill to.
    for lowered in [[(Limit::Groups, 3)], [(Limit::Binding, 4096)]] {
        let Some(loaded) = loaded(Stored::F32, &lowered) else { return };
        for batch in [1, 4, 9, 10, 100] {
            check(&loaded, batch).unwrap();
        }
    }
}

#[test]
fn what_a_binding_does_not_hold_is_said_with_its_size() {
    let Some(loaded) = loaded(Stored::F32, &[(Limit::Binding, 4096)]) else { return };
    let error = check(&loaded, 342).unwrap_err();
    assert_eq!(error, RunError::TooLarge { what: "`x`".into(), bytes: 4104, most: 4096 });
}

#[test]
fn a_lost_device_is_an_error_and_opened_anew() {
    // Limits of its own keep the other tests' device out of it.
    let Some(loaded) = loaded(Stored::F32, &[(Limit::Groups, 1000)]) else { return };
    check(&loaded, 5).unwrap();
    let (gpu, _) = loaded.ready().unwrap();
    gpu.lose();
    let lost = gpu.guarded(|| Ok(())).unwrap_err();
    assert!(lost.to_string().contains("lost"), "{lost}");
    check(&loaded, 5).unwrap();
}

#[test]
fn a_wrong_shader_is_an_error() {
    let Some(mut loaded) = loaded(Stored::F32, &[]) else { return };
    loaded.code.shaders[0].source = "fn raise() { nothing(); }".into();
    let error = check(&loaded, 1).unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
    loaded.code = code(Stored::F32);
    check(&loaded, 1).unwrap();
}

#[test]
fn times_are_taken_until_there_are_enough() {
    let Some(loaded) = loaded(Stored::F32, &[]) else { return };
    let sizes = BTreeMap::from([("B".to_string(), 2), ("T".to_string(), 3)]);
    let (mut o, mut after) = ([0.0; 6], [0.0; 2]);
    let mut launch = launch(&sizes, &[1.0; 6], &[0.0; 2], (&mut o, &mut after));
    assert!(loaded.time(&mut launch, &|times| times.len() >= 3).unwrap().len() >= 3);
}

#[test]
fn an_unknown_device_is_named_with_those_there_are() {
    let settings = Settings { device: Some("no such thing".into()), ..Settings::default() };
    let why = open::open(&settings).err().unwrap();
    assert!(why.reason.contains("no such thing") || why.reason.contains("no Vulkan"), "{why}");
}

#[test]
fn threads_share_a_device() {
    let loaded = [loaded(Stored::F32, &[]), loaded(Stored::F16, &[]), loaded(Stored::F32, &[])];
    let mut loaded: Vec<Loaded> = loaded.into_iter().flatten().collect();
    let Some(last) = loaded.last_mut() else { return };
    // Another shader: the same sum, written the other way round.
    last.code.shaders[0].source =
        last.code.shaders[0].source.replace("spill[100 * local] + 1.0", "1.0 + spill[100 * local]");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let loaded = &loaded[thread % loaded.len()];
            scope.spawn(move || {
                (0..200).try_for_each(|turn| check(loaded, 1 + (thread + turn) % 9).map(|_| ())).unwrap()
            });
        }
    });
}

#[test]
fn two_runs_give_the_same_bits() {
    let text = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H]; state S : [K,V] = 0; \
                decay a[t] = exp(logsigmoid(g[t])); update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    let program = chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).unwrap();
    let variant = &program.variants[0];
    let dims = [("B", 2), ("T", 37), ("H", 2), ("K", 16), ("V", 16)].map(|(name, n)| (name.to_string(), n));
    let sizes = bind_dims(variant, &dims).unwrap();
    let inputs = draw::inputs(variant, &sizes, Gates::Plain, 1);
    let request = Request { variant, sizes: &sizes, inputs: &inputs, initial: &BTreeMap::new(), threads: 1 };
    let mut engine = Engine::new();
    for schedule in Schedule::ALL {
        let plan = Plan { backend: Backend::Wgpu, form: Form::Chunked, schedule, chunk: 16 };
        let mut run = || match engine.run(request, plan) {
            Err(Failure::Unusable(_, why)) => {
                eprintln!("skipped: {why}");
                None
            }
            done => Some(done.unwrap()),
        };
        let Some(first) = run() else { return };
        for _ in 0..3 {
            let again = run().unwrap();
            // Bits: a NaN is no number that was written, and 0 is not -0.
            assert!(first.all().zip(again.all()).all(|(a, b)| a.0 == b.0 && bits(&a.1) == bits(&b.1)), "{schedule:?}");
        }
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    match &tensor.data {
        Data::F32(data) => data.iter().map(|x| x.to_bits()).collect(),
        Data::I32(data) => data.iter().map(|x| x.cast_unsigned()).collect(),
    }
}

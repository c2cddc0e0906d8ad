//! Shaders of every example and of modules statement by statement, parsed and validated by naga.

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::{Code, Cooperative, Dialect, Limits, Options, Precision, emit};
use crate::bind::bind_dims;
use crate::kernel::*;
use crate::{Form, Schedule, Tiles, compile};

fn options(workgroup_memory: u32, invocations: u32, precision: Precision) -> Options {
    let limits = Limits { workgroup_memory, invocations, f16: precision == Precision::F16, ..Limits::default() };
    Options { limits, dialect: Dialect::Naga, precision }
}

fn machines() -> [Options; 4] {
    let f32 = |memory, invocations| options(memory, invocations, Precision::F32);
    let mut narrow = f32(32_768, 256);
    // Less than a round of most loops: they are cut inside.
    narrow.limits.trips = 300;
    [f32(49_152, 1024), narrow, f32(16_384, 128), options(49_152, 1024, Precision::F16)]
}

/// Machines with cooperative matrices: of f16 factors, and of f32 ones under either precision.
fn cooperating() -> [Options; 3] {
    let with = |side, f16, options: Options| {
        let limits = Limits { subgroups: true, cooperative: Some(Cooperative { side, f16 }), ..options.limits };
        Options { limits, ..options }
    };
    [
        with(16, true, options(49_152, 1024, Precision::F16)),
        with(8, false, options(32_768, 1024, Precision::F32)),
        with(8, false, options(16_384, 128, Precision::F16)),
    ]
}

/// The shaders of a module, every one of them held valid by naga and within its limits.
fn valid(module: &Module, sizes: &dyn Fn(&ParamRole) -> Option<i64>, options: &Options) -> Code {
    let checked = check(module.clone()).unwrap_or_else(|e| panic!("{}", e.join("; ")));
    let code = emit(&checked, &|param| sizes(&param.role), options).unwrap_or_else(|e| panic!("{}: {e}", module.name));
    assert_eq!(code.shaders.len(), module.kernels.len());
    for shader in &code.shaders {
        let parsed = naga::front::wgsl::parse_str(&shader.source)
            .unwrap_or_else(|e| panic!("{}\n{}", e.emit_to_string(&shader.source), shader.source));
        let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities(options));
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
    assert!(code.shaders.iter().all(|shader| shader.kept == 0) || code.words.contains(&super::Word::Kept));
    let storage = code.bindings.len() - 1;
    assert!(storage <= options.limits.storage_buffers as usize, "{}: {storage} bindings", module.name);
    code
}

fn capabilities(options: &Options) -> naga::valid::Capabilities {
    use naga::valid::Capabilities;
    let cooperative = match options.limits.cooperative {
        Some(_) => Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX,
        None => Capabilities::empty(),
    };
    Capabilities::SHADER_FLOAT16 | cooperative
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
    let dims = ["B", "T", "H", "G", "R", "K", "V", "N", "M", "F", "D", "P", "Y", "X", "A", "C"];
    let sizes = [2, 5, 4, 2, 2, 64, 64, 3, 2, 32, 64, 2, 3, 4, 2, 8];
    let known = |name: &str| variant.axes.iter().any(|axis| axis.name == name && axis.value.is_none());
    let dims: Vec<(String, usize)> =
        dims.iter().zip(sizes).filter(|(name, _)| known(name)).map(|(name, n)| (name.to_string(), n)).collect();
    compile(variant, &bind_dims(variant, &dims).unwrap(), (form, schedule), tiles).ok()
}

#[test]
fn every_form_of_every_example_is_valid() {
    for variant in examples() {
        let [recurrent, chunked, parallel] = Form::ALL.map(|form| (form, Schedule::Fused));
        for (form, tiles, machine) in [
            (recurrent, Tiles::Whole, 0),
            (chunked, Tiles::Split, 2),
            (chunked, Tiles::Whole, 1),
            (parallel, Tiles::Whole, 3),
            ((Form::Chunked, Schedule::Split), Tiles::Split, 2),
        ] {
            let Some(module) = module(&variant, form, tiles) else { continue };
            valid(&module, &known, &machines()[machine]);
        }
    }
}

/// A coarse grid of a single token has none: what would be kept of them is declared all the same.
#[test]
fn scratch_without_elements_is_declared() {
    let text = "variant f { axes B, T = Y*X, N = Y div 2, C; input x : [B,T,C], y : [B,N,C]; order full; \
                output o[i] = sum[n](exp(x[i]' * y[n]) * y[n]); }";
    let variant = chunkwise_dsl::compile(&Source::new("test.attn", text), &[]).unwrap().variants.remove(0);
    let dims = [("B", 2), ("Y", 1), ("X", 1), ("C", 3)].map(|(name, n)| (name.to_string(), n));
    let sizes = bind_dims(&variant, &dims).unwrap();
    let module = compile(&variant, &sizes, (Form::Parallel, Schedule::Fused), Tiles::Whole).unwrap();
    valid(&module, &known, &machines()[0]);
}

fn known(role: &ParamRole) -> Option<i64> {
    match role {
        ParamRole::Chunk => Some(64),
        ParamRole::Tile(_) => Some(32),
        ParamRole::Size(_) | ParamRole::Grid => None,
    }
}

#[test]
fn products_by_cooperative_matrices_are_valid() {
    for variant in examples() {
        for schedule in [Schedule::Fused, Schedule::Split] {
            let Some(module) = module(&variant, (Form::Chunked, schedule), Tiles::Split) else { continue };
            for options in cooperating() {
                valid(&module, &known, &options);
            }
        }
    }
}

#[test]
fn kernels_whose_length_is_open_come_in_stretches_and_others_do_not() {
    let variant = examples().into_iter().find(|variant| variant.name == "gla").unwrap();
    let options = &machines()[0];
    let layout = (Form::Chunked, Schedule::Split);
    let code = valid(&module(&variant, layout, Tiles::Split).unwrap(), &known, options);
    let rounds = |shader: &super::Shader| shader.units.iter().any(|unit| matches!(unit, super::Unit::Rounds { .. }));
    assert_eq!(code.shaders.iter().map(rounds).collect::<Vec<_>>(), [false, true, false]);
    let short = |role: &ParamRole| if *role == ParamRole::Size("T".into()) { Some(5) } else { known(role) };
    let code = valid(&module(&variant, layout, Tiles::Split).unwrap(), &short, options);
    assert!(code.shaders.iter().all(|shader| !rounds(shader) && shader.kept == 0));
}

#[test]
fn states_are_not_rounded_as_factors() {
    let variant = examples().into_iter().find(|variant| variant.name == "gla").unwrap();
    let mut module = module(&variant, (Form::Chunked, Schedule::Fused), Tiles::Split).unwrap();
    let half = &machines()[3];
    let rounded = |module: &Module| valid(module, &known, half).shaders[0].source.matches("f32(half(").count();
    assert!(rounded(&module) > 0);
    let held = held(&module);
    let before = products(&module.kernels[0].body);
    module.kernels[0].body = only(&module.kernels[0].body, &|x| [&x.a, &x.b].iter().any(|f| held.contains(&f.buffer)));
    assert!((1..before).contains(&products(&module.kernels[0].body)));
    assert_eq!(rounded(&module), 0);
}

fn products(body: &[Stmt]) -> usize {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { body, .. } => products(body),
        Stmt::If { then, otherwise, .. } => products(then) + products(otherwise),
        other => usize::from(matches!(other, Stmt::Product(_))),
    };
    body.iter().map(of).sum()
}

/// The statements without the products that are not as asked for.
fn only(body: &[Stmt], keep: &dyn Fn(&Product) -> bool) -> Vec<Stmt> {
    let of = |stmt: &Stmt| match stmt.clone() {
        Stmt::For { var, from, to, step, body } => Some(Stmt::For { var, from, to, step, body: only(&body, keep) }),
        Stmt::If { left, right, then, otherwise } => {
            Some(Stmt::If { left, right, then: only(&then, keep), otherwise: only(&otherwise, keep) })
        }
        Stmt::Product(x) if !keep(&x) => None,
        other => Some(other),
    };
    body.iter().filter_map(of).collect()
}

#[test]
fn cooperative_matrices_are_used_only_where_they_may_be() {
    let variant = examples().into_iter().find(|variant| variant.name == "gla").unwrap();
    let dims = [("B", 2), ("H", 4), ("T", 512), ("K", 128), ("V", 128)];
    let dims: Vec<(String, usize)> = dims.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    let layout = (Form::Chunked, Schedule::Fused);
    let module = compile(&variant, &bind_dims(&variant, &dims).unwrap(), layout, Tiles::Split).unwrap();
    let used = |options: &Options| {
        let code = emit(&check(module.clone()).unwrap(), &|param| known(&param.role), options).unwrap();
        code.shaders.iter().any(|shader| shader.source.contains("coopMultiplyAdd"))
    };
    for options in cooperating() {
        assert!(used(&options));
        valid(&module, &known, &options);
        assert!(!used(&Options { dialect: Dialect::Browser, ..options.clone() }));
        let alone = Limits { subgroups: false, ..options.limits.clone() };
        assert!(!used(&Options { limits: alone, ..options }));
    }
    let [half, ..] = cooperating();
    assert!(!used(&Options { precision: Precision::F32, ..half }), "f16 factors are not exact");
}

const X: BufferId = BufferId(0);
const Z: BufferId = BufferId(1);
const S: BufferId = BufferId(2);
const M: Int = Int::Param(ParamId(0));
const N: Int = Int::Param(ParamId(1));
const K: Int = Int::Param(ParamId(2));

/// A module of one kernel over input x, output z and scratch s. Sizes are known when it runs.
fn case(body: Vec<Stmt>) -> Module {
    let param = |name: &str| Param { name: name.into(), role: ParamRole::Size(name.into()) };
    let buffer = |name: &str, role, size: Int| Buffer { name: name.into(), role, elem: Elem::F32, size };
    let whole = || M * N * K;
    Module {
        name: "case".into(),
        params: ["M", "N", "K"].map(param).into(),
        buffers: vec![
            buffer("x", BufferRole::Input, whole()),
            buffer("z", BufferRole::Output, whole()),
            buffer("s", BufferRole::Scratch, whole()),
        ],
        kernels: vec![Kernel { name: "only".into(), grid: vec![], body }],
    }
}

fn access(buffer: BufferId, strides: &[Int]) -> Access {
    Access::new(buffer, 0i64, strides.iter().cloned())
}

fn one() -> Int {
    1i64.into()
}

/// Every kind of statement, some in loops and conditions whose bounds are loop variables.
fn statements() -> Vec<Stmt> {
    let load = |strides: &[Int]| Value::Load(access(X, strides));
    let (m_n, n_one) = ([N, one()], [one()]);
    let product = |shape, accumulate| {
        let (a, b, dst) = (access(X, &[K, one()]), access(X, &m_n), access(S, &m_n));
        Stmt::Product(Product { m: M, n: N, k: K, dst, a, b, accumulate, shape })
    };
    let value = Value::Call(Function::Pow, vec![load(&m_n), Value::Axis(1)]);
    let scan = |from, axes: Vec<Int>| {
        let strides = if axes.is_empty() { vec![one()] } else { vec![N, Int::Const(-1)] };
        let (dst, value) = (access(S, &strides), load(&strides));
        Stmt::Scan(Scan { axes, inner: N, op: ReduceOp::Product, from, dst, value })
    };
    let reduce = |op| {
        let value = Value::Call(Function::Max, vec![load(&m_n), Value::Const(f64::NAN)]);
        Stmt::Reduce(Reduce { axes: vec![M], inner: N, op, dst: access(Z, &n_one), value })
    };
    let tiles = |buffer, n: i64| (0..n).map(move |i| Access::new(buffer, Int::from(i) * M * N, [N, one()]));
    let solve =
        |r: i64| Stmt::Solve(Solve { n: M, columns: N, p: tiles(X, r * r).collect(), x: tiles(S, r).collect() });
    let below = Map { axes: vec![M, N], below: Some(Int::Const(-1)), dst: access(Z, &m_n), value };
    let v = Int::Var(VarId(0));
    let inner = vec![
        Stmt::If {
            left: v.clone(),
            right: 3i64.into(),
            then: vec![reduce(ReduceOp::Max), Stmt::Map(Map::new(vec![M], access(S, &n_one), Value::Int(v)))],
            otherwise: vec![solve(1)],
        },
        product(Triangle::LowerLeft { strict: true }, true),
    ];
    vec![
        Stmt::Map(below),
        reduce(ReduceOp::Sum),
        scan(ScanFrom::First, vec![]),
        scan(ScanFrom::Diagonal, vec![M]),
        product(Triangle::Full, false),
        Stmt::For { var: VarId(0), from: 0i64.into(), to: N, step: K, body: inner },
        product(Triangle::LowerOut, true),
        solve(3),
    ]
}

#[test]
fn every_statement_is_valid_whether_sizes_are_known_or_not() {
    let module = case(statements());
    for known in [None, Some([1, 1, 1]), Some([1, 128, 128]), Some([64, 20, 7]), Some([1000, 1000, 3])] {
        let sizes = |role: &ParamRole| match role {
            ParamRole::Size(name) => known.map(|known| known[["M", "N", "K"].iter().position(|x| x == name).unwrap()]),
            _ => None,
        };
        for options in machines().into_iter().chain(cooperating()) {
            let code = valid(&module, &sizes, &options);
            assert_eq!(code.late.is_empty(), known.is_some());
            assert_eq!(code, valid(&module, &sizes, &options));
        }
    }
}

#[test]
fn every_function_is_valid() {
    for row in chunkwise_dsl::function::ROWS {
        let arg = |i: usize| Value::Load(Access::new(X, i, [one()]));
        let args: Vec<Value> = (0..row.arity).map(arg).collect();
        let consts = vec![Value::Const(-0.5); row.arity];
        let body = [args, consts]
            .map(|args| Stmt::Map(Map::new(vec![M], access(Z, &[one()]), Value::Call(row.function, args))));
        valid(&case(body.into()), &|_| None, &machines()[0]);
    }
}

#[test]
fn what_an_adapter_cannot_hold_is_refused_with_the_numbers() {
    let module = case(statements());
    let sizes = |_: &Param| Some(1 << 10);
    let checked = check(module).unwrap();
    let refused = emit(&checked, &sizes, &machines()[0]).unwrap_err().to_string();
    assert!(refused.contains("4294967296") && refused.contains("134217728"), "{refused}");
    let mut few = machines()[0].clone();
    few.limits.storage_buffers = 2;
    let refused = emit(&checked, &|_| None, &few).unwrap_err().to_string();
    assert!(refused.contains("3 storage bindings") && refused.contains("has 2"), "{refused}");
    let half = Options { precision: Precision::F16, ..few };
    assert!(emit(&checked, &|_| None, &half).unwrap_err().to_string().contains("f16"));
}

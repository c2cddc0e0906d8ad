//! What would reach memory that is not the run's own ends in an error: kernels that leave their buffers, sizes that wrap,
//! memory that nobody has. No line of this program is unsafe, nor may it be.

#![forbid(unsafe_code)]
#![cfg(any(feature = "cranelift", feature = "llvm"))]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod targets;

use std::collections::BTreeMap;

use chunkwise_compiler::bind::Sizes;
use chunkwise_compiler::kernel::*;
use chunkwise_compiler::{Derivation, Form, Schedule, Tiles, bind::bind_dims};
use chunkwise_dsl::{source::Source, typed::Variant};
use chunkwise_runtime::{Backend, Engine, Launch, Plan, Request, RunError, Tensor, Tensors};

const SIZE: ParamId = ParamId(0);

/// z of T numbers, and one kernel.
fn kernel(grid: Vec<GridAxis>, body: Vec<Stmt>) -> Module {
    let param = |name: &str, role| Param { name: name.into(), role };
    let buffer = Buffer { name: "z".into(), role: BufferRole::Output, elem: Elem::F32, size: SIZE.into() };
    Module {
        name: "m".into(),
        params: vec![param("T", ParamRole::Size("T".into())), param("n", ParamRole::Grid)],
        buffers: vec![buffer],
        kernels: vec![Kernel { name: "only".into(), grid, body }],
    }
}

fn fill(axes: Vec<Int>, dst: Access) -> Stmt {
    Stmt::Map(Map::new(axes, dst, Value::Const(1.0)))
}

/// What every target says to a run on so many numbers.
fn outcomes(module: &Module, given: usize, size: i64) -> Vec<Result<(), RunError>> {
    let sizes = BTreeMap::from([("T".to_owned(), size)]);
    let run = |(_, loaded): (String, chunkwise_runtime::cpu::Loaded)| {
        let mut z = vec![0f32; given];
        let outputs = BTreeMap::from([("z", &mut z[..])]);
        let (inputs, states_in, states_out) = Default::default();
        loaded.run(&mut Launch { sizes: &sizes, chunk: 1, tiles: 1, inputs, states_in, outputs, states_out }, 1)
    };
    targets::load(module).into_iter().map(run).collect()
}

#[test]
fn kernels_that_leave_their_buffers_do_not_run() {
    let place = |offset: Int| Access::new(BufferId(0), offset, [Int::from(1i64)]);
    let item = Int::Param(ParamId(1));
    let grid = |extent: Int| vec![GridAxis { param: ParamId(1), extent }];
    let size = || Int::Param(SIZE);
    let far = 1i64 << 40;
    for (grid, body) in [
        // Far beyond the end, one beyond it, one before the start.
        (vec![], fill(vec![4i64.into()], place(far.into()))),
        (vec![], fill(vec![size() + 1i64], place(0i64.into()))),
        (vec![], fill(vec![size()], place((-1i64).into()))),
        // By the work item alone.
        (grid(size() + 1i64), fill(vec![], Access::new(BufferId(0), item, []))),
        // By an offset that wraps to 0 in 64 bits.
        (vec![], fill(vec![1i64.into()], place(size() * (1i64 << 31) * (1i64 << 31)))),
    ] {
        for outcome in outcomes(&kernel(grid, vec![body.clone()]), 4, 4) {
            assert!(matches!(outcome, Err(RunError::Fault(_))), "{body:?}: {outcome:?}");
        }
    }
    let within = kernel(grid(size()), vec![fill(vec![], Access::new(BufferId(0), Int::Param(ParamId(1)), []))]);
    assert!(outcomes(&within, 4, 4).iter().all(Result::is_ok));
    assert!(outcomes(&within, 0, -4).iter().all(Result::is_err), "a size below 0");
    assert!(outcomes(&within, 3, 4).iter().all(|x| matches!(x, Err(RunError::WrongLength { .. }))));
}

#[test]
fn what_is_written_twice_or_too_deep_is_no_module() {
    let mut module = kernel(vec![], vec![]);
    module.buffers.push(module.buffers[0].clone());
    assert!(check(module).unwrap_err()[0].contains("two of this name"));
    let deep = |n: usize| (0..n).fold(Int::Param(SIZE), |x, _| x.min(7i64).max(Int::Param(SIZE)));
    let module = |n| kernel(vec![], vec![fill(vec![], Access::new(BufferId(0), deep(n), []))]);
    assert!(check(module(10)).is_ok());
    assert!(check(module(500)).unwrap_err()[0].contains("one in another"));
}

fn linear() -> Variant {
    let text = "variant linear { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; state S : [K,V] = 0; \
                update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    chunkwise_dsl::compile(&Source::new("linear", text), &[]).unwrap().variants.remove(0)
}

fn sizes(variant: &Variant, batch: usize) -> Sizes {
    let dims = [("B", 1), ("T", 4), ("H", 2), ("K", 8), ("V", 8)].map(|(name, n)| (name.to_owned(), n));
    let mut sizes = bind_dims(variant, &dims).unwrap();
    // Past what `bind_dims` takes.
    sizes.set(chunkwise_dsl::shape::AxisId(0), batch);
    sizes
}

/// As many batch elements as make every tensor empty in integers that wrap.
const WRAPS: usize = 1 << 62;

#[test]
fn a_launch_whose_sizes_wrap_is_refused() {
    let variant = linear();
    let derivation = Derivation::of(&variant);
    for form in [Form::Recurrent, Form::Chunked] {
        let module = derivation.compile(&sizes(&variant, 1), (form, Schedule::Fused), Tiles::Whole).unwrap();
        let by_name = [("B", WRAPS as i64), ("T", 4), ("H", 2), ("K", 8), ("V", 8)];
        let by_name = by_name.map(|(name, n)| (name.to_owned(), n)).into();
        for (target, loaded) in targets::load(&module) {
            let (mut o, mut state) = ([0f32; 0], [0f32; 0]);
            let mut launch = Launch {
                sizes: &by_name,
                chunk: 4,
                tiles: 1,
                inputs: ["q", "k", "v"].map(|name| (name, chunkwise_runtime::Input::F32(&[]))).into(),
                states_in: [("S", &[][..])].into(),
                outputs: [("o", &mut o[..])].into(),
                states_out: [("S", &mut state[..])].into(),
            };
            let refused = loaded.run(&mut launch, 1).unwrap_err();
            assert!(matches!(refused, RunError::Fault(_)), "{target}: {refused}");
        }
    }
}

#[test]
fn a_run_whose_sizes_wrap_is_refused() {
    let variant = linear();
    let empty = |last: usize| Tensor { shape: vec![WRAPS, 4, 2, last], ..Tensor::zeros(vec![0]) };
    let inputs = Tensors::from([("q", 8), ("k", 8), ("v", 8)].map(|(name, n)| (name.to_owned(), empty(n))));
    let sizes = sizes(&variant, WRAPS);
    let request = Request { variant: &variant, sizes: &sizes, inputs: &inputs, initial: &Tensors::new(), threads: 2 };
    let mut engine = Engine::new();
    for backend in Backend::ALL.into_iter().filter(|backend| backend.usable()) {
        for form in [Form::Recurrent, Form::Chunked] {
            let plan = Plan { backend, form, schedule: Schedule::Fused, chunk: 4 };
            let refused = engine.run(request, plan).unwrap_err().to_string();
            assert!(refused.contains("axis `B` is 4611686018427387904"), "{refused}");
            assert!(engine.time(request, plan, &|_| true).is_err());
            assert!(engine.session(&variant, &sizes, plan, 2).is_err());
            assert!(engine.workspace((&variant, &sizes), plan, 2).is_err() || backend == Backend::Reference);
        }
    }
}

#[test]
fn states_of_another_length_are_refused() {
    let variant = linear();
    let sizes = sizes(&variant, 1);
    let backend = if cfg!(feature = "llvm") { Backend::Llvm } else { Backend::Cranelift };
    let plan = Plan { backend, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 4 };
    let mut session = Engine::new().session(&variant, &sizes, plan, 1).unwrap();
    let short = Tensor { shape: vec![1, 2, 8, 8], ..Tensor::zeros(vec![3]) };
    let refused = session.set_states(&Tensors::from([("S".to_owned(), short)])).unwrap_err().to_string();
    assert!(refused.contains("3 elements, not 128"), "{refused}");
}

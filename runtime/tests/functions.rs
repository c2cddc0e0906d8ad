//! Every function of scalars, compiled by every code generator built in (LLVM for vectors of 16, 8 and 4 lanes), against
//! its f64 meaning. Subnormal numbers count as 0, arguments and results.
#![cfg(any(feature = "cranelift", feature = "llvm"))]

mod targets;

use std::collections::BTreeMap;

use chunkwise_compiler::kernel::*;
use chunkwise_runtime::{Input, Launch};

/// z[i] = f(x[i], y[i], w[i]); a constant second argument where given.
fn module(function: Function, constant: Option<f64>, n: usize) -> Module {
    let buffer = |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: n.into() };
    let load = |b| Value::Load(Access::new(BufferId(b), 0i64, [Int::Const(1)]));
    let mut args: Vec<Value> = (0..function.arity() as u32).map(load).collect();
    if let Some(c) = constant {
        args[1] = Value::Const(c);
    }
    let dst = Access::new(BufferId(3), 0i64, [Int::Const(1)]);
    let map = Map::new(vec![n.into()], dst, Value::Call(function, args));
    Module {
        name: "function".into(),
        params: vec![],
        buffers: vec![
            buffer("x", BufferRole::Input),
            buffer("y", BufferRole::Input),
            buffer("w", BufferRole::Input),
            buffer("z", BufferRole::Output),
        ],
        kernels: vec![Kernel { name: "only".into(), grid: vec![], body: vec![Stmt::Map(map)] }],
    }
}

/// What compiled code makes of a number.
fn counted(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// The function's values on every target.
fn values(function: Function, constant: Option<f64>, args: [&[f32]; 3]) -> Vec<(String, Vec<f32>)> {
    let n = args[0].len();
    let run = |(target, loaded): (_, chunkwise_runtime::cpu::Loaded)| {
        let mut z = vec![0f32; n];
        let sizes = BTreeMap::new();
        let mut launch = Launch {
            sizes: &sizes,
            chunk: 1,
            tiles: 1,
            inputs: ["x", "y", "w"].into_iter().zip(args.map(Input::F32)).collect(),
            states_in: BTreeMap::new(),
            outputs: [("z", &mut z[..])].into(),
            states_out: BTreeMap::new(),
        };
        loaded.run(&mut launch, 1).expect("the launch fits");
        (target, z)
    };
    targets::load(&module(function, constant, n)).into_iter().map(run).collect()
}

/// Compares within `relative` of the result or `absolute`, whichever is more.
fn agree(function: Function, constant: Option<f64>, args: [&[f32]; 3], relative: f64, absolute: f64) {
    for (target, z) in values(function, constant, args) {
        let mut worst = (0.0, 0.0);
        for (i, got) in z.iter().enumerate() {
            let mut of = args.map(|x| f64::from(counted(x[i])));
            of[1] = constant.unwrap_or(of[1]);
            let exact = function.eval(&of[..function.arity()]);
            let want = counted(exact as f32);
            // A result at the edge of the normal range may lie on either side of it.
            let gone = *got == 0.0 && exact.abs() < f64::from(f32::MIN_POSITIVE) * (1.0 + relative);
            if *got == want || gone || (got.is_nan() && want.is_nan()) {
                continue;
            }
            let error = (f64::from(*got) - exact).abs();
            if error / exact.abs() > worst.0 && error > absolute {
                worst = (error / exact.abs(), of[0]);
            }
            let near = error <= absolute.max(relative * exact.abs());
            assert!(near, "{function:?}{:?}, {target}: {got}, not {exact}", &of[..function.arity()]);
        }
        println!("{function:?}, {target}: {:.1e} at {}", worst.0, worst.1);
    }
}

/// A rest is its factor and what that lost, to the last bit.
#[test]
fn nothing_is_lost_of_a_rest() {
    let rests = ramp(-0.99, 3.0);
    let each = |function| values(function, None, [&rests, &rests, &rests]);
    for ((target, factors), (_, lost)) in each(Function::ExpOfRest).into_iter().zip(each(Function::RestLost)) {
        for ((rest, factor), lost) in rests.iter().zip(factors).zip(lost).filter(|((rest, _), _)| !rest.is_nan()) {
            let whole = if *rest < 0.0 { 1.0 } else { 0.0 };
            assert_eq!(f64::from(factor) - whole + f64::from(lost), f64::from(*rest), "{target}: {factor} {lost}");
            assert!(lost.abs() <= f32::EPSILON / 4.0 && factor >= 0.0, "{target}: {rest}");
        }
    }
}

fn ramp(from: f64, to: f64) -> Vec<f32> {
    let n = 20_011;
    let mut all: Vec<f32> = (0..n).map(|i| (from + (to - from) * f64::from(i) / f64::from(n - 1)) as f32).collect();
    all.extend([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, f32::NAN]);
    all
}

fn agree_one(function: Function, x: &[f32], relative: f64, absolute: f64) {
    agree(function, None, [x, x, x], relative, absolute);
}

#[test]
fn exponentials_agree() {
    let mut x = ramp(-110.0, 95.0);
    x.extend([f32::NEG_INFINITY, f32::INFINITY, -1e4, 1e4, f32::MAX, f32::MIN]);
    agree_one(Function::Exp, &x, 3e-7, 1.5e-45);
    agree_one(Function::ExpRest, &x, 3e-7, 1.5e-45);
    agree_one(Function::Apart, &x, 0.0, 0.0);
    agree_one(Function::Sigmoid, &x, 3e-7, 1e-37);
    agree_one(Function::Tanh, &x, 3e-7, 1e-37);
    agree_one(Function::Softplus, &x, 4e-7, 1e-44);
    agree_one(Function::LogSigmoid, &x, 4e-7, 1e-44);
    agree_one(Function::Elu, &x, 3e-7, 1e-37);
    let near = ramp(-2.0, 2.0);
    agree_one(Function::ExpRest, &ramp(-1e-3, 1e-4), 3e-7, 1e-37);
    for function in
        [Function::Exp, Function::ExpRest, Function::Tanh, Function::Elu, Function::Softplus, Function::Sigmoid]
    {
        agree_one(function, &near, 3e-7, 1e-37);
    }
    agree_one(Function::Silu, &ramp(-80.0, 90.0), 3e-7, 1e-33);
    agree_one(Function::Gelu, &ramp(-6.0, 20.0), 0.0, 4e-7);
    agree_one(Function::Gelu, &ramp(-0.5, 0.5), 4e-7, 1e-12);
    agree_one(Function::Gelu, &ramp(0.0, 20.0), 4e-7, 1e-12);
}

#[test]
fn logarithms_and_roots_agree() {
    let mut x: Vec<f32> = ramp(-100.0, 88.0).iter().map(|x| x.exp()).collect();
    x.extend([0.0, -1.0, f32::INFINITY, 1e-40, f32::NAN]);
    agree_one(Function::Ln, &x, 3e-7, 1e-7);
    agree_one(Function::Ln, &ramp(0.5, 2.0), 3e-7, 1e-7);
    agree_one(Function::Sqrt, &x, 1e-7, 1e-44);
    x.retain(|x| *x > 1e-37 || *x == 0.0);
    agree_one(Function::Rsqrt, &x, 2e-7, 0.0);
}

#[test]
fn waves_agree() {
    for function in [Function::Sin, Function::Cos] {
        agree_one(function, &ramp(-10.0, 10.0), 0.0, 2e-7);
        agree_one(function, &ramp(-1e6, 1e6), 0.0, 2e-7);
        agree_one(function, &ramp(-0.5, 0.5), 3e-7, 1e-37);
    }
}

#[test]
fn arithmetic_agrees() {
    let (x, y) = (ramp(-40.0, 40.0), ramp(7.0, -5.0));
    let w: Vec<f32> = y.iter().map(|y| y + 3.0).collect();
    for function in [
        Function::Add,
        Function::Sub,
        Function::Mul,
        Function::Div,
        Function::Neg,
        Function::Min,
        Function::Max,
        Function::Clamp,
        Function::Abs,
        Function::Sign,
        Function::Relu,
        Function::Floor,
        Function::Round,
        Function::Lt,
        Function::Le,
        Function::Gt,
        Function::Ge,
        Function::Eq,
        Function::Ne,
        Function::And,
        Function::Or,
        Function::Not,
        Function::Mod,
        Function::FloorDiv,
    ] {
        agree(function, None, [&x, &y, &w], 1.2e-7, 1e-44);
    }
    let halves: Vec<f32> = (-20..=20).map(|i| i as f32 / 2.0).collect();
    let divisors = vec![3.0; halves.len()];
    for function in [Function::Round, Function::Floor, Function::Mod, Function::FloorDiv] {
        agree(function, None, [&halves, &divisors, &divisors], 1e-7, 0.0);
    }
}

#[test]
fn powers_agree() {
    let (x, y) = (ramp(0.01, 40.0), ramp(-9.0, 9.0));
    agree(Function::Pow, None, [&x, &y, &y], 1e-7, 1.5e-45);
    let signed = ramp(-8.0, 8.0);
    for exponent in [0.0, 1.0, 2.0, 3.0, 7.0, -1.0, -2.0] {
        agree(Function::Pow, Some(exponent), [&signed, &y, &y], 8e-7, 1e-37);
    }
    let bases = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-40, -1e-40, 3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let exponents = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.3, -0.7, 1e9, -1e30, 16_777_217.0, f32::INFINITY];
    let exponents = exponents.into_iter().chain([f32::NEG_INFINITY, f32::NAN]);
    let (x, y): (Vec<f32>, Vec<f32>) = exponents.flat_map(|y| bases.map(|x| (x, y))).unzip();
    agree(Function::Pow, None, [&x, &y, &y], 1e-7, 1.5e-45);
    let (x, y) = (ramp(1e-30, 1e-3), ramp(-3.0, 3.0));
    agree(Function::Pow, None, [&x, &y, &y], 1e-7, 1.5e-45);
    let (x, y) = (ramp(0.01, 40.0), ramp(-9.0, 9.0));
    agree(Function::Pow, Some(0.5), [&x, &y, &y], 3e-7, 0.0);
    agree(Function::Pow, Some(1.5), [&x, &y, &y], 3e-7, 1e-44);
    agree(Function::Pow, Some(-0.5), [&x[..20_000], &y[..20_000], &y[..20_000]], 3e-7, 0.0);
}

//! Functions within larger values, where a code generator may call for a row of them at a time: nested, in reductions, of no
//! axes, over rows longer than any buffer on a stack; and integers at the edges of division.
#![cfg(any(feature = "cranelift", feature = "llvm"))]

#[allow(dead_code, reason = "every test file takes what it needs of it")]
mod case;

use chunkwise_compiler::kernel::*;

use case::{Case, K, M, N, Random, X, Y, Z, at, load, one, zero};

fn call<const A: usize>(function: Function, args: [Value; A]) -> Value {
    Value::Call(function, args.into())
}

/// Two calls, one in the argument of the other, and one of two arguments beside them.
fn nested(x: Value, y: Value) -> Value {
    let inner = call(Function::Mul, [call(Function::Sin, [x.clone()]), y.clone()]);
    let power = call(Function::Pow, [call(Function::Abs, [y]), call(Function::Exp, [inner])]);
    call(Function::Add, [call(Function::Sigmoid, [x]), power])
}

#[test]
fn nested_calls_agree() {
    let mut random = Random(21);
    for m in [0, 1, 3] {
        for n in [1, 5, 64, 256, 257, 700] {
            let size = (m * n) as usize;
            let (x, y) = (random.vector(size), random.vector(m.max(n) as usize));
            for value in [
                nested(load(X, &[N, one()]), load(Y, &[zero(), one()])),
                nested(load(X, &[one(), M]), load(Y, &[one(), zero()])),
                call(Function::Exp, [load(X, &[N, one()])]),
                call(Function::Exp, [load(Y, &[one(), zero()])]),
            ] {
                for axes in [vec![M, N], vec![M, n.into()]] {
                    let map = Map::new(axes, at(Z, &[N, one()]), value.clone());
                    Case::new([m, n, 0], x.clone(), y.clone(), vec![0.0; size], vec![Stmt::Map(map)])
                        .agree(&format!("nested calls over {m}x{n}"), 2e-6);
                }
            }
        }
    }
}

#[test]
fn a_call_of_no_axes_and_one_in_place_agree() {
    let x = Random(22).vector(300);
    let first = Map::new(vec![], Access::new(Z, 299i64, []), nested(load(X, &[]), Value::Const(1.5)));
    let in_place = Map::new(vec![N], at(Z, &[one()]), call(Function::Exp, [load(Z, &[one()])]));
    let start = Random(23).vector(300);
    Case::new([0, 300, 0], x, vec![0.0], start, vec![Stmt::Map(first), Stmt::Map(in_place)]).agree("in place", 2e-6);
}

#[test]
fn reductions_of_calls_agree() {
    let mut random = Random(24);
    for (m, k) in [(1, 0), (3, 1), (17, 7), (5, 64), (300, 3), (2, 600)] {
        let x = random.vector((m * k) as usize);
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            for strides in [[K, one()], [one(), M]] {
                let value = call(Function::Mul, [call(Function::Exp, [load(X, &strides)]), Value::Const(0.5)]);
                let reduce = Reduce { axes: vec![M], inner: K, op, dst: at(Z, &[one()]), value };
                Case::new([m, 0, k], x.clone(), vec![0.0], vec![0.0; m as usize], vec![Stmt::Reduce(reduce)])
                    .agree(&format!("{op:?} of calls over {m}x{k} by {strides:?}"), 1e-5);
            }
        }
    }
}

#[test]
fn integers_divide_down_by_anything() {
    for by in [-7i64, -4, -1, 0, 1, 3, 4, 8] {
        for of in [-13i64, -8, -1, 0, 1, 9] {
            let results = [
                M.floor_div(N),
                M.modulo(N),
                M.floor_div(by),
                M.modulo(by),
                M.floor_div(N).max(-3i64).min(M) - N * 2i64 + 7i64,
            ];
            let write = |(place, n): (i64, Int)| Stmt::Map(Map::new(vec![], Access::new(Z, place, []), Value::Int(n)));
            let body = (0..).zip(results).map(write).collect();
            Case::new([of, by, 0], vec![0.0], vec![0.0], vec![0.0; 5], body).agree(&format!("{of} by {by}"), 0.0);
        }
    }
}

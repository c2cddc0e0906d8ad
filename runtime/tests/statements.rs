//! Every statement of the kernel IR, compiled by every code generator built in (LLVM for vectors of 16, 8 and 4 lanes),
//! against the f64 interpreter: odd sizes, strides, triangles with NaN where nothing may be read, grids on several
//! threads.
#![cfg(any(feature = "cranelift", feature = "llvm"))]

mod case;

use std::collections::BTreeMap;

use chunkwise_compiler::kernel::*;
use chunkwise_runtime::{Data, Input, Launch, Tensor, interpret};

use case::{Case, K, M, N, Random, S, X, Y, Z, at, compiled, load, one, zero};

const ODD: [i64; 6] = [0, 1, 3, 7, 17, 40];

#[test]
fn maps_agree() {
    let mut random = Random(1);
    for m in ODD {
        for n in [1, 3, 16, 65] {
            let size = (m * n) as usize;
            let (x, y) = (random.vector(size), random.vector(size.max(m as usize).max(n as usize)));
            let start = random.vector(size);
            let add = |a, b| Value::Call(Function::Add, vec![a, b]);
            let values = [
                add(load(X, &[N, one()]), load(Y, &[one(), zero()])),
                add(load(X, &[one(), M]), load(Y, &[zero(), one()])),
                Value::Select(
                    Box::new(Value::Call(Function::Le, vec![Value::Axis(1), Value::Axis(0)])),
                    Box::new(add(Value::Axis(1), Value::Int(N))),
                    Box::new(Value::Const(-1.5)),
                ),
                Value::Bounded {
                    access: Access::new(X, -2i64, [N, one()]),
                    position: Position { base: (-2i64).into(), strides: vec![zero(), one()] },
                    length: N - 2i64,
                },
                Value::Bounded {
                    access: Access::new(X, N * -1i64, [N, one()]),
                    position: Position { base: (-1i64).into(), strides: vec![one(), zero()] },
                    length: M,
                },
                Value::Bounded {
                    access: at(Y, &[one(), zero()]),
                    position: Position { base: (-1i64).into(), strides: vec![one(), zero()] },
                    length: M,
                },
            ];
            for (v, value) in values.into_iter().enumerate() {
                let map = Map::new(vec![M, N], at(Z, &[N, one()]), value.clone());
                Case::new([m, n, 0], x.clone(), y.clone(), start.clone(), vec![Stmt::Map(map)])
                    .agree(&format!("map {m}x{n} of value {v}"), 1e-6);
                let map = Map::new(vec![M, N], at(Z, &[one(), M]), value);
                Case::new([m, n, 0], x.clone(), y.clone(), start.clone(), vec![Stmt::Map(map)])
                    .agree(&format!("transposed map {m}x{n} of value {v}"), 1e-6);
            }
        }
    }
}

#[test]
fn maps_of_one_column_and_of_no_axes_agree() {
    let x = Random(2).vector(23);
    let map = Map::new(vec![M, one()], at(Z, &[one(), one()]), load(X, &[one(), zero()]));
    let scalar = Map::new(vec![], Access::new(Z, 22i64, []), Value::Const(2.5));
    let body = vec![Stmt::Map(map), Stmt::Map(scalar)];
    Case::new([22, 0, 0], x, vec![0.0], vec![0.0; 23], body).agree("one column", 0.0);
}

#[test]
fn reductions_agree() {
    let mut random = Random(3);
    for m in [1, 3, 17] {
        for k in [0, 1, 7, 16, 65] {
            let x = random.vector((m * k) as usize);
            for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Product] {
                for strides in [[K, one()], [one(), M]] {
                    let value = Value::Call(Function::Mul, vec![load(X, &strides), Value::Const(1.25)]);
                    let reduce = Reduce { axes: vec![M], inner: K, op, dst: at(Z, &[one()]), value };
                    Case::new([m, 0, k], x.clone(), vec![0.0], vec![0.0; m as usize], vec![Stmt::Reduce(reduce)])
                        .agree(&format!("{op:?} of {m}x{k} by {strides:?}"), 1e-5);
                }
            }
        }
    }
}

#[test]
fn nan_reaches_every_reduction() {
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Product] {
        for place in [0, 5, 16, 36] {
            for (m, strides) in [(1, [K, one()]), (40, [zero(), one()])] {
                let mut x = vec![1.5f32; 37];
                x[place] = f32::NAN;
                let reduce = Reduce { axes: vec![M], inner: K, op, dst: at(Z, &[one()]), value: load(X, &strides) };
                let case = Case::new([m, 0, 37], x, vec![0.0], vec![0.0; m as usize], vec![Stmt::Reduce(reduce)]);
                let mut want = case.start.clone();
                interpret(&case.checked(), &mut case.launch(&mut want)).unwrap();
                for (target, loaded) in compiled(&case.module) {
                    let mut got = case.start.clone();
                    loaded.run(&mut case.launch(&mut got), 1).unwrap();
                    let same = got.iter().zip(&want).all(|(g, w)| g == w || (g.is_nan() && w.is_nan()));
                    assert!(same, "{op:?}, {target}, NaN at {place}: {got:?}, not {want:?}");
                }
            }
        }
    }
}

/// A matrix with NaN wherever a triangular statement must not look.
fn lower(random: &mut Random, rows: i64, columns: i64, strict: bool) -> Vec<f32> {
    let inside = |i: i64, k: i64| if strict { k < i } else { k <= i };
    (0..rows * columns).map(|at| if inside(at / columns, at % columns) { random.next() } else { f32::NAN }).collect()
}

#[test]
fn products_agree() {
    let mut random = Random(4);
    for (m, n, k) in [
        (1, 1, 1),
        (3, 7, 5),
        (17, 40, 1),
        (6, 65, 17),
        (40, 17, 40),
        (65, 100, 33),
        (1, 64, 64),
        (33, 1, 20),
        (5, 3, 0),
        (0, 4, 4),
        (64, 128, 64),
        (24, 48, 30),
        (50, 20, 13),
    ] {
        for shape in [
            Triangle::Full,
            Triangle::LowerOut,
            Triangle::LowerLeft { strict: false },
            Triangle::LowerLeft { strict: true },
        ] {
            let x = match shape {
                Triangle::LowerLeft { strict } => lower(&mut random, m, k, strict),
                _ => random.vector((m * k) as usize),
            };
            let (y, start) = (random.vector((k * n) as usize), random.vector((m * n) as usize));
            for (accumulate, transposed) in [(false, false), (true, false), (true, true)] {
                let mut x = x.clone();
                let mut strides = [K, one()];
                if transposed {
                    let (rows, columns) = (m as usize, k as usize);
                    x = (0..rows * columns).map(|i| x[(i % rows) * columns + i / rows]).collect();
                    strides = [one(), M];
                }
                let product = Product {
                    m: M,
                    n: N,
                    k: K,
                    dst: at(Z, &[N, one()]),
                    a: at(X, &strides),
                    b: at(Y, &[N, one()]),
                    accumulate,
                    shape,
                };
                Case::new([m, n, k], x, y.clone(), start.clone(), vec![Stmt::Product(product)])
                    .agree(&format!("product {m}x{n}x{k} {shape:?} {accumulate} {transposed}"), 1e-5);
            }
        }
    }
}

#[test]
fn products_of_rows_agree() {
    let mut random = Random(14);
    for (m, n, k) in [(1, 1, 1), (3, 7, 5), (16, 16, 64), (17, 13, 33), (6, 6, 16), (4, 9, 0), (0, 3, 3), (33, 40, 18)]
    {
        let (x, y) = (random.vector((m * k) as usize), random.vector((n * k) as usize));
        let start = random.vector((m * n) as usize);
        for shape in [Triangle::Full, Triangle::LowerOut] {
            let turned = Stmt::Map(Map::new(vec![K, N], at(S, &[N, one()]), load(Y, &[one(), K])));
            let (dst, a, b) = (at(Z, &[N, one()]), at(X, &[K, one()]), at(S, &[N, one()]));
            let product = Product { m: M, n: N, k: K, dst, a, b, accumulate: false, shape };
            Case::new([m, n, k], x.clone(), y.clone(), start.clone(), vec![turned, Stmt::Product(product)])
                .agree(&format!("product of rows {m}x{n}x{k} {shape:?}"), 1e-5);
        }
    }
}

#[test]
fn rows_past_the_caches_agree() {
    // More than four MiB, from the start of a line on and from its second element on.
    let (rows, columns) = (1030i64, 1056i64);
    let x = Random(15).vector((rows * columns) as usize);
    let map = Map::new(vec![M, N - 16i64], at(Z, &[N, one()]), load(X, &[N, one()]));
    let case = Case::new([rows, columns, 0], x, vec![0.0], vec![0.5; (rows * columns) as usize], vec![Stmt::Map(map)]);
    let mut want = case.start.clone();
    interpret(&case.checked(), &mut case.launch(&mut want)).unwrap();
    for (target, loaded) in compiled(&case.module) {
        for first in [0, 1] {
            let Data::F32(mut out) = Tensor::f32(vec![1 + want.len()], vec![0.5; 1 + want.len()]).data else { return };
            loaded.run(&mut case.launch(&mut out[first..first + want.len()]), 1).unwrap();
            assert!(out[first..first + want.len()] == want[..], "{target}, from element {first} of a line on");
        }
    }
}

#[test]
fn no_row_of_b_beyond_the_triangle_is_read() {
    // b's last row is NaN; strictly lower rows never reach it.
    let mut random = Random(5);
    let (x, mut y) = (lower(&mut random, 33, 33, true), random.vector(33 * 20));
    y[32 * 20..].fill(f32::NAN);
    let product = Product {
        m: M,
        n: N,
        k: K,
        dst: at(Z, &[N, one()]),
        a: at(X, &[K, one()]),
        b: at(Y, &[N, one()]),
        accumulate: false,
        shape: Triangle::LowerLeft { strict: true },
    };
    Case::new([33, 20, 33], x, y, vec![0.0; 33 * 20], vec![Stmt::Product(product)]).agree("strict", 1e-5);
}

#[test]
fn substitutions_agree() {
    let mut random = Random(6);
    for (n, columns) in [(1, 1), (3, 7), (17, 40), (40, 17), (65, 65), (64, 64), (0, 3)] {
        for r in [1usize, 2] {
            let tiles = (0..r * r).map(|_| lower(&mut random, n, n, true)).collect::<Vec<_>>().concat();
            let tiles: Vec<f32> = tiles.into_iter().map(|x| x * 0.3).collect();
            let start = random.vector((n * columns) as usize * r);
            let tile = |i: usize| Access::new(X, M * M * (i as i64), [M, one()]);
            let solve = Solve {
                n: M,
                columns: N,
                p: (0..r * r).map(tile).collect(),
                x: (0..r).map(|i| Access::new(Z, M * N * (i as i64), [N, one()])).collect(),
            };
            Case::new([n, columns, 0], tiles, vec![0.0], start, vec![Stmt::Solve(solve)])
                .agree(&format!("solve {n}x{columns} of {r}"), 2e-4);
        }
    }
}

#[test]
fn maps_below_a_diagonal_agree() {
    let mut random = Random(11);
    for (m, n) in [(0, 3), (1, 1), (3, 7), (17, 17), (40, 19)] {
        for diagonal in [-2i64, -1, 0, 5] {
            let mut x = random.vector((m * n) as usize);
            for i in 0..m {
                (0..n).filter(|j| *j > i + diagonal).for_each(|j| x[(i * n + j) as usize] = f32::NAN);
            }
            let map = Map::new(vec![M, N], at(Z, &[N, one()]), load(X, &[N, one()]));
            let body = vec![Stmt::Map(Map { below: Some(diagonal.into()), ..map })];
            Case::new([m, n, 0], x, vec![0.0], random.vector((m * n) as usize), body)
                .agree(&format!("{m}x{n} below {diagonal}"), 1e-6);
        }
    }
}

#[test]
fn scans_agree() {
    let mut random = Random(12);
    for m in ODD {
        for n in [0, 1, 5, 33] {
            let (x, start) = (random.vector((m * n) as usize), random.vector((m * n) as usize));
            for op in [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Max, ReduceOp::Min] {
                let back = |b| Access::new(b, (M - 1i64) * N, [one(), zero() - N]);
                let scan = |axis, inner, dst, value| {
                    let value = Value::Call(Function::Add, vec![value, Value::Axis(1)]);
                    Stmt::Scan(Scan { axes: vec![axis], inner, op, from: ScanFrom::First, dst, value })
                };
                // Along rows, along columns, and backwards.
                let all = [
                    scan(M, N, at(Z, &[N, one()]), load(X, &[N, one()])),
                    scan(N, M, at(Z, &[one(), N]), load(X, &[one(), N])),
                    scan(N, M, back(Z), Value::Load(back(X))),
                ];
                for stmt in all {
                    Case::new([m, n, 0], x.clone(), vec![0.0], start.clone(), vec![stmt]).agree("scan", 1e-4);
                }
            }
        }
    }
}

#[test]
fn scans_from_the_diagonal_agree() {
    let mut random = Random(13);
    for (m, n) in [(0, 0), (1, 1), (7, 7), (19, 33), (33, 19)] {
        let (x, start) = (random.vector(n as usize), random.vector((m * n) as usize));
        let (from, dst, value) = (ScanFrom::Diagonal, at(Z, &[one(), M]), load(X, &[zero(), one()]));
        let scan = Scan { axes: vec![M], inner: N, op: ReduceOp::Product, from, dst, value };
        Case::new([m, n, 0], x, vec![0.0], start, vec![Stmt::Scan(scan)]).agree(&format!("diagonal {m}x{n}"), 1e-5);
    }
}

#[test]
fn loops_conditions_and_scratch_agree() {
    let (i, j) = (Int::Var(VarId(0)), Int::Var(VarId(1)));
    let fill = Map::new(vec![7i64.into()], at(S, &[one()]), Value::Int(i.clone() * 10i64 + j.clone()));
    let copy = |scale: f64| {
        let dst = Access::new(Z, i.clone() * 7i64 + i.clone().modulo(3i64) - i.clone().modulo(3i64), [one()]);
        let value = Value::Call(Function::Mul, vec![load(S, &[one()]), Value::Const(scale)]);
        Stmt::Map(Map::new(vec![7i64.into()], dst, value))
    };
    let inner = vec![
        Stmt::Map(fill),
        Stmt::If {
            left: j.clone().floor_div(2i64),
            right: i.clone().min(3i64),
            then: vec![copy(1.0)],
            otherwise: vec![copy(-1.0)],
        },
    ];
    let body = vec![Stmt::For {
        var: VarId(0),
        from: zero(),
        to: M,
        step: one(),
        body: vec![Stmt::For { var: VarId(1), from: (-3i64).into(), to: N, step: 2i64.into(), body: inner }],
    }];
    Case::new([5, 8, 0], vec![0.0], vec![0.0], vec![0.0; 35], body).agree("loops", 1e-6);
}

#[test]
fn grids_run_on_threads() {
    let (m, n) = (37, 21);
    let x = Random(8).vector((m * n) as usize);
    let row = |b| Access::new(b, Int::Param(ParamId(6)) * N, [one()]);
    let body = vec![
        Stmt::Map(Map::new(vec![N], at(S, &[one()]), Value::Load(row(X)))),
        Stmt::Map(Map::new(
            vec![N],
            row(Z),
            Value::Call(Function::Add, vec![load(S, &[one()]), Value::Int(Int::Param(ParamId(6)))]),
        )),
    ];
    let mut case = Case::new([m, n, 0], x, vec![0.0], vec![0.0; (m * n) as usize], body);
    case.module.params.push(Param { name: "i".into(), role: ParamRole::Grid });
    case.module.kernels[0].grid.push(GridAxis { param: ParamId(6), extent: M });
    case.agree("grid", 1e-6);
    let mut want = case.start.clone();
    interpret(&case.checked(), &mut case.launch(&mut want)).unwrap();
    for (target, loaded) in compiled(&case.module) {
        for threads in [1, 2, 4, 64] {
            for _ in 0..20 {
                let mut got = case.start.clone();
                loaded.run(&mut case.launch(&mut got), threads).unwrap();
                assert_eq!(got, want, "{target}");
            }
        }
    }
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let map = Map::new(vec![M], at(Z, &[one()]), load(X, &[one()]));
    let case = Case::new([4, 0, 0], vec![0.0; 4], vec![0.0], vec![0.0; 4], vec![Stmt::Map(map)]);
    for (_, loaded) in compiled(&case.module) {
        assert!(loaded.run(&mut case.launch(&mut [0.0; 3]), 1).is_err());
        let mut out = [0.0; 4];
        let mut launch = case.launch(&mut out);
        launch.inputs.remove("x");
        assert!(loaded.run(&mut launch, 1).is_err());
    }
}

#[test]
fn kernels_share_buffers_states_pass_and_integers_convert() {
    let (m, n) = (19i64, 37i64);
    let row = |b, stride: Int| Access::new(b, Int::Param(ParamId(6)) * stride, [one()]);
    let add = |a, b| Value::Call(Function::Add, vec![a, b]);
    let fill = add(load(X, &[M]), Value::Load(row(Y, N)));
    let first = Stmt::Map(Map::new(vec![N], row(S, N), fill));
    let reversed = Access::new(S, (M - 1i64 - Int::Param(ParamId(6))) * N, [one()]);
    let second = add(Value::Load(reversed), load(X, &[one()]));
    let second = Stmt::Map(Map::new(vec![N], row(Z, N), second));
    let mut case = Case::new(
        [m, n, 0],
        vec![0.0; (m * n) as usize],
        Random(9).vector((m * n) as usize),
        vec![0.0; (m * n) as usize],
        vec![first],
    );
    case.module.params.push(Param { name: "i".into(), role: ParamRole::Grid });
    case.module.buffers[0].elem = Elem::I32;
    case.module.buffers[1].role = BufferRole::StateIn;
    case.module.buffers[2].role = BufferRole::StateOut;
    case.module.buffers[3] = Buffer { name: "s".into(), role: BufferRole::Shared, elem: Elem::F32, size: M * N };
    case.module.kernels[0].grid.push(GridAxis { param: ParamId(6), extent: M });
    case.module.kernels.push(Kernel { name: "second".into(), body: vec![second], ..case.module.kernels[0].clone() });
    let integers: Vec<i32> = (0..(m * n) as i32).map(|i| i * 31 % 1009 - 400).collect();
    fn launch<'a>(case: &'a Case, integers: &'a [i32], out: &'a mut [f32]) -> Launch<'a> {
        Launch {
            sizes: &case.sizes,
            chunk: 1,
            tiles: 1,
            inputs: [("x", Input::I32(integers))].into(),
            states_in: [("y", &case.data[1][..])].into(),
            outputs: BTreeMap::new(),
            states_out: [("z", out)].into(),
        }
    }
    let mut want = case.start.clone();
    // The gather of x by M reaches M * (N - 1), inside as long as it holds M * N.
    interpret(&case.checked(), &mut launch(&case, &integers, &mut want)).unwrap();
    for (target, loaded) in compiled(&case.module) {
        for threads in [1, 3] {
            let mut got = case.start.clone();
            loaded.run(&mut launch(&case, &integers, &mut got), threads).unwrap();
            let near = got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 1e-6 * w.abs().max(1.0));
            assert!(near, "{target}, {threads} threads");
        }
    }
}

#[test]
fn sweeps_agree() {
    let mut random = Random(13);
    for (m, n) in [(1, 1), (5, 3), (64, 16), (7, 37), (131, 40), (300, 101), (3, 0), (0, 3)] {
        // x: factors and rows; y: another tile; z: the tile, then what is read of it.
        let x = random.vector(((m + n) * 3) as usize);
        let y = random.vector((m * n) as usize);
        let start = random.vector(((m + 2) * n) as usize);
        let tile = || at(Z, &[N, one()]);
        let rank =
            |r: i64| Outer { row: Access::new(X, r, [3i64.into()]), column: Access::new(X, M * 3i64 + N * r, [one()]) };
        let read =
            |r: i64| Outer { row: Access::new(X, r, [2i64.into()]), column: Access::new(Z, (M + r) * N, [one()]) };
        for (ranks, reads) in (0..3).flat_map(|ranks| [(ranks, 1), (ranks, 2)]) {
            let factor = |first: i64, stride: Int| Access::new(X, first, [stride]);
            let alone = |stride: Int| Some(Keep { factor: factor(0, stride), lost: None });
            let given_back = |stride: Int| {
                let lost = Some(factor(1, stride.clone()));
                Some(Keep { factor: factor(0, stride), lost })
            };
            let keeps = [None, alone(zero()), alone(one()), given_back(zero()), given_back(one())];
            for (keep, from) in keeps.into_iter().flat_map(|keep| [(keep.clone(), tile()), (keep, at(Y, &[N, one()]))])
            {
                let update = Rankwise { from, keep, ranks: (0..ranks).map(rank).collect() };
                let update = (ranks > 0).then_some(update);
                let told = format!("sweep {m}x{n} of {ranks} ranks and {reads} reads: {update:?}");
                let reads = (0..reads).map(read).collect();
                let sweep = Sweep { rows: M, columns: N, state: tile(), update, reads };
                Case::new([m, n, 0], x.clone(), y.clone(), start.clone(), vec![Stmt::Sweep(sweep)]).agree(&told, 1e-5);
            }
        }
    }
}

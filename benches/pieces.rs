//! Statements of the kernel IR by themselves, as chunks of 16 tokens with K = V = 64 and 128 have them, in the code of every
//! back end built in: `cargo bench -p chunkwise-runtime --features llvm --bench pieces`.
//!
//! A statement runs over the same tiles again and again, so they lie in the nearest cache that holds them. Items are
//! operations (a multiplication and an addition are two), or elements of maps.

fn main() {
    divan::main();
}

/// Without a back end for a CPU there is nothing to time.
#[cfg(any(feature = "cranelift", feature = "llvm"))]
mod pieces {
    use std::collections::BTreeMap;

    use chunkwise_compiler::kernel::*;
    use chunkwise_runtime::cpu::Loaded;
    use chunkwise_runtime::{Input, Launch};
    use divan::Bencher;
    use divan::counter::ItemsCount;

    const ROUNDS: i64 = 100;
    /// Tokens in a chunk.
    const CHUNK: i64 = 16;
    const WIDTHS: [i64; 2] = [64, 128];

    const X: BufferId = BufferId(0);
    const Y: BufferId = BufferId(1);
    const Z: BufferId = BufferId(2);
    const S: BufferId = BufferId(3);

    fn at(buffer: BufferId, strides: [i64; 2]) -> Access {
        Access::new(buffer, 0i64, strides.map(Int::from))
    }

    /// Rounds of some statements over inputs x and y, an output z and scratch s, each as large as a state.
    fn module(body: Vec<Stmt>, width: i64) -> Module {
        let buffer =
            |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: (width * width).into() };
        let rounds = Stmt::For { var: VarId(0), from: 0i64.into(), to: ROUNDS.into(), step: 1i64.into(), body };
        Module {
            name: "piece".into(),
            params: Vec::new(),
            buffers: vec![
                buffer("x", BufferRole::Input),
                buffer("y", BufferRole::Input),
                buffer("z", BufferRole::Output),
                buffer("s", BufferRole::Scratch),
            ],
            kernels: vec![Kernel { name: "only".into(), grid: Vec::new(), body: vec![rounds] }],
        }
    }

    /// The code of a back end, if it is built in.
    fn code(backend: &str, module: &Checked) -> Option<Loaded> {
        match backend {
            #[cfg(feature = "cranelift")]
            "cranelift" => {
                let loaded = chunkwise_runtime::cpu::cranelift::load(module, chunkwise_runtime::Precision::F32);
                Some(loaded.expect("a checked module loads"))
            }
            #[cfg(feature = "llvm")]
            "llvm" => Some(chunkwise_runtime::cpu::llvm::load(module).expect("a checked module loads")),
            _ => None,
        }
    }

    /// Times statements that do so many items a round.
    fn time(bencher: Bencher<'_, '_>, (backend, width): (&str, i64), items: i64, body: Vec<Stmt>) {
        let module = check(module(body, width)).expect("the pieces hold together");
        let Some(loaded) = code(backend, &module) else { return };
        let size = (width * width) as usize;
        // Small, so that sums and substitutions stay finite over all rounds.
        let data: Vec<f32> = (0..size).map(|i| ((i * 7 % 13) as f32 - 6.0) / 8000.0).collect();
        let sizes = BTreeMap::new();
        let mut z = vec![0.5f32; size];
        bencher.counter(ItemsCount::new((items * ROUNDS) as u64)).bench_local(|| {
            let inputs = [("x", Input::F32(&data)), ("y", Input::F32(&data))].into();
            let (outputs, states_in, states_out) = ([("z", &mut z[..])].into(), BTreeMap::new(), BTreeMap::new());
            let mut launch = Launch { sizes: &sizes, chunk: CHUNK, tiles: 1, inputs, states_in, outputs, states_out };
            loaded.run(&mut launch, 1).expect("a checked module runs");
        });
    }

    /// The back ends and widths that a piece is timed for.
    fn cases() -> Vec<(&'static str, i64)> {
        let names = [(cfg!(feature = "cranelift"), "cranelift"), (cfg!(feature = "llvm"), "llvm")];
        let built = names.into_iter().filter(|(built, _)| *built);
        built.flat_map(|(_, name)| WIDTHS.map(|width| (name, width))).collect()
    }

    /// A chunk's queries with the state: o = q S.
    #[divan::bench(args = cases())]
    fn read(bencher: Bencher, (backend, n): (&str, i64)) {
        let product = Product {
            m: CHUNK.into(),
            n: n.into(),
            k: n.into(),
            dst: at(Z, [n, 1]),
            a: at(X, [n, 1]),
            b: at(Y, [n, 1]),
            accumulate: false,
            shape: Triangle::Full,
        };
        time(bencher, (backend, n), 2 * CHUNK * n * n, vec![Stmt::Product(product)]);
    }

    /// What a chunk adds to the state: S += k' v.
    #[divan::bench(args = cases())]
    fn write(bencher: Bencher, (backend, n): (&str, i64)) {
        let product = Product {
            m: n.into(),
            n: n.into(),
            k: CHUNK.into(),
            dst: at(Z, [n, 1]),
            a: at(X, [1, n]),
            b: at(Y, [n, 1]),
            accumulate: true,
            shape: Triangle::Full,
        };
        time(bencher, (backend, n), 2 * CHUNK * n * n, vec![Stmt::Product(product)]);
    }

    /// Scores of a chunk's queries with its keys, the lower triangle: A = q k'.
    #[divan::bench(args = cases())]
    fn scores(bencher: Bencher, (backend, n): (&str, i64)) {
        let turned = Map::new(vec![n.into(), CHUNK.into()], at(S, [CHUNK, 1]), Value::Load(at(Y, [1, n])));
        let product = Product {
            m: CHUNK.into(),
            n: CHUNK.into(),
            k: n.into(),
            dst: at(Z, [CHUNK, 1]),
            a: at(X, [n, 1]),
            b: at(S, [CHUNK, 1]),
            accumulate: false,
            shape: Triangle::LowerOut,
        };
        time(bencher, (backend, n), CHUNK * (CHUNK + 1) * n, vec![Stmt::Map(turned), Stmt::Product(product)]);
    }

    /// Scores with a chunk's values: o = A v, A lower triangular.
    #[divan::bench(args = cases())]
    fn weigh(bencher: Bencher, (backend, n): (&str, i64)) {
        let product = Product {
            m: CHUNK.into(),
            n: n.into(),
            k: CHUNK.into(),
            dst: at(Z, [n, 1]),
            a: at(X, [CHUNK, 1]),
            b: at(Y, [n, 1]),
            accumulate: false,
            shape: Triangle::LowerLeft { strict: false },
        };
        time(bencher, (backend, n), CHUNK * (CHUNK + 1) * n, vec![Stmt::Product(product)]);
    }

    /// The substitution of a chunk of a delta rule.
    #[divan::bench(args = cases())]
    fn solve(bencher: Bencher, (backend, n): (&str, i64)) {
        let solve = Solve { n: CHUNK.into(), columns: n.into(), p: vec![at(X, [CHUNK, 1])], x: vec![at(Z, [n, 1])] };
        time(bencher, (backend, n), CHUNK * (CHUNK - 1) * n, vec![Stmt::Solve(solve)]);
    }

    /// Gates of a chunk: exp(g).
    #[divan::bench(args = cases())]
    fn exponentials(bencher: Bencher, (backend, n): (&str, i64)) {
        let value = Value::Call(Function::Exp, vec![Value::Load(at(X, [n, 1]))]);
        let map = Map::new(vec![CHUNK.into(), n.into()], at(Z, [n, 1]), value);
        time(bencher, (backend, n), CHUNK * n, vec![Stmt::Map(map)]);
    }

    /// Running products of a chunk's gates.
    #[divan::bench(args = cases())]
    fn running(bencher: Bencher, (backend, n): (&str, i64)) {
        let scan = Scan {
            axes: vec![n.into()],
            inner: CHUNK.into(),
            op: ReduceOp::Product,
            from: ScanFrom::First,
            dst: at(Z, [1, n]),
            value: Value::Load(at(X, [1, n])),
        };
        time(bencher, (backend, n), CHUNK * n, vec![Stmt::Scan(scan)]);
    }

    /// A token of the recurrent form: S = a S + k v', then o = S' q.
    #[divan::bench(args = cases())]
    fn token(bencher: Bencher, (backend, n): (&str, i64)) {
        let call = |function, a, b| Value::Call(function, vec![a, b]);
        let kept = call(Function::Mul, Value::Load(at(X, [1, 0])), Value::Load(at(S, [n, 1])));
        let added = call(Function::Mul, Value::Load(at(Y, [1, 0])), Value::Load(at(X, [0, 1])));
        let update = Map::new(vec![n.into(), n.into()], at(S, [n, 1]), call(Function::Add, kept, added));
        let product = Product {
            m: 1i64.into(),
            n: n.into(),
            k: n.into(),
            dst: at(Z, [n, 1]),
            a: at(Y, [n, 1]),
            b: at(S, [n, 1]),
            accumulate: false,
            shape: Triangle::Full,
        };
        time(bencher, (backend, n), 5 * n * n, vec![Stmt::Map(update), Stmt::Product(product)]);
    }
}

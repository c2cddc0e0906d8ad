//! How fast one statement of the kernel IR runs: `cargo run --release -p chunkwise-runtime --features llvm --example speed`.

#[cfg(not(feature = "llvm"))]
fn main() {
    println!("built without the llvm feature");
}

#[cfg(feature = "llvm")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    llvm::compiling()?;
    llvm::products()?;
    llvm::elements()
}

#[cfg(feature = "llvm")]
mod llvm {
    use std::collections::BTreeMap;
    use std::error::Error;
    use std::time::Instant;

    use chunkwise_compiler::codegen::llvm::emit;
    use chunkwise_compiler::kernel::*;
    use chunkwise_runtime::cpu::{host, llvm::load};
    use chunkwise_runtime::{Input, Launch};

    const REPEATS: i64 = 2000;

    fn buffer(name: &str, role: BufferRole, size: i64) -> Buffer {
        Buffer { name: name.into(), role, elem: Elem::F32, size: size.into() }
    }

    /// Seconds for one round of a statement over inputs x, y and output z of these sizes; the best of several runs.
    fn time(sizes: [i64; 3], stmt: Stmt) -> Result<f64, Box<dyn Error>> {
        let body = vec![Stmt::For {
            var: VarId(0),
            from: 0i64.into(),
            to: REPEATS.into(),
            step: 1i64.into(),
            body: vec![stmt],
        }];
        let module = Module {
            name: "speed".into(),
            params: vec![],
            buffers: vec![
                buffer("x", BufferRole::Input, sizes[0]),
                buffer("y", BufferRole::Input, sizes[1]),
                buffer("z", BufferRole::Output, sizes[2]),
            ],
            kernels: vec![Kernel { name: "only".into(), grid: vec![], body }],
        };
        let loaded = load(&module, &emit(&module, &host())?)?;
        // Small enough that sums and substitutions stay finite.
        let data: Vec<f32> = (0..sizes[0].max(sizes[1])).map(|i| ((i * 7 % 13) as f32 - 6.0) / 8000.0).collect();
        let mut z = vec![0.5f32; sizes[2] as usize];
        let empty = BTreeMap::new();
        let mut best = f64::MAX;
        for _ in 0..9 {
            let mut launch = Launch {
                sizes: &empty,
                chunk: 1,
                tiles: 1,
                inputs: [("x", Input::F32(&data[..sizes[0] as usize])), ("y", Input::F32(&data[..sizes[1] as usize]))]
                    .into(),
                states_in: BTreeMap::new(),
                outputs: [("z", &mut z[..])].into(),
                states_out: BTreeMap::new(),
            };
            let start = Instant::now();
            loaded.run(&mut launch, 1)?;
            best = best.min(start.elapsed().as_secs_f64() / REPEATS as f64);
        }
        Ok(best)
    }

    fn at(buffer: u32, strides: &[i64]) -> Access {
        Access::new(BufferId(buffer), 0i64, strides.iter().map(|s| Int::from(*s)))
    }

    pub fn products() -> Result<(), Box<dyn Error>> {
        println!("width {}", host().width);
        for (m, n, k) in [
            (64, 64, 64),
            (64, 128, 128),
            (64, 64, 128),
            (128, 128, 64),
            (128, 128, 128),
            (256, 256, 256),
            (16, 64, 64),
            (64, 32, 64),
            (64, 40, 64),
            (1, 64, 64),
            (64, 1, 64),
        ] {
            for shape in [Triangle::Full, Triangle::LowerLeft { strict: true }, Triangle::LowerOut] {
                for transposed in [false, true] {
                    let a = if transposed { at(0, &[1, m]) } else { at(0, &[k, 1]) };
                    let product = Product {
                        m: m.into(),
                        n: n.into(),
                        k: k.into(),
                        dst: at(2, &[n, 1]),
                        a,
                        b: at(1, &[n, 1]),
                        accumulate: false,
                        shape,
                    };
                    let seconds = time([m * k, k * n, m * n], Stmt::Product(product))?;
                    let flops = 2.0 * (m * n * k) as f64;
                    println!(
                        "{m}x{n}x{k} {shape:?}{}: {:.2} us, {:.1} GF/s of the full product",
                        if transposed { " a'" } else { "" },
                        seconds * 1e6,
                        flops / seconds / 1e9
                    );
                }
            }
        }
        for (n, columns) in [(64, 64), (64, 128), (64, 256), (16, 64)] {
            let solve =
                Solve { n: n.into(), columns: columns.into(), p: vec![at(0, &[n, 1])], x: vec![at(2, &[columns, 1])] };
            let seconds = time([n * n, 1, n * columns], Stmt::Solve(solve))?;
            let flops = (n * n * columns) as f64;
            println!("solve {n}x{columns}: {:.2} us, {:.1} GF/s", seconds * 1e6, flops / seconds / 1e9);
        }
        Ok(())
    }

    pub fn elements() -> Result<(), Box<dyn Error>> {
        let n = 64i64;
        let axes = vec![Int::from(n), Int::from(n)];
        let row = at(0, &[n, 1]);
        for function in [
            Function::Exp,
            Function::Sigmoid,
            Function::Silu,
            Function::Tanh,
            Function::Ln,
            Function::Softplus,
            Function::Gelu,
            Function::Sin,
            Function::Mul,
        ] {
            let args = vec![Value::Load(row.clone()); function.arity()];
            let map = Map::new(axes.clone(), at(2, &[n, 1]), Value::Call(function, args));
            let seconds = time([n * n, 1, n * n], Stmt::Map(map))?;
            println!("map {function:?}: {:.3} ns an element", seconds * 1e9 / (n * n) as f64);
        }
        let map = Map::new(axes.clone(), at(2, &[1, n]), Value::Load(row.clone()));
        println!("transpose: {:.3} ns an element", time([n * n, 1, n * n], Stmt::Map(map))? * 1e9 / (n * n) as f64);
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            for (name, strides) in [("rows", [n, 1]), ("columns", [1, n])] {
                let value = Value::Load(at(0, &strides));
                let reduce = Reduce { axes: vec![n.into()], inner: n.into(), op, dst: at(2, &[1]), value };
                let seconds = time([n * n, 1, n], Stmt::Reduce(reduce))?;
                println!("{op:?} of {name}: {:.3} ns an element", seconds * 1e9 / (n * n) as f64);
            }
        }
        Ok(())
    }

    /// How long a module of many statements takes to compile: maps, reductions, products and a substitution.
    pub fn compiling() -> Result<(), Box<dyn Error>> {
        let p = |i: u32| Int::Param(ParamId(i));
        let at = |b: u32, offset: Int, strides: [Int; 2]| Access::new(BufferId(b), offset, strides);
        let one = || Int::Const(1);
        let mut body = Vec::new();
        for i in 0..12i64 {
            let offset = || p(1) * p(2) * i + Int::Var(VarId(0)) * p(1);
            let x = || at(0, offset(), [p(1), one()]);
            let z = || at(2, offset(), [p(1), one()]);
            let load = || Value::Load(x());
            let call = |f, args| Value::Call(f, args);
            let gate = call(
                Function::Exp,
                vec![call(Function::Sub, vec![load(), Value::Load(at(1, offset(), [one(), 0i64.into()]))])],
            );
            let masked = Value::Select(
                Box::new(call(Function::Le, vec![Value::Axis(1), Value::Axis(0)])),
                Box::new(call(Function::Mul, vec![gate, load()])),
                Box::new(Value::Const(0.0)),
            );
            body.push(Stmt::Map(Map::new(vec![p(0), p(1)], z(), masked)));
            let gated = call([Function::Silu, Function::Softplus][i as usize % 2], vec![load()]);
            body.push(Stmt::Map(Map::new(vec![p(0), p(1)], z(), gated)));
            body.push(Stmt::Reduce(Reduce {
                axes: vec![p(0)],
                inner: p(1),
                op: ReduceOp::Sum,
                dst: Access::new(BufferId(2), offset(), [one()]),
                value: call(Function::Mul, vec![load(), load()]),
            }));
            let shape = [
                Triangle::Full,
                Triangle::LowerOut,
                Triangle::LowerLeft { strict: true },
                Triangle::LowerLeft { strict: false },
            ][i as usize % 4];
            for accumulate in [false, true] {
                body.push(Stmt::Product(Product {
                    m: p(0),
                    n: p(1),
                    k: p(2),
                    dst: z(),
                    a: x(),
                    b: at(1, offset(), [p(1), one()]),
                    accumulate,
                    shape,
                }));
            }
        }
        let loops = Stmt::For { var: VarId(0), from: 0i64.into(), to: p(0), step: one(), body };
        let param = |name: &str| Param { name: name.into(), role: ParamRole::Size(name.into()) };
        let module = Module {
            name: "compiling".into(),
            params: vec![param("M"), param("N"), param("K")],
            buffers: vec![
                buffer("x", BufferRole::Input, 1 << 20),
                buffer("y", BufferRole::Input, 1 << 20),
                buffer("z", BufferRole::Output, 1 << 20),
            ],
            kernels: vec![Kernel { name: "only".into(), grid: vec![], body: vec![loops] }],
        };
        for round in 0..3 {
            let start = Instant::now();
            let code = emit(&module, &host())?;
            let emitted = start.elapsed();
            let _loaded = load(&module, &code)?;
            println!(
                "{round}: 60 statements, {} KB of IR: {emitted:?}, loaded after {:?}",
                code.ir.len() / 1024,
                start.elapsed()
            );
        }
        Ok(())
    }
}

//! Measures this machine's rates (`kernel::Rates`) for a back end. Small kernels of one kind of statement each are compiled
//! and timed; then whole kernels (`kernels`), which meet caches, strips of states and statements beside each other as runs
//! do, and the rates are fitted to those times (`fit`), near what the statements took. Last they choose among the kernels
//! that were timed, as the built-in rates do: what they lose by it says whether they are worth keeping. Some ten seconds
//! with LLVM, two with Cranelift. Not here: keeping what was measured (`rates`).

mod fit;
mod kernels;

use std::{collections::BTreeMap, fs, time::Duration};

use chunkwise_compiler::kernel::{
    Access, Buffer, BufferId, BufferRole, Elem, Function, Int, Kernel, Map, Module, Param, ParamId, ParamRole, Product,
    Rates, Reduce, ReduceOp, Solve, Stmt, Triangle, Value, VarId,
};

use crate::{
    backend::Backend,
    compiled::Compiled,
    device::Precision,
    launch::{Input, Launch},
    rates::built_in,
    request::Failure,
};

/// Rates, and what choosing by them costs: how many times as long as the best of the timed plans those take that the
/// rates choose, in the geometric mean over programs and widths.
#[derive(Debug, Clone)]
pub struct Measured {
    pub rates: Rates,
    pub lost: f64,
    /// The same of the rates that are built in.
    pub lost_built_in: f64,
}

/// Times of one kernel differ by as much from one moment to the next.
const NOISE: f64 = 1.01;

impl Measured {
    /// Whether the built-in rates choose better.
    pub fn worse(&self) -> bool {
        self.lost > self.lost_built_in * NOISE
    }
}

/// How often `measure` says what it did.
pub const STEPS: usize = 1 + kernels::STEPS;

/// Measures the rates of a CPU back end's code in one thread; `step` hears what was done.
///
/// # Errors
/// A back end that generates no code for this processor here.
pub fn measure(backend: Backend, step: &mut dyn FnMut(&str)) -> Result<Measured, Failure> {
    let statements = statements(backend)?;
    step("statements are timed");
    let built_in = built_in(backend);
    let mut timed = kernels::Timed::new(backend, step)?;
    let rates = timed.fit(&statements, &built_in)?;
    Ok(Measured { lost: timed.lost(&rates)?, lost_built_in: timed.lost(&built_in)?, rates })
}

/// The rates as single statements have them.
fn statements(backend: Backend) -> Result<Rates, Failure> {
    backend.devices().map_err(|why| Failure::Unusable(backend, why))?;
    let mut rates = caches(Rates::default());
    maps(backend, &mut rates)?;
    products(backend, &mut rates)?;
    solves(backend, &mut rates)?;
    levels(backend, &mut rates)?;
    Ok(rates)
}

/// A rate that is left once what is known is taken away; none is below 0.
fn left(time: f64, known: f64, by: f64) -> f64 {
    ((time - known) / by).max(0.0)
}

fn maps(backend: Backend, rates: &mut Rates) -> Result<(), Failure> {
    let (x, y) = (|strides: &[i64]| at(0, strides), |strides: &[i64]| Value::Load(at(1, strides)));
    let map = |columns: i64, value: Value| Stmt::Map(Map::new(vec![ROWS, columns.into()], x(&[columns, 1]), value));
    let time = |rows: i64, stmt: Stmt| nanoseconds(backend, (stmt, rows), [8192; 3]);
    rates.statement = time(1, Stmt::Map(Map::new(vec![ROWS], x(&[1]), y(&[1]))))?;
    // As many elements in 16 rows and in 128.
    let (long, short) = (time(16, map(128, y(&[128, 1])))?, time(128, map(16, y(&[16, 1])))?);
    rates.row = left(short, long, 112.0);
    rates.element = left(long, rates.statement + 16.0 * rates.row, 2048.0);
    let y = || y(&[128, 1]);
    let sums = (0..8).fold(y(), |sum, _| Value::Call(Function::Add, vec![sum, Value::Const(0.5)]));
    rates.operation = left(time(16, map(128, sums))?, long, 8.0 * 2048.0);
    let exp = Value::Call(Function::Exp, vec![y()]);
    rates.exponential = left(time(16, map(128, exp))?, long, 2048.0);
    let (rows, across) = (map(64, Value::Load(at(1, &[64, 1]))), map(64, Value::Load(at(1, &[1, 64]))));
    rates.strided = left(time(64, across)?, time(64, rows)?, 4096.0);
    let (axes, dst, value) = (vec![ROWS], at(0, &[1]), Value::Load(at(1, &[64, 1])));
    let reduce = Stmt::Reduce(Reduce { axes, inner: 64i64.into(), op: ReduceOp::Sum, dst, value });
    rates.reduced = left(time(32, reduce)?, rates.statement + 32.0 * 64.0 * rates.operation, 32.0);
    Ok(())
}

fn products(backend: Backend, rates: &mut Rates) -> Result<(), Failure> {
    let time = |[m, n, k]: [i64; 3]| {
        let (dst, a, b) = (at(0, &[n, 1]), at(1, &[k, 1]), at(2, &[n, 1]));
        let [n, k] = [n, k].map(Int::from);
        let stmt = Stmt::Product(Product { m: ROWS, n, k, dst, a, b, accumulate: false, shape: Triangle::Full });
        nanoseconds(backend, (stmt, m), [8192; 3])
    };
    let (tile, row, shallow, narrow) =
        (time([64, 64, 64])?, time([1, 128, 32])?, time([64, 128, 4])?, time([64, 1, 64])?);
    // Each time is mostly one rate's; what the others have in it is taken away in turn.
    (rates.result, rates.right) = (0.0, 0.0);
    for _ in 0..8 {
        let others = rates.statement + 4096.0 * (rates.result + rates.right);
        rates.product = left(tile, others, 524_288.0);
        let others = rates.statement + 8192.0 * rates.product + 128.0 * rates.result;
        rates.right = left(row, others, 4096.0);
        let others = rates.statement + 65_536.0 * rates.product + 512.0 * rates.right;
        rates.result = left(shallow, others, 8192.0);
    }
    let column = 8192.0 * rates.product + 64.0 * (rates.result + rates.right);
    rates.vector = left(narrow, rates.statement, column.max(1e-3)).clamp(1.0, 32.0);
    // Whole kernels say what sweeps take; a multiply-add is one wherever it stands.
    rates.swept_operation = rates.product;
    Ok(())
}

fn solves(backend: Backend, rates: &mut Rates) -> Result<(), Failure> {
    let time = |n: i64| {
        let solve = Solve { n: ROWS, columns: 64i64.into(), p: vec![at(1, &[n, 1])], x: vec![at(0, &[64, 1])] };
        nanoseconds(backend, (Stmt::Solve(solve), n), [8192; 3])
    };
    let (long, short) = (time(64)?, time(16)?);
    let operations = |n: f64| n * (n - 1.0) * 64.0;
    rates.solve_row = 0.0;
    for _ in 0..8 {
        rates.solve = left(long, rates.statement + 64.0 * rates.solve_row, operations(64.0));
        rates.solve_row = left(short, rates.statement + operations(16.0) * rates.solve, 16.0);
    }
    Ok(())
}

/// What a byte costs that does not lie in the first cache: a map over more than the one holds and less than the next.
fn levels(backend: Backend, rates: &mut Rates) -> Result<(), Failure> {
    let byte = |bytes: f64| {
        let elements = (bytes / 4.0) as i64;
        let (axes, dst) = (vec![ROWS, 1024i64.into()], at(0, &[1024, 1]));
        let value = Value::Call(Function::Mul, vec![Value::Load(dst.clone()), Value::Const(0.999)]);
        let time =
            nanoseconds(backend, (Stmt::Map(Map::new(axes, dst, value)), elements / 1024), [elements, 8192, 8192])?;
        let elements = elements as f64;
        let known = elements * (rates.element + rates.operation) + elements / 1024.0 * rates.row;
        Ok::<f64, Failure>(left(time, known, 4.0 * elements))
    };
    let second = byte(rates.second_bytes / 4.0)?;
    let third = byte((2.0 * rates.second_bytes).max(rates.third_bytes / 8.0))?.max(second);
    let memory = byte((4.0 * rates.third_bytes).min(268_435_456.0))?.max(third);
    (rates.second, rates.third, rates.memory) = (second, third, memory);
    Ok(())
}

/// The sizes of the caches, as far as the system tells them.
fn caches(mut rates: Rates) -> Rates {
    for index in 0..8 {
        let read = |what: &str| fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}"));
        let (Ok(level), Ok(kind), Ok(size)) = (read("level"), read("type"), read("size")) else { continue };
        let Some(bytes) = size.trim().strip_suffix('K').and_then(|k| k.parse::<f64>().ok()) else { continue };
        match level.trim() {
            "1" if kind.trim() == "Data" => rates.first_bytes = 1024.0 * bytes,
            "2" => rates.second_bytes = 1024.0 * bytes,
            "3" => rates.third_bytes = 1024.0 * bytes,
            _ => {}
        }
    }
    rates
}

/// Where calls of a statement begin, one after the other: code that sees the same call again might make it once.
const APART: i64 = 16;

fn at(buffer: u32, strides: &[i64]) -> Access {
    let offset = Int::Var(VarId(0)).modulo(4i64) * APART;
    Access::new(BufferId(buffer), offset, ints(strides))
}

fn ints(all: &[i64]) -> Vec<Int> {
    all.iter().map(|n| Int::from(*n)).collect()
}

/// Rows are known when a kernel is launched, as tokens of a chunk are; columns when it is compiled.
const ROWS: Int = Int::Param(ParamId(1));

/// The least time of one of many calls of a statement of so many rows, in nanoseconds. It may write buffer 0 and read
/// all three.
fn nanoseconds(backend: Backend, (stmt, rows): (Stmt, i64), elements: [i64; 3]) -> Result<f64, Failure> {
    let elements = elements.map(|n| n + 4 * APART);
    let compiled = Compiled::new(backend, &module(stmt, elements), Precision::F32)?;
    let [mut x, y, z] = elements.map(|n| vec![0.0f32; n as usize]);
    let mut calls = 1i64;
    loop {
        let time = least(&compiled, (calls, rows), (&mut x, &y, &z))?;
        if time >= LONG || calls >= MOST {
            return Ok(time.as_secs_f64() * 1e9 / calls as f64);
        }
        let missing = LONG.as_secs_f64() / time.as_secs_f64().max(1e-7);
        calls = ((calls as f64 * missing * 1.3) as i64).clamp(calls + 1, MOST);
    }
}

/// Long enough for a clock, short enough for a few dozen of them.
const LONG: Duration = Duration::from_micros(300);
const MOST: i64 = 1 << 16;
const RUNS: usize = 12;

type Tensors<'a> = (&'a mut Vec<f32>, &'a Vec<f32>, &'a Vec<f32>);

fn least(compiled: &Compiled, (calls, rows): (i64, i64), (x, y, z): Tensors<'_>) -> Result<Duration, Failure> {
    let sizes = BTreeMap::from([("N".to_string(), calls), ("M".to_string(), rows)]);
    let mut launch = Launch {
        sizes: &sizes,
        chunk: 1,
        tiles: 1,
        inputs: BTreeMap::from([("y", Input::F32(y)), ("z", Input::F32(z))]),
        states_in: BTreeMap::new(),
        outputs: BTreeMap::from([("x", x.as_mut_slice())]),
        states_out: BTreeMap::new(),
    };
    let times = compiled.time_launch(&mut launch, &|times| times.len() >= RUNS)?;
    Ok(times.into_iter().min().unwrap_or_default())
}

/// The statement, N times, with M rows.
fn module(stmt: Stmt, elements: [i64; 3]) -> Module {
    let buffer = |(name, role, size): (&str, BufferRole, i64)| Buffer {
        name: name.into(),
        role,
        elem: Elem::F32,
        size: size.into(),
    };
    let [x, y, z] = elements;
    let buffers = [("x", BufferRole::Output, x), ("y", BufferRole::Input, y), ("z", BufferRole::Input, z)];
    let (from, to, step) = (Int::from(0i64), Int::Param(ParamId(0)), Int::from(1i64));
    Module {
        name: "rate".into(),
        params: ["N", "M"].map(|name| Param { name: name.into(), role: ParamRole::Size(name.into()) }).into(),
        buffers: buffers.map(buffer).into(),
        kernels: vec![Kernel {
            name: "rate".into(),
            grid: Vec::new(),
            body: vec![Stmt::For { var: VarId(0), from, to, step, body: vec![stmt] }],
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_back_end_of_a_cpu_is_measured() {
        for backend in [Backend::Llvm, Backend::Cranelift].into_iter().filter(|backend| backend.usable()) {
            let rates = statements(backend).unwrap();
            assert!(Rates::NAMES.iter().all(|name| rates.get(name).is_some_and(|x| x.is_finite() && x >= 0.0)));
            assert!(rates.product > 0.0 && rates.vector >= 1.0);
        }
    }

    #[test]
    fn rates_that_choose_worse_than_those_built_in_are_known() {
        let measured = |lost| Measured { rates: Rates::default(), lost, lost_built_in: 1.03 };
        assert_eq!([1.0, 1.03, 1.2].map(|lost| measured(lost).worse()), [false, false, true]);
    }

    #[test]
    fn nothing_takes_less_than_no_time() {
        assert_eq!([left(5.0, 1.0, 2.0), left(1.0, 5.0, 2.0)], [2.0, 0.0]);
    }
}

//! How much work a kernel does: its useful floating-point operations, for the rates that `bench` prints, and a price in
//! nanoseconds, by which `auto` chooses between forms and chunk lengths.

use super::visit::accesses;
use super::{
    BufferRole, Function, Int, Keep, Kernel, Map, Module, Param, ParamId, ParamRole, Rankwise, Rates, Reduce, ReduceOp,
    ScanFrom, Stmt, Triangle, Value, VarId,
};

/// Grid points counted one by one; of larger grids as many, evenly spread, stand for the rest.
const POINTS: i64 = 48;

/// The useful floating-point operations of one run: a multiply-add is 2; of a triangle only its half counts.
pub fn flops(module: &Module, size_of: &dyn Fn(&str) -> usize, chunk: usize) -> u64 {
    let params = params(module, size_of, (chunk, 1));
    module.kernels.iter().map(|kernel| of_kernel(kernel, params.clone(), POINTS, &operations)).sum::<f64>() as u64
}

/// The work of one kernel of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Work items.
    pub items: f64,
    /// What one of them costs on one core, by the counts of its statements and the rates. Good for comparing kernels, not
    /// for predicting a time.
    pub nanoseconds: f64,
}

/// The work of every kernel of a module as a target's emitter takes it (`pass::run`), with so many tokens in a chunk, and so
/// many value tiles where the module takes any.
pub fn work(
    module: &Module,
    size_of: &dyn Fn(&str) -> usize,
    (chunk, tiles): (usize, usize),
    rates: &Rates,
) -> Vec<Work> {
    let params = params(module, size_of, (chunk, tiles));
    let items = items(module, size_of, chunk, tiles);
    let of = |(kernel, items): (&Kernel, f64)| Work {
        items,
        nanoseconds: of_kernel(kernel, params.clone(), 1, &|stmt, place| price(stmt, place, rates)) / items.max(1.0),
    };
    module.kernels.iter().zip(items).map(of).collect()
}

/// The work items of every kernel, with so many value tiles where the module takes any.
pub fn items(module: &Module, size_of: &dyn Fn(&str) -> usize, chunk: usize, tiles: usize) -> Vec<f64> {
    let place = Place { params: params(module, size_of, (chunk, tiles)), vars: Vec::new() };
    let of = |kernel: &Kernel| kernel.grid.iter().map(|axis| place.extent(&axis.extent)).product();
    module.kernels.iter().map(of).collect()
}

/// Elements that kernels hand on to each other, with so many value tiles where the module takes any.
pub fn handed_on(module: &Module, size_of: &dyn Fn(&str) -> usize, chunk: usize, tiles: usize) -> f64 {
    let place = Place { params: params(module, size_of, (chunk, tiles)), vars: Vec::new() };
    let shared = module.buffers.iter().filter(|buffer| buffer.role == BufferRole::Shared);
    shared.map(|buffer| place.extent(&buffer.size)).sum()
}

/// Tiles of one length that an axis is cut into where so many are wanted: the most that divide it.
pub fn tiles(size: i64, wanted: i64) -> i64 {
    (1..=wanted.clamp(1, size.max(1))).rev().find(|n| size % n == 0).unwrap_or(1)
}

fn params(module: &Module, size_of: &dyn Fn(&str) -> usize, (chunk, wanted): (usize, usize)) -> Vec<i64> {
    let value = |param: &Param| match &param.role {
        ParamRole::Size(axis) => size_of(axis) as i64,
        ParamRole::Tile(axis) => size_of(axis) as i64 / tiles(size_of(axis) as i64, wanted as i64),
        ParamRole::Chunk => chunk as i64,
        ParamRole::Grid => 0,
    };
    module.params.iter().map(value).collect()
}

fn price(stmt: &Stmt, place: &Place, rates: &Rates) -> f64 {
    let work = operations(stmt, place);
    let exponential = |value: &Value, elements: f64| elements * exponentials(value) * rates.exponential;
    rates.statement
        + match stmt {
            Stmt::Map(map) => {
                let elements = place.elements(map);
                let inner = map.axes.last().map_or(1.0, |axis| place.extent(axis).max(1.0));
                let rows = elements / inner;
                elements * (rates.element + strided(map, place) * rates.strided)
                    + rows * rates.row
                    + work * rates.operation
                    + exponential(&map.value, elements)
                    + rates.sweep(4.0 * elements, 4.0 * elements)
            }
            Stmt::Reduce(reduce) => {
                let results = place.product(&reduce.axes);
                let elements = results * place.extent(&reduce.inner);
                results * rates.reduced + work * rates.operation + exponential(&reduce.value, elements)
            }
            Stmt::Product(product) => {
                let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| place.extent(x));
                // Fewer columns than a vector has cost as much as a vector.
                let columns = n.max(rates.vector);
                let wasted = if n > 0.0 { columns / n } else { 0.0 };
                work * wasted * rates.product
                    + m * columns * rates.result
                    + k * columns * rates.right
                    + rates.sweep(4.0 * k * n, 4.0 * k * n)
            }
            Stmt::Scan(scan) => {
                let (rows, inner) = (place.product(&scan.axes), place.extent(&scan.inner));
                let elements = if scan.from == ScanFrom::First { rows * inner } else { triangle(inner, rows, false) };
                // A step of the scan is a map of its own.
                inner * (rates.statement + rates.row)
                    + elements * rates.element
                    + work * rates.operation
                    + exponential(&scan.value, elements)
            }
            Stmt::Solve(solve) => {
                let rows = place.extent(&solve.n) * solve.x.len() as f64;
                work * rates.solve + rows * rates.solve_row
            }
            Stmt::Sweep(sweep) => {
                let (rows, columns) = (place.extent(&sweep.rows), place.extent(&sweep.columns));
                let elements = rows * columns;
                let apart = sweep.state.strides.first().map_or(columns, |stride| place.extent(stride).max(columns));
                work * rates.swept_operation + elements * rates.swept + rates.sweep(4.0 * elements, 4.0 * rows * apart)
            }
            Stmt::For { .. } | Stmt::If { .. } => -rates.statement,
        }
}

/// How many of a map's accesses stride through memory along its last axis.
fn strided(map: &Map, place: &Place) -> f64 {
    let long = map.axes.last().is_some_and(|axis| place.extent(axis) > 1.0);
    let strides = |access: &super::Access| access.strides.last().is_some_and(|stride| place.eval(stride).abs() > 1);
    let mut count = f64::from(u8::from(strides(&map.dst)));
    accesses(&map.value, &mut |access| count += f64::from(u8::from(strides(access))));
    if long { count } else { 0.0 }
}

fn exponentials(value: &Value) -> f64 {
    match value {
        Value::Call(function, args) => {
            f64::from(super::scalar::exps(*function) as u32) + args.iter().map(exponentials).sum::<f64>()
        }
        Value::Select(cond, then, otherwise) => exponentials(cond) + exponentials(then) + exponentials(otherwise),
        _ => 0.0,
    }
}

type Price<'p> = &'p dyn Fn(&Stmt, &Place) -> f64;

/// What integers stand for at one place of a kernel.
struct Place {
    params: Vec<i64>,
    vars: Vec<i64>,
}

impl Place {
    fn eval(&self, int: &Int) -> i64 {
        let param = |id: ParamId| self.params.get(id.index()).copied().unwrap_or(0);
        let var = |id: VarId| self.vars.get(id.index()).copied().unwrap_or(0);
        int.eval(&param, &var)
    }

    fn extent(&self, int: &Int) -> f64 {
        self.eval(int).max(0) as f64
    }

    /// The elements that a map computes.
    fn elements(&self, map: &Map) -> f64 {
        let (Some(diagonal), [outer @ .., rows, columns]) = (&map.below, &map.axes[..]) else {
            return self.product(&map.axes);
        };
        let [rows, columns, diagonal] = [rows, columns, diagonal].map(|x| self.eval(x));
        let row = |i: i64| (i + diagonal + 1).clamp(0, columns.max(0)) as f64;
        self.product(outer) * (0..rows).map(row).sum::<f64>()
    }

    fn product(&self, ints: &[Int]) -> f64 {
        ints.iter().map(|int| self.extent(int)).product()
    }
}

fn of_kernel(kernel: &Kernel, params: Vec<i64>, most: i64, price: Price) -> f64 {
    let mut place = Place { params, vars: Vec::new() };
    let extents: Vec<i64> = kernel.grid.iter().map(|axis| place.eval(&axis.extent).max(0)).collect();
    let points: i64 = extents.iter().product();
    let taken = points.min(most);
    let mut total = 0.0;
    for n in 0..taken {
        let mut rest = n * points / taken;
        for (axis, extent) in kernel.grid.iter().zip(&extents).rev() {
            place.params[axis.param.index()] = rest % extent;
            rest /= extent;
        }
        total += of_body(&kernel.body, &mut place, price);
    }
    if taken == 0 { 0.0 } else { total * points as f64 / taken as f64 }
}

fn of_body(body: &[Stmt], place: &mut Place, price: Price) -> f64 {
    body.iter().map(|stmt| of_stmt(stmt, place, price)).sum()
}

fn of_stmt(stmt: &Stmt, place: &mut Place, price: Price) -> f64 {
    match stmt {
        Stmt::For { var, from, to, step, body } => {
            let (mut at, to, step) = (place.eval(from), place.eval(to), place.eval(step).max(1));
            if place.vars.len() <= var.index() {
                place.vars.resize(var.index() + 1, 0);
            }
            let mut total = 0.0;
            while at < to {
                place.vars[var.index()] = at;
                total += of_body(body, place, price);
                at += step;
            }
            total
        }
        Stmt::If { left, right, then, otherwise } => {
            let taken = if place.eval(left) < place.eval(right) { then } else { otherwise };
            of_body(taken, place, price)
        }
        _ => price(stmt, place),
    }
}

/// A statement's useful operations.
fn operations(stmt: &Stmt, place: &Place) -> f64 {
    match stmt {
        Stmt::For { .. } | Stmt::If { .. } => 0.0,
        Stmt::Map(map) => place.elements(map) * of_value(&map.value),
        Stmt::Scan(scan) => {
            let (rows, inner) = (place.product(&scan.axes), place.extent(&scan.inner));
            let elements = if scan.from == ScanFrom::First { rows * inner } else { triangle(inner, rows, true) };
            elements * (of_value(&scan.value) + 1.0)
        }
        Stmt::Reduce(reduce) => place.product(&reduce.axes) * place.extent(&reduce.inner) * of_term(reduce),
        Stmt::Product(product) => {
            let (m, n, k) = (place.extent(&product.m), place.extent(&product.n), place.extent(&product.k));
            2.0 * match product.shape {
                Triangle::Full => m * n * k,
                Triangle::LowerLeft { strict } => triangle(m, k, strict) * n,
                Triangle::LowerOut => triangle(m, n, false) * k,
            }
        }
        Stmt::Solve(solve) => {
            let n = place.extent(&solve.n);
            2.0 * solve.p.len() as f64 * triangle(n, n, true) * place.extent(&solve.columns)
        }
        Stmt::Sweep(sweep) => {
            let kept = |keep: &Keep| if keep.lost.is_none() { 1 } else { 3 };
            let update = |x: &Rankwise| x.keep.as_ref().map_or(0, kept) + 2 * x.ranks.len();
            let each = sweep.update.as_ref().map_or(0, update) + 2 * sweep.reads.len();
            place.extent(&sweep.rows) * place.extent(&sweep.columns) * each as f64
        }
    }
}

/// Elements (row, column) with column <= row, or < if strict.
fn triangle(rows: f64, columns: f64, strict: bool) -> f64 {
    let inside = |rows: f64| rows * (rows + 1.0) / 2.0;
    let rows = if strict { (rows - 1.0).max(0.0) } else { rows };
    if rows <= columns { inside(rows) } else { inside(columns) + (rows - columns) * columns }
}

/// Operations for each element reduced.
fn of_term(reduce: &Reduce) -> f64 {
    let combined = matches!(reduce.op, ReduceOp::Sum | ReduceOp::Product);
    of_value(&reduce.value) + f64::from(u8::from(combined))
}

fn of_value(value: &Value) -> f64 {
    match value {
        Value::Call(function, args) => {
            let arithmetic = matches!(function, Function::Add | Function::Sub | Function::Mul | Function::Div);
            f64::from(u8::from(arithmetic)) + args.iter().map(of_value).sum::<f64>()
        }
        Value::Select(_, then, otherwise) => of_value(then).max(of_value(otherwise)),
        Value::Load(_) | Value::Bounded { .. } | Value::Const(_) | Value::Int(_) | Value::Axis(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, BufferId, Outer, Sweep};
    use super::*;

    /// A strip of a state that the nearest cache does not hold misses it, however few columns it has.
    #[test]
    fn strips_of_a_sweep_are_priced_by_the_state_that_they_are_of() {
        let rates = Rates::default();
        let strip = |rows: i64, width: i64| {
            let one = |stride: i64| Access::new(BufferId(0), 0i64, [Int::from(stride)]);
            let reads = vec![Outer { row: one(1), column: one(1) }];
            let state = Access::new(BufferId(1), 0i64, [Int::from(width), Int::from(1i64)]);
            let sweep = Sweep { rows: rows.into(), columns: 32i64.into(), state, update: None, reads };
            price(&Stmt::Sweep(sweep), &Place { params: Vec::new(), vars: Vec::new() }, &rates)
        };
        let bytes = 4.0 * 128.0 * 32.0;
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a}, not {b}");
        near(strip(128, 128) - strip(128, 32), bytes * rates.second);
        near(2.0 * (strip(64, 64) - rates.statement), strip(128, 32) - rates.statement);
    }

    #[test]
    fn triangles_count_their_elements() {
        assert_eq!(triangle(3.0, 3.0, false), 6.0);
        assert_eq!(triangle(3.0, 3.0, true), 3.0);
        assert_eq!(triangle(4.0, 2.0, false), 7.0);
        assert_eq!(triangle(1.0, 1.0, true), 0.0);
    }
}

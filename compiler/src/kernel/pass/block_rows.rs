//! Statements of any number of rows -> loops over blocks of rows, so that a dispatch may end between two of them. What the
//! parallel form does with all tokens at once is of this kind; rows that are bounded stay as they are.
//!
//! ```text
//! map [i < n, ..] z[i] = f(i)       for v in 0..n step R { map [i < min(R, n - v), ..] z[v + i] = f(v + i) }
//! product lower out                 each block with the columns up to its last row
//! product lower left                each block with what lies before it, then with its own triangle
//! solve                             what is known before is taken out of a block, then the block solved
//! ```

use crate::kernel::range::Ranges;
use crate::kernel::visit::next_variable;
use crate::kernel::{Access, Function, Int, Map, Module, Position, Product, Reduce, Scan, ScanFrom, Solve, Stmt};
use crate::kernel::{Triangle, Value, VarId};

/// Rows of a block, where there may be any number of them.
pub(super) const ROWS: i64 = 128;

/// The module with its open rows in blocks of so many.
pub(super) fn blocks(module: &Module, rows: i64) -> Module {
    let mut next = next_variable(module);
    let mut kernels = module.kernels.clone();
    for kernel in &mut kernels {
        let ranges = Ranges::new(module, kernel);
        kernel.body = Blocks { ranges, rows, next: &mut next }.block(&kernel.body);
    }
    Module { kernels, ..module.clone() }
}

struct Blocks<'n> {
    ranges: Ranges,
    rows: i64,
    next: &'n mut u32,
}

/// The rows of one block: the first, and how many.
struct Block {
    first: Int,
    count: Int,
}

impl Blocks<'_> {
    fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        body.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, from, to, step, body } => {
                let [from, to, step] = [from, to, step].map(Int::clone);
                Stmt::For { var: *var, from, to, step, body: self.block(body) }
            }
            Stmt::If { left, right, then, otherwise } => {
                let (left, right) = (left.clone(), right.clone());
                Stmt::If { left, right, then: self.block(then), otherwise: self.block(otherwise) }
            }
            Stmt::Map(Map { axes, .. }) | Stmt::Reduce(Reduce { axes, .. }) => self.over(axes.first(), stmt),
            Stmt::Scan(Scan { axes, from: ScanFrom::First, .. }) => self.over(axes.first(), stmt),
            Stmt::Product(Product { m, .. }) => self.over(Some(m), stmt),
            Stmt::Solve(Solve { n, .. }) => self.over(Some(n), stmt),
            // A running reduction from the diagonal on has a start of its own in every row.
            Stmt::Scan(_) | Stmt::Sweep(_) => stmt.clone(),
        }
    }

    /// The statement over blocks of its rows, where there may be any number of them.
    fn over(&mut self, rows: Option<&Int>, stmt: &Stmt) -> Stmt {
        let Some(to) = rows.filter(|rows| self.ranges.most(rows).is_none()).cloned() else { return stmt.clone() };
        let var = VarId(*self.next);
        *self.next += 1;
        let first = Int::Var(var);
        let block = Block { count: (to.clone() - first.clone()).min(self.rows), first };
        Stmt::For { var, from: Int::Const(0), to, step: Int::Const(self.rows), body: block.of(stmt) }
    }
}

impl Block {
    fn of(&self, stmt: &Stmt) -> Vec<Stmt> {
        match stmt {
            Stmt::Map(map) => {
                let Map { axes, below, dst, value } = map;
                let rows_are_first = axes.len() == 2;
                let below =
                    below.as_ref().map(|d| if rows_are_first { d.clone() + self.first.clone() } else { d.clone() });
                vec![Stmt::Map(Map { axes: self.axes(axes), below, dst: self.from(dst), value: self.value(value) })]
            }
            Stmt::Reduce(reduce) => vec![Stmt::Reduce(Reduce {
                axes: self.axes(&reduce.axes),
                dst: self.from(&reduce.dst),
                value: self.value(&reduce.value),
                ..reduce.clone()
            })],
            Stmt::Scan(scan) => vec![Stmt::Scan(Scan {
                axes: self.axes(&scan.axes),
                dst: self.from(&scan.dst),
                value: self.value(&scan.value),
                ..scan.clone()
            })],
            Stmt::Product(product) => self.product(product),
            Stmt::Solve(solve) => self.solve(solve),
            other => vec![other.clone()],
        }
    }

    fn axes(&self, axes: &[Int]) -> Vec<Int> {
        std::iter::once(self.count.clone()).chain(axes.iter().skip(1).cloned()).collect()
    }

    /// An access from the block's first row on.
    fn from(&self, access: &Access) -> Access {
        self.along(access, &[0])
    }

    /// An access from the block's first place on along some axes.
    fn along(&self, access: &Access, axes: &[usize]) -> Access {
        let shift = |offset: Int, axis: &usize| offset + access.strides[*axis].clone() * self.first.clone();
        Access { offset: axes.iter().fold(access.offset.clone(), shift), ..access.clone() }
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::Load(access) => Value::Load(self.from(access)),
            Value::Bounded { access, position: Position { base, strides }, length } => Value::Bounded {
                access: self.from(access),
                position: Position {
                    base: base.clone() + strides[0].clone() * self.first.clone(),
                    strides: strides.clone(),
                },
                length: length.clone(),
            },
            Value::Axis(0) => Value::Call(Function::Add, vec![Value::Int(self.first.clone()), Value::Axis(0)]),
            Value::Const(_) | Value::Int(_) | Value::Axis(_) => value.clone(),
            Value::Call(function, args) => Value::Call(*function, args.iter().map(|x| self.value(x)).collect()),
            Value::Select(cond, then, otherwise) => {
                let [cond, then, otherwise] = [cond, then, otherwise].map(|x| Box::new(self.value(x)));
                Value::Select(cond, then, otherwise)
            }
        }
    }

    fn product(&self, product: &Product) -> Vec<Stmt> {
        let rows = Product {
            m: self.count.clone(),
            dst: self.from(&product.dst),
            a: self.from(&product.a),
            ..product.clone()
        };
        match product.shape {
            Triangle::Full => vec![Stmt::Product(rows)],
            Triangle::LowerOut => {
                let n = (self.first.clone() + self.count.clone()).min(product.n.clone());
                vec![Stmt::Product(Product { n, shape: Triangle::Full, ..rows })]
            }
            Triangle::LowerLeft { .. } => {
                let before = self.first.clone().min(product.k.clone());
                let k = (product.k.clone() - self.first.clone()).max(0i64).min(self.count.clone());
                let (a, b) = (self.along(&product.a, &[0, 1]), self.from(&product.b));
                let own = Product { k, a, b, accumulate: true, ..rows.clone() };
                [Product { k: before, shape: Triangle::Full, ..rows }, own].map(Stmt::Product).into()
            }
        }
    }

    fn solve(&self, solve: &Solve) -> Vec<Stmt> {
        let Solve { columns, p, x, .. } = solve;
        let mut done = Vec::new();
        for (row, dst) in p.chunks(x.len().max(1)).zip(x) {
            for (a, b) in row.iter().zip(x) {
                let (m, n, k) = (self.count.clone(), columns.clone(), self.first.clone());
                let (dst, a, b, shape) = (self.from(dst), self.from(a), b.clone(), Triangle::Full);
                done.push(Stmt::Product(Product { m, n, k, dst, a, b, accumulate: true, shape }));
            }
        }
        let p = p.iter().map(|p| self.along(p, &[0, 1])).collect();
        let x = x.iter().map(|x| self.from(x)).collect();
        done.push(Stmt::Solve(Solve { n: self.count.clone(), columns: columns.clone(), p, x }));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        Buffer, BufferId, BufferRole, Elem, Kernel, Param, ParamId, ParamRole, ReduceOp, check, interp,
    };

    const ROWS: i64 = 7;

    fn at(buffer: u32, offset: i64) -> Access {
        Access::new(BufferId(buffer), offset, [ROWS, 1].map(Int::from))
    }

    /// Two buffers of four matrices after a statement, of whose rows any number is possible.
    fn run(stmt: Stmt, blocked: bool) -> Vec<Vec<f64>> {
        let buffer =
            |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: (4 * ROWS * ROWS).into() };
        let kernels = vec![Kernel { name: "only".into(), grid: Vec::new(), body: vec![stmt] }];
        let params = vec![Param { name: "T".into(), role: ParamRole::Size("T".into()) }];
        let buffers = vec![buffer("x", BufferRole::Input), buffer("z", BufferRole::Output)];
        let module = Module { name: "m".into(), params, buffers, kernels };
        let module = if blocked { blocks(&module, 3) } else { module };
        check(module.clone()).unwrap();
        assert_eq!(blocked, matches!(module.kernels[0].body[0], Stmt::For { .. }));
        let fill =
            |seed: usize| (0..4 * ROWS as usize * ROWS as usize).map(|n| ((n * 7 + seed) % 11) as f64 / 20.0).collect();
        let mut buffers: Vec<Vec<f64>> = vec![fill(1), fill(5)];
        interp::run(&module, &[ROWS], &mut buffers).unwrap();
        buffers
    }

    fn agrees(stmt: Stmt, compared: &dyn Fn(usize) -> bool) {
        let [whole, parts] = [false, true].map(|blocked| run(stmt.clone(), blocked));
        for (n, (a, b)) in whole.iter().flatten().zip(parts.iter().flatten()).enumerate() {
            assert!(!compared(n) || (a - b).abs() < 1e-12, "{stmt:?}: {a} and {b} at {n}");
        }
    }

    fn open() -> Int {
        Int::Param(ParamId(0))
    }

    #[test]
    fn maps_reductions_and_scans_are_the_same_in_blocks() {
        let position = Position { base: Int::Const(-2), strides: vec![1i64.into(), 0i64.into()] };
        let bounded = Value::Bounded { access: at(0, -14), position, length: open() };
        let value = Value::Call(Function::Add, vec![Value::Axis(0), bounded]);
        for below in [None, Some(Int::Const(-1))] {
            let (axes, dst, value) = (vec![open(), open()], at(1, 0), value.clone());
            agrees(Stmt::Map(Map { axes, below, dst, value }), &|_| true);
        }
        let (axes, inner, op, value) = (vec![open()], Int::Const(ROWS), ReduceOp::Sum, Value::Load(at(0, 0)));
        let dst = Access::new(BufferId(1), 0i64, [Int::Const(1)]);
        agrees(
            Stmt::Reduce(Reduce { axes: axes.clone(), inner: inner.clone(), op, dst, value: value.clone() }),
            &|_| true,
        );
        agrees(Stmt::Scan(Scan { axes, inner, op, from: ScanFrom::First, dst: at(1, 0), value }), &|_| true);
    }

    #[test]
    fn products_are_the_same_in_blocks() {
        let matrix = (ROWS * ROWS) as usize;
        let within = |n: usize| n < 4 * matrix || (n - 4 * matrix) % ROWS as usize <= (n - 4 * matrix) / ROWS as usize;
        for accumulate in [false, true] {
            for strict in [false, true] {
                let product = |shape| {
                    let (dst, a, b) = (at(1, 0), at(0, 0), at(0, ROWS * ROWS));
                    Stmt::Product(Product { m: open(), n: open(), k: open(), dst, a, b, accumulate, shape })
                };
                agrees(product(Triangle::Full), &|_| true);
                agrees(product(Triangle::LowerLeft { strict }), &|_| true);
                agrees(product(Triangle::LowerOut), &within);
            }
        }
    }

    #[test]
    fn solves_are_the_same_in_blocks() {
        let tiles = |buffer, n: i64| (0..n).map(|i| at(buffer, i * ROWS * ROWS)).collect::<Vec<_>>();
        for r in [1, 2] {
            let (p, x) = (tiles(0, r * r), tiles(1, r));
            agrees(Stmt::Solve(Solve { n: open(), columns: Int::Const(ROWS), p, x }), &|_| true);
        }
    }
}

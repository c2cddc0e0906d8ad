//! Walking statements: what a statement reads and writes, and statements rebuilt with other integers and buffers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{
    Access, BufferId, Element, Int, Keep, Map, Module, Outer, ParamId, Position, Product, Rankwise, Reduce, Scan,
    Solve, Stmt, Sweep, Value, VarId,
};

/// The buffers that a statement touches, whole, whatever the extents of its loops.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    pub reads: BTreeSet<BufferId>,
    pub writes: BTreeSet<BufferId>,
    pub params: BTreeSet<ParamId>,
    pub vars: BTreeSet<VarId>,
    /// The params that its work grows with: those of extents and loop bounds.
    pub extents: BTreeSet<ParamId>,
}

impl Effects {
    pub fn of(stmt: &Stmt) -> Self {
        let mut effects = Effects::default();
        effects.stmt(stmt);
        effects
    }

    pub fn touches(&self) -> impl Iterator<Item = BufferId> + '_ {
        self.reads.union(&self.writes).copied()
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::For { from, to, step, body, .. } => {
                self.extents([from, to, step]);
                body.iter().for_each(|stmt| self.stmt(stmt));
            }
            Stmt::If { left, right, then, otherwise } => {
                self.ints([left, right]);
                then.iter().chain(otherwise).for_each(|stmt| self.stmt(stmt));
            }
            Stmt::Map(map) => {
                self.extents(map.axes.iter().chain(&map.below));
                self.write(&map.dst);
                self.value(&map.value);
            }
            Stmt::Reduce(reduce) => {
                self.extents(reduce.axes.iter().chain([&reduce.inner]));
                self.write(&reduce.dst);
                self.value(&reduce.value);
            }
            Stmt::Scan(scan) => {
                self.extents(scan.axes.iter().chain([&scan.inner]));
                self.write(&scan.dst);
                self.value(&scan.value);
            }
            Stmt::Product(product) => {
                self.extents([&product.m, &product.n, &product.k]);
                self.write(&product.dst);
                self.read(&product.a);
                self.read(&product.b);
                if product.accumulate {
                    self.read(&product.dst);
                }
            }
            Stmt::Solve(solve) => {
                self.extents([&solve.n, &solve.columns]);
                solve.p.iter().chain(&solve.x).for_each(|access| self.read(access));
                solve.x.iter().for_each(|access| self.write(access));
            }
            Stmt::Sweep(sweep) => self.sweep(sweep),
        }
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.extents([&sweep.rows, &sweep.columns]);
        self.read(&sweep.state);
        if let Some(update) = &sweep.update {
            self.read(&update.from);
            update.keep.iter().flat_map(Keep::factors).for_each(|factor| self.read(factor));
            update.ranks.iter().flat_map(|rank| [&rank.row, &rank.column]).for_each(|access| self.read(access));
            self.write(&sweep.state);
        }
        for read in &sweep.reads {
            self.read(&read.row);
            self.write(&read.column);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Load(access) => self.read(access),
            Value::Bounded { access, position, length } => {
                self.read(access);
                self.ints([&position.base, length]);
                self.ints(&position.strides);
            }
            Value::Int(x) => self.int(x),
            Value::Const(_) | Value::Axis(_) => {}
            Value::Call(_, args) => args.iter().for_each(|x| self.value(x)),
            Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().for_each(|x| self.value(x)),
        }
    }

    fn read(&mut self, access: &Access) {
        self.reads.insert(access.buffer);
        self.place(access);
    }

    fn write(&mut self, access: &Access) {
        self.writes.insert(access.buffer);
        self.place(access);
    }

    fn place(&mut self, access: &Access) {
        self.int(&access.offset);
        self.ints(&access.strides);
    }

    fn extents<'i>(&mut self, all: impl IntoIterator<Item = &'i Int>) {
        let mut only = Effects::default();
        only.ints(all);
        self.extents.extend(&only.params);
        self.params.append(&mut only.params);
        self.vars.append(&mut only.vars);
    }

    fn ints<'i>(&mut self, all: impl IntoIterator<Item = &'i Int>) {
        all.into_iter().for_each(|x| self.int(x));
    }

    fn int(&mut self, x: &Int) {
        match x {
            Int::Const(_) => {}
            Int::Param(id) => self.params.extend([*id]),
            Int::Var(id) => self.vars.extend([*id]),
            Int::Load(of) => {
                self.reads.extend([of.buffer]);
                self.int(&of.at);
            }
            Int::Add(a, b) | Int::Sub(a, b) | Int::Mul(a, b) | Int::Div(a, b) | Int::Mod(a, b) => {
                self.ints([&**a, &**b])
            }
            Int::Min(a, b) | Int::Max(a, b) => self.ints([&**a, &**b]),
        }
    }
}

/// Shows every access of a value.
pub(crate) fn accesses<'v>(value: &'v Value, visit: &mut dyn FnMut(&'v Access)) {
    match value {
        Value::Load(access) | Value::Bounded { access, .. } => visit(access),
        Value::Const(_) | Value::Int(_) | Value::Axis(_) => {}
        Value::Call(_, args) => args.iter().for_each(|x| accesses(x, visit)),
        Value::Select(cond, then, otherwise) => {
            [cond, then, otherwise].into_iter().for_each(|x| accesses(x, visit));
        }
    }
}

/// One more than the highest loop variable of a module.
pub(crate) fn next_variable(module: &Module) -> u32 {
    module.kernels.iter().map(|kernel| variables(&kernel.body)).max().unwrap_or(0)
}

/// One more than the highest loop variable.
fn variables(body: &[Stmt]) -> u32 {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { var, body, .. } => variables(body).max(var.0 + 1),
        Stmt::If { then, otherwise, .. } => variables(then).max(variables(otherwise)),
        _ => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

/// Where a buffer lies in another kernel: another buffer, from an offset on.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub buffer: BufferId,
    pub offset: Int,
}

/// Statements of one kernel, rebuilt for another.
pub(crate) struct Rebuild<'v> {
    pub vars: HashMap<VarId, Int>,
    pub params: HashMap<ParamId, Int>,
    pub buffers: HashMap<BufferId, Moved>,
    /// The next loop variable of the new module.
    pub next: &'v mut u32,
}

impl Rebuild<'_> {
    pub fn fresh(&mut self) -> VarId {
        *self.next += 1;
        VarId(*self.next - 1)
    }

    pub fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        body.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    pub fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, from, to, step, body } => {
                let (from, to, step) = (self.int(from), self.int(to), self.int(step));
                let fresh = self.fresh();
                self.vars.insert(*var, Int::Var(fresh));
                Stmt::For { var: fresh, from, to, step, body: self.block(body) }
            }
            Stmt::If { left, right, then, otherwise } => Stmt::If {
                left: self.int(left),
                right: self.int(right),
                then: self.block(then),
                otherwise: self.block(otherwise),
            },
            Stmt::Map(Map { axes, below, dst, value }) => Stmt::Map(Map {
                axes: self.ints(axes),
                below: below.as_ref().map(|x| self.int(x)),
                dst: self.access(dst),
                value: self.value(value),
            }),
            Stmt::Scan(Scan { axes, inner, op, from, dst, value }) => Stmt::Scan(Scan {
                axes: self.ints(axes),
                inner: self.int(inner),
                op: *op,
                from: *from,
                dst: self.access(dst),
                value: self.value(value),
            }),
            Stmt::Reduce(Reduce { axes, inner, op, dst, value }) => Stmt::Reduce(Reduce {
                axes: self.ints(axes),
                inner: self.int(inner),
                op: *op,
                dst: self.access(dst),
                value: self.value(value),
            }),
            Stmt::Product(Product { m, n, k, dst, a, b, accumulate, shape }) => Stmt::Product(Product {
                m: self.int(m),
                n: self.int(n),
                k: self.int(k),
                dst: self.access(dst),
                a: self.access(a),
                b: self.access(b),
                accumulate: *accumulate,
                shape: *shape,
            }),
            Stmt::Solve(Solve { n, columns, p, x }) => Stmt::Solve(Solve {
                n: self.int(n),
                columns: self.int(columns),
                p: p.iter().map(|access| self.access(access)).collect(),
                x: x.iter().map(|access| self.access(access)).collect(),
            }),
            Stmt::Sweep(Sweep { rows, columns, state, update, reads }) => Stmt::Sweep(Sweep {
                rows: self.int(rows),
                columns: self.int(columns),
                state: self.access(state),
                update: update.as_ref().map(|update| Rankwise {
                    from: self.access(&update.from),
                    keep: update.keep.as_ref().map(|keep| Keep {
                        factor: self.access(&keep.factor),
                        lost: keep.lost.as_ref().map(|lost| self.access(lost)),
                    }),
                    ranks: self.outers(&update.ranks),
                }),
                reads: self.outers(reads),
            }),
        }
    }

    fn outers(&self, all: &[Outer]) -> Vec<Outer> {
        let of = |outer: &Outer| Outer { row: self.access(&outer.row), column: self.access(&outer.column) };
        all.iter().map(of).collect()
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::Load(access) => Value::Load(self.access(access)),
            Value::Bounded { access, position: Position { base, strides }, length } => Value::Bounded {
                access: self.access(access),
                position: Position { base: self.int(base), strides: self.ints(strides) },
                length: self.int(length),
            },
            Value::Int(x) => Value::Int(self.int(x)),
            Value::Const(_) | Value::Axis(_) => value.clone(),
            Value::Call(function, args) => Value::Call(*function, args.iter().map(|x| self.value(x)).collect()),
            Value::Select(cond, then, otherwise) => {
                let [cond, then, otherwise] = [cond, then, otherwise].map(|x| Box::new(self.value(x)));
                Value::Select(cond, then, otherwise)
            }
        }
    }

    fn access(&self, access: &Access) -> Access {
        let offset = self.int(&access.offset);
        let strides = self.ints(&access.strides);
        match self.buffers.get(&access.buffer) {
            Some(moved) => Access { buffer: moved.buffer, offset: moved.offset.clone() + offset, strides },
            None => Access { buffer: access.buffer, offset, strides },
        }
    }

    fn ints(&self, all: &[Int]) -> Vec<Int> {
        all.iter().map(|x| self.int(x)).collect()
    }

    pub fn int(&self, x: &Int) -> Int {
        x.replaced(&|leaf| match leaf {
            Int::Param(id) => self.params.get(id).cloned(),
            Int::Var(id) => self.vars.get(id).cloned(),
            Int::Load(of) => {
                let at = self.int(&of.at);
                Some(Int::Load(Arc::new(match self.buffers.get(&of.buffer) {
                    Some(moved) => Element { buffer: moved.buffer, at: at + moved.offset.clone() },
                    None => Element { buffer: of.buffer, at },
                })))
            }
            _ => None,
        })
    }
}

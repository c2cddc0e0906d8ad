//! Params that are compiled in become constants everywhere in a module, before anything is placed or written.

use crate::kernel::{
    Access, Buffer, GridAxis, Int, Kernel, Map, Module, Position, Product, Reduce, Scan, Solve, Stmt, Value,
};

use super::Fixed;

/// The module with every param that `fixed` knows put in as a constant. Params keep their places.
pub(super) fn specialise(module: Module, fixed: Fixed<'_>) -> Module {
    let values = module.params.iter().map(fixed).collect();
    let fold = Fold { values };
    let buffer = |b: &Buffer| Buffer { name: b.name.clone(), role: b.role, elem: b.elem, size: fold.int(&b.size) };
    let kernel = |k: &Kernel| Kernel {
        name: k.name.clone(),
        grid: k.grid.iter().map(|axis| GridAxis { param: axis.param, extent: fold.int(&axis.extent) }).collect(),
        body: fold.block(&k.body),
    };
    Module {
        name: module.name.clone(),
        params: module.params.clone(),
        buffers: module.buffers.iter().map(buffer).collect(),
        kernels: module.kernels.iter().map(kernel).collect(),
    }
}

struct Fold {
    values: Vec<Option<i64>>,
}

impl Fold {
    fn int(&self, x: &Int) -> Int {
        let of = |x: &Int| self.int(x);
        match x {
            Int::Const(_) | Int::Var(_) | Int::Load(_) => x.clone(),
            Int::Param(id) => match self.values.get(id.index()) {
                Some(Some(value)) => Int::Const(*value),
                _ => x.clone(),
            },
            Int::Add(a, b) => Int::sum(of(a), of(b)),
            Int::Sub(a, b) => Int::difference(of(a), of(b)),
            Int::Mul(a, b) => Int::product(of(a), of(b)),
            Int::Div(_, b) | Int::Mod(_, b) if of(b) == Int::Const(0) => Int::Const(0),
            Int::Div(a, b) => of(a).floor_div(of(b)),
            Int::Mod(a, b) => of(a).modulo(of(b)),
            Int::Min(a, b) => of(a).min(of(b)),
            Int::Max(a, b) => of(a).max(of(b)),
        }
    }

    fn ints(&self, all: &[Int]) -> Vec<Int> {
        all.iter().map(|x| self.int(x)).collect()
    }

    fn access(&self, access: &Access) -> Access {
        Access { buffer: access.buffer, offset: self.int(&access.offset), strides: self.ints(&access.strides) }
    }

    fn accesses(&self, all: &[Access]) -> Vec<Access> {
        all.iter().map(|access| self.access(access)).collect()
    }

    /// Of a branch on what memory holds the way that is always right: no shader branches on data.
    fn block(&self, body: &[Stmt]) -> Vec<Stmt> {
        let mut statements = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::If { left: Int::Load(_), otherwise, .. } => statements.extend(self.block(otherwise)),
                _ => statements.push(self.stmt(stmt)),
            }
        }
        statements
    }

    fn stmt(&self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, from, to, step, body } => {
                let [from, to, step] = [from, to, step].map(|x| self.int(x));
                Stmt::For { var: *var, from, to, step, body: self.block(body) }
            }
            Stmt::If { left, right, then, otherwise } => {
                let [left, right] = [left, right].map(|x| self.int(x));
                Stmt::If { left, right, then: self.block(then), otherwise: self.block(otherwise) }
            }
            Stmt::Map(x) => Stmt::Map(Map {
                axes: self.ints(&x.axes),
                below: x.below.as_ref().map(|d| self.int(d)),
                dst: self.access(&x.dst),
                value: self.value(&x.value),
            }),
            Stmt::Reduce(x) => Stmt::Reduce(Reduce {
                axes: self.ints(&x.axes),
                inner: self.int(&x.inner),
                op: x.op,
                dst: self.access(&x.dst),
                value: self.value(&x.value),
            }),
            Stmt::Scan(x) => Stmt::Scan(Scan {
                axes: self.ints(&x.axes),
                inner: self.int(&x.inner),
                op: x.op,
                from: x.from,
                dst: self.access(&x.dst),
                value: self.value(&x.value),
            }),
            Stmt::Product(x) => {
                let [m, n, k] = [&x.m, &x.n, &x.k].map(|size| self.int(size));
                let [dst, a, b] = [&x.dst, &x.a, &x.b].map(|access| self.access(access));
                Stmt::Product(Product { m, n, k, dst, a, b, accumulate: x.accumulate, shape: x.shape })
            }
            // The lists that fix params make none.
            Stmt::Sweep(x) => Stmt::Sweep(x.clone()),
            Stmt::Solve(x) => Stmt::Solve(Solve {
                n: self.int(&x.n),
                columns: self.int(&x.columns),
                p: self.accesses(&x.p),
                x: self.accesses(&x.x),
            }),
        }
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::Load(access) => Value::Load(self.access(access)),
            Value::Bounded { access, position, length } => Value::Bounded {
                access: self.access(access),
                position: Position { base: self.int(&position.base), strides: self.ints(&position.strides) },
                length: self.int(length),
            },
            Value::Const(_) | Value::Axis(_) => value.clone(),
            Value::Int(x) => match self.int(x) {
                Int::Const(n) => Value::Const(n as f64),
                x => Value::Int(x),
            },
            Value::Call(function, args) => {
                let args: Vec<Value> = args.iter().map(|x| self.value(x)).collect();
                let known: Vec<f64> = args.iter().map_while(constant).collect();
                // No expression of constants is left for a shader compiler to evaluate, and perhaps to refuse.
                if known.len() == args.len() {
                    Value::Const(function.eval(&known))
                } else {
                    Value::Call(*function, args)
                }
            }
            Value::Select(cond, then, otherwise) => {
                let [cond, then, otherwise] = [cond, then, otherwise].map(|x| self.value(x));
                match constant(&cond) {
                    Some(cond) => {
                        if cond != 0.0 {
                            then
                        } else {
                            otherwise
                        }
                    }
                    None => Value::Select(Box::new(cond), Box::new(then), Box::new(otherwise)),
                }
            }
        }
    }
}

fn constant(value: &Value) -> Option<f64> {
    match value {
        Value::Const(c) => Some(*c),
        _ => None,
    }
}

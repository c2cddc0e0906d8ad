//! A module as text. It ends with counts, so that snapshots assert the shape of a kernel too.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    Access, BufferRole, Elem, Int, Keep, Kernel, Map, Module, ParamRole, Position, Product, Reduce, ReduceOp, Scan,
    ScanFrom, Solve, Stmt, Sweep, Triangle, Value, scalar,
};

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "module {}", self.name)?;
        for param in &self.params {
            let role = match &param.role {
                ParamRole::Size(axis) => format!("size {axis}"),
                ParamRole::Chunk => "chunk".to_owned(),
                ParamRole::Tile(axis) => format!("tile of {axis}"),
                ParamRole::Grid => "grid".to_owned(),
            };
            writeln!(f, "param {}: {role}", param.name)?;
        }
        for buffer in &self.buffers {
            let role = match buffer.role {
                BufferRole::Input => "input",
                BufferRole::Output => "output",
                BufferRole::StateIn => "state in",
                BufferRole::StateOut => "state out",
                BufferRole::Shared => "shared",
                BufferRole::Scratch => "scratch",
            };
            let elem = if buffer.elem == Elem::F32 { "f32" } else { "i32" };
            writeln!(f, "buffer {}: {role} {elem}[{}]", buffer.name, int(self, &buffer.size))?;
        }
        for kernel in &self.kernels {
            self.kernel(f, kernel)?;
        }
        writeln!(f, "counts: {}", Counts::of(self))
    }
}

impl Module {
    fn kernel(&self, f: &mut Formatter<'_>, kernel: &Kernel) -> fmt::Result {
        write!(f, "kernel {}", kernel.name)?;
        for axis in &kernel.grid {
            write!(f, " {} < {}", int(self, &axis.param.into()), int(self, &axis.extent))?;
        }
        writeln!(f)?;
        self.block(f, &kernel.body, 1)
    }

    fn block(&self, f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        for stmt in body {
            f.write_str(&"  ".repeat(depth))?;
            match stmt {
                Stmt::For { var, from, to, step, body } => {
                    let [from, to, step] = [from, to, step].map(|x| int(self, x));
                    writeln!(f, "for v{} in {from}..{to} step {step}", var.0)?;
                    self.block(f, body, depth + 1)?;
                }
                Stmt::If { left, right, then, otherwise } => {
                    writeln!(f, "if {} < {}", int(self, left), int(self, right))?;
                    self.block(f, then, depth + 1)?;
                    if !otherwise.is_empty() {
                        writeln!(f, "{}else", "  ".repeat(depth))?;
                        self.block(f, otherwise, depth + 1)?;
                    }
                }
                Stmt::Map(map) => writeln!(f, "{}", self.map(map))?,
                Stmt::Reduce(reduce) => writeln!(f, "{}", self.reduce(reduce))?,
                Stmt::Scan(scan) => writeln!(f, "{}", self.scan(scan))?,
                Stmt::Product(product) => writeln!(f, "{}", self.product(product))?,
                Stmt::Solve(solve) => writeln!(f, "{}", self.solve(solve))?,
                Stmt::Sweep(sweep) => writeln!(f, "{}", self.sweep(sweep))?,
            }
        }
        Ok(())
    }

    fn axes(&self, axes: &[Int]) -> String {
        axes.iter().enumerate().fold(String::new(), |mut text, (d, n)| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{} < {}", if d == 0 { "" } else { ", " }, axis(d), int(self, n));
            text
        })
    }

    fn map(&self, map: &Map) -> String {
        let below = match (&map.below, map.axes.len()) {
            (None, _) | (_, 0 | 1) => String::new(),
            (Some(Int::Const(0)), n) => format!(", {} <= {}", axis(n - 1), axis(n - 2)),
            (Some(d), n) => format!(", {} <= {} + {}", axis(n - 1), axis(n - 2), int(self, d)),
        };
        format!("map [{}{below}] {} = {}", self.axes(&map.axes), self.access(&map.dst), self.value(&map.value))
    }

    fn reduce(&self, reduce: &Reduce) -> String {
        let op = reduce.op.name();
        let (axes, dst, inner) = (self.axes(&reduce.axes), self.access(&reduce.dst), int(self, &reduce.inner));
        let last = axis(reduce.axes.len());
        format!("reduce [{axes}] {dst} = {op}[{last} < {inner}] {}", self.value(&reduce.value))
    }

    fn scan(&self, scan: &Scan) -> String {
        let (axes, dst, inner) = (self.axes(&scan.axes), self.access(&scan.dst), int(self, &scan.inner));
        let last = axis(scan.axes.len());
        let from = match scan.from {
            ScanFrom::First => "",
            ScanFrom::Diagonal => " from the diagonal",
        };
        let comma = if axes.is_empty() { "" } else { ", " };
        format!(
            "scan [{axes}{comma}{last} < {inner}] {dst} = running {} {}{from}",
            scan.op.name(),
            self.value(&scan.value)
        )
    }

    fn product(&self, product: &Product) -> String {
        let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| int(self, x));
        let [dst, a, b] = [&product.dst, &product.a, &product.b].map(|x| self.access(x));
        let shape = match product.shape {
            Triangle::Full => "",
            Triangle::LowerLeft { strict: false } => " lower left",
            Triangle::LowerLeft { strict: true } => " strictly lower left",
            Triangle::LowerOut => " lower out",
        };
        format!("product [{m} x {n} x {k}] {dst} {} {a} * {b}{shape}", if product.accumulate { "+=" } else { "=" })
    }

    fn solve(&self, solve: &Solve) -> String {
        let list = |all: &[Access]| all.iter().map(|x| self.access(x)).collect::<Vec<_>>().join(", ");
        format!(
            "solve [{} x {}] {} by {}",
            int(self, &solve.n),
            int(self, &solve.columns),
            list(&solve.x),
            list(&solve.p)
        )
    }

    fn sweep(&self, sweep: &Sweep) -> String {
        let state = self.access(&sweep.state);
        let mut text = format!("sweep [i < {}, j < {}]", int(self, &sweep.rows), int(self, &sweep.columns));
        if let Some(update) = &sweep.update {
            let from = self.access(&update.from);
            text += &match &update.keep {
                None => format!(" {state} = {from}"),
                Some(Keep { factor, lost: None }) => format!(" {state} = {} * {from}", self.access(factor)),
                Some(Keep { factor, lost: Some(lost) }) => {
                    format!(" {state} = ({} + {}) * {from}", self.access(factor), self.access(lost))
                }
            };
            for rank in &update.ranks {
                text += &format!(" + {} * {}", self.access(&rank.row), self.along(&rank.column));
            }
            text.push(';');
        }
        for (n, read) in sweep.reads.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            text += &format!("{comma} {} = {} * {state}", self.along(&read.column), self.access(&read.row));
        }
        text
    }

    /// An access along j.
    fn along(&self, access: &Access) -> String {
        let strides = [Int::Const(0)].into_iter().chain(access.strides.iter().cloned());
        self.access(&Access { buffer: access.buffer, offset: access.offset.clone(), strides: strides.collect() })
    }

    fn access(&self, access: &Access) -> String {
        let buffer = self.buffers.get(access.buffer.index()).map_or("?", |buffer| &buffer.name);
        format!("{buffer}[{}]", self.affine(&access.offset, &access.strides))
    }

    fn affine(&self, base: &Int, strides: &[Int]) -> String {
        let mut terms = Vec::new();
        if *base != Int::Const(0) {
            terms.push(int(self, base));
        }
        for (d, stride) in strides.iter().enumerate() {
            match stride {
                Int::Const(0) => {}
                Int::Const(1) => terms.push(axis(d).to_string()),
                _ => terms.push(format!("{} {}", int(self, stride), axis(d))),
            }
        }
        if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") }
    }

    fn value(&self, value: &Value) -> String {
        match value {
            Value::Load(access) => self.access(access),
            Value::Bounded { access, position: Position { base, strides }, length } => {
                format!("{} if {} in 0..{}", self.access(access), self.affine(base, strides), int(self, length))
            }
            Value::Const(c) => format!("{c}"),
            Value::Int(x) => format!("int({})", int(self, x)),
            Value::Axis(d) => axis(*d).to_string(),
            Value::Call(function, args) => {
                let args: Vec<String> = args.iter().map(|x| self.value(x)).collect();
                format!("({} {})", function.name(), args.join(" "))
            }
            Value::Select(cond, then, otherwise) => {
                format!("(if {} then {} else {})", self.value(cond), self.value(then), self.value(otherwise))
            }
        }
    }
}

impl ReduceOp {
    fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Max => "max",
            ReduceOp::Most => "most",
            ReduceOp::Min => "min",
            ReduceOp::Product => "prod",
        }
    }
}

fn axis(d: usize) -> char {
    ['i', 'j', 'l', 'r'].get(d).copied().unwrap_or('?')
}

fn int(module: &Module, x: &Int) -> String {
    let two = |a: &Int, op: &str, b: &Int| format!("({} {op} {})", int(module, a), int(module, b));
    match x {
        Int::Const(n) => n.to_string(),
        Int::Param(id) => module.params.get(id.index()).map_or_else(|| "?".to_owned(), |param| param.name.clone()),
        Int::Var(id) => format!("v{}", id.0),
        Int::Load(of) => format!("{}[{}]", module.buffers[of.buffer.index()].name, int(module, &of.at)),
        Int::Add(a, b) => two(a, "+", b),
        Int::Sub(a, b) => two(a, "-", b),
        Int::Mul(a, b) => two(a, "*", b),
        Int::Div(a, b) => two(a, "div", b),
        Int::Mod(a, b) => two(a, "mod", b),
        Int::Min(a, b) => two(a, "min", b),
        Int::Max(a, b) => two(a, "max", b),
    }
}

/// How often each kind of thing stands in a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub loops: usize,
    pub products: usize,
    pub solves: usize,
    pub maps: usize,
    pub reduces: usize,
    pub scans: usize,
    pub loads: usize,
    pub exps: usize,
}

impl Counts {
    pub fn of(module: &Module) -> Self {
        let mut counts = Self::default();
        module.kernels.iter().for_each(|kernel| counts.block(&kernel.body));
        counts
    }

    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => {
                    self.loops += 1;
                    self.block(body);
                }
                Stmt::If { then, otherwise, .. } => {
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::Map(map) => {
                    self.maps += 1;
                    self.value(&map.value);
                }
                Stmt::Reduce(reduce) => {
                    self.reduces += 1;
                    self.value(&reduce.value);
                }
                Stmt::Scan(scan) => {
                    self.scans += 1;
                    self.value(&scan.value);
                }
                Stmt::Product(_) => self.products += 1,
                Stmt::Solve(_) => self.solves += 1,
                // Modules are counted as they are lowered, and no lowering makes one.
                Stmt::Sweep(_) => {}
            }
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Load(_) | Value::Bounded { .. } => self.loads += 1,
            Value::Const(_) | Value::Int(_) | Value::Axis(_) => {}
            Value::Call(function, args) => {
                self.exps += scalar::exps(*function);
                args.iter().for_each(|x| self.value(x));
            }
            Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().for_each(|x| self.value(x)),
        }
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { loops, products, solves, maps, reduces, scans, loads, exps } = self;
        write!(
            f,
            "{loops} loops, {products} products, {solves} solves, {maps} maps, {reduces} reduces, {scans} scans, {loads} loads, {exps} exps"
        )
    }
}

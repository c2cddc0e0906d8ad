//! The meaning of the kernel IR: a module run in f64 over f64 buffers, every access checked. A second oracle beside the
//! reference interpreter of programs.
//!
//! What a kernel may not rely on is NaN here: scratch at the start of a work item, and what stands above the diagonal
//! after a product that only needs the lower triangle. Both branches of a select are evaluated, so what they load must
//! lie inside its buffer whichever is taken. Not here: f32, speed, threads.

use std::fmt;

use super::{
    Access, BufferId, BufferRole, Int, Kernel, Map, Module, Position, Product, Reduce, ReduceOp, Scan, ScanFrom, Solve,
    Stmt, Sweep, Triangle, Value, VarId,
};

/// Why a module cannot run to its end: a statement that reaches outside a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kernel: String,
    /// Where the statement stands: places in the lists of statements, outermost first, and its kind.
    pub statement: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}`, statement {}: {}", self.kernel, self.statement, self.message)
    }
}

impl std::error::Error for Fault {}

/// Runs every kernel of a checked module over `buffers`, one vector a buffer of the module, each as long as its size
/// says. `params` gives every param of the module; those of role `Grid` are ignored.
///
/// # Errors
/// The first statement that reaches outside a buffer.
pub fn run(module: &Module, params: &[i64], buffers: &mut [Vec<f64>]) -> Result<(), Fault> {
    let vars = module.kernels.iter().map(|k| last_var(&k.body)).max().unwrap_or(0);
    let mut machine = Machine { module, params: params.to_vec(), vars: vec![0; vars], buffers, path: Vec::new() };
    machine.poison(BufferRole::Shared);
    for kernel in &module.kernels {
        machine.kernel(kernel)?;
    }
    Ok(())
}

fn last_var(body: &[Stmt]) -> usize {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { var, body, .. } => last_var(body).max(var.index() + 1),
        Stmt::If { then, otherwise, .. } => last_var(then).max(last_var(otherwise)),
        _ => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

struct Machine<'m, 'b> {
    module: &'m Module,
    params: Vec<i64>,
    vars: Vec<i64>,
    buffers: &'b mut [Vec<f64>],
    path: Vec<String>,
}

/// An access whose integers are known.
struct Place {
    buffer: BufferId,
    offset: i64,
    strides: Vec<i64>,
}

impl Place {
    fn at(&self, point: &[i64]) -> i64 {
        self.offset + self.strides.iter().zip(point).map(|(s, i)| s * i).sum::<i64>()
    }
}

/// A value whose integers are known.
enum Node {
    Load(Place),
    Bounded(Place, i64, Vec<i64>, i64),
    Const(f64),
    Axis(usize),
    Call(super::Function, Vec<Node>),
    Select(Box<[Node; 3]>),
}

impl Machine<'_, '_> {
    fn poison(&mut self, role: BufferRole) {
        for (buffer, data) in self.module.buffers.iter().zip(self.buffers.iter_mut()) {
            if buffer.role == role {
                data.fill(f64::NAN);
            }
        }
    }

    fn kernel(&mut self, kernel: &Kernel) -> Result<(), Fault> {
        let extents: Vec<i64> = kernel.grid.iter().map(|axis| self.int(&axis.extent)).collect();
        each(&extents, &mut |point| {
            for (axis, i) in kernel.grid.iter().zip(point) {
                self.params[axis.param.index()] = *i;
            }
            self.poison(BufferRole::Scratch);
            self.block(&kernel.body).map_err(|message| Fault {
                kernel: kernel.name.clone(),
                statement: self.path.join("."),
                message,
            })
        })
    }

    fn int(&self, x: &Int) -> i64 {
        if let Int::Load(of) = x {
            let at = usize::try_from(self.int(&of.at)).ok();
            return at.and_then(|at| self.buffers[of.buffer.index()].get(at)).map_or(0, |number| *number as i64);
        }
        x.eval(&|p| self.params[p.index()], &|v: VarId| self.vars[v.index()])
    }

    fn block(&mut self, body: &[Stmt]) -> Result<(), String> {
        for (i, stmt) in body.iter().enumerate() {
            self.path.push(format!("{i}:{}", kind(stmt)));
            self.stmt(stmt)?;
            self.path.pop();
        }
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), String> {
        match stmt {
            Stmt::For { var, from, to, step, body } => {
                let (mut i, to, step) = (self.int(from), self.int(to), self.int(step));
                if step <= 0 {
                    return Err(format!("a loop with step {step}"));
                }
                while i < to {
                    self.vars[var.index()] = i;
                    self.block(body)?;
                    i += step;
                }
                Ok(())
            }
            Stmt::If { left, right, then, otherwise } => {
                self.block(if self.int(left) < self.int(right) { then } else { otherwise })
            }
            Stmt::Map(map) => self.map(map),
            Stmt::Reduce(reduce) => self.reduce(reduce),
            Stmt::Scan(scan) => self.scan(scan),
            Stmt::Product(product) => self.product(product),
            Stmt::Solve(solve) => self.solve(solve),
            Stmt::Sweep(sweep) => self.sweep(sweep),
        }
    }

    fn map(&mut self, map: &Map) -> Result<(), String> {
        let extents: Vec<i64> = map.axes.iter().map(|x| self.int(x)).collect();
        let (dst, value) = (self.place(&map.dst), self.node(&map.value));
        let diagonal = map.below.as_ref().map(|x| self.int(x));
        each(&extents, &mut |point| {
            if let (Some(diagonal), [.., i, j]) = (diagonal, point)
                && *j > i + diagonal
            {
                return Ok(());
            }
            let x = self.value(&value, point)?;
            self.store(&dst, point, x)
        })
    }

    fn reduce(&mut self, reduce: &Reduce) -> Result<(), String> {
        let extents: Vec<i64> = reduce.axes.iter().map(|x| self.int(x)).collect();
        let (dst, value, inner) = (self.place(&reduce.dst), self.node(&reduce.value), self.int(&reduce.inner));
        each(&extents, &mut |point| {
            let mut whole = point.to_vec();
            whole.push(0);
            let mut sum = reduce.op.empty();
            for r in 0..inner {
                whole[point.len()] = r;
                sum = reduce.op.join(sum, self.value(&value, &whole)?);
            }
            self.store(&dst, point, sum)
        })
    }

    fn scan(&mut self, scan: &Scan) -> Result<(), String> {
        let extents: Vec<i64> = scan.axes.iter().map(|x| self.int(x)).collect();
        let (dst, value, inner) = (self.place(&scan.dst), self.node(&scan.value), self.int(&scan.inner));
        each(&extents, &mut |point| {
            let mut whole = point.to_vec();
            whole.push(0);
            let mut sum = scan.op.empty();
            let first = match scan.from {
                ScanFrom::First => 0,
                ScanFrom::Diagonal => {
                    whole[point.len()] = point[0];
                    if point[0] < inner {
                        self.store(&dst, &whole, sum)?;
                    }
                    point[0] + 1
                }
            };
            for r in first..inner {
                whole[point.len()] = r;
                sum = scan.op.join(sum, self.value(&value, &whole)?);
                self.store(&dst, &whole, sum)?;
            }
            Ok(())
        })
    }

    fn product(&mut self, product: &Product) -> Result<(), String> {
        let [m, n, k] = [&product.m, &product.n, &product.k].map(|x| self.int(x));
        let [dst, a, b] = [&product.dst, &product.a, &product.b].map(|x| self.place(x));
        each(&[m, n], &mut |point| {
            let (i, j) = (point[0], point[1]);
            if product.shape == Triangle::LowerOut && j > i {
                self.load(&dst, point)?;
                return self.store(&dst, point, f64::NAN);
            }
            let to = match product.shape {
                Triangle::LowerLeft { strict } => k.min(i + i64::from(!strict)),
                Triangle::Full | Triangle::LowerOut => k,
            };
            let mut sum = if product.accumulate { self.load(&dst, point)? } else { 0.0 };
            for s in 0..to {
                sum += self.load(&a, &[i, s])? * self.load(&b, &[s, j])?;
            }
            self.store(&dst, point, sum)
        })
    }

    fn solve(&mut self, solve: &Solve) -> Result<(), String> {
        let (n, columns) = (self.int(&solve.n), self.int(&solve.columns));
        let p: Vec<Place> = solve.p.iter().map(|x| self.place(x)).collect();
        let x: Vec<Place> = solve.x.iter().map(|x| self.place(x)).collect();
        each(&[n, x.len() as i64, columns], &mut |point| {
            let (t, i, c) = (point[0], point[1] as usize, point[2]);
            let mut sum = self.load(&x[i], &[t, c])?;
            for (j, other) in x.iter().enumerate() {
                for s in 0..t {
                    sum += self.load(&p[i * x.len() + j], &[t, s])? * self.load(other, &[s, c])?;
                }
            }
            self.store(&x[i], &[t, c], sum)
        })
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<(), String> {
        let (rows, columns, state) = (self.int(&sweep.rows), self.int(&sweep.columns), self.place(&sweep.state));
        if let Some(update) = &sweep.update {
            let from = self.place(&update.from);
            let keep =
                update.keep.as_ref().map(|keep| (self.place(&keep.factor), keep.lost.as_ref().map(|x| self.place(x))));
            let pair = |outer: &super::Outer| (self.place(&outer.row), self.place(&outer.column));
            let ranks: Vec<(Place, Place)> = update.ranks.iter().map(pair).collect();
            each(&[rows, columns], &mut |point| {
                let (i, j) = (&point[..1], &point[1..]);
                let before = self.load(&from, point)?;
                let mut x = match &keep {
                    Some((_, Some(lost))) => self.load(lost, i)? * before,
                    Some((_, None)) => 0.0,
                    None => before,
                };
                for (w, u) in &ranks {
                    x += self.load(w, i)? * self.load(u, j)?;
                }
                if let Some((factor, _)) = &keep {
                    x += self.load(factor, i)? * before;
                }
                self.store(&state, point, x)
            })?;
        }
        for read in &sweep.reads {
            let (x, y) = (self.place(&read.row), self.place(&read.column));
            each(&[columns], &mut |point| {
                let mut sum = 0.0;
                for i in 0..rows {
                    sum += self.load(&x, &[i])? * self.load(&state, &[i, point[0]])?;
                }
                self.store(&y, point, sum)
            })?;
        }
        Ok(())
    }

    fn place(&self, access: &Access) -> Place {
        Place {
            buffer: access.buffer,
            offset: self.int(&access.offset),
            strides: access.strides.iter().map(|x| self.int(x)).collect(),
        }
    }

    fn node(&self, value: &Value) -> Node {
        match value {
            Value::Load(access) => Node::Load(self.place(access)),
            Value::Bounded { access, position: Position { base, strides }, length } => Node::Bounded(
                self.place(access),
                self.int(base),
                strides.iter().map(|x| self.int(x)).collect(),
                self.int(length),
            ),
            Value::Const(c) => Node::Const(*c),
            Value::Int(x) => Node::Const(self.int(x) as f64),
            Value::Axis(d) => Node::Axis(*d),
            Value::Call(function, args) => Node::Call(*function, args.iter().map(|x| self.node(x)).collect()),
            Value::Select(cond, then, otherwise) => {
                Node::Select(Box::new([self.node(cond), self.node(then), self.node(otherwise)]))
            }
        }
    }

    fn value(&self, node: &Node, point: &[i64]) -> Result<f64, String> {
        Ok(match node {
            Node::Load(place) => self.load(place, point)?,
            Node::Bounded(place, base, strides, length) => {
                let position = base + strides.iter().zip(point).map(|(s, i)| s * i).sum::<i64>();
                if (0..*length).contains(&position) { self.load(place, point)? } else { 0.0 }
            }
            Node::Const(c) => *c,
            Node::Axis(d) => point[*d] as f64,
            Node::Call(function, args) => {
                let mut values = [0.0; 3];
                for (slot, arg) in values.iter_mut().zip(args) {
                    *slot = self.value(arg, point)?;
                }
                function.eval(&values[..args.len().min(3)])
            }
            Node::Select(parts) => {
                let [cond, then, otherwise] = &**parts;
                let (cond, then, otherwise) =
                    (self.value(cond, point)?, self.value(then, point)?, self.value(otherwise, point)?);
                if cond != 0.0 { then } else { otherwise }
            }
        })
    }

    fn load(&self, place: &Place, point: &[i64]) -> Result<f64, String> {
        let at = place.at(point);
        let data = &self.buffers[place.buffer.index()];
        usize::try_from(at).ok().and_then(|at| data.get(at)).copied().ok_or_else(|| self.outside("reads", place, at))
    }

    fn store(&mut self, place: &Place, point: &[i64], x: f64) -> Result<(), String> {
        let at = place.at(point);
        match usize::try_from(at).ok().and_then(|at| self.buffers[place.buffer.index()].get_mut(at)) {
            Some(slot) => *slot = x,
            None => return Err(self.outside("writes", place, at)),
        }
        Ok(())
    }

    fn outside(&self, verb: &str, place: &Place, at: i64) -> String {
        let (buffer, data) = (&self.module.buffers[place.buffer.index()], &self.buffers[place.buffer.index()]);
        format!("{verb} element {at} of `{}`, which holds {}", buffer.name, data.len())
    }
}

impl ReduceOp {
    /// The value over nothing.
    pub fn empty(self) -> f64 {
        match self {
            ReduceOp::Sum => 0.0,
            ReduceOp::Max | ReduceOp::Most => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
            ReduceOp::Product => 1.0,
        }
    }

    /// Two values joined; NaN if either is.
    pub fn join(self, a: f64, b: f64) -> f64 {
        match self {
            ReduceOp::Sum => a + b,
            ReduceOp::Product => a * b,
            ReduceOp::Max if a.is_nan() || a > b => a,
            ReduceOp::Most if a > b => a,
            ReduceOp::Min if a.is_nan() || a < b => a,
            ReduceOp::Max | ReduceOp::Most | ReduceOp::Min => b,
        }
    }
}

fn kind(stmt: &Stmt) -> &'static str {
    match stmt {
        Stmt::For { .. } => "for",
        Stmt::If { .. } => "if",
        Stmt::Map(_) => "map",
        Stmt::Reduce(_) => "reduce",
        Stmt::Scan(_) => "scan",
        Stmt::Product(_) => "product",
        Stmt::Solve(_) => "solve",
        Stmt::Sweep(_) => "sweep",
    }
}

/// Every point of a box, the last axis fastest.
fn each<E>(extents: &[i64], visit: &mut dyn FnMut(&[i64]) -> Result<(), E>) -> Result<(), E> {
    if extents.iter().any(|&n| n <= 0) {
        return Ok(());
    }
    let mut point = vec![0; extents.len()];
    loop {
        visit(&point)?;
        let mut axis = extents.len();
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            point[axis] += 1;
            if point[axis] < extents[axis] {
                break;
            }
            point[axis] = 0;
        }
    }
}

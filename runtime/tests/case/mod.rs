//! A statement as a module of its own, run on every target and by the f64 interpreter.

#[path = "../targets/mod.rs"]
mod targets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use chunkwise_compiler::kernel::*;
use chunkwise_runtime::cpu::Loaded;
use chunkwise_runtime::{Input, Launch, interpret};

/// A module's code for every target, by name.
type Compiled = Vec<(String, Rc<Loaded>)>;

thread_local! {
    /// Modules compiled so far: sizes are params, so that most cases share theirs.
    static COMPILED: RefCell<BTreeMap<String, Compiled>> = const { RefCell::new(BTreeMap::new()) };
}

pub fn compiled(module: &Module) -> Compiled {
    let key = module.to_string();
    if let Some(known) = COMPILED.with_borrow(|all| all.get(&key).cloned()) {
        return known;
    }
    let all: Vec<_> = targets::load(module).into_iter().map(|(target, loaded)| (target, Rc::new(loaded))).collect();
    COMPILED.with_borrow_mut(|known| known.insert(key, all.clone()));
    all
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// A module of one kernel over inputs x and y and output z.
pub struct Case {
    pub module: Module,
    pub sizes: BTreeMap<String, i64>,
    pub data: Vec<Vec<f32>>,
    pub start: Vec<f32>,
}

pub const X: BufferId = BufferId(0);
pub const Y: BufferId = BufferId(1);
pub const Z: BufferId = BufferId(2);
pub const S: BufferId = BufferId(3);
/// Params hold the sizes M, N, K, so that extents are known at run time only.
pub const M: Int = Int::Param(ParamId(0));
pub const N: Int = Int::Param(ParamId(1));
pub const K: Int = Int::Param(ParamId(2));

impl Case {
    pub fn new(sizes: [i64; 3], x: Vec<f32>, y: Vec<f32>, start: Vec<f32>, body: Vec<Stmt>) -> Self {
        let param = |name: &str| Param { name: name.into(), role: ParamRole::Size(name.into()) };
        let buffer = |name: &str, role, size: u32| Buffer {
            name: name.into(),
            role,
            elem: Elem::F32,
            size: ParamId(size).into(),
        };
        let module = Module {
            name: "case".into(),
            params: ["M", "N", "K", "X", "Y", "Z"].map(param).into(),
            buffers: vec![
                buffer("x", BufferRole::Input, 3),
                buffer("y", BufferRole::Input, 4),
                buffer("z", BufferRole::Output, 5),
                Buffer { name: "s".into(), role: BufferRole::Scratch, elem: Elem::F32, size: 4096usize.into() },
            ],
            kernels: vec![Kernel { name: "only".into(), grid: vec![], body }],
        };
        let lengths = [x.len(), y.len(), start.len()].map(|n| n as i64);
        let sizes = ["M", "N", "K", "X", "Y", "Z"]
            .map(str::to_owned)
            .into_iter()
            .zip(sizes.into_iter().chain(lengths))
            .collect();
        Self { module, sizes, data: vec![x, y], start }
    }

    pub fn checked(&self) -> Checked {
        check(self.module.clone()).unwrap_or_else(|errors| panic!("{}", errors.join("; ")))
    }

    pub fn launch<'a>(&'a self, out: &'a mut [f32]) -> Launch<'a> {
        Launch {
            sizes: &self.sizes,
            chunk: 1,
            tiles: 1,
            inputs: [("x", Input::F32(&self.data[0])), ("y", Input::F32(&self.data[1]))].into(),
            states_in: BTreeMap::new(),
            outputs: [("z", out)].into(),
            states_out: BTreeMap::new(),
        }
    }

    /// Runs everywhere; what the interpreter leaves NaN may be anything.
    pub fn agree(&self, what: &str, bound: f32) {
        let mut want = self.start.clone();
        interpret(&self.checked(), &mut self.launch(&mut want)).expect(what);
        for (target, loaded) in compiled(&self.module) {
            let mut got = self.start.clone();
            loaded.run(&mut self.launch(&mut got), 1).expect(what);
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                let near = w.is_nan() || g == w || (g - w).abs() <= bound * w.abs().max(1.0);
                assert!(near, "{what}, {target}: element {i} is {g}, not {w}");
            }
        }
    }
}

pub fn at(buffer: BufferId, strides: &[Int]) -> Access {
    Access::new(buffer, 0i64, strides.iter().cloned())
}

pub fn load(buffer: BufferId, strides: &[Int]) -> Value {
    Value::Load(at(buffer, strides))
}

pub fn one() -> Int {
    1i64.into()
}

pub fn zero() -> Int {
    0i64.into()
}

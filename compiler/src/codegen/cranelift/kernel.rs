//! Kernels, their loops and conditions.

use std::collections::{BTreeSet, HashMap};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, I64};
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, FuncRef, Function, InstBuilder, MemFlagsData, StackSlot, StackSlotData, StackSlotKind,
    Value,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{Linkage, Module as Target};

use crate::kernel::frame;
use crate::kernel::{Access, Ahead, BufferId, Int, Kernel, Module, Stmt, Value as Tree, ahead, exact, scaled};

use super::place::bounded;
use super::{CodegenError, Routine};

/// Accesses that never trap: a checked launch holds every element that a kernel touches.
pub(super) const TRUSTED: MemFlagsData = MemFlagsData::new().with_notrap();

/// A kernel being written.
pub(super) struct Emitter<'e> {
    pub(super) module: &'e Module,
    pub(super) b: FunctionBuilder<'e>,
    /// The argument block.
    pub(super) block: Value,
    /// Loop variables in scope: (number, value).
    pub(super) vars: Vec<(u32, Value)>,
    /// Integers of the statement at hand, all computed before its loops.
    pub(super) ints: HashMap<Int, Value>,
    /// The first elements of its accesses, likewise.
    pub(super) places: HashMap<Access, Value>,
    /// Strips of a row on the stack, and how many of them the statement at hand has taken.
    pub(super) strips: Vec<StackSlot>,
    pub(super) taken: usize,
    /// Tiles on the stack.
    pub(super) tiles: Vec<StackSlot>,
    /// The buffers that no rounded product writes.
    pub(super) exact: BTreeSet<BufferId>,
    /// 64 bytes of zeros, where the kernel has bounded loads.
    pub(super) zeros: Option<Value>,
    /// Routines declared so far.
    routines: HashMap<Routine, FuncRef>,
    target: &'e mut dyn Target,
    /// The first failure to declare a routine.
    failure: Option<CodegenError>,
}

/// Writes the body of one kernel.
pub(super) fn define(
    module: &Module,
    kernel: &Kernel,
    target: &mut dyn Target,
    (function, memory): (&mut Function, &mut FunctionBuilderContext),
) -> Result<(), CodegenError> {
    let config = target.isa().frontend_config();
    let mut b = FunctionBuilder::new(function, memory);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let block = b.block_params(entry)[0];
    let mut emitter = Emitter {
        module,
        b,
        block,
        vars: Vec::new(),
        ints: HashMap::new(),
        places: HashMap::new(),
        strips: Vec::new(),
        taken: 0,
        tiles: Vec::new(),
        exact: exact(module),
        zeros: None,
        routines: HashMap::new(),
        target,
        failure: None,
    };
    if kernel.body.iter().any(has_bounds) {
        emitter.zeros = Some(emitter.write_zeros());
    }
    emitter.statements(&kernel.body, &[]);
    let Emitter { mut b, failure, .. } = emitter;
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(config);
    failure.map_or(Ok(()), Err)
}

fn has_bounds(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::For { body, .. } => body.iter().any(has_bounds),
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(has_bounds),
        Stmt::Map(map) => bounded(&map.value),
        Stmt::Reduce(reduce) => bounded(&reduce.value),
        Stmt::Scan(scan) => bounded(&scan.value),
        Stmt::Product(_) | Stmt::Solve(_) | Stmt::Sweep(_) => false,
    }
}

/// A loop being written: `index` runs while it is less than the end; `carried` pass from step to step.
struct Loop {
    body: Block,
    exit: Block,
    index: Value,
    carried: Vec<Value>,
}

impl<'e> Emitter<'e> {
    fn statements(&mut self, body: &[Stmt], hints: &[Ahead]) {
        let mut skip = false;
        for (place, stmt) in body.iter().enumerate() {
            self.forget();
            match stmt {
                _ if std::mem::take(&mut skip) => {}
                Stmt::Map(_)
                    if let Some((product, factors)) = body.get(place + 1).and_then(|next| scaled(stmt, next))
                        && !self.exact.contains(&product.dst.buffer) =>
                {
                    self.product(product, Some(&factors));
                    skip = true;
                }
                Stmt::For { var, from, to, step, body } => {
                    let hints = ahead(self.module, (*var, step), body);
                    let [from, to] = [from, to].map(|x| self.int(x));
                    // A size of 0 must not make a loop endless.
                    let step = match step {
                        Int::Const(n) => self.constant(*n),
                        step => {
                            let (step, one) = (self.int(step), self.constant(1));
                            self.b.ins().smax(step, one)
                        }
                    };
                    self.count((from, to, step), &[], |this, index, _| {
                        this.vars.push((var.0, index));
                        this.statements(body, &hints);
                        this.vars.pop();
                        Vec::new()
                    });
                }
                Stmt::If { left, right, then, otherwise } => {
                    let [left, right] = [left, right].map(|x| self.int(x));
                    let condition = self.b.ins().icmp(IntCC::SignedLessThan, left, right);
                    let [yes, no, join] = [(); 3].map(|()| self.b.create_block());
                    self.b.ins().brif(condition, yes, &[], no, &[]);
                    for (block, body) in [(yes, then), (no, otherwise)] {
                        self.b.switch_to_block(block);
                        self.statements(body, &[]);
                        self.b.ins().jump(join, &[]);
                    }
                    self.b.switch_to_block(join);
                }
                Stmt::Map(map) => self.map(map),
                Stmt::Reduce(reduce) => self.reduce(reduce),
                Stmt::Scan(scan) => {
                    let frame = frame::scan_frame(self.module, scan);
                    self.scan(scan, frame.expect("the pass `lower-scans` leaves the scans that are tiles"));
                }
                Stmt::Product(product) => self.product(product, None),
                Stmt::Solve(solve) => self.solve(solve),
                Stmt::Sweep(sweep) => self.pass(sweep),
            }
            for hint in hints.iter().filter(|hint| hint.after == place) {
                self.forget();
                self.fetch(hint);
            }
        }
    }

    /// A statement begins: what the one before computed may not have been reached.
    fn forget(&mut self) {
        self.ints.clear();
        self.places.clear();
        self.taken = 0;
    }

    /// Computes what the loads of a value need before the loops of its statement.
    pub(super) fn hoist(&mut self, value: &Tree) {
        match value {
            Tree::Load(access) => self.reach(access),
            Tree::Bounded { access, position, length } => {
                self.reach(access);
                self.int(&position.base);
                position.strides.iter().for_each(|stride| {
                    self.int(stride);
                });
                self.int(length);
            }
            Tree::Int(x) => {
                self.int(x);
            }
            Tree::Const(_) | Tree::Axis(_) => {}
            Tree::Call(_, args) => args.iter().for_each(|x| self.hoist(x)),
            Tree::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().for_each(|x| self.hoist(x)),
        }
    }

    /// `body(index, carried)` for index in from..to, by steps > 0; gives what is carried at the end.
    pub(super) fn count(
        &mut self,
        (from, to, step): (Value, Value, Value),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let opened = self.open(carried);
        let some = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
        let start: Vec<BlockArg> = [&from].into_iter().chain(carried).map(|x| (*x).into()).collect();
        let kept: Vec<BlockArg> = carried.iter().map(|x| (*x).into()).collect();
        self.b.ins().brif(some, opened.body, &start, opened.exit, &kept);
        self.close(opened, (to, step), body)
    }

    /// The same where from < to for certain.
    pub(super) fn count_some(
        &mut self,
        (from, to, step): (Value, Value, Value),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let opened = self.open(carried);
        let start: Vec<BlockArg> = [&from].into_iter().chain(carried).map(|x| (*x).into()).collect();
        self.b.ins().jump(opened.body, &start);
        self.close(opened, (to, step), body)
    }

    fn open(&mut self, carried: &[Value]) -> Loop {
        let [body, exit] = [(); 2].map(|()| self.b.create_block());
        let index = self.b.append_block_param(body, I64);
        let types: Vec<_> = carried.iter().map(|x| self.b.func.dfg.value_type(*x)).collect();
        let carried = types.iter().map(|ty| self.b.append_block_param(body, *ty)).collect();
        for ty in types {
            self.b.append_block_param(exit, ty);
        }
        Loop { body, exit, index, carried }
    }

    fn close(
        &mut self,
        opened: Loop,
        (to, step): (Value, Value),
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.b.switch_to_block(opened.body);
        let next_carried = body(self, opened.index, &opened.carried);
        let next = self.b.ins().iadd(opened.index, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, to);
        let kept: Vec<BlockArg> = next_carried.iter().map(|x| (*x).into()).collect();
        let again: Vec<BlockArg> = [next.into()].into_iter().chain(kept.iter().copied()).collect();
        self.b.ins().brif(more, opened.body, &again, opened.exit, &kept);
        self.b.switch_to_block(opened.exit);
        self.b.block_params(opened.exit).to_vec()
    }

    /// What `body` gives where n > 0, else `otherwise`.
    pub(super) fn when_positive(
        &mut self,
        n: Value,
        otherwise: &[Value],
        body: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let [yes, join] = [(); 2].map(|()| self.b.create_block());
        for x in otherwise {
            let ty = self.b.func.dfg.value_type(*x);
            self.b.append_block_param(join, ty);
        }
        let some = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, n, 0);
        let kept: Vec<BlockArg> = otherwise.iter().map(|x| (*x).into()).collect();
        self.b.ins().brif(some, yes, &[], join, &kept);
        self.b.switch_to_block(yes);
        let given: Vec<BlockArg> = body(self).into_iter().map(Into::into).collect();
        self.b.ins().jump(join, &given);
        self.b.switch_to_block(join);
        self.b.block_params(join).to_vec()
    }

    /// A new slot of the stack.
    pub(super) fn slot(&mut self, bytes: u32) -> StackSlot {
        self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4))
    }

    fn write_zeros(&mut self) -> Value {
        let slot = self.slot(64);
        let at = self.b.ins().stack_addr(I64, slot, 0);
        let zero = self.b.ins().f32const(0.0);
        let zero = self.b.ins().splat(F32X4, zero);
        for i in 0..4 {
            self.b.ins().store(TRUSTED, zero, at, i * 16);
        }
        at
    }

    pub(super) fn call(&mut self, routine: Routine, args: &[Value]) {
        let known = self.routines.get(&routine).copied();
        let function = known.or_else(|| self.declare(routine));
        if let Some(function) = function {
            self.b.ins().call(function, args);
        }
    }

    fn declare(&mut self, routine: Routine) -> Option<FuncRef> {
        let mut signature = self.target.make_signature();
        signature.params = vec![AbiParam::new(I64); routine.arity()];
        match self.target.declare_function(&routine.name(), Linkage::Import, &signature) {
            Ok(id) => {
                let function = self.target.declare_func_in_func(id, self.b.func);
                self.routines.insert(routine, function);
                Some(function)
            }
            Err(error) => {
                self.failure.get_or_insert(CodegenError::new(error));
                None
            }
        }
    }
}

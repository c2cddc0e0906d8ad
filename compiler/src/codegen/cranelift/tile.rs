//! Tiles by routines: the loops over their blocks and the calls of a block.
//!
//! ```text
//! one call                        over the whole tile
//! calls that hand tiles on        over blocks whose tiles stay in the first cache, on the stack
//! scan, reduce across rows        as maps whose operand is the row of results before, or the same row
//! ```

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value};

use crate::kernel::frame::{Frame, is_tiled};
use crate::kernel::{Function, Int, Map, Reduce, ReduceOp, Scan, ScanFrom, Triangle};

use super::integer::Extent;
use super::kernel::{Emitter, TRUSTED};
use super::plan::{Plan, Source};
use super::routine::{Operation, Routine};

/// Elements of a tile on the stack, and the most columns of one.
const CELLS: i64 = 2048;
const COLUMNS: i64 = 256;

/// What becomes of a value's tile. Each has the place of row 0 of its results.
#[derive(Clone, Copy)]
enum Finish {
    Write(Source),
    /// dst[row] = dst[row - 1] op the value, where `before` is what lies a row before.
    Join(ReduceOp, Source, Source),
    /// dst[row] = dst[row] op all of the row.
    Fold(ReduceOp, Source),
}

/// A part of a tile.
#[derive(Clone, Copy)]
struct Block {
    /// Its first row and column; none stands for the first of all.
    from: Option<[Value; 2]>,
    rows: Value,
    columns: Value,
    /// Row i has min(columns, diagonal + i) elements.
    diagonal: Value,
}

/// What a tile covers.
struct Area {
    /// The first row, if it is not 0, and the row after the last.
    from: Option<Value>,
    to: Value,
    columns: Extent,
    /// Row i has min(columns, diagonal + i) elements, if there is a diagonal.
    diagonal: Option<Value>,
}

impl Emitter<'_> {
    /// A map whose values are reached.
    pub(super) fn map_tiles(&mut self, map: &Map, frame: Frame) {
        let rows = self.extent_of(&map.axes, frame.rows);
        let columns = self.extent(&map.axes[frame.lane]);
        let diagonal = map.below.as_ref().map(|d| self.int(&(d.clone() + 1i64)));
        self.rows(&map.axes, &frame.axes(), &mut |this, index| {
            let plan = this.plan(&map.value, index, frame);
            let dst = this.source(&map.dst, index, frame);
            this.area(&plan, Area { from: None, to: rows, columns, diagonal }, Finish::Write(dst));
        });
    }

    /// A scan by its steps.
    pub(super) fn scan(&mut self, scan: &Scan, frame: Frame) {
        self.hoist(&scan.value);
        self.reach(&scan.dst);
        let (columns, to) = (self.extent(&scan.axes[frame.lane]), self.extent(&scan.inner).value);
        self.rows(&scan.axes, &[frame.lane], &mut |this, index| {
            let index: Vec<Option<Value>> = index.iter().copied().chain([None]).collect();
            let plan = this.plan(&scan.value, &index, frame);
            let dst = this.source(&scan.dst, &index, frame);
            let one = this.constant(1);
            let diagonal = match scan.from {
                ScanFrom::First => {
                    let rows = this.b.ins().smin(to, one);
                    let first = Area { from: None, to: rows, columns, diagonal: None };
                    this.area(&plan, first, Finish::Write(dst));
                    None
                }
                ScanFrom::Diagonal => {
                    this.write_diagonal(dst, (columns.value, to), scan.op.empty() as f32);
                    Some(this.constant(0))
                }
            };
            let back = this.b.ins().ineg(dst.row);
            let before = Source { at: this.moved(dst.at, back, one), ..dst };
            this.area(&plan, Area { from: Some(one), to, columns, diagonal }, Finish::Join(scan.op, dst, before));
        });
    }

    fn write_diagonal(&mut self, dst: Source, (columns, rows): (Value, Value), x: f32) {
        let ([zero, one], n) = ([0, 1].map(|n| self.constant(n)), self.b.ins().smin(columns, rows));
        let (step, x) = (self.b.ins().iadd(dst.row, dst.lane), self.b.ins().f32const(x));
        self.count((zero, n, one), &[], |this, i, _| {
            let at = this.moved(dst.at, i, step);
            this.b.ins().store(TRUSTED, x, at, 0);
            Vec::new()
        });
    }

    /// A reduction of rows of values to one row of results along `lane`, if routines do it.
    pub(super) fn reduce_across(&mut self, reduce: &Reduce, lane: usize) -> bool {
        let inner = reduce.axes.len();
        let axes: Vec<Int> = reduce.axes.iter().chain([&reduce.inner]).cloned().collect();
        let frame = Frame { rows: Some(inner), lane };
        if !is_tiled(self.module, &reduce.value, &axes, frame) {
            return false;
        }
        let (columns, to) = (self.extent(&reduce.axes[lane]), self.extent(&reduce.inner).value);
        self.rows(&reduce.axes, &[lane], &mut |this, index| {
            let index: Vec<Option<Value>> = index.iter().copied().chain([None]).collect();
            let plan = this.plan(&reduce.value, &index, frame);
            let dst = this.source(&reduce.dst, &index, frame);
            let (empty, one) = (this.b.ins().f32const(reduce.op.empty() as f32), this.constant(1));
            let empty = Plan::Same(this.alone(empty));
            this.area(&empty, Area { from: None, to: one, columns, diagonal: None }, Finish::Write(dst));
            let area = Area { from: None, to, columns, diagonal: None };
            this.area(&plan, area, Finish::Join(reduce.op, dst, dst));
        });
        true
    }

    /// A reduction along rows, if routines do it.
    pub(super) fn reduce_along(&mut self, reduce: &Reduce) -> bool {
        let lane = reduce.axes.len();
        let axes: Vec<Int> = reduce.axes.iter().chain([&reduce.inner]).cloned().collect();
        let frame = Frame { rows: reduce.axes.iter().rposition(|n| *n != Int::Const(1)), lane };
        if !is_tiled(self.module, &reduce.value, &axes, frame) {
            return false;
        }
        let (columns, to) = (self.extent(&reduce.inner), self.extent_of(&reduce.axes, frame.rows));
        let skipped: Vec<usize> = frame.rows.into_iter().collect();
        self.rows(&reduce.axes, &skipped, &mut |this, index| {
            let index: Vec<Option<Value>> = index.iter().copied().chain([None]).collect();
            let plan = this.plan(&reduce.value, &index, frame);
            let dst = this.source(&reduce.dst, &index, frame);
            if this.dot((reduce.op, &plan), dst, (to, columns.value)) {
                return;
            }
            let (empty, one) = (this.b.ins().f32const(reduce.op.empty() as f32), this.constant(1));
            let empty = Plan::Same(this.alone(empty));
            let column = Extent { value: one, known: Some(1) };
            this.area(&empty, Area { from: None, to, columns: column, diagonal: None }, Finish::Write(dst));
            this.area(&plan, Area { from: None, to, columns, diagonal: None }, Finish::Fold(reduce.op, dst));
        });
        true
    }

    /// Sums of products with one row, as a product of one column.
    fn dot(&mut self, (op, plan): (ReduceOp, &Plan), dst: Source, (rows, columns): (Value, Value)) -> bool {
        let Plan::Apply(Operation::Apply(Function::Mul), args) = plan else { return false };
        let (ReduceOp::Sum, [Plan::Dense(a), Plan::Dense(b)]) = (op, &args[..]) else { return false };
        let is_one = |this: &Self, x: Value| this.known(x) == Some(0);
        let (a, b) = match (is_one(self, a.row), is_one(self, b.row)) {
            (_, true) => (a, b),
            (true, _) => (b, a),
            _ => return false,
        };
        let [zero, one] = [0, 1].map(|n| self.constant(n));
        let full = Routine::Product(Triangle::Full);
        self.call(full, &[dst.at, dst.row, a.at, a.row, a.lane, b.at, b.lane, rows, one, columns, zero]);
        true
    }

    /// Computes a value over an area.
    fn area(&mut self, plan: &Plan, area: Area, finish: Finish) {
        let Area { from, to, columns, diagonal } = area;
        let rows = from.map_or(to, |from| self.b.ins().isub(to, from));
        let at_once = match finish {
            Finish::Write(_) => plan.is_one_step(),
            Finish::Join(op, ..) => plan.direct().is_some() || (op == ReduceOp::Sum && plan.is_one_product()),
            Finish::Fold(..) => matches!(plan, Plan::Dense(_)),
        };
        let zero = self.constant(0);
        if at_once {
            let diagonal = diagonal.map_or(columns.value, |d| from.map_or(d, |from| self.b.ins().iadd(d, from)));
            let from = from.map(|from| [from, zero]);
            return self.block(plan, Block { from, rows, columns: columns.value, diagonal }, finish);
        }
        let most = match columns.known {
            Some(n) => self.constant(n.clamp(1, COLUMNS)),
            None => {
                let [one, most] = [1, COLUMNS].map(|n| self.constant(n));
                let n = self.b.ins().smin(columns.value, most);
                self.b.ins().smax(n, one)
            }
        };
        let cells = self.constant(CELLS);
        let step = self.b.ins().sdiv(cells, most);
        self.count((from.unwrap_or(zero), to, step), &[], |this, row, _| {
            let left = this.b.ins().isub(to, row);
            let rows = this.b.ins().smin(left, step);
            this.count((zero, columns.value, most), &[], |this, column, _| {
                let left = this.b.ins().isub(columns.value, column);
                let columns = this.b.ins().smin(left, most);
                let diagonal = diagonal.map_or(columns, |d| {
                    let d = this.b.ins().iadd(d, row);
                    this.b.ins().isub(d, column)
                });
                this.block(plan, Block { from: Some([row, column]), rows, columns, diagonal }, finish);
                Vec::new()
            });
            Vec::new()
        });
    }

    fn block(&mut self, plan: &Plan, block: Block, finish: Finish) {
        let mut free = Tiles::default();
        match finish {
            Finish::Write(dst) => {
                let dst = self.part(dst, block);
                self.step(plan, block, dst, &mut free);
            }
            Finish::Join(op, dst, before) => {
                let (dst, before) = (self.part(dst, block), self.part(before, block));
                if let (ReduceOp::Sum, Plan::Apply(Operation::Apply(Function::Mul), factors)) = (op, plan) {
                    let mut operands: Vec<Source> = Vec::new();
                    for factor in factors {
                        operands.push(self.operand(factor, block, &mut free).0);
                    }
                    operands.push(before);
                    return self.apply(Operation::MulAdd, dst, &operands, block);
                }
                let (x, _) = self.operand(plan, block, &mut free);
                self.apply(Operation::Apply(op.function()), dst, &[before, x], block);
            }
            Finish::Fold(op, dst) => {
                let at = block.from.map_or(dst.at, |[row, _]| self.moved(dst.at, row, dst.row));
                let (x, _) = match plan {
                    Plan::Same(source) => self.operand(&Plan::Turned(*source), block, &mut free),
                    plan => self.operand(plan, block, &mut free),
                };
                self.call(Routine::Fold(op), &[at, dst.row, x.at, x.row, block.rows, block.columns]);
            }
        }
    }

    /// The part of a tile that a block covers.
    fn part(&mut self, source: Source, block: Block) -> Source {
        let Some([row, column]) = block.from else { return source };
        let at = self.moved(source.at, row, source.row);
        Source { at: self.moved(at, column, source.lane), ..source }
    }

    /// A value's block in memory, and the tile on the stack that it takes.
    fn operand(&mut self, plan: &Plan, block: Block, tiles: &mut Tiles) -> (Source, Option<usize>) {
        if let Some(source) = plan.direct() {
            return (self.part(source, block), None);
        }
        // Operands are in tiles of their own by then: a routine may write over what it reads, but for `turn`.
        let tile = tiles.take();
        let at = self.tile(tile);
        let (row, lane) = (block.columns, self.constant(1));
        let to = Source { at, row, lane };
        self.step(plan, block, to, tiles);
        (to, Some(tile))
    }

    /// Computes a value's block into `dst`.
    fn step(&mut self, plan: &Plan, block: Block, dst: Source, tiles: &mut Tiles) {
        let (operation, args) = match plan {
            Plan::Dense(source) | Plan::Same(source) => {
                let from = self.part(*source, block);
                return self.apply(Operation::Copy, dst, &[from], block);
            }
            Plan::Turned(source) => {
                let from = self.part(*source, block);
                let Block { rows, columns, diagonal, .. } = block;
                let args = [dst.at, dst.row, from.at, from.row, from.lane, rows, columns, diagonal];
                return self.call(Routine::Turn, &args);
            }
            Plan::Square(x) => {
                let (x, tile) = self.operand(x, block, tiles);
                tiles.give(tile);
                return self.apply(Operation::Apply(Function::Mul), dst, &[x, x], block);
            }
            Plan::Apply(operation, args) => (*operation, args),
        };
        let operands: Vec<_> = args.iter().map(|x| self.operand(x, block, tiles)).collect();
        operands.iter().for_each(|(_, tile)| tiles.give(*tile));
        let sources: Vec<Source> = operands.iter().map(|(source, _)| *source).collect();
        self.apply(operation, dst, &sources, block);
    }

    fn apply(&mut self, operation: Operation, dst: Source, operands: &[Source], block: Block) {
        let mut args = vec![dst.at, dst.row];
        args.extend(operands.iter().flat_map(|x| [x.at, x.row, x.lane]));
        args.extend([block.rows, block.columns, block.diagonal]);
        self.call(Routine::Map(operation), &args);
    }

    /// The address of a tile on the stack.
    fn tile(&mut self, number: usize) -> Value {
        while self.tiles.len() <= number {
            let slot = self.slot(CELLS as u32 * 4);
            self.tiles.push(slot);
        }
        self.b.ins().stack_addr(I64, self.tiles[number], 0)
    }

    /// `at` moved by `index` times a stride in elements.
    fn moved(&mut self, at: Value, index: Value, stride: Value) -> Value {
        if self.known(index) == Some(0) || self.known(stride) == Some(0) {
            return at;
        }
        let elements = if self.known(stride) == Some(1) { index } else { self.b.ins().imul(index, stride) };
        let bytes = self.b.ins().ishl_imm_u(elements, 2);
        self.b.ins().iadd(at, bytes)
    }

    /// The number that a value is, where it was written as one.
    fn known(&self, x: Value) -> Option<i64> {
        let made = self.b.func.dfg.value_def(x).inst()?;
        match self.b.func.dfg.insts[made] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits()),
            _ => None,
        }
    }

    fn extent_of(&mut self, axes: &[Int], axis: Option<usize>) -> Value {
        match axis {
            Some(axis) => self.extent(&axes[axis]).value,
            None => self.constant(1),
        }
    }
}

impl Frame {
    fn axes(&self) -> Vec<usize> {
        self.rows.into_iter().chain([self.lane]).collect()
    }
}

impl Plan {
    /// Whether it is a product of two operands in memory.
    fn is_one_product(&self) -> bool {
        matches!(self, Plan::Apply(Operation::Apply(Function::Mul), _)) && self.is_one_step()
    }
}

/// Tiles on the stack: those that were given back, and how many there are.
#[derive(Default)]
struct Tiles {
    free: Vec<usize>,
    taken: usize,
}

impl Tiles {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.taken += 1;
            self.taken - 1
        })
    }

    fn give(&mut self, tile: Option<usize>) {
        self.free.extend(tile);
    }
}

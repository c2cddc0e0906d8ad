//! Rows of functions that are called: the argument goes to a strip on the stack, unless it lies in memory already, and one
//! call replaces it by the function's values.

use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::kernel::{Elem, Function, Value as Tree};

use super::Routine;
use super::integer::Extent;
use super::kernel::{Emitter, TRUSTED};
use super::place::{At, Lane, Place, Row, Step};
use super::routine::is_called;
use super::value::{Node, fits_lanes};

/// Elements of a strip.
const STRIP: i64 = 256;

impl Emitter<'_> {
    /// Prepares the row of a called function.
    pub(super) fn called(&mut self, function: Function, args: &[Tree], row: &Row<'_>) -> Node {
        let mut strip = None;
        let mut sources = Vec::new();
        for arg in args {
            let node = self.node(arg, row);
            let source = match (&node, row.lane) {
                (Node::Load(Place { at, step: Step::Dense, elem: Elem::F32, mask: None }), Some(_)) => *at,
                _ => {
                    let to = self.take();
                    strip.get_or_insert(to);
                    self.fill(&node, to, (arg, row));
                    to
                }
            };
            sources.push(source);
        }
        let to = strip.unwrap_or_else(|| self.take());
        let n = match row.lane {
            Some(lane) => lane.len.value,
            None => self.constant(1),
        };
        self.run(function, (to, &sources), n);
        match row.lane {
            Some(_) => Node::Load(Place { at: to, step: Step::Dense, elem: Elem::F32, mask: None }),
            None => Node::Same(self.b.ins().load(F32, TRUSTED, to, 0), None),
        }
    }

    fn run(&mut self, function: Function, (to, sources): (Value, &[Value]), n: Value) {
        let args: Vec<Value> = [to].into_iter().chain(sources.iter().copied()).chain([n]).collect();
        self.call(Routine::Vector(function), &args);
    }

    /// Writes the elements of a row to a strip.
    fn fill(&mut self, node: &Node, to: Value, (value, row): (&Tree, &Row<'_>)) {
        let place = Place { at: to, step: Step::Dense, elem: Elem::F32, mask: None };
        match row.lane {
            None => {
                let x = self.eval(node, At::ONE);
                self.store(&place, At::ONE, x);
            }
            Some(lane) => self.sweep(lane.len, fits_lanes(value, lane.axis), |this, at| {
                let x = this.eval(node, at);
                this.store(&place, at, x);
            }),
        }
    }

    /// The address of a strip that the statement has not used yet.
    fn take(&mut self) -> Value {
        if self.taken == self.strips.len() {
            let slot = self.slot(STRIP as u32 * 4);
            self.strips.push(slot);
        }
        let slot = self.strips[self.taken];
        self.taken += 1;
        self.b.ins().stack_addr(I64, slot, 0)
    }

    /// Writes `body(lane, carried)` over an axis that is not empty: all of it at once, or strip by strip where `value` has
    /// called functions.
    pub(super) fn strips(
        &mut self,
        value: &Tree,
        (axis, len): (usize, Extent),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Lane, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if !calls(value) || len.known.is_some_and(|n| n <= STRIP) {
            return body(self, Lane { axis, start: None, len }, carried);
        }
        let (zero, strip) = (self.constant(0), self.constant(STRIP));
        self.count_some((zero, len.value, strip), carried, |this, start, carried| {
            let left = this.b.ins().isub(len.value, start);
            let known = len.known.filter(|n| n % STRIP == 0).map(|_| STRIP);
            let len = Extent { value: this.b.ins().smin(left, strip), known };
            body(this, Lane { axis, start: Some(start), len }, carried)
        })
    }
}

/// Whether a value has called functions.
fn calls(value: &Tree) -> bool {
    match value {
        Tree::Load(_) | Tree::Bounded { .. } | Tree::Const(_) | Tree::Int(_) | Tree::Axis(_) => false,
        Tree::Call(function, args) => is_called(*function) || args.iter().any(calls),
        Tree::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().any(|x| calls(x)),
    }
}

//! Kernels: the entry point, the grid, loops and conditions, integers, and the barriers between statements.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::Unsupported;
use crate::kernel::range::Ranges;
use crate::kernel::{Access, Int, Kernel, Module, ParamRole, Stmt, VarId};

use super::barrier::{Fence, Pending, Place, Touch};
use super::binding::{self, Table};
use super::cooperative::Staging;
use super::math::Routine;
use super::memory::{Home, Memory};
use super::text::Text;
use super::trips::{Trips, Unit};
use super::{Length, Options, Shader, Shape, Stored, Word, dialect, product, reduce};

/// What a kernel is written from, beside its statements.
pub(super) struct Frame<'m> {
    pub(super) module: &'m Module,
    pub(super) options: &'m Options,
    pub(super) table: &'m Table,
    pub(super) kept: &'m product::Kept,
    /// Spill elements of a work item of any kernel, and those more that are known when it runs.
    pub(super) spill: (u64, Int),
}

/// A kernel being written.
pub(super) struct Emitter<'m> {
    pub(super) frame: &'m Frame<'m>,
    pub(super) ranges: &'m Ranges,
    pub(super) memory: &'m Memory,
    pub(super) invocations: u32,
    pub(super) t: Text,
    pub(super) needs: BTreeSet<Routine>,
    /// Integers that have a name here.
    pub(super) lets: Vec<(Int, String)>,
    pub(super) pending: Pending,
    /// Of the statements written so far, and of the loops that are open around them.
    pub(super) trips: Vec<Trips>,
    refused: Option<Unsupported>,
}

/// Elements at the start of workgroup memory for sums that several invocations share: one an invocation.
pub(super) fn partials(kernel: &Kernel, ranges: &Ranges, invocations: u32) -> u64 {
    if shares(&kernel.body, ranges, invocations) { u64::from(invocations) } else { 0 }
}

fn shares(body: &[Stmt], ranges: &Ranges, invocations: u32) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::For { body, .. } => shares(body, ranges, invocations),
        Stmt::If { then, otherwise, .. } => shares(then, ranges, invocations) || shares(otherwise, ranges, invocations),
        Stmt::Reduce(x) => reduce::slices(ranges, x, invocations) > 1,
        Stmt::Product(x) => product::slices(ranges, x, invocations) > 1,
        _ => false,
    })
}

/// The shader of a folded kernel.
///
/// # Errors
/// Integers beyond 32 bits.
pub(super) fn shader(
    frame: &Frame<'_>,
    number: usize,
    (ranges, memory): (&Ranges, &Memory),
    (invocations, staging): Shape,
    length: Length,
) -> Result<Shader, Unsupported> {
    let mut emitter = Emitter {
        frame,
        ranges,
        memory,
        invocations,
        t: Text::default(),
        needs: BTreeSet::new(),
        lets: Vec::new(),
        pending: Pending::default(),
        trips: vec![Trips::default()],
        refused: None,
    };
    let kernel = &frame.module.kernels[number];
    let (units, idle) = emitter.entry(kernel, &staging, length);
    if let Some(refused) = emitter.refused {
        return Err(refused);
    }
    let mut source = format!("// {}\n", kernel.name.replace(['\n', '\r'], " "));
    source += &dialect::head(frame.options);
    source += staging.directive();
    source += &frame.table.text();
    if memory.workgroup > 0 {
        source += &format!("var<workgroup> w: array<f32, {}>;\n", memory.workgroup);
    }
    source += &staging.text(frame.options);
    source += &routines(emitter.needs);
    source += &emitter.t.finish();
    Ok(Shader {
        source,
        entry: "main".to_owned(),
        kernel: number,
        workgroup_memory: (memory.workgroup * 4 + staging.panel_bytes(frame.options)) as u32,
        invocations,
        kept: if length == Length::Long { memory.workgroup } else { 0 },
        units,
        idle,
    })
}

/// The text of routines and of all that they call.
fn routines(mut waiting: BTreeSet<Routine>) -> String {
    let mut done = BTreeSet::new();
    while let Some(routine) = waiting.pop_first() {
        if done.insert(routine) {
            waiting.extend(routine.needs().iter().filter(|r| !done.contains(r)));
        }
    }
    done.into_iter().map(|routine| format!("\n{}", routine.text())).collect()
}

impl Emitter<'_> {
    /// The entry point; what a dispatch may do of it, and the trips that it takes beside that.
    fn entry(&mut self, kernel: &Kernel, staging: &Staging, length: Length) -> (Vec<Unit>, u64) {
        let built_in = "@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, \
                        @builtin(local_invocation_index) li: u32";
        let subgroups = match staging.panels {
            0 => "",
            _ => ", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32",
        };
        self.t.line(format_args!("\n@compute @workgroup_size({})", self.invocations));
        self.t.open(format_args!("fn main({built_in}{subgroups})"));
        self.t.line("let place = i32(group.x + group.y * groups.x);");
        let word = |place| binding::word(place);
        self.t.open(format_args!("if (place < {})", word(1)));
        for (i, param) in self.frame.table.words.iter().enumerate() {
            match param {
                Word::Param(id) => self.t.line(format_args!("let p{} = {};", id.0, word(i))),
                Word::Offset(_) => self.t.line(format_args!("let o{i} = {};", word(i))),
                Word::First | Word::Count | Word::Begin(_) | Word::End(_) | Word::Kept => {}
            }
        }
        let (spill, late) = &self.frame.spill;
        if *spill > 0 || *late != Int::Const(0) {
            let late = self.hoist(late);
            let size = self.whole(*spill as i64);
            self.t.line(format_args!("let late = place * ({late} + {size});"));
            self.t.line(format_args!("let spilled = late + {late};"));
        }
        self.grid(kernel);
        let done = match length {
            Length::Short => {
                self.block(&kernel.body);
                (vec![Unit::Whole(self.trips.last().cloned().unwrap_or_default())], 0)
            }
            Length::Long => self.stretched(&kernel.body),
        };
        self.t.close();
        self.t.close();
        done
    }

    /// The grid point of a work item, the last axis fastest.
    fn grid(&mut self, kernel: &Kernel) {
        let mut rest = format!("(place + {})", binding::word(0));
        for (d, axis) in kernel.grid.iter().enumerate().rev() {
            let extent = self.hoist(&axis.extent);
            if d == 0 {
                self.t.line(format_args!("let p{} = {rest};", axis.param.0));
            } else {
                // Where there is a work item no extent is 0; the shader compiler does not know.
                let extent = if extent.parse::<i64>().is_ok() { extent } else { format!("max({extent}, 1)") };
                let whole = self.t.set("g", &rest);
                self.t.line(format_args!("let p{} = {whole} % {extent};", axis.param.0));
                rest = format!("({whole} / {extent})");
            }
        }
    }

    pub(super) fn block(&mut self, body: &[Stmt]) {
        let mut rest = body;
        while let [stmt, others @ ..] = rest {
            rest = others;
            match stmt {
                Stmt::For { var, from, to, step, body } => self.rounds(*var, [from, to, step], body),
                Stmt::If { left, right, then, otherwise } => self.branches([left, right], then, otherwise),
                Stmt::Map(_) => {
                    let maps = self.together(&body[body.len() - rest.len() - 1..]);
                    rest = rest.get(maps.len().max(1) - 1..).unwrap_or_default();
                    self.maps(&maps);
                }
                Stmt::Reduce(x) => self.reduce(x),
                Stmt::Scan(x) => self.scan(x),
                Stmt::Product(x) => self.product(x),
                Stmt::Solve(x) => self.solve(x),
                // `emit` refuses them.
                Stmt::Sweep(_) => {}
            }
        }
    }

    fn rounds(&mut self, var: VarId, [from, to, step]: [&Int; 3], body: &[Stmt]) {
        let count = self.rounds_of([from, to, step]);
        let [from, to] = [from, to].map(|x| self.hoist(x));
        let step = self.step(step);
        let head = format!("for (var v{0} = {from}; v{0} < {to}; v{0} += {step})", var.0);
        self.turns(&head, &count, |this| this.block(body));
    }

    /// A loop's step. A size of 0 must not make a loop endless.
    pub(super) fn step(&mut self, step: &Int) -> String {
        let positive = self.ranges.of(step).lo.is_some_and(|lo| lo > 0);
        let step = self.hoist(step);
        if positive { step } else { format!("max({step}, 1)") }
    }

    /// The most rounds of a loop, in terms of params.
    pub(super) fn rounds_of(&mut self, [from, to, step]: [&Int; 3]) -> Int {
        let length = self.most_of(&(to.clone() - from.clone()));
        let step = self.ranges.least_of(step);
        (length + step.clone() - 1i64).floor_div(step)
    }

    /// A loop: its body is written until what is pending at its end was taken to be pending at its start. The trips of a
    /// round.
    pub(super) fn turns(&mut self, head: &str, count: &Int, mut body: impl FnMut(&mut Self)) -> Trips {
        let mut assumed = self.pending.stale();
        let each = loop {
            let (mark, known) = (self.t.mark(), self.lets.len());
            self.pending = assumed.clone();
            self.open_loop(head);
            body(self);
            self.lets.truncate(known);
            let end = self.pending.stale();
            if assumed.covers(&end) {
                break self.close_loop(count.clone());
            }
            assumed.join(&end);
            self.trips.pop();
            self.t.rewind(mark);
        };
        self.pending = assumed;
        each
    }

    /// Opens a loop that trips are counted of.
    pub(super) fn open_loop(&mut self, head: impl Display) {
        self.t.open(head);
        self.trips.push(Trips::default());
    }

    /// Closes it after at most so many rounds; the trips of a round.
    pub(super) fn close_loop(&mut self, count: Int) -> Trips {
        self.t.close();
        let each = self.trips.pop().unwrap_or_default();
        self.passed(Trips::rounds(count, each.clone()));
        each
    }

    /// Takes trips for those of what was written last.
    pub(super) fn passed(&mut self, trips: Trips) {
        if let Some(all) = self.trips.last_mut() {
            all.add(trips);
        }
    }

    /// The most that an extent can be, in terms of params.
    pub(super) fn most_of(&mut self, x: &Int) -> Int {
        self.ranges.most_of(x).unwrap_or_else(|| {
            self.refused.get_or_insert_with(|| {
                let reason = "how many trips its loops take is not known before it runs";
                Unsupported::new(format!("`{}`", self.frame.module.name), reason, "run it with --backend auto")
            });
            Int::Const(0)
        })
    }

    /// Branches as loops left at once: naga takes a condition on a loop variable for one that invocations differ in, and
    /// refuses barriers under it, but not in a loop.
    fn branches(&mut self, [left, right]: [&Int; 2], then: &[Stmt], otherwise: &[Stmt]) {
        let [left, right] = [left, right].map(|x| self.hoist(x));
        let cond = self.t.set("c", format_args!("{left} < {right}"));
        let before = self.pending.clone();
        let mut after = before.clone();
        for (leave, body) in [(format!("!{cond}"), then), (cond, otherwise)] {
            if body.is_empty() {
                continue;
            }
            let known = self.lets.len();
            self.pending = before.clone();
            self.open_loop("loop");
            self.t.line(format_args!("if ({leave}) {{ break; }}"));
            self.block(body);
            self.t.line("break;");
            self.close_loop(Int::Const(1));
            self.lets.truncate(known);
            after.join(&self.pending);
        }
        self.pending = after;
    }

    /// Writes the barrier that touches need, if any, and notes them.
    pub(super) fn before(&mut self, touches: &[Touch]) {
        if let Some(fence) = self.pending.fence(touches) {
            self.barrier(fence);
        }
        self.pending.add(touches);
    }

    /// Takes touches for ones that came before, as they do in a loop that the caller writes.
    pub(super) fn note(&mut self, touches: &[Touch]) {
        self.pending.add(touches);
    }

    fn barrier(&mut self, fence: Fence) {
        self.t.line("workgroupBarrier();");
        if fence == Fence::All {
            self.t.line("storageBarrier();");
        }
        self.settled(fence);
    }

    /// Forgets what a barrier that is written in any case has settled.
    pub(super) fn settled(&mut self, fence: Fence) {
        self.pending.settle(fence);
    }

    /// The touch of an access; `axes` where the invocations share them and each element is its own.
    pub(super) fn touch(&self, access: &Access, written: bool, axes: Option<&[Int]>) -> Touch {
        let place = match self.memory.homes.get(&access.buffer) {
            Some(Home::Spill { at, size }) => Place::Spill(*at, at + size),
            Some(Home::Workgroup { at, size }) => Place::Workgroup(*at, at + size),
            Some(Home::Late { .. }) | None => Place::Bound(access.buffer.0),
        };
        Touch { place, written, own: axes.map(|axes| (axes.to_vec(), access.clone())) }
    }

    /// The touch of the sums that invocations share.
    pub(super) fn shared(&self, written: bool) -> Touch {
        Touch { place: Place::Workgroup(0, u64::from(self.invocations)), written, own: None }
    }

    /// An i32 constant.
    fn whole(&mut self, n: i64) -> String {
        if let Err(refused) = fits(n) {
            self.refused.get_or_insert(refused);
        }
        dialect::integer(n)
    }

    /// An i32 expression.
    pub(super) fn int(&mut self, x: &Int) -> String {
        if let Some((_, name)) = self.lets.iter().find(|(known, _)| known == x) {
            return name.clone();
        }
        match x {
            Int::Const(n) => self.whole(*n),
            Int::Param(id) => match self.frame.module.params[id.index()].role {
                ParamRole::Grid => format!("p{}", id.0),
                _ => self.param(*id),
            },
            Int::Var(id) => format!("v{}", id.0),
            // Specialising leaves no branch on memory.
            Int::Load(_) => self.whole(0),
            Int::Add(a, b) => self.infix(a, "+", b),
            Int::Sub(a, b) => self.infix(a, "-", b),
            Int::Mul(a, b) => self.infix(a, "*", b),
            Int::Div(a, b) | Int::Mod(a, b) => {
                let positive = self.ranges.of(b).lo.is_some_and(|lo| lo > 0);
                let plain = positive && self.ranges.of(a).lo.is_some_and(|lo| lo >= 0);
                let quotient = matches!(x, Int::Div(..));
                if plain {
                    return self.infix(a, if quotient { "/" } else { "%" }, b);
                }
                let (a, b) = (self.int(a), self.int(b));
                let (name, routine) =
                    if quotient { ("divide_down", Routine::DivideDown) } else { ("modulo", Routine::Modulo) };
                self.needs.insert(routine);
                format!("{name}({a}, {b})")
            }
            Int::Min(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                format!("min({a}, {b})")
            }
            Int::Max(a, b) => {
                let (a, b) = (self.int(a), self.int(b));
                format!("max({a}, {b})")
            }
        }
    }

    fn param(&mut self, id: crate::kernel::ParamId) -> String {
        match self.frame.table.word(Word::Param(id)) {
            Some(_) => format!("p{}", id.0),
            // Folding leaves no param that has no word.
            None => "0".to_owned(),
        }
    }

    fn infix(&mut self, a: &Int, operator: &str, b: &Int) -> String {
        let (a, b) = (self.int(a), self.int(b));
        format!("({a} {operator} {b})")
    }

    /// The integer as a constant or a name, which is set here if it has none yet.
    pub(super) fn hoist(&mut self, x: &Int) -> String {
        let text = self.int(x);
        if matches!(x, Int::Const(_) | Int::Param(_) | Int::Var(_)) || self.lets.iter().any(|(known, _)| known == x) {
            return text;
        }
        let name = self.t.set("n", text);
        self.lets.push((x.clone(), name.clone()));
        name
    }

    /// An extent, never negative.
    pub(super) fn extent(&mut self, x: &Int) -> String {
        match x {
            Int::Const(n) => self.whole(*n.max(&0)),
            _ if self.ranges.of(x).lo.is_some_and(|lo| lo >= 0) => self.hoist(x),
            _ => {
                let positive = Int::Max(std::sync::Arc::new(x.clone()), std::sync::Arc::new(Int::Const(0)));
                self.hoist(&positive)
            }
        }
    }

    pub(super) fn stored(&self, access: &Access) -> Stored {
        self.frame.table.slot(access.buffer).map_or(Stored::F32, |slot| slot.stored)
    }
}

/// What no integer of a shader holds.
///
/// # Errors
/// The constant's name in the refusal.
fn fits(n: i64) -> Result<i32, Unsupported> {
    i32::try_from(n).map_err(|_| {
        Unsupported::new(
            format!("the integer {n}"),
            "WGSL's integers have 32 bits and it needs more",
            "make the tensors smaller, or run it with --backend auto",
        )
    })
}

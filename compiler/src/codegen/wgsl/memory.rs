//! Where scratch lies: in workgroup memory what is used most for its size, the rest in the work item's part of the spill
//! binding. Buffers that do not live at the same time may share a place.
//!
//! A buffer lives from the first statement that touches it to the last. If both a loop's body and something outside
//! touch it, it lives through the whole loop; so it does if a round may read what an earlier one left. No round does
//! that where every round touches it alike: the first round finds nothing in it, and the others do what the first did.

use std::collections::BTreeMap;

use crate::Unsupported;
use crate::kernel::range::Ranges;
use crate::kernel::{BufferId, BufferRole, Int, Kernel, Module, Stmt, VarId};

use super::touch::{self, Use};

/// The place of a scratch buffer, in f32 elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Home {
    Workgroup {
        at: u64,
        size: u64,
    },
    Spill {
        at: u64,
        size: u64,
    },
    /// Of a size known when the kernel runs: before the others in the spill memory.
    Late {
        at: Int,
    },
}

/// Scratch buffers whose sizes are known when the kernel runs, and where each starts in a work item's spill memory.
pub(super) fn late(module: &Module) -> (Vec<(BufferId, Int)>, Int) {
    let (mut found, mut at) = (Vec::new(), Int::Const(0));
    for (i, buffer) in module.buffers.iter().enumerate() {
        if buffer.role == BufferRole::Scratch && !matches!(buffer.size, Int::Const(_)) {
            found.push((BufferId(i as u32), at.clone()));
            at = at + buffer.size.clone();
        }
    }
    (found, at)
}

/// Scratch of one kernel.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) homes: BTreeMap<BufferId, Home>,
    /// Elements of workgroup memory.
    pub(super) workgroup: u64,
    /// Elements a work item of the spill binding, beside those known when the kernel runs.
    pub(super) spill: u64,
}

/// Places every scratch buffer of a folded kernel; workgroup memory from `first` up to `capacity` elements is free.
///
/// # Errors
/// More than 2^31 elements.
pub(super) fn place(
    module: &Module,
    kernel: &Kernel,
    ranges: &Ranges,
    (first, capacity): (u64, u64),
) -> Result<Memory, Unsupported> {
    let mut census = Census { module, ranges, loops: Vec::new(), open: Vec::new(), next: 0, seen: BTreeMap::new() };
    census.walk(&kernel.body);
    let mut memory = Memory { workgroup: first, ..Memory::default() };
    let mut wanted = Vec::new();
    for (&id, seen) in &census.seen {
        if let Int::Const(n) = module.buffers[id.index()].size {
            // The language has no empty array to name where nothing is kept.
            wanted.push((id, n.max(1) as u64, census.life(seen), seen.traffic));
        }
    }
    memory.homes.extend(late(module).0.into_iter().map(|(id, at)| (id, Home::Late { at })));
    let worth = |(_, size, _, traffic): &(BufferId, u64, Life, f64)| *traffic / (*size).max(1) as f64;
    wanted.sort_by(|a, b| worth(b).total_cmp(&worth(a)).then(a.0.cmp(&b.0)));
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for (id, size, life, _) in wanted {
        let at = lowest(&inner, size, life, first);
        let spilled = at + size > capacity;
        let at = if spilled { lowest(&outer, size, life, 0) } else { at };
        let (taken, end) = if spilled { (&mut outer, &mut memory.spill) } else { (&mut inner, &mut memory.workgroup) };
        taken.push((at, size, life));
        *end = (*end).max(at + size);
        memory.homes.insert(id, if spilled { Home::Spill { at, size } } else { Home::Workgroup { at, size } });
    }
    if memory.spill >= 1 << 31 {
        return Err(Unsupported::new(
            format!("the working memory of `{}`", module.name),
            format!(
                "a work item needs {} bytes of it and no more than 2^31 numbers can be addressed",
                memory.spill * 4
            ),
            "choose a smaller chunk with --chunk, or run it with --backend auto",
        ));
    }
    Ok(memory)
}

/// The lowest place free at all times of a life.
fn lowest(taken: &[(u64, u64, Life)], size: u64, life: Life, first: u64) -> u64 {
    let mut rivals: Vec<(u64, u64)> =
        taken.iter().filter(|(_, _, other)| life.meets(*other)).map(|(at, size, _)| (*at, *size)).collect();
    rivals.sort_unstable();
    let mut at = first;
    for (start, length) in rivals {
        if at + size <= start {
            break;
        }
        at = at.max(start + length);
    }
    at
}

/// Statements from the first to the last, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    from: usize,
    to: usize,
}

impl Life {
    fn meets(self, other: Life) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    fn with(self, other: Life) -> Life {
        Life { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

/// What is known of a buffer.
struct Seen {
    life: Life,
    traffic: f64,
    /// Loops that it lives through because rounds differ.
    carried: Vec<usize>,
}

/// A loop that the walk is inside of.
struct Open {
    number: usize,
    var: VarId,
    /// The tokens of a chunk: what every round may take alike.
    length: Int,
    rounds: f64,
    /// Whether what is inside runs in some rounds only, or not alike.
    uneven: bool,
}

struct Census<'m> {
    module: &'m Module,
    ranges: &'m Ranges,
    loops: Vec<Life>,
    open: Vec<Open>,
    next: usize,
    seen: BTreeMap<BufferId, Seen>,
}

impl Census<'_> {
    fn walk(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { var, from, to, step, body } => self.round(*var, [from, to, step], body),
                Stmt::If { left, right, then, otherwise } => {
                    let before: Vec<bool> = self.open.iter().map(|open| open.uneven).collect();
                    let differs = |open: &Open| [left, right].iter().any(|x| touch::varies(x, open.var, &open.length));
                    self.open.iter_mut().for_each(|open| open.uneven |= differs(open));
                    self.walk(then);
                    self.walk(otherwise);
                    self.open.iter_mut().zip(before).for_each(|(open, before)| open.uneven = before);
                }
                _ => self.leaf(stmt),
            }
        }
    }

    fn round(&mut self, var: VarId, [from, to, step]: [&Int; 3], body: &[Stmt]) {
        let before: Vec<bool> = self.open.iter().map(|open| open.uneven).collect();
        let differs = |open: &Open| [from, to, step].iter().any(|x| touch::varies(x, open.var, &open.length));
        self.open.iter_mut().for_each(|open| open.uneven |= differs(open));
        let number = self.loops.len();
        self.loops.push(Life { from: self.next, to: self.next });
        let span = self.ranges.of(to).hi.zip(self.ranges.of(from).lo).map(|(to, from)| (to - from).max(1));
        let rounds = match (span, step) {
            (Some(span), Int::Const(step)) => span as f64 / (*step).max(1) as f64,
            _ => 16.0,
        };
        let length = (to.clone() - Int::Var(var)).min(step.clone());
        self.open.push(Open { number, var, length, rounds, uneven: false });
        self.walk(body);
        self.open.pop();
        self.loops[number].to = self.next.saturating_sub(1).max(self.loops[number].from);
        self.open.iter_mut().zip(before).for_each(|(open, before)| open.uneven = before);
    }

    fn leaf(&mut self, stmt: &Stmt) {
        let here = Life { from: self.next, to: self.next };
        self.next += 1;
        let module = self.module;
        let scratch = |id: BufferId| module.buffers[id.index()].role == BufferRole::Scratch;
        let differs = |open: &Open| {
            let mut found = open.uneven;
            touch::ints(stmt, &|access| !scratch(access.buffer), &mut |x| {
                found |= touch::varies(x, open.var, &open.length);
            });
            found
        };
        let carried: Vec<usize> = self.open.iter().filter(|open| differs(open)).map(|open| open.number).collect();
        let rounds: f64 = self.open.iter().map(|open| open.rounds).product();
        for used in touch::uses(stmt) {
            if !scratch(used.access.buffer) {
                continue;
            }
            let traffic = rounds * self.traffic(stmt, &used);
            let new = Seen { life: here, traffic: 0.0, carried: Vec::new() };
            let seen = self.seen.entry(used.access.buffer).or_insert(new);
            seen.life = seen.life.with(here);
            seen.traffic += traffic;
            seen.carried.extend(&carried);
        }
    }

    /// About how many elements one execution of a statement moves through an access.
    fn traffic(&self, stmt: &Stmt, used: &Use) -> f64 {
        let most = |x: &Int| self.ranges.most(x).unwrap_or(64).max(1) as f64;
        let all = |axes: &[Int]| axes.iter().map(most).product::<f64>();
        match stmt {
            Stmt::Map(x) => all(&x.axes),
            Stmt::Reduce(x) => all(&x.axes) * if used.written { 1.0 } else { most(&x.inner) },
            Stmt::Scan(x) => all(&x.axes) * most(&x.inner),
            Stmt::Product(x) if used.access == &x.dst => most(&x.m) * most(&x.n),
            Stmt::Product(x) => most(&x.m) * most(&x.n) * most(&x.k) / 4.0,
            Stmt::Solve(x) => most(&x.n) * most(&x.n) * most(&x.columns) / 4.0,
            Stmt::For { .. } | Stmt::If { .. } | Stmt::Sweep(_) => 0.0,
        }
    }

    /// A buffer's life, loops that it lives through included.
    fn life(&self, seen: &Seen) -> Life {
        let mut life = seen.life;
        loop {
            let before = life;
            for (number, span) in self.loops.iter().enumerate().rev() {
                let inside = span.from <= life.from && life.to <= span.to;
                if life.meets(*span) && (!inside || seen.carried.contains(&number)) {
                    life = life.with(*span);
                }
            }
            if life == before {
                return life;
            }
        }
    }
}

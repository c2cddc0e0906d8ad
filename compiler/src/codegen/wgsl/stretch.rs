//! Kernels that take more trips than one dispatch may: written so that a dispatch does a stretch of them, and the next one
//! goes on where it stopped.
//!
//! ```text
//! place       of a statement or loop among those beside it, then its round, from the outermost loop on: words of the uniform
//! statements  loop { if (before the first place || not before the last) { break; } ...; break; }
//! loop        for (v = from + first round * step or from; v < from + last round * step or to; ..)
//! memory      workgroup memory is kept in the spill binding between dispatches; the rest lies in bindings anyway
//! ```
//!
//! What is done in one dispatch stands together in the order of the kernel, so barriers hold as they are written, and what
//! a kernel reads or keeps does not matter: every dispatch sees all tensors, and finds all memory as the last one left it.

use crate::kernel::{Int, Stmt, VarId};

use super::barrier::Fence;
use super::map::Elements;
use super::shader::Emitter;
use super::trips::{Trips, Unit};
use super::{Word, binding};

/// Loops inside each other that a dispatch may stop in.
const DEPTH: usize = 3;
/// Statements that take no more than this part of what a dispatch may are done together.
const TOGETHER: u64 = 8;

/// The words of a module with such kernels.
pub(super) fn words() -> impl Iterator<Item = Word> {
    let places = 0..2 * DEPTH;
    places.clone().map(Word::Begin).chain(places.map(Word::End)).chain([Word::Kept])
}

/// Whether the surrounding round is the one that the stretch begins or ends in: names of bools; none for the kernel itself,
/// which always is.
#[derive(Debug, Clone, Default)]
struct Edges {
    begin: Option<String>,
    end: Option<String>,
    depth: usize,
}

impl Emitter<'_> {
    /// A kernel's statements, memory taken over before and kept after; what a dispatch may do of them, and the trips that
    /// it takes beside that.
    pub(super) fn stretched(&mut self, body: &[Stmt]) -> (Vec<Unit>, u64) {
        let places: Vec<String> = (0..2 * DEPTH).map(|n| self.word(Word::Begin(n))).collect();
        let resumed = self.t.set("c", format_args!("({}) != 0", places.join(" | ")));
        let restored = self.kept(&format!("!{resumed}"), |kept, w| format!("{w} = {kept};"));
        let units = self.units(body, &Edges::default());
        let done = format!("{} >= {}", self.word(Word::End(0)), units.len());
        let kept = self.kept(&done, |kept, w| format!("{kept} = {w};"));
        let idle = self.trips.first().map_or(0, Trips::idle);
        // Twice more for the rounds that a stretch begins and ends in: what it does not do of them it passes through.
        (units, idle.saturating_mul(3) + restored + kept)
    }

    /// Copies workgroup memory unless `leave` holds; the trips that takes.
    fn kept(&mut self, leave: &str, copy: impl FnOnce(String, String) -> String) -> u64 {
        let elements = self.memory.workgroup;
        if elements == 0 {
            return 0;
        }
        let count = Int::Const(elements as i64);
        let all = Elements::new(format!("{elements}u"), Some(elements), count);
        self.trips.push(Trips::default());
        self.open_loop("loop");
        self.t.line(format_args!("if ({leave}) {{ break; }}"));
        self.t.line("workgroupBarrier();");
        self.t.line("storageBarrier();");
        let first = self.t.set("at", format_args!("{} + place * {elements}", self.word(Word::Kept)));
        self.each(&all, 1, |this, e| {
            this.t.line(copy(format!("spill[{first} + i32({e})]"), format!("w[{e}]")));
        });
        self.t.line("workgroupBarrier();");
        self.t.line("break;");
        self.close_loop(Int::Const(1));
        self.settled(Fence::All);
        self.trips.pop().and_then(|trips| trips.known()).unwrap_or(0)
    }

    fn word(&self, word: Word) -> String {
        // Kernels are written like this only where the table has the words.
        self.frame.table.word(word).map_or("0".to_owned(), binding::word)
    }

    fn units(&mut self, body: &[Stmt], edges: &Edges) -> Vec<Unit> {
        let wanted = self.frame.options.limits.stretch();
        let (mut units, mut waiting, mut known) = (Vec::new(), 0, 0u64);
        for (place, stmt) in body.iter().enumerate() {
            let trips = self.measured(std::slice::from_ref(stmt)).known();
            match stmt {
                Stmt::For { var, from, to, step, body: inner }
                    if trips.is_none_or(|n| n > wanted) && edges.depth < DEPTH =>
                {
                    self.done_together(&body[waiting..place], edges, &mut units);
                    waiting = place + 1;
                    known = 0;
                    let unit = self.some_rounds((*var, [from, to, step]), inner, (units.len(), edges));
                    units.push(unit);
                }
                _ => {
                    let together = trips.map(|n| known.saturating_add(n)).filter(|n| *n <= wanted / TOGETHER);
                    if together.is_none() {
                        self.done_together(&body[waiting..place], edges, &mut units);
                        waiting = place;
                    }
                    known = together.or(trips).unwrap_or(wanted);
                }
            }
        }
        self.done_together(&body[waiting..], edges, &mut units);
        units
    }

    /// The trips of statements, which are not written.
    fn measured(&mut self, body: &[Stmt]) -> Trips {
        let (mark, known, pending) = (self.t.mark(), self.lets.len(), self.pending.clone());
        self.trips.push(Trips::default());
        self.block(body);
        self.t.rewind(mark);
        self.lets.truncate(known);
        self.pending = pending;
        self.trips.pop().unwrap_or_default()
    }

    /// Statements that are done together, where the stretch holds them.
    fn done_together(&mut self, body: &[Stmt], edges: &Edges, units: &mut Vec<Unit>) {
        if body.is_empty() {
            return;
        }
        let place = units.len();
        let (begin, end) = (self.word(Word::Begin(2 * edges.depth)), self.word(Word::End(2 * edges.depth)));
        let within = |flag: &Option<String>| flag.iter().map(|flag| format!("{flag} && ")).collect::<String>();
        let (first, last) = (within(&edges.begin), within(&edges.end));
        let known = self.lets.len();
        self.trips.push(Trips::default());
        self.open_loop("loop");
        self.t.line(format_args!("if (({first}{begin} > {place}) || ({last}{end} <= {place})) {{ break; }}"));
        self.block(body);
        self.t.line("break;");
        self.close_loop(Int::Const(1));
        self.lets.truncate(known);
        let trips = self.trips.pop().unwrap_or_default();
        self.passed(trips.clone());
        units.push(Unit::Whole(trips));
    }

    /// A loop, of whose rounds a stretch holds some.
    fn some_rounds(
        &mut self,
        (var, [from, to, step]): (VarId, [&Int; 3]),
        body: &[Stmt],
        (place, edges): (usize, &Edges),
    ) -> Unit {
        let wanted = self.frame.options.limits.stretch();
        let is_long = self.measured(body).known().is_none_or(|n| n >= wanted) && edges.depth + 1 < DEPTH;
        let count = self.rounds_of([from, to, step]);
        let [from, to] = [from, to].map(|x| self.hoist(x));
        let step = self.step(step);
        let [begin, end] = [Word::Begin, Word::End].map(|of| [0, 1].map(|n| self.word(of(2 * edges.depth + n))));
        let starts = self.t.set("n", format_args!("min({to}, {from} + {} * {step})", begin[1]));
        let ends = self.t.set("n", format_args!("min({to}, {from} + {} * {step})", end[1]));
        let after = if is_long { format!("min({to}, {ends} + {step})") } else { ends.clone() };
        let here = |flag: &Option<String>, test: String| match flag {
            Some(flag) => format!("{flag} && {test}"),
            None => test,
        };
        let [at_begin, at_end] = [
            here(&edges.begin, format!("{} == {place}", begin[0])),
            here(&edges.end, format!("{} == {place}", end[0])),
        ];
        let [passed, ahead] =
            [here(&edges.begin, format!("{} > {place}", begin[0])), here(&edges.end, format!("{} < {place}", end[0]))];
        let first = self.t.set("n", format_args!("select(select({from}, {starts}, {at_begin}), {to}, {passed})"));
        let last = self.t.set("n", format_args!("select(select({to}, {after}, {at_end}), {from}, {ahead})"));
        let head = format!("for (var v{0} = {first}; v{0} < {last}; v{0} += {step})", var.0);
        let mut inside = Vec::new();
        let each = self.turns(&head, &count, |this| {
            if !is_long {
                return this.block(body);
            }
            let begin = this.t.set("c", format_args!("{at_begin} && v{} == {starts}", var.0));
            let end = this.t.set("c", format_args!("{at_end} && v{} == {ends}", var.0));
            let edges = Edges { begin: Some(begin), end: Some(end), depth: edges.depth + 1 };
            inside = this.units(body, &edges);
        });
        Unit::Rounds { count, each, inside }
    }
}

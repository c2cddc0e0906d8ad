//! Maps and scans, and how invocations share the elements of a box.

use crate::kernel::{Access, Int, Map, Scan, ScanFrom, Stmt, Value, visit};

use super::barrier::{Pending, Touch};
use super::reduce;
use super::shader::Emitter;
use super::value::Spot;

/// Steps of a scan that are read ahead.
const AHEAD: usize = 8;

/// Maps written as one at the most.
const TOGETHER: usize = 8;

/// Elements numbered from 0, the last axis fastest. Where an extent is known only when the kernel runs but never above a
/// constant, elements are numbered as if it were that constant, and those outside are skipped: dividing is cheap then.
pub(super) struct Elements {
    /// How many numbers, as a u32 expression.
    pub(super) total: String,
    /// The most that it can be.
    pub(super) most: Option<u64>,
    /// The same in terms of params.
    count: Int,
    /// Extents: what numbers are divided by, and what an index must be below if that is less.
    widths: Vec<(String, Option<String>)>,
}

impl Elements {
    /// Numbers alone.
    pub(super) fn new(total: String, most: Option<u64>, count: Int) -> Self {
        Self { total, most, count, widths: Vec::new() }
    }

    /// The same box, of whose numbers as many are gone through as it may have at the most.
    pub(super) fn counted(&self, count: u64) -> Self {
        let mut widths = self.widths.clone();
        if let Some((width, below)) = widths.first_mut()
            && width.parse::<u64>().is_err()
        {
            *below = Some(width.clone());
        }
        Self { total: format!("{count}u"), most: Some(count), count: Int::Const(count as i64), widths }
    }
}

/// The most numbers that an invocation takes of so many.
pub(super) fn shared_out(count: Int, invocations: u32) -> Int {
    (count + i64::from(invocations) - 1i64).floor_div(i64::from(invocations))
}

impl Emitter<'_> {
    pub(super) fn elements(&mut self, axes: &[Int]) -> Elements {
        let mut widths = Vec::new();
        let (mut constant, mut others) = (1u64, Vec::new());
        let mut count = Int::Const(1);
        for (d, axis) in axes.iter().enumerate() {
            let extent = self.extent(axis);
            let known = match axis {
                Int::Const(n) => Some((*n).max(0)),
                _ if d > 0 => self.ranges.most(axis),
                _ => None,
            };
            match known {
                Some(most) => {
                    constant = constant.saturating_mul(most as u64);
                    let exact = matches!(axis, Int::Const(_));
                    count = count * most;
                    widths.push((most.to_string(), (!exact).then_some(extent)));
                }
                None => {
                    count = count * self.most_of(axis);
                    others.push(extent.clone());
                    widths.push((extent, None));
                }
            }
        }
        let total = match others.is_empty() {
            true => format!("{constant}u"),
            false if constant == 1 => format!("u32({})", others.join(" * ")),
            false => format!("u32({constant} * {})", others.join(" * ")),
        };
        let first = axes.first().map_or(Some(1), |axis| self.ranges.most(axis));
        let rest = axes.get(1..).map_or(Some(1), |rest| self.ranges.volume(rest));
        let most = first.zip(rest).and_then(|(a, b)| u64::try_from(a.checked_mul(b)?).ok());
        let count = most.map_or(count, |most| Int::Const(most as i64));
        Elements { total, most, count, widths }
    }

    /// Writes `body` for every number below `elements.total * times`, shared by the invocations. It is given the number.
    pub(super) fn each(&mut self, elements: &Elements, times: u64, body: impl FnOnce(&mut Self, &str)) {
        let total = if times == 1 { elements.total.clone() } else { format!("{} * {times}u", elements.total) };
        let known = self.lets.len();
        let once = elements.most.is_some_and(|most| most.saturating_mul(times) <= u64::from(self.invocations));
        if once {
            self.t.open(format_args!("if (li < {total})"));
            body(self, "li");
            self.t.close();
        } else {
            let e = self.t.fresh("e");
            let w = self.invocations;
            self.open_loop(format_args!("for (var {e} = li; {e} < {total}; {e} += {w}u)"));
            body(self, &e);
            self.close_loop(shared_out(elements.count.clone() * times as i64, w));
        }
        self.lets.truncate(known);
    }

    /// Writes `body` for the element of a number: it is given the element's index. Skips numbers outside.
    pub(super) fn element(&mut self, elements: &Elements, number: &str, body: impl FnOnce(&mut Self, &[String])) {
        let mut index = vec![String::new(); elements.widths.len()];
        let mut rest = number.to_owned();
        let mut conditions = Vec::new();
        for (d, (width, below)) in elements.widths.iter().enumerate().rev() {
            let width_u = if width.parse::<u64>().is_ok() { format!("{width}u") } else { format!("u32({width})") };
            index[d] = match (d, width.as_str()) {
                (_, "1") => "0".to_owned(),
                (0, _) => self.t.set("i", format_args!("i32({rest})")),
                _ => self.t.set("i", format_args!("i32({rest} % {width_u})")),
            };
            if d > 0 && width != "1" {
                rest = format!("({rest} / {width_u})");
            }
            if let Some(below) = below {
                conditions.push(format!("{} < {below}", index[d]));
            }
        }
        self.guarded(&conditions, |this| body(this, &index));
    }

    pub(super) fn guarded(&mut self, conditions: &[String], body: impl FnOnce(&mut Self)) {
        if conditions.is_empty() {
            return body(self);
        }
        let known = self.lets.len();
        self.t.open(format_args!("if ({})", conditions.join(" && ")));
        body(self);
        self.t.close();
        self.lets.truncate(known);
    }

    /// The first of some statements and the maps after it that may be written as one: an invocation goes from one to the
    /// next for each of its elements.
    pub(super) fn together<'s>(&self, body: &'s [Stmt]) -> Vec<&'s Map> {
        let mut group = Pending::default();
        let mut found: Vec<&Map> = Vec::new();
        for stmt in body.iter().take(TOGETHER) {
            let Stmt::Map(map) = stmt else { break };
            let alike = found.first().is_none_or(|first| first.axes == map.axes && first.below == map.below);
            let touches = self.touches(&map.value, Some(&map.axes), &map.dst);
            if !alike || group.fence(&touches).is_some() {
                break;
            }
            group.add(&touches);
            found.push(map);
        }
        found
    }

    /// Maps of the same elements, none of which waits for another.
    pub(super) fn maps(&mut self, maps: &[&Map]) {
        let Some(first) = maps.first() else { return };
        let mut touches = Vec::new();
        for map in maps {
            touches.extend(self.touches(&map.value, Some(&map.axes), &map.dst));
        }
        let elements = self.elements(&first.axes);
        let below = first.below.as_ref().map(|d| self.hoist(d));
        let mut spots = Vec::new();
        for map in maps {
            self.prepare(&map.value);
            spots.push(self.spot(&map.dst));
        }
        self.before(&touches);
        self.each(&elements, 1, |this, number| {
            this.element(&elements, number, |this, index| {
                let kept = match (&below, index) {
                    (Some(below), [.., i, j]) => vec![format!("{j} <= {i} + {below}")],
                    _ => Vec::new(),
                };
                this.guarded(&kept, |this| {
                    for (map, dst) in maps.iter().zip(&spots) {
                        let x = this.value(&map.value, index);
                        this.store(dst, index, &x);
                    }
                });
            });
        });
    }

    /// What evaluating a value touches, and writing its result; `axes` where each element is one invocation's own.
    pub(super) fn touches(&self, value: &Value, axes: Option<&[Int]>, dst: &Access) -> Vec<Touch> {
        let mut touches = self.reads(value, axes);
        touches.push(self.touch(dst, true, axes));
        touches
    }

    /// What evaluating a value touches.
    pub(super) fn reads(&self, value: &Value, axes: Option<&[Int]>) -> Vec<Touch> {
        let mut touches = Vec::new();
        visit::accesses(value, &mut |access| touches.push(self.touch(access, false, axes)));
        touches
    }

    /// One invocation runs along r for each element of the axes.
    pub(super) fn scan(&mut self, scan: &Scan) {
        let touches = self.touches(&scan.value, None, &scan.dst);
        let elements = self.elements(&scan.axes);
        let (inner, most) = (self.extent(&scan.inner), self.most_of(&scan.inner));
        self.prepare(&scan.value);
        let dst = self.spot(&scan.dst);
        self.before(&touches);
        self.each(&elements, 1, |this, number| {
            this.element(&elements, number, |this, index| {
                let empty = reduce::empty(scan.op);
                let sum = this.t.fresh("s");
                let r = this.t.fresh("r");
                let mut whole = index.to_vec();
                this.t.line(format_args!("var {sum} = {empty};"));
                let first = match scan.from {
                    ScanFrom::First => "0".to_owned(),
                    ScanFrom::Diagonal => {
                        let i = index[0].clone();
                        whole.push(i.clone());
                        this.guarded(&[format!("{i} < {inner}")], |this| this.store(&dst, &whole, &sum));
                        whole.pop();
                        format!("{i} + 1")
                    }
                };
                this.t.line(format_args!("var {r} = {first};"));
                let many = most.floor_div(AHEAD);
                let rest = Int::Const(AHEAD as i64 - 1);
                for (bound, steps, count) in
                    [(format!("{r} + {AHEAD} <= {inner}"), AHEAD, many), (format!("{r} < {inner}"), 1, rest)]
                {
                    let known = this.lets.len();
                    this.open_loop(format_args!("for (; {bound}; {r} += {steps})"));
                    this.run(scan, &dst, (&sum, &r), (&whole, steps));
                    this.close_loop(count);
                    this.lets.truncate(known);
                }
            });
        });
    }

    /// Some steps of a scan: all values are read before any result is written, which no compiler could do by itself.
    fn run(&mut self, scan: &Scan, dst: &Spot, (sum, r): (&str, &str), (index, steps): (&[String], usize)) {
        let at = |step: usize| {
            let r = if step == 0 { r.to_owned() } else { format!("({r} + {step})") };
            index.iter().cloned().chain([r]).collect::<Vec<String>>()
        };
        let mut values = Vec::new();
        for step in 0..steps {
            let x = self.value(&scan.value, &at(step));
            values.push(self.t.set("x", x));
        }
        for (step, x) in values.iter().enumerate() {
            let joined = self.join(scan.op, sum, x);
            self.t.line(format_args!("{sum} = {joined};"));
            self.store(dst, &at(step), sum);
        }
    }
}

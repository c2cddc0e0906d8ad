//! Maps and scans, and how invocations share the elements of a box.

use crate::kernel::{Int, Map, Scan, ScanFrom, Value};

use super::barrier::Touch;
use super::reduce;
use super::shader::Emitter;
use super::touch;

/// Elements numbered from 0, the last axis fastest. Where an extent is known only when the kernel runs but never above a
/// constant, elements are numbered as if it were that constant, and those outside are skipped: dividing is cheap then.
pub(super) struct Elements {
    /// How many numbers, as a u32 expression.
    pub(super) total: String,
    /// The most that it can be.
    pub(super) most: Option<u64>,
    /// Extents: what numbers are divided by, and what an index must be below if that is less.
    widths: Vec<(String, Option<String>)>,
}

impl Elements {
    /// Numbers alone.
    pub(super) fn new(total: String, most: Option<u64>) -> Self {
        Self { total, most, widths: Vec::new() }
    }

    /// The same box, of which so many numbers are gone through.
    pub(super) fn counted(&self, count: u64) -> Self {
        Self { total: format!("{count}u"), most: Some(count), widths: self.widths.clone() }
    }
}

impl Emitter<'_> {
    pub(super) fn elements(&mut self, axes: &[Int]) -> Elements {
        let mut widths = Vec::new();
        let (mut constant, mut others) = (1u64, Vec::new());
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
                    widths.push((most.to_string(), (!exact).then_some(extent)));
                }
                None => {
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
        Elements { total, most, widths }
    }

    /// Writes `body` for every number below `elements.total * times`, shared by the invocations. It is given the number.
    pub(super) fn each(&mut self, elements: &Elements, times: u64, body: impl FnOnce(&mut Self, &str)) {
        let total = if times == 1 { elements.total.clone() } else { format!("{} * {times}u", elements.total) };
        let known = self.lets.len();
        let once = elements.most.is_some_and(|most| most.saturating_mul(times) <= u64::from(self.invocations));
        if once {
            self.t.open(format_args!("if (li < {total})"));
            body(self, "li");
        } else {
            let e = self.t.fresh("e");
            let w = self.invocations;
            self.t.open(format_args!("for (var {e} = li; {e} < {total}; {e} += {w}u)"));
            body(self, &e);
        }
        self.t.close();
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

    pub(super) fn map(&mut self, map: &Map) {
        let touches = self.touches(&map.value, Some(&map.axes), (&map.dst, true));
        let elements = self.elements(&map.axes);
        let below = map.below.as_ref().map(|d| self.hoist(d));
        self.prepare(&map.value);
        let dst = self.spot(&map.dst);
        self.before(&touches);
        self.each(&elements, 1, |this, number| {
            this.element(&elements, number, |this, index| {
                let kept = match (&below, index) {
                    (Some(below), [.., i, j]) => vec![format!("{j} <= {i} + {below}")],
                    _ => Vec::new(),
                };
                this.guarded(&kept, |this| {
                    let x = this.value(&map.value, index);
                    this.store(&dst, index, &x);
                });
            });
        });
    }

    /// What evaluating a value touches, and writing its result; `axes` where each element is one invocation's own.
    pub(super) fn touches(
        &self,
        value: &Value,
        axes: Option<&[Int]>,
        (dst, own): (&crate::kernel::Access, bool),
    ) -> Vec<Touch> {
        let mut touches = Vec::new();
        touch::loads(value, &mut |access| touches.push(self.touch(access, false, axes)));
        touches.push(self.touch(dst, true, axes.filter(|_| own)));
        touches
    }

    /// One invocation runs along r for each element of the axes.
    pub(super) fn scan(&mut self, scan: &Scan) {
        let touches = self.touches(&scan.value, None, (&scan.dst, false));
        let elements = self.elements(&scan.axes);
        let inner = self.extent(&scan.inner);
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
                whole.push(r.clone());
                let known = this.lets.len();
                this.t.open(format_args!("for (var {r} = {first}; {r} < {inner}; {r}++)"));
                let x = this.value(&scan.value, &whole);
                let joined = this.join(scan.op, &sum, &x);
                this.t.line(format_args!("{sum} = {joined};"));
                this.store(&dst, &whole, &sum);
                this.t.close();
                this.lets.truncate(known);
            });
        });
    }
}

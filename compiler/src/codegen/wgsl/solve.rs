//! Forward substitution: blocks of rows, each solved column by column, then taken out of all rows below as a product.

use crate::kernel::{Int, Solve};

use super::map::shared_out;
use super::product::{Steps, Sum};
use super::shader::Emitter;
use super::value::Spot;

/// Rows of a block.
const BLOCK: i64 = 16;
/// Systems up to which a block's column is held in registers: the statements grow with the square of their number, and a
/// software driver takes minutes for what two of them make.
const HELD: usize = 1;

impl Emitter<'_> {
    pub(super) fn solve(&mut self, solve: &Solve) {
        let [n, columns] = [&solve.n, &solve.columns].map(|x| self.extent(x));
        let p: Vec<Spot> = solve.p.iter().map(|x| self.spot(x)).collect();
        let x: Vec<Spot> = solve.x.iter().map(|x| self.spot(x)).collect();
        let read: Vec<_> = solve.p.iter().chain(&solve.x).map(|a| self.touch(a, false, None)).collect();
        let written: Vec<_> = solve.x.iter().map(|a| self.touch(a, true, None)).collect();
        let all: Vec<_> = read.into_iter().chain(written).collect();
        let elements = self.elements(std::slice::from_ref(&solve.columns));
        let most = self.ranges.most(&solve.n);
        let block = most.map_or(BLOCK, |n| n.clamp(1, BLOCK));
        if most.is_some_and(|n| n <= BLOCK) {
            self.before(&all);
            return self.diagonal(&elements, ("0", &n), (&p, &x), block);
        }
        let (from, to) = (self.t.fresh("r"), self.t.fresh("n"));
        self.open_loop(format_args!("for (var {from} = 0; {from} < {n}; {from} += {BLOCK})"));
        self.t.line(format_args!("let {to} = min({from} + {BLOCK}, {n});"));
        // A round starts from what the one before has written everywhere.
        self.note(&all);
        self.before(&all);
        self.diagonal(&elements, (&from, &to), (&p, &x), block);
        self.before(&all);
        let bounds = [self.most_of(&solve.n), self.most_of(&solve.columns), Int::Const(BLOCK)];
        for (i, row) in p.chunks(x.len()).enumerate() {
            self.tiles(&Sum {
                rows: (to.clone(), n.clone()),
                columns: columns.clone(),
                inner: (from.clone(), to.clone()),
                pairs: row.iter().zip(&x).collect(),
                dst: &x[i],
                accumulate: true,
                steps: Steps::All,
                lower: false,
                most: (most.map(|n| n - BLOCK), self.ranges.most(&solve.columns)),
                bounds: bounds.clone(),
                exact: (false, matches!(solve.columns, Int::Const(_))),
            });
        }
        let [rows, ..] = bounds;
        self.close_loop(shared_out(rows, BLOCK as u32));
    }

    /// The rows of a block among each other, a column an invocation.
    fn diagonal(
        &mut self,
        columns: &super::map::Elements,
        rows: (&str, &str),
        systems: (&[Spot], &[Spot]),
        block: i64,
    ) {
        self.each(columns, 1, |this, number| {
            this.element(columns, number, |this, index| {
                if systems.1.len() <= HELD {
                    this.held(rows, systems, &index[0], block);
                } else {
                    this.stepped(rows, systems, &index[0]);
                }
            });
        });
    }

    /// A column in registers, one statement a step.
    fn held(&mut self, (from, to): (&str, &str), (p, x): (&[Spot], &[Spot]), column: &str, block: i64) {
        let r = x.len();
        let mut known: Vec<Vec<String>> = Vec::new();
        for t in 0..block {
            let row = if t == 0 { from.to_owned() } else { self.t.set("i", format_args!("{from} + {t}")) };
            let names: Vec<String> = (0..r).map(|_| self.t.fresh("s")).collect();
            for name in &names {
                self.t.line(format_args!("var {name} = 0.0f;"));
            }
            self.guarded(&[format!("{row} < {to}")], |this| {
                for (i, name) in names.iter().enumerate() {
                    let here = [row.clone(), column.to_owned()];
                    this.t.line(format_args!("{name} = {};", x[i].load(&here)));
                    for (s, before) in known.iter().enumerate() {
                        for (j, other) in before.iter().enumerate() {
                            let step = format!("({from} + {s})");
                            let factor = p[i * r + j].load(&[row.clone(), step]);
                            this.t.line(format_args!("{name} = fma({factor}, {other}, {name});"));
                        }
                    }
                    if t > 0 {
                        this.store(&x[i], &here, name);
                    }
                }
            });
            known.push(names);
        }
    }

    /// A column in memory: an invocation reads back what it wrote itself.
    fn stepped(&mut self, (from, to): (&str, &str), (p, x): (&[Spot], &[Spot]), column: &str) {
        let (t, s) = (self.t.fresh("r"), self.t.fresh("r"));
        self.open_loop(format_args!("for (var {t} = {from} + 1; {t} < {to}; {t}++)"));
        for (i, system) in x.iter().enumerate() {
            let sum = self.t.fresh("s");
            let here = [t.clone(), column.to_owned()];
            self.t.line(format_args!("var {sum} = {};", system.load(&here)));
            self.open_loop(format_args!("for (var {s} = {from}; {s} < {t}; {s}++)"));
            for (j, other) in x.iter().enumerate() {
                let factor = p[i * x.len() + j].load(&[t.clone(), s.clone()]);
                let known = other.load(&[s.clone(), column.to_owned()]);
                self.t.line(format_args!("{sum} = fma({factor}, {known}, {sum});"));
            }
            self.close_loop(Int::Const(BLOCK));
            self.store(system, &here, &sum);
        }
        self.close_loop(Int::Const(BLOCK));
    }
}

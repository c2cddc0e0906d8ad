//! Decays as factors, and what a factor lost when it was rounded to f32: it would lose the same at every token again.
//!
//! ```text
//! a = exp(x)      rest = exp(x) - 1 where -4 < x <= 0, else exp(x);   whole = 1 where rest < 0, else 0
//!                 factor = fl(whole + rest);   lost = rest - (factor - whole)
//! another a       factor = a: it is what the program gives
//! S = a S + W     S = factor S + (lost S + W)
//! of a block      exp of the sum of its x; or the product P of its a, P - 1 = sum over t of (a[0] .. a[t-1]) (a[t] - 1)
//! of its tokens   factor S + W; the last one's lost is what it lost + factor (sum of what those before it lost)
//! of both sides   (w + r) (v + q) = w v + (r v + q (w + r)): again a whole and a rest, for each element at every token
//! ```
//!
//! A factor is off by up to 2^-25, so n tokens of one decay would move the state by n 2^-25: 4e-4 where x = -1e-5 and
//! n = 60,000. What it lost is known to 2^-24 of the rest. `lost S` is summed with the write first: alone it would be
//! less than half a digit of S. What is left is the rounding of the last sum, 2^-24 of S at most, which the write makes
//! another one at every token: about the square root of n times as much in the end (4e-6 for 65,536 tokens of x = -1e-6).
//! Strong decays lose nothing: their whole is 0 and their factor is the rest, 0 where it is exactly 0. Between, where x is
//! below -1 say, what is left of the state is off by 2^-25 of what was there before the token. A state that fades goes
//! through no number below the normal range: there the factor alone counts, and what it leaves is 0.
//!
//! Tokens take their factors alone, and the last one of the block gives back what those before it lost. So a read within
//! a block of C tokens is off by up to C 2^-25 (C = 64: 2e-6), which no block hands on. The same holds of products of
//! decays within a block. A parallel form, whose block is the whole sequence, sums exponents instead (`running_decay`).
//!
//! Not done: `S + (rest S + W)` at every token, which is as right but takes a third more time a token, and never lets go
//! of a state below the least normal number over the rest; `(S + W) + rest S`, which takes no more time but rounds
//! `rest S` to the digits of S, thousands of times the same way (5e-5 where x = -1e-6 and n = 65,536, 4e-3 where
//! x = -1e-5 and n = 1,000,000).

use chunkwise_dsl::typed::Function;
use petgraph::graph::NodeIndex;

use crate::{
    Form,
    ir::{Leaf, facts::Definition},
    kernel::{Access, Int, Reduce, ReduceOp, Scan, ScanFrom, Stmt, Value},
    plan::{Op, StatePlan},
};

use super::{
    super::{Result, Tile, decay::FORGOTTEN, emit::call},
    Emission, at, extent,
    products::{down, from_row, shifted},
    row_of,
    stream::with_broadcast,
    with_rank,
};

/// How far from 1 the whole of a decay that is no exponential is 1.
const NEAR_ONE: f64 = 0.25;

/// The factor of a decay and, where it is an exponential, what that lost.
#[derive(Debug, Clone)]
pub(super) struct Decay<T> {
    pub(super) factor: T,
    pub(super) lost: Option<T>,
}

/// What scales a state: decays as tiles of rows, or as accesses of one number for each element.
pub(super) enum Scales<T> {
    Nothing,
    Rows(Decay<T>),
    Columns(Decay<T>),
    /// The whole and the rest of each side.
    Both([[T; 2]; 2]),
}

impl<T> Scales<T> {
    /// The decay of an element, by the factors of its row (side 0) and its column (side 1).
    fn of_element(&self, load: &dyn Fn(&T, usize) -> Value) -> Option<Decay<Value>> {
        let one = |Decay { factor, lost }: &Decay<T>, side| Decay {
            factor: load(factor, side),
            lost: lost.as_ref().map(|lost| load(lost, side)),
        };
        match self {
            Scales::Nothing => None,
            Scales::Rows(rows) => Some(one(rows, 0)),
            Scales::Columns(columns) => Some(one(columns, 1)),
            Scales::Both([rows, columns]) => {
                let ([w, r], [v, q]) = (rows.each_ref().map(|x| load(x, 0)), columns.each_ref().map(|x| load(x, 1)));
                // (w + r) (v + q) = w v + (r v + q (w + r))
                let [add, mul] = [Function::Add, Function::Mul];
                let rest = call(add, [call(mul, [r.clone(), v.clone()]), call(mul, [q, call(add, [w.clone(), r])])]);
                let whole = call(mul, [w, v]);
                let factor = call(add, [whole.clone(), rest.clone()]);
                let lost = lost_by(rest, factor.clone(), whole);
                Some(Decay { factor, lost: Some(lost) })
            }
        }
    }

    /// What they leave of a state, as summands: what is summed with a write goes with the last one.
    pub(super) fn kept(&self, state: &Value, load: &dyn Fn(&T, usize) -> Value) -> Vec<Value> {
        let times = |factor| call(Function::Mul, [factor, state.clone()]);
        match self.of_element(load) {
            None => vec![state.clone()],
            Some(Decay { factor, lost }) => [Some(factor), lost].into_iter().flatten().map(times).collect(),
        }
    }
}

/// How a state decays at the tokens of a block.
pub(super) struct Spans {
    /// The factors.
    pub(super) each: Decay<Tile>,
    /// At the last token, where that is another: with what all lost.
    pub(super) last: Option<Decay<Tile>>,
}

/// The logarithm of a decay, as a sum.
struct Exponent {
    constant: f64,
    terms: Vec<Power>,
}

/// The logarithm of a factor to a power.
struct Power {
    power: i8,
    /// None where the factor is 1.
    exponent: Option<Tile>,
    /// Scalars that must be as said, else the factor is 0.
    guards: Vec<(Tile, bool)>,
}

impl Exponent {
    /// The sum, its tiles looked at as `view` does.
    fn value(&self, view: &dyn Fn(&Tile) -> Access) -> Value {
        let terms = self.terms.iter().filter_map(|term| term.value(view));
        let sum = terms.reduce(|sum, term| call(Function::Add, [sum, term]));
        match sum {
            Some(sum) if self.constant == 0.0 => sum,
            Some(sum) => call(Function::Add, [sum, Value::Const(self.constant)]),
            None => Value::Const(self.constant),
        }
    }
}

impl Power {
    fn value(&self, view: &dyn Fn(&Tile) -> Access) -> Option<Value> {
        if self.exponent.is_none() && self.guards.is_empty() {
            return None;
        }
        let mut value = self.exponent.as_ref().map_or(Value::Const(0.0), |tile| Value::Load(view(tile)));
        if self.power != 1 {
            value = call(Function::Mul, [Value::Const(f64::from(self.power)), value]);
        }
        for (cond, taken) in &self.guards {
            let cond = Box::new(Value::Load(view(cond)));
            let (own, forgotten) = (Box::new(value), Box::new(Value::Const(FORGOTTEN)));
            value = if *taken { Value::Select(cond, own, forgotten) } else { Value::Select(cond, forgotten, own) };
        }
        Some(value)
    }
}

impl Emission<'_, '_> {
    /// The logarithms of a state's decays, before anything else needs the decays: they are made of them.
    pub(super) fn exponents(&mut self, state: &StatePlan) -> Result<()> {
        for leaf in state.normal.decays() {
            for definition in self.definitions(leaf, state.state) {
                self.logarithm(&definition)?;
            }
        }
        Ok(())
    }

    /// A decay at every token of the block.
    pub(super) fn stepped(&mut self, decay: NodeIndex) -> Result<Spans> {
        let Some(x) = self.exponent(decay)? else {
            return Ok(Spans { each: Decay { factor: self.stream(decay, 0)?, lost: None }, last: None });
        };
        let width = self.width(decay);
        let rests = self.rests(decay, &x);
        let factors = self.rows_of("decay", width.clone(), 0);
        self.map(self.axes(&factors), at(&factors), call(Function::ExpOfRest, [Value::Load(at(&rests))]));
        self.known(decay, &factors)?;

        let buffer = self.lowering.scratch("lost", width.clone().unwrap_or(Int::from(1i64)));
        let axes: Vec<Int> = width.into_iter().collect();
        let lost = Tile { row: Int::from(0i64), ..Tile::dense(buffer, 0i64, &axes) };
        let last = self.count() - 1i64;
        let lost_at = |at| call(Function::RestLost, [Value::Load(at)]);
        let (inner, value, dst) = (last.clone(), lost_at(down(&rests)), row_of(&lost, last.clone()));
        self.push(Stmt::Reduce(Reduce { axes: axes.clone(), inner, op: ReduceOp::Sum, dst: dst.clone(), value }));
        let before = [row_of(&factors, last.clone()), dst.clone()].map(Value::Load);
        let own = lost_at(row_of(&rests, last.clone()));
        self.map(axes, dst, call(Function::Add, [own, call(Function::Mul, before)]));
        let each = Decay { factor: factors.clone(), lost: None };
        Ok(Spans { each, last: Some(Decay { factor: factors, lost: Some(lost) }) })
    }

    /// The rests of an exponential's tokens.
    fn rests(&mut self, decay: NodeIndex, x: &Exponent) -> Tile {
        let width = self.width(decay);
        let rests = self.rows_of("rest", width.clone(), 0);
        let value = x.value(&|tile| at(&shaped(tile, width.is_some())));
        self.map(self.axes(&rests), at(&rests), call(Function::ExpRest, [value]));
        rests
    }

    /// The whole and the rest of a decay at every token of the block.
    pub(super) fn apart(&mut self, decay: NodeIndex) -> Result<[Tile; 2]> {
        let width = self.width(decay);
        let whole = self.rows_of("whole", width.clone(), 0);
        let axes = self.axes(&whole);
        if let Some(x) = self.exponent(decay)? {
            let rest = self.rests(decay, &x);
            self.map(axes, at(&whole), whole_of(Value::Load(at(&rest))));
            return Ok([whole, rest]);
        }
        let a = Value::Load(at(&shaped(&self.stream(decay, 0)?, width.is_some())));
        let rest = self.rows_of("rest", width, 0);
        self.map(axes.clone(), at(&whole), near(call(Function::Sub, [a.clone(), Value::Const(1.0)]), NEAR_ONE));
        self.map(axes, at(&rest), call(Function::Sub, [a, Value::Load(at(&whole))]));
        Ok([whole, rest])
    }

    /// A decay's factors are its values from here on, where it is one expression of the program.
    fn known(&mut self, decay: NodeIndex, factors: &Tile) -> Result<()> {
        if let Op::Leaf(Leaf { number: 1.0, factors: powers, .. }, definitions) = self.node(decay).op.clone()
            && let ([(_, 1)], [Definition::Expr(expr)]) = (&powers[..], &definitions[..])
            && self.lowering.variant().expr(*expr).ty.is_scalar() == factors.dims.is_empty()
        {
            self.lowering.bind(*expr, factors.clone())?;
        }
        Ok(())
    }

    /// A decay over the whole block.
    pub(super) fn total(&mut self, decay: NodeIndex) -> Result<Decay<Access>> {
        let axes: Vec<Int> = self.width(decay).into_iter().collect();
        if let Some(x) = self.exponent(decay)? {
            let lost = self.total_rest(decay, &x);
            let factor = self.once("decay", decay);
            let rest = Value::Load(lost.clone());
            self.map(axes.clone(), factor.clone(), call(Function::ExpOfRest, [rest.clone()]));
            self.map(axes, lost.clone(), call(Function::RestLost, [rest]));
            return Ok(Decay { factor, lost: Some(lost) });
        }
        let ([whole, lost], factor) = (self.total_apart(decay)?, self.once("decay", decay));
        let [of_whole, rest, of_factor] = [&whole, &lost, &factor].map(|access| Value::Load(access.clone()));
        self.map(axes.clone(), factor.clone(), call(Function::Add, [of_whole.clone(), rest.clone()]));
        self.map(axes, lost.clone(), lost_by(rest, of_factor, of_whole));
        Ok(Decay { factor, lost: Some(lost) })
    }

    /// Scratch memory for one value of a decay.
    fn once(&mut self, name: &str, decay: NodeIndex) -> Access {
        let width = self.width(decay);
        let buffer = self.lowering.scratch(name, width.clone().unwrap_or(Int::from(1i64)));
        Access::new(buffer, 0i64, width.map(|_| Int::from(1i64)))
    }

    /// The rest of an exponential over the whole block.
    fn total_rest(&mut self, decay: NodeIndex, x: &Exponent) -> Access {
        let width = self.width(decay);
        let axes: Vec<Int> = width.clone().into_iter().collect();
        let [rest, total] = ["rest", "total"].map(|name| self.once(name, decay));
        let (inner, value) = (self.count(), x.value(&|tile| down(&shaped(tile, width.is_some()))));
        let reduce = Reduce { axes: axes.clone(), inner, op: ReduceOp::Sum, dst: total.clone(), value };
        self.push(Stmt::Reduce(reduce));
        self.map(axes, rest.clone(), call(Function::ExpRest, [Value::Load(total)]));
        rest
    }

    /// The whole and the rest of a decay over the whole block.
    pub(super) fn total_apart(&mut self, decay: NodeIndex) -> Result<[Access; 2]> {
        let axes: Vec<Int> = self.width(decay).into_iter().collect();
        if let Some(x) = self.exponent(decay)? {
            let (rest, whole) = (self.total_rest(decay, &x), self.once("whole", decay));
            self.map(axes, whole.clone(), whole_of(Value::Load(rest.clone())));
            return Ok([whole, rest]);
        }
        let [whole, rest, less] = ["whole", "rest", "less"].map(|name| self.once(name, decay));
        let [value, beside] = self.multiplied_up(decay, &axes, &less)?;
        self.map(axes.clone(), whole.clone(), value);
        self.map(axes, rest.clone(), beside);
        Ok([whole, rest])
    }

    /// The whole and the rest of the product over the block of a decay that is no exponential; its difference from 1 is
    /// summed up in `less`.
    fn multiplied_up(&mut self, decay: NodeIndex, axes: &[Int], less: &Access) -> Result<[Value; 2]> {
        let (d, prefix) = (self.stream(decay, 0)?, self.prefix(decay)?);
        let at_token = |tile: &Tile| Value::Load(down(&shaped(tile, !axes.is_empty())));
        let own = call(Function::Sub, [at_token(&d), Value::Const(1.0)]);
        let value = call(Function::Mul, [at_token(&prefix), own]);
        let (inner, dst) = (self.count(), less.clone());
        self.push(Stmt::Reduce(Reduce { axes: axes.to_vec(), inner, op: ReduceOp::Sum, dst, value }));
        let whole = near(Value::Load(less.clone()), NEAR_ONE);
        let product = Value::Load(row_of(&prefix, self.count()));
        let rest = Value::Select(Box::new(whole.clone()), Box::new(Value::Load(less.clone())), Box::new(product));
        Ok([whole, rest])
    }

    /// Products of a decay's rows, each of so many, so many wide, with those before it: `dst[i.., r]`. The rows are looked
    /// at as `view` does. In a parallel form exponents are summed instead, of what is an exponential.
    pub(super) fn running_decay(
        &mut self,
        decay: NodeIndex,
        (width, rows): (Option<Int>, Int),
        dst: Access,
        view: &dyn Fn(&Tile) -> Access,
    ) -> Result<()> {
        let axes: Vec<Int> = width.into_iter().collect();
        let (op, value) = self.joined(decay, &|tile| view(&shaped(tile, !axes.is_empty())))?;
        let scan = Scan { axes: axes.clone(), inner: rows.clone(), op, from: ScanFrom::First, dst: dst.clone(), value };
        self.push(Stmt::Scan(scan));
        if op == ReduceOp::Sum {
            let exp = call(Function::Exp, [Value::Load(dst.clone())]);
            self.map(axes.into_iter().chain([rows]).collect(), dst, exp);
        }
        Ok(())
    }

    /// Products of a decay's rows from `first` on, so many, with those before it: rows 1.. of `prefix`, whose row 0 is 1. In
    /// a parallel form the last one, which goes on from sub-block to sub-block, is the exponential of a sum where it can be.
    pub(super) fn sub_block_prefix(&mut self, decay: NodeIndex, prefix: &Tile, first: &Int, rows: &Int) -> Result<()> {
        let axes: Vec<Int> = extent(prefix).into_iter().collect();
        self.map(axes.clone(), row_of(prefix, Int::from(0i64)), Value::Const(1.0));
        let view = |d: &Tile| down(&from_row(&with_broadcast(d), first));
        let value = Value::Load(view(&self.stream(decay, 0)?));
        let (inner, dst) = (rows.clone(), down(&shifted(prefix, 1)));
        let scan = Scan { axes: axes.clone(), inner, op: ReduceOp::Product, from: ScanFrom::First, dst, value };
        self.push(Stmt::Scan(scan));
        if let (ReduceOp::Sum, value) = self.joined(decay, &view)? {
            let (inner, dst) = (rows.clone(), row_of(prefix, rows.clone()));
            self.push(Stmt::Reduce(Reduce { axes: axes.clone(), inner, op: ReduceOp::Sum, dst: dst.clone(), value }));
            self.map(axes, dst.clone(), call(Function::Exp, [Value::Load(dst)]));
        }
        Ok(())
    }

    /// What joins a decay's rows, and a row: a product of decays, or a sum of exponents whose exponential is wanted.
    pub(super) fn joined(&mut self, decay: NodeIndex, view: &dyn Fn(&Tile) -> Access) -> Result<(ReduceOp, Value)> {
        let exponent = if self.plan.form == Form::Parallel { self.exponent(decay)? } else { None };
        Ok(match exponent {
            Some(x) => (ReduceOp::Sum, x.value(view)),
            None => (ReduceOp::Product, Value::Load(view(&self.stream(decay, 0)?))),
        })
    }

    /// The logarithm of a decay, where it is a product of exponentials.
    fn exponent(&mut self, decay: NodeIndex) -> Result<Option<Exponent>> {
        let Op::Leaf(leaf, definitions) = self.node(decay).op.clone() else { return Ok(None) };
        self.sum_of_exponents(&leaf, &definitions)
    }

    fn sum_of_exponents(&mut self, leaf: &Leaf, definitions: &[Definition]) -> Result<Option<Exponent>> {
        if leaf.number <= 0.0 {
            return Ok(None);
        }
        let mut terms = Vec::new();
        for ((_, power), definition) in leaf.factors.iter().zip(definitions) {
            match self.logarithm(definition)? {
                Some(term) => terms.push(Power { power: *power, ..term }),
                None => return Ok(None),
            }
        }
        Ok(Some(Exponent { constant: leaf.number.ln(), terms }))
    }

    fn logarithm(&mut self, definition: &Definition) -> Result<Option<Power>> {
        Ok(match definition {
            Definition::Expr(expr) => {
                let exponent = self.lowering.exponent(*expr)?;
                exponent.map(|tile| Power { power: 1, exponent: Some(tile), guards: Vec::new() })
            }
            Definition::Guarded(guards, value) => {
                let inner = match value {
                    Some(value) => self.logarithm(value)?,
                    None => Some(Power { power: 1, exponent: None, guards: Vec::new() }),
                };
                let Some(mut inner) = inner else { return Ok(None) };
                for (cond, taken) in guards {
                    inner.guards.push((self.lowering.value(*cond)?, *taken));
                }
                Some(inner)
            }
            Definition::Reciprocal(_) | Definition::Dot(..) | Definition::Sum(_) => None,
        })
    }
}

/// A tile of scalars, or of vectors: of a scalar for every element.
fn shaped(tile: &Tile, vector: bool) -> Tile {
    if vector { with_broadcast(tile) } else { with_rank(tile.clone(), 0) }
}

/// The whole of an exponential by its rest.
fn whole_of(rest: Value) -> Value {
    call(Function::Lt, [rest, Value::Const(0.0)])
}

/// What a factor lost that is the sum of a whole and a rest.
fn lost_by(rest: Value, factor: Value, whole: Value) -> Value {
    call(Function::Sub, [rest, call(Function::Sub, [factor, whole])])
}

/// 1 where |x| is less, else 0.
fn near(x: Value, limit: f64) -> Value {
    call(Function::Lt, [call(Function::Abs, [x]), Value::Const(limit)])
}

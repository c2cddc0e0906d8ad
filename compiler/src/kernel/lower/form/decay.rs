//! Decays in two parts. One near 1 is 1 and a small rest: rounded to f32 it would have lost the digits of that rest, and
//! in the same way at every token.
//!
//! ```text
//! a = exp(x)      whole = 1 where -4 < x <= 0, else 0;   rest = exp(x) - whole, below 0 just where whole is 1
//! another a       whole = 1 where |a - 1| < 1/4, else 0; rest = a - whole
//! S = a S + W     S = whole S + (rest S + W)
//! of its tokens   f = fl(whole + rest); the last one's rest is rest + lost (whole + rest), lost = sum of rest - (f - whole)
//! of a block      exp of the sum of its x; or the product P of its a, P - 1 = sum over t of (a[0] .. a[t-1]) (a[t] - 1)
//! ```
//!
//! A decay that is rounded is off by up to 2^-25 of itself, so n tokens of one decay move the state by n 2^-25: 4e-4 where
//! x = -1e-5 and n = 60,000. A rest is off by 2^-23 of itself, which is no more than that of what the state keeps, however
//! many tokens it keeps. `rest S` is summed with the write first: alone it would be rounded to the digits of S, thousands
//! of times the same way. What is left is the rounding of the last sum, 2^-24 of S at most, which the write makes another
//! one at every token: about the square root of n times as much in the end (4e-6 for 65,536 tokens of x = -1e-6). A sweep
//! whose rows are all near sums the write with S first: one such rounding more.
//! Strong decays lose nothing: their whole is 0 and their rest is what it was, 0 where it is exactly 0. Between, where x is
//! below -1 say, what is left of the state is off by 2^-25 of what was there before the token.
//!
//! Products of decays within a block stay products: they are off by 2^-25 a token, and no block hands that on. So a block
//! of C tokens loses up to C 2^-25 (C = 64: 2e-6), and a parallel form, whose block is the whole sequence, T 2^-25.
//! So does a state with one decay for all its elements that goes token by token: it is multiplied by one factor, and the
//! block's last token, in two parts, gives back what the factors before it lost. A decay by rows is in two parts at every
//! token: to sum up what its factors lose would take a tenth of the time of the update where a state has 64 columns.
//! A decay that is no exponential loses what f32 lost of `a` itself, which is its input: token by token it is one factor.

use chunkwise_dsl::typed::Function;
use petgraph::graph::NodeIndex;

use crate::{
    ir::{Leaf, facts::Definition},
    kernel::{Access, Int, Reduce, ReduceOp, Stmt, Value},
    plan::{Op, StatePlan},
};

use super::{
    super::{Result, Tile, decay::FORGOTTEN, emit::call},
    Emission, at,
    products::down,
    row_of,
    stream::with_broadcast,
    with_rank,
};

/// How far from 1 the whole of a decay that is no exponential is 1.
const NEAR_ONE: f64 = 0.25;

/// The whole and the rest of a decay: tiles of rows, or accesses of one factor for each element.
pub(super) type Parts<T> = [T; 2];

/// A decay at every token.
pub(super) enum Stepped {
    /// As it is.
    Factor(Tile),
    /// The rest of an exponential, whose sign says what its whole is.
    Rest(Tile),
    Parts(Parts<Tile>),
}

impl Stepped {
    /// It in summands, its tiles looked at as `load` does.
    pub(super) fn summands(&self, load: &dyn Fn(&Tile) -> Value) -> Vec<Value> {
        match self {
            Stepped::Factor(factor) => vec![load(factor)],
            Stepped::Rest(rest) => vec![whole_of(load(rest)), load(rest)],
            Stepped::Parts(parts) => parts.each_ref().map(load).into(),
        }
    }
}

/// How a state decays at the tokens of a block.
pub(super) struct Spans {
    pub(super) each: Stepped,
    /// At the last token, where that is another: with what the factors before it lost.
    pub(super) last: Option<Stepped>,
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

    /// A decay at every token of the block, where nothing else decays the state: one that is no exponential loses nothing.
    pub(super) fn alone(&mut self, decay: NodeIndex) -> Result<Spans> {
        let each = match self.exponent(decay)? {
            Some(x) if self.width(decay).is_none() => return self.given_back(&x),
            Some(_) => self.stepped(decay)?,
            None => Stepped::Factor(self.stream(decay, 0)?),
        };
        Ok(Spans { each, last: None })
    }

    /// One factor a token, and two parts at the last one.
    fn given_back(&mut self, x: &Exponent) -> Result<Spans> {
        let [rests, factors] = ["rest", "decay"].map(|name| self.rows_of(name, None, 0));
        let [whole, lost] = ["whole", "lost"].map(|name| {
            let buffer = self.lowering.scratch(name, Int::from(1i64));
            Tile { row: Int::from(0i64), ..Tile::dense(buffer, 0i64, &[]) }
        });
        let last = self.count() - 1i64;
        let [rest, factor] = [&rests, &factors].map(|tile| Value::Load(at(tile)));
        let exponent = x.value(&|tile| at(&shaped(tile, false)));
        self.map(vec![self.count()], at(&rests), call(Function::ExpRest, [exponent]));
        let sum = call(Function::Add, [whole_of(rest.clone()), rest.clone()]);
        self.map(vec![last.clone()], at(&factors), sum);

        let rounded = call(Function::Sub, [factor, whole_of(rest.clone())]);
        let value = call(Function::Sub, [rest, rounded]);
        let (inner, dst) = (last.clone(), row_of(&lost, last.clone()));
        self.push(Stmt::Reduce(Reduce { axes: Vec::new(), inner, op: ReduceOp::Sum, dst, value }));

        let [own, lost_so_far] = [&rests, &lost].map(|tile| Value::Load(row_of(tile, last.clone())));
        self.map(Vec::new(), row_of(&whole, last.clone()), whole_of(own.clone()));
        let decay = call(Function::Add, [Value::Load(row_of(&whole, last.clone())), own.clone()]);
        let back = call(Function::Add, [own, call(Function::Mul, [lost_so_far, decay])]);
        self.map(Vec::new(), row_of(&lost, last), back);
        Ok(Spans { each: Stepped::Factor(factors), last: Some(Stepped::Parts([whole, lost])) })
    }

    /// A decay at every token of the block.
    pub(super) fn stepped(&mut self, decay: NodeIndex) -> Result<Stepped> {
        let width = self.width(decay);
        let view = |tile: &Tile| at(&shaped(tile, width.is_some()));
        if let Some(x) = self.exponent(decay)? {
            let rest = self.rows_of("rest", width.clone(), 0);
            self.map(self.axes(&rest), at(&rest), call(Function::ExpRest, [x.value(&view)]));
            return Ok(Stepped::Rest(rest));
        }
        let values = of_decay(Value::Load(view(&self.stream(decay, 0)?)));
        let tiles = ["whole", "rest"].map(|name| self.rows_of(name, width.clone(), 0));
        for (tile, value) in tiles.iter().zip(values) {
            self.map(self.axes(tile), at(tile), value);
        }
        Ok(Stepped::Parts(tiles))
    }

    /// A decay over the whole block; none where it is the constant 1.
    pub(super) fn total(&mut self, decay: NodeIndex) -> Result<Option<Parts<Access>>> {
        if self.is_one(decay) {
            return Ok(None);
        }
        let width = self.width(decay);
        let axes: Vec<Int> = width.clone().into_iter().collect();
        let mut room = |name: &str| {
            let buffer = self.lowering.scratch(name, width.clone().unwrap_or(Int::from(1i64)));
            Access::new(buffer, 0i64, axes.iter().map(|_| Int::from(1i64)))
        };
        let (parts, sum) = (["whole", "rest"].map(&mut room), room("total"));
        let values = match self.exponent(decay)? {
            Some(x) => {
                let (inner, value) = (self.count(), x.value(&|tile| down(&shaped(tile, width.is_some()))));
                let reduce = Reduce { axes: axes.clone(), inner, op: ReduceOp::Sum, dst: sum.clone(), value };
                self.push(Stmt::Reduce(reduce));
                self.map(axes.clone(), parts[1].clone(), call(Function::ExpRest, [Value::Load(sum)]));
                self.map(axes, parts[0].clone(), whole_of(Value::Load(parts[1].clone())));
                return Ok(Some(parts));
            }
            None => self.multiplied_up(decay, &axes, &sum)?,
        };
        for (part, value) in parts.iter().zip(values) {
            self.map(axes.clone(), part.clone(), value);
        }
        Ok(Some(parts))
    }

    /// The product over the block of a decay that is no exponential; its difference from 1 is summed up in `less`.
    fn multiplied_up(&mut self, decay: NodeIndex, axes: &[Int], less: &Access) -> Result<Parts<Value>> {
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

/// What decays leave of `state`, as summands: those of one side are a factor or two parts, those of both sides two parts
/// each. What is summed with a write goes with the last summand.
pub(super) fn kept(state: &Value, [rows, columns]: [Vec<Value>; 2]) -> Vec<Value> {
    let times = |a: &Value, b: &Value| call(Function::Mul, [a.clone(), b.clone()]);
    let plus = |a: Value, b: Value| call(Function::Add, [a, b]);
    let factors = match (&rows[..], &columns[..]) {
        ([], []) => return vec![state.clone()],
        // (w + r) (v + q) = w v + (r v + q (w + r))
        ([w, r], [v, q]) => vec![times(w, v), plus(times(r, v), times(q, &plus(w.clone(), r.clone())))],
        _ => [rows, columns].concat(),
    };
    factors.iter().map(|factor| times(factor, state)).collect()
}

/// A tile of scalars, or of vectors: of a scalar for every element.
fn shaped(tile: &Tile, vector: bool) -> Tile {
    if vector { with_broadcast(tile) } else { with_rank(tile.clone(), 0) }
}

/// The whole of an exponential by its rest.
fn whole_of(rest: Value) -> Value {
    call(Function::Lt, [rest, Value::Const(0.0)])
}

fn of_decay(a: Value) -> Parts<Value> {
    let whole = near(call(Function::Sub, [a.clone(), Value::Const(1.0)]), NEAR_ONE);
    [whole.clone(), call(Function::Sub, [a, whole])]
}

/// 1 where |x| is less, else 0.
fn near(x: Value, limit: f64) -> Value {
    call(Function::Lt, [call(Function::Abs, [x]), Value::Const(limit)])
}

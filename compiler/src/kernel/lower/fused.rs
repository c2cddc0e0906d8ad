//! Values within one statement: what is computed element by element is fused, the rest is loaded from its tile.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, GridAxis, IndexId};

use crate::kernel::{Access, Int, Value};

use super::arena::refusal;
use super::tile::{At, Frame, Tile};
use super::{Lowering, Part, Result};

/// A subscript: where it reads, and the length it must be checked against if it may lie outside.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub at: At,
    pub within: Option<Int>,
}

impl Lowering<'_> {
    /// The value of a node within a statement; `at` are its dims' positions, none for a scalar that fills.
    pub(super) fn operand(&mut self, id: ExprId, at: &[At], frame: &Frame, reused: bool) -> Result<Value> {
        let at = if self.arena.dims(id).is_empty() { &[] } else { at };
        if self.find(id, Part::Value).is_some() || self.wants_tile(id, reused) {
            let tile = self.tile(id)?;
            return self.load(&tile, id, at, frame);
        }
        self.scalar(id, at, frame)
    }

    /// Whether a fused operand is worth a tile: dear, and used again, over more elements, or in an inner scope.
    fn wants_tile(&mut self, id: ExprId, reused: bool) -> bool {
        let cost = self.cost(id);
        if cost <= 1 {
            return false;
        }
        let rank = self.arena.dims(id).len() + self.arena.free_own(id).len();
        let shared = self.arena.uses(id) > 1 || reused;
        let hoisted = self.home(id) < self.level() && (rank <= 1 || cost >= 8);
        shared || hoisted
    }

    /// What evaluating one element of a fused node takes, in additions.
    pub(super) fn cost(&mut self, id: ExprId) -> usize {
        if let Some(&known) = self.costs.get(&id) {
            return known;
        }
        let cost = self.count_cost(id);
        self.costs.insert(id, cost);
        cost
    }

    fn count_cost(&mut self, id: ExprId) -> usize {
        match self.arena.expr(id).kind.clone() {
            ExprKind::Map { function, args } => {
                let own = match function {
                    Function::Add | Function::Sub | Function::Mul | Function::Neg => 1,
                    Function::Min | Function::Max | Function::Abs | Function::Relu => 1,
                    Function::Lt | Function::Le | Function::Gt | Function::Ge | Function::Eq | Function::Ne => 1,
                    _ => 8,
                };
                own + args.into_iter().map(|x| self.cost(x)).sum::<usize>()
            }
            ExprKind::If { cond, then, otherwise } => 1 + self.cost(cond) + self.cost(then) + self.cost(otherwise),
            ExprKind::Product(a, b) if self.arena.is_outer(id) => 1 + self.cost(a) + self.cost(b),
            ExprKind::Transpose(x) | ExprKind::Diag(x) | ExprKind::Cols { arg: x, .. } => self.cost(x),
            ExprKind::Conv1d { .. } => 8,
            ExprKind::Subscript { base, .. } => self.cost(base),
            ExprKind::Let(of) => self.arena.let_value(of).map_or(0, |value| self.cost(value)),
            _ => 0,
        }
    }

    /// A load of a node's tile, whose first dims are its free index variables.
    pub(super) fn load(&mut self, tile: &Tile, id: ExprId, at: &[At], frame: &Frame) -> Result<Value> {
        let access = self.tile_access(tile, id, at, frame)?;
        Ok(Value::Load(access))
    }

    pub(super) fn tile_access(&mut self, tile: &Tile, id: ExprId, at: &[At], frame: &Frame) -> Result<Access> {
        let places = self.free_places(id, at, frame)?;
        Ok(frame.access(tile, &places))
    }

    fn free_places(&mut self, id: ExprId, at: &[At], frame: &Frame) -> Result<Vec<At>> {
        let span = self.arena.expr(id).span;
        let mut places = Vec::new();
        for index in self.arena.free_own(id) {
            let place = frame.env.get(&index).cloned();
            places.push(
                place.ok_or_else(|| refusal("an index variable outside its scope", "it has no value here", span))?,
            );
        }
        places.extend_from_slice(at);
        Ok(places)
    }

    /// The node's own value, its operands fused where that is cheap.
    pub(super) fn scalar(&mut self, id: ExprId, at: &[At], frame: &Frame) -> Result<Value> {
        let expr = self.arena.expr(id).clone();
        Ok(match expr.kind {
            ExprKind::Number(x) => Value::Const(x),
            ExprKind::Bool(x) => Value::Const(f64::from(u8::from(x))),
            ExprKind::Size(size) => Value::Int(self.size(&size)),
            ExprKind::Index(_) | ExprKind::Head => match self.position(id, frame) {
                Some(place) => place.number(),
                None => return Err(refusal("an index variable outside its scope", "it has no value here", expr.span)),
            },
            ExprKind::Coord { index, axis } => self.coordinate(index, axis, frame)?,
            ExprKind::Map { function, args } => {
                let fills = |this: &Self, x: ExprId| this.arena.dims(x).is_empty() && !at.is_empty();
                let args: Result<Vec<Value>> = args
                    .into_iter()
                    .map(|x| {
                        let reused = fills(self, x);
                        self.operand(x, at, frame, reused)
                    })
                    .collect();
                Value::Call(function, args?)
            }
            ExprKind::If { cond, then, otherwise } => {
                let cond = self.operand(cond, &[], frame, !at.is_empty())?;
                let then = self.operand(then, at, frame, false)?;
                let otherwise = self.operand(otherwise, at, frame, false)?;
                Value::Select(Box::new(cond), Box::new(then), Box::new(otherwise))
            }
            ExprKind::Transpose(x) => {
                let flipped: Vec<At> = at.iter().rev().cloned().collect();
                self.operand(x, &flipped, frame, false)?
            }
            ExprKind::Eye(_) => select(same(at), Value::Const(1.0)),
            ExprKind::Diag(d) => select(same(at), self.operand(d, &at[..1.min(at.len())], frame, true)?),
            ExprKind::Cols { arg, from, .. } => {
                let from = self.size(&from);
                let mut inner = at.to_vec();
                if let Some(last) = inner.last_mut() {
                    *last = last.plus(&At::constant(from));
                }
                self.operand(arg, &inner, frame, false)?
            }
            ExprKind::Product(a, b) if self.is_fused_product(id) => self.fused_product(a, b, at, frame)?,
            ExprKind::Subscript { base, at: subscripts } if self.positional(&subscripts) => {
                self.subscripted(id, base, &subscripts, at, frame)?
            }
            ExprKind::Conv1d { arg, weights } if self.has_few_taps(weights) => {
                self.convolved(arg, weights, at, frame)?
            }
            ExprKind::Let(of) => {
                let tile = self.whole_let(of)?;
                Value::Load(frame.access(&tile, at))
            }
            _ => {
                let tile = self.tile(id)?;
                self.load(&tile, id, at, frame)?
            }
        })
    }

    /// Whether a product is one multiplication an element: an outer product, or one with a diagonal matrix.
    pub(super) fn is_fused_product(&self, id: ExprId) -> bool {
        let ExprKind::Product(a, b) = self.arena.expr(id).kind else { return false };
        let diagonal = |x: ExprId| matches!(self.arena.expr(x).kind, ExprKind::Diag(_));
        self.arena.is_outer(id) || diagonal(a) || diagonal(b)
    }

    fn fused_product(&mut self, a: ExprId, b: ExprId, at: &[At], frame: &Frame) -> Result<Value> {
        let first = &at[..1.min(at.len())];
        let last = &at[at.len().saturating_sub(1)..];
        let (left, right) = match (self.arena.expr(a).kind.clone(), self.arena.expr(b).kind.clone()) {
            (ExprKind::Diag(d), _) => (self.operand(d, first, frame, true)?, self.operand(b, at, frame, false)?),
            (_, ExprKind::Diag(d)) => (self.operand(a, at, frame, false)?, self.operand(d, last, frame, true)?),
            _ => (self.operand(a, first, frame, true)?, self.operand(b, last, frame, true)?),
        };
        Ok(Value::Call(Function::Mul, vec![left, right]))
    }

    fn subscripted(
        &mut self,
        id: ExprId,
        base: ExprId,
        subscripts: &[ExprId],
        at: &[At],
        frame: &Frame,
    ) -> Result<Value> {
        let span = self.arena.expr(id).span;
        let mut places = self.places(base, subscripts, frame).ok_or_else(|| crooked(span))?;
        places.extend(at.iter().map(|at| Place { at: at.clone(), within: None }));
        if let ExprKind::Let(of) = self.arena.expr(base).kind {
            return self.let_entry(of, &places, frame);
        }
        if places.iter().all(|place| place.within.is_none()) && !self.holds_memory(base) {
            let at: Vec<At> = places.into_iter().map(|place| place.at).collect();
            return self.operand(base, &at, frame, false);
        }
        let tile = self.tile(base)?;
        let free = self.free_places(base, &[], frame)?.into_iter().map(|at| Place { at, within: None });
        let places: Vec<Place> = free.chain(places).collect();
        self.load_within(&tile, &places, frame).ok_or_else(|| crooked(span))
    }

    /// Whether a node's elements lie in memory as they are.
    pub(super) fn holds_memory(&self, id: ExprId) -> bool {
        match self.arena.expr(id).kind {
            ExprKind::Tensor(_) => true,
            _ => self.find(id, Part::Value).is_some(),
        }
    }

    /// A let's entry: at the row where its token subscript is the row's, else from the whole sequence's.
    fn let_entry(&mut self, of: chunkwise_dsl::typed::LetId, places: &[Place], frame: &Frame) -> Result<Value> {
        let value = self.arena.let_value(of)?;
        let indices = self.variant.lets[of.index()].indices.clone();
        let here = self.token_position(frame);
        let direct = indices.iter().zip(places).all(|(&index, place)| {
            place.within.is_none() && (!self.arena.is_token(index) || here.as_ref() == Some(&place.at))
        });
        if direct {
            let mut inner = frame.clone();
            for (&index, place) in indices.iter().zip(places) {
                if !self.arena.is_token(index) {
                    inner.env.insert(index, place.at.clone());
                }
            }
            let rest: Vec<At> = places[indices.len()..].iter().map(|place| place.at.clone()).collect();
            return self.operand(value, &rest, &inner, true);
        }
        let tile = self.whole_let(of)?;
        let span = self.variant.lets[of.index()].span;
        self.load_within(&tile, places, frame).ok_or_else(|| crooked(span))
    }

    /// A load that reads 0 outside. None if two positions that vary within the statement need a check.
    pub(super) fn load_within(&self, tile: &Tile, places: &[Place], frame: &Frame) -> Option<Value> {
        let mut checked: Vec<&Place> = places.iter().filter(|place| place.within.is_some()).collect();
        checked.sort_by_key(|place| place.at.as_int().is_some());
        let varying = checked.first().copied();
        let mut guards = Vec::new();
        for place in checked.iter().skip(1) {
            guards.push((place.at.as_int()?, place.within.clone()?));
        }
        let at: Vec<At> = places
            .iter()
            .map(|place| match (&place.within, varying.is_some_and(|v| std::ptr::eq(v, place))) {
                (Some(length), false) => At::constant(clamped(place.at.base(), length)),
                _ => place.at.clone(),
            })
            .collect();
        let access = frame.access(tile, &at);
        let mut value = match varying {
            Some(place) => {
                Value::Bounded { access, position: place.at.position(frame.rank), length: place.within.clone()? }
            }
            None => Value::Load(access),
        };
        for (place, length) in guards {
            let inside =
                Value::Call(Function::Eq, vec![Value::Int(place.clone()), Value::Int(clamped(place, &length))]);
            value = Value::Select(Box::new(inside), Box::new(value), Box::new(Value::Const(0.0)));
        }
        Some(value)
    }

    /// Where subscripts read. None if one is not affine in the statement's axes.
    pub(super) fn places(&mut self, base: ExprId, subscripts: &[ExprId], frame: &Frame) -> Option<Vec<Place>> {
        let dims = self.arena.dims(base);
        let mut places = Vec::new();
        for (&subscript, dim) in subscripts.iter().zip(&dims) {
            let at = self.position(subscript, frame)?;
            let within = self.check(subscript, &at, dim);
            places.push(Place { at, within });
        }
        Some(places)
    }

    fn check(&mut self, subscript: ExprId, at: &At, dim: &Size) -> Option<Int> {
        let length = self.size(dim);
        if let ExprKind::Index(index) = self.arena.expr(subscript).kind {
            match (self.index_size(index), &length) {
                (size, length) if size == *length => return None,
                (Int::Const(size), Int::Const(length)) if size <= *length => return None,
                _ => {}
            }
        }
        match (at.as_int(), &length) {
            (Some(Int::Const(n)), Int::Const(length)) if (0..*length).contains(&n) => None,
            _ => Some(length),
        }
    }

    /// Whether subscripts are integers of the program rather than of the data.
    pub(super) fn positional(&self, subscripts: &[ExprId]) -> bool {
        subscripts.iter().all(|&x| match &self.arena.expr(x).kind {
            ExprKind::Index(_) | ExprKind::Size(_) | ExprKind::Head | ExprKind::Coord { .. } => true,
            ExprKind::Number(n) => n.fract() == 0.0,
            ExprKind::Map { function, args } => integral(*function) && self.positional(args),
            _ => false,
        })
    }

    /// A positional node as an integer of the statement. None if it is not affine in the statement's axes.
    pub(super) fn position(&mut self, id: ExprId, frame: &Frame) -> Option<At> {
        match self.arena.expr(id).kind.clone() {
            ExprKind::Index(index) if self.arena.is_token(index) => self.token_position(frame),
            ExprKind::Index(index) => frame.env.get(&index).cloned(),
            ExprKind::Number(n) if n.fract() == 0.0 => Some(At::constant(n as i64)),
            ExprKind::Size(size) => Some(At::constant(self.size(&size))),
            ExprKind::Head => Some(At::constant(self.place_on(self.variant.head?))),
            ExprKind::Coord { index, axis } => {
                let (start, width) = self.token_grid()?;
                let token = match frame.env.get(&index) {
                    Some(at) => at.as_int()?,
                    None => self.token_position(frame)?.as_int()?,
                };
                let place = token - start;
                Some(At::constant(match axis {
                    GridAxis::Y => place.floor_div(width),
                    GridAxis::X => place.modulo(width),
                }))
            }
            ExprKind::Map { function, args } => {
                let args: Option<Vec<At>> = args.into_iter().map(|x| self.position(x, frame)).collect();
                arithmetic(function, &args?)
            }
            _ => None,
        }
    }

    /// Where the token grid starts and how wide it is: L and X of `T = L + Y*X`.
    pub(super) fn token_grid(&mut self) -> Option<(Int, Int)> {
        let grid = self.variant.grid.clone()?;
        Some((self.size(&grid.offset), self.size(&grid.cols)))
    }

    fn coordinate(&mut self, index: IndexId, axis: GridAxis, frame: &Frame) -> Result<Value> {
        let span = self.variant.span;
        let unknown = || refusal("a grid coordinate", "the token axis is no grid", span);
        let (start, width) = self.token_grid().ok_or_else(unknown)?;
        let token = match frame.env.get(&index) {
            Some(at) => at.clone(),
            None => self.token_position(frame).ok_or_else(unknown)?,
        };
        let place = token.minus(&At::constant(start)).number();
        let function = match axis {
            GridAxis::Y => Function::FloorDiv,
            GridAxis::X => Function::Mod,
        };
        Ok(Value::Call(function, vec![place, Value::Int(width)]))
    }

    /// A tile of memory that already holds the node's elements. None if they must be computed.
    pub(super) fn view(&mut self, id: ExprId) -> Result<Option<Tile>> {
        if let Some(tile) = self.find(id, Part::Value) {
            return Ok(Some(tile.clone()));
        }
        Ok(match self.arena.expr(id).kind.clone() {
            ExprKind::Tensor(tensor) => Some(self.tensor_tile(tensor)),
            ExprKind::Let(of) => Some(self.whole_let(of)?),
            ExprKind::Transpose(x) if self.arena.free_own(x).is_empty() => self.view(x)?.map(Tile::transposed),
            ExprKind::Cols { arg, from, to } if self.arena.free_own(arg).is_empty() => {
                let (from, to) = (self.size(&from), self.size(&to));
                self.view(arg)?.map(|mut tile| {
                    if let Some(last) = tile.dims.last_mut() {
                        tile.offset = tile.offset + from.clone() * last.stride.clone();
                        last.extent = to - from;
                    }
                    tile
                })
            }
            ExprKind::Subscript { base, at } if self.holds_memory(base) && self.arena.free_own(id).is_empty() => {
                self.view_at(base, &at)?
            }
            _ => None,
        })
    }

    fn view_at(&mut self, base: ExprId, subscripts: &[ExprId]) -> Result<Option<Tile>> {
        let block = self.scopes.last().is_some_and(|scope| scope.rows.is_some());
        let row = if block { At::axis(0) } else { self.single_row() };
        let frame = Frame { rank: 1, row, env: Default::default() };
        if !self.positional(subscripts) {
            return Ok(None);
        }
        let Some(places) = self.places(base, subscripts, &frame) else { return Ok(None) };
        let Some(tile) = self.view(base)? else { return Ok(None) };
        if tile.row != Int::from(0i64) || places.iter().any(|place| place.within.is_some()) {
            return Ok(None);
        }
        let mut place = At::constant(tile.offset.clone());
        for (position, dim) in places.iter().zip(&tile.dims) {
            place = place.plus(&position.at.times(&dim.stride));
        }
        let dims = tile.dims[places.len().min(tile.dims.len())..].to_vec();
        Ok(Some(Tile { buffer: tile.buffer, offset: place.base(), row: place.stride(0), dims }))
    }
}

fn clamped(place: Int, length: &Int) -> Int {
    place.min(length.clone() - 1i64).max(0i64)
}

fn same(at: &[At]) -> Value {
    let number = |place: usize| at.get(place).map_or(Value::Const(0.0), At::number);
    Value::Call(Function::Eq, vec![number(0), number(1)])
}

fn select(cond: Value, then: Value) -> Value {
    Value::Select(Box::new(cond), Box::new(then), Box::new(Value::Const(0.0)))
}

fn integral(function: Function) -> bool {
    use Function::*;
    matches!(function, Add | Sub | Mul | Neg | Mod | FloorDiv | Min | Max)
}

fn arithmetic(function: Function, args: &[At]) -> Option<At> {
    match (function, args) {
        (Function::Add, [a, b]) => Some(a.plus(b)),
        (Function::Sub, [a, b]) => Some(a.minus(b)),
        (Function::Neg, [a]) => Some(a.times(&Int::from(-1i64))),
        (Function::Mul, [a, b]) => match (a.as_int(), b.as_int()) {
            (_, Some(b)) => Some(a.times(&b)),
            (Some(a), _) => Some(b.times(&a)),
            _ => None,
        },
        (_, [a, b]) => {
            let (a, b) = (a.as_int()?, b.as_int()?);
            Some(At::constant(match function {
                Function::Mod => a.modulo(b),
                Function::FloorDiv => a.floor_div(b),
                Function::Min => a.min(b),
                Function::Max => a.max(b),
                _ => return None,
            }))
        }
        _ => None,
    }
}

pub(super) fn crooked(span: chunkwise_dsl::source::Span) -> crate::Unsupported {
    refusal("this subscript", "its positions do not lie at even distances", span)
}

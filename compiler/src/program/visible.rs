//! What token `i` sees: order and locality as conditions on two positions.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{Function, GridAxis, IndexId, Local, LocalKind, OrderKind};

use super::build::{Builder, Result};
use super::index::Index;
use super::view::{Label, View};
use super::{Fold, Node, Op};

/// A token by its index variable, and by its number.
type Token = (IndexId, View);

impl Builder<'_> {
    /// Whether `j` is visible from `i`; None where everything is.
    pub(super) fn visible(&mut self, i: IndexId, j: IndexId, span: Span) -> Result<Option<View>> {
        let (row, column) = ((i, self.place_of(i, span)?), (j, self.place_of(j, span)?));
        let mut all = Vec::new();
        all.extend(self.in_order(&row, &column, span)?);
        for local in &self.variant.locals {
            all.extend(self.is_local(local, &row, &column)?);
        }
        Ok((!all.is_empty()).then(|| self.all(all, span)))
    }

    /// The place of a token: its position, unless the order has `by`.
    fn place_of(&mut self, token: IndexId, span: Span) -> Result<View> {
        let Some(by) = self.variant.orders.first().and_then(|order| order.by) else {
            return Ok(self.position_of(token, span));
        };
        let by = self.view(by)?;
        let length = by.dims[0].clone();
        let dims = vec![length.clone(), length.clone()];
        let along = self.along(&length, span);
        let [tokens, places] = [0, 1].map(|dim| along.reshaped(dims.clone(), &|_| Index::Axis(dim)));
        let here = self.map(Function::Eq, &[by.reshaped(dims, &|_| Index::Axis(1)), tokens], span);
        let zero = self.number(0.0);
        let place = self.combine(Op::Select, &[here, places, zero], span);
        let place = self.fold(Fold::Sum, &place, Label::Dim(1), span);
        Ok(place.over(vec![token], Vec::new(), &|_| Index::Axis(0)))
    }

    fn in_order(&mut self, i: &Token, j: &Token, span: Span) -> Result<Option<View>> {
        let kind = self.variant.orders.first().map_or(OrderKind::Causal, |order| order.kind);
        let (i, j) = match kind {
            OrderKind::Full => return Ok(None),
            OrderKind::Column | OrderKind::ColumnRev => (self.by_columns(i, span)?, self.by_columns(j, span)?),
            _ => (i.1.clone(), j.1.clone()),
        };
        let comparison = match kind {
            OrderKind::Reverse | OrderKind::RasterRev | OrderKind::ColumnRev => Function::Ge,
            _ => Function::Le,
        };
        Ok(Some(self.map(comparison, &[j, i], span)))
    }

    /// The place of a token where a grid is read column by column; tokens before the grid keep theirs.
    fn by_columns(&mut self, token: &Token, span: Span) -> Result<View> {
        let [y, x] = self.point(token, span)?;
        let Some(grid) = self.variant.grid.clone() else { return Ok(token.1.clone()) };
        let (rows, offset) = (self.size(&grid.rows, span), self.size(&grid.offset, span));
        let place = self.map(Function::Mul, &[x, rows], span);
        let place = self.map(Function::Add, &[place, y], span);
        let place = self.map(Function::Add, &[place, offset.clone()], span);
        let before = self.map(Function::Lt, &[token.1.clone(), offset], span);
        Ok(self.combine(Op::Select, &[before, token.1.clone(), place], span))
    }

    /// What a locality says, all of which holds.
    fn is_local(&mut self, local: &Local, i: &Token, j: &Token) -> Result<Vec<View>> {
        let span = local.span;
        Ok(vec![match &local.kind {
            LocalKind::Window { left, right } => {
                let first = self.size(left, span);
                let first = self.map(Function::Sub, &[i.1.clone(), first], span);
                let last = match right.as_constant() {
                    Some(0) => i.1.clone(),
                    _ => {
                        let right = self.size(right, span);
                        self.map(Function::Add, &[i.1.clone(), right], span)
                    }
                };
                let after = self.map(Function::Lt, &[first, j.1.clone()], span);
                let before = self.map(Function::Le, &[j.1.clone(), last], span);
                return Ok(vec![after, before]);
            }
            LocalKind::Block(width) => {
                let width = self.at_least_one(width, span);
                let both = [i, j].map(|at| self.map(Function::FloorDiv, &[at.1.clone(), width.clone()], span));
                self.map(Function::Eq, &both, span)
            }
            LocalKind::GridBlock { wy, wx, shift } => {
                let grid = self.variant.grid.clone();
                let (rows, columns) =
                    grid.map_or((Size::constant(1), Size::constant(1)), |grid| (grid.rows, grid.cols));
                let (from, to) = (self.point(i, span)?, self.point(j, span)?);
                let mut same = Vec::new();
                for ((a, b), (length, width)) in from.into_iter().zip(to).zip([(rows, wy), (columns, wx)]) {
                    same.push(self.in_one_tile((a, b), &length, (width, shift), span));
                }
                self.all(same, span)
            }
            LocalKind::Atrous { wy, wx, rate } => {
                let (from, to) = (self.point(i, span)?, self.point(j, span)?);
                let step = self.at_least_one(rate, span);
                let mut same = Vec::new();
                for ((a, b), width) in from.into_iter().zip(to).zip([wy, wx]) {
                    let width = self.at_least_one(&width.mul(rate), span);
                    for (function, by) in [(Function::FloorDiv, width), (Function::Mod, step.clone())] {
                        same.push(self.both_same(function, (&a, &b), &by, span));
                    }
                }
                self.all(same, span)
            }
            LocalKind::Disc { radius } => {
                let radius = self.view(*radius)?;
                let (from, to) = (self.point(i, span)?, self.point(j, span)?);
                let mut squares = Vec::new();
                for (a, b) in from.into_iter().zip(to).chain([(radius, self.number(0.0))]) {
                    let distance = self.map(Function::Sub, &[a, b], span);
                    squares.push(self.map(Function::Mul, &[distance.clone(), distance], span));
                }
                let distance = self.map(Function::Add, &squares[..2], span);
                self.map(Function::Lt, &[distance, squares[2].clone()], span)
            }
            LocalKind::Where { i: left, j: right, cond } => self.view(*cond)?.renamed(*left, i.0).renamed(*right, j.0),
        }])
    }

    /// Whether two coordinates lie in one tile of the rolled axis, on one side of the roll. Coordinates less the shift lie
    /// in one tile where they are, if it is no longer than a tile: those before the roll in the one before the first.
    fn in_one_tile(&mut self, (a, b): (View, View), length: &Size, (width, shift): (&Size, &Size), span: Span) -> View {
        let constants = (width.as_constant().map(|width| width.max(1)), shift.as_constant());
        if let (Some(wide), Some(shift)) = constants
            && (0..=wide).contains(&shift)
        {
            let wide = self.number(wide as f64);
            let by = self.number(shift as f64);
            let apart = |this: &mut Self, at: &View| match shift {
                0 => at.clone(),
                _ => this.map(Function::Sub, &[at.clone(), by.clone()], span),
            };
            let [here, there] = [&a, &b].map(|at| apart(self, at));
            let same = self.both_same(Function::FloorDiv, (&here, &there), &wide, span);
            if shift == 0 {
                return same;
            }
            let length = self.at_least_one(length, span);
            let [here, there] = [here, there].map(|at| self.map(Function::Mod, &[at, length.clone()], span));
            let rolled = self.both_same(Function::FloorDiv, (&here, &there), &wide, span);
            return self.map(Function::And, &[same, rolled], span);
        }
        let (length, width) = (self.at_least_one(length, span), self.at_least_one(width, span));
        let shift = self.size(shift, span);
        let mut tile = |at: &View| {
            let rolled = self.map(Function::Sub, &[at.clone(), shift.clone()], span);
            let rolled = self.map(Function::Mod, &[rolled, length.clone()], span);
            let tile = self.map(Function::FloorDiv, &[rolled, width.clone()], span);
            (tile, self.map(Function::Lt, &[at.clone(), shift.clone()], span))
        };
        let ((tile_a, side_a), (tile_b, side_b)) = (tile(&a), tile(&b));
        let same =
            vec![self.map(Function::Eq, &[tile_a, tile_b], span), self.map(Function::Eq, &[side_a, side_b], span)];
        self.all(same, span)
    }

    fn both_same(&mut self, function: Function, (a, b): (&View, &View), by: &View, span: Span) -> View {
        let both = [a, b].map(|at| self.map(function, &[at.clone(), by.clone()], span));
        self.map(Function::Eq, &both, span)
    }

    fn all(&mut self, conditions: Vec<View>, span: Span) -> View {
        let mut seen: Vec<(super::Operand, Vec<IndexId>)> = Vec::new();
        let mut conditions = conditions;
        conditions.retain(|x| {
            let key = (x.read.clone(), x.free.clone());
            !seen.contains(&key) && {
                seen.push(key);
                true
            }
        });
        let all = conditions.into_iter().reduce(|a, b| self.map(Function::And, &[a, b], span));
        all.unwrap_or_else(|| self.number(1.0))
    }

    fn size(&mut self, size: &Size, span: Span) -> View {
        self.scalar(Op::Size(size.clone()), span)
    }

    fn at_least_one(&mut self, size: &Size, span: Span) -> View {
        let (size, one) = (self.size(size, span), self.number(1.0));
        self.map(Function::Max, &[size, one], span)
    }

    /// A token's row and column; without a grid tokens are one column.
    fn point(&mut self, token: &Token, span: Span) -> Result<[View; 2]> {
        let Some(grid) = &self.variant.grid else { return Ok([token.1.clone(), self.number(0.0)]) };
        if self.variant.orders.first().is_some_and(|order| order.by.is_some()) {
            let (offset, columns) = (self.size(&grid.offset, span), self.at_least_one(&grid.cols, span));
            let at = self.map(Function::Sub, &[token.1.clone(), offset], span);
            let both = [Function::FloorDiv, Function::Mod];
            return Ok(both.map(|of| self.map(of, &[at.clone(), columns.clone()], span)));
        }
        let axes = vec![self.axis(&self.index_size(token.0))];
        let mut at = |axis| {
            let at = self.coordinate(axis, Index::Axis(0), span)?;
            let node = self.graph.intern(Node::leaf(Op::Position(at), axes.clone()), span);
            Ok(View::of(node, vec![token.0], Vec::new()))
        };
        Ok([at(GridAxis::Y)?, at(GridAxis::X)?])
    }
}

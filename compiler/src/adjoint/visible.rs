//! What is visible, as a condition: the gradient of what is read at j sums over the tokens i that see j.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, GridAxis, IndexId, LocalKind, OrderKind, Ty};

use super::{Adjoint, Result};

impl Adjoint<'_> {
    /// Whether token j is visible from token i.
    ///
    /// # Errors
    /// Several orders, tokens by `by`, columns of a grid behind other tokens.
    pub(super) fn visible(&mut self, i: IndexId, j: ExprId) -> Result<ExprId> {
        let orders = self.primal.orders.clone();
        let kind = match orders.as_slice() {
            [] => OrderKind::Causal,
            [order] if order.by.is_none() => order.kind,
            _ => return Err(self.refused("pairs of tokens under this order", "what sees a token is not turned round")),
        };
        let (at_i, built) = (self.build.index(i), &mut self.build);
        let compare = |built: &mut super::build::Builder, function, a, b| built.map(function, &[a, b]);
        let mut conditions = Vec::new();
        match kind {
            OrderKind::Full => {}
            OrderKind::Causal | OrderKind::Raster => conditions.push(compare(built, Function::Le, j, at_i)),
            OrderKind::Reverse | OrderKind::RasterRev => conditions.push(compare(built, Function::Ge, j, at_i)),
            OrderKind::Column | OrderKind::ColumnRev => {
                let (from, to) = (self.column_rank(at_i)?, self.column_rank(j)?);
                let function = if kind == OrderKind::Column { Function::Le } else { Function::Ge };
                conditions.push(compare(&mut self.build, function, to, from));
            }
        }
        for local in self.primal.locals.clone() {
            self.local(&local.kind, (i, at_i, j), &mut conditions)?;
        }
        let mut all = conditions.into_iter();
        let Some(first) = all.next() else { return Ok(self.build.expr(ExprKind::Bool(true), Ty::Bool)) };
        Ok(all.fold(first, |a, b| self.build.map(Function::And, &[a, b])))
    }

    fn local(
        &mut self,
        kind: &LocalKind,
        (i, at_i, j): (IndexId, ExprId, ExprId),
        conditions: &mut Vec<ExprId>,
    ) -> Result<()> {
        match kind {
            LocalKind::Window { left, right } => {
                let (left, right) = (self.build.size(left), self.build.size(right));
                let (first, last) =
                    (self.build.map(Function::Sub, &[at_i, left]), self.build.map(Function::Add, &[at_i, right]));
                conditions.push(self.build.map(Function::Lt, &[first, j]));
                conditions.push(self.build.map(Function::Le, &[j, last]));
            }
            LocalKind::Block(width) => {
                let parts = [at_i, j].map(|at| self.over(at, width));
                conditions.push(self.build.map(Function::Eq, &parts));
            }
            LocalKind::GridBlock { wy, wx, shift } => {
                for (axis, width) in [(GridAxis::Y, wy), (GridAxis::X, wx)] {
                    let length = self.grid_length(axis)?;
                    let places = [self.coordinate(at_i, axis)?, self.coordinate(j, axis)?];
                    let edge = self.build.size(shift);
                    let tiles = places.map(|at| {
                        let moved = self.build.map(Function::Sub, &[at, edge]);
                        let length = self.build.size(&length);
                        let rolled = self.build.map(Function::Mod, &[moved, length]);
                        self.over(rolled, width)
                    });
                    conditions.push(self.build.map(Function::Eq, &tiles));
                    let before = places.map(|at| {
                        let (one, zero) = (self.build.number(1.0), self.build.number(0.0));
                        let before = self.build.map(Function::Lt, &[at, edge]);
                        self.build.if_else(before, one, zero)
                    });
                    conditions.push(self.build.map(Function::Eq, &before));
                }
            }
            LocalKind::Atrous { wy, wx, rate } => {
                for (axis, width) in [(GridAxis::Y, wy), (GridAxis::X, wx)] {
                    let places = [self.coordinate(at_i, axis)?, self.coordinate(j, axis)?];
                    let tiles = places.map(|at| self.over(at, &width.mul(rate)));
                    conditions.push(self.build.map(Function::Eq, &tiles));
                    let phases = places.map(|at| {
                        let rate = self.build.size(rate);
                        self.build.map(Function::Mod, &[at, rate])
                    });
                    conditions.push(self.build.map(Function::Eq, &phases));
                }
            }
            LocalKind::Disc { radius } => {
                let mut square = self.build.number(0.0);
                for axis in [GridAxis::Y, GridAxis::X] {
                    let (a, b) = (self.coordinate(at_i, axis)?, self.coordinate(j, axis)?);
                    let between = self.build.map(Function::Sub, &[a, b]);
                    let term = self.build.map(Function::Mul, &[between, between]);
                    square = self.build.add(square, term);
                }
                let limit = self.build.map(Function::Mul, &[*radius, *radius]);
                conditions.push(self.build.map(Function::Lt, &[square, limit]));
            }
            LocalKind::Where { i: left, j: right, cond } => {
                let exchange = [(*left, self.build.index(i)), (*right, j)].into_iter().collect();
                let cond = self.build.exchanged(*cond, &exchange);
                let Some(cond) = cond else {
                    return Err(
                        self.refused("this locality", "its condition takes a computed position by its coordinates")
                    );
                };
                conditions.push(cond);
            }
        }
        Ok(())
    }

    fn over(&mut self, at: ExprId, width: &Size) -> ExprId {
        let width = self.build.size(width);
        self.build.map(Function::FloorDiv, &[at, width])
    }

    fn grid_length(&self, axis: GridAxis) -> Result<Size> {
        match (&self.primal.grid, axis) {
            (Some(grid), GridAxis::Y) if grid.offset.as_constant() == Some(0) => Ok(grid.rows.clone()),
            (Some(grid), GridAxis::X) if grid.offset.as_constant() == Some(0) => Ok(grid.cols.clone()),
            _ => Err(self.refused("positions on this grid", "tokens stand before it")),
        }
    }

    /// The row or column of a token.
    pub(super) fn coordinate(&mut self, at: ExprId, axis: GridAxis) -> Result<ExprId> {
        let columns = self.grid_length(GridAxis::X)?;
        let columns = self.build.size(&columns);
        let function = if axis == GridAxis::Y { Function::FloorDiv } else { Function::Mod };
        Ok(self.build.map(function, &[at, columns]))
    }

    /// The place of a token by columns.
    fn column_rank(&mut self, at: ExprId) -> Result<ExprId> {
        let rows = self.grid_length(GridAxis::Y)?;
        let (row, column) = (self.coordinate(at, GridAxis::Y)?, self.coordinate(at, GridAxis::X)?);
        let rows = self.build.size(&rows);
        let first = self.build.map(Function::Mul, &[column, rows]);
        Ok(self.build.map(Function::Add, &[first, row]))
    }
}

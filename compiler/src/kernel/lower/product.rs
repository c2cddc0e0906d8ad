//! Matrix products: as one product statement over the rows where the matrix is the same for all of them, row by row where
//! it is not, and as a reduction where the layout allows neither.

use chunkwise_dsl::typed::{ExprId, Function, IndexId};

use crate::kernel::{Access, Elem, Int, Product, ReduceOp, Stmt, Triangle};

use super::emit::call;
use super::tile::{At, Tile, TileDim};
use super::{Lowering, Part, Result};

impl Lowering<'_> {
    pub(super) fn fill_product(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (a, b): (ExprId, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let plain = indices.is_empty() && self.arena.free_own(a).is_empty() && self.arena.free_own(b).is_empty();
        if plain && self.product_statement(dst, id, a, b)? {
            return Ok(());
        }
        self.product_reduction(dst, id, (a, b), indices)
    }

    /// The product as a product statement, if its operands lie so that one can be made.
    fn product_statement(&mut self, dst: &Tile, id: ExprId, a: ExprId, b: ExprId) -> Result<bool> {
        let ranks = (self.arena.dims(a).len(), self.arena.dims(b).len());
        let many = self.row_axis().is_some();
        let (left, right) = match ranks {
            (2, 1) => {
                let Some(matrix) = self.flipped_matrix(a, many)? else { return Ok(false) };
                (self.tile(b)?, matrix)
            }
            (1, 2) => {
                let Some(matrix) = self.matrix(b, many)? else { return Ok(false) };
                (self.tile(a)?, matrix)
            }
            (2, 2) => (self.tile(a)?, self.dense_tile(b)?),
            _ => return Ok(false),
        };
        if [&left, &right].iter().any(|tile| self.module.buffers[tile.buffer.index()].elem != Elem::F32) {
            return Ok(false);
        }
        let target = if dst.last_is_dense() { dst.clone() } else { self.room(id, "product", &[]) };
        if ranks == (2, 2) {
            self.push_matrix_product(&target, &left, &right);
        } else {
            self.push_row_product(&target, &left, &right);
        }
        if target != *dst {
            let dims = self.extents(id);
            let nest = self.nest(id, &[], &dims, 3);
            let value = crate::kernel::Value::Load(nest.frame.access(&target, &nest.places()));
            let access = nest.frame.access(dst, &nest.places());
            self.emit(&nest, Stmt::Map(crate::kernel::Map::new(nest.axes.clone(), access, value)));
        }
        Ok(true)
    }

    /// The transpose of a matrix, with its last dim dense. For many rows it must be the same for all.
    fn flipped_matrix(&mut self, id: ExprId, many: bool) -> Result<Option<Tile>> {
        if many && self.home(id) != 0 {
            return Ok(None);
        }
        if let Some(tile) = self.find(id, Part::Transposed) {
            return Ok(Some(tile.clone()));
        }
        let tile = self.tile(id)?;
        if tile.dims[0].stride == Int::from(1i64) {
            return Ok(Some(tile.transposed()));
        }
        if !many {
            return Ok(None);
        }
        self.at_level(0, |outer| {
            let extents: Vec<Int> = tile.dims.iter().rev().map(|dim| dim.extent.clone()).collect();
            let flipped = outer.room_of("transposed", &extents);
            let span = outer.arena.expr(id).span;
            let dims = outer.arena.dims(id).into_iter().rev().collect();
            let node = outer.arena.intern(
                chunkwise_dsl::typed::ExprKind::Transpose(id),
                chunkwise_dsl::typed::Ty::Array(dims),
                span,
            );
            outer.fill(&flipped, node, &[])?;
            outer.remember(id, Part::Transposed, &flipped);
            Ok(Some(flipped))
        })
    }

    fn matrix(&mut self, id: ExprId, many: bool) -> Result<Option<Tile>> {
        if many && self.home(id) != 0 {
            return Ok(None);
        }
        let tile = self.tile(id)?;
        if tile.last_is_dense() {
            return Ok(Some(tile));
        }
        if many { self.dense_tile(id).map(Some) } else { Ok(None) }
    }

    /// The node's tile with its last dim dense: a copy where it does not lie so.
    fn dense_tile(&mut self, id: ExprId) -> Result<Tile> {
        let tile = self.tile(id)?;
        if tile.last_is_dense() {
            return Ok(tile);
        }
        let home = self.home(id);
        self.at_level(home, |inner| {
            let copy = inner.room(id, "dense", &[]);
            let dims = inner.extents(id);
            let nest = inner.nest(id, &[], &dims, 3);
            let value = crate::kernel::Value::Load(nest.frame.access(&tile, &nest.places()));
            let dst = nest.frame.access(&copy, &nest.places());
            inner.emit(&nest, Stmt::Map(crate::kernel::Map::new(nest.axes.clone(), dst, value)));
            Ok(copy)
        })
    }

    /// dst[row, n] = sum over k of left[row, k] * right[k, n]
    fn push_row_product(&mut self, dst: &Tile, left: &Tile, right: &Tile) {
        let single = self.single_row().base();
        let m = self.row_axis().unwrap_or(Int::from(1i64));
        let rows = |tile: &Tile, dim: &TileDim| {
            let offset = tile.offset.clone() + tile.row.clone() * single.clone();
            Access::new(tile.buffer, offset, [tile.row.clone(), dim.stride.clone()])
        };
        let matrix = right.at_row(single.clone());
        let b = Access::new(matrix.buffer, matrix.offset, matrix.dims.iter().map(|dim| dim.stride.clone()));
        let product = Product {
            m,
            n: right.dims[1].extent.clone(),
            k: right.dims[0].extent.clone(),
            dst: rows(dst, &dst.dims[0]),
            a: rows(left, &left.dims[0]),
            b,
            accumulate: false,
            shape: Triangle::Full,
        };
        self.push(Stmt::Product(product));
    }

    /// dst[m, n] = sum over k of left[m, k] * right[k, n], for every row.
    fn push_matrix_product(&mut self, dst: &Tile, left: &Tile, right: &Tile) {
        let rows = self.row_axis();
        let var = rows.as_ref().map(|_| self.var());
        let row = var.map_or(self.single_row().base(), Int::Var);
        let access = |tile: &Tile| {
            let tile = tile.at_row(row.clone());
            Access::new(tile.buffer, tile.offset, tile.dims.iter().map(|dim| dim.stride.clone()))
        };
        let product = Stmt::Product(Product {
            m: left.dims[0].extent.clone(),
            n: right.dims[1].extent.clone(),
            k: right.dims[0].extent.clone(),
            dst: access(dst),
            a: access(left),
            b: access(right),
            accumulate: false,
            shape: Triangle::Full,
        });
        self.push(match (var, rows) {
            (Some(var), Some(to)) => {
                Stmt::For { var, from: Int::from(0i64), to, step: Int::from(1i64), body: vec![product] }
            }
            _ => product,
        });
    }

    fn product_reduction(
        &mut self,
        dst: &Tile,
        id: ExprId,
        (a, b): (ExprId, ExprId),
        indices: &[IndexId],
    ) -> Result<()> {
        let dims = self.extents(id);
        let inner = self.extents(a).last().cloned().unwrap_or(Int::from(1i64));
        let nest = self.nest(id, indices, &dims, 3);
        let (frame, last) = nest.inner();
        let leading = usize::from(self.arena.dims(a).len() == 2);
        let left: Vec<At> = nest.dims[..leading].iter().cloned().chain([last.clone()]).collect();
        let right: Vec<At> = [last].into_iter().chain(nest.dims[leading..].iter().cloned()).collect();
        let value = call(
            Function::Mul,
            [self.operand(a, &left, &frame, dims.len() > leading)?, self.operand(b, &right, &frame, leading > 0)?],
        );
        self.emit_reduce(&nest, dst, (ReduceOp::Sum, inner), value);
        Ok(())
    }
}

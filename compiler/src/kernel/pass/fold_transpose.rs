//! Products of rows with rows: where the right operand is a tile turned for the product alone, the product reads the
//! tile as it lies. For targets on which one thread runs a work item.
//!
//! ```text
//! map [i < k, j < n] x[i,j] = rows[j,i]
//! product [m x n x k] s[i,j] = a[i,j] * x[i,j]     ->     product [m x n x k] s[i,j] = a[i,j] * rows[j,i]
//! ```
//! Both operands then run along k, and an element is the dot product of two rows.

use std::collections::BTreeMap;

use crate::kernel::visit::Effects;
use crate::kernel::{Access, BufferId, BufferRole, Int, Map, Module, Product, Stmt, Triangle, Value};

/// The module with such products.
pub(super) fn fold(mut module: Module) -> Module {
    let mut uses = Uses { module: &module, touched: BTreeMap::new() };
    module.kernels.iter().for_each(|kernel| uses.count(&kernel.body));
    let bodies: Vec<_> = module.kernels.iter().map(|kernel| uses.block(kernel.body.clone())).collect();
    module.kernels.iter_mut().zip(bodies).for_each(|(kernel, body)| kernel.body = body);
    module
}

struct Uses<'m> {
    module: &'m Module,
    /// Statements, other than loops and conditions, that touch a buffer.
    touched: BTreeMap<BufferId, usize>,
}

impl Uses<'_> {
    fn count(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => self.count(body),
                Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|body| self.count(body)),
                stmt => Effects::of(stmt).touches().for_each(|buffer| *self.touched.entry(buffer).or_default() += 1),
            }
        }
    }

    fn block(&self, body: Vec<Stmt>) -> Vec<Stmt> {
        let mut body: Vec<Stmt> = body.into_iter().map(|stmt| self.nested(stmt)).collect();
        let mut place = 0;
        while place < body.len() {
            let found =
                turned(&body[place]).and_then(|(map, from)| Some((self.products(&body, place, map, from)?, from)));
            let Some((products, from)) = found.map(|(products, from)| (products, from.clone())) else {
                place += 1;
                continue;
            };
            for at in products {
                if let Stmt::Product(product) = &mut body[at] {
                    product.b = from.clone();
                }
            }
            body.remove(place);
        }
        body
    }

    fn nested(&self, stmt: Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, from, to, step, body } => Stmt::For { var, from, to, step, body: self.block(body) },
            Stmt::If { left, right, then, otherwise } => {
                Stmt::If { left, right, then: self.block(then), otherwise: self.block(otherwise) }
            }
            stmt => stmt,
        }
    }

    /// The places of the products that the tile is turned for, if it is for nothing else.
    fn products(&self, body: &[Stmt], place: usize, map: &Map, from: &Access) -> Option<Vec<usize>> {
        let tile = map.dst.buffer;
        let scratch = self.module.buffers.get(tile.index()).is_some_and(|buffer| buffer.role == BufferRole::Scratch);
        let fits = |at: &usize| matches!(&body[*at], Stmt::Product(product) if along(product, map));
        let products: Vec<usize> = (place + 1..body.len()).filter(fits).collect();
        let last = *products.last()?;
        let kept = !body[place..last].iter().any(|stmt| Effects::of(stmt).writes.contains(&from.buffer));
        let alone = self.touched.get(&tile) == Some(&(1 + products.len()));
        (scratch && kept && alone).then_some(products)
    }
}

/// A map that only turns a tile, and what it turns.
fn turned(stmt: &Stmt) -> Option<(&Map, &Access)> {
    let Stmt::Map(map) = stmt else { return None };
    let (Value::Load(from), [_, _], None) = (&map.value, &map.axes[..], &map.below) else { return None };
    let one = Int::Const(1);
    (map.dst.strides[1] == one && from.strides[0] == one && from.strides[1] != one).then_some((map, from))
}

/// A product of rows of a with columns of the map's tile, which starts its sums.
fn along(product: &Product, map: &Map) -> bool {
    let sizes = [&product.k, &product.n] == [&map.axes[0], &map.axes[1]];
    let plain = !product.accumulate && matches!(product.shape, Triangle::Full | Triangle::LowerOut);
    let apart = product.a.buffer != map.dst.buffer;
    product.b == map.dst && sizes && plain && apart && product.a.strides[1] == Int::Const(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Buffer, Elem, Kernel};

    const ROWS: BufferId = BufferId(0);
    const TILE: BufferId = BufferId(1);
    const SCORES: BufferId = BufferId(2);

    fn at(buffer: BufferId, strides: [i64; 2]) -> Access {
        Access::new(buffer, 0i64, strides.map(Int::from))
    }

    fn turn() -> Stmt {
        let from = at(ROWS, [1, 8]);
        Stmt::Map(Map::new(vec![8i64.into(), 4i64.into()], at(TILE, [4, 1]), Value::Load(from)))
    }

    fn product() -> Product {
        Product {
            m: 4i64.into(),
            n: 4i64.into(),
            k: 8i64.into(),
            dst: at(SCORES, [4, 1]),
            a: at(ROWS, [8, 1]),
            b: at(TILE, [4, 1]),
            accumulate: false,
            shape: Triangle::LowerOut,
        }
    }

    fn after(body: Vec<Stmt>) -> Vec<Stmt> {
        let buffer = |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: 32i64.into() };
        let scratch = |name| buffer(name, BufferRole::Scratch);
        let module = Module {
            name: "m".into(),
            params: Vec::new(),
            buffers: vec![scratch("rows"), scratch("tile"), scratch("scores")],
            kernels: vec![Kernel { name: "only".into(), grid: Vec::new(), body }],
        };
        fold(module).kernels.remove(0).body
    }

    #[test]
    fn a_tile_turned_for_products_alone_is_read_as_it_lies() {
        let reads = |stmt: &Stmt| matches!(stmt, Stmt::Product(product) if product.b == at(ROWS, [1, 8]));
        let body = after(vec![turn(), Stmt::Product(product()), Stmt::Product(product())]);
        assert!(body.len() == 2 && body.iter().all(reads), "{body:?}");
    }

    #[test]
    fn a_tile_that_is_wanted_turned_stays() {
        let same = |body: Vec<Stmt>| assert_eq!(after(body.clone()), body);
        same(vec![turn(), Stmt::Product(Product { accumulate: true, ..product() })]);
        same(vec![turn(), Stmt::Product(Product { shape: Triangle::LowerLeft { strict: false }, ..product() })]);
        same(vec![turn(), Stmt::Product(Product { a: at(ROWS, [1, 8]), ..product() })]);
        let copy = Map::new(vec![4i64.into(), 4i64.into()], at(SCORES, [4, 1]), Value::Load(at(TILE, [4, 1])));
        same(vec![turn(), Stmt::Product(product()), Stmt::Map(copy)]);
        let change = Map::new(vec![4i64.into(), 8i64.into()], at(ROWS, [8, 1]), Value::Const(0.0));
        same(vec![turn(), Stmt::Map(change), Stmt::Product(product())]);
    }
}

//! Products that scale what they add to: two neighbouring statements that a target may run as one pass over `dst`.
//!
//! ```text
//! map [i < m, j < n] s[i,j] = (.* p[i] s[i,j])
//! product [m x n x k] s[i,j] += a[i,j] * b[i,j]        ->     s = diag(p) s + a b
//! ```

use super::{Access, Function, Map, Product, Stmt, Triangle, Value};

/// The product, and the factor of each of its rows: an access of one axis.
pub fn scaled<'s>(first: &'s Stmt, second: &'s Stmt) -> Option<(&'s Product, Access)> {
    let (Stmt::Map(map), Stmt::Product(product)) = (first, second) else { return None };
    let Map { axes, below: None, dst, value: Value::Call(Function::Mul, args) } = map else { return None };
    let [Value::Load(x), Value::Load(y)] = &args[..] else { return None };
    let factor = if x == dst { y } else { x };
    let scales = (x == dst || y == dst) && factor.buffer != dst.buffer;
    let same = product.dst == *dst && axes[..] == [product.m.clone(), product.n.clone()];
    let whole = product.accumulate && product.shape == Triangle::Full;
    let [down, across] = &factor.strides[..] else { return None };
    let by_row = *across == 0i64.into();
    (scales && same && whole && by_row)
        .then(|| (product, Access::new(factor.buffer, factor.offset.clone(), [down.clone()])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{BufferId, Int};

    fn at(buffer: u32, strides: [i64; 2]) -> Access {
        Access::new(BufferId(buffer), 0i64, strides.map(Int::from))
    }

    fn pair(factor: Access) -> (Stmt, Stmt) {
        let axes = vec![8i64.into(), 4i64.into()];
        let value = Value::Call(Function::Mul, vec![Value::Load(factor), Value::Load(at(0, [4, 1]))]);
        let product = Product {
            m: 8i64.into(),
            n: 4i64.into(),
            k: 3i64.into(),
            dst: at(0, [4, 1]),
            a: at(1, [1, 8]),
            b: at(2, [4, 1]),
            accumulate: true,
            shape: Triangle::Full,
        };
        (Stmt::Map(Map::new(axes, at(0, [4, 1]), value)), Stmt::Product(product))
    }

    #[test]
    fn a_factor_a_row_joins_the_product() {
        let (map, product) = pair(at(3, [1, 0]));
        let (_, factor) = scaled(&map, &product).unwrap();
        assert_eq!(factor, Access::new(BufferId(3), 0i64, [Int::from(1i64)]));
    }

    #[test]
    fn a_factor_a_column_stays_apart() {
        let (map, product) = pair(at(3, [0, 1]));
        assert!(scaled(&map, &product).is_none());
        let (map, product) = pair(at(0, [4, 0]));
        assert!(scaled(&map, &product).is_none(), "the factor is what the product changes");
    }
}

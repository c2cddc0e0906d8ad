//! Products that scale what they add to: two neighbouring statements that a target may run as one pass over `dst`.
//!
//! ```text
//! map [i < m, j < n] s[i,j] = (+ (.* w[i] s[i,j]) (.* p[i] s[i,j]))
//! product [m x n x k] s[i,j] += a[i,j] * b[i,j]        ->     s = diag(w) s + (diag(p) s + a b)
//! ```

use super::{Access, Function, Int, Map, Product, Stmt, Triangle, Value};

/// The product, and of each of its rows the factor w and what it lost, p: accesses of one axis, with one stride.
pub fn scaled<'s>(first: &'s Stmt, second: &'s Stmt) -> Option<(&'s Product, [Access; 2])> {
    let (Stmt::Map(map), Stmt::Product(product)) = (first, second) else { return None };
    let Map { axes, below: None, dst, value: Value::Call(Function::Add, args) } = map else { return None };
    let [whole, rest] = &args[..] else { return None };
    let factors = [factor(whole, dst)?, factor(rest, dst)?];
    let alike = factors[0].strides == factors[1].strides;
    let same = product.dst == *dst && axes[..] == [product.m.clone(), product.n.clone()];
    let whole = product.accumulate && product.shape == Triangle::Full;
    (alike && same && whole).then_some((product, factors))
}

/// The factor of each row in `p[i] * dst[i,j]`: an access of one axis.
fn factor(value: &Value, dst: &Access) -> Option<Access> {
    let Value::Call(Function::Mul, args) = value else { return None };
    let [Value::Load(x), Value::Load(y)] = &args[..] else { return None };
    let factor = if x == dst { y } else { x };
    let scales = (x == dst || y == dst) && factor.buffer != dst.buffer;
    let [down, across] = &factor.strides[..] else { return None };
    (scales && *across == Int::Const(0)).then(|| Access::new(factor.buffer, factor.offset.clone(), [down.clone()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::BufferId;

    fn at(buffer: u32, strides: [i64; 2]) -> Access {
        Access::new(BufferId(buffer), 0i64, strides.map(Int::from))
    }

    fn times_state(factor: Access) -> Value {
        Value::Call(Function::Mul, vec![Value::Load(factor), Value::Load(at(0, [4, 1]))])
    }

    fn pair(value: Value) -> (Stmt, Stmt) {
        let axes = vec![8i64.into(), 4i64.into()];
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

    fn row(buffer: u32) -> Access {
        Access::new(BufferId(buffer), 0i64, [Int::from(1i64)])
    }

    fn parts(whole: Access, rest: Access) -> Value {
        Value::Call(Function::Add, vec![times_state(whole), times_state(rest)])
    }

    #[test]
    fn factors_of_rows_join_the_product() {
        let (map, product) = pair(parts(at(4, [1, 0]), at(3, [1, 0])));
        let (_, factors) = scaled(&map, &product).unwrap();
        assert_eq!(factors, [row(4), row(3)]);
    }

    #[test]
    fn other_factors_stay_apart() {
        for value in [
            parts(at(4, [0, 1]), at(3, [0, 1])),
            parts(at(4, [2, 0]), at(3, [1, 0])),
            // What the product changes.
            parts(at(4, [1, 0]), at(0, [4, 0])),
            times_state(at(3, [1, 0])),
        ] {
            let (map, product) = pair(value);
            assert!(scaled(&map, &product).is_none(), "{map:?}");
        }
    }
}

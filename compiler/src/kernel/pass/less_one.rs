//! States that shrink by a factor near 1, for targets that may round a product before they add to it.
//!
//! ```text
//! map [i, j] s[i,j] = f[i] * s[i,j] + w   ->   map [i, j] s[i,j] = s[i,j] + ((f[i] - 1) * s[i,j] + w)   where f[i] > 1/2,
//!                                                                  f[i] * s[i,j] + w                    elsewhere
//! ```
//! `f - 1` is exact there, so both say the same. A target without fused multiply-add rounds `f s` to the digits of `s`: the
//! same way for thousands of tokens while `s` barely changes (1e-4 for 65,536 tokens of f = 1 - 1e-6). `(f - 1) s` has
//! digits of its own, and the sum with `s` is rounded another way at every token, as `w` changes. Shading languages leave
//! it to the driver whether `fma` is fused.

use chunkwise_dsl::typed::Function;

use crate::kernel::{Map, Module, Stmt, Value};

/// The module with such maps.
pub(super) fn apart(mut module: Module) -> Module {
    module.kernels.iter_mut().for_each(|kernel| block(&mut kernel.body));
    module
}

fn block(body: &mut [Stmt]) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => block(body),
            Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|body| block(body)),
            Stmt::Map(map) => {
                if let Some(value) = less_one(map) {
                    map.value = value;
                }
            }
            _ => {}
        }
    }
}

/// The value of a map that scales what it writes and adds to it.
fn less_one(map: &Map) -> Option<Value> {
    let Value::Call(Function::Add, args) = &map.value else { return None };
    let [Value::Call(Function::Mul, factors), added] = &args[..] else { return None };
    let [Value::Load(x), Value::Load(y)] = &factors[..] else { return None };
    let factor = match (*x == map.dst, *y == map.dst) {
        (false, true) => Value::Load(x.clone()),
        (true, false) => Value::Load(y.clone()),
        _ => return None,
    };
    let state = Value::Load(map.dst.clone());
    let two = |function, a: &Value, b: &Value| Value::Call(function, vec![a.clone(), b.clone()]);
    let lost = two(Function::Mul, &two(Function::Sub, &factor, &Value::Const(1.0)), &state);
    let less = Value::Call(Function::Apart, vec![two(Function::Add, &lost, added)]);
    let is_near = two(Function::Gt, &factor, &Value::Const(0.5));
    let near = two(Function::Add, &state, &less);
    Some(Value::Select(Box::new(is_near), Box::new(near), Box::new(map.value.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Access, BufferId};

    fn load(buffer: u32) -> Value {
        Value::Load(Access::new(BufferId(buffer), 0i64, [4i64.into(), 1i64.into()]))
    }

    fn scaled(factor: Value, state: Value, added: Value) -> Map {
        let value = Value::Call(Function::Add, vec![Value::Call(Function::Mul, vec![factor, state]), added]);
        Map::new(vec![8i64.into(), 4i64.into()], Access::new(BufferId(0), 0i64, [4i64.into(), 1i64.into()]), value)
    }

    /// A value of f32, every operation rounded, without fused multiply-adds.
    fn eval(value: &Value, of: &[f32]) -> f32 {
        match value {
            Value::Load(access) => of[access.buffer.index()],
            Value::Const(x) => *x as f32,
            Value::Select(cond, then, otherwise) => eval(if eval(cond, of) != 0.0 { then } else { otherwise }, of),
            Value::Call(function, args) => {
                let (a, b) = (eval(&args[0], of), args.get(1).map_or(0.0, |b| eval(b, of)));
                match function {
                    Function::Apart => a,
                    Function::Add => a + b,
                    Function::Sub => a - b,
                    Function::Mul => a * b,
                    Function::Gt => f32::from(u8::from(a > b)),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slow_factors_drift_less_and_others_stay() {
        let map = scaled(load(1), load(0), load(2));
        let value = less_one(&map).unwrap();
        let (mut plain, mut apart, mut exact) = (0.0f32, 0.0f32, 0.0f64);
        let factor = 1.0 - 17.0 * 2f32.powi(-24);
        for t in 0..65_536u32 {
            let write = 0.5 + (t * 37 % 101) as f32 / 101.0;
            plain = eval(&map.value, &[plain, factor, write]);
            apart = eval(&value, &[apart, factor, write]);
            exact = f64::from(factor) * exact + f64::from(write);
        }
        let off = |x: f32| ((f64::from(x) - exact) / exact).abs();
        assert!(off(apart) < 1e-5 && off(plain) > 2.0 * off(apart), "{} against {}", off(apart), off(plain));
        for factor in [0.0, 0.25, 0.5] {
            assert_eq!(eval(&value, &[3.0, factor, 0.1]), eval(&map.value, &[3.0, factor, 0.1]));
        }
    }

    #[test]
    fn what_does_not_scale_its_target_stays() {
        assert!(less_one(&scaled(load(1), load(3), load(2))).is_none());
        assert!(less_one(&scaled(load(0), load(0), load(2))).is_none());
    }
}

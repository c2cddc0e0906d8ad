//! Products whose rounding would grow: those that exponentials or substitutions are made of. A target that rounds the
//! operands of products rounds none of these (DERIVATION 4.4: gates, the system of a solve and the solve itself stay f32).
//!
//! ```text
//! product x = a b;  map y = f(x);  map z = exp(y)        x, y
//! product p = k k';  map p = mask * p;  solve by p       p
//! ```

use std::collections::BTreeSet;

use super::visit::Effects;
use super::{BufferId, Function, Map, Module, Reduce, Scan, Solve, Stmt, Value};

/// The buffers that no rounded product may write.
pub fn exact(module: &Module) -> BTreeSet<BufferId> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        module.kernels.iter().for_each(|kernel| block(&kernel.body, &mut found));
        if found.len() == before {
            return found;
        }
    }
}

fn block(body: &[Stmt], found: &mut BTreeSet<BufferId>) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => block(body, found),
            Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|body| block(body, found)),
            Stmt::Map(Map { dst, value, .. })
            | Stmt::Reduce(Reduce { dst, value, .. })
            | Stmt::Scan(Scan { dst, value, .. }) => {
                raised(value, false, found);
                if found.contains(&dst.buffer) {
                    found.extend(Effects::of(stmt).reads);
                }
            }
            Stmt::Solve(Solve { p, .. }) => found.extend(p.iter().map(|access| access.buffer)),
            // What a product or a sweep sums up comes out of it with an error of its own.
            Stmt::Product(_) | Stmt::Sweep(_) => {}
        }
    }
}

/// The buffers that exponents are read from.
fn raised(value: &Value, inside: bool, found: &mut BTreeSet<BufferId>) {
    match value {
        Value::Load(access) | Value::Bounded { access, .. } => {
            if inside {
                found.insert(access.buffer);
            }
        }
        Value::Const(_) | Value::Int(_) | Value::Axis(_) => {}
        Value::Call(function, args) => {
            let inside = inside || matches!(function, Function::Exp | Function::ExpRest | Function::Pow);
            args.iter().for_each(|x| raised(x, inside, found));
        }
        Value::Select(cond, then, otherwise) => {
            [cond, then, otherwise].into_iter().for_each(|x| raised(x, inside, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Access, Int, Kernel};

    fn at(buffer: u32, strides: [i64; 2]) -> Access {
        Access::new(BufferId(buffer), 0i64, strides.map(Int::from))
    }

    fn map(to: u32, value: Value) -> Stmt {
        Stmt::Map(Map::new(vec![4i64.into(), 4i64.into()], at(to, [4, 1]), value))
    }

    fn load(buffer: u32) -> Value {
        Value::Load(at(buffer, [4, 1]))
    }

    fn of(body: Vec<Stmt>) -> Vec<u32> {
        let kernels = vec![Kernel { name: "only".into(), grid: Vec::new(), body }];
        let module = Module { name: "m".into(), params: Vec::new(), buffers: Vec::new(), kernels };
        exact(&module).into_iter().map(|buffer| buffer.0).collect()
    }

    #[test]
    fn exponents_are_traced_through_maps() {
        let exp = Value::Call(Function::Exp, vec![load(1)]);
        let scaled = Value::Call(Function::Mul, vec![Value::Const(0.5), load(0)]);
        assert_eq!(of(vec![map(1, scaled), map(2, exp), map(3, load(2))]), [0, 1]);
    }

    #[test]
    fn the_system_of_a_substitution_is_exact_and_what_it_solves_for_is_not() {
        let (n, columns) = (4i64.into(), 4i64.into());
        let solve = Stmt::Solve(Solve { n, columns, p: vec![at(1, [4, 1])], x: vec![at(2, [4, 1])] });
        let masked = Value::Call(Function::Mul, vec![load(1), load(3)]);
        assert_eq!(of(vec![map(1, masked), solve, map(4, load(2))]), [1, 3]);
    }
}

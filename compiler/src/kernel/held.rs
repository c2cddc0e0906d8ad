//! Factors that no target rounds: states, what is read of them, what solves give, and running sums and products. Their size
//! has no bound that inputs have, and what is lost in them is lost for all tokens after (DERIVATION 4.4).
//!
//! ```text
//! map x = S_in;  product y = q x;  map z = v - y;  product x += k' z       x, y, z
//! scan m = running prod of a;  map n = m * k;  product p = m k             m, and neither n nor p
//! ```

use std::collections::BTreeSet;

use super::visit::Effects;
use super::{BufferId, BufferRole, Module, Scan, Solve, Stmt};

/// The buffers whose values are as exact as f32 wherever they are factors.
pub fn held(module: &Module) -> BTreeSet<BufferId> {
    let is_state = |role| matches!(role, BufferRole::StateIn | BufferRole::StateOut);
    let ids = (0..module.buffers.len()).map(|n| BufferId(n as u32));
    let mut states: BTreeSet<BufferId> = ids.filter(|id| is_state(module.buffers[id.index()].role)).collect();
    let mut sums = BTreeSet::new();
    loop {
        let before = states.len();
        module.kernels.iter().for_each(|kernel| block(&kernel.body, &mut states, &mut sums));
        if states.len() == before {
            break;
        }
    }
    states.extend(sums);
    states
}

/// `states`: what states and solves reach; `sums`: what running reductions write, which goes no further.
fn block(body: &[Stmt], states: &mut BTreeSet<BufferId>, sums: &mut BTreeSet<BufferId>) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => block(body, states, sums),
            Stmt::If { then, otherwise, .. } => {
                [then, otherwise].into_iter().for_each(|body| block(body, states, sums))
            }
            _ => leaf(stmt, states, sums),
        }
    }
}

fn leaf(stmt: &Stmt, states: &mut BTreeSet<BufferId>, sums: &mut BTreeSet<BufferId>) {
    let Effects { reads, writes, .. } = Effects::of(stmt);
    match stmt {
        Stmt::Scan(Scan { dst, .. }) => sums.extend([dst.buffer]),
        Stmt::Solve(Solve { p, x, .. }) => states.extend(p.iter().chain(x).map(|access| access.buffer)),
        _ => {}
    }
    if !reads.is_disjoint(states) {
        states.extend(writes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Access, Buffer, Elem, Int, Kernel, Map, Product, ReduceOp, ScanFrom, Triangle, Value};

    fn at(buffer: u32) -> Access {
        Access::new(BufferId(buffer), 0i64, [4i64, 1].map(Int::from))
    }

    fn map(to: u32, from: u32) -> Stmt {
        Stmt::Map(Map::new(vec![4i64.into(), 4i64.into()], at(to), Value::Load(at(from))))
    }

    fn product(dst: u32, a: u32, b: u32) -> Stmt {
        let [m, n, k] = [4i64, 4, 4].map(Int::from);
        let (shape, accumulate) = (Triangle::Full, true);
        Stmt::Product(Product { m, n, k, dst: at(dst), a: at(a), b: at(b), accumulate, shape })
    }

    fn scan(to: u32, from: u32) -> Stmt {
        let (axes, inner, op) = (vec![4i64.into()], 4i64.into(), ReduceOp::Product);
        Stmt::Scan(Scan { axes, inner, op, from: ScanFrom::First, dst: at(to), value: Value::Load(at(from)) })
    }

    /// Buffer 0 is a state's initial value, the others are scratch.
    fn of(body: Vec<Stmt>) -> Vec<u32> {
        let role = |n: u32| if n == 0 { BufferRole::StateIn } else { BufferRole::Scratch };
        let buffer = |n| Buffer { name: format!("b{n}"), role: role(n), elem: Elem::F32, size: 16i64.into() };
        let kernels = vec![Kernel { name: "only".into(), grid: Vec::new(), body }];
        let module = Module { name: "m".into(), params: Vec::new(), buffers: (0..8).map(buffer).collect(), kernels };
        held(&module).into_iter().map(|buffer| buffer.0).collect()
    }

    #[test]
    fn states_and_their_reads_are_held() {
        assert_eq!(of(vec![product(4, 2, 3), map(1, 0), product(5, 2, 1), map(6, 5)]), [0, 1, 5, 6]);
        assert_eq!(of(vec![product(3, 1, 2), map(1, 0)]), [0, 1, 3], "a later round reads what an earlier one wrote");
    }

    #[test]
    fn running_products_are_held_and_what_they_scale_is_not() {
        assert_eq!(of(vec![scan(1, 2), map(3, 1), product(4, 1, 3)]), [0, 1]);
    }

    #[test]
    fn what_a_solve_gives_is_held_with_its_system() {
        let (n, columns) = (4i64.into(), 4i64.into());
        let solve = Stmt::Solve(Solve { n, columns, p: vec![at(1)], x: vec![at(2)] });
        assert_eq!(of(vec![solve, product(3, 2, 4)]), [0, 1, 2, 3]);
    }
}

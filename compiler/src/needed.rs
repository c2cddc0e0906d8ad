//! What of a variant its updates and outputs need.

use chunkwise_dsl::typed::{ExprId, ExprKind, LetId, LetValue, Stmt, Variant};

/// Leaves out lets and reads that nothing needs.
pub fn keep_needed(variant: &mut Variant) {
    let mut below: Vec<ExprId> = variant.states.iter().map(|state| state.init).collect();
    for stmt in &variant.body {
        match stmt {
            Stmt::Update(update) => below.push(update.value),
            Stmt::Output(output) => below.push(output.value),
            Stmt::Let(_) | Stmt::Read(_) => {}
        }
    }
    below.extend(variant.orders.iter().flat_map(|order| order.by));
    let (mut lets, mut seen) = (vec![false; variant.lets.len()], vec![false; variant.exprs.len()]);
    let mut named: Vec<LetId> = Vec::new();
    loop {
        while let Some(id) = named.pop() {
            if !std::mem::replace(&mut lets[id.index()], true) {
                match &variant.lets[id.index()].value {
                    LetValue::Expr(value) => below.push(*value),
                    LetValue::Iterate { init, step, .. } => below.extend([*init, *step]),
                    LetValue::Norm { of, .. } => named.push(*of),
                }
                let bound = variant.orders.iter().flat_map(|order| &order.bindings);
                below.extend(bound.filter(|(of, _)| *of == id).map(|(_, value)| *value));
            }
        }
        let Some(id) = below.pop() else { break };
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        match variant.expr(id).kind {
            ExprKind::Let(of) | ExprKind::IterateOld(of) => named.push(of),
            _ => below.extend(variant.children(id)),
        }
    }
    variant.body.retain(|stmt| match stmt {
        Stmt::Let(id) | Stmt::Read(id) => lets[id.index()],
        Stmt::Update(_) | Stmt::Output(_) => true,
    });
}

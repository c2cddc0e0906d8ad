//! Functions that call themselves, directly or through others: an error, since functions are expanded in place.

use std::collections::HashMap;

use crate::ast::{self, ExprKind, Ident};
use crate::diagnostic::Diagnostic;

use super::index::children;

/// A function's name and body.
pub(super) type Defined<'a> = (&'a Ident, &'a ast::Expr);

/// An error for every function on a circle of calls.
pub(super) fn recursive(functions: &[Defined]) -> Vec<Diagnostic> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, (name, _)) in functions.iter().enumerate() {
        places.entry(&name.name).or_default().push(place);
    }
    let calls: Vec<Vec<usize>> = functions
        .iter()
        .map(|(_, body)| {
            let mut names = Vec::new();
            called(body, &mut names);
            names.iter().filter_map(|name| places.get(name)).flatten().copied().collect()
        })
        .collect();
    let circles = functions.iter().zip(on_circles(&calls)).filter(|(_, circle)| *circle);
    circles
        .map(|((name, _), _)| {
            Diagnostic::new("recursion", format!("the function `{}` calls itself", name.name))
                .label(name.span, "leads back to itself")
                .help("functions are expanded in place: iterate with `let V[s] = f(V[s-1]) for s in 1..n from V0;`")
        })
        .collect()
}

fn called<'e>(expr: &'e ast::Expr, names: &mut Vec<&'e str>) {
    if let ExprKind::Call { name, .. } = &expr.kind {
        names.push(&name.name);
    }
    children(expr).into_iter().for_each(|child| called(child, names));
}

/// Whether each node lies on a circle, by the strongly connected components (Kosaraju): nodes in the order in which a
/// walk leaves them, then walks against the edges from the last one left.
fn on_circles(edges: &[Vec<usize>]) -> Vec<bool> {
    let mut against = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        targets.iter().for_each(|to| against[*to].push(from));
    }
    let mut seen = vec![false; edges.len()];
    let order: Vec<usize> = (0..edges.len()).flat_map(|start| left(start, edges, &mut seen)).collect();
    let mut seen = vec![false; edges.len()];
    let mut circle = vec![false; edges.len()];
    for start in order.into_iter().rev() {
        let component = left(start, &against, &mut seen);
        for node in &component {
            circle[*node] = component.len() > 1 || edges[*node].contains(node);
        }
    }
    circle
}

/// The nodes that a walk from `start` newly sees, in the order in which it leaves them.
fn left(start: usize, edges: &[Vec<usize>], seen: &mut [bool]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut open = if std::mem::replace(&mut seen[start], true) { Vec::new() } else { vec![(start, 0)] };
    while let Some((node, next)) = open.last_mut() {
        match edges[*node].get(*next) {
            Some(to) => {
                *next += 1;
                if !std::mem::replace(&mut seen[*to], true) {
                    open.push((*to, 0));
                }
            }
            None => {
                order.push(*node);
                open.pop();
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_on_a_circle_is_found() {
        // 0 -> 1 <-> 2 -> 3 -> 4 <-> 5, 6 -> 6, 7 -> 0: node 3 leads from a circle to one and lies on none.
        let edges = vec![vec![1], vec![2], vec![1, 3], vec![4], vec![5], vec![4], vec![6], vec![0]];
        assert_eq!(on_circles(&edges), [false, true, true, false, true, true, true, false]);
        let chain: Vec<Vec<usize>> = (0..100_000).map(|n| if n > 0 { vec![n - 1] } else { vec![] }).collect();
        assert!(on_circles(&chain).iter().all(|circle| !circle));
    }
}

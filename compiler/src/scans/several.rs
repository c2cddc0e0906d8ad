//! States that scan both ways under several orders: the scans of every order, one after the other, then what merges them.
//!
//! ```text
//! order causal(g = gf), reverse(g = gb) merge mean;  state S;  state M in reverse;  read o[t] = .. S;  read r[t] = .. M, o;
//!   ->  forward0, forward1    what is read of S in each order;  o[t] is the mean of the two
//!       backward0, backward1  what is read of M in each order turned round, in what that order's scan forward gave and o
//!       results               r[t], the mean of the two, and the outputs
//! ```

use chunkwise_dsl::typed::{ExprId, Function, LetId, LetKind, LetValue, Merge, Order, Stmt, Ty, Variant};

use crate::needed::keep_needed;

use super::both::{Both, at_token, keep_states, mark_scan, refused, result, stages_of, turned};
use super::edit::Edit;
use super::{Result, Stage, handed_on};

pub(super) fn stages(variant: &Variant) -> Result<Vec<Stage>> {
    let numbers: Vec<String> = (0..variant.orders.len()).map(|n| n.to_string()).collect();
    let alone: Vec<Variant> = (0..variant.orders.len()).map(|n| under(variant, n)).collect();
    let reads: Vec<LetId> = variant.reads().collect();
    if variant.outputs().any(|output| output.scan) {
        return Err(refused(variant, "an output of states both ways under several orders", "only reads are merged"));
    }
    let mut splits: Vec<Both> =
        alone.iter().zip(&numbers).map(|(variant, number)| Both::new(variant, number)).collect();
    let mut backs: Vec<Edit> = alone.iter().map(Edit::of).collect();
    let mut results = Edit::without_states(variant);
    let mut backward = Vec::new();
    for &read in &reads {
        let mut names = Vec::new();
        for split in &mut splits {
            if let Some((value, token)) = split.forward_read(read)? {
                names.push(split.give(value, token));
            }
        }
        if names.is_empty() {
            let n = backward.len();
            backward.push(read);
            let names: Vec<String> = numbers.iter().map(|number| result(&format!("backward{number}"), n)).collect();
            merge(&mut results, read, &names);
            continue;
        }
        for edit in backs.iter_mut().chain([&mut results]) {
            merge(edit, read, &names);
        }
    }
    for (split, back) in splits.iter_mut().zip(&mut backs) {
        split.rewrite_scan(back)?;
    }
    let mut found = Vec::new();
    for level in 0..2 {
        for (split, back) in splits.iter().zip(&backs) {
            if let Some(forward) = split.forward(level, back) {
                found.extend(stages_of(&forward, &split.name(level))?);
            }
        }
    }
    for ((variant, back), number) in alone.iter().zip(backs).zip(&numbers) {
        let name = format!("backward{number}");
        found.extend(stages_of(&backwards(back, turned(variant)?, (&name, &backward))?, &name)?);
    }
    let mut results = results.variant;
    mark_scan(&mut results);
    keep_needed(&mut results);
    found.push(Stage::new("results".into(), results, Vec::new()));
    Ok(found)
}

/// The variant under one of its orders, which binds its names.
fn under(variant: &Variant, n: usize) -> Variant {
    let mut alone = variant.clone();
    for (binding, value) in &variant.orders[n].bindings {
        alone.lets[binding.index()].value = LetValue::Expr(*value);
    }
    alone.orders = vec![Order { bindings: Vec::new(), ..variant.orders[n].clone() }];
    alone
}

/// A read as what every order gave, merged.
fn merge(edit: &mut Edit, read: LetId, names: &[String]) {
    let binding = edit.variant.lets[read.index()].clone();
    let Some(token) = binding.indices.first().copied() else { return };
    let terms: Vec<ExprId> = names.iter().map(|name| at_token(edit, (name, token), &binding.ty)).collect();
    let mut value = edit.number(0.0);
    for (n, term) in terms.into_iter().enumerate() {
        value = if n == 0 { term } else { edit.map(Function::Add, vec![value, term], binding.ty.clone()) };
    }
    if edit.variant.merge == Merge::Mean {
        let count = edit.number(names.len() as f64);
        value = edit.map(Function::Div, vec![value, count], binding.ty.clone());
    }
    let given = &mut edit.variant.lets[read.index()];
    (given.value, given.kind, given.scan) = (LetValue::Expr(value), LetKind::Let, false);
    if !edit.variant.body.iter().any(|stmt| matches!(stmt, Stmt::Let(id) | Stmt::Read(id) if *id == read)) {
        edit.variant.body.insert(0, Stmt::Let(read));
    }
}

/// The scan of one order turned round, which gives its reads.
fn backwards(back: Edit, order: Order, (name, reads): (&str, &[LetId])) -> Result<Variant> {
    let mut edit = back;
    let body = std::mem::take(&mut edit.variant.body);
    edit.variant.body = body
        .into_iter()
        .filter_map(|stmt| match stmt {
            Stmt::Read(id) if edit.variant.lets[id.index()].kind == LetKind::Let => Some(Stmt::Let(id)),
            Stmt::Read(_) | Stmt::Output(_) => None,
            other => Some(other),
        })
        .collect();
    for (n, read) in reads.iter().enumerate() {
        let binding = edit.variant.lets[read.index()].clone();
        let (LetValue::Expr(value), [token]) = (&binding.value, &binding.indices[..]) else {
            return Err(refused(&edit.variant, "a read by more than its token", "kernels hand on a value a token"));
        };
        let ty = Ty::Array(binding.ty.dims());
        let output = handed_on(result(name, n), (vec![*token], ty), *value, &edit);
        edit.variant.body.push(Stmt::Output(output));
    }
    let mut variant = edit.variant;
    variant.orders = vec![order];
    keep_states(&mut variant, true);
    variant.states.iter_mut().for_each(|state| state.reverse = false);
    mark_scan(&mut variant);
    keep_needed(&mut variant);
    Ok(variant)
}

//! The names that the language has, family by family: what there is to describe. What each means is not here.

use crate::function::{ROWS, Spelling};
use crate::parse::recover;

use super::{call, checks, law, order, outputs, reduce};

/// Names of one kind.
#[derive(Debug, Clone)]
pub struct Family {
    pub kind: &'static str,
    pub names: Vec<&'static str>,
}

/// Every name that a program may use without declaring it, constants apart.
pub fn families() -> Vec<Family> {
    let family = |kind, names: Vec<&'static str>| Family { kind, names };
    let spelt = |spelling: Spelling| ROWS.iter().filter(move |row| row.spelling == spelling).map(|row| row.name);
    vec![
        family("item", recover::ITEMS.to_vec()),
        family("statement", recover::STATEMENTS.to_vec()),
        family("law", law::LAWS.to_vec()),
        family("order", order::ORDERS.iter().map(|(name, _)| *name).collect()),
        family("locality", order::LOCALS.iter().copied().chain(["where"]).collect()),
        family("norm", outputs::NORMS.iter().map(|(name, ..)| *name).collect()),
        family("item of check", checks::ITEMS.to_vec()),
        family("draw", checks::DRAWS.to_vec()),
        family("function", spelt(Spelling::Call).chain(call::VECTOR.iter().copied()).collect()),
        family("operator", spelt(Spelling::Operator).collect()),
        family("reduction", reduce::OPS.iter().map(|(name, _)| *name).chain(["softmax"]).collect()),
    ]
}

//! Conditions on two positions that say between which bounds one of them lies: a band.
//!
//! ```text
//! j <= i and i - L < j             i - L + 1 <= j <= i
//! floor(i / W) == floor(j / W)     floor(i / W) W <= j <= floor(i / W) W + W - 1
//! ```

use chunkwise_dsl::typed::Function;

use super::{Graph, Index, Op, Operand};

/// Bounds of the column (axis 1) in terms of the row (axis 0), both within; each rises with the row, or falls, throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    pub first: Option<Index>,
    pub last: Option<Index>,
    /// If it says that both lie in one block of so many: how many.
    pub block: Option<i64>,
}

/// What a condition on a row and a column says as bounds of the column, if that is all it says.
pub fn band(graph: &Graph, condition: &Operand) -> Option<Band> {
    let (Op::Map(function), [a, b]) = (&graph.node(condition.node).op, operands(graph, condition)?) else {
        return None;
    };
    let band = match function {
        Function::Le => at_most(&linear(graph, &a)?, &linear(graph, &b)?),
        Function::Ge => at_most(&linear(graph, &b)?, &linear(graph, &a)?),
        Function::Lt => below(graph, &a, &b),
        Function::Gt => below(graph, &b, &a),
        Function::Eq => equal(graph, &a, &b).or_else(|| equal(graph, &b, &a)),
        _ => None,
    }?;
    let bends = [&band.first, &band.last].into_iter().flatten().any(|bound| slope(bound).is_none());
    (!bends).then_some(band)
}

/// The conditions that hold together where this one does.
pub fn conjuncts(graph: &Graph, condition: &Operand, all: &mut Vec<Operand>) {
    match (&graph.node(condition.node).op, operands(graph, condition)) {
        (Op::Map(Function::And), Some([a, b])) => {
            conjuncts(graph, &a, all);
            conjuncts(graph, &b, all);
        }
        _ => all.push(condition.clone()),
    }
}

fn operands<const N: usize>(graph: &Graph, of: &Operand) -> Option<[Operand; N]> {
    let operands = graph.node(of.node).operands.iter().map(|x| x.through(&of.at)).collect::<Vec<_>>();
    if of.within.is_empty() { operands.try_into().ok() } else { None }
}

/// `column * j + rest`, the rest in terms of the row.
#[derive(Clone)]
struct Linear {
    column: i64,
    rest: Index,
}

/// `(j + rest) div by`, the rest in terms of the row, `by` the same everywhere and at least 1 wherever there are tokens.
struct Quotient {
    rest: Index,
    by: Index,
}

/// The column's quotient that an operand is.
fn quotient(graph: &Graph, x: &Operand) -> Option<Quotient> {
    let node = graph.node(x.node);
    match &node.op {
        Op::Position(index) => {
            let place = |axis: usize| x.at.get(axis).cloned().unwrap_or(Index::Number(0));
            let Index::Div(of, by) = index.replaced(&place) else { return None };
            let rest = match *of {
                Index::Axis(1) => Index::Number(0),
                Index::Sub(j, rest) if *j == Index::Axis(1) => Index::Number(0).minus(*rest),
                _ => return None,
            };
            let fixed = slope(&by) == Some(0) && slope(&rest) == Some(0);
            fixed.then_some(Quotient { rest, by: *by })
        }
        Op::Map(Function::FloorDiv) => {
            let [of, by] = operands(graph, x)?;
            let by = linear(graph, &by).filter(|by| by.column == 0 && is_positive(&by.rest))?.rest;
            if let Some(of) = linear(graph, &of) {
                return (of.column == 1).then_some(Quotient { rest: of.rest, by });
            }
            // A quotient of a quotient is one by the product.
            let of = quotient(graph, &of)?;
            Some(Quotient { by: of.by.times(by), ..of })
        }
        Op::Map(Function::Sub | Function::Add) => {
            // A whole number beside a quotient goes inside.
            let [of, more] = operands(graph, x)?;
            let more = linear(graph, &more).filter(|more| more.column == 0)?.rest;
            let of = quotient(graph, &of)?;
            let more = more.times(of.by.clone());
            let rest = match node.op {
                Op::Map(Function::Add) => of.rest.plus(more),
                _ => of.rest.minus(more),
            };
            Some(Quotient { rest, ..of })
        }
        _ => None,
    }
}

fn at_most(a: &Linear, b: &Linear) -> Option<Band> {
    match a.column - b.column {
        1 => Some(Band { first: None, last: Some(b.rest.clone().minus(a.rest.clone())), block: None }),
        -1 => Some(Band { first: Some(a.rest.clone().minus(b.rest.clone())), last: None, block: None }),
        _ => None,
    }
}

/// `a < b`; of a distance `|x| < b`.
fn below(graph: &Graph, a: &Operand, b: &Operand) -> Option<Band> {
    let b = linear(graph, b)?;
    let before = Linear { column: b.column, rest: b.rest.minus(Index::Number(1)) };
    if let (Op::Map(Function::Abs), Some([x])) = (&graph.node(a.node).op, operands(graph, a)) {
        let x = linear(graph, &x)?;
        let zero = || Index::Number(0);
        if before.column != 0 || x.column.abs() != 1 {
            return None;
        }
        let turned = Linear { column: -x.column, rest: zero().minus(x.rest.clone()) };
        let [above, under] = [at_most(&x, &before)?, at_most(&turned, &before)?];
        return Some(Band { first: above.first.or(under.first), last: above.last.or(under.last), block: None });
    }
    at_most(&linear(graph, a)?, &before)
}

/// `a == b`, where a is the column or the block of a width that it lies in.
fn equal(graph: &Graph, a: &Operand, b: &Operand) -> Option<Band> {
    let place = linear(graph, b).filter(|b| b.column == 0)?.rest;
    if let Some(Quotient { rest, by }) = quotient(graph, a) {
        let alike = rest == Index::Number(0) && place == Index::Axis(0).quotient(by.clone());
        let block = if alike { number(&by) } else { None };
        let first = place.times(by.clone()).minus(rest);
        let last = first.clone().plus(by.minus(Index::Number(1)));
        return Some(Band { first: Some(first), last: Some(last), block });
    }
    let a = linear(graph, a)?;
    let at = (a.column == 1).then(|| place.minus(a.rest))?;
    Some(Band { first: Some(at.clone()), last: Some(at), block: None })
}

/// An integer as the column and a rest.
fn linear(graph: &Graph, x: &Operand) -> Option<Linear> {
    let node = graph.node(x.node);
    let rest = |rest: Index| Some(Linear { column: 0, rest });
    match &node.op {
        Op::Number(bits) => {
            let x = f64::from_bits(*bits);
            (x.fract() == 0.0 && x.abs() < 2f64.powi(40)).then_some(Linear { column: 0, rest: Index::Number(x as i64) })
        }
        Op::Size(size) => rest(Index::size(size)),
        Op::Position(index) => {
            let place = |axis: usize| x.at.get(axis).cloned().unwrap_or(Index::Number(0));
            let index = index.replaced(&place);
            match index {
                Index::Axis(1) => Some(Linear { column: 1, rest: Index::Number(0) }),
                other => {
                    (0..8).all(|axis| axis == 0 || !other.mentions(axis)).then_some(Linear { column: 0, rest: other })
                }
            }
        }
        Op::Map(function) => {
            let [a, b] = operands(graph, x)?;
            let (a, b) = (linear(graph, &a)?, linear(graph, &b)?);
            match function {
                Function::Add => Some(Linear { column: a.column + b.column, rest: a.rest.plus(b.rest) }),
                Function::Sub => Some(Linear { column: a.column - b.column, rest: a.rest.minus(b.rest) }),
                _ if a.column != 0 || b.column != 0 => None,
                Function::Mul => rest(a.rest.times(b.rest)),
                Function::Min => rest(Index::Min(Box::new(a.rest), Box::new(b.rest))),
                Function::Max => rest(Index::Max(Box::new(a.rest), Box::new(b.rest))),
                Function::FloorDiv if is_positive(&b.rest) => rest(a.rest.quotient(b.rest)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The number that it is at whatever sizes.
fn number(index: &Index) -> Option<i64> {
    match index {
        Index::Number(n) => Some(*n),
        Index::Max(a, b) => Some(number(a)?.max(number(b)?)),
        _ => None,
    }
}

/// Whether it is at least 1 at whatever sizes.
fn is_positive(index: &Index) -> bool {
    match index {
        Index::Number(n) => *n > 0,
        Index::Max(a, b) => is_positive(a) || is_positive(b),
        _ => false,
    }
}

/// Whether it is at least 0 at whatever sizes: an axis is as long as that, a product of such, a maximum of one.
fn is_natural(index: &Index) -> bool {
    match index {
        Index::Size(size) => size.as_axis().is_some(),
        Index::Mul(a, b) => is_natural(a) && is_natural(b),
        Index::Max(a, b) => is_natural(a) || is_natural(b),
        other => is_positive(other),
    }
}

/// 1 where it rises with the row, -1 where it falls, 0 where it stays; None where it may do both.
pub fn slope(index: &Index) -> Option<i64> {
    let both = |a: &Index, b: &Index| match (slope(a)?, slope(b)?) {
        (0, x) | (x, 0) => Some(x),
        (x, y) => (x == y).then_some(x),
    };
    match index {
        Index::Axis(_) => Some(1),
        Index::Number(_) | Index::Size(_) => Some(0),
        Index::Step(_) => None,
        Index::Add(a, b) | Index::Min(a, b) | Index::Max(a, b) => both(a, b),
        Index::Sub(a, b) => match (slope(a)?, slope(b)?) {
            (x, 0) => Some(x),
            (0, x) => Some(-x),
            (x, y) => (x == -y).then_some(x),
        },
        Index::Mul(a, b) => match (slope(a)?, slope(b)?) {
            (0, 0) => Some(0),
            (x, 0) if is_natural(b) => Some(x),
            (0, x) if is_natural(a) => Some(x),
            _ => None,
        },
        Index::Div(a, b) => (slope(b)? == 0 && (is_natural(b) || slope(a)? == 0)).then(|| slope(a))?,
        Index::Mod(a, b) => (slope(a)? == 0 && slope(b)? == 0).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use chunkwise_dsl::source::Source;

    use super::*;
    use crate::program::NodeId;

    /// The bounds of every conjunct of a locality, in order, at row `i`; None for what is no band.
    fn bounds(local: &str, i: i64) -> Vec<Option<(Option<i64>, Option<i64>)>> {
        let text = format!(
            "variant f {{ axes B, T, H; input g : [B,T,H]; {local} output o[i] = sum[j](g[j] * exp(g[i] * g[j])); }}"
        );
        let program = chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).expect("the program checks");
        let graph = Graph::of(&program.variants[0]).expect("a graph");
        let select = graph.ids().find(|id| graph.node(*id).op == Op::Select).unwrap_or(NodeId(0));
        let condition = Operand { at: vec![Index::Axis(0), Index::Axis(1)], ..graph.node(select).operands[0].clone() };
        let mut all = Vec::new();
        conjuncts(&graph, &condition, &mut all);
        let number = |bound: Option<Index>| {
            bound.map(|bound| match bound.replaced(&|_| Index::Number(i)) {
                Index::Number(n) => n,
                other => panic!("{other:?}"),
            })
        };
        all.iter().map(|x| band(&graph, x).map(|band| (number(band.first), number(band.last)))).collect()
    }

    #[test]
    fn orders_and_windows_are_bands() {
        assert_eq!(bounds("order causal;", 7), [Some((None, Some(7)))]);
        assert_eq!(bounds("order reverse;", 7), [Some((Some(7), None))]);
        let window = [Some((None, Some(7))), Some((Some(5), None))];
        assert_eq!(bounds("order causal; local window(3);", 7), window);
        assert_eq!(bounds("order full; local where abs(i - j) < 2;", 7), [Some((Some(6), Some(8)))]);
        assert_eq!(
            bounds("order full; local where 2 >= i - j and j == i - 1;", 7),
            [Some((Some(5), None)), Some((Some(6), Some(6)))]
        );
    }

    #[test]
    fn what_is_no_bound_of_the_column_is_no_band() {
        assert_eq!(bounds("order full; local where (i - j) mod 2 == 0;", 7), [None]);
        assert_eq!(bounds("order full; local where i < 3;", 7), [None]);
        assert_eq!(bounds("order full; local where j <= i mod 4;", 7), [None]);
        assert_eq!(bounds("order full; local where j <= i * (T - 5);", 7), [None]);
        assert_eq!(bounds("order full; local where g[j] > 0;", 7), [None]);
        assert_eq!(bounds("order full; local where 2 * j < i;", 7), [None]);
    }
}

//! What a stretch of a sequence needs of the tokens beside it, so that processes that hold a stretch each give what one
//! process gives that holds all. Not here: who sends it (`chunkwise.distributed`).

use std::collections::{BTreeSet, HashSet};

use chunkwise_dsl::{
    shape::Size,
    typed::{ExprId, ExprKind, LetValue, LocalKind, OrderKind, Stmt, Variant},
};

/// What is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The states before it, of which no update reads another.
    States,
    /// The states before it, of which one writes what it read of another.
    Coupled,
    /// The inputs of so many tokens before it, and behind it.
    Window { left: usize, right: usize },
}

/// What a stretch needs; or why a stretch cannot be computed for itself.
pub fn needs(variant: &Variant) -> Result<Needs, &'static str> {
    let token = variant.token.ok_or("it has no tokens")?;
    if variant.axes[token.0 as usize].value.is_some() {
        return Err("its tokens lie on a grid");
    }
    let [order] = &variant.orders[..] else { return Err("it has several orders") };
    if order.by.is_some() || !order.bindings.is_empty() {
        return Err("its order is that of a tensor, or binds one");
    }
    if variant.states.iter().any(|state| state.reverse) {
        return Err("a state scans against the order");
    }
    let window = window(variant)?;
    let said = said(variant);
    let pairs = said.iter().any(|id| ranges_over_tokens(variant, &variant.expr(*id).kind));
    match (order.kind, window, pairs) {
        (OrderKind::Causal, None, true) => return Err("a token sees all before it, not through a state"),
        (OrderKind::Causal, _, _) | (OrderKind::Full, Some(_), _) => {}
        _ => return Err("its order is not causal"),
    }
    every_read_is_of_the_token(variant, &said)?;
    match window {
        None if are_coupled(variant) => Ok(Needs::Coupled),
        None => Ok(Needs::States),
        // Under a causal order the window's right side is hidden.
        Some((left, _)) if order.kind == OrderKind::Causal => Ok(Needs::Window { left, right: 0 }),
        Some((left, right)) => Ok(Needs::Window { left, right }),
    }
}

/// The tokens that a window reaches to both sides: one more before it where a state is read as the token before left it.
fn window(variant: &Variant) -> Result<Option<(usize, usize)>, &'static str> {
    let [local] = &variant.locals[..] else {
        return if variant.locals.is_empty() { Ok(None) } else { Err("it has several localities") };
    };
    let LocalKind::Window { left, right } = &local.kind else { return Err("its locality is no window") };
    let number = |size: &Size| size.as_constant().and_then(|n| usize::try_from(n).ok());
    let sides = number(left).zip(number(right)).ok_or("its window is not of a fixed size")?;
    Ok(Some(sides))
}

fn ranges_over_tokens(variant: &Variant, kind: &ExprKind) -> bool {
    match kind {
        ExprKind::Reduce { index, .. } | ExprKind::Softmax { index, .. } => variant.indices[index.index()].token,
        _ => false,
    }
}

/// Whether tensors and lets are read at the token alone, or at one that a window shows, and no value is made of a token's
/// place.
fn every_read_is_of_the_token(variant: &Variant, said: &BTreeSet<ExprId>) -> Result<(), &'static str> {
    let token = variant.token.ok_or("it has no tokens")?;
    for id in said {
        let kind = &variant.expr(*id).kind;
        match kind {
            ExprKind::Coord { .. } | ExprKind::Rope2d { .. } => return Err("it reads a token's place"),
            ExprKind::Conv1d { .. } | ExprKind::Dwconv { .. } => return Err("it convolves along tokens"),
            ExprKind::Size(size) | ExprKind::Eye(size) if size.axes().contains(&token) => {
                return Err("it reads the number of tokens");
            }
            ExprKind::Reduce { index, domain, .. } | ExprKind::Softmax { index, domain, .. } => {
                let seen = domain.visible_from.is_some() && domain.filter.is_none();
                if variant.indices[index.index()].token && !seen {
                    return Err("it reduces over tokens that a window does not show");
                }
            }
            _ => {}
        }
        stands_for_itself(variant, kind)?;
    }
    roots(variant).into_iter().try_for_each(|id| value(variant, id))
}

/// Whether an expression takes of tensors what is at the token.
fn stands_for_itself(variant: &Variant, kind: &ExprKind) -> Result<(), &'static str> {
    let ExprKind::Subscript { base, at } = kind else {
        return kind.children().into_iter().try_for_each(|id| value(variant, id));
    };
    let is_place = |id: &ExprId| match variant.expr(*id).kind {
        ExprKind::Index(index) => variant.indices[index.index()].token,
        _ => false,
    };
    let own = own_places(variant, *base);
    if at.len() < own {
        return Err("it reads a whole sequence");
    }
    if !at[..own].iter().all(is_place) {
        return Err("it reads at another token than its own");
    }
    at[own..].iter().try_for_each(|id| value(variant, *id))
}

/// Whether an expression is a value like any other: no token's place, and no whole sequence.
fn value(variant: &Variant, id: ExprId) -> Result<(), &'static str> {
    match variant.expr(id).kind {
        ExprKind::Index(index) if variant.indices[index.index()].token => Err("it reads a token's place"),
        _ if own_places(variant, id) > 0 => Err("it reads a whole sequence"),
        _ => Ok(()),
    }
}

/// All expressions that statements are made of.
fn said(variant: &Variant) -> BTreeSet<ExprId> {
    let (mut found, mut left) = (BTreeSet::new(), roots(variant));
    while let Some(id) = left.pop() {
        if found.insert(id) {
            left.extend(variant.children(id));
        }
    }
    found
}

/// What statements say.
fn roots(variant: &Variant) -> Vec<ExprId> {
    let of_lets = variant.lets.iter().flat_map(|of| match of.value {
        LetValue::Norm { .. } => Vec::new(),
        _ => below(variant, &of.value),
    });
    let of_body = variant.body.iter().filter_map(|stmt| match stmt {
        Stmt::Update(update) => Some(update.value),
        Stmt::Output(output) => Some(output.value),
        _ => None,
    });
    of_lets.chain(of_body).collect()
}

/// Whether a state's update reads another state, itself or through lets of the scan.
fn are_coupled(variant: &Variant) -> bool {
    let updates =
        variant.body.iter().filter_map(|stmt| if let Stmt::Update(update) = stmt { Some(update) } else { None });
    updates.into_iter().any(|update| {
        let (mut seen, mut left) = (HashSet::new(), vec![update.value]);
        while let Some(id) = left.pop() {
            match variant.expr(id).kind {
                ExprKind::StateOld(state) | ExprKind::StateNew(state) if state != update.state => return true,
                ExprKind::Let(of) if variant.lets[of.index()].scan && seen.insert(of.index()) => {
                    left.extend(below(variant, &variant.lets[of.index()].value));
                }
                _ => left.extend(variant.children(id)),
            }
        }
        false
    })
}

/// The expressions of a let; those of a norm are another let's.
fn below(variant: &Variant, value: &LetValue) -> Vec<ExprId> {
    match value {
        LetValue::Expr(id) => vec![*id],
        LetValue::Iterate { init, step, .. } => vec![*init, *step],
        LetValue::Norm { of, .. } => below(variant, &variant.lets[of.index()].value),
    }
}

/// How many of the first axes are those of tokens: two of a value per pair.
fn own_places(variant: &Variant, id: ExprId) -> usize {
    let token = |size: &Size| variant.token.is_some_and(|token| size.as_axis() == Some(token));
    match variant.expr(id).kind {
        ExprKind::Tensor(tensor) => {
            variant.tensors[tensor.index()].own_dims().iter().take_while(|size| token(size)).count()
        }
        ExprKind::Let(of) => {
            let of = &variant.lets[of.index()];
            of.indices.iter().take_while(|index| variant.indices[index.index()].token).count()
        }
        _ => 0,
    }
}

//! States that scan both ways: those that scan forward first, as stages whose results are what the others read of them;
//! then those that scan backwards, under the order turned round.
//!
//! ```text
//! state S : [K,V];  state M : [K,V] in reverse;  update M[t] = M[t-1] + S[t-1] * k[t] * v[t]';  read r[t] = M[t-1]' * S[t] * q[t];
//!   ->  scan    forward   forward.out0[t] = S[t-1] * k[t], forward.out1[t] = S[t] * q[t]
//!       order reverse     M, in what the scan forward gave: stages of their own
//! ```
//!
//! What reads of the states forward is made of reads that they gave, in a second scan of them.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{
    ExprId, ExprKind, IndexId, LetId, LetKind, LetValue, Local, LocalKind, Order, OrderKind, StateId, Stmt, Ty, Variant,
};

use crate::Unsupported;
use crate::needed::keep_needed;

use super::edit::Edit;
use super::{Result, Stage, handed_on, several, stages_named};

/// The stages of a variant whose states scan both ways.
pub(super) fn both_ways(variant: &Variant) -> Result<Vec<Stage>> {
    if variant.orders.len() > 1 {
        return several::stages(variant);
    }
    let turned = turned(variant)?;
    let reads: Vec<LetId> = variant.reads().collect();
    let mut split = Both::new(variant, "");
    // Reads of the states forward alone, then what the others need of them.
    let mut back = Edit::of(variant);
    for &read in &reads {
        if let Some((value, token)) = split.forward_read(read)? {
            let value = split.take(&mut back, value, token);
            let given = &mut back.variant.lets[read.index()];
            (given.value, given.kind) = (LetValue::Expr(value), LetKind::Let);
        }
    }
    split.rewrite_scan(&mut back)?;
    let mut found = Vec::new();
    for level in 0..2 {
        if let Some(forward) = split.forward(level, &back) {
            found.extend(stages_of(&forward, &split.name(level))?);
        }
    }
    let mut back = back.variant;
    keep_states(&mut back, true);
    back.states.iter_mut().for_each(|state| state.reverse = false);
    back.orders = vec![turned];
    let body = std::mem::take(&mut back.body);
    back.body = body
        .into_iter()
        .map(|stmt| match stmt {
            Stmt::Read(id) if back.lets[id.index()].kind == LetKind::Let => Stmt::Let(id),
            other => other,
        })
        .collect();
    mark_scan(&mut back);
    keep_needed(&mut back);
    found.extend(stages_of(&back, "backward")?);
    Ok(found)
}

/// A variant's stages, or itself as one.
pub(super) fn stages_of(variant: &Variant, name: &str) -> Result<Vec<Stage>> {
    let own = || vec![Stage::new(name.to_string(), variant.clone(), Vec::new())];
    Ok(stages_named(variant, &format!("{name}_"))?.unwrap_or_else(own))
}

/// The order turned round.
pub(super) fn turned(variant: &Variant) -> Result<Order> {
    let kind = match variant.orders.as_slice() {
        [] => OrderKind::Reverse,
        [order] if order.by.is_none() => match order.kind {
            OrderKind::Causal => OrderKind::Reverse,
            OrderKind::Reverse => OrderKind::Causal,
            OrderKind::Raster => OrderKind::RasterRev,
            OrderKind::RasterRev => OrderKind::Raster,
            OrderKind::Column => OrderKind::ColumnRev,
            OrderKind::ColumnRev => OrderKind::Column,
            OrderKind::Full => {
                return Err(refused(
                    variant,
                    "states both ways under `full`",
                    "it has no direction to be turned round",
                ));
            }
        },
        _ => return Err(refused(variant, "states both ways under `by`", "what stands at a place is not turned round")),
    };
    let window = |local: &&Local| matches!(local.kind, LocalKind::Window { .. });
    if let Some(local) = variant.locals.iter().find(window) {
        return Err(refused(variant, "states both ways under a window", "a window has one direction").at(local.span));
    }
    Ok(Order { kind, bindings: Vec::new(), by: None })
}

pub(super) fn refused(variant: &Variant, what: &str, why: &str) -> Unsupported {
    Unsupported::new(what, why, "run it with --backend reference").at(variant.span)
}

pub(super) struct Both<'a> {
    variant: &'a Variant,
    /// What tells it from others of the same variant.
    number: &'a str,
    /// What the scans forward give: the first, and the second, whose values are made of what the first gave.
    taken: [Vec<(ExprId, IndexId)>; 2],
    /// Where each is then read.
    tensors: HashMap<ExprId, ExprId>,
}

impl<'a> Both<'a> {
    pub fn new(variant: &'a Variant, number: &'a str) -> Self {
        Self { variant, number, taken: [Vec::new(), Vec::new()], tensors: HashMap::new() }
    }

    /// The name of a scan forward.
    pub fn name(&self, level: usize) -> String {
        format!("{}{}", ["forward", "again"][level], self.number)
    }

    /// The value and the token of a read of the states forward alone.
    pub fn forward_read(&self, read: LetId) -> Result<Option<(ExprId, IndexId)>> {
        let binding = &self.variant.lets[read.index()];
        let LetValue::Expr(value) = binding.value else { return Ok(None) };
        if self.mentions(value, true) {
            return Ok(None);
        }
        let [token] = binding.indices[..] else {
            return Err(refused(self.variant, "a read by more than its token", "kernels hand on a value a token"));
        };
        Ok(Some((value, token)))
    }

    /// Whether a value of the scan is made of states of that direction. Reads are known by then.
    fn mentions(&self, id: ExprId, reverse: bool) -> bool {
        self.reaches(id, &|variant, kind| match kind {
            ExprKind::StateOld(state) | ExprKind::StateNew(state) => variant.states[state.index()].reverse == reverse,
            _ => false,
        })
    }

    /// Whether a value is made of what is read.
    fn waits(&self, id: ExprId) -> bool {
        self.reaches(
            id,
            &|variant, kind| matches!(kind, ExprKind::Let(of) if variant.lets[of.index()].kind == LetKind::Read),
        )
    }

    fn reaches(&self, id: ExprId, is: &dyn Fn(&Variant, &ExprKind) -> bool) -> bool {
        let (mut below, mut seen) = (vec![id], vec![false; self.variant.exprs.len()]);
        while let Some(id) = below.pop() {
            if id.index() >= seen.len() || std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            let kind = &self.variant.expr(id).kind;
            if is(self.variant, kind) {
                return true;
            }
            match kind {
                ExprKind::Let(of) if self.variant.lets[of.index()].kind != LetKind::Read => {
                    below.extend(made_of(self.variant, *of));
                }
                ExprKind::Let(_) => {}
                kind => below.extend(kind.children()),
            }
        }
        false
    }

    /// The updates, reads and outputs of the states backwards, in what the scans forward give.
    pub fn rewrite_scan(&mut self, back: &mut Edit) -> Result<()> {
        let variant = self.variant;
        let mut done = HashMap::new();
        for (at, binding) in variant.lets.iter().enumerate() {
            let LetValue::Expr(value) = binding.value else { continue };
            if binding.scan && self.mentions(value, true) {
                let [token] = binding.indices[..] else {
                    return Err(refused(variant, "a read by more than its token", "kernels hand on a value a token"));
                };
                let value = self.rewritten(back, (value, token), &mut done)?;
                back.variant.lets[at].value = LetValue::Expr(value);
            }
        }
        for at in 0..variant.body.len() {
            match variant.body[at].clone() {
                Stmt::Update(mut update) if variant.states[update.state.index()].reverse => {
                    update.value = self.rewritten(back, (update.value, update.index), &mut done)?;
                    back.variant.body[at] = Stmt::Update(update);
                }
                Stmt::Output(mut output) if output.scan => {
                    let [token] = output.indices[..] else {
                        return Err(refused(
                            variant,
                            "an output by more than its token",
                            "kernels hand on a value a token",
                        ));
                    };
                    output.value = self.rewritten(back, (output.value, token), &mut done)?;
                    back.variant.body[at] = Stmt::Output(output);
                }
                _ => {}
            }
        }
        back.variant
            .body
            .retain(|stmt| !matches!(stmt, Stmt::Update(update) if !variant.states[update.state.index()].reverse));
        Ok(())
    }

    /// A value of the scan backwards: the largest parts that the scans forward can give, taken.
    fn rewritten(
        &mut self,
        back: &mut Edit,
        (id, token): (ExprId, IndexId),
        done: &mut HashMap<ExprId, ExprId>,
    ) -> Result<ExprId> {
        if let Some(&known) = done.get(&id) {
            return Ok(known);
        }
        if !self.mentions(id, false) {
            return Ok(id);
        }
        let expr = self.variant.expr(id).clone();
        // Of matrices only states are taken whole: an outer product is two vectors.
        let state = matches!(expr.kind, ExprKind::StateOld(_) | ExprKind::StateNew(_));
        let small = expr.ty.dims().len() < 2 || state;
        let whole = small && matches!(expr.ty, Ty::Array(_)) && self.is_by_token(id, token);
        let made = if !self.mentions(id, true) && whole {
            self.take(back, id, token)
        } else {
            let mut kind = expr.kind.clone();
            if kind.children().is_empty() || matches!(kind, ExprKind::Let(_)) {
                return Err(refused(self.variant, "this value of states both ways", "no scan gives it").at(expr.span));
            }
            if let ExprKind::Subscript { base, .. } = &kind
                && matches!(self.variant.expr(*base).kind, ExprKind::Let(_))
            {
                // A let of both directions is rewritten where it stands.
                return Ok(id);
            }
            for child in kind.children_mut() {
                *child = self.rewritten(back, (*child, token), done)?;
            }
            back.expr(kind, expr.ty)
        };
        done.insert(id, made);
        Ok(made)
    }

    /// Whether no variable but the token is free in a value.
    fn is_by_token(&self, id: ExprId, token: IndexId) -> bool {
        fn free(variant: &Variant, id: ExprId, bound: &mut Vec<IndexId>, token: IndexId) -> bool {
            let kind = &variant.expr(id).kind;
            let known = |index: &IndexId, bound: &[IndexId]| *index == token || bound.contains(index);
            match kind {
                ExprKind::Index(index) | ExprKind::Coord { index, .. } | ExprKind::Rope2d { index, .. }
                    if !known(index, bound) =>
                {
                    return false;
                }
                ExprKind::Reduce { index, .. } => bound.push(*index),
                ExprKind::Softmax { index, bound: own, .. } => {
                    if !known(index, bound) {
                        return false;
                    }
                    bound.push(*own);
                }
                _ => {}
            }
            let fine = kind.children().into_iter().all(|child| free(variant, child, bound, token));
            if matches!(kind, ExprKind::Reduce { .. } | ExprKind::Softmax { .. }) {
                bound.pop();
            }
            fine
        }
        free(self.variant, id, &mut Vec::new(), token)
    }

    /// A value that a scan forward gives at every token.
    pub fn take(&mut self, back: &mut Edit, id: ExprId, token: IndexId) -> ExprId {
        if let Some(&known) = self.tensors.get(&id) {
            return known;
        }
        let name = self.give(id, token);
        let made = at_token(back, (&name, token), &Ty::Array(self.variant.expr(id).ty.dims()));
        self.tensors.insert(id, made);
        made
    }

    /// The tensor in which a scan forward gives a value.
    pub fn give(&mut self, id: ExprId, token: IndexId) -> String {
        let level = usize::from(self.waits(id));
        let name = result(&self.name(level), self.taken[level].len());
        self.taken[level].push((id, token));
        name
    }

    /// A scan of the states forward that gives what is taken; none where nothing is.
    pub fn forward(&self, level: usize, back: &Edit) -> Option<Variant> {
        if self.taken[level].is_empty() && level > 0 {
            return None;
        }
        let mut edit = Edit::of(self.variant);
        edit.variant.body.retain(|stmt| match stmt {
            Stmt::Update(update) => !self.variant.states[update.state.index()].reverse,
            Stmt::Let(_) => true,
            Stmt::Read(_) | Stmt::Output(_) => false,
        });
        if level > 0 {
            // Reads that the first scan gave are values now.
            edit.variant.exprs = back.variant.exprs.clone();
            edit.variant.tensors = back.variant.tensors.clone();
            for (at, binding) in back.variant.lets.iter().enumerate() {
                if self.variant.lets[at].kind == LetKind::Read && binding.kind == LetKind::Let {
                    edit.variant.lets[at] = binding.clone();
                    edit.variant.body.insert(0, Stmt::Let(LetId(at as u32)));
                }
            }
        }
        for (n, (value, token)) in self.taken[level].iter().enumerate() {
            let ty = Ty::Array(self.variant.expr(*value).ty.dims());
            let output = handed_on(result(&self.name(level), n), (vec![*token], ty), *value, &edit);
            edit.variant.body.push(Stmt::Output(output));
        }
        let mut variant = edit.variant;
        keep_states(&mut variant, false);
        mark_scan(&mut variant);
        keep_needed(&mut variant);
        if level > 0 {
            // The second scan gives no states: the first has.
            variant.name = format!("{}_{}", variant.name, self.name(level));
        }
        Some(variant)
    }
}

/// What a tensor that is handed on holds at the token.
pub(super) fn at_token(edit: &mut Edit, (name, token): (&str, IndexId), ty: &Ty) -> ExprId {
    let tokens = edit.variant.token.map_or(Size::constant(1), Size::axis);
    let tensor = edit.tensor(name, &tokens, ty);
    let (whole, at) = (edit.whole(tensor), edit.index(token));
    edit.expr(ExprKind::Subscript { base: whole, at: vec![at] }, ty.clone())
}

/// The tensor in which a scan forward gives its n-th result.
pub(super) fn result(name: &str, n: usize) -> String {
    format!("{name}.out{n}")
}

fn made_of(variant: &Variant, id: LetId) -> Vec<ExprId> {
    match &variant.lets[id.index()].value {
        LetValue::Expr(value) => vec![*value],
        LetValue::Iterate { init, step, .. } => vec![*init, *step],
        LetValue::Norm { of, .. } => made_of(variant, *of),
    }
}

/// Leaves only the states of one direction, with their updates.
pub(super) fn keep_states(variant: &mut Variant, reverse: bool) {
    let mut places = HashMap::new();
    for (at, state) in variant.states.iter().enumerate() {
        if state.reverse == reverse {
            let place = StateId(places.len() as u32);
            places.insert(StateId(at as u32), place);
        }
    }
    variant.states.retain(|state| state.reverse == reverse);
    for expr in &mut variant.exprs {
        if let ExprKind::StateOld(state) | ExprKind::StateNew(state) = &mut expr.kind {
            match places.get(state) {
                Some(place) => *state = *place,
                // Of no statement that is left.
                None => expr.kind = ExprKind::Number(0.0),
            }
        }
    }
    for stmt in &mut variant.body {
        if let Stmt::Update(update) = stmt
            && let Some(place) = places.get(&update.state)
        {
            update.state = *place;
        }
    }
}

/// Says anew which lets and outputs are of the scan.
pub(super) fn mark_scan(variant: &mut Variant) {
    let scans: Vec<bool> =
        (0..variant.lets.len()).map(|at| is_scan(variant, made_of(variant, LetId(at as u32)))).collect();
    for (binding, scan) in variant.lets.iter_mut().zip(scans) {
        binding.scan = scan;
    }
    let outputs: Vec<Option<bool>> = variant
        .body
        .iter()
        .map(|stmt| match stmt {
            Stmt::Output(output) => Some(is_scan(variant, vec![output.value])),
            _ => None,
        })
        .collect();
    for (stmt, scan) in variant.body.iter_mut().zip(outputs) {
        if let (Stmt::Output(output), Some(scan)) = (stmt, scan) {
            output.scan = scan;
        }
    }
}

fn is_scan(variant: &Variant, mut below: Vec<ExprId>) -> bool {
    let mut seen = vec![false; variant.exprs.len()];
    while let Some(id) = below.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        match variant.expr(id).kind {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => return true,
            ExprKind::Let(of) => below.extend(made_of(variant, of)),
            _ => below.extend(variant.children(id)),
        }
    }
    false
}

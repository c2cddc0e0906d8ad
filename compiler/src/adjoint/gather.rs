//! Cotangents gathered at what is named: every read `k[f(i)]` of a let or a tensor under bound variables hands its share
//! back to place p by the sum over those variables with f(i) = p.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{Domain, ExprId, ExprKind, Function, IndexId, LetId, LetKind, ReduceOp, TensorId, Ty};

use super::exchange::Exchange;
use super::{Adjoint, Bound, Result};

/// What cotangents are gathered at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Leaf {
    Let(LetId),
    Tensor(TensorId),
}

/// A share of a leaf's cotangent: that of what stands at `at`, for every setting of the bound variables.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub at: Vec<ExprId>,
    pub bound: Vec<Bound>,
    pub cotangent: ExprId,
}

/// One share being turned round.
struct Turn {
    exchange: Exchange,
    /// Variables that are summed over, outermost first.
    summed: Vec<Bound>,
    /// In the leaf's own places.
    conditions: Vec<ExprId>,
    /// What stands on the left, in bound variables, is the place on the right.
    equal: Vec<(ExprId, ExprId)>,
}

impl Adjoint<'_> {
    /// The whole shape of a leaf, and how many of its axes its own indices count.
    fn shape(&self, leaf: Leaf) -> (Vec<Size>, usize) {
        match leaf {
            Leaf::Let(id) => {
                let named = &self.build.variant.lets[id.index()];
                let over = named.indices.iter().map(|index| self.build.variant.indices[index.index()].size.clone());
                (over.chain(named.ty.dims()).collect(), named.indices.len())
            }
            Leaf::Tensor(id) => (self.build.variant.tensors[id.index()].own_dims(), 0),
        }
    }

    /// The cotangent of a leaf as a let over its indices; none where nothing reads it.
    ///
    /// # Errors
    /// What cannot be turned round.
    pub(super) fn settle(&mut self, leaf: Leaf) -> Result<Option<LetId>> {
        let Some(shares) = self.shares.remove(&leaf) else { return Ok(None) };
        let (dims, own) = self.shape(leaf);
        let fewest = shares.iter().map(|share| share.at.len()).filter(|n| *n > 0).min().unwrap_or(0);
        let count = if let Leaf::Let(_) = leaf { own } else { fewest };
        let targets: Vec<IndexId> = match leaf {
            Leaf::Let(id) => self.build.variant.lets[id.index()].indices.clone(),
            Leaf::Tensor(_) => (0..count).map(|axis| self.target(&dims[axis], &shares, axis)).collect(),
        };
        let mut sum = self.build.number(0.0);
        for share in shares {
            let term = self.turned(&share, (&dims, &targets))?;
            sum = self.build.add(sum, term);
        }
        if self.build.is_zero(sum) {
            return Ok(None);
        }
        let sum = self.build.full(sum, &dims[count..]);
        let name = match leaf {
            Leaf::Let(id) => &self.build.variant.lets[id.index()].name,
            Leaf::Tensor(id) => &self.build.variant.tensors[id.index()].name,
        };
        let name = format!("d_{name}");
        Ok(Some(self.build.bind(&name, (LetKind::Let, targets), sum, false)))
    }

    /// The variable of an axis: the one that reads use, where they all use one.
    fn target(&mut self, size: &Size, shares: &[Share], axis: usize) -> IndexId {
        let used = shares.iter().find_map(|share| match share.at.get(axis).map(|at| self.build.kind(*at)) {
            Some(ExprKind::Index(index)) if self.build.variant.indices[index.index()].size == *size => Some(*index),
            _ => None,
        });
        used.unwrap_or_else(|| self.build.fresh(size, "p"))
    }

    /// A share as a function of the leaf's own places.
    fn turned(&mut self, share: &Share, (dims, targets): (&[Size], &[IndexId])) -> Result<ExprId> {
        let count = targets.len();
        if share.at.len() <= count {
            let (first, rest) = targets.split_at(share.at.len());
            let value = self.turn(share, (dims, first))?;
            if rest.is_empty() {
                return Ok(value);
            }
            let full = self.build.full(value, &dims[first.len()..]);
            let at = rest.iter().map(|index| self.build.index(*index)).collect();
            return Ok(self.build.at(full, at));
        }
        // Entries one by one, as a let that is then taken by lines.
        let mut all = targets.to_vec();
        for size in &dims[count..share.at.len()] {
            all.push(self.build.fresh(size, "p"));
        }
        let value = self.turn(share, (dims, &all))?;
        let part = self.build.bind("part", (LetKind::Let, all), value, false);
        let whole = self.build.whole(part);
        let at = targets.iter().map(|index| self.build.index(*index)).collect();
        Ok(self.build.at(whole, at))
    }

    fn turn(&mut self, share: &Share, (dims, targets): (&[Size], &[IndexId])) -> Result<ExprId> {
        let mut turn =
            Turn { exchange: HashMap::new(), summed: share.bound.clone(), conditions: Vec::new(), equal: Vec::new() };
        for (axis, (at, target)) in share.at.iter().zip(targets).enumerate() {
            let place = self.build.index(*target);
            self.solve(&mut turn, *at, (place, &dims[axis]));
        }
        // A variable that a target has the name of gives way.
        for bound in turn.summed.clone() {
            if targets.contains(&bound.index) {
                let variable = self.build.variant.indices[bound.index.index()].clone();
                let to = self.build.fresh(&variable.size, &variable.name);
                let at = self.build.index(to);
                turn.exchange.insert(bound.index, at);
            }
        }
        self.closed(turn, share)
    }

    /// `at = place`, for one of the variables that are summed over, or as a condition.
    fn solve(&mut self, turn: &mut Turn, at: ExprId, (place, size): (ExprId, &Size)) {
        let free = self.build.free(at);
        let candidates: Vec<IndexId> =
            turn.summed.iter().map(|bound| bound.index).filter(|index| free.contains(index)).collect();
        if let [index] = candidates[..]
            && let Some(solved) = self.solved(at, index, place)
        {
            let length = self.build.variant.indices[index.index()].size.clone();
            if solved != place || length != *size {
                let (zero, length) = (self.build.number(0.0), self.build.size(&length));
                turn.conditions.push(self.build.map(Function::Ge, &[solved, zero]));
                turn.conditions.push(self.build.map(Function::Lt, &[solved, length]));
            }
            turn.exchange.insert(index, solved);
            turn.summed.retain(|bound| bound.index != index);
            return;
        }
        turn.equal.push((at, place));
    }

    /// The variable at which `at` is `place`: `at` is it, plus or minus what does not depend on it.
    fn solved(&mut self, at: ExprId, index: IndexId, place: ExprId) -> Option<ExprId> {
        if !self.build.free(at).contains(&index) {
            return None;
        }
        match self.build.kind(at).clone() {
            ExprKind::Index(_) => Some(place),
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } => {
                let (a, b) = (args[0], args[1]);
                let (in_a, in_b) = (self.build.free(a).contains(&index), self.build.free(b).contains(&index));
                match (function, in_a, in_b) {
                    (Function::Add, true, false) => {
                        let rest = self.build.map(Function::Sub, &[place, b]);
                        self.solved(a, index, rest)
                    }
                    (Function::Add, false, true) => {
                        let rest = self.build.map(Function::Sub, &[place, a]);
                        self.solved(b, index, rest)
                    }
                    (Function::Sub, true, false) => {
                        let rest = self.build.map(Function::Add, &[place, b]);
                        self.solved(a, index, rest)
                    }
                    (Function::Sub, false, true) => {
                        let rest = self.build.map(Function::Sub, &[a, place]);
                        self.solved(b, index, rest)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The sum over what is left, under every condition.
    fn closed(&mut self, turn: Turn, share: &Share) -> Result<ExprId> {
        let Turn { exchange, summed, conditions, equal } = turn;
        let renamed = |this: &Self, index: IndexId| match exchange.get(&index).map(|to| this.build.kind(*to)) {
            Some(ExprKind::Index(to)) => *to,
            _ => index,
        };
        let mut placed: Vec<ExprId> = conditions;
        let mut conditions: Vec<ExprId> = Vec::new();
        // Domains of variables that are no longer summed over hold as conditions.
        let mut domains: HashMap<IndexId, Domain> = HashMap::new();
        for bound in &share.bound {
            let kept = summed.iter().any(|other| other.index == bound.index);
            let mut domain = bound.domain.clone();
            if let Some(from) = domain.visible_from {
                let seen = exchange.get(&from).copied();
                let from_index = match seen.map(|to| self.build.kind(to).clone()) {
                    None => Some(from),
                    Some(ExprKind::Index(to)) => Some(to),
                    Some(_) => None,
                };
                let Some(from_index) = from_index else {
                    return Err(
                        self.refused("pairs of tokens by computed positions", "who sees whom is not turned round")
                    );
                };
                if kept {
                    domain.visible_from = Some(from_index);
                } else {
                    let looked_at = self.build.index(bound.index);
                    let looked_at = exchange.get(&bound.index).copied().unwrap_or(looked_at);
                    placed.push(self.visible(from_index, looked_at)?);
                    domain.visible_from = None;
                }
            }
            if let Some(filter) = domain.filter.take() {
                conditions.push(filter);
            }
            domains.insert(bound.index, domain);
        }
        let mut value = share.cotangent;
        let cannot =
            |this: &Self| this.refused("this read by position", "a computed position takes a variable's place");
        value = self.build.exchanged(value, &exchange).ok_or_else(|| cannot(self))?;
        for (at, place) in equal {
            let at = self.build.exchanged(at, &exchange).ok_or_else(|| cannot(self))?;
            placed.push(self.build.map(Function::Eq, &[at, place]));
        }
        for condition in conditions {
            placed.push(self.build.exchanged(condition, &exchange).ok_or_else(|| cannot(self))?);
        }
        for bound in summed.iter().rev() {
            let index = renamed(self, bound.index);
            let here: Vec<ExprId> =
                placed.iter().copied().filter(|condition| self.build.free(*condition).contains(&index)).collect();
            placed.retain(|condition| !here.contains(condition));
            let mut domain = domains.remove(&bound.index).unwrap_or(Domain { visible_from: None, filter: None });
            domain.filter = self.all(&here);
            value = self.sum((index, domain), value);
        }
        if let Some(condition) = self.all(&placed) {
            let zero = self.build.number(0.0);
            value = self.build.if_else(condition, value, zero);
        }
        Ok(value)
    }

    pub(super) fn sum(&mut self, (index, domain): (IndexId, Domain), body: ExprId) -> ExprId {
        if self.build.is_zero(body) {
            return body;
        }
        let ty = Ty::Array(self.build.dims(body));
        self.build.expr(ExprKind::Reduce { op: ReduceOp::Sum, index, domain, body }, ty)
    }

    fn all(&mut self, conditions: &[ExprId]) -> Option<ExprId> {
        let mut conditions = conditions.iter().copied();
        let first = conditions.next()?;
        Some(conditions.fold(first, |a, b| self.build.map(Function::And, &[a, b])))
    }
}

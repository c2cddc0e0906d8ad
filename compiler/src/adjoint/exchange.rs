//! Index variables exchanged in an expression: what holds at `k[t]` is wanted at `k[t+1]`. Bound variables that would catch
//! what is put in get new names.

use std::collections::{BTreeSet, HashMap};

use chunkwise_dsl::typed::{Domain, ExprId, ExprKind, IndexId};

use super::build::Builder;

/// Index variables and what stands for them.
pub(super) type Exchange = HashMap<IndexId, ExprId>;

impl Builder {
    /// The expression with variables exchanged; none where one stands in a place that takes only a variable.
    pub fn exchanged(&mut self, id: ExprId, exchange: &Exchange) -> Option<ExprId> {
        if exchange.is_empty() {
            return Some(id);
        }
        let mut caught = BTreeSet::new();
        for to in exchange.values() {
            caught.extend(self.free(*to));
        }
        self.exchange(id, (exchange, &caught), &mut HashMap::new())
    }

    fn exchange(
        &mut self,
        id: ExprId,
        (exchange, caught): (&Exchange, &BTreeSet<IndexId>),
        done: &mut HashMap<ExprId, ExprId>,
    ) -> Option<ExprId> {
        if let Some(known) = done.get(&id) {
            return Some(*known);
        }
        let expr = self.variant.expr(id).clone();
        let variable = |this: &Self, index: IndexId| match exchange.get(&index) {
            None => Some(index),
            Some(to) => match *this.kind(*to) {
                ExprKind::Index(to) => Some(to),
                _ => None,
            },
        };
        let made = match expr.kind.clone() {
            ExprKind::Index(index) => exchange.get(&index).copied().unwrap_or(id),
            ExprKind::Coord { index, axis } => {
                let index = variable(self, index)?;
                self.expr(ExprKind::Coord { index, axis }, expr.ty)
            }
            ExprKind::Rope2d { arg, index } => {
                let index = variable(self, index)?;
                let arg = self.exchange(arg, (exchange, caught), done)?;
                self.expr(ExprKind::Rope2d { arg, index }, expr.ty)
            }
            ExprKind::Reduce { op, index, domain, body } => {
                let (inner, to) = self.within(index, (exchange, caught));
                let domain = self.domain(&domain, (exchange, &inner), (caught, index, to))?;
                let body = self.exchange(body, (&inner, caught), &mut HashMap::new())?;
                self.expr(ExprKind::Reduce { op, index: to, domain, body }, expr.ty)
            }
            ExprKind::Softmax { index, bound, domain, over, at } => {
                let (inner, to) = self.within(bound, (exchange, caught));
                let domain = self.domain(&domain, (exchange, &inner), (caught, bound, to))?;
                let over = self.exchange(over, (&inner, caught), &mut HashMap::new())?;
                let at = self.exchange(at, (exchange, caught), done)?;
                let index = variable(self, index)?;
                self.expr(ExprKind::Softmax { index, bound: to, domain, over, at }, expr.ty)
            }
            mut kind => {
                let mut changed = false;
                for child in kind.children_mut() {
                    let to = self.exchange(*child, (exchange, caught), done)?;
                    changed |= to != *child;
                    *child = to;
                }
                if changed { self.expr(kind, expr.ty) } else { id }
            }
        };
        done.insert(id, made);
        Some(made)
    }

    /// What is exchanged below a binder, and the variable that it then binds.
    fn within(&mut self, index: IndexId, (exchange, caught): (&Exchange, &BTreeSet<IndexId>)) -> (Exchange, IndexId) {
        let mut inner = exchange.clone();
        inner.remove(&index);
        if !caught.contains(&index) {
            return (inner, index);
        }
        let variable = self.variant.indices[index.index()].clone();
        let to = self.fresh(&variable.size, &variable.name);
        let at = self.index(to);
        inner.insert(index, at);
        (inner, to)
    }

    fn domain(
        &mut self,
        domain: &Domain,
        (outer, inner): (&Exchange, &Exchange),
        (caught, _, _): (&BTreeSet<IndexId>, IndexId, IndexId),
    ) -> Option<Domain> {
        let visible_from = match domain.visible_from.and_then(|from| Some((from, *outer.get(&from)?))) {
            None => domain.visible_from,
            Some((_, to)) => match *self.kind(to) {
                ExprKind::Index(to) => Some(to),
                _ => return None,
            },
        };
        let filter = match domain.filter {
            Some(filter) => Some(self.exchange(filter, (inner, caught), &mut HashMap::new())?),
            None => None,
        };
        Some(Domain { visible_from, filter })
    }

    /// The variables that are free in an expression; lets bind their own.
    pub fn free(&self, id: ExprId) -> BTreeSet<IndexId> {
        self.free_below(id, &mut HashMap::new())
    }

    fn free_below(&self, id: ExprId, known: &mut HashMap<ExprId, BTreeSet<IndexId>>) -> BTreeSet<IndexId> {
        if let Some(free) = known.get(&id) {
            return free.clone();
        }
        let mut free = BTreeSet::new();
        for child in self.variant.children(id) {
            free.extend(self.free_below(child, known));
        }
        match self.kind(id) {
            ExprKind::Index(index) | ExprKind::Coord { index, .. } | ExprKind::Rope2d { index, .. } => {
                free.insert(*index);
            }
            ExprKind::Reduce { index, domain, .. } => {
                free.remove(index);
                free.extend(domain.visible_from);
            }
            ExprKind::Softmax { index, bound, domain, .. } => {
                free.remove(bound);
                free.insert(*index);
                free.extend(domain.visible_from);
            }
            _ => {}
        }
        known.insert(id, free.clone());
        free
    }

    /// An expression with another in the place of some of its nodes.
    pub fn replaced(&mut self, id: ExprId, known: &mut HashMap<ExprId, ExprId>) -> ExprId {
        if let Some(to) = known.get(&id) {
            return *to;
        }
        let expr = self.variant.expr(id).clone();
        let mut kind = expr.kind;
        let mut changed = false;
        for child in kind.children_mut() {
            let to = self.replaced(*child, known);
            changed |= to != *child;
            *child = to;
        }
        let made = if changed { self.expr(kind, expr.ty) } else { id };
        known.insert(id, made);
        made
    }
}

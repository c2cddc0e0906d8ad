//! The scan: what its outputs and updates hand to states gathers in their partners, what they hand to lets and tensors
//! becomes reads.

use chunkwise_dsl::typed::{
    Domain, ExprId, ExprKind, IndexId, LetId, LetKind, LetValue, State, StateId, Stmt, Ty, Update,
};

use super::expression::Seed;
use super::gather::{Leaf, Share};
use super::{Adjoint, Bound, Result, cotangent_name};

impl Adjoint<'_> {
    /// The partners' updates and the reads, from the cotangents of what is read of the states.
    pub(super) fn scan(&mut self, roots: Vec<Seed>) -> Result<()> {
        let primal = self.primal;
        if let Some(local) =
            primal.locals.iter().find(|local| matches!(local.kind, chunkwise_dsl::typed::LocalKind::Window { .. }))
        {
            return Err(self
                .refused("the gradient of a state under a window", "what leaves it has no rule")
                .at(local.span));
        }
        if let Some(state) = primal.states.iter().find(|state| state.reverse) {
            return Err(self.refused("the gradient of a gradient", "states scan both ways already").at(state.span));
        }
        for state in &primal.states {
            self.build.span = state.span;
            if self.build.constant(state.init).is_none() && self.is_active(state.init) {
                return Err(self.refused("the gradient of a state's first value", "it is a param").at(state.span));
            }
            let init = self.build.number(0.0);
            let (name, span) = (cotangent_name(&state.name), state.span);
            let partner = State { name, span, dims: state.dims.clone(), init, reverse: true, decay: None };
            self.build.variant.states.push(partner);
            self.partners.push(StateId(self.build.variant.states.len() as u32 - 1));
        }
        self.same_token()?;
        self.picks()?;
        self.scanning = true;
        let mut seeds = Vec::new();
        for seed in roots {
            seeds.push(self.at_scan_token(seed)?);
        }
        for at in 0..primal.states.len() {
            let dims = Ty::Array(primal.states[at].dims.clone());
            let later = self.build.expr(ExprKind::StateOld(self.partners[at]), dims.clone());
            let new = self.build.expr(ExprKind::StateNew(StateId(at as u32)), dims);
            seeds.push((new, self.scan_bound(), later));
        }
        self.reverse(seeds)?;
        self.scanning = false;
        let Some(index) = self.token else { return Ok(()) };
        for at in 0..primal.states.len() {
            let dims = primal.states[at].dims.clone();
            let value = self.build.full(self.before[at], &dims);
            let span = primal.states[at].span;
            self.build.variant.body.push(Stmt::Update(Update { state: self.partners[at], span, value, index }));
        }
        Ok(())
    }

    /// Under orders that bind names, one let an order, 1 in that order and 0 in all others: what each hands to its own.
    fn picks(&mut self) -> Result<()> {
        let orders = self.primal.orders.clone();
        if orders.iter().all(|order| order.bindings.is_empty()) {
            return Ok(());
        }
        for n in 0..orders.len() {
            let (one, zero) = (self.build.number(1.0), self.build.number(0.0));
            let value = if n == 0 { one } else { zero };
            let pick = self.build.bind(&format!("order{n}"), (LetKind::Let, Vec::new()), value, false);
            for (at, order) in self.build.variant.orders.iter_mut().enumerate() {
                order.bindings.push((pick, if at == n { one } else { zero }));
            }
            self.picks.push(pick);
        }
        Ok(())
    }

    pub(super) fn scan_bound(&self) -> Vec<Bound> {
        self.token.map(|token| self.whole_bounds(&[token])).unwrap_or_default()
    }

    /// The update of a state, as one of the scan's token.
    pub(super) fn update_of(&self, state: StateId) -> ExprId {
        self.updates.get(&state).copied().unwrap_or(self.before[state.index()])
    }

    /// Every update in one token variable.
    pub(super) fn same_token(&mut self) -> Result<()> {
        let Some(token) = self.token else { return Ok(()) };
        for stmt in self.primal.body.clone() {
            if let Stmt::Update(update) = stmt {
                let value = self.with_token(update.value, update.index, token)?;
                self.updates.insert(update.state, value);
            }
        }
        Ok(())
    }

    fn with_token(&mut self, id: ExprId, from: IndexId, to: IndexId) -> Result<ExprId> {
        if from == to {
            return Ok(id);
        }
        let at = self.build.index(to);
        let exchanged = self.build.exchanged(id, &[(from, at)].into_iter().collect());
        exchanged.ok_or_else(|| self.refused("this value of the scan", "its token has two names"))
    }

    /// A root under the scan's own token variable.
    fn at_scan_token(&mut self, (id, mut bound, cotangent): Seed) -> Result<Seed> {
        let Some(token) = self.token else { return Ok((id, bound, cotangent)) };
        let own = bound.iter().position(|bound| self.build.variant.indices[bound.index.index()].token);
        let Some(own) = own else { return Ok((id, bound, cotangent)) };
        let from = bound[own].index;
        bound[own].index = token;
        let (id, cotangent) = (self.with_token(id, from, token)?, self.with_token(cotangent, from, token)?);
        Ok((id, bound, cotangent))
    }

    /// States are known by one node each, under the token alone.
    pub(super) fn canonical(&mut self, (id, bound, cotangent): Seed) -> Result<Seed> {
        let state = match *self.build.kind(id) {
            ExprKind::StateNew(state) => state,
            _ => return Ok((id, bound, cotangent)),
        };
        let known = self.news.get(&state).copied();
        let node = known.unwrap_or(id);
        self.news.insert(state, node);
        let cotangent = self.at_token(cotangent, &bound);
        Ok((node, self.scan_bound(), cotangent))
    }

    /// The sum over all bound variables but the token.
    pub(super) fn at_token(&mut self, cotangent: ExprId, bound: &[Bound]) -> ExprId {
        let token = self.token;
        let inner: Vec<Bound> = bound.iter().filter(|bound| Some(bound.index) != token).cloned().collect();
        inner.into_iter().rev().fold(cotangent, |sum, bound| self.sum((bound.index, bound.domain), sum))
    }

    pub(super) fn is_of_scan(&self, id: LetId) -> bool {
        let named = &self.build.variant.lets[id.index()];
        named.scan && named.kind != LetKind::Read
    }

    /// The value of a let of the scan where it is read.
    pub(super) fn scan_value(&mut self, id: LetId, at: &[ExprId]) -> Result<ExprId> {
        let named = self.build.variant.lets[id.index()].clone();
        let exchange = named
            .indices
            .iter()
            .copied()
            .zip(at.iter().copied())
            .filter(|(index, at)| *self.build.kind(*at) != ExprKind::Index(*index));
        let exchange = exchange.collect();
        let value = match named.value {
            LetValue::Expr(value) => value,
            LetValue::Norm { of, norm, heads: false } => {
                let arg = self.build.named_at(of, &named.indices);
                let ty = Ty::Array(self.build.dims(arg));
                self.build.expr(ExprKind::Normalise { norm, arg }, ty)
            }
            LetValue::Norm { .. } => {
                return Err(self
                    .refused("the gradient of a norm over heads", "no value sums over heads")
                    .at(named.span));
            }
            LetValue::Iterate { .. } => {
                return Err(self.refused("the gradient of an iteration over states", "it has no rule").at(named.span));
            }
        };
        if at.len() > named.indices.len() {
            return Err(self.refused("the gradient of an entry of what the scan computes", "it has no rule"));
        }
        let key = (id, at.to_vec());
        if let Some(known) = self.values.get(&key) {
            return Ok(*known);
        }
        let value = self.build.exchanged(value, &exchange);
        let value = value.ok_or_else(|| self.refused("this value of the scan", "it is read at a computed token"))?;
        self.values.insert(key, value);
        Ok(value)
    }

    pub(super) fn mentions_state(&self, id: ExprId) -> bool {
        self.build.mentions_state(id)
    }

    /// Whether a value without states looks at other tokens, or is made of params: it is better known by name.
    pub(super) fn looks_around(&mut self, id: ExprId) -> bool {
        let Some(token) = self.token else { return false };
        let at_token =
            |this: &Self, at: &[ExprId]| at.first().is_some_and(|at| *this.build.kind(*at) == ExprKind::Index(token));
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            match self.build.kind(id).clone() {
                ExprKind::Tensor(_) | ExprKind::Let(_) if self.build.rank(id) > 0 => return true,
                ExprKind::Subscript { base, at }
                    if matches!(self.build.kind(base), ExprKind::Tensor(_) | ExprKind::Let(_)) =>
                {
                    if !at_token(self, &at) {
                        return true;
                    }
                }
                ExprKind::Reduce { index, .. } | ExprKind::Softmax { index, .. }
                    if self.build.variant.indices[index.index()].token =>
                {
                    return true;
                }
                kind => below.extend(kind.children()),
            }
        }
        false
    }

    /// What the scan hands to a let or a tensor: a read, which then hands it on.
    pub(super) fn hand_out(&mut self, leaf: Leaf, at: Vec<ExprId>, (bound, g): (&[Bound], ExprId)) -> Result<()> {
        if !self.mentions_state(g) && self.primal.orders.len() < 2 {
            let share = Share { at, bound: bound.to_vec(), cotangent: g };
            self.shares.entry(leaf).or_default().push(share);
            return Ok(());
        }
        // Variables by which the leaf is read stay; over all others the scan sums.
        let read_by: Vec<IndexId> = at.iter().flat_map(|at| self.build.free(*at)).collect();
        let (kept, summed): (Vec<Bound>, Vec<Bound>) =
            bound.iter().cloned().partition(|bound| Some(bound.index) == self.token || read_by.contains(&bound.index));
        let value = summed.into_iter().rev().fold(g, |sum, bound| self.sum((bound.index, bound.domain), sum));
        let indices: Vec<IndexId> = kept.iter().map(|bound| bound.index).collect();
        let name = match leaf {
            Leaf::Let(id) => self.build.variant.lets[id.index()].name.clone(),
            Leaf::Tensor(id) => self.build.variant.tensors[id.index()].name.clone(),
        };
        let name = format!("{}_read", cotangent_name(&name));
        let whole = Domain { visible_from: None, filter: None };
        for (order, leaf) in self.by_order(leaf)? {
            let mut value = value;
            if let Some(order) = order {
                let pick = self.build.whole(self.picks[order]);
                value = self.build.mul(pick, value);
            }
            let read = self.build.bind(&name, (LetKind::Read, indices.clone()), value, true);
            let cotangent = self.build.named(read);
            let bound = kept.iter().map(|bound| Bound { index: bound.index, domain: Domain { ..whole.clone() } });
            // A read is 0 outside what its variables range over, as the value that it is of.
            let share = Share { at: at.clone(), bound: bound.collect(), cotangent };
            self.shares.entry(leaf).or_default().push(share);
        }
        if kept.iter().any(|bound| bound.domain.filter.is_some()) {
            return Err(self.refused("a value of the scan that is read under a condition", "it has no rule"));
        }
        Ok(())
    }

    /// A leaf that depends on what orders bind, in each order; another as it is.
    fn by_order(&mut self, leaf: Leaf) -> Result<Vec<(Option<usize>, Leaf)>> {
        let Leaf::Let(id) = leaf else { return Ok(vec![(None, leaf)]) };
        if self.picks.is_empty() || !self.is_bound(id) {
            return Ok(vec![(None, leaf)]);
        }
        let orders = self.primal.orders.len();
        (0..orders).map(|order| Ok((Some(order), Leaf::Let(self.in_order(id, order)?)))).collect()
    }

    fn is_bound(&self, id: LetId) -> bool {
        let binds = |id: LetId| self.primal.orders.iter().flat_map(|order| &order.bindings).any(|(of, _)| *of == id);
        if binds(id) {
            return true;
        }
        match &self.build.variant.lets[id.index()].value {
            LetValue::Expr(value) => self.mentions_bound(*value),
            LetValue::Norm { of, .. } => self.is_bound(*of),
            LetValue::Iterate { init, step, .. } => self.mentions_bound(*init) || self.mentions_bound(*step),
        }
    }

    fn mentions_bound(&self, id: ExprId) -> bool {
        match *self.build.kind(id) {
            ExprKind::Let(of) => self.is_bound(of),
            _ => self.build.variant.children(id).into_iter().any(|child| self.mentions_bound(child)),
        }
    }

    /// A let under what one order binds.
    fn in_order(&mut self, id: LetId, order: usize) -> Result<LetId> {
        if let Some(known) = self.bound.get(&(id, order)) {
            return Ok(*known);
        }
        let named = self.build.variant.lets[id.index()].clone();
        let bound = self.primal.orders[order].bindings.iter().find(|(of, _)| *of == id).map(|(_, value)| *value);
        let value = match (bound, &named.value) {
            (Some(value), _) => value,
            (None, LetValue::Expr(value)) => *value,
            _ => return Err(self.refused("the gradient of what orders bind", "it is no expression").at(named.span)),
        };
        let mut known = std::collections::HashMap::new();
        let mut below = vec![value];
        while let Some(at) = below.pop() {
            match *self.build.kind(at) {
                ExprKind::Let(of) if self.is_bound(of) => {
                    let own = self.in_order(of, order)?;
                    let whole = self.build.whole(own);
                    known.insert(at, whole);
                }
                _ => below.extend(self.build.variant.children(at)),
            }
        }
        let value = self.build.replaced(value, &mut known);
        let indices = if bound.is_some() { Vec::new() } else { named.indices };
        let own = self.build.bind(&format!("{}_{order}", named.name), (LetKind::Let, indices), value, false);
        self.bound.insert((id, order), own);
        Ok(own)
    }
}

//! What is known of every expression before anything is evaluated: its shape, what it depends on, and whether its last
//! value is worth keeping. An expression's value is a function of the free indices and, in a scan, of the step.

use chunkwise_dsl::typed::{ExprId, ExprKind, IndexId, LetId, LetValue, Stmt, Variant};

use super::value::Dims;
use crate::bind::Sizes;

/// What one expression depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// The free index variables, sorted.
    pub(super) free: Vec<IndexId>,
    /// A state, so the step of the scan.
    pub(super) state: bool,
    /// A state that scans backwards.
    pub(super) reverse: bool,
    /// What is visible, a state, or a name that an order binds: one value for each order.
    pub(super) order: bool,
}

impl Needs {
    fn add(&mut self, other: &Needs) {
        other.free.iter().for_each(|index| self.add_index(*index));
        self.state |= other.state;
        self.order |= other.order;
        self.reverse |= other.reverse;
    }

    fn add_index(&mut self, index: IndexId) {
        if let Err(at) = self.free.binary_search(&index) {
            self.free.insert(at, index);
        }
    }

    fn remove(&mut self, index: IndexId) {
        self.free.retain(|other| *other != index);
    }

    fn is_within(&self, free: &[IndexId], state: bool) -> bool {
        self.free.iter().all(|index| free.contains(index)) && (!self.state || state)
    }

    /// Depends on neither an index nor a state.
    pub(super) fn is_closed(&self) -> bool {
        self.free.is_empty() && !self.state
    }
}

/// The facts of one expression.
#[derive(Debug, Clone)]
pub(super) struct ExprFacts {
    pub(super) needs: Needs,
    pub(super) dims: Dims,
    /// It is asked for again while nothing that it depends on has changed.
    pub(super) keep: bool,
    /// Of a softmax: what its normaliser depends on.
    pub(super) normaliser: Option<Needs>,
}

/// The facts of one let.
#[derive(Debug, Clone)]
pub(super) struct LetFacts {
    /// Beside its own indices.
    pub(super) needs: Needs,
    /// Of the value at one setting of its indices.
    pub(super) dims: Dims,
    /// The sizes of its indices.
    pub(super) over: Vec<usize>,
}

impl LetFacts {
    /// Of the whole array.
    pub(super) fn whole(&self) -> Dims {
        Dims::new(&[self.over.clone(), self.dims.to_vec()].concat())
    }
}

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) exprs: Vec<ExprFacts>,
    pub(super) lets: Vec<LetFacts>,
}

impl Facts {
    pub(super) fn find(variant: &Variant, sizes: &Sizes) -> Facts {
        let mut finder = Finder {
            variant,
            exprs: vec![None; variant.exprs.len()],
            lets: vec![None; variant.lets.len()],
            normalisers: vec![None; variant.exprs.len()],
        };
        let ids = (0..variant.exprs.len()).map(|at| ExprId(at as u32));
        let needs: Vec<Needs> = ids.map(|id| finder.expr(id)).collect();
        let keep = kept(variant, &needs);
        let exprs = needs
            .into_iter()
            .zip(&variant.exprs)
            .zip(keep)
            .zip(finder.normalisers.clone())
            .map(|(((needs, expr), keep), normaliser)| ExprFacts {
                needs,
                dims: Dims::new(&sizes.shape(&expr.ty.dims())),
                keep,
                normaliser,
            })
            .collect();
        let lets = (0..variant.lets.len())
            .map(|at| LetFacts {
                needs: finder.named(LetId(at as u32)),
                dims: Dims::new(&sizes.shape(&variant.lets[at].ty.dims())),
                over: variant.lets[at]
                    .indices
                    .iter()
                    .map(|index| sizes.extent(&variant.indices[index.index()].size))
                    .collect(),
            })
            .collect();
        Facts { exprs, lets }
    }
}

struct Finder<'a> {
    variant: &'a Variant,
    exprs: Vec<Option<Needs>>,
    lets: Vec<Option<Needs>>,
    normalisers: Vec<Option<Needs>>,
}

impl Finder<'_> {
    fn expr(&mut self, id: ExprId) -> Needs {
        if let Some(needs) = &self.exprs[id.index()] {
            return needs.clone();
        }
        let needs = self.compute(id);
        self.exprs[id.index()] = Some(needs.clone());
        needs
    }

    fn compute(&mut self, id: ExprId) -> Needs {
        let variant = self.variant;
        let mut needs = Needs::default();
        match &variant.expr(id).kind {
            ExprKind::Index(index) | ExprKind::Coord { index, .. } => needs.add_index(*index),
            ExprKind::StateOld(state) | ExprKind::StateNew(state) => {
                needs.state = true;
                needs.reverse = variant.states[state.index()].reverse;
                needs.order = true;
            }
            ExprKind::Let(name) => needs = self.named(*name),
            ExprKind::IterateOld(name) => {
                needs = self.iterated(*name);
                variant.lets[name.index()].indices.iter().for_each(|index| needs.add_index(*index));
            }
            ExprKind::Reduce { index, domain, body, .. } => {
                for child in domain.filter.iter().chain([body]) {
                    needs.add(&self.expr(*child));
                }
                needs.remove(*index);
                self.see(&mut needs, domain.visible_from);
            }
            ExprKind::Softmax { index, bound, domain, over, at } => {
                for child in domain.filter.iter().chain([over]) {
                    needs.add(&self.expr(*child));
                }
                needs.remove(*bound);
                self.see(&mut needs, domain.visible_from);
                self.normalisers[id.index()] = Some(needs.clone());
                needs.add(&self.expr(*at));
                needs.add_index(*index);
            }
            ExprKind::Rope2d { arg, index } => {
                needs = self.expr(*arg);
                needs.add_index(*index);
            }
            kind => {
                for child in kind.children() {
                    needs.add(&self.expr(child));
                }
            }
        }
        needs
    }

    fn see(&self, needs: &mut Needs, from: Option<IndexId>) {
        if let Some(index) = from {
            needs.add_index(index);
            needs.order = true;
        }
    }

    /// What a let depends on beside its own indices.
    fn named(&mut self, id: LetId) -> Needs {
        if let Some(needs) = &self.lets[id.index()] {
            return needs.clone();
        }
        let variant = self.variant;
        let mut needs = match &variant.lets[id.index()].value {
            LetValue::Expr(value) => self.expr(*value),
            LetValue::Norm { of, .. } => self.named(*of),
            LetValue::Iterate { .. } => self.iterated(id),
        };
        for index in &variant.lets[id.index()].indices {
            needs.remove(*index);
        }
        for (_, value) in variant.orders.iter().flat_map(|order| &order.bindings).filter(|(name, _)| *name == id) {
            needs.add(&self.expr(*value));
            needs.order = true;
        }
        self.lets[id.index()] = Some(needs.clone());
        needs
    }

    /// What an iterated let depends on: its first entry and its step, but for the entry before, which depends on the same.
    fn iterated(&mut self, id: LetId) -> Needs {
        let variant = self.variant;
        let LetValue::Iterate { init, step, .. } = &variant.lets[id.index()].value else { return Needs::default() };
        let mut needs = self.expr(*init);
        let mut below = vec![*step];
        let mut seen = vec![false; variant.exprs.len()];
        while let Some(at) = below.pop() {
            if std::mem::replace(&mut seen[at.index()], true) || variant.expr(at).kind == ExprKind::IterateOld(id) {
                continue;
            }
            let children = variant.children(at);
            if children.is_empty() {
                needs.add(&self.expr(at));
            }
            match &variant.expr(at).kind {
                ExprKind::Reduce { domain, .. } | ExprKind::Softmax { domain, .. } => {
                    self.see(&mut needs, domain.visible_from);
                }
                ExprKind::Rope2d { index, .. } => needs.add_index(*index),
                _ => {}
            }
            below.extend(children);
        }
        // Indices that the step binds itself stay in: a dependence too many only costs time.
        needs
    }
}

/// Which expressions to keep the last value of: those with several users, and those that a user asks for again in
/// circumstances that do not concern them.
fn kept(variant: &Variant, needs: &[Needs]) -> Vec<bool> {
    let mut users = vec![0usize; variant.exprs.len()];
    let mut keep = vec![false; variant.exprs.len()];
    let mut roots: Vec<(ExprId, Vec<IndexId>)> = Vec::new();
    for stmt in &variant.body {
        match stmt {
            Stmt::Update(update) => roots.push((update.value, vec![update.index])),
            Stmt::Output(output) => roots.push((output.value, output.indices.clone())),
            Stmt::Let(_) | Stmt::Read(_) => {}
        }
    }
    for (root, indices) in roots {
        users[root.index()] += 1;
        keep[root.index()] |= indices.iter().any(|index| !needs[root.index()].free.contains(index));
    }
    for (at, expr) in variant.exprs.iter().enumerate() {
        let mut around = needs[at].free.clone();
        match &expr.kind {
            ExprKind::Reduce { index, .. } => around.push(*index),
            ExprKind::Softmax { bound, .. } => around.push(*bound),
            _ => {}
        }
        for child in expr.kind.children() {
            users[child.index()] += 1;
            let child_needs = &needs[child.index()];
            let fewer =
                around.iter().any(|index| !child_needs.free.contains(index)) || (needs[at].state && !child_needs.state);
            keep[child.index()] |= fewer && child_needs.is_within(&around, needs[at].state);
        }
    }
    let cheap = |kind: &ExprKind| {
        matches!(
            kind,
            ExprKind::Number(_)
                | ExprKind::Bool(_)
                | ExprKind::Size(_)
                | ExprKind::Index(_)
                | ExprKind::Coord { .. }
                | ExprKind::Head
                | ExprKind::Tensor(_)
                | ExprKind::Let(_)
                | ExprKind::StateOld(_)
                | ExprKind::StateNew(_)
                | ExprKind::IterateOld(_)
        )
    };
    let several = users.into_iter().zip(keep).map(|(users, keep)| users > 1 || keep);
    several.zip(&variant.exprs).map(|(keep, expr)| keep && !cheap(&expr.kind)).collect()
}

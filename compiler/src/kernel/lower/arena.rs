//! The expressions as the lowering sees them: one node for equal expressions, one token index, lets opened, subscripts
//! pushed to where they read. How products are arranged is in `algebra`.
//!
//! ```text
//! (let a[i] = f(g[i])) a[t]          ->  f(g[t])
//! silu(conv1d(q, w))[t]              ->  silu(conv1d(q, w)[t])
//! ```

use std::collections::{BTreeSet, HashMap};

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{Domain, Expr, ExprId, ExprKind, IndexId, LetId, LetValue, Ty, Variant};

use crate::Unsupported;

use super::Result;

pub(super) const REFERENCE: &str = "run it with --backend reference";

pub(super) struct Arena<'a> {
    variant: &'a Variant,
    exprs: Vec<Expr>,
    keys: HashMap<String, ExprId>,
    converted: HashMap<ExprId, ExprId>,
    /// The index that stands for every token index.
    token: Option<IndexId>,
    uses: HashMap<ExprId, usize>,
    free: HashMap<ExprId, BTreeSet<IndexId>>,
    scan: HashMap<ExprId, bool>,
}

impl<'a> Arena<'a> {
    pub fn new(variant: &'a Variant) -> Self {
        let token = variant.indices.iter().position(|index| index.token).map(|place| IndexId(place as u32));
        Self {
            variant,
            exprs: Vec::new(),
            keys: HashMap::new(),
            converted: HashMap::new(),
            token,
            uses: HashMap::new(),
            free: HashMap::new(),
            scan: HashMap::new(),
        }
    }

    pub fn expr(&self, id: ExprId) -> &Expr {
        &self.exprs[id.index()]
    }

    pub fn dims(&self, id: ExprId) -> Vec<Size> {
        self.expr(id).ty.dims()
    }

    pub fn is_token(&self, index: IndexId) -> bool {
        self.variant.indices[index.index()].token
    }

    /// How many nodes refer to this one.
    pub fn uses(&self, id: ExprId) -> usize {
        self.uses.get(&id).copied().unwrap_or(0)
    }

    /// Counts the uses of every node below these.
    pub fn count_uses(&mut self, roots: &[ExprId]) {
        let mut open = roots.to_vec();
        let mut seen: BTreeSet<ExprId> = open.iter().copied().collect();
        while let Some(id) = open.pop() {
            let mut below = self.children(id);
            if let ExprKind::Let(of) = self.expr(id).kind {
                below.extend(self.let_value(of));
            }
            for child in below {
                *self.uses.entry(child).or_insert(0) += 1;
                if seen.insert(child) {
                    open.push(child);
                }
            }
        }
    }

    pub fn children(&self, id: ExprId) -> Vec<ExprId> {
        self.expr(id).kind.children()
    }

    /// The node of equal kind and type, made if there is none.
    pub fn intern(&mut self, kind: ExprKind, ty: Ty, span: Span) -> ExprId {
        let key = format!("{kind:?}{ty:?}");
        if let Some(&id) = self.keys.get(&key) {
            return id;
        }
        let id = ExprId(self.exprs.len() as u32);
        self.exprs.push(Expr { kind, ty, span });
        self.keys.insert(key, id);
        id
    }

    /// The index variable that every token index is.
    pub fn token_index(&mut self) -> Option<ExprId> {
        let token = self.token?;
        Some(self.intern(ExprKind::Index(token), Ty::scalar(), self.variant.span))
    }

    /// The node for an expression of the variant.
    pub fn convert(&mut self, id: ExprId) -> Result<ExprId> {
        if let Some(&known) = self.converted.get(&id) {
            return Ok(known);
        }
        let Expr { kind, ty, span } = self.variant.expr(id).clone();
        let made = self.build(id, kind, ty, span)?;
        self.converted.insert(id, made);
        Ok(made)
    }

    fn build(&mut self, id: ExprId, kind: ExprKind, ty: Ty, span: Span) -> Result<ExprId> {
        Ok(match kind {
            ExprKind::Index(index) => {
                let kind = ExprKind::Index(self.the_index(index));
                self.intern(kind, ty, span)
            }
            ExprKind::Coord { index, axis } => {
                let kind = ExprKind::Coord { index: self.the_index(index), axis };
                self.intern(kind, ty, span)
            }
            ExprKind::Let(of) => self.entry(of, Vec::new(), ty, span)?,
            ExprKind::Subscript { base, at } => {
                let at = at.into_iter().map(|x| self.convert(x)).collect::<Result<Vec<_>>>()?;
                match self.variant.expr(base).kind {
                    ExprKind::Let(of) => self.entry(of, at, ty, span)?,
                    _ => {
                        let base = self.convert(base)?;
                        self.subscript(base, at, ty, span)
                    }
                }
            }
            ExprKind::Product(a, b) => {
                let (a, b) = (self.convert(a)?, self.convert(b)?);
                self.product(a, b, ty, span)
            }
            ExprKind::Transpose(x) => {
                let x = self.convert(x)?;
                self.transpose(x, ty, span)
            }
            ExprKind::Reduce { op, index, domain, body } => {
                self.refuse_pairs(id, index, &domain, span, "a reduction over visible tokens")?;
                let domain = self.domain(domain)?;
                let body = self.convert(body)?;
                let index = self.the_index(index);
                self.intern(ExprKind::Reduce { op, index, domain, body }, ty, span)
            }
            ExprKind::Softmax { index, bound, domain, over, at } => {
                if self.is_token(bound) {
                    return Err(refusal("`softmax` over tokens", "it looks at pairs of tokens", span));
                }
                let domain = self.domain(domain)?;
                let (over, at) = (self.convert(over)?, self.convert(at)?);
                self.intern(ExprKind::Softmax { index, bound, domain, over, at }, ty, span)
            }
            mut kind => {
                for child in kind.children_mut() {
                    *child = self.convert(*child)?;
                }
                let apart = match &kind {
                    ExprKind::Map { function, args } => self.less_than_one(*function, args),
                    _ => None,
                };
                apart.unwrap_or_else(|| self.intern(kind, ty, span))
            }
        })
    }

    fn the_index(&self, index: IndexId) -> IndexId {
        if self.is_token(index) { self.token.unwrap_or(index) } else { index }
    }

    fn domain(&mut self, domain: Domain) -> Result<Domain> {
        let filter = domain.filter.map(|filter| self.convert(filter)).transpose()?;
        Ok(Domain { visible_from: None, filter })
    }

    /// A reduction over tokens must not depend on another token: that is the pairwise form's.
    fn refuse_pairs(&self, id: ExprId, index: IndexId, domain: &Domain, span: Span, what: &str) -> Result<()> {
        let mut free = BTreeSet::new();
        written_free(self.variant, id, &mut free);
        let pair = self.is_token(index) && free.iter().any(|&i| self.is_token(i));
        if domain.visible_from.is_some() || pair {
            return Err(refusal(what, "it looks at pairs of tokens, which only the pairwise form has", span));
        }
        Ok(())
    }

    /// The value of a let at one setting of its indices, in terms of them.
    pub fn let_value(&mut self, of: LetId) -> Result<ExprId> {
        let binding = self.variant.lets[of.index()].clone();
        match binding.value {
            LetValue::Expr(value) => self.convert(value),
            LetValue::Iterate { .. } => Err(refusal(
                &format!("the iterated `let {}`", binding.name),
                "its entries follow each other",
                binding.span,
            )),
            LetValue::Norm { heads: true, .. } => {
                Err(refusal("`norm` over the heads", "heads are work items of their own", binding.span))
            }
            LetValue::Norm { of, norm, .. } => {
                let arg = self.let_value(of)?;
                Ok(self.intern(ExprKind::Normalise { norm, arg }, binding.ty, binding.span))
            }
        }
    }

    /// A let, subscripted.
    fn entry(&mut self, of: LetId, at: Vec<ExprId>, ty: Ty, span: Span) -> Result<ExprId> {
        let value = self.let_value(of)?;
        let indices = self.variant.lets[of.index()].indices.clone();
        let tokens = indices.iter().filter(|&&i| self.is_token(i)).count();
        if tokens > 1 {
            let name = &self.variant.lets[of.index()].name;
            return Err(refusal(
                &format!("the pairwise `let {name}`"),
                "it has an entry for every pair of tokens",
                span,
            ));
        }
        let here = indices.len() == 1 && tokens == 1 && at.first().is_some_and(|&x| self.is_row(x));
        if indices.is_empty() || here {
            let rest = at[indices.len()..].to_vec();
            return Ok(self.subscript(value, rest, ty, span));
        }
        let whole = self.whole(of);
        Ok(if at.is_empty() { whole } else { self.intern(ExprKind::Subscript { base: whole, at }, ty, span) })
    }

    fn whole(&mut self, of: LetId) -> ExprId {
        let binding = &self.variant.lets[of.index()];
        let mut dims: Vec<Size> =
            binding.indices.iter().map(|i| self.variant.indices[i.index()].size.clone()).collect();
        dims.extend(binding.ty.dims());
        let span = binding.span;
        self.intern(ExprKind::Let(of), Ty::Array(dims), span)
    }

    fn is_row(&self, id: ExprId) -> bool {
        matches!(self.expr(id).kind, ExprKind::Index(index) if self.is_token(index))
    }

    /// A subscript, pushed below what acts element by element.
    pub fn subscript(&mut self, base: ExprId, at: Vec<ExprId>, ty: Ty, span: Span) -> ExprId {
        if at.is_empty() {
            return base;
        }
        let Expr { kind, ty: base_ty, .. } = self.expr(base).clone();
        let dims = base_ty.dims();
        let inside = at.iter().zip(&dims).all(|(&x, dim)| match self.expr(x).kind {
            ExprKind::Index(index) => self.variant.indices[index.index()].size == *dim,
            _ => false,
        });
        match kind {
            ExprKind::Subscript { base, at: first } => {
                let at = first.into_iter().chain(at).collect();
                self.intern(ExprKind::Subscript { base, at }, ty, span)
            }
            ExprKind::Map { function, args } if inside => {
                let args = args.into_iter().map(|x| self.below(x, &at, span)).collect();
                self.intern(ExprKind::Map { function, args }, ty, span)
            }
            ExprKind::If { cond, then, otherwise } if inside => {
                let (then, otherwise) = (self.below(then, &at, span), self.below(otherwise, &at, span));
                self.intern(ExprKind::If { cond, then, otherwise }, ty, span)
            }
            ExprKind::Fold { op, arg } if inside => {
                let arg = self.below(arg, &at, span);
                self.intern(ExprKind::Fold { op, arg }, ty, span)
            }
            ExprKind::Normalise { norm, arg } if inside && at.len() < dims.len() => {
                let arg = self.below(arg, &at, span);
                self.intern(ExprKind::Normalise { norm, arg }, ty, span)
            }
            ExprKind::SoftmaxAxis(arg) if inside && at.len() < dims.len() => {
                let arg = self.below(arg, &at, span);
                self.intern(ExprKind::SoftmaxAxis(arg), ty, span)
            }
            ExprKind::Cols { arg, from, to } if inside && at.len() < dims.len() => {
                let arg = self.below(arg, &at, span);
                self.intern(ExprKind::Cols { arg, from, to }, ty, span)
            }
            ExprKind::Rope { arg, at: turned, base } if inside && at.len() < dims.len() => {
                let (arg, at) = (self.below(arg, &at, span), self.below(turned, &at, span));
                self.intern(ExprKind::Rope { arg, at, base }, ty, span)
            }
            ExprKind::Product(a, b) if inside && at.len() == 1 && self.is_matrix(a) && self.is_matrix(b) => {
                let vector = self.below(a, &at, span);
                let flipped = Ty::Array(self.dims(b).into_iter().rev().collect());
                let b = self.transpose(b, flipped, span);
                self.product(b, vector, ty, span)
            }
            _ => self.intern(ExprKind::Subscript { base, at }, ty, span),
        }
    }

    fn below(&mut self, arg: ExprId, at: &[ExprId], span: Span) -> ExprId {
        let dims = self.dims(arg);
        if dims.is_empty() {
            return arg;
        }
        let rest = dims.get(at.len()..).unwrap_or_default().to_vec();
        self.subscript(arg, at.to_vec(), Ty::Array(rest), span)
    }

    pub fn is_matrix(&self, id: ExprId) -> bool {
        self.dims(id).len() == 2
    }

    fn transpose(&mut self, x: ExprId, ty: Ty, span: Span) -> ExprId {
        match self.expr(x).kind.clone() {
            ExprKind::Transpose(inner) => inner,
            ExprKind::Eye(_) | ExprKind::Diag(_) => x,
            ExprKind::Product(u, v) if self.is_outer(x) => {
                let (u, v) = (self.flip(u, span), self.flip(v, span));
                self.intern(ExprKind::Product(v, u), ty, span)
            }
            _ => self.intern(ExprKind::Transpose(x), ty, span),
        }
    }

    fn flip(&mut self, x: ExprId, span: Span) -> ExprId {
        let ty = match &self.expr(x).ty {
            Ty::Array(dims) if dims.len() == 1 => Ty::Row(dims[0].clone()),
            Ty::Row(n) => Ty::Array(vec![n.clone()]),
            other => other.clone(),
        };
        self.transpose(x, ty, span)
    }

    /// The free index variables, the token among them.
    pub fn free(&mut self, id: ExprId) -> BTreeSet<IndexId> {
        if let Some(known) = self.free.get(&id) {
            return known.clone();
        }
        let mut found = BTreeSet::new();
        match self.expr(id).kind.clone() {
            ExprKind::Index(index) | ExprKind::Coord { index, .. } | ExprKind::Rope2d { index, .. } => {
                found.insert(index);
            }
            _ => {}
        }
        match self.expr(id).kind.clone() {
            ExprKind::Reduce { index, domain, body, .. } => {
                for child in domain.filter.into_iter().chain([body]) {
                    found.extend(self.free(child));
                }
                found.remove(&index);
            }
            ExprKind::Softmax { index, bound, domain, over, at } => {
                found.extend(self.free(over));
                found.extend(domain.filter.into_iter().flat_map(|x| self.free(x)).collect::<Vec<_>>());
                found.remove(&bound);
                found.extend(self.free(at));
                found.insert(index);
            }
            kind => {
                for child in kind.children() {
                    found.extend(self.free(child));
                }
            }
        }
        self.free.insert(id, found.clone());
        found
    }

    /// The free index variables beside the token, in order.
    pub fn free_own(&mut self, id: ExprId) -> Vec<IndexId> {
        let free = self.free(id);
        free.into_iter().filter(|&i| !self.is_token(i)).collect()
    }

    pub fn has_token(&mut self, id: ExprId) -> bool {
        let free = self.free(id);
        free.into_iter().any(|i| self.is_token(i))
    }

    /// Whether it mentions a state.
    pub fn is_scan(&mut self, id: ExprId) -> bool {
        if let Some(&known) = self.scan.get(&id) {
            return known;
        }
        let found = match self.expr(id).kind {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => true,
            _ => self.children(id).into_iter().any(|child| self.is_scan(child)),
        };
        self.scan.insert(id, found);
        found
    }
}

pub(super) fn refusal(operation: &str, reason: &str, span: Span) -> Unsupported {
    Unsupported::new(operation, reason, REFERENCE).at(span)
}

/// The free index variables of an expression as written.
fn written_free(variant: &Variant, id: ExprId, found: &mut BTreeSet<IndexId>) {
    match &variant.expr(id).kind {
        ExprKind::Index(index) | ExprKind::Coord { index, .. } | ExprKind::Rope2d { index, .. } => {
            found.insert(*index);
        }
        _ => {}
    }
    let bound = match &variant.expr(id).kind {
        ExprKind::Reduce { index, .. } => Some(*index),
        ExprKind::Softmax { bound, .. } => Some(*bound),
        _ => None,
    };
    let mut below = BTreeSet::new();
    for child in variant.children(id) {
        written_free(variant, child, &mut below);
    }
    if let Some(bound) = bound {
        below.remove(&bound);
    }
    found.extend(below);
}

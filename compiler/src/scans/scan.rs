//! One order's scan as a scan forward over places, and the values that it takes from tokens. Inputs that it reads at the
//! token become tensors by place; what looks at other tokens by position is computed before.

use std::collections::{HashMap, HashSet};

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{
    ExprId, ExprKind, IndexId, Let, LetId, LetKind, LetValue, Local, LocalKind, Order, OrderKind, Stmt, TensorId, Ty,
    Variant,
};

use crate::Unsupported;

use super::edit::Edit;
use super::places::Places;
use super::{Result, Wanted, handed_on, result_name, wanted};

/// What an order's scan needs beforehand, if anything, and the scan.
pub(super) fn split(
    variant: &Variant,
    (order, places): (&Order, &Places),
    name: &str,
) -> Result<(Option<Variant>, Variant)> {
    let mut bound = variant.clone();
    for (binding, value) in &order.bindings {
        bound.lets[binding.index()].value = LetValue::Expr(*value);
    }
    let mut before = Edit::without_states(&bound);
    before.variant.orders = vec![Order { bindings: Vec::new(), ..order.clone() }];
    before.variant.body.retain(|stmt| matches!(stmt, Stmt::Let(of) if !bound.lets[of.index()].scan));
    let mut scan = Edit::of(&bound);
    scan.variant.orders = vec![Order { kind: OrderKind::Causal, bindings: Vec::new(), by: None }];
    let mut length = places.count().clone();
    if let Some((count, part)) = places.filled() {
        length = Size::axis(scan.count_places(&places_axis(name), count));
        scan.variant.locals = vec![Local { span: variant.span, kind: LocalKind::Block(part.clone()) }];
    }
    let (taken, done) = Default::default();
    let mut split = Split { original: &bound, before, scan, places, length, name, taken, done };
    split.body()?;
    let needed = split.before.variant.outputs().next().is_some();
    Ok((needed.then_some(split.before.variant), split.scan.variant))
}

/// The name of the axis that counts a scan's places.
pub(super) fn places_axis(stage: &str) -> String {
    format!("{stage}.places")
}

/// Whether something that a program computes is of no use to a scan's own kernels: convolutions on a grid, pairs of
/// tokens, iterations.
pub(super) fn has_values_apart(variant: &Variant) -> bool {
    let lets = variant.lets.iter().any(|binding| {
        let tokens = binding.indices.iter().filter(|index| variant.indices[index.index()].token).count();
        tokens > 1 || matches!(binding.value, LetValue::Iterate { .. })
    });
    lets || variant.exprs.iter().any(|expr| is_apart(variant, &expr.kind))
}

fn is_apart(variant: &Variant, kind: &ExprKind) -> bool {
    match kind {
        ExprKind::Dwconv { .. } | ExprKind::Rope2d { .. } | ExprKind::TopkMask { .. } => true,
        ExprKind::Softmax { bound, .. } => variant.indices[bound.index()].token,
        ExprKind::Reduce { index, domain, .. } => {
            domain.visible_from.is_some() || domain.filter.is_some() && variant.indices[index.index()].token
        }
        _ => false,
    }
}

/// What a value is known by: an expression, a tensor at the token, a let at the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Taken {
    Expr(ExprId),
    Tensor(TensorId),
    Let(LetId),
}

struct Split<'a> {
    original: &'a Variant,
    /// Without states: what the scan takes.
    before: Edit,
    scan: Edit,
    places: &'a Places,
    /// How many places the scan counts, as it counts them.
    length: Size,
    name: &'a str,
    /// Tensors of the scan by place.
    taken: HashMap<Taken, TensorId>,
    done: HashMap<ExprId, ExprId>,
}

impl Split<'_> {
    fn body(&mut self) -> Result<()> {
        let reads = match wanted(self.original) {
            Wanted::Reads(reads) => reads,
            Wanted::Outputs => Vec::new(),
        };
        let mut body = Vec::new();
        let used = self.used(&reads);
        for stmt in self.original.body.clone() {
            match stmt {
                Stmt::Let(of) | Stmt::Read(of) if used.contains(&of) => {
                    self.binding(of)?;
                    if matches!(stmt, Stmt::Let(_)) {
                        body.push(stmt);
                    }
                }
                Stmt::Update(mut update) => {
                    update.value = self.rewritten(update.value)?;
                    body.push(Stmt::Update(update));
                }
                _ => {}
            }
        }
        let mut results = Vec::new();
        for read in &reads {
            let binding = &self.original.lets[read.index()];
            let LetValue::Expr(value) = self.scan.variant.lets[read.index()].value else {
                return Err(self.refused("this read", "it is no expression", binding.span));
            };
            results.push((binding.indices.clone(), binding.ty.clone(), value));
        }
        for output in self.original.outputs().filter(|output| reads.is_empty() && output.scan) {
            let value = self.rewritten(output.value)?;
            results.push((output.indices.clone(), output.ty.clone(), value));
        }
        for (n, (indices, ty, value)) in results.into_iter().enumerate() {
            body.push(Stmt::Output(handed_on(result_name(self.name, n), (indices, ty), value, &self.scan)));
        }
        self.scan.variant.body = body;
        Ok(())
    }

    /// The lets that states and what is read of them depend on.
    fn used(&self, reads: &[LetId]) -> HashSet<LetId> {
        let mut below: Vec<ExprId> = Vec::new();
        let mut used = HashSet::new();
        for stmt in &self.original.body {
            match stmt {
                Stmt::Update(update) => below.push(update.value),
                Stmt::Output(output) if reads.is_empty() && output.scan => below.push(output.value),
                _ => {}
            }
        }
        let mut lets: Vec<LetId> = reads.to_vec();
        loop {
            while let Some(of) = lets.pop() {
                if used.insert(of) {
                    match &self.original.lets[of.index()].value {
                        LetValue::Expr(value) => below.push(*value),
                        LetValue::Iterate { init, step, .. } => below.extend([*init, *step]),
                        LetValue::Norm { of, .. } => lets.push(*of),
                    }
                }
            }
            let Some(id) = below.pop() else { return used };
            match self.original.expr(id).kind {
                ExprKind::Let(of) => lets.push(of),
                _ => below.extend(self.original.children(id)),
            }
        }
    }

    /// A let's value over places.
    fn binding(&mut self, of: LetId) -> Result<()> {
        let binding = self.original.lets[of.index()].clone();
        let whole = self.whole_dims(&binding);
        let by_token = self.is_token_size(whole.first());
        let value = match binding.value {
            LetValue::Expr(value) if binding.indices.is_empty() && by_token && !self.places.are_tokens() => {
                match self.original.expr(value).kind {
                    ExprKind::Tensor(tensor) => {
                        let taken = self.tensor_by_place(tensor)?;
                        self.scan.whole(taken)
                    }
                    _ => self.let_by_place(of, &binding)?,
                }
            }
            LetValue::Expr(value) if binding.indices.is_empty() && by_token && self.is_apart_below(value) => {
                self.let_by_place(of, &binding)?
            }
            LetValue::Iterate { .. } if by_token => self.let_by_place(of, &binding)?,
            LetValue::Expr(value) if binding.indices.len() <= 1 || binding.scan => self.rewritten(value)?,
            // What has an entry for every pair of tokens is reached through what is made of it.
            _ => return Ok(()),
        };
        self.scan.variant.lets[of.index()].value = LetValue::Expr(value);
        Ok(())
    }

    fn whole_dims(&self, binding: &Let) -> Vec<chunkwise_dsl::shape::Size> {
        let indices = binding.indices.iter().map(|index| self.original.indices[index.index()].size.clone());
        indices.chain(binding.ty.dims()).collect()
    }

    fn is_token_size(&self, size: Option<&chunkwise_dsl::shape::Size>) -> bool {
        let Some(token) = self.original.token else { return false };
        let value = self.original.axes[token.0 as usize].value.as_ref();
        size.is_some_and(|size| *size == chunkwise_dsl::shape::Size::axis(token) || Some(size) == value)
    }

    fn is_apart_below(&self, id: ExprId) -> bool {
        let here = is_apart(self.original, &self.original.expr(id).kind);
        here || self.original.children(id).into_iter().any(|child| self.is_apart_below(child))
    }

    /// An expression of the scan, over places.
    fn rewritten(&mut self, id: ExprId) -> Result<ExprId> {
        if let Some(&known) = self.done.get(&id) {
            return Ok(known);
        }
        let made = self.rewrite(id)?;
        self.done.insert(id, made);
        Ok(made)
    }

    fn rewrite(&mut self, id: ExprId) -> Result<ExprId> {
        let expr = self.original.expr(id).clone();
        let moved = !self.places.are_tokens();
        let here = |this: &Self, at: &[ExprId]| {
            at.first().is_some_and(|at| matches!(this.original.expr(*at).kind, ExprKind::Index(i) if this.is_token(i)))
        };
        match &expr.kind {
            kind if is_apart(self.original, kind) => return self.value_by_place(id, &expr.ty),
            ExprKind::Index(index) if moved && self.is_token(*index) => return self.value_by_place(id, &expr.ty),
            ExprKind::Coord { .. } | ExprKind::Conv1d { .. } if moved => return self.value_by_place(id, &expr.ty),
            ExprKind::Reduce { index, .. } if moved && self.is_token(*index) => {
                return self.value_by_place(id, &expr.ty);
            }
            ExprKind::Subscript { base, at } => {
                let base_expr = self.original.expr(*base).clone();
                match base_expr.kind {
                    ExprKind::Tensor(tensor) if moved && self.is_by_token(tensor) => {
                        if !here(self, at) {
                            return self.value_by_place(id, &expr.ty);
                        }
                        let taken = self.tensor_by_place(tensor)?;
                        let mut places = vec![at[0]];
                        for at in &at[1..] {
                            places.push(self.rewritten(*at)?);
                        }
                        let base = self.scan.whole(taken);
                        return Ok(self.scan.expr(ExprKind::Subscript { base, at: places }, expr.ty));
                    }
                    ExprKind::Let(of) => {
                        let binding = &self.original.lets[of.index()];
                        let by_token = self.is_token_size(self.whole_dims(binding).first());
                        let pairs = binding.indices.iter().filter(|index| self.is_token(**index)).count() > 1;
                        if !binding.scan && (pairs || (by_token && moved && !here(self, at))) {
                            return self.value_by_place(id, &expr.ty);
                        }
                        return Ok(id);
                    }
                    _ => {}
                }
            }
            ExprKind::Tensor(tensor) if moved && self.is_by_token(*tensor) => {
                return Err(self.refused("a whole sequence in a scan", "it is read at the token alone", expr.span));
            }
            _ => {}
        }
        let mut kind = expr.kind.clone();
        for child in kind.children_mut() {
            *child = self.rewritten(*child)?;
        }
        Ok(if kind == expr.kind { id } else { self.scan.expr(kind, expr.ty) })
    }

    fn is_token(&self, index: IndexId) -> bool {
        self.original.indices[index.index()].token
    }

    fn is_by_token(&self, tensor: TensorId) -> bool {
        self.is_token_size(self.original.tensors[tensor.index()].own_dims().first())
    }

    /// A tensor by place.
    fn tensor_by_place(&mut self, tensor: TensorId) -> Result<TensorId> {
        if let Some(&known) = self.taken.get(&Taken::Tensor(tensor)) {
            return Ok(known);
        }
        let ty = Ty::Array(self.original.tensors[tensor.index()].own_dims()[1..].to_vec());
        let token = self.before.place_index(self.places.count());
        let base = self.before.whole(tensor);
        let at = self.before.index(token);
        let place = self.places.token_at(&mut self.before, at);
        let value = self.before.expr(ExprKind::Subscript { base, at: vec![place] }, ty.clone());
        Ok(self.take(Taken::Tensor(tensor), (token, ty), value))
    }

    /// A let by place.
    fn let_by_place(&mut self, of: LetId, binding: &Let) -> Result<ExprId> {
        let ty = Ty::Array(self.whole_dims(binding)[1..].to_vec());
        let token = self.before.place_index(self.places.count());
        let base = self.before.expr(ExprKind::Let(of), Ty::Array(self.whole_dims(binding)));
        let at = self.before.index(token);
        let place = self.places.token_at(&mut self.before, at);
        let value = self.before.expr(ExprKind::Subscript { base, at: vec![place] }, ty.clone());
        let taken = self.take(Taken::Let(of), (token, ty.clone()), value);
        let whole = self.scan.whole(taken);
        Ok(match binding.indices.first() {
            Some(index) => {
                let at = self.scan.index(*index);
                self.scan.expr(ExprKind::Subscript { base: whole, at: vec![at] }, ty)
            }
            None => whole,
        })
    }

    /// The value of an expression without states by place, at the scan's token.
    fn value_by_place(&mut self, id: ExprId, ty: &Ty) -> Result<ExprId> {
        let span = self.original.expr(id).span;
        let mut free = Vec::new();
        self.free(id, &mut free, &mut Vec::new());
        let token = match free.as_slice() {
            [] => return Ok(id),
            [token] if self.is_token(*token) => *token,
            _ => {
                return Err(self.refused("this value of a scan", "it depends on an index beside the token", span));
            }
        };
        if self.mentions_state(id) {
            return Err(self.refused(
                "a value of a scan that is not computed token by token",
                "it mentions a state",
                span,
            ));
        }
        let taken = match self.taken.get(&Taken::Expr(id)) {
            Some(&known) => known,
            None => {
                let mut index = token;
                let value = if self.places.are_tokens() {
                    id
                } else {
                    let binding = Let {
                        name: format!("{}.value{}", self.name, id.0),
                        span,
                        kind: LetKind::Let,
                        indices: vec![token],
                        ty: ty.clone(),
                        scan: false,
                        value: LetValue::Expr(id),
                    };
                    self.before.variant.lets.push(binding);
                    let of = LetId(self.before.variant.lets.len() as u32 - 1);
                    let size = self.original.indices[token.index()].size.clone();
                    let whole = Ty::Array([size].into_iter().chain(ty.dims()).collect());
                    let base = self.before.expr(ExprKind::Let(of), whole);
                    index = self.before.place_index(self.places.count());
                    let at = self.before.index(index);
                    let place = self.places.token_at(&mut self.before, at);
                    self.before.expr(ExprKind::Subscript { base, at: vec![place] }, ty.clone())
                };
                self.take(Taken::Expr(id), (index, ty.clone()), value)
            }
        };
        let base = self.scan.whole(taken);
        let at = self.scan.index(token);
        Ok(self.scan.expr(ExprKind::Subscript { base, at: vec![at] }, ty.clone()))
    }

    fn take(&mut self, what: Taken, (token, ty): (IndexId, Ty), value: ExprId) -> TensorId {
        let name = format!("{}.in{}", self.name, self.taken.len());
        let output = handed_on(name.clone(), (vec![token], ty.clone()), value, &self.before);
        self.before.variant.body.push(Stmt::Output(output));
        let tensor = self.scan.tensor(&name, &self.length, &ty);
        self.taken.insert(what, tensor);
        tensor
    }

    /// The index variables free in an expression; lets bind their own.
    fn free(&self, id: ExprId, found: &mut Vec<IndexId>, bound: &mut Vec<IndexId>) {
        let mut add = |index: IndexId, bound: &[IndexId]| {
            if !bound.contains(&index) && !found.contains(&index) {
                found.push(index);
            }
        };
        match &self.original.expr(id).kind {
            ExprKind::Index(index) | ExprKind::Coord { index, .. } => add(*index, bound),
            ExprKind::Reduce { index, domain, body, .. } => {
                domain.visible_from.into_iter().for_each(|from| add(from, bound));
                bound.push(*index);
                domain.filter.iter().chain([body]).for_each(|child| self.free(*child, found, bound));
                bound.pop();
            }
            ExprKind::Softmax { index, bound: own, domain, over, .. } => {
                add(*index, bound);
                domain.visible_from.into_iter().for_each(|from| add(from, bound));
                bound.push(*own);
                domain.filter.iter().chain([over]).for_each(|child| self.free(*child, found, bound));
                bound.pop();
            }
            ExprKind::Rope2d { arg, index } => {
                add(*index, bound);
                self.free(*arg, found, bound);
            }
            kind => kind.children().into_iter().for_each(|child| self.free(child, found, bound)),
        }
    }

    fn mentions_state(&self, id: ExprId) -> bool {
        match self.original.expr(id).kind {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => true,
            ExprKind::Let(of) => self.original.lets[of.index()].scan,
            _ => self.original.children(id).into_iter().any(|child| self.mentions_state(child)),
        }
    }

    fn refused(&self, what: &str, why: &str, span: chunkwise_dsl::source::Span) -> Unsupported {
        Unsupported::new(what, why, "run it with --backend reference").at(span)
    }
}

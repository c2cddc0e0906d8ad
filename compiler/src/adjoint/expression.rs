//! The rules: cotangents of a node's operands from the node's own. What shares a node shares its cotangent, so nodes are
//! taken in an order in which each comes after all that use it.

use std::collections::{HashMap, HashSet};

use chunkwise_dsl::function::Slope;
use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{Domain, Dtype, ExprId, ExprKind, FoldOp, Function, IndexId, LetId, LetValue, ReduceOp, Ty};

use super::gather::{Leaf, Share};
use super::{Adjoint, Bound, Result};

/// A node under bound variables.
type Node = (ExprId, Vec<Bound>);
/// A node and (a part of) its cotangent.
pub(super) type Seed = (ExprId, Vec<Bound>, ExprId);

impl Adjoint<'_> {
    /// Carries cotangents down to what is named.
    ///
    /// # Errors
    /// A node without a rule.
    pub(super) fn reverse(&mut self, roots: Vec<Seed>) -> Result<()> {
        let mut sorted = Vec::new();
        let mut seen = HashSet::new();
        for (root, bound, _) in &roots {
            self.sort((*root, bound.clone()), &mut seen, &mut sorted)?;
        }
        let mut cotangents: HashMap<(ExprId, String), ExprId> = HashMap::new();
        let key = |(id, bound): &Node| (*id, format!("{bound:?}"));
        let add = |this: &mut Self, all: &mut HashMap<(ExprId, String), ExprId>, (id, bound, more): Seed| {
            if this.build.is_zero(more) {
                return;
            }
            let key = key(&(id, bound));
            let sum = match all.get(&key) {
                Some(so_far) => this.build.add(*so_far, more),
                None => more,
            };
            all.insert(key, sum);
        };
        for (root, bound, cotangent) in roots {
            let (root, bound, cotangent) = self.canonical((root, bound, cotangent))?;
            add(self, &mut cotangents, (root, bound, cotangent));
        }
        for node in sorted.into_iter().rev() {
            let Some(cotangent) = cotangents.remove(&key(&node)) else { continue };
            self.build.span = self.build.variant.expr(node.0).span;
            for seed in self.operands(&node, cotangent)? {
                let seed = self.canonical(seed)?;
                add(self, &mut cotangents, seed);
            }
        }
        Ok(())
    }

    /// Lists a node after its operands.
    fn sort(&mut self, node: Node, seen: &mut HashSet<(ExprId, String)>, sorted: &mut Vec<Node>) -> Result<()> {
        let zero = self.build.number(0.0);
        let (id, bound, _) = self.canonical((node.0, node.1, zero))?;
        if !self.is_active(id) || !seen.insert((id, format!("{bound:?}"))) {
            return Ok(());
        }
        for (child, bound) in self.below(id, &bound)? {
            self.sort((child, bound), seen, sorted)?;
        }
        sorted.push((id, bound));
        Ok(())
    }

    /// Whether an input, a param or a state moves it.
    pub(super) fn is_active(&mut self, id: ExprId) -> bool {
        if let Some(active) = self.active.get(&id) {
            return *active;
        }
        let active = match self.build.kind(id).clone() {
            ExprKind::Let(of) if self.constant == Some(of) => false,
            ExprKind::Tensor(tensor) => self.build.variant.tensors[tensor.index()].dtype == Dtype::F32,
            ExprKind::Let(of) => match self.build.variant.lets[of.index()].value.clone() {
                LetValue::Expr(value) => {
                    let orders = self.build.variant.orders.iter().flat_map(|order| order.bindings.clone());
                    let bound: Vec<ExprId> = orders.filter(|(name, _)| *name == of).map(|(_, value)| value).collect();
                    self.is_active(value) || bound.into_iter().any(|value| self.is_active(value))
                }
                LetValue::Norm { of, .. } => {
                    let whole = self.build.whole(of);
                    self.is_active(whole)
                }
                LetValue::Iterate { init, step, .. } => self.is_active(init) || self.is_active(step),
            },
            ExprKind::StateOld(_) | ExprKind::StateNew(_) | ExprKind::IterateOld(_) => true,
            ExprKind::Subscript { base, .. } => self.is_active(base),
            ExprKind::Map { function, .. } if function.row().slopes.is_empty() => false,
            ExprKind::TopkMask { .. } | ExprKind::Reduce { op: ReduceOp::Argmax | ReduceOp::Count, .. } => false,
            kind => kind.children().into_iter().any(|child| self.is_active(child)),
        };
        self.active.insert(id, active);
        active
    }

    /// The operands that are differentiated, under the variables bound there.
    fn below(&mut self, id: ExprId, bound: &[Bound]) -> Result<Vec<Node>> {
        let here = |ids: Vec<ExprId>| ids.into_iter().map(|id| (id, bound.to_vec())).collect();
        Ok(match self.build.kind(id).clone() {
            ExprKind::StateNew(state) => vec![(self.update_of(state), self.scan_bound())],
            ExprKind::Subscript { base, at } => match self.stops_at(id)? {
                Some(_) => Vec::new(),
                None => match *self.build.kind(base) {
                    ExprKind::Let(of) => here(vec![self.scan_value(of, &at)?]),
                    _ => Vec::new(),
                },
            },
            ExprKind::Let(_) | ExprKind::Tensor(_) => Vec::new(),
            ExprKind::If { then, otherwise, .. } => here(vec![then, otherwise]),
            ExprKind::Reduce { index, domain, body, .. } => {
                let mut inner = bound.to_vec();
                inner.push(Bound { index, domain });
                vec![(body, inner)]
            }
            ExprKind::Softmax { at, .. } => here(vec![at]),
            ExprKind::Rope { arg, .. } => here(vec![arg]),
            kind => {
                if self.scanning && self.stops_at(id)?.is_some() {
                    return Ok(Vec::new());
                }
                here(kind.children())
            }
        })
    }

    /// The share that a node hands to what is named, where it is a read of that.
    fn operands(&mut self, (id, bound): &Node, g: ExprId) -> Result<Vec<Seed>> {
        let (id, bound) = (*id, bound.as_slice());
        if let Some((leaf, at)) = self.stops_at(id)? {
            self.hand(leaf, at, (bound, g))?;
            return Ok(Vec::new());
        }
        let ty = self.build.variant.expr(id).ty.clone();
        let kind = self.build.kind(id).clone();
        let pairs = match &kind {
            ExprKind::Map { .. } | ExprKind::If { .. } | ExprKind::Reduce { .. } => Vec::new(),
            _ => {
                let full = self.build.full(g, &ty.dims());
                self.linear(id, full)?
            }
        };
        let here = |pairs: Vec<(ExprId, ExprId)>| -> Vec<Seed> {
            pairs.into_iter().map(|(child, g)| (child, bound.to_vec(), g)).collect()
        };
        Ok(match kind {
            ExprKind::StateOld(state) => {
                let g = self.at_token(g, bound);
                let so_far = self.before[state.index()];
                self.before[state.index()] = self.build.add(so_far, g);
                Vec::new()
            }
            ExprKind::StateNew(state) => vec![(self.update_of(state), self.scan_bound(), g)],
            ExprKind::IterateOld(_) => {
                self.iterated.iter_mut().for_each(|shares| shares.push(g));
                Vec::new()
            }
            ExprKind::Subscript { base, at } => match *self.build.kind(base) {
                ExprKind::Let(of) => vec![(self.scan_value(of, &at)?, bound.to_vec(), g)],
                _ => Vec::new(),
            },
            ExprKind::Map { function, args } => here(self.map(id, (function, &args), g)),
            ExprKind::If { cond, then, otherwise } => {
                let zero = self.build.number(0.0);
                here(vec![(then, self.build.if_else(cond, g, zero)), (otherwise, self.build.if_else(cond, zero, g))])
            }
            ExprKind::Reduce { op, index, domain, body } => {
                self.reduced((id, op), (index, domain, body), (bound, g))?
            }
            ExprKind::Softmax { index, domain, at, .. } => {
                let covers = bound.iter().find(|bound| bound.index == index).map(|bound| bound.domain.clone());
                let whole = Domain { visible_from: None, filter: None };
                let Some(own) = covers.filter(|own| *own == domain || *own == whole) else {
                    return Err(self.refused("a softmax read at some of its places", "the rest has no cotangent"));
                };
                let weighted = self.build.mul(g, id);
                let mean = self.sum((index, own), weighted);
                let less = self.build.sub(g, mean);
                here(vec![(at, self.build.mul(id, less))])
            }
            _ => here(pairs),
        })
    }

    /// Functions of numbers, by the slopes in their rows; an argument that filled gets the sum.
    fn map(&mut self, id: ExprId, (function, args): (Function, &[ExprId]), g: ExprId) -> Vec<(ExprId, ExprId)> {
        let dims = self.build.dims(id);
        let mut pairs = Vec::new();
        for (n, &arg) in args.iter().enumerate() {
            if !self.is_active(arg) {
                continue;
            }
            let filled = self.build.rank(arg) == 0 && !dims.is_empty();
            if function == Function::Mul {
                let other = args[1 - n];
                let other = self.build.column(other);
                let share = if filled && self.build.rank(g) > 0 && self.build.rank(other) > 0 {
                    self.build.pair(g, other)
                } else {
                    let product = self.build.mul(g, other);
                    if filled { self.sum_of(product, &dims) } else { product }
                };
                pairs.push((arg, share));
                continue;
            }
            let slope = self.slope(&function.row().slopes[n], (id, args));
            let product = self.build.mul(g, slope);
            pairs.push((arg, if filled { self.sum_of(product, &dims) } else { product }));
        }
        pairs
    }

    /// The sum over an array's entries of what may be a scalar that fills it.
    fn sum_of(&mut self, x: ExprId, dims: &[Size]) -> ExprId {
        if self.build.rank(x) > 0 || self.build.is_zero(x) {
            return self.build.total(x);
        }
        let count = dims.iter().fold(Size::constant(1), |count, n| count.mul(n));
        let count = self.build.size(&count);
        self.build.mul(x, count)
    }

    fn slope(&mut self, slope: &Slope, (id, args): (ExprId, &[ExprId])) -> ExprId {
        match slope {
            Slope::Number(x) => self.build.number(*x),
            Slope::Argument(n) => self.build.column(args[*n]),
            Slope::Value => self.build.column(id),
            Slope::Of(function, of) => {
                let of: Vec<ExprId> = of.iter().map(|slope| self.slope(slope, (id, args))).collect();
                match function {
                    Function::Add => self.build.add(of[0], of[1]),
                    Function::Sub => self.build.sub(of[0], of[1]),
                    Function::Mul => self.build.mul(of[0], of[1]),
                    Function::Div => self.build.div(of[0], of[1]),
                    Function::Neg => self.build.neg(of[0]),
                    Function::Pow if self.build.constant(of[1]) == Some(1.0) => of[0],
                    Function::Pow if self.build.constant(of[1]) == Some(0.0) => self.build.number(1.0),
                    _ => self.build.map(*function, &of),
                }
            }
        }
    }

    /// What is linear in each of its operands, and functions of vectors.
    fn linear(&mut self, id: ExprId, g: ExprId) -> Result<Vec<(ExprId, ExprId)>> {
        let b = &mut self.build;
        Ok(match b.kind(id).clone() {
            ExprKind::Product(x, y) => self.product((x, y), g),
            ExprKind::Transpose(x) => {
                let matrix = b.rank(x) == 2;
                vec![(x, if matrix { b.transpose(g) } else { g })]
            }
            ExprKind::Fold { op, arg } => {
                let share = self.folded((id, op), arg, g)?;
                vec![(arg, share)]
            }
            ExprKind::SoftmaxAxis(arg) => {
                let inner = self.line_dots(id, g);
                let (all, mean) = (self.build.mul(id, g), self.by_line(inner, id));
                vec![(arg, self.build.sub(all, mean))]
            }
            ExprKind::Normalise { norm, arg } => vec![(arg, self.normalised(norm, (arg, id), g))],
            ExprKind::Stack(args) => self.unstacked(&args, g),
            ExprKind::Diag(x) => {
                let n = b.dims(x)[0].clone();
                let eye = b.expr(ExprKind::Eye(n.clone()), Ty::Array(vec![n.clone(), n]));
                vec![(x, b.row_pair(g, eye))]
            }
            ExprKind::Cols { arg, from, to } => vec![(arg, self.padded(arg, (&from, &to), g)?)],
            ExprKind::Flatten(arg) => vec![(arg, self.reshaped(arg, g)?)],
            ExprKind::Conv1d { arg, weights } => self.convolved((arg, weights), g)?,
            ExprKind::Dwconv { arg, weights, stride } => self.convolved_on_grid((arg, weights), stride, g)?,
            ExprKind::Rope { arg, at, base } => {
                if self.is_active(at) || self.is_active(base) {
                    return Err(self.refused("the gradient of a rotation by its angle", "it has no rule"));
                }
                let at = self.build.neg(at);
                let ty = Ty::Array(self.build.dims(arg));
                vec![(arg, self.build.expr(ExprKind::Rope { arg: g, at, base }, ty))]
            }
            ExprKind::Rope2d { arg, index } => vec![(arg, self.turned_back(arg, index, g)?)],
            ExprKind::Solve { matrix, vector } => {
                let ty = Ty::Array(b.dims(vector));
                let back = b.expr(ExprKind::Solve { matrix, vector: g }, ty);
                let outer = if b.rank(id) == 1 {
                    b.outer(back, id)
                } else {
                    let turned = b.transpose(id);
                    b.product(back, turned)
                };
                vec![(vector, back), (matrix, b.neg(outer))]
            }
            ExprKind::SolveCg { .. } => {
                return Err(self.refused(
                    "the gradient of `solve_cg`",
                    "that of an iteration that ends early is not that of the solution; `solve` has one",
                ));
            }
            ExprKind::StateOld(_)
            | ExprKind::StateNew(_)
            | ExprKind::IterateOld(_)
            | ExprKind::Subscript { .. }
            | ExprKind::Softmax { .. } => Vec::new(),
            _ => return Err(self.refused("the gradient of this expression", "it has no rule")),
        })
    }

    fn product(&mut self, (x, y): (ExprId, ExprId), g: ExprId) -> Vec<(ExprId, ExprId)> {
        let row = |this: &Self, id: ExprId| matches!(this.build.variant.expr(id).ty, Ty::Row(_));
        let (left_row, right_row) = (row(self, x), row(self, y));
        let b = &mut self.build;
        if let ExprKind::Diag(d) = *b.kind(x)
            && b.rank(y) == 2
        {
            return vec![(d, b.row_pair(g, y)), (y, b.scale_rows(d, g))];
        }
        if let ExprKind::Diag(d) = *b.kind(y)
            && b.rank(x) == 2
        {
            return vec![(d, b.column_pair(g, x)), (x, b.scale_columns(g, d))];
        }
        match (left_row, right_row) {
            // A dot product; a row times a matrix.
            (true, false) => {
                let u = b.column(x);
                if b.rank(y) == 1 {
                    vec![(x, b.mul(g, y)), (y, b.mul(g, u))]
                } else {
                    vec![(x, b.product(y, g)), (y, b.outer(u, g))]
                }
            }
            // An outer product.
            (false, true) => {
                let v = b.column(y);
                vec![(x, b.product(g, v)), (y, b.product_turned(g, x))]
            }
            _ => {
                let of_matrix = if b.rank(y) == 1 {
                    b.outer(g, y)
                } else {
                    let turned = b.transpose(y);
                    b.product(g, turned)
                };
                vec![(x, of_matrix), (y, b.product_turned(x, g))]
            }
        }
    }

    fn reduced(
        &mut self,
        (id, op): (ExprId, ReduceOp),
        (index, domain, body): (IndexId, Domain, ExprId),
        (bound, g): (&[Bound], ExprId),
    ) -> Result<Vec<Seed>> {
        let mut inner = bound.to_vec();
        inner.push(Bound { index, domain: domain.clone() });
        let share = match op {
            ReduceOp::Sum => g,
            ReduceOp::Mean => {
                let one = self.build.number(1.0);
                let count = self.sum((index, domain), one);
                self.build.div(g, count)
            }
            ReduceOp::Max | ReduceOp::Min if self.build.rank(body) == 0 => {
                let signed = if op == ReduceOp::Min { self.build.neg(body) } else { body };
                let kind = ExprKind::Reduce { op: ReduceOp::Argmax, index, domain, body: signed };
                let taken = self.build.expr(kind, Ty::scalar());
                let (at, zero) = (self.build.index(index), self.build.number(0.0));
                let here = self.build.map(Function::Eq, &[at, taken]);
                self.build.if_else(here, g, zero)
            }
            ReduceOp::Prod => {
                let variable = self.build.variant.indices[index.index()].clone();
                let other = self.build.fresh(&variable.size, &variable.name);
                let (at, other_at) = (self.build.index(index), self.build.index(other));
                let exchange = [(index, other_at)].into_iter().collect();
                let Some(others) = self.build.exchanged(body, &exchange) else {
                    return Err(self.refused("the gradient of this product", "its factors are not left out one by one"));
                };
                let apart = self.build.map(Function::Ne, &[at, other_at]);
                let filter = match domain.filter {
                    Some(filter) => match self.build.exchanged(filter, &exchange) {
                        Some(filter) => self.build.map(Function::And, &[filter, apart]),
                        None => return Err(self.refused("the gradient of this product", "its domain is not renamed")),
                    },
                    None => apart,
                };
                let domain = Domain { filter: Some(filter), ..domain };
                let ty = self.build.variant.expr(id).ty.clone();
                let kind = ExprKind::Reduce { op, index: other, domain, body: others };
                let rest = self.build.expr(kind, ty);
                self.build.mul(g, rest)
            }
            _ => return Err(self.refused("the gradient of this reduction", "of arrays only sums and means have one")),
        };
        Ok(vec![(body, inner, share)])
    }

    /// Sums, means and their like along the last axis.
    fn folded(&mut self, (id, op): (ExprId, FoldOp), arg: ExprId, g: ExprId) -> Result<ExprId> {
        let Some(width) = self.build.dims(arg).last().cloned() else { return Ok(g) };
        Ok(match op {
            FoldOp::Sum => self.lines(g, &width),
            FoldOp::Mean => {
                let count = self.build.size(&width);
                let share = self.build.div(g, count);
                self.lines(share, &width)
            }
            FoldOp::Norm2 => {
                // Of the zero vector the gradient is 0.
                let least = self.build.number(1e-30);
                let length = self.build.map(Function::Max, &[id, least]);
                let share = self.build.div(g, length);
                self.by_line(share, arg)
            }
            FoldOp::Max | FoldOp::Min => {
                let signed = if op == FoldOp::Min { self.build.neg(arg) } else { arg };
                let count = self.build.number(1.0);
                let ty = Ty::Array(self.build.dims(arg));
                let taken = self.build.expr(ExprKind::TopkMask { arg: signed, count }, ty);
                self.by_line(g, taken)
            }
        })
    }

    /// The read of what is named that a node is.
    fn stops_at(&mut self, id: ExprId) -> Result<Option<(Leaf, Vec<ExprId>)>> {
        let at_leaf = |this: &Self, id: ExprId| match *this.build.kind(id) {
            ExprKind::Let(of) if this.scanning && this.is_of_scan(of) => None,
            ExprKind::Let(of) => Some(Leaf::Let(of)),
            ExprKind::Tensor(tensor) => Some(Leaf::Tensor(tensor)),
            _ => None,
        };
        if let Some(leaf) = at_leaf(self, id) {
            return Ok(Some((leaf, Vec::new())));
        }
        if let ExprKind::Subscript { base, at } = self.build.kind(id).clone() {
            return Ok(match *self.build.kind(base) {
                ExprKind::Let(_) | ExprKind::Tensor(_) => at_leaf(self, base).map(|leaf| (leaf, at)),
                ExprKind::StateOld(_) | ExprKind::StateNew(_) | ExprKind::IterateOld(_) => {
                    return Err(self.refused("the gradient of an entry of a state", "it has no rule"));
                }
                _ => {
                    let (named, mut own) = self.hoist(base)?;
                    own.extend(at);
                    Some((Leaf::Let(named), own))
                }
            });
        }
        if self.scanning && !self.mentions_state(id) && self.looks_around(id) {
            let (named, own) = self.hoist(id)?;
            return Ok(Some((Leaf::Let(named), own)));
        }
        Ok(None)
    }

    /// A let of its own for a value, over the variables that are free in it.
    pub(super) fn hoist(&mut self, id: ExprId) -> Result<(LetId, Vec<ExprId>)> {
        let free: Vec<IndexId> = self.build.free(id).into_iter().collect();
        let scan = self.mentions_state(id);
        if scan && self.scanning {
            return Err(self.refused("the gradient of an entry of what the scan computes", "it has no rule"));
        }
        let named = match self.hoisted.get(&id) {
            Some(named) => *named,
            None => {
                let named = self.build.bind("value", (chunkwise_dsl::typed::LetKind::Let, free.clone()), id, false);
                self.hoisted.insert(id, named);
                named
            }
        };
        let at = free.iter().map(|index| self.build.index(*index)).collect();
        Ok((named, at))
    }

    /// Hands a share to what is named.
    fn hand(&mut self, leaf: Leaf, at: Vec<ExprId>, (bound, g): (&[Bound], ExprId)) -> Result<()> {
        if self.scanning {
            return self.hand_out(leaf, at, (bound, g));
        }
        let share = Share { at, bound: bound.to_vec(), cotangent: g };
        self.shares.entry(leaf).or_default().push(share);
        // What was given a name on the way is used here alone.
        match leaf {
            Leaf::Let(id) if self.hoisted.values().any(|named| *named == id) => self.settle_let(id),
            _ => Ok(()),
        }
    }
}

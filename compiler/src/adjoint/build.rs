//! Typed expressions, made in normal order: what is zero or one goes away. Numbers and vectors; matrices are in `matrix`.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{
    Expr, ExprId, ExprKind, FoldOp, Function, Index, IndexId, Let, LetId, LetKind, LetValue, Stmt, Ty, Variant,
};

/// A variant that is being written.
pub(super) struct Builder {
    pub variant: Variant,
    pub span: Span,
    /// Vectors of ones by length.
    ones: HashMap<Size, LetId>,
}

impl Builder {
    pub fn new(variant: Variant) -> Self {
        let span = variant.span;
        Self { variant, span, ones: HashMap::new() }
    }

    pub fn expr(&mut self, kind: ExprKind, ty: Ty) -> ExprId {
        self.variant.exprs.push(Expr { kind, ty, span: self.span });
        ExprId(self.variant.exprs.len() as u32 - 1)
    }

    pub fn kind(&self, id: ExprId) -> &ExprKind {
        &self.variant.expr(id).kind
    }

    pub fn dims(&self, id: ExprId) -> Vec<Size> {
        self.variant.expr(id).ty.dims()
    }

    pub fn rank(&self, id: ExprId) -> usize {
        self.dims(id).len()
    }

    pub fn number(&mut self, x: f64) -> ExprId {
        self.expr(ExprKind::Number(x), Ty::scalar())
    }

    pub fn size(&mut self, size: &Size) -> ExprId {
        self.expr(ExprKind::Size(size.clone()), Ty::scalar())
    }

    pub fn index(&mut self, index: IndexId) -> ExprId {
        self.expr(ExprKind::Index(index), Ty::scalar())
    }

    /// A new index variable.
    pub fn fresh(&mut self, size: &Size, like: &str) -> IndexId {
        let taken = |name: &str| self.variant.indices.iter().any(|index| index.name == name);
        let name = (0..).map(|n| format!("{like}{n}")).find(|name| !taken(name)).unwrap_or_default();
        let token = self.variant.token.is_some_and(|token| *size == Size::axis(token));
        self.variant.indices.push(Index { name, size: size.clone(), token });
        IndexId(self.variant.indices.len() as u32 - 1)
    }

    /// A new let, after all that stands.
    pub fn bind(&mut self, name: &str, (kind, indices): (LetKind, Vec<IndexId>), value: ExprId, scan: bool) -> LetId {
        let ty = Ty::Array(self.dims(value));
        self.bind_value(name, indices, ty, (kind, scan, LetValue::Expr(value)))
    }

    pub fn bind_value(
        &mut self,
        name: &str,
        indices: Vec<IndexId>,
        ty: Ty,
        (kind, scan, value): (LetKind, bool, LetValue),
    ) -> LetId {
        let taken = |name: &str| {
            let lets = self.variant.lets.iter().map(|named| &named.name);
            lets.chain(self.variant.tensors.iter().map(|tensor| &tensor.name)).any(|other| other == name)
        };
        let free = (0..).map(|n| if n == 0 { name.to_string() } else { format!("{name}_{n}") });
        let name = free.into_iter().find(|name| !taken(name)).unwrap_or_default();
        self.variant.lets.push(Let { name, span: self.span, kind, indices, ty, scan, value });
        let id = LetId(self.variant.lets.len() as u32 - 1);
        self.variant.body.push(if kind == LetKind::Read { Stmt::Read(id) } else { Stmt::Let(id) });
        id
    }

    /// The whole array of a let.
    pub fn whole(&mut self, id: LetId) -> ExprId {
        let named = &self.variant.lets[id.index()];
        let over = named.indices.iter().map(|index| self.variant.indices[index.index()].size.clone());
        let dims = over.chain(named.ty.dims()).collect();
        self.expr(ExprKind::Let(id), Ty::Array(dims))
    }

    pub fn at(&mut self, base: ExprId, at: Vec<ExprId>) -> ExprId {
        if at.is_empty() {
            return base;
        }
        let dims = self.dims(base)[at.len()..].to_vec();
        self.expr(ExprKind::Subscript { base, at }, Ty::Array(dims))
    }

    /// A let at its own indices.
    pub fn named(&mut self, id: LetId) -> ExprId {
        let indices = self.variant.lets[id.index()].indices.clone();
        let at = indices.into_iter().map(|index| self.index(index)).collect();
        let base = self.whole(id);
        self.at(base, at)
    }

    /// A let at these variables.
    pub fn named_at(&mut self, id: LetId, indices: &[IndexId]) -> ExprId {
        let at = indices.iter().map(|index| self.index(*index)).collect();
        let base = self.whole(id);
        self.at(base, at)
    }

    pub fn mentions_state(&self, id: ExprId) -> bool {
        let (mut below, mut seen) = (vec![id], std::collections::HashSet::new());
        while let Some(id) = below.pop() {
            if !seen.insert(id) {
                continue;
            }
            match *self.kind(id) {
                ExprKind::StateOld(_) | ExprKind::StateNew(_) => return true,
                ExprKind::Let(of) => {
                    let named = &self.variant.lets[of.index()];
                    if named.scan && named.kind != LetKind::Read {
                        return true;
                    }
                }
                _ => below.extend(self.variant.children(id)),
            }
        }
        false
    }

    pub fn constant(&self, id: ExprId) -> Option<f64> {
        match self.kind(id) {
            ExprKind::Number(x) => Some(*x),
            _ => None,
        }
    }

    pub fn is_zero(&self, id: ExprId) -> bool {
        self.constant(id) == Some(0.0)
    }

    pub(super) fn zero_of(&mut self) -> ExprId {
        self.number(0.0)
    }

    /// An element-wise function; rows become columns.
    pub fn map(&mut self, function: Function, args: &[ExprId]) -> ExprId {
        let args: Vec<ExprId> = args.iter().map(|arg| self.column(*arg)).collect();
        let numbers: Option<Vec<f64>> = args.iter().map(|arg| self.constant(*arg)).collect();
        if let Some(numbers) = numbers
            && !function.is_condition()
        {
            return self.number(function.eval(&numbers));
        }
        let ty = if function.is_condition() {
            Ty::Bool
        } else {
            Ty::Array(args.iter().map(|arg| self.dims(*arg)).find(|dims| !dims.is_empty()).unwrap_or_default())
        };
        self.expr(ExprKind::Map { function, args }, ty)
    }

    pub fn add(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (self.is_zero(a), self.is_zero(b)) {
            (true, _) => b,
            (_, true) => a,
            _ => self.map(Function::Add, &[a, b]),
        }
    }

    pub fn sub(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (self.is_zero(a), self.is_zero(b)) {
            (_, true) => a,
            (true, _) => self.neg(b),
            _ => self.map(Function::Sub, &[a, b]),
        }
    }

    pub fn neg(&mut self, a: ExprId) -> ExprId {
        if self.is_zero(a) {
            return a;
        }
        if let ExprKind::Map { function: Function::Neg, args } = self.kind(a) {
            return args[0];
        }
        if let Some((u, v)) = self.as_outer(a) {
            let u = self.neg(u);
            return self.outer(u, v);
        }
        self.map(Function::Neg, &[a])
    }

    pub fn mul(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let (a, b) = (self.column(a), self.column(b));
        if self.is_zero(a) || self.is_zero(b) {
            return self.zero_of();
        }
        match (self.constant(a), self.constant(b)) {
            (Some(1.0), _) => return b,
            (_, Some(1.0)) => return a,
            (Some(-1.0), _) => return self.neg(b),
            (_, Some(-1.0)) => return self.neg(a),
            _ => {}
        }
        if self.rank(a).max(self.rank(b)) == 2 {
            for (x, y) in [(a, b), (b, a)] {
                if let Some((u, v)) = self.as_outer(x) {
                    if self.rank(y) == 0 {
                        let u = self.mul(y, u);
                        return self.outer(u, v);
                    }
                    let rows = self.scale_rows(u, y);
                    return self.scale_columns(rows, v);
                }
            }
        }
        self.map(Function::Mul, &[a, b])
    }

    pub fn div(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if self.is_zero(a) || self.constant(b) == Some(1.0) {
            return a;
        }
        self.map(Function::Div, &[a, b])
    }

    /// A transposed vector as the column that it is.
    pub fn column(&mut self, id: ExprId) -> ExprId {
        if matches!(self.variant.expr(id).ty, Ty::Row(_)) { self.transpose(id) } else { id }
    }

    fn row(&mut self, vector: ExprId) -> ExprId {
        let ty = Ty::Row(self.dims(vector).into_iter().next().unwrap_or_default());
        self.expr(ExprKind::Transpose(vector), ty)
    }

    /// u, v of `u * v'`.
    pub(super) fn as_outer(&self, id: ExprId) -> Option<(ExprId, ExprId)> {
        let ExprKind::Product(u, row) = *self.kind(id) else { return None };
        if self.rank(id) != 2 || self.rank(u) != 1 {
            return None;
        }
        match *self.kind(row) {
            ExprKind::Transpose(v) if self.rank(v) == 1 => Some((u, v)),
            _ => None,
        }
    }

    pub fn ones(&mut self, size: &Size) -> ExprId {
        let known = self.ones.get(size).copied();
        let id = known.unwrap_or_else(|| {
            let index = self.fresh(size, "one");
            let one = self.number(1.0);
            self.bind("ones", (LetKind::Let, vec![index]), one, false)
        });
        self.ones.insert(size.clone(), id);
        self.whole(id)
    }

    pub(super) fn is_ones(&self, id: ExprId) -> bool {
        matches!(self.kind(id), ExprKind::Let(of) if self.ones.values().any(|ones| ones == of))
    }

    /// A scalar that stands for an array of these dims, as that array.
    pub fn full(&mut self, id: ExprId, dims: &[Size]) -> ExprId {
        if self.rank(id) > 0 || self.is_zero(id) {
            return id;
        }
        match dims {
            [] => id,
            [n] => {
                let ones = self.ones(n);
                self.mul(id, ones)
            }
            [n, m] => {
                let (rows, columns) = (self.ones(n), self.ones(m));
                let rows = self.mul(id, rows);
                self.outer(rows, columns)
            }
            // Only element-wise functions take arrays of more axes, and they fill.
            _ => id,
        }
    }

    pub fn outer(&mut self, u: ExprId, v: ExprId) -> ExprId {
        if self.is_zero(u) || self.is_zero(v) {
            return self.zero_of();
        }
        let ty = Ty::Array([self.dims(u), self.dims(v)].concat());
        let row = self.row(v);
        self.expr(ExprKind::Product(u, row), ty)
    }

    pub fn dot(&mut self, u: ExprId, v: ExprId) -> ExprId {
        if self.is_zero(u) || self.is_zero(v) {
            return self.zero_of();
        }
        match (self.rank(u), self.rank(v)) {
            (0, 0) => self.mul(u, v),
            (0, _) => {
                let sum = self.fold(FoldOp::Sum, v);
                self.mul(u, sum)
            }
            (_, 0) => self.dot(v, u),
            _ if self.is_ones(u) => self.fold(FoldOp::Sum, v),
            _ if self.is_ones(v) => self.fold(FoldOp::Sum, u),
            _ => {
                let row = self.row(u);
                self.expr(ExprKind::Product(row, v), Ty::scalar())
            }
        }
    }

    pub fn fold(&mut self, op: FoldOp, arg: ExprId) -> ExprId {
        let mut dims = self.dims(arg);
        dims.pop();
        self.expr(ExprKind::Fold { op, arg }, Ty::Array(dims))
    }

    /// The sum of all entries.
    pub fn total(&mut self, id: ExprId) -> ExprId {
        let mut sum = id;
        while self.rank(sum) > 0 {
            sum = self.fold(FoldOp::Sum, sum);
        }
        sum
    }

    pub fn if_else(&mut self, cond: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
        if self.is_zero(then) && self.is_zero(otherwise) {
            return then;
        }
        let dims = [then, otherwise].iter().map(|id| self.dims(*id)).find(|dims| !dims.is_empty());
        self.expr(ExprKind::If { cond, then, otherwise }, Ty::Array(dims.unwrap_or_default()))
    }
}

//! Typed expressions -> the graph. An expression becomes a view; only what computes something makes a node.

use std::collections::HashMap;

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::source::Span;
use chunkwise_dsl::typed::{
    Dtype, ExprId, ExprKind, Function, GridAxis, IndexId, LetId, LetValue, Output, TensorId, Ty, Variant,
};

use super::index::Index;
use super::view::{Label, View, position, union};
use super::{Axis, Graph, Node, NodeId, Op, Operand};
use crate::Unsupported;

pub(super) type Result<T> = std::result::Result<T, Unsupported>;

pub(super) struct Builder<'a> {
    pub variant: &'a Variant,
    pub graph: Graph,
    views: HashMap<ExprId, View>,
    lets: HashMap<LetId, View>,
    /// Index variables that count the steps of an iterated let.
    pub(super) steps: HashMap<IndexId, LetId>,
    /// Iterations beside those of lets.
    iterations: u32,
}

impl<'a> Builder<'a> {
    pub fn new(variant: &'a Variant) -> Self {
        let steps = variant.lets.iter().enumerate().filter_map(|(place, binding)| match binding.value {
            LetValue::Iterate { .. } => Some((*binding.indices.last()?, LetId(place as u32))),
            _ => None,
        });
        let (graph, views, lets) = Default::default();
        Self { variant, graph, views, lets, steps: steps.collect(), iterations: 0 }
    }

    pub fn finish(mut self) -> Result<Graph> {
        if self.variant.orders.len() > 1 {
            let what = format!("several orders of `{}`, which has no states", self.variant.name);
            return Err(refusal(&what, "pairs of tokens are seen under one order", self.variant.span));
        }
        if let Some(by) = self.variant.orders.first().and_then(|order| order.by)
            && !matches!(self.variant.expr(by).kind, ExprKind::Tensor(_))
        {
            let span = self.variant.expr(by).span;
            return Err(refusal("a `by` that is computed", "it is checked as a tensor before a run", span));
        }
        let variant = self.variant;
        for (place, output) in variant.outputs().enumerate() {
            let id = self.output(place, output)?;
            self.graph.outputs.push(id);
        }
        Ok(self.graph.needed())
    }

    fn output(&mut self, place: usize, output: &Output) -> Result<NodeId> {
        let view = self.view(output.value)?;
        let own: Vec<Size> =
            output.indices.iter().map(|index| self.index_size(*index)).chain(output.ty.dims()).collect();
        let count = output.indices.len();
        let operand = view.at(&|label| match label {
            Label::Free(index) => position(&output.indices, index),
            Label::Dim(dim) => Index::Axis(count + dim),
        });
        let axes = own.iter().map(|size| self.axis(size)).collect();
        Ok(self.node(Op::Output(place), vec![operand], axes, output.span))
    }

    pub fn view(&mut self, id: ExprId) -> Result<View> {
        if let Some(known) = self.views.get(&id) {
            return Ok(known.clone());
        }
        let view = self.build(id)?;
        self.views.insert(id, view.clone());
        Ok(view)
    }

    fn build(&mut self, id: ExprId) -> Result<View> {
        let expr = self.variant.expr(id);
        let span = expr.span;
        Ok(match &expr.kind {
            ExprKind::Number(x) => self.number(*x),
            ExprKind::Bool(x) => self.number(if *x { 1.0 } else { 0.0 }),
            ExprKind::Size(size) => self.scalar(Op::Size(size.clone()), span),
            ExprKind::Index(index) => self.position(*index, Index::Axis(0), span),
            ExprKind::Coord { index, axis } => {
                let at = self.coordinate(*axis, Index::Axis(0), span)?;
                self.position(*index, at, span)
            }
            ExprKind::Head => self.scalar(Op::Head, span),
            ExprKind::Tensor(tensor) => self.tensor(*tensor),
            ExprKind::Result { .. } => return Err(refusal("a call", "its parts are graphs of their own", span)),
            ExprKind::Let(of) => self.let_view(*of)?,
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => {
                return Err(refusal("a state", "a graph of values has none", span));
            }
            ExprKind::IterateOld(of) => self.old(*of)?,
            ExprKind::Subscript { base, at } => self.subscript(*base, at)?,
            ExprKind::Map { function, args } => {
                let args = args.iter().map(|arg| self.view(*arg)).collect::<Result<Vec<_>>>()?;
                match args.as_slice() {
                    [x, by] if *function == Function::Div => self.divided(x, by, span),
                    _ => self.map(*function, &args, span),
                }
            }
            ExprKind::Product(a, b) => self.product(*a, *b, span)?,
            ExprKind::Transpose(x) => self.view(*x)?.transposed(),
            ExprKind::If { cond, then, otherwise } => {
                let all = [self.view(*cond)?, self.view(*then)?, self.view(*otherwise)?];
                self.combine(Op::Select, &all, span)
            }
            ExprKind::Reduce { op, index, domain, body } => self.reduce((*op, *index), domain, *body, span)?,
            ExprKind::Softmax { index, bound, domain, over, .. } => {
                self.softmax((*index, *bound), domain, *over, span)?
            }
            ExprKind::Fold { op, arg } => {
                let arg = self.view(*arg)?;
                self.fold_last(*op, &arg, span)
            }
            ExprKind::SoftmaxAxis(arg) => {
                let arg = self.view(*arg)?;
                self.softmax_last(&arg, span)
            }
            ExprKind::Normalise { norm, arg } => {
                let arg = self.view(*arg)?;
                self.normalise(*norm, &arg, span)
            }
            ExprKind::Stack(args) => {
                let parts = args.iter().map(|arg| self.view(*arg)).collect::<Result<Vec<_>>>()?;
                self.stack(&parts, span)
            }
            ExprKind::Flatten(arg) => flat(&self.view(*arg)?),
            ExprKind::Diag(arg) => {
                let arg = self.view(*arg)?;
                self.diagonal(&arg, span)
            }
            ExprKind::Eye(size) => {
                let ones = self.number(1.0).over(Vec::new(), vec![size.clone()], &|_| Index::Number(0));
                self.diagonal(&ones, span)
            }
            ExprKind::Cols { arg, from, to } => columns(&self.view(*arg)?, from, to),
            ExprKind::Conv1d { arg, weights } => {
                let (x, w) = (self.view(*arg)?, self.view(*weights)?);
                self.conv1d(&x, &w, span)
            }
            ExprKind::Dwconv { arg, weights, stride } => {
                let (x, w) = (self.view(*arg)?, self.view(*weights)?);
                self.dwconv((&x, &w), *stride, (&expr.ty.dims(), span))?
            }
            ExprKind::Rope { arg, at, base } => {
                let (x, at, base) = (self.view(*arg)?, self.view(*at)?, *base);
                self.rope(&x, &at, base, span)?
            }
            ExprKind::Rope2d { arg, index } => {
                let (x, index) = (self.view(*arg)?, *index);
                self.rope2d(&x, index, span)?
            }
            ExprKind::TopkMask { arg, count } => {
                let (x, count) = (self.view(*arg)?, self.view(*count)?);
                self.topk_mask(&x, &count, span)
            }
            ExprKind::SolveCg { matrix, vector, iters } => {
                let (a, b) = (self.view(*matrix)?, self.view(*vector)?);
                self.solve_cg(&a, &b, *iters, span)
            }
            ExprKind::Solve { matrix, vector } => {
                let (a, b) = (self.view(*matrix)?, self.view(*vector)?);
                self.solve(&a, &b, span)
            }
        })
    }

    pub fn node(&mut self, op: Op, operands: Vec<Operand>, axes: Vec<Axis>, span: Span) -> NodeId {
        self.graph.intern(Node { op, operands, axes, reduced: None }, span)
    }

    pub fn scalar(&mut self, op: Op, span: Span) -> View {
        View::of(self.graph.intern(Node::leaf(op, Vec::new()), span), Vec::new(), Vec::new())
    }

    /// A quotient; of a product of matrices by what is the same everywhere the product with its reciprocal, which is
    /// computed once, and of pairs of tokens scales the row's factor. Other quotients may be of integers and stay exact.
    fn divided(&mut self, x: &View, by: &View, span: Span) -> View {
        let is_product = self.graph.node(x.read.node).product(&self.graph).is_some();
        if !is_product || !self.is_fixed(by.read.node) {
            return self.map(Function::Div, &[x.clone(), by.clone()], span);
        }
        let one = self.number(1.0);
        let reciprocal = self.map(Function::Div, &[one, by.clone()], span);
        match self.scaled(x, &reciprocal.read, span) {
            Some(scaled) => scaled,
            None => self.map(Function::Mul, &[x.clone(), reciprocal], span),
        }
    }

    /// Whether it is a size, a number, or the root of one.
    fn is_fixed(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        match node.op {
            Op::Number(_) | Op::Size(_) => true,
            Op::Map(Function::Sqrt) => node.operands.iter().all(|x| self.is_fixed(x.node)),
            _ => false,
        }
    }

    pub fn number(&mut self, x: f64) -> View {
        self.scalar(Op::Number(x.to_bits()), self.variant.span)
    }

    /// What is a number at every position of an index variable.
    fn position(&mut self, index: IndexId, at: Index, span: Span) -> View {
        if let Some(of) = self.steps.get(&index) {
            let at = at.replaced(&|_| Index::Step(*of));
            return self.scalar(Op::Position(at), span);
        }
        let axes = vec![self.index_axis(index)];
        View::of(self.graph.intern(Node::leaf(Op::Position(at), axes), span), vec![index], Vec::new())
    }

    /// The row or the column of a token on the grid.
    pub fn coordinate(&self, axis: GridAxis, token: Index, span: Span) -> Result<Index> {
        let Some(grid) = &self.variant.grid else {
            return Err(refusal("a coordinate", "tokens lie on no grid", span));
        };
        let at = token.minus(Index::size(&grid.offset));
        Ok(match axis {
            GridAxis::Y => at.quotient(Index::size(&grid.cols)),
            GridAxis::X => at.remainder(Index::size(&grid.cols)),
        })
    }

    fn tensor(&mut self, id: TensorId) -> View {
        let dims = self.variant.tensors[id.index()].own_dims();
        let axes = dims.iter().map(|size| self.axis(size)).collect();
        let span = self.variant.tensors[id.index()].span;
        View::of(self.graph.intern(Node::leaf(Op::Tensor(id), axes), span), Vec::new(), dims)
    }

    pub fn is_integer(&self, id: TensorId) -> bool {
        self.variant.tensors[id.index()].dtype == Dtype::I32
    }

    /// A let's whole array: its index axes first.
    fn let_view(&mut self, of: LetId) -> Result<View> {
        if let Some(known) = self.lets.get(&of) {
            return Ok(known.clone());
        }
        let binding = &self.variant.lets[of.index()];
        let view = match &binding.value {
            LetValue::Expr(value) => self.view(*value)?,
            LetValue::Iterate { from, to, init, step } => return self.iterate(of, (*from, *to), [*init, *step]),
            LetValue::Norm { of, norm, heads } => {
                let whole = self.let_view(*of)?;
                if *heads && self.variant.head.is_some() {
                    self.normalise_heads(*norm, &whole, binding.span)
                } else {
                    self.normalise(*norm, &whole, binding.span)
                }
            }
        };
        let whole = match &binding.value {
            LetValue::Norm { .. } => view,
            _ => {
                let sizes: Vec<Size> = binding.indices.iter().map(|index| self.index_size(*index)).collect();
                let dims: Vec<Size> = sizes.into_iter().chain(view.dims.iter().cloned()).collect();
                let count = binding.indices.len();
                view.over(Vec::new(), dims, &|label| match label {
                    Label::Free(index) => position(&binding.indices, index),
                    Label::Dim(dim) => Index::Axis(count + dim),
                })
            }
        };
        self.lets.insert(of, whole.clone());
        Ok(whole)
    }

    /// All entries that are read of an iterated let are its last one, which stands for each.
    fn iterate(&mut self, of: LetId, (from, to): (i64, i64), [init, step]: [ExprId; 2]) -> Result<View> {
        let binding = &self.variant.lets[of.index()];
        if binding.indices.len() != 1 {
            return Err(refusal("an iteration per token", "it steps for all tokens at once", binding.span));
        }
        let both = [self.view(init)?, self.view(step)?];
        let free = union(both.iter().map(|view| view.free.as_slice()));
        if !free.is_empty() {
            return Err(refusal("an iteration per token", "it steps for all tokens at once", binding.span));
        }
        let dims = binding.ty.dims();
        let axes: Vec<Axis> = dims.iter().map(|size| self.axis(size)).collect();
        let operands = both.iter().map(|view| view.at(&places(&[]))).collect();
        let node = self.node(Op::Iterate { of, from, to: Size::constant(to) }, operands, axes, binding.span);
        let last = View::of(node, Vec::new(), dims.clone());
        let all: Vec<Size> = [self.index_size(binding.indices[0])].into_iter().chain(dims).collect();
        let view = last.over(Vec::new(), all, &|label| match label {
            Label::Dim(dim) => Index::Axis(1 + dim),
            Label::Free(_) => Index::Number(0),
        });
        self.lets.insert(of, view.clone());
        Ok(view)
    }

    /// A name for an iteration that no let is.
    pub fn next_iteration(&mut self) -> LetId {
        self.iterations += 1;
        LetId(self.variant.lets.len() as u32 + self.iterations - 1)
    }

    fn old(&mut self, of: LetId) -> Result<View> {
        let dims = self.variant.lets[of.index()].ty.dims();
        let axes = dims.iter().map(|size| self.axis(size)).collect();
        let span = self.variant.lets[of.index()].span;
        Ok(View::of(self.graph.intern(Node::leaf(Op::Old(of), axes), span), Vec::new(), dims))
    }

    pub fn map(&mut self, function: Function, args: &[View], span: Span) -> View {
        self.combine(Op::Map(function), args, span)
    }

    /// An element-wise operation: scalars fill.
    pub fn combine(&mut self, op: Op, args: &[View], span: Span) -> View {
        let free = union(args.iter().map(|view| view.free.as_slice()));
        let dims = args.iter().map(|view| &view.dims).max_by_key(|dims| dims.len()).cloned().unwrap_or_default();
        let axes = self.axes_of(&free, &dims);
        let operands = args.iter().map(|view| {
            let operand = view.at(&places(&free));
            self.straight(operand, (&axes, free.len()), span)
        });
        let operands = operands.collect();
        View::of(self.node(op, operands, axes, span), free, dims)
    }

    /// An operand, in memory of its own if it is read at places that bend with two tokens: no vector reads those, and a
    /// value of pairs has many users.
    fn straight(&mut self, operand: Operand, (axes, free): (&[Axis], usize), span: Span) -> Operand {
        let tokens = |index: &Index| (0..free).filter(|axis| index.mentions(*axis)).count();
        let bends = operand.at.iter().any(|index| index.bends());
        let of_pairs = (0..free).filter(|axis| operand.mentions(*axis)).count() > 1;
        if !bends || !of_pairs || operand.at.iter().all(|index| tokens(index) < 2) {
            return operand;
        }
        let node = self.node(Op::Copy, vec![operand], axes.to_vec(), span);
        Operand::whole(node, axes.len())
    }

    pub fn axes_of(&self, free: &[IndexId], dims: &[Size]) -> Vec<Axis> {
        let free = free.iter().map(|index| self.index_axis(*index));
        free.chain(dims.iter().map(|size| self.axis(size))).collect()
    }

    pub fn axis(&self, size: &Size) -> Axis {
        let token = self.variant.token.is_some_and(|axis| {
            let value = self.variant.axes[axis.0 as usize].value.as_ref();
            *size == Size::axis(axis) || value == Some(size)
        });
        Axis { size: size.clone(), token, index: false }
    }

    fn index_axis(&self, index: IndexId) -> Axis {
        self.axis(&self.index_size(index))
    }

    pub fn index_size(&self, index: IndexId) -> Size {
        self.variant.indices[index.index()].size.clone()
    }

    fn is_row(&self, id: ExprId) -> bool {
        matches!(self.variant.expr(id).ty, Ty::Row(_))
    }

    /// A product by shapes. One with a diagonal scales rows or columns.
    fn product(&mut self, a: ExprId, b: ExprId, span: Span) -> Result<View> {
        let (left, right) = (self.view(a)?, self.view(b)?);
        if let ExprKind::Diag(scale) = self.variant.expr(a).kind {
            let scale = self.view(scale)?;
            let scale = scale.reshaped(right.dims.clone(), &|_| Index::Axis(0));
            return Ok(self.map(Function::Mul, &[scale, right], span));
        }
        if let ExprKind::Diag(scale) = self.variant.expr(b).kind {
            let (scale, last) = (self.view(scale)?, left.dims.len() - 1);
            let scale = scale.reshaped(left.dims.clone(), &|_| Index::Axis(last));
            return Ok(self.map(Function::Mul, &[left, scale], span));
        }
        if left.dims.len() == 1 && !self.is_row(a) && self.is_row(b) {
            let dims = vec![left.dims[0].clone(), right.dims[0].clone()];
            let left = left.reshaped(dims.clone(), &|_| Index::Axis(0));
            let right = right.reshaped(dims, &|_| Index::Axis(1));
            return Ok(self.map(Function::Mul, &[left, right], span));
        }
        let Some(size) = left.dims.last().cloned() else {
            return Err(refusal("this product", "its factors have no common axis", span));
        };
        let rows = left.dims.len() - 1;
        let mut dims: Vec<Size> = left.dims[..rows].to_vec();
        dims.extend(right.dims[1..].iter().cloned());
        let all: Vec<Size> = dims.iter().cloned().chain([size.clone()]).collect();
        let inner = dims.len();
        let left = left.reshaped(all.clone(), &|dim| Index::Axis(if dim == rows { inner } else { dim }));
        let right = right.reshaped(all, &|dim| Index::Axis(if dim == 0 { inner } else { rows + dim - 1 }));
        let body = self.map(Function::Mul, &[left, right], span);
        Ok(self.sum(&body, Label::Dim(inner), span))
    }
}

/// Where the labels of a view stand among free variables, its dims after them.
pub(super) fn places(free: &[IndexId]) -> impl Fn(Label) -> Index {
    let count = free.len();
    move |label| match label {
        Label::Free(index) => position(free, index),
        Label::Dim(dim) => Index::Axis(count + dim),
    }
}

/// All dims as one.
fn flat(view: &View) -> View {
    let mut length = Size::constant(1);
    let mut inner = vec![Index::Number(1); view.dims.len()];
    for (dim, size) in view.dims.iter().enumerate().rev() {
        inner[dim] = Index::size(&length);
        length = length.mul(size);
    }
    view.reshaped(vec![length], &|dim| {
        let part = Index::Axis(0).quotient(inner[dim].clone());
        if dim == 0 { part } else { part.remainder(Index::size(&view.dims[dim])) }
    })
}

/// Columns of the last dim.
pub(super) fn columns(view: &View, from: &Size, to: &Size) -> View {
    let last = view.dims.len().saturating_sub(1);
    let mut dims = view.dims.clone();
    dims[last] = to.sub(from);
    view.reshaped(dims, &|dim| {
        if dim == last { Index::Axis(dim).plus(Index::size(from)) } else { Index::Axis(dim) }
    })
}

pub(super) fn refusal(operation: &str, reason: &str, span: Span) -> Unsupported {
    Unsupported::new(operation, reason, "run it with --backend reference").at(span)
}

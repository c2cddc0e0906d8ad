//! Parse tree to syntax tree: expressions, and the bound on how deep one may be.

use pest::iterators::Pair;

use super::Rule;
use super::build::{Builder, Parts};
use super::scan::too_deep;
use crate::ast::{BinaryOp, CompareOp, Expr, ExprKind, ReductionIndex};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The deepest tree an expression may be. Everything that walks the tree recurses, so this bounds their stacks;
/// a chain of as many `+` reaches it as well.
const MAX_DEPTH: usize = 512;

/// An expression and the depth of its tree.
struct Deep {
    expr: Expr,
    depth: usize,
}

impl Deep {
    fn new(kind: ExprKind, span: Span, depth: usize) -> Self {
        Self { expr: Expr { kind, span }, depth }
    }
}

impl Builder<'_> {
    /// An `expr` pair.
    pub fn expr(&mut self, pair: Pair<Rule>) -> Expr {
        self.deep(pair).expr
    }

    /// Any pair of the expression grammar. What is too deep is reported, and replaced so that it may be dropped.
    fn deep(&mut self, pair: Pair<Rule>) -> Deep {
        let span = self.span(&pair);
        let built = match pair.as_rule() {
            Rule::expr => self.deep(Parts::of(pair).part()),
            Rule::choice => self.choice(pair, span),
            Rule::or => self.words(pair, BinaryOp::Or),
            Rule::and => self.words(pair, BinaryOp::And),
            Rule::not => self.not(pair, span),
            Rule::compare => self.compare(pair, span),
            Rule::range => self.range(pair, span),
            Rule::add | Rule::mul => self.chain(pair),
            Rule::unary => self.unary(pair, span),
            Rule::pow => self.pow(pair, span),
            Rule::postfix => self.postfix(pair),
            Rule::tuple => self.tuple(pair, span),
            Rule::number => self.number(pair, span),
            Rule::call => self.call(pair, span),
            Rule::reduction => self.reduction(pair, span),
            _ => Deep::new(ExprKind::Name(pair.as_str().trim_end().to_string()), span, 0),
        };
        self.bounded(built)
    }

    fn bounded(&mut self, built: Deep) -> Deep {
        if built.depth <= MAX_DEPTH {
            return built;
        }
        let span = built.expr.span;
        // The chain goes on above the cut, and would be cut again: once a statement is enough.
        if self.errors.last().is_none_or(|error| error.code != "too-deep") {
            self.errors.push(too_deep(span));
        }
        Deep::new(ExprKind::Number(0.0), span, 0)
    }

    fn choice(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let [cond, then, otherwise] = [parts.part(), parts.part(), parts.part()].map(|part| self.deep(part));
        let depth = 1 + cond.depth.max(then.depth).max(otherwise.depth);
        let kind =
            ExprKind::If { cond: Box::new(cond.expr), then: Box::new(then.expr), otherwise: Box::new(otherwise.expr) };
        Deep::new(kind, span, depth)
    }

    fn binary(&mut self, op: BinaryOp, left: Deep, right: Deep) -> Deep {
        let span = left.expr.span.to(right.expr.span);
        let depth = 1 + left.depth.max(right.depth);
        let kind = ExprKind::Binary { op, left: Box::new(left.expr), right: Box::new(right.expr) };
        self.bounded(Deep::new(kind, span, depth))
    }

    /// `a or b or c`: the operator is a keyword, so it is no part.
    fn words(&mut self, pair: Pair<Rule>, op: BinaryOp) -> Deep {
        let mut parts = Parts::of(pair);
        let mut left = self.deep(parts.part());
        for part in parts {
            let right = self.deep(part);
            left = self.binary(op, left, right);
        }
        left
    }

    /// `a + b - c`, `a * b ./ c`.
    fn chain(&mut self, pair: Pair<Rule>) -> Deep {
        let mut parts = Parts::of(pair);
        let mut left = self.deep(parts.part());
        while let Some(op) = parts.next() {
            let right = self.deep(parts.part());
            left = self.binary(binary_op(op.as_str()), left, right);
        }
        left
    }

    /// The prefixes `rule` of a pair, each with its place, and what they stand before.
    fn prefixed(&mut self, pair: Pair<Rule>, span: Span, wrap: fn(Box<Expr>) -> ExprKind) -> Deep {
        let mut starts = Vec::new();
        let mut built = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::neg | Rule::kw_not => starts.push(self.span(&part).start),
                _ => built = Some(self.deep(part)),
            }
        }
        let mut built = built.expect("the grammar puts an operand after the prefixes");
        for start in starts.into_iter().rev() {
            built = Deep::new(wrap(Box::new(built.expr)), Span::new(start, span.end), built.depth + 1);
            built = self.bounded(built);
        }
        built
    }

    fn not(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        self.prefixed(pair, span, ExprKind::Not)
    }

    fn unary(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        self.prefixed(pair, span, ExprKind::Neg)
    }

    fn compare(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let first = self.deep(parts.part());
        let mut depth = first.depth;
        let mut rest = Vec::new();
        while let Some(op) = parts.next() {
            let operand = self.deep(parts.part());
            depth = depth.max(operand.depth);
            rest.push((compare_op(op.as_str()), operand.expr));
        }
        if rest.is_empty() {
            return first;
        }
        Deep::new(ExprKind::Compare { first: Box::new(first.expr), rest }, span, depth + 1)
    }

    fn range(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let from = self.deep(parts.part());
        let Some(to) = parts.next() else { return from };
        let to = self.deep(to);
        let depth = 1 + from.depth.max(to.depth);
        Deep::new(ExprKind::Range { from: Box::new(from.expr), to: Box::new(to.expr) }, span, depth)
    }

    fn pow(&mut self, pair: Pair<Rule>, _span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let base = self.deep(parts.part());
        let Some(exponent) = parts.next() else { return base };
        let exponent = self.deep(exponent);
        self.binary(BinaryOp::Pow, base, exponent)
    }

    fn postfix(&mut self, pair: Pair<Rule>) -> Deep {
        let mut parts = Parts::of(pair);
        let mut built = self.deep(parts.part());
        for part in parts {
            let span = built.expr.span.to(self.span(&part));
            let depth = built.depth + 1;
            let base = Box::new(built.expr);
            built = match part.as_rule() {
                Rule::transpose => Deep::new(ExprKind::Transpose(base), span, depth),
                Rule::field => {
                    let field = self.ident(Parts::of(part).part());
                    Deep::new(ExprKind::Field { base, field }, span, depth)
                }
                _ => {
                    let (at, deepest) = self.list(part);
                    Deep::new(ExprKind::Subscript { base, at }, span, depth.max(deepest + 1))
                }
            };
            built = self.bounded(built);
        }
        built
    }

    /// The expressions under a pair and the depth of the deepest.
    fn list(&mut self, pair: Pair<Rule>) -> (Vec<Expr>, usize) {
        let mut deepest = 0;
        let list = Parts::of(pair)
            .map(|part| {
                let built = self.deep(part);
                deepest = deepest.max(built.depth);
                built.expr
            })
            .collect();
        (list, deepest)
    }

    /// `(a)` is `a` with the place of its brackets; `(a, b)` is a tuple.
    fn tuple(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let (mut list, depth) = self.list(pair);
        match list.pop() {
            Some(only) if list.is_empty() => Deep::new(only.kind, span, depth),
            Some(last) => {
                list.push(last);
                Deep::new(ExprKind::Tuple(list), span, depth + 1)
            }
            None => Deep::new(ExprKind::Tuple(list), span, 0),
        }
    }

    fn number(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let value = pair.as_str().parse::<f64>().unwrap_or(f64::INFINITY);
        if value.is_finite() {
            return Deep::new(ExprKind::Number(value), span, 0);
        }
        self.errors.push(
            Diagnostic::new("number-range", "this number is too large")
                .label(span, "beyond every 64-bit float")
                .help("write `inf` for infinity"),
        );
        Deep::new(ExprKind::Number(0.0), span, 0)
    }

    fn call(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        let mut depth = 0;
        let args = Parts::of(parts.part())
            .map(|arg| {
                let mut parts = Parts::of(arg);
                let name = parts.part_if(Rule::label).map(|label| self.ident(Parts::of(label).part()));
                let value = self.deep(parts.part());
                depth = depth.max(value.depth);
                crate::ast::Arg { name, value: value.expr }
            })
            .collect();
        Deep::new(ExprKind::Call { name, args }, span, depth + 1)
    }

    fn reduction(&mut self, pair: Pair<Rule>, span: Span) -> Deep {
        let mut parts = Parts::of(pair);
        let op = self.ident(parts.part());
        let mut indices = Vec::new();
        while let Some(index) = parts.part_if(Rule::index) {
            let mut index = Parts::of(index);
            let name = self.ident(index.part());
            indices.push(ReductionIndex { name, axis: index.next().map(|axis| self.ident(axis)) });
        }
        let cond = parts.part_if(Rule::condition).map(|cond| self.deep(Parts::of(cond).part()));
        let body = self.deep(parts.part());
        let depth = 1 + body.depth.max(cond.as_ref().map_or(0, |cond| cond.depth));
        let cond = cond.map(|cond| Box::new(cond.expr));
        Deep::new(ExprKind::Reduction { op, indices, cond, body: Box::new(body.expr) }, span, depth)
    }
}

fn binary_op(text: &str) -> BinaryOp {
    match text {
        "+" => BinaryOp::Add,
        "-" => BinaryOp::Sub,
        ".*" => BinaryOp::ElementMul,
        "./" => BinaryOp::ElementDiv,
        "/" => BinaryOp::Div,
        "mod" => BinaryOp::Mod,
        "div" => BinaryOp::FloorDiv,
        _ => BinaryOp::Mul,
    }
}

fn compare_op(text: &str) -> CompareOp {
    match text {
        "<" => CompareOp::Lt,
        "<=" => CompareOp::Le,
        ">" => CompareOp::Gt,
        ">=" => CompareOp::Ge,
        "==" => CompareOp::Eq,
        _ => CompareOp::Ne,
    }
}

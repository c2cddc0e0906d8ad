//! Parse tree to syntax tree: items and statements. Expressions are in `express`.

use std::cell::Cell;

use pest::iterators::{Pair, Pairs};

use super::Rule;
use super::scan::Token;
use crate::ast::Expr;
use crate::ast::{
    Arg, Axis, Decl, File, Function, Ident, Item, Iterate, Layer, Lhs, Local, Named, Param, Stack, Stmt, StmtKind,
    Variant,
};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Builds the tree of one piece of text.
pub(super) struct Builder<'t> {
    /// The tokens of the whole source, for spans without trailing white space.
    tokens: &'t [Token],
    /// Where the piece starts in the source.
    offset: usize,
    /// Where the last span ended among the tokens: the next one ends nearby.
    near: Cell<usize>,
    /// What the grammar takes but the language does not: numbers out of range, expressions too deep.
    pub errors: Vec<Diagnostic>,
}

const COMPLETE: &str = "the grammar puts a part here";

/// The parts of a pair in order, its keywords left out.
pub(super) struct Parts<'i> {
    pairs: Pairs<'i, Rule>,
}

impl<'i> Parts<'i> {
    pub fn of(pair: Pair<'i, Rule>) -> Self {
        Self { pairs: pair.into_inner() }
    }

    /// The next part, which the grammar has made sure of.
    pub fn part(&mut self) -> Pair<'i, Rule> {
        self.next().expect(COMPLETE)
    }

    /// The next part, if it is by `rule`.
    pub fn part_if(&mut self, rule: Rule) -> Option<Pair<'i, Rule>> {
        self.skip_words();
        if self.pairs.peek()?.as_rule() == rule { self.pairs.next() } else { None }
    }

    fn skip_words(&mut self) {
        while self.pairs.peek().is_some_and(|pair| is_word(pair.as_rule())) {
            self.pairs.next();
        }
    }
}

impl<'i> Iterator for Parts<'i> {
    type Item = Pair<'i, Rule>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_words();
        self.pairs.next()
    }
}

/// Whether a rule is a keyword or a mark (or the end of input), which carries nothing.
fn is_word(rule: Rule) -> bool {
    use Rule::{
        EOI, comma, equals, kw_and, kw_axes, kw_batch, kw_check, kw_decay, kw_div, kw_else, kw_feature, kw_fn, kw_for,
        kw_from, kw_if, kw_in, kw_input, kw_let, kw_local, kw_merge, kw_mod, kw_norm, kw_on, kw_or, kw_order,
        kw_output, kw_over, kw_param, kw_read, kw_repeat, kw_stack, kw_state, kw_then, kw_update, kw_variant, kw_where,
        paren,
    };
    matches!(
        rule,
        EOI | comma
            | equals
            | paren
            | kw_and
            | kw_axes
            | kw_batch
            | kw_check
            | kw_decay
            | kw_div
            | kw_else
            | kw_feature
            | kw_fn
            | kw_for
            | kw_from
            | kw_if
            | kw_in
            | kw_input
            | kw_let
            | kw_local
            | kw_merge
            | kw_mod
            | kw_norm
            | kw_on
            | kw_or
            | kw_order
            | kw_output
            | kw_over
            | kw_param
            | kw_read
            | kw_repeat
            | kw_stack
            | kw_state
            | kw_then
            | kw_update
            | kw_variant
            | kw_where
    )
}

impl<'t> Builder<'t> {
    pub fn new(tokens: &'t [Token], offset: usize) -> Self {
        Self { tokens, offset, near: Cell::new(0), errors: Vec::new() }
    }

    /// A pair's place in the source. The grammar lets white space trail; the last token's end is the true one.
    pub fn span(&self, pair: &Pair<Rule>) -> Span {
        let (start, end) = (pair.as_span().start() + self.offset, pair.as_span().end() + self.offset);
        let after = self.tokens_before(end);
        let last = if after == 0 { end } else { self.tokens[after - 1].span.end.min(end) };
        Span::new(start, last.max(start))
    }

    /// How many tokens start before a place. A long text has so many that to look among all of them misses the caches.
    fn tokens_before(&self, place: usize) -> usize {
        let (tokens, near) = (self.tokens, self.near.get().min(self.tokens.len()));
        let starts_before = |at: usize| tokens[at].span.start < place;
        let (mut low, mut high, mut step) = (near, near, 1);
        while high < tokens.len() && starts_before(high) {
            (low, high, step) = (high + 1, tokens.len().min(high + step), 2 * step);
        }
        while low > 0 && !starts_before(low - 1) {
            (high, low, step) = (low - 1, low.saturating_sub(step), 2 * step);
        }
        let after = low + tokens[low..high].partition_point(|token| token.span.start < place);
        self.near.set(after);
        after
    }

    pub fn ident(&self, pair: Pair<Rule>) -> Ident {
        Ident { name: pair.as_str().to_string(), span: self.span(&pair) }
    }

    pub fn file(&mut self, pairs: Pairs<Rule>) -> File {
        let items = pairs.flat_map(Parts::of).map(|pair| self.item(pair)).collect();
        File { items, broken: Vec::new() }
    }

    fn item(&mut self, pair: Pair<Rule>) -> Item {
        match pair.as_rule() {
            Rule::variant => Item::Variant(self.variant(pair)),
            Rule::stack => Item::Stack(self.stack(pair)),
            _ => Item::Function(self.function(pair)),
        }
    }

    fn variant(&mut self, pair: Pair<Rule>) -> Variant {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let (name, params) = self.head(parts.part());
        let body = parts.map(|stmt| self.stmt(stmt)).collect();
        Variant { name, params, body, span }
    }

    /// `variant f(W = 64)` or `stack f(r = 3)`.
    pub fn head(&mut self, pair: Pair<Rule>) -> (Ident, Vec<Param>) {
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        let params = parts.next().map(|params| Parts::of(params).map(|param| self.param(param)).collect());
        (name, params.unwrap_or_default())
    }

    fn param(&mut self, pair: Pair<Rule>) -> Param {
        let mut parts = Parts::of(pair);
        Param { name: self.ident(parts.part()), default: parts.next().map(|value| self.expr(value)) }
    }

    pub fn function(&mut self, pair: Pair<Rule>) -> Function {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        let params = self.optional_names(parts.part_if(Rule::names));
        Function { name, params, body: self.expr(parts.part()), span }
    }

    fn stack(&mut self, pair: Pair<Rule>) -> Stack {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let (name, params) = self.head(parts.part());
        Stack { name, params, layers: parts.map(|layer| self.layer(layer)).collect(), span }
    }

    pub fn layer(&mut self, pair: Pair<Rule>) -> Layer {
        let rule = pair.as_rule();
        let mut parts = Parts::of(pair);
        if rule == Rule::repeat {
            let (count, shared) = self.count(parts.part());
            Layer::Repeat { count, shared, layers: parts.map(|layer| self.layer(layer)).collect() }
        } else {
            Layer::Variant(self.named(parts.part()))
        }
    }

    /// The count of `repeat count`, and whether its layers are `shared`.
    pub fn count(&mut self, pair: Pair<Rule>) -> (Expr, bool) {
        let mut parts = Parts::of(pair);
        (self.expr(parts.part()), parts.part_if(Rule::shared).is_some())
    }

    pub fn stmt(&mut self, pair: Pair<Rule>) -> Stmt {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::axes => StmtKind::Axes(Parts::of(pair).map(|axis| self.axis(axis)).collect()),
            Rule::batch => StmtKind::Batch(self.names(Parts::of(pair).part())),
            Rule::input => StmtKind::Input(self.decls(pair)),
            Rule::weight => StmtKind::Param(self.decls(pair)),
            Rule::state => StmtKind::State(self.decls(pair)),
            Rule::function => StmtKind::Function(self.function(pair)),
            Rule::feature => self.feature(pair),
            Rule::binding => self.binding(pair),
            Rule::order => self.order(pair),
            Rule::local => StmtKind::Local(self.local(pair)),
            Rule::decay => self.decay(pair),
            Rule::update => self.update(pair),
            Rule::read => {
                let mut parts = Parts::of(pair);
                StmtKind::Read { lhs: self.lhs(parts.part()), value: self.expr(parts.part()) }
            }
            Rule::norm => {
                let mut parts = Parts::of(pair);
                let norm = self.named(parts.part());
                StmtKind::Norm { norm, over: self.clause_names(parts.next()) }
            }
            Rule::output => {
                let mut parts = Parts::of(pair);
                StmtKind::Output { lhs: self.lhs(parts.part()), value: parts.next().map(|value| self.expr(value)) }
            }
            _ => StmtKind::Check(Parts::of(pair).map(|named| self.named(named)).collect()),
        };
        Stmt { kind, span }
    }

    fn axis(&mut self, pair: Pair<Rule>) -> Axis {
        let mut parts = Parts::of(pair);
        Axis { name: self.ident(parts.part()), value: parts.next().map(|value| self.expr(value)) }
    }

    fn decls(&mut self, pair: Pair<Rule>) -> Vec<Decl> {
        Parts::of(pair).map(|decl| self.decl(decl)).collect()
    }

    fn decl(&mut self, pair: Pair<Rule>) -> Decl {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let names = self.names(parts.part());
        let dtype = parts.part_if(Rule::dtype).map(|dtype| self.ident(Parts::of(dtype).part()));
        let dims = Parts::of(parts.part()).map(|dim| self.expr(dim)).collect();
        let init = parts.part_if(Rule::init).map(|init| self.expr(Parts::of(init).part()));
        // `in` is a part too.
        let within = parts.next().and_then(|within| Parts::of(within).last()).map(|way| self.ident(way));
        Decl { names, dtype, dims, init, within, span }
    }

    fn feature(&mut self, pair: Pair<Rule>) -> StmtKind {
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        let mut params = Vec::new();
        let mut body = None;
        if let Some(mapping) = parts.part_if(Rule::mapping) {
            let mut mapping = Parts::of(mapping);
            params = self.names(mapping.part());
            body = Some(self.expr(mapping.part()));
        }
        StmtKind::Feature { name, params, body, on: self.clause_names(parts.next()) }
    }

    fn binding(&mut self, pair: Pair<Rule>) -> StmtKind {
        let mut parts = Parts::of(pair);
        if let Some(several) = parts.part_if(Rule::several) {
            let mut parts = Parts::of(several);
            return StmtKind::LetSeveral { names: self.names(parts.part()), value: self.expr(parts.part()) };
        }
        let lhs = self.lhs(parts.part());
        let value = self.expr(parts.part());
        let iterate = parts.next().map(|iterate| {
            let mut parts = Parts::of(iterate);
            let index = self.ident(parts.part());
            let range = self.expr(parts.part());
            Iterate { index, range, from: parts.next().map(|from| self.expr(Parts::of(from).part())) }
        });
        StmtKind::Let { lhs, value, iterate }
    }

    fn order(&mut self, pair: Pair<Rule>) -> StmtKind {
        let mut parts = Parts::of(pair);
        let mut orders = Vec::new();
        while let Some(named) = parts.part_if(Rule::named) {
            orders.push(self.named(named));
        }
        StmtKind::Order { orders, merge: parts.next().map(|merge| self.ident(Parts::of(merge).part())) }
    }

    fn local(&mut self, pair: Pair<Rule>) -> Local {
        let part = Parts::of(pair).part();
        match part.as_rule() {
            Rule::named => Local::Named(self.named(part)),
            _ => Local::Where(self.expr(Parts::of(part).part())),
        }
    }

    fn decay(&mut self, pair: Pair<Rule>) -> StmtKind {
        let mut parts = Parts::of(pair);
        let lhs = self.lhs(parts.part());
        let value = parts.part_if(Rule::expr).map(|value| self.expr(value));
        StmtKind::Decay { lhs, value, on: self.clause_names(parts.next()) }
    }

    fn update(&mut self, pair: Pair<Rule>) -> StmtKind {
        let part = Parts::of(pair).part();
        let rule = part.as_rule();
        let mut parts = Parts::of(part);
        if rule == Rule::law {
            StmtKind::Law { state: self.ident(parts.part()), law: self.named(parts.part()) }
        } else {
            StmtKind::Recurrence { lhs: self.lhs(parts.part()), value: self.expr(parts.part()) }
        }
    }

    fn lhs(&mut self, pair: Pair<Rule>) -> Lhs {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        let subscripts = parts.next().map(|subs| Parts::of(subs).map(|at| self.expr(at)).collect());
        Lhs { name, subscripts: subscripts.unwrap_or_default(), span }
    }

    fn names(&self, pair: Pair<Rule>) -> Vec<Ident> {
        Parts::of(pair).map(|name| self.ident(name)).collect()
    }

    fn optional_names(&self, pair: Option<Pair<Rule>>) -> Vec<Ident> {
        pair.map(|names| self.names(names)).unwrap_or_default()
    }

    /// The names of an `on` or `over` clause; none where it is absent.
    fn clause_names(&self, pair: Option<Pair<Rule>>) -> Vec<Ident> {
        self.optional_names(pair.map(|clause| Parts::of(clause).part()))
    }

    pub fn named(&mut self, pair: Pair<Rule>) -> Named {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.ident(parts.part());
        Named { name, args: parts.next().map(|args| self.args(args)).unwrap_or_default(), span }
    }

    pub fn args(&mut self, pair: Pair<Rule>) -> Vec<Arg> {
        Parts::of(pair)
            .map(|arg| {
                let mut parts = Parts::of(arg);
                let name = parts.part_if(Rule::label).map(|label| self.ident(Parts::of(label).part()));
                Arg { name, value: self.expr(parts.part()) }
            })
            .collect()
    }
}

//! Takes a broken source apart, statement by statement, and parses each on its own: so every statement's error is
//! found, and what is sound is kept. The wording of the errors is in `explain`.

use pest::Parser;
use pest::error::{Error, InputLocation};
use pest::iterators::Pair;

use super::build::{Builder, Parts};
use super::explain::{self, Piece};
use super::scan::{Token, TokenKind};
use super::{Grammar, Rule};
use crate::ast::{Broken, Expr, ExprKind, File, Ident, Item, Layer, Stack, Stmt, Variant};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The words that open a statement of a variant.
pub(crate) const STATEMENTS: [&str; 16] = [
    "axes", "batch", "input", "param", "state", "feature", "let", "order", "local", "decay", "update", "read", "norm",
    "output", "check", "fn",
];

/// The words that open an item of a file.
pub(crate) const ITEMS: [&str; 3] = ["variant", "fn", "stack"];

/// The sound parts of a source that does not parse, and all its errors in the order of the text.
pub(super) fn recover(text: &str, tokens: &[Token], error: &Error<Rule>) -> (File, Vec<Diagnostic>) {
    let mut recovery = Recovery { text, tokens, at: 0, errors: Vec::new(), broken: Vec::new() };
    let mut file = File::default();
    while recovery.at < tokens.len() {
        let before = recovery.at;
        file.items.extend(recovery.item());
        debug_assert!(recovery.at > before, "every item takes a token");
        recovery.at = recovery.at.max(before + 1);
    }
    file.broken = recovery.broken;
    file.broken.sort_by_key(|broken| broken.span.start);
    let mut errors = recovery.errors;
    if errors.is_empty() {
        // Every piece is sound and the whole is not: say what the grammar says.
        let piece = Piece { text, tokens, offset: 0 };
        errors.push(explain::explain(&piece, position(error)));
    }
    errors.sort_by_key(|error| error.start().unwrap_or_default());
    (file, errors)
}

/// Where parsing stopped, in bytes of what was parsed.
fn position(error: &Error<Rule>) -> usize {
    match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    }
}

struct Recovery<'t> {
    text: &'t str,
    tokens: &'t [Token],
    /// The next token.
    at: usize,
    errors: Vec<Diagnostic>,
    broken: Vec<Broken>,
}

impl<'t> Recovery<'t> {
    /// The text of a token; nothing past the last.
    fn word(&self, at: usize) -> &'t str {
        self.tokens.get(at).map_or("", |token| &self.text[token.span.start..token.span.end])
    }

    fn is_name(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word)
            && !super::RESERVED.contains(&self.word(at))
    }

    /// Whether a keyword of a statement and a name stand here side by side, as they never do within a statement.
    fn is_statement(&self, at: usize) -> bool {
        STATEMENTS.contains(&self.word(at)) && (self.is_name(at + 1) || self.word(at + 1) == "where")
    }

    /// Whether a statement opens a line here.
    fn opens_statement(&self, at: usize) -> bool {
        self.tokens[at].opens_line && self.is_statement(at)
    }

    /// Whether a misspelt keyword and a name open a line here.
    fn opens_misspelt(&self, at: usize) -> bool {
        self.tokens[at].opens_line
            && self.is_name(at)
            && self.is_name(at + 1)
            && crate::suggest::nearest(self.word(at), STATEMENTS).is_some()
    }

    fn opens_item(&self, at: usize) -> bool {
        self.tokens[at].opens_line && ["variant", "stack"].contains(&self.word(at)) && self.is_name(at + 1)
    }

    fn item(&mut self) -> Option<Item> {
        match self.word(self.at) {
            "variant" => self.variant().map(Item::Variant),
            "stack" => self.stack().map(Item::Stack),
            "fn" => {
                let (start, terminated) = self.take_statement();
                self.piece(Rule::function_only, start, terminated, |b, pair| b.function(pair)).map(Item::Function)
            }
            "}" => {
                self.errors.push(explain::closes_nothing(self.tokens[self.at].span, "}"));
                self.at += 1;
                None
            }
            _ => self.unknown_item(),
        }
    }

    /// Notes that the tokens from `start` to here came to nothing.
    fn note_broken(&mut self, start: usize) {
        let tokens = &self.tokens[start..self.at.max(start)];
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return };
        let name = |token: &Token| self.text[token.span.start..token.span.end].to_string();
        let words = tokens.iter().filter(|token| token.kind == TokenKind::Word);
        let words = words.map(|token| Ident { name: name(token), span: token.span }).collect();
        self.broken.push(Broken { words, span: Span::new(first.span.start, last.span.end) });
    }

    /// What is no item: its body is read for errors as if it were one.
    fn unknown_item(&mut self) -> Option<Item> {
        let start = self.at;
        let item = self.skip_item();
        self.note_broken(start);
        item
    }

    fn skip_item(&mut self) -> Option<Item> {
        let start = self.at;
        let (word, span) = (self.word(start), self.tokens[start].span);
        let statement = STATEMENTS.contains(&word);
        self.errors.push(explain::unknown_item(word, span, self.tokens[start].kind, statement));
        self.at += 1;
        while self.at < self.tokens.len() && !self.opens_item(self.at) {
            match self.word(self.at) {
                ";" => {
                    self.at += 1;
                    return None;
                }
                "}" => return None,
                "{" if statement => {
                    self.at += 1;
                    return None;
                }
                "{" if crate::suggest::nearest(word, ITEMS) == Some("stack") => {
                    self.layers();
                    return None;
                }
                "{" => {
                    self.body();
                    return None;
                }
                _ => self.at += 1,
            }
        }
        None
    }

    fn variant(&mut self) -> Option<Variant> {
        let start = self.tokens[self.at].span.start;
        let head = self.head(Rule::variant_head_only, |b, pair| b.head(pair));
        let body = self.body();
        let span = Span::new(start, self.end());
        head.map(|(name, params)| Variant { name, params, body, span })
    }

    fn stack(&mut self) -> Option<Stack> {
        let start = self.tokens[self.at].span.start;
        let head = self.head(Rule::stack_head_only, |b, pair| b.head(pair));
        let layers = self.layers();
        let span = Span::new(start, self.end());
        head.map(|(name, params)| Stack { name, params, layers, span })
    }

    /// Where the last token taken ends.
    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |last| self.tokens[last].span.end)
    }

    /// What stands before a `{`.
    fn head<T>(&mut self, rule: Rule, build: fn(&mut Builder<'t>, Pair<'_, Rule>) -> T) -> Option<T> {
        let start = self.at;
        self.at += 1;
        while self.at < self.tokens.len()
            && !["{", "}", ";"].contains(&self.word(self.at))
            && (self.at == start + 1 || !self.is_statement(self.at))
            && !self.opens_item(self.at)
        {
            self.at += 1;
        }
        self.piece(rule, start, true, build)
    }

    /// `{ stmt* }`
    fn body(&mut self) -> Vec<Stmt> {
        self.block(|recovery| {
            let (start, terminated) = recovery.take_statement();
            recovery.statement(start, terminated)
        })
    }

    /// `{ layer* }`
    fn layers(&mut self) -> Vec<Layer> {
        self.block(Self::layer)
    }

    fn layer(&mut self) -> Option<Layer> {
        if self.word(self.at) == "repeat" {
            let head = self.head(Rule::repeat_head_only, |b, pair| b.count(pair));
            let layers = self.layers();
            let once = Expr { kind: ExprKind::Number(1.0), span: Span::default() };
            let (count, shared) = head.unwrap_or((once, false));
            return Some(Layer::Repeat { count, shared, layers });
        }
        let (start, terminated) = self.take_statement();
        self.piece(Rule::use_only, start, terminated, |b, pair| b.layer(pair))
    }

    /// A braced block of what `part` takes.
    fn block<T>(&mut self, mut part: impl FnMut(&mut Self) -> Option<T>) -> Vec<T> {
        let mut parts = Vec::new();
        let found = self.tokens.get(self.at).map(|token| token.span);
        if self.word(self.at) != "{" {
            self.errors.push(explain::missing_brace(self.text, found, self.end()));
            if found.is_none() || !self.is_statement(self.at) {
                return parts;
            }
        } else {
            self.at += 1;
        }
        let open = found.unwrap_or_default();
        while self.at < self.tokens.len() && !self.opens_item(self.at) {
            match self.word(self.at) {
                "}" => {
                    self.at += 1;
                    return parts;
                }
                ";" => {
                    self.errors.push(explain::empty_statement(self.tokens[self.at].span));
                    self.at += 1;
                }
                _ => {
                    let before = self.at;
                    parts.extend(part(self));
                    self.at = self.at.max(before + 1);
                }
            }
        }
        self.errors.push(explain::never_closed(open, "{", Span::new(self.end(), self.end())));
        parts
    }

    /// Steps over a statement; its first token, and whether its `;` is there.
    fn take_statement(&mut self) -> (usize, bool) {
        let start = self.at;
        let mut depth = 0usize;
        while self.at < self.tokens.len() {
            let inside = self.at > start;
            match self.word(self.at) {
                ";" if depth == 0 => {
                    self.at += 1;
                    return (start, true);
                }
                "{" => depth += 1,
                "}" if depth == 0 => return (start, false),
                "}" => depth -= 1,
                _ if depth == 0 && self.at > start + 1 && self.opens_misspelt(self.at) => return (start, false),
                _ if depth == 0 && inside && (self.opens_statement(self.at) || self.opens_item(self.at)) => {
                    return (start, false);
                }
                _ => {}
            }
            self.at += 1;
        }
        (start, false)
    }

    fn statement(&mut self, start: usize, terminated: bool) -> Option<Stmt> {
        let word = self.word(start);
        if STATEMENTS.contains(&word) {
            return self.piece(Rule::statement_only, start, terminated, |b, pair| b.stmt(pair));
        }
        let token = self.tokens[start];
        if token.kind == TokenKind::Unknown {
            self.unknown_characters(start);
        } else {
            let statement = &self.text[token.span.start..self.end()];
            self.errors.push(explain::unknown_statement(word, token, self.word(start + 1), statement));
        }
        self.note_broken(start);
        None
    }

    /// Reports the characters from `start` on that the language does not have. Whether there are any.
    fn unknown_characters(&mut self, start: usize) -> bool {
        let mut runs: Vec<Span> = Vec::new();
        for token in self.tokens[start..self.at].iter().filter(|token| token.kind == TokenKind::Unknown) {
            match runs.last_mut() {
                Some(run) if run.end == token.span.start => run.end = token.span.end,
                _ => runs.push(token.span),
            }
        }
        for run in &runs {
            self.errors.push(explain::unknown_character(&self.text[run.start..run.end], *run));
        }
        !runs.is_empty()
    }

    /// Parses the tokens from `start` to here by `rule`, or says what is wrong with them.
    fn piece<T>(
        &mut self,
        rule: Rule,
        start: usize,
        terminated: bool,
        build: fn(&mut Builder<'t>, Pair<'_, Rule>) -> T,
    ) -> Option<T> {
        let built = self.sound_piece(rule, start, terminated, build);
        if built.is_none() {
            self.note_broken(start);
        }
        built
    }

    fn sound_piece<T>(
        &mut self,
        rule: Rule,
        start: usize,
        terminated: bool,
        build: fn(&mut Builder<'t>, Pair<'_, Rule>) -> T,
    ) -> Option<T> {
        if self.unknown_characters(start) {
            return None;
        }
        let tokens = &self.tokens[start..self.at];
        if let Some(error) = explain::unbalanced(self.text, tokens) {
            self.errors.push(error);
            return None;
        }
        let offset = tokens.first()?.span.start;
        let end = tokens.last()?.span.end;
        let mut text = self.text[offset..end].to_string();
        if !terminated {
            text.push(';');
        }
        match Grammar::parse(rule, &text) {
            Ok(pairs) => {
                if !terminated {
                    self.errors.push(explain::missing_semicolon(end));
                }
                let mut builder = Builder::new(self.tokens, offset);
                let built = pairs.flat_map(Parts::of).next().map(|pair| build(&mut builder, pair));
                self.errors.append(&mut builder.errors);
                built
            }
            Err(error) => {
                let at = offset + position(&error);
                if !terminated && at < end {
                    self.errors.push(explain::missing_semicolon(end));
                }
                self.errors.push(explain::explain(&Piece { text: self.text, tokens, offset }, at));
                None
            }
        }
    }
}

//! What is wrong with a broken piece of text, in the user's words. Looks only at tokens; the place comes from the
//! parser.

use super::RESERVED;
use super::recover::{ITEMS, STATEMENTS};
use super::scan::{Token, TokenKind};
use crate::advice;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;

/// The names that take `[j](e)`.
const REDUCTIONS: [&str; 8] = ["sum", "mean", "max", "min", "prod", "argmax", "count", "softmax"];

/// What an assignment like `S[t] += x` is here.
const UPDATE: &str = "`update S[t] = S[t-1] + ...`";

/// A statement, or what stands before a `{`.
pub(super) struct Piece<'t> {
    /// The whole source.
    pub text: &'t str,
    /// The tokens of the piece.
    pub tokens: &'t [Token],
    /// Where the piece starts.
    pub offset: usize,
}

impl<'t> Piece<'t> {
    fn word(&self, at: usize) -> &'t str {
        self.tokens.get(at).map_or("", |token| &self.text[token.span.start..token.span.end])
    }

    fn before(&self, at: usize) -> &'t str {
        at.checked_sub(1).map_or("", |at| self.word(at))
    }

    /// Whether `at` and the token before it touch.
    fn touches(&self, at: usize) -> bool {
        at > 0 && at < self.tokens.len() && self.tokens[at - 1].span.end == self.tokens[at].span.start
    }

    fn is_plain_word(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word) && !RESERVED.contains(&self.word(at))
    }

    /// Whether an operand ends just before `at`. The keyword of the statement is none.
    fn after_operand(&self, at: usize) -> bool {
        let Some(last) = at.checked_sub(1) else { return false };
        match self.tokens[last].kind {
            TokenKind::Number => true,
            TokenKind::Word => last > 0 && self.is_plain_word(last),
            _ => matches!(self.word(last), ")" | "]" | "'"),
        }
    }

    /// The brackets that are open before `at`, outermost first.
    fn open(&self, at: usize) -> Vec<&'t str> {
        let mut open = Vec::new();
        for at in 0..at {
            match self.word(at) {
                bracket @ ("(" | "[" | "{") => open.push(bracket),
                ")" | "]" | "}" => {
                    open.pop();
                }
                _ => {}
            }
        }
        open
    }

    fn count(&self, word: &str, at: usize) -> usize {
        (0..at).filter(|at| self.word(*at) == word).count()
    }
}

/// The error of a piece on which the parser stopped at byte `at` of the source.
pub(super) fn explain(piece: &Piece, at: usize) -> Diagnostic {
    let stop = piece.tokens.partition_point(|token| token.span.end <= at.max(piece.offset));
    let place = piece.tokens.get(stop).map_or_else(
        || piece.tokens.last().map_or(Span::new(at, at), |last| Span::new(last.span.end, last.span.end)),
        |token| token.span,
    );
    if let Some(special) = reserved(piece, stop, place).or_else(|| slip(piece, stop, place)) {
        return special;
    }
    let found = match piece.word(stop) {
        "" if matches!(piece.word(0), "variant" | "stack" | "repeat") => "`{`".to_string(),
        "" => "the end of the statement".to_string(),
        word if word.len() > 40 => "this".to_string(),
        word => format!("`{word}`"),
    };
    let expected = expected(piece, stop);
    let error = Diagnostic::new("syntax", format!("expected {expected}, found {found}"))
        .label(place, format!("expected {expected}"));
    match help(piece, stop, &expected) {
        Some(text) => error.help(text),
        None => error,
    }
}

/// A reserved word where a name should stand.
fn reserved(piece: &Piece, stop: usize, place: Span) -> Option<Diagnostic> {
    let word = piece.word(stop);
    if !RESERVED.contains(&word) || piece.after_operand(stop) {
        return None;
    }
    if word == "if" && stop > 1 && piece.before(stop) != "," {
        return Some(
            Diagnostic::new("syntax", "an `if` inside an expression stands in brackets")
                .label(place, "this `if` is an operand")
                .help("write `a + (if c then b else d)`"),
        );
    }
    if word == "where" && piece.word(stop + 1) == "(" {
        return Some(
            Diagnostic::new("syntax", "`where` is no function")
                .label(place, "called here")
                .help("a choice is `if c then a else b`; what is visible is `local where c;`"),
        );
    }
    if matches!(word, "then" | "else") && piece.count("if", stop) > 0 || word == "not" {
        return None;
    }
    Some(
        Diagnostic::new("reserved-word", format!("`{word}` is a reserved word and cannot be a name"))
            .label(place, "a name should stand here")
            .help(format!("choose another name, such as `{word}_`")),
    )
}

/// Slips from other notations: `**`, `=` for `==`, `.5`, `2x`.
fn slip(piece: &Piece, stop: usize, place: Span) -> Option<Diagnostic> {
    let (word, before) = (piece.word(stop), piece.before(stop));
    let pair = Span::new(stop.checked_sub(1).map_or(place.start, |last| piece.tokens[last].span.start), place.end);
    let syntax = |message: &str, span, label: &str, help: &str| {
        Some(Diagnostic::new("syntax", message).label(span, label).help(help))
    };
    match (before, word) {
        ("*", "*") => syntax("`**` is no operator", pair, "not an operator", "the power is `^`: `x^2`"),
        ("/", "/") => syntax("`//` is no operator", pair, "not an operator", "the quotient rounding down is `div`"),
        (":", "=") => syntax("`:=` is no operator", pair, "not an operator", "write `=`"),
        ("+" | "-" | "*" | "/" | ".*" | "./", "=") => {
            syntax("there is no assignment by an operator", pair, "not an operator", &format!("write {UPDATE}"))
        }
        ("-", ">") | ("=", ">") => syntax("arrows are not part of the language", pair, "not an operator", "write `=`"),
        ("<", ">") => syntax("`<>` is no operator", pair, "not an operator", "different is `!=`"),
        (_, "=") if piece.touches(stop + 1) && matches!(piece.word(stop + 1), "<" | ">") => {
            let mend =
                if piece.word(stop + 1) == "<" { "write `<=`" } else { "a comparison is `>=`; there are no arrows" };
            syntax("the `=` of a comparison comes last", place, "not an operator", mend)
        }
        ("<" | ">", "<" | ">") => syntax("shifts are not part of the language", pair, "not an operator", "write `2^n`"),
        (_, "=") if piece.after_operand(stop) && (piece.count("=", stop) > 0 || piece.word(0) == "local") => syntax(
            "`=` defines, it does not compare",
            place,
            "a comparison should stand here",
            "to compare, write `==`",
        ),
        (_, "==") if piece.after_operand(stop) && piece.count("=", stop) == 0 && piece.open(stop).is_empty() => {
            syntax("`==` compares, it does not define", place, "a definition should stand here", "to define, write `=`")
        }
        (_, "+") if !piece.after_operand(stop) => {
            syntax("`+` stands between two operands", place, "nothing on its left", "leave the `+` out")
        }
        (_, "if") if piece.after_operand(stop) => {
            syntax("the condition of a choice stands first", place, "after a value", "write `if c then a else b`")
        }
        (".", "^" | "+" | "-") if piece.after_operand(stop - 1) => syntax(
            "this operator has no point before it",
            pair,
            "a point too many",
            "`^`, `+` and `-` are element by element as they are; `.*` and `./` have the point",
        ),
        (_, ".") if piece.tokens.get(stop + 1).is_some_and(|next| next.kind == TokenKind::Number) => {
            syntax("a number has a digit before its point", place, "no digit before it", "write `0.5`")
        }
        (".", _) if stop > 1 && piece.tokens[stop - 2].kind == TokenKind::Number => {
            let point = piece.tokens[stop - 2].span.to(piece.tokens[stop - 1].span);
            syntax("a number has a digit after its point", point, "no digit after it", "write `1.0` or `1`")
        }
        (_, ".") if stop > 0 && piece.tokens[stop - 1].kind == TokenKind::Number => {
            syntax("a number has a digit after its point", pair, "no digit after it", "write `1.0` or `1`")
        }
        (_, "(") if before == "]" => reduction(piece, stop, place),
        (_, "(") if stop > 2 && piece.word(stop - 2) == "." => Some(method(piece, stop)),
        (_, "{") if before.len() > 1 && before.ends_with('_') => Some(braces(piece, stop)),
        (_, ":") if piece.open(stop).last() == Some(&"[") => syntax(
            "there are no slices",
            place,
            "no subscript",
            "what is not subscripted is the whole of it (`x[t]` is a vector); columns are `cols(x, from, to)`",
        ),
        _ if stop > 0
            && piece.tokens[stop - 1].kind == TokenKind::Number
            && piece.touches(stop)
            && piece.is_plain_word(stop) =>
        {
            let mend = format!("for a product write `{before}*{word}`; a name starts with a letter");
            syntax("a number and a name stand side by side", pair, "no operator between", &mend)
        }
        _ => None,
    }
}

/// `torch.exp(x)`, `x.exp()`: functions are neither in modules nor of their arguments.
fn method(piece: &Piece, stop: usize) -> Diagnostic {
    let name = piece.word(stop - 1);
    let mend = advice::function(name).map_or_else(|| format!("write `{name}(...)`"), advice::Row::help);
    let span = piece.tokens[stop - 3].span.to(piece.tokens[stop - 1].span);
    if advice::MODULES.contains(&piece.word(stop - 3)) {
        return Diagnostic::new("syntax", "functions are in no module")
            .label(span, "no module")
            .help(format!("there are no modules: {mend}"));
    }
    Diagnostic::new("syntax", format!("`.{name}(` is no call"))
        .label(piece.tokens[stop - 2].span.to(piece.tokens[stop - 1].span), "called as a method here")
        .help(format!("a function stands before what it is of: {mend}"))
}

/// `S_{t-1}`
fn braces(piece: &Piece, stop: usize) -> Diagnostic {
    let close = (stop..piece.tokens.len()).find(|at| piece.word(*at) == "}").unwrap_or(stop);
    let (open, close) = (piece.tokens[stop].span, piece.tokens[close].span);
    let inside = piece.text[open.end..close.start.max(open.end)].trim();
    let name = piece.before(stop).trim_end_matches('_');
    Diagnostic::new("syntax", "a subscript does not stand in braces")
        .label(piece.tokens[stop - 1].span.to(close), "a subscript of a paper")
        .help(format!("write `{name}[{inside}]`"))
}

/// `summ[j](e)`: no reduction of that name.
fn reduction(piece: &Piece, stop: usize, place: Span) -> Option<Diagnostic> {
    let mut depth = 0usize;
    let open = (0..stop).rev().find(|at| {
        match piece.word(*at) {
            "]" => depth += 1,
            "[" => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let name = open.checked_sub(1)?;
    let word = piece.word(name);
    if REDUCTIONS.contains(&word) {
        return Some(
            Diagnostic::new("syntax", format!("`{word}[...]` takes indices, then one expression"))
                .label(piece.tokens[open].span.to(place), "these are not indices")
                .help(format!("write `{word}[j](e)`, `{word}[j in N](e)` or `{word}[j : cond](e)`")),
        );
    }
    if !piece.is_plain_word(name) {
        return None;
    }
    let error = Diagnostic::new("syntax", format!("`{word}` is no reduction"))
        .label(piece.tokens[name].span.to(place), "an index and brackets make a reduction");
    Some(error.help(match nearest(word, REDUCTIONS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the reductions are `sum mean max min prod argmax count softmax`; for a product write `*`".to_string(),
    }))
}

/// What could stand where the parser stopped.
fn expected(piece: &Piece, stop: usize) -> String {
    let keyword = piece.word(0);
    let open = piece.open(stop);
    if !piece.after_operand(stop) {
        let names = matches!(piece.before(stop), "on" | "over" | "merge" | "for" | ".");
        let list = matches!(piece.before(stop), "," | "") && open.is_empty();
        return match (keyword, piece.before(stop)) {
            ("input" | "param" | "state", ":") => "a shape".to_string(),
            ("repeat", _) => "an expression".to_string(),
            _ if names || list || stop <= 1 => "a name".to_string(),
            _ => "an expression".to_string(),
        };
    }
    let ifs = ["if", "then", "else"].map(|word| piece.count(word, stop));
    if ifs[0] > ifs[1] {
        return "an operator or `then`".to_string();
    }
    if ifs[1] > ifs[2] {
        return "an operator or `else`".to_string();
    }
    match open.last() {
        Some(&"(") => return "an operator, `,` or `)`".to_string(),
        Some(&"[") => return "an operator, `,` or `]`".to_string(),
        Some(_) => return "an operator or `}`".to_string(),
        None => {}
    }
    let defined = piece.count("=", stop) > 0;
    let expected = match keyword {
        "variant" | "stack" => "`(` or `{`",
        "repeat" => "an operator or `{`",
        "batch" | "check" => "`,` or `;`",
        "order" => "`,`, `merge` or `;`",
        "norm" => "`over` or `;`",
        "axes" if piece.before(stop) != ")" && piece.is_plain_word(stop - 1) => "`,`, `=`, an operator or `;`",
        "input" | "param" | "state" if piece.before(stop) == "]" => "`,`, `=` or `;`",
        "input" | "param" | "state" if piece.count(":", stop) == 0 => "`,` or `:`",
        "input" | "param" | "state" if piece.count(":", stop) > piece.count("[", stop) => "a shape",
        "fn" if !defined && piece.before(stop) == ")" => "`=`",
        "fn" if !defined => "`(`",
        "let" | "read" if !defined => "`=`",
        "output" if !defined => "`=` or `;`",
        "decay" if !defined => "`=`, `on` or `;`",
        "update" if !defined => "`=` or a law",
        "feature" if defined => "an operator or `on`",
        "feature" => "`(` or `on`",
        "let" => "an operator, `for` or `;`",
        _ => "an operator or `;`",
    };
    expected.to_string()
}

/// The mend, where it is plain.
fn help(piece: &Piece, stop: usize, expected: &str) -> Option<String> {
    let (keyword, word) = (piece.word(0), piece.word(stop));
    let operand = piece.is_plain_word(stop)
        || word == "("
        || piece.tokens.get(stop).is_some_and(|token| token.kind == TokenKind::Number);
    let text = match keyword {
        "param" if word == "=" => {
            "a number known at compile time stands at the variant, `variant f(W = 128)`; a param is a tensor, `param w : [H,F,K];`"
        }
        "input" | "param" | "state" => "declare as in `q, k : [B,T,H,K], v : [B,T,H,V]`",
        "feature" => "write `feature phi(x) = elu(x) + 1 on q, k;` or `feature sigmoid on q;`",
        "update" if piece.count("=", stop) == 0 => "write `update S additive(k, v);` or `update S[t] = ...;`",
        "read" | "let" if piece.count("=", stop) == 0 => {
            return Some(format!("write `{keyword} name[t] = ...;`"));
        }
        _ if operand && expected.starts_with("an operator") => "an operator is missing; a product is written `*`",
        _ => return None,
    };
    Some(text.to_string())
}

pub(super) fn missing_semicolon(end: usize) -> Diagnostic {
    Diagnostic::new("missing-semicolon", "this statement does not end in `;`")
        .label(Span::new(end, end), "a `;` is missing here")
        .help("end the statement with `;`")
}

pub(super) fn missing_brace(text: &str, found: Option<Span>, end: usize) -> Diagnostic {
    let found_word =
        found.map_or("the end of the file".to_string(), |span| format!("`{}`", &text[span.start..span.end]));
    Diagnostic::new("syntax", format!("expected `{{`, found {found_word}"))
        .label(found.unwrap_or(Span::new(end, end)), "the body should open here")
        .help("the body stands in braces: `{ ... }`")
}

pub(super) fn empty_statement(span: Span) -> Diagnostic {
    Diagnostic::new("syntax", "this `;` ends no statement").label(span, "nothing before it").help("leave it out")
}

pub(super) fn closes_nothing(span: Span, bracket: &str) -> Diagnostic {
    Diagnostic::new("unbalanced-bracket", format!("this `{bracket}` closes nothing"))
        .label(span, "no bracket is open here")
        .help("leave it out, or open its bracket before")
}

pub(super) fn never_closed(open: Span, bracket: &str, end: Span) -> Diagnostic {
    let closing = closing(bracket);
    Diagnostic::new("unbalanced-bracket", format!("this `{bracket}` is never closed"))
        .label(open, "opened here")
        .label(end, format!("no `{closing}` up to here"))
        .help(format!("close it with `{closing}`"))
}

fn closing(bracket: &str) -> &'static str {
    match bracket {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

/// The first bracket of a statement that has no partner, or the wrong one.
pub(super) fn unbalanced(text: &str, tokens: &[Token]) -> Option<Diagnostic> {
    let mut open: Vec<(&str, Span)> = Vec::new();
    for token in tokens {
        let word = &text[token.span.start..token.span.end];
        match word {
            "(" | "[" | "{" => open.push((word, token.span)),
            ")" | "]" | "}" => match open.pop() {
                None => return Some(closes_nothing(token.span, word)),
                Some((bracket, span)) if closing(bracket) != word => {
                    return Some(
                        Diagnostic::new("unbalanced-bracket", format!("`{bracket}` is closed by `{word}`"))
                            .label(token.span, format!("expected `{}`", closing(bracket)))
                            .label(span, "opened here"),
                    );
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    let (bracket, span) = *open.last()?;
    let end = tokens.last().map_or(span, |token| token.span);
    Some(never_closed(span, bracket, end))
}

/// `statement` is the text of the whole of it, `next` its second token.
pub(super) fn unknown_statement(word: &str, token: Token, next: &str, statement: &str) -> Diagnostic {
    if token.kind != TokenKind::Word {
        let comment = ["//", "/*", "--"].iter().any(|mark| statement.starts_with(mark));
        let help = if comment {
            "comments start with `#`".to_string()
        } else {
            format!("the statements are: {}", STATEMENTS.join(", "))
        };
        return Diagnostic::new("syntax", format!("expected a statement, found `{word}`"))
            .label(token.span, "no statement starts so")
            .help(help);
    }
    let error = Diagnostic::new("unknown-statement", format!("there is no statement `{}`", shorten(word)))
        .label(token.span, "expected the keyword of a statement");
    let assigns = ["+=", "-=", "*=", "/="].iter().any(|operator| statement.contains(operator));
    if assigns && (next == "[" || matches!(next, "+" | "-" | "*" | "/")) {
        return error.help(format!("there is no assignment: write {UPDATE}"));
    }
    if next == "=" || next == "[" {
        return error.help(format!(
            "an equation has a keyword: `let {}{next} ...`, or `output`, `read`, `update`",
            shorten(word)
        ));
    }
    if let Some(help) = advice::statement(word) {
        return error.help(help);
    }
    error.help(match nearest(word, STATEMENTS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the statements are: {}", STATEMENTS.join(", ")),
    })
}

pub(super) fn unknown_item(word: &str, span: Span, kind: TokenKind, statement: bool) -> Diagnostic {
    if kind == TokenKind::Unknown {
        return unknown_character(word, span);
    }
    if statement {
        return Diagnostic::new("syntax", format!("`{word}` stands outside a variant"))
            .label(span, "a statement of a variant")
            .help("write `variant name { ... }` around it; is a `}` too early?");
    }
    let error = Diagnostic::new("syntax", format!("expected `variant`, `fn` or `stack`, found `{}`", shorten(word)))
        .label(span, "an item of the file should start here");
    match nearest(word, ITEMS) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("a file holds `variant name { ... }`, `fn f(x) = ...;` and `stack name { ... }`"),
    }
}

fn shorten(word: &str) -> String {
    if word.chars().count() <= 40 { word.to_string() } else { word.chars().take(40).chain("...".chars()).collect() }
}

pub(super) fn unknown_character(run: &str, span: Span) -> Diagnostic {
    let shown: String = shorten(run)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    let error = Diagnostic::new("unknown-character", format!("`{shown}` is not part of the language"))
        .label(span, "not part of the language");
    match advice::character(run) {
        Some(text) => error.help(text),
        None => error,
    }
}

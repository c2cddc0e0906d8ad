//! Tokens of a source, for spans and for saying what is wrong with it. The grammar itself is pest's.

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// What a token is. Symbols carry no more than their text, which their span gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    Number,
    Symbol,
    /// A character that the language does not have.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub span: Span,
    /// No other token stands before it on its line.
    pub opens_line: bool,
}

/// Longest first.
const SYMBOLS: [&str; 28] = [
    "..", ".*", "./", "<=", ">=", "==", "!=", "+", "-", "*", "/", "^", "'", "(", ")", "[", "]", "{", "}", ",", ";",
    ":", "=", "<", ">", ".", "!", "&",
];

/// How deep brackets, `if`s and powers may stand in each other. Bounds the parser's stack.
pub(super) const MAX_NESTING: usize = 64;

pub(super) fn is_letter(c: char) -> bool {
    c == '_' || pest::unicode::LETTER(c)
}

fn is_word_char(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

fn is_space(c: char) -> bool {
    pest::unicode::WHITE_SPACE(c) || c == '\u{FEFF}'
}

/// The tokens of a text, comments and white space left out. Every other character is in one token.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut opens_line = true;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c == '\n' {
            opens_line = true;
        }
        if is_space(c) {
            at += c.len_utf8();
            continue;
        }
        if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, length) = token(rest, c);
        found.push(Token { kind, span: Span::new(at, at + length), opens_line });
        opens_line = false;
        at += length;
    }
    found
}

/// The kind and length in bytes of the token at the start of `rest`, whose first character is `c`.
fn token(rest: &str, c: char) -> (TokenKind, usize) {
    if is_letter(c) {
        return (TokenKind::Word, rest.find(|c| !is_word_char(c)).unwrap_or(rest.len()));
    }
    if c.is_ascii_digit() {
        return (TokenKind::Number, number_length(rest.as_bytes()));
    }
    match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        Some(&"!" | &"&") | None => (TokenKind::Unknown, c.len_utf8()),
        Some(symbol) => (TokenKind::Symbol, symbol.len()),
    }
}

fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut length = digits(0);
    if text.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if matches!(text.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
        if text.len() > length + 1 + sign && digits(length + 1 + sign) > 0 {
            length += 1 + sign + digits(length + 1 + sign);
        }
    }
    length
}

/// `if`s and powers open in one bracket: they nest without brackets of their own.
#[derive(Default, Clone, Copy)]
struct Chain {
    ifs: usize,
    powers: usize,
}

/// An error for every statement in which brackets, `if`s and powers nest deeper than [`MAX_NESTING`].
pub(super) fn check_nesting(text: &str, tokens: &[Token]) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let mut open = vec![Chain::default()];
    let mut reported = false;
    for token in tokens {
        let word = &text[token.span.start..token.span.end];
        let top = open.len() - 1;
        match word {
            "(" | "[" | "{" => open.push(Chain::default()),
            ")" | "]" | "}" => {
                open.pop();
                if open.is_empty() {
                    open.push(Chain::default());
                }
                if word == "}" {
                    reported = false;
                }
            }
            ";" => {
                open[top] = Chain::default();
                reported = false;
            }
            "," => open[top] = Chain::default(),
            "if" => open[top].ifs += 1,
            "^" => open[top].powers += 1,
            "-" | "." | "'" => {}
            _ if token.kind == TokenKind::Symbol => open[top].powers = 0,
            _ => {}
        }
        let depth: usize = open.iter().map(|chain| 1 + chain.ifs + chain.powers).sum();
        if depth > MAX_NESTING && !reported {
            reported = true;
            errors.push(too_deep(token.span));
        }
        // Beyond any hope: bounds the sum above on hostile input.
        if open.len() > 4 * MAX_NESTING {
            break;
        }
    }
    errors
}

/// The error for what nests too deep at a place.
pub(super) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::new("too-deep", "this nests too deep")
        .label(span, "too deep from here on")
        .help("name a part of it with a `let` and use the name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| &text[token.span.start..token.span.end]).collect()
    }

    #[test]
    fn text_splits_into_words_numbers_and_symbols() {
        assert_eq!(
            words("S[t-1]' .* 2.*K # no\n<= 1..n"),
            ["S", "[", "t", "-", "1", "]", "'", ".*", "2", ".*", "K", "<=", "1", "..", "n"]
        );
        assert_eq!(words("1e-6 2e 0.5 1.x β_0"), ["1e-6", "2", "e", "0.5", "1", ".", "x", "β_0"]);
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = |n: usize| format!("{}x{}", "(".repeat(n), ")".repeat(n));
        assert!(check_nesting(&deep(60), &tokens(&deep(60))).is_empty());
        assert_eq!(check_nesting(&deep(100_000), &tokens(&deep(100_000)))[0].code, "too-deep");
        let powers = "2^".repeat(70);
        assert_eq!(check_nesting(&powers, &tokens(&powers)).len(), 1);
        let flat = "x^2 + ".repeat(1000);
        assert!(check_nesting(&flat, &tokens(&flat)).is_empty());
    }
}

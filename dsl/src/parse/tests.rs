//! What parses, what does not and what is said of it, and that no input makes the parser panic.

use super::*;
use crate::ast::{Decl, Expr, ExprKind, Item, StmtKind, Variant};
use crate::draw::Draw;

fn source(text: &str) -> Source {
    Source::new("t.attn", text)
}

fn variant(text: &str) -> Variant {
    match parse(&source(text)).unwrap().items.remove(0) {
        Item::Variant(variant) => variant,
        other => panic!("{other:?}"),
    }
}

/// An expression with all its brackets.
fn grouped(text: &str) -> String {
    fn show(expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Number(value) => value.to_string(),
            ExprKind::Name(name) => name.clone(),
            ExprKind::Neg(operand) => format!("(-{})", show(operand)),
            ExprKind::Not(operand) => format!("(not {})", show(operand)),
            ExprKind::Transpose(operand) => format!("{}'", show(operand)),
            ExprKind::Subscript { base, at } => format!("{}[{}]", show(base), show(&at[0])),
            ExprKind::Binary { op, left, right } => format!("({} {op:?} {})", show(left), show(right)),
            ExprKind::Compare { first, rest } => {
                let rest: String = rest.iter().map(|(op, operand)| format!(" {op:?} {}", show(operand))).collect();
                format!("({}{rest})", show(first))
            }
            ExprKind::Range { from, to } => format!("({}..{})", show(from), show(to)),
            ExprKind::If { cond, then, otherwise } => {
                format!("(if {} {} {})", show(cond), show(then), show(otherwise))
            }
            other => format!("{other:?}"),
        }
    }
    match &parse(&source(&format!("fn f(x) = {text};"))).unwrap().items[0] {
        Item::Function(function) => show(&function.body),
        other => panic!("{other:?}"),
    }
}

/// The codes of the errors of a text, with the text under each error's first label.
fn errors(text: &str) -> Vec<(&'static str, &str)> {
    let found = parse(&source(text)).expect_err(text);
    found.iter().map(|error| (error.code, &text[error.labels[0].span.start..error.labels[0].span.end])).collect()
}

/// The errors of the statements of a variant.
fn statement_errors(body: &str) -> Vec<(&'static str, String)> {
    let text = format!("variant f {{ {body} }}");
    errors(&text).into_iter().map(|(code, under)| (code, under.to_string())).collect()
}

fn helps(body: &str) -> String {
    let found = parse(&source(&format!("variant f {{ {body} }}"))).expect_err(body);
    found.iter().map(|error| format!("{} / {}\n", error.message, error.help.clone().unwrap_or_default())).collect()
}

#[test]
fn operators_group_by_the_table() {
    for (text, expected) in [
        ("-2^2", "(-(2 Pow 2))"),
        ("2^-3", "(2 Pow (-3))"),
        ("2^3^2", "(2 Pow (3 Pow 2))"),
        ("2^-2^2", "(2 Pow (-(2 Pow 2)))"),
        ("a' * b[t]'", "(a' Mul b[t]')"),
        ("a * -b", "(a Mul (-b))"),
        ("a - b - c * d", "((a Sub b) Sub (c Mul d))"),
        ("a mod b div c ./ d .* e", "((((a Mod b) FloorDiv c) ElementDiv d) ElementMul e)"),
        ("1..n-1", "(1..(n Sub 1))"),
        ("not a < b and c or d", "(((not (a Lt b)) And c) Or d)"),
        ("a < b + 1 <= c", "(a Lt (b Add 1) Le c)"),
        ("if a then b else if c then d else e + 1", "(if a b (if c d (e Add 1)))"),
        ("2.*K", "(2 ElementMul K)"),
        ("modulo", "modulo"),
    ] {
        assert_eq!(grouped(text), expected, "{text}");
    }
}

#[test]
fn spans_are_tight() {
    let text = "variant f { let a[t] = ( b  + c )   # why\n * d ; }";
    let parsed = variant(text);
    assert_eq!(parsed.span, Span::new(0, text.len()));
    let StmtKind::Let { lhs, value, .. } = &parsed.body[0].kind else { panic!() };
    let under = |span: Span| &text[span.start..span.end];
    assert_eq!(under(parsed.body[0].span), "let a[t] = ( b  + c )   # why\n * d ;");
    assert_eq!(under(lhs.span), "a[t]");
    let ExprKind::Binary { left, right, .. } = &value.kind else { panic!() };
    assert_eq!((under(left.span), under(right.span)), ("( b  + c )", "d"));
}

#[test]
fn statements_build_their_nodes() {
    let parsed = variant(
        "variant f(W = 64) { input ids, q : i32 [B,T], c : []; decay g0[t] on z; update S delta(k, v, b);
         local where i.y == j.y; order causal(g = gf), reverse(g = gb) merge mean; batch N; }",
    );
    assert_eq!(parsed.params.len(), 1);
    let StmtKind::Input(decls) = &parsed.body[0].kind else { panic!() };
    let [Decl { names, dtype, dims, .. }, Decl { dims: none, .. }] = decls.as_slice() else { panic!() };
    assert_eq!((names.len(), dtype.as_ref().unwrap().name.as_str(), dims.len(), none.len()), (2, "i32", 2, 0));
    let StmtKind::Decay { value: None, on, .. } = &parsed.body[1].kind else { panic!() };
    assert_eq!(on[0].name, "z");
    let StmtKind::Law { state, law } = &parsed.body[2].kind else { panic!() };
    assert_eq!((state.name.as_str(), law.name.name.as_str(), law.args.len()), ("S", "delta", 3));
    let StmtKind::Order { orders, merge: Some(merge) } = &parsed.body[4].kind else { panic!() };
    assert_eq!((orders.len(), merge.name.as_str()), (2, "mean"));
}

#[test]
fn keywords_of_statements_are_names_elsewhere() {
    let text = "variant variant { let order[t] = state + input * β_1 + format + iffy; output sum; }";
    assert_eq!(variant(text).name.name, "variant");
    assert_eq!(statement_errors("let where = 1;"), [("reserved-word", "where".to_string())]);
}

#[test]
fn every_error_of_a_file_is_reported() {
    let text = "variant f {
  axes B, T
  inptu q : [B,T];
  let for = 3;
  let a[t] = x ** 2;
  let c = (a + b;
  let d = a b;
  let e = a && b;
}
variant g { output o[t] }";
    assert_eq!(
        errors(text),
        [
            ("missing-semicolon", ""),
            ("unknown-statement", "inptu"),
            ("reserved-word", "for"),
            ("syntax", "**"),
            ("unbalanced-bracket", "("),
            ("syntax", "b"),
            ("unknown-character", "&&"),
            ("missing-semicolon", ""),
        ]
    );
}

#[test]
fn sound_statements_of_a_broken_file_are_kept() {
    let (file, errors) =
        parse_partial(&source("variant f { axes B; let = 1; output o[t] = q[t]; } variant g { output p; }"));
    assert_eq!((file.items.len(), errors.len()), (2, 1));
    let Item::Variant(first) = &file.items[0] else { panic!() };
    assert_eq!(first.body.len(), 2);
}

#[test]
fn slips_come_with_their_mend() {
    for (body, mend) in [
        ("updte S additive(k);", "did you mean `update`?"),
        ("q[t] = 3;", "`let q[ ...`"),
        ("let a = if b = c then d else e;", "write `==`"),
        ("local where i = j;", "write `==`"),
        ("let a == 3;", "write `=`"),
        ("let a = .5;", "write `0.5`"),
        ("let a = 5.;", "write `1.0`"),
        ("let a = 2x;", "write `2*x`"),
        ("let a = summ[j](x);", "did you mean `sum`?"),
        ("let a = b + if c then d else e;", "stands in brackets"),
        ("let a = if b then c;", "`else`"),
        ("let a = b % c;", "`mod`"),
        ("input q [B];", "`,` or `:`"),
        ("feature phi(x) = x;", "`on`"),
        ("update S;", "`=` or a law"),
        ("let a = 1e400;", "too large"),
        ("let a = b c;", "an operator is missing"),
        ("let a = f(b c);", "`,` or `)`"),
        ("let a = S[t)];", "`[` is closed by `)`"),
        ("; output o;", "ends no statement"),
    ] {
        assert!(helps(body).contains(mend), "{body}: {}", helps(body));
    }
}

#[test]
fn broken_items_are_reported() {
    assert_eq!(errors(""), [("empty-file", "")]);
    assert_eq!(errors("  # only this\n"), [("empty-file", "")]);
    assert_eq!(errors("variant f { axes B;"), [("unbalanced-bracket", "{")]);
    assert_eq!(errors("variant f {} }"), [("unbalanced-bracket", "}")]);
    assert_eq!(errors("varaint f { axes B; }"), [("syntax", "varaint")]);
    assert_eq!(errors("axes B;"), [("syntax", "axes")]);
    assert_eq!(errors("variant if { }"), [("reserved-word", "if")]);
    assert_eq!(errors("variant f axes B; }"), [("syntax", "axes")]);
    assert_eq!(errors("stack s { repeat { a; } b }"), [("syntax", ""), ("missing-semicolon", "")]);
    assert_eq!(errors("variant f {\n axes B;\nvariant g { }"), [("unbalanced-bracket", "{")]);
}

#[test]
fn depth_has_a_bound() {
    let chains = ["x + ", "-", "not ", "x^", "if x then y else ", "x * -", "f(", "x[", "(", "sum[j](", "x and "];
    for chain in chains {
        let text = format!("variant f {{ let a = {}x; }}", chain.repeat(20_000));
        assert!(parse(&source(&text)).is_err(), "{chain}");
    }
    for tail in ["'", ".y", "[t]"] {
        assert_eq!(statement_errors(&format!("let a = x{};", tail.repeat(20_000)))[0].0, "too-deep");
    }
    let repeats = format!("stack s {{ {} a; {} }}", "repeat 2 {".repeat(20_000), "}".repeat(20_000));
    assert_eq!(errors(&repeats)[0].0, "too-deep");
    let sum = vec!["x"; 300].join(" + ");
    assert!(parse(&source(&format!("fn f(x) = {sum};"))).is_ok());
}

#[test]
fn no_mutation_makes_the_parser_panic() {
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    for round in 0..600 {
        let mut text: Vec<char> = PROGRAMS[round % PROGRAMS.len()].chars().collect();
        for _ in 0..1 + draw.below(6) {
            let at = draw.below(text.len());
            match draw.below(3) {
                0 => drop(text.splice(at..at, draw.piece().chars())),
                1 => drop(text.drain(at..(at + 1 + draw.below(12)).min(text.len()))),
                _ => {
                    let other = draw.below(text.len());
                    text.swap(at, other);
                }
            }
        }
        let mutated = source(&text.iter().collect::<String>());
        if let Err(errors) = parse(&mutated) {
            assert!(!errors.is_empty());
            assert!(crate::render::render(&errors, &mutated).contains("t.attn"), "{}", mutated.text);
        }
    }
}

//! Every row of the tables reaches who writes its habit, and what it says to write checks.

use super::*;
use crate::source::Source;

/// A variant of the usual tensors around some statements.
fn around(body: &str) -> String {
    format!(
        "variant f {{ axes B, T, H, K, V; input x, y, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];\n{body}\noutput o[t] = x[t]; }}"
    )
}

/// The helps of a text's errors.
fn helps(text: &str) -> Vec<String> {
    let errors = crate::compile(&Source::new("t.attn", text), &[]).err().unwrap_or_default();
    errors.into_iter().filter_map(|error| error.help).collect()
}

fn helped(body: &str, wanted: &str) -> Option<String> {
    let found = helps(&around(body));
    let hit = found.iter().any(|help| help.contains(wanted));
    (!hit).then(|| format!("{body}\n  wanted: {wanted}\n  found: {found:?}"))
}

#[test]
fn every_row_reaches_its_habit() {
    let mut missed = Vec::new();
    for row in FUNCTIONS {
        for name in row.names {
            missed.extend(helped(&format!("let z[t] = {name}(x[t]);"), &row.help()));
        }
    }
    for (names, help) in VALUES {
        for name in *names {
            missed.extend(helped(&format!("let z[t] = {name} * x[t];"), help));
        }
    }
    for (names, help) in ARGUMENTS {
        for name in *names {
            missed.extend(helped(&format!("let z[t] = softmax(x[t], {name} = 1);"), help));
        }
    }
    for (words, help) in STATEMENTS {
        for word in *words {
            missed.extend(helped(&format!("{word} z = 1;"), help));
        }
    }
    for (names, help) in TYPES {
        for name in *names {
            missed.extend(helped(&format!("input z : {name} [B,T];"), help));
        }
    }
    for module in MODULES {
        missed.extend(helped(&format!("let z[t] = {module}.exp(x[t]);"), "there are no modules: write `exp(...)`"));
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn what_a_row_says_to_write_checks() {
    let mends = FUNCTIONS.iter().filter(|row| !row.mend.is_empty());
    let wrong = mends.filter_map(|row| {
        let text = around(&format!("fn mended(x, y) = {};\nlet z[t] = mended(x[t], y[t]);", row.mend));
        let errors = crate::compile(&Source::new("t.attn", text), &[]).err()?;
        Some(format!("{}: {}", row.mend, errors[0].message))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_row_hides_what_the_language_has() {
    let names = FUNCTIONS.iter().flat_map(|row| row.names);
    let mut seen = std::collections::HashSet::new();
    for name in names {
        assert!(seen.insert(name), "`{name}` stands twice");
        assert!(crate::typed::Function::by_name(name).is_none(), "`{name}` is a function");
    }
}

#[test]
fn notations_of_papers_and_of_other_languages_find_theirs() {
    let missed: Vec<String> = [
        ("let z[t] = kₜ;", "write `k[t]`"),
        ("let z[t] = kᵀ * y[t];", "the transpose is `'`: `k'`"),
        ("let z[t] = k_t;", "write `k[t]`"),
        ("let z[t] = k_{t-1};", "write `k[t-1]`"),
        ("let z[t] = x[t].T;", "the transpose is `'`"),
        ("let z[t] = x[t].exp();", "write `exp(...)`"),
        ("let z[t] = x[t].log();", "write `ln(x)`"),
        ("let z[t] = g[t] > 0 ? 1 : 2;", "if c then a else b"),
        ("let z[t] = x[t] @ y[t];", "the matrix product is `*`"),
        ("let z[t] = x[t] ** 2;", "`x^2`"),
        ("let z[t] = x[t] // 2;", "`div`"),
        ("let z[t] = x[t] % 2;", "`mod`"),
        ("let z[t] == x[t];", "to define, write `=`"),
        ("let z[t] = if g[t] = 0 then 1 else 2;", "write `==`"),
        ("let z[t] = x[t] · y[t];", "`.*`"),
        ("let z[t] = x[t] × 2;", "`*`"),
        ("let z[t] = x[t] ⊙ y[t];", "`.*`"),
        ("let z[t] = x[t] − y[t];", "minus is `-`"),
        ("let z[t] = if t ≤ 3 then 1 else 2;", "write `<=`"),
        ("let z[t] = x[t]’ * y[t];", "the transpose is `'`"),
        ("let z[t] = x[t]² ;", "write `^2`"),
        ("let z[t] = x[t] \u{200B}+ y[t];", "invisible"),
        ("let z[t] = x[t] * y[t]^T;", "the transpose is `'`"),
        ("// a comment\nlet z[t] = x[t];", "comments start with `#`"),
        ("/* a comment */ let z[t] = x[t];", "comments start with `#`"),
        ("z[t] += x[t];", "write `update S[t] = S[t-1] + ...`"),
        ("param W = 128;", "`variant f(W = 128)`"),
        ("param W = 128, D = 3;", "`variant f(W = 128)`"),
        ("let z[t] = torch.log(x[t]);", "write `ln(x)`"),
        ("let z[t] = softmax(x[t], dim=-1);", "over its last axis"),
        ("let z[t] = x[t, :];", "the whole of it"),
        ("let z[t] = x[:, t];", "the whole of it"),
        ("let z[t] = x[t][0:4];", "cols("),
        ("let z[t] = \\exp(x[t]);", "plain names"),
        ("let z[t] = where(g[t] > 0, x[t], y[t]);", "if c then a else b"),
        ("let z[t] = x[t] if g[t] > 0 else y[t];", "if c then a else b"),
        ("let z[t] = x[t] .^ 2;", "element by element"),
        ("let z[t] = if g[t] <> 0 then 1 else 2;", "different is `!=`"),
        ("let z[t] = if g[t] =< 0 then 1 else 2;", "write `<=`"),
    ]
    .into_iter()
    .filter_map(|(body, wanted)| helped(body, wanted))
    .collect();
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn every_character_has_a_spelling() {
    let bodies = "·×⊙∘⊗÷≤≥≠−–—’′“”⊤²³∞√∑∏∈‖⟨⟩←→…∧∨¬%@?&|!~$`₁⁴";
    let missed: Vec<char> = bodies.chars().filter(|c| character(&c.to_string()).is_none()).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn shapes_that_broadcast_elsewhere_say_what_does_so_here() {
    let state = |update: &str| format!("state S : [K,V] = 0; update S[t] = {update};");
    let missed: Vec<String> = [
        (state("exp(k[t]) .* S[t-1] + k[t] * v[t]'"), "`diag(exp(k[t])) * S[t-1]`"),
        (state("S[t-1] .* v[t] + k[t] * v[t]'"), "`S[t-1] * diag(v[t])`"),
        (state("k[t] * S[t-1]"), "`diag(k[t]) * S[t-1]`"),
        (state("S[t-1] + k[t] .* v[t]"), "`k[t] * v[t]'`"),
        ("let z[t] = x[t] * v[t];".to_string(), "`x[t] * v[t]'` for the outer product"),
        ("let z[t] = x[t] * y[t];".to_string(), "`x[t]' * y[t]` for the dot product"),
    ]
    .into_iter()
    .filter_map(|(body, wanted)| helped(&body, wanted))
    .collect();
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn axes_that_are_called_or_meant_otherwise_are_told() {
    let missed: Vec<String> = [
        ("axes B, L, H, K; input q : [B,L,H,K]; state S : [K,K] = 0; update S additive(q, q); output o[t] = S[t]' * q[t];", "rename `L` to `T`"),
        ("axes B, time, H, K; input q : [B,time,H,K]; local where i - j < 3; output o[t] = q[t];", "rename `time` to `T`"),
        ("axes B, T, N, H, K; input q : [B,N,T,H,K]; state S : [K,K] = 0; update S additive(q, q); output o[t] = S[t]' * q[t];", "`batch N;`"),
        ("axes B, T, H, G, K; input q : [B,T,H,K], k : [B,T,G,K]; output o[i] = sum[j](q[i]' * k[j]);", "`H = G*R`"),
    ]
    .into_iter()
    .filter_map(|(body, wanted)| {
        let found = helps(&format!("variant f {{ {body} }}"));
        (!found.iter().any(|help| help.contains(wanted))).then(|| format!("{body}\n  wanted: {wanted}\n  found: {found:?}"))
    })
    .collect();
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

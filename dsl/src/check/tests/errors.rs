//! A line per diagnostic: what is written, and the codes that come back.

use super::{around, compile};
use crate::parse::PROGRAMS;
use crate::source::Source;

/// Statements inside the usual variant, and the codes of their errors in the order of the text.
const STATEMENTS: &[(&str, &[&str])] = &[
    ("output o[t] = qq[t];", &["undeclared-name"]),
    ("output o[t] = q[t] + k[j];", &["undeclared-name"]),
    ("output o[t] = later[t]; let later[t] = q[t];", &["undeclared-name"]),
    ("output o[t] = sigmod(q[t]);", &["unknown-function"]),
    ("output o[t] = summ[j](q[j]);", &["syntax"]),
    ("output o[t] = q(t);", &["unknown-function"]),
    ("output o[t] = exp(q[t], k[t]);", &["wrong-arity"]),
    ("output o[t] = rms(q[t], epsilon = 1);", &["unknown-argument"]),
    ("fn phi(x) = phi(x) + 1; output o[t] = phi(q[t]);", &["recursion"]),
    ("fn a(x) = b(x); fn b(x) = a(x); output o[t] = q[t];", &["recursion", "recursion"]),
    ("output o[t] = q[t] + v[t];", &["shape-mismatch"]),
    ("output o[t] = q[t] + k[t]';", &["shape-mismatch"]),
    ("output o[t] = u * v[t];", &["shape-mismatch"]),
    ("output o[t] = conv1d(q[t], w);", &["shape-mismatch"]),
    ("output o[t] = q[t] * k[t];", &["vector-times-vector"]),
    ("output o[t] = q[t] / k[t];", &["division-by-array"]),
    ("output o[t] = if q[t] > 0 then 1 else 0;", &["condition-not-scalar"]),
    ("output o[t] = if q[t] then 1 else 0;", &["condition-not-scalar"]),
    ("output o[t] = if t > 1 then q[t] else v[t];", &["shape-mismatch"]),
    ("output o[t] = q[q[t]];", &["not-a-scalar"]),
    ("output o[t] = g[t, t];", &["subscript-count"]),
    ("output o[t] = gamma[h] * q[t];", &["batch-axis-subscripted"]),
    ("output o[t] = q[t].y;", &["unknown-coordinate"]),
    ("output o[t] = t.y;", &["no-grid"]),
    ("output o[t] = t.z;", &["unknown-coordinate"]),
    ("output o[t] = u[t]' * q[t];", &["index-conflict"]),
    ("output o[t] = sum[z](q[z - t]);", &["unknown-index"]),
    ("output o[t] = softmax[j](q[t]' * k[t]);", &["index-not-bound"]),
    ("output o[t, t] = q[t];", &["left-subscript"]),
    ("output o[t+1] = q[t];", &["left-subscript"]),
    ("let a[t] = q[t];", &["no-output"]),
    ("output o[t] = q[t]; output o[t] = k[t];", &["duplicate-name"]),
    ("input q : [B,T,H,K]; output o[t] = q[t];", &["duplicate-name"]),
    ("axes W; output o[t] = q[t];", &["duplicate-name"]),
    ("axes K; output o[t] = q[t];", &["duplicate-name"]),
    ("let W = 3; output o[t] = q[t];", &["duplicate-name"]),
    ("input x : [B,T,Z]; output o[t] = x[t];", &["undeclared-name"]),
    ("input x : f16 [B,T]; output o[t] = x[t];", &["unknown-type"]),
    ("input x : [B,T,0.5]; output o[t] = x[t];", &["not-a-size"]),
    ("input x : [B,B]; output o[t] = q[t];", &["batch-axis-twice"]),
    ("input x : [B,T] = 0; output o[t] = q[t];", &["initial-value"]),
    ("batch T; output o[t] = q[t];", &["token-as-batch"]),
    ("axes P = P + 1; output o[t] = q[t];", &["axis-cycle"]),
    ("feature rely on q; output o[t] = q[t];", &["unknown-function"]),
    ("feature phi(x, y) = x + y on q; output o[t] = q[t];", &["wrong-arity"]),
    ("feature relu on h; output o[t] = q[t];", &["undeclared-name"]),
    ("feature relu on K; output o[t] = q[t];", &["feature-target"]),
    ("order sideways; output o[t] = q[t];", &["unknown-order"]),
    ("order raster; output o[t] = q[t];", &["no-grid"]),
    ("order causal; order full; output o[t] = q[t];", &["several-orders"]),
    ("order causal, reverse merge max; output o[t] = q[t];", &["unknown-merge"]),
    ("order causal(z = q), reverse; output o[t] = z[t];", &["order-binding"]),
    ("order causal(z = q), reverse(z = v); output o[t] = z[t];", &["shape-mismatch"]),
    ("order full(by = q); output o[t] = q[t];", &["shape-mismatch"]),
    ("local windo(3); output o[t] = q[t];", &["unknown-local"]),
    ("local block(0); output o[t] = q[t];", &["not-a-size"]),
    ("local block(3, 3); output o[t] = q[t];", &["no-grid"]),
    ("norm rms; output o[t] = q[t];", &["norm-without-read"]),
    ("read o[t] = q[t]; norm rmss; output o[t];", &["unknown-norm"]),
    ("read o[t] = q[t]; norm rms over V; output o[t];", &["norm-axis"]),
    ("read o[t] = q[t]; read p[t] = q[t]; output o[t];", &["several-reads"]),
    ("output o[t];", &["undeclared-name"]),
    ("let V2[s] = 2 * V2[s-2] for s in 1..3 from 1; output o[t] = q[t];", &["iteration-subscript"]),
    ("let V2[s] = 2 * V2[s-1] for s in 1..3 from 1; output o[t] = V2[3] * q[t];", &["subscript-count"]),
    ("let V2[t,s] = 2 * V2[t,s-1] for s in 1..3 from q[t]; output o[t] = q[t];", &["unsupported"]),
    ("output o[t] = sum[h in H](q[t]);", &["batch-axis-reduced"]),
    ("output o[t] = sum[b](q[t]);", &["batch-axis-reduced"]),
    ("let x[h] = 1; output o[t] = q[t];", &["batch-axis-subscripted"]),
    ("output o[t] = prod[n](u[n] * u[n]');", &["prod-of-matrices"]),
    ("order causal(by = q); output o[t] = q[t];", &["shape-mismatch"]),
    ("feature phi(x) = phi(x) + 1 on q; output o[t] = q[t];", &["recursion"]),
    ("let V2[s] = V2[s-1] for s in 1..3; output o[t] = q[t];", &["iteration-start"]),
    ("let V2[s] = q[0] for s in 1..3 from 1; output o[t] = q[t];", &["shape-mismatch"]),
    ("let V2[s] = 2 for s in 1..T from 1; output o[t] = q[t];", &["not-a-constant"]),
    ("output o[t] = q[t]; check sequ(1);", &["unknown-check"]),
    ("output o[t] = q[t]; check draw(g = logdecy);", &["unknown-draw"]),
    ("output o[t] = q[t]; check draw(gg = normal);", &["undeclared-name"]),
    ("output o[t] = q[t]; check forms(direct);", &["unknown-check"]),
    ("output o[t] = q[t]; check dims(Q = 3);", &["undeclared-name"]),
    (
        "output o[t] = a1[t]; output p[t] = q[t] * k[t]; output r[t] = expp(v[t]);",
        &["undeclared-name", "vector-times-vector", "unknown-function"],
    ),
    // One mistake does not cascade.
    ("let x[t] = missing[t]; let y[t] = x[t] * 2; output o[t] = y[t] + x[t];", &["undeclared-name"]),
];

/// Statements around a state.
const STATES: &[(&str, &[&str])] = &[
    ("update S aditive(k, v); output o[t] = S[t]' * q[t];", &["unknown-law"]),
    ("update S additive(k); output o[t] = S[t]' * q[t];", &["wrong-arity"]),
    ("update S additive(v, k); output o[t] = S[t]' * q[t];", &["shape-mismatch", "shape-mismatch"]),
    ("update S additive(k[t], v); output o[t] = S[t]' * q[t];", &["law-argument"]),
    ("update S additive(2 * k, v); output o[t] = S[t]' * q[t];", &["law-argument"]),
    ("update S gated(v); output o[t] = S[t]' * q[t];", &["gated-without-decay"]),
    ("decay a[t] = exp(g[t]); update S gated(v); output o[t] = S[t]' * q[t];", &["decay-shape"]),
    ("decay a[t] = v[t]; update S additive(k, v); output o[t] = S[t]' * q[t];", &["decay-shape"]),
    ("decay a = g; update S additive(k, v); output o[t] = S[t]' * q[t];", &["decay-shape"]),
    (
        "decay a[t] = exp(g[t]); decay b[t] = 1; update S additive(k, v); output o[t] = S[t]' * q[t];",
        &["several-decays"],
    ),
    ("update S additive(k, v); decay a[t] = exp(g[t]) on S; output o[t] = S[t]' * q[t];", &["decay-after-law"]),
    ("decay a[t] = exp(g[t]) on Q; update S additive(k, v); output o[t] = S[t]' * q[t];", &["undeclared-name"]),
    ("output o[t] = S[t]' * q[t]; update S additive(k, v);", &["state-read-before-update"]),
    (
        "update S additive(k, v); let z[t] = S[t]' * q[t]; update S additive(k, v); output o[t] = z[t];",
        &["state-read-before-update"],
    ),
    ("update S additive(k, v); output o[t] = S[t+1]' * q[t];", &["state-subscript"]),
    ("update S additive(k, v); output o[t] = S' * q[t];", &["state-subscript"]),
    ("update S additive(k, v); output o[t] = sum[j](S[j]' * q[t]);", &["state-subscript"]),
    ("update S additive(k, v); let x[t] = S[t]' * q[t]; output o[t] = x[t-1];", &["scan-let-subscript"]),
    ("update S additive(k, v); let x[t] = S[t]' * q[t]; output o = x;", &["scan-let-subscript"]),
    ("update S[t] = S[t-1] + k[t] * v[t]'; update S[t] = S[t-1]; output o[t] = q[t];", &["several-recurrences"]),
    ("update S[t] = S[t-1] + k[t] * v[t]'; update S additive(k, v); output o[t] = q[t];", &["law-after-recurrence"]),
    ("update S additive(k, v); update S[t] = S[t-1]; output o[t] = q[t];", &["recurrence-after-law"]),
    ("update S[t] = S[t-1] + v[t] * k[t]'; output o[t] = q[t];", &["shape-mismatch"]),
    ("update S[t] = v[t] * k[t]'; output o[t] = q[t];", &["shape-mismatch"]),
    ("update q[t] = k[t]; update S additive(k, v); output o[t] = S[t]' * q[t];", &["not-a-state"]),
    ("output o[t] = S[t-1]' * q[t];", &["state-without-update"]),
    ("order full; update S additive(k, v); output o[t] = S[t]' * q[t];", &["full-with-state"]),
    ("local window(4); update S delta(k, v, beta); output o[t] = S[t]' * q[t];", &["window-with-state"]),
    ("local window(4, 2); update S additive(k, v); output o[t] = S[t]' * q[t];", &["local-with-state"]),
    ("local where j > 3; update S additive(k, v); output o[t] = S[t]' * q[t];", &["local-with-state"]),
    (
        "state c : [] = 1; local window(4); update S additive(k, v); update c[t] = c[t-1] + 1; output o[t] = S[t]' * q[t];",
        &["window-with-state"],
    ),
    ("update S additive(k, v); read o[t] = S[t]' * q[t]; output y[t] = S[t]' * k[t];", &["state-outside-read"]),
    (
        "state z : [K] = 0; update S additive(k, v); read o[t] = S[t]' * q[t]; update z[t] = z[t-1] + sum(o[t]) * k[t]; output o[t];",
        &["read-in-scan"],
    ),
    ("update S additive(k, v); output S[t] = q[t];", &["duplicate-name"]),
    (
        "state S2 : [H,K] = 0; update S2 additive(k); update S additive(k, v); output o[t] = q[t];",
        &["state-batch-axis"],
    ),
    ("state S2 : [K,V,K] = 0; update S2 additive(k); update S additive(k, v); output o[t] = q[t];", &["state-rank"]),
    ("state z : [K] = q; update z additive(k); update S additive(k, v); output o[t] = q[t];", &["initial-value"]),
    ("state z : [V] = w; update z additive(v); update S additive(k, v); output o[t] = q[t];", &["shape-mismatch"]),
];

/// Whole files.
const FILES: &[(&str, &[&str])] = &[
    ("variant f(W) { axes T; input x : [T]; output o[t] = W * x[t]; }", &["missing-arg"]),
    ("variant f { axes K; input x : [K]; state z : [K] = 0; update z additive(x); output o = x; }", &["no-token-axis"]),
    (
        "variant a { axes T; input x : [T]; output o[t] = x[t]; } variant b { axes T; input x : [T]; output o[t] = a(x); }",
        &["misplaced"],
    ),
    (
        "variant b { axes T; input x : [T]; let y = a(x = x); output y; } variant a { axes T; input x : [T]; output o[t] = x[t]; }",
        &["undeclared-name"],
    ),
    ("variant a { axes T; input x : [T]; let y = a(x = x); output y; }", &["recursion"]),
    (
        "variant a { axes T, K; input q, k : [T,K]; output o[t] = q[t] + k[t]; }
         variant b { axes T, K, V; input x : [T,K], y : [T,V], z : [T];
         let p = a(x, k = x); let r = a(q = x); let s = a(q = z, k = x); let u = a(q = x, k = y); let w = a(q = x, k = x, m = y);
         let (c, d) = a(q = x, k = x); let e[t] = a(q = x, k = x); output o = x; }",
        &[
            "call-argument",
            "call-argument",
            "call-argument",
            "call-axis",
            "unknown-argument",
            "wrong-arity",
            "left-subscript",
        ],
    ),
    (
        "variant a { axes T; input x : [T]; output o[t] = x[t]; }
         variant b { axes T; input x : [T]; state z : [] = 0; update z[t] = z[t-1] + x[t]; read y[t] = 2 * z[t]; let w = a(x = y); output o = w; }",
        &["call-scan"],
    ),
    (
        "variant a { axes T; input x : [T]; order reverse; state z : [] = 0; update z[t] = z[t-1] + x[t]; output o[t] = z[t]; }
         variant b { axes T; input x : [T]; let y = a(x = x, z = 1); output o = y; }",
        &["call-argument"],
    ),
    (
        "variant a { axes T = Y*X; input x : [T]; output o[t] = x[t]; }
         variant b { axes T; input x : [T]; let y = a(x = x); output o = y; }",
        &["call-axis"],
    ),
    ("variant a { axes T; input x : [T]; output o[t] = x[t]; } stack s { repeat 0 - 1 { a; } }", &["not-a-size"]),
    (
        "variant a { axes T; input x : [T]; output o[t] = x[t]; } variant a { axes T; input x : [T]; output o[t] = x[t]; }",
        &["duplicate-name"],
    ),
    ("variant a { axes T; input x : [T]; output o[t] = x[t]; } stack s { b; }", &["undeclared-name"]),
    ("variant a { axes T; input x : [T]; output o[t] = x[t]; } stack s { a(W = 3); }", &["unknown-argument"]),
    (
        "fn f(x) = g(x); fn g(x) = f(x); variant a { axes T; input x : [T]; output o[t] = f(x[t]); }",
        &["recursion", "recursion"],
    ),
];

fn wrong(text: &str, codes: &[&str]) -> Option<String> {
    let found: Vec<&str> = match compile(text) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            let found: Vec<&str> = errors.iter().map(|(code, _)| *code).collect();
            if found == codes {
                return None;
            }
            return Some(format!("{text}\n  wanted {codes:?}\n  found {errors:?}"));
        }
    };
    (found != codes).then(|| format!("{text}\n  wanted {codes:?}, but it checks"))
}

#[test]
fn every_mistake_has_its_code() {
    let state = "state S : [K,V] = 0;";
    let statements = STATEMENTS.iter().map(|(body, codes)| (around(body), *codes));
    let states = STATES.iter().map(|(body, codes)| (around(&format!("{state} {body}")), *codes));
    let files = FILES.iter().map(|(text, codes)| ((*text).to_string(), *codes));
    let failures: Vec<String> =
        statements.chain(states).chain(files).filter_map(|(text, codes)| wrong(&text, codes)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_argument_names_a_parameter() {
    let source = crate::source::Source::new("t", around("output o[t] = q[t];"));
    let errors = crate::compile(&source, &[("w".into(), 3.0)]).expect_err("`w` is no parameter");
    assert_eq!((errors[0].code, errors[0].help.as_deref()), ("unknown-arg", Some("did you mean `W`?")));
    assert!(crate::compile(&source, &[("W".into(), 3.0)]).is_ok());
}

#[test]
fn messages_say_both_shapes_and_the_mend() {
    let text = around("output o[t] = q[t] + v[t];");
    let errors = compile(&text).expect_err("the shapes differ");
    assert!(errors[0].1.contains("[K]") && errors[0].1.contains("[V]"), "{errors:?}");
    let source = crate::source::Source::new("t", around("output o[t] = betta[t] * q[t];"));
    let errors = crate::compile(&source, &[]).expect_err("`betta` is not declared");
    assert_eq!(errors[0].help.as_deref(), Some("did you mean `beta`?"));
}

#[test]
fn errors_of_the_syntax_hide_no_others() {
    let text = around("let a = 1 +; output b[t] = nowhere[t]; output c[t] = q[t] * q[t]; output o[t] = a * q[t];");
    assert_eq!(codes(&text), ["syntax", "undeclared-name", "vector-times-vector"]);
    let items =
        "fn f(x) = x +; variant g { axes T; input x : [T]; output o[t] = f(x[t]) + y[t]; } stack s { missing; }";
    assert_eq!(codes(items), ["syntax", "undeclared-name"]);
}

#[test]
fn nothing_follows_from_a_broken_statement() {
    let mut followed = Vec::new();
    for program in PROGRAMS.iter().filter(|program| codes(program).is_empty()) {
        let ends = program.match_indices(';').map(|(at, _)| at);
        let in_comment = |at: usize| program[..at].rsplit('\n').next().is_some_and(|line| line.contains('#'));
        for at in ends.filter(|at| !in_comment(*at)) {
            let broken = format!("{} ]{}", &program[..at], &program[at..]);
            let found = codes(&broken);
            if found.len() != 1 {
                let line = broken[..at].rsplit('\n').next().unwrap_or_default();
                followed.push(format!("{found:?} from {line}"));
            }
        }
    }
    assert!(followed.is_empty(), "{followed:#?}");
}

/// The codes of a whole file's errors.
fn codes(text: &str) -> Vec<&'static str> {
    let found = crate::compile(&Source::new("test.attn", text), &[]);
    found.err().into_iter().flatten().map(|error| error.code).collect()
}

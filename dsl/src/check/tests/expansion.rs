//! Functions in great number: what expansion costs, and where it ends.

use std::time::{Duration, Instant};

use super::{around, compile};

/// `f0` to `f(n-1)`, each made of the one before.
fn functions(n: usize, body: impl Fn(String) -> String) -> String {
    let later = (1..n).map(|at| format!("fn f{at}(x) = {};\n", body(format!("f{}(x)", at - 1))));
    std::iter::once("fn f0(x) = x + 1;\n".to_string()).chain(later).collect()
}

/// A file whose state, update and result use the last function.
fn program(n: usize, body: impl Fn(String) -> String) -> String {
    let uses = format!("state S : [K,V] = 0; update S additive(k, v); output o[t] = f{}(S[t]' * q[t]);", n - 1);
    functions(n, body) + &around(&uses)
}

/// Far above what linear work takes without optimisation beside other builds, far below what is quadratic or worse.
const BOUND: Duration = Duration::from_secs(20);

#[track_caller]
fn in_time<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    done
}

#[test]
fn a_chain_costs_its_length() {
    let text = program(1_600, |below| format!("{below} + 1"));
    let program = in_time(|| compile(&text)).expect("the chain checks");
    assert!(program.variants[0].exprs.len() < 2_000);
}

#[test]
fn a_doubling_is_shared_up_to_a_bound() {
    let text = |n| program(n, |below| format!("{below} + {below}"));
    let program = in_time(|| compile(&text(14))).expect("a small doubling checks");
    assert!(program.variants[0].exprs.len() < 100);
    let errors = in_time(|| compile(&text(30))).expect_err("a large one is none");
    assert_eq!(errors.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["expansion-too-large"]);
}

#[test]
fn what_cannot_be_shared_or_is_too_deep_is_an_error() {
    let twice = (1..40).fold("fn g0(x, y) = x * y;\n".to_string(), |text, n| {
        let below = n - 1;
        text + &format!("fn g{n}(x, y) = g{below}(x + y, 2 * y) + g{below}(x - y, 3 * y);\n")
    });
    let text = twice + &around("output o[t] = g39(g[t], 1);");
    let errors = in_time(|| compile(&text)).expect_err("it is too large");
    assert_eq!(errors.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["expansion-too-large"]);
    let text = program(20_000, |below| format!("{below} + 1"));
    let errors = in_time(|| compile(&text)).expect_err("it is too deep");
    assert_eq!(errors[0].0, "expansion-too-large");
}

#[test]
fn a_chain_of_lets_has_no_bound() {
    let lets: String = (1..2_000).map(|n| format!("let x{n}[t] = x{0}[t] + x{0}[t];\n", n - 1)).collect();
    let text = around(&format!("let x0[t] = q[t]; {lets} output o[t] = x1999[t];"));
    assert!(in_time(|| compile(&text)).is_ok());
}

#[test]
fn a_shared_expansion_means_what_its_place_does() {
    // The body mentions a name that is shadowed between the uses, and an index of the place it is used in.
    let text = around(
        "fn scaled(x) = gain * x; let gain = 2; let a[t] = scaled(q[t]); let gain = 3; let b[t] = scaled(q[t]);
         fn at(x) = x[t]; output o[t] = a[t] + b[t] + at(q); output p[i] = sum[t](at(q));",
    );
    let program = compile(&text).expect("it checks");
    let typed = crate::print_typed::typed(&program.variants[0]);
    assert_eq!(program.variants[0].lets.iter().filter(|found| found.name == "gain").count(), 2);
    let uses = program.variants[0]
        .exprs
        .iter()
        .filter(|expr| matches!(&expr.kind, crate::typed::ExprKind::Map { function, .. } if function.name() == ".*"));
    assert_eq!(uses.count(), 2, "{typed}");
}

#[test]
fn thousands_of_errors_are_found_in_linear_time() {
    let unknown: String = (0..8_000).map(|n| format!("let e{n}[t] = nope{n}[t];\n")).collect();
    let errors =
        in_time(|| compile(&around(&format!("{unknown} output o[t] = q[t];")))).expect_err("names are missing");
    assert_eq!(errors.len(), 8_000);
    let broken: String = (0..8_000).map(|n| format!("let e{n}[t] = q[t] +;\n")).collect();
    let errors =
        in_time(|| compile(&around(&format!("{broken} output o[t] = q[t];")))).expect_err("operands are missing");
    assert_eq!(errors.len(), 8_000);
}

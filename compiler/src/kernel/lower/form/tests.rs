//! Every form of every transition class, run by the kernel interpreter in f64, against the reference: what differs here is
//! algebra, not rounding.

use chunkwise_dsl::typed::Variant;

use crate::{
    Form, Schedule, Tiles,
    ir::{Feat, Term},
    plan::Op,
};

use super::super::tests::{agree_at, agree_spoilt, variant};

const DIMS: [(&str, usize); 4] = [("B", 1), ("H", 2), ("K", 3), ("V", 4)];

/// `body` over q, k, w : [K], v, y : [V], a, b in (0, 1) scalar, d in (0, 1) by channel.
fn agree(body: &str) {
    let text = format!(
        "variant f {{ axes B, T, H, K, V; \
         input q, k, w, d0 : [B,T,H,K], v, y : [B,H,T,V], a0, b0 : [B,T,H]; \
         let a[t] = sigmoid(2 * a0[t]); let b[t] = sigmoid(b0[t]); let d[t] = sigmoid(2 * d0[t]); {body} }}"
    );
    let variant = variant(&text);
    for form in Form::ALL {
        for (tokens, chunk) in [(0, 4), (1, 4), (9, 1), (9, 4), (21, 5), (40, 40)] {
            let chunk = if form == Form::Parallel { tokens.max(1) } else { chunk };
            for tiles in [Tiles::Whole, Tiles::Split] {
                let dims: Vec<(&str, usize)> = DIMS.into_iter().chain([("T", tokens)]).collect();
                agree_at(&variant, &dims, chunk, &|variant, sizes| {
                    crate::compile(variant, sizes, (form, Schedule::Fused), tiles)
                });
                if form == Form::Chunked && !text.contains("local window") {
                    agree_at(&variant, &dims, chunk, &|variant, sizes| {
                        crate::compile(variant, sizes, (form, Schedule::Split), tiles)
                    });
                }
            }
        }
    }
}

const READ: &str = "output o[t] = S[t]' * q[t];";
const READ1: &str = "output r[t] = S[t]' * q[t];";

fn updates(updates: &str) {
    agree(&format!("state S : [K,V] = 0; {updates} {READ}"));
}

#[test]
fn decays_of_every_shape() {
    updates("update S additive(k, v);");
    updates("decay e[t] = a[t]; update S additive(k, v);");
    updates("decay e[t] = d[t]; update S additive(k, v);");
    updates("decay e = 0.5; update S gated(k, v);");
    updates("decay e[t] = if a[t] < 0.5 then 0 else a[t]; update S additive(k, v);");
}

/// In two parts near 1, and whole where they are strong: `a` lies on both sides of the bound.
#[test]
fn exponentials_of_every_shape() {
    updates("decay e[t] = exp(-a[t]); update S additive(k, v);");
    updates("decay e[t] = exp(-d[t]); update S additive(k, v);");
    updates("decay e[t] = exp(-d[t]); update S gated(v);");
    updates("decay e[t] = exp(-d[t]); update S delta(k, v, b);");
    updates("decay e[t] = 0.9 * exp(-d[t]) * exp(-a[t]); update S additive(k, v);");
    updates("decay e[t] = exp(-a[t]) ^ 0.5; update S additive(k, v);");
    updates("decay e[t] = if a[t] < 0.3 then 0 else if a[t] < 0.5 then 1 else exp(-a[t]); update S additive(k, v);");
    updates("update S[t] = (if b[t] < 0.5 then exp(-a[t]) else 0.5) * S[t-1] + k[t] * v[t]';");
    updates("update S[t] = diag(exp(-d[t])) * S[t-1] * diag(exp(-sigmoid(y[t]))) + k[t] * v[t]';");
    updates("update S[t] = S[t-1] * diag(exp(-sigmoid(y[t]))) + k[t] * v[t]';");
    agree(&format!("state S : [K,V]; decay e[t] = exp(-a[t]); update S additive(k, v); {READ}"));
    agree(&format!("local block(5); state S : [K,V] = 0; decay e[t] = exp(-d[t]); update S additive(k, v); {READ}"));
}

#[test]
fn rank_one_beside_every_decay() {
    updates("update S delta(k, v, b);");
    updates("decay e[t] = a[t]; update S delta(k, v, b);");
    updates("decay e[t] = d[t]; update S delta(k, v, b);");
    updates("decay e[t] = a[t]; update S delta(k, v, y);");
    updates("update S[t] = diag(d[t]) * S[t-1] + b[t] * k[t] * (w[t]' * S[t-1]) + q[t] * v[t]';");
    updates("update S[t] = a[t] * S[t-1] + k[t] * (b[t] * (v[t] - a[t] * S[t-1]' * w[t]))';");
}

#[test]
fn higher_ranks_and_products() {
    updates("update S delta(k, v, b); update S delta(w, y, a);");
    updates("decay e[t] = d[t]; update S delta(k, v, b); update S delta(w, y, a); update S delta(q, v, b);");
    updates(
        "update S[t] = (eye(K) - b[t] * k[t] * k[t]') * diag(d[t]) * (eye(K) - a[t] * w[t] * w[t]') * S[t-1] + k[t] * v[t]';",
    );
}

#[test]
fn transitions_from_the_right() {
    updates("update S[t] = S[t-1] * (eye(V) - b[t] * y[t] * y[t]') + k[t] * v[t]';");
    updates("update S[t] = S[t-1] * diag(sigmoid(y[t])) + k[t] * v[t]';");
}

#[test]
fn diagonals_of_both_sides() {
    let reads = format!("{READ} output r[t] = S[t] * y[t]; output p[t] = S[t-1]' * w[t]; output s[t] = S[t-1] * v[t];");
    let both = |update: &str| agree(&format!("state S : [K,V] = 0; let e[t] = sigmoid(2 * y[t]); {update} {reads}"));
    both("update S[t] = diag(d[t]) * S[t-1] * diag(e[t]) + k[t] * v[t]';");
    both("update S[t] = a[t] * (S[t-1] .* (d[t] * e[t]')) + k[t] * v[t]' + w[t] * y[t]';");
    both("update S[t] = (eye(K) - b[t] * k[t] * k[t]') * S[t-1] * diag(e[t]) + k[t] * v[t]';");
    both("update S[t] = diag(d[t]) * S[t-1] * (eye(V) - b[t] * e[t] * e[t]') + k[t] * v[t]';");
    both(
        "update S[t] = (eye(K) - b[t] * k[t] * k[t]') * diag(d[t]) * (eye(K) - a[t] * w[t] * w[t]') * S[t-1] * \
         diag(e[t]) + k[t] * v[t]' + q[t] * y[t]';",
    );
    both("update S[t] = S[t-1] * (eye(V) - diag(e[t])) + b[t] * k[t] * (v[t] - S[t-1]' * k[t])';");
    both("update S[t] = diag(d[t]) * S[t-1] * diag(if a[t] < 0.5 then 0 * e[t] else e[t]) + k[t] * v[t]';");
}

#[test]
fn diagonals_of_both_sides_by_column_tile_block_and_window() {
    let gate = "let e[t] = sigmoid(2 * y[t]); state S : [K,V] = 0; decay g[t] = d[t] * e[t]';";
    agree(&format!("{gate} update S additive(k, v); {READ}"));
    agree(&format!("{gate} update S delta(k, v, b); update S delta(w, y, a); {READ}"));
    agree(&format!("local block(5); {gate} update S delta(k, v, b); {READ} output p[t] = S[t-1]' * w[t];"));
    agree(&format!("local window(3); {gate} update S additive(k, v); {READ}"));
    agree(
        "state S : [V,K] = 0; let e[t] = sigmoid(2 * y[t]); \
         update S[t] = diag(e[t]) * S[t-1] * (eye(K) - b[t] * k[t] * k[t]') + v[t] * k[t]'; \
         output o[t] = S[t] * q[t]; output r[t] = S[t-1]' * y[t];",
    );
}

#[test]
fn reads_early_late_and_from_the_right() {
    let state = "state S : [K,V] = 0; decay e[t] = d[t]; update S additive(k, v);";
    agree(&format!("{state} output o[t] = (S[t-1] + (w[t] .* k[t]) * v[t]')' * q[t];"));
    agree(&format!("{state} output o[t] = S[t] * y[t]; output p[t] = S[t-1] * v[t];"));
    agree(&format!("{state} output o[t] = tanh(S[t]' * q[t]) / (1 + norm2(S[t-1]' * w[t]));"));
    agree("state S : [K,V] = 0; update S delta(k, v, b); output o[t] = S[t] * y[t]; output p[t] = S[t-1]' * q[t];");
    agree(
        "state S : [K,V] = 0; decay e[t] = d[t]; update S delta(k, v, b); update S delta(w, y, a); \
         output o[t] = S[t] * y[t]; output p[t] = S[t-1] * v[t];",
    );
}

#[test]
fn several_states() {
    agree(
        "state S : [K,V] = 0, z : [K] = 0, c : [] = 0; decay e[t] = a[t]; \
         update S additive(k, v); update z additive(k); update c[t] = a[t] * c[t-1] + b[t]; \
         output o[t] = S[t]' * q[t] / (2 + abs(z[t]' * q[t]) + c[t]);",
    );
    agree(
        "state S : [K,V] = 0, R : [K,V] = 0; update S delta(k, v, b); \
         update R[t] = diag(d[t]) * R[t-1] + w[t] * tanh(S[t]' * k[t])'; output o[t] = R[t]' * q[t];",
    );
    agree("state z : [K] = 0; decay e[t] = d[t]; update z gated(k); output o[t] = z[t] .* q[t];");
}

#[test]
fn locality() {
    for update in ["decay e[t] = a[t]; update S additive(k, v);", "decay e[t] = d[t]; update S gated(k, v);"] {
        agree(&format!("local window(3); state S : [K,V] = 0; {update} {READ}"));
        agree(&format!("local window(64); state S : [K,V] = 0; {update} {READ}"));
        agree(&format!("local block(4); state S : [K,V] = 0; {update} {READ}"));
    }
    agree(&format!("local block(5); state S : [K,V] = 0; decay e[t] = d[t]; update S delta(k, v, b); {READ}"));
    agree(
        "local block(3); state S : [K,V] = 0; update S[t] = diag(d[t]) * S[t-1] + k[t] * (w[t]' * S[t-1]) + k[t] * v[t]'; \
         output o[t] = S[t-1]' * q[t];",
    );
}

/// Features of which dot products are made of those of their parts, and how long they are.
const FEATURES: [(&str, &str); 4] = [
    ("flatten(x * x')", "K*K"),
    ("flatten(-x * x' / 3)", "K*K"),
    ("flatten(flatten(x * x') * x') * 2", "K*K*K"),
    ("stack(1, x / 2, flatten(x * x') / sqrt(2 * K))", "1+K+K*K"),
];

#[test]
fn features_by_their_parts() {
    for (feature, size) in FEATURES {
        let states = format!("feature phi(x) = {feature} on q, k; state S : [{size},V] = 0, z : [{size}] = 0;");
        let laws = "update S additive(k, v); update z additive(k);";
        agree(&format!("{states} {laws} output o[t] = S[t]' * q[t] / (9 + z[t]' * q[t]);"));
        agree(&format!("{states} decay e[t] = a[t]; {laws} {READ} output p[t] = S[t-1]' * q[t] / (9 + z[t]' * q[t]);"));
        agree(&format!("local window(3); {states} {laws} {READ}"));
    }
    agree(
        "feature phi(x) = flatten(x * x') on q, k; state S : [K*K,V] = 0; update S delta(k, v, b); output o[t] = S[t]' * q[t];",
    );
    agree(
        "let f[t] = flatten(q[t] * v[t]'); let g[t] = b[t] * flatten(k[t] * y[t]'); \
         state S : [K*V,V] = 0; update S additive(g, y); output o[t] = S[t]' * f[t];",
    );
    // Divided in two ways: taken as they come.
    agree(
        "let f[t] = flatten(q[t] * v[t]'); let g[t] = flatten(v[t] * k[t]'); \
         state S : [K*V,V] = 0; update S additive(g, y); output o[t] = S[t]' * f[t];",
    );
}

#[test]
fn no_score_sums_over_all_features() {
    for (feature, size) in FEATURES {
        let variant = variant(&format!(
            "variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; feature phi(x) = {feature} on q, k; \
             state S : [{size},V] = 0; update S additive(k, v); {READ} }}"
        ));
        for form in [Form::Chunked, Form::Parallel] {
            let plan = crate::Derivation::of(&variant).plan((form, Schedule::Fused)).unwrap();
            let mut scores = 0;
            for node in plan.graph.node_weights() {
                if let Op::Term(Term::Pairs(_)) = node.op {
                    scores += 1;
                    let Op::Leaf(leaf, _) = &plan.graph[node.operands[0]].op else { panic!("scores of no leaf") };
                    assert_eq!(leaf.feat, Feat::F, "{feature}: scores of {leaf}");
                }
            }
            assert!(scores > 0, "{feature}");
        }
    }
}

/// What is not finite stays in its block and in the windows that reach it.
fn isolates(body: &str) {
    let text = format!(
        "variant f {{ axes B, T, H, K, V; input q, k, w : [B,T,H,K], v, y : [B,T,H,V], a0 : [B,T,H], d0 : [B,T,H,K]; \
         let a[t] = sigmoid(2 * a0[t]); let b[t] = sigmoid(a0[t]); let d[t] = sigmoid(2 * d0[t]); \
         {body} {READ} output p[t] = S[t-1]' * w[t]; }}"
    );
    let variant = variant(&text);
    let dims = [("B", 1), ("H", 2), ("K", 3), ("V", 4), ("T", 23)];
    for (name, at, value) in [("v", 4, f64::NAN), ("k", 7, f64::INFINITY), ("q", 0, f64::NAN), ("a0", 16, f64::NAN)] {
        let spoil = |inputs: &mut std::collections::BTreeMap<String, crate::reference::Array>| {
            let array = inputs.get_mut(name).unwrap();
            let inner: usize = array.shape[2..].iter().product();
            array.data[at * inner..(at + 1) * inner].fill(value);
        };
        for (form, schedule, chunk) in [
            (Form::Recurrent, Schedule::Fused, 4),
            (Form::Chunked, Schedule::Fused, 2),
            (Form::Chunked, Schedule::Fused, 8),
            (Form::Chunked, Schedule::Split, 2),
            (Form::Chunked, Schedule::Split, 4),
            (Form::Parallel, Schedule::Fused, 23),
        ] {
            let window = text.contains("local window");
            if window && (schedule == Schedule::Split || form == Form::Recurrent) {
                continue;
            }
            let lower = |variant: &Variant, sizes: &crate::bind::Sizes| {
                crate::compile(variant, sizes, (form, schedule), Tiles::Whole)
            };
            agree_spoilt(&variant, &dims, chunk, (&lower, &spoil));
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_block() {
    let state = "state S : [K,V] = 0;";
    for local in ["local block(5);", "local block(4);", "local block(1);", "local window(3);"] {
        isolates(&format!("{local} {state} update S additive(k, v);"));
        isolates(&format!("{local} {state} decay e[t] = a[t]; update S additive(k, v);"));
        isolates(&format!("{local} {state} decay e[t] = d[t]; update S gated(k, v);"));
    }
    for local in ["local block(5);", "local block(3);"] {
        isolates(&format!("{local} {state} decay e[t] = a[t]; update S delta(k, v, b);"));
        isolates(&format!("{local} {state} decay e[t] = d[t]; update S delta(k, v, b); update S delta(w, y, a);"));
        isolates(&format!("{local} {state} update S[t] = diag(d[t]) * S[t-1] * diag(sigmoid(y[t])) + k[t] * v[t]';"));
        isolates(&format!("{local} state S : [K,V] = 0.5; decay e[t] = a[t]; update S delta(k, v, y);"));
    }
}

#[test]
fn blocks_begin_anew_at_every_chunk_length() {
    for local in ["local block(1);", "local block(5);", "local block(8);", "local block(64);"] {
        agree(&format!("{local} state S : [K,V] = 0.5; decay e[t] = d[t]; update S delta(k, v, b); {READ}"));
        agree(&format!("{local} state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t-1]; {READ1}"));
        agree(&format!(
            "{local} state z : [K] = 0; decay e[t] = a[t]; update z additive(k); output o[t] = z[t] .* q[t];"
        ));
    }
}

/// The examples that have a chunked form, by name, at small sizes.
fn examples() -> Vec<(String, Variant)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<(String, Variant)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "attn"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .map(|(name, text)| (name, variant(&text)))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn every_example_in_every_schedule() {
    let mut split = 0;
    for (name, variant) in examples() {
        for schedule in Schedule::ALL {
            for tiles in [Tiles::Whole, Tiles::Split] {
                for (tokens, chunk) in [(0, 4), (1, 4), (13, 5), (40, 16)] {
                    let own = [("B", 1), ("H", 2), ("K", 4), ("V", 6), ("T", tokens)];
                    let has = |name: &str| variant.axes.iter().any(|axis| axis.name == name);
                    let mut dims: Vec<(&str, usize)> = own.into_iter().filter(|(name, _)| has(name)).collect();
                    let others = variant.axes.iter().filter(|axis| axis.value.is_none());
                    let missing = others.filter(|axis| own.iter().all(|(name, _)| *name != axis.name));
                    dims.extend(missing.map(|axis| (axis.name.as_str(), 3)));
                    let owned: Vec<(String, usize)> = dims.iter().map(|(name, n)| (name.to_string(), *n)).collect();
                    let Ok(sizes) = crate::bind::bind_dims(&variant, &owned) else { continue };
                    if crate::compile(&variant, &sizes, (Form::Chunked, schedule), tiles).is_err() {
                        continue;
                    }
                    split += usize::from(schedule == Schedule::Split);
                    println!("{name} {dims:?} {tiles:?}");
                    agree_at(&variant, &dims, chunk, &|variant, sizes| {
                        crate::compile(variant, sizes, (Form::Chunked, schedule), tiles)
                    });
                }
            }
        }
    }
    assert!(split >= 100, "{split} runs of split examples");
}

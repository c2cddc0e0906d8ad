//! Derivations of programs hold, term by term, and say why where there is none.

use chunkwise_dsl::{compile, source::Source};

use super::*;

fn variant(body: &str) -> Variant {
    let text = format!(
        "variant case {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H], d : [B,T,H,K]; order causal; {body} }}"
    );
    let source = Source::new("case.attn", text.as_str());
    compile(&source, &[]).unwrap_or_else(|errors| panic!("{errors:?}")).variants.remove(0)
}

const PROGRAMS: [&str; 11] = [
    "state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; decay a[t] = exp(g[t]); update S delta(k, v, beta); output o[t] = S[t]' * q[t] / sqrt(K);",
    "state S : [K,V] = 0; decay a[t] = exp(d[t]); update S delta(k, v, beta); output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; update S[t] = diag(exp(d[t])) * S[t-1] + k[t] * (q[t]' * S[t-1]) + k[t] * v[t]'; output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; state z : [K] = 0; decay a[t] = exp(g[t]); update S additive(k, v); update z[t] = a[t] * z[t-1] + k[t]; output o[t] = S[t]' * q[t] / (z[t]' * q[t]);",
    "state S : [V,K] = 0; update S[t] = S[t-1] * (eye(K) - beta[t] * k[t] * k[t]') + beta[t] * v[t] * k[t]'; output o[t] = S[t] * q[t];",
    "state S : [K,V] = 0; decay a = 0.9; update S additive(k, v); output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; update S[t] = 0.5 * S[t-1] + k[t] * v[t]'; output o[t] = S[t-1]' * q[t];",
    "state S : [K,V] = 0; update S[t] = S[t-1]; output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; decay a = 0.5; update S delta(k, v, beta); output o[t] = S[t]' * q[t];",
    "state S : [K,V] = 0; update S[t] = k[t] * v[t]'; output o[t] = S[t]' * q[t];",
];

#[test]
fn every_step_of_every_form_holds() {
    for body in PROGRAMS {
        let variant = variant(body);
        for form in Form::ALL {
            let told = explain(&variant, form, true).unwrap_or_else(|refusal| panic!("{body}: {refusal}"));
            assert!(told.worst <= BOUND, "{body}, {form:?}: off by {}\n{told}", told.worst);
            assert!(told.steps > 0, "{body}, {form:?}: no step");
        }
    }
}

#[test]
fn a_form_that_is_lacking_says_why() {
    let variant =
        variant("state S : [K,V] = 0; update S[t] = tanh(S[t-1]) + k[t] * v[t]'; output o[t] = S[t]' * q[t];");
    assert!(explain(&variant, Form::Chunked, false).is_err_and(|refusal| refusal.reason.contains("linear")));
    let recurrent = explain(&variant, Form::Recurrent, true).map(|told| told.to_string());
    assert!(recurrent.is_ok_and(|text| text.contains("token by token")));
}

#[test]
fn the_derivation_names_its_rules_and_facts() {
    let told =
        explain(&variant(PROGRAMS[1]), Form::Chunked, false).expect("a delta rule has a chunked form").to_string();
    for part in ["recurrence-is-scan", "strict-system-is-solved", "strictly lower triangular", "the promise on decays"]
    {
        assert!(told.contains(part), "{part} is not told:\n{told}");
    }
}

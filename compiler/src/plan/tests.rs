//! Spellings of one recurrence, from source to the chosen form; forms that do not exist and why.

use chunkwise_dsl::{source::Source, typed::Program};

use super::*;
use crate::{Form, egraph::Proofs, ir::form};

fn program(update: &str) -> Program {
    let text = format!(
        "variant f {{
           axes   B, T, H, K, V;
           input  q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];
           state  S : [K,V] = 0;
           decay  a[t] = exp(g[t]);
           {update}
           output o[t] = S[t]' * q[t];
         }}"
    );
    chunkwise_dsl::compile(&Source::new("f.attn", text.as_str()), &[]).expect("the program checks")
}

fn normal_and_form(update: &str) -> (String, String) {
    let program = program(update);
    let derived = derive(&program.variants[0], Proofs::Off).expect("a derivation");
    let chunked = derived[0].extract(Form::Chunked, Schedule::Fused).expect("a chunked form");
    (derived[0].normal.print(), form::print(&chunked))
}

#[test]
fn a_law_its_equation_and_its_distributed_equation_are_one() {
    let law = normal_and_form("update S delta(k, v, beta);");
    for spelling in [
        "a[t] * (eye(K) - beta[t] * k[t] * k[t]') * S[t-1] + beta[t] * k[t] * v[t]'",
        "beta[t] * k[t] * v[t]' + a[t] * (eye(K) - beta[t] * k[t] * k[t]') * S[t-1]",
        "a[t] * S[t-1] - (a[t] * beta[t] * k[t]) * (k[t]' * S[t-1]) + k[t] * (beta[t] * v[t])'",
        "k[t] * v[t]' * beta[t] - beta[t] * k[t] * (S[t-1]' * k[t])' * a[t] + S[t-1] * a[t]",
        "a[t] * S[t-1] + k[t] * (beta[t] * (v[t] - a[t] * S[t-1]' * k[t]))'",
        "(eye(K) - beta[t] * k[t] * k[t]') * (a[t] * S[t-1]) + (beta[t] * k[t]) * v[t]'",
        "(a[t] * S[t-1]' * (eye(K) - beta[t] * k[t] * k[t]') + beta[t] * v[t] * k[t]')'",
    ] {
        assert_eq!(normal_and_form(&format!("update S[t] = {spelling};")), law, "{spelling}");
    }
}

#[test]
fn every_affine_spelling_has_a_chunked_form() {
    for spelling in [
        "if beta[t] > 0.5 then a[t] * S[t-1] + k[t] * v[t]' else S[t-1]",
        "S[t-1] + k[t] * (if beta[t] > 0.5 then v[t] - S[t-1]' * k[t] else v[t])'",
        "k[t] * v[t]'",
        "S[t-1] - (a[t] * S[t-1] * v[t]) * v[t]'",
    ] {
        normal_and_form(&format!("update S[t] = {spelling};"));
    }
    normal_and_form("local block(8); state R : [K,V] = 0.5; update S additive(k, v); update R delta(k, v, beta);");
}

#[test]
fn a_state_read_as_a_whole_has_a_chunked_form() {
    let text = "variant f {
        axes   B, T, H, K, V;
        input  q, k : [B,T,H,K], v : [B,T,H,V], beta : [B,T,H];
        state  S : [K,V] = 0;
        update S delta(k, v, beta);
        output o[t] = tanh(S[t])' * q[t] + S[t-1]' * k[t];
     }";
    let program = chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).expect("the program checks");
    let derived = derive(&program.variants[0], Proofs::Off).expect("a derivation");
    for form in [Form::Chunked, Form::Parallel] {
        let term = derived[0].extract(form, Schedule::Fused).expect("a form");
        assert_eq!(term.as_ref().iter().filter(|node| matches!(node, Term::All(_))).count(), 1);
    }
    assert!(plan(&program.variants[0], &derived, (Form::Chunked, Schedule::Fused)).is_ok());
}

#[test]
fn what_has_no_chunked_form_says_why() {
    for (update, reason) in [
        ("update S[t] = tanh(S[t-1]) + k[t] * v[t]';", "not affine"),
        ("update S[t] = exp(k[t] * v[t]') .* S[t-1] + k[t] * v[t]';", "element-wise"),
    ] {
        let program = program(update);
        let refusal = derive(&program.variants[0], Proofs::Off).err().expect("no chunked form");
        assert!(refusal.reason.contains(reason), "{refusal}");
        assert!(refusal.span.is_some());
    }
}

#[test]
fn equal_values_of_two_states_are_one_node() {
    let text = "variant f {
        axes   B, T, H, K, V;
        input  q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];
        state  S : [K,V] = 0, z : [K] = 0;
        decay  a[t] = exp(g[t]);
        update S additive(k, v);
        update z additive(k);
        output o[t] = S[t]' * q[t] / (z[t]' * q[t]);
    }";
    let program = chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).expect("the program checks");
    let variant = &program.variants[0];
    let derived = derive(variant, Proofs::Off).expect("a derivation");
    let plan = plan(variant, &derived, (Form::Chunked, Schedule::Fused)).expect("a plan");
    let count = |wanted: fn(&Term) -> bool| {
        plan.graph.node_weights().filter(|node| matches!(&node.op, Op::Term(term) if wanted(term))).count()
    };
    assert_eq!(count(|term| matches!(term, Term::Pairs(_))), 1);
    assert_eq!(count(|term| matches!(term, Term::DecayMask(_))), 1);
    assert_eq!(count(|term| matches!(term, Term::MatMul(_))), 2);
}

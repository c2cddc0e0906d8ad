//! What checks and what does not: the worked programs, the rules one by one, and a line per diagnostic.

mod calls;
mod errors;
mod expansion;
mod meaning;
mod mutation;
mod programs;

use crate::source::Source;
use crate::typed::{Program, Variant};

/// The program of a text, or its diagnostics' codes and messages.
fn compile(text: &str) -> Result<Program, Vec<(&'static str, String)>> {
    let source = Source::new("test.attn", text);
    crate::compile(&source, &[]).map_err(|errors| errors.into_iter().map(|e| (e.code, e.message)).collect())
}

/// The only variant of a text that checks.
fn variant(text: &str) -> Variant {
    match compile(text) {
        Ok(program) => program.variants.into_iter().next().expect("the text holds a variant"),
        Err(errors) => panic!("{errors:#?}\n{text}"),
    }
}

/// A variant of the usual axes and inputs around some statements.
fn around(body: &str) -> String {
    format!(
        "variant f(W = 7) {{ axes B, T, H, K, V, N; input q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];
         param gamma : [H], w : [H,K], u : [N,K]; {body} }}"
    )
}

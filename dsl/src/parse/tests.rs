//! What parses, how it binds, and what a broken source is told.

use super::*;

#[test]
fn a_variant_parses() {
    let text = "variant f { axes B, T, K; input q : [B,T,K]; output o[t] = -q[t]^2; }";
    assert_eq!(parse(&Source::new("f.attn", text)).map(|file| file.items.len()), Ok(1));
}

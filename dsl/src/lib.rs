//! TEXT -> MEANING: the attention language. Knows names and shapes; no e-graph, no target.

#![forbid(unsafe_code)]

pub mod ast;
pub mod diagnostic;
pub mod function;
pub mod parse;
pub mod print;
pub mod render;
pub mod shape;
pub mod source;
pub mod suggest;
pub mod typed;

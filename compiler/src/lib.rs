//! MEANING -> KERNEL CODE. Pure: no files, no environment; the same program gives the same code. Runs none of it.
//!
//! ```text
//! typed program
//!   ir::lower        one system of terms a state: its update and what is read of it
//!   egraph, rules    saturation: the normal form, then every form that the rule book derives from it
//!   egraph::extract  the cheapest term of the form asked for (`Form`)
//!   plan             all states' terms as one data-flow graph
//!   kernel::lower    loops and tile statements; `recurrent` steps what has no normal form as it is written
//!   codegen          a target's code
//! ```
//!
//! `form` is this way as one call, `stage` prints the stops on it, `explain` tells the derivation, `interface` says what a
//! C program calls. Beside it stand the
//! oracles: `reference` evaluates programs and shares nothing with this way, `ir::eval` terms, `kernel::interp` kernels. `bind` says what size every axis has. No variant is known by its name.

#![forbid(unsafe_code)]

pub mod bind;
pub mod codegen;
pub mod egraph;
pub mod explain;
pub mod form;
pub mod interface;
pub mod ir;
pub mod kernel;
pub mod plan;
pub mod reference;
pub mod rules;
pub mod stage;
pub mod unsupported;

pub use explain::{Explanation, explain};
pub use form::{Form, FormReport, Schedule, StateReport, Tiles, compile, report};
pub use unsupported::Unsupported;

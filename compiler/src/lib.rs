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
//! without states
//!   program          one graph of values
//!   plan::place      where each is computed: once, by rows, in a pass that sums up, by rows of an image
//!   kernel::lower::stages
//! several orders, orders that are not forward, values beside a scan
//!   scans            stages of either kind, each a variant of its own, linked to one module
//! calls
//!   calls            the variants called, what they take and what is left of their caller, linked likewise
//! ```
//!
//! `compile` is this way: a derivation made once, and of it each form. `layout` has the words for forms and schedules that all
//! rooms share. `stage` prints the stops, `explain` tells the derivation, `interface` says what a C program calls. Beside it
//! stand the oracles: `reference` evaluates programs and shares nothing with this way, `ir::eval` terms, `kernel::interp`
//! kernels. `bind` says what size every axis has. No variant is known by its name.

#![forbid(unsafe_code)]

pub mod adjoint;
pub mod bind;
pub mod calls;
pub mod codegen;
pub mod compile;
pub mod egraph;
pub mod explain;
pub mod interface;
pub mod ir;
pub mod kernel;
pub mod layout;
mod needed;
pub mod plan;
pub mod program;
pub mod reference;
pub mod rules;
pub mod scans;
pub mod stage;
pub mod unsupported;

pub use compile::{Derivation, FormReport, StateReport, compile, report};
pub use explain::{Explanation, explain};
pub use layout::{Form, Schedule, Tiles};
pub use unsupported::Unsupported;

//! Recurrences in one pass over their tile, for targets on which one thread runs a work item.
//!
//! ```text
//! map [i, j] s[i,j] = a[i] * s[i,j] + k[i] * v[j]; product y[j] = sum over i of q[i] * s[i,j]
//!   ->  sweep                                                                               (`recognise`)
//! for t { sweeps, maps of whole rows }
//!   ->  for c in 0..columns step W { for t { the same of columns c..c+W } }                 (`columns`)
//! kernel of T tokens
//!   ->  if T = 1 { from the state given straight to the state wanted } else { the kernel }  (`single`)
//! ```
//! A strip of columns stays in the nearest cache for a whole block of tokens, so a second pass over it costs no memory.
//! What is found is found by its shape: nothing here knows a token or a state.

mod columns;
mod recognise;
mod single;
#[cfg(test)]
mod tests;

use super::dotted::dotted;
use super::{Module, sequential};

/// The module as one thread a work item runs it best: without scans, with sweeps and products of rows.
pub fn single_threaded(module: &Module) -> Module {
    dotted(swept(sequential(module)))
}

/// The module with sweeps; scans stay.
pub fn swept(mut module: Module) -> Module {
    let mut next = super::sequential::next_variable(&module);
    let alone = module.kernels.len() == 1;
    for at in 0..module.kernels.len() {
        let body = std::mem::take(&mut module.kernels[at].body);
        let body = recognise::block(&module.buffers, body);
        let one = if alone { single::one_token(&module, &body, &mut next) } else { None };
        let body = columns::block(body, &mut next);
        module.kernels[at].body = match one {
            Some(one) => vec![one.otherwise(body)],
            None => body,
        };
    }
    module
}

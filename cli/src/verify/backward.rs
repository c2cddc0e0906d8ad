//! `verify --backward`: the adjoint on the reference against derivatives by dual numbers, which share nothing with it; then
//! its forms on every back end against the reference, as those of any variant.

use chunkwise_compiler::adjoint::adjoint;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{Backend, gradient};

use super::{Arguments, Table, cases};
use crate::{failure::Failure, print};

/// What the adjoint may be off by in f64.
const BOUND: f64 = 1e-9;

/// How many lines are over their bound.
pub(super) fn verify(
    primal: &Variant,
    backends: &[Backend],
    arguments: &Arguments,
    table: &mut Table,
) -> Result<usize, Failure> {
    let made = adjoint(primal)?;
    let mut over = 0;
    let small =
        cases::cases(&made.variant, &arguments.shape, &arguments.shared)?.into_iter().filter(|case| case.is_small());
    for case in small {
        let off = gradient::deviation(primal, &made, case.request(&made.variant, 1), arguments.shared.seed)?;
        print::detail(&format!(
            "{}: slopes along random directions, {}, T = {}: off by {off:.1e}",
            primal.name, case.name, case.tokens
        ));
        if off.is_nan() || off > BOUND {
            print::warning(&format!(
                "the gradients of `{}` are off by {off:.1e} ({}, T = {})",
                primal.name, case.name, case.tokens
            ));
            over += 1;
        }
    }
    Ok(over + super::verify(&made.variant, backends, arguments, table)?)
}

//! Whether the memory that a run asks for can be had, asked before any of it is taken: an allocation that fails ends the
//! process, and a size that wraps is worse.

use chunkwise_compiler::bind::{Sizes, batch_axes};
use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::Variant,
};

use crate::request::Failure;

/// The most bytes of one tensor: what is larger is a slip of the keyboard.
const MOST: u128 = 1 << 40;

/// Copies of the tensors that a run on compiled code holds at a time: what is drawn or read, and what the kernels see.
pub const OF_A_RUN: u64 = 2;

/// Where nothing runs, no tensor is too large but one that none may be.
pub const OF_CODE: u64 = 0;

/// Copies that a comparison with the reference holds, which computes in f64.
pub const OF_A_COMPARISON: u64 = 6;

/// Asks for the memory of a variant's tensors and states, so many copies of them.
///
/// # Errors
/// The bytes asked for and the axis at fault.
pub fn for_tensors(variant: &Variant, sizes: &Sizes, copies: u64) -> Result<(), Failure> {
    let asked = asked(variant, sizes);
    let Some(largest) = asked.iter().rev().max_by_key(|asked| asked.bytes) else { return Ok(()) };
    let total = asked.iter().fold(0u128, |total, asked| total.saturating_add(asked.bytes));
    let whole = total.saturating_mul(u128::from(copies));
    if largest.bytes <= MOST && usize::try_from(whole).is_ok_and(can_be_had) {
        return Ok(());
    }
    let axis = match largest.axis {
        Some((axis, n)) => format!("; axis `{}` is {n}", variant.axis_name(axis)),
        None => String::new(),
    };
    let why = if largest.bytes <= MOST { "more than can be had" } else { "more than a tensor may (2^40)" };
    Err(Failure::Failed(format!(
        "the tensors of `{}` take {total} bytes, {} alone {} bytes, {why}{axis}",
        variant.name, largest.what, largest.bytes
    )))
}

/// Whether so many bytes can be had at once.
pub fn can_be_had(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

struct Asked {
    what: String,
    bytes: u128,
    /// The longest axis.
    axis: Option<(AxisId, i64)>,
}

fn asked(variant: &Variant, sizes: &Sizes) -> Vec<Asked> {
    let batch: Vec<Size> = batch_axes(variant).into_iter().map(Size::axis).collect();
    let tensors = variant.tensors.iter().map(|tensor| {
        (format!("`{}`", tensor.name), tensor.dims.iter().map(|dim| dim.size.clone()).collect::<Vec<Size>>())
    });
    let outputs = variant.outputs().map(|output| {
        let subscripts = output.indices.iter().map(|index| variant.indices[index.index()].size.clone());
        (format!("`{}`", output.name), batch.iter().cloned().chain(subscripts).chain(output.ty.dims()).collect())
    });
    let states = variant.states.iter().map(|state| {
        (format!("the state `{}`", state.name), batch.iter().chain(&state.dims).cloned().collect::<Vec<Size>>())
    });
    tensors.chain(outputs).chain(states).map(|(what, dims)| measured(what, &dims, sizes)).collect()
}

fn measured(what: String, dims: &[Size], sizes: &Sizes) -> Asked {
    let value = |axis: AxisId| sizes.get(axis).and_then(|n| i64::try_from(n).ok());
    let wraps = |size: &Size| size.axes().into_iter().filter_map(value).any(|n| n > i64::from(u16::MAX));
    let extent = |size: &Size| match size.eval(&value) {
        // A size below 0 is of nothing, and so is a quotient by 0.
        Some(n) => u128::try_from(n).unwrap_or(0),
        None => {
            if wraps(size) {
                u128::from(u64::MAX)
            } else {
                0
            }
        }
    };
    let empty = dims.iter().any(|size| extent(size) == 0);
    let elements = dims.iter().fold(1u128, |product, size| product.saturating_mul(extent(size)));
    let axes = dims.iter().flat_map(Size::axes).filter_map(|axis| Some((axis, value(axis)?)));
    Asked { what, bytes: if empty { 0 } else { elements.saturating_mul(4) }, axis: axes.max_by_key(|(_, n)| *n) }
}

#[cfg(test)]
mod tests {
    use chunkwise_compiler::bind::bind_dims;
    use chunkwise_dsl::{compile, source::Source};

    use super::*;

    fn asked_of(dims: [usize; 4]) -> Result<(), String> {
        let text = "variant la { axes B, T, H, K; input q : [B,T,H,K]; state S : [K,K] = 0; update S additive(q, q); \
                    output o[t] = S[t]' * q[t]; }";
        let variant = compile(&Source::new("x", text), &[]).unwrap().variants.remove(0);
        let dims: Vec<(String, usize)> = ["B", "T", "H", "K"].map(String::from).into_iter().zip(dims).collect();
        let sizes = bind_dims(&variant, &dims).map_err(|errors| errors[0].message.clone())?;
        for_tensors(&variant, &sizes, OF_A_RUN).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_no_machine_has_is_refused_with_its_axis() {
        assert_eq!(asked_of([1, 64, 2, 32]), Ok(()));
        assert_eq!(asked_of([0, 1 << 31, 1 << 31, 32]), Ok(()), "of no batch element there is nothing");
        let said = asked_of([1, 64, 8, 1_000_000_000]).unwrap_err();
        assert!(said.contains("the state `S` alone 32000000000000000000 bytes"), "{said}");
        assert!(said.contains("axis `K` is 1000000000"), "{said}");
        let said = asked_of([1, 1_000_000_000_000, 1, 4]).unwrap_err();
        assert!(
            said.contains("`q` alone 16000000000000 bytes") && said.contains("axis `T` is 1000000000000"),
            "{said}"
        );
        // Products of sizes that pass every integer are no less refused.
        assert!(asked_of([1 << 40, 1 << 40, 1 << 40, 1 << 40]).unwrap_err().contains("axis"));
        let said = asked_of([1, usize::MAX, 1, 4]).unwrap_err();
        assert!(said.starts_with("axis `T` is "), "{said}");
    }
}

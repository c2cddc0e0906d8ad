//! What `by` gives, before a run: kernels look tokens up by it and check nothing.

use chunkwise_dsl::typed::{ExprKind, TensorId, Variant};

use crate::{
    launch::Input,
    tensor::{Data, Tensors},
};

/// Whether every `by` of a variant is a permutation of the tokens, in every batch element, among these tensors.
///
/// # Errors
/// The first place that repeats a token or names none.
pub fn check(variant: &Variant, tokens: usize, inputs: &Tensors) -> Result<(), String> {
    check_lent(variant, tokens, &|id| {
        inputs.get(&variant.tensors[id.index()].name).map(|tensor| match &tensor.data {
            Data::F32(data) => Input::F32(data),
            Data::I32(data) => Input::I32(data),
        })
    })
}

/// The same of tensors that others own.
///
/// # Errors
/// As `check`.
pub fn check_lent<'a>(
    variant: &Variant,
    tokens: usize,
    given: &dyn Fn(TensorId) -> Option<Input<'a>>,
) -> Result<(), String> {
    for by in variant.orders.iter().filter_map(|order| order.by) {
        let ExprKind::Tensor(tensor) = variant.expr(by).kind else { continue };
        let Some(tensor) = given(tensor) else { continue };
        for (element, line) in lines(tensor, tokens).iter().enumerate() {
            if let Some((place, token)) = misplaced(line) {
                return Err(format!(
                    "what `by` gives is no permutation of the {tokens} tokens: place {place} holds {token}, which \
                     stands before or is no token (batch element {element})"
                ));
            }
        }
    }
    Ok(())
}

fn lines(tensor: Input<'_>, tokens: usize) -> Vec<Vec<i64>> {
    let all: Vec<i64> = match tensor {
        Input::F32(data) => data.iter().map(|x| if x.is_finite() { x.floor() as i64 } else { -1 }).collect(),
        Input::I32(data) => data.iter().map(|x| i64::from(*x)).collect(),
    };
    all.chunks(tokens.max(1)).map(<[i64]>::to_vec).collect()
}

/// The first place that repeats a token or names none.
fn misplaced(line: &[i64]) -> Option<(usize, i64)> {
    let mut seen = vec![false; line.len()];
    let twice = line.iter().enumerate().find(|(_, token)| {
        let slot = usize::try_from(**token).ok().and_then(|token| seen.get_mut(token));
        slot.is_none_or(|slot| std::mem::replace(slot, true))
    });
    twice.map(|(place, token)| (place, *token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_unknown_tokens_are_named_by_their_place() {
        assert_eq!(misplaced(&[2, 0, 1]), None);
        assert_eq!(misplaced(&[2, 0, 2]), Some((2, 2)));
        assert_eq!(misplaced(&[0, 3, 1]), Some((1, 3)));
        assert_eq!(misplaced(&[-1]), Some((0, -1)));
        assert_eq!(misplaced(&[]), None);
    }
}

"""Sequences of several lengths in one row of tokens (`cu_seqlens`): a call each, on slices of the tensors, so that nothing
flows from one to the next whatever the variant is, and tokens are counted anew in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import ShapeError, Unsupported

if TYPE_CHECKING:
    from ._arrays import Tensors
    from ._gradient import Cotangents, Gradients
    from ._variant import Variant

# Inputs and initial states of one sequence, to its outputs and final states.
Call = Callable[["Tensors", "Tensors | None"], tuple[Sequence[Any], Sequence[Any]]]
# Puts results together along an axis.
Join = Callable[[list[Any], int], Any]


def run(
    variant: Variant, tensors: Tensors, initial: Tensors | None, bounds: list[int], how: tuple[Call, Join]
) -> tuple[list[Any], list[Any]]:
    """Outputs as they lie in the row, and final states, a place a sequence along their first axis."""
    call, join = how
    token = token_of(variant)
    places = [None if one.role == "param" else _place(one.shape, token) for one in variant._all]
    _check(variant, tensors, places, bounds)
    if initial is not None:
        _count(variant, initial, len(bounds) - 1)
    found = []
    # What has no sequence still has shapes.
    for number, (start, end) in enumerate(list(zip(bounds, bounds[1:])) or [(0, 0)]):
        own = tuple(one if at is None else _cut(one, at, start, end) for one, at in zip(tensors, places))
        given = initial and tuple(one if one is None else one[number : number + 1] for one in initial)
        found.append(call(own, given))
    along = [_place(shape, token) or 0 for _, shape in variant._facts["outputs"]]
    outputs = [join(list(parts), at) for parts, at in zip(zip(*(outputs for outputs, _ in found)), along)]
    states = [join(list(parts), 0)[: len(bounds) - 1] for parts in zip(*(states for _, states in found))]
    return outputs, states


def gradients(
    variant: Variant,
    given: tuple[Tensors, Tensors | None, Cotangents],
    bounds: list[int],
    how: tuple[Callable[[Tensors, Tensors | None, Cotangents], Gradients], Join],
) -> Gradients:
    """Of inputs as they lie in the row, of params over all sequences, and of initial states."""
    (tensors, initial, (outputs, lasts)), (call, join) = given, how
    token = token_of(variant)
    places = [None if one.role == "param" else _place(one.shape, token) for one in variant._all]
    along = [_place(shape, token) for _, shape in variant._facts["outputs"]]
    parts = []
    for number, (start, end) in enumerate(list(zip(bounds, bounds[1:])) or [(0, 0)]):
        row = lambda one, at: one if one is None or at is None else _cut(one, at, start, end)  # noqa: E731, B023
        place = lambda one: one if one is None else one[number : number + 1]  # noqa: E731, B023
        seen = (list(map(row, outputs, along)), list(map(place, lasts)))
        parts.append(call(tuple(map(row, tensors, places)), initial and tuple(map(place, initial)), seen))
    found = []
    for at, (first, *others) in zip(places, zip(*(of_inputs for of_inputs, _ in parts))):
        whole = first if first is None or at is None else join([first, *others], at)
        found.append(sum(others, whole) if at is None and whole is not None else whole)
    return found, [join(list(pieces), 0)[: len(bounds) - 1] for pieces in zip(*(states for _, states in parts))]


def bounds_of(cu_seqlens: Any) -> list[int]:
    """Where sequences begin, and where the last one ends."""
    found = cu_seqlens.tolist() if hasattr(cu_seqlens, "tolist") else list(cu_seqlens)
    if not isinstance(found, list) or not found or not all(type(one) is int for one in found):
        raise ShapeError("`cu_seqlens` is one integer more than there are sequences: where each begins, and the end")
    if found[0] != 0 or any(a > b for a, b in zip(found, found[1:])):
        raise ShapeError(f"`cu_seqlens` is {found}, expected to rise from 0")
    return found


def token_of(variant: Variant) -> str:
    """The axis that sequences follow each other along."""
    token = variant._facts["token"]
    shapes = [shape for _, shape in variant._facts["outputs"]] + [one.shape for one in variant.inputs]
    if token is None or not all(shape and shape[0] != token for shape in shapes if token in shape):
        raise _refused(variant, "its tokens have no axis of their own behind a batch axis")
    sizes = [dim for shape in (*shapes, *(shape for _, shape in variant._facts["states"])) for dim in shape]
    sizes += [value for _, value in variant._facts["axes"] if value is not None]
    if any(token in _words(dim) and dim != token for dim in sizes):
        raise _refused(variant, f"a size is made of {token}")
    return str(token)


def _refused(variant: Variant, reason: str) -> Unsupported:
    operation = f"`cu_seqlens` of `{variant.name}`"
    way_out = "say in the program where a sequence starts (docs/packing.md)"
    return Unsupported(f"{operation} is unsupported: {reason}; {way_out}", operation, reason, way_out)


def _words(size: str) -> list[str]:
    return "".join(one if one.isalnum() or one == "_" else " " for one in size).split()


def _place(shape: Sequence[str], token: str) -> int | None:
    return list(shape).index(token) if token in shape else None


def _cut(tensor: Any, axis: int, start: int, end: int) -> Any:
    return tensor[(slice(None),) * axis + (slice(start, end),)]


def _check(variant: Variant, tensors: Tensors, places: list[int | None], bounds: list[int]) -> None:
    for one, tensor, at in zip(variant._all, tensors, places):
        if at is None:
            continue
        if len(tensor.shape) != len(one.shape):
            raise ShapeError(f"tensor `{one.name}` is {tuple(tensor.shape)}, expected [{','.join(one.shape)}]")
        if tensor.shape[0] != 1:
            raise ShapeError(f"tensor `{one.name}` is {tuple(tensor.shape)}: with `cu_seqlens`, {one.shape[0]} is 1")
        if tensor.shape[at] != bounds[-1]:
            raise ShapeError(f"`cu_seqlens` ends at {bounds[-1]}, and tensor `{one.name}` has {tensor.shape[at]} tokens")


def _count(variant: Variant, initial: Tensors, wanted: int) -> None:
    for name, state in zip(variant._state_names, initial):
        if state is not None and state.shape[0] != wanted:
            raise ShapeError(f"state `{name}` is of {state.shape[0]} sequences, and `cu_seqlens` has {wanted}")

"""Gradients: a variant's adjoint, which is a program like any other, run on its inputs and the cotangents of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ShapeError

if TYPE_CHECKING:
    from ._arrays import Empty, Sizes, Tensors
    from ._engine import Kernel
    from ._variant import Variant

# Cotangents of outputs and of final states, a place each; None is 0.
Cotangents = tuple[Sequence[Any], Sequence[Any]]
# Gradients of inputs and params, and of initial states; None for integers.
Gradients = tuple[list[Any], list[Any]]


class Adjoint(NamedTuple):
    """The kernel of a variant's gradients, what it is given and gives by name, and which results are whose gradients."""

    kernel: Kernel
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    outputs: tuple[str, ...]
    # By the name of the primal's tensor: the result, how many of its first axes are summed over, and which axis heads share.
    rows: dict[str, tuple[str | None, int, int | None]]


def adjoint(variant: Variant) -> Adjoint:
    """Derived once a variant. Raises `Unsupported` with the reason where it has none."""
    if variant._adjoint is None:
        kernel, rows = variant._kernel.adjoint()
        facts = kernel.facts()
        names = {kind: tuple(one[0] for one in facts[kind]) for kind in ("inputs", "states", "outputs")}
        by_name = {name: (output, summed, shared) for name, output, summed, shared in rows}
        variant._adjoint = Adjoint(kernel, names["inputs"], names["states"], names["outputs"], by_name)
    return variant._adjoint


def gradients(
    variant: Variant,
    tensors: Tensors,
    initial: Tensors | None,
    cotangents: Cotangents,
    how: tuple[Empty, int, Sizes],
) -> Gradients:
    """Of all real inputs and params, and of all initial states; `how` is what makes a tensor, threads and sizes."""
    of, (empty, threads, sizes) = adjoint(variant), how
    values = dict(zip(variant._names, tensors))
    values |= _filled(variant, tensors, cotangents[0], (empty, sizes))
    starts: dict[str, Any] = dict(zip(variant._state_names, initial or ()))
    starts |= {f"d_{name}": one for name, one in zip(variant._state_names, cotangents[1])}
    given = tuple(starts.get(name) for name in of.states)
    carried = bool(of.states) and variant._facts["carries_state"]
    inputs = tuple(values[name] for name in of.inputs)
    start = given if any(one is not None for one in given) else None
    outputs, states = of.kernel.run(inputs, start, (empty, carried), (threads, sizes))
    made = dict(zip(of.outputs, outputs))
    found = [
        _gathered(made, of.rows[one.name], tensor, empty) if one.name in of.rows else None
        for one, tensor in zip(variant._all, tensors)
    ]
    lasts = dict(zip(of.states, states))
    return found, [lasts.get(f"d_{name}") for name in variant._state_names] if carried else []


def named_cotangents(variant: Variant, given: Any) -> Cotangents:
    """A tensor of the only output, a tuple of all, or a dict by the names of outputs and states."""
    outputs = [name for name, _ in variant._facts["outputs"]]
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in outputs and name not in variant._state_names]
        if unknown:
            known = ", ".join((*outputs, *variant._state_names))
            raise ShapeError(f"`{variant.name}` has no result `{unknown[0]}`; its results are {known}")
        return [given.get(name) for name in outputs], [given.get(name) for name in variant._state_names]
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if len(given) != len(outputs):
        raise ShapeError(f"`{variant.name}` has {len(outputs)} outputs, and {len(given)} cotangents are given")
    return given, [None] * len(variant._state_names)


def _filled(variant: Variant, tensors: Tensors, cotangents: Sequence[Any], how: tuple[Empty, Sizes]) -> dict[str, Any]:
    """The cotangent of every output; those that are not given are 0."""
    names = [f"d_{name}" for name, _ in variant._facts["outputs"]]
    found = dict(zip(names, cotangents))
    if any(one is None for one in cotangents):
        empty, sizes = how
        shapes, _ = variant._shapes([tuple(one.shape) for one in tensors], sizes)
        for name, shape in zip(names, shapes):
            found[name] = _zeros(empty, shape) if found[name] is None else found[name]
    return found


def _zeros(empty: Empty, shape: Sequence[int]) -> Any:
    made = empty(tuple(shape), "float32")
    made[...] = 0
    return made


def _gathered(made: dict[str, Any], row: tuple[str | None, int, int | None], tensor: Any, empty: Empty) -> Any:
    """A gradient of its tensor's shape: sums over the batch axes that the tensor lacks, and over heads that share a place."""
    output, summed, shared = row
    if output is None:
        return _zeros(empty, tensor.shape)
    found = made[output]
    if summed:
        found = found.sum(tuple(range(summed)))
    if shared is None:
        return found
    own = tuple(tensor.shape)
    ratio = found.shape[shared] // max(own[shared], 1)
    return found.reshape(own[: shared + 1] + (ratio,) + own[shared + 1 :]).sum(shared + 1)

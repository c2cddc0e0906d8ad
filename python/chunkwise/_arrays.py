"""Whose tensors a call is given: PyTorch's, NumPy's, or anyone's that speak DLPack or the buffer protocol. Imports none."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _engine, _gradient, _packed
from .errors import Error

if TYPE_CHECKING:
    from ._variant import Variant

Tensors = tuple[Any, ...]
# What makes a tensor of a shape; the name of its elements comes second.
Empty = Callable[[tuple[int, ...], str], Any]
# Sizes of axes that no tensor gives.
Sizes = tuple[tuple[str, int], ...]
Runner = Callable[["Variant", Tensors, Tensors | None, bool, Sizes], tuple[Sequence[Any], Sequence[Any]]]

# By the type of a call's first tensor.
RUNNERS: dict[type, Runner] = {}


def threads() -> int:
    """What PyTorch takes, where it is loaded, so that its threads and ours are as many; else all cores."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None and hasattr(torch, "get_num_threads") else _engine.cores()


def runner(kind: type) -> Runner:
    """What runs calls whose first tensor is of this type."""
    known = RUNNERS.get(kind)
    if known is not None:
        return known
    found: Runner
    if _is_torch(kind):
        from . import torch as ours

        found = ours.run
    elif _is_numpy(kind):
        found = _run_numpy
    else:
        found = _run_others
    RUNNERS[kind] = found
    return found


def run_packed(
    variant: Variant, tensors: Tensors, cu_seqlens: Any, how: tuple[Tensors | None, bool, Sizes]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Outputs and final states of several sequences in a row of tokens."""
    initial, wanted, sizes = how
    if tensors and _is_torch(type(tensors[0])):
        from . import torch as ours

        return ours.run_packed(variant, tensors, cu_seqlens, how)
    run = runner(type(tensors[0]))
    namespace = getattr(tensors[0], "__array_namespace__", None)
    library = _numpy() if namespace is None else namespace()
    bounds = _packed.bounds_of(cu_seqlens)
    call = lambda own, given: run(variant, own, given, wanted, sizes)  # noqa: E731
    concatenate = getattr(library, "concat", None) or library.concatenate
    join = lambda parts, axis: concatenate(parts, axis=axis)  # noqa: E731
    return _packed.run(variant, tensors, initial, bounds, (call, join))


def advance(variant: Variant, tensors: Tensors, states: Tensors, sizes: Sizes) -> Sequence[Any]:
    """Outputs; the states go on where they lie."""
    if tensors and _is_torch(type(tensors[0])):
        from . import torch as ours

        return ours.advance(variant, tensors, states, sizes)
    made: Empty = _numpy().empty
    outputs = variant._kernel.advance(tensors, states, made, (variant._threads or threads(), sizes))
    return outputs if _is_numpy(type(tensors[0])) else _taken_over(tensors[0], outputs)


def gradients(
    variant: Variant, tensors: Tensors, given: tuple[Tensors | None, _gradient.Cotangents], sizes: Sizes
) -> _gradient.Gradients:
    """Of inputs, and of initial states; `given` are these states and cotangents."""
    initial, cotangents = given
    if tensors and _is_torch(type(tensors[0])):
        from . import torch as ours

        return ours.gradients(variant, tensors, initial, cotangents, sizes)
    made: Empty = _numpy().empty
    how = (made, variant._threads or threads(), sizes)
    found, states = _gradient.gradients(variant, tensors, initial, cotangents, how)
    if _is_numpy(type(tensors[0])):
        return found, states
    own = [None if one is None else _taken_over(tensors[0], (one,))[0] for one in found]
    return own, list(_taken_over(tensors[0], tuple(states)))


def empty_like(tensor: Any) -> Empty:
    """What makes tensors of the library that this one is of."""
    if _is_torch(type(tensor)):
        from . import torch as ours

        return ours.empty
    made: Empty = _numpy().empty
    return made


def _is_torch(kind: type) -> bool:
    return any(base.__name__ == "Tensor" and base.__module__.split(".")[0] == "torch" for base in kind.__mro__)


def _is_numpy(kind: type) -> bool:
    return any(base.__module__ == "numpy" and base.__name__ == "ndarray" for base in kind.__mro__)


@functools.cache
def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Error("results of tensors that are not PyTorch's are made by NumPy, which is not installed") from error
    return numpy


def _run_numpy(
    variant: Variant, tensors: Tensors, initial: Tensors | None, wanted: bool, sizes: Sizes
) -> tuple[Tensors, Tensors]:
    made: Empty = _numpy().empty
    return variant._kernel.run(tensors, initial, (made, wanted), (variant._threads or threads(), sizes))


def _run_others(
    variant: Variant, tensors: Tensors, initial: Tensors | None, wanted: bool, sizes: Sizes
) -> tuple[Tensors, Tensors]:
    outputs, states = _run_numpy(variant, tensors, initial, wanted, sizes)
    return _taken_over(tensors[0], outputs), _taken_over(tensors[0], states)


def _taken_over(like: Any, results: Tensors) -> Tensors:
    """NumPy made the results; a library of the array API takes them over where they lie."""
    namespace = getattr(like, "__array_namespace__", None)
    return results if namespace is None else tuple(map(namespace().from_dlpack, results))

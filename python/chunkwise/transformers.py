"""Kernels of ours in models of Hugging Face's transformers: `patch` puts them where layers mix tokens by a recurrence or a
causal convolution, for prefill and decoding, with the model's own cache. What it knows of models is one table of functions
(`_mixing.FUNCTIONS`): the layers of all architectures call them by the same names.
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._mixing import FUNCTIONS
from .errors import ChunkwiseWarning, Error

__all__ = ["Patch", "Replaced", "patch"]

Function = Callable[..., Any]


class Replaced(NamedTuple):
    """A module of the model, and the functions that it now calls in ours."""

    name: str
    kind: str
    functions: tuple[str, ...]


class Patch:
    """What was replaced in a model. `undo` puts it back; so does leaving a `with` block."""

    def __init__(self, replaced: list[Replaced], left: list[str], methods: list[tuple[torch.nn.Module, str]]) -> None:
        self.replaced, self.left = tuple(replaced), tuple(left)
        self._methods = methods

    def undo(self) -> None:
        """Gives every module its own methods back."""
        for module, name in self._methods:
            module.__dict__.pop(name, None)
        self._methods = []

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __str__(self) -> str:
        lines = [f"{one.name} ({one.kind}): {', '.join(one.functions)}" for one in self.replaced]
        return "\n".join(lines + [f"left alone: {one}" for one in self.left])

    __repr__ = __str__


def patch(model: torch.nn.Module) -> Patch:
    """Has the layers of a model mix tokens by our kernels; the model's weights, cache and outputs are what they were.

    Only this model is changed, not its class. A call that wants a gradient, or whose tensors are not on the CPU, runs the
    model's own functions, and says so once where that is for a gradient. Raises `Error` where nothing is found to replace.
    """
    replaced, left, methods = [], [], []
    for name, module in model.named_modules():
        found = _methods(type(module))
        own = [method for method in found if method in module.__dict__]
        if own:
            left.append(f"{name} ({type(module).__name__}) has a `{own[0]}` of its own")
            continue
        for method, functions in found.items():
            ours = _rebuilt(getattr(type(module), method), functions)
            module.__dict__[method] = types.MethodType(ours, module)
            methods.append((module, method))
        if found:
            called = sorted({called for functions in found.values() for called in functions})
            replaced.append(Replaced(name, type(module).__name__, tuple(called)))
    if not replaced:
        why = "; ".join(left) or f"no layer calls any of {', '.join(FUNCTIONS)}"
        raise Error(f"nothing to replace in a {type(model).__name__}: {why}")
    return Patch(replaced, left, methods)


def _methods(kind: type) -> dict[str, tuple[str, ...]]:
    """The methods of a module's class that call functions of the table, and which."""
    found = {}
    for name in dir(kind):
        method = getattr(kind, name, None)
        if isinstance(method, types.FunctionType):
            inner = inspect.unwrap(method)
            called = tuple(one for one in inner.__code__.co_names if one in FUNCTIONS and one in inner.__globals__)
            if called:
                found[name] = called
    return found


def _rebuilt(function: Any, names: tuple[str, ...]) -> Any:
    """A copy of a method, decorators and all, that finds functions of ours under these names."""
    known, cells = dict(function.__globals__), function.__closure__
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is None:
        known.update({name: _replacing(known[name], FUNCTIONS[name]) for name in names})
    else:
        inner = _rebuilt(wrapped, names)
        cells = tuple(types.CellType(inner) if cell.cell_contents is wrapped else cell for cell in cells or ())
    copy: Any = types.FunctionType(function.__code__, known, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    if wrapped is None:
        del copy.__wrapped__
    else:
        copy.__wrapped__ = inner
    return copy


def _replacing(theirs: Function, ours: Function) -> Function:
    """Ours, where it can take the call; the model's own function elsewhere."""

    @functools.wraps(theirs)
    def call(*given: Any, **named: Any) -> Any:
        tensors = [one for one in (*given, *named.values()) if isinstance(one, Tensor)]
        if _are_taken(tensors) and named.get("cu_seqlens") is None and named.get("seq_idx") is None:
            results = ours(*given, **named)
            if results is not NotImplemented:
                return results
        return theirs(*given, **named)

    return call


def _are_taken(tensors: list[Tensor]) -> bool:
    if not all(one.is_cpu for one in tensors):
        return False
    if not torch.is_grad_enabled() or not any(one.requires_grad for one in tensors):
        return True
    if not torch.compiler.is_compiling():
        _say_once()
    return False


@functools.cache
def _say_once() -> None:
    said = "a call wants a gradient, so the model's own functions run it; call it under torch.no_grad() for ours"
    warnings.warn(said, ChunkwiseWarning, stacklevel=4)

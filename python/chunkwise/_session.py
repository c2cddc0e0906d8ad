"""Calls that go on from each other's states, and how tensors that are given by name find their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _arrays
from .errors import ShapeError

if TYPE_CHECKING:
    from . import _engine
    from ._arrays import Empty, Tensors
    from ._variant import Variant

__all__ = ["Session", "arranged", "placed"]


def arranged(what: str, names: Sequence[str], tensors: Tensors, named: Mapping[str, Any]) -> Tensors:
    """The tensors in the order of the names, as a function of Python takes its arguments."""
    if len(tensors) > len(names):
        raise TypeError(f"{what}() takes {len(names)} tensors ({', '.join(names)}), and {len(tensors)} are given")
    found = dict(zip(names, tensors))
    for name, tensor in named.items():
        if name not in names:
            raise TypeError(f"{what}() has no input `{name}`; its inputs are {', '.join(names)}")
        if name in found:
            raise TypeError(f"{what}() is given `{name}` twice")
        found[name] = tensor
    missing = [name for name in names if name not in found]
    if missing:
        raise TypeError(f"{what}() is not given {', '.join(f'`{name}`' for name in missing)}")
    return tuple(found[name] for name in names)


def placed(what: str, names: Sequence[str], given: Any) -> Tensors:
    """A place a state: what is given by name, in file order, or the one there is; None for those left out."""
    if isinstance(given, dict):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ShapeError(f"`{what}` has no state `{unknown[0]}`; its states are {', '.join(names) or 'none'}")
        return tuple(given.get(name) for name in names)
    if isinstance(given, (tuple, list)):
        if len(given) != len(names):
            raise ShapeError(f"`{what}` has {len(names)} states ({', '.join(names)}), and {len(given)} are given")
        return tuple(given)
    if len(names) != 1:
        raise ShapeError(f"`{what}` has {len(names)} states ({', '.join(names)}): give a dict by name, or a tuple")
    return (given,)


class Session:
    """A variant that decodes: its states stay in the engine from step to step. Made by `Variant.session`."""

    def __init__(self, variant: Variant, held: _engine.Session) -> None:
        self._variant, self._held = variant, held
        self._empty: Empty | None = None

    def step(self, *tensors: Any, **named: Any) -> Any:
        """The outputs for these inputs, which have the session's sizes; the states are then those after them."""
        variant = self._variant
        if named or len(tensors) != variant._count:
            tensors = arranged(variant.name, variant._names, tensors, named)
        self._empty = _arrays.empty_like(tensors[0])
        outputs = self._held.step(tensors, self._empty)
        return outputs[0] if len(outputs) == 1 else variant._pack_outputs(*outputs)

    @property
    def states(self) -> Any:
        """Copies of the states after the last step: a tensor if there is one, else a named tuple."""
        states = self._held.states(self._empty or _arrays.empty_like(None))
        return states[0] if len(states) == 1 else self._variant._pack_states(*states)

    def set_states(self, states: Any) -> None:
        """Goes on from these states, given as `initial_state` of a call; those left out stay as they are."""
        self._held.set_states(placed(self._variant.name, self._variant._state_names, states))

    def reset(self) -> None:
        """Starts anew from the declared values."""
        self._held.reset()

"""Sequences longer than a machine: each process of a group holds a stretch of the tokens, and calls a variant on it. What it
sends does not grow with the number of tokens.

Where every transition is the identity, or a decay of every entry by itself, and no state writes what it read of another, all
stretches are computed at once, each from no state; pairs of a decay and a state are then combined in a scan over the
processes, in as many rounds as doubling takes. Any other state goes from process to process, in parts of the batch, so that
one works on a part while the next works on the part before. A variant with a window needs no states, but the tokens that the window reaches: a halo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ._session import arranged, placed
from ._variant import Variant
from .errors import ShapeError, Unsupported

__all__ = ["Traffic", "run"]

# Transitions that multiply every entry of a state by a number of its own.
ENTRYWISE = ("identity", "scalar decay", "diagonal decay", "diagonal decay from both sides", "element-wise")
# Parts of the batch that are on their way at once where states go from process to process.
PARTS = 8


class Traffic(NamedTuple):
    """What this process sent in a call: how, how many bytes, in how many messages."""

    how: str
    bytes: int
    messages: int


class _Line:
    """The processes of a group in the order of their stretches, and what this one sent to others."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)
        self._names = list(range(self.size)) if group is None else dist.get_process_group_ranks(group)
        self.bytes = self.messages = 0
        self._sent: list[tuple[Any, Tensor]] = []

    def send(self, tensor: Tensor, to: int) -> None:
        tensor = tensor.contiguous()
        self.bytes += tensor.numel() * tensor.element_size()
        self.messages += 1
        self._sent.append((dist.isend(tensor, self._names[to], self.group), tensor))

    def receive(self, like: Tensor, source: int) -> Tensor:
        tensor = torch.empty_like(like, memory_format=torch.contiguous_format)
        dist.recv(tensor, self._names[source], self.group)
        return tensor

    def broadcast(self, tensor: Tensor, source: int) -> Tensor:
        tensor = tensor.contiguous()
        if self.rank == source:
            self.bytes += tensor.numel() * tensor.element_size() * (self.size - 1)
            self.messages += self.size - 1
        dist.broadcast(tensor, self._names[source], self.group)
        return tensor

    def wait(self) -> None:
        for work, _ in self._sent:
            work.wait()
        self._sent = []


def run(
    variant: Variant,
    *tensors: Tensor,
    group: dist.ProcessGroup | None = None,
    initial_state: Any = None,
    output_final_state: bool = False,
    **named: Any,
) -> Any:
    """What `variant(...)` gives on the whole sequence, for the stretch of it that this process holds.

    Stretches follow each other as the ranks of the group do, and may differ in length. All processes call, with the same
    sizes but for the tokens. `initial_state` counts on the first of them; final states are given to all. After the call
    `run.traffic` tells what this process sent. Raises `Unsupported` for a variant whose stretches cannot be told apart.
    """
    if len(tensors) != variant._count or named:
        tensors = arranged(variant.name, variant._names, tensors, named)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise _refused(variant, "no gradient goes from process to process")
    line = _Line(group)
    needs, reach, why = variant._facts["stretch"]
    if needs == "no":
        raise _refused(variant, str(why))
    initial = None if initial_state is None else placed(variant.name, variant._state_names, initial_state)
    if needs == "window" and (initial is not None or output_final_state):
        raise ShapeError(f"`{variant.name}` has a window: it starts from no state and leaves none")
    how, outputs, states = _stretch(variant, tensors, (line, initial, reach))
    if output_final_state:
        states = tuple(line.broadcast(state, line.size - 1) for state in states)
    line.wait()
    run.traffic = Traffic(how, line.bytes, line.messages)  # type: ignore[attr-defined]
    packed = outputs[0] if variant._outputs == 1 else variant._pack_outputs(*outputs)
    if not output_final_state:
        return packed
    if isinstance(initial_state, dict):
        return packed, dict(zip(variant._state_names, states))
    return packed, states[0] if len(states) == 1 else variant._pack_states(*states)


def _stretch(
    variant: Variant, tensors: Sequence[Tensor], given: tuple[_Line, Any, Sequence[int]]
) -> tuple[str, Sequence[Tensor], Sequence[Tensor]]:
    """How this stretch is computed, its outputs, and the states after it."""
    line, initial, reach = given
    needs = variant._facts["stretch"][0]
    if needs == "window":
        how = f"a halo of {reach[0]} tokens before" + (f" and {reach[1]} behind" if reach[1] else "")
        return how, _windowed(variant, tensors, (line, reach)), ()
    if not variant.states:
        found = variant(*tensors)
        return "nothing: every token stands for itself", (found,) if variant._outputs == 1 else tuple(found), ()
    if needs == "states" and all(state.transition in ENTRYWISE for state in variant.states):
        return "a scan of decays and states", *_scanned(variant, tensors, (line, initial))
    return "states from rank to rank", *_passed(variant, tensors, (line, initial))


def _refused(variant: Variant, reason: str) -> Unsupported:
    operation = f"`{variant.name}` over several processes"
    way_out = "compute what looks at other tokens before the call, and give it as an input"
    return Unsupported(f"{operation} is unsupported: {reason}; {way_out}", operation, reason, way_out)


def _call(variant: Variant, tensors: Sequence[Tensor], states: Sequence[Tensor | None]) -> tuple[Any, Any]:
    outputs, last = variant(*tensors, initial_state=tuple(states), output_final_state=True)
    return (outputs,) if variant._outputs == 1 else tuple(outputs), last if isinstance(last, tuple) else (last,)


def _scanned(
    variant: Variant, tensors: Sequence[Tensor], how: tuple[_Line, Any]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Stretches at once: S after one is decay .* S before it + what it writes."""
    line, initial = how
    start = initial if initial is not None and line.rank == 0 else (None,) * len(variant._state_names)
    outputs, ends = _call(variant, tensors, start)
    if line.size == 1:
        return outputs, ends
    before = _before(line, _decays(variant, tensors, (line, ends)), ends)
    if line.rank > 0:
        outputs, ends = _call(variant, tensors, before)
    return outputs, ends


def _decays(
    variant: Variant, tensors: Sequence[Tensor], how: tuple[_Line, Sequence[Tensor]]
) -> list[Tensor]:
    """What every entry of a state is multiplied by along this stretch: the difference that a start makes, of a start as
    large as what is written, so that the difference is of full accuracy."""
    line, ends = how
    if line.rank == 0:
        return [torch.zeros_like(end) for end in ends]
    identity = [state.transition == "identity" for state in variant.states]
    if all(identity):
        return [torch.ones_like(end) for end in ends]
    size = [1.0 if end.numel() == 0 else max(1.0, float(end.abs().max())) for end in ends]
    _, probed = _call(variant, tensors, [torch.full_like(end, of) for end, of in zip(ends, size)])
    found = [(one - end) / of for one, end, of in zip(probed, ends, size)]
    return [torch.ones_like(one) if same else one for one, same in zip(found, identity)]


def _before(line: _Line, decays: list[Tensor], ends: Sequence[Tensor]) -> list[Tensor]:
    """States before this stretch: the inclusive scan of (decay, state) by doubling, handed on by one."""
    pairs = [torch.stack([decay, end]) for decay, end in zip(decays, ends)]
    distance = 1
    while distance < line.size:
        if line.rank + distance < line.size:
            for pair in pairs:
                line.send(pair.clone(), line.rank + distance)
        if line.rank >= distance:
            earlier = [line.receive(pair, line.rank - distance) for pair in pairs]
            pairs = [torch.stack([new[0] * old[0], new[0] * old[1] + new[1]]) for new, old in zip(pairs, earlier)]
        distance *= 2
    if line.rank + 1 < line.size:
        for pair in pairs:
            line.send(pair[1], line.rank + 1)
    return [line.receive(end, line.rank - 1) for end in ends] if line.rank > 0 else list(ends)


def _passed(
    variant: Variant, tensors: Sequence[Tensor], how: tuple[_Line, Any]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Stretch by stretch, in parts along the batch axis that has most to share."""
    line, initial = how
    _, shapes = variant._shapes([tuple(tensor.shape) for tensor in tensors], ())
    names = [list(shape) for _, shape in variant._facts["states"]]
    axis, count = _shared(variant, dict(zip(names[0], shapes[0])))
    found = []
    for part in range(count):

        def cut(axes: list[str], one: Tensor, part: int = part) -> Tensor:
            return _part(axes, one, (axis, part, count))

        own = [cut(list(one.shape), tensor) for one, tensor in zip(variant._all, tensors)]
        wanted = [cut(axes, torch.empty(shape, device="meta")) for axes, shape in zip(names, shapes)]
        start: list[Tensor | None] = [None] * len(names)
        if line.rank > 0:
            start = [line.receive(torch.empty(one.shape), line.rank - 1) for one in wanted]
        elif initial is not None:
            start = [None if one is None else cut(axes, one) for axes, one in zip(names, initial)]
        outputs, ends = _call(variant, own, start)
        if line.rank + 1 < line.size:
            for end in ends:
                line.send(end, line.rank + 1)
        found.append((outputs, ends))
    if axis is None:
        return found[0]
    places = [list(shape).index(axis) for _, shape in variant._facts["outputs"]]
    outputs = [torch.cat(list(parts), at) for parts, at in zip(zip(*(one for one, _ in found)), places)]
    return outputs, [torch.cat(list(parts), names[0].index(axis)) for parts in zip(*(ends for _, ends in found))]


def _shared(variant: Variant, extents: dict[str, int]) -> tuple[str | None, int]:
    """The independent batch axis of most elements, and in how many parts it goes."""
    known = [axis for axis in variant._facts["independent"] if extents.get(axis, 0) > 1]
    axis = max(known, key=lambda one: extents[one], default=None)
    return (None, 1) if axis is None else (axis, min(PARTS, extents[axis]))


def _part(axes: list[str], tensor: Tensor, how: tuple[str | None, int, int]) -> Tensor:
    axis, part, count = how
    if axis is None or axis not in axes:
        return tensor
    extent = tensor.shape[axes.index(axis)]
    start, end = extent * part // count, extent * (part + 1) // count
    return tensor.narrow(axes.index(axis), start, end - start)


def _windowed(variant: Variant, tensors: Sequence[Tensor], how: tuple[_Line, Sequence[int]]) -> list[Tensor]:
    """A call on the stretch and the tokens around it that the window reaches, which may be of several processes."""
    line, (left, right) = how
    token = variant._facts["token"]
    at = [list(one.shape).index(token) if token in one.shape else None for one in variant._all]
    own = next(tensor.shape[place] for tensor, place in zip(tensors, at) if place is not None)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(line.size)]
    dist.all_gather(lengths, torch.tensor([own]), line.group)
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + int(length))
    reach = [(max(start - left, 0), min(end + right, starts[-1])) for start, end in zip(starts, starts[1:])]
    first, last = starts[line.rank], starts[line.rank + 1]
    cut = [(tensor, place) for tensor, place in zip(tensors, at) if place is not None]
    for other, (start, end) in enumerate(reach):
        start, end = max(start, first), min(end, last)
        if other != line.rank and start < end:
            for tensor, place in cut:
                line.send(tensor.narrow(place, start - first, end - start), other)
    around = [[tensor] for tensor, _ in cut]
    before = 0
    for other in (*range(line.rank - 1, -1, -1), *range(line.rank + 1, line.size)):
        start, end = max(reach[line.rank][0], starts[other]), min(reach[line.rank][1], starts[other + 1])
        if start >= end:
            continue
        before += end - start if other < line.rank else 0
        for parts, (tensor, place) in zip(around, cut):
            shape = list(tensor.shape)
            shape[place] = end - start
            piece = line.receive(tensor.new_empty(shape), other)
            parts.insert(0 if other < line.rank else len(parts), piece)
    whole = iter(torch.cat(parts, place) for parts, (_, place) in zip(around, cut))
    outputs = variant(*(tensor if place is None else next(whole) for tensor, place in zip(tensors, at)))
    outputs = (outputs,) if variant._outputs == 1 else outputs
    places = [list(shape).index(token) for _, shape in variant._facts["outputs"]]
    return [output.narrow(place, before, own).contiguous() for output, place in zip(outputs, places)]

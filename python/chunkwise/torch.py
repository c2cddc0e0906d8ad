"""Calls on PyTorch's tensors. In eager mode nothing stands between the caller and the engine; while `torch.compile` traces,
under modes and for subclasses one operator serves all variants: `chunkwise::run`, and `chunkwise::vjp` its gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor

from . import _gradient, _packed
from .errors import Unsupported

if TYPE_CHECKING:
    from ._arrays import Sizes
    from ._variant import Variant

# Those whose keys are in compiled graphs.
_VARIANTS: dict[str, Variant] = {}

_MAKERS = {
    "float32": torch.empty(0, dtype=torch.float32, device="cpu").new_empty,
    "float64": torch.empty(0, dtype=torch.float64, device="cpu").new_empty,
    "int32": torch.empty(0, dtype=torch.int32, device="cpu").new_empty,
}
_HALVES = (torch.bfloat16, torch.float16)
_PLAIN = frozenset((Tensor, torch.nn.Parameter, type(None)))
# A tensor that wants gradients gives no capsule; the C table asks nothing.
_BY_CAPSULE = not hasattr(Tensor, "__dlpack_c_exchange_api__")


def empty(shape: tuple[int, ...], dtype: str) -> Tensor:
    return _MAKERS[dtype](shape)


def run(
    variant: Variant,
    tensors: tuple[Tensor, ...],
    initial: tuple[Tensor | None, ...] | None,
    wanted: bool,
    sizes: Sizes,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Outputs, and final states if they are wanted."""
    given = tensors if initial is None else tensors + initial
    if torch.compiler.is_compiling() or not _is_plain(given):
        return _by_operator(variant, tensors, initial, (wanted, sizes, None))
    if _wants_gradient(given):
        results = _Differentiable.apply(variant, (wanted, sizes), len(tensors), *given)
        return results[: variant._outputs], results[variant._outputs :]
    return _eager(variant, tensors, initial, (wanted, sizes))


def run_packed(
    variant: Variant,
    tensors: tuple[Tensor, ...],
    cu_seqlens: Any,
    how: tuple[tuple[Tensor | None, ...] | None, bool, Sizes],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Outputs and final states of several sequences in a row of tokens."""
    initial, wanted, sizes = how
    given = tensors if initial is None else tensors + initial
    if torch.compiler.is_compiling() or not _is_plain(given):
        return _by_operator(variant, tensors, initial, (wanted, sizes, torch.as_tensor(cu_seqlens)))
    call = lambda own, start: run(variant, own, start, wanted, sizes)  # noqa: E731
    return _packed.run(variant, tensors, initial, _packed.bounds_of(cu_seqlens), (call, torch.cat))


def advance(
    variant: Variant, tensors: tuple[Tensor, ...], states: tuple[Tensor, ...], sizes: Sizes
) -> Sequence[Tensor]:
    """Outputs; the states go on where they lie."""
    given = tensors + states
    apart = torch.compiler.is_compiling() or not _is_plain(given) or _wants_gradient(given)
    if apart or not all(state is not None and state.is_contiguous() and not state.is_neg() for state in states):
        outputs, last = run(variant, tensors, states, True, sizes)
        for state, after in zip(states, last):
            state.copy_(after)
        return outputs
    half, inputs = _prepared(variant, tensors)
    threads = variant._threads or torch.get_num_threads()
    outputs = variant._kernel.advance(inputs, states, empty, (threads, sizes))
    torch.autograd.graph.increment_version(states)
    return outputs if half is None else tuple(one.to(half) for one in outputs)


def _wants_gradient(given: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any([one is not None and one.requires_grad for one in given])


def _is_plain(given: Sequence[Any]) -> bool:
    """Whether the engine may look at the memory of these: no mode or transform wants to see the call, and no subclass."""
    return (
        not torch._C._len_torch_function_stack()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and _PLAIN.issuperset(map(type, given))
    )


def _eager(
    variant: Variant, tensors: Sequence[Tensor], initial: Sequence[Tensor | None] | None, how: tuple[bool, Sizes]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    half, inputs = _prepared(variant, tensors)
    start = None if initial is None else tuple(one if one is None else _resolved(one) for one in initial)
    if start is not None and torch.is_autocast_enabled("cpu") and half is None:
        start = tuple(one if one is None else _widened(one) for one in start)
    threads = variant._threads or torch.get_num_threads()
    outputs, states = variant._kernel.run(inputs, start, (empty, how[0]), (threads, how[1]))
    if half is not None:
        outputs = tuple(one.to(half) for one in outputs)
    return outputs, states


def _prepared(variant: Variant, tensors: Sequence[Tensor]) -> tuple[torch.dtype | None, tuple[Tensor, ...]]:
    """What outputs are narrowed to, and inputs as the engine takes them."""
    half = _half(variant, tensors)
    inputs = tuple(tensors)
    if _BY_CAPSULE or not all(map(Tensor.is_contiguous, inputs)) or any(map(Tensor.is_neg, inputs)):
        inputs = tuple(map(_resolved, inputs))
    if half is None and torch.is_autocast_enabled("cpu"):
        inputs = tuple(map(_widened, inputs))
    return half, inputs


def _half(variant: Variant, tensors: Sequence[Tensor]) -> torch.dtype | None:
    """What outputs are narrowed to: the type of half the width that the inputs have, where the variant takes it."""
    if variant.precision == "f32":
        return None
    return next((one.dtype for one in tensors if one.dtype in _HALVES), None)


def _resolved(tensor: Tensor) -> Tensor:
    """The tensor as it lies in memory: a lazy negation is done, and slices of wider rows are put together."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if not tensor.is_contiguous() and tensor.stride(-1) == 1:
        tensor = tensor.contiguous()
    return tensor.detach() if _BY_CAPSULE and tensor.requires_grad else tensor


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALVES else tensor


def gradients(
    variant: Variant,
    tensors: Sequence[Tensor],
    initial: Sequence[Tensor | None] | None,
    cotangents: _gradient.Cotangents,
    sizes: Sizes,
) -> _gradient.Gradients:
    """Of inputs, each of its tensor's type, and of initial states."""
    threads = variant._threads or torch.get_num_threads()
    start = None if initial is None else _read(variant, initial)
    seen = (_read(variant, cotangents[0]), _read(variant, cotangents[1]))
    found, states = _gradient.gradients(variant, _read(variant, tensors), start, seen, (empty, threads, sizes))
    own = [one if one is None else one.to(tensor.dtype) for one, tensor in zip(found, tensors)]
    given = initial or [None] * len(states)
    return own, [one if first is None else one.to(first.dtype) for one, first in zip(states, given)]


def _read(variant: Variant, given: Sequence[Any]) -> tuple[Any, ...]:
    """As a gradient's program takes them: what a forward under autocast widened is wide here too."""
    wide = _widened if variant.precision == "f32" else lambda tensor: tensor
    return tuple(one if one is None else _resolved(wide(one)).detach() for one in given)


class _Differentiable(torch.autograd.Function):
    """A call whose results want gradients."""

    @staticmethod
    def forward(ctx: Any, variant: Variant, how: tuple[bool, Sizes], count: int, *given: Any) -> tuple[Tensor, ...]:
        initial = given[count:] if len(given) > count else None
        ctx.of = (variant, how[1], count)
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        outputs, states = _eager(variant, given[:count], initial, how)
        return (*outputs, *states)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        wanted = ctx.needs_input_grad[3:]
        every = _Gradient.apply(ctx.of, wanted, *ctx.saved_tensors, *cotangents)
        return None, None, None, *every


class _Gradient(torch.autograd.Function):
    """The backward of a call: its own says that there is none, where a graph of it is kept."""

    @staticmethod
    def forward(ctx: Any, of: tuple[Variant, Sizes, int], wanted: Sequence[bool], *tensors: Any) -> tuple[Any, ...]:
        (variant, sizes, count), many = of, len(wanted)
        ctx.name = variant.name
        given, cotangents = tensors[:many], tensors[many:]
        seen = (cotangents[: variant._outputs], cotangents[variant._outputs :])
        found, states = gradients(variant, given[:count], given[count:] or None, seen, sizes)
        return tuple(one if needed else None for one, needed in zip([*found, *states], wanted))

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise _refusal(ctx.name)


def _refusal(name: str) -> Unsupported:
    operation, reason = f"the gradient of a gradient of `{name}`", "the adjoint's states scan both ways already"
    way_out = "ask for first gradients alone"
    return Unsupported(f"{operation} is unsupported: {reason}; {way_out}", operation, reason, way_out)


def _by_operator(
    variant: Variant,
    tensors: Sequence[Tensor],
    initial: Sequence[Tensor | None] | None,
    how: tuple[bool, Sizes, Tensor | None],
) -> tuple[list[Tensor], list[Tensor]]:
    wanted, sizes, packed = how
    axes = ",".join([f"{axis}={size}" for axis, size in sizes])
    results = operator(list(tensors), [] if initial is None else list(initial), variant._key, wanted, axes, packed)
    return results[: variant._outputs], results[variant._outputs :]


def _sizes(axes: str) -> Sizes:
    pairs = (pair.split("=") for pair in axes.split(",") if pair)
    return tuple((axis, int(size)) for axis, size in pairs)


def _of_key(key: str) -> Variant:
    known = _VARIANTS.get(key)
    if known is None:
        from ._variant import of_key

        known = _VARIANTS[key] = of_key(key)
    return known


@torch.library.custom_op("chunkwise::run", mutates_args=(), device_types="cpu")
def operator(
    inputs: Sequence[Tensor],
    initial: Sequence[Optional[Tensor]],
    key: str,
    wanted: bool,
    axes: str,
    packed: Optional[Tensor] = None,
) -> list[Tensor]:
    """Outputs and, if they are wanted, final states of the variant that the key names; `axes` are sizes: `Y=14,X=14`,
    `packed` where sequences begin."""
    variant, how = _of_key(key), (wanted, _sizes(axes))
    start = tuple(initial) if len(initial) else None
    if packed is None:
        outputs, states = _eager(variant, inputs, start, how)
        return [*outputs, *states]
    call = lambda own, start: _eager(variant, own, start, how)  # noqa: E731
    all_outputs, all_states = _packed.run(variant, tuple(inputs), start, _packed.bounds_of(packed), (call, torch.cat))
    return [*all_outputs, *all_states]


@operator.register_fake
def _fake(
    inputs: Sequence[Tensor],
    initial: Sequence[Optional[Tensor]],
    key: str,
    wanted: bool,
    axes: str,
    packed: Optional[Tensor] = None,
) -> list[Tensor]:
    variant = _of_key(key)
    outputs, states = variant._shapes([tuple(one.shape) for one in inputs], _sizes(axes))
    if packed is not None:
        _packed.token_of(variant)
        states = [[packed.shape[0] - 1, *shape[1:]] for shape in states]
    half = _half(variant, inputs)
    wide = torch.float64 if any(one.dtype == torch.float64 for one in inputs) else torch.float32
    made = [inputs[0].new_empty(shape, dtype=half or wide) for shape in outputs]
    if wanted:
        made += [inputs[0].new_empty(shape, dtype=wide) for shape in states]
    return made


@torch.library.custom_op("chunkwise::vjp", mutates_args=(), device_types="cpu")
def vjp_operator(
    inputs: Sequence[Tensor],
    initial: Sequence[Optional[Tensor]],
    cotangents: Sequence[Optional[Tensor]],
    key: str,
    axes: str,
    packed: Optional[Tensor] = None,
) -> list[Tensor]:
    """The gradients of `chunkwise::run`: of real inputs, then of the initial states that are given."""
    variant, sizes = _of_key(key), _sizes(axes)
    start = tuple(initial) if len(initial) else None
    seen = (cotangents[: variant._outputs], cotangents[variant._outputs :])
    if packed is None:
        found, states = gradients(variant, inputs, start, seen, sizes)
    else:
        call = functools.partial(_of_sequence, variant, sizes)
        given, bounds = (tuple(inputs), start, seen), _packed.bounds_of(packed)
        found, states = _packed.gradients(variant, given, bounds, (call, torch.cat))
    of_given = [one for one, first in zip(states, initial) if first is not None]
    return [one.contiguous() for one in [*found, *of_given] if one is not None]


def _of_sequence(
    variant: Variant,
    sizes: Sizes,
    inputs: Sequence[Tensor],
    initial: Sequence[Tensor | None] | None,
    cotangents: _gradient.Cotangents,
) -> _gradient.Gradients:
    return gradients(variant, inputs, initial, cotangents, sizes)


@vjp_operator.register_fake
def _fake_vjp(
    inputs: Sequence[Tensor],
    initial: Sequence[Optional[Tensor]],
    cotangents: Sequence[Optional[Tensor]],
    key: str,
    axes: str,
    packed: Optional[Tensor] = None,
) -> list[Tensor]:
    given = [one for one in inputs if one.is_floating_point()] + [one for one in initial if one is not None]
    return [one.new_empty(one.shape) for one in given]


def _set_up(ctx: Any, inputs: Any, output: Any) -> None:
    given, initial, key, _, axes, packed = inputs
    ctx.save_for_backward(*given, *initial, packed)
    ctx.of = (len(given), key, axes)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, cotangents: Any) -> Any:
    count, key, axes = ctx.of
    *given, packed = ctx.saved_tensors
    inputs, initial = given[:count], given[count:]
    found = iter(vjp_operator(inputs, initial, list(cotangents), key, axes, packed))
    of_inputs = [next(found) if one.is_floating_point() else None for one in inputs]
    return of_inputs, [one if one is None else next(found) for one in initial], None, None, None, None


def _set_up_vjp(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.name = _of_key(inputs[3]).name


def _backward_vjp(ctx: Any, *cotangents: Any) -> Any:
    raise _refusal(ctx.name)


vjp_operator.register_autograd(_backward_vjp, setup_context=_set_up_vjp)
operator.register_autograd(_backward, setup_context=_set_up)
operator.register_autocast("cpu", torch.float32)


class Module(torch.nn.Module):
    """A variant whose params are this module's parameters; called with the inputs alone."""

    def __init__(self, variant: Variant, params: dict[str, Tensor]) -> None:
        super().__init__()
        self.variant = variant
        for name, value in params.items():
            self.register_parameter(name, torch.nn.Parameter(value, requires_grad=value.is_floating_point()))

    def forward(self, *inputs: Tensor, **named: Any) -> Any:
        return self.variant._with_params(dict(self.named_parameters()), inputs, named)

    def extra_repr(self) -> str:
        return self.variant.name

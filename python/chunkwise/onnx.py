"""ONNX's operator `LinearAttention` (opset 27, and com.microsoft's before it) as a function of NumPy's or PyTorch's tensors, by
our kernels.

>>> import numpy as np
>>> q, k, v = np.random.default_rng(0).standard_normal((3, 1, 10, 2 * 16), np.float32)
>>> g, beta = -np.ones((1, 10, 2), np.float32), np.full((1, 10, 2), 0.5, np.float32)
>>> output, present_state = linear_attention(q, k / 4, v, decay=g, beta=beta, q_num_heads=2, kv_num_heads=2)
>>> output.shape, present_state.shape
((1, 10, 32), (1, 2, 16, 16))
"""

from __future__ import annotations

import functools
from typing import Any

from ._arrays import empty_like
from ._variant import Variant, compile
from .errors import ShapeError

__all__ = ["linear_attention"]

# Whether a rule has a decay, and an update rate.
RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}

# R query heads read one state: QUERY is a vector, or as many rows.
_TEXT = """variant NAME {
  axes    B, T, H, K, VAXES;
  input   q : [B,T,H,QUERY], k : [B,T,H,K], v : [B,T,H,V]GATES;
  param   scale : [];
  state   S : [K,V] = 0;
  LAW
  output  o[t] = scale * (READ);
}"""


@functools.cache
def _variant(rule: str, keyed: bool, grouped: bool) -> Variant:
    """The variant of a rule: whether decays are those of keys, and query heads share states."""
    decayed, corrected = RULES[rule]
    gates = (f", g : [B,T,H{',K' if keyed else ''}]" if decayed else "") + (", beta : [B,T,H]" if corrected else "")
    law = ("decay a[t] = exp(g[t]); " if decayed else "") + f"update S {'delta(k, v, beta)' if corrected else 'additive(k, v)'};"
    words = {"NAME": rule, "VAXES": "V, R" if grouped else "V", "QUERY": "R,K" if grouped else "K", "GATES": gates}
    words |= {"LAW": law, "READ": "q[t] * S[t]" if grouped else "S[t]' * q[t]"}
    text = _TEXT
    for word, meant in words.items():
        text = text.replace(word, meant)
    return compile(text)


def linear_attention(
    query: Any,
    key: Any,
    value: Any,
    past_state: Any = None,
    decay: Any = None,
    beta: Any = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    update_rule: str = "gated_delta",
    scale: float = 0.0,
    chunk_size: int = 64,
) -> tuple[Any, Any]:
    """`output` and `present_state`.

    Tensors are packed, `[B,T,heads*size]`, states `[B,kv heads,K,V]`; `decay` is of heads or of heads and keys, `beta` of
    heads or one for all. `scale` 0 is 1/sqrt(K). Sums are in float32, and results of the types that the operator says.
    `chunk_size` is a hint there, and says nothing here.
    """
    if update_rule not in RULES:
        raise ValueError(f"update_rule is {update_rule!r}, expected one of {', '.join(RULES)}")
    if kv_num_heads < 1 or q_num_heads < 1 or q_num_heads % kv_num_heads:
        raise ValueError(f"q_num_heads is {q_num_heads}, expected a multiple of kv_num_heads, {kv_num_heads}")
    for name, given, wanted in zip(("decay", "beta"), (decay, beta), RULES[update_rule]):
        if (given is not None) != wanted:
            raise ValueError(f"the rule {update_rule!r} {'needs' if wanted else 'has no'} `{name}`")
    heads, group = kv_num_heads, q_num_heads // kv_num_heads
    batch, tokens = query.shape[:2]
    q = _unpacked("query", query, (heads, group) if group > 1 else (heads,))
    k, v = _unpacked("key", key, (heads,)), _unpacked("value", value, (heads,))
    given, keyed = [q, k, v], False
    if decay is not None:
        keyed = decay.shape[-1] != heads or k.shape[-1] == 1
        given.append(_unpacked("decay", decay, (heads,)) if keyed else _wide(decay))
    if beta is not None:
        if beta.shape[-1] not in (heads, 1):
            raise ShapeError(f"`beta` has {beta.shape[-1]} numbers a token, expected {heads}, one a head, or 1")
        # One for all is spread by a product with ones of the right shape.
        given.append(_wide(beta) * _ones_like(value, (1, 1, heads)))
    times = _ones_like(value, ()) * (scale or k.shape[-1] ** -0.5)
    start = None if past_state is None else _wide(past_state)
    variant = _variant(update_rule, keyed, group > 1)
    o, state = variant(*given, times, initial_state=start, output_final_state=True)
    output = o.reshape(batch, tokens, q_num_heads * v.shape[-1])
    return _as(output, query), _as(state, query if past_state is None else past_state)


def _unpacked(name: str, tensor: Any, heads: tuple[int, ...]) -> Any:
    count = heads[0] if len(heads) == 1 else heads[0] * heads[1]
    if len(tensor.shape) != 3 or tensor.shape[-1] % count:
        raise ShapeError(f"`{name}` is {tuple(tensor.shape)}, expected [B,T,{count}*size]")
    return _wide(tensor.reshape(*tensor.shape[:2], *heads, tensor.shape[-1] // count))


def _wide(tensor: Any) -> Any:
    return tensor.float() if hasattr(tensor, "float") else tensor.astype("float32")


def _as(tensor: Any, like: Any) -> Any:
    return tensor.to(like.dtype) if hasattr(tensor, "float") else tensor.astype(like.dtype)


def _ones_like(tensor: Any, shape: tuple[int, ...]) -> Any:
    ones = empty_like(tensor)(shape, "float32")
    ones[...] = 1
    return ones

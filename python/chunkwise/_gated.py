"""The recurrences of flash-linear-attention's functions as variants, and a call of one. Not here: the functions (`fla`)."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor

from ._variant import Variant, compile
from .errors import Unsupported

Pair = tuple[Tensor, Optional[Tensor]]
State = Union[Tensor, tuple[Tensor, ...], None]

# Heads of one group share queries and keys.
_HEAD = """variant NAME {
  axes    B, T, G, R, H = G*R, K, V;
  input   q, k : [B,T,G,K], v : [B,T,H,V]GATES;
  param   scale : []PARAMS;
  state   S : [K,V] = 0;
"""
_UNIT = "feature unit(x) = l2norm(x) on q, k;"


def _linear(name: str, gates: str, law: str, params: str = "") -> Variant:
    text = _HEAD.replace("NAME", name).replace("GATES", gates).replace("PARAMS", params)
    return compile(f"{text}  {law}\n  output  o[t] = scale * (S[t]' * q[t]);\n}}")


def _normed(name: str, gates: str, decay: str) -> dict[bool, Variant]:
    """A delta rule, by whether queries and keys are normed."""
    law = f"{decay} update S delta(k, v, beta);"
    return {False: _linear(name, gates, law), True: _linear(name, gates, f"{_UNIT} {law}")}


ADDITIVE = _linear("linear_attn", "", "update S additive(k, v);")
CONSTANT = _linear("retention", "", "decay a = exp(rate); update S additive(k, v);", ", rate : [H]")
SCALAR = _linear("simple_gla", ", g : [B,T,H]", "decay a[t] = exp(g[t]); update S additive(k, v);")
DIAGONAL = _linear("gla", ", g : [B,T,G,K]", "decay a[t] = exp(g[t]); update S additive(k, v);")
DELTA = _normed("delta_rule", ", beta : [B,T,H]", "")
GATED_DELTA = _normed("gated_delta_rule", ", g, beta : [B,T,H]", "decay a[t] = exp(g[t]);")
KDA = _normed("kda", ", g : [B,T,H,K], beta : [B,T,H]", "decay a[t] = exp(g[t]);")
RWKV7 = _linear(
    "rwkv7", ", w, a, b : [B,T,H,K]", "update S[t] = (diag(exp(w[t])) + b[t] * a[t]') * S[t-1] + k[t] * v[t]';"
)
NORMALIZED = compile("""variant linear_attn_normalized {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V];
  param   scale : [];
  state   S : [K,V] = 0, z : [K] = 0;
  update  S additive(k, v);
  update  z additive(k);
  output  o[t] = scale * (S[t]' * q[t]) / (scale * (z[t]' * q[t]) + 1e-10);
}""")
RWKV6 = compile("""variant rwkv6 {
  axes    B, T, H, K, V;
  input   r, k : [B,T,H,K], v : [B,T,H,V], w : [B,T,H,K];
  param   scale : [], u : [H,K];
  state   S : [K,V] = 0;
  decay   a[t] = exp(w[t]);
  update  S additive(k, v);
  output  o[t] = scale * (S[t-1]' * r[t] + (r[t]' * (u .* k[t])) * v[t]);
}""")
HGRN = compile("""variant hgrn {
  axes    B, T, D;
  input   x, g : [B,T,D];
  state   s : [D] = 0;
  decay   a[t] = exp(g[t]);
  update  s additive(x);
  output  o[t] = s[t];
}""")


class How(NamedTuple):
    """What all functions are told alike."""

    initial_state: State
    output_final_state: bool
    cu_seqlens: Tensor | None
    state_v_first: bool = False


def run(variant: Variant, tensors: tuple[Tensor, ...], how: How) -> tuple[Tensor, Any]:
    given = [tensor.float() for tensor in tensors]
    start = how.initial_state
    if isinstance(start, tuple):
        start = tuple(one.float() for one in start)
    elif start is not None:
        start = start.float()
        start = start.transpose(-1, -2) if how.state_v_first else start
    named = {} if how.cu_seqlens is None else {"cu_seqlens": how.cu_seqlens}
    results = variant(*given, initial_state=start, output_final_state=how.output_final_state, **named)
    o, state = results if how.output_final_state else (results, None)
    if how.state_v_first and state is not None:
        state = state.transpose(-1, -2).contiguous()
    return o.to(tensors[0].dtype), state


def scale_of(q: Tensor, scale: float | None) -> Tensor:
    return torch.tensor(q.shape[-1] ** -0.5 if scale is None else scale, dtype=torch.float32)


def refuse(function: str, options: dict[str, Any]) -> None:
    """Raises what is asked for and not done here; hints for a kernel of a GPU say nothing here."""
    hints = ("cu_seqlens_cpu", "safe_gate", "lower_bound", "chunk_size", "chunk_indices", "disable_recompute")
    for name, value in options.items():
        if name in hints or value is None or value is False:
            continue
        operation, reason = f"`{name}` of `chunkwise.fla.{function}`", "no kernel does it"
        way_out = "do it in PyTorch before the call, or write the variant (docs/python.md)"
        raise Unsupported(f"{operation} is unsupported: {reason}; {way_out}", operation, reason, way_out)

"""How models of Hugging Face's transformers mix tokens, on compiled variants: one table, by the names of the functions that
their layers call. A function here takes the arguments of its namesake there, gives its results, and `NotImplemented` for
arguments that no layer of a model gives. Not here: how a model is made to call them (`transformers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ._variant import Variant, compile

Found = tuple[Tensor, Optional[Tensor]]

# Heads of one group share queries and keys; FEATURE stands for the norm of both.
GATED_DELTA_TEXT = """variant gated_delta_rule {
  axes    B, T, G, R, H = G*R, K, V;
  input   q, k : [B,T,G,K], v : [B,T,H,V], g, beta : [B,T,H];
  FEATURE
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);
  update  S delta(k, v, beta);
  output  o[t] = S[t]' * q[t] / sqrt(K);
}"""

KIMI_DELTA_TEXT = """variant kimi_delta_attention {
  axes    B, T, H, K, V;
  input   q, k, g : [B,T,H,K], v : [B,T,H,V], beta : [B,T,H];
  FEATURE
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);
  update  S delta(k, v, beta);
  output  o[t] = S[t]' * q[t] / sqrt(K);
}"""

# dt is positive and A negative: the steps, and the rate at which a head forgets. The state is laid out in one of two ways.
SSD_TEXT = """variant ssd {
  axes    B, T, G, R, H = G*R, N, V;
  input   x : [B,T,H,V], dt : [B,T,H], b, c : [B,T,G,N];
  param   A, skip : [H];
  let     u[t] = dt[t] * x[t];
  state   S : STATE = 0;
  decay   a[t] = exp(A * dt[t]);
  update  S additive(FACTORS);
  output  y[t] = READ * c[t] + skip * x[t];
}"""

SELECTIVE_SCAN_TEXT = """variant selective_scan {
  axes    B, T, D, N;
  input   x, dt : [B,T,D], b, c : [B,T,N];
  param   A : [D,N], skip : [D];
  let     u[t] = dt[t] .* x[t];
  state   S : [D,N] = 0;
  decay   a[t] = exp(diag(dt[t]) * A);
  update  S additive(u, b);
  output  y[t] = S[t] * c[t] + skip .* x[t];
}"""

# Out of range is 0.
CAUSAL_CONV_TEXT = """variant causal_conv {
  axes    B, T, C, N;
  input   x : [B,T,C];
  param   w : [N,C], bias : [C];
  output  y[t] = FEATURE(sum[n](w[n] .* x[t-N+1+n]) + bias);
}"""

# Channels stand in the place of tokens. `s` holds the inputs of the last N tokens.
CONV_STEP_TEXT = """variant causal_conv_step {
  axes    B, C, N;
  input   s : [B,C,N], x : [B,C], w : [C,N], bias : [C];
  let     next[c] = stack(cols(s[c], 1, N), x[c]);
  output  next[c];
  output  y[c] = FEATURE(next[c]' * w[c] + bias[c]);
}"""


def variant(text: str, **words: str) -> Variant:
    """The variant of a text, with words in it replaced."""
    for word, meant in words.items():
        text = text.replace(word, meant)
    return compile(text)


UNIT = "feature unit(x) = l2norm(x) on q, k;"
# By whether queries and keys are normed.
GATED_DELTA = {normed: variant(GATED_DELTA_TEXT, FEATURE=UNIT if normed else "") for normed in (False, True)}
KIMI_DELTA = {normed: variant(KIMI_DELTA_TEXT, FEATURE=UNIT if normed else "") for normed in (False, True)}
# By the activation.
CAUSAL_CONV = {name: variant(CAUSAL_CONV_TEXT, FEATURE=name or "") for name in (None, "silu")}
CONV_STEP = {name: variant(CONV_STEP_TEXT, FEATURE=name or "") for name in (None, "silu")}
SELECTIVE_SCAN = variant(SELECTIVE_SCAN_TEXT)
# Models keep [V,N]; read along its rows, a state is left twice as fast. Caches keep the strides of what they are given.
SSD_BY_N = variant(SSD_TEXT, STATE="[V,N]", FACTORS="u, b", READ="S[t]")
SSD_BY_V = variant(SSD_TEXT, STATE="[N,V]", FACTORS="b, u", READ="S[t]'")


def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> Found:
    mixed = GATED_DELTA[use_qk_l2norm_in_kernel]
    return _delta(mixed, (query, key, value, g, beta), initial_state, output_final_state)


def kimi_delta_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> Found:
    mixed = KIMI_DELTA[use_qk_l2norm_in_kernel]
    return _delta(mixed, (query, key, g, value, beta), initial_state, output_final_state)


def _delta(mixed: Variant, tensors: tuple[Tensor, ...], initial: Tensor | None, wanted: bool) -> Found:
    given = tuple(tensor.float() for tensor in tensors)
    if initial is not None and wanted and tensors[0].shape[1] == 1:
        # A cache is given this very tensor back.
        return _onward(mixed, given, initial).to(tensors[0].dtype), initial
    start = None if initial is None else initial.float()
    if not wanted:
        return mixed(*given, initial_state=start).to(tensors[0].dtype), None
    o, state = mixed(*given, initial_state=start, output_final_state=True)
    return o.to(tensors[0].dtype), state


def _onward(mixed: Variant, given: tuple[Tensor, ...], state: Tensor) -> Tensor:
    """One token's output; the state is then the one after it."""
    if state.dtype is torch.float32:
        y: Tensor = mixed.advance(*given, states=state)
        return y
    y, last = mixed(*given, initial_state=state.float(), output_final_state=True)
    state.copy_(last)
    return y


def causal_conv(
    hidden_states: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    **_: Any,
) -> Any:
    """`[B,C,T]` in and out, laid out as `[B,T,C]`: so do layers split it by channels."""
    if activation not in (None, "silu", "swish") or weight.dim() != 2:
        return NotImplemented
    bias = torch.zeros_like(weight[:, 0], dtype=torch.float32) if bias is None else bias.float()
    mixed = CAUSAL_CONV["silu" if activation else None]
    y: Tensor = mixed(hidden_states.transpose(1, 2).float(), weight.float().t(), bias)
    return y.transpose(1, 2).to(hidden_states.dtype)


def causal_conv_step(
    hidden_states: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    **_: Any,
) -> Any:
    """`[B,C,1]` in and out."""
    wide = conv_state.shape[-1] != weight.shape[-1] or weight.shape[-1] < 2 or hidden_states.shape[-1] != 1
    if wide or activation not in (None, "silu", "swish"):
        return NotImplemented
    bias = torch.zeros_like(weight[:, 0], dtype=torch.float32) if bias is None else bias.float()
    mixed = CONV_STEP["silu" if activation else None]
    after, y = mixed(conv_state.float(), hidden_states[:, :, 0].float(), weight.float(), bias)
    conv_state.copy_(after)
    return y.unsqueeze(-1).to(hidden_states.dtype)


def chunk_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    z: Tensor | None = None,
    **_: Any,
) -> Any:
    if z is not None or A.dim() != 1 or (D is not None and D.dim() != 1):
        return NotImplemented
    dt = _steps(dt, dt_bias, dt_softplus).clamp(*dt_limit)
    given = (*(one.float() for one in (hidden_states, dt, B, C, A)), _skip(D, A))
    if initial_states is not None:
        initial_states = initial_states.float().transpose(-1, -2)
    scan = SSD_BY_V
    if not return_final_states:
        return scan(*given, initial_state=initial_states)
    y, last = scan(*given, initial_state=initial_states, output_final_state=True)
    return y, last.transpose(-1, -2)


def chunk_scan_step(
    state: Tensor,
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    z: Tensor | None = None,
    **_: Any,
) -> Any:
    if not (_is_spread(dt, 2) and all(one is None or _is_spread(one, 1) for one in (A, D, dt_bias))):
        return NotImplemented
    A = A[:, 0, 0]
    dt = _steps(dt[..., 0], None if dt_bias is None else dt_bias[:, 0], dt_softplus)
    skip = _skip(None if D is None else D[:, 0], A)
    given = (*(one.float().unsqueeze(1) for one in (hidden_states, dt, B, C)), A.float(), skip)
    turned = state.transpose(-1, -2)
    if turned.is_contiguous():
        y = _onward(SSD_BY_V, given, turned)
    else:
        y = _onward(SSD_BY_N, given, state)
    return _gated(y[:, 0], z).to(hidden_states.dtype)


def _is_spread(tensor: Tensor, own: int) -> bool:
    """Whether the first axes alone have elements of their own: `[H,P,N]` expanded from one number a head."""
    strides = tensor.stride()[own:]
    return not any(strides) or all(stride == 0 or extent == 1 for stride, extent in zip(strides, tensor.shape[own:]))


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    dt = _steps(dt.transpose(1, 2), delta_bias, delta_softplus)
    given = (one.float() for one in (hidden_states.transpose(1, 2), dt, B.transpose(1, 2), C.transpose(1, 2), A))
    y, state = SELECTIVE_SCAN(*given, _skip(D, A[:, 0]), output_final_state=True)
    y = _gated(y.transpose(1, 2), z)
    return (y, state) if return_last_state else y


def selective_scan_step(
    state: Tensor,
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    z: Tensor | None = None,
    **_: Any,
) -> Any:
    dt = _steps(dt, dt_bias, dt_softplus)
    given = (*(one.float().unsqueeze(1) for one in (hidden_states, dt, B, C)), A.float(), _skip(D, A[:, 0]))
    y = _onward(SELECTIVE_SCAN, given, state)
    return _gated(y[:, 0], z).to(hidden_states.dtype)


def _steps(dt: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    if bias is not None:
        dt = dt + bias.to(dt.dtype)
    return F.softplus(dt) if softplus else dt


def _skip(D: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.float32) if D is None else D.float()


def _gated(y: Tensor, z: Tensor | None) -> Tensor:
    return y if z is None else y * F.silu(z)


# By what layers call. All architectures of one kind of layer call functions of the same name, body and arguments.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "causal_conv1d_fn": causal_conv,
    "causal_conv1d_update": causal_conv_step,
    "torch_chunk_gated_delta_rule": gated_delta_rule,
    "torch_recurrent_gated_delta_rule": gated_delta_rule,
    "chunk_kimi_delta_attention": kimi_delta_attention,
    "recurrent_kimi_delta_attention": kimi_delta_attention,
    "mamba2_chunk_scan": chunk_scan,
    "mamba2_selective_state_update": chunk_scan_step,
    "mamba_selective_scan": selective_scan,
    "mamba_selective_state_update": selective_scan_step,
}

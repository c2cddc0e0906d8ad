"""Functions of flash-linear-attention's names and signatures on the CPU: queries, keys `[B,T,H,K]`, values `[B,T,H,V]`, states
`[N,H,K,V]` in float32, and always the pair (o, final_state). A `chunk_` function and its `fused_recurrent_` namesake are the
same here: the engine takes the form that costs least. What a function there can do and this one cannot is refused.

>>> import torch
>>> from chunkwise.fla import chunk_gated_delta_rule
>>> q, k, v = torch.randn(3, 1, 100, 2, 16)
>>> g, beta = torch.nn.functional.logsigmoid(torch.randn(1, 100, 2)), torch.rand(1, 100, 2)
>>> o, state = chunk_gated_delta_rule(q, k, v, g, beta, output_final_state=True, use_qk_l2norm_in_kernel=True)
>>> o.shape, state.shape
(torch.Size([1, 100, 2, 16]), torch.Size([1, 2, 16, 16]))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _gated as of
from ._gated import How, Pair, State, refuse, run, scale_of


def chunk_linear_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: State = None,
    output_final_state: bool = False,
    normalize: bool = True,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, State]:
    """S[t] = S[t-1] + k v', o = S' q. Normalized, states are (S, z), z `[N,1,H,K]` the sum of keys, and o is over z' q."""
    if not normalize:
        return run(of.ADDITIVE, (q, k, v, scale_of(q, scale)), How(initial_state, output_final_state, cu_seqlens))
    if isinstance(initial_state, tuple):
        initial_state = (initial_state[0], initial_state[1].squeeze(1))
    elif initial_state is not None:
        zeros = initial_state.new_zeros(initial_state.shape[:-1])
        initial_state = (initial_state, zeros)
    o, state = run(of.NORMALIZED, (q, k, v, scale_of(q, scale)), How(initial_state, output_final_state, cu_seqlens))
    return o, None if state is None else (state[0], state[1].unsqueeze(1))


def fused_recurrent_linear_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: State = None,
    output_final_state: bool = False,
    reverse: bool = False,
    normalize: bool = False,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, State]:
    """As `chunk_linear_attn`."""
    refuse("fused_recurrent_linear_attn", {"reverse": reverse})
    return chunk_linear_attn(q, k, v, scale, initial_state, output_final_state, normalize, cu_seqlens)


def chunk_simple_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    g_gamma: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = exp(g[t] + g_gamma) S[t-1] + k v', with g `[B,T,H]` and g_gamma `[H]`, either or none of them."""
    refuse("chunk_simple_gla", kwargs)
    tensors, how = (q, k, v), How(initial_state, output_final_state, cu_seqlens, state_v_first)
    times = scale_of(q, scale)
    if g is not None:
        return run(of.SCALAR, (*tensors, g if g_gamma is None else g + g_gamma, times), how)
    return run(of.ADDITIVE, (*tensors, times), how) if g_gamma is None else run(of.CONSTANT, (*tensors, times, g_gamma), how)


def fused_recurrent_simple_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    g_gamma: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """As `chunk_simple_gla`."""
    refuse("fused_recurrent_simple_gla", {"reverse": reverse, **kwargs})
    return chunk_simple_gla(q, k, v, g, g_gamma, scale, initial_state, output_final_state, state_v_first, cu_seqlens)


def chunk_retention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = (1 - 2^(-5-h)) S[t-1] + k v' for head h."""
    heads = torch.arange(v.shape[2], dtype=torch.float32)
    g_gamma = (1 - 2.0 ** (-5 - heads)).log()
    how = (scale, initial_state, output_final_state)
    return chunk_simple_gla(q, k, v, None, g_gamma, *how, cu_seqlens=cu_seqlens, **kwargs)


def fused_recurrent_retention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """As `chunk_retention`."""
    options = {"reverse": reverse, "state_v_first": state_v_first, **kwargs}
    refuse("fused_recurrent_retention", options)
    return chunk_retention(q, k, v, scale, initial_state, output_final_state, cu_seqlens)


def chunk_lightning_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layer_idx: int,
    num_layers: int,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = exp(-8/H (1 - layer_idx/num_layers) h) S[t-1] + k v' for head h."""
    heads = v.shape[2]
    g_gamma = -(8 / heads * (1 - layer_idx / num_layers)) * torch.arange(heads, dtype=torch.float32)
    how = (scale, initial_state, output_final_state)
    return chunk_simple_gla(q, k, v, None, g_gamma, *how, cu_seqlens=cu_seqlens, **kwargs)


def fused_recurrent_lightning_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layer_idx: int,
    num_layers: int,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Pair:
    """As `chunk_lightning_attn`."""
    refuse("fused_recurrent_lightning_attn", {"reverse": reverse})
    return chunk_lightning_attn(q, k, v, layer_idx, num_layers, scale, initial_state, output_final_state, cu_seqlens)


def chunk_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
) -> Pair:
    """S[t] = diag(exp(g[t])) S[t-1] + k v', with g `[B,T,H,K]`."""
    how = How(initial_state, output_final_state, cu_seqlens, state_v_first)
    return run(of.DIAGONAL, (q, k, v, g, scale_of(q, scale)), how)


def fused_recurrent_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gk: Tensor | None = None,
    gv: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """As `chunk_gla`, with gk for g."""
    refuse("fused_recurrent_gla", {"gv": gv, "reverse": reverse, **kwargs})
    how = (scale, initial_state, output_final_state)
    if gk is None:
        return chunk_simple_gla(q, k, v, None, None, *how, state_v_first, cu_seqlens)
    return chunk_gla(q, k, v, gk, *how, state_v_first, cu_seqlens)


def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = (I - beta k k') S[t-1] + beta k v', with beta `[B,T,H]`."""
    refuse("chunk_delta_rule", kwargs)
    how = How(initial_state, output_final_state, cu_seqlens)
    return run(of.DELTA[use_qk_l2norm_in_kernel], (q, k, v, beta, scale_of(q, scale)), how)


def fused_recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Pair:
    """As `chunk_delta_rule`; beta is 1 if it is not given."""
    beta = torch.ones_like(v[..., 0]) if beta is None else beta
    how = (scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
    return chunk_delta_rule(q, k, v, beta, *how)


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    chunk_indices: Tensor | None = None,
    cp_context: Any = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = exp(g) (I - beta k k') S[t-1] + beta k v', with g and beta `[B,T,H]`; keys may have fewer heads than values."""
    refuse("chunk_gated_delta_rule", {"cp_context": cp_context, **kwargs})
    beta = _rates(beta, use_beta_sigmoid_in_kernel, allow_neg_eigval)
    how = How(initial_state, output_final_state, cu_seqlens, state_v_first)
    return run(of.GATED_DELTA[use_qk_l2norm_in_kernel], (q, k, v, g, beta, scale_of(q, scale)), how)


def fused_recurrent_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    gk: Tensor | None = None,
    gv: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """As `chunk_gated_delta_rule`; without g nothing decays, without beta it is 1."""
    refuse("fused_recurrent_gated_delta_rule", {"gk": gk, "gv": gv, "use_gate_in_kernel": use_gate_in_kernel, **kwargs})
    g = torch.zeros_like(v[..., 0]) if g is None else g
    beta = torch.ones_like(v[..., 0]) if beta is None else beta
    rates = (use_beta_sigmoid_in_kernel, allow_neg_eigval)
    how = (scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, *rates, state_v_first, cu_seqlens)
    return chunk_gated_delta_rule(q, k, v, g, beta, *how)


def chunk_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    safe_gate: bool = False,
    lower_bound: float | None = None,
    disable_recompute: bool = False,
    return_intermediate_states: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    cp_context: Any = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = (I - beta k k') diag(exp(g)) S[t-1] + beta k v', with g `[B,T,H,K]` and beta `[B,T,H]`."""
    options = {"use_gate_in_kernel": use_gate_in_kernel, "return_intermediate_states": return_intermediate_states}
    refuse("chunk_kda", {**options, "cp_context": cp_context, **kwargs})
    beta = _rates(beta, use_beta_sigmoid_in_kernel, allow_neg_eigval)
    how = How(initial_state, output_final_state, cu_seqlens, state_v_first)
    return run(of.KDA[use_qk_l2norm_in_kernel], (q, k, v, g, beta, scale_of(q, scale)), how)


def fused_recurrent_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    lower_bound: float | None = None,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """As `chunk_kda`."""
    refuse("fused_recurrent_kda", {"use_gate_in_kernel": use_gate_in_kernel, **kwargs})
    rates = (use_qk_l2norm_in_kernel, False, use_beta_sigmoid_in_kernel, allow_neg_eigval)
    where = {"state_v_first": state_v_first, "cu_seqlens": cu_seqlens}
    return chunk_kda(q, k, v, g, beta, scale, initial_state, output_final_state, *rates, **where)


def _rates(beta: Tensor, sigmoid: bool, doubled: bool) -> Tensor:
    beta = beta.float().sigmoid() if sigmoid else beta
    return beta * 2 if doubled else beta


def chunk_rwkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w: Tensor,
    u: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    **kwargs: Any,
) -> Pair:
    """S[t] = diag(exp(w)) S[t-1] + k v', o = (S[t-1] + diag(u) k v')' r, with u `[H,K]`."""
    refuse("chunk_rwkv6", kwargs)
    how = How(initial_state, output_final_state, cu_seqlens)
    return run(of.RWKV6, (r, k, v, w, scale_of(r, scale), u), how)


def fused_recurrent_rwkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w: Tensor,
    u: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Pair:
    """As `chunk_rwkv6`."""
    refuse("fused_recurrent_rwkv6", {"reverse": reverse})
    return chunk_rwkv6(r, k, v, w, u, scale, initial_state, output_final_state, cu_seqlens)


def chunk_rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    scale: float | None = 1.0,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    safe_gate: bool = False,
    chunk_size: int | None = None,
    disable_recompute: bool = False,
    cp_context: Any = None,
    lower_bound: float | None = None,
) -> Pair:
    """S[t] = (diag(exp(w)) + b a') S[t-1] + k v'."""
    refuse("chunk_rwkv7", {"cp_context": cp_context})
    how = How(initial_state, output_final_state, cu_seqlens)
    return run(of.RWKV7, (r, k, v, w, a, b, scale_of(r, scale)), how)


def fused_recurrent_rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = True,
    cu_seqlens: Tensor | None = None,
) -> Pair:
    """As `chunk_rwkv7`; `scale` is 1/sqrt(K) if it is not given."""
    return chunk_rwkv7(r, w, k, v, a, b, scale, initial_state, output_final_state, cu_seqlens)


def chunk_hgrn(x: Tensor, g: Tensor, initial_state: Tensor | None = None, output_final_state: bool = False) -> Pair:
    """h[t] = exp(g) .* h[t-1] + x, with x and g `[B,T,D]` and the state `[N,D]`."""
    return run(of.HGRN, (x, g), How(initial_state, output_final_state, None))


def fused_recurrent_hgrn(
    x: Tensor,
    g: Tensor,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Pair:
    """As `chunk_hgrn`."""
    return run(of.HGRN, (x, g), How(initial_state, output_final_state, cu_seqlens))

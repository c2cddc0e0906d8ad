"""The recurrences that train.py compares with, token by token in PyTorch, by the names of their variants."""

import torch
from torch.nn.functional import logsigmoid, normalize, softplus


def _read(S, q):
    return torch.einsum("bhkv,bhk->bhv", S, q)


def _outer(k, v):
    return k.unsqueeze(-1) * v.unsqueeze(-2)


def _scan(step, v, keys, *at):
    """Outputs of `step(S, at t) -> (S, o)` over all tokens, from a state of zeros."""
    S, outputs = v.new_zeros(v.shape[0], v.shape[2], keys, v.shape[3]), []
    for tokens in zip(*(one.unbind(1) for one in at)):
        S, o = step(S, *tokens)
        outputs.append(o)
    return torch.stack(outputs, 1)


def gated_deltanet(q, k, v, g, beta):
    q, k, keys = normalize(q, dim=-1), normalize(k, dim=-1), q.shape[-1]

    def step(S, q, k, v, g, beta):
        S = S * g.exp()[..., None, None]
        S = S + _outer(k, beta.unsqueeze(-1) * (v - _read(S, k)))
        return S, _read(S, q) / keys**0.5

    return _scan(step, v, keys, q, k, v, g, beta)


def gla(q, k, g, v):
    keys = q.shape[-1]

    def step(S, q, k, a, v):
        S = S * a.unsqueeze(-1) + _outer(k, v)
        return S, _read(S, q) / keys**0.5

    return _scan(step, v, keys, q, k, (logsigmoid(g) / 16).exp(), v)


def mamba2(x, dt0, b, c, A_log, dt_bias, skip):
    dt, ratio = softplus(dt0 + dt_bias), x.shape[2] // b.shape[2]
    a, b, c = (-(A_log.exp() * dt)).exp(), b.repeat_interleave(ratio, 2), c.repeat_interleave(ratio, 2)

    def step(S, a, b, u, c):
        S = S * a[..., None, None] + _outer(b, u)
        return S, _read(S, c)

    return _scan(step, x, b.shape[-1], a, b, dt.unsqueeze(-1) * x, c) + skip.unsqueeze(-1) * x


def agreement(q, k, v, beta):
    q, k = normalize(q, dim=-1), normalize(k, dim=-1)

    def step(S, q, k, v, a, beta):
        write = beta.unsqueeze(-1)
        S = a[..., None, None] * (S - _outer(k, write * _read(S, k))) + _outer(k, write * v)
        return S, _read(S, q)

    return _scan(step, v, q.shape[-1], q, k, v, torch.sigmoid(4 + 2 * (q * k).sum(-1)), beta)

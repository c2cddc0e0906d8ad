"""JAX, compiled by XLA: a scan over tokens, a scan over chunks of 64, and the step of one token for decoding.

Decays by rows enter the chunks as quotients of exponentials: for mild decays only (the check of outputs says when not)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

CHUNK = 64
turned = lambda x: jnp.swapaxes(x, -1, -2)


def featured(variant, q, k, v):
    if variant == "linear":
        return jax.nn.elu(q) + 1, jax.nn.elu(k) + 1, jnp.concatenate((v, jnp.ones_like(v[..., :1])), -1)
    return q if variant == "rwkv7" else q * q.shape[-1] ** -0.5, k, v


def normalised(variant, o):
    return o[..., :-1] / o[..., -1:] if variant == "linear" else o


def token(variant, S, x):
    """One token, [B,H,..]."""
    q, k, v = featured(variant, x["q"], x["k"], x["v"])
    read = lambda row, S: jnp.einsum("bhk,bhkv->bhv", row, S)
    outer = lambda k, u: k[..., :, None] * u[..., None, :]
    fed = outer(x["b"], read(x["a"], S)) if "a" in x else 0
    if "g" in x:
        S = S * (jnp.exp(x["g"])[..., None] if x["g"].ndim == 3 else jnp.exp(x["g"])[..., None, None])
    elif "gamma" in x:
        S = S * x["gamma"][:, None, None]
    u = x["beta"][..., None] * (v - read(k, S)) if "beta" in x else v
    S = S + fed + outer(k, u)
    return S, normalised(variant, read(q, S))


def chunk(variant, S, x):
    """One chunk, [B,H,C,..]."""
    q, k, v = featured(variant, x["q"], x["k"], x["v"])
    C = q.shape[-2]
    G = None
    if "g" in x:
        G = jnp.cumsum(x["g"], 2)
        G = G if G.ndim == 4 else G[..., None]
    elif "gamma" in x:
        G = (jnp.log(x["gamma"])[:, None] * jnp.arange(1, C + 1))[..., None]
    grown = lambda x: x if G is None else x * jnp.exp(G)
    if G is None:
        scores, kept, decay = (lambda x: x @ turned(k)), k, 1.0
    else:
        last = G[..., -1:, :]
        kept, decay = k * jnp.exp(last - G), turned(jnp.exp(last))
        if G.shape[-1] == 1:
            D = jnp.exp(jnp.where(jnp.tri(C, dtype=bool), G - turned(G), -jnp.inf))
            scores = lambda x: (x @ turned(k)) * D
        else:
            scores = lambda x: grown(x) @ turned(k * jnp.exp(-G))
    u = v
    if "beta" in x:
        beta = x["beta"][..., None]
        sides = beta * v - grown(beta * k) @ S
        u = solve_triangular(jnp.tril(scores(beta * k), -1), sides, lower=True, unit_diagonal=True)
    o = grown(q) @ S + jnp.tril(scores(q)) @ u
    return decay * S + turned(kept) @ u, normalised(variant, o)


def whole(variant, chunked):
    """All tokens: a compiled function of the tensors."""
    def run(x):
        B, T, H, K = x["q"].shape
        fixed = {name: y for name, y in x.items() if y.ndim == 1}
        def cut(y):
            y = jnp.moveaxis(y, 1, 0)
            if not chunked:
                return y
            y = y.reshape(T // CHUNK, CHUNK, *y.shape[1:])
            return jnp.moveaxis(y, 1, 3)
        start = jnp.zeros((B, H, K, K + (variant == "linear")), jnp.float32)
        one = chunk if chunked else token
        S, o = lax.scan(lambda S, y: one(variant, S, {**y, **fixed}), start,
                        {name: cut(y) for name, y in x.items() if y.ndim > 1})
        o = jnp.moveaxis(o, 3, 1).reshape(T, B, H, K) if chunked else o
        return jnp.moveaxis(o, 0, 1), S
    return jax.jit(run)


def program(variant, tensors, threads, carry, chunked=False):
    B, T, H, K = tensors["q"].shape
    if chunked and (carry or variant == "rwkv7" or T % CHUNK):
        raise NotImplementedError(f"{variant} of {T} tokens in chunks")
    x = {name: jnp.asarray(y) for name, y in tensors.items()}
    step = jax.jit(lambda S, y: token(variant, S, y), donate_argnums=0)
    tokens = [{name: y if y.ndim == 1 else y[:, t] for name, y in x.items()} for t in range(T)] if carry else []
    run = whole(variant, chunked)
    made, o, S = 0, None, jnp.zeros((B, H, K, K + (variant == "linear")), jnp.float32)

    def call():
        nonlocal made, o, S
        if carry:
            S, o = step(S, tokens[made % T])
        else:
            o, S = run(x)
        jax.block_until_ready((o, S))
        made += 1

    return call, lambda: {"o": np.asarray(o[:, None] if carry else o), "S": np.asarray(S)[..., :K]}

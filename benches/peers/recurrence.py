"""The variants as float64 recurrences, and tensors drawn for them: what every program's output is checked against.

With R[t] = decay[t] S[t-1], by rows of S:   S[t] = R[t] + k[t] u[t]',   o[t] = S[t]' q[t] / sqrt(K)
    linear        no decay, u = v; q and k through elu(x) + 1; o divided by the sum of weights in place of sqrt(K)
    retnet        decay gamma[h], u = v
    ssd, gla      decay exp(g[t]), a number or one a row, u = v
    delta         no decay, u = beta (v - R' k)
    gated_delta   decay exp(g[t]), a number, u = beta (v - R' k)
    kda           decay exp(g[t]), one a row, u = beta (v - R' k)
    rwkv7         decay exp(g[t]), one a row, u = v, and b (S[t-1]' a)' added; no sqrt(K)
"""

import numpy as np

TENSORS = {
    "linear": "q k v", "retnet": "q k v gamma", "ssd": "q k v g", "gla": "q k v g", "delta": "q k v beta",
    "gated_delta": "q k v g beta", "kda": "q k v g beta", "rwkv7": "q k v g a b",
}
BY_ROWS = ("gla", "kda", "rwkv7")
DELTA = ("delta", "gated_delta", "kda")


def tensors(variant, B, T, H, K, seed=0):
    """Inputs in f32, [B,T,H,..]; V = K. Decays are mild: logsigmoid(normal) / 16."""
    draw = np.random.default_rng(seed)
    normal = lambda *own: draw.standard_normal((B, T, H, *own))
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    keys = (lambda: unit(normal(K))) if variant in DELTA else (lambda: normal(K) / (K**0.5 if variant == "rwkv7" else 1))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    all_of = {"q": keys, "k": keys, "v": lambda: normal(K), "beta": lambda: sigmoid(normal()),
              "g": lambda: np.log(sigmoid(normal(*[K] * (variant in BY_ROWS)))) / 16,
              "gamma": lambda: 1 - 2.0 ** (-5 - np.arange(H))}
    found = {name: all_of[name]() for name in TENSORS[variant].split() if name in all_of}
    if variant == "rwkv7":
        kappa = unit(normal(K))
        found |= {"a": -kappa, "b": kappa * sigmoid(normal(K))}
    return {name: np.ascontiguousarray(found[name], np.float32) for name in TENSORS[variant].split()}


def expected(variant, given):
    """The outputs [B,T,H,V] and the final state [B,H,K,V]."""
    x = {name: tensor.astype(np.float64) for name, tensor in given.items()}
    q, k, v = x["q"], x["k"], x["v"]
    read = lambda row, S: np.einsum("bhk,bhkv->bhv", row, S)
    outer = lambda k, u: k[..., :, None] * u[..., None, :]
    if variant == "linear":
        q, k = (np.where(y > 0, y + 1, np.exp(np.minimum(y, 0))) for y in (q, k))
    B, T, H, K = q.shape
    S, o = np.zeros((B, H, K, v.shape[-1])), np.empty_like(v)
    for t in range(T):
        fed = outer(x["b"][:, t], read(x["a"][:, t], S)) if "a" in x else 0
        if "g" in x:
            decay = np.exp(x["g"][:, t])
            S = S * (decay[..., None] if variant in BY_ROWS else decay[..., None, None])
        elif "gamma" in x:
            S = S * x["gamma"][:, None, None]
        u = x["beta"][:, t][..., None] * (v[:, t] - read(k[:, t], S)) if "beta" in x else v[:, t]
        S = S + fed + outer(k[:, t], u)
        o[:, t] = read(q[:, t], S)
    if variant == "linear":
        return o / np.einsum("bthk,bthk->bth", q, np.cumsum(k, 1))[..., None], S
    return o if variant == "rwkv7" else o / K**0.5, S


def flops(variant, B, T, H, K):
    """Of the passes over the state that the recurrence cannot do without, 2 K V each: write, read, correct, feed."""
    return 2 * K * K * B * T * H * (4 if variant == "rwkv7" else 3 if variant in DELTA else 2)

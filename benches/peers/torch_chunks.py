"""PyTorch: the chunked form in batched products, 64 tokens a chunk, as it is or with its halves compiled; the step of one
token for decoding; and the product that rates are held against.

Decays by rows enter as quotients of exponentials: one product, for mild decays only (the check of outputs says when not)."""

import torch
import torch.nn.functional as F

CHUNK = 64


def apart(x):
    """[B,T,H,..] as [B,H,N,C,..]."""
    B, T, H = x.shape[:3]
    return x.reshape(B, T // CHUNK, CHUNK, H, *x.shape[3:]).movedim(3, 1).contiguous()


def gates(variant, x):
    """The decays' logs summed up within a chunk: [B,H,N,C,1], [B,H,N,C,K], or None."""
    if "g" in x:
        g = apart(x["g"]).cumsum(3)
        return g if g.dim() == 5 else g[..., None]
    if "gamma" in x:
        B, T = x["q"].shape[:2]
        return (x["gamma"].log()[:, None, None] * torch.arange(1, CHUNK + 1)).expand(B, -1, T // CHUNK, -1)[..., None]
    return None


def within(variant, x):
    """What every chunk computes on its own."""
    q, k, v = apart(x["q"]), apart(x["k"]), apart(x["v"])
    if variant == "linear":
        q, k, v = F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0)
    else:
        q = q * q.shape[-1] ** -0.5
    G = gates(variant, x)
    below = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    if G is None:
        scores, grown, kept, decay = (lambda x, strict: (x @ k.mT).tril(-strict)), (lambda x: x), k, None
    else:
        grown, kept, decay = (lambda x: x * G.exp()), k * (G[..., -1:, :] - G).exp(), G[..., -1:, :].exp().mT
        if G.shape[-1] == 1:
            D = (G - G.mT).masked_fill(~below, -torch.inf).exp()
            scores = lambda x, strict: ((x @ k.mT) * D).tril(-strict)
        else:
            shrunk = k * (-G).exp()
            scores = lambda x, strict: (grown(x) @ shrunk.mT).tril(-strict)
    found = {"q": grown(q), "A": scores(q, 0), "k": kept.mT, "decay": decay}
    if "beta" not in x:
        return found | {"u": v, "writes": kept.mT @ v}
    beta = apart(x["beta"])[..., None]
    sides = torch.cat((v * beta, grown(k * beta)), -1)
    solved = torch.linalg.solve_triangular(scores(k * beta, 1), sides, upper=False, unitriangular=True)
    return found | {"u": solved[..., :v.shape[-1]], "w": solved[..., v.shape[-1]:]}


def along(found):
    """The state at the start of every chunk, the final one, and what the chunks write."""
    u, decay = found["u"], found["decay"]
    S = u.new_zeros(*u.shape[:2], found["q"].shape[-1], u.shape[-1])
    states, written = u.new_empty(*u.shape[:3], *S.shape[2:]), u if "w" not in found else torch.empty_like(u)
    for n in range(u.shape[2]):
        states[:, :, n] = S
        if "w" in found:
            written[:, :, n] = u[:, :, n] - found["w"][:, :, n] @ S
            more = found["k"][:, :, n] @ written[:, :, n]
        else:
            more = found["writes"][:, :, n]
        S = more + S if decay is None else torch.addcmul(more, S, decay[:, :, n])
    return states, S, written


def outputs(variant, q, A, states, written):
    o = q @ states + A @ written
    if variant == "linear":
        o = o[..., :-1] / o[..., -1:]
    return o.movedim(1, 3).flatten(1, 2)


def step(variant, S, x):
    """One token, [B,H,..]; the state is changed in place."""
    q, k, v = x["q"], x["k"], x["v"]
    if variant == "linear":
        q, k, v = F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0)
    elif variant != "rwkv7":
        q = q * q.shape[-1] ** -0.5
    read = lambda row: (row[..., None, :] @ S)[..., 0, :]
    fed = read(x["a"]) if "a" in x else None
    if "g" in x:
        S.mul_(x["g"].exp()[..., None] if x["g"].dim() == 3 else x["g"].exp()[..., None, None])
    elif "gamma" in x:
        S.mul_(x["gamma"][:, None, None])
    if fed is not None:
        S.addcmul_(x["b"][..., :, None], fed[..., None, :])
    u = v if "beta" not in x else (v - read(k)) * x["beta"][..., None]
    S.addcmul_(k[..., :, None], u[..., None, :])
    o = read(q)
    return o[..., :-1] / o[..., -1:] if variant == "linear" else o


def decoding(variant, tensors, compiled):
    B, T, H, K = tensors["q"].shape
    tokens = [{name: x if x.dim() == 1 else x[:, t].contiguous() for name, x in tensors.items()} for t in range(T)]
    S = torch.zeros(B, H, K, K + (variant == "linear"))
    one = torch.compile(step, dynamic=False) if compiled else step
    made, o = 0, None

    def call():
        nonlocal made, o
        with torch.inference_mode():
            o = one(variant, S, tokens[made % T])
        made += 1

    return call, lambda: {"o": o[:, None].numpy(), "S": S[..., :K].numpy()}


def program(variant, tensors, threads, carry, compiled=False):
    torch.set_num_threads(threads)
    tensors = {name: torch.from_numpy(x) for name, x in tensors.items()}
    if carry:
        return decoding(variant, tensors, compiled)
    T, K = tensors["q"].shape[1], tensors["q"].shape[3]
    if variant == "rwkv7" or T % CHUNK:
        raise NotImplementedError(f"{variant} of {T} tokens")
    first, last = (torch.compile(part, dynamic=False) if compiled else part for part in (within, outputs))
    o, S = None, None

    def call():
        nonlocal o, S
        with torch.inference_mode():
            found = first(variant, tensors)
            states, S, written = along(found)
            o = last(variant, found["q"], found["A"], states, written)

    return call, lambda: {"o": o.numpy(), "S": S[..., :K].numpy()}


def sgemm(threads):
    """A product of 2048 x 2048 f32 matrices."""
    torch.set_num_threads(threads)
    a, b = torch.ones(2048, 2048), torch.ones(2048, 2048)
    return (lambda: torch.matmul(a, b)), dict

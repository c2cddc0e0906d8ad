"""Functions of flash-linear-attention's names, against loops over tokens that are written here."""

import inspect

import pytest

import chunkwise

torch = pytest.importorskip("torch")
fla = pytest.importorskip("chunkwise.fla")

B, T, H, K, V = 2, 37, 4, 8, 6


def draw(*shape):
    return torch.randn(*shape)


def gates(*shape):
    return torch.nn.functional.logsigmoid(torch.randn(*shape))


def loop(update, q, v, *tensors, state=None, scale=None, before=None):
    """S[t] = update(S[t-1], v[t], the others at t) and S' q scale; `before` is read from S[t-1] beside it."""
    keys = q.shape[-1]
    S = torch.zeros(q.shape[0], v.shape[2], keys, v.shape[-1]) if state is None else state.clone()
    outputs = []
    for t in range(q.shape[1]):
        at = [one[:, t] for one in tensors]
        last, S = S, update(S, v[:, t], *at)
        read = S if before is None else before(last, v[:, t], *at)
        outputs.append(torch.einsum("bhkv,bhk->bhv", read, q[:, t]) * (keys**-0.5 if scale is None else scale))
    return torch.stack(outputs, 1), S


def outer(k, v):
    return k.unsqueeze(-1) * v.unsqueeze(-2)


def additive(S, v, k, g=None):
    if g is not None:
        S = S * g.exp().reshape(*g.shape, *[1] * (4 - g.dim()))
    return S + outer(k, v)


def delta(S, v, k, beta, g=None):
    if g is not None:
        S = S * g.exp().reshape(*g.shape, *[1] * (4 - g.dim()))
    return S + outer(k, beta.unsqueeze(-1) * (v - torch.einsum("bhkv,bhk->bhv", S, k)))


def dplr(S, v, k, w, a, b):
    return S * w.exp().unsqueeze(-1) + outer(b, torch.einsum("bhkv,bhk->bhv", S, a)) + outer(k, v)


def unit(x):
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


q, k, v, S0 = draw(B, T, H, K), draw(B, T, H, K), draw(B, T, H, V), draw(B, H, K, V)
g, gk, beta = gates(B, T, H), gates(B, T, H, K), torch.rand(B, T, H)
w, a, b, u = -0.6 * torch.rand(B, T, H, K), unit(draw(B, T, H, K)), None, draw(H, K)
b = -a * torch.rand(B, T, H, K)
gamma = (1 - 2.0 ** (-5 - torch.arange(H))).log().expand(B, T, H)
slope = (-(8 / H * (1 - 3 / 12)) * torch.arange(H)).expand(B, T, H)
normed = dict(use_qk_l2norm_in_kernel=True)

CALLS = {
    "linear_attn": ((q, k, v), dict(normalize=False), (additive, q, v, k)),
    "simple_gla": ((q, k, v, g), {}, (additive, q, v, k, g)),
    "retention": ((q, k, v), {}, (additive, q, v, k, gamma)),
    "lightning_attn": ((q, k, v, 3, 12), {}, (additive, q, v, k, slope)),
    "gla": ((q, k, v, gk), {}, (additive, q, v, k, gk)),
    "delta_rule": ((q, k, v, beta), normed, (delta, unit(q), v, unit(k), beta)),
    "gated_delta_rule": ((q, k, v), dict(g=g, beta=beta, **normed), (delta, unit(q), v, unit(k), beta, g)),
    "kda": ((q, k, v, gk, beta), normed, (delta, unit(q), v, unit(k), beta, gk)),
    "rwkv7": ((q, w, k, v, a, b), {}, (dplr, q, v, k, w, a, b)),
}


def close(got, wanted):
    return torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["chunk", "fused_recurrent"])
def test_it_is_the_recurrence(name, kind):
    function = getattr(fla, f"{kind}_{name}")
    given, named, (update, *tensors) = CALLS[name]
    for scale, start in [(0.3, None), (0.3, S0)]:
        wanted, last = loop(update, *tensors, state=start, scale=scale)
        o, state = function(*given, **named, scale=scale, initial_state=start, output_final_state=True)
        assert close(o, wanted) and close(state, last)
    found = function(*given, **named, scale=0.3, output_final_state=False)
    assert isinstance(found, tuple) and found[1] is None and close(found[0], loop(update, *tensors, scale=0.3)[0])


@pytest.mark.parametrize("name", CALLS)
def test_it_trains(name):
    given, named, (update, *tensors) = CALLS[name]
    leaves = {id(one): one.clone().requires_grad_() for one in (*given, S0) if isinstance(one, torch.Tensor)}
    leaves |= {id(one): one.clone().requires_grad_() for one in named.values() if isinstance(one, torch.Tensor)}
    leaf = lambda one: leaves.get(id(one), one)  # noqa: E731
    # What the loop is given normed is made of the leaves here.
    raw = [next((raw for raw in (q, k) if torch.equal(one, unit(raw))), None) for one in tensors]
    own = [leaf(one) if of is None else unit(leaf(of)) for one, of in zip(tensors, raw)]
    wanted, last = loop(update, *own, state=leaf(S0), scale=0.3)
    how = dict(scale=0.3, initial_state=leaf(S0), output_final_state=True)
    o, state = getattr(fla, f"chunk_{name}")(*map(leaf, given), **{key: leaf(one) for key, one in named.items()}, **how)
    value = lambda o, state: (o * o.detach().cos()).sum() + (state * state.detach().sin()).sum()  # noqa: E731
    of = list(leaves.values())
    for got, known in zip(torch.autograd.grad(value(o, state), of), torch.autograd.grad(value(wanted, last), of)):
        assert close(got, known)


@pytest.mark.parametrize("name", CALLS)
def test_sequences_may_be_packed(name):
    function = getattr(fla, f"chunk_{name}")
    given, named, _ = CALLS[name]
    cu_seqlens = torch.tensor([0, 5, 5, 21, T])

    def of(start, end):
        cut = lambda one: one[:1, start:end] if isinstance(one, torch.Tensor) else one
        return [cut(one) for one in given], {name: cut(one) for name, one in named.items()}

    states = draw(4, H, K, V)
    whole, names = of(0, T)
    how = dict(output_final_state=True, cu_seqlens=cu_seqlens)
    o, last = function(*whole, **names, initial_state=states, **how)
    for n, (start, end) in enumerate(zip(cu_seqlens.tolist(), cu_seqlens.tolist()[1:])):
        one, names = of(start, end)
        wanted, state = function(*one, **names, initial_state=states[n : n + 1], output_final_state=True)
        assert torch.equal(o[:, start:end], wanted) and torch.equal(last[n : n + 1], state)
    assert torch.equal(last[1], states[1])


def test_scales_default_to_those_of_keys():
    assert close(fla.chunk_gla(q, k, v, gk)[0], loop(additive, q, v, k, gk)[0])
    given = CALLS["rwkv7"][0]
    assert close(fla.chunk_rwkv7(*given)[0], loop(dplr, q, v, k, w, a, b, scale=1.0)[0])
    assert close(fla.fused_recurrent_rwkv7(*given)[0], loop(dplr, q, v, k, w, a, b)[0])


def test_rwkv6_reads_the_state_before():
    def before(S, v, k, w):
        return S + outer(u * k, v)

    wanted, last = loop(additive, q, v, k, w, state=S0, before=before)
    for kind in (fla.chunk_rwkv6, fla.fused_recurrent_rwkv6):
        o, state = kind(q, k, v, w, u, initial_state=S0, output_final_state=True)
        assert close(o, wanted) and close(state, last)


def test_linear_attention_is_normalised_by_the_sum_of_keys():
    q, k = CALLS["linear_attn"][0][0].exp(), CALLS["linear_attn"][0][1].exp()
    wanted = loop(additive, q, v, k)[0] / loop(additive, q, torch.ones(B, T, H, 1), k)[0]
    o, (state, z) = fla.chunk_linear_attn(q[:, :20], k[:, :20], v[:, :20], output_final_state=True)
    more, _ = fla.chunk_linear_attn(q[:, 20:], k[:, 20:], v[:, 20:], initial_state=(state, z))
    assert z.shape == (B, 1, H, K) and close(torch.cat([o, more], 1), wanted)


def test_hgrn_is_a_vector():
    x, f, h = draw(B, T, 10), gates(B, T, 10), draw(B, 10)
    states, s = [], h
    for t in range(T):
        s = f[:, t].exp() * s + x[:, t]
        states.append(s)
    for kind in (fla.chunk_hgrn, fla.fused_recurrent_hgrn):
        o, last = kind(x, f, initial_state=h, output_final_state=True)
        assert close(o, torch.stack(states, 1)) and close(last, s)


def test_values_may_have_more_heads():
    few = q[:, :, :2], k[:, :, :2]
    many = [one.repeat_interleave(2, 2) for one in few]
    o, state = fla.chunk_gated_delta_rule(*few, v, g, beta, output_final_state=True, **normed)
    wanted, last = fla.chunk_gated_delta_rule(*many, v, g, beta, output_final_state=True, **normed)
    assert torch.equal(o, wanted) and torch.equal(state, last)


def test_states_may_have_values_first():
    how = dict(output_final_state=True, **normed)
    wanted, last = fla.chunk_gated_delta_rule(q, k, v, g, beta, initial_state=S0, **how)
    turned = S0.transpose(-1, -2).contiguous()
    o, state = fla.chunk_gated_delta_rule(q, k, v, g, beta, initial_state=turned, state_v_first=True, **how)
    assert torch.equal(o, wanted) and torch.equal(state, last.transpose(-1, -2))


def test_halves_are_computed_in_float32():
    o, state = fla.chunk_gla(q.bfloat16(), k.bfloat16(), v.bfloat16(), gk, output_final_state=True)
    wanted = fla.chunk_gla(*(one.bfloat16().float() for one in (q, k, v)), gk)[0]
    assert o.dtype == torch.bfloat16 and state.dtype == torch.float32 and torch.equal(o, wanted.bfloat16())


def test_what_is_not_done_is_refused():
    with pytest.raises(chunkwise.Unsupported, match="`reverse` of `chunkwise.fla.fused_recurrent_gla` is unsupported"):
        fla.fused_recurrent_gla(q, k, v, gk, reverse=True)
    with pytest.raises(chunkwise.Unsupported, match="`head_first`"):
        fla.chunk_simple_gla(q, k, v, g, head_first=True)
    assert fla.chunk_simple_gla(q, k, v, g, chunk_size=64)[1] is None


def test_names_come_as_pairs():
    functions = {name for name, one in inspect.getmembers(fla, inspect.isfunction) if one.__module__ == "chunkwise.fla"}
    chunked = {name.removeprefix("chunk_") for name in functions if name.startswith("chunk_")}
    assert chunked == {name.removeprefix("fused_recurrent_") for name in functions if name.startswith("fused_")}
    assert len(chunked) == 11

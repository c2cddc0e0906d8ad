"""Gradients through PyTorch: against its own of loops that are written here, differences in f64, and itself when compiled."""

import copy
import threading
import warnings

import pytest

import chunkwise

torch = pytest.importorskip("torch")

SIZES = {"B": 2, "T": 13, "H": 2, "K": 4, "V": 3}
DECAYED = """variant decayed { axes B, T, H, K; input k : [B,T,H,K]; param gamma : [H]; state z : [K] = 0;
  decay a = gamma; update z additive(k); output o[t] = z[t]; check draw(gamma = sigmoid); }"""


def leaves(variant, **sizes):
    drawn = {name: torch.from_numpy(x) for name, x in variant.draw(**{**SIZES, **sizes}).items()}
    return {name: x.requires_grad_() for name, x in drawn.items()}


def state_of(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 4, 3, generator=generator).requires_grad_()


def gated_delta(q, k, v, g, beta, S):
    """The rule of examples/gated_deltanet.attn, token by token."""
    norm = lambda x: x / x.norm(dim=-1, keepdim=True)  # noqa: E731
    outputs = []
    for t in range(q.shape[1]):
        key, query = norm(k[:, t]), norm(q[:, t])
        S = S * g[:, t].exp()[..., None, None]
        write = beta[:, t][..., None] * (v[:, t] - torch.einsum("bhkv,bhk->bhv", S, key))
        S = S + key.unsqueeze(-1) * write.unsqueeze(-2)
        outputs.append(torch.einsum("bhkv,bhk->bhv", S, query) * k.shape[-1] ** -0.5)
    return torch.stack(outputs, 1), S


def loss_of(results):
    """A number that depends on every entry of every result."""
    return sum((one * torch.linspace(-1, 1, one.numel()).reshape(one.shape)).sum() for one in results)


def gradients(results, of):
    return torch.autograd.grad(loss_of(results), list(of), allow_unused=True)


def close(found, wanted):
    largest = max(one.abs().max().item() for one in wanted)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * largest) for a, b in zip(found, wanted))


def same(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted))


@pytest.mark.parametrize("form", ["recurrent", "chunked", "parallel"])
def test_they_are_those_of_the_loop(form):
    gdn = chunkwise.compile("@gated_deltanet", form=form, chunk=8 if form == "chunked" else None)
    inputs, S = leaves(gdn), state_of()
    results = gdn(**inputs, initial_state=S, output_final_state=True)
    wanted = gradients(gated_delta(**inputs, S=S), (*inputs.values(), S))
    assert close(gradients(results, (*inputs.values(), S)), wanted)


def test_what_is_not_asked_for_is_left_out(gdn):
    inputs, S = leaves(gdn), state_of()
    detached = {name: x.detach() for name, x in inputs.items()}
    _, last = gdn(**{**detached, "v": inputs["v"]}, initial_state=S.detach(), output_final_state=True)
    last.sum().backward()
    wanted = torch.autograd.grad(gated_delta(**inputs, S=S)[1].sum(), inputs["v"])
    assert close([inputs["v"].grad], wanted) and inputs["q"].grad is None and S.grad is None
    with torch.no_grad():
        assert not gdn(**inputs).requires_grad


@pytest.mark.parametrize("name", chunkwise.examples())
def test_every_example_agrees_with_differences(name):
    oracle = chunkwise.compile(f"@{name}", backend="reference")
    small = {"B": 1, "T": 4, "Y": 2, "X": 2}
    sizes = {axis: small.get(axis, 2) for axis, value in oracle._facts["axes"] if value is None}
    drawn = oracle.draw(**sizes)
    given = [torch.from_numpy(x) for x in drawn.values()]
    given = [x.double().requires_grad_() if x.is_floating_point() else x for x in given]
    if not any(x.requires_grad for x in given):
        pytest.skip("all its inputs are integers")
    named = {axis: size for axis, size in sizes.items() if axis in ("Y", "X", "G", "R")}
    packed = lambda *tensors: oracle(**dict(zip(drawn, tensors)), **named)  # noqa: E731
    try:
        oracle.vjp(tuple(given), {}, **named)
    except chunkwise.Unsupported as refusal:
        pytest.skip(str(refusal))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert torch.autograd.gradcheck(packed, given, eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("dynamic", [False, True])
def test_they_go_through_a_compiled_graph(gdn, dynamic):
    layer = lambda inputs, S: gdn(**inputs, initial_state=S * 2, output_final_state=True)  # noqa: E731
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic)
    for length in (13, 5, 21):
        inputs, S = leaves(gdn, T=length), state_of()
        leaf = (*inputs.values(), S)
        assert same(gradients(compiled(inputs, S), leaf), gradients(layer(inputs, S), leaf))


def test_a_graph_may_want_one_of_them(gdn):
    inputs = {name: x.detach() for name, x in leaves(gdn).items()}
    v = inputs["v"].clone().requires_grad_()
    layer = lambda v: gdn(**{**inputs, "v": v}).square().sum()  # noqa: E731
    [found] = torch.autograd.grad(torch.compile(layer, fullgraph=True)(v), v)
    assert same([found], torch.autograd.grad(layer(v), v))


def test_the_operators_are_sound(gdn):
    from chunkwise.torch import operator, vjp_operator

    inputs, S = list(leaves(gdn).values()), state_of()
    for initial in [[], [S]]:
        torch.library.opcheck(operator, (inputs, initial, gdn._key, True, ""))
    plain = [one.detach() for one in inputs]
    cotangents = [torch.ones(2, 13, 2, 3), None]
    torch.library.opcheck(vjp_operator, (plain, [S.detach()], cotangents, gdn._key, ""))


def test_checkpoints_give_the_same(gdn):
    from torch.utils.checkpoint import checkpoint

    inputs = leaves(gdn)
    layer = lambda *given: gdn(*given) * 2  # noqa: E731
    for reentrant in (False, True):
        again = checkpoint(layer, *inputs.values(), use_reentrant=reentrant)
        again.sum().backward()
        wanted = torch.autograd.grad(layer(*inputs.values()).sum(), list(inputs.values()))
        assert same([one.grad for one in inputs.values()], wanted)
        for one in inputs.values():
            one.grad = None


def test_threads_share_a_variant(gdn):
    inputs = [leaves(gdn, T=40 + n) for n in range(4)]
    found = {}

    def work(n):
        found[n] = gradients([gdn(**inputs[n])], inputs[n].values())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, given in enumerate(inputs):
        assert same(found[n], gradients([gdn(**given)], given.values()))


@pytest.mark.parametrize("compiled", [False, True])
def test_packed_sequences_are_apart(gdn, compiled):
    inputs = leaves(gdn, B=1, T=20)
    bounds, S = torch.tensor([0, 5, 5, 20]), torch.randn(3, 2, 4, 3).requires_grad_()
    how = dict(cu_seqlens=bounds, output_final_state=True)
    layer = lambda given, S: gdn(**given, initial_state=S, **how)  # noqa: E731
    layer = torch.compile(layer, fullgraph=True) if compiled else layer
    found = gradients(layer(inputs, S), (*inputs.values(), S))
    ends = bounds.tolist()
    cut = lambda a, b, n: gated_delta(**{name: x[:, a:b] for name, x in inputs.items()}, S=S[n : n + 1])  # noqa: E731
    parts = [cut(0, 5, 0), (inputs["v"][:, :0], S[1:2]), cut(5, 20, 2)]
    wanted = gradients([torch.cat(pieces, at) for at, pieces in ((1, [o for o, _ in parts]), (0, [s for _, s in parts]))],
                       (*inputs.values(), S))  # fmt: skip
    assert ends[-1] == 20 and close(found, wanted)


def test_params_of_a_module_train():
    decayed = chunkwise.compile(DECAYED)
    module = decayed.module(H=2)
    again = copy.deepcopy(module)
    k = torch.randn(3, 7, 2, 4)
    module(k).square().sum().backward()
    z, outputs = torch.zeros(3, 2, 4), []
    for t in range(7):
        z = again.gamma[:, None] * z + k[:, t]
        outputs.append(z)
    torch.stack(outputs, 1).square().sum().backward()
    assert close([module.gamma.grad], [again.gamma.grad])


def test_halves_get_gradients_of_their_own_type(gdn):
    half = chunkwise.compile("@gated_deltanet", precision="bf16")
    inputs = {name: x.detach().bfloat16().requires_grad_() for name, x in leaves(gdn).items()}
    half(**inputs).float().sum().backward()
    wide = {name: x.detach().float().requires_grad_() for name, x in inputs.items()}
    gdn(**wide).sum().backward()
    for name, x in inputs.items():
        assert x.grad.dtype == torch.bfloat16
        assert (x.grad.float() - wide[name].grad).abs().max() < 4e-2 * wide[name].grad.abs().max(), name
    with torch.autocast("cpu", torch.bfloat16):
        mixed = {**{name: x.detach() for name, x in wide.items()}, "q": inputs["q"]}
        [found] = torch.autograd.grad(gdn(**mixed).sum(), inputs["q"])
    assert torch.equal(found, wide["q"].grad.bfloat16())


def test_flash_linear_attentions_functions_train(gdn):
    from chunkwise.fla import chunk_gated_delta_rule

    inputs, S = leaves(gdn), state_of()
    how = dict(initial_state=S, output_final_state=True, use_qk_l2norm_in_kernel=True)
    found = gradients(chunk_gated_delta_rule(**inputs, **how), (*inputs.values(), S))
    assert close(found, gradients(gated_delta(**inputs, S=S), (*inputs.values(), S)))


def test_why_there_is_none_is_said():
    normed = chunkwise.compile("@norm_attention")
    o = normed(**leaves(normed))
    assert o.requires_grad
    with pytest.raises(chunkwise.Unsupported, match="the gradient of a norm over heads is unsupported"):
        o.sum().backward()


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_gradients_are_refused(gdn, compiled):
    inputs = leaves(gdn)
    layer = torch.compile(gdn, fullgraph=True) if compiled else gdn
    [first] = torch.autograd.grad(layer(**inputs).sum(), inputs["v"], create_graph=True)
    with pytest.raises((chunkwise.Unsupported, RuntimeError), match="gradient of a gradient|double backward"):
        (first + inputs["v"]).sum().backward()


def test_no_tokens_give_no_gradients(gdn):
    inputs, S = leaves(gdn, T=0), state_of()
    _, last = gdn(**inputs, initial_state=S, output_final_state=True)
    last.sum().backward()
    assert torch.equal(S.grad, torch.ones_like(S)) and inputs["q"].grad.shape == inputs["q"].shape

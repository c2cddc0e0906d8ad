"""Several sequences in one row of tokens: as calls of their own, whatever the variant does and wherever chunks end."""

import numpy as np
import pytest

import chunkwise

BOUNDS = [0, 3, 3, 20, 85, 86]


def alone(variant, inputs, states, number):
    start, end = BOUNDS[number : number + 2]
    at = {one.name: list(one.shape).index("T") if "T" in one.shape else None for one in variant.inputs + variant.params}
    own = {name: x if at[name] is None else np.take(x, range(start, end), at[name]) for name, x in inputs.items()}
    given = None if states is None else tuple(state[number : number + 1] for state in states)
    return variant(**own, initial_state=given, output_final_state=True)


@pytest.mark.parametrize("form", ["recurrent", "chunked", "parallel"])
@pytest.mark.parametrize("name", ["gated_deltanet", "gla", "linear_attention", "rwkv7", "mamba2"])
def test_sequences_are_apart(name, form):
    variant = chunkwise.compile(f"@{name}", form=form)
    sizes = dict(N=4, G=1, R=2, V=3) if name == "mamba2" else dict(H=2, K=4, V=3)
    inputs = variant.draw(B=1, T=86, **sizes)
    rng = np.random.default_rng(1)
    o, last = variant(**inputs, cu_seqlens=BOUNDS, output_final_state=True)
    last = last if isinstance(last, tuple) else (last,)
    states = tuple(rng.standard_normal(state.shape, np.float32) for state in last)
    assert all(len(state) == 5 for state in states)
    for given in (None, states):
        o, last = variant(**inputs, initial_state=given, cu_seqlens=np.array(BOUNDS), output_final_state=True)
        last = last if isinstance(last, tuple) else (last,)
        for number in range(5):
            wanted, after = alone(variant, inputs, given, number)
            after = after if isinstance(after, tuple) else (after,)
            assert np.array_equal(o[:, BOUNDS[number] : BOUNDS[number + 1]], wanted)
            assert all(np.array_equal(one[number : number + 1], two) for one, two in zip(last, after))
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(last, states)), "no token changes nothing"


def test_a_reset_in_the_program_is_the_same():
    packed = chunkwise.compile("""variant packed { axes B, T, H, K, V;
      input q, k, g : [B,T,H,K], v : [B,T,H,V], first : [B,T]; state S : [K,V] = 0;
      decay a[t] = if first[t] > 0 then 0 else exp(logsigmoid(g[t]) / 16);
      update S additive(k, v); output o[t] = S[t]' * q[t] / sqrt(K); }""")
    gla = chunkwise.compile("@gla")
    inputs = gla.draw(B=1, T=86, H=2, K=4, V=3)
    first = np.zeros((1, 86), np.float32)
    first[0, [start for start, end in zip(BOUNDS, BOUNDS[1:]) if end > start]] = 1
    np.testing.assert_allclose(gla(**inputs, cu_seqlens=BOUNDS), packed(**inputs, first=first), atol=1e-5)


def test_pairs_stay_within_a_sequence():
    softmax = chunkwise.compile("@scaled_dot_product")
    inputs = {name: x for name, x in softmax.draw(B=1, T=86, H=2, K=4, V=3).items()}
    o = softmax(**inputs, cu_seqlens=BOUNDS)
    wanted = softmax(**{name: x[:, 3:20] for name, x in inputs.items()})
    assert np.array_equal(o[:, 3:20], wanted) and not np.array_equal(o, softmax(**inputs))


def test_nothing_may_be_packed(gdn):
    inputs = gdn.draw(B=1, T=0, H=2, K=4, V=3)
    o, last = gdn(**inputs, cu_seqlens=[0], output_final_state=True)
    assert o.shape == (1, 0, 2, 3) and last.shape == (0, 2, 4, 3)
    o, last = gdn(**inputs, cu_seqlens=[0, 0, 0], output_final_state=True)
    assert o.shape == (1, 0, 2, 3) and np.array_equal(last, np.zeros((2, 2, 4, 3)))


def test_what_does_not_fit_is_said(gdn):
    inputs = gdn.draw(B=1, T=5, H=2, K=4, V=3)
    for bounds, told in [
        ([0, 6], "`cu_seqlens` ends at 6, and tensor `q` has 5 tokens"),
        ([1, 5], "expected to rise from 0"),
        ([0, 4, 3, 5], "expected to rise from 0"),
        ([[0, 5]], "one integer more than there are sequences"),
        (np.array([0.0, 5.0]), "one integer more than there are sequences"),
    ]:
        with pytest.raises(chunkwise.ShapeError, match=told):
            gdn(**inputs, cu_seqlens=bounds)
    with pytest.raises(chunkwise.ShapeError, match="state `S` is of 1 sequences, and `cu_seqlens` has 2"):
        gdn(**inputs, cu_seqlens=[0, 2, 5], initial_state=np.zeros((1, 2, 4, 3), np.float32))
    with pytest.raises(chunkwise.ShapeError, match="tensor `q` is .2, 5, 2, 4.: with `cu_seqlens`, B is 1"):
        gdn(**gdn.draw(B=2, T=5, H=2, K=4, V=3), cu_seqlens=[0, 5])
    grid = chunkwise.compile("variant grid { axes B, T = Y*X, K; input x : [B,T,K]; output o[i] = sum[j](x[j]); }")
    with pytest.raises(chunkwise.Unsupported, match="`cu_seqlens` of `grid` is unsupported"):
        grid(np.zeros((1, 6, 2), np.float32), Y=2, X=3, cu_seqlens=[0, 6])


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_graph_takes_them(gdn, dynamic):
    torch = pytest.importorskip("torch")
    from chunkwise.torch import operator

    inputs = {name: torch.from_numpy(x) for name, x in gdn.draw(B=1, T=86, H=2, K=4, V=3).items()}
    states = torch.randn(5, 2, 4, 3)

    def layer(inputs, states, bounds):
        return gdn(**inputs, initial_state=states, cu_seqlens=bounds, output_final_state=True)

    for bounds in (torch.tensor(BOUNDS), torch.tensor([0, 1, 2, 3, 4, 86], dtype=torch.int32)):
        wanted = layer(inputs, states, bounds)
        got = torch.compile(layer, fullgraph=True, dynamic=dynamic)(inputs, states, bounds)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted))
        torch.library.opcheck(operator, (list(inputs.values()), [states], gdn._key, True, "", bounds))

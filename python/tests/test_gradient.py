"""`Variant.vjp` on NumPy's arrays: what the command gives, and differences of the f64 reference."""

import numpy as np
import pytest

import chunkwise

SIZES = {"B": 2, "T": 13, "H": 2, "K": 4, "V": 3}
# Two heads share keys; a param serves all batch elements and tokens.
SHARED = """variant shared { axes B, T, G, R, H = G*R, K; input x : [B,T,H,K], k : [B,T,G,K]; param w : [H,K];
  let y[t] = w .* k[t] .* x[t]; state z : [K] = 0; decay a = 0.9; update z additive(y); output o[t] = z[t]; }"""


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_it_is_what_the_command_gives(gdn, by_command):
    inputs = gdn.draw(**SIZES)
    S, d_o, d_S = drawn((2, 2, 4, 3), 1), drawn((2, 13, 2, 3), 2), drawn((2, 2, 4, 3), 3)
    wanted = by_command("@gated_deltanet", {**inputs, "S": S, "d_o": d_o, "d_S": d_S}, "--backward")
    found = gdn.vjp(inputs, {"o": d_o, "S": d_S}, initial_state=S)
    assert {f"d_{name}" for name in found} == wanted.keys()
    for name, one in found.items():
        assert np.array_equal(one, wanted[f"d_{name}"]), name


def test_sums_are_over_what_a_tensor_lacks():
    oracle = chunkwise.compile(SHARED, backend="reference")
    inputs = {name: x.astype(np.float64) for name, x in oracle.draw(B=2, T=5, G=2, R=2, K=3).items()}
    cotangent = drawn((2, 5, 4, 3), 1).astype(np.float64)
    value = lambda given: float((oracle(**given, G=2, R=2) * cotangent).sum())  # noqa: E731
    found = oracle.vjp(inputs, cotangent, G=2, R=2)
    for name, x in inputs.items():
        assert found[name].shape == x.shape and found[name].dtype == np.float64
        direction = drawn(x.shape, 2)
        ahead, behind = (value({**inputs, name: x + h * direction}) for h in (1e-4, -1e-4))
        assert abs((found[name] * direction).sum() - (ahead - behind) / 2e-4) < 1e-6, name


def test_cotangents_are_named_or_in_order(gdn):
    inputs, d_o = gdn.draw(**SIZES), drawn((2, 13, 2, 3), 1)
    wanted = gdn.vjp(inputs, d_o)
    for cotangents in [(d_o,), {"o": d_o}]:
        for name, one in gdn.vjp(tuple(inputs.values()), cotangents).items():
            assert np.array_equal(one, wanted[name])
    assert all(not one.any() for one in gdn.vjp(inputs, {}).values())
    with pytest.raises(chunkwise.ShapeError, match="no result `p`; its results are o, S"):
        gdn.vjp(inputs, {"p": d_o})
    with pytest.raises(chunkwise.ShapeError, match="1 outputs, and 2 cotangents"):
        gdn.vjp(inputs, (d_o, d_o))
    with pytest.raises(chunkwise.ShapeError, match="tensor `d_o`"):
        gdn.vjp(inputs, d_o[:, :5])


def test_what_is_no_number_stays_where_it_is_seen():
    swin, oracle = (chunkwise.compile("@swin", backend=backend) for backend in ("auto", "reference"))
    sizes = {"Y": 5, "X": 7}
    inputs = swin.draw(B=1, H=1, K=4, V=4, **sizes)
    cotangent = drawn((1, 35, 1, 4), 1)
    for name in ("q", "k", "v"):
        spoilt = {**inputs, name: inputs[name].copy()}
        spoilt[name][0, 17, 0, 1] = np.nan
        found, wanted = (variant.vjp(spoilt, cotangent, **sizes) for variant in (swin, oracle))
        assert 0 < np.isnan(wanted["bias"]).sum() < wanted["bias"].size / 2
        for of, one in wanted.items():
            assert np.array_equal(np.isnan(found[of]), np.isnan(one)), (name, of)


def test_why_there_is_none_is_said():
    normed = chunkwise.compile("@norm_attention")
    inputs = normed.draw(**SIZES)
    with pytest.raises(chunkwise.Unsupported, match="the gradient of a norm over heads is unsupported"):
        normed.vjp(inputs, normed(**inputs))

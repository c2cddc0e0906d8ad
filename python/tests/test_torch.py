"""Calls on PyTorch's tensors: eager, compiled, under modes; every result compared with NumPy's."""

import copy
import pickle

import numpy as np
import pytest

import chunkwise

torch = pytest.importorskip("torch")

# The sum of the tokens in the same column and above.
GRID = """variant grid { axes B, T = Y*X, K; input x : [B,T,K];
  output o[i] = sum[j]((if j.x == i.x and j.y <= i.y then 1 else 0) * x[j]); }"""
SIZES = {"B": 2, "T": 13, "H": 2, "K": 4, "V": 3}


def tensors(variant, **sizes):
    return {name: torch.from_numpy(x) for name, x in variant.draw(**{**SIZES, **sizes}).items()}


def arrays(inputs):
    return {name: x.numpy() for name, x in inputs.items()}


def same(got, wanted):
    return np.array_equal(got.detach().numpy(), wanted)


def test_results_are_tensors_and_those_of_numpy(gdn):
    inputs = tensors(gdn)
    o, state = gdn(**inputs, output_final_state=True)
    wanted, last = gdn(**arrays(inputs), output_final_state=True)
    assert type(o) is torch.Tensor and o.dtype == torch.float32 and same(o, wanted) and same(state, last)
    assert same(gdn(*inputs.values(), initial_state=state), gdn(**arrays(inputs), initial_state=last))


def test_tensors_are_read_as_they_lie(gdn):
    inputs = tensors(gdn)
    wanted = gdn(**arrays(inputs))
    assert same(gdn(**{name: x.transpose(1, 2).contiguous().transpose(1, 2) for name, x in inputs.items()}), wanted)
    assert same(gdn(**{name: torch.nn.Parameter(x) for name, x in inputs.items()}), wanted)
    negated = {**inputs, "v": torch.complex(torch.zeros_like(inputs["v"]), -inputs["v"]).conj().imag}
    assert negated["v"].is_neg() and same(gdn(**negated), wanted)
    expanded = {**inputs, "beta": inputs["beta"][:, :1].expand(-1, SIZES["T"], -1)}
    assert same(gdn(**expanded), gdn(**arrays({**expanded, "beta": expanded["beta"].clone()})))


def test_what_is_not_taken_is_said(gdn):
    inputs = tensors(gdn)
    with pytest.raises(chunkwise.DtypeError, match='tensor `q` is bfloat16, .*precision="bf16"'):
        gdn(**{**inputs, "q": inputs["q"].bfloat16()})
    with pytest.raises(chunkwise.DtypeError, match='tensor `q` is float64, .*backend="reference"'):
        gdn(**{**inputs, "q": inputs["q"].double()})


def test_bf16_is_taken_under_its_precision(gdn):
    half = chunkwise.compile("@gated_deltanet", precision="bf16")
    inputs = tensors(gdn)
    o, state = half(**{name: x.bfloat16() for name, x in inputs.items()}, output_final_state=True)
    wanted = gdn(**{name: x.bfloat16().float() for name, x in inputs.items()})
    assert o.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert (o.float() - wanted).abs().max() < 2e-2 * wanted.abs().max()


def test_the_reference_takes_f64(gdn):
    oracle = chunkwise.compile("@gated_deltanet", backend="reference")
    inputs = tensors(gdn)
    wide = oracle(**{name: x.double() for name, x in inputs.items()})
    assert wide.dtype == torch.float64 and torch.allclose(wide.float(), gdn(**inputs), atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_as_one_graph(gdn, dynamic):
    def layer(inputs, state):
        o, state = gdn(**inputs, initial_state=state, output_final_state=True)
        return o * 2 - 1, state + 1

    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic)
    state = torch.zeros(2, 2, 4, 3)
    for length in (13, 5, 21):
        inputs = tensors(gdn, T=length)
        for got, wanted in zip(compiled(inputs, state), layer(inputs, state)):
            assert torch.equal(got, wanted)


def test_lengths_stay_symbols_in_a_graph(gdn):
    compiled = torch.compile(lambda inputs: gdn(**inputs) + 1, fullgraph=True, dynamic=True)
    compiled(tensors(gdn, T=13))
    with torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(compiled(tensors(gdn, T=30)), gdn(**tensors(gdn, T=30)) + 1)


def test_shapes_are_checked_while_a_graph_is_made(gdn):
    inputs = tensors(gdn)
    inputs["k"] = torch.zeros(2, 13, 2, 5)
    with pytest.raises(Exception, match="tensor `k` is"):
        torch.compile(lambda inputs: gdn(**inputs), fullgraph=True, dynamic=False)(inputs)


def test_the_operator_is_sound(gdn):
    from chunkwise.torch import operator

    inputs = list(tensors(gdn).values())
    for initial in [[], [torch.ones(2, 2, 4, 3)]]:
        torch.library.opcheck(operator, (inputs, initial, gdn._key, True, ""))


def test_axes_that_no_tensor_gives_are_named():
    grid = chunkwise.compile(GRID)
    x = torch.randn(1, 12, 2)
    compiled = torch.compile(lambda x: grid(x, Y=3, X=4), fullgraph=True)
    assert torch.equal(compiled(x), grid(x, Y=3, X=4)) and not torch.equal(grid(x, Y=4, X=3), grid(x, Y=3, X=4))


def test_subclasses_and_modes_see_the_operator(gdn):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    inputs = tensors(gdn)
    wanted = gdn(**inputs)
    with Watch():
        assert torch.equal(gdn(**inputs), wanted)
    assert "chunkwise.run.default" in seen
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        assert gdn(**{name: mode.from_tensor(x) for name, x in inputs.items()}).shape == wanted.shape


def test_autocast_rounds_nothing(gdn):
    inputs = tensors(gdn)
    with torch.autocast("cpu", torch.bfloat16):
        half = inputs["q"].bfloat16()
        assert torch.equal(gdn(**inputs), gdn(**inputs))
        got = gdn(**{**inputs, "q": half})
        compiled = torch.compile(lambda given: gdn(**given), fullgraph=True)({**inputs, "q": half})
    wanted = gdn(**{**inputs, "q": half.float()})
    assert torch.equal(got, wanted) and torch.equal(compiled, wanted)


def test_sizes_of_zero_work(gdn):
    o, state = gdn(**tensors(gdn, T=0), output_final_state=True)
    assert o.shape == (2, 0, 2, 3) and torch.equal(state, torch.zeros(2, 2, 4, 3))


def test_params_are_parameters_of_a_module():
    decayed = chunkwise.compile(
        """variant decayed { axes B, T, H, K; input k : [B,T,H,K]; param gamma : [H]; state z : [K] = 0;
        decay a = gamma; update z additive(k); output o[t] = z[t]; check draw(gamma = sigmoid); }"""
    )
    module = decayed.module(H=2)
    k = torch.randn(1, 5, 2, 4)
    assert [name for name, _ in module.named_parameters()] == ["gamma"] and module.gamma.shape == (2,)
    with torch.no_grad():
        assert torch.equal(module(k), decayed(k, module.gamma))
    given = decayed.module(gamma=torch.tensor([0.5, 1.0]))
    assert given.state_dict()["gamma"].tolist() == [0.5, 1.0]
    assert given.state_dict().keys() == copy.deepcopy(given).state_dict().keys()
    assert pickle.loads(pickle.dumps(given)).gamma.tolist() == [0.5, 1.0]
    with pytest.raises(chunkwise.ShapeError, match="give H"):
        decayed.module()


def test_decoding_hands_out_tensors(gdn):
    inputs = tensors(gdn)
    whole, last = gdn(**inputs, output_final_state=True)
    decode = gdn.session(B=2, H=2, K=4, V=3)
    steps = [decode.step(**{name: x[:, t : t + 1] for name, x in inputs.items()}) for t in range(13)]
    assert torch.allclose(torch.cat(steps, 1), whole, atol=1e-5) and torch.allclose(decode.states, last, atol=1e-5)

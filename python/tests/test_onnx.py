"""The operator LinearAttention: against the data that onnx ships for it, its reference, and onnxruntime's kernels."""

import functools

import numpy as np
import pytest

import chunkwise
from chunkwise.onnx import linear_attention

onnx = pytest.importorskip("onnx", minversion="1.23")


@functools.cache
def cases():
    from onnx.backend.test.case.node import collect_testcases

    found = collect_testcases("LinearAttention")
    return [case for case in found if not case.name.endswith("_expanded")]


def called(node, tensors):
    """The function on a node's inputs, by place, and its attributes."""
    given = iter(tensors)
    inputs = [next(given) if name else None for name in node.input]
    return linear_attention(*inputs, **{one.name: attribute(one) for one in node.attribute})


def attribute(one):
    found = onnx.helper.get_attribute_value(one)
    return found.decode() if isinstance(found, bytes) else found


def test_there_are_cases():
    assert len(cases()) >= 14


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_operators_own_data(case):
    [node] = case.model.graph.node
    for inputs, outputs in case.data_sets:
        for got, wanted in zip(called(node, inputs), outputs, strict=True):
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            tolerance = 2e-3 if wanted.dtype == np.float16 else 1e-5
            np.testing.assert_allclose(got, wanted, rtol=max(tolerance, case.rtol), atol=tolerance)


def draw(rule, q_heads, heads, tokens, keyed, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    k = normal(2, tokens, heads, 16)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    found = dict(query=normal(2, tokens, q_heads * 16), key=k.reshape(2, tokens, -1), value=normal(2, tokens, heads * 8))
    found["past_state"] = normal(2, heads, 16, 8)
    if "gated" in rule:
        found["decay"] = -np.abs(normal(2, tokens, heads * (16 if keyed else 1)))
    if "delta" in rule:
        found["beta"] = rng.random((2, tokens, heads), np.float32)
    return found


def by_onnxruntime(inputs, attributes):
    onnxruntime = pytest.importorskip("onnxruntime")
    names = ["query", "key", "value", "past_state", "decay", "beta"]
    operands = [name if name in inputs else "" for name in names]
    node = onnx.helper.make_node("LinearAttention", operands, ["o", "S"], domain="com.microsoft", **attributes)
    value = lambda name, shape: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    results = [value("o", None), value("S", None)]
    graph = onnx.helper.make_graph([node], "one", [value(name, x.shape) for name, x in inputs.items()], results)
    opsets = [onnx.helper.make_opsetid("", 22), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)


@pytest.mark.parametrize("tokens", [1, 70])
@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_onnxruntime_gives_the_same(rule, tokens):
    for keyed in (False, True):
        inputs = draw(rule, 4, 4, tokens, keyed)
        attributes = dict(q_num_heads=4, kv_num_heads=4, update_rule=rule, scale=0.25)
        for got, wanted in zip(linear_attention(**inputs, **attributes), by_onnxruntime(inputs, attributes)):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5)


def test_query_heads_share_states():
    inputs = draw("gated_delta", 6, 2, 70, True)
    heads = dict(q_num_heads=6, kv_num_heads=2)
    got = linear_attention(**inputs, **heads)
    spread = {name: x.reshape(2, 70, 2, -1).repeat(3, 2).reshape(2, 70, -1) for name, x in inputs.items() if name in ("key", "value", "decay", "beta")}
    alone = linear_attention(inputs["query"], past_state=inputs["past_state"].repeat(3, 1), q_num_heads=6, kv_num_heads=6, **spread)
    np.testing.assert_allclose(got[0], alone[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], alone[1][:, ::3], rtol=1e-4, atol=1e-5)


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    inputs = draw("gated_delta", 4, 2, 9, False)
    how = dict(q_num_heads=4, kv_num_heads=2)
    got = linear_attention(**{name: torch.from_numpy(x) for name, x in inputs.items()}, **how)
    for one, wanted in zip(got, linear_attention(**inputs, **how)):
        assert np.array_equal(one.numpy(), wanted)


def test_what_the_operator_forbids_is_refused():
    inputs = draw("gated_delta", 2, 2, 3, False)
    heads = dict(q_num_heads=2, kv_num_heads=2)
    with pytest.raises(ValueError, match="'linear' has no `decay`"):
        linear_attention(**inputs, **heads, update_rule="linear")
    with pytest.raises(ValueError, match="'gated_delta' needs `beta`"):
        linear_attention(**{**inputs, "beta": None}, **heads)
    with pytest.raises(ValueError, match="update_rule is 'ema'"):
        linear_attention(**inputs, **heads, update_rule="ema")
    with pytest.raises(ValueError, match="expected a multiple"):
        linear_attention(**inputs, q_num_heads=3, kv_num_heads=2)
    with pytest.raises(chunkwise.ShapeError, match="`value` is"):
        linear_attention(**{**inputs, "value": inputs["value"][..., :3]}, **heads)

"""What goes wrong is said with its place, as an exception of its kind."""

import numpy as np
import pytest

import chunkwise


def test_a_source_that_does_not_check_gives_all_findings():
    source = "variant broken {\n  axes B, T, H, K, V;\n  input q : [B,T,H,K];\n  output o[t] = qq[t] + r[t];\n}"
    with pytest.raises(chunkwise.SourceError) as caught:
        chunkwise.compile(source)
    found = [(one.code, one.line) for one in caught.value.diagnostics if one.severity == "error"]
    assert ("undeclared-name", 4) in found and len(found) >= 2
    assert "<source>:4:" in str(caught.value)
    assert isinstance(caught.value, chunkwise.Error)


def test_what_is_legal_and_hardly_meant_is_a_warning():
    source = chunkwise.compile("@gla").source.replace("input   q", "input   unread : [B,T,H], q")
    with pytest.warns(chunkwise.ChunkwiseWarning, match="unread"):
        chunkwise.compile(source)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backend": "gpu"}, 'backend is "gpu", expected one of "reference", "cranelift"'),
        ({"form": "chunk"}, 'form is "chunk"'),
        ({"precision": "bf16", "backend": "reference"}, 'precision "bf16" is of the back end "cranelift"'),
        ({"variant": "gl"}, "no variant `gl`, only gla; did you mean `gla`"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_options_are_refused_with_what_is_known(given, message):
    with pytest.raises(chunkwise.Error, match=message):
        chunkwise.compile("@gla", **given)


def test_there_is_no_such_example():
    with pytest.raises(chunkwise.Error, match="did you mean @gla"):
        chunkwise.compile("@glaa")


def test_shapes_that_disagree_name_the_tensor(gdn):
    inputs = gdn.draw(B=1, T=5, H=2, K=3, V=2)
    inputs["k"] = np.zeros((1, 5, 2, 2), np.float32)
    with pytest.raises(chunkwise.ShapeError, match=r"tensor `k` is \[1, 5, 2, 2\], expected \[B,T,H,K\]"):
        gdn(**inputs)
    assert issubclass(chunkwise.ShapeError, ValueError)


def test_arguments_are_bound_as_a_function_binds_them(gdn):
    inputs = gdn.draw(B=1, T=5, H=2, K=3, V=2)
    with pytest.raises(TypeError, match="is not given `beta`"):
        gdn(**{name: tensor for name, tensor in inputs.items() if name != "beta"})
    with pytest.raises(TypeError, match="has no input `betta`"):
        gdn(**inputs, betta=inputs["beta"])
    with pytest.raises(TypeError, match="is given `q` twice"):
        gdn(inputs["q"], **inputs)
    with pytest.raises(TypeError, match="`q` is a list, expected a tensor"):
        gdn(**{**inputs, "q": [1.0]})


@pytest.mark.parametrize(
    ("kind", "way_out"), [(np.float64, 'backend="reference"'), (np.float16, 'precision="f16"'), (np.int32, "convert it")]
)
def test_other_elements_are_refused_never_converted(gdn, kind, way_out):
    inputs = gdn.draw(B=1, T=5, H=2, K=3, V=2)
    inputs["v"] = inputs["v"].astype(kind)
    with pytest.raises(chunkwise.DtypeError, match=f"tensor `v` is .*expected float32; .*{way_out}"):
        gdn(**inputs)
    inputs["v"] = inputs["v"].astype(bool)
    with pytest.raises(chunkwise.DtypeError, match="tensor `v` has"):
        gdn(**inputs)


def test_a_back_end_that_is_not_here_is_said(gdn):
    inputs = gdn.draw(B=1, T=5, H=2, K=3, V=2)
    with pytest.raises(chunkwise.DeviceError, match="the llvm back end is not usable here"):
        chunkwise.compile("@gated_deltanet", backend="llvm")(**inputs)


def test_a_form_that_is_not_there_says_the_way_out():
    softmax = """variant cumulative { axes B, T, H, K; input x : [B,T,H,K]; state m : [K] = -1000;
        update m[t] = max(m[t-1], x[t]); output o[t] = m[t]; }"""
    variant = chunkwise.compile(softmax, form="chunked")
    with pytest.raises(chunkwise.Unsupported) as caught:
        variant(np.zeros((1, 3, 1, 2), np.float32))
    assert caught.value.reason and caught.value.way_out and isinstance(caught.value, NotImplementedError)


def test_states_are_placed_by_name_or_order(gdn):
    inputs = gdn.draw(B=1, T=5, H=2, K=3, V=2)
    with pytest.raises(chunkwise.ShapeError, match="has no state `Z`; its states are S"):
        gdn(**inputs, initial_state={"Z": None})
    with pytest.raises(chunkwise.ShapeError, match="has 1 states"):
        gdn(**inputs, initial_state=())
    with pytest.raises(chunkwise.ShapeError, match="tensor `S`"):
        gdn(**inputs, initial_state=np.zeros((1, 2, 2, 3), np.float32))


def test_an_order_without_states_says_so():
    both = chunkwise.compile(
        """variant both { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; order causal, reverse merge sum;
        state S : [K,V] = 0; update S additive(k, v); read o[t] = S[t]' * q[t]; output o[t]; }"""
    )
    inputs = both.draw(B=1, T=5, H=2, K=3, V=2)
    assert both(**inputs).shape == (1, 5, 2, 2)
    with pytest.raises(chunkwise.ShapeError, match="no final state of `both` can be given"):
        both(**inputs, output_final_state=True)

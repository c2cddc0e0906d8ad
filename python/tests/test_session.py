"""Decoding: a token a step, states in the engine."""

import numpy as np
import pytest

import chunkwise


@pytest.fixture
def inputs(gdn):
    return gdn.draw(B=2, T=9, H=2, K=4, V=3)


def token(inputs, t):
    return {name: x[:, t : t + 1] for name, x in inputs.items()}


def test_steps_are_the_sequence(gdn, inputs):
    whole, last = gdn(**inputs, output_final_state=True)
    decode = gdn.session(B=2, H=2, K=4, V=3)
    steps = [decode.step(**token(inputs, t)) for t in range(9)]
    assert np.allclose(np.concatenate(steps, 1), whole, atol=1e-5)
    assert np.allclose(decode.states, last, atol=1e-5)


def test_it_goes_on_from_a_prompt_and_starts_anew(gdn, inputs):
    whole = gdn(**inputs)
    _, state = gdn(**{name: x[:, :8] for name, x in inputs.items()}, output_final_state=True)
    decode = gdn.session(B=2, H=2, K=4, V=3)
    for given in [state, {"S": state}, (state,)]:
        decode.reset()
        decode.set_states(given)
        assert np.allclose(decode.step(**token(inputs, 8)), whole[:, 8:], atol=1e-5)
    decode.reset()
    assert np.allclose(decode.step(**token(inputs, 0)), whole[:, :1], atol=1e-6)


def test_results_are_not_overwritten_by_the_next_step(gdn, inputs):
    decode = gdn.session(B=2, H=2, K=4, V=3)
    first = decode.step(**token(inputs, 0))
    kept = first.copy()
    decode.step(**token(inputs, 1))
    assert np.array_equal(first, kept)


def test_shapes_are_those_of_the_session(gdn, inputs):
    decode = gdn.session(B=2, H=2, K=4, V=3)
    with pytest.raises(chunkwise.ShapeError, match=r"tensor `q` is \[2, 9, 2, 4\], expected \[2, 1, 2, 4\]"):
        decode.step(**inputs)
    with pytest.raises(chunkwise.ShapeError, match="tensor `S`"):
        decode.set_states(np.zeros((1, 2, 4, 3), np.float32))
    with pytest.raises(chunkwise.ShapeError, match="axis `V`"):
        gdn.session(B=2, H=2, K=4)


@pytest.mark.parametrize("name", ["gated_deltanet", "linear_attention", "rwkv6"])
@pytest.mark.parametrize("form", ["recurrent", "chunked", "parallel"])
def test_states_of_the_caller_go_on_where_they_lie(name, form):
    variant = chunkwise.compile(f"@{name}", form=form)
    sizes = dict(B=2, H=2, K=4, V=3)
    _, start = variant(**variant.draw(T=5, **sizes), output_final_state=True)
    start = start if isinstance(start, tuple) else (start,)
    for tokens in (1, 7, 70):
        inputs = variant.draw(T=tokens, seed=tokens, **sizes)
        o, last = variant(**inputs, initial_state=start, output_final_state=True)
        held = tuple(state.copy() for state in start)
        assert np.array_equal(variant.advance(**inputs, states=held), o)
        last = last if isinstance(last, tuple) else (last,)
        assert all(np.array_equal(now, after) for now, after in zip(held, last))


def test_the_reference_leaves_states_in_place_too(inputs):
    oracle = chunkwise.compile("@gated_deltanet", backend="reference")
    inputs = {name: x.astype(np.float64) for name, x in inputs.items()}
    o, last = oracle(**inputs, output_final_state=True)
    state = np.zeros((2, 2, 4, 3))
    assert np.array_equal(oracle.advance(**inputs, states={"S": state}), o) and np.array_equal(state, last)


def test_states_must_be_there_to_be_written(gdn, inputs):
    state = np.zeros((2, 2, 4, 3), np.float32)
    state.flags.writeable = False
    for given in (state, np.zeros((2, 2, 3, 4), np.float32).swapaxes(2, 3), np.zeros((2, 2, 4, 3))):
        with pytest.raises(chunkwise.ShapeError, match="`S` cannot be left in place: expected float32, contiguous and writable"):
            gdn.advance(**inputs, states=given)
    with pytest.raises(chunkwise.ShapeError, match="cannot go on in place"):
        gdn.advance(**inputs, states={})
    with pytest.raises(chunkwise.ShapeError, match="has 0 states"):
        chunkwise.compile("@scaled_dot_product").advance(inputs["q"], inputs["k"], inputs["v"], states=state)
    # A state in whose memory a query lies.
    whole = np.zeros((2, 2, 4, 3), np.float32)
    query = whole.reshape(-1)[:16].reshape(2, 1, 2, 4)
    rest = {name: x[:, :1] for name, x in inputs.items() if name != "q"}
    with pytest.raises(Exception, match="where another tensor lies"):
        gdn.advance(query, **rest, states=whole)


@pytest.mark.parametrize("lie", ["contiguous", "turned"])
def test_tensors_of_torch_go_on_as_they_lie(gdn, inputs, lie):
    torch = pytest.importorskip("torch")
    inputs = {name: torch.from_numpy(x) for name, x in inputs.items()}
    state = torch.zeros(2, 2, 4, 3) if lie == "contiguous" else torch.zeros(2, 2, 3, 4).transpose(2, 3)
    o, last = gdn(**inputs, output_final_state=True)
    version, kept = state._version, state.data_ptr()
    assert torch.equal(gdn.advance(**inputs, states=state), o)
    assert torch.equal(state, last) and state.data_ptr() == kept and state._version > version
    state.zero_()
    compiled = torch.compile(lambda state, **given: gdn.advance(**given, states=state), fullgraph=True)
    assert torch.equal(compiled(state, **inputs), o) and torch.equal(state, last)

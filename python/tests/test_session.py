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

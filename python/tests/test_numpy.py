"""Calls on NumPy's arrays, and on those of others that speak DLPack or the buffer protocol."""

import array
import threading
import warnings

import numpy as np
import pytest

import chunkwise

SIZES = {"B": 2, "T": 13, "H": 2, "K": 4, "V": 3}


def sizes_of(variant, **sizes):
    """Small sizes for every axis that the variant has."""
    free = [axis for axis, value in variant._facts["axes"] if value is None]
    return {axis: {**SIZES, **sizes}.get(axis, 4) for axis in free}


def drawn(variant, **sizes):
    return variant.draw(**sizes_of(variant, **sizes))


@pytest.mark.parametrize("name", sorted(chunkwise.examples()))
def test_every_example_is_as_the_command_runs_it(name, by_command):
    variant = chunkwise.compile(f"@{name}")
    sizes = sizes_of(variant)
    inputs = variant.draw(**sizes)
    wanted = by_command(f"@{name}", inputs, *(word for axis, n in sizes.items() for word in ("--dim", f"{axis}={n}")))
    carries = variant._facts["carries_state"]
    results = variant(**inputs, **sizes, output_final_state=carries)
    outputs, states = results if carries else (results, ())
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    states = states if isinstance(states, tuple) else (states,)
    names = [one.name for one in variant.outputs] + ([one.name for one in variant.states] if carries else [])
    assert set(names) == set(wanted)
    for of, got in zip(names, (*outputs, *states)):
        assert got.shape == wanted[of].shape and np.array_equal(got, wanted[of], equal_nan=True), of
    # What lay in the memory of results is nothing that kernels read.
    poisoned = (lambda shape, dtype: np.full(shape, np.nan, dtype), carries)
    again, ends = variant._kernel.run(tuple(inputs.values()), None, poisoned, (chunkwise._engine.cores(), list(sizes.items())))
    for got, before in zip((*again, *ends), (*outputs, *states)):
        assert np.array_equal(got, before, equal_nan=True)


@pytest.mark.parametrize("form", ["recurrent", "chunked", "parallel"])
def test_forms_are_taken_as_asked_for(form, by_command):
    variant = chunkwise.compile("@gated_deltanet", form=form, chunk=5)
    inputs = drawn(variant)
    wanted = by_command("@gated_deltanet", inputs, "--form", form, *(["--chunk", "5"] if form == "chunked" else []))
    assert np.array_equal(variant(**inputs), wanted["o"])
    assert f", {form}" in variant.choice(**SIZES).splitlines()[0]


def test_a_sequence_in_two_calls_is_the_same_sequence(gdn):
    inputs = drawn(gdn)
    whole, last = gdn(**inputs, output_final_state=True)
    first, state = gdn(**{name: x[:, :6] for name, x in inputs.items()}, output_final_state=True)
    rest = {name: x[:, 6:] for name, x in inputs.items()}
    second, end = gdn(**rest, initial_state=state, output_final_state=True)
    assert np.allclose(np.concatenate([first, second], 1), whole, atol=1e-5) and np.allclose(end, last, atol=1e-5)
    by_name = gdn(**rest, initial_state={"S": state}, output_final_state=True)[1]
    assert list(by_name) == ["S"] and np.array_equal(by_name["S"], end)
    assert np.array_equal(gdn(**rest, initial_state=(state,)), second)


def test_views_are_read_as_they_lie(gdn):
    inputs = drawn(gdn)
    wanted = gdn(**inputs)
    lies = {
        "transposed": lambda x: np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
        "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        "backwards": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    }
    for name, lie in lies.items():
        assert np.array_equal(gdn(**{of: lie(x) for of, x in inputs.items()}), wanted), name
    expanded = {**inputs, "g": np.broadcast_to(inputs["g"][:, :1], inputs["g"].shape)}
    assert np.array_equal(gdn(**expanded), gdn(**{**expanded, "g": expanded["g"].copy()}))


def test_arrays_that_may_not_be_written_are_read(gdn):
    inputs = drawn(gdn)
    wanted = gdn(**inputs)
    for x in inputs.values():
        x.flags.writeable = False
    assert np.array_equal(gdn(**inputs), wanted)


@pytest.mark.parametrize("axis", ["B", "T", "H"])
def test_sizes_of_zero_work(gdn, axis):
    inputs = drawn(gdn, **{axis: 0})
    o, state = gdn(**inputs, output_final_state=True)
    assert o.size == 0 and np.array_equal(state, np.zeros_like(state))


def test_the_reference_takes_f64(gdn):
    oracle = chunkwise.compile("@gated_deltanet", backend="reference")
    inputs = drawn(gdn)
    wide = oracle(**{name: x.astype(np.float64) for name, x in inputs.items()})
    assert wide.dtype == np.float64 and oracle(**inputs).dtype == np.float32
    assert np.abs(wide - gdn(**inputs)).max() < 1e-5 * np.abs(wide).max()


def test_integers_are_narrowed_if_they_fit():
    picked = chunkwise.compile(
        """variant picked { axes B, T, H, K; input x : [B,T,H,K], n : i32 [B,T,H]; state z : [K] = 0;
        update z[t] = z[t-1] + n[t] * x[t]; output o[t] = z[t]; }"""
    )
    x, n = np.ones((1, 3, 1, 2), np.float32), np.array([[[1], [2], [3]]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", chunkwise.ChunkwiseWarning)
        assert picked(x, n)[0, :, 0, 0].tolist() == [1, 3, 6]
        assert np.array_equal(picked(x, n.astype(np.int32)), picked(x, n))
    with pytest.raises(chunkwise.DtypeError, match="tensor `n` holds 4294967296, beyond int32"):
        picked(x, n + 2**32 - 1)
    with pytest.raises(chunkwise.DtypeError, match="tensor `n` is float32, expected int32"):
        picked(x, n.astype(np.float32))


class Capsule:
    """A tensor that gives DLPack's capsules and nothing else."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **how):
        return self.x.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class Old(Capsule):
    """From before DLPack 1.0."""

    def __dlpack__(self):
        return self.x.__dlpack__()


def test_capsules_and_buffers_of_others_are_read(gdn):
    inputs = drawn(gdn)
    wanted = gdn(**inputs)
    for kind in [Capsule, Old, memoryview]:
        assert np.array_equal(gdn(**{name: kind(x) for name, x in inputs.items()}), wanted), kind
    total = chunkwise.compile("variant s { axes T; input x : [T]; state c : [] = 0; update c[t] = c[t-1] + x[t]; output o[t] = c[t]; }")
    assert np.asarray(total(array.array("f", [1, 2, 3]))).tolist() == [1, 3, 6]


def test_threads_share_a_variant(gdn):
    calls = [drawn(gdn, T=t) for t in (3, 40, 77, 150)]
    alone = [gdn(**inputs) for inputs in calls]
    wrong = []

    def work(at):
        for _ in range(50):
            if not np.array_equal(gdn(**calls[at]), alone[at]):
                wrong.append(at)

    workers = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert not wrong


def test_other_threads_of_python_run_meanwhile(gdn):
    inputs = gdn.draw(B=1, T=8192, H=4, K=64, V=64)
    gdn(**inputs)
    ticks, done = [0], threading.Event()

    def tick():
        while not done.is_set():
            ticks[0] += 1

    other = threading.Thread(target=tick)
    other.start()
    before = ticks[0]
    gdn(**inputs)
    during = ticks[0] - before
    done.set()
    other.join()
    assert during > 100


def test_a_forked_process_runs_too():
    import os

    variant = chunkwise.compile("@gated_deltanet", threads=2)
    inputs = variant.draw(B=2, T=300, H=2, K=16, V=16)
    wanted = variant(**inputs)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(variant(**inputs), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(variant(**inputs), wanted)

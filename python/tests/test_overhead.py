"""What a call costs beside its kernel, in this process's own time and the least of many, so that other programs count little;
left out where they fill the machine. `benches/python_calls.py` prints medians."""

import os
import subprocess
import sys
import time
import timeit

import pytest

import chunkwise

BUSY = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
pytestmark = pytest.mark.skipif(BUSY, reason="the machine is busy")


def least(call):
    """Microseconds."""
    call()
    return min(timeit.repeat(call, number=20, repeat=300, timer=time.process_time)) / 20 * 1e6


@pytest.fixture
def small():
    gdn = chunkwise.compile("@gated_deltanet", threads=1)
    return gdn, gdn.draw(B=1, T=1, H=1, K=4, V=4)


def test_a_call_on_arrays(small):
    gdn, inputs = small
    given = tuple(inputs.values())
    assert least(lambda: gdn(*given)) <= 8


def test_a_step_of_a_session(small):
    gdn, inputs = small
    decode, given = gdn.session(B=1, H=1, K=4, V=4), tuple(inputs.values())
    assert least(lambda: decode.step(*given)) <= 15


def test_a_call_on_tensors_of_torch(small):
    torch = pytest.importorskip("torch")
    gdn, inputs = small
    given = tuple(torch.from_numpy(x) for x in inputs.values())
    state = torch.zeros(1, 1, 4, 4)
    assert least(lambda: gdn(*given)) <= 20
    assert least(lambda: gdn.advance(*given, states=state)) <= 20


def test_importing_it():
    code = "import time; start = time.process_time(); import chunkwise; print(1e3 * (time.process_time() - start))"
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(5)]
    assert min(times) < 50

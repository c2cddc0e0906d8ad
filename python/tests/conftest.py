"""Files that the command reads and writes, without a library for them."""

import json
import subprocess
import sys

import numpy as np
import pytest


def write_tensors(path, tensors):
    """A safetensors file."""
    header, data = {}, b""
    for name, array in tensors.items():
        array = array.copy(order="C")
        kind = {"float32": "F32", "int32": "I32"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_tensors(path):
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    found = {}
    for name, of in header.items():
        if name != "__metadata__":
            start, stop = of["data_offsets"]
            found[name] = np.frombuffer(raw[end + start : end + stop], np.float32).reshape(of["shape"])
    return found


@pytest.fixture
def by_command(tmp_path):
    """What `chunkwise run` makes of an example and inputs."""

    def run(name, inputs, *flags):
        write_tensors(tmp_path / "in", inputs)
        words = ["run", name, "--inputs", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *flags]
        done = subprocess.run([sys.executable, "-m", "chunkwise", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return read_tensors(tmp_path / "out")

    return run


@pytest.fixture
def gdn():
    import chunkwise

    return chunkwise.compile("@gated_deltanet")

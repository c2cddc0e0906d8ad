"""What type checkers read is what is there."""

import subprocess
import sys
from pathlib import Path

import pytest

import chunkwise

mypy = pytest.importorskip("mypy")


def test_the_package_says_that_it_is_typed():
    assert (Path(chunkwise.__file__).parent / "py.typed").exists()


def test_the_stub_is_of_the_engine():
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "chunkwise._engine"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stdout


def test_users_are_told_what_is_wrong(tmp_path):
    (tmp_path / "use.py").write_text(
        "import chunkwise\n"
        "gla = chunkwise.compile('@gla', chunk=64)\n"
        "print(gla.choice(B=1), gla.states[0].transition.upper())\n"
        "chunkwise.compile('@gla', chunk='64')\n"
    )
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(tmp_path / "use.py")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert 'use.py:4: error: Argument "chunk"' in done.stdout and "Found 1 error in 1 file" in done.stdout, done.stdout

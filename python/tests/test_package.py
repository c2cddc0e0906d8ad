"""The package as it is installed: what importing it does, its command, its documentation, its copies."""

import copy
import doctest
import inspect
import pickle
import pydoc
import subprocess
import sys

import numpy as np
import pytest

import chunkwise


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_no_library_of_tensors():
    assert python("import chunkwise, sys; print({'numpy', 'torch', 'jax'} & set(sys.modules))") == "set()"


def test_compiling_imports_none_either():
    code = "import chunkwise, sys; print(chunkwise.compile('@gla'), {'numpy', 'torch'} & set(sys.modules))"
    assert python(code).endswith("set()")


def test_the_command_is_there():
    done = subprocess.run([sys.executable, "-m", "chunkwise", "check", "@gla"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("variant gla")
    done = subprocess.run([sys.executable, "-m", "chunkwise", "check", "@glaa"], capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean @gla" in done.stderr


@pytest.mark.parametrize("module", ["chunkwise", "chunkwise._variant", "chunkwise.onnx", "chunkwise.fla"])
def test_the_examples_of_the_documentation_hold(module):
    if module == "chunkwise.fla":
        pytest.importorskip("torch")
    __import__(module)
    found = doctest.testmod(sys.modules[module])
    assert found.failed == 0 and found.attempted > 0


def test_help_tells_the_arguments(gdn):
    text = pydoc.render_doc(gdn, renderer=pydoc.plaintext)
    assert "arXiv:2412.06464" in text and "input g : [B,T,H] float32" in text and "state S : [B,H,K,V]" in text
    assert str(inspect.signature(gdn)) == "(q, k, v, g, beta, *, initial_state=None, output_final_state=False, cu_seqlens=None)"


def test_a_variant_says_what_it_is(gdn):
    assert [tensor.name for tensor in gdn.inputs] == ["q", "k", "v", "g", "beta"] and gdn.params == ()
    assert gdn.outputs[0] == ("o", "output", "float32", ("B", "T", "H", "V"))
    assert gdn.states[0].transition == "scalar decay and rank one (key of the write)"
    assert gdn.forms == {"recurrent": None, "chunked": None, "parallel": None}
    assert "variant gated_deltanet" in str(gdn)


def test_sources_are_paths_examples_or_text(tmp_path):
    text = chunkwise.compile("@gla").source
    (tmp_path / "mine.attn").write_text(text)
    for source in [tmp_path / "mine.attn", str(tmp_path / "mine.attn"), text]:
        assert chunkwise.compile(source).name == "gla"
    assert "gla" in chunkwise.examples()


def test_copies_and_pickles_run_alike(gdn):
    inputs = gdn.draw(B=1, T=4, H=1, K=4, V=4)
    for other in [copy.deepcopy(gdn), pickle.loads(pickle.dumps(gdn))]:
        assert np.array_equal(other(**inputs), gdn(**inputs))


def test_arguments_of_compile_time_are_taken():
    window = chunkwise.compile("@window_linear", args={"L": 3})
    wide = chunkwise.compile("@window_linear", args={"L": 64})
    inputs = wide.draw(B=1, T=20, H=1, K=4, V=4)
    assert not np.array_equal(window(**inputs), wide(**inputs))

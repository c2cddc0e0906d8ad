"""What the pages show of Python holds. Not there for an installed package alone: the pages are of the checkout."""

import doctest
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chunkwise

ROOT = Path(__file__).parents[2]


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def test_the_readme_prints_what_it_shows():
    pytest.importorskip("torch")
    [block] = blocks("README.md", "pycon")
    test = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
    told = []
    assert doctest.DocTestRunner().run(test, out=told.append).failed == 0, "".join(told)


def test_the_page_runs(gdn):
    sizes = {"B": 1, "H": 8, "K": 128, "V": 128}
    inputs = gdn.draw(T=6, **sizes)
    names = {**inputs, **{f"{name}2": x for name, x in inputs.items()}}
    names["tokens"] = [[x[:, t : t + 1] for x in inputs.values()] for t in range(6)]
    found = blocks("docs/python.md", "python")
    assert len(found) == 8
    for block in found[:5]:
        exec(block, names)
    assert isinstance(names["window"], chunkwise.Variant) and np.array_equal(names["o"].shape, (1, 6, 8, 128))


def test_the_page_runs_on_torch(gdn):
    torch = pytest.importorskip("torch")
    names = gdn.draw(B=1, T=6, H=8, K=16, V=16, like=torch.empty(0))
    found = blocks("docs/python.md", "python")
    exec(found[7], names)
    assert names["o"].shape == (1, 6, 8, 16) and names["state"].shape == (1, 8, 16, 16)
    leaves = {name: names[name].requires_grad_() for name in ("q", "k", "v", "g", "beta")}
    leaves["S"] = torch.zeros(1, 8, 16, 16, requires_grad=True)
    ones = {"d_o": torch.ones(1, 6, 8, 16), "d_S": torch.ones(1, 8, 16, 16)}
    exec(found[5], names := {"gdn": gdn, **leaves, **ones})
    assert all(torch.equal(names["found"][name], leaf.grad) for name, leaf in leaves.items())


def run(script, *words):
    done = subprocess.run([sys.executable, ROOT / "examples/python" / script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_paper_becomes_numbers(tmp_path):
    drawn = ["--plot", str(tmp_path / "plot.svg")] if importlib.util.find_spec("matplotlib") else []
    said = run("from_a_paper.py", "--tokens", "32,64", *drawn)
    assert "transition: scalar decay and rank one (key of the write)" in said and "(1, 1, 2, 16)" in said
    assert not drawn or (tmp_path / "plot.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("variant", ["@gated_deltanet", "@gla", "@mamba2", "examples/python/agreement.attn"])
def test_a_model_trains_as_it_does_on_a_loop(variant, tmp_path):
    for needed in ("torch", "tqdm"):
        pytest.importorskip(needed)
    drawn = ["--plot", str(tmp_path / "loss.png")] if importlib.util.find_spec("matplotlib") else []
    path = str(ROOT / variant) if variant.endswith(".attn") else variant
    # A text of its own, that a few steps learn something of: pages change.
    text = tmp_path / "text"
    text.write_text("the tokens of a chunk. " * 100)
    small = ["--tokens", "24", "--batch", "2", "--width", "16", "--steps", "12", "--dim", "K=8", "--dim", "V=8", "--dim", "N=8"]
    said = run("train.py", "--variant", path, *small, "--text", str(text), "--compare", *drawn)
    firsts, lasts = zip(*((float(a), float(b)) for a, b in re.findall(r"loss (\S+) at first, (\S+) after 12", said)))
    assert len(lasts) == 2 and abs(lasts[0] - lasts[1]) < 1e-3 and lasts[0] < firsts[0] == firsts[1], said
    assert float(re.search(r"differ by (\S+) %", said)[1]) < 0.1, said
    assert not drawn or (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_stays_what_it_is():
    pytest.importorskip("transformers", minversion="5.24")
    said = run("in_a_model.py", "--tokens", "70", "--new", "4")
    assert "model.layers.2.linear_attn (Qwen3NextGatedDeltaNet): causal_conv1d_fn" in said
    assert said.splitlines()[-1].endswith("the same tokens: True")

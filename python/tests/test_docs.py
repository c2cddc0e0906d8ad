"""What the pages show of Python holds. Not there for an installed package alone: the pages are of the checkout."""

import doctest
import re
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
    assert len(found) == 3
    for block in found:
        exec(block, names)
    assert isinstance(names["window"], chunkwise.Variant) and np.array_equal(names["o"].shape, (1, 1, 8, 128))

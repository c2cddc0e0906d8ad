"""The commands as methods: their text, their tables, their refusals."""

import pytest

import chunkwise

SIZES = {"K": 8, "V": 8}


def test_explain_derives_and_evaluates(gdn):
    assert "every term holds" in gdn.explain(form="chunked", check=True)


def test_check_and_emit_print_what_the_command_prints(gdn):
    assert gdn.check().startswith("variant gated_deltanet")
    assert "kernel" in gdn.emit(stage="kernel", form="recurrent", **SIZES)
    with pytest.raises(chunkwise.Error, match="possible values"):
        gdn.emit(stage="nonsense")


def test_verify_gives_its_table(gdn):
    report = gdn.verify(form="chunked", tokens=[1, 9])
    assert all(row["ok"] and row["error"] <= row["bound"] for row in report) and len(report) >= 2
    assert str(report).splitlines()[0].split()[:3] == ["form", "chunk", "backend"]


def test_verify_raises_over_a_bound():
    source = chunkwise.compile("@linear_attention").source
    tight = source.rstrip().removesuffix("}") + "  check tol(1e-12);\n}"
    with pytest.raises(chunkwise.VerifyError) as caught:
        chunkwise.compile(tight).verify(form="recurrent", tokens=[33])
    assert any(not row["ok"] for row in caught.value.report)


def test_bench_gives_times(gdn):
    report = gdn.bench(form="recurrent", tokens=[16], H=1, **SIZES)
    assert report[0]["median_ms"] > 0

"""`asr benchmark --every-set` holds both sides to a set, in a process of its own."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from asr.benchmark import instruction_sets
from asr.benchmark.compare import EXACT, OWN_DENSE, SPARSE
from asr.benchmark.dense import TORCH
from asr.benchmark.instruction_sets import HELD, benchmark_sets, sets_here, table
from asr.cli import main as cli
from asr.errors import AsrError
from asr.sparse.kernels import LEVELS, levels, library

pytestmark = pytest.mark.skipif("avx2" not in levels() or not library(), reason="no AVX2")


def test_a_set_is_measured_in_a_process_that_is_held_to_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruction_sets, "sets_here", lambda: ("avx2",))
    brief = replace(HELD["avx2"], dense=("torch fp32",))
    monkeypatch.setitem(HELD, "avx2", brief)
    before = dict(os.environ)
    found = benchmark_sets(trained, seconds=0.2, threads=1)
    assert dict(os.environ) == before
    assert list(found) == ["avx2"]
    assert found["avx2"].kernels[SPARSE] == "perm8"  # what AVX2 chooses
    assert set(found["avx2"].measured.timings) == {"torch fp32", OWN_DENSE, SPARSE, EXACT}
    text = table(found)
    assert "FBGEMM_ENABLE_INSTRUCTIONS=AVX2" in text
    assert "perm8" in text


def test_the_sets_are_those_of_the_processor_that_have_a_dense_side() -> None:
    assert set(HELD) < set(LEVELS)
    assert set(sets_here()) == set(HELD) & set(levels())
    for name, held in HELD.items():
        assert held.variables["ASR_LEVEL"] == name
        assert held.dense == TORCH or name == "avx512vnni"


def test_a_person_s_mistake_in_the_other_process_is_its_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not.asr").write_bytes(b"nothing")
    with pytest.raises(AsrError, match=r"not\.asr"):
        benchmark_sets(tmp_path / "not.asr")
    monkeypatch.setattr(sys, "argv", ["asr", "benchmark", str(tmp_path / "not.asr"), "--every-set"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "Traceback" not in capsys.readouterr().err


def test_without_the_c_library_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "library", lambda: None)
    with pytest.raises(AsrError, match="no instruction sets to compare"):
        sets_here()

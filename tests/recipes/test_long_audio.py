"""The benchmark of memory runs in miniature."""

from pathlib import Path

import pytest
from benchmark_scripts import script

from asr.report.measurements import read_measurements


def test_memory_is_printed_and_recorded_for_each_length_and_decoder(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["english", str(corpus / "test.jsonl"), "--hours", "0.002"]
    assert script("long_audio").main([*words, "-o", str(tmp_path / "english.json")]) == 0
    [record] = read_measurements(tmp_path)
    assert [row["decoder"] for row in record.rows] == ["greedy", "its own beam search, LM"]
    assert all(20 < row["peak_mib"] < 1000 for row in record.rows)
    assert "Peak memory, MiB" in capsys.readouterr().out

"""The benchmark of streams runs in miniature."""

from pathlib import Path

import pytest
from benchmark_scripts import script
from tone_network import save_tone_model

from asr.report.measurements import read_measurements


def test_latency_cost_and_memory_are_recorded(trained: Path, corpus: Path, tmp_path: Path) -> None:
    words = [str(trained), str(corpus / "test.jsonl"), "--aligner", str(trained)]
    words += ["--utterances", "2", "--seconds", "2", "--hours", "0.003"]
    assert script("streaming").main([*words, "-o", str(tmp_path / "windows.json")]) == 0
    [record] = read_measurements(tmp_path)
    [row] = record.rows
    assert row["words"] >= 2
    # In windows a word is seen after a step, and stable when it ended long enough ago.
    assert 0 < row["first_median"] < 1500 < row["stable_median"]
    assert "bidirectional" in record.notes[0]


def test_an_exact_stream_says_so_and_without_a_record_the_tables_are_printed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tone_model(tmp_path / "tone.asr")
    words = [str(model), str(corpus / "test.jsonl"), "--aligner", str(model), "--utterances", "1"]
    words += ["--seconds", "1", "--hours", "0"]
    assert script("streaming").main(words) == 0
    printed = capsys.readouterr().out
    assert "First seen, ms" in printed
    assert "exact: the words are those" in printed

"""The benchmark of very many recordings runs in miniature."""

from pathlib import Path

import pytest
from benchmark_scripts import script
from paths import DATA

from asr.report.measurements import read_measurements


def test_costs_of_transcribing_reading_and_listing_are_printed_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recordings", str(DATA), "--seconds", "4", "--lengths", "1,4", "--list", "2000"]
    (tmp_path / "records").mkdir()
    assert script("bulk").main([*words, "-o", str(tmp_path / "records" / "english.json")]) == 0
    [record] = read_measurements(tmp_path / "records")
    printed = capsys.readouterr().out
    for part in ("Processor s / s", "Opus, 48 kHz", "A list of paths", record.notes[0]):
        assert part in printed
    assert [(row["decoder"], row["recordings"]) for row in record.rows] == [
        ("greedy", 4), ("greedy", 1), ("beam, LM", 4), ("beam, LM", 1),
    ]  # fmt: skip
    assert all(0 < row["factor"] < 5 and row["lines"] > 1000 for row in record.rows)
    reading, listing = record.tables
    assert next(row["what"] for row in reading.rows or ()).startswith("WAV")
    assert all(row["bytes"] > 1e7 for row in reading.rows or ())
    [row] = listing.rows or ()
    assert (row["recordings"], row["found"]) == (2000, 2)
    assert 50 < record.details["memory"] < 1000

"""The benchmark of seams runs in miniature, and counts errors in pairs."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_scripts import script

from asr.audio.chunk import ChunkOptions
from asr.report.measurements import read_measurements
from asr.transcribe.recogniser import load
from asr.transcribe.transcript import Transcript


@pytest.fixture(scope="module")
def seams() -> ModuleType:
    return script("seams")


def test_the_benchmark_prints_a_row_for_each_option_and_a_ratio(
    seams: ModuleType,
    trained: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(trained), str(corpus / "test.jsonl"), "--utterances", "2"]
    assert seams.main([*words, "-o", str(tmp_path / "record.json")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + len(seams.OPTIONS) + 1
    assert rows[4].split()[:4] == ["20", "2", "no", "4"]
    assert rows[-1].startswith("with an overlap of 2 s: ")
    [record] = read_measurements(tmp_path)
    assert [row["seams"] for row in record.rows][2] == 4
    assert "2 recordings of 40 s" in record.notes[0]


def test_an_error_near_a_seam_is_compared_with_the_same_word_elsewhere(
    seams: ModuleType, trained: Path
) -> None:
    # 40 rounds of a second with the words A B; seams at 19 and 30 s (the last chunk is 20 s long).
    middles = (np.array([0.2, 0.7]) + np.arange(40)[:, None]).ravel()
    recording = seams.Repeated(np.zeros(40 * 16000, np.float32), ["A", "B"], middles, 40)
    recognised = [["A", "B"] for _ in range(40)]
    recognised[18] = ["A", "X"]
    recognised[29] = ["B"]
    recognised[5] = ["A", "X"]
    text = " ".join(word for round_ in recognised for word in round_)
    transcript = Transcript("", text, 40.0, "model")
    extra, count = seams.extra_errors(load(trained), recording, transcript, ChunkOptions())
    assert count == 2
    # Two errors near; B has one error in the 36 or so rounds away, A none.
    assert 1.8 < extra < 2.0

"""`asr check` says what is worth knowing, beside what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.check import Criteria
from asr.corpus.commands import check_utterances
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.survey import survey
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.text.tokenizer import CharacterTokenizer

CRITERIA = Criteria(16000, Frontend().frames, Model().output_length, max_seconds=20)


def utterance(
    folder: Path,
    name: str,
    text: str = "HELLO",
    seed: int = 0,
    rate: int = 16000,
    channels: int = 1,
) -> Utterance:
    path = folder / f"{name}.wav"
    shape = (rate, channels) if channels > 1 else rate
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, shape), rate)
    return Utterance(name, str(path), 1.0, text, "")


def test_every_kind_of_remark_is_counted_with_examples(tmp_path):
    utterances = [
        utterance(tmp_path, "a", "Hello, Zoë!"),
        utterance(tmp_path, "b", seed=1, rate=8000),
        utterance(tmp_path, "c", seed=2, rate=44100, channels=2),
        utterance(tmp_path, "copy"),
        Utterance("gone", str(tmp_path / "gone.wav"), 3.0, "HERE", ""),
    ]
    found = {remark.name: remark for remark in survey(utterances, 16000)}
    assert {name: remark.count for name, remark in found.items()} == {
        "durations": 5, "8000 Hz": 1, "16000 Hz": 2, "44100 Hz": 1, "channels": 1, "texts": 1,
        "duplicates": 2,
    }  # fmt: skip
    assert "1.0 to 3.0 s, median 1.0 s" in found["durations"].meaning
    assert "below the 16000 Hz" in found["8000 Hz"].meaning
    assert found["8000 Hz"].examples == (str(tmp_path / "b.wav"),)
    assert found["texts"].examples == ("'Hello, Zoë!' becomes 'HELLO ZOE'",)
    assert found["duplicates"].examples == ("a = copy",)


def test_parts_of_one_recording_are_no_duplicates(tmp_path):
    whole = utterance(tmp_path, "a").audio_filepath
    parts = [Utterance(str(i), whole, 0.5, "A", "", offset=i / 2) for i in range(2)]
    assert "duplicates" not in {remark.name for remark in survey(parts, 16000)}
    twice = [*parts, Utterance("2", whole, 0.5, "A", "", offset=0.5)]
    assert {r.name: r.examples for r in survey(twice, 16000)}["duplicates"] == ("1 = 2",)


def test_one_recording_with_two_texts_must_be_fixed(tmp_path, capsys):
    one = utterance(tmp_path, "a", "right")
    other = Utterance("b", one.audio_filepath, 1.0, "wrong", "")
    write_manifest(tmp_path / "m.jsonl", [one, other])
    with pytest.raises(AsrError, match="1 of 2 utterances cannot be used"):
        check_utterances(str(tmp_path / "m.jsonl"), CharacterTokenizer(), CRITERIA)
    printed = capsys.readouterr().out
    assert "b: 'wrong', but 'right' in a" in printed
    assert "duplicates: 2 utterances" in printed


def test_a_folder_can_be_checked_and_status_is_good_without_problems(tmp_path, capsys):
    utterance(tmp_path, "a")
    (tmp_path / "a.txt").write_text("Hello.")
    report = check_utterances(str(tmp_path), CharacterTokenizer(), CRITERIA)
    assert not report.problems
    assert "1 utterances checked, no problems" in capsys.readouterr().out

"""The benchmark of silence: a row for each addition, and additions that leave the words alone."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_scripts import script

from asr.report.measurements import read_measurements

RATE = 16000


@pytest.fixture(scope="module")
def silence() -> ModuleType:
    return script("silence")


def words() -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (noise * (1e-3 + 0.1 * (np.sin(9 * time) > 0))).astype(np.float32)


def test_the_benchmark_has_a_row_for_each_addition_and_a_column_for_each_normalisation(
    silence: ModuleType,
    trained: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = silence.conditions(None)
    some = [every[0], every[2], every[-2], every[-1]]
    monkeypatch.setattr(silence, "conditions", lambda noise: some)
    output = tmp_path / "record.json"
    options = ["--utterances", "4", "-o", str(output)]
    assert silence.main([str(trained), str(corpus / "test.jsonl"), *options]) == 0
    [record] = read_measurements(tmp_path)
    assert [row["added"] for row in record.rows] == [
        "nothing", "zeros behind", "noise gate", "another speaker",
    ]  # fmt: skip
    assert [column.heading for column in record.columns[2:]] == [
        "test.jsonl, utterance", "test.jsonl, speech",
    ]  # fmt: skip
    assert len(record.details) == 8


@pytest.mark.parametrize("place", ["before", "behind", "between"])
@pytest.mark.parametrize("name", ["zeros", "room_tone", "music"])
def test_what_is_added_has_its_length_and_keeps_the_recording(
    silence: ModuleType, place: str, name: str
) -> None:
    recording = silence.Spoken(words(), "A")
    [changed] = silence.added([recording], getattr(silence, name), place, 0.5)
    times = 2 if place == "between" else 1
    assert len(changed.samples) == len(recording.samples) + times * RATE // 2
    assert np.isfinite(changed.samples).all()
    assert changed.text == "A"
    if place != "between":
        kept = changed.samples[RATE // 2 :] if place == "before" else changed.samples[: 2 * RATE]
        np.testing.assert_array_equal(kept, recording.samples)


def test_a_gate_closes_in_the_pauses_and_room_tone_is_as_loud_as_they_are(
    silence: ModuleType,
) -> None:
    samples = words()
    gated = silence.gated(samples)
    loud = np.abs(samples) > 0.05
    np.testing.assert_array_equal(gated[loud], samples[loud])
    assert (gated == 0).mean() > 0.25
    tone = silence.room_tone(samples, RATE)
    assert 0.5e-3 < np.sqrt(np.square(tone).mean()) < 2e-3

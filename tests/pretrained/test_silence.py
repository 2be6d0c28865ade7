"""Silence around the words of a recording does not change what the recogniser writes."""

import numpy as np
import pytest
from paths import ROOT

from asr import audio
from asr.transcribe.recogniser import Recogniser, load

SPOKEN = ROOT.parent / "shared" / "faults" / "base.flac"
pytestmark = pytest.mark.skipif(not SPOKEN.exists(), reason="needs the recordings in shared/faults")


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return load("english", threads=1)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    return audio.load(SPOKEN, 16000).samples


@pytest.fixture(scope="module")
def text(recogniser: Recogniser, spoken: np.ndarray) -> str:
    """Of the recording as it is: five digits, SEVEN SEVEN ONE EIGHT ZERO."""
    [transcript] = recogniser.transcribe(spoken)
    assert "SEVEN" in transcript.text
    return transcript.text


def zeros(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * 16000), np.float32)


# Before the words whole output frames of 30 ms: a shift by a part of one, of any sound, gives the
# network other frames, and one word of this recording is near another.
@pytest.mark.parametrize(
    ("before", "behind"), [(0, 1), (0, 4), (0, 8), (0, 40), (2.01, 0), (6, 0), (3, 3)]
)
def test_zeros_before_and_behind_change_no_word(recogniser, spoken, text, before, behind):
    samples = np.concatenate([zeros(before), spoken, zeros(behind)])
    [transcript] = recogniser.transcribe(samples)
    assert transcript.text == text


@pytest.mark.parametrize("decibels", [30, 40, 50])
def test_a_noise_gate_changes_no_word(recogniser, spoken, text, decibels):
    size = 320
    blocks = spoken[: len(spoken) // size * size].reshape(-1, size)
    power = np.square(blocks).mean(axis=1)
    opened = power > power.max() * 10 ** (-decibels / 10)
    opened = np.convolve(opened, np.ones(5), "same") > 0
    [transcript] = recogniser.transcribe((blocks * opened[:, None]).ravel())
    assert transcript.text == text

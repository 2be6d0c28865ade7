"""Confidence against enumeration, calibration against samples of itself, silence and noise."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from decoding_data import collapse, table
from paths import ROOT

from asr.corpus.manifest import read_manifest
from asr.decode.confidence import (
    Calibration,
    Reliability,
    calibration_error,
    fit,
    reliability,
    reliability_table,
    separation,
    span_probabilities,
)
from asr.errors import AsrError
from asr.transcribe.recogniser import Recogniser, load

HIGH = 0.9
NOISE = ROOT.parent / "shared" / "speech" / "noise" / "esc10"


def brute(log_probs: np.ndarray, tokens: list[int]) -> float:
    """Probability of all paths that collapse to the tokens."""
    frames, size = log_probs.shape
    paths = itertools.product(range(size), repeat=frames)
    rows = np.arange(frames)
    return sum(np.exp(log_probs[rows, p].sum()) for p in paths if collapse(p) == tokens)


@pytest.mark.parametrize("tokens", [[1], [1, 2, 3], [2, 2], [3, 1, 3]])
def test_a_single_word_has_the_probability_of_all_its_paths(tokens: list[int]) -> None:
    log_probs = table(6, 4, 7, sharpness=1.0)
    starts = np.arange(len(tokens))
    [found] = span_probabilities(log_probs, tokens, [("W", 0, len(tokens))], starts, starts + 1)
    assert found == pytest.approx(brute(log_probs, tokens), rel=1e-5)


def test_a_word_has_the_frames_and_spaces_between_its_neighbours() -> None:
    # Words 1 2 | 3 with the separator 4 between, at frames 0 1 . 3 . 5 and one more frame.
    log_probs = table(7, 5, 8, sharpness=1.0)
    tokens, starts = [1, 2, 4, 3], np.array([0, 1, 3, 5])
    words = [("AB", 0, 2), ("C", 3, 4)]
    found = span_probabilities(log_probs, tokens, words, starts, starts + 1)
    assert found[0] == pytest.approx(brute(log_probs[:5], [1, 2, 4]), rel=1e-5)
    assert found[1] == pytest.approx(brute(log_probs[2:], [4, 3]), rel=1e-5)


def test_frames_of_blank_change_no_confidence() -> None:
    log_probs = table(6, 4, 9, sharpness=1.0)
    blank = np.log(np.full((1, 4), 1e-12))
    blank[0, 0] = 0.0
    padded = np.concatenate([*[blank] * 20, log_probs, *[blank] * 30])
    words, starts = [("W", 0, 2)], np.array([1, 3])
    plain = span_probabilities(log_probs, [1, 2], words, starts, starts + 1)
    around = span_probabilities(padded, [1, 2], words, starts + 20, starts + 21)
    assert around == pytest.approx(plain, rel=1e-6)


def test_a_word_of_many_frames_does_not_underflow() -> None:
    log_probs = table(3000, 5, 1, sharpness=0.1)
    tokens = [1, 2] * 200
    starts = np.arange(400) * 7
    [found] = span_probabilities(log_probs, tokens, [("W", 0, 400)], starts, starts + 1)
    assert 0 <= found <= 1


def drawn(slope: float, offset: float, count: int = 20000) -> tuple[np.ndarray, np.ndarray]:
    """Raw confidences, and words that are right with the probability of the map."""
    draw = np.random.default_rng(5)
    raw = draw.uniform(0.01, 0.999, count)
    return raw, draw.random(count) < Calibration(slope, offset).apply(raw)


def test_the_fit_finds_the_map_that_the_words_were_drawn_from() -> None:
    raw, right = drawn(1.6, 0.7)
    found = fit(raw, right)
    assert found.slope == pytest.approx(1.6, abs=0.06)
    assert found.offset == pytest.approx(0.7, abs=0.06)
    before, after = (calibration_error(reliability(c, right)) for c in (raw, found.apply(raw)))
    assert after < 0.01 < 0.05 < before


def test_the_map_preserves_the_order_and_stays_between_0_and_1() -> None:
    raw = np.array([0.0, 1e-9, 0.2, 0.5, 0.9, 1.0])
    mapped = Calibration(2.0, -3.0).apply(raw)
    assert (np.diff(mapped) >= 0).all()
    assert mapped[0] >= 0
    assert mapped[-1] <= 1
    assert Calibration().apply(raw) == pytest.approx(raw, abs=2e-6)


def test_words_of_one_kind_or_without_order_are_refused() -> None:
    raw = np.array([0.2, 0.4, 0.6, 0.8])
    with pytest.raises(AsrError, match="all of 4 words are right"):
        fit(raw, np.ones(4, bool))
    with pytest.raises(AsrError, match="all of 0 words are wrong"):
        fit(raw[:0], np.ones(0, bool))
    with pytest.raises(AsrError, match="higher confidence are not right more often"):
        fit(np.tile(raw, 50), np.tile([True, True, False, False], 50))


def test_separable_words_give_a_finite_map() -> None:
    found = fit(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert np.isfinite([found.slope, found.offset]).all()


@pytest.mark.parametrize(
    ("plain", "fragment"),
    [
        ({"slope": 1.0}, "needs slope and offset"),
        (3, "needs slope and offset"),
        ({"slope": 0.0, "offset": 0.0}, "slope=0.0: must be above 0"),
        ({"slope": "1", "offset": 0.0}, "confidence.slope='1'"),
        ({"slope": 10**400, "offset": 0.0}, "confidence.slope=1000"),
        ({"slope": 1.0, "offset": float("nan")}, "confidence.offset=nan"),
    ],
)
def test_a_malformed_map_is_refused(plain: object, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        Calibration.from_plain(plain)


def test_a_map_survives_the_model_file() -> None:
    assert Calibration.from_plain(None) is None
    plain = Calibration(1.5, 0.25).to_plain()
    assert Calibration.from_plain(plain | {"words": 900}) == Calibration(1.5, 0.25)


def test_the_reliability_table_counts_every_word_once() -> None:
    confidences = np.array([0.0, 0.05, 0.55, 0.59, 1.0])
    right = np.array([False, True, True, False, True])
    rows = reliability(confidences, right)
    assert rows == [
        Reliability(0.0, 0.1, 2, 0.025, 0.5),
        Reliability(0.5, 0.6, 2, pytest.approx(0.57), 0.5),
        Reliability(0.9, 1.0, 1, 1.0, 1.0),
    ]
    assert calibration_error(rows) == pytest.approx((2 * 0.475 + 2 * 0.07) / 5)
    assert "| 0.5 to 0.6 | 2 | 57.0 % | 50.0 % |" in reliability_table(rows).splitlines()


def test_separation_is_the_fraction_of_pairs_in_order() -> None:
    confidences = np.array([0.1, 0.4, 0.4, 0.8])
    right = np.array([False, False, True, True])
    assert separation(confidences, right) == pytest.approx(3.5 / 4)
    assert np.isnan(separation(confidences, np.ones(4, bool)))


@pytest.fixture(scope="module")
def recogniser(trained: Path) -> Recogniser:
    return load(trained)


def noises() -> dict[str, np.ndarray]:
    draw, count = np.random.default_rng(1), 8 * 16000
    white = draw.standard_normal(count)
    spectrum = np.fft.rfft(draw.standard_normal(count))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    hum = np.sin(2 * np.pi * 50 * np.arange(count) / 16000)
    return {
        "digital silence": np.zeros(count),
        "faint white noise": 1e-4 * white,
        "white noise": 0.1 * white,
        "pink noise": 0.05 * pink / pink.std(),
        "hum": 0.05 * hum + 1e-3 * white,
    }


def test_silence_and_noise_give_no_word_with_high_confidence(
    recogniser: Recogniser, corpus: Path
) -> None:
    for name, samples in noises().items():
        [transcript] = recogniser.transcribe(samples)
        assert not [w for w in transcript.words if w.confidence >= HIGH], name
        if name == "digital silence":
            assert transcript.text == ""
    spoken = [u.audio_filepath for u in read_manifest(corpus / "test.jsonl")[:12]]
    words = [word for t in recogniser.transcribe(spoken) for word in t.words]
    sure = np.mean([word.confidence >= HIGH for word in words])
    assert sure > 0.05, "even a weak network has some words of high confidence"


@pytest.mark.skipif(not NOISE.is_dir(), reason="no recorded noise on this machine")
def test_recorded_noise_gives_hardly_a_word_with_high_confidence(recogniser: Recogniser) -> None:
    paths = sorted(NOISE.glob("*.opus"))[::13]
    words = [word for t in recogniser.transcribe(paths) for word in t.words]
    assert len(words) > 30
    assert sum(word.confidence >= HIGH for word in words) <= len(words) // 100

"""The features in C, for vectors of 4 and of 8 frames, equal those in numpy."""

import ctypes

import numpy as np
import pytest

from asr.features import native
from asr.features.logmel import features
from asr.features.normalise import normalise
from asr.features.settings import Frontend

pytestmark = pytest.mark.skipif(native.library() is None, reason="the C library was not built")

SETTINGS = [
    Frontend(),
    Frontend(
        sample_rate=8000, fft_size=256, mels=40, high_hertz=4000
    ),  # transforms of 128 = 2 x 4^3
    Frontend(
        sample_rate=2000,
        window_seconds=0.002,
        step_seconds=0.001,
        fft_size=4,
        mels=2,
        high_hertz=1000,
    ),
    Frontend(
        sample_rate=2000,
        window_seconds=0.001,
        step_seconds=0.001,
        fft_size=2,
        mels=1,
        high_hertz=1000,
    ),
    Frontend(sample_rate=44100, fft_size=2048, mels=128, high_hertz=20000),
    # Bands between two bins are empty.
    Frontend(fft_size=1024, mels=300),
]
LEVELS = ["plain", None]


def in_numpy(samples, settings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        return features(samples, settings)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 9, 130])
@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
def test_every_number_of_frames_has_the_features_of_numpy(settings, frames, level, monkeypatch):
    if level:
        monkeypatch.setenv("ASR_LEVEL", level)
    random = np.random.default_rng(frames)
    count = settings.window + (frames - 1) * settings.step + settings.step // 2
    samples = (0.1 * random.standard_normal(count)).astype(np.float32)
    found = features(samples, settings)
    assert found.shape == (frames, settings.mels)
    np.testing.assert_allclose(found, in_numpy(samples, settings, monkeypatch), atol=5e-5, rtol=0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("frames", [1, 29, 249, 250, 251, 252, 700])
def test_normalisation_is_that_of_numpy(frames, level, monkeypatch):
    if level:
        monkeypatch.setenv("ASR_LEVEL", level)
    random = np.random.default_rng(frames)
    loud = np.repeat(random.uniform(-14, 2, -(-frames // 40)), 40)[:frames, None]
    found = (loud + random.standard_normal((frames, 23))).astype(np.float32)
    expected = found.copy()
    normalise(found, Frontend(mels=23))
    monkeypatch.setattr(native, "library", lambda: None)
    normalise(expected, Frontend(mels=23))
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_not_a_number_is_none_afterwards_and_stays_in_its_frames(level, monkeypatch):
    if level:
        monkeypatch.setenv("ASR_LEVEL", level)
    samples = np.ones(16000, np.float32)
    samples[8000] = np.nan
    found = features(samples, Frontend(normalise="none"))
    wrong = np.isnan(found).all(axis=1)
    assert np.flatnonzero(wrong).tolist() == [48, 49, 50]  # windows of 400 from 160 i on
    assert np.isfinite(found[~wrong]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_read_or_written_outside_of_the_arrays(level, monkeypatch):
    if level:
        monkeypatch.setenv("ASR_LEVEL", level)
    settings, guard = Frontend(normalise="none"), 64
    samples = np.full(settings.window + 6 * settings.step + 2 * guard, np.nan, np.float32)
    samples[guard:-guard] = np.random.default_rng(0).standard_normal(len(samples) - 2 * guard)
    assert np.isfinite(features(samples[guard:-guard], settings)).all()


def test_a_library_of_another_version_is_not_used(monkeypatch):
    class Other:
        @staticmethod
        def asr_features_version():
            return native.VERSION + 1

    monkeypatch.setattr(ctypes, "CDLL", lambda path: Other())
    native.library.cache_clear()
    try:
        assert native.library() is None
        assert features(np.zeros(16000, np.float32), Frontend()).shape == (98, 80)
    finally:
        monkeypatch.undo()
        native.library.cache_clear()

"""The features without torch equal those in torch with which networks are trained."""

import doctest
import tracemalloc

import numpy as np
import pytest
from reference_logmel import reference

from asr.features import logmel
from asr.features.logmel import features, mel_filters
from asr.features.logmel_torch import features as torch_features
from asr.features.settings import Frontend

RATE = 16000
SETTINGS = [
    Frontend(),
    Frontend(normalise="utterance"),
    Frontend(normalise="none"),
    Frontend(
        sample_rate=8000, window_seconds=0.032, fft_size=256, mels=40, low_hertz=0, high_hertz=4000
    ),
    Frontend(window_seconds=0.02, step_seconds=0.005, fft_size=400, mels=64, log_floor=1e-3),
    Frontend(sample_rate=11025, mels=23, high_hertz=5000),
]


def waveforms() -> dict[str, np.ndarray]:
    """Two seconds of each component of recordings."""
    random = np.random.default_rng(1)
    t = np.arange(2 * RATE) / RATE
    noise = random.standard_normal(len(t))
    speech = noise * np.abs(np.sin(4 * t)) * np.linspace(0.001, 0.3, len(t))
    silent = np.where(t < 1, 0.0, 0.1 * noise)
    return {
        "noise": 0.1 * noise,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * t) + 0.001 * noise,
        "speech-like": speech,
        "silence then noise": silent,
        "loud": np.sign(noise),
    }


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("kind", waveforms())
def test_features_are_those_of_the_training_frontend(settings: Frontend, kind: str) -> None:
    samples = waveforms()[kind].astype(np.float32)
    found, expected = features(samples, settings), torch_features(samples, settings).numpy()
    assert found.dtype == np.float32
    assert found.std() > 0.1
    # Beside a loud steady tone the quiet bands are what float32 rounds, in torch above all.
    tolerance = 2e-3 if kind == "tone" else 1e-4
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("kind", waveforms())
def test_features_are_as_near_to_the_truth_as_torch_s(settings: Frontend, kind: str) -> None:
    samples = waveforms()[kind].astype(np.float32)
    expected = reference(samples, settings)
    error = np.abs(features(samples, settings) - expected).max()
    torchs = np.abs(torch_features(samples, settings).numpy() - expected).max()
    # The largest rounding of each. Torch's differs between processors: 1.13 times it on a Xeon.
    assert error < max(1e-5, 1.5 * torchs)


def test_the_mel_filters_are_those_of_torchaudio() -> None:
    from torchaudio.functional import melscale_fbanks

    for s in SETTINGS:
        bins = s.fft_size // 2 + 1
        expected = melscale_fbanks(bins, s.low_hertz, s.high_hertz, s.mels, s.sample_rate).T
        np.testing.assert_allclose(mel_filters(s), expected.numpy(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("normalise", ["utterance", "speech", "running", "none"])
def test_digital_silence_has_the_same_features_in_both(normalise: str) -> None:
    settings = Frontend(normalise=normalise)  # type: ignore[arg-type]
    samples = np.zeros(RATE, np.float32)
    np.testing.assert_allclose(
        features(samples, settings), torch_features(samples, settings).numpy(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 400 + 160 * 127, 400 + 160 * 128])
def test_the_number_of_frames_is_that_of_the_settings(samples: int) -> None:
    waveform = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    found = features(waveform, Frontend())
    assert found.shape == (Frontend().frames(samples), 80)
    np.testing.assert_allclose(found, torch_features(waveform, Frontend()).numpy(), atol=1e-4)


def test_the_example_in_the_docstring_runs() -> None:
    found = doctest.testmod(logmel)
    assert found.attempted
    assert not found.failed


def test_other_types_of_samples_and_strided_ones_are_taken() -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    expected = features(samples[::2].astype(np.float32), Frontend())
    np.testing.assert_array_equal(features(samples[::2], Frontend()), expected)
    np.testing.assert_array_equal(features(samples.astype(np.float32)[::2], Frontend()), expected)


def test_memory_beyond_the_result_does_not_grow_with_the_recording() -> None:
    samples = np.random.default_rng(0).standard_normal(600 * RATE).astype(np.float32)
    features(samples[:RATE], Frontend())
    tracemalloc.start()
    try:
        size = features(samples, Frontend()).nbytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * size  # of spectra alone it would be 13 times as much

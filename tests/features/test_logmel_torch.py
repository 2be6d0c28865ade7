"""Log-mel features against a slow reference in numpy; padding never changes an utterance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_logmel import reference

from asr.errors import AsrError
from asr.features.logmel_torch import LogMel, features
from asr.features.settings import Frontend

PLAIN = Frontend(normalise="none")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (0.1 * draw.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        Frontend(),
        PLAIN,
        Frontend(sample_rate=8000, fft_size=256, mels=40, high_hertz=3800, normalise="none"),
        Frontend(window_seconds=0.0321, step_seconds=0.0125, fft_size=1024),
    ],
)
def test_features_equal_a_slow_reference(settings):
    samples = noise(settings.sample_rate // 2)
    ours, expected = features(samples, settings), reference(samples, settings)
    assert ours.shape == (settings.frames(len(samples)), settings.mels)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-4)


def test_features_equal_those_of_torchaudio_as_a_whole():
    from torchaudio.transforms import MelSpectrogram

    whole = MelSpectrogram(
        16000, n_fft=512, win_length=400, hop_length=160, f_min=20.0, f_max=7600.0, n_mels=80,
        center=False,
    )  # fmt: skip
    samples = noise(16000)
    # Its frames are 512 samples long: 56 zeros on both sides make ours of 400 of them.
    theirs = (whole(torch.from_numpy(np.pad(samples, 56))) + PLAIN.log_floor).log().T
    torch.testing.assert_close(features(samples, PLAIN), theirs, atol=1e-4, rtol=0)


def test_a_click_is_seen_by_the_frames_whose_window_covers_it_and_by_no_other():
    samples = np.zeros(16000, dtype=np.float32)
    samples[8000] = 1.0
    seen = features(samples, PLAIN).max(dim=1).values > np.log(PLAIN.log_floor) + 0.1
    # The first sample of the window has weight 0 (periodic Hann), the last almost 0.
    covering = [i for i in range(98) if i * 160 < 8000 < i * 160 + 400]
    assert seen.nonzero().flatten().tolist() == covering


@pytest.mark.parametrize("normalise", ["utterance", "speech", "running", "none"])
def test_a_batch_equals_its_utterances_one_by_one_with_anything_in_the_padding(normalise):
    settings = replace(PLAIN, normalise=normalise)
    waveforms = [noise(n, seed=n) for n in (16000, 4321, 400, 399, 1, 48000)]
    padded = torch.full((len(waveforms), 48000), 7.0)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch, frames = LogMel(settings)(padded, lengths)
    assert frames.tolist() == [settings.frames(len(waveform)) for waveform in waveforms]
    for row, count, waveform in zip(batch, frames, waveforms, strict=True):
        alone = features(waveform, settings)
        assert len(alone) == count
        torch.testing.assert_close(row[:count], alone, atol=1e-5, rtol=0)
        assert not row[count:].any()


def test_normalised_bands_have_mean_0_and_deviation_1():
    out = features(noise(32000), Frontend(normalise="utterance")).double()
    assert out.mean(0).abs().max() < 1e-5
    assert (out.std(0, correction=0) - 1).abs().max() < 1e-4


def test_gain_cancels_in_normalised_features():
    samples = noise(16000)
    settings = Frontend(log_floor=1e-12)
    torch.testing.assert_close(
        features(samples, settings), features(samples * 0.5, settings), atol=1e-4, rtol=0
    )


def test_digital_silence_is_exactly_zero():
    assert not features(np.zeros(5000, dtype=np.float32), Frontend()).any()


def test_no_band_of_the_default_settings_is_empty():
    triangles = LogMel(Frontend()).mel_scale.fb
    assert triangles.shape == (257, 80)
    assert (triangles > 0).any(dim=0).all()


def test_an_odd_transform_is_refused_because_its_last_bin_is_not_half_the_rate():
    with pytest.raises(AsrError, match="fft_size=511: must be even"):
        Frontend(fft_size=511)

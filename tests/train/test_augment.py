"""Perturbations have the size that is set, and depend only on (seed, epoch, utterance)."""

import numpy as np
import pytest
import soundfile
import torch

from asr.errors import AsrError
from asr.settings.data import AugmentSettings
from asr.train import augment

UNCHANGED = AugmentSettings(speeds=[1.0], gain_decibels=0.0, time_masks=0, frequency_masks=0)


def tone(seconds: float = 1.0, hertz: float = 1000.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 16000)) / 16000)).astype(
        np.float32
    )


def draws(number: int):
    return [augment.generator(1, 0, f"utterance-{i}") for i in range(number)]


def test_the_same_seed_epoch_and_utterance_draw_the_same_and_any_other_does_not():
    def first(*key):
        return int(augment.generator(*key).bit_generator.random_raw())

    # A number, because Python's own hash would agree within this process only.
    assert first(1, 2, "a") == first(1, 2, "a") == 17126269032157212539
    assert len({first(1, 2, "a"), first(2, 2, "a"), first(1, 3, "a"), first(1, 2, "b")}) == 4


def test_nothing_is_changed_when_everything_is_off():
    samples, features = tone(), torch.randn(50, 80)
    draw = augment.generator(1, 0, "a")
    assert np.array_equal(augment.waveform(samples, UNCHANGED, draw), samples)
    assert torch.equal(augment.spec(features, UNCHANGED, draw), features)


@pytest.mark.parametrize(("speed", "hertz"), [(0.9, 900), (1.1, 1100)])
def test_speed_changes_length_and_pitch_together(speed, hertz):
    settings = AugmentSettings(speeds=[speed], gain_decibels=0.0)
    out = augment.waveform(tone(2.0), settings, augment.generator(1, 0, "a"))
    assert out.dtype == np.float32
    assert abs(len(out) - 32000 / speed) <= 1
    middle = out[4000:20000]
    assert np.abs(np.fft.rfft(middle)).argmax() == hertz  # a second: one bin is 1 Hz


def test_all_speeds_are_drawn_about_equally_often():
    settings = AugmentSettings(gain_decibels=0.0)
    lengths = [len(augment.waveform(tone(0.1), settings, draw)) for draw in draws(300)]
    values, counts = np.unique(lengths, return_counts=True)
    assert values.tolist() == [1455, 1600, 1778]
    assert counts.min() > 70


def test_gain_spans_the_range_in_decibels():
    settings = AugmentSettings(speeds=[1.0], gain_decibels=6.0)
    gains = [
        20 * np.log10(np.abs(augment.waveform(tone(0.1), settings, draw)).max() / 0.5)
        for draw in draws(300)
    ]
    assert -6.001 <= min(gains) < -5.5
    assert 5.5 < max(gains) <= 6.001
    assert abs(np.mean(gains)) < 0.6


def noise_added(samples: np.ndarray, settings: AugmentSettings, utterance: str) -> np.ndarray:
    return augment.waveform(samples, settings, augment.generator(1, 0, utterance)) - samples


def only_noise(decibels: float, folder: str = "") -> AugmentSettings:
    return AugmentSettings(
        speeds=[1.0],
        gain_decibels=0.0,
        noise_probability=1.0,
        noise_snr_decibels=[decibels, decibels],
        noise_folder=folder,
    )


def test_the_noise_ratio_is_relative_to_speech_without_pauses():
    speech = np.concatenate([tone(1.0), np.zeros(48000, dtype=np.float32)])
    for i in range(6):
        noise = noise_added(speech, only_noise(20.0), f"{i}")
        assert 10 * np.log10(0.125 / np.mean(noise**2)) == pytest.approx(20.0, abs=0.1)


def test_generated_noise_is_white_or_pink():
    slopes = set()
    for i in range(8):
        noise = noise_added(tone(4.0), only_noise(10.0), f"{i}")
        power = np.abs(np.fft.rfft(noise)) ** 2
        low, high = power[400:800].mean(), power[4000:8000].mean()  # 10 times the frequency
        slopes.add(round(10 * np.log10(low / high)))
    assert slopes <= {-1, 0, 1, 9, 10, 11}
    assert min(slopes) <= 1
    assert max(slopes) >= 9


def test_short_noise_is_repeated_and_long_noise_cropped_at_a_random_position(tmp_path):
    short = np.random.default_rng(0).standard_normal(1600).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "short.wav", short, 16000, subtype="FLOAT")
    noise = noise_added(tone(1.0), only_noise(10.0, str(tmp_path)), "a")
    assert np.corrcoef(noise[:1600], short)[0, 1] > 0.999
    np.testing.assert_allclose(noise[1600:3200], noise[:1600], atol=1e-6)

    long = tmp_path / "long"
    long.mkdir()
    soundfile.write(long / "long.wav", np.tile(short, 40), 16000, subtype="FLOAT")
    first, second = (noise_added(tone(1.0), only_noise(10.0, str(long)), x) for x in "ab")
    assert not np.allclose(first, second, atol=1e-3)


def test_silent_noise_and_silent_speech_leave_finite_samples(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(1600), 16000)
    assert not noise_added(tone(), only_noise(10.0, str(tmp_path)), "a").any()
    assert not noise_added(np.zeros(1600, np.float32), only_noise(10.0), "a").any()


def test_a_noise_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(AsrError, match="folder without audio"):
        noise_added(tone(), only_noise(10.0, str(tmp_path)), "a")


def test_noise_is_added_with_its_probability():
    settings = AugmentSettings(speeds=[1.0], gain_decibels=0.0, noise_probability=0.3)
    samples = tone(0.05)
    noisy = [
        not np.array_equal(augment.waveform(samples, settings, d), samples) for d in draws(400)
    ]
    assert 0.23 < np.mean(noisy) < 0.37


def test_masks_stay_within_their_limits_and_change_nothing_else():
    widest_time = widest_band = 0
    for draw in draws(200):
        features = torch.rand(100, 80) + 1
        out = augment.spec(features, AugmentSettings(time_masks=1, frequency_masks=1), draw)
        rows = (out == 0).all(dim=1).sum().item()
        columns = (out == 0).all(dim=0).sum().item()
        widest_time, widest_band = max(widest_time, rows), max(widest_band, columns)
        assert (out == 0).sum() == rows * 80 + columns * (100 - rows)
        assert torch.equal(out[out != 0], features[out != 0])
    assert widest_time == 20  # a fifth of 100 frames, below the 25 that are set
    assert widest_band == 15


def test_masks_of_the_shortest_utterances_do_no_harm():
    for frames in range(6):
        out = augment.spec(torch.ones(frames, 80), AugmentSettings(), augment.generator(1, 0, "a"))
        assert out.shape == (frames, 80)


def test_masked_areas_take_the_fill_and_the_input_is_not_touched():
    features = torch.zeros(200, 80)
    out = augment.spec(features, AugmentSettings(), augment.generator(1, 0, "a"), fill=-3.0)
    assert set(out.unique().tolist()) == {-3.0, 0.0}
    assert not features.any()

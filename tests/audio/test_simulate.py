"""Rooms, bands and codecs change what they should and leave words where they are."""

import numpy as np
import pytest
import soundfile

from asr.audio import simulate as channel
from asr.errors import AsrError
from asr.settings.data import AugmentSettings
from asr.train import augment

RATE = 16000


def clicks() -> np.ndarray:
    """A second of silence with a burst of 1 kHz every 200 ms."""
    samples = np.zeros(RATE, np.float32)
    burst = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(400) / RATE)
    for start in range(800, RATE - 400, 3200):
        samples[start : start + 400] = burst
    return samples


def best_lag(heard: np.ndarray, said: np.ndarray, widest: int = 800) -> int:
    lags = range(-widest, widest + 1, 2)
    return max(lags, key=lambda lag: float(np.dot(np.roll(heard, -lag), said)))


def test_a_room_keeps_power_and_place_and_adds_a_tail():
    said = clicks()
    response = channel.made_response(RATE, np.random.default_rng(1))
    late = np.concatenate([np.zeros(2000, np.float32), response])  # a recording's own delay
    for room in (response, late):
        heard = channel.reverberate(said, room)
        assert heard.shape == said.shape
        assert heard.dtype == np.float32
        assert np.mean(heard**2) == pytest.approx(np.mean(said**2), rel=1e-4)
        assert best_lag(heard, said) == 0
    between = slice(800 + 500, 800 + 1500)
    assert np.abs(said[between]).max() == 0 < np.abs(heard[between]).max()


def test_a_band_keeps_what_is_inside_and_drops_what_is_outside():
    time = np.arange(RATE) / RATE
    said = sum(np.sin(2 * np.pi * f * time) for f in (100, 1000, 5000)).astype(np.float32)
    heard = np.abs(np.fft.rfft(channel.band_limit(said, 300, 3400, RATE)))
    assert heard[1000] == pytest.approx(RATE / 2, rel=0.02)
    assert max(heard[100], heard[5000]) < 0.01 * heard[1000]


@pytest.mark.parametrize("codec", channel.CODECS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_codec_changes_the_samples_but_not_the_words(codec, level):
    said = clicks()
    heard = channel.code(said, codec, level, RATE)
    assert heard.shape == said.shape
    assert heard.dtype == np.float32
    assert not np.array_equal(heard, said)
    assert best_lag(heard, said) == 0
    assert np.corrcoef(heard, said)[0, 1] > 0.9


def test_each_is_drawn_as_often_as_is_asked_and_leaves_other_draws_alone():
    plain = AugmentSettings(speeds=[1.0], gain_decibels=0.0)
    said = clicks()
    changed = {}
    for name in ("reverberation", "band", "codec"):
        settings = AugmentSettings(speeds=[1.0], gain_decibels=0.0, **{f"{name}_probability": 0.5})
        heard = [
            augment.waveform(said, settings, augment.generator(1, 0, str(i))) for i in range(60)
        ]
        changed[name] = sum(not np.array_equal(samples, said) for samples in heard)
    assert all(18 <= count <= 42 for count in changed.values()), changed
    assert np.array_equal(augment.waveform(said, plain, augment.generator(1, 0, "a")), said)


def test_recorded_rooms_are_used_and_a_silent_one_is_an_error(tmp_path):
    (tmp_path / "rooms").mkdir()
    echo = np.zeros(8000, np.float32)
    echo[[100, 4100]] = 0.8, 0.4
    soundfile.write(tmp_path / "rooms" / "hall.flac", echo, RATE)
    drawn = channel.recorded_response(str(tmp_path / "rooms"), RATE, np.random.default_rng(1))
    heard = channel.reverberate(clicks(), drawn)
    assert np.abs(heard[800 + 4000 : 800 + 4400]).max() > 0.1
    (tmp_path / "silent").mkdir()
    soundfile.write(tmp_path / "silent" / "none.flac", np.zeros(8000), RATE)
    with pytest.raises(AsrError, match="an impulse response of silence"):
        channel.recorded_response(str(tmp_path / "silent"), RATE, np.random.default_rng(1))


def test_a_folder_of_responses_without_a_probability_is_refused():
    with pytest.raises(AsrError, match="response_folder is set"):
        AugmentSettings(response_folder="rooms")

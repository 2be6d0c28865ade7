"""Rooms, noise, bands and codecs change the sound but not the position of words."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.audio import simulate
from asr.audio.simulate import Room, draw_room, fast_length, record, room_noise
from asr.errors import AsrError
from asr.settings.data import AugmentSettings
from asr.train import augment

RATE = 16000
ROOM = Room(
    reverberation_seconds=0.3,
    direct_decibels=6.0,
    noise="pink",
    snr_decibels=20.0,
    level_decibels=-26.0,
    lead_seconds=0.25,
    trail_seconds=0.5,
)


def clicks() -> np.ndarray:
    """A second of silence with a burst of 1 kHz every 200 ms."""
    samples = np.zeros(RATE, np.float32)
    burst = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(400) / RATE)
    for start in range(800, RATE - 400, 3200):
        samples[start : start + 400] = burst
    return samples


def best_lag(after: np.ndarray, before: np.ndarray, widest: int = 800) -> int:
    lags = range(-widest, widest + 1, 2)
    return max(lags, key=lambda lag: float(np.dot(np.roll(after, -lag), before)))


def test_a_room_preserves_power_and_position_and_adds_a_tail():
    before = clicks()
    response = simulate.synthetic_response(RATE, np.random.default_rng(1))
    late = np.concatenate([np.zeros(2000, np.float32), response])  # a recording's own delay
    for room in (response, late):
        after = simulate.reverberate(before, room)
        assert after.shape == before.shape
        assert after.dtype == np.float32
        assert np.mean(after**2) == pytest.approx(np.mean(before**2), rel=1e-4)
        assert best_lag(after, before) == 0
    between = slice(800 + 500, 800 + 1500)
    assert np.abs(before[between]).max() == 0 < np.abs(after[between]).max()


def test_a_band_passes_frequencies_inside_and_removes_those_outside():
    time = np.arange(RATE) / RATE
    before = sum(np.sin(2 * np.pi * f * time) for f in (100, 1000, 5000)).astype(np.float32)
    after = np.abs(np.fft.rfft(simulate.band_limit(before, 300, 3400, RATE)))
    assert after[1000] == pytest.approx(RATE / 2, rel=0.02)
    assert max(after[100], after[5000]) < 0.01 * after[1000]


@pytest.mark.parametrize("codec", simulate.CODECS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_codec_changes_the_samples_but_not_the_words(codec, level):
    before = clicks()
    after = simulate.apply_codec(before, codec, level, RATE)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert not np.array_equal(after, before)
    assert best_lag(after, before) == 0
    assert np.corrcoef(after, before)[0, 1] > 0.9


def test_each_is_drawn_with_its_probability_and_independently_of_the_others():
    plain = AugmentSettings(speeds=[1.0], gain_decibels=0.0)
    before = clicks()
    changed = {}
    for name in ("reverberation", "band", "codec"):
        settings = AugmentSettings(speeds=[1.0], gain_decibels=0.0, **{f"{name}_probability": 0.5})
        after = [
            augment.waveform(before, settings, augment.generator(1, 0, str(i))) for i in range(60)
        ]
        changed[name] = sum(not np.array_equal(samples, before) for samples in after)
    assert all(18 <= count <= 42 for count in changed.values()), changed
    assert np.array_equal(augment.waveform(before, plain, augment.generator(1, 0, "a")), before)


def test_recorded_rooms_are_used_and_a_silent_one_is_an_error(tmp_path):
    (tmp_path / "rooms").mkdir()
    echo = np.zeros(8000, np.float32)
    echo[[100, 4100]] = 0.8, 0.4
    soundfile.write(tmp_path / "rooms" / "hall.flac", echo, RATE)
    drawn = simulate.recorded_response(str(tmp_path / "rooms"), RATE, np.random.default_rng(1))
    after = simulate.reverberate(clicks(), drawn)
    assert np.abs(after[800 + 4000 : 800 + 4400]).max() > 0.1
    (tmp_path / "silent").mkdir()
    soundfile.write(tmp_path / "silent" / "none.flac", np.zeros(8000), RATE)
    with pytest.raises(AsrError, match="an impulse response of silence"):
        simulate.recorded_response(str(tmp_path / "silent"), RATE, np.random.default_rng(1))


def test_a_folder_of_responses_without_a_probability_is_refused():
    with pytest.raises(AsrError, match="response_folder=rooms does nothing"):
        AugmentSettings(response_folder="rooms")


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def decibels(power: float) -> float:
    return 10 * float(np.log10(power))


def tone(seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)


def test_a_response_has_the_given_energy_and_falls_by_sixty_decibels_in_its_time():
    taps = round(0.3 * RATE)
    response = simulate._decaying(generator().standard_normal(taps), 6.0)
    assert response[0] == 1.0
    late = response[1:] ** 2
    assert decibels(late.sum()) == pytest.approx(-6.0, abs=0.3)
    early_power, last_power = late[:240].mean(), late[-240:].mean()
    assert decibels(early_power / last_power) == pytest.approx(57, abs=3)


@pytest.mark.parametrize("colour", ["white", "pink", "hum"])
def test_noise_has_power_one(colour):
    assert np.mean(room_noise(colour, 30001, RATE, generator()) ** 2) == pytest.approx(1.0)


def test_pink_noise_loses_three_decibels_an_octave():
    power = np.abs(np.fft.rfft(room_noise("pink", 1 << 17, RATE, generator()))) ** 2
    hertz = np.fft.rfftfreq(1 << 17, 1 / RATE)
    octaves = [power[(hertz >= f) & (hertz < 2 * f)].mean() for f in (250, 500, 1000, 2000)]
    assert np.diff([decibels(p) for p in octaves]) == pytest.approx([-3, -3, -3], abs=0.5)


def test_speech_is_above_the_noise_by_the_drawn_ratio_and_at_the_drawn_level():
    recorded = record(tone(), ROOM, RATE, generator())
    assert recorded.dtype == np.float32
    assert len(recorded) == round((0.25 + 1.0 + 0.5) * RATE)
    before, during = recorded[: RATE // 4], recorded[RATE // 4 : RATE // 4 + RATE]
    assert decibels(np.mean(during**2)) == pytest.approx(-26, abs=0.2)
    assert decibels(np.mean(before**2)) == pytest.approx(-46, abs=1.5)


def test_loud_speech_is_scaled_and_not_clipped():
    recorded = record(tone(), replace(ROOM, level_decibels=3.0), RATE, generator())
    assert np.abs(recorded).max() == pytest.approx(0.9)
    assert np.mean(np.abs(recorded) > 0.899) < 0.001


def test_a_room_is_a_function_of_its_generator():
    assert draw_room(generator()) == draw_room(generator())
    assert draw_room(generator()) != draw_room(np.random.default_rng(8))
    recorded = [record(tone(), ROOM, RATE, generator()) for _ in range(2)]
    assert np.array_equal(*recorded)


def test_fast_length_is_the_least_of_its_kind():
    kinds = sorted(f * 2**a for a in range(20) for f in (1, 3, 5))
    for samples in (1, 2, 3, 5, 6, 7, 1000, 16000, 65536, 65537, 81921):
        assert fast_length(samples) == next(k for k in kinds if k >= samples)

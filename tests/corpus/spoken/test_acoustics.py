"""Rooms: the drawn ratios are the ratios in the samples."""

from dataclasses import replace

import numpy as np
import pytest

from asr.corpus.spoken.acoustics import Room, draw_room, fast_length, noise, record, reverberate

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


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def decibels(power: float) -> float:
    return 10 * float(np.log10(power))


def tone(seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)


def test_reverberation_has_the_drawn_energy_and_falls_by_sixty_decibels_in_its_time():
    click = np.zeros(RATE)
    click[0] = 1.0
    response = reverberate(click, ROOM, RATE, generator())
    assert response[0] == pytest.approx(1.0)
    late = response[1:] ** 2
    assert decibels(late.sum()) == pytest.approx(-6.0, abs=0.3)
    taps = round(0.3 * RATE)
    early_power, last_power = late[:240].mean(), late[taps - 240 : taps].mean()
    assert decibels(early_power / last_power) == pytest.approx(57, abs=3)
    assert np.abs(response[taps:]).max() < 1e-9


@pytest.mark.parametrize("colour", ["white", "pink", "hum"])
def test_noise_has_power_one(colour):
    assert np.mean(noise(colour, 30001, RATE, generator()) ** 2) == pytest.approx(1.0)


def test_pink_noise_loses_three_decibels_an_octave():
    power = np.abs(np.fft.rfft(noise("pink", 1 << 17, RATE, generator()))) ** 2
    hertz = np.fft.rfftfreq(1 << 17, 1 / RATE)
    octaves = [power[(hertz >= f) & (hertz < 2 * f)].mean() for f in (250, 500, 1000, 2000)]
    assert np.diff([decibels(p) for p in octaves]) == pytest.approx([-3, -3, -3], abs=0.5)


def test_speech_stands_above_the_noise_by_the_drawn_ratio_and_at_the_drawn_level():
    heard = record(tone(), ROOM, RATE, generator())
    assert heard.dtype == np.float32
    assert len(heard) == round((0.25 + 1.0 + 0.5) * RATE)
    before, during = heard[: RATE // 4], heard[RATE // 4 : RATE // 4 + RATE]
    assert decibels(np.mean(during**2)) == pytest.approx(-26, abs=0.2)
    assert decibels(np.mean(before**2)) == pytest.approx(-46, abs=1.5)


def test_loud_speech_is_scaled_and_not_clipped():
    heard = record(tone(), replace(ROOM, level_decibels=3.0), RATE, generator())
    assert np.abs(heard).max() == pytest.approx(0.9)
    assert np.mean(np.abs(heard) > 0.899) < 0.001


def test_a_room_is_a_function_of_its_generator():
    assert draw_room(generator()) == draw_room(generator())
    assert draw_room(generator()) != draw_room(np.random.default_rng(8))
    heard = [record(tone(), ROOM, RATE, generator()) for _ in range(2)]
    assert np.array_equal(*heard)


def test_fast_length_is_the_least_of_its_kind():
    kinds = sorted(f * 2**a for a in range(20) for f in (1, 3, 5))
    for samples in (1, 2, 3, 5, 6, 7, 1000, 16000, 65536, 65537, 81921):
        assert fast_length(samples) == next(k for k in kinds if k >= samples)

"""A room and a microphone for clean synthetic speech: reverberation, noise, gain, silence."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = Literal["white", "pink", "hum"]
_COLOURS: tuple[Colour, ...] = ("white", "pink", "hum")
_PEAK = 0.9


@dataclass(frozen=True)
class Room:
    """What is done to one utterance."""

    reverberation_seconds: float
    """RT60: time in which the reverberation falls by 60 decibels."""
    direct_decibels: float
    """Energy of the direct path over the energy of the reverberation."""
    noise: Colour
    """`hum` is 50 or 60 Hz with harmonics over a little pink noise."""
    snr_decibels: float
    """Mean power of speech over mean power of noise."""
    level_decibels: float
    """Root mean square of the speech against full scale."""
    lead_seconds: float
    """Room noise before the speech."""
    trail_seconds: float
    """Room noise after the speech, in which the reverberation dies away."""


def draw_room(generator: np.random.Generator) -> Room:
    """A room drawn uniformly from the ranges of a quiet to slightly noisy dwelling."""
    return Room(
        reverberation_seconds=generator.uniform(0.1, 0.4),
        direct_decibels=generator.uniform(3, 15),
        noise=_COLOURS[generator.integers(len(_COLOURS))],
        snr_decibels=generator.uniform(15, 35),
        level_decibels=generator.uniform(-32, -20),
        lead_seconds=generator.uniform(0.1, 0.4),
        trail_seconds=generator.uniform(0.1, 0.4),
    )


def record(
    speech: np.ndarray, room: Room, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """The speech as heard in the room: (lead + n + trail,) float32, peak at most 0.9.

    `speech` is (n,) float; not silent. The result depends on the arguments alone.
    """
    lead, trail = (round(s * sample_rate) for s in (room.lead_seconds, room.trail_seconds))
    dry = np.concatenate([np.zeros(lead), speech.astype(np.float64), np.zeros(trail)])
    wet = reverberate(dry, room, sample_rate, generator)
    level = np.sqrt(np.mean(wet[lead : lead + len(speech)] ** 2))
    wet *= 10 ** (room.level_decibels / 20) / level
    hiss = noise(room.noise, len(wet), sample_rate, generator)
    heard = wet + hiss * 10 ** ((room.level_decibels - room.snr_decibels) / 20)
    peak = np.abs(heard).max()
    if peak > _PEAK:
        heard *= _PEAK / peak
    return heard.astype(np.float32)


def reverberate(
    dry: np.ndarray, room: Room, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """`dry` (n,) plus its convolution with exponentially decaying white noise; (n,) float64."""
    taps = round(room.reverberation_seconds * sample_rate)
    decay = np.exp(-np.log(1e3) * np.arange(taps) / taps)
    response = generator.standard_normal(taps) * decay
    response *= 10 ** (-room.direct_decibels / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    size = fast_length(len(dry) + taps - 1)
    spectrum = np.fft.rfft(dry, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(dry)]


def noise(
    colour: Colour, samples: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """Noise (samples,) float64 of mean power 1."""
    result = generator.standard_normal(samples)
    if colour != "white":
        size = fast_length(samples)
        spectrum = np.fft.rfft(result, size)
        bins = np.arange(len(spectrum))
        # Pink: power falls as 1/f; flat below 20 Hz, which a microphone would not pass anyway.
        spectrum /= np.sqrt(np.maximum(bins, 20 * size / sample_rate))
        result = np.fft.irfft(spectrum, size)[:samples]
    result /= np.sqrt(np.mean(result**2))
    if colour == "hum":
        mains = generator.choice([50.0, 60.0])
        time = np.arange(samples) / sample_rate
        for harmonic in range(1, 6):
            phase = generator.uniform(0, 2 * np.pi)
            result += 2 / harmonic * np.sin(2 * np.pi * mains * harmonic * time + phase)
        result /= np.sqrt(np.mean(result**2))
    return result


def fast_length(samples: int) -> int:
    """The least 2^a, 3 * 2^a or 5 * 2^a from `samples` on: such Fourier transforms are quick."""
    power = 1 << max(samples - 1, 1).bit_length()
    return min(n for n in (power, power * 3 // 4, power * 5 // 8) if n >= samples)

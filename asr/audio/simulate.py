"""Simulates how speech is recorded: rooms, noise, narrow bands and lossy codecs.

For the augmentation of training utterances and for the built-in corpus of synthetic speech. All
randomness comes from the generator that is passed: the same one gives the same samples.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import soundfile

from asr import audio
from asr.errors import AsrError

Codec = Literal["mu-law", "mp3", "vorbis"]
CODECS: tuple[Codec, ...] = ("mu-law", "mp3", "vorbis")
"""Opus is left out: it takes 40 ms for a second of audio, the others 1 to 10."""
_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS")}
_WORST_LEVEL = 0.99
_LONGEST_SECONDS = 1.0
"""Of a room's response: what comes later is far below speech, and only costs."""

Colour = Literal["white", "pink", "hum"]
_COLOURS: tuple[Colour, ...] = ("white", "pink", "hum")
_PEAK = 0.9
_LOUD = 1e-3
"""A 20 ms frame is loud if its power is at most 30 dB below that of the loudest frame."""


@dataclass(frozen=True)
class Room:
    """A room with a microphone, and how one utterance sounds in it."""

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
    """Clean speech as a microphone in the room records it.

    `speech` is (n,) float and not silent; returns (lead + n + trail,) float32, peak at most 0.9.
    """
    lead, trail = (round(s * sample_rate) for s in (room.lead_seconds, room.trail_seconds))
    dry = np.concatenate([np.zeros(lead), speech.astype(np.float64), np.zeros(trail)])
    taps = round(room.reverberation_seconds * sample_rate)
    wet = _convolved(dry, _decaying(generator.standard_normal(taps), room.direct_decibels))
    level = np.sqrt(np.mean(wet[lead : lead + len(speech)] ** 2))
    wet *= 10 ** (room.level_decibels / 20) / level
    noise = room_noise(room.noise, len(wet), sample_rate, generator)
    recorded = wet + noise * 10 ** ((room.level_decibels - room.snr_decibels) / 20)
    peak = np.abs(recorded).max()
    if peak > _PEAK:
        recorded *= _PEAK / peak
    return recorded.astype(np.float32)


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`samples` (n,) convolved with a room's impulse response (m,): (n,) float32, same power.

    The response's peak, the direct path, is moved to time 0, so that words stay where they were.
    """
    peak = int(np.abs(response).argmax())
    wet = _convolved(samples, response[peak:].astype(np.float32))
    power = float(np.mean(np.square(wet)))
    if power == 0:
        return samples
    return (wet * np.sqrt(np.mean(np.square(samples)) / power)).astype(np.float32)


def synthetic_response(sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """A made-up room's impulse response, (m,) float32.

    It decays by 60 dB in 0.1 to 0.6 s and lies 0 to 15 dB below the direct path.
    """
    noise = generator.standard_normal(round(generator.uniform(0.1, 0.6) * sample_rate))
    return _decaying(noise, generator.uniform(0, 15)).astype(np.float32)


def recorded_response(folder: str, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """One of the impulse responses in a folder, its first second after the peak."""
    files = recordings(folder)
    return response(files[int(generator.integers(len(files)))], sample_rate)


def _decaying(noise: np.ndarray, direct_decibels: float) -> np.ndarray:
    """White noise (m,) as an impulse response: it decays by 60 dB; the first tap is 1.

    Noise with an exponential envelope has the statistics of late reverberation (Polack 1988).
    """
    response = noise * np.exp(-np.log(1e3) * np.arange(len(noise)) / len(noise))
    response *= 10 ** (-direct_decibels / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return response


def _convolved(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The convolution, as long as `samples`."""
    size = _power_of_two(len(samples) + len(response) - 1)
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)]


@lru_cache(maxsize=4)
def recordings(folder: str) -> tuple[str, ...]:
    """The recordings in a folder of noise or of impulse responses, in the order of draws."""
    return tuple(str(found.path) for found in audio.find([folder]))


@lru_cache(maxsize=64)
def response(path: str, sample_rate: int) -> np.ndarray:
    """An impulse response, its first second after the peak. Raises AsrError if it is silent."""
    samples = audio.load(path, sample_rate).samples
    if not samples.any():
        raise AsrError(f"{path}: an impulse response of silence")
    peak = int(np.abs(samples).argmax())
    return samples[peak : peak + round(_LONGEST_SECONDS * sample_rate)]


def room_noise(
    colour: Colour, samples: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """Background noise of a room, (samples,) float64 of mean power 1."""
    result = generator.standard_normal(samples)
    if colour != "white":
        # Flat below 20 Hz, which a microphone would not pass anyway.
        size = fast_length(samples)
        result = _pink(result, size, 20 * size / sample_rate)
    result /= np.sqrt(np.mean(result**2))
    if colour == "hum":
        mains = generator.choice([50.0, 60.0])
        time = np.arange(samples) / sample_rate
        for harmonic in range(1, 6):
            phase = generator.uniform(0, 2 * np.pi)
            result += 2 / harmonic * np.sin(2 * np.pi * mains * harmonic * time + phase)
        result /= np.sqrt(np.mean(result**2))
    return result


def synthetic_noise(length: int, generator: np.random.Generator) -> np.ndarray:
    """White or pink noise, even odds: (length,) float32."""
    pink = generator.random() < 0.5
    white = generator.standard_normal(length, dtype=np.float32)
    return _pink(white, _power_of_two(length), 1).astype(np.float32) if pink else white


def recorded_noise(
    length: int, folder: str, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """(length,) float32 of a drawn recording, from a drawn place; repeated if it is too short."""
    files = recordings(folder)
    recording = _noise(files[int(generator.integers(len(files)))], sample_rate)
    start = int(generator.integers(max(len(recording) - length, 0) + 1))
    return np.resize(recording[start:], length)


def add_noise(
    samples: np.ndarray, noise: np.ndarray, snr_decibels: float, sample_rate: int
) -> np.ndarray:
    """`samples` (n,) with `noise` (n,) at that ratio of their `loud_power`."""
    power = loud_power(noise, sample_rate)
    if power == 0:
        return samples
    ratio = 10 ** (snr_decibels / 10)
    scale = np.sqrt(loud_power(samples, sample_rate) / (ratio * power))
    return samples + noise * np.float32(scale)


def loud_power(samples: np.ndarray, sample_rate: int) -> float:
    """Mean power of the 20 ms frames that are at most 30 dB below the loudest one.

    Unlike the mean power of all samples it does not depend on how long the pauses are.
    """
    size = max(sample_rate // 50, 1)
    if len(samples) < size:
        return float(np.mean(np.square(samples))) if len(samples) else 0.0
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    powers = np.einsum("ij,ij->i", frames, frames) / size
    return float(powers[powers >= powers.max() * _LOUD].mean())


@lru_cache(maxsize=64)
def _noise(path: str, sample_rate: int) -> np.ndarray:
    return audio.load(path, sample_rate).samples


def _pink(white: np.ndarray, size: int, flat_bins: float) -> np.ndarray:
    """White noise (n,) with power that falls as 1/f above the first `flat_bins` of `size`."""
    spectrum = np.fft.rfft(white, size)
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), flat_bins))
    return np.fft.irfft(spectrum, size)[: len(white)]


def band_limit(
    samples: np.ndarray, low_hertz: float, high_hertz: float, sample_rate: int
) -> np.ndarray:
    """`samples` (n,) without what lies below `low_hertz` or above `high_hertz`: (n,) float32.

    The edges are slopes of a twentieth of their frequency, so that they do not ring.
    """
    size = _power_of_two(len(samples))
    hertz = np.arange(size // 2 + 1) * sample_rate / size
    gain = np.ones(len(hertz))
    if low_hertz > 0:
        gain *= np.clip((hertz / low_hertz - 0.95) / 0.1, 0, 1)
    gain *= np.clip((1.05 - hertz / high_hertz) / 0.1, 0, 1)
    spectrum = np.fft.rfft(samples, size) * gain
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def apply_codec(samples: np.ndarray, codec: Codec, level: float, sample_rate: int) -> np.ndarray:
    """`samples` (n,) coded and decoded: (n,) float32.

    level: 0 is the codec's best quality, 1 its worst; mu-law has 8 bits and no level. Samples
    beyond +-1 are clipped, as a file does.
    """
    clipped = np.clip(samples, -1.0, 1.0).astype(np.float32)
    if codec == "mu-law":
        squeezed = np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)
        steps = np.round(squeezed * 127) / 127
        return (np.sign(steps) * (256 ** np.abs(steps) - 1) / 255).astype(np.float32)
    kind, subtype = _FORMATS[codec]
    file = io.BytesIO()
    soundfile.write(
        file,
        clipped,
        sample_rate,
        format=kind,
        subtype=subtype,
        compression_level=min(level, _WORST_LEVEL),
    )
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    if rate != sample_rate:
        raise AsrError(f"{codec} came back at {rate} Hz instead of {sample_rate} Hz")
    decoded = decoded[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))


# Fourier transforms of a prime length take many times as long as those of a power of two. The
# length of the transform changes what pink noise sounds like: the noise of rooms keeps the finer
# steps that existing corpora were made with.
def _power_of_two(samples: int) -> int:
    return 1 << max(samples - 1, 1).bit_length()


def fast_length(samples: int) -> int:
    """The least 2^a, 3 * 2^a or 5 * 2^a from `samples` on."""
    power = _power_of_two(samples)
    return min(n for n in (power, power * 3 // 4, power * 5 // 8) if n >= samples)

"""What lies between a mouth and a file: rooms, narrow bands and lossy coding; for augmentation."""

import io
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
_WORST = 0.99
_LONGEST_SECONDS = 1.0
"""Of a room's response: what comes later is far below speech, and only costs."""


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`samples` (n,) heard through a room's impulse response (m,): (n,) float32, same power.

    The response's peak, the direct path, is moved to time 0, so that words stay where they were.
    """
    peak = int(np.abs(response).argmax())
    tail = response[peak:].astype(np.float32)
    size = _power_of_two(len(samples) + len(tail) - 1)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    power = float(np.mean(np.square(wet)))
    if power == 0:
        return samples
    return (wet * np.sqrt(np.mean(np.square(samples)) / power)).astype(np.float32)


def made_response(sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """A made-up room: noise that decays by 60 dB in 0.1 to 0.6 s, 0 to 15 dB below the direct
    path."""
    taps = round(generator.uniform(0.1, 0.6) * sample_rate)
    decay = np.exp(-np.log(1e3) * np.arange(taps) / taps)
    response = generator.standard_normal(taps) * decay
    response *= 10 ** (-generator.uniform(0, 15) / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return response.astype(np.float32)


def recorded_response(folder: str, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """One of the impulse responses in a folder, its first second after the peak."""
    files = _response_files(folder)
    return _response(files[int(generator.integers(len(files)))], sample_rate)


@lru_cache(maxsize=4)
def _response_files(folder: str) -> tuple[str, ...]:
    return tuple(str(found.path) for found in audio.find([folder]))


@lru_cache(maxsize=64)
def _response(path: str, sample_rate: int) -> np.ndarray:
    samples = audio.load(path, sample_rate).samples
    if not samples.any():
        raise AsrError(f"{path}: an impulse response of silence")
    peak = int(np.abs(samples).argmax())
    return samples[peak : peak + round(_LONGEST_SECONDS * sample_rate)]


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


def code(samples: np.ndarray, codec: Codec, level: float, sample_rate: int) -> np.ndarray:
    """`samples` (n,) coded and decoded: (n,) float32.

    level: 0 is the codec's best quality, 1 its worst; mu-law has 8 bits and no level. Samples
    beyond +-1 are cut off, as a file does.
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
        compression_level=min(level, _WORST),
    )
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    if rate != sample_rate:
        raise AsrError(f"{codec} came back at {rate} Hz instead of {sample_rate} Hz")
    kept = decoded[: len(samples)]
    return np.pad(kept, (0, len(samples) - len(kept)))


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 1).bit_length()

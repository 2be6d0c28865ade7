"""Changes to training utterances: speed, gain, room, noise and channel on the waveform, masks on
the features.

Every draw comes from a generator seeded by (seed, epoch, utterance), so that neither the order
of loading nor the number of worker processes changes what an utterance becomes.
"""

import zlib
from functools import lru_cache

import numpy as np
import soxr
from torch import Tensor

from asr import audio
from asr.audio import simulate as channel
from asr.settings.data import AugmentSettings

_SOUNDING = 1e-3
"""A 20 ms piece sounds if its power is at most 30 dB below that of the loudest piece."""


def generator(seed: int, epoch: int, utterance: str) -> np.random.Generator:
    """The one generator of an utterance in an epoch, the same in every process and version."""
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance.encode())])


def waveform(
    samples: np.ndarray,
    settings: AugmentSettings,
    generator: np.random.Generator,
    sample_rate: int = 16000,
) -> np.ndarray:
    """Perturb a waveform `(n,)` float32: speed, gain, room, noise, band, codec, in this order.

    A speed of 1.1 makes it 1.1 times shorter and raises the pitch (Ko et al. 2015, as in Kaldi).
    """
    speed = settings.speeds[int(generator.integers(len(settings.speeds)))]
    gain = generator.uniform(-settings.gain_decibels, settings.gain_decibels)
    noisy = generator.random() < settings.noise_probability
    if speed != 1.0:
        samples = soxr.resample(samples, sample_rate * speed, sample_rate)
    samples = samples * np.float32(10 ** (gain / 20))
    if _drawn(settings.reverberation_probability, generator):
        response = (
            channel.recorded_response(settings.response_folder, sample_rate, generator)
            if settings.response_folder and generator.random() < 0.5
            else channel.made_response(sample_rate, generator)
        )
        samples = channel.reverberate(samples, response)
    if noisy:
        samples = _add_noise(samples, settings, generator, sample_rate)
    if _drawn(settings.band_probability, generator):
        low, high = generator.uniform(0, 300), generator.uniform(3000, sample_rate / 2)
        samples = channel.band_limit(samples, low, high, sample_rate)
    if _drawn(settings.codec_probability, generator):
        codec = channel.CODECS[int(generator.integers(len(channel.CODECS)))]
        samples = channel.code(samples, codec, generator.random(), sample_rate)
    return samples


def _drawn(probability: float, generator: np.random.Generator) -> bool:
    # Not drawn where it is off, so that it changes nothing of what other settings draw.
    return probability > 0 and generator.random() < probability


def _add_noise(
    samples: np.ndarray, settings: AugmentSettings, generator: np.random.Generator, sample_rate: int
) -> np.ndarray:
    """Add noise at a drawn ratio of powers, each taken over what sounds in it, not its pauses."""
    low, high = settings.noise_snr_decibels
    ratio = 10 ** (generator.uniform(low, high) / 10)
    if settings.noise_folder:
        noise = _recorded_noise(len(samples), settings.noise_folder, generator, sample_rate)
    else:
        noise = _made_noise(len(samples), generator)
    power = sounding_power(noise, sample_rate)
    if power == 0:
        return samples
    scale = np.sqrt(sounding_power(samples, sample_rate) / (ratio * power))
    return samples + noise * np.float32(scale)


def sounding_power(samples: np.ndarray, sample_rate: int = 16000) -> float:
    """Mean power of the 20 ms pieces that are at most 30 dB below the loudest one."""
    piece = max(sample_rate // 50, 1)
    if len(samples) < piece:
        return float(np.mean(np.square(samples))) if len(samples) else 0.0
    pieces = samples[: len(samples) // piece * piece].reshape(-1, piece)
    powers = np.einsum("ij,ij->i", pieces, pieces) / piece
    return float(powers[powers >= powers.max() * _SOUNDING].mean())


def _made_noise(length: int, generator: np.random.Generator) -> np.ndarray:
    """White or pink (power falling as 1/f) noise, even odds."""
    pink = generator.random() < 0.5
    white = generator.standard_normal(length, dtype=np.float32)
    if not pink:
        return white
    size = 1 << max(length - 1, 1).bit_length()  # a power of two: a prime length is slow
    spectrum = np.fft.rfft(white, size)
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0))
    return np.fft.irfft(spectrum, size)[:length].astype(np.float32)


def _recorded_noise(
    length: int, folder: str, generator: np.random.Generator, sample_rate: int
) -> np.ndarray:
    """A stretch of a drawn recording, from a drawn place, repeated if it is too short."""
    files = _noise_files(folder)
    recording = _noise(files[int(generator.integers(len(files)))], sample_rate)
    start = int(generator.integers(max(len(recording) - length, 0) + 1))
    return np.resize(recording[start:], length)


@lru_cache(maxsize=4)
def _noise_files(folder: str) -> tuple[str, ...]:
    return tuple(str(found.path) for found in audio.find([folder]))


@lru_cache(maxsize=64)
def _noise(path: str, sample_rate: int) -> np.ndarray:
    return audio.load(path, sample_rate).samples


def spec(
    features: Tensor, settings: AugmentSettings, generator: np.random.Generator, fill: float = 0.0
) -> Tensor:
    """SpecAugment without warping (Park et al. 2019): a copy of `(frames, mels)` with masks.

    Masked areas become `fill`; 0 is the mean after normalisation by utterance. A time mask is
    never longer than a fifth of the utterance.
    """
    features = features.clone()
    frames, bands = features.shape
    longest = min(settings.time_mask_frames, frames // 5)
    for _ in range(settings.time_masks):
        start, stop = _span(longest, frames, generator)
        features[start:stop] = fill
    for _ in range(settings.frequency_masks):
        start, stop = _span(min(settings.frequency_mask_bands, bands), bands, generator)
        features[:, start:stop] = fill
    return features


def _span(widest: int, size: int, generator: np.random.Generator) -> tuple[int, int]:
    width = int(generator.integers(widest + 1))
    start = int(generator.integers(size - width + 1))
    return start, start + width

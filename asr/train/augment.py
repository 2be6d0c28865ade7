"""Changes to training utterances: of the waveform, and masks on the features.

Every draw comes from a generator seeded by (seed, epoch, utterance), so that neither the order
of loading nor the number of worker processes changes what an utterance becomes.
"""

import zlib

import numpy as np
import soxr
from torch import Tensor

from asr.audio import simulate
from asr.settings.data import AugmentSettings


def generator(seed: int, epoch: int, utterance: str) -> np.random.Generator:
    """The generator of an utterance in an epoch, the same in every process and Python version."""
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
    # Drawn first, for the order of draws is part of what a seed means.
    noisy = generator.random() < settings.noise_probability
    if speed != 1.0:
        samples = soxr.resample(samples, sample_rate * speed, sample_rate)
    samples = samples * np.float32(10 ** (gain / 20))
    if _drawn(settings.reverberation_probability, generator):
        response = (
            simulate.recorded_response(settings.response_folder, sample_rate, generator)
            if settings.response_folder and generator.random() < 0.5
            else simulate.synthetic_response(sample_rate, generator)
        )
        samples = simulate.reverberate(samples, response)
    if noisy:
        samples = _add_noise(samples, settings, generator, sample_rate)
    if _drawn(settings.band_probability, generator):
        low, high = generator.uniform(0, 300), generator.uniform(3000, sample_rate / 2)
        samples = simulate.band_limit(samples, low, high, sample_rate)
    if _drawn(settings.codec_probability, generator):
        codec = simulate.CODECS[int(generator.integers(len(simulate.CODECS)))]
        samples = simulate.apply_codec(samples, codec, generator.random(), sample_rate)
    return samples


def _drawn(probability: float, generator: np.random.Generator) -> bool:
    # No draw where it is off: the draws of other settings are then those of a run without it.
    return probability > 0 and generator.random() < probability


def _add_noise(
    samples: np.ndarray, settings: AugmentSettings, generator: np.random.Generator, sample_rate: int
) -> np.ndarray:
    low, high = settings.noise_snr_decibels
    snr_decibels = generator.uniform(low, high)
    if folder := settings.noise_folder:
        noise = simulate.recorded_noise(len(samples), folder, sample_rate, generator)
    else:
        noise = simulate.synthetic_noise(len(samples), generator)
    return simulate.add_noise(samples, noise, snr_decibels, sample_rate)


def spec(
    features: Tensor, settings: AugmentSettings, generator: np.random.Generator, fill: float = 0.0
) -> Tensor:
    """SpecAugment without warping (Park et al. 2019): a copy of `(frames, mels)` with masks.

    Masked areas become `fill`; 0 is the mean of normalised features. A time mask is
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

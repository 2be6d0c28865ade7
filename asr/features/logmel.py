"""Waveform -> log-mel features without torch; equal to `logmel_torch` within 1e-4.

In C (`native`), or in numpy where that was not built. Frames are windowed and transformed a block
at a time, so that memory beyond the result does not grow with the recording.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from asr.features import native
from asr.features.normalise import normalise
from asr.features.settings import Frontend
from asr.sparse.csr import from_dense
from asr.sparse.kernels import Matrix, prepare, whole_passes

_BLOCK = 128
"""Frames at a time: their spectra stay in the second-level cache."""


def features(samples: NDArray[np.floating], settings: Frontend) -> NDArray[np.float32]:
    """Features `(frames, mels)` of one waveform `(samples,)` at `settings.sample_rate`.

    A waveform shorter than a window has no frames.

    >>> features(np.zeros(16000), Frontend()).shape
    (98, 80)
    """
    window, filters, mel_scale = _tables(settings)
    if native.can_transform(settings):
        rows = native.log_mel(np.asarray(samples), settings, window, filters)
        normalise(rows, settings)
        return rows
    count = settings.frames(len(samples))
    rows = np.empty((count, settings.mels), np.float32)
    if not count:
        return rows
    frames = sliding_window_view(np.asarray(samples, np.float32), settings.window)[:: settings.step]
    for start in range(0, count, _BLOCK):
        # Where the window lies in the transform changes only phases, and those are dropped, so
        # numpy may put its zeros behind it while torch centres it.
        spectrum = np.fft.rfft(frames[start : start + _BLOCK] * window, settings.fft_size)
        power = np.square(spectrum.real, dtype=np.float32)
        power += np.square(spectrum.imag, dtype=np.float32)
        rows[start : start + _BLOCK] = mel_scale(whole_passes(power))[: len(power)]
    rows += np.float32(settings.log_floor)
    np.log(rows, out=rows)
    normalise(rows, settings)
    return rows


def mel_filters(settings: Frontend) -> NDArray[np.float32]:
    """Triangles `(mels, bins)` of peak 1, equally wide on the HTK mel scale.

    mel = 2595 log10(1 + hertz / 700).
    """
    bins = np.linspace(0.0, settings.sample_rate // 2, settings.fft_size // 2 + 1)
    low, high = 2595 * np.log10(1 + np.array([settings.low_hertz, settings.high_hertz]) / 700)
    corners = 700 * (10 ** (np.linspace(low, high, settings.mels + 2) / 2595) - 1)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


@lru_cache(maxsize=8)
def _tables(settings: Frontend) -> tuple[NDArray[np.float32], NDArray[np.float32], Matrix]:
    """The periodic Hann window, the mel filters, and these as a sparse matrix: most are zero."""
    phase = 2 * np.pi * np.arange(settings.window) / settings.window
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    filters = mel_filters(settings)
    return window, filters, prepare(from_dense(filters), exact=True)

"""The compiled part of `asr.features`, loaded with ctypes; without it numpy computes, slowly."""

import ctypes
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.features.settings import DEVIATION_FLOOR, Frontend
from asr.sparse.kernels import level
from asr.sparse.kernels.layouts import pointer, scratch

VERSION = 1
"""Must equal `asr_features_version()` of the C source, or the library is not used."""
_WIDEST = 8
"""Frames that C transforms at once."""

Floats = NDArray[np.float32]


class Tables(ctypes.Structure):
    """Must equal `asr_front` of c/features.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("window", "step", "points", "mels")),
        *((name, ctypes.c_void_p) for name in ("hann", "cosine", "sine")),
        *((name, ctypes.c_void_p) for name in ("first", "count", "weights")),
        ("floor", ctypes.c_float),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The C library; None if it was not built, is of another version or ASR_NATIVE=0 excludes it.

    ASR_FEATURES_LIBRARY is the path of another build (`make test-sanitize`).
    """
    if os.environ.get("ASR_NATIVE") == "0":
        return None
    given = os.environ.get("ASR_FEATURES_LIBRARY")
    for path in [Path(given)] if given else sorted(Path(__file__).parent.glob("_features.*")):
        try:
            loaded = ctypes.CDLL(str(path))
            if loaded.asr_features_version() == VERSION:
                return loaded
        except (OSError, AttributeError):
            continue
    return None


def can_transform(settings: Frontend) -> bool:
    """Whether `log_mel` can be called: its transform takes powers of two."""
    return library() is not None and settings.fft_size & (settings.fft_size - 1) == 0


def log_mel(samples: Floats, settings: Frontend, window: Floats, filters: Floats) -> Floats:
    """Features `(frames, mels)` of `(samples,)` before normalisation.

    `window` is `(settings.window,)`, `filters` `(mels, bins)`.
    """
    found = library()
    assert found
    samples = np.ascontiguousarray(samples, np.float32)
    rows = np.empty((settings.frames(len(samples)), settings.mels), np.float32)
    tables, _ = _tables(settings, window.tobytes(), filters.tobytes())
    memory = scratch(4 * 2 * settings.fft_size * _WIDEST)
    found.asr_log_mel(
        ctypes.byref(tables),
        pointer(samples),
        ctypes.c_int64(len(rows)),
        pointer(rows),
        pointer(memory),
        _wide(),
    )
    return rows


def normalise(
    rows: Floats, speech: NDArray[np.bool_], spoken: NDArray[np.float64], reach: int, weight: int
) -> None:
    """Rows `(frames, mels)` in place: mean 0 and deviation 1 over the `speech` around each frame.

    `spoken` is the number of frames of speech at most `reach` away, plus `weight`: the frames that
    the statistics of all speech count as.
    """
    found = library()
    assert found
    assert rows.flags.c_contiguous
    assert rows.dtype == np.float32
    frames, mels = rows.shape
    speech, spoken = np.ascontiguousarray(speech), np.ascontiguousarray(spoken)
    reach = min(reach, frames)
    old, sums = np.empty((reach + 1, mels), np.float32), np.empty((4, mels))
    found.asr_normalise(
        pointer(rows),
        ctypes.c_int64(frames),
        mels,
        pointer(speech),
        pointer(spoken),
        ctypes.c_int64(reach),
        ctypes.c_double(weight),
        ctypes.c_float(DEVIATION_FLOOR),
        pointer(old),
        pointer(sums),
        _wide(),
    )


@lru_cache(maxsize=8)
def _tables(settings: Frontend, window: bytes, filters: bytes) -> tuple[Tables, list[Any]]:
    """The tables of a front end, and the arrays that they point to."""
    angle = 2 * np.pi * np.arange(settings.fft_size) / settings.fft_size
    bands = np.frombuffer(filters, np.float32).reshape(settings.mels, -1)
    used = [np.flatnonzero(band) for band in bands]
    arrays = [
        np.frombuffer(window, np.float32),
        np.cos(angle).astype(np.float32),
        -np.sin(angle).astype(np.float32),
        np.array([bins[0] if len(bins) else 0 for bins in used], np.int32),
        np.array([bins[-1] - bins[0] + 1 if len(bins) else 0 for bins in used], np.int32),
        np.concatenate(
            [
                band[bins[0] : bins[-1] + 1]
                for band, bins in zip(bands, used, strict=True)
                if len(bins)
            ]
            or [np.zeros(0, np.float32)]
        ),
    ]
    sizes = (settings.window, settings.step, settings.fft_size, settings.mels)
    return Tables(*sizes, *map(pointer, arrays), settings.log_floor), arrays


def _wide() -> int:
    """Vectors of 8 frames (AVX2), unless ASR_LEVEL excludes them."""
    return int(level() > 0)

"""Several channels -> one: their mean, one that is chosen, or the loudest where they cancel."""

from pathlib import Path

import numpy as np

from asr.errors import AsrError

MAX_AMPLITUDE = 1e9
"""Largest sample, where +-1 is usual: squares of a spectrum overflow float32 far beyond it."""
INVALID = f"infinite or not a number, or beyond {MAX_AMPLITUDE:g}"
"""What is wrong with a waveform that is not `is_valid`."""
_CANCEL = 0.3
"""The mean of n channels that have nothing in common has 1/n of their power. With less than this
fraction of that, one is largely the other turned over: a microphone wired the wrong way round."""


class Mixer:
    """Mixes the blocks of one recording, `channel` (from 1) alone if it is given."""

    def __init__(self, path: str | Path, channel: int | None = None) -> None:
        self.path, self.channel = path, channel
        self.cancelled = False
        """Whether channels cancelled each other somewhere, and one was taken instead."""

    def mix(self, block: np.ndarray) -> np.ndarray:
        """`(samples,)` of a block `(samples, channels)`, the same float32 numbers for one channel.

        Raises AsrError for a channel that there is not, and for samples that are not numbers.
        """
        count = block.shape[1]
        if self.channel is not None:
            if not 1 <= self.channel <= count:
                plural = "" if count == 1 else "s"
                raise AsrError(
                    f"{self.path}: has {count} channel{plural}, no channel {self.channel}"
                )
            mixed = block[:, self.channel - 1]
        else:
            mixed = block.mean(axis=1, dtype=np.float32) if count > 1 else block[:, 0]
        if not is_valid(mixed):
            raise AsrError(f"{self.path}: holds samples that are {INVALID}")
        if self.channel is not None or count == 1:
            return mixed
        powers = np.einsum("ij,ij->j", block, block, dtype=np.float64)
        if np.dot(mixed, mixed) < _CANCEL / count * powers.mean():
            self.cancelled = True
            mixed = np.ascontiguousarray(block[:, int(powers.argmax())])
            if not is_valid(mixed):
                raise AsrError(f"{self.path}: holds samples that are {INVALID}")
        return mixed


def notes(channels: int, channel: int | None, cancelled: bool) -> list[str]:
    """What became of that many channels, in words: `channel` and `cancelled` as of a Mixer."""
    if channel is not None:
        return [f"channel {channel} of {channels} taken"]
    if cancelled:
        return [f"{channels} channels cancel each other: the loudest taken"]
    return [f"{channels} channels mixed"] if channels > 1 else []


def is_valid(samples: np.ndarray) -> bool:
    """Whether all samples are numbers, of a size whose spectrum float32 can hold."""
    return bool((np.abs(samples) <= MAX_AMPLITUDE).all())

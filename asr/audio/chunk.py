"""Long recordings split into chunks, which bound the memory that a network needs.

Neighbouring chunks overlap, so that every word lies whole in one of them; or, with
`split_on_silence`, they meet where it is quietest and share nothing. Each chunk is normalised by
itself, as an utterance is: the words of a long recording are those of its chunks, away from the
seams.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError

_LEVEL_SECONDS = 0.02
"""Step at which loudness is measured."""
_FLOOR = 1e-5
"""Amplitude of silence: a third of the smallest step of 16 bits."""
_QUIET_SECONDS = 0.2
"""Length of a pause that a recording may be split in."""
_LONGEST_SECONDS = 10**9

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChunkOptions:
    """How long recordings are split."""

    chunk_seconds: float = 20.0
    """Longest audio that is transcribed at once; shorter recordings are not split."""
    overlap_seconds: float = 2.0
    """Audio that two neighbouring chunks share; half of it is context of each."""
    split_on_silence: bool = False
    """Split at the quietest place in the second half of a chunk; where it is not quiet there
    (by energy), chunks overlap as without."""

    def __post_init__(self) -> None:
        if not self.chunk_seconds >= 1:
            raise AsrError(f"chunk_seconds={self.chunk_seconds}: at least 1")
        if self.chunk_seconds > _LONGEST_SECONDS:
            raise AsrError(
                f"chunk_seconds={self.chunk_seconds}: at most {_LONGEST_SECONDS:,}, with which no "
                "recording is split"
            )
        if not 0 <= self.overlap_seconds <= self.chunk_seconds / 2:
            raise AsrError(
                f"overlap_seconds={self.overlap_seconds}: from 0 to half of "
                f"chunk_seconds={self.chunk_seconds:g}"
            )


@dataclass(frozen=True)
class Place:
    """Where a chunk lies in its recording, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class Chunk:
    """A part of a recording, mono at the sample rate that was asked for."""

    samples: Samples
    place: Place


def split(
    blocks: Iterable[Samples], rate: int, options: ChunkOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of a waveform that comes in blocks `(samples,)`, such as `audio.stream` yields.

    Blocks are mono float32 at `rate`, in samples per second. At most two chunks are held at a time.
    A recording no longer than a chunk is one chunk; the last chunk of a longer one is as long as
    the others and shares more with its neighbour. No samples, no chunks.
    """
    options = options or ChunkOptions()
    # Samples:  held[0]                 size          2 * size
    #           |------- a chunk -------|----- ahead -----|
    #                         |------- the next ------|        (they share `shared`)
    size, shared = round(options.chunk_seconds * rate), round(options.overlap_seconds * rate)
    held, start = np.zeros(0, np.float32), 0

    def chunk(end: int) -> Chunk:
        # A copy: a view would keep all of `held` in memory as long as its chunk.
        return Chunk(held[:end].copy(), Place(start / rate, (start + end) / rate))

    for block in _small(blocks, size):
        held = np.concatenate([held, block])
        # With so much ahead no chunk after this one has to be shorter than the others.
        while len(held) > 2 * size:
            quiet = (
                find_quiet(held[:size], rate, size // 2, size) if options.split_on_silence else None
            )
            yield chunk(quiet or size)
            step = quiet or size - shared
            held, start = held[step:], start + step
    # The end: one or two chunks, the last as long as the others, so that it has as much context.
    while (rest := len(held) - size) > 0:
        quarter = size // 4
        first, last = min(max(rest, quarter), size // 2), min(size, len(held) - quarter)
        quiet = find_quiet(held, rate, first, last) if options.split_on_silence else None
        yield chunk(quiet or size)
        step = quiet or min(size - shared, rest)
        held, start = held[step:], start + step
    if len(held):
        yield chunk(len(held))


def _small(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """The same samples in blocks of at most `size`: a whole waveform is not copied at once."""
    for block in blocks:
        for first in range(0, len(block), size):
            yield block[first : first + size]


def is_silent(samples: Samples) -> bool:
    """Whether `(samples,)` is digital silence: all zero, or one constant level.

    A network that was trained on speech alone invents words for that. Noise is not silence.
    """
    return not len(samples) or float(np.ptp(samples)) <= 2 * _FLOOR


def find_quiet(samples: Samples, rate: int, first: int, last: int) -> int | None:
    """The quietest sample from `first` to `last`; None if it is not quiet there.

    Quiet is what lies in the lower third, in decibels, between the quiet and the loud parts of
    all `samples` (their 5th and 95th percentile), for 0.2 s. Of equally quiet places the last.
    """
    step = max(round(_LEVEL_SECONDS * rate), 1)
    count, around = len(samples) // step, round(_QUIET_SECONDS / _LEVEL_SECONDS)
    power = np.square(samples[: count * step].reshape(count, step), dtype=np.float64).mean(axis=1)
    levels = 10 * np.log10(power + _FLOOR**2)
    # The loudest step of each stretch of 0.2 s, so that no short word hides in a mean.
    begin, end = -(-first // step), last // step - around + 1
    if end <= begin:
        return None
    loudest = np.lib.stride_tricks.sliding_window_view(levels, around).max(axis=1)[begin:end]
    best = len(loudest) - 1 - int(loudest[::-1].argmin())
    low, high = np.percentile(levels, [5, 95])
    if loudest[best] > low + (high - low) / 3:
        return None
    return (begin + best + around // 2) * step

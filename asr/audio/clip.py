"""A part of a recording, read without decoding what lies before it where the format allows."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.errors import AsrError

_PREROLL_SECONDS = 1.0
"""Decoded before a clip: frames of Vorbis and Opus depend on those before them."""
_TOLERANCE_SECONDS = 0.1
"""Manifests round: this much of a clip may lie behind the end of its recording."""


@dataclass(frozen=True)
class Clip:
    """A part of a recording: what a manifest's `offset` and `duration` mean.

    Raises AsrError for values that cannot be.
    """

    path: str
    offset: float = 0.0
    """Where it begins, in seconds."""
    seconds: float | None = None
    """How long it is; None: to the end of the recording."""
    channel: int | None = None
    """The channel to take, from 1; None: all of them mixed."""

    def __post_init__(self) -> None:
        if not 0 <= self.offset < float("inf"):
            raise AsrError(f"{self.path}: offset={self.offset}: seconds, 0 or more")
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise AsrError(f"{self.path}: duration={self.seconds}: seconds, 0 or more")

    def __str__(self) -> str:
        end = "the end" if self.seconds is None else f"{self.offset + self.seconds:g} s"
        return f"{self.path} ({self.offset:g} s to {end})"


class Passage:
    """What has been read of a clip, while the segments of its recording pass by."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._skip = clip.offset
        """Seconds that still lie before the clip."""
        self._left = float("inf") if clip.seconds is None else clip.seconds
        """Seconds of the clip that were not read yet."""
        self._sought = 0

    @property
    def is_whole(self) -> bool:
        """Whether the clip is the whole recording."""
        return self.clip.offset == 0 and self.clip.seconds is None

    @property
    def complete(self) -> bool:
        """Whether all of the clip was read."""
        return self._left <= 0

    def within(self, total: float) -> float:
        """Seconds of the clip in a recording of `total` seconds; 0 for one of unknown length."""
        left = max(total - self.clip.offset, 0.0)
        return left if self.clip.seconds is None else min(left, self.clip.seconds)

    def seek(self, file: soundfile.SoundFile, frames: int) -> int:
        """Jump to shortly before the clip begins, or to the end of a file that ends before it.

        Returns the sample jumped to, 0 for MPEG and codecs that cannot. `take` drops the rest.
        """
        start = round(self._skip * file.samplerate)
        target = frames if start >= frames else start - round(_PREROLL_SECONDS * file.samplerate)
        # MPEG decodes right as well after a jump, but its decoder then complains on standard error.
        if target > 0 and "MP" not in file.format and "MPEG" not in file.subtype:
            with suppress(soundfile.SoundFileError):  # some codecs in WAV cannot
                self._sought = file.seek(target)
        return self._sought

    def take(self, blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        """The part of a segment's blocks that belongs to the clip."""
        if self.is_whole:
            yield from blocks
            return
        self._sought = 0
        first = next(blocks, None)  # a file seeks when its first block is asked for
        at, start = self._sought, round(self._skip * rate)
        end = float("inf")
        if self._left < float("inf"):
            end = round((self._skip + self._left) * rate)
        for block in itertools.chain([] if first is None else [first], blocks):
            low, high = max(start - at, 0), min(end - at, len(block))
            at += len(block)
            if high > low:
                yield block[low : int(high)]
            if at >= end:
                self._skip, self._left = 0.0, 0.0
                return
        passed = at / rate
        self._left -= max(passed - self._skip, 0.0)
        self._skip = max(self._skip - passed, 0.0)

    def refuse_beyond_end(self, path: Path) -> None:
        """Raise AsrError if the recording ended before the clip began."""
        if self._skip > 0:
            raise AsrError(
                f"{path}: the offset of {self.clip.offset:g} s lies behind the end of the "
                f"recording, at {self.clip.offset - self._skip:.2f} s"
            )

    def missing(self) -> str:
        """In words, that the recording ended within the clip; empty if it did not."""
        if not _TOLERANCE_SECONDS < self._left < float("inf"):
            return ""
        there = (self.clip.seconds or 0.0) - self._left
        return (
            f"the recording ends within the clip from {self.clip.offset:g} s: {there:.2f} s of "
            f"{self.clip.seconds:g} s are there"
        )

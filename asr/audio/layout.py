"""The bytes of a recording as the formats' modules look at them: windows, views, parts.

Length is what decodes, not what a header says. The modules `riff`, `mpeg`, `flac` and `ogg` find
where the sound of a file really lies; a `Part` says it, and a `View` shows a decoder a file whose
header is right.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

_WINDOW = 1 << 20
_LONGEST_MATCH = 256
_MOST_FILES = 10_000


class Window:
    """Random access to the bytes of a file, a window at a time.

    Not `mmap`: a mapped file that somebody shortens meanwhile ends the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._start, self._held = 0, b""

    def read(self, at: int, count: int) -> bytes:
        """`count` bytes from `at` on; fewer where the file begins or ends."""
        at, count = max(at, 0), count + min(at, 0)
        if at >= self.size:  # lengths in a damaged file may lead anywhere
            return b""
        offset = at - self._start
        if offset < 0 or offset + count > len(self._held):
            self._file.seek(at)
            self._start, self._held, offset = at, self._file.read(max(count, _WINDOW)), 0
        return self._held[offset : offset + count]

    def search(self, pattern: re.Pattern[bytes], start: int = 0) -> Iterator[int]:
        """Where the pattern occurs from `start` on; matches are shorter than 256 bytes."""
        while start < self.size:
            block = self.read(start, _WINDOW + _LONGEST_MATCH)
            for match in pattern.finditer(block):
                if match.start() < _WINDOW:
                    yield start + match.start()
            start += _WINDOW


@dataclass(frozen=True)
class Part:
    """The bytes from `start` to `end` of a file: one recording, for a decoder of its own."""

    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    """Where, in the file, other bytes are read than those that are there: a corrected header."""
    prefix: bytes = b""
    """Bytes that the decoder reads before those of the file: a header that is missing."""
    suffix: bytes = b""
    """Bytes that it reads behind them: an end that is repaired."""
    samples: int | None = None
    """Samples of a channel that are there, if its header says otherwise and is not corrected."""


@dataclass
class Extent:
    """Where the sound of a file lies."""

    parts: Sequence[Part]
    damage: str = ""
    """Why less is there than was recorded, in words; empty if nothing is known to be missing."""
    notes: list[str] = field(default_factory=list)
    """What else a person should know: a header that was not believed."""


class View(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file, self._part = file, part
        self._at = 0
        self._size = len(part.prefix) + part.end - part.start + len(part.suffix)
        self.samples = part.samples
        """Those of the part, if they are known."""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as files do."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, with the corrections."""
        part, lead = self._part, len(self._part.prefix)
        left = max(self._size - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        if self._at < lead:
            content = part.prefix[self._at : self._at + size]
        else:
            first = part.start + self._at - lead
            self._file.seek(min(first, part.end))
            content = self._file.read(max(min(size, part.end - first), 0))
            if not content:
                behind = max(first - part.end, 0)
                content = part.suffix[behind : behind + size]
                self._at += len(content)
                return content
            for at, patch in part.patches:
                if at < first + len(content) and first < at + len(patch):
                    changed = bytearray(content)
                    low, high = max(at, first), min(at + len(patch), first + len(content))
                    changed[low - first : high - first] = patch[low - at : high - at]
                    content = bytes(changed)
        self._at += len(content)
        return content

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill a buffer as far as there are bytes."""
        filled = 0
        while filled < len(buffer) and (content := self.read(len(buffer) - filled)):
            buffer[filled : filled + len(content)] = content
            filled += len(content)
        return filled


def split(window: Window, signature: re.Pattern[bytes]) -> list[tuple[int, int]]:
    """Where files lie that were written one after the other: each begins with `signature`.

    With thousands of beginnings it is not files: one is found then.
    """
    starts = [0, *islice(window.search(signature, 1), _MOST_FILES)]
    if len(starts) > _MOST_FILES:
        return [(0, window.size)]
    return list(zip(starts, [*starts[1:], window.size], strict=True))

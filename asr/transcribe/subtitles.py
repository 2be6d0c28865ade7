"""Words to subtitles: cues that fit on a screen and break where the speaker pauses.

Limits always hold. Within them the cues are those of least cost: few, evenly filled, and ending at
pauses. All arithmetic is in integer milliseconds.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from asr.decode.hypothesis import Word
from asr.errors import AsrError

_SHORTEST_MS = 100
"""No cue is displayed for less, even where words follow each other more closely."""

_LONGEST_SECONDS = 10**6


@dataclass(frozen=True)
class SubtitleOptions:
    """Limits of a cue in SubRip (srt) and WebVTT (vtt) files."""

    line_length: int = 42
    """Most characters in a line."""
    lines: int = 2
    """Most lines in a cue."""
    max_seconds: float = 7.0
    """A cue stays no longer than this."""
    min_seconds: float = 1.0
    """A cue stays at least this long where the next one leaves room."""
    min_gap: float = 0.08
    """Seconds between two cues (two frames of film), so that the viewer sees the change."""
    pause: float = 1.5
    """A silence of this many seconds always ends a cue."""

    def __post_init__(self) -> None:
        if self.line_length < 8:
            raise AsrError(f"line_length={self.line_length}: at least 8 characters")
        if self.lines < 1:
            raise AsrError(f"lines={self.lines}: at least 1")
        for name, most in (("line_length", 10_000), ("lines", 100)):
            if getattr(self, name) > most:
                raise AsrError(f"{name}={getattr(self, name)}: at most {most:,}")
        if not 0.5 <= self.max_seconds <= _LONGEST_SECONDS:
            raise AsrError(
                f"max_seconds={self.max_seconds}: at least 0.5, at most {_LONGEST_SECONDS:,}"
            )
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise AsrError(f"min_seconds={self.min_seconds}: from 0 to max_seconds")
        if not 0 <= self.min_gap <= 1:
            raise AsrError(f"min_gap={self.min_gap}: from 0 to 1 second")
        if not self.pause > 0:
            raise AsrError(f"pause={self.pause}: above 0")
        if self.pause > _LONGEST_SECONDS:
            raise AsrError(f"pause={self.pause}: at most {_LONGEST_SECONDS:,}")


@dataclass(frozen=True)
class Cue:
    """Lines on the screen from `start_ms` to `end_ms`."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Fragment:
    """A word, or a part of one that is too long for a line."""

    text: str
    start: int
    end: int


def milliseconds(seconds: float) -> int:
    """A time as every format writes it: rounded once, here."""
    return round(1000 * seconds)


def cues(words: Sequence[Word], options: SubtitleOptions | None = None) -> list[Cue]:
    """The cues of a transcript, in order, never overlapping."""
    options = options or SubtitleOptions()
    fragments = _fragments(words, options)
    found: list[tuple[int, int, tuple[str, ...]]] = []
    first = 0
    for last in range(1, len(fragments) + 1):
        silence = last == len(fragments) or (
            fragments[last].start - fragments[last - 1].end >= milliseconds(options.pause)
        )
        if silence:
            for group in _split(fragments[first:last], options):
                lines = layout(" ".join(fragment.text for fragment in group), options)
                found.append((group[0].start, group[-1].end, lines))
            first = last
    return _timed(found, options)


def _fragments(words: Sequence[Word], options: SubtitleOptions) -> list[_Fragment]:
    """Words in milliseconds, times never falling; a word longer than a line is split."""
    fragments: list[_Fragment] = []
    earliest = 0
    for word in words:
        start = max(milliseconds(word.start), earliest)
        end = max(milliseconds(word.end), start)
        parts = [
            word.text[i : i + options.line_length]
            for i in range(0, len(word.text), options.line_length)
        ]
        for number, part in enumerate(parts):
            begin, finish = (start + (end - start) * i // len(parts) for i in (number, number + 1))
            fragments.append(_Fragment(part, begin, finish))
        earliest = end
    return fragments


def layout(text: str, options: SubtitleOptions) -> tuple[str, ...]:
    """A text that fits a cue, on as few lines as it needs, about equally long."""
    needed = len(textwrap.wrap(text, options.line_length, break_on_hyphens=False))
    for width in range(-(-len(text) // needed), options.line_length):
        lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
        if len(lines) <= needed and max(map(len, lines)) <= width:
            return tuple(lines)
    return tuple(textwrap.wrap(text, options.line_length, break_on_hyphens=False))


def _split(fragments: list[_Fragment], options: SubtitleOptions) -> list[list[_Fragment]]:
    """The cheapest way to split a run of fragments into cues within all limits.

    A cue costs 1, the square of the fraction of it that is empty, and less by up to 1 if it ends at
    a pause of up to half a second.
    """
    capacity = options.lines * options.line_length
    longest = milliseconds(options.max_seconds)
    best = [0.0] + [float("inf")] * len(fragments)
    came_from = [0] * (len(fragments) + 1)
    for first, opening in enumerate(fragments):
        lines, line, characters = 1, -1, -1
        for end, fragment in enumerate(fragments[first : first + capacity], start=first + 1):
            size = len(fragment.text)
            characters += 1 + size
            line += 1 + size
            if line > options.line_length:
                lines, line = lines + 1, size
            alone = end == first + 1
            if not alone and (lines > options.lines or fragment.end - opening.start > longest):
                break
            gap = fragments[end].start - fragment.end if end < len(fragments) else 0
            cost = best[first] + 1 + (1 - characters / capacity) ** 2 - min(gap, 500) / 500
            if cost < best[end]:
                best[end], came_from[end] = cost, first
    bounds = [len(fragments)]
    while bounds[-1]:
        bounds.append(came_from[bounds[-1]])
    return [fragments[start:end] for start, end in pairwise(reversed(bounds))]


def _timed(found: list[tuple[int, int, tuple[str, ...]]], options: SubtitleOptions) -> list[Cue]:
    """Give cues their shortest and longest time and the gap, moving one later if it must be."""
    gap, free = milliseconds(options.min_gap), 0
    result: list[Cue] = []
    for number, (start, end, lines) in enumerate(found):
        start = max(start, free)
        end = max(end, start + milliseconds(options.min_seconds))
        if number + 1 < len(found):
            end = min(end, found[number + 1][0] - gap)
        end = max(min(end, start + milliseconds(options.max_seconds)), start + _SHORTEST_MS)
        result.append(Cue(start, end, lines))
        free = end + gap
    return result

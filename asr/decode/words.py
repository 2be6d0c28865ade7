"""The word as a transcript gives it: what was said, when, and how sure the recogniser is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """One word of a transcript.

    `start` and `end` are seconds from the beginning of the recording; `confidence` lies in
    [0, 1] and is calibrated where the model file carries a calibration (see confidence.py).
    """

    text: str
    start: float
    end: float
    confidence: float

    @property
    def middle(self) -> float:
        """The time midpoint, by which words of neighbouring chunks are told apart."""
        return (self.start + self.end) / 2.0

    def shifted(self, seconds: float, limit: float = math.inf) -> Word:
        """The same word in a recording in which this one's begins `seconds` later.

        No time lies beyond `limit`, the end of that recording: the last frame may.
        """
        start, end = self.start + seconds, self.end + seconds
        return replace(self, start=min(start, limit), end=min(end, limit))


def text_of(words: list[Word]) -> str:
    """The transcript that a list of words spells."""
    return " ".join(word.text for word in words)

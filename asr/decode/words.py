"""The word as a transcript gives it: what was said, when, and how sure the recogniser is."""

from __future__ import annotations

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

    def shifted(self, seconds: float) -> Word:
        """The same word in a recording in which this one's begins `seconds` later."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


def text_of(words: list[Word]) -> str:
    """The transcript that a list of words spells."""
    return " ".join(word.text for word in words)

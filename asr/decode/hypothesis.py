"""What a decoder gives: hypotheses, best first; and the words that a transcript is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance; `tokens`, `frames` and `confidences` have the same length."""

    tokens: tuple[int, ...]
    """Unit indices, repeats collapsed and blanks dropped."""
    frames: tuple[int, ...]
    """Output frame at which each token is emitted (its spike), never falling."""
    confidences: tuple[float, ...]
    """Posterior of each token at its frame, 0 to 1."""
    text: str
    """The words of `tokens`."""
    score: float
    """Natural-log score by which the decoder ranks: acoustic, language model, bonuses."""
    acoustic_score: float
    """Natural log of the probability of `tokens` under the network, as far as it was searched."""
    lm_score: float
    """Natural log of the probability of `text` under the language model, unweighted; 0 without."""


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

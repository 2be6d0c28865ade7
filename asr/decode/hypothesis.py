"""What a decoder returns, and the words that a transcript is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Hypothesis:
    """One possible text of an utterance; `tokens`, `frames`, `confidences` have the same length."""

    tokens: tuple[int, ...]
    """Indices of tokens, repeats collapsed and blanks dropped."""
    frames: tuple[int, ...]
    """Output frame of each token (its spike: where it is most probable), never decreasing."""
    confidences: tuple[float, ...]
    """Posterior of each token at its frame, 0 to 1."""
    text: str
    """The words of `tokens`."""
    score: float
    """Natural log; what the decoder ranks by: acoustic score, language model, bonuses."""
    acoustic_score: float
    """Natural log of the probability of `tokens` under the network, summed over the alignments that
    the search kept; with a `prior_weight` the priors are taken off, and it may be above 0."""
    lm_score: float
    """Natural log of the probability of `text` under the language model, unweighted, or 0."""


@dataclass(frozen=True)
class Word:
    """One word of a transcript.

    `start` and `end` are seconds from the beginning of the recording; `confidence` is from 0 to 1,
    and calibrated if the model file has a calibration (see `asr.decode.confidence`).
    """

    text: str
    start: float
    end: float
    confidence: float

    @property
    def middle(self) -> float:
        """The midpoint in seconds; it decides from which of two overlapping chunks a word comes."""
        return (self.start + self.end) / 2.0

    def shifted(self, seconds: float, limit: float = math.inf) -> Word:
        """The same word in a longer recording, in which this one begins at `seconds`.

        Times are clipped to `limit`, the end of that recording: the last frame may end after it.
        """
        start, end = self.start + seconds, self.end + seconds
        return replace(self, start=min(start, limit), end=min(end, limit))


def text_of(words: list[Word]) -> str:
    """The text of a list of words."""
    return " ".join(word.text for word in words)

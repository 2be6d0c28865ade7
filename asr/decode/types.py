"""What a decoder takes and gives: log-probabilities in, hypotheses out, best first."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


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


class Decoder(Protocol):
    """Anything that reads the log-probabilities of one utterance."""

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """Readings of `log_probs (frames, units)`, natural logs, best first, at least one."""
        ...

"""How log-probabilities become text: one frozen dataclass that refuses conflicts in one place."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from asr.errors import AsrError

DecoderName = Literal["greedy", "beam"]

_WIDEST = 100_000
"""Beam: a search of half a minute takes 2 GB with it."""
_LARGEST = 1000
"""Of weights and bonuses: nothing else counts beside far larger ones, and the words are wrong."""


@dataclass(frozen=True)
class DecoderOptions:
    """Which decoder runs, and how; all scores are natural logarithms.

    The beam search ranks a hypothesis by: acoustic score + lm_weight x language model score
    + word_bonus x words + unknown_score x unknown words + phrase_bonus x words in phrases.
    A frame's log-probabilities count as log p(token | audio) - prior_weight x log p(token).

    Raises AsrError for values out of range and for options that do not go together.
    """

    decoder: DecoderName = "greedy"
    """The best token of every frame (greedy), or a prefix beam search (beam)."""
    beam: int = 32
    """Width of the beam: prefixes kept after every frame."""
    beam_threshold: float = 16.0
    """Prefixes with a score (natural log) this far below the best one are dropped."""
    token_threshold: float = 9.0
    """Tokens with a log-probability this far below the best one of a frame are not tried."""
    lm: str = ""
    """Word language model: an ARPA file (plain, .gz or .xz) or a binary one; the commands also
    take `english`, that of the package with its tuned options."""
    lm_weight: float = 0.5
    """Weight of the language model's log-probability, 0 or more."""
    word_bonus: float = 0.0
    """Score (natural log) added for every word."""
    unknown_score: float = 0.0
    """Score (natural log) added for every word that the language model lacks and no phrase has;
    -inf forbids them."""
    prior_weight: float = 0.0
    """Weight of the tokens' log priors, which are subtracted from their log-probabilities, 0 or
    more; with a language model, 0.4 to 0.7 is often best. The priors are in the model file."""
    nbest: int = 1
    """Hypotheses to return, at most as many as the beam."""
    phrases: tuple[str, ...] = ()
    """Words, or runs of words, to boost."""
    phrase_bonus: float = 3.0
    """Score (natural log) added for every word of a phrase that is recognised."""

    def __post_init__(self) -> None:
        if self.decoder not in get_args(DecoderName):
            known = ", ".join(get_args(DecoderName))
            raise AsrError(f"decoder={self.decoder!r} is unknown; there are {known}")
        if isinstance(self.phrases, str):  # its letters would be the phrases
            raise AsrError(
                f"phrases={self.phrases!r}: a list of phrases, such as [{self.phrases!r}]"
            )
        object.__setattr__(self, "phrases", tuple(self.phrases))
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if self.decoder == "greedy" and changed:
            them = "it" if len(changed) == 1 else "them"
            raise AsrError(
                f"{', '.join(changed)}: greedy decoding cannot use {them}; set decoder=beam"
            )
        self._check_ranges()
        if not self.lm:
            unused = [name for name in ("lm_weight", "unknown_score") if name in changed]
            if unused:
                raise AsrError(f"{', '.join(unused)}: needs a language model; set lm=FILE")
        if not self.phrases and "phrase_bonus" in changed:
            raise AsrError("phrase_bonus: there are no phrases to boost; set phrases")

    def _check_ranges(self) -> None:
        for name in ("beam", "nbest"):
            if getattr(self, name) < 1:
                raise AsrError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.beam > _WIDEST:
            raise AsrError(f"beam={self.beam}: must be at most {_WIDEST:,}")
        if self.nbest > self.beam:
            raise AsrError(f"nbest={self.nbest}: must be at most beam={self.beam}")
        for name in ("beam_threshold", "token_threshold"):
            if not getattr(self, name) > 0:
                raise AsrError(f"{name}={getattr(self, name)}: must be above 0")
        for name in ("lm_weight", "word_bonus", "prior_weight", "phrase_bonus"):
            if not math.isfinite(getattr(self, name)):
                raise AsrError(f"{name}={getattr(self, name)}: must be a finite number")
        for name in ("lm_weight", "word_bonus", "unknown_score", "prior_weight", "phrase_bonus"):
            value = getattr(self, name)
            if math.isfinite(value) and abs(value) > _LARGEST:
                raise AsrError(f"{name}={value}: must be within +-{_LARGEST:,}")
        for name in ("lm_weight", "prior_weight"):
            if getattr(self, name) < 0:
                raise AsrError(f"{name}={getattr(self, name)}: must not be negative")
        if math.isnan(self.unknown_score) or self.unknown_score == math.inf:
            raise AsrError(f"unknown_score={self.unknown_score}: must be a number, or -inf")

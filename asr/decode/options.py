"""How log-probabilities are read: one frozen dataclass, its conflicts refused in one place."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from asr.errors import AsrError

DecoderName = Literal["greedy", "beam", "flashlight"]


@dataclass(frozen=True)
class DecoderOptions:
    """Which decoder, with what; scores are natural logarithms.

    A hypothesis is ranked by: acoustic score + lm_weight x language model score
    + word_bonus x words + phrase_bonus x words that are within a boosted phrase.
    """

    decoder: DecoderName = "greedy"
    """`greedy`: the best unit of every frame; `beam`: our prefix beam search; `flashlight`: that
    of torchaudio (extra `lm`)."""
    beam: int = 32
    """Prefixes kept after every frame."""
    score_margin: float = 16.0
    """Prefixes this much worse than the best one of their frame are dropped."""
    unit_margin: float = 9.0
    """Units this much less probable than the best one of their frame are not tried."""
    lm: str = ""
    """Word language model: a file in ARPA (plain or .gz) or binary form; empty: none."""
    lm_weight: float = 0.5
    """Factor of the language model's score."""
    word_bonus: float = 0.0
    """Added for every word."""
    unknown_score: float = 0.0
    """Added for every word outside the language model, besides its score as <unk>; -inf: there
    are none, as always with flashlight."""
    nbest: int = 1
    """Hypotheses to return at most."""
    phrases: tuple[str, ...] = ()
    """Words, or runs of words, to listen for."""
    phrase_bonus: float = 3.0
    """Added for every word that is heard as part of one of `phrases`."""

    def __post_init__(self) -> None:
        if self.decoder not in get_args(DecoderName):
            known = ", ".join(get_args(DecoderName))
            raise AsrError(f"decoder={self.decoder!r} is unknown; there is {known}")
        object.__setattr__(self, "phrases", tuple(self.phrases))
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if self.decoder == "greedy" and changed:
            raise AsrError(
                f"{', '.join(changed)}: greedy decoding cannot use {_this(changed)}; "
                "set decoder=beam"
            )
        if self.decoder == "flashlight":
            self._check_flashlight()
        self._check_ranges()
        if not self.lm:
            lost = [name for name in ("lm_weight", "unknown_score") if name in changed]
            if lost:
                raise AsrError(f"{', '.join(lost)}: needs a language model; set lm=FILE")
        if not self.phrases and "phrase_bonus" in changed:
            raise AsrError("phrase_bonus: there are no phrases to boost; set phrases")

    def _check_flashlight(self) -> None:
        if self.phrases:
            raise AsrError("phrases: the flashlight decoder cannot boost words; set decoder=beam")
        if self.word_bonus and not self.lm:
            raise AsrError("word_bonus: flashlight knows no words without a language model")
        if self.unknown_score not in (0.0, -math.inf):
            raise AsrError(
                f"unknown_score={self.unknown_score}: with a language model flashlight writes "
                "no words but the model's; set decoder=beam"
            )

    def _check_ranges(self) -> None:
        for name in ("beam", "nbest"):
            if getattr(self, name) < 1:
                raise AsrError(f"{name}={getattr(self, name)}: at least 1")
        if self.nbest > self.beam:
            raise AsrError(f"nbest={self.nbest}: no more than beam={self.beam}")
        for name in ("score_margin", "unit_margin"):
            if not getattr(self, name) > 0:
                raise AsrError(f"{name}={getattr(self, name)}: above 0")
        for name in ("lm_weight", "word_bonus", "phrase_bonus"):
            if not math.isfinite(getattr(self, name)):
                raise AsrError(f"{name}={getattr(self, name)}: a finite number")
        if self.lm_weight < 0:
            raise AsrError(f"lm_weight={self.lm_weight}: not negative")
        if math.isnan(self.unknown_score) or self.unknown_score == math.inf:
            raise AsrError(f"unknown_score={self.unknown_score}: a number, or -inf")


def _this(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"

"""Who speaks in the built-in corpus: a small interface that every synthesiser has.

To add one, write a module with what `Synthesiser` asks for, and name it in `SYNTHESISERS` and in
`asr.corpus.spoken.settings`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import soxr

from asr.corpus.spoken import espeak, kokoro
from asr.corpus.spoken.settings import Part, SynthesiserName
from asr.errors import AsrError

SAMPLE_RATE = 16000
"""Samples a second of the corpus."""


class Voice(Protocol):
    """How a speaker sounds; can be pickled."""

    @property
    def name(self) -> str:
        """Short name, the same for the same sound; the speaker in manifests."""

    def slower(self, factor: float) -> Self:
        """The same voice at `factor` (below 1) of its speed."""


class Synthesiser(Protocol):
    """What a module that makes speech has."""

    SAMPLE_RATE: int
    """Samples a second of what `speak` returns."""

    def voices(self, part: Part, seed: int) -> Sequence[Any]:
        """The voices of a part, drawn from the seed, none of them in two parts.

        Empty if there are too few to keep some apart for this part.
        """

    def speak(self, text: str, voice: Any) -> np.ndarray:
        """Samples, (n,) float32 within +-1, not silent: a function of the arguments alone.

        `text` is in lower case. Raises AsrError if the synthesiser fails.
        """

    def require(self) -> None:
        """Raise AsrError, saying what to install, if the synthesiser is missing."""


SYNTHESISERS: dict[SynthesiserName, Synthesiser] = {"espeak": espeak, "kokoro": kokoro}


def canonical(names: Sequence[SynthesiserName]) -> list[SynthesiserName]:
    """In one order and with the least counts of the same fractions: what corpora are known by."""
    counts = Counter(names)
    divisor = math.gcd(*counts.values())
    return [name for name in SYNTHESISERS for _ in range(counts[name] // divisor)]


def label(names: Sequence[SynthesiserName]) -> str:
    """Short name of a choice and its fractions, such as `espeak2-other` for two thirds espeak."""
    counts = Counter(canonical(names))
    return "-".join(name + (str(n) if n > 1 else "") for name, n in counts.items())


def of_part(part: Part, names: Sequence[SynthesiserName], seed: int) -> list[SynthesiserName]:
    """Those of `names` that have voices for `part`, in canonical order.

    Raises AsrError if none has.
    """
    speaking = [name for name in canonical(names) if SYNTHESISERS[name].voices(part, seed)]
    if not speaking:
        raise AsrError(
            f"spoken:{part}: of data.spoken.synthesisers ({', '.join(names)}) none has voices for "
            f"this part; add espeak, which has some for every part"
        )
    return speaking


def require(names: Sequence[SynthesiserName]) -> None:
    """Raise AsrError, saying what to install, if one of them is missing."""
    for name in canonical(names):
        SYNTHESISERS[name].require()


def speak(name: SynthesiserName, text: str, voice: Voice) -> np.ndarray:
    """Samples of a synthesiser, (n,) float32 at 16 kHz. Raises AsrError if it fails."""
    synthesiser = SYNTHESISERS[name]
    speech = synthesiser.speak(text, voice)
    if synthesiser.SAMPLE_RATE != SAMPLE_RATE:
        speech = soxr.resample(speech, synthesiser.SAMPLE_RATE, SAMPLE_RATE)
    return np.asarray(speech)

"""Words that a tokenizer cannot write, in an alignment: a wildcard keeps their place.

Without one, the letters of the words around would have to explain the sound of such a word. The
wildcard matches whatever the network found, one frame or many, as the star token of torchaudio's
`forced_align` does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.text.tokenizer import BLANK, Tokenizer, UnknownCharacters

Floats = npt.NDArray[np.float32]
_PENALTY = 0.1
"""Natural logarithm of what a frame of a wildcard costs."""


class WildcardTokenizer(Tokenizer):
    """The tokens of `inner` and a last one, the wildcard, which is a word of its own."""

    kind = "wildcard"

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.wildcard = inner.size

    @property
    def tokens(self) -> tuple[str, ...]:
        return (*self.inner.tokens, " * ")

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(" * " if i == self.wildcard else self.inner.decode([i]) for i in ids)

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "inner": self.inner.to_plain()}  # for comparisons only

    def unknown(self, words: str) -> set[str]:
        """The characters of `words` that no token writes."""
        try:
            self.inner.encode(words)
        except UnknownCharacters as error:
            return set(error.characters)
        return set()

    def encode_known(self, forms: Sequence[str]) -> list[int]:
        """Tokens of words in normal form, a wildcard for neighbours that cannot be written."""
        tokens: list[int] = []
        known: list[str] = []
        for form in [*forms, ""]:
            if form and not self.unknown(form):
                known.append(form)
                continue
            tokens += self.inner.encode(" ".join(known)) if known else []
            known = []
            if form and tokens[-1:] != [self.wildcard]:
                tokens.append(self.wildcard)
        return tokens

    def add_column(self, log_probs: Floats) -> Floats:
        """`log_probs (frames, tokens)` with the wildcard's, which has a little less than the best.

        A little less, so that a frame that a neighbour or silence explains as well is theirs.
        """
        best = log_probs.max(axis=1, keepdims=True)
        return np.concatenate([log_probs, best - _PENALTY], axis=1)

    def sound(self, log_probs: Floats, first: int, last: int) -> tuple[int, int]:
        """The frames from the first to the last letter that the network found in `first` to `last`.

        The wildcard takes the space around a word too. Without any letter the frames stay.
        """
        best = log_probs[first:last, : self.inner.size].argmax(axis=1)
        empty = [BLANK, *(i for i, token in enumerate(self.inner.tokens) if token.isspace())]
        found = np.flatnonzero(~np.isin(best, empty))
        return (first + int(found[0]), first + int(found[-1]) + 1) if len(found) else (first, last)

"""A back-off n-gram model as an automaton: one state per context, one arc per n-gram.

A word is looked up among the arcs of a state. If it is not there, the state's back-off weight is
added and the search goes on in its lower state, the context without its first word (Katz 1987).
State 0 is the empty context and has an arc for every word. Python and C read the same flat arrays.

An example with bigrams, as an ARPA file lists them (log10):

    1-grams   -99   <s>   -0.3        2-grams   -0.1  <s> A
              -0.5  A     -0.2                  -0.4  A B
              -0.7  B
              -1.0  </s>

The states are: 0, the empty context; 1, after <s>; 2, after A. Nothing follows B in the 2-grams
and backing off from it costs nothing, so B has no state of its own and leads to state 0. Then

    P(A | <s>) = -0.1                 the arc <s> A of state 1, which leads to state 2
    P(B | <s>) = -0.3 - 0.7 = -1.0    no arc: the weight of state 1, then the arc B of state 0
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
HASH_START, HASH_FACTOR, HASH_MASK = 0xCBF29CE484222325, 0x100000001B3, 0xFFFFFFFFFFFFFFFF

ARRAYS: dict[str, str] = {
    "first": "uint32",
    "backoffs": "float32",
    "lowers": "uint32",
    "words": "uint32",
    "logs": "float32",
    "nexts": "uint32",
    "hashes": "uint64",
    "hash_words": "uint32",
    "prefixes": "uint64",
    "prefix_logs": "float32",
    "vocabulary": "uint8",
}
"""The arrays of a `LanguageModel` and their types."""


def extend_hash(value: int, content: bytes) -> int:
    """64-bit FNV-1a hash of a word after the bytes `content`; `value` begins at HASH_START."""
    for byte in content:
        value = ((value ^ byte) * HASH_FACTOR) & HASH_MASK
    return value


@dataclass(frozen=True)
class LanguageModel:
    """A word n-gram model; words are indices from 0, logarithms are natural.

    States: the arcs of state s are those from `first[s]` up to `first[s + 1]`; `backoffs[s]` is
    its back-off weight, `lowers[s]` its lower state.
    Arcs, sorted by word within a state: `words`, `logs` (of the probability), `nexts` (state).
    Words: the sorted `hashes` of their UTF-8 bytes belong to the indices `hash_words`;
    `vocabulary` holds their spellings, each ended by a line feed. `prefixes` are the sorted
    hashes of everything that words begin with, `prefix_logs` the best unigram score of a word
    that begins with each.

    >>> from asr.decode.lm.build import build_model
    >>> from asr.decode.lm.train import number_words, train_ngrams
    >>> lm = build_model(train_ngrams(number_words(["THE CAT SAT", "THE DOG SAT"]), order=2).ngrams)
    >>> log, state = lm.score(lm.start, lm.word("THE"))
    >>> log > lm.score(lm.start, lm.word("SAT"))[0]
    True
    """

    counts: tuple[int, ...]
    """N-grams of each length, from 1 on."""
    first: npt.NDArray[np.uint32]
    backoffs: npt.NDArray[np.float32]
    lowers: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint32]
    logs: npt.NDArray[np.float32]
    nexts: npt.NDArray[np.uint32]
    hashes: npt.NDArray[np.uint64]
    hash_words: npt.NDArray[np.uint32]
    prefixes: npt.NDArray[np.uint64]
    prefix_logs: npt.NDArray[np.float32]
    vocabulary: npt.NDArray[np.uint8]
    bos: int
    """Index of <s>."""
    eos: int
    """Index of </s>."""
    unknown: int
    """Index of <unk>."""

    @property
    def order(self) -> int:
        """Number of words in the longest n-grams."""
        return len(self.counts)

    @property
    def size(self) -> int:
        """Number of words, with <s>, </s> and <unk>."""
        return len(self.hashes)

    @cached_property
    def start(self) -> int:
        """State at the beginning of a sentence."""
        return int(self.nexts[self.bos])

    @cached_property
    def _views(self) -> tuple[Any, ...]:
        # Single elements of a memoryview come several times faster than those of an array.
        names = ("first", "backoffs", "lowers", "words", "logs", "nexts")
        return tuple(memoryview(getattr(self, name)) for name in names)

    @cached_property
    def _hash_views(self) -> tuple[Any, ...]:
        names = ("hashes", "prefixes", "prefix_logs")
        return tuple(memoryview(getattr(self, name)) for name in names)

    def spellings(self) -> list[str]:
        """All words in the order of their indices."""
        return self.vocabulary.tobytes().decode().split("\n")[:-1]

    def find(self, word_hash: int) -> int:
        """Index of the word with this hash, or `unknown`."""
        hashes = self._hash_views[0]
        place = bisect_left(hashes, word_hash)
        if place < len(hashes) and hashes[place] == word_hash:
            return int(self.hash_words[place])
        return self.unknown

    def look_ahead(self, prefix_hash: int) -> float | None:
        """Best unigram score of the words that begin with the hashed bytes; None if none does."""
        _, prefixes, logs = self._hash_views
        place = bisect_left(prefixes, prefix_hash)
        if place < len(prefixes) and prefixes[place] == prefix_hash:
            return logs[place]
        return None

    def word(self, spelling: str) -> int:
        """Index of the word spelt `spelling`, or `unknown`."""
        return self.find(extend_hash(HASH_START, spelling.encode()))

    def score(self, state: int, word: int) -> tuple[float, int]:
        """Natural log of P(`word` | `state`), and the state after the word."""
        first, backoffs, lowers, words, logs, nexts = self._views
        total = 0.0
        while state:
            end = first[state + 1]
            arc = bisect_left(words, word, first[state], end)
            if arc < end and words[arc] == word:
                return total + logs[arc], nexts[arc]
            total += backoffs[state]
            state = lowers[state]
        return total + logs[word], nexts[word]

    def sentence(self, text: str) -> list[tuple[float, bool]]:
        """Natural-log score of each word of `text` and of its end, and whether it is known."""
        state, scores = self.start, []
        for spelling in text.split():
            word = self.word(spelling)
            score, state = self.score(state, word)
            scores.append((score, word != self.unknown))
        scores.append((self.score(state, self.eos)[0], True))
        return scores


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text; every sentence's end counts as a word."""

    words: int
    """Number of words and of ends of sentences."""
    unknown: int
    """Number of words outside the vocabulary."""
    with_unknown: float
    """Over all words, those outside the vocabulary scored as <unk>."""
    known: float
    """Over the words of the vocabulary only."""

    def __str__(self) -> str:
        fraction = self.unknown / self.words
        return (
            f"perplexity {self.known:.1f} over known words, {self.with_unknown:.1f} over all; "
            f"{self.unknown} of {self.words} words unknown ({fraction:.1%})"
        )


def perplexity(model: LanguageModel, lines: Iterable[str]) -> Perplexity:
    """Perplexity of sentences. Raises AsrError if there are none."""
    scores = [pair for line in lines if line.strip() for pair in model.sentence(line)]
    if not scores:
        raise AsrError("perplexity: the text is empty")
    total = math.fsum(score for score, _ in scores)
    known = [score for score, is_known in scores if is_known]
    return Perplexity(
        words=len(scores),
        unknown=len(scores) - len(known),
        with_unknown=math.exp(-total / len(scores)),
        known=math.exp(-math.fsum(known) / len(known)),
    )

"""A back-off n-gram model as an automaton: one state per context, one arc per n-gram.

A word is looked up among the arcs of a state; if it is not there, the state's back-off weight is
paid and the search goes on in its lower state, the context without its first word. State 0 is the
empty context and has an arc for every word. The same flat arrays are read by Python and by C.
"""

import math
from bisect import bisect_left
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
"""The arrays of a model and their types; see `LanguageModel`."""


def extend_hash(value: int, content: bytes) -> int:
    """64-bit FNV-1a hash of a word that goes on with `content`; it begins with HASH_START."""
    for byte in content:
        value = ((value ^ byte) * HASH_FACTOR) & HASH_MASK
    return value


@dataclass(frozen=True)
class LanguageModel:
    """A word n-gram model; words are numbers from 0, logarithms are natural.

    States: arcs of state s lie from `first[s]` to `first[s + 1]`; `backoffs[s]`, `lowers[s]`.
    Arcs, sorted by word within a state: `words`, `logs` (of the probability), `nexts` (state).
    Words: the sorted `hashes` of their UTF-8 bytes belong to `hash_words`; `vocabulary` holds
    their spellings, each ended by a line feed. `prefixes` are the sorted hashes of everything
    that words begin with, `prefix_logs` the best unigram score of a word that begins so.
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
    """Number of <s>, as `eos` is of </s> and `unknown` of <unk>."""
    eos: int
    unknown: int

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.counts)

    @property
    def size(self) -> int:
        """Words, with <s>, </s> and <unk>."""
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
        """All words in the order of their numbers."""
        return self.vocabulary.tobytes().decode().split("\n")[:-1]

    def find(self, word_hash: int) -> int:
        """Number of the word with this hash, or `unknown`."""
        hashes = self._hash_views[0]
        place = bisect_left(hashes, word_hash)
        if place < len(hashes) and hashes[place] == word_hash:
            return int(self.hash_words[place])
        return self.unknown

    def look_ahead(self, prefix_hash: int) -> float | None:
        """Best unigram score of a word that begins with this hash; None if there is no such."""
        _, prefixes, logs = self._hash_views
        place = bisect_left(prefixes, prefix_hash)
        if place < len(prefixes) and prefixes[place] == prefix_hash:
            return logs[place]
        return None

    def word(self, spelling: str) -> int:
        """Number of a word, or `unknown`."""
        return self.find(extend_hash(HASH_START, spelling.encode()))

    def score(self, state: int, word: int) -> tuple[float, int]:
        """Natural log of the probability of `word` in `state`, and the state after it."""
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
        """Score of each word of `text` and of the end, and whether the word is known."""
        state, scores = self.start, []
        for spelling in text.split():
            word = self.word(spelling)
            score, state = self.score(state, word)
            scores.append((score, word != self.unknown))
        scores.append((self.score(state, self.eos)[0], True))
        return scores


@dataclass(frozen=True)
class Perplexity:
    """How well a model foretells a text; every sentence's end counts as a word."""

    words: int
    """Words of the text and ends of sentences."""
    unknown: int
    """Words outside the vocabulary."""
    with_unknown: float
    """Over all words, those outside the vocabulary scored as <unk>."""
    known: float
    """Over the words of the vocabulary alone."""

    def __str__(self) -> str:
        share = self.unknown / self.words
        return (
            f"perplexity {self.known:.1f} over known words, {self.with_unknown:.1f} over all; "
            f"{self.unknown} of {self.words} words unknown ({share:.1%})"
        )


def perplexity(model: LanguageModel, lines: Any) -> Perplexity:
    """Perplexity of an iterable of sentences. Raises AsrError if it holds none."""
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

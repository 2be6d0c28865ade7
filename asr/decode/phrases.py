"""Boosted phrases as an automaton over bytes that decoders follow with every prefix.

A phrase gets its bonus in parts, letter by letter, so that it stays in the beam from its first
letters on. The part is taken back where the word turns out to be another. With a bonus of 1 and
the phrase CATS: "CA" has 0.5, "CATS" 1.0, "CAN" 0.0.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.tokenizer import Tokenizer

ROOT, OUTSIDE = 0, 1
"""Nodes: at the start of a word, and within a word that is not part of a phrase."""
SPACE = 0x20


@dataclass(frozen=True)
class Phrases:
    """A trie of phrases, each ended by a space, with failure links (Aho and Corasick 1975)."""

    keys: npt.NDArray[np.int32]
    """Edges, sorted: 256 x node + byte."""
    targets: npt.NDArray[np.int32]
    """Node that each edge leads to."""
    values: npt.NDArray[np.float64]
    """Bonus from ROOT to each node."""
    finals: npt.NDArray[np.float64]
    """What of it stays when the phrase breaks off there: the bonus of the last whole phrase."""
    fails: npt.NDArray[np.int32]
    """Node to continue at when no edge fits: the longest later start of a phrase."""

    def step(self, node: int, byte: int) -> tuple[float, int]:
        """The bonus that is final now, and the node after `byte`."""
        final = 0.0
        while True:
            key = 256 * node + byte
            place = bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                return final, int(self.targets[place])
            if node in (ROOT, OUTSIDE):
                return final, ROOT if byte == SPACE else OUTSIDE
            final += float(self.finals[node])
            node = int(self.fails[node])

    def finish(self, node: int) -> float:
        """The bonus that is final if nothing follows."""
        final = 0.0
        while node not in (ROOT, OUTSIDE):
            final += float(self.finals[node])
            node = int(self.fails[node])
        return final


def build_phrases(phrases: Sequence[str], bonus: float, tokenizer: Tokenizer) -> Phrases:
    """The automaton of `phrases`, which are normalised first; `bonus` is for every word of one.

    Raises AsrError for a phrase without words, and for one that the tokenizer cannot encode.
    """
    texts: dict[bytes, None] = {}
    for phrase in phrases:
        text = normalise(phrase)
        if not text:
            raise AsrError(f"phrases: {phrase!r} has no words")
        tokenizer.encode(text)  # refuses what the decoder could never write
        texts[text.encode() + b" "] = None
    missing = _missing_letters(texts)
    # Node of every start of a phrase, the shorter ones first.
    starts = sorted(missing, key=len)
    nodes = {start: number for number, start in enumerate(starts, 2)}
    nodes[b""] = ROOT
    count = len(starts) + 2
    values, finals = np.zeros(count), np.zeros(count)
    fails = np.zeros(count, dtype=np.int32)
    whole = {b"": 0}
    for start in starts:
        node = nodes[start]
        values[node] = bonus * _words_in(start, missing[start])
        whole[start] = len(start) if start in texts else whole[start[:-1]]
        finals[node] = values[nodes[start[: whole[start]]]] if whole[start] else 0.0
        fails[node] = _fail(start, whole[start], nodes)
    edges = sorted((256 * nodes[start[:-1]] + start[-1], nodes[start]) for start in starts)
    return Phrases(
        keys=np.array([key for key, _ in edges], dtype=np.int32),
        targets=np.array([target for _, target in edges], dtype=np.int32),
        values=values,
        finals=finals,
        fails=fails,
    )


def _missing_letters(texts: Iterable[bytes]) -> dict[bytes, int]:
    """Letters that the last word of every start of a text lacks to the shortest it may become."""
    missing: dict[bytes, int] = {}
    for text in texts:
        for end in range(1, len(text) + 1):
            letters = len(text[end:].partition(b" ")[0])
            missing[text[:end]] = min(letters, missing.get(text[:end], letters))
    return missing


def _words_in(start: bytes, missing: int) -> float:
    """Number of words in `start`, the last one as a fraction of itself with `missing` letters."""
    done, _, part = start.rpartition(b" ")
    words = float(len(done.split()))
    if part:
        words += len(part) / (len(part) + missing)
    return words


def _fail(start: bytes, final: int, nodes: dict[bytes, int]) -> int:
    """Node of the longest end of `start` that begins a phrase, at a word after what is final."""
    for place in range(1, len(start)):
        if start[place - 1] == SPACE and place >= final and start[place:] in nodes:
            return nodes[start[place:]]
    return ROOT if start[-1] == SPACE else OUTSIDE

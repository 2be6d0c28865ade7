"""Phrases to listen for, as an automaton over bytes that decoders walk along with a prefix.

A phrase earns its bonus a little with every letter, so that it survives in the beam from its
first letters on; what was earned is given back when the word turns out to be another.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.tokenizer import Tokenizer

ROOT, OUTSIDE = 0, 1
"""Nodes: at the start of a word, and within a word that no phrase goes along with."""
SPACE = 0x20


@dataclass(frozen=True)
class Phrases:
    """A trie of phrases, each ended by a space, with a way out of every node."""

    keys: npt.NDArray[np.int32]
    """Sorted: 256 x node + byte; `targets` are the nodes they lead to."""
    targets: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]
    """Bonus earned on the way from ROOT to each node."""
    keeps: npt.NDArray[np.float64]
    """What of it stays when a node is left: that of the last whole phrase."""
    fails: npt.NDArray[np.int32]
    """Where a prefix goes on that is no phrase: the longest later start that is one."""

    def step(self, node: int, byte: int) -> tuple[float, int]:
        """What is kept for good, and the node after `byte`."""
        kept = 0.0
        while True:
            key = 256 * node + byte
            place = bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                return kept, int(self.targets[place])
            if node in (ROOT, OUTSIDE):
                return kept, ROOT if byte == SPACE else OUTSIDE
            kept += float(self.keeps[node])
            node = int(self.fails[node])

    def finish(self, node: int) -> float:
        """What is kept when nothing follows."""
        kept = 0.0
        while node not in (ROOT, OUTSIDE):
            kept += float(self.keeps[node])
            node = int(self.fails[node])
        return kept


def build(phrases: Sequence[str], bonus: float, tokenizer: Tokenizer) -> Phrases:
    """The automaton of `phrases`, which are normalised first; every word of one earns `bonus`.

    Raises AsrError for a phrase without words, or one that the units cannot write.
    """
    texts: dict[bytes, None] = {}
    for phrase in phrases:
        text = normalise(phrase)
        if not text:
            raise AsrError(f"phrases: {phrase!r} holds no words")
        tokenizer.encode(text)
        texts[text.encode() + b" "] = None
    # Node of every start of a phrase, the shorter ones first.
    starts = sorted({text[:end] for text in texts for end in range(1, len(text) + 1)}, key=len)
    nodes = {start: number for number, start in enumerate(starts, 2)}
    nodes[b""] = ROOT
    count = len(starts) + 2
    values, keeps = np.zeros(count), np.zeros(count)
    fails = np.zeros(count, dtype=np.int32)
    whole = {b"": 0}
    for start in starts:
        node = nodes[start]
        values[node] = bonus * _words_heard(start, texts)
        whole[start] = len(start) if start in texts else whole[start[:-1]]
        keeps[node] = values[nodes[start[: whole[start]]]] if whole[start] else 0.0
        fails[node] = _fail(start, whole[start], nodes)
    edges = sorted((256 * nodes[start[:-1]] + start[-1], nodes[start]) for start in starts)
    return Phrases(
        keys=np.array([key for key, _ in edges], dtype=np.int32),
        targets=np.array([target for _, target in edges], dtype=np.int32),
        values=values,
        keeps=keeps,
        fails=fails,
    )


def _words_heard(start: bytes, texts: dict[bytes, None]) -> float:
    """Words of `start`, the last one in part: by the shortest word that it may become."""
    done, _, part = start.rpartition(b" ")
    words = float(len(done.split()))
    if part:
        rests = (
            text.index(b" ", len(start)) - len(start) for text in texts if text.startswith(start)
        )
        words += len(part) / (len(part) + min(rests))
    return words


def _fail(start: bytes, kept: int, nodes: dict[bytes, int]) -> int:
    """Node of the longest rest of `start` from a later word on, past what is kept."""
    for place in range(1, len(start)):
        if start[place - 1] == SPACE and place >= kept and start[place:] in nodes:
            return nodes[start[place:]]
    return ROOT if start[-1] == SPACE else OUTSIDE

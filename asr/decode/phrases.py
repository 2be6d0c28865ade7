"""Boosted phrases as an automaton over bytes that decoders follow with every prefix.

A phrase gets its bonus in parts, letter by letter, so that it stays in the beam from its first
letters on. The part is taken back where the word turns out to be another. With a bonus of 1 and
the phrase CATS: "CA" has 0.5, "CATS" 1.0, "CAN" 0.0.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
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
    parents = [ROOT, OUTSIDE, *(nodes[start[:-1]] for start in starts)]
    edges = {256 * parents[node] + start[-1]: node for node, start in enumerate(starts, 2)}
    links = _links(starts, parents, edges)
    lengths = [0, 0, *(len(start) for start in starts)]
    whole = [0] * count  # length of the last whole phrase of each node
    values, finals = np.zeros(count), np.zeros(count)
    fails = np.zeros(count, dtype=np.int32)
    for node, start in enumerate(starts, 2):
        values[node] = bonus * _words_in(start, missing[start])
        if start in texts:
            whole[node], finals[node] = len(start), values[node]
        else:
            whole[node], finals[node] = whole[parents[node]], finals[parents[node]]
        fails[node] = links[node]
        while lengths[fails[node]] > len(start) - whole[node]:  # what is final is not given again
            fails[node] = links[fails[node]]
    ordered = sorted(edges.items())
    return Phrases(
        keys=np.array([key for key, _ in ordered], dtype=np.int32),
        targets=np.array([target for _, target in ordered], dtype=np.int32),
        values=values,
        finals=finals,
        fails=fails,
    )


def _missing_letters(texts: Iterable[bytes]) -> dict[bytes, int]:
    """Letters that the last word of every start of a text lacks to the shortest it may become."""
    missing: dict[bytes, int] = {}
    for text in texts:
        for end in range(1, len(text) + 1):
            start, letters = text[:end], max(0, text.find(b" ", end) - end)
            missing[start] = min(letters, missing.get(start, letters))
    return missing


def _words_in(start: bytes, missing: int) -> float:
    """Number of words in `start`, the last one as a fraction of itself with `missing` letters."""
    words = float(start.count(b" "))
    if part := len(start) - 1 - start.rfind(b" "):
        words += part / (part + missing)
    return words


def _links(starts: Sequence[bytes], parents: Sequence[int], edges: Mapping[int, int]) -> list[int]:
    """Node of the longest end of every start that begins a phrase at a word, by its parent's.

    `starts` are those of the nodes from 2 on, the shorter ones first.
    """
    links = [ROOT, OUTSIDE, *([OUTSIDE] * len(starts))]
    for node, start in enumerate(starts, 2):
        if parents[node] == ROOT:
            continue
        link, byte = links[parents[node]], start[-1]
        while (after := edges.get(256 * link + byte)) is None and link not in (ROOT, OUTSIDE):
            link = links[link]
        links[node] = after if after is not None else ROOT if byte == SPACE else OUTSIDE
    return links

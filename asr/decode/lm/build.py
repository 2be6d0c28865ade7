"""Builds the automaton that decoders use from n-gram tables of a trainer or an ARPA file."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.decode.lm.model import BOS, EOS, HASH_FACTOR, HASH_START, UNKNOWN, LanguageModel
from asr.errors import AsrError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NGramTable:
    """All n-grams of one length, sorted by context and word; logarithms to base 10, as in ARPA."""

    contexts: Indices
    """Row of the first n-1 words in the table below; 0 in the first table."""
    words: Indices
    """Last word; in the first table row i is word i."""
    logs: npt.NDArray[np.float32]
    backoffs: npt.NDArray[np.float32]
    """Zero where nothing follows."""


@dataclass(frozen=True)
class NGrams:
    """A back-off model as tables: `orders[n-1]` holds the n-grams."""

    vocabulary: list[str]
    orders: list[NGramTable]


def find_rows(table: NGramTable, contexts: Indices, words: Indices, size: int) -> Indices:
    """Rows of n-grams in `table`, or -1; `size` is the number of words in the vocabulary."""
    return _find(table.contexts * size + table.words, contexts * size + words)


def _find(keys: Indices, queries: Indices) -> Indices:
    """Places of `queries` in the sorted `keys`, or -1."""
    if not len(keys):
        return np.full(len(queries), -1, dtype=np.int64)
    # Sorted queries walk through memory in order: several times faster than random ones.
    by_key = np.argsort(queries)
    places = np.empty(len(queries), dtype=np.int64)
    places[by_key] = np.searchsorted(keys, queries[by_key])
    places[places == len(keys)] = 0
    return np.where(keys[places] == queries, places, -1)


def build_model(ngrams: NGrams) -> LanguageModel:
    """The automaton of `ngrams`; an n-gram that no word follows gets no state of its own.

    Raises AsrError if <s> or </s> is not among the words, or if two words have the same hash.
    """
    vocabulary = list(ngrams.vocabulary)
    orders = list(ngrams.orders)
    size = len(vocabulary)
    special = _special(vocabulary)
    builder = _Builder(orders, size)
    hashes, prefixes, prefix_logs = hash_vocabulary(vocabulary, builder.logs[:size])
    by_hash = np.argsort(hashes)
    hashes = hashes[by_hash]
    if (hashes[1:] == hashes[:-1]).any():
        raise AsrError("language model: a word is listed twice")
    return LanguageModel(
        counts=tuple(len(order.words) for order in orders),
        **builder.arrays(),
        hashes=hashes,
        hash_words=by_hash.astype(np.uint32),
        prefixes=prefixes,
        prefix_logs=prefix_logs,
        vocabulary=np.frombuffer("".join(f"{w}\n" for w in vocabulary).encode(), dtype=np.uint8),
        bos=special[BOS],
        eos=special[EOS],
        unknown=special[UNKNOWN],
    )


def _special(vocabulary: list[str]) -> dict[str, int]:
    places = {}
    for word in (BOS, EOS, UNKNOWN):
        try:
            places[word] = vocabulary.index(word)
        except ValueError:
            raise AsrError(f"language model: {word} is not among its words") from None
    return places


class _Builder:
    """Fills the arrays of states and arcs, order by order."""

    def __init__(self, orders: list[NGramTable], size: int) -> None:
        self.orders, self.size = orders, size
        self.owns = [self._own_state(n) for n in range(len(orders))]
        counts = [1, *(int(own.sum()) for own in self.owns[:-1])]
        self.offsets = np.cumsum([0, *counts])
        states = int(self.offsets[-1])
        self.backoffs = np.zeros(states, dtype=np.float32)
        self.lowers = np.zeros(states, dtype=np.int64)
        self.keys = np.empty(0, dtype=np.int64)
        self.nexts = np.empty(0, dtype=np.int64)
        self.logs = np.empty(0, dtype=np.float32)
        row_states = np.zeros(1, dtype=np.int64)
        for n, order in enumerate(orders):
            row_states = self._add(n, order, row_states)
        arcs = self.keys // size
        self.first = np.searchsorted(arcs, np.arange(states + 1))

    def _own_state(self, n: int) -> npt.NDArray[np.bool_]:
        """Which n-grams need a state: a word follows, or backing off has a weight."""
        order = self.orders[n]
        if n + 1 == len(self.orders):
            return np.zeros(len(order.words), dtype=bool)
        own = order.backoffs != 0
        own[self.orders[n + 1].contexts] = True
        return own

    def _add(self, n: int, order: NGramTable, context_states: Indices) -> Indices:
        """Add the arcs of one order; returns the state that each of its rows owns, or -1."""
        sources = context_states[order.contexts]
        if len(sources) and sources.min() < 0:
            raise AssertionError("a context without a state")
        # The state of the longest proper suffix: where an n-gram without a state of its own
        # leads to, and what an own state backs off to.
        if n == 0:
            beneath = np.zeros(len(order.words), dtype=np.int64)
        else:
            beneath = self._walk(self.lowers[sources], order.words)
        own = self.owns[n]
        states = np.full(len(own), -1, dtype=np.int64)
        if n + 1 < len(self.orders):
            states[own] = np.arange(self.offsets[n + 1], self.offsets[n + 2])
            self.backoffs[states[own]] = _natural(order.backoffs[own])
            self.lowers[states[own]] = beneath[own]
        self.keys = np.concatenate([self.keys, sources * self.size + order.words])
        self.nexts = np.concatenate([self.nexts, np.where(own, states, beneath)])
        self.logs = np.concatenate([self.logs, _natural(order.logs)])
        return states

    def _walk(self, states: Indices, words: Indices) -> Indices:
        """State that each of `words` leads to from each of `states`, backing off as needed."""
        result = np.zeros(len(states), dtype=np.int64)
        pending = np.arange(len(states))
        while len(pending):
            arcs = _find(self.keys, states[pending] * self.size + words[pending])
            found = arcs >= 0
            result[pending[found]] = self.nexts[arcs[found]]
            pending = pending[~found]
            states = states.copy()
            states[pending] = self.lowers[states[pending]]
        return result

    def arrays(self) -> dict[str, npt.NDArray]:
        return {
            "first": self.first.astype(np.uint32),
            "backoffs": self.backoffs,
            "lowers": self.lowers.astype(np.uint32),
            "words": (self.keys % self.size).astype(np.uint32),
            "logs": self.logs,
            "nexts": self.nexts.astype(np.uint32),
        }


def _natural(log10: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (log10.astype(np.float64) * np.log(10.0)).astype(np.float32)


def hash_vocabulary(
    words: list[str], logs: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Hash of every word, sorted hashes of all their beginnings, the best of `logs` for each.

    <s>, </s> and <unk> are never spelt, so they have no beginnings.
    """
    encoded = [word.encode() for word in words]
    spoken = np.array([word not in (BOS, EOS, UNKNOWN) for word in words])
    lengths = np.array([len(word) for word in encoded])
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.uint64)
    starts = np.cumsum(lengths) - lengths
    hashes = np.full(len(words), HASH_START, dtype=np.uint64)
    factor = np.uint64(HASH_FACTOR)
    begun, scores = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.float32)]
    for place in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > place)
        hashes[rows] = (hashes[rows] ^ letters[starts[rows] + place]) * factor
        rows = rows[spoken[rows]]
        begun.append(hashes[rows])
        scores.append(logs[rows])
    every = np.concatenate(begun)
    by_hash = np.argsort(every)
    every = every[by_hash]
    firsts = np.flatnonzero(np.append(True, every[1:] != every[:-1])[: len(every)])
    if not len(firsts):
        return hashes, every, np.zeros(0, np.float32)
    return hashes, every[firsts], np.maximum.reduceat(np.concatenate(scores)[by_hash], firsts)

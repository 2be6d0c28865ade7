"""Training of word n-gram models: interpolated modified Kneser-Ney, cut-offs, entropy pruning.

Estimates follow Chen and Goodman (1998), section 3, with the conventions of kenlm's lmplz:
sentences stand alone between one <s> and one </s>; lower orders count distinct left neighbours,
n-grams that begin with <s> their occurrences; the first order is interpolated with the uniform
distribution over all words but <s>. Pruning by entropy is Stolcke's (1998), with the share of
contexts in the text instead of the model's, which Kneser-Ney's lower orders do not tell.

An n-gram is its context's row and its last word, packed into one integer and sorted, so that
numpy counts millions a second and rows that share a context lie side by side.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.decode.lm.build import Indices, NGrams, Order
from asr.decode.lm.model import BOS, EOS, UNKNOWN
from asr.errors import AsrError

Floats = npt.NDArray[np.float64]

_UNKNOWN, _BOS, _EOS = range(3)
_NEVER = -99.0
"""log10 probability that ARPA files give to <s>."""
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class _Numbers(dict[str, int]):
    """Numbers words as they come."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class Text:
    """Sentences as numbers: <s>, words, </s>, one sentence after the other."""

    numbers: npt.NDArray[np.int32]
    vocabulary: list[str]
    sentences: int


@dataclass(frozen=True)
class Training:
    """A trained model and what there is to know about it."""

    ngrams: NGrams
    sentences: int
    words: int
    discounts: tuple[tuple[float, float, float], ...]
    """Of n-grams counted once, twice and more often, for each order."""
    fallbacks: tuple[int, ...]
    """Orders whose counts of counts gave no discounts; fixed ones were used."""
    seen: tuple[int, ...]
    """Distinct n-grams of the text, for each order; the model holds those left by pruning."""


@dataclass
class _Table:
    """The n-grams of one length that occur, sorted by context and word."""

    contexts: Indices
    words: Indices
    suffixes: Indices
    """Row of the last n-1 words in the table below."""
    counts: Indices
    adjusted: Indices
    logs: Floats | None = None
    """Natural log of the probability."""
    backoffs: Floats | None = None
    """Natural log of the back-off weight of each n-gram as a context."""


def read_text(sentences: Iterable[str], min_count: int = 1) -> Text:
    """Number the words of sentences; words that occur fewer than `min_count` times become <unk>.

    Raises AsrError for a text without words, and for one that has <s> or </s> as a word.
    """
    vocabulary = _Numbers({UNKNOWN: _UNKNOWN, BOS: _BOS, EOS: _EOS})
    number, numbers, lines = vocabulary.__getitem__, array("i"), 0
    for sentence in sentences:
        words = sentence.split()
        if words:
            numbers.append(_BOS)
            numbers.extend(map(number, words))
            numbers.append(_EOS)
            lines += 1
    if not lines:
        raise AsrError("language model: the text holds no words")
    text = np.frombuffer(numbers, dtype=np.int32)
    counts = np.bincount(text, minlength=len(vocabulary))
    if counts[_BOS] != lines or counts[_EOS] != lines:
        raise AsrError(f"language model: {BOS} and {EOS} must not stand in the text")
    names = list(vocabulary)
    kept = counts >= min_count
    kept[: _EOS + 1] = True
    renumbered = np.where(kept, np.cumsum(kept) - 1, _UNKNOWN).astype(np.int32)
    names = [name for name, keep in zip(names, kept, strict=True) if keep]
    return Text(renumbered[text], names, lines)


def train(
    text: Text, order: int = 3, cutoffs: tuple[int, ...] = (1, 1, 2), prune: float = 0.0
) -> Training:
    """A model of `order`.

    `cutoffs`: n-grams of length n that occur fewer than `cutoffs[n-1]` times are left out (the
    last one holds for all longer ones); their probability goes to the back-off. `prune`: n-grams
    without which the perplexity grows by less than this share are left out too; 0: none.
    """
    cutoffs = _check(order, cutoffs, prune)
    size = len(text.vocabulary)
    tables = _count(text.numbers.astype(np.int64), order, size)
    seen = tuple(int((table.counts > 0).sum()) for table in tables)
    discounts, fallbacks = [], []
    for n, table in enumerate(tables, 1):
        values = _discounts(table.adjusted)
        discounts.append(values or _FALLBACK_DISCOUNTS)
        if values is None:
            fallbacks.append(n)
    _estimate(tables, discounts, cutoffs)
    _drop(tables, [table.counts >= cutoff for table, cutoff in zip(tables, cutoffs, strict=True)])
    if prune:
        _prune(tables, prune, len(text.numbers) - text.sentences)
    return Training(
        ngrams=NGrams(text.vocabulary, [_order(table) for table in tables]),
        sentences=text.sentences,
        words=len(text.numbers) - 2 * text.sentences,
        discounts=tuple(discounts),
        fallbacks=tuple(fallbacks),
        seen=seen,
    )


def _check(order: int, cutoffs: tuple[int, ...], prune: float) -> tuple[int, ...]:
    if not 1 <= order <= 6:
        raise AsrError(f"order={order}: from 1 to 6")
    if not cutoffs or min(cutoffs) < 1:
        raise AsrError(f"cutoffs={cutoffs}: least counts, from 1 on")
    if cutoffs[0] > 1:
        raise AsrError("cutoffs: the first must be 1; to leave out rare words set min_count")
    if list(cutoffs) != sorted(cutoffs):
        raise AsrError(f"cutoffs={cutoffs}: must not fall, a longer n-gram is never more frequent")
    if not 0 <= prune < 1:
        raise AsrError(f"prune={prune}: a share, from 0 to below 1")
    padded = (*cutoffs, *[cutoffs[-1]] * order)
    return padded[:order]


def _count(words: Indices, order: int, size: int) -> list[_Table]:
    """Tables of all orders with counts and adjusted counts."""
    ones = np.arange(size)
    nothing = np.zeros(size, dtype=np.int64)
    counts = np.bincount(words, minlength=size)
    tables = [_Table(nothing, ones, nothing, counts, counts.copy())]
    starts = ones == _BOS
    tables[0].adjusted[_BOS] = 0
    rows = words
    for _ in range(1, order):
        places = 1 + np.flatnonzero((rows[:-1] >= 0) & (words[1:] != _BOS))
        keys = rows[places - 1] * size + words[places]
        by_key = np.argsort(keys)
        keys = keys[by_key]
        new = np.append(True, keys[1:] != keys[:-1])
        firsts = np.flatnonzero(new)
        keys = keys[firsts]
        suffixes = rows[places[by_key[firsts]]]
        counts = np.diff(np.append(firsts, len(new)))
        below = tables[-1]
        neighbours = np.bincount(suffixes, minlength=len(below.words))
        below.adjusted = np.where(starts, below.adjusted, neighbours)
        contexts = keys // size
        tables.append(_Table(contexts, keys % size, suffixes, counts, counts.copy()))
        starts = starts[contexts]
        rows = np.full(len(words), -1, dtype=np.int64)
        rows[places[by_key]] = np.cumsum(new) - 1
    return tables


def _discounts(adjusted: Indices) -> tuple[float, float, float] | None:
    """Discounts of counts 1, 2, 3 and more; None if the counts of counts do not give them."""
    n1, n2, n3, n4 = (int((adjusted == i).sum()) for i in range(1, 5))
    if not (n1 and n2 and n3 and n4):
        return None
    y = n1 / (n1 + 2 * n2)
    values = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if all(0 <= value <= i for i, value in enumerate(values, 1)):
        return values
    return None


def _estimate(
    tables: list[_Table], discounts: list[tuple[float, float, float]], cutoffs: tuple[int, ...]
) -> None:
    """Fill in probabilities, and the back-off weights of the contexts that each order has."""
    below = np.full(1, 1.0 / (len(tables[0].words) - 1))
    for n, (table, values, cutoff) in enumerate(zip(tables, discounts, cutoffs, strict=True)):
        contexts = len(tables[n - 1].words) if n else 1
        by_count = np.array([0.0, *values])[np.minimum(table.adjusted, 3)]
        totals = np.bincount(table.contexts, table.adjusted, contexts)
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = (table.adjusted - by_count) / totals[table.contexts]
        if n:
            kept[table.counts < cutoff] = 0.0
        left = 1.0 - np.bincount(table.contexts, kept, contexts)
        # Dropped rows get a value too; they are left out afterwards.
        probabilities = kept + left[table.contexts] * below[table.suffixes]
        if n == 0:
            probabilities[_BOS] = 10.0**_NEVER
        else:
            tables[n - 1].backoffs = np.log(left)
        table.logs = np.log(probabilities)
        table.backoffs = np.zeros(len(table.words))
        below = probabilities


def _drop(tables: list[_Table], kept: list[npt.NDArray[np.bool_]]) -> None:
    """Leave out rows of all orders but the first; a kept row's context and suffix are kept."""
    for n in range(1, len(tables)):
        table, keep = tables[n], kept[n]
        if n > 1:
            renumbered = np.cumsum(kept[n - 1]) - 1
            table.contexts = renumbered[table.contexts]
            table.suffixes = renumbered[table.suffixes]
        for name in ("contexts", "words", "suffixes", "counts", "adjusted", "logs", "backoffs"):
            setattr(table, name, getattr(table, name)[keep])


def _prune(tables: list[_Table], threshold: float, words: int) -> None:
    """Leave out n-grams whose loss changes the perplexity least; back-off weights anew."""
    kept = [np.ones(len(table.words), dtype=bool) for table in tables]
    for n in range(len(tables) - 1, 0, -1):
        table, below = tables[n], tables[n - 1]
        assert table.logs is not None
        assert below.logs is not None
        growth = _growth(table, below, words)
        keep = growth >= threshold
        if n + 1 < len(tables):
            above, stays = tables[n + 1], kept[n + 1]
            keep[above.contexts[stays]] = True
            keep[above.suffixes[stays]] = True
        kept[n] = keep
        left, free = _masses(table, below, keep)
        used = np.bincount(table.contexts[keep], minlength=len(below.words)) > 0
        below.backoffs = np.where(used, np.log(left / free), 0.0)
    _drop(tables, kept)


def _masses(
    table: _Table, below: _Table, keep: npt.NDArray[np.bool_] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """What the n-grams of each context leave of 1, by their own and by the lower order."""
    assert table.logs is not None
    assert below.logs is not None
    contexts, size = table.contexts[keep], len(below.words)
    own = np.bincount(contexts, np.exp(table.logs[keep]), size)
    lower = np.bincount(contexts, np.exp(below.logs[table.suffixes[keep]]), size)
    return np.maximum(1.0 - own, 1e-12), np.maximum(1.0 - lower, 1e-12)


def _growth(table: _Table, below: _Table, words: int) -> Floats:
    """By which share the perplexity grows without each n-gram alone (Stolcke, equation 5)."""
    assert table.logs is not None
    assert below.logs is not None
    left, free = (mass[table.contexts] for mass in _masses(table, below))
    lower = below.logs[table.suffixes]
    own = np.exp(table.logs)
    new = np.log((left + own) / (free + np.exp(lower)))
    change = own * (lower + new - table.logs) + left * (new - np.log(left / free))
    return np.expm1(-below.counts[table.contexts] / words * change)


def _order(table: _Table) -> Order:
    assert table.logs is not None
    assert table.backoffs is not None
    scale = 1 / np.log(10.0)
    return Order(
        table.contexts,
        table.words,
        (table.logs * scale).astype(np.float32),
        (table.backoffs * scale).astype(np.float32),
    )

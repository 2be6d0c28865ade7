"""Trains word n-gram models: interpolated modified Kneser-Ney, cutoffs, entropy pruning.

Estimates follow Chen and Goodman (1998), section 3, with the conventions of kenlm's lmplz: every
sentence is between one <s> and one </s>; lower orders count distinct left neighbours, but n-grams
that begin with <s> count their occurrences; the first order is interpolated with the uniform
distribution over all words but <s>. Entropy pruning is Stolcke's (1998), with the relative
frequency of contexts in the text in place of their probability under the model: the lower orders
of Kneser-Ney do not estimate that.

An n-gram is the row of its context and its last word, packed into one integer and sorted: numpy
counts millions of them a second, and rows that share a context are neighbours.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.decode.lm.build import Indices, NGrams, NGramTable
from asr.decode.lm.model import BOS, EOS, UNKNOWN
from asr.errors import AsrError

Floats = npt.NDArray[np.float64]

_UNKNOWN, _BOS, _EOS = range(3)
_NEVER = -99.0
"""log10 probability that ARPA files give to <s>."""
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Discounts of counts 1, 2, 3 and more for a text too small to estimate them; as in kenlm."""


class _Numbers(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class NumberedText:
    """Sentences as word numbers: <s>, words, </s>, one sentence after the other."""

    numbers: npt.NDArray[np.int32]
    vocabulary: list[str]
    sentences: int


@dataclass(frozen=True)
class TrainedNGrams:
    """A trained model, and the statistics of its training."""

    ngrams: NGrams
    sentences: int
    words: int
    discounts: tuple[tuple[float, float, float], ...]
    """For each order: of n-grams that occur once, twice, and three times or more."""
    fallbacks: tuple[int, ...]
    """Orders with fixed discounts, because their counts of counts gave none."""
    seen: tuple[int, ...]
    """Distinct n-grams of the text, for each order; the model has those left after pruning."""


@dataclass
class _Table:
    """The n-grams of one length in the text, sorted by context and word."""

    contexts: Indices
    words: Indices
    suffixes: Indices
    """Row of the last n-1 words in the table below."""
    counts: Indices
    """Occurrences."""
    adjusted: Indices
    """Counts that the estimates use: distinct left neighbours in the lower orders."""
    logs: Floats | None = None
    """Natural log of the probability."""
    backoffs: Floats | None = None
    """Natural log of the back-off weight of each n-gram as a context."""


def number_words(sentences: Iterable[str], min_count: int = 1) -> NumberedText:
    """Number the words of sentences; words that occur fewer than `min_count` times become <unk>.

    Raises AsrError for a text without words, for one in which <s> or </s> is a word, and for a
    `min_count` that no word reaches.
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
        raise AsrError("language model: the text has no words")
    text = np.frombuffer(numbers, dtype=np.int32)
    counts = np.bincount(text, minlength=len(vocabulary))
    if counts[_BOS] != lines or counts[_EOS] != lines:
        raise AsrError(f"language model: {BOS} and {EOS} must not be words of the text")
    names = list(vocabulary)
    kept = counts >= min_count
    kept[: _EOS + 1] = True
    if len(names) > _EOS + 1 and not kept[_EOS + 1 :].any():
        raise AsrError(f"min_count={min_count}: no word occurs that often, so none would be left")
    renumbered = np.where(kept, np.cumsum(kept) - 1, _UNKNOWN).astype(np.int32)
    names = [name for name, keep in zip(names, kept, strict=True) if keep]
    return NumberedText(renumbered[text], names, lines)


def train_ngrams(
    text: NumberedText, order: int = 3, cutoffs: tuple[int, ...] = (1, 1, 2), prune: float = 0.0
) -> TrainedNGrams:
    """Estimate an n-gram model of `order` (1 to 6).

    `cutoffs`: n-grams of length n that occur fewer than `cutoffs[n-1]` times are left out (the
    last one is for all longer ones too); their probability goes to the back-off. `prune`: n-grams
    without which the perplexity grows by less than this fraction are left out too; 0 keeps all.

    Raises AsrError for values out of range.
    """
    cutoffs = check(order, cutoffs, prune)
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
    return TrainedNGrams(
        ngrams=NGrams(text.vocabulary, [_ngram_table(table) for table in tables]),
        sentences=text.sentences,
        words=len(text.numbers) - 2 * text.sentences,
        discounts=tuple(discounts),
        fallbacks=tuple(fallbacks),
        seen=seen,
    )


def check(order: int, cutoffs: tuple[int, ...], prune: float) -> tuple[int, ...]:
    """A cutoff for each order. Raises AsrError for values that `train_ngrams` refuses."""
    if not 1 <= order <= 6:
        raise AsrError(f"order={order}: must be from 1 to 6")
    if not cutoffs or min(cutoffs) < 1:
        raise AsrError(f"cutoffs={cutoffs}: must be counts of 1 or more")
    if cutoffs[0] > 1:
        raise AsrError("cutoffs: the first must be 1; set min_count to leave out rare words")
    if list(cutoffs) != sorted(cutoffs):
        raise AsrError(
            f"cutoffs={cutoffs}: must not decrease, a longer n-gram is never more frequent"
        )
    if not 0 <= prune < 1:
        raise AsrError(f"prune={prune}: must be a fraction, from 0 to below 1")
    padded = (*cutoffs, *[cutoffs[-1]] * order)
    return padded[:order]


def _count(words: Indices, order: int, size: int) -> list[_Table]:
    """Tables of all orders, with counts and adjusted counts."""
    ones = np.arange(size)
    nothing = np.zeros(size, dtype=np.int64)
    counts = np.bincount(words, minlength=size)
    tables = [_Table(nothing, ones, nothing, counts, counts.copy())]
    starts = ones == _BOS
    tables[0].adjusted[_BOS] = 0
    # rows[i]: row of the n-gram that ends at word i of the text, -1 where it would cross a <s>.
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
    """Discounts of counts 1, 2, 3 and more; None if the counts of counts give none."""
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
    """Compute the probabilities of each order and the back-off weights of its contexts."""
    below = np.full(1, 1.0 / (len(tables[0].words) - 1))
    for n, (table, values, cutoff) in enumerate(zip(tables, discounts, cutoffs, strict=True)):
        contexts = len(tables[n - 1].words) if n else 1
        by_count = np.array([0.0, *values])[np.minimum(table.adjusted, 3)]
        totals = np.bincount(table.contexts, table.adjusted, contexts)
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = (table.adjusted - by_count) / totals[table.contexts]
        if n:
            kept[table.counts < cutoff] = 0.0
        # What discounts and cutoffs took away goes to the lower order (the factor gamma).
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
    """Leave out rows of all orders but the first; context and suffix of a kept row must be kept."""
    for n in range(1, len(tables)):
        table, keep = tables[n], kept[n]
        if n > 1:
            renumbered = np.cumsum(kept[n - 1]) - 1
            table.contexts = renumbered[table.contexts]
            table.suffixes = renumbered[table.suffixes]
        for name in ("contexts", "words", "suffixes", "counts", "adjusted", "logs", "backoffs"):
            setattr(table, name, getattr(table, name)[keep])


def _prune(tables: list[_Table], threshold: float, words: int) -> None:
    """Leave out n-grams without which the perplexity hardly grows; recompute back-off weights."""
    kept = [np.ones(len(table.words), dtype=bool) for table in tables]
    for n in range(len(tables) - 1, 0, -1):
        table, below = tables[n], tables[n - 1]
        assert table.logs is not None
        assert below.logs is not None
        growth = _growth(table, below, words)
        keep = growth >= threshold
        if n + 1 < len(tables):
            above, above_kept = tables[n + 1], kept[n + 1]
            keep[above.contexts[above_kept]] = True
            keep[above.suffixes[above_kept]] = True
        kept[n] = keep
        left, free = _masses(table, below, keep)
        used = np.bincount(table.contexts[keep], minlength=len(below.words)) > 0
        below.backoffs = np.where(used, np.log(left / free), 0.0)
    _drop(tables, kept)


def _masses(
    table: _Table, below: _Table, keep: npt.NDArray[np.bool_] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """Probability outside the n-grams of each context, by their own and by the lower order."""
    assert table.logs is not None
    assert below.logs is not None
    contexts, size = table.contexts[keep], len(below.words)
    own = np.bincount(contexts, np.exp(table.logs[keep]), size)
    lower = np.bincount(contexts, np.exp(below.logs[table.suffixes[keep]]), size)
    return np.maximum(1.0 - own, 1e-12), np.maximum(1.0 - lower, 1e-12)


def _growth(table: _Table, below: _Table, words: int) -> Floats:
    """Relative growth of the perplexity without each single n-gram (Stolcke, equation 5)."""
    assert table.logs is not None
    assert below.logs is not None
    left, free = (mass[table.contexts] for mass in _masses(table, below))
    lower = below.logs[table.suffixes]
    own = np.exp(table.logs)
    new = np.log((left + own) / (free + np.exp(lower)))
    change = own * (lower + new - table.logs) + left * (new - np.log(left / free))
    return np.expm1(-below.counts[table.contexts] / words * change)


def _ngram_table(table: _Table) -> NGramTable:
    assert table.logs is not None
    assert table.backoffs is not None
    scale = 1 / np.log(10.0)
    return NGramTable(
        table.contexts,
        table.words,
        (table.logs * scale).astype(np.float32),
        (table.backoffs * scale).astype(np.float32),
    )

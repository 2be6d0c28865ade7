"""Word error rate with its parts and a confidence interval.

Counts come from jiwer. Rates are fractions, errors over reference words, and may exceed 1; where
there is no reference word at all the errors stand alone, as in jiwer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from asr.errors import AsrError, counted, install

RESAMPLES = 2000
_FEWEST_SPEAKERS = 5


@dataclass(frozen=True)
class Errors:
    """Word errors of one utterance, or of many together."""

    words: int
    """Words of the reference."""
    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """Errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    def __str__(self) -> str:
        kinds = ("substitutions", "deletions", "insertions")
        parts = (counted(getattr(self, kind), kind[:-1]) for kind in kinds)
        return f"{', '.join(parts)} in {counted(self.words, 'word')}"


@dataclass(frozen=True)
class Row:
    """An utterance with its reference and its hypothesis, both in normal form."""

    id: str
    speaker: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Score:
    """Errors of a set of utterances; `wer_low` to `wer_high` is the 95 % interval of the WER."""

    wer: float
    cer: float
    wer_low: float
    wer_high: float
    utterances: int
    words: int
    insertions: int
    deletions: int
    substitutions: int
    per_utterance: tuple[Errors, ...] = field(repr=False)
    """Word errors of each utterance, in the order given."""
    groups: int = 0
    """Number of speakers that the interval was drawn over; 0: it was drawn over utterances."""

    def to_plain(self) -> dict[str, Any]:
        """The figures as JSON-able values, without the single utterances."""
        left_out = ("per_utterance", "groups")
        return {k: v for k, v in asdict(self).items() if k not in left_out}

    def __str__(self) -> str:
        errors = Errors(self.words, self.substitutions, self.deletions, self.insertions)
        return (
            f"WER {percent(self.wer)} ({percent(self.wer_low)} to {percent(self.wer_high)}), "
            f"CER {percent(self.cer)}: {errors} of {counted(self.utterances, 'utterance')}"
        )


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 1,
    resamples: int = RESAMPLES,
) -> Score:
    """WER, CER and their parts, with a 95 % percentile bootstrap interval of the WER.

    Texts are compared word by word as they are. `resamples` sets of utterances are drawn with
    replacement, seeded by `seed`; with `groups` (the speaker of each utterance) whole groups are
    drawn: the interval is wider, and fairer where one speaker says much. Raises AsrError for
    nothing to score, and for fewer than two groups.
    """
    if len(references) != len(hypotheses) or len(groups or references) != len(references):
        raise ValueError("references, hypotheses and groups must have the same length")
    if not references:
        raise AsrError("nothing to score: no utterances")
    per_utterance = tuple(errors_of(references, hypotheses))
    total = sum_errors(per_utterance)
    characters = load_jiwer().process_characters(list(references), list(hypotheses))
    errors = np.array([e.total for e in per_utterance])
    words = np.array([e.words for e in per_utterance])
    errors, words = resampled([errors, words], groups, seed, resamples)
    low, high = np.quantile(errors / np.maximum(words, 1), [0.025, 0.975])
    return Score(
        # Without a reference word the errors alone, as in jiwer.
        wer=total.total / max(total.words, 1),
        cer=float(characters.cer),
        wer_low=float(low),
        wer_high=float(high),
        utterances=len(references),
        words=total.words,
        insertions=total.insertions,
        deletions=total.deletions,
        substitutions=total.substitutions,
        per_utterance=per_utterance,
        groups=len(set(groups)) if groups is not None else 0,
    )


def load_jiwer() -> Any:
    """The module jiwer. Raises AsrError naming the extra that it comes with."""
    try:
        import jiwer
    except ModuleNotFoundError:
        raise AsrError(f"scoring needs jiwer: {install('evaluate')}") from None
    return jiwer


def errors_of(references: Sequence[str], hypotheses: Sequence[str]) -> list[Errors]:
    """Word errors of each utterance, by the alignment of fewest errors."""
    found = load_jiwer().process_words(list(references), list(hypotheses))
    return list(map(count_errors, found.references, found.alignments))


def sum_errors(errors: Iterable[Errors]) -> Errors:
    """The errors of several utterances together."""
    rows = [(e.words, e.substitutions, e.deletions, e.insertions) for e in errors]
    return Errors(*map(sum, zip(*rows, strict=True)))


def count_errors(reference: list[str], alignment: list[Any]) -> Errors:
    """Errors of one of jiwer's alignments: chunks of equal, substitute, delete, insert."""
    counts = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for chunk in alignment:
        recognised = chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += max(recognised, chunk.ref_end_idx - chunk.ref_start_idx)
    return Errors(len(reference), counts["substitute"], counts["delete"], counts["insert"])


def resampled(
    columns: Sequence[np.ndarray],
    groups: Sequence[str] | None,
    seed: int,
    resamples: int,
) -> list[np.ndarray]:
    """Sums `(resamples,)` of each column over utterances, or groups, drawn with replacement.

    The same utterances are drawn for all columns, so that these may be compared in pairs.
    """
    if groups is not None:
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            raise AsrError("an interval over groups (speakers) needs at least two of them")
        columns = [np.bincount(member, column) for column in columns]
    draw, count = np.random.default_rng(seed), len(columns[0])
    sums = [np.empty(resamples) for _ in columns]
    step = max(1, 2_000_000 // count)  # resamples at a time: a table of at most 16 MB
    for start in range(0, resamples, step):
        chosen = draw.integers(count, size=(min(step, resamples - start), count))
        for column, total in zip(columns, sums, strict=True):
            total[start : start + step] = column[chosen].sum(axis=1)
    return sums


def speakers_of(rows: Sequence[Row]) -> list[str] | None:
    """The speaker of each row, to resample; None if some are unknown or there are too few.

    Errors cluster by speaker, so an interval over utterances is too narrow. With fewer than five
    speakers an interval over speakers means nothing.
    """
    speakers = [row.speaker for row in rows]
    return speakers if all(speakers) and len(set(speakers)) >= _FEWEST_SPEAKERS else None


def percent(rate: float) -> str:
    """A rate as `12.34 %`."""
    return f"{100 * rate:.2f} %"

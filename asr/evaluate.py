"""Word error rate with its parts and a confidence interval; references beside hypotheses.

Counts come from jiwer (extra `train`). Rates are fractions, errors over reference words, and may
exceed 1; where there is no reference word at all the errors stand alone, as in jiwer.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.settings import Data
from asr.text import normalise

if TYPE_CHECKING:
    from asr.checkpoint import Loaded
    from asr.corpus.manifest import Utterance

RESAMPLES = 2000
Pair = tuple[str, str]


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
        parts = (_counted(getattr(self, kind), kind[:-1]) for kind in kinds)
        return f"{', '.join(parts)} in {_counted(self.words, 'word')}"


@dataclass(frozen=True)
class Score:
    """Errors of a set of utterances; `wer_low` to `wer_high` holds the WER with 95 % confidence."""

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

    def to_plain(self) -> dict[str, Any]:
        """The figures as JSON-able values, without the single utterances."""
        return {k: v for k, v in asdict(self).items() if k != "per_utterance"}

    def __str__(self) -> str:
        errors = Errors(self.words, self.substitutions, self.deletions, self.insertions)
        return (
            f"WER {_percent(self.wer)} ({_percent(self.wer_low)} to {_percent(self.wer_high)}), "
            f"CER {_percent(self.cer)}: {errors} of {_counted(self.utterances, 'utterance')}"
        )


@dataclass(frozen=True)
class Row:
    """An utterance with what was said and what was heard, both in normal form."""

    id: str
    speaker: str
    reference: str
    hypothesis: str


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 1,
    resamples: int = RESAMPLES,
) -> Score:
    """WER, CER and their parts, with a 95 % percentile bootstrap interval of the WER.

    Texts are compared word by word as they stand. `resamples` sets of utterances are drawn with
    replacement from `seed`; with `groups` (the speaker of each utterance) whole groups are drawn,
    which is wider and fairer where one speaker says much. Raises AsrError for nothing to score,
    and for fewer than two groups.
    """
    if len(references) != len(hypotheses) or len(groups or references) != len(references):
        raise ValueError("references, hypotheses and groups must be equally many")
    if not references:
        raise AsrError("nothing to score: there is not one utterance")
    jiwer = _jiwer()
    words = jiwer.process_words(list(references), list(hypotheses))
    characters = jiwer.process_characters(list(references), list(hypotheses))
    per_utterance = tuple(map(_count, words.references, words.alignments))
    low, high = _bootstrap(
        np.array([e.total for e in per_utterance]),
        np.array([e.words for e in per_utterance]),
        groups,
        seed,
        resamples,
    )
    return Score(
        wer=float(words.wer),
        cer=float(characters.cer),
        wer_low=low,
        wer_high=high,
        utterances=len(references),
        words=sum(e.words for e in per_utterance),
        insertions=words.insertions,
        deletions=words.deletions,
        substitutions=words.substitutions,
        per_utterance=per_utterance,
    )


def _jiwer() -> Any:
    try:
        import jiwer
    except ModuleNotFoundError:
        raise AsrError("scoring needs jiwer: pip install 'asr[train]'") from None
    return jiwer


def _count(reference: list[str], alignment: list[Any]) -> Errors:
    """Errors of one of jiwer's alignments: chunks of equal, substitute, delete, insert."""
    counts = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for chunk in alignment:
        heard = chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += max(heard, chunk.ref_end_idx - chunk.ref_start_idx)
    return Errors(len(reference), counts["substitute"], counts["delete"], counts["insert"])


def _bootstrap(
    errors: np.ndarray,
    words: np.ndarray,
    groups: Sequence[str] | None,
    seed: int,
    resamples: int,
) -> tuple[float, float]:
    """2.5 and 97.5 % quantiles of the WER over resampled utterances, or groups of them."""
    if groups is not None:
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            raise AsrError("an interval over groups (speakers) needs at least two of them")
        errors, words = np.bincount(member, errors), np.bincount(member, words)
    draw, count = np.random.default_rng(seed), len(errors)
    rates = np.empty(resamples)
    step = max(1, 2_000_000 // count)  # resamples at a time: a table of at most 16 MB
    for start in range(0, resamples, step):
        chosen = draw.integers(count, size=(min(step, resamples - start), count))
        drawn_words = np.maximum(words[chosen].sum(axis=1), 1)
        rates[start : start + step] = errors[chosen].sum(axis=1) / drawn_words
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def write_ref_hyp(path: str | Path, rows: Sequence[Row]) -> None:
    """Write every utterance with its errors to a text file, whole or not at all.

    An utterance is four lines and an empty one: id, speaker and counts; `REF` and `HYP` in
    columns, asterisks where one has no word; `ERR` with each error as `(said->heard)`, only if
    there are errors. The first line sums up.
    """
    words = _jiwer().process_words([r.reference for r in rows], [r.hypothesis for r in rows])
    errors = list(map(_count, words.references, words.alignments))
    lines = [f"{_summary(errors)} of {_counted(len(rows), 'utterance')}", ""]
    for row, counts, reference, hypothesis, alignment in zip(
        rows, errors, words.references, words.hypotheses, words.alignments, strict=True
    ):
        speaker = f", speaker {row.speaker}" if row.speaker else ""
        lines.append(f"{row.id}{speaker}: {_summary([counts])}")
        lines += [*_columns(_pairs(reference, hypothesis, alignment)), ""]
    atomic_write_text(path, "\n".join(lines))


def _summary(errors: Iterable[Errors]) -> str:
    rows = np.array([(e.words, e.substitutions, e.deletions, e.insertions) for e in errors])
    total = Errors(*map(int, rows.sum(axis=0)))
    return f"WER {_percent(total.total / max(1, total.words))}, {total}"


def _pairs(reference: list[str], hypothesis: list[str], alignment: list[Any]) -> list[Pair]:
    """(said, heard) word by word; "" where a word has no partner."""
    pairs: list[Pair] = []
    for chunk in alignment:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        pairs += zip(said or [""] * len(heard), heard or [""] * len(said), strict=True)
    return pairs


def _columns(pairs: list[Pair]) -> list[str]:
    widths = [max(map(len, pair)) for pair in pairs]
    lines = []
    for name, side in (("REF", 0), ("HYP", 1)):
        cells = (
            (pair[side] or "*" * width).ljust(width)
            for pair, width in zip(pairs, widths, strict=True)
        )
        lines.append(f"{name}: {' '.join(cells)}".rstrip())
    errors = [f"({said or '*'}->{heard or '*'})" for said, heard in pairs if said != heard]
    return [*lines, f"ERR: {' '.join(errors)}"] if errors else lines


def evaluate_model(
    loaded: "Loaded",
    utterances: Sequence["Utterance"],
    data: Data,
    threads: int | None = None,
) -> tuple[Score, list[Row], float]:
    """Hear all `utterances` with greedy decoding and score them against their normalised texts.

    Batches follow `data.batch_seconds`; `threads` sets torch's threads, None leaves them.
    Returns the score, one row per utterance in the order given, and the wall-clock seconds of
    reading, features, network and decoding.
    """
    from asr.corpus.datamodule import evaluation_batches
    from asr.transcribe import hear, set_threads

    set_threads(threads)
    if not utterances:
        raise AsrError("nothing to evaluate: there is not one utterance")
    started = time.perf_counter()
    heard: dict[str, str] = {}
    for batch in evaluation_batches(list(utterances), None, loaded.frontend, data):
        texts = hear(loaded.model, loaded.units, batch.features, batch.feature_lengths)
        heard.update(zip(batch.ids, texts, strict=True))
    seconds = time.perf_counter() - started
    rows = [Row(u.id, u.speaker, normalise(u.text), normalise(heard[u.id])) for u in utterances]
    figures = score([r.reference for r in rows], [r.hypothesis for r in rows])
    return figures, rows, seconds


def evaluate_to(
    model: str | Path, source: str, output: str | Path | None = None, threads: int | None = None
) -> str:
    """Evaluate a model file on a manifest, a folder or `spoken:test`; a few lines to print.

    `output` gets references and hypotheses (`write_ref_hyp`).
    """
    from asr.checkpoint import load_model
    from asr.corpus import sources

    data = Data()
    utterances = sources.resolve(source, data)
    figures, rows, seconds = evaluate_model(load_model(model), utterances, data, threads)
    audio_seconds = sum(utterance.duration for utterance in utterances)
    lines = [
        str(figures),
        f"{audio_seconds:.1f} s of audio in {seconds:.1f} s "
        f"({audio_seconds / seconds:.1f} x real time)",
    ]
    if output is not None:
        write_ref_hyp(output, rows)
        lines.append(f"references and hypotheses: {output}")
    return "\n".join(lines)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

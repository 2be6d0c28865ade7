"""Two results on the same utterances: is one better, by how much, and where do they differ?

A paired bootstrap: every resample draws the same utterances (or speakers) for both, so that what is
difficult for both cancels out. This shows far smaller differences than two intervals side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode import DecoderOptions
from asr.errors import AsrError, counted
from asr.evaluate import ref_hyp
from asr.evaluate.dataset import describe, evaluate, read_set
from asr.evaluate.wer import (
    RESAMPLES,
    Row,
    Score,
    load_jiwer,
    resampled,
    score,
    speakers_of,
)
from asr.files import atomic_write_text, check_writable, print_if_lost
from asr.pretrained import registry
from asr.text.normalise import NORMALISATION
from asr.transcribe.recogniser import load_for_command


@dataclass(frozen=True)
class Differing:
    """An utterance with different hypotheses of A and B."""

    a: Row
    b: Row
    a_errors: int
    b_errors: int


@dataclass(frozen=True)
class PairedComparison:
    """B against A. `difference` is WER of B less WER of A, below 0 if B is better."""

    a: Score
    b: Score
    difference: float
    low: float
    high: float
    """`low` to `high` is the 95 % confidence interval of the difference."""
    p: float
    """Two-sided: twice the fraction of resamples on the other side of no difference."""
    differing: tuple[Differing, ...] = field(repr=False)
    """Largest difference in errors first."""


def compare(
    a: Sequence[Row], b: Sequence[Row], seed: int = 1, resamples: int = RESAMPLES
) -> PairedComparison:
    """Compare two results by a paired bootstrap, over speakers where they are known.

    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004. Raises AsrError if they are not of the same utterances with the same references.

    >>> a = [Row("u1", "", "THE CAT SAT", "THE CAT SAD"), Row("u2", "", "A DOG", "A DOG")]
    >>> b = [Row("u1", "", "THE CAT SAT", "THE CAT SAT"), Row("u2", "", "A DOG", "A DOG")]
    >>> compare(a, b).difference
    -0.2
    """
    partners = {row.id: row for row in b}
    _check_same(a, partners)
    b = [partners[row.id] for row in a]
    groups = speakers_of(a)
    scores = [
        score([r.reference for r in rows], [r.hypothesis for r in rows], groups, seed, resamples)
        for rows in (a, b)
    ]
    errors = [np.array([e.total for e in s.per_utterance]) for s in scores]
    words = np.array([e.words for e in scores[0].per_utterance])
    drawn_errors, drawn_words = resampled([errors[1] - errors[0], words], groups, seed, resamples)
    drawn = drawn_errors / np.maximum(drawn_words, 1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    one_side = min((drawn <= 0).mean(), (drawn >= 0).mean())
    differing = [
        Differing(row, other, int(a_errors), int(b_errors))
        for row, other, a_errors, b_errors in zip(a, b, *errors, strict=True)
        if row.hypothesis != other.hypothesis
    ]
    differing.sort(key=lambda d: (-abs(d.b_errors - d.a_errors), d.a.id))
    return PairedComparison(
        scores[0],
        scores[1],
        scores[1].wer - scores[0].wer,
        float(low),
        float(high),
        min(1.0, 2 * max(float(one_side), 1 / resamples)),
        tuple(differing),
    )


def _check_same(a: Sequence[Row], partners: dict[str, Row]) -> None:
    names = {row.id for row in a}
    alone = sorted(names ^ set(partners))
    if alone:
        raise AsrError(
            f"the two are not of the same utterances: {len(alone)} are in one only, "
            f"such as {', '.join(alone[:3])}"
        )
    other = [row.id for row in a if row.reference != partners[row.id].reference]
    if other:
        raise AsrError(f"the two have different references for {len(other)}, such as {other[0]}")
    if not names:
        raise AsrError("nothing to compare: no utterances")


def table(comparison: PairedComparison, names: tuple[str, str]) -> str:
    """The figures of a comparison in a few lines."""
    c = comparison
    over = counted(c.a.groups, "speaker") if c.a.groups else counted(c.a.utterances, "utterance")
    better = sum(d.b_errors < d.a_errors for d in c.differing)
    worse = sum(d.b_errors > d.a_errors for d in c.differing)
    return "\n".join(
        [
            f"A {names[0]}: {c.a}",
            f"B {names[1]}: {c.b}",
            f"B - A: {100 * c.difference:+.2f} points of WER "
            f"({100 * c.low:+.2f} to {100 * c.high:+.2f}), p = {c.p:.2g}; "
            f"{RESAMPLES} paired resamples of {over}; normalisation {NORMALISATION}",
            f"{counted(len(c.differing), 'utterance')} of {c.a.utterances} differ: "
            f"B better in {better}, A better in {worse}, "
            f"as many errors in {len(c.differing) - better - worse}",
        ]
    )


def listing(differing: Sequence[Differing]) -> str:
    """Each utterance with its reference, both hypotheses and their errors."""
    if not differing:
        return ""
    jiwer = load_jiwer()
    blocks = []
    for side in ("a", "b"):
        rows = [getattr(d, side) for d in differing]
        words = jiwer.process_words([r.reference for r in rows], [r.hypothesis for r in rows])
        blocks.append(
            list(map(ref_hyp.errors_line, words.references, words.hypotheses, words.alignments))
        )
    lines = []
    for d, a_line, b_line in zip(differing, *blocks, strict=True):
        speaker = f", speaker {d.a.speaker}" if d.a.speaker else ""
        counts = f"A {counted(d.a_errors, 'error')}, B {counted(d.b_errors, 'error')}"
        lines += [f"{d.a.id}{speaker}: {counts}", f"REF: {d.a.reference}"]
        for name, row, errors in (("A", d.a, a_line), ("B", d.b, b_line)):
            lines.append(f"{name}:   {row.hypothesis}".rstrip())
            lines += [f"     {errors}"] if errors else []
        lines.append("")
    return "\n".join(lines)


def compare_to(
    a: str | Path,
    b: str | Path,
    source: str | None = None,
    output: str | Path | None = None,
    show: int = 10,
    threads: int | None = None,
    given: Mapping[str, Any] | None = None,
) -> str:
    """Compare two sides, each a model or a file that `asr evaluate -o` wrote; what to print.

    A model is a file, or a name that `asr models` lists. Models are run on `source`, each with the
    decoder options that `registry.decoding` makes from those in `given`. The first `show`
    utterances that differ are printed, all of them are written to `output`. Raises AsrError
    for a model without a source, and for a source or a decoder without a model.
    """
    check_writable(output)
    decodings = [_decoding(side, given or {}) for side in (a, b)]
    networks = [side for side, decoding in zip((a, b), decodings, strict=True) if decoding]
    if networks and source is None:
        raise AsrError(f"{networks[0]}: a model needs a manifest, or a folder, to be run on")
    if not networks and (source is not None or given):
        raise AsrError("both are results already; a manifest and a decoder are for models")
    of_a, of_b = (
        _rows(side, source, threads, decoding)
        for side, decoding in zip((a, b), decodings, strict=True)
    )
    comparison = compare(of_a, of_b)
    names = [
        f"{side} ({describe(decoding)})" if decoding else f"{side}"
        for side, decoding in zip((a, b), decodings, strict=True)
    ]
    figures = table(comparison, (names[0], names[1]))
    first = listing(comparison.differing[:show])
    printed = f"{figures}\n\n{first}".rstrip("\n") if first else figures
    if output is not None:
        with print_if_lost(printed):
            atomic_write_text(output, f"{figures}\n\n{listing(comparison.differing)}")
    return printed


def _decoding(side: str | Path, given: Mapping[str, Any]) -> DecoderOptions | None:
    """How a model decodes; None for a file of results."""
    if registry.named(side) is None and ref_hyp.is_ref_hyp(side):
        return None
    return registry.decoding(side, given)


def _rows(
    side: str | Path, source: str | None, threads: int | None, decoding: DecoderOptions | None
) -> list[Row]:
    if decoding is None:
        return ref_hyp.read(side)
    assert source is not None
    recogniser = load_for_command(side, threads, decoding=decoding)
    return evaluate(recogniser, read_set(source))[1]

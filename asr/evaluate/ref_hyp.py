"""References and hypotheses in a text file that is easy to read and that `asr compare` takes."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asr.errors import AsrError, counted
from asr.evaluate.wer import (
    Errors,
    Row,
    count_errors,
    load_jiwer,
    percent,
    sum_errors,
)
from asr.files import atomic_write_text
from asr.text.normalise import NORMALISATION

Pair = tuple[str, str]
_HEAD = re.compile(r"WER [\d.]+ %, .*; normalisation (\S+)$")
_NAME = re.compile(r"(?P<name>.+): WER [\d.]+ %, \d+ substitution[^:]*")
_SPEAKER = ", speaker "


def file_name(test_set: str) -> str:
    """The file of a test set in a run folder, by the set's name in reports."""
    return f"ref_hyp.{test_set.replace(' ', '-')}.txt"


def write(path: str | Path, rows: Sequence[Row]) -> None:
    """Write every utterance with its errors to a text file, whole or not at all.

    An utterance is four lines and an empty one: id, speaker and counts; `REF` and `HYP` in
    columns, asterisks where one has no word; only if there are errors, `ERR` with each as
    `(reference->hypothesis)`. The first line sums up.
    """
    words = load_jiwer().process_words([r.reference for r in rows], [r.hypothesis for r in rows])
    errors = list(map(count_errors, words.references, words.alignments))
    total = f"{summary(errors)} of {counted(len(rows), 'utterance')}"
    lines = [f"{total}; normalisation {NORMALISATION}", ""]
    for row, counts, reference, hypothesis, alignment in zip(
        rows, errors, words.references, words.hypotheses, words.alignments, strict=True
    ):
        # An id that has the word itself is followed by an empty speaker.
        has_speaker = row.speaker or _SPEAKER in row.id
        speaker = f"{_SPEAKER}{row.speaker}" if has_speaker else ""
        lines.append(f"{row.id}{speaker}: {summary([counts])}")
        lines += [*_columns(_pairs(reference, hypothesis, alignment)), ""]
    atomic_write_text(path, "\n".join(lines))


def is_ref_hyp(path: str | Path) -> bool:
    """Whether a file begins as `write` begins one."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"WER "
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from None


def read(path: str | Path) -> list[Row]:
    """The rows of a file that `write` wrote.

    Raises AsrError for a file of another kind or in another normal form, and, with the line, for
    what does not belong there.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AsrError(f"{path}: cannot be read as text ({error})") from None
    head = _HEAD.match(lines[0]) if lines else None
    if head is None:
        raise AsrError(
            f"{path}: not a file of references and hypotheses of this version; "
            "`asr evaluate -o FILE` writes one"
        )
    if head[1] != NORMALISATION:
        raise AsrError(f"{path}: its texts are in normal form {head[1]}, not {NORMALISATION}")
    rows: list[Row] = []
    block: list[str] = []
    for number, line in enumerate([*lines[2:], ""], start=3):
        if line:
            block.append(line)
        elif block:
            rows.append(_row(block, f"{path}:{number - len(block)}"))
            block = []
    return rows


def _row(block: list[str], where: str) -> Row:
    found = _NAME.fullmatch(block[0])
    names = [line[:4] for line in block[1:]]
    if found is None or names not in (["REF:", "HYP:"], ["REF:", "HYP:", "ERR:"]):
        raise AsrError(f"{where}: not an utterance with its REF and HYP; write the file again")
    reference, hypothesis = (_words(line[4:]) for line in block[1:3])
    before, _, last = found["name"].rpartition(_SPEAKER)
    return Row(before or last, last if before else "", reference, hypothesis)


def _words(columns: str) -> str:
    return " ".join(word for word in columns.split() if word.strip("*"))


def summary(errors: Iterable[Errors]) -> str:
    """WER and counts of some utterances together."""
    total = sum_errors(errors)
    return f"WER {percent(total.total / max(1, total.words))}, {total}"


def errors_line(reference: list[str], hypothesis: list[str], alignment: list[Any]) -> str:
    """Each error as `(reference->hypothesis)`; empty without errors."""
    return _wrong(_pairs(reference, hypothesis, alignment))


def _pairs(reference: list[str], hypothesis: list[str], alignment: list[Any]) -> list[Pair]:
    """(reference, hypothesis) word by word; "" where a word has no partner."""
    pairs: list[Pair] = []
    for chunk in alignment:
        expected = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        found = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        pairs += zip(expected or [""] * len(found), found or [""] * len(expected), strict=True)
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
    errors = _wrong(pairs)
    return [*lines, f"ERR: {errors}"] if errors else lines


def _wrong(pairs: list[Pair]) -> str:
    return " ".join(f"({ref or '*'}->{hyp or '*'})" for ref, hyp in pairs if ref != hyp)

"""The generated table of a model card: word and character error rates on every set."""

from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.report.table import Column, Table

MODEL_BYTES, LM_BYTES = 3_000_000, 9_000_000
"""Largest files that the package may contain."""
MARKER = "<!-- word and character errors -->"
"""The table replaces this line of a card."""
Row = dict[str, Any]


def rates(row: Row, kind: str) -> dict[str, tuple[float, float, float]]:
    """Rate and interval of every set in a row, as fractions; `kind` is wer or cer."""
    found = {}
    for key, value in row.items():
        if key.startswith(f"{kind} ") and isinstance(value, dict):
            rate = value.get("value", value.get(kind))
            if rate is not None:
                found[key.removeprefix(f"{kind} ")] = (rate, value["low"], value["high"])
    return found


def errors_table(rows: dict[str, Row]) -> str:
    """Word and character error rates of every set with every decoder, with intervals."""
    cells = []
    for decoder, row in rows.items():
        cer = rates(row, "cer")
        for name, wer in rates(row, "wer").items():
            characters = _interval(cer[name]) if name in cer else "not measured"
            cells.append((name, decoder, _interval(wer), characters))
    if not cells:
        return "Not measured for this network and language model.\n"
    columns = (
        Column("Set", numeric=False),
        Column("Decoder", numeric=False),
        Column("WER"),
        Column("CER"),
    )
    return Table("", columns, tuple(cells)).markdown()


def _interval(values: tuple[float, float, float]) -> str:
    rate, low, high = (f"{100 * value:.1f}" for value in values)
    return f"{rate} ({low}-{high})"


def read_card(path: Path) -> str:
    """Read a card written by hand. Raises AsrError unless it has the line MARKER exactly once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AsrError(f"{path}: cannot be read ({error})") from None
    if text.split("\n").count(MARKER) != 1:
        raise AsrError(f"{path}: needs the line {MARKER} once, where the table of errors goes")
    return text


def fill(path: Path, rows: dict[str, Row]) -> str:
    """The card with its table of errors. Raises AsrError as `read_card` does."""
    return read_card(path).replace(f"{MARKER}\n", errors_table(rows))
